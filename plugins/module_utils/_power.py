# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power VMs on and off through vCenter.

Private to the collection.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim


def is_on(values: t.Mapping[str, t.Any]) -> bool:
    """Return whether a VM is powered on, from its property ``runtime.powerState``."""
    return str(values.get("runtime.powerState")) == "poweredOn"


Judge = t.Callable[[], bool]
"""Called before each further attempt on a busy VM; returns whether the VM must still be switched. May raise."""


def anyway() -> bool:
    """Allow every attempt."""
    return True


def off(session: Session, deadline: Deadline, vm: t.Any, name: str, judge: Judge | None = anyway) -> bool:
    """Power a VM off hard, wait for it, and return whether that was still necessary.

    :param judge: ``None``: a busy VM is an error.
    """
    return _switch(session, deadline, f"Could not power off VM {name}", vm, vm.PowerOffVM_Task, "poweredOff", judge)


def on(session: Session, deadline: Deadline, vm: t.Any, name: str, judge: Judge | None = anyway) -> None:
    """Power a VM on, and wait for it.

    :param judge: ``None``: a busy VM is an error.
    """
    _switch(session, deadline, f"Could not power on VM {name}", vm, vm.PowerOnVM_Task, "poweredOn", judge)


def _switch(
    session: Session,
    deadline: Deadline,
    what: str,
    vm: t.Any,
    submit: t.Callable[[], t.Any],
    state: str,
    judge: Judge | None,
) -> bool:
    """Switch a VM, wait for it, and return whether that was still necessary."""
    is_due = True

    def is_still_to_be_done() -> bool:
        nonlocal is_due
        if judge is not None and not judge():
            is_due = False
        else:
            now = _properties.read(session, [vm], ["runtime.powerState"]).get(vm, {})
            is_due = str(now.get("runtime.powerState")) != state
        return is_due

    again = is_still_to_be_done if judge is not None else None
    try:
        _tasks.run(session, deadline, what, submit, again=again)
    except _errors.ConnectionLost as lost:
        try:
            _tasks.run(session, deadline, what, submit, again=again)
        except _errors.OperationFailed as refusal:
            if refusal.fault not in ("InvalidPowerState", "TaskInProgress"):
                raise
            # The first request, whose answer was lost, is being carried out, or was carried out.
            if not _has_reached(session, deadline, vm, state):
                raise _errors.NotEnded(refusal.sentence) from refusal
        except (_errors.NotEnded, _errors.ConnectionLost):
            raise
        except (_errors.TimedOut, _errors.ConnectionFailed) as late:
            raise lost from late  # nothing was sent this time, but the first request may have been carried out
        return True
    return is_due


def _has_reached(session: Session, deadline: Deadline, vm: t.Any, state: str) -> bool:
    """Return whether a power state is reached, as :func:`reaches` does; false after an error."""
    try:
        return reaches(session, deadline, vm, state)
    except _errors.Error:
        return False


def shut_down(session: Session, deadline: Deadline, vm: t.Any, name: str) -> None:
    """Let the guest shut itself down, and wait until the VM is off.

    :raises _errors.OperationFailed: VMware Tools is not available.
    :raises _errors.TimedOut: the guest did not shut down; it may still do so.
    """
    what = f"Could not shut down the guest of VM {name}"
    remedy = "Shut it down from inside the guest, or use shutdown=hard."
    try:
        session.call(vm.ShutdownGuest)
    except _errors.ConnectionLost as lost:
        try:
            with contextlib.suppress(_errors.Fault):  # a guest that is shutting down answers with a fault
                session.call(vm.ShutdownGuest)
        except _errors.TimedOut as late:
            raise lost from late  # nothing was sent this time, but the guest may have received the first request
    except _errors.Fault as fault:
        raise _errors.OperationFailed(
            _errors.sentence(what, fault.text, remedy), fault.fault, getattr(fault.cause, "task", None)
        ) from fault
    if not reaches(session, deadline, vm, "poweredOff"):
        why = f"it was not off within {deadline.duration}"
        raise _errors.TimedOut(_errors.sentence(what, why, remedy))


def reaches(session: Session, deadline: Deadline, vm: t.Any, state: str) -> bool:
    """Wait for a power state, and return whether it was reached."""

    def reached(_vm: t.Any, values: _properties.Values | None) -> bool | None:
        return True if str((values or {}).get("runtime.powerState")) == state else None

    with _properties.Watch(session, {vim.VirtualMachine: ["runtime.powerState"]}) as watch:
        watch.add([vm])
        return bool(_properties.wait_for(watch, deadline.remaining, reached))
