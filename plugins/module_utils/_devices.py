# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's virtual devices, as its property ``config.hardware.device`` shows them.

Private to the collection. Pure functions.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATH = "config.hardware.device"

Values = t.Mapping[str, t.Any]
"""Properties of a VM, :data:`PATH` among them."""


def of_kind(values: Values, kind: t.Any) -> list[t.Any]:
    """Return the devices of a pyVmomi type, in the order of the VM's hardware."""
    return [device for device in values.get(PATH) or [] if isinstance(device, kind)]


def adapters(values: Values) -> list[t.Any]:
    """Return the network adapters of a VM."""
    return of_kind(values, vim.vm.device.VirtualEthernetCard)


def disks(values: Values) -> list[t.Any]:
    """Return the disks of a VM."""
    return of_kind(values, vim.vm.device.VirtualDisk)


def label(device: t.Any) -> str:
    """Return what the vSphere Client calls a device; its key where vCenter does not show that."""
    return device.deviceInfo.label if device.deviceInfo is not None else str(device.key)


def mac_of(adapter: t.Any) -> str:
    """Return an adapter's MAC address in small letters; empty when it has none."""
    return (adapter.macAddress or "").lower()


def mac_addresses(values: Values) -> list[str]:
    """Return the MAC addresses of a VM's adapters, in small letters."""
    return [mac for mac in map(mac_of, adapters(values)) if mac]


def beside(child: Values, parent: Values) -> set[str]:
    """Return the MAC addresses of a child's adapters that are connected to a network which the parent is on, too."""
    there = [one.backing for one in adapters(parent) if one.backing is not None]
    return {
        mac_of(one)
        for one in adapters(child)
        if one.backing is not None
        and (one.connectable is None or one.connectable.connected)
        and any(is_same_network(one.backing, other) for other in there)
    }


def is_same_network(one: t.Any, other: t.Any) -> bool:
    """Return whether the backings of two adapters are of the same network."""
    if type(one) is not type(other):
        return False
    card = vim.vm.device.VirtualEthernetCard
    if isinstance(one, card.DistributedVirtualPortBackingInfo):
        return bool(one.port.portgroupKey == other.port.portgroupKey)
    if isinstance(one, card.OpaqueNetworkBackingInfo):
        return bool(one.opaqueNetworkId == other.opaqueNetworkId)
    # By the object if vCenter shows it: networks of several hosts may share a name, and a name may come escaped.
    if one.network is not None:
        return bool(one.network == other.network)
    return bool(one.deviceName == other.deviceName)
