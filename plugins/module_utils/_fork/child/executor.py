# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out the requests of ``transitions.py`` for many children in parallel.

Private to the collection. Requests start tasks and return immediately; they
are sent in parallel. One filter reports the end of every task and all property
changes of every child. No call is repeated before its effect was checked.

One thread owns the state of all children: it takes the answers to what was
sent, and asks for updates when every request is answered.
"""

from __future__ import annotations

import contextlib
import functools
import time
import typing as t
from collections import Counter, deque
from dataclasses import replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _inventory,
    _parallel,
    _power,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import existing, networks, transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import Child, Request, Step
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import CreateRequest
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

ADDRESS_SECONDS = 3
"""How long a child whose script has ended may take to report its address, unless the task sets another time. VMware
Tools reports at once when the runner requests it. A child without an address is not waited for any longer."""

MOST_LOOKS = 6
"""How often to check what got a child's name in the meantime until another run has created and recorded it: about
ten seconds."""

CLEAR_SECONDS = 60
"""Extra time, after the task's timeout, to record children that are being created, and to remove secrets."""

LOOK_SECONDS = 10
"""Extra time to check whether a request without an answer was carried out, for example after a signal."""


_MAY_BE_DONE = "It may have been done anyway. Check in vCenter."
_MAY_BE_THERE = "It may exist anyway. Check in vCenter."


