# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what ``preflight.py`` judges: the parent, its ESXi host and cluster, resource pools and datastores.

Private to the collection. Costs two calls for any number of children, besides what the placement of the children costs.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _inventory, _power, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import addresses, port_groups, preflight
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

_MIB = 1 << 20

_VM = (
    "config.hardware.memoryMB",
    "config.initialMemoryOverhead",
    "config.memoryAllocation",
    "config.swapPlacement",
    "layoutEx",
    "snapshot",
)
_HOST = (
    "name",
    "parent",
    "datastore",
    "hardware.memorySize",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "summary.quickStats",
)
_DATASTORE = ("name", "host", "summary.accessible", "summary.freeSpace", "summary.maintenanceMode", "summary.type")
_POOL = ("name", "runtime.memory")

API_6_5 = (6, 5)
"""API version that introduced encrypted VMs and the quarantine mode of hosts."""


class Known(t.NamedTuple):
    """What is known about the children to create, besides their places.

    :param missing: the children whose names can be used.
    :param is_named: whether their names are given.
    :param existing: how many of the requested children exist already.
    :param refusals: sentences about names that cannot be used.
    :param allow_running: whether they may be created from a running parent.
    """

    missing: t.Sequence[ChildSpec]
    is_named: bool
    existing: int
    refusals: tuple[str, ...]
    conflicts: addresses.Conflicts
    ports: port_groups.Ports
    allow_running: bool


def read(parent: Parent, placement: Placement, known: Known) -> preflight.Facts:
    """Return what is known about the parent and about children to create, without privileges and the server's check.

    :param placement: with the places that the task does not name.
    """
    session, values, specs = parent.session, parent.values, known.missing
    is_newer = session.api_version >= API_6_5
    of_datastores, of_pools = (_shares(placement, specs, kind) for kind in ("datastore", "pool"))
    host = values.get("runtime.host")
    found = _properties.read_kinds(
        session,
        {
            vim.VirtualMachine: (*_VM, *(("config.keyId",) if is_newer else ())),
            vim.HostSystem: (*_HOST, *(("runtime.inQuarantineMode",) if is_newer else ())),
            vim.Datastore: _DATASTORE,
            vim.ResourcePool: _POOL,
        },
        {parent.vm, host, *of_datastores, *of_pools} - {None},
    )
    of_vm, of_host = found.get(parent.vm, {}), found.get(host, {})
    compute = of_host.get("parent")
    images = [drive for drive in _devices.of_kind(values, vim.vm.device.VirtualCdrom) if _image(drive) is not None]
    more = _properties.read_kinds(
        session,
        {vim.ComputeResource: ("name", "configurationEx"), vim.Datastore: _DATASTORE},
        {compute, *((of_host.get("datastore") or []) if images else [])} - {None, *found},
    )
    config = more.get(compute, {}).get("configurationEx")
    memory, allocation = of_vm.get("config.hardware.memoryMB"), of_vm.get("config.memoryAllocation")
    is_readable = memory is not None
    stores = {obj: its for obj, its in {**found, **more}.items() if isinstance(obj, vim.Datastore)}
    return preflight.Facts(
        parent=parent.name,
        engine=parent.engine.name,
        count=len(specs) + len(known.refusals),
        is_on=_power.is_on(values) if values.get("runtime.powerState") is not None else None,
        is_quiesced=parent.is_quiesced,
        allow_running=known.allow_running,
        has_tools=_has_tools(values.get("guest.toolsRunningStatus")),
        devices=tuple(_suspects(values, host, stores)) if _devices.PATH in values else None,
        is_encrypted=(of_vm.get("config.keyId") is not None if is_newer else False) if is_readable else None,
        deltas=facts.deltas(of_vm.get("layoutEx")),
        needs_snapshot=any(parent.engine.needs_snapshot(spec) for spec in specs),
        has_snapshot="snapshot" in of_vm if is_readable else None,
        host=_host(parent.found.host_name, of_host),
        memory=None if memory is None else memory * _MIB,
        reserved=_reserved(allocation, of_vm.get("config.initialMemoryOverhead")),
        swap_size=_swap_size(memory, allocation),
        disk_size=_disk_size(values),
        pools=tuple(_pool(found.get(pool, {}), names) for pool, names in of_pools.items()) or None,
        datastores=tuple(_datastore(stores.get(store, {}), names, host) for store, names in of_datastores.items())
        or None,
        swap_elsewhere=_swap_elsewhere(of_vm.get("config.swapPlacement"), config),
        cluster=_cluster(parent.vm, compute, more.get(compute, {}).get("name"), config),
        without_port=tuple(known.ports.shortages.values()) if known.ports.is_known or known.ports.shortages else None,
        named=known.is_named,
        existing=known.existing,
        name_errors=known.refusals,
        addressed=any(addresses.addresses(spec) for spec in specs),
        address_errors=tuple(known.conflicts.refused),
        address_warnings=tuple(known.conflicts.warnings),
    )


