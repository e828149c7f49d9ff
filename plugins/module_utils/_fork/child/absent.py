# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove children, or detach them.

Private to the collection. Right before a child is powered off, destroyed or
detached, it is read and judged again: whose child it is, what would be lost
with it, and whether another task is running on it. This costs the same few
calls for any number of children.
"""

from __future__ import annotations

import contextlib
import functools
import typing as t
from dataclasses import dataclass

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
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import existing, losses, transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import find_folders
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result, State
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

Errors = dict[t.Any, _errors.Error]
"""VM → why it was not removed or detached."""

SETTLE_SECONDS = 10
"""Time to wait after a signal for the tasks on children, so that the results can be reported."""

REMOVE_SECONDS = 120
"""Time to remove failed children if the task's timeout has passed."""


@dataclass(frozen=True)
class Order:
    """What to do with children.

    :param state: ``absent`` or ``detached``.
    :param force: remove children even if more would be lost than what they inherited from their parent.
    :param concurrency: how many requests to send at a time.
    """

    state: str
    deadline: Deadline
    check_mode: bool
    warn: t.Callable[[str], None]
    force: bool = False
    concurrency: int = _tasks.CONCURRENCY

    @property
    def is_removal(self) -> bool:
        return self.state == "absent"

    @property
    def refusal(self) -> str:
        return "is not removed" if self.is_removal else "is not detached"


def remove_named(
    parent: Parent, specs: t.Sequence[ChildSpec], order: Order, everyone: _inventory.Everyone | None = None
) -> list[Result]:
    """Remove or detach the named children. For a removal, a foreign VM with the name of a child is an error.

    :param everyone: see :func:`existing.find_existing`.
    """
    everyone = everyone or _inventory.Everyone(parent.session, existing.PATHS)
    by_name = existing.find_existing(parent, order.deadline, find_folders(parent, specs), {}, everyone)
    names = _inventory.plain_names(everyone.read()).values()
    results = [_named(parent, spec.name, by_name[spec.name], names, order) for spec in specs]
    _carry_out(parent, results, order)
    return results


def _named(
    parent: Parent, name: str, existing_vm: existing.ExistingVm, names: t.Collection[str], order: Order
) -> Result:
    """Return the planned result of a child that is selected by name.

    :param names: the names of all VMs.
    """
    error = existing_vm.error
    is_foreign = existing_vm.verdict is not None and not existing_vm.verdict.is_child
    if is_foreign and (order.is_removal or not _needs_no_detaching(existing_vm, parent)):
        error = existing.foreign_vm(name, existing_vm, order.refusal)
    if existing_vm.found is None and error is None and not order.is_removal:
        near = _inventory.similar([name], names)
        error = f"VM {name} was not found, so it is not detached.{near} Check the name and the folder."
    if error is not None:
        return Result(name, State.FAILED, facts=facts.no_vm(name, parent.engine), error=error)
    if existing_vm.found is None:
        return Result(name, State.ABSENT, facts=facts.no_vm(name, parent.engine))
    return _planned(parent, existing_vm.found, order, is_ours=not is_foreign)


def remove_all(parent: Parent, order: Order) -> list[Result]:
    """Remove or detach every recorded child of this parent."""
    results = []
    for found, verdict in sorted(parents.children(parent, order.deadline, order.warn), key=lambda child: child[0].name):
        if verdict.is_child:
            results.append(_planned(parent, found, order))
        elif verdict.kinship is identity.Kinship.DOUBLE:
            error = existing.foreign_vm(found.name, existing.ExistingVm(found, verdict), order.refusal)
            described = facts.child(found, parent.engine, parent.values)
            results.append(Result(found.name, State.FAILED, facts=described, error=error))
    _carry_out(parent, results, order, by_name=False)
    return results


def remove_found(parent: Parent, children: t.Sequence[_inventory.Found], order: Order) -> list[Result]:
    """Remove or detach these children of the parent, whatever their names are. Each is judged again, as ever."""
    results = [_planned(parent, found, order) for found in children]
    _carry_out(parent, results, order, by_name=False)
    return results


