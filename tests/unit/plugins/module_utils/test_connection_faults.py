# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that start or redirect, transfers that hang, names that do not resolve, strict X.509 and the MOB's logout."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from harness.soap_server import LOCATION, PUT, VERSIONS, SoapServer, certificate_from_ca
from unit.plugins.module_utils._hidden_api import pages

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors, _http, _session
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.mob import MobCaller
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

LONG = 60
"""Seconds that a test never needs."""

WHAT = "Could not upload a script"


def session(fake: SoapServer, seconds: float = LONG, **given: Any) -> Session:
    options = {"validate_certs": False, **given}
    server = Server("127.0.0.1", "me", "a-long-secret-word", fake.server_port, **options)
    return Session(server, Budget(Deadline(seconds)))


def transfer(url: str) -> _http.Transfer:
    return _http.Transfer(url, WHAT, "use script_delivery=guestinfo", None, check=False)


# --- pyVmomi ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [(("127.0.0.1:443",), {}), ((), {"host": "127.0.0.1", "port": 443, "timeout": 1})])
def test_every_pyvmomi_gets_a_connection(given: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    """Version 8 passes the host positionally, version 9 passes host and port by keywords."""
    arguments, options = given
    with SoapServer() as fake, session(fake) as opened:
        connection = opened._stub.scheme(*arguments, **options)
    assert isinstance(connection, _connection.Connection)
    assert (connection.host, connection.port) == ("127.0.0.1", fake.server_port)


@pytest.mark.parametrize(("act", "connections"), [("answer", 1), ("last", 2)])
def test_first_connection_is_used_again(act: str, connections: int) -> None:
    """A new one costs round trips and a key exchange."""
    with SoapServer(**{VERSIONS: [act]}) as fake:
        with session(fake):
            pass
        assert fake.methods == [VERSIONS, "RetrieveServiceContent", "Login", "Logout"]
        assert fake.connections == connections


# --- a vCenter that is starting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["502", "503"])
@pytest.mark.parametrize("method", [VERSIONS, "RetrieveServiceContent", "Login"])
def test_starting_server_is_awaited(monkeypatch: pytest.MonkeyPatch, method: str, status: str) -> None:
    monkeypatch.setattr(_session, "RETRY_SECONDS", 0.01)
    with SoapServer(**{method: [status, status, "answer"]}) as fake:
        with session(fake):
            assert fake.methods.count(method) == 3
        assert fake.methods[-1] == "Logout"


@pytest.mark.parametrize("status", ["502", "503"])
@pytest.mark.parametrize("method", [VERSIONS, "RetrieveServiceContent", "Login"])
def test_server_that_starts_too_slowly(method: str, status: str) -> None:
    began = time.monotonic()
    with (
        SoapServer(**{method: [status]}) as fake,
        pytest.raises(_errors.ConnectionFailed, match=rf"it answered {status} .*\. vCenter may be starting\. Wait "),
        session(fake, _session.RETRY_SECONDS),
    ):
        pass
    assert time.monotonic() - began < LONG


def test_server_that_redirects() -> None:
    with (
        SoapServer(**{VERSIONS: ["302"]}) as fake,
        pytest.raises(_errors.ConnectionFailed, match="it answered 302 Found"),
        session(fake),
    ):
        pass
    assert fake.methods == [VERSIONS]


# --- transfers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1/guestFile?id=1",
        "https://[nonsense]/guestFile",
        "https://esxi:99999/guestFile",
        "https://esxi:port/guestFile",
        "https:///guestFile",
        "http://esxi/guestFile",
        "https://esxi/guest File",
        "https://esxi/guest\x1b[31mFile",
        "https://esxi/guest\r\nX-Header: 1",
        "guestFile",
        "",
    ],
)
def test_invalid_url(url: str) -> None:
    with pytest.raises(_errors.OperationFailed) as refusal:
        _http.put(Session(Server("vcenter", "me", "word")), transfer(url), b"")
    assert refusal.value.sentence == (
        f"{WHAT}: vcenter returned a URL for it that cannot be used. Check the name of the VM's ESXi host in vCenter, "
        "or use script_delivery=guestinfo."
    )


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no name resolve."""

    def resolve(host: str, *_unused: Any) -> Any:
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


NAMES = ["nobody.example", "label-" * 20, "a..b"]


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("name", NAMES)
def test_names_that_do_not_resolve(name: str) -> None:
    with pytest.raises(
        _http.Unreachable, match=rf"^{WHAT}: the name of ESXi host \S+ does not resolve\. Allow connections"
    ):
        _http.put(Session(Server("vcenter", "me", "word")), transfer(f"https://{name}/guestFile"), b"")
    with (
        pytest.raises(_errors.ConnectionFailed, match=r"port 443: the name does not resolve\. Check hostname\.$"),
        Session(Server(name, "me", "word")),
    ):
        pass
    with (
        pytest.raises(_errors.ConnectionFailed, match=r"the name of the proxy does not resolve\. Check proxy_host\.$"),
        Session(Server("vcenter", "me", "word", proxy_host=name)),
    ):
        pass


@pytest.mark.parametrize("status", ["301", "302", "307", "308"])
def test_redirect_of_a_transfer_is_not_followed(status: str) -> None:
    with SoapServer(**{PUT: [status], "/guestFile": [status]}) as fake:
        to_here = transfer(f"https://*:{fake.server_port}/guestFile")
        for send in (lambda: _http.put(session(fake), to_here, b"x"), lambda: _http.get(session(fake), to_here, 10)):
            with pytest.raises(
                _errors.OperationFailed, match=rf"answered {status} .*, a redirect, which is not fol"
            ) as e:
                send()
            assert LOCATION not in e.value.sentence
    assert fake.methods == [PUT, "/guestFile"]


@pytest.mark.parametrize(
    ("verb", "act"), [(PUT, "silent"), ("GET", "silent"), ("GET", "drip"), ("MOB", "silent"), ("MOB", "drip")]
)
def test_transfer_and_page_that_hang_end_in_time(verb: str, act: str) -> None:
    acts = {PUT: [act], "/guestFile": [act], "/mob/": [act]}
    with SoapServer(**acts) as fake, session(fake, 1) as opened:
        to_here = transfer(f"https://*:{fake.server_port}/guestFile")
        requests = {
            PUT: lambda: _http.put(opened, to_here, b"x"),
            "GET": lambda: _http.get(opened, to_here, 10_000_000),
            "MOB": lambda: MobCaller(opened).call(vim.VirtualMachine("vm-12"), methods.ENABLE_FORK_PARENT),
        }
        began = time.monotonic()
        with pytest.raises(_errors.Unanswered):
            requests[verb]()
        assert time.monotonic() - began < 15
        asked = len(fake.calls)
        with pytest.raises(_errors.TimedOut):
            _http.put(opened, to_here, b"x")
        assert len(fake.calls) == asked


# --- the logout of the Managed Object Browser -------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["SIGTERM", None])
@pytest.mark.parametrize(("acts", "count"), [(["answer"], 1), (["cut", "answer"], 2), (["cut"], 2), (["503"], 2)])
def test_mob_logout_is_retried_once(acts: list[str], count: int, signal: str | None) -> None:
    with SoapServer(**{"/mob/logout": acts}) as fake:
        fake.pages["/mob/"] = pages.form()
        budget = Budget(Deadline(LONG))
        server = Server("127.0.0.1", "me", "a-long-secret-word", fake.server_port, validate_certs=False)
        try:
            with Session(server, budget) as opened:
                MobCaller(opened)._open(vim.VirtualMachine("vm-12"), methods.ENABLE_FORK_PARENT)
                if signal is not None:
                    budget.interrupt(signal)
                    opened.begin()
        except _errors.Interrupted:
            assert signal is not None
        assert fake.methods.count("/mob/logout") == count
        assert all("f00d" in cookie for method, cookie in fake.calls if method == "/mob/logout")
        assert fake.methods[-1] == "Logout"


# --- strict X.509 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_key_identifier", [True, False])
def test_certificate_without_an_authority_key_identifier(
    has_key_identifier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.13 sets a flag that refuses it; older versions have that flag too."""
    original = ssl.create_default_context

    def create(**given: Any) -> ssl.SSLContext:
        context = original(**given)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(_connection.ssl, "create_default_context", create)
    pem, ca = certificate_from_ca(has_key_identifier)
    monkeypatch.setattr(SoapServer, "pem", pem)
    ca_path = tmp_path / "ca.pem"
    ca_path.write_bytes(ca)
    with SoapServer() as fake, session(fake, validate_certs=True, ca_path=str(ca_path)):
        assert "Login" in fake.methods