def _shares(placement: Placement, specs: t.Sequence[ChildSpec], kind: str) -> dict[t.Any, tuple[str, ...]]:
    """Return each place of a kind with the names of the children to create in it."""
    result: dict[t.Any, tuple[str, ...]] = {}
    for spec in specs:
        place = placement.location(spec).get(kind)
        if place is not None:
            result[place] = (*result.get(place, ()), spec.name)
    return result


def _has_tools(status: str | None) -> bool | None:
    return None if status is None else status == "guestToolsRunning"


def _host(name: str | None, values: _properties.Values) -> preflight.Host | None:
    if not values:
        return None
    used = getattr(values.get("summary.quickStats"), "overallMemoryUsage", None)
    return preflight.Host(
        name=name or _inventory.unescape(values.get("name", "the ESXi host")),
        connection_state=values.get("runtime.connectionState"),
        is_in_maintenance=values.get("runtime.inMaintenanceMode"),
        is_in_quarantine=values.get("runtime.inQuarantineMode"),
        memory=values.get("hardware.memorySize"),
        memory_used=None if used is None else used * _MIB,
    )


def _pool(values: _properties.Values, children: tuple[str, ...]) -> preflight.Pool:
    usage = values.get("runtime.memory")
    return preflight.Pool(_name(values, "that the user cannot see"), children, getattr(usage, "unreservedForVm", None))


def _datastore(values: _properties.Values, children: tuple[str, ...], host: t.Any) -> preflight.Datastore:
    return preflight.Datastore(
        _name(values, "that the user cannot see"),
        children,
        values.get("summary.freeSpace"),
        _is_usable(values, host),
        values.get("summary.type"),
    )


def _name(values: _properties.Values, otherwise: str) -> str:
    return _inventory.unescape(values["name"]) if "name" in values else otherwise


def _is_usable(values: _properties.Values, host: t.Any) -> bool | None:
    """Return whether a host can create files on a datastore; ``None``: the user cannot see that."""
    mounts = values.get("host")
    if "summary.accessible" not in values or mounts is None:
        return None
    is_mounted = any(mount.key == host and mount.mountInfo.accessible is not False for mount in mounts)
    is_normal = values.get("summary.maintenanceMode", "normal") == "normal"
    return bool(values["summary.accessible"]) and is_mounted and is_normal


def _reserved(allocation: t.Any, overhead: int | None) -> int | None:
    """Return the memory that the power-on of a child reserves, in bytes."""
    reservation = getattr(allocation, "reservation", None)
    return None if reservation is None else reservation * _MIB + (overhead or 0)


def _swap_size(memory: int | None, allocation: t.Any) -> int | None:
    """Return the size of a child's swap file in bytes: the memory that it does not reserve."""
    reservation = getattr(allocation, "reservation", None)
    return None if memory is None or reservation is None else max(memory - reservation, 0) * _MIB


def _disk_size(values: _properties.Values) -> int | None:
    if _devices.PATH not in values:
        return None
    sizes = [disk.capacityInBytes or (disk.capacityInKB or 0) * 1024 for disk in _devices.disks(values)]
    return sum(sizes)