def remove_failed(parent: Parent, results: t.Sequence[Result], warn: t.Callable[[str], None]) -> None:
    """Remove the failed children that this task created (``on_failure: remove``)."""
    made = {
        result.vm: result.child
        for result in results
        if result.state is State.FAILED
        and result.vm is not None
        and result.child is not None
        and not result.child.existed
    }
    for result in results:
        if result.state is State.FAILED and result.changed and result.child is not None and result.vm is None:
            result.error = f"{result.error} If it appears later, it is not removed."
    names = {vm: child.name for vm, child in made.items()}
    with parent.session.clean_up(REMOVE_SECONDS) as deadline:
        order = Order("absent", deadline, check_mode=False, warn=warn)
        errors: Errors = {}
        powered_off = _destroy(_Batch(parent, order, names, made), errors)
    for result in results:
        if result.vm not in made:
            continue
        problem = errors.get(result.vm)
        result.error = f"{result.error} {problem.sentence if problem else 'The child was removed.'}"
        if problem is None:
            result.facts = facts.no_vm(result.name, parent.engine)
        elif result.vm in powered_off:
            result.facts["power_state"] = "poweredOff"


def _needs_no_detaching(existing_vm: existing.ExistingVm, parent: Parent) -> bool:
    """Return whether a VM with a child's name needs no detaching, because it has no record of its own."""
    found, verdict = t.cast(_inventory.Found, existing_vm.found), t.cast(identity.Verdict, existing_vm.verdict)
    return identity.own_record(found.values) is None and not identity.is_half_made(verdict, found.values, parent.values)


def _planned(parent: Parent, found: _inventory.Found, order: Order, is_ours: bool = True) -> Result:
    """Return the planned result of an existing child."""
    return Result(
        found.name,
        State.REMOVED if order.is_removal else State.DETACHED,
        vm=found.vm,
        before=str(found.values.get("runtime.powerState")),
        changed=is_ours,
        facts=facts.child(found, parent.engine, parent.values),
    )


def _carry_out(parent: Parent, results: t.Sequence[Result], order: Order, by_name: bool = True) -> None:
    to_remove = {result.vm: result for result in results if result.vm is not None and result.changed}
    batch = _Batch(parent, order, {vm: result.name for vm, result in to_remove.items()}, {}, by_name)
    powered_off: set[t.Any] = set()
    if order.check_mode:
        errors: Errors = {}
        ready = batch.check_again(errors)
        steps = _steps(order, {vm: to_remove[vm] for vm in ready})
        errors.update(_privileges.refusals(parent.session, steps))
    else:
        errors = {}
        try:
            if order.is_removal:
                powered_off = _destroy(batch, errors)
            else:
                _detach(batch, errors)
        except _errors.Interrupted:  # it remains in the session's budget, so it ends the task anyway
            powered_off = _check_after_signal(batch, to_remove, errors)
    for vm, result in to_remove.items():
        result.losses = batch.losses.get(vm)
        problem = errors.get(vm)
        if problem is not None:
            result.state, result.error = State.FAILED, problem.sentence
            result.changed = vm in powered_off or isinstance(problem, _errors.NotEnded)
            if vm in powered_off:
                result.facts["power_state"] = "poweredOff"
        elif vm in batch.detached:
            result.changed = False
        elif not order.check_mode and vm not in batch.changed:
            _describe_gone(parent, result, order)


