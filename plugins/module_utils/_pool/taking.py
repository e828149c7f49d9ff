# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the records of a pool's children, only where they are still what was judged.

Private to the collection. Whatever is done to a child begins here, because
PowerOff and Destroy know no ``changeVersion``. vCenter applies a reconfigure
with a ``changeVersion`` only if the VM still has it; otherwise the task ends
with ConcurrentAccess (vSphere API reference, VirtualMachineConfigSpec).
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _extra_config, _properties, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Found
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import record
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

CHANGE_VERSION = "config.changeVersion"

MOST_ATTEMPTS = 5
"""How often a reconfigure is repeated because something else than the record was changed, such as a power state."""

_RECORD = _extra_config.path(record.CHILD_KEY)

_GUARDED = (_RECORD, identity.RECORD_PATH, "config.uuid")
"""Properties that must not have changed since the child was judged: the records, and the VM they were written for."""


NewRecord = tuple[Found, record.ChildRecord]
"""A child as it was judged, and its new record."""


def take(session: Session, deadline: Deadline, records: t.Sequence[NewRecord]) -> dict[str, _errors.Error | None]:
    """Replace the records of children that were read with :data:`CHANGE_VERSION`.

    :returns: managed object ID → why the record was not replaced; ``None``: it was. Another task may have replaced it
        first, which is :class:`_errors.Refused`, and no failure of vCenter.
    """
    return _Taking(session, deadline, records).run()


class _Taking:
    """Children whose records are being replaced.

    :ivar versions: child → the ``changeVersion`` that belongs to what was judged.
    :ivar refused: children whose records must not be replaced.
    """

    def __init__(self, session: Session, deadline: Deadline, records: t.Sequence[NewRecord]) -> None:
        self.session, self.deadline = session, deadline
        self.by_vm = {child.vm: child for child, _its in records}
        self.texts = {child.vm: its.encode() for child, its in records}
        self.versions: dict[t.Any, str] = {}
        self.refused: dict[t.Any, _errors.Error] = {}
        self.attempts = 0
        for child in self.by_vm.values():
            self._note_version(child.vm, child.values)

    def run(self) -> dict[str, _errors.Error | None]:
        """Carry out :func:`take`."""
        ended = _tasks.run_all(self.session, self.deadline, self._jobs(self.by_vm), self._again)
        failed = {vm: error for vm, error in ended.items() if error is not None and vm not in self.refused}
        written = self._written(failed)
        errors = {**{vm: error for vm, error in failed.items() if vm not in written}, **self.refused}
        return {child.moid: errors.get(vm) for vm, child in self.by_vm.items()}

    def _written(self, vms: t.Collection[t.Any]) -> set[t.Any]:
        """Return the VMs that have their new record: a lost answer does not show whether it was written."""
        if not vms:
            return set()
        try:
            _tasks.await_recent(self.session, self.deadline, vms)
            now = _properties.read(self.session, vms, _GUARDED)
        except _errors.Error:
            return set()  # the errors remain
        return {vm for vm, values in now.items() if values.get(_RECORD) == self.texts[vm]}

    def _jobs(self, vms: t.Iterable[t.Any]) -> dict[t.Any, _tasks.Job]:
        return {vm: self._job(vm) for vm in vms if vm not in self.refused}

    def _job(self, vm: t.Any) -> _tasks.Job:
        spec = _extra_config.spec({record.CHILD_KEY: self.texts[vm]}, changeVersion=self.versions[vm])
        return f"Could not write the record of child {self.by_vm[vm].name}", functools.partial(vm.ReconfigVM_Task, spec)

    def _again(self, vms: t.Collection[t.Any]) -> dict[t.Any, _tasks.Job]:
        """Judge children again that were changed in the meantime, or on which a task was running."""
        self.attempts += 1
        now = _properties.read(self.session, vms, [*_GUARDED, CHANGE_VERSION])
        for vm in vms:
            before, values = self.by_vm[vm].values, now.get(vm, {})
            if any(values.get(path) != before.get(path) for path in _GUARDED):
                self._refuse(vm, "another task has changed its record in the meantime")
            elif self.attempts > MOST_ATTEMPTS:
                self._refuse(vm, f"it was changed {MOST_ATTEMPTS} times in the meantime")
            else:
                self._note_version(vm, values)
        return self._jobs(vms)

    def _note_version(self, vm: t.Any, values: t.Mapping[str, t.Any]) -> None:
        if values.get(CHANGE_VERSION):
            self.versions[vm] = values[CHANGE_VERSION]
        else:
            self._refuse(vm, "vCenter does not show its changeVersion")

    def _refuse(self, vm: t.Any, why: str) -> None:
        name = self.by_vm[vm].name
        self.refused[vm] = _errors.Refused(f"Child {name} is left unchanged: {why}. Run again.")
