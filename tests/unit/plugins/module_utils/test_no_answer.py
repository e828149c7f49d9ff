# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers and ESXi hosts that drop packets, or accept a connection and stay silent: both lead to a message."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors, _http, _session

PATIENCE = 1
SLACK = 20
"""Seconds a busy machine may need besides."""


@pytest.fixture(params=["swallows", "stays silent"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return a port that completes no connection, as behind a firewall that drops packets, or that stays silent."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        if request.param == "swallows":
            first.connect(listener.getsockname())  # the queue is full: Linux drops new connections
        yield listener.getsockname()[1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_connection, "CONNECT_TIMEOUT", PATIENCE)
    monkeypatch.setattr(_http, "REACH_TIMEOUT", PATIENCE)
    began = time.monotonic()
    yield
    assert PATIENCE <= time.monotonic() - began < PATIENCE + SLACK


def test_server(port: int) -> None:
    message = (
        f"^Could not connect to 127.0.0.1 port {port}: no answer within 1 second. Check hostname, port and firewalls.$"
    )
    with pytest.raises(_errors.ConnectionFailed, match=message), _session.Session(server(port)):
        pass


def test_server_behind_a_proxy(port: int) -> None:
    behind = _session.Server("vcenter", "user", "password", proxy_host="127.0.0.1", proxy_port=port)
    with (
        pytest.raises(_errors.ConnectionFailed, match=f"through the proxy 127.0.0.1 port {port}: no answer within"),
        _session.Session(behind),
    ):
        pass


def test_esxi_host(port: int) -> None:
    """The exception's type means that scripts can go through vCenter."""
    transfer = _http.Transfer(
        f"https://127.0.0.1:{port}/guestFile", "Could not upload a script", "go another way", None
    )
    with pytest.raises(_http.Unreachable, match=f"ESXi host 127.0.0.1 port {port} cannot be reached .*timed out"):
        _http.put(_session.Session(server(443)), transfer, b"")


def server(port: int) -> _session.Server:
    return _session.Server("127.0.0.1", "user", "password", port)
