# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network adapters of children: from the options of a task to device changes. Pure; needs no server.

Private to the collection. ``port_groups.py`` looks networks up and counts
their free ports.
"""

from __future__ import annotations

import copy
import re
import typing as t
from collections import Counter
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _errors, _power
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

AT_CLONE = "at_clone"
AFTER_POST_CLONE = "after_post_clone"
CONNECT = (AT_CLONE, AFTER_POST_CLONE, "never")
"""When an adapter is connected."""

RESERVED_MACS = (("00:50:56:40:00:00", "00:50:56:ff:ff:ff"), ("00:0c:29:00:00:00", "00:0c:29:ff:ff:ff"))
"""MAC addresses that vSphere does not accept from users, since it assigns them itself: "It conflicts with VMware
reserved MACs" (ansible-collections/community.vmware issue 1159, josenk/terraform-provider-esxi issue 184;
vSphere Networking, "VMware OUI in static MAC addresses")."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(\1[0-9A-Fa-f]{2}){4}")

Values = t.Mapping[str, t.Any]

Shown = t.Mapping[str, t.Sequence[t.Any]]
"""Network as a child names it → the backings that vCenter may show for an adapter on it."""


@dataclass(frozen=True)
class Network:
    """A network adapter of a child, as requested by the task.

    :param position: its place in the list, from 1; without a label, the position among the parent's adapters.
    :param label: the adapter's label in vCenter.
    :param network: name, path or managed object ID as the user gave it; ``None`` keeps the parent's.
    :param mac_address: ``None``: vCenter assigns a new one.
    :param connect: one of :data:`CONNECT`.
    """

    position: int
    label: str | None = None
    network: str | None = None
    mac_address: str | None = None
    connect: str = AT_CLONE


# --- options --------------------------------------------------------------------------------------------------------


def wanted(given: t.Sequence[Values] | None) -> tuple[Network, ...]:
    """Return the adapters from the option ``networks``.

    :raises _errors.BadInput: an entry is not valid.
    """
    result = tuple(_network(position, entry) for position, entry in enumerate(given or (), start=1))
    for label, times in Counter(network.label for network in result if network.label is not None).items():
        if times > 1:
            raise _errors.BadInput(f"networks: the label {label} occurs twice. Keep one entry for each adapter.")
    return result


def check_mac_addresses(of_children: t.Mapping[str, t.Sequence[Network]]) -> None:
    """Refuse a MAC address that is requested for two adapters.

    :param of_children: name of a child → its adapters.
    """
    owners: dict[str, str] = {}
    for name, adapters in of_children.items():
        for mac in filter(None, (adapter.mac_address for adapter in adapters)):
            if mac in owners:
                raise _errors.BadInput(
                    f"The MAC address {mac} is assigned to two adapters, of child {owners[mac]} and of child {name}. "
                    "Assign each adapter its own, in the networks of each child."
                )
            owners[mac] = name


def _network(position: int, entry: Values) -> Network:
    for option in ("label", "network", "mac_address"):
        if entry.get(option) is not None and not entry[option].strip():
            raise _errors.BadInput(f"networks: {option} is empty. Set a value, or remove it.")
    return Network(
        position,
        entry.get("label"),
        entry.get("network"),
        _mac_address(entry.get("mac_address")),
        entry.get("connect") or AT_CLONE,
    )


def _mac_address(text: str | None) -> str | None:
    """Return a MAC address as vSphere writes it.

    :raises _errors.BadInput: no adapter can have it.
    """
    if text is None:
        return None
    if not _MAC.fullmatch(text):
        raise _errors.BadInput(
            f"networks: {text} is not a MAC address. Use six pairs of hexadecimal digits separated by colons, "
            'in quotes, such as "00:50:56:01:02:03".'
        )
    mac = text.lower().replace("-", ":")
    if int(mac[:2], 16) & 1:
        raise _errors.BadInput(
            f"networks: {mac} is a multicast address, which no adapter can have. Use one whose first pair is even."
        )
    if set(mac) == {"0", ":"}:
        raise _errors.BadInput(
            f"networks: {mac} is not the address of an adapter. Remove mac_address to get a new one."
        )
    return mac


# --- the parent's adapters ------------------------------------------------------------------------------------------


