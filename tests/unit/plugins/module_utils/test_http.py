# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are unreachable over plain HTTPS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors, _http
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Open a port that accepts connections but never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def ask(port: int, **given: str | int) -> None:
    server = Server("127.0.0.1", "me", "password", port, **given)
    _http.ask(Session(server), "GET", "/mob/", {}, None, 10)


def test_server_that_closes_the_connection(listening: socket.socket) -> None:
    def hang_up() -> None:
        listening.accept()[0].close()

    hanging_up = threading.Thread(target=hang_up)
    hanging_up.start()
    port = listening.getsockname()[1]
    with pytest.raises(_errors.ConnectionFailed, match=f"Could not connect to 127.0.0.1 port {port}:"):
        ask(port)
    hanging_up.join()


def test_silent_server(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "CONNECT_TIMEOUT", 0.1)
    with pytest.raises(_errors.ConnectionFailed, match=r"no answer within 0\.1 seconds"):
        ask(listening.getsockname()[1])


def test_unreachable_proxy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(_errors.ConnectionFailed, match=f"through the proxy 127.0.0.1 port {port}: Connection ref"):
            ask(443, proxy_host="127.0.0.1", proxy_port=port)
