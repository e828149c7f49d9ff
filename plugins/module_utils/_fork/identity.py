# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide whether a VM is our child. This is the only place that decides it.

Private to the collection. ``present``, ``absent`` and the info module use it,
and before a VM is powered off, destroyed or disabled, it is used again.

Our record is in the child's ``config.extraConfig`` under a key outside of
``guestinfo.``: VMware Tools lets a guest write only below that prefix, so no
guest can forge it. It contains the child's own BIOS UUID, so that an ordinary
clone, which inherits the key but gets a new BIOS UUID, does not count.
Neither does a copy that was restored or registered with the child's BIOS UUID:
if two VMs have the same one, it is not known which of them is the child.
"""

from __future__ import annotations

import collections
import enum
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _extra_config, _power
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo

RECORD_KEY = "vmfork.child"
"""extraConfig key of our record."""

RECORD_PATH = _extra_config.path(RECORD_KEY)

PATHS = ("name", "config.uuid", "config.instanceUuid", "config.extraConfig", "config.forkConfigInfo")
"""Properties of a VM that :func:`judge` needs, with its entire extraConfig."""

SCAN_PATHS = ("name", "config.uuid", "config.instanceUuid", RECORD_PATH, "config.forkConfigInfo")
"""The same with only the record from extraConfig, to read many VMs."""


@dataclass(frozen=True)
class Record:
    """Our record on a child: its parent, the VM that it was written for, and the nonce of its report."""

    parent_instance_uuid: str
    bios_uuid: str
    nonce: str

    def __str__(self) -> str:
        return f"1 {self.parent_instance_uuid} {self.bios_uuid} {self.nonce}"

    @classmethod
    def parse(cls, text: t.Any) -> Record | None:
        """Return the record in an extraConfig value; ``None``: the value is not a record."""
        parts = str(text or "").split(" ")
        if len(parts) != 4 or parts[0] != "1" or not all(parts):
            return None
        return cls(*parts[1:])


class Kinship(enum.Enum):
    """The relation of a VM to a parent."""

    CHILD = "child"
    """Our child of this parent."""
    UNRECORDED = "unrecorded"
    """A fork of this parent according to the server, without our record: from another tool, or an interrupted task."""
    DOUBLE = "double"
    """Our child of this parent, or a copy of it: another VM has the same BIOS UUID."""
    FOREIGN = "foreign"
    """Anything else."""


class Verdict(t.NamedTuple):
    """The kinship, and the reason as a clause."""

    kinship: Kinship
    why: str

    @property
    def is_child(self) -> bool:
        """Return whether the VM is our child and may be treated as such."""
        return self.kinship is Kinship.CHILD


def judge(
    parent: t.Mapping[str, t.Any],
    vm: t.Mapping[str, t.Any],
    listed: bool = False,
    shared: t.Container[str] = (),
) -> Verdict:
    """Decide whether ``vm`` is our child of ``parent``, from their properties (:data:`PATHS`).

    :param listed: whether the server has listed the VM as a fork of this parent.
    :param shared: BIOS UUIDs that several VMs have (:func:`shared_uuids`).

    The fork group is a second proof if the server shows it (vSphere 6.5, and
    only for children that are not persistent): if it contradicts the record, it wins.
    """
    if _uuid(vm, "config.instanceUuid") == _uuid(parent, "config.instanceUuid"):
        return Verdict(Kinship.FOREIGN, "it is the parent itself")
    group, of_parent = child_group(vm), parent_group(parent)
    record = record_of(vm)
    if record is None:
        if listed or (group and group == of_parent):
            return Verdict(Kinship.UNRECORDED, "it was forked from this parent, but not recorded by this collection")
        return Verdict(Kinship.FOREIGN, "it has no record of being forked from this parent")
    if record.parent_instance_uuid.lower() != _uuid(parent, "config.instanceUuid"):
        return Verdict(Kinship.FOREIGN, "it is recorded as the child of another parent")
    if own_record(vm) is None:
        return Verdict(Kinship.FOREIGN, "it is a copy of a child: the record on it was written for another VM")
    if group and of_parent and group != of_parent:
        return Verdict(Kinship.FOREIGN, "it belongs to the fork group of another parent")
    if _uuid(vm, "config.uuid") in shared:
        return Verdict(
            Kinship.DOUBLE, "another VM has the same BIOS UUID, so it is not known which of the two VMs is the child"
        )
    return Verdict(Kinship.CHILD, "the record on it names this parent and this VM")


def shared_uuids(everyone: t.Iterable[t.Mapping[str, t.Any]]) -> set[str]:
    """Return the BIOS UUIDs that several of these VMs have, in lower case."""
    found = collections.Counter(_uuid(vm, "config.uuid") for vm in everyone)
    return {uuid for uuid, times in found.items() if uuid is not None and times > 1}


def is_half_made(verdict: Verdict, vm: t.Mapping[str, t.Any], parent: t.Mapping[str, t.Any]) -> bool:
    """Return whether a task of ours was interrupted between creating this VM and recording it as a child.

    The server reports it as this parent's fork, it has a nonce as only we
    pass on, and it has not run. Forks of other tools have no nonce, or the
    parent's own if that is a child of ours itself.
    """
    return (
        verdict.kinship is Kinship.UNRECORDED
        and nonce_given(vm) not in (None, nonce_given(parent))
        and bool(vm.get("config.uuid"))
        and not _power.is_on(vm)
    )


def has_mark(vm: t.Mapping[str, t.Any], nonce: str | None, bios_uuid: str | None) -> bool:
    """Return whether a VM has a nonce or BIOS UUID that only the creation request can have set.

    :param bios_uuid: the BIOS UUID from the request; ``None``: the server chose it.
    """
    record = record_of(vm)
    given = {nonce_given(vm), record.nonce if record is not None else None} - {None}
    return nonce in given or (bios_uuid is not None and bios_uuid.lower() == _uuid(vm, "config.uuid"))


def nonce_given(vm: t.Mapping[str, t.Any]) -> str | None:
    """Return the nonce that a child was created with, if vCenter shows it."""
    return guestinfo.child_nonce(_extra_config.mapping(vm))


def record_of(vm: t.Mapping[str, t.Any]) -> Record | None:
    """Return our record on a VM, if there is one."""
    return Record.parse(_extra_config.mapping(vm).get(RECORD_KEY))


def own_record(vm: t.Mapping[str, t.Any]) -> Record | None:
    """Return our record on a VM if it was written for this VM. A copy of a child has the child's record."""
    record = record_of(vm)
    return record if record is not None and record.bios_uuid.lower() == _uuid(vm, "config.uuid") else None


