# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the addresses of children, and refuse those that another VM has. Pure; needs no server.

Private to the collection. vSphere does not know how a guest uses its config params, so the keys are those that the
public scripts read as addresses.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import PREFIXES, ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.facts import NO_DEVICE

IPAddress = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IPNetwork = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Values = t.Mapping[str, t.Any]

_PATHS, _MAC_PATHS = ("guest.ipAddress", "guest.net", "network"), (_devices.PATH,)
"""Properties of every VM that are compared with the addresses and MAC addresses of children.

Reading ``guest.net`` costs no extra call, and some hundred bytes per interface. VMware Tools reports at most 16
interfaces (open-vm-tools, ``NICINFO_MAX_NICS``).
"""

ADAPTER_PATHS = _MAC_PATHS
"""Properties that show the network of each address of a VM: too much data to read from every VM."""

_KEY = re.compile(
    r"(guestinfo\.)?(fork\.|ic\.)?((ip|eth|ethernet|nic)\d*[._])?(ip(v?[46])?[_-]?addr(ess)?\d*|address|ip(v?[46])?\d*)",
    re.IGNORECASE,
)
"""Keys from which public scripts read an address: ``ipaddress``, ``ip0.address``, ``guestinfo.ic.ipaddress`` …"""


def addresses(child: ChildSpec) -> dict[IPAddress, str]:
    """Return the addresses in a child's config params, each with its text from the task.

    The text of a secret is replaced by its key.
    """
    found: dict[IPAddress, str] = {}
    for key, value in [*child.secret_config_params.items(), *child.config_params.items()]:
        for text in re.split(r"[,;\s]+", value) if _KEY.fullmatch(key) else []:
            address = parse(text)
            if address is not None and not address.is_unspecified:  # some scripts use 0.0.0.0 for DHCP
                found.setdefault(address, f"{_HIDDEN}{key}" if key in child.secret_config_params else text)
    return found


_HIDDEN = "of secret_config_params."
"""Beginning of the text of an address that must not be shown: 'the address of secret_config_params.ipaddress'."""


def parse(text: str) -> IPAddress | None:
    """Return the address in a text, which may have a prefix length or a zone; ``None``: the text is no address."""
    plain = text.strip().strip("[]").partition("/")[0].partition("%")[0]
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network(text: str | None) -> IPNetwork | None:
    """Return the network of the option ``ip_network``.

    :raises _errors.BadInput: it is not a network.
    """
    if text is None:
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise _errors.BadInput(f"ip_network {text} is not a network. Use a value such as 192.0.2.0/24.") from None


def paths(children: t.Sequence[ChildSpec]) -> list[str]:
    """Return the properties of all VMs that :func:`conflicts` needs: none if no address is given."""
    result: list[str] = []
    if any(addresses(child) for child in children):
        result += _PATHS
    if any(network.mac_address is not None for child in children for network in child.networks):
        result += _MAC_PATHS
    return result


_DOTTED = re.compile(r"\d+(\.\d+){3}(/\d+)?")
"""Text that can only be meant as an IPv4 address or a netmask."""


def _check_values(child: ChildSpec) -> None:
    """Refuse invalid values that look like an IPv4 address, including those of the keys that the shipped script reads.

    Other values may be meant for a user's own script, such as ``ipaddress: dhcp``.
    """
    for key, value in child.params.items():
        plain = next((key[len(prefix) :] for prefix in reversed(PREFIXES) if key.startswith(prefix)), key)
        if not (_KEY.fullmatch(key) or plain in ("netmask", "gateway")):
            continue
        for text in re.split(r"[,;\s]+", value):
            if _DOTTED.fullmatch(text) and not _is_possible(text, plain == "netmask"):
                is_secret = key in child.secret_config_params
                what = f"the value of secret_config_params.{key}" if is_secret else f"{key} {text}"
                raise _errors.BadInput(
                    f"Child {child.name}: {what} is not a valid IPv4 {'netmask' if plain == 'netmask' else 'address'}. "
                    "Correct it; write numbers without leading zeros."
                )


def _is_possible(text: str, is_netmask: bool) -> bool:
    try:
        ipaddress.IPv4Network(f"0.0.0.0/{text}") if is_netmask else ipaddress.IPv4Interface(text)
    except ValueError:
        return False
    return True


def check(children: t.Sequence[ChildSpec], ip_network: IPNetwork | None) -> None:
    """Check everything that needs no server.

    :raises _errors.BadInput: an address is not valid, two children of one network are given the same address, or an
        address is outside of ``ip_network``.
    """
    owners: dict[tuple[t.Any, IPAddress], tuple[ChildSpec, str]] = {}
    for child in children:
        _check_values(child)
        given = addresses(child)
        for address, text in given.items():
            other, other_text = owners.setdefault((_named(child), address), (child, text))
            if other is not child:
                shown = other_text if other_text.startswith(_HIDDEN) else text
                raise _errors.BadInput(
                    f"The address {shown} is assigned to both child {other.name} and child {child.name}. Assign each "
                    "child its own address in the config_params of its entry in children."
                )
        if ip_network is not None:
            _check_inside(child, given, ip_network)


