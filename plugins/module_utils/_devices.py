# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a VM's virtual devices from its property ``config.hardware.device``.

Private to the collection. Pure functions.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATH = "config.hardware.device"

Values = t.Mapping[str, t.Any]
"""Properties of a VM, including :data:`PATH`."""


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
    """Return a device's name in the vSphere Client; its key if vCenter does not show the name."""
    return device.deviceInfo.label if device.deviceInfo is not None else str(device.key)


def mac_of(adapter: t.Any) -> str:
    """Return an adapter's MAC address in lower case; empty: it has none."""
    return (adapter.macAddress or "").lower()


def mac_addresses(values: Values) -> list[str]:
    """Return the MAC addresses of a VM's adapters, in lower case."""
    return [mac for mac in map(mac_of, adapters(values)) if mac]


def beside(child: Values, parent: Values) -> set[str]:
    """Return the MAC addresses of a child's connected adapters that share a network with the parent, or may."""
    there = [adapter.backing for adapter in adapters(parent) if adapter.backing is not None]
    return {
        mac_of(adapter)
        for adapter in adapters(child)
        if adapter.backing is not None
        and (adapter.connectable is None or adapter.connectable.connected)
        and any(is_same_network(adapter.backing, other) is not False for other in there)
    }


def is_same_network(backing: t.Any, other: t.Any) -> bool | None:
    """Return whether two backings of adapters are on the same network; ``None`` if vCenter does not identify one."""
    if type(backing) is not type(other):
        return False
    card = vim.vm.device.VirtualEthernetCard
    if isinstance(backing, card.DistributedVirtualPortBackingInfo):
        # A port that is connected by its own key need not have a port group.
        return _is_same(backing.port.portgroupKey, other.port.portgroupKey)
    if isinstance(backing, card.OpaqueNetworkBackingInfo):
        return _is_same(backing.opaqueNetworkId, other.opaqueNetworkId)
    # Compare objects if vCenter shows them: networks of several hosts may share a name, and a name may be escaped.
    if backing.network is not None:
        return bool(backing.network == other.network)
    return _is_same(backing.deviceName, other.deviceName)


def _is_same(key: str | None, other: str | None) -> bool | None:
    return key == other if key and other else None