def labels(cards: t.Iterable[t.Any]) -> str:
    """Return the labels of adapters, for a sentence."""
    return ", ".join(_devices.label(card) for card in cards)


def check_against_parent(name: str, parent: Values, networks: t.Sequence[Network]) -> None:
    """Refuse an entry without an adapter of the parent, two entries for one adapter, and a MAC address in use.

    :param name: name of the parent.
    :raises _errors.BadInput: there is such an entry; the sentence lists the parent's adapters.
    """
    have = _devices.adapters(parent)
    taken = {_devices.mac_of(adapter): _devices.label(adapter) for adapter in have}
    seen: set[int] = set()
    for entry in networks:
        adapter = _adapter(have, entry)
        if adapter is None:
            which = f"labeled {entry.label}" if entry.label is not None else f"number {entry.position}"
            raise _errors.BadInput(
                f"networks: VM {name} has no network adapter {which}. It has: {labels(have) or 'none'}."
            )
        if adapter.key in seen:
            raise _errors.BadInput(
                f"networks names {labels([adapter])} twice: an entry without a label refers to the adapter at its "
                "position in the list. Set the label in each entry."
            )
        seen.add(adapter.key)
        if entry.mac_address in taken:
            raise _errors.BadInput(
                f"networks: {entry.mac_address} is the MAC address of {taken[entry.mac_address]} of VM {name}, which "
                "keeps it. Use another one, or remove mac_address to get a new one."
            )
        if any(first <= (entry.mac_address or "") <= last for first, last in RESERVED_MACS):
            raise _errors.BadInput(
                f"networks: {entry.mac_address} is in a range that vSphere assigns automatically, and a VM with such "
                "an address cannot be powered on. Use one from 00:50:56:00:00:00 to 00:50:56:3f:ff:ff."
            )


def device_changes(parent: Values, networks: t.Sequence[Network], backings: t.Mapping[str, t.Any]) -> list[t.Any]:
    """Return the changes to the parent's adapters when a child is created: a list of VirtualDeviceConfigSpec.

    An adapter without an entry keeps its network, and vCenter assigns a new MAC
    address itself; it is not known whether it replaces a manual one.

    :param backings: network as the task names it → the backing of an adapter on it.
    """
    have = _devices.adapters(parent)
    entries = {_key(have, entry): entry for entry in networks}
    changes = []
    for adapter in have:
        entry = entries.get(adapter.key)
        if entry is not None:
            backing = backings[entry.network] if entry.network is not None else _of_its_network(adapter.backing)
            changes.append(_edit(adapter, backing, entry.mac_address, _at_creation(adapter, entry.connect == AT_CLONE)))
        elif adapter.addressType == "manual":
            changes.append(_edit(adapter, _of_its_network(adapter.backing)))
    return changes


def landing(parent: Values, networks: t.Sequence[Network], backings: t.Mapping[str, t.Any]) -> Counter[str]:
    """Return the number of adapters that a child has on each distributed port group, by its key."""
    have = _devices.adapters(parent)
    named = {_key(have, entry): backings[entry.network] for entry in networks if entry.network is not None}
    return Counter(filter(None, (_port_group(named.get(adapter.key, adapter.backing)) for adapter in have)))


