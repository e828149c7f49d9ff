# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One login to a vCenter or ESXi server: open it, call through it, close it.

Private to the collection. Knows nothing of VMs. Every request to the server
goes through :meth:`Session.call`, so each round trip is a visible call.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import socket
import ssl
import threading
import typing as t
from dataclasses import dataclass, field
from xml.parsers import expat

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

CALL_TIMEOUT = 120
"""Seconds after which an unanswered request counts as lost; longer than any wait we ask the server for."""

PROXY_PORT = 80
"""Port of a proxy whose port is not given."""

CONNECT_TIMEOUT = 30
"""Seconds for the first connection to the server."""


class UnknownType(_errors.OperationFailed):
    """The server's answer holds a type that pyVmomi does not know, a fault as a rule."""


@dataclass(frozen=True)
class Server:
    """How to reach the server and who logs in."""

    hostname: str
    username: str
    password: str = field(repr=False)
    port: int = 443
    validate_certs: bool = True
    ca_path: str | None = None
    proxy_host: str | None = None
    proxy_port: int | None = None


class Session:
    """A context manager that logs in on entry and out on exit.

    :raises _errors.ConnectionFailed: the server cannot be reached, its
        certificate is not trusted, or it is not a vSphere server.
    :raises _errors.LoginFailed: user name or password are wrong.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.logins = 0
        self.key = ""
        self._renewing = threading.Lock()
        self._stub: t.Any = None
        self.content: t.Any = None
        self.closing = contextlib.ExitStack()
        """What else ends with the session: logged out of first."""

    def __enter__(self) -> Session:
        self._stub = _connect(self.server)
        try:
            self.content = self._first_answer()
            self._log_in()
        except BaseException:
            self._stub.DropConnections()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The task's outcome stands; a log-out that fails must not replace it.
        try:
            with contextlib.suppress(Exception):
                self.closing.close()
        finally:  # also when the user ends us meanwhile
            with contextlib.suppress(Exception):
                self.content.sessionManager.Logout()
            self._stub.DropConnections()

    @property
    def api_version(self) -> tuple[int, ...]:
        """``about.apiVersion`` as numbers: (8, 0, 3, 0)."""
        return _vmomi.numbers(self.content.about.apiVersion)

    @property
    def is_vcenter(self) -> bool:
        """Whether the server is a vCenter (and not an ESXi host)."""
        return self.content.about.apiType == "VirtualCenter"

    @property
    def name(self) -> str:
        """The server in messages: host name, product and API version."""
        return f"{self.server.hostname} ({self.content.about.name}, API {self.content.about.apiVersion})"

    def current_time(self) -> datetime.datetime:
        """Return the server's time, by which it dates events and tasks: one round trip."""
        return self.ask(self.object(vim.ServiceInstance, "ServiceInstance").CurrentTime)

    def object(self, kind: t.Any, moid: str) -> t.Any:
        """A managed object of pyVmomi type ``kind`` by its managed object ID; no round trip."""
        return kind(moid, self._stub)

    def call(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Call a method of a managed object: one round trip.

        When the server has dropped the session we log in again, once in the
        session's life, and repeat the call, which was not carried out.

        :raises _errors.ConnectionLost: no answer came; the request may have been carried out.
        """
        logins = self.logins
        try:
            return self.call_once(method, *args, **kwargs)
        except vim.fault.NotAuthenticated:
            self.renew(logins)
            return self.call_once(method, *args, **kwargs)

    def ask(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """As :meth:`call`, for what changes nothing: asked again, once, when the connection breaks.

        What takes several calls, each of which is good for the session or the answer before it alone, is asked as a
        whole: as one function that makes them by :meth:`call_once`.
        """
        try:
            return self.call(method, *args, **kwargs)
        except _errors.ConnectionLost:
            return self.call(method, *args, **kwargs)

    def renew(self, seen: int) -> None:
        """Log in again, after the server has dropped the session; once in the session's life.

        :param seen: :attr:`logins` before the call that was refused; when another thread has logged in since,
            nothing is left to do.
        """
        with self._renewing:
            if seen == self.logins:
                self._renew()

    def _renew(self) -> None:
        if self.logins > 1:
            raise _errors.ConnectionFailed(
                f"{self.server.hostname} ended the session of {self.server.username} twice during this task. "
                "Look in its log for who ended it, then run again."
            )
        self._stub.SetSessionId("")  # a cookie of the old session would make it one that is logged in already
        self._log_in()

    def call_once(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """As :meth:`call`, but a dropped session is the caller's: for calls on what dies with a session."""
        try:
            return method(*args, **kwargs)
        except (OSError, http.client.HTTPException, expat.ExpatError) as error:
            raise lost(self.server, error) from error
        except (KeyError, AttributeError) as error:
            # pyVmomi's deserializer, on a type it has no class for, or a value that its enumeration does not have.
            raise UnknownType(
                f"{self.server.hostname} answered with something that pyVmomi {_vmomi.version} does not know "
                f"({_reason(error)}). A newer pyVmomi may know it."
            ) from error

    def _first_answer(self) -> t.Any:
        instance = vim.ServiceInstance("ServiceInstance", self._stub)
        with reaching(self.server, CALL_TIMEOUT):
            return instance.RetrieveContent()

    def _log_in(self) -> None:
        server = self.server
        try:
            with reaching(server, CALL_TIMEOUT):
                self.key = self.content.sessionManager.Login(server.username, server.password).key
        except vim.fault.InvalidLogin:
            raise _errors.LoginFailed(
                f"{server.hostname} refused the login of {server.username}: wrong user name or password. "
                "Check username and password."
            ) from None
        except vmodl.MethodFault as fault:
            raise _errors.LoginFailed(
                f"{server.hostname} refused the login of {server.username}: {_errors.fault_text(fault)}."
            ) from fault
        self.logins += 1


def _connect(server: Server) -> t.Any:
    """A pyVmomi stub that speaks the newest version both sides know; not logged in yet."""
    if server.proxy_host and not _vmomi.at_least(_vmomi.PROXY_MINIMUM):
        raise _errors.BadInput(
            f"proxy_host needs pyVmomi {_vmomi.PROXY_MINIMUM} or newer: {_vmomi.version} cannot use a proxy. "
            f"Install a newer one: pip install 'pyvmomi>={_vmomi.PROXY_MINIMUM}'."
        )
    proxy = (
        {"httpProxyHost": server.proxy_host, "httpProxyPort": server.proxy_port or PROXY_PORT}
        if server.proxy_host
        else {}
    )
    with reaching(server, CONNECT_TIMEOUT), _default_timeout(CONNECT_TIMEOUT):
        return _vmomi.SmartStubAdapter(
            host=server.hostname,
            port=server.port,
            sslContext=tls_context(server.ca_path, server.validate_certs),
            httpConnectionTimeout=CALL_TIMEOUT,
            **proxy,
        )


def tls_context(ca_path: str | None, verify: bool) -> ssl.SSLContext:
    """Which certificates are accepted: those the CAs vouch for, or without ``verify`` any.

    :raises _errors.BadInput: ``ca_path`` cannot be read.
    """
    if not verify:
        # Without the system's CAs, which take longer to load than a short task takes.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=ca_path)
    except (OSError, ssl.SSLError) as error:
        raise _errors.BadInput(
            f"ca_path {ca_path} cannot be used: {_reason(error)}. Give a file of CA certificates in PEM format."
        ) from error


@contextlib.contextmanager
def _default_timeout(seconds: float) -> t.Iterator[None]:
    # pyVmomi asks for the server's versions over a connection it gives no time-out.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def reaching(server: Server, seconds: float) -> t.Iterator[None]:
    """Turn what goes wrong on the way to the server into one sentence each."""
    where = f"Could not connect to {server.hostname} port {server.port}"
    if server.proxy_host:
        where += f" through the proxy {server.proxy_host} port {server.proxy_port or PROXY_PORT}"
    try:
        yield
    except (_errors.Error, vmodl.MethodFault):
        raise
    except ssl.SSLCertVerificationError as error:
        raise _errors.ConnectionFailed(
            f"{where}: its certificate is not trusted ({error.verify_message}). "
            "Give the CA's certificate in ca_path; validate_certs=false would accept any server."
        ) from error
    except ssl.SSLError as error:
        raise _errors.ConnectionFailed(f"{where}: no TLS there ({_reason(error)}). Check hostname and port.") from error
    except socket.gaierror as error:
        raise _errors.ConnectionFailed(f"{where}: the name does not resolve. Check hostname.") from error
    except TimeoutError as error:
        raise _errors.ConnectionFailed(
            f"{where}: no answer within {seconds:g} seconds. Check hostname, port and firewalls."
        ) from error
    except OSError as error:
        raise _errors.ConnectionFailed(f"{where}: {_reason(error)}. Check hostname and port.") from error
    except Exception as error:  # pyVmomi raises bare exceptions for servers it does not recognise
        raise _errors.ConnectionFailed(
            f"{where}: what answers is not a vSphere server. Check hostname and port."
        ) from error


def lost(server: Server, error: Exception) -> _errors.ConnectionLost:
    """The sentence for a request that was sent, and whose answer did not come."""
    return _errors.ConnectionLost(
        f"The connection to {server.hostname} broke during a call ({_reason(error)}). "
        "Check the server and the network, then run again."
    )


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
