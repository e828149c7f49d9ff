# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for vCenter tasks by watching their properties.

Private to the collection. pyVmomi's own waiter cannot be used: it fails on
tasks of methods it does not know (their ``TaskInfo.name`` has no ``info``),
prints, and has no time-out.
"""

from __future__ import annotations

import contextlib
import functools
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _parallel, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATHS = ("info.state", "info.error", "info.result")
"""The properties of a task to watch for its end."""


BUSY = ("TaskInProgress", "ConcurrentAccess")
"""Faults with which a server refuses to change a VM while another task is running on it, such as DRS or a backup. It
has done nothing, so the request is repeated."""

_PAUSES = (0.5, 1.0, 2.0, 4.0)

FORGOTTEN = "vCenter no longer knows the task, and may have been restarted"
"""A clause for a task that was removed before its end was observed."""

_LOOK = "Check in the vSphere Client whether it was completed, then run again."


class Outcome(t.NamedTuple):
    """The end of a task."""

    succeeded: bool
    result: t.Any
    fault: t.Any


def outcome(values: _properties.Values) -> Outcome | None:
    """Return how the task with these properties ended; ``None``: it is queued or running."""
    state = str(values.get("info.state"))
    if state == "success":
        return Outcome(True, values.get("info.result"), None)
    if state == "error":
        return Outcome(False, None, values.get("info.error"))
    return None


def is_running(values: _properties.Values) -> bool:
    """Return whether the task with these properties is queued or running."""
    return str(values.get("info.state")) in ("queued", "running")


def failure(what: str, ended: Outcome) -> _errors.OperationFailed:
    """Return the exception for a task that failed."""
    if ended.fault is None:
        return _errors.OperationFailed(
            f"{what}: vCenter reports a fault that pyVmomi does not know. Check the task in the vSphere Client."
        )
    return _errors.failure(what, ended.fault)


def as_list(what: str, result: t.Any, kind: t.Any) -> list[t.Any]:
    """Return the result of a task that lists objects; an empty list if it has none.

    :param what: begins the error sentence, see :func:`run`.
    :param kind: pyVmomi type of the objects.
    :raises _errors.OperationFailed: the result is something else.
    """
    objects = [] if result is None else result
    if not isinstance(objects, list) or not all(isinstance(entry, kind) for entry in objects):
        wanted = kind.__name__.rpartition(".")[2]
        why = f"the result of vCenter's task is not a list of {wanted} objects"
        raise _errors.OperationFailed(_errors.sentence(what, why, "Check the task in the vSphere Client."))
    return objects


def is_busy(error: t.Any) -> bool:
    """Return whether a request was refused because another task is running on the VM."""
    return isinstance(error, _errors.OperationFailed) and error.fault in BUSY


def pause(attempt: int) -> float:
    """Return the seconds to wait before a request to a busy VM is repeated.

    :param attempt: the number of earlier refusals.
    """
    return _PAUSES[min(attempt, len(_PAUSES) - 1)]


def stand_by(session: Session, deadline: Deadline, errors: t.Iterable[_errors.OperationFailed], attempt: int) -> None:
    """Wait until the blocking tasks have ended, at most until the deadline; a short time if none is visible.

    :param attempt: see :func:`pause`.
    """
    moment = Deadline(min(pause(attempt), deadline.remaining))
    running = in_the_way(session, errors)
    if running:
        with contextlib.suppress(_errors.Error):  # the next attempt will report the error
            _await_end(session, deadline, running)
            return
    moment.rest()


def in_the_way(session: Session, errors: t.Iterable[_errors.OperationFailed]) -> set[t.Any]:
    """Return the running tasks that the errors name. Those of other users may not be visible."""
    tasks = {error.task for error in errors} - {None}
    try:
        now = _properties.read(session, tasks, ["info.state"])
    except _errors.Error:
        return set()
    return {task for task, values in now.items() if is_running(values)}


def run(
    session: Session,
    deadline: Deadline,
    what: str,
    submit: t.Callable[..., t.Any],
    *args: t.Any,
    again: t.Callable[[], bool] | None = lambda: True,
) -> t.Any:
    """Submit a task, wait for its end, and return its result. Retry on a busy VM until the deadline.

    The connection may also break while waiting for the task: :class:`_errors.ConnectionLost`, as for a request
    without an answer.

    :param what: begins the error sentence: "Could not power on VM web-01".
    :param again: called before each further attempt, because the VM may have changed: returns whether the task is still
        necessary. May raise. If it returns false, the result is ``None``. If it is ``None``, there is no further
        attempt.
    :raises _errors.OperationFailed: the request was refused, or the task failed.
    :raises _errors.TimedOut: the task is still running.
    """
    attempt = 0
    while True:
        try:
            return _run_once(session, deadline, what, submit, *args)
        except _errors.OperationFailed as error:
            if again is None or not is_busy(error):
                raise
            stand_by(session, deadline, [error], attempt)
            if deadline.passed:
                raise
        if not again():
            return None
        attempt += 1


def run_idempotent(
    session: Session, deadline: Deadline, what: str, submit: t.Callable[..., t.Any], *args: t.Any
) -> t.Any:
    """Run a task that may be carried out twice: resubmit it once if its answer or the task is lost. See :func:`run`."""
    try:
        return run(session, deadline, what, submit, *args)
    except _errors.Unanswered:
        raise
    except _errors.ConnectionLost:
        return run(session, deadline, what, submit, *args)


def _run_once(session: Session, deadline: Deadline, what: str, submit: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
    try:
        task = session.call(submit, *args)
    except _errors.Fault as fault:
        raise _errors.failure(what, fault) from fault
    try:
        return wait(session, deadline, what, task)
    except (_errors.NotEnded, _errors.ConnectionLost):
        raise
    except _errors.TimedOut as error:  # it says that nothing was sent, but the task was
        raise _not_ended(what, deadline) from error


Job = tuple[str, t.Callable[[], t.Any]]
"""The purpose of a task (begins its error sentence), and the call that starts it."""


Again = t.Callable[[t.Collection[t.Any]], t.Mapping[t.Any, Job]]
"""Given the keys of jobs on busy VMs, returns the jobs that are still necessary: the VMs may have changed."""


CONCURRENCY = 16
"""How many requests to send at a time, unless the task sets another number."""


def run_all(
    session: Session,
    deadline: Deadline,
    jobs: t.Mapping[t.Any, Job],
    again: Again | None = None,
    concurrency: int = CONCURRENCY,
) -> dict[t.Any, _errors.Error | None]:
    """Run many tasks in parallel, as :func:`collect` does; return the error of each, or ``None`` if it succeeded."""
    ended = collect(session, deadline, jobs, again, concurrency)
    return {key: result if isinstance(result, _errors.Error) else None for key, result in ended.items()}


def collect(
    session: Session,
    deadline: Deadline,
    jobs: t.Mapping[t.Any, Job],
    again: Again | None = None,
    concurrency: int = CONCURRENCY,
) -> dict[t.Any, t.Any]:
    """Run many tasks in parallel; return the result of each, or its error (:class:`_errors.Error`).

    Tasks on busy VMs are retried until the deadline.

    :param again: ``None``: retry the same jobs. The result of a job that it leaves out is ``None``.
    :param concurrency: the maximum number of requests at a time. The number of tasks is not limited.
    """
    results = _collect_once(session, deadline, jobs, concurrency)
    attempt = 0
    while busy := {key: error for key, error in results.items() if is_busy(error)}:
        stand_by(session, deadline, busy.values(), attempt)
        if deadline.passed:
            break
        left = {key: jobs[key] for key in busy} if again is None else again(busy)
        results.update({**dict.fromkeys(busy), **_collect_once(session, deadline, left, concurrency)})
        attempt += 1
    return results


def _start(
    session: Session, jobs: t.Mapping[t.Any, Job], concurrency: int
) -> tuple[dict[t.Any, t.Any], dict[t.Any, t.Any]]:
    """Send the requests of many tasks in parallel.

    :returns: the key of each task that was started, and the errors of all other jobs.
    """
    started: dict[t.Any, t.Any] = {}
    errors: dict[t.Any, t.Any] = {}
    calls: _parallel.ParallelCalls[t.Any] = _parallel.ParallelCalls(session, concurrency)
    waiting = list(reversed(jobs))
    try:
        while waiting or calls.pending:
            while waiting and calls.has_room:
                key = waiting.pop()
                calls.start(key, functools.partial(session.call, jobs[key][1]))
            key, answer = calls.take()
            try:
                started[answer.get()] = key
            except _errors.ConnectionLost as trouble:  # it may have been carried out
                errors[key] = _errors.NotEnded(_errors.failure(jobs[key][0], trouble).sentence)
            except _errors.Error as trouble:
                errors[key] = _errors.failure(jobs[key][0], trouble)
    except _errors.Interrupted:
        with session.clean_up():  # so that the caller sees the effect of every request
            while calls.pending:
                calls.take()
        raise
    return started, errors


def _collect_once(
    session: Session, deadline: Deadline, jobs: t.Mapping[t.Any, Job], concurrency: int
) -> dict[t.Any, t.Any]:
    known: dict[t.Any, _properties.Values] = {}
    running, results = _start(session, jobs, concurrency)
    lost: Exception | None = None
    try:
        with _properties.Watch(session, {vim.Task: PATHS}) as watch:
            watch.add(running)
            while running and not deadline.passed:
                for task, values in watch.updates(deadline.remaining):
                    if values is None and task in running:
                        key = running.pop(task)
                        results[key] = _errors.NotEnded(_errors.sentence(jobs[key][0], FORGOTTEN, _LOOK))
                    known.setdefault(task, {}).update(values or {})
                    end = outcome(known[task])
                    if end is not None and task in running:
                        key = running.pop(task)
                        results[key] = end.result if end.succeeded else failure(jobs[key][0], end)
    except _errors.Error as trouble:
        lost = trouble
    for key in running.values():
        what = jobs[key][0]
        is_late = lost is None or (isinstance(lost, _errors.TimedOut) and not isinstance(lost, _errors.Unanswered))
        results[key] = _not_ended(what, deadline) if is_late else _errors.NotEnded(_errors.failure(what, lost).sentence)
    return results


def await_recent(session: Session, deadline: Deadline, vms: t.Iterable[t.Any], but: t.Container[t.Any] = ()) -> bool:
    """Wait until the recent tasks on these VMs have ended, with any result: after a lost answer, one may be ours.

    :param but: tasks not to wait for.
    :returns: whether they have ended.
    """
    recent = _properties.read(session, vms, ["recentTask"]).values()
    return _await_end(
        session, deadline, {task for values in recent for task in values.get("recentTask") or [] if task not in but}
    )


def _await_end(session: Session, deadline: Deadline, running: set[t.Any]) -> bool:
    """Wait until tasks have ended, with any result, and return whether they have."""
    with _properties.Watch(session, {vim.Task: PATHS}) as watch:
        watch.add(running)
        while running and not deadline.passed:
            for task, values in watch.updates(deadline.remaining):
                if values is None or outcome(values) is not None:
                    running.discard(task)
    return not running


def wait(session: Session, deadline: Deadline, what: str, task: t.Any) -> t.Any:
    """Wait for the end of one task; see :func:`run`.

    :raises _errors.ConnectionLost: vCenter no longer knows the task: its result is not known.
    """
    known: _properties.Values = {}

    def ended(_task: t.Any, values: _properties.Values | None) -> Outcome | None:
        if values is None:
            raise _errors.ConnectionLost(_errors.sentence(what, FORGOTTEN, _LOOK))
        known.update(values)
        return outcome(known)

    with _properties.Watch(session, {vim.Task: PATHS}) as watch:
        watch.add([task])
        end = _properties.wait_for(watch, deadline.remaining, ended)
    if end is None:
        raise _not_ended(what, deadline)
    if not end.succeeded:
        raise failure(what, end)
    return end.result


def _not_ended(what: str, deadline: Deadline) -> _errors.NotEnded:
    return _errors.NotEnded(
        _errors.sentence(
            what,
            f"vCenter's task did not end within {deadline.duration}",
            "The task continues. Check it in the vSphere Client.",
        )
    )
