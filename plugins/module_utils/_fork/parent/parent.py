# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find fork parents, and enable and disable them.

Private to the collection.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, replace
from types import MappingProxyType

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _inventory,
    _power,
    _printable,
    _privileges,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts, guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import family
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

_OWN_PATHS = ("config.template", "guest.guestOperationsReady", "guest.toolsRunningStatus", "resourcePool")
PATHS = (*dict.fromkeys((*facts.PATHS, *family.PATHS, *_OWN_PATHS)),)
"""Properties that are read from a parent, besides the engine's own."""

SETTLE_SECONDS = 10
"""Time to wait after a signal for the tasks on a VM, so that changes can be reported."""

FORGET_SECONDS = 30
"""Time to remove outdated records from a VM if the task's timeout has passed."""


@dataclass
class Parent:
    """A VM in the role of a parent, as last read."""

    session: Session
    engine: Engine
    found: _inventory.Found

    @property
    def vm(self) -> t.Any:
        return self.found.vm

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def values(self) -> _properties.Values:
        return self.found.values

    @property
    def is_on(self) -> bool:
        return _power.is_on(self.values)

    @property
    def is_enabled(self) -> bool:
        """Return whether the VM can be forked once it is quiesced; true if nothing needs enabling."""
        return self.engine.is_enabled(self.values) is not False

    @property
    def is_quiesced(self) -> bool:
        return self.engine.is_quiesced(self.values)

    def facts(self) -> dict[str, t.Any]:
        """Return the ``parent`` return value."""
        return facts.parent(self.found, self.engine)

    def refresh(self) -> None:
        """Read the parent's properties again with one call."""
        new = _inventory.locate(self.session, [self.vm], paths(self.engine), related=_inventory.host())
        if not new:
            raise _errors.NotFound(
                f"VM {self.name} was removed during the task, or is no longer visible to the user. Check vCenter's "
                "events to see who removed it."
            )
        self.values.clear()
        self.values.update(new[0].values)
        self.found = replace(new[0], values=self.values)


def paths(engine: Engine) -> tuple[str, ...]:
    """Return the properties to read from a parent."""
    return (*PATHS, *engine.paths)


def child_paths(engine: Engine) -> tuple[str, ...]:
    """Return the properties that show how far a child has come, and what it is."""
    return (*facts.PATHS, "guest.toolsRunningStatus", *engine.paths)


def listing_paths(engine: Engine) -> tuple[str, ...]:
    """Return the properties that are returned of many parents and children: of extraConfig, only single keys.

    The whole extraConfig is a third of what is read of a VM, in bytes and in CPU time.
    """
    reported = (guestinfo.QUIESCED_AT, guestinfo.SCRIPTS, guestinfo.IDENTITY, guestinfo.ACCEPTED)
    keys = (identity.RECORD_KEY, *reported)
    own = (path for path in facts.PATHS if path != _extra_config.PATH)
    return (*own, *engine.paths, *map(_extra_config.path, keys))


def find(
    session: Session,
    engine: Engine,
    selector: _inventory.Selector,
    related: _properties.Related = MappingProxyType({}),
    everyone: _inventory.Everyone | None = None,
) -> Parent:
    """Find the VM that is a parent, or shall become one.

    :param related: other objects to read with it, besides its host.
    :param everyone: see :func:`_inventory.find_vm`.

    :raises _errors.NotFound: there is no such VM.
    :raises _errors.Ambiguous: several VMs match.
    :raises _errors.Refused: its configuration cannot be read, so its children cannot be determined.
    """
    to_read = (*paths(engine), *related)
    found = _inventory.find_vm(session, selector, to_read, {**_inventory.host(), **related}, everyone)
    if "config.instanceUuid" not in found.values:
        raise _errors.Refused(
            f"The configuration of VM {found.name} ({found.moid}) cannot be read. Grant the user the privilege "
            "System.Read on it. If vCenter shows the VM as inaccessible or orphaned, repair that first."
        )
    if found.values.get("config.template"):
        raise _errors.BadInput(f"{found.name} is a template, and templates cannot be forked. Convert it to a VM first.")
    return Parent(session, engine, found)


