# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for vCenter tasks by awaited updates.

Private to the collection. pyVmomi's own waiter cannot be used: it fails on
tasks of methods it does not know (``TaskInfo.name`` has no ``info`` then),
prints, and has no time-out.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATHS = ("info.state", "info.error", "info.result")
"""What must be watched on a task to know how it ended."""


BUSY = ("TaskInProgress", "ConcurrentAccess")
"""Faults by which a server refuses to change a VM on which something else is at work, such as DRS or a backup. It has
done nothing, so the request is made again."""

_PAUSES = (0.5, 1.0, 2.0, 4.0)

FORGOTTEN = "vCenter no longer knows the task, and may have been restarted"
"""A clause for a task that was removed before it was seen to end."""

_LOOK = "Check in the vSphere Client whether it was completed, then run again."


class Outcome(t.NamedTuple):
    """How a task ended."""

    succeeded: bool
    result: t.Any
    fault: t.Any


def outcome(values: _properties.Values) -> Outcome | None:
    """Return how the task with these properties ended; ``None`` while it is queued or runs."""
    state = str(values.get("info.state"))
    if state == "success":
        return Outcome(True, values.get("info.result"), None)
    if state == "error":
        return Outcome(False, None, values.get("info.error"))
    return None


def is_running(values: _properties.Values) -> bool:
    """Return whether the task with these properties is seen to be queued or running."""
    return str(values.get("info.state")) in ("queued", "running")


def failure(what: str, ended: Outcome) -> _errors.OperationFailed:
    """Return the exception for a task that failed."""
    if ended.fault is None:
        return _errors.OperationFailed(
            f"{what}: vCenter reports a fault that pyVmomi does not know. Check the task in the vSphere Client."
        )
    return _errors.failure(what, ended.fault)


def as_list(what: str, result: t.Any, kind: t.Any) -> list[t.Any]:
    """Return the result of a task that lists objects; an empty list when it has none.

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
    """Return the seconds to wait before a request to a busy VM is made again.

    :param attempt: how often it was refused before, from 0 on.
    """
    return _PAUSES[min(attempt, len(_PAUSES) - 1)]


def stand_by(session: Session, deadline: Deadline, errors: t.Iterable[_errors.OperationFailed], attempt: int) -> None:
    """Wait until the tasks that are in the way have ended, up to the deadline; a moment where none can be seen.

    :param attempt: see :func:`pause`.
    """
    moment = Deadline(min(pause(attempt), deadline.remaining))
    running = in_the_way(session, errors)
    if running:
        with contextlib.suppress(_errors.Error):  # the next attempt will say what is wrong
            _await_end(session, deadline, running)
            return
    moment.rest()


def in_the_way(session: Session, errors: t.Iterable[_errors.OperationFailed]) -> set[t.Any]:
    """Return the tasks that the errors name, and that are seen to run. Those of other users may not be visible."""
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
    """Submit a task and wait for its end; its result is returned. On a busy VM it is tried again until the deadline.

    The connection may also break while the task is waited for: :class:`_errors.ConnectionLost`, as for a request
    without an answer.

    :param what: begins the error sentence: "Could not power on VM web-01".
    :param again: asked before each further attempt, for the VM may be another one by then: whether the task is still to
        be done. It may raise. If it must no longer be done, ``None`` is returned. Without it there is no further
        attempt.
    :raises _errors.OperationFailed: the request was refused, or the task failed.
    :raises _errors.TimedOut: the task still runs.
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
    """As :func:`run`, for what may be carried out twice: submitted again, once, when its answer or its task is lost."""
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
    except _errors.TimedOut as error:  # which reports that nothing was sent, and the task was
        raise _not_ended(what, deadline) from error


Job = tuple[str, t.Callable[[], t.Any]]
"""What a task is for (begins its error sentence), and the call that starts it."""


Again = t.Callable[[t.Collection[t.Any]], t.Mapping[t.Any, Job]]
"""Given the keys of jobs on VMs that were busy, those that are still to be done: the VMs may be others by then."""


def run_all(
    session: Session, deadline: Deadline, jobs: t.Mapping[t.Any, Job], again: Again | None = None
) -> dict[t.Any, _errors.Error | None]:
    """Run many tasks side by side; for each key its error, or ``None`` when it succeeded, as :func:`collect` does."""
    ended = collect(session, deadline, jobs, again)
    return {key: one if isinstance(one, _errors.Error) else None for key, one in ended.items()}


def collect(
    session: Session, deadline: Deadline, jobs: t.Mapping[t.Any, Job], again: Again | None = None
) -> dict[t.Any, t.Any]:
    """Run many tasks side by side; for each key its result, or its error (:class:`_errors.Error`).

    Those on busy VMs are tried again until the deadline.

    :param again: without it the same jobs are tried again. The result of a job that it leaves out is ``None``.
    """
    results = _collect_once(session, deadline, jobs)
    attempt = 0
    while busy := {key: error for key, error in results.items() if is_busy(error)}:
        stand_by(session, deadline, busy.values(), attempt)
        if deadline.passed:
            break
        left = {key: jobs[key] for key in busy} if again is None else again(busy)
        results.update({**dict.fromkeys(busy), **_collect_once(session, deadline, left)})
        attempt += 1
    return results


def _collect_once(session: Session, deadline: Deadline, jobs: t.Mapping[t.Any, Job]) -> dict[t.Any, t.Any]:
    results: dict[t.Any, t.Any] = {}
    running: dict[t.Any, t.Any] = {}
    known: dict[t.Any, _properties.Values] = {}
    for key, (what, submit) in jobs.items():
        try:
            running[session.call(submit)] = key
        except _errors.ConnectionLost as trouble:  # it may be carried out
            results[key] = _errors.NotEnded(_errors.failure(what, trouble).sentence)
        except _errors.Error as trouble:
            results[key] = _errors.failure(what, trouble)
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
    """Wait until the recent tasks on these VMs have ended, well or not: after a lost answer, one of them may be ours.

    :param but: tasks that are not waited for.
    :returns: whether they have ended.
    """
    recent = _properties.read(session, vms, ["recentTask"]).values()
    return _await_end(
        session, deadline, {one for values in recent for one in values.get("recentTask") or [] if one not in but}
    )


def _await_end(session: Session, deadline: Deadline, running: set[t.Any]) -> bool:
    """Wait until tasks have ended, well or not; whether they have."""
    with _properties.Watch(session, {vim.Task: PATHS}) as watch:
        watch.add(running)
        while running and not deadline.passed:
            for task, values in watch.updates(deadline.remaining):
                if values is None or outcome(values) is not None:
                    running.discard(task)
    return not running


def wait(session: Session, deadline: Deadline, what: str, task: t.Any) -> t.Any:
    """Wait for the end of one task; see :func:`run`.

    :raises _errors.ConnectionLost: vCenter no longer knows the task: how it ended is unknown.
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
            f"vCenter's task did not end within {deadline.seconds:g} seconds",
            "The task continues. Check it in the vSphere Client.",
        )
    )
