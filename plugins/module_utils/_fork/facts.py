# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn API properties into return values, with pure functions.

Private to the collection. Everything returned is a plain JSON type.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _extra_config
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine
    from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Found

PATHS = (
    *identity.PATHS,
    "config.files.vmPathName",
    _devices.PATH,
    "guest.guestFamily",
    "guest.hostName",
    "guest.ipAddress",
    "guest.net",
    "runtime.host",
    "runtime.powerState",
)
"""Properties of a VM that the return values need, besides the engine's own."""

NO_DEVICE = -1
"""The deviceConfigId in guest.net of an interface that belongs to no device of the VM."""

Values = t.Mapping[str, t.Any]
IPNetwork = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def parent(found: Found, engine: Engine) -> dict[str, t.Any]:
    """Return the ``parent`` return value."""
    values = found.values
    extra = _extra_config.mapping(values)
    quiesced = engine.is_quiesced(values)
    return {
        "name": found.name,
        "moid": found.moid,
        "instance_uuid": values.get("config.instanceUuid"),
        "uuid": values.get("config.uuid"),
        "inventory_path": found.inventory_path,
        "esxi_hostname": found.host_name,
        "power_state": str(values.get("runtime.powerState")),
        "api": engine.name,
        "enabled": engine.is_enabled(values),
        "quiesced": quiesced,
        # Outdated unless the scripts are recorded too; that record is removed when it no longer applies.
        "quiesced_at": guestinfo.quiesced_at(extra) if quiesced and guestinfo.scripts(extra) else None,
        "fork_group_id": identity.parent_group(values),
        "guest_family": values.get("guest.guestFamily"),
    }


def child(found: Found, engine: Engine, of_parent: Values) -> dict[str, t.Any]:
    """Return what the return values of a child and a parent have in common, from the properties of the VM."""
    values = found.values
    kind = engine.child_type(values)
    result = parent(found, engine)
    result.update(
        child_type=kind,
        survives_power_off=None if kind is None else kind != "nonpersistent",
        datastore=datastore_name(values),
        folder=found.inventory_path.rpartition("/")[0],
        mac_addresses=_devices.mac_addresses(values),
        ip_addresses=own_addresses(values, of_parent),
        guest_hostname=values.get("guest.hostName"),
    )
    return result


def no_vm(name: str, engine: Engine) -> dict[str, t.Any]:
    """Return the keys of :func:`child` for a child without a VM: not yet, no longer, or never."""
    keys = (
        "moid instance_uuid uuid inventory_path esxi_hostname power_state enabled quiesced quiesced_at fork_group_id "
        "guest_family child_type survives_power_off datastore folder guest_hostname"
    )
    return {
        "name": name,
        "api": engine.name,
        **dict.fromkeys(keys.split()),
        "mac_addresses": [],
        "ip_addresses": [],
    }


MOST_DELTAS, MANY_DELTAS = 255, 100
"""Delta disks of a VM: the maximum, and the number above which vSphere warns (KB 67186)."""


def deltas(layout: t.Any) -> int | None:
    """Return the delta disks in the longest chain of a VM; ``None``: its ``layoutEx`` shows none of its disks.

    The first link of a chain is the base, all others are delta disks.
    """
    chains = [disk.chain for disk in getattr(layout, "disk", None) or [] if disk.chain]
    return max((len(chain) - 1 for chain in chains), default=None)


def datastore_name(values: Values) -> str | None:
    """Return the datastore of the VM's configuration file: ``[datastore] folder/vm.vmx``."""
    path = values.get("config.files.vmPathName") or ""
    return path[1:].partition("]")[0] if path.startswith("[") else None


def guest_addresses(values: Values) -> list[tuple[str, str]]:
    """Return MAC and IP address pairs as VMware Tools reports them."""
    return [
        ((nic.macAddress or "").lower(), address)
        for nic in values.get("guest.net") or []
        for address in nic.ipAddress or []
    ]


def own_addresses(values: Values, of_parent: Values, network: IPNetwork | None = None) -> list[str]:
    """Return the addresses that are the child's own.

    Right after a fork, VMware Tools still reports the parent's state. So an
    address counts only on a MAC address of the child's own adapter, and if it
    is not link-local, not the parent's, and inside ``network`` if given.
    """
    own = set(_devices.mac_addresses(values)) - set(_devices.mac_addresses(of_parent))
    inherited = _all_addresses(of_parent)
    return [
        address
        for mac, address in guest_addresses(values)
        if mac in own and address not in inherited and _counts(address, network)
    ]


class Inherited(t.NamedTuple):
    """An address of the parent that a child still has."""

    address: str
    stale_mac: str | None
    """The parent's MAC address if the guest still uses it; ``None``: the address is on the child's own MAC address."""


def parents_addresses(values: Values, of_parent: Values) -> list[Inherited]:
    """Return the parent's addresses that VMware Tools has reported in a child, on a network of the parent.

    An address on another MAC address, such as that of a container bridge, is not visible outside of the guest.
    """
    own = _devices.beside(values, of_parent) - set(_devices.mac_addresses(of_parent))
    stale = stale_macs(values, of_parent, _devices.beside(values, of_parent))
    theirs = _all_addresses(of_parent)
    return [
        Inherited(address, mac if mac in stale else None)
        for mac, address in guest_addresses(values)
        if mac in own | stale and address in theirs and _counts(address, None)
    ]


def stale_macs(values: Values, of_parent: Values, among: t.Container[str] | None = None) -> set[str]:
    """Return the parent's MAC addresses that a child's guest still uses on connected adapters.

    A guest's network driver reads the MAC address when it is loaded. If a child reports the parent's MAC address, it
    belongs to none of the child's devices, so its deviceConfigId is -1 (API reference, GuestNicInfo). In a report that
    the child has inherited, the ID is that of the device.

    :param among: consider only adapters of the child with these MAC addresses.
    """
    unknown = {
        (nic.macAddress or "").lower()
        for nic in values.get("guest.net") or []
        if getattr(nic, "deviceConfigId", None) == NO_DEVICE
    }
    connected = {
        card.key
        for card in _devices.adapters(values)
        if (card.connectable is None or card.connectable.connected)
        and (among is None or _devices.mac_of(card) in among)
    }
    return {
        _devices.mac_of(card)
        for card in _devices.adapters(of_parent)
        if _devices.mac_of(card) in unknown - set(_devices.mac_addresses(values)) and card.key in connected
    }


def shows_parents_report(values: Values, of_parent: Values) -> bool:
    """Return whether vCenter still shows addresses that VMware Tools reported in the parent, before the fork."""
    theirs = set(_devices.mac_addresses(of_parent)) - set(_devices.mac_addresses(values))
    return any(
        (nic.macAddress or "").lower() in theirs
        and getattr(nic, "deviceConfigId", None) != NO_DEVICE
        and any(_counts(address, None) for address in nic.ipAddress or [])
        for nic in values.get("guest.net") or []
    )


def _all_addresses(values: Values) -> set[t.Any]:
    return {address for _mac, address in guest_addresses(values)} | {values.get("guest.ipAddress")}


def _counts(text: str, network: IPNetwork | None) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not address.is_link_local and not address.is_loopback and (network is None or address in network)