def enable(parent: Parent, deadline: Deadline, esxi_hostname: str | None, check_mode: bool) -> bool:
    """Make the VM a fork parent, and return whether that changes anything.

    :raises _errors.BadInput: nothing needs enabling, and the VM is not on the requested host.
    """
    host = None
    if esxi_hostname is not None:
        host = _inventory.find_named(
            parent.session, vim.HostSystem, "ESXi host", esxi_hostname, parent.found.datacenter
        )
    registry = parent.engine.registry
    if registry is None:
        if host is not None and host != parent.values.get("runtime.host"):
            raise _errors.BadInput(
                f"VM {parent.name} is on {parent.found.host_name}, not on {esxi_hostname}, and Instant Clone creates "
                "children on the parent's own host. Migrate the VM there first, or remove esxi_hostname."
            )
        return False
    if parent.is_enabled:
        return False
    what = f"Could not make VM {parent.name} a fork parent"
    if check_mode:
        _privileges.check(parent.session, [_privileges.Step(what, registry.enable_method, vm=(parent.vm,))])
        return True
    is_due = True

    def is_still_due() -> bool:
        nonlocal is_due
        parent.refresh()
        is_due = not parent.is_enabled
        return is_due

    with _changing(parent, deadline) as done:
        _tasks.run(parent.session, deadline, what, lambda: registry.enable(parent.vm, host), again=is_still_due)
        if not is_due:
            return False
        done()
        parent.refresh()
        if not parent.is_enabled:
            raise _errors.OperationFailed(
                _errors.sentence(
                    what,
                    "vCenter's task succeeded, but the VM still reports that it is not a fork parent",
                    "Check the VM in vCenter.",
                )
            )
    return True


@contextlib.contextmanager
def _changing(parent: Parent, deadline: Deadline) -> t.Iterator[t.Callable[[], None]]:
    """Add the VM's current state to an error or signal, and whether it changed: a running task in vCenter counts.

    :returns: a function to call when a task has succeeded. That counts if the VM cannot be read again.
    """
    before = parent.is_on, parent.is_enabled
    changes: list[bool] = []
    try:
        yield lambda: changes.append(True)
    except (_errors.Error, _errors.Interrupted) as trouble:
        error = _errors.explained(f"Could not watch VM {parent.name}", trouble)
        is_lost = isinstance(trouble, (_errors.ConnectionFailed, _errors.Interrupted, _errors.Fault))
        goes_on = is_lost or isinstance(trouble, _errors.NotEnded)
        is_changed = bool(changes)
        with contextlib.suppress(_errors.Error), parent.session.clean_up(SETTLE_SECONDS) as rest:
            patience = rest if isinstance(trouble, _errors.Interrupted) else deadline
            has_ended = is_lost and _tasks.await_recent(parent.session, patience, [parent.vm])
            parent.refresh()
            goes_on = goes_on and not has_ended
            is_changed = (parent.is_on, parent.is_enabled) != before
        changed = goes_on or is_changed
        error.details.update(parent=parent.facts(), changed=changed)
        raise error from trouble


def forget_scripts(parent: Parent, warn: t.Callable[[str], None]) -> bool:
    """Remove an outdated record of the scripts from a VM that is not at the fork point.

    Normally the guest does this itself. But a runner that was killed cannot, and some servers keep guestinfo after a
    power-off.

    :returns: whether a record was removed.
    """
    if parent.is_quiesced or not guestinfo.scripts(_extra_config.mapping(parent.values)):
        return False
    what = f"Could not remove {guestinfo.SCRIPTS} from its extraConfig"
    spec = _extra_config.spec({guestinfo.SCRIPTS: ""})
    try:
        with parent.session.clean_up(FORGET_SECONDS) as deadline:
            _tasks.run_idempotent(parent.session, deadline, what, parent.vm.ReconfigVM_Task, spec)
    except _errors.Error as trouble:
        warn(_errors.failure(_DOUBT.format(parent.name), trouble).sentence)
        return False
    return True