def _check_after_signal(batch: _Batch, to_remove: t.Mapping[t.Any, Result], errors: Errors) -> set[t.Any]:
    """Find out which children were powered off, removed or detached before a signal arrived.

    :param errors: gets an error for each child that is not done.
    :returns: the VMs that were powered off and still exist.
    """
    session, is_removal = batch.parent.session, batch.order.is_removal
    now: dict[t.Any, _properties.Values] | None = None
    has_ended = False
    with contextlib.suppress(_errors.Error), session.clean_up(SETTLE_SECONDS) as deadline:
        begun = [vm for vm in batch.begun if vm not in errors]
        has_ended = not begun or _tasks.await_recent(session, deadline, begun)
        now = _properties.read(session, to_remove, ["runtime.powerState", identity.RECORD_PATH])
    powered_off = set()
    for vm, result in to_remove.items():
        if vm in errors:
            continue
        values = None if now is None else now.get(vm)
        is_done = values is None if is_removal else values is not None and identity.record_of(values) is None
        if vm in batch.begun and now is not None and is_done:
            batch.changed.add(vm)
            continue
        why = f"the module received {session.budget.signal} before it was"
        sentence = _errors.sentence(
            f"Child {result.name} {batch.order.refusal}", why, "Run the task again to complete it."
        )
        goes_on = vm in batch.begun and not (has_ended and now is not None)
        errors[vm] = _errors.NotEnded(sentence) if goes_on else _errors.OperationFailed(sentence)
        if vm in batch.begun and result.before == "poweredOn" and values and not _power.is_on(values):
            powered_off.add(vm)
    return powered_off


def _describe_gone(parent: Parent, result: Result, order: Order) -> None:
    """Describe a child that somebody else removed before this task changed it."""
    result.facts, result.changed = facts.no_vm(result.name, parent.engine), False
    result.state = State.ABSENT
    if not order.is_removal:
        result.state = State.FAILED
        result.error = (
            f"Child {result.name} was removed during the task, so it is not detached. Check vCenter's events to see "
            "who removed it."
        )


def _steps(order: Order, to_remove: t.Mapping[t.Any, Result]) -> dict[t.Any, list[_privileges.Step]]:
    """Return the calls that each child needs, to check the privileges."""
    steps: dict[t.Any, list[_privileges.Step]] = {}
    for vm, result in to_remove.items():
        if not order.is_removal:
            what = f"Could not detach child {result.name}"
            steps[vm] = [_privileges.Step(what, "ReconfigVM_Task extraConfig", vm=(vm,))]
            continue
        steps[vm] = [_privileges.Step(f"Could not remove child {result.name}", "Destroy_Task", vm=(vm,))]
        if result.before == "poweredOn":
            steps[vm].insert(
                0, _privileges.Step(f"Could not power off child {result.name}", "PowerOffVM_Task", vm=(vm,))
            )
    return steps


