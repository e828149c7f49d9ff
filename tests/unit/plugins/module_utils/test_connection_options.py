# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names, proxies and their logins."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session


def test_empty_environment_variables_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential of AWX sets the variables of all its fields."""
    spec = {**_arguments.connection_spec(), **_arguments.guest_spec(), **_arguments.progress_spec()}
    names = [option["fallback"][1][0] for option in spec.values() if "fallback" in option]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    without = ArgumentSpecValidator(spec).validate({})
    for name in names:
        monkeypatch.setenv(name, "")
    result = ArgumentSpecValidator(spec).validate({})
    assert result.error_messages == []
    assert result.validated_parameters == without.validated_parameters
    monkeypatch.setenv("VMWARE_PORT", "8443")
    assert ArgumentSpecValidator(spec).validate({}).validated_parameters["port"] == 8443


def options(**given: Any) -> dict[str, Any]:
    empty = dict.fromkeys(_arguments.connection_spec())
    return {**empty, "hostname": "vcenter", "username": "me", "password": "a-long-secret-word", "port": 443, **given}


@pytest.mark.parametrize(
    ("given", "used"),
    [("[::1]", "::1"), ("fe80::1%eth0", "fe80::1%eth0"), ("192.0.2.1", "192.0.2.1"), ("vc_1.example", "vc_1.example")],
)
@pytest.mark.parametrize("option", ["hostname", "proxy_host"])
def test_host(option: str, given: str, used: str) -> None:
    assert getattr(_arguments.connection(options(**{option: given})), option) == used


@pytest.mark.parametrize("given", ["https://vcenter.example/ui", "vcenter.example:443", "[::1]:8080", "vcenter/sdk"])
@pytest.mark.parametrize("option", ["hostname", "proxy_host"])
def test_url_or_port_as_host(option: str, given: str) -> None:
    with pytest.raises(_errors.BadInput, match=f"{option} .* is neither a host name nor an IP address"):
        _arguments.connection(options(**{option: given}))


def test_login_in_proxy_host_is_not_repeated() -> None:
    with pytest.raises(_errors.BadInput, match="proxy_host contains an @") as refusal:
        _arguments.connection(options(proxy_host="http://joe:s3cret-word@proxy:3128"))
    assert "s3cret" not in refusal.value.sentence
    assert "joe" not in refusal.value.sentence


@pytest.mark.parametrize(
    ("option", "value"), [("proxy_port", 3128), ("proxy_username", "joe"), ("proxy_password", "a-proxys-secret")]
)
def test_proxy_option_without_a_proxy(option: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment may still contain it."""
    monkeypatch.delenv(f"VMWARE_{option.upper()}", raising=False)
    with pytest.raises(_errors.BadInput, match=f"^{option} is set without proxy_host") as refusal:
        _arguments.connection(options(**{option: value}))
    assert str(value) not in refusal.value.sentence
    monkeypatch.setenv(f"VMWARE_{option.upper()}", str(value))
    assert _arguments.connection(options(**{option: value})).proxy_host is None
    given = {"proxy_host": "proxy", "proxy_username": "joe", option: value}
    assert _arguments.connection(options(**given)).proxy_host == "proxy"


class _Proxy(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        while line := self.rfile.readline().strip():
            server.lines.append(line.decode())
        self.wfile.write(server.answer)


@pytest.fixture
def proxy() -> Iterator[Any]:
    """Run a proxy that gives the same answer to everything."""
    with socketserver.TCPServer(("127.0.0.1", 0), _Proxy) as server:
        proxy_server: Any = server
        proxy_server.lines, proxy_server.answer = [], b""
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "login", "message"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", {}, "the proxy requires a login. Set proxy_username"),
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            {"proxy_username": "joe", "proxy_password": "wrong-word"},
            "the proxy refused the login of joe. Check proxy_username",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\n\r\n",
            {},
            "the proxy answered 403 Forbidden. Check whether the proxy may connect to",
        ),
        (b"220 mail.example ESMTP\r\n", {}, "the server that answers is not an HTTP proxy. Check proxy_host"),
    ],
)
def test_answers_of_a_proxy(proxy: Any, answer: bytes, login: dict[str, str], message: str) -> None:
    proxy.answer = answer
    server = Server("vcenter", "me", "word", proxy_host="127.0.0.1", proxy_port=proxy.server_address[1], **login)
    with pytest.raises(_errors.ConnectionFailed, match=message), Session(server):
        pass
    sent = [line for line in proxy.lines if line.startswith("Proxy-Authorization")]
    assert sent == (["Proxy-Authorization: Basic am9lOndyb25nLXdvcmQ="] if login else [])


def test_missing_library_names_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vmomi, "IMPORT_ERROR", "Traceback")
    message = str(_vmomi.missing())
    assert sys.executable in message
    assert "ansible_python_interpreter" in message