_DOUBT = "VM {} may later be treated as if it were quiesced with the scripts of an earlier run"


def unreadable(everyone: t.Mapping[t.Any, _properties.Values]) -> str | None:
    """Return a warning about VMs that may be children but cannot be read; ``None``: there are none."""
    names = sorted(
        f"{_inventory.unescape(values.get('name', 'without a name'))} ({vm._GetMoId()})"
        for vm, values in everyone.items()
        if "config.uuid" not in values
    )
    if not names:
        return None
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return (
        f"The configuration of {_printable.count(len(names), 'VM')} cannot be read, so more children may exist: "
        f"{shown}. Grant the user the privilege System.Read there."
    )


_NAMES_SHOWN = 5


def children(
    parent: Parent, deadline: Deadline, warn: t.Callable[[str], None] | None = None
) -> list[tuple[_inventory.Found, identity.Verdict]]:
    """Return the parent's children by the server's list or by our records, each with its verdict.

    All datacenters are searched, because copies of children may be in any.
    The server may no longer list a persistent child that has run, does not
    know our records, and keeps no list for Instant Clone.

    :param warn: called if there are VMs that cannot be read.
    """
    listed = set(listed_children(parent, deadline))
    root = parent.session.content.rootFolder
    everyone = _properties.scan(parent.session, root, vim.VirtualMachine, identity.SCAN_PATHS)
    problem = unreadable(everyone)
    if warn is not None and problem is not None:
        warn(problem)
    shared = identity.shared_uuids(everyone.values())
    recorded = {vm for vm, values in everyone.items() if identity.judge(parent.values, values).is_child}
    found = _inventory.locate(
        parent.session, listed | recorded, listing_paths(parent.engine), related=_inventory.host()
    )
    return [(vm, identity.judge(parent.values, vm.values, vm.vm in listed, shared)) for vm in found]


def listed_children(parent: Parent, deadline: Deadline) -> list[t.Any]:
    """Return the children that the server lists."""
    registry = parent.engine.registry
    if registry is None:
        return []
    what = f"Could not list the children of VM {parent.name}"
    try:
        result = _tasks.run(parent.session, deadline, what, lambda: registry.list_children(parent.vm))
    except _errors.OperationFailed as error:
        if not parent.is_enabled and error.fault in _IS_NONE:
            return []
        raise
    return _tasks.as_list(what, result, vim.VirtualMachine)


def listed_parent(child: Parent, deadline: Deadline) -> t.Any | None:
    """Return the parent according to the server, whether it is visible to the user or not."""
    registry = child.engine.registry
    if registry is None:
        return None
    what = f"Could not find the parent of VM {child.name}"
    try:
        result = _tasks.run(child.session, deadline, what, lambda: registry.find_parent(child.vm))
    except _errors.OperationFailed as error:
        if error.fault in _IS_NONE:
            return None
        raise
    return next(iter(_tasks.as_list(what, result if result is None else [result], vim.VirtualMachine)), None)


_IS_NONE = ("InvalidState", "NotSupported")
"""Faults with which a server may answer if the VM is not a parent or not a child."""