class _Batch:
    """The VMs that one call removes or detaches, and what was last read from them.

    :param names: VM → the child's name.
    :param made: VM → the child, for children that this task created: they may have no record yet.
    :param by_name: the VMs were selected by name, so a VM that was renamed in the meantime is not one of them.
    :ivar losses: VM → what would be lost with it.
    :ivar begun: the VMs for which a request was sent, or may have been.
    :ivar changed: the VMs that were changed.
    :ivar detached: the VMs that another task detached in the meantime.
    """

    def __init__(
        self,
        parent: Parent,
        order: Order,
        names: t.Mapping[t.Any, str],
        made: t.Mapping[t.Any, transitions.Child],
        by_name: bool = True,
    ) -> None:
        self.parent, self.order, self.names, self.made, self.by_name = parent, order, names, made, by_name
        self.losses: dict[t.Any, losses.Losses] = {}
        self.begun: set[t.Any] = set()
        self.changed: set[t.Any] = set()
        self.detached: set[t.Any] = set()
        self._warned: set[str] = set()

    def check_again(self, errors: Errors) -> dict[t.Any, _properties.Values]:
        """Read the VMs again and keep those that may be removed or detached; missing VMs need nothing more.

        This includes a new search for copies and grandchildren. Waits while another task is running on one of the VMs.
        """
        left = {vm: name for vm, name in self.names.items() if vm not in errors}
        if not left:
            return {}
        try:
            ready = self._judge(left, errors)
            if not self.order.is_removal:
                return ready
            busy = self._busy(ready)
            if busy and not self.order.check_mode:
                _await_idle(self.parent.session, self.order, busy)
                ready = self._judge(list(ready), errors)
                busy = self._busy(ready)
        except _errors.Error as trouble:
            for vm, name in left.items():
                errors.setdefault(vm, _errors.failure(f"Could not examine child {name}", trouble))
            return {}
        for vm, why in busy.items():
            if self.order.check_mode:
                self._warn(f"Child {self.names[vm]}: {why}. Its removal would wait until this has ended.")
                continue
            del ready[vm]
            errors[vm] = _errors.TimedOut(
                f"Child {self.names[vm]} was not removed: {why}, which did not end within "
                f"{self.order.deadline.duration}. Run again when it has ended."
                + (" If the snapshot was left behind, set force=true." if self.losses[vm].temporary else "")
            )
        return ready

    def _judge(self, vms: t.Iterable[t.Any], errors: Errors) -> dict[t.Any, _properties.Values]:
        parent, session = self.parent, self.parent.session
        vms = list(vms)
        everyone = _properties.scan(session, session.content.rootFolder, vim.VirtualMachine, identity.SCAN_PATHS)
        shared = identity.shared_uuids(everyone.values())
        children = losses.children_of(everyone.values())
        paths = [*identity.PATHS, *losses.PATHS, "runtime.powerState"]
        now = _properties.read(session, [parent.vm, *vms], paths)
        of_parent = {**parent.values, **now.pop(parent.vm, {})}
        result: dict[t.Any, _properties.Values] = {}
        for vm, values in now.items():
            verdict = identity.judge(of_parent, values, shared=shared)
            child = self.made.get(vm)
            if not self.order.is_removal and _is_detached(verdict, values, of_parent):
                self.detached.add(vm)
                continue
            if not (verdict.is_child or (child is not None and _is_made_by_us(verdict, child, values, shared))):
                errors[vm] = _errors.Refused(
                    f"VM {self.names[vm]} ({vm._GetMoId()}) {self.order.refusal}: {verdict.why}. Check the VM in "
                    "vCenter."
                )
                continue
            name = _inventory.unescape(values.get("name") or "")
            if self.by_name and name != self.names[vm]:
                errors[vm] = _errors.Refused(
                    f"Child {self.names[vm]} ({vm._GetMoId()}) {self.order.refusal}: its name is now "
                    f"{name or 'not visible'}. Check vCenter's events to see who renamed it."
                )
                continue
            result[vm] = values
        if self.order.is_removal:
            own = self._grandchildren(result, children)
            for vm in list(result):
                lost = self.losses[vm] = losses.of(of_parent, result[vm], own[vm])
                if self._is_refused(vm, lost, errors):
                    del result[vm]
        return result

    def _is_refused(self, vm: t.Any, lost: losses.Losses, errors: Errors) -> bool:
        name = self.names[vm]
        if lost.obstacles and not self.order.force:
            errors[vm] = _errors.Refused(
                f"Child {name} is not removed: {' and '.join(lost.obstacles)}. Set force=true to remove it anyway, or "
                "keep it with state=detached."
            )
            return True
        remarks = [*lost.obstacles, *lost.remarks]
        if remarks:
            verb = "would be" if self.order.check_mode else "is"
            self._warn(f"Child {name}: {' and '.join(remarks)}, which {verb} lost with it.")
        return False

    def show(self, verb: str, vms: t.Sized) -> None:
        """Report what is done to how many children."""
        self.parent.session.progress.show(
            f"{verb} {len(vms)} of {_printable.count(len(self.names), 'child', 'children')}"
        )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.order.warn(text)

    def _grandchildren(
        self,
        now: t.Mapping[t.Any, _properties.Values],
        children: t.Callable[[t.Mapping[str, t.Any]], list[str]],
    ) -> dict[t.Any, list[str]]:
        """Return the names of the VMs' own children; before vSphere 6.5, the server is asked about fork parents."""
        session, engine = self.parent.session, self.parent.engine
        result = {vm: children(values) for vm, values in now.items()}
        registry = engine.registry
        if registry is not None:
            jobs: dict[t.Any, _tasks.Job] = {
                vm: (
                    f"Could not list the children of child {self.names[vm]}",
                    functools.partial(registry.list_children, vm),
                )
                for vm, values in now.items()
                if engine.is_enabled(values) and identity.parent_group(values) is None
            }
            listed = _tasks.collect(session, self.order.deadline, jobs, None, self.order.concurrency) if jobs else {}
            for error in listed.values():
                if isinstance(error, _errors.Error):
                    raise error
            answers = {vm: _tasks.as_list(jobs[vm][0], answer, vim.VirtualMachine) for vm, answer in listed.items()}
            names = _inventory.names(session, {child for answer in answers.values() for child in answer})
            for vm, answer in answers.items():
                result[vm] = sorted({*result[vm], *(names.get(child, child._GetMoId()) for child in answer)})
        return result

    def _busy(self, ready: t.Mapping[t.Any, _properties.Values]) -> dict[t.Any, str]:
        """Return a clause about the running task or backup of each busy VM."""
        tasks = {task for values in ready.values() for task in values.get("recentTask") or []}
        known = _properties.read(self.parent.session, tasks, ["info.state", "info.descriptionId"])
        result = {}
        for vm, values in ready.items():
            running = [
                str(known[task].get("info.descriptionId") or task._GetMoId())
                for task in values.get("recentTask") or []
                if task in known and _tasks.is_running(known[task])
            ]
            temporary = () if self.order.force else self.losses[vm].temporary
            if running:
                result[vm] = f"the task {running[0]} is running on it"
            elif temporary:
                result[vm] = f"a backup seems to be running on it (snapshot {temporary[0]})"
        return result


