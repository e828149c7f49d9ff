# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules whose server never answers, and modules that get a signal: they end in time, and log out."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from functional import launch
from harness.soap_server import VERSIONS, SoapServer

from ansible_collections.vmfork.vsphere.plugins.module_utils import _deadline, _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

OVERTIME = 15
"""Seconds by which a task may exceed its timeout when its server is silent."""


def fork(fake: SoapServer, directory: Path, **options: Any) -> tuple[Any, Path]:
    """Start vmfork_info; return its process and its output file."""
    login = {"hostname": "127.0.0.1", "port": fake.server_port, "username": "me", "password": "a-long-secret-word"}
    given = {**login, "validate_certs": False, **options}
    output = directory / "output"
    arguments = ("vmfork_info", given, dict(os.environ), output, directory / "errors", directory / "log", 60)
    process = multiprocessing.get_context("fork").Process(target=launch.run, args=arguments)
    process.start()
    return process, output


@pytest.mark.parametrize(
    ("method", "act"),
    [
        (VERSIONS, "silent"),
        (VERSIONS, "drip"),
        ("Login", "drip"),
        ("CreateContainerView", "silent"),
        ("Logout", "drip"),
    ],
)
def test_task_ends_in_time(method: str, act: str, tmp_path: Path) -> None:
    with SoapServer(**{method: [act]}) as fake:
        if method not in ("CreateContainerView", "Logout"):
            fake.acts["Logout"] = [act]
        began = time.monotonic()
        process, output = fork(fake, tmp_path, timeout=1)
        process.join(60)
        took = time.monotonic() - began
        assert process.exitcode is not None
    result = json.loads(output.read_text())
    assert result["failed"]
    assert took < 1 + OVERTIME
    assert fake.methods.count(method) <= 2
    if method == "CreateContainerView":
        assert "did not answer a call within the 1 second of the task" in result["msg"]
        assert fake.methods[-1] == "Logout"


@pytest.fixture
def _default_signals() -> Iterator[None]:
    """Have no signal ignored: nohup ignores SIGHUP and a shell SIGINT, and the module would inherit that."""
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_default_signals")
@pytest.mark.parametrize(
    ("method", "name"),
    [
        (VERSIONS, "SIGTERM"),
        ("RetrieveServiceContent", "SIGTERM"),
        ("Login", "SIGTERM"),
        ("CreateContainerView", "SIGTERM"),
        ("CreateContainerView", "SIGHUP"),
        ("CreateContainerView", "SIGINT"),
    ],
)
def test_signal_logs_out(method: str, name: str, tmp_path: Path) -> None:
    with SoapServer(**{method: ["silent"]}) as fake:
        if method == "Login":
            fake.acts["Login"] = ["drip"]
        process, output = fork(fake, tmp_path)
        fake.await_call(method)
        for _twice in range(2):
            os.kill(process.pid, getattr(signal, name))
        process.join(60)
        assert process.exitcode == 1
    result = json.loads(output.read_text())
    assert result["failed"]
    assert result["msg"] == (
        f"The module received {name} and stopped before it was finished. Run the task again to complete it."
    )
    is_open = method in ("Login", "CreateContainerView")
    assert fake.methods.count("Logout") == is_open
    if is_open:
        assert "f00d" in fake.calls[-1][1]


@pytest.mark.parametrize("act", ["cut body", "drip"])
def test_login_with_a_truncated_answer_is_logged_out(act: str) -> None:
    with SoapServer(Login=[act]) as fake, pytest.raises(_errors.ConnectionFailed), session(fake, 1):
        pass
    assert fake.methods[-1] == "Logout"
    assert "f00d" in fake.calls[-1][1]


@pytest.mark.parametrize(("acts", "count"), [(["answer"], 1), (["cut", "answer"], 2), (["cut"], 2), (["503"], 2)])
def test_logout_is_retried_once(acts: list[str], count: int) -> None:
    with SoapServer(Logout=acts) as fake:
        with session(fake, 60):
            pass
        assert fake.methods.count("Logout") == count


def test_nothing_more_is_submitted_after_the_first_time_out() -> None:
    with SoapServer(CurrentTime=["silent"]) as fake, session(fake, 1) as opened:
        with pytest.raises(_errors.Unanswered):
            opened.call(current_time(opened))
        with pytest.raises(_errors.TimedOut):
            opened.ask(current_time(opened))
        assert fake.methods.count("CurrentTime") == 1
        with opened.clean_up():  # the cleanup ends at the second call without an answer
            for _call in range(3):
                with pytest.raises(_errors.TimedOut):
                    opened.ask(current_time(opened))
        assert fake.methods.count("CurrentTime") == 3


def test_cleanup_after_the_deadline() -> None:
    with SoapServer() as fake, session(fake, 60) as opened:
        opened.deadline.end_now()
        with opened.clean_up():
            opened.call(current_time(opened))


def test_extra_time_is_granted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(_deadline.time, "monotonic", lambda: now)
    budget = Budget(Deadline(100))
    ends = []
    for now in (1050, 1100, 1150, 1250, 1300):  # noqa: B007 - the clock
        with budget.clean_up(60) as deadline:
            ends.append(deadline.end)
    assert ends == [1110, 1160, 1210, 1220 + 30, 1300]
    with budget.clean_up():
        assert not budget.may_begin()


def test_no_signal_interrupts_the_cleanup() -> None:
    budget = Budget(Deadline(60))
    with budget.clean_up():
        budget.interrupt("SIGTERM")
        budget.interrupt("SIGHUP")
        assert budget.may_begin()
        assert budget.left() > 0
    with pytest.raises(_errors.Interrupted, match="received SIGTERM"):
        budget.may_begin()
    with budget.clean_up():
        assert budget.may_begin()
    with budget.log_out():
        assert budget.may_begin()


def session(fake: SoapServer, seconds: float) -> Session:
    server = Server("127.0.0.1", "me", "a-long-secret-word", fake.server_port, validate_certs=False)
    return Session(server, Budget(Deadline(seconds)))


def current_time(opened: Session) -> Any:
    from pyVmomi import vim

    return vim.ServiceInstance("ServiceInstance", opened._stub).CurrentTime
