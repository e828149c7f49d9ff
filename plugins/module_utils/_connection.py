# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to the server and its ESXi hosts: TLS, proxy, and no wait beyond the task's deadline.

Private to the collection. SOAP, the Managed Object Browser and file transfers
all use these connections.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import select
import socket
import ssl
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline

CALL_TIMEOUT = 120
"""Seconds without data after which a request counts as lost; longer than any wait that we ask the server for."""

PROXY_PORT = 80
"""Port of a proxy if none is given."""

CONNECT_TIMEOUT = 30
"""Maximum number of seconds for the first connection to the server."""

SLICE_SECONDS = 0.5
"""Interval, in seconds, at which a wait for the network checks for signals and the deadline."""


@dataclass(frozen=True)
class Server:
    """The address of the server, and the login."""

    hostname: str
    username: str
    password: str = field(repr=False)
    port: int = 443
    validate_certs: bool = True
    ca_path: str | None = None
    proxy_host: str | None = None
    proxy_port: int | None = None
    proxy_username: str | None = None
    proxy_password: str | None = field(default=None, repr=False)


class _Socket(socket.socket):
    """A socket that waits no longer than the task's budget allows, even if data arrives slowly."""

    budget: Budget
    patience: float = CALL_TIMEOUT
    """Seconds without data after which the other side counts as lost."""

    def recv_into(self, *args: t.Any) -> int:
        """Receive data as it arrives."""
        return t.cast(int, _patiently(self, super().recv_into, args))


class _TlsSocket(ssl.SSLSocket):
    """Like :class:`_Socket`, for TLS."""

    budget: Budget
    patience: float = CALL_TIMEOUT

    def do_handshake(self, block: bool = False) -> None:
        """Negotiate a key with the other side."""
        self.patience = self.gettimeout() or CONNECT_TIMEOUT
        _patiently(self, super().do_handshake, ())

    def recv_into(self, *args: t.Any) -> int:
        """Receive data as it arrives."""
        return t.cast(int, _patiently(self, super().recv_into, args))

    def send(self, *args: t.Any) -> int:
        """Send some data."""
        return t.cast(int, _patiently(self, super().send, args))


def _patiently(sock: _Socket | _TlsSocket, operation: t.Callable[..., t.Any], args: tuple[t.Any, ...]) -> t.Any:
    """Wait in slices: after a time-out, a socket and OpenSSL are ready to repeat the same operation."""
    patience = Deadline(sock.patience)
    while True:
        sock.settimeout(max(0.001, min(SLICE_SECONDS, patience.remaining, sock.budget.left())))
        try:
            return operation(*args)
        except TimeoutError:
            if patience.passed:
                raise


class ProxyFailed(OSError):
    """The proxy cannot be used.

    :param why: a clause for the error sentence.
    :param remedy: a sentence.
    """

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


class Connection(http.client.HTTPSConnection):
    """A connection to a host, through the server's proxy if there is one.

    :param seconds: how long connecting may take.
    """

    def __init__(
        self, server: Server, budget: Budget, host: str, port: int, context: ssl.SSLContext, seconds: float
    ) -> None:
        through = (server.proxy_host, server.proxy_port or PROXY_PORT) if server.proxy_host else (host, port)
        context.sslsocket_class = type("_OurTlsSocket", (_TlsSocket,), {"budget": budget})
        super().__init__(*through, context=context, timeout=seconds)
        self._budget = budget
        self._seconds = seconds
        # The standard library's implementation would try each address of a name for the whole time.
        self._create_connection = self._dial
        if server.proxy_host:
            self.set_tunnel(host, port, _proxy_login(server))
        self._server = server

    def connect(self) -> None:
        """Connect, and then allow each answer as much time as a call may take."""
        super().connect()
        t.cast(_TlsSocket, self.sock).patience = CALL_TIMEOUT

    def _tunnel(self) -> None:
        try:
            super()._tunnel()  # type: ignore[misc]
        except TimeoutError:
            raise
        except http.client.HTTPException as error:
            raise ProxyFailed(
                "the server that answers is not an HTTP proxy", "Check proxy_host and proxy_port."
            ) from error
        except OSError as error:
            answer = re.search(r"Tunnel connection failed: (\d+) ?(.*)", str(error))
            if answer is None:
                raise ProxyFailed(
                    f"the proxy broke the connection ({reason(error)})", "Check the log of the proxy."
                ) from error
            if answer[1] != "407":
                why = f"the proxy answered {answer[1]} {answer[2]}".rstrip()
                remedy = f"Check whether the proxy may connect to {self._server.hostname}, and whether that host is up."
            elif self._server.proxy_username:
                why = f"the proxy refused the login of {self._server.proxy_username}"
                remedy = "Check proxy_username and proxy_password."
            else:
                why, remedy = "the proxy requires a login", "Set proxy_username and proxy_password."
            raise ProxyFailed(why, remedy) from error

    def _dial(self, address: tuple[str, int], *_unused: t.Any) -> socket.socket:
        try:
            return self._reach_any(address)
        except TimeoutError:
            raise
        except (socket.gaierror, UnicodeError) as error:
            if not self._server.proxy_host:
                raise
            raise ProxyFailed("the name of the proxy does not resolve", "Check proxy_host.") from error
        except OSError as error:
            if not self._server.proxy_host:
                raise
            raise ProxyFailed(reason(error), "Check proxy_host and proxy_port.") from error

    def _reach_any(self, address: tuple[str, int]) -> socket.socket:
        patience = Deadline(self._seconds)
        trouble: OSError = OSError("the name has no address")
        for family, kind, protocol, _name, target in socket.getaddrinfo(*address, 0, socket.SOCK_STREAM):
            sock = _Socket(family, kind, protocol)
            sock.budget, sock.patience = self._budget, self._seconds
            try:
                _reach(sock, target, patience)
            except OSError as error:
                sock.close()
                trouble = error
                if patience.passed:
                    break
            except BaseException:
                sock.close()
                raise
            else:
                sock.settimeout(self._seconds)
                return sock
        raise trouble