def _is_detached(verdict: identity.Verdict, values: _properties.Values, of_parent: _properties.Values) -> bool:
    """Return whether a VM that was a child no longer has a record."""
    is_recorded = identity.record_of(values) is not None
    return not is_recorded and not identity.is_half_made(verdict, values, of_parent)


def _is_made_by_us(
    verdict: identity.Verdict, child: transitions.Child, values: _properties.Values, shared: t.Container[str]
) -> bool:
    """Return whether this task created a VM that has no record: it has a value that only this task knows."""
    return (
        verdict.kinship in (identity.Kinship.UNRECORDED, identity.Kinship.FOREIGN)
        and identity.record_of(values) is None
        and child.has_mark(values)
        and (values.get("config.uuid") or "").lower() not in shared
    )


def _await_idle(session: Session, order: Order, vms: t.Iterable[t.Any]) -> None:
    """Wait until no task runs on these VMs, and none has a backup's snapshot, or until the deadline."""
    vms = list(vms)
    known: dict[t.Any, _properties.Values] = {}

    def is_busy(vm: t.Any) -> bool:
        values = known.get(vm)
        if values is None:
            return True  # not reported yet
        if values and not order.force and losses.of({}, values).temporary:
            return True
        return any(task not in known or _tasks.is_running(known[task]) for task in values.get("recentTask") or [])

    paths = {vim.VirtualMachine: ["recentTask", "snapshot"], vim.Task: ["info.state"]}
    with _properties.Watch(session, paths) as watch:
        watch.add(vms)
        while not order.deadline.passed and any(map(is_busy, vms)):
            for changed, values in watch.updates(order.deadline.remaining):
                # A task that is gone is no longer running.
                known[changed] = {**known.get(changed, {}), **values} if values is not None else {}
            tasks = {task for vm in vms for task in known.get(vm, {}).get("recentTask") or []}
            watch.add(tasks - set(known))  # a task that vCenter has discarded would be reported as gone repeatedly


