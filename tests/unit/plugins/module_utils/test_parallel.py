# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls in parallel: they overlap, use one connection each, and end with a signal and the deadline."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness.soap_server import SoapServer
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _deadline, _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import SLICE_SECONDS, Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._parallel import ParallelCalls
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

CALLS = 8
"""More than the connections that pyVmomi keeps by default."""

METHOD = "CurrentTime"
SECONDS = 30
"""More than anything here takes."""


@pytest.fixture
def silent() -> Iterator[SoapServer]:
    """Start a server that answers the login only."""
    with SoapServer(**{METHOD: ["silent"]}) as server:
        yield server


def open_session(server: SoapServer, seconds: float = float("inf")) -> Session:
    """Return a session, to be entered."""
    login = Server("127.0.0.1", "me", "a-long-secret-word", server.server_port, validate_certs=False)
    return Session(login, Budget(Deadline(seconds)))


def clock(session: Session) -> Any:
    """Return the method to call."""
    return session.object(vim.ServiceInstance, "ServiceInstance").CurrentTime


def await_calls(server: SoapServer) -> None:
    """Wait until every call has arrived."""
    with server.called:
        assert server.called.wait_for(lambda: server.methods.count(METHOD) == CALLS, SECONDS)


def start(session: Session) -> ParallelCalls[int]:
    """Start as many calls as may be started; a call without an answer is not repeated."""
    calls: ParallelCalls[int] = ParallelCalls(session, CALLS)
    for number in range(CALLS):
        assert calls.has_room
        calls.start(number, functools.partial(session.call, clock(session)))
    assert not calls.has_room
    return calls


def test_calls_overlap_and_every_key_gets_its_answer() -> None:
    with SoapServer() as server, open_session(server) as session:
        together = threading.Barrier(CALLS)
        calls: ParallelCalls[int] = ParallelCalls(session, CALLS)
        for number in range(CALLS):
            calls.start(number, lambda number=number: (together.wait(SECONDS), number)[1])  # type: ignore[misc]
        answers = dict(calls.take() for _number in range(CALLS))
        assert {key: answer.get() for key, answer in answers.items()} == {key: key for key in range(CALLS)}
        assert not calls.pending


def test_exception_of_any_kind_is_an_answer() -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with SoapServer() as server, open_session(server) as session:
        calls: ParallelCalls[str] = ParallelCalls(session, 1)
        calls.start("key", fail)
        key, answer = calls.take()
        assert key == "key"
        with pytest.raises(KeyboardInterrupt):
            answer.get()


def test_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one costs a TLS handshake."""
    with SoapServer() as server, open_session(server) as session:
        together = threading.Barrier(CALLS)
        made: list[Any] = []
        connect = session._stub.scheme
        session._stub.scheme = lambda *host, **given: made.append(given) or connect(*host, **given)
        request = session._stub.GetConnection
        with monkeypatch.context() as patch:
            # Every call of a round has a connection of its own.
            patch.setattr(session._stub, "GetConnection", lambda: (request(), together.wait(SECONDS))[0])
            for _round in range(3):
                calls = start(session)
                for _number in range(CALLS):
                    calls.take()[1].get()
        assert len(made) == CALLS - 1  # the login has opened one


def test_signal_ends_the_waiting_connections(silent: SoapServer) -> None:
    with open_session(silent) as session:
        calls = start(session)
        await_calls(silent)
        session.budget.interrupt("SIGTERM")
        began = time.monotonic()
        with pytest.raises(_errors.Interrupted):
            calls.take()
        with session.clean_up(SECONDS):
            answers = [calls.take()[1] for _number in range(CALLS)]
        assert time.monotonic() - began < SECONDS / 2  # within a slice, if the machine were idle
        for answer in answers:
            with pytest.raises(_errors.ConnectionLost):
                answer.get()
    assert silent.methods[-1] == "Logout"


def test_deadline_ends_the_waiting_connections(silent: SoapServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deadline, "GRACE_SECONDS", SLICE_SECONDS)
    with open_session(silent, seconds=3) as session:
        calls = start(session)
        await_calls(silent)
        for _number in range(CALLS):
            with pytest.raises(_errors.Unanswered):
                calls.take()[1].get()
        assert session.deadline.passed
        calls.start(0, functools.partial(session.call, clock(session)))
        with pytest.raises(_errors.TimedOut, match="nothing more was sent"):
            calls.take()[1].get()
    assert silent.methods.count(METHOD) == CALLS


def test_clean_up_extends_to_the_threads(silent: SoapServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline and a signal, a call in clean-up is sent, and ends soon."""
    monkeypatch.setattr(_deadline, "GRACE_SECONDS", 0)
    monkeypatch.setattr(_deadline, "SILENCE_SECONDS", SLICE_SECONDS)
    with open_session(silent) as session:
        session.budget.interrupt("SIGTERM")
        with pytest.raises(_errors.Interrupted):
            session.begin()
        with session.clean_up(SECONDS):
            calls = start(session)
            for _number in range(CALLS):
                with pytest.raises(_errors.Unanswered):
                    calls.take()[1].get()
    assert METHOD in silent.methods