def _proxy_login(server: Server) -> dict[str, str]:
    if not server.proxy_username:
        return {}
    login = f"{server.proxy_username}:{server.proxy_password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}


def _reach(sock: _Socket, target: t.Any, patience: Deadline) -> None:
    sock.setblocking(False)
    try:
        sock.connect(target)
    except BlockingIOError:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(1000 * min(SLICE_SECONDS, patience.remaining, sock.budget.left())):
            if patience.passed:
                raise TimeoutError("timed out") from None
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number)) from None


def tls_context(ca_path: str | None, verify: bool) -> ssl.SSLContext:
    """Return a context that accepts certificates of trusted CAs; without ``verify``, any certificate.

    :raises _errors.BadInput: ``ca_path`` cannot be read.
    """
    if not verify:
        # Without the system's CAs, because loading them takes longer than a short task.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        context = ssl.create_default_context(cafile=ca_path)
    except (OSError, ValueError) as error:  # a path may have characters that no file name can have
        raise _errors.BadInput(
            f"ca_path {ca_path} cannot be used: {reason(error)}. Set it to a file of CA certificates in PEM format."
        ) from error
    # Python 3.13 and newer set this flag. It refuses trusted certificates without extensions that RFC 5280 requires and
    # many vCenters lack, such as Authority Key Identifier (python/cpython issue 138193); older versions do not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@contextlib.contextmanager
def reaching(server: Server, seconds: float) -> t.Iterator[None]:
    """Turn errors on the way to the server into sentences."""
    where = f"Could not connect to {server.hostname} port {server.port}"
    if server.proxy_host:
        where += f" through the proxy {server.proxy_host} port {server.proxy_port or PROXY_PORT}"
    try:
        yield
    except _errors.Error:
        raise
    except ProxyFailed as error:
        raise _errors.ConnectionFailed(f"{where}: {error}. {error.remedy}") from error
    except ssl.SSLCertVerificationError as error:
        raise _errors.ConnectionFailed(
            f"{where}: its certificate is not trusted ({error.verify_message}). Set ca_path to the certificate of its "
            "CA. With validate_certs=false, any server would be accepted."
        ) from error
    except ssl.SSLError as error:
        raise _errors.ConnectionFailed(
            f"{where}: the server does not speak TLS ({reason(error)}). Check hostname and port."
        ) from error
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: the name cannot be a host name
        raise _errors.ConnectionFailed(f"{where}: the name does not resolve. Check hostname.") from error
    except TimeoutError as error:
        raise _errors.ConnectionFailed(
            f"{where}: no answer within {_printable.count(seconds, 'second')}. Check hostname, port and firewalls."
        ) from error
    except OSError as error:
        raise _errors.ConnectionFailed(f"{where}: {reason(error)}. Check hostname and port.") from error
    except Exception as error:
        raise _errors.ConnectionFailed(
            f"{where}: the server that answers is not a vSphere server ({reason(error)}). Check hostname and port."
        ) from error


def lost(server: Server, error: Exception) -> _errors.ConnectionLost:
    """Return the error for a request that was sent but not answered."""
    return _errors.ConnectionLost(
        f"The connection to {server.hostname} broke during a call ({reason(error)}). "
        "Check the server and the network, then run again."
    )


def reason(error: BaseException) -> str:
    """Return an exception's text as a clause without a period."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(" .") or type(error).__name__