class Executor:
    """Brings children to their goal.

    :param concurrency: the maximum number of children between the request for their creation and their running, and of
        requests at a time.
    :param before: the existing VMs: none of them is a new child.
    :param address_timeout: in seconds; see :data:`ADDRESS_SECONDS`.
    """

    def __init__(
        self,
        parent: Parent,
        placement: Placement,
        deadline: Deadline,
        concurrency: int,
        before: t.Container[t.Any] = (),
        address_timeout: float = ADDRESS_SECONDS,
    ) -> None:
        self._parent = parent
        self._session = parent.session
        self._placement = placement
        self._deadline = deadline
        self._seconds = deadline.seconds
        self._concurrency = concurrency
        self._before = before
        self._address_timeout = address_timeout
        self._children: dict[str, Child] = {}
        self._waiting: deque[tuple[str, Request]] = deque()
        self._calls: _parallel.ParallelCalls[tuple[str, Request]] = _parallel.ParallelCalls(self._session, concurrency)
        self._tasks: dict[t.Any, str] = {}
        self._vms: dict[t.Any, str] = {}
        self._known: dict[t.Any, dict[str, t.Any]] = {}
        self._started: dict[str, float] = {}
        self._lost: set[str] = set()
        self._present: tuple[str, Request] | None = None
        """The request whose answer or result is being processed."""
        self._is_overdue = False
        self._overtime = contextlib.ExitStack()
        self._settling: dict[str, Deadline] = {}
        self._attempts: Counter[str] = Counter()
        self._paused: dict[str, Deadline] = {}
        self._in_the_way: dict[t.Any, set[str]] = {}
        self._busy: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.timelines: dict[str, dict[str, float | None]] = {}
        """Name → milestone → seconds until the child reached it, ``None`` if it had reached it before."""

    def run(self, begun: t.Iterable[transitions.Transition]) -> list[Child]:
        """Bring every child to its end, and return the children in the same order.

        A signal fails the children that are not done. It remains in the session's budget, and thus ends the task.
        """
        with self._overtime, _properties.Watch(self._session, self._watched()) as watch:
            for child, request in begun:
                self._started[child.name] = time.monotonic()
                self.timelines[child.name] = dict.fromkeys(transitions.milestones(child))
                if child.vm is not None:
                    self._vms[child.vm] = child.name
                self._take((child, request))
            try:
                self._work(watch)
            except _errors.Error as error:
                if not isinstance(error, (_errors.ConnectionFailed, _errors.TimedOut)):  # then nothing can be sent
                    self._record_and_clear()
                self._break_off(_errors.explained("Could not watch the children", error).sentence)
            except _errors.Interrupted as interruption:
                self._close_up(watch, interruption)
                self._break_off(interruption.sentence)
            except BaseException as trouble:
                self._close_up(watch, trouble)
                raise
        return list(self._children.values())

    def _work(self, watch: _properties.Watch) -> None:
        """Send what can be sent, and process what comes back, until every child is finished."""
        while not self._all_finished:
            if self._deadline.passed and not self._calls.pending:
                self._give_up()
            self._submit_waiting()
            self._report()
            if self._calls.pending:
                self._take_answer()
            else:
                self._look(watch)

    # --- events -----------------------------------------------------------------------------------------------------

    def _take(self, transition: transitions.Transition) -> None:
        child, request = transition
        self._children[child.name] = child
        if child.step is Step.SETTLING:
            self._settling.setdefault(child.name, Deadline(self._address_timeout))
        else:
            self._settling.pop(child.name, None)
        seconds = round(time.monotonic() - self._started[child.name], 2)
        for milestone in transitions.milestones(child):
            self.timelines[child.name].setdefault(milestone, seconds)
        if child.is_finished:
            self.seconds.setdefault(child.name, seconds)
        if request is not None:
            self._waiting.append((child.name, request))

    def _apply(self, name: str, event: transitions.Event) -> None:
        self._take(transitions.advance(self._children[name], event))

    def _look(self, watch: _properties.Watch) -> None:
        """Wait for the next changes and process them."""
        if self._all_finished or self._next_free() is not None:
            return
        wanted = dict.fromkeys((*self._tasks, *self._in_the_way, *self._open_vms()))
        done = [obj for obj in self._known if obj not in wanted]
        watch.exchange(add=wanted, remove=done)
        for obj in done:
            del self._known[obj]
        pauses = [*self._settling.values(), *self._paused.values()]
        patience = min((pause.remaining for pause in pauses), default=self._deadline.remaining)
        if not wanted:  # the very first request was postponed
            Deadline(min(patience, self._deadline.remaining)).rest()
        for changed, values in watch.updates(min(patience, max(1.0, self._deadline.remaining))):
            known = self._known.setdefault(changed, {})
            known.update(values or {})
            if changed in self._tasks:
                if values is None:
                    self._look_for_effect(changed)
                else:
                    self._look_at_task(changed, known)
            elif changed in self._in_the_way:
                self._look_at_what_is_in_the_way(changed, None if values is None else known)
            elif changed in self._vms:
                self._apply(self._vms[changed], transitions.PropertyUpdate(None if values is None else known))
        for name in [name for name, patience in self._settling.items() if patience.passed]:
            self._apply(name, transitions.Settled())

    def _look_at_task(self, task: t.Any, known: _properties.Values) -> None:
        ended = _tasks.outcome(known)
        if ended is None:
            return
        name = self._tasks.pop(task)
        child = self._children[name]
        request = _request_of(child)
        self._present = (name, request)
        if not ended.succeeded:
            self._refused(name, request, _tasks.failure(f"{request.value} {name}", ended))
        elif child.step is Step.CREATING:
            self._carried_out(name)
            self._created(name, ended.result)
        else:
            self._carried_out(name)
            self._apply(name, transitions.Succeeded())
        self._present = None

    def _carried_out(self, name: str) -> None:
        """Clear the retries of a child's request that has ended."""
        self._attempts.pop(name, None)
        self._busy.pop(name, None)

    def _refused(self, name: str, request: Request, error: _errors.OperationFailed) -> None:
        """Handle a request that the server refused, or whose task failed."""
        if _tasks.is_busy(error) and not self._deadline.passed:
            self._put_off(name, request, error)
        elif request is Request.CREATE and error.fault == "DuplicateName":
            if name in self._lost:
                self._created(name, None, error.sentence)  # the request with the lost answer may have created it
            else:
                self._look_at_rival(name, error)
        elif request is Request.POWER_ON and error.fault == "InvalidPowerState" and self._has_been_started(name):
            self._carried_out(name)
            self._apply(name, transitions.Succeeded(by_us=False))
        else:
            self._apply(name, transitions.Failed(error.sentence, error.fault))

    def _put_off(self, name: str, request: Request, error: _errors.OperationFailed) -> None:
        """Retry a request when the task that blocks it has ended, or after a pause if that task is not visible."""
        self._busy[name] = error.sentence
        self._paused[name] = Deadline(_tasks.pause(self._attempts[name]))
        self._attempts[name] += 1
        for task in _tasks.in_the_way(self._session, [error]):
            self._in_the_way.setdefault(task, set()).add(name)
        self._waiting.append((name, request))

    def _look_at_what_is_in_the_way(self, task: t.Any, known: _properties.Values | None) -> None:
        """Hold back the requests that wait for a running task, and send them when it has ended."""
        ended = known is None or _tasks.outcome(known) is not None
        for name in self._in_the_way[task]:
            if ended:
                self._paused.pop(name, None)
            elif name in self._paused:
                self._paused[name] = Deadline(self._deadline.remaining)
        if ended:
            del self._in_the_way[task]

    def _look_at_rival(self, name: str, error: _errors.OperationFailed) -> None:
        """Handle another VM that got a child's name since the names were read. It may be our child from another run."""
        child = self._children[name]
        try:
            folders = {name: self._placement.folders[name]}
            everyone = _inventory.Everyone(self._session, existing.PATHS)
            rival = existing.find_existing(self._parent, self._deadline, folders, {}, everyone)[name]
        except _errors.Error:
            self._apply(name, transitions.Failed(error.sentence, error.fault))
            return
        if self._attempts[name] < MOST_LOOKS and _is_being_created(rival):
            self._put_off(name, Request.CREATE, error)
        elif rival.found is None or rival.verdict is None:
            self._apply(name, transitions.Failed(rival.error or error.sentence, error.fault))
        elif rival.found.vm not in self._vms and (
            rival.verdict.is_child or identity.is_half_made(rival.verdict, rival.found.values, self._parent.values)
        ):
            self._carried_out(name)
            self._vms[rival.found.vm] = name
            self._take(transitions.resume(child.spec, child.goal, rival.found.vm, rival.found.values))
        else:
            why = f"VM {name} ({rival.found.moid}) got this name while the task was running, and {rival.verdict.why}"
            remedy = (
                "If another task is creating it, run again when that task has ended. Otherwise choose another name."
            )
            sentence = _errors.sentence(f"{Request.CREATE.value} {name}", why, remedy)
            self._apply(name, transitions.Failed(sentence, error.fault))

    def _created(self, name: str, vm: t.Any, otherwise: str | None = None) -> None:
        """Handle the creation of a child.

        :param vm: its VM; ``None`` if it must be searched for.
        :param otherwise: the error if it is not found; ``None``: vCenter has reported success.
        """
        if vm is None:
            try:
                vm = self._find_created(name)
            except _errors.Error as trouble:
                sentence = _errors.sentence(f"Could not find child {name}", _clause(trouble), _MAY_BE_THERE)
                self._apply(name, transitions.Failed(sentence, goes_on=True))
                return
        if vm is None:
            why = "vCenter's task succeeded, but no child of this parent has that name"
            sentence = otherwise or _errors.sentence(f"Could not create child {name}", why, _MAY_BE_THERE)
            self._apply(name, transitions.Failed(sentence, goes_on=otherwise is None))
            return
        other = self._why_not_new(vm)
        if other is not None:
            self._apply(name, transitions.Failed(transitions.not_the_child(name, vm, other), goes_on=True))
            return
        self._vms[vm] = name
        self._apply(name, transitions.Created(vm))

    def _why_not_new(self, vm: t.Any) -> str | None:
        """Return why the result of a creation task cannot be a new VM, as a clause. Its properties show the rest."""
        if not isinstance(vm, vim.VirtualMachine):
            return "which is not a VM"
        if vm in self._vms:
            return f"which is that of child {self._vms[vm]}"
        return "which existed before" if vm in self._before or vm == self._parent.vm else None

    def _give_up(self) -> None:
        """End the children at the deadline, except for what must be finished; after the extra time, end all of them."""
        before = dict(self._children)
        under_way = set(self._tasks.values())
        not_begun = {name for name, request in self._waiting if request is Request.CREATE}
        kept = () if self._is_overdue else (Request.RECORD, Request.CLEAR, Request.NOTE)
        self._waiting = deque((name, request) for name, request in self._waiting if request in kept)
        for name, child in before.items():
            if not child.is_finished:
                sentence = self._busy.get(name) or transitions.unfinished(child, self._seconds, name not in not_begun)
                if self._session.budget.signal is not None:
                    sentence = transitions.interrupted(child, self._session.budget.signal)
                goes_on = name in under_way
                self._apply(
                    name,
                    transitions.Failed(sentence, goes_on=goes_on)
                    if self._is_overdue
                    else transitions.DeadlinePassed(sentence, goes_on, self._session.budget.signal is not None),
                )
        # The end of a request of an earlier step does not concern the child's current request.
        self._tasks = {
            task: name for task, name in self._tasks.items() if self._children[name].step is before[name].step
        }
        self._is_overdue = True
        self._paused.clear()
        self._in_the_way.clear()
        self._deadline = self._overtime.enter_context(self._session.clean_up(CLEAR_SECONDS))

    def _close_up(self, watch: _properties.Watch, trouble: BaseException) -> None:
        """Record the children and clear their secrets when something else ends the task, such as a signal."""
        try:
            watch.start_over()  # otherwise updates that were not processed would be lost
            self._settle_requests(trouble)
            if not self._is_overdue:
                self._give_up()
            self._work(watch)
        except Exception:  # noqa: BLE001, the first exception is the one that is reported
            self._record_and_clear()

    def _settle_requests(self, trouble: BaseException) -> None:
        """Find out which of the requests that were sent were carried out. A signal ends them without an answer."""
        deadline = self._deadline
        with self._session.clean_up(LOOK_SECONDS) as self._deadline:
            if self._present is not None:
                self._resume(*self._present, trouble)
            while self._calls.pending:
                self._take_answer()
        self._deadline = deadline

    def _resume(self, name: str, request: Request, trouble: BaseException) -> None:
        """Check the effect of a request whose processing was interrupted."""
        self._present = None
        if name in self._tasks.values() or (name, request) in self._waiting or self._children[name].is_finished:
            return
        if request in (Request.CREATE, Request.POWER_ON):
            self._look_after_lost_answer(name, request, _errors.ConnectionLost(str(trouble)))
        else:
            self._waiting.append((name, request))  # carrying it out twice does no harm

    def _record_and_clear(self) -> None:
        """Record the children and clear their secrets without waiting for the children. Errors are ignored."""
        jobs: dict[t.Any, _tasks.Job] = {}
        for name, child in self._children.items():
            keys = dict.fromkeys(child.secret_keys, "")
            if child.vm is not None and not child.recorded:
                keys.update(child.record)
            if child.vm is not None and not child.is_finished and keys:
                submit = functools.partial(child.vm.ReconfigVM_Task, _extra_config.spec(keys))
                jobs[name] = (f"{Request.CLEAR.value} {name}", submit)
        with contextlib.suppress(Exception), self._session.clean_up(CLEAR_SECONDS) as deadline:
            _tasks.run_all(self._session, deadline, jobs)

    def _break_off(self, sentence: str) -> None:
        """Fail the unfinished children because the connection was lost. What is known about them is kept."""
        under_way = {*self._tasks.values(), *(name for name, _request in self._calls.pending)}
        for name, child in self._children.items():
            if not child.is_finished:
                changed = child.changed or name in under_way
                self._children[name] = replace(child, step=Step.FAILED, error=child.error or sentence, changed=changed)

    def _report(self) -> None:
        children = self._children.values()
        ready = sum(child.step is Step.DONE for child in children)
        created = sum(child.vm is not None and not child.existed for child in children)
        failed = [child.name for child in children if child.step is Step.FAILED]
        text = f"{ready} of {len(children)} ready, {created} created"
        if failed:
            text += f", {len(failed)} failed ({', '.join(failed[:3])}{', …' if len(failed) > 3 else ''})"
        self._session.progress.show(text, ready + len(failed), len(children))

    # --- requests ---------------------------------------------------------------------------------------------------

    @property
    def _all_finished(self) -> bool:
        return all(child.is_finished for child in self._children.values())

    @property
    def _in_flight(self) -> int:
        busy = {Step.CREATING, Step.CREATED, Step.RECORDING, Step.STARTING}
        if self._parent.engine.starts_children:
            busy.remove(Step.CREATED)  # it runs, and only waits to be identified
        queued = sum(1 for _name, request in self._waiting if request is Request.CREATE)
        return sum(1 for child in self._children.values() if child.step in busy) - queued

    def _submit_waiting(self) -> None:
        while not self._deadline.passed and self._calls.has_room and (free := self._next_free()) is not None:
            self._waiting.remove(free)
            self._submit(*free)

    def _next_free(self) -> tuple[str, Request] | None:
        """Return the request to submit next: first of children in progress, then new children within the limit."""
        self._paused = {name: pause for name, pause in self._paused.items() if not pause.passed}
        ready = [(name, request) for name, request in self._waiting if name not in self._paused]
        for waiting in ready:
            if waiting[1] is not Request.CREATE:
                return waiting
        return ready[0] if ready and self._in_flight < self._concurrency else None

    def _submit(self, name: str, request: Request) -> None:
        child = self._children[name]
        if self._attempts[name] and transitions.is_moot(child, request):
            self._carried_out(name)
            self._apply(name, transitions.Succeeded(by_us=False))
            return
        self._calls.start((name, request), functools.partial(self._session_call, child, request))

    def _take_answer(self) -> None:
        """Wait for the answer to a request, and process it."""
        (name, request), answer = self._calls.take()
        self._present = (name, request)
        try:
            self._tasks[answer.get()] = name
        except _errors.ConnectionLost as error:
            self._look_after_lost_answer(name, request, error)
        except _errors.Error as trouble:
            if isinstance(trouble, _errors.TimedOut) and self._session.budget.signal and not self._is_overdue:
                self._waiting.append((name, request))  # the signal came before it was sent
            else:
                self._refused(name, request, _errors.failure(f"{request.value} {name}", trouble))
        self._present = None

    def _look_for_effect(self, task: t.Any) -> None:
        """Handle a task that vCenter no longer knows, for example after its restart. Its result remains unknown."""
        name = self._tasks.pop(task)
        request = _request_of(self._children[name])
        self._present = (name, request)
        self._look_after_lost_answer(
            name, request, _errors.ConnectionLost(f"{_tasks.FORGOTTEN}. Check the VM in vCenter.")
        )
        self._present = None

    def _look_after_lost_answer(self, name: str, request: Request, error: _errors.ConnectionLost) -> None:
        try:
            self._after_lost_answer(name, request, error)
        except _errors.Error as trouble:
            # The timeout explains why the effect could not be checked, not why the request has failed.
            why = error if isinstance(trouble, _errors.TimedOut) else trouble
            sentence = _errors.sentence(f"{request.value} {name}", _clause(why), _MAY_BE_DONE)
            self._apply(name, transitions.Failed(sentence, goes_on=True))

    def _session_call(self, child: Child, request: Request) -> t.Any:
        """Start the task of a request. Runs in a thread of its own."""
        if request is Request.CREATE:
            return self._parent.engine.create(self._parent.vm, creation(child, self._placement))
        if request is Request.POWER_ON:
            return self._session.call(child.vm.PowerOnVM_Task)
        if request is Request.RECORD:
            others = {"uuid": child.new_bios_uuid} if child.new_bios_uuid else {}
            spec = _extra_config.spec(child.record, **others)
        elif request is Request.FORGET:
            spec = _extra_config.spec(_prepared(child))
        elif request is Request.NOTE:
            spec = _extra_config.spec(child.note)
        elif request is Request.CONNECT:
            spec = networks.connection(child.disconnected)
        else:
            spec = _extra_config.spec({**child.without_secrets, **child.note})
        return self._session.call(child.vm.ReconfigVM_Task, spec)

    def _after_lost_answer(self, name: str, request: Request, error: _errors.ConnectionLost) -> None:
        """Check the effect of a request without an answer before retrying it, and retry it only once."""
        vm = self._parent.vm if request is Request.CREATE else self._children[name].vm
        ended = _tasks.await_recent(self._session, self._deadline, [vm], but=self._tasks)
        if request is Request.CREATE:
            vm = self._find_created(name)
            if vm is not None:
                self._created(name, vm)
                return
        elif request is Request.POWER_ON and self._is_on(name):
            self._apply(name, transitions.Succeeded())
            return
        if not ended or name in self._lost:
            clause = error.sentence.rstrip(".")
            sentence = _errors.sentence(f"{request.value} {name}", clause, "" if ended else _MAY_BE_DONE)
            self._apply(name, transitions.Failed(sentence, goes_on=not ended))
            return
        self._lost.add(name)
        self._waiting.append((name, request))

    def _is_on(self, name: str) -> bool:
        """Return whether a child is powered on, according to the server."""
        now = _properties.read(self._session, [self._children[name].vm], ["runtime.powerState"])
        return any(_power.is_on(values) for values in now.values())

    def _has_been_started(self, name: str) -> bool:
        """Return whether somebody else, such as another run, has powered a child on; false after an error."""
        with contextlib.suppress(_errors.Error):
            return self._is_on(name)
        return False

    def _find_created(self, name: str) -> t.Any:
        """Return the VM of a child that was created, according to the server; ``None`` if there is none."""
        child = self._children[name]
        if self._parent.engine.registry is None:
            return self._find_by_nonce(child)
        folder = self._placement.folders[name]
        found = self._session.ask(self._session.content.searchIndex.FindChild, folder, _inventory.escape(name))
        if found is None or self._why_not_new(found) is not None:
            return None
        return found if found in parents.listed_children(self._parent, self._deadline) else None

    def _find_by_nonce(self, child: Child) -> t.Any:
        """Return the VM that has the child's BIOS UUID and its nonce, which nobody else knows."""
        search = self._session.content.searchIndex
        found = self._session.ask(search.FindAllByUuid, None, child.bios_uuid, True, False)
        seen = _properties.read(self._session, found or [], [_extra_config.PATH])
        return next((vm for vm, values in seen.items() if identity.nonce_given(values) == child.nonce), None)

    # --- the filter -------------------------------------------------------------------------------------------------

    def _open_vms(self) -> list[t.Any]:
        return [vm for vm, name in self._vms.items() if not self._children[name].is_finished]

    def _watched(self) -> dict[t.Any, t.Sequence[str]]:
        return {vim.Task: _tasks.PATHS, vim.VirtualMachine: parents.child_paths(self._parent.engine)}