def is_recorded(vm: t.Mapping[str, t.Any], shared: t.Container[str]) -> bool:
    """Return whether a VM is a child of ours, of any parent.

    :param shared: see :func:`judge`.
    """
    return own_record(vm) is not None and _uuid(vm, "config.uuid") not in shared


def forked_from(vm: t.Mapping[str, t.Any]) -> str | None:
    """Return the instance UUID of the parent a VM was forked from; empty: not known, ``None``: it is no fork."""
    record = own_record(vm)
    if record is not None:
        return record.parent_instance_uuid.lower()
    return "" if is_fork(vm) else None


def parent_group(vm: t.Mapping[str, t.Any]) -> str | None:
    """Return the fork group of which a VM is the parent (vSphere 6.5; earlier releases do not show it)."""
    return getattr(vm.get("config.forkConfigInfo"), "parentForkGroupId", None) or None


def child_group(vm: t.Mapping[str, t.Any]) -> str | None:
    """Return the fork group a VM belongs to."""
    return getattr(vm.get("config.forkConfigInfo"), "childForkGroupId", None) or None


def is_fork(vm: t.Mapping[str, t.Any]) -> bool:
    """Return whether the server shows that the VM was forked, by any tool."""
    kind = getattr(vm.get("config.forkConfigInfo"), "childType", None)
    return child_group(vm) is not None or str(kind) in ("persistent", "nonpersistent")


def _uuid(vm: t.Mapping[str, t.Any], path: str) -> str | None:
    value = vm.get(path)
    return value.lower() if value else None
