# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that pyVmomi cannot read, and the end of a session."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import SoapAdapter, VmomiSupport, vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session, UnknownType


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        pytest.param(vim.VirtualMachine.PowerState, "<returnval>asleep</returnval>", id="value of an enumeration"),
        pytest.param(
            VmomiSupport.GetVmodlType("vmodl.DynamicData"),
            '<returnval xmlns="urn:vim25" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="NewType"/>',
            id="type",
        ),
        pytest.param(
            VmomiSupport.GetVmodlType("anyType"),
            '<returnval xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xsd:int">many</returnval>',
            id="no number",
        ),
    ],
)
def test_answer_newer_than_pyvmomi(kind: Any, answer: str) -> None:
    with pytest.raises(UnknownType, match=r"does not know .*A newer pyVmomi may know it"):
        Session(Server("vcenter", "user", "password")).call_once(SoapAdapter.Deserialize, answer, kind)


def test_invalid_path() -> None:
    with pytest.raises(_errors.BadInput, match="ca_path a\0b cannot be used"):
        _connection.tls_context("a\0b", verify=True)


def test_value_that_cannot_be_sent() -> None:
    spec = vim.vm.ConfigSpec(annotation="\ud800")
    with pytest.raises(_errors.BadInput, match="not valid Unicode"):
        Session(Server("vcenter", "user", "password")).call_once(SoapAdapter.Serialize, spec)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_interrupted_logout(failure: type[BaseException]) -> None:
    """If the cleanup before it fails, the session still ends."""
    done: list[str] = []

    def break_off() -> None:
        raise failure

    session = Session(Server("vcenter", "user", "password"))
    session.content = SimpleNamespace(sessionManager=SimpleNamespace(Logout=lambda: done.append("logged out")))
    session._stub = SimpleNamespace(DropConnections=lambda: done.append("dropped"))
    session.closing.callback(break_off)
    try:
        session.__exit__()
    except KeyboardInterrupt:
        done.append("raised")
    assert done == ["logged out", "dropped", *["raised"] * (failure is KeyboardInterrupt)]


@pytest.mark.parametrize(
    ("answers", "attempts"),
    [
        ([vmodl.RuntimeFault(), None], 2),
        ([OSError(), None], 2),
        ([vim.fault.NotAuthenticated()], 1),
        ([vmodl.RuntimeFault()] * 2, 2),
    ],
)
def test_refused_logout(answers: list[Exception | None], attempts: int) -> None:
    """It is tried once more, unless the session has ended."""
    asked: list[Exception | None] = []

    def log_out() -> None:
        asked.append(answer := answers[len(asked)])
        if answer is not None:
            raise answer

    session = Session(Server("vcenter", "user", "password"))
    session.content = SimpleNamespace(sessionManager=SimpleNamespace(Logout=log_out))
    session._stub = SimpleNamespace(DropConnections=lambda: None)
    session.__exit__()
    assert len(asked) == attempts


def test_late_answer_of_the_ended_session() -> None:
    """A request without a session is answered with a cookie of its own, which must not replace that of the login."""
    sent, late = threading.Event(), threading.Event()

    class Stub:
        cookie = "old"

        def SetSessionId(self, _session_id: str) -> None:  # noqa: N802, pyVmomi's name
            self.cookie = ""

    def login(*_given: object) -> Any:
        stub.cookie = "new"
        return SimpleNamespace(key="key", loginTime=None)

    def call() -> str:
        if stub.cookie != "new":
            sent.set()
            late.wait(30)
            stub.cookie = "nobody's"
            raise vim.fault.NotAuthenticated
        return "answer"

    session = Session(Server("vcenter", "user", "password"))
    session._stub = stub = Stub()
    session.content = SimpleNamespace(sessionManager=SimpleNamespace(Login=login))
    session.logins = 1
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(session.call, call)
        sent.wait(30)
        session.renew(1)  # another thread logs in before the answer arrives
        late.set()
        assert answer.result(30) == "answer"
    assert (session.logins, stub.cookie) == (2, "new")