def _check_inside(child: ChildSpec, given: t.Mapping[IPAddress, str], ip_network: IPNetwork) -> None:
    """Refuse a child whose addresses of the network's IP version are all outside of the network or not usable in it."""
    same_version = {address: text for address, text in given.items() if address.version == ip_network.version}
    if not same_version:
        return
    if not any(address in ip_network for address in same_version):
        raise _errors.BadInput(
            f"Child {child.name}: the address {', '.join(same_version.values())} is outside ip_network {ip_network}. "
            "Correct the address or ip_network."
        )
    for address, text in same_version.items():
        is_end = address == ip_network.network_address or (
            ip_network.version == 4 and address == ip_network.broadcast_address
        )
        if is_end and ip_network.num_addresses > 2:
            raise _errors.BadInput(
                f"Child {child.name}: the address {text} is the network or broadcast address of ip_network "
                f"{ip_network}, which no host can have. Use another address."
            )


def _named(child: ChildSpec) -> t.Any:
    """Return the networks that the task sets for the child. Children with the same networks share them."""
    return tuple(
        sorted((entry.label or "", entry.position, entry.network) for entry in child.networks if entry.network)
    )


def suspects(children: t.Sequence[ChildSpec], others: t.Mapping[t.Any, Values]) -> list[t.Any]:
    """Return the VMs that have an address of one of the children, on any network."""
    given = {address for child in children for address in addresses(child)}
    return [vm for vm, values in others.items() if not given.isdisjoint(_held(values))]


class Conflicts(t.NamedTuple):
    """Addresses that other VMs have, as sentences."""

    refused: list[str]
    warnings: list[str]


def conflicts(
    parent_name: str,
    parent: Values,
    children: t.Sequence[ChildSpec],
    others: t.Mapping[t.Any, Values],
    shown: networks.Shown,
) -> Conflicts:
    """Compare the addresses of new children with those of the parent and of all other VMs.

    The same address on another network is no conflict: fenced test environments use the same addresses on purpose.

    :param parent: properties of the parent.
    :param others: all VMs except the parent, with the properties of :func:`paths`, and :func:`suspects` with
        :data:`ADAPTER_PATHS`.
    """
    taken: dict[IPAddress | str, list[tuple[str, set[str] | None]]] = {}
    for address, ids in _held(parent).items():
        taken.setdefault(address, []).append((f"the parent, VM {parent_name}", ids))
    for vm, values in others.items():
        owner = f"VM {_inventory.unescape(values.get('name', 'without a name'))} ({vm._GetMoId()})"
        for address, ids in _held(values).items():
            taken.setdefault(address, []).append((owner, ids))
        for card in _devices.adapters(values):
            on = networks.network_id(card.backing)
            taken.setdefault(_devices.mac_of(card), []).append((owner, {on} if on is not None else None))
    result = Conflicts([], [])
    for child in children:
        of_child = networks.network_ids(parent, child.networks, shown)
        given: dict[IPAddress | str, str] = {}
        given.update({address: f"address {text}" for address, text in addresses(child).items()})
        given.update({mac: f"MAC address {mac}" for mac in (entry.mac_address for entry in child.networks) if mac})
        for key, what in given.items():
            for owner, ids in taken.get(key, []):
                if ids is None or of_child is None:
                    result.warnings.append(
                        f"Child {child.name} would get the {what}, which {owner} has. It is not known whether the two "
                        "are on the same network."
                    )
                elif ids & of_child:
                    result.refused.append(
                        f"Child {child.name} was not created: {owner} has the {what} on the same network. Assign the "
                        "child another one, or another network in networks."
                    )
    return result


def _held(values: Values) -> dict[IPAddress, set[str] | None]:
    """Return the addresses of a VM, each with the IDs of the networks that it may be on; ``None``: not known.

    An interface that is not one of the VM's adapters, such as a container bridge, may be on any network or on none.
    """
    cards = _devices.adapters(values)
    by_mac = {_devices.mac_of(card): networks.network_id(card.backing) for card in cards}
    known = {network for network in by_mac.values() if network is not None}
    every: set[str] | None = known if len(known) == len(set(by_mac.values())) else None
    if not cards:
        every = {network._GetMoId() for network in values.get("network") or []} or None
    result: dict[IPAddress, set[str] | None] = {}
    for nic in values.get("guest.net") or []:
        found = by_mac.get((nic.macAddress or "").lower())
        is_adapter = getattr(nic, "deviceConfigId", None) != NO_DEVICE
        for text in nic.ipAddress or []:
            address = parse(text)
            if address is not None:
                result[address] = {found} if found is not None else every if is_adapter else None
    main = parse(values.get("guest.ipAddress") or "")
    if main is not None and result.get(main) is None:
        result[main] = every
    return result
