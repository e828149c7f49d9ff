# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that fail, and the message for each cause."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from functional.vcenter import VCenter


@pytest.fixture
def other_server() -> Iterator[int]:
    """Run a server that is not a vSphere server."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that nobody else can listen on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


WRONG: list[tuple[dict[str, object], str]] = [
    ({"password": "a-wrong-long-password"}, "wrong user name or password"),
    ({"hostname": "no-such-host.invalid"}, "the name does not resolve"),
    ({"hostname": ""}, "hostname is missing"),
    ({"username": ""}, "VMWARE_USER"),
    ({"port": 70000}, "ports range from 1 to 65535"),
    ({"ca_path": "/no/such/file.pem", "validate_certs": True}, "ca_path /no/such/file.pem cannot be used"),
]


def test_wrong_connection_options(vcenter: VCenter) -> None:
    for given, message in WRONG:
        refusal = vcenter.fails("vmfork_info", **given)
        assert message in refusal.msg, given
        assert "a-wrong-long-password" not in refusal.raw
        assert vcenter.simulator.password not in refusal.raw


def test_closed_port(vcenter: VCenter, closed_port: int) -> None:
    assert "Connection refused" in vcenter.fails("vmfork_info", port=closed_port).msg


def test_server_without_tls(vcenter: VCenter, other_server: int) -> None:
    assert "does not speak TLS" in vcenter.fails("vmfork_info", port=other_server).msg


def test_server_without_the_sdk(vcenter: VCenter) -> None:
    """The simulated ESXi hosts accept file transfers on a TLS port that has no /sdk."""
    refusal = vcenter.fails("vmfork_info", port=vcenter.control("GET", "transfers")["port"])
    assert "not a vSphere server" in refusal.msg


@pytest.mark.flags("-esx-l", "127.0.0.1:0")
@pytest.mark.parametrize("module", ["vmfork_info", "vmfork_parent", "vmfork_quiesce", "vmfork_child"])
def test_esxi_host(vcenter: VCenter, module: str) -> None:
    given = {
        "vmfork_info": {},
        "vmfork_parent": {"name": "DC0_H0_VM0"},
        "vmfork_quiesce": {"name": "DC0_H0_VM0", "method": "wait"},
        "vmfork_child": {"parent_name": "DC0_H0_VM0", "name": "web-01"},
    }[module]
    address = urlsplit(vcenter.simulator.esx_url)
    refusal = vcenter.fails(module, hostname=address.hostname, port=address.port, **given)
    assert "is an ESXi host, and only vCenter can fork VMs" in refusal.msg


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
