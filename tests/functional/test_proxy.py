# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions and file transfers to the ESXi host through an HTTP proxy."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest
from functional.vcenter import POST_CLONE, VCenter


class Tunnel(socketserver.StreamRequestHandler):
    """Answer CONNECT and forward bytes in both directions."""

    def handle(self) -> None:
        verb, target, _version = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        assert verb == "CONNECT"
        assert isinstance(self.server, Proxy)
        self.server.targets.append(target)
        if target == self.server.swallowed:
            self.rfile.read()  # until the other side closes
            return
        host, _colon, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(other, self.connection))
            back.start()
            pump(self.connection, other)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has closed


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy on a free port that records the addresses it was asked to connect to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.targets: list[str] = []
        self.swallowed = ""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_proxy(vcenter: VCenter, proxy: Proxy) -> None:
    through = {"proxy_host": "127.0.0.1", "proxy_port": proxy.server_address[1]}
    vcenter.enable(**through)
    given = {"name": vcenter.parent, **vcenter.guest_login, "post_clone_script": POST_CLONE}
    vcenter.ok("vmfork_quiesce", **given, script_delivery="file_transfer", **through)
    esxi = vcenter.control("GET", "transfers")["port"]
    assert set(proxy.targets) == {f"127.0.0.1:{vcenter.simulator.port}", f"127.0.0.1:{esxi}"}


def test_esxi_host_that_drops_packets(vcenter: VCenter, proxy: Proxy) -> None:
    """A firewall drops packets: after some seconds the scripts go through vCenter."""
    proxy.swallowed = f"127.0.0.1:{vcenter.control('GET', 'transfers')['port']}"
    vcenter.enable()
    through = {"proxy_host": "127.0.0.1", "proxy_port": proxy.server_address[1]}
    began = time.monotonic()
    done = vcenter.quiesce(**through)
    assert time.monotonic() - began < 30
    assert "through vCenter instead of the ESXi host" in done.raw
    assert proxy.targets.count(proxy.swallowed) == 1


def test_unreachable_proxy(vcenter: VCenter) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        refusal = vcenter.fails("vmfork_info", proxy_host="127.0.0.1", proxy_port=port)
    assert f"through the proxy 127.0.0.1 port {port}: Connection refused" in refusal.msg
