# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways not to reach a vCenter; each has its sentence."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from functional.vcenter import VCenter


@pytest.fixture
def other_server() -> Iterator[int]:
    """Something on a port that is no vSphere server."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def closed_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"password": "a-wrong-long-password"}, "wrong user name or password"),
        ({"hostname": "no-such-host.invalid"}, "the name does not resolve"),
        ({"hostname": ""}, "hostname is missing"),
        ({"username": ""}, "VMWARE_USER"),
        ({"port": 70000}, "ports go from 1 to 65535"),
        ({"ca_path": "/no/such/file.pem", "validate_certs": True}, "ca_path /no/such/file.pem cannot be used"),
    ],
)
def test_wrong_connection_options(vcenter: VCenter, given: dict[str, object], said: str) -> None:
    refusal = vcenter.fails("vmfork_info", **given)
    assert said in refusal.msg
    assert "a-wrong-long-password" not in refusal.raw
    assert vcenter.simulator.password not in refusal.raw


def test_nobody_listens(vcenter: VCenter) -> None:
    assert "Connection refused" in vcenter.fails("vmfork_info", port=closed_port()).msg


def test_no_tls_there(vcenter: VCenter, other_server: int) -> None:
    assert "no TLS there" in vcenter.fails("vmfork_info", port=other_server).msg


def test_no_vsphere_there(vcenter: VCenter, other_server: int, tmp_path: Path) -> None:
    host_certificate = tmp_path / "server.pem"
    del host_certificate, other_server
    answer = vcenter.fails("vmfork_info", hostname="127.0.0.1", port=esxi_transfer_port(vcenter))
    assert "not a vSphere server" in answer.msg


def esxi_transfer_port(vcenter: VCenter) -> int:
    """The port on which the simulated ESXi hosts take file transfers: TLS, but no /sdk."""
    return int(vcenter.control("GET", "transfers")["port"])


def test_self_signed_certificate(vcenter: VCenter, tmp_path: Path) -> None:
    refusal = vcenter.fails("vmfork_info", validate_certs=True)
    assert "its certificate is not trusted" in refusal.msg
    assert "ca_path" in refusal.msg
    certificate = tmp_path / "vcenter.pem"
    certificate.write_text(ssl.get_server_certificate((vcenter.simulator.host, vcenter.simulator.port)))
    assert vcenter.ok("vmfork_info", validate_certs=True, ca_path=str(certificate))["parents"] == []


def test_ca_path_without_validation_is_a_warning(vcenter: VCenter, tmp_path: Path) -> None:
    certificate = tmp_path / "vcenter.pem"
    certificate.write_text(ssl.get_server_certificate((vcenter.simulator.host, vcenter.simulator.port)))
    result = vcenter.ok("vmfork_info", ca_path=str(certificate))
    assert "ca_path has no effect" in result.raw