def _swap_elsewhere(placement: str | None, config: t.Any) -> bool | None:
    """Return whether the swap file of a child is not on the datastore of its VM; ``None``: that is not known."""
    inherited = getattr(config, "vmSwapPlacement", None)
    effective = inherited if placement in (None, "inherit") else placement
    return None if effective is None else effective == "hostLocal"


def _cluster(vm: t.Any, compute: t.Any, name: str | None, config: t.Any) -> preflight.Cluster | t.Literal[False] | None:
    if compute is not None and not isinstance(compute, vim.ClusterComputeResource):
        return False
    if config is None or config.dasConfig is None or config.drsConfig is None:
        return None
    drs = config.drsConfig.defaultVmBehavior if config.drsConfig.enabled else None
    override = next((its for its in config.drsVmConfig or [] if its.key == vm), None)
    if override is not None and drs is not None:
        drs = None if override.enabled is False else override.behavior or drs
    das = config.dasConfig
    has_ha = bool(das.enabled)
    return preflight.Cluster(
        _inventory.unescape(name or ""), drs, has_ha, has_ha and das.admissionControlEnabled is not False
    )


def _image(drive: t.Any) -> t.Any:
    """Return the backing of a connected CD drive with an image; ``None``: it needs no file."""
    is_connected = drive.connectable is not None and drive.connectable.connected
    is_image = isinstance(drive.backing, vim.vm.device.VirtualCdrom.IsoBackingInfo)
    return drive.backing if is_connected and is_image else None


def _suspects(
    values: _properties.Values, host: t.Any, stores: t.Mapping[t.Any, _properties.Values]
) -> t.Iterator[preflight.Device]:
    """Yield the devices that Instant Clone refuses, or may refuse."""
    buses = {
        controller.key: controller.sharedBus
        for controller in _devices.of_kind(values, vim.vm.device.VirtualSCSIController)
    }
    for device in values.get(_devices.PATH) or []:
        kind = _kind(device, buses, host, stores)
        if kind is not None:
            yield preflight.Device(_devices.label(device), kind)


def _kind(
    device: t.Any, buses: t.Mapping[int, str], host: t.Any, stores: t.Mapping[t.Any, _properties.Values]
) -> str | None:
    of = vim.vm.device
    backing = device.backing
    if isinstance(device, getattr(of, "VirtualTPM", ())):
        return "vtpm"
    if isinstance(device, of.VirtualPCIPassthrough):
        return "vgpu" if isinstance(backing, of.VirtualPCIPassthrough.VmiopBackingInfo) else "passthrough"
    if isinstance(device, of.VirtualSerialPort):
        return None if isinstance(backing, of.VirtualSerialPort.FileBackingInfo) else "serial"
    if isinstance(device, of.VirtualParallelPort):
        return None if isinstance(backing, of.VirtualParallelPort.FileBackingInfo) else "parallel"
    if isinstance(device, of.VirtualCdrom) and _image(device) is not None:
        is_usable = _reaches(backing, host, stores)
        return "cd_unknown" if is_usable is None else None if is_usable else "cd_unreachable"
    if isinstance(device, of.VirtualDisk):
        return _kind_of_disk(device, buses)
    return None


def _kind_of_disk(disk: t.Any, buses: t.Mapping[int, str]) -> str | None:
    backing = disk.backing
    if isinstance(backing, vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo):
        return "rdm"
    sharing = getattr(backing, "sharing", None)
    if sharing not in (None, "sharingNone") or buses.get(disk.controllerKey, "noSharing") != "noSharing":
        return "shared"
    return "independent" if str(getattr(backing, "diskMode", "")).startswith("independent") else None


def _reaches(backing: t.Any, host: t.Any, stores: t.Mapping[t.Any, _properties.Values]) -> bool | None:
    """Return whether a host can access the datastore of an image; ``None``: that is not known."""
    if backing.datastore is not None:
        return _is_readable(stores.get(backing.datastore, {}), host)
    name, _bracket, _path = (backing.fileName or "").lstrip("[").partition("]")
    named = [its for its in stores.values() if _name(its, "") == name]
    return _is_readable(named[0], host) if named else None


def _is_readable(values: _properties.Values, host: t.Any) -> bool | None:
    return _is_usable({**values, "summary.maintenanceMode": "normal"}, host)