def network_id(backing: t.Any) -> str | None:
    """Return the managed object ID of an adapter's network; ``None``: the backing does not name it."""
    if isinstance(backing, vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
        return _port_group(backing)  # the key of a port group is its ID
    network = getattr(backing, "network", None)
    return network._GetMoId() if network is not None else None


def network_ids(parent: Values, networks: t.Sequence[Network], shown: Shown) -> set[str] | None:
    """Return the IDs of the networks that a child will be connected to; ``None``: one of them is not known."""
    have = _devices.adapters(parent)
    entries = {_key(have, entry): entry for entry in networks}
    result: set[str] = set()
    for adapter in have:
        entry = entries.get(adapter.key)
        if entry is not None and entry.connect == "never":
            continue
        named = entry.network if entry is not None else None
        ids = {network_id(backing) for backing in (shown[named] if named is not None else (adapter.backing,))} - {None}
        if not ids:
            return None
        result |= t.cast("set[str]", ids)
    return result


def _edit(adapter: t.Any, backing: t.Any, mac_address: str | None = None, connectable: t.Any = None) -> t.Any:
    return vim.vm.device.VirtualDeviceSpec(
        operation="edit",
        device=type(adapter)(
            key=adapter.key,
            backing=backing,
            addressType="assigned" if mac_address is None else "manual",
            macAddress=mac_address,
            connectable=connectable,
        ),
    )


def _of_its_network(backing: t.Any) -> t.Any:
    """Return a backing for the same network, without the parent's own port."""
    if not isinstance(backing, vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
        return backing
    return type(backing)(
        port=vim.dvs.PortConnection(switchUuid=backing.port.switchUuid, portgroupKey=backing.port.portgroupKey)
    )


def _at_creation(adapter: t.Any, connected: bool) -> t.Any:
    # Instant Clone uses migrateConnect (API reference, VirtualDeviceConnectInfo), later power-ons use startConnected.
    result = _connectable(adapter, connected)
    result.migrateConnect = "connect" if connected else "disconnect"
    return result


def _connectable(adapter: t.Any, connected: bool) -> t.Any:
    before = adapter.connectable
    return vim.vm.device.VirtualDevice.ConnectInfo(
        startConnected=connected,
        connected=connected,
        allowGuestControl=before.allowGuestControl if before is not None else True,
    )


def _port_group(backing: t.Any) -> str | None:
    """Return the key of the distributed port group of a backing."""
    return getattr(getattr(backing, "port", None), "portgroupKey", None)


# --- a child's adapters ---------------------------------------------------------------------------------------------


def differences(child: Values, networks: t.Sequence[Network], shown: Shown) -> list[str]:
    """Return the differences between a newly created child and the task, as clauses.

    According to the 8.0 programming guide, vCenter ignores the location of an
    Instant Clone, which contains the changes of its adapters.
    """
    have = _devices.adapters(child)
    result = []
    for entry in networks:
        adapter = _adapter(have, entry)
        if adapter is None:
            result.append(f"it has no network adapter {entry.label or entry.position}")
            continue
        if entry.connect != AT_CLONE and _is_connected(adapter, _power.is_on(child)):
            result.append(f"{_devices.label(adapter)} is connected and may answer to the parent's address")
        if entry.network is not None and not any(
            _devices.is_same_network(adapter.backing, backing) for backing in shown[entry.network]
        ):
            result.append(f"{_devices.label(adapter)} is not on the network {entry.network}")
        if entry.mac_address not in (None, _devices.mac_of(adapter)):
            result.append(f"{_devices.label(adapter)} has the MAC address {_devices.mac_of(adapter)}")
    return result


def disconnected(child: Values, networks: t.Sequence[Network]) -> list[t.Any]:
    """Return the child's adapters that must be connected after its post-clone script, and are not connected yet.

    For a VM that is off, the setting for its power-on counts.
    """
    have = _devices.adapters(child)
    late = [_adapter(have, entry) for entry in networks if entry.connect == AFTER_POST_CLONE]
    return [card for card in late if card is not None and not _is_connected(card, _power.is_on(child))]


def connection(cards: t.Iterable[t.Any]) -> t.Any:
    """Return a VirtualMachineConfigSpec that connects these adapters of a VM and changes nothing else."""
    changes = []
    for card in cards:
        # Complete: a server assigns a new MAC address to an adapter that comes without one (vmware/pyvmomi issue 260).
        device = copy.copy(card)
        device.connectable = _connectable(card, True)
        changes.append(vim.vm.device.VirtualDeviceSpec(operation="edit", device=device))
    return vim.vm.ConfigSpec(deviceChange=changes)


def _is_connected(adapter: t.Any, is_on: bool) -> bool:
    now = adapter.connectable
    return now is not None and bool(now.connected if is_on else now.startConnected)


def _adapter(have: t.Sequence[t.Any], entry: Network) -> t.Any:
    """Return the adapter that an entry refers to, if it exists."""
    if entry.label is not None:
        return next((adapter for adapter in have if _devices.label(adapter) == entry.label), None)
    return have[entry.position - 1] if entry.position <= len(have) else None


def _key(have: t.Sequence[t.Any], entry: Network) -> int | None:
    adapter = _adapter(have, entry)
    return adapter.key if adapter is not None else None