def _is_being_created(rival: existing.ExistingVm) -> bool:
    """Return whether another run may be creating the VM that has a child's name, or was cut short.

    vCenter reserves the name before it shows the VM, and the other run records the child after that.
    """
    if rival.found is None or rival.verdict is None:
        return rival.error is None
    return not rival.verdict.is_child and identity.nonce_given(rival.found.values) is not None


def creation(child: Child, placement: Placement) -> CreateRequest:
    """Return the request for a new child."""
    return CreateRequest(
        name=_inventory.escape(child.name),
        persistent=child.spec.persistent,
        params={**child.params, **child.spec.clock_params(time.time())},
        location=placement.location(child.spec),
        bios_uuid=child.bios_uuid,
        record=child.record if child.bios_uuid is not None else {},
        inherited=_extra_config.mapping(child.goal.parent),
        device_changes=placement.device_changes(child.spec),
    )


def _prepared(child: Child) -> dict[str, str]:
    """Return the extraConfig keys to set before the child's scripts run again."""
    now = child.spec.clock_params(time.time())
    return {**child.preparation, **{full: now[key] for key in now for full in child.goal.engine.param_keys(key)}}


def _clause(trouble: _errors.Error) -> str:
    return trouble.text if isinstance(trouble, _errors.Fault) else trouble.sentence.rstrip(".")


def _request_of(child: Child) -> Request:
    return {
        Step.CREATING: Request.CREATE,
        Step.RECORDING: Request.RECORD,
        Step.STARTING: Request.POWER_ON,
        Step.FORGETTING: Request.FORGET,
        Step.CONNECTING: Request.CONNECT,
        Step.NOTING: Request.NOTE,
    }.get(child.step, Request.CLEAR)