def disable(
    parent: Parent,
    deadline: Deadline,
    force: bool,
    power_off: bool,
    check_mode: bool,
    warn: t.Callable[[str], None],
) -> bool:
    """Make the VM an ordinary one, and return whether that changes anything.

    :raises _errors.Refused: it would harm running children or lose a frozen state.
    """
    if _is_ordinary(parent):
        return _forget_left_scripts(parent, check_mode, warn)
    name = parent.name

    def judge() -> None:
        """Read the VM again: another task may have changed it, or the guest may have reached its fork point."""
        _refuse_while_children_run(parent, deadline, force)
        parent.refresh()
        if parent.name != name:
            raise _errors.Refused(
                f"VM {name} was renamed to {parent.name} during the task, so the task stopped. Run again with the "
                "current name of the intended VM."
            )
        if parent.is_quiesced and not power_off:
            raise _errors.Refused(
                f"VM {parent.name} is left unchanged: it is frozen at the fork point, and only a power-off ends that. "
                "Set power_off=true to power it off hard. The content of its memory is lost.",
                parent=parent.facts(),
            )

    judge()
    if _is_ordinary(parent):
        return False
    what = f"Could not turn VM {parent.name} back into an ordinary VM"
    if check_mode:
        _check_disable(parent, what)
        return True
    with _changing(parent, deadline) as done:
        is_off = _end_fork_point(parent, deadline, judge, done)
        is_disabled = _disable(parent, deadline, what, judge, done)
        while not is_disabled and _end_fork_point(parent, deadline, judge, done):  # it was frozen in the meantime
            is_off = True
            is_disabled = _disable(parent, deadline, what, judge, done)
    forget_scripts(parent, warn)
    return is_off or is_disabled


def _end_fork_point(
    parent: Parent, deadline: Deadline, judge: t.Callable[[], None], done: t.Callable[[], None]
) -> bool:
    """Power the VM off if it is at its fork point, and return whether it was powered off."""

    def is_still_there() -> bool:
        judge()
        return parent.is_quiesced

    if not parent.is_quiesced or not _power.off(parent.session, deadline, parent.vm, parent.name, is_still_there):
        return False
    done()
    parent.refresh()
    return True


def _disable(
    parent: Parent, deadline: Deadline, what: str, judge: t.Callable[[], None], done: t.Callable[[], None]
) -> bool:
    """Disable the fork parent, and return whether it was disabled. On some servers a power-off is enough."""
    registry = parent.engine.registry
    if registry is None or not parent.is_enabled:
        return False
    quiesced = parent.is_quiesced
    is_due = True

    def is_still_due() -> bool:
        nonlocal is_due
        judge()
        is_due = parent.is_enabled and parent.is_quiesced == quiesced
        return is_due

    _tasks.run(parent.session, deadline, what, lambda: registry.disable(parent.vm), again=is_still_due)
    if is_due:
        done()
        parent.refresh()
    return is_due


def _forget_left_scripts(parent: Parent, check_mode: bool, warn: t.Callable[[str], None]) -> bool:
    """Remove the record of an interrupted task from an ordinary VM, and return whether it is removed."""
    if not guestinfo.scripts(_extra_config.mapping(parent.values)):
        return False
    if not check_mode:
        return forget_scripts(parent, warn)
    try:
        step = _privileges.Step(_DOUBT.format(parent.name), "ReconfigVM_Task extraConfig", vm=(parent.vm,))
        _privileges.check(parent.session, [step])
    except _errors.OperationFailed as lacking:
        warn(lacking.sentence)
        return False
    return True


def _refuse_while_children_run(parent: Parent, deadline: Deadline, force: bool) -> None:
    living = [child for child, _verdict in children(parent, deadline) if _power.is_on(child.values)]
    if living and not force:
        names = ", ".join(sorted(child.name for child in living))
        running = _printable.count(len(living), "running child", "running children")
        raise _errors.Refused(
            f"VM {parent.name} is left unchanged: it has {running} ({names}). Remove them first, or set force=true.",
            parent=parent.facts(),
        )


def _is_ordinary(parent: Parent) -> bool:
    """Return whether the VM is neither a fork parent nor at its fork point."""
    return not (parent.engine.is_enabled(parent.values) or parent.is_quiesced)


def _check_disable(parent: Parent, what: str) -> None:
    registry = parent.engine.registry
    steps = [_privileges.Step(what, registry.disable_method, vm=(parent.vm,))] if registry is not None else []
    if parent.is_quiesced:
        steps.insert(0, _privileges.Step(f"Could not power off VM {parent.name}", "PowerOffVM_Task", vm=(parent.vm,)))
    _privileges.check(parent.session, steps)