def _detach(batch: _Batch, errors: Errors) -> None:
    """Remove our record from the VMs, and the nonce that would identify a fork without a record as ours."""
    spec = _extra_config.spec({identity.RECORD_KEY: "", guestinfo.CHILD_NONCE: ""})
    jobs: dict[t.Any, _tasks.Job] = {
        vm: (f"Could not detach child {batch.names[vm]}", functools.partial(vm.ReconfigVM_Task, spec))
        for vm in batch.check_again(errors)
    }

    def still_ours(vms: t.Collection[t.Any]) -> dict[t.Any, _tasks.Job]:
        now = batch.check_again(errors)
        return {vm: jobs[vm] for vm in vms if vm in now}

    def is_done(now: dict[t.Any, _properties.Values], vm: t.Any) -> bool:
        return vm in now and identity.record_of(now[vm]) is None

    batch.show("detaching", jobs)
    _run(batch, jobs, errors, [identity.RECORD_PATH], is_done, still_ours)


def _destroy(batch: _Batch, errors: Errors) -> set[t.Any]:
    """Power off and destroy the VMs. Before each of these steps, every VM is judged again.

    :param errors: gets an error for each VM that is not removed.
    :returns: the VMs that were powered off.
    """
    off: dict[t.Any, _tasks.Job] = {
        vm: (f"Could not power off child {batch.names[vm]}", vm.PowerOffVM_Task)
        for vm, values in batch.check_again(errors).items()
        if _power.is_on(values)
    }

    def still_on(vms: t.Collection[t.Any]) -> dict[t.Any, _tasks.Job]:
        now = batch.check_again(errors)
        return {vm: off[vm] for vm in vms if vm in now and _power.is_on(now[vm])}

    batch.show("powering off", off)
    _run(batch, off, errors, ["runtime.powerState"], lambda now, vm: not _power.is_on(now.get(vm, {})), still_on)
    powered_off = {vm for vm in off if vm not in errors}
    gone: dict[t.Any, _tasks.Job] = {
        vm: (f"Could not remove child {batch.names[vm]}", vm.Destroy_Task) for vm in batch.check_again(errors)
    }

    def still_there(vms: t.Collection[t.Any]) -> dict[t.Any, _tasks.Job]:
        now = batch.check_again(errors)
        return {vm: gone[vm] for vm in vms if vm in now}

    batch.show("removing", gone)
    _run(batch, gone, errors, ["runtime.powerState"], lambda now, vm: vm not in now, still_there)
    return powered_off


def _run(
    batch: _Batch,
    jobs: t.Mapping[t.Any, _tasks.Job],
    errors: Errors,
    paths: t.Sequence[str],
    done: t.Callable[[dict[t.Any, _properties.Values], t.Any], bool],
    again: _tasks.Again,
) -> None:
    """Run tasks on VMs, and record the errors of the VMs that are not in the desired state afterwards.

    A busy VM is judged again before its task is retried.

    A lost answer does not show what was done, so the VMs are read again.
    """
    if not jobs:
        return
    session, deadline = batch.parent.session, batch.order.deadline
    batch.begun |= set(jobs)
    outcomes = _tasks.run_all(session, deadline, jobs, again, batch.order.concurrency)
    failed = {vm: error for vm, error in outcomes.items() if error is not None}
    batch.changed |= {vm for vm, error in outcomes.items() if getattr(error, "fault", "") != "ManagedObjectNotFound"}
    if not failed:
        return
    try:
        has_ended = _tasks.await_recent(session, deadline, failed)
        now = _properties.read(session, failed, paths)
        failed = {vm: error for vm, error in failed.items() if not done(now, vm)}
        if has_ended:  # a request without an effect by now has failed
            failed = {
                vm: _errors.OperationFailed(error.sentence) if isinstance(error, _errors.NotEnded) else error
                for vm, error in failed.items()
            }
    except _errors.Error:
        pass  # if the VMs cannot be read, the errors remain
    errors.update(failed)
