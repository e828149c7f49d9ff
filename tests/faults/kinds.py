# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of faults: what happens to a call, to a task, or to everything else while the server holds a call."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from faults.stage import CHILDREN, CREATE, REMOVE, RENAMED, Stage
from pyVim.task import WaitForTask

Act = Callable[[Stage, BaseProcess], bool]
"""Something that happens while a call is held. It returns False if there was nothing that it could happen to."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    :ivar fault: what the simulator is asked to inject; see docs/simulator.md.
    :ivar applies: whether it can happen to a request: "call" (every HTTP request), "method" (every call of a method)
        or "task" (every method that starts a task).
    :ivar act: what happens while the call is held.
    :ivar steps: names of the steps to which it can happen; all if empty.
    :ivar is_kill: whether the task ends at once, without a logout.
    :ivar loses_cookie: whether the head of the answer is lost, which has the session's cookie after a login.
    """

    name: str
    fault: Mapping[str, Any]
    applies: str = "call"
    act: Act | None = None
    steps: tuple[str, ...] = ()
    is_kill: bool = False
    loses_cookie: bool = False

    def is_possible(self, step: str, request: str) -> bool:
        """Return whether it can happen to a request of a step. A page of the MOB carries a method's call."""
        if self.steps and step not in self.steps:
            return False
        method = request.removeprefix("mob:")
        if self.applies == "task":
            return method.endswith("_Task")
        # Of a method that is called through a page of the MOB, the page is what can be cut or replaced.
        return " " not in method if self.applies == "method" else method == request


MOMENTS = 0.3
"""Seconds after a call within which a task is killed at random; most tasks make their next calls in this time."""

LOGINS = ("Login", "GET /mob")
"""Requests whose answer has the cookie of a new session."""


def _kill(number: signal.Signals, _stage: Stage, process: BaseProcess) -> bool:
    assert process.pid is not None
    os.kill(process.pid, number)
    if number == signal.SIGKILL:
        process.join()
    return True


def _kill_soon(_stage: Stage, process: BaseProcess) -> bool:
    """Kill the task at any moment after the call, also in the middle of another one."""
    killer = threading.Timer(random.uniform(0, MOMENTS), process.kill)
    killer.daemon = True
    killer.start()
    return True


def _rival(state: str, stage: Stage, _process: BaseProcess) -> bool:
    """Another task for the same children, from beginning to end."""
    step = CREATE if state == "present" else REMOVE
    stage.checked(partial(stage.run, step))
    return True


def _on_child(act: Callable[[Any], Any], stage: Stage, _process: BaseProcess) -> bool:
    """Do something to the first child, as an administrator does."""
    moid = stage.moid(CHILDREN[0])
    if moid is None:
        return False
    stage.touched.add(moid)
    act(stage.managed(moid))
    return True


def _rename(vm: Any) -> None:
    WaitForTask(vm.Rename_Task(RENAMED))


def _power_off(vm: Any) -> None:
    if vm.runtime.powerState == "poweredOn":
        WaitForTask(vm.PowerOffVM_Task())


def _delete(vm: Any) -> None:
    _power_off(vm)
    WaitForTask(vm.Destroy_Task())


_TO_CHILDREN = (CREATE.name, REMOVE.name)
_HOLD = {"hold": "before"}

KINDS = (
    Kind("reset before", {"drop": "before"}),
    Kind("reset after", {"drop": "after"}, loses_cookie=True),
    Kind("503", {"reply": "503"}),
    Kind("502 after", {"reply": "502"}, loses_cookie=True),
    Kind("truncated", {"reply": "truncated"}),
    Kind("empty", {"reply": "empty"}, loses_cookie=True),
    Kind("garbage", {"reply": "garbage"}, loses_cookie=True),
    Kind("delay", {"delay_ms": 1500}),
    Kind("session expired", {"fault": "NotAuthenticated"}, "method"),
    Kind("no permission", {"fault": "NoPermission"}, "method"),
    Kind("busy", {"fault": "TaskInProgress"}, "method"),
    Kind("system error", {"fault": "SystemError"}, "method"),
    Kind("object gone", {"fault": "ManagedObjectNotFound"}, "method"),
    Kind("unknown fault", {"fault": "UnknownFault"}, "method"),
    Kind("task fails", {"at": "task", "fault": "SystemError"}, "task"),
    Kind("task finds it busy", {"at": "task", "fault": "TaskInProgress"}, "task"),
    Kind("task vanishes", {"at": "vanish"}, "task"),
    Kind("slow task", {"at": "task", "delay_ms": 1500}, "task"),
    Kind("SIGTERM before", _HOLD, "method", partial(_kill, signal.SIGTERM)),
    Kind("SIGTERM after", {"hold": "after"}, "method", partial(_kill, signal.SIGTERM)),
    Kind("SIGKILL before", _HOLD, "method", partial(_kill, signal.SIGKILL), is_kill=True),
    Kind("SIGKILL after", {"hold": "after"}, "method", partial(_kill, signal.SIGKILL), is_kill=True),
    Kind("SIGKILL soon after", {"hold": "after"}, "method", _kill_soon, is_kill=True),
    Kind("present meanwhile", _HOLD, "method", partial(_rival, "present"), _TO_CHILDREN),
    Kind("absent meanwhile", _HOLD, "method", partial(_rival, "absent"), _TO_CHILDREN),
    Kind("rename meanwhile", _HOLD, "method", partial(_on_child, _rename), _TO_CHILDREN),
    Kind("delete meanwhile", _HOLD, "method", partial(_on_child, _delete), _TO_CHILDREN),
    Kind("power-off meanwhile", _HOLD, "method", partial(_on_child, _power_off), _TO_CHILDREN),
)


def happen(act: Act, stage: Stage, process: BaseProcess) -> bool:
    """Wait until the server holds a call of a task, have something happen, and release the call.

    Return whether it happened: the task may end without that call.
    """
    with stage.vcenter.held_call() as held:
        return held in wait([held, process.sentinel]) and act(stage, process)
