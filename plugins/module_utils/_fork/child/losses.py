# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what would be lost with a child that is destroyed, besides what it inherited from its parent.

Private to the collection. Pure functions over properties of VMs.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATHS = (
    "config.annotation",
    "config.files.vmPathName",
    _devices.PATH,
    "config.template",
    "recentTask",
    "snapshot",
)
"""Properties of a child and its parent that :func:`of` needs."""

_OF_BACKUPS = re.compile(
    # Veeam (its KB 1790); the others are names of products or of what they write.
    r"veeam backup temporary snapshot|used by veeam backup|consolidate helper|__gx_backup__|nbu_snapshot|avamar"
    r"|commvault|rubrik|cohesity|nakivo|acronis|tsm-vm|vranger|hycu|_vcb-backup_",
    re.IGNORECASE,
)
"""Names and descriptions of snapshots that a backup product creates, and removes after it has read the disks."""

_LONGEST_NOTE = 60
"""Maximum number of characters of an annotation to show."""


@dataclass(frozen=True)
class Losses:
    """What would be lost with a child.

    :param template: whether it was converted to a template.
    :param children: names of its own children.
    :param disks: disks that its parent does not have, each with its file.
    :param unseen: whether vCenter does not show its whole configuration, so its losses are not known.
    :param snapshots: names of its snapshots.
    :param temporary: names of the snapshots that a backup seems to need.
    :param annotation: the beginning of its annotation, if it differs from the parent's.
    """

    template: bool = False
    children: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    unseen: bool = False
    snapshots: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    annotation: str = ""

    @property
    def obstacles(self) -> list[str]:
        """Return why the child must not be destroyed without force, as clauses."""
        result = []
        if self.template:
            result.append("it was converted to a template")
        if self.children:
            result.append(f"it is itself the parent of {', '.join(self.children)}")
        if self.disks:
            result.append(f"it has disks that its parent does not have ({', '.join(self.disks)})")
        if self.unseen:
            result.append("vCenter does not show its entire configuration, so its disks are not known")
        return result

    @property
    def remarks(self) -> list[str]:
        """Return the losses that only cause a warning, as clauses."""
        result = []
        if self.snapshots:
            result.append(f"it has snapshots ({', '.join(self.snapshots)})")
        if self.annotation:
            result.append(f"it has a note of its own ({self.annotation})")
        return result


def of(parent: t.Mapping[str, t.Any], values: t.Mapping[str, t.Any], children: t.Iterable[str] = ()) -> Losses:
    """Return what would be lost with a VM.

    :param parent: the parent's properties, as of now.
    :param children: names of the VM's own children.
    """
    snapshots = list(_snapshots(getattr(values.get("snapshot"), "rootSnapshotList", None)))
    note = " ".join((values.get("config.annotation") or "").split())
    if note == " ".join((parent.get("config.annotation") or "").split()):
        note = ""
    return Losses(
        template=bool(values.get("config.template")),
        children=tuple(sorted(children)),
        disks=tuple(added_disks(parent, values)),
        unseen=_is_incomplete(parent, values),
        snapshots=tuple(snapshot.name for snapshot in snapshots),
        temporary=tuple(
            snapshot.name for snapshot in snapshots if _OF_BACKUPS.search(f"{snapshot.name}\n{snapshot.description}")
        ),
        annotation=note if len(note) <= _LONGEST_NOTE else f"{note[:_LONGEST_NOTE]}…",
    )


def added_disks(parent: t.Mapping[str, t.Any], child: t.Mapping[str, t.Any]) -> list[str]:
    """Return the disks of a child that its parent does not have, each with its file.

    Destroy_Task deletes the files of every attached disk, wherever they are. A disk of a fork is a delta on a file of
    its parent (``backing.parent``). That chain is gone if the disk was consolidated or moved since. So a disk with the
    same place and size in the child's own directory also counts as inherited.
    """
    of_parent = _devices.disks(parent)
    files = {file for disk in of_parent for file in _files(disk)}
    places = {(_place(parent, disk), disk.capacityInKB) for disk in of_parent}
    own = _directory(child.get("config.files.vmPathName") or "")
    result = []
    for disk in _devices.disks(child):
        chain = _files(disk)
        stays = (_place(child, disk), disk.capacityInKB) in places and chain and _directory(chain[0]) == own
        # If the parent's own file is attached, it would be deleted with the child.
        linked = bool(files.intersection(chain[1:])) and chain[0] not in files
        if not (linked or stays):
            label = getattr(disk.deviceInfo, "label", None) or f"disk {disk.key}"
            result.append(f"{label}: {chain[0]}" if chain else str(label))
    return result


def _is_incomplete(parent: t.Mapping[str, t.Any], values: t.Mapping[str, t.Any]) -> bool:
    """Return whether some of a VM's devices are not visible.

    Even a VM without disks has controllers. Devices name their controller, and controllers name their devices (vSphere
    API reference, VirtualDevice.controllerKey and VirtualController.device). A fork has its parent's disks.
    """
    devices = values.get(_devices.PATH) or []
    named = {device.controllerKey for device in devices} - {None}
    named.update(key for device in devices for key in getattr(device, "device", None) or [])
    return (
        not any(isinstance(device, vim.vm.device.VirtualController) for device in devices)
        or not named.issubset(device.key for device in devices)
        or (bool(_devices.disks(parent)) and not _devices.disks(values))
        or values.get("config.template") is None
    )


def children_of(everyone: t.Iterable[t.Mapping[str, t.Any]]) -> t.Callable[[t.Mapping[str, t.Any]], list[str]]:
    """Return a function that returns the names of a VM's children, by our records and the fork groups.

    :param everyone: all VMs, with :data:`identity.SCAN_PATHS`.
    """
    by_parent: dict[str, list[str]] = {}
    by_group: dict[str, list[str]] = {}
    for values in everyone:
        name = _inventory.unescape(values.get("name") or "a VM without a visible name")
        record, group = identity.own_record(values), identity.child_group(values)
        if record is not None:
            by_parent.setdefault(record.parent_instance_uuid.lower(), []).append(name)
        elif group is not None:
            by_group.setdefault(group, []).append(name)

    def children(values: t.Mapping[str, t.Any]) -> list[str]:
        group = identity.parent_group(values)
        if group == identity.child_group(values):
            group = None  # the VM has no fork group of its own
        return [
            *by_parent.get((values.get("config.instanceUuid") or "").lower(), ()),
            *(by_group.get(group, ()) if group is not None else ()),
        ]

    return children


def _snapshots(trees: t.Any) -> t.Iterator[t.Any]:
    for tree in trees or []:
        yield tree
        yield from _snapshots(tree.childSnapshotList)


def _files(disk: t.Any) -> list[str]:
    """Return the files of a disk, the active one first."""
    result = []
    backing = disk.backing
    while backing is not None:
        if getattr(backing, "fileName", None):
            result.append(backing.fileName)
        backing = getattr(backing, "parent", None)
    return result


def _place(values: t.Mapping[str, t.Any], disk: t.Any) -> tuple[t.Any, ...]:
    """Return where a disk is attached: the type and bus number of its controller, and its unit number."""
    devices = values.get(_devices.PATH) or []
    controller = next((device for device in devices if device.key == disk.controllerKey), None)
    return type(controller), getattr(controller, "busNumber", None), disk.unitNumber


def _directory(path: str) -> str:
    """Return the directory in a path such as ``[datastore] directory/file.vmdk``, without the datastore."""
    return path.rpartition("] ")[2].rpartition("/")[0]
