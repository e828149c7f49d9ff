# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``call_via=auto`` with several calls at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods, transport

VM = vim.VirtualMachine("vm-1")
CALLS = 4


class Door:
    """A lock that knows when every call has come to it."""

    def __init__(self) -> None:
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._count = 0
        self.all_came = threading.Event()

    def __enter__(self) -> None:
        with self._counting:
            self._count += 1
            if self._count == CALLS:
                self.all_came.set()
        self._lock.acquire()

    def __exit__(self, *_exc_info: object) -> None:
        self._lock.release()


class Caller:
    """A way to call methods.

    :param answer: what each call returns or raises.
    :param door: the first call waits here until all calls have come.
    :param meeting: all other calls wait here for each other.
    """

    has_opened = True

    def __init__(self, answer: Any, door: Door | None = None, meeting: threading.Barrier | None = None) -> None:
        self._answer, self._door, self._meeting = answer, door, meeting
        self._counting = threading.Lock()
        self.count = 0

    def call(self, _vm: Any, _method: methods.Method, **_arguments: Any) -> Any:
        with self._counting:
            self.count += 1
            is_first = self.count == 1
        if is_first and self._door is not None:
            assert self._door.all_came.wait(10)
        elif self._meeting is not None:
            self._meeting.wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def call_all(monkeypatch: pytest.MonkeyPatch, door: Door, soap: Caller, mob: Caller) -> list[Any]:
    """Make several calls at a time, and return their results or errors."""
    monkeypatch.setattr(transport, "SoapCaller", lambda _session: soap)
    monkeypatch.setattr(transport, "_mob_caller", lambda _session: mob)
    session: Any = None
    with monkeypatch.context() as patch:
        patch.setattr(transport.threading, "Lock", lambda: door)
        caller = transport.AutoCaller(session)

    def call(_number: int) -> Any:
        try:
            return caller.call(VM, methods.ENABLE_FORK_PARENT)
        except _errors.Error as error:
            return error

    with ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(call, range(CALLS)))


def test_server_without_the_methods_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    soap, mob = Caller(_errors.MethodUnknown("Unknown."), door), Caller("task")
    assert call_all(monkeypatch, door, soap, mob) == ["task"] * CALLS
    assert (soap.count, mob.count) == (1, CALLS)


@pytest.mark.parametrize("refusal", [None, _errors.Fault(vmodl.fault.SystemError(msg="Busy."), "vcenter")])
def test_calls_after_the_first_run_in_parallel(monkeypatch: pytest.MonkeyPatch, refusal: Any) -> None:
    """They came before the first one was answered. One after the other, they would never meet."""
    door, answer = Door(), "task" if refusal is None else refusal
    soap, mob = Caller(answer, door, threading.Barrier(CALLS - 1, timeout=10)), Caller("never")
    assert call_all(monkeypatch, door, soap, mob) == [answer] * CALLS
    assert (soap.count, mob.count) == (CALLS, 0)


def test_method_that_soap_alone_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called through the MOB, although SOAP has known another one."""
    answers = iter(["enabled", _errors.MethodUnknown("Unknown.")])
    soap, mob = Caller(None), Caller("created")
    monkeypatch.setattr(transport, "SoapCaller", lambda _session: soap)
    monkeypatch.setattr(transport, "_mob_caller", lambda _session: mob)
    session: Any = None
    caller = transport.AutoCaller(session)
    results = []
    for soap._answer in answers:
        results.append(caller.call(VM, methods.ENABLE_FORK_PARENT))
    assert results == ["enabled", "created"]
