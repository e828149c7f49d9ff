# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the server and its ESXi hosts: TLS, proxy, and no wait beyond the task's time.

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

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline

CALL_TIMEOUT = 120
"""Seconds without a byte after which a request counts as lost; longer than any wait we ask the server for."""

PROXY_PORT = 80
"""Port of a proxy whose port is not given."""

CONNECT_TIMEOUT = 30
"""Seconds for the first connection to the server."""

SLICE_SECONDS = 0.5
"""Seconds after which a wait for the network looks whether a signal came, or whether its time is over."""


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
    proxy_username: str | None = None
    proxy_password: str | None = field(default=None, repr=False)


class _Socket(socket.socket):
    """A socket that waits no longer than the task's budget allows, however slowly the bytes come."""

    budget: Budget
    patience: float = CALL_TIMEOUT
    """Seconds without a byte after which the other side counts as lost."""

    def recv_into(self, *args: t.Any) -> int:
        """Receive bytes as they come."""
        return t.cast(int, _patiently(self, super().recv_into, args))


class _TlsSocket(ssl.SSLSocket):
    """As :class:`_Socket`, for TLS."""

    budget: Budget
    patience: float = CALL_TIMEOUT

    def do_handshake(self, block: bool = False) -> None:
        """Agree with the other side on a key."""
        self.patience = self.gettimeout() or CONNECT_TIMEOUT
        _patiently(self, super().do_handshake, ())

    def recv_into(self, *args: t.Any) -> int:
        """Receive bytes as they come."""
        return t.cast(int, _patiently(self, super().recv_into, args))

    def send(self, *args: t.Any) -> int:
        """Send some bytes."""
        return t.cast(int, _patiently(self, super().send, args))


def _patiently(sock: _Socket | _TlsSocket, operation: t.Callable[..., t.Any], args: tuple[t.Any, ...]) -> t.Any:
    """Wait in slices: a time-out leaves a socket, and OpenSSL, ready for the same operation once more."""
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

    :param seconds: how long it may take to come about.
    """

    def __init__(
        self, server: Server, budget: Budget, host: str, port: int, context: ssl.SSLContext, seconds: float
    ) -> None:
        through = (server.proxy_host, server.proxy_port or PROXY_PORT) if server.proxy_host else (host, port)
        context.sslsocket_class = type("_OurTlsSocket", (_TlsSocket,), {"budget": budget})
        super().__init__(*through, context=context, timeout=seconds)
        self._budget = budget
        self._seconds = seconds
        # The standard library's own way tries each of a name's addresses for the whole time.
        self._create_connection = self._dial
        if server.proxy_host:
            self.set_tunnel(host, port, _proxy_login(server))
        self._server = server

    def connect(self) -> None:
        """Connect, and from then on wait for each answer as long as a call may take."""
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
        # Without the system's CAs, which take longer to load than a short task takes.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        context = ssl.create_default_context(cafile=ca_path)
    except (OSError, ValueError) as error:  # a path may have characters that no file's name can have
        raise _errors.BadInput(
            f"ca_path {ca_path} cannot be used: {reason(error)}. Set it to a file of CA certificates in PEM format."
        ) from error
    # Python 3.13 and newer set this flag. It refuses trusted certificates for extensions that RFC 5280 demands and many
    # vCenters lack, such as Authority Key Identifier (python/cpython issue 138193); older versions do without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@contextlib.contextmanager
def reaching(server: Server, seconds: float) -> t.Iterator[None]:
    """Turn what goes wrong on the way to the server into one sentence each."""
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
    except (socket.gaierror, UnicodeError) as error:  # the latter of names that cannot be host names
        raise _errors.ConnectionFailed(f"{where}: the name does not resolve. Check hostname.") from error
    except TimeoutError as error:
        raise _errors.ConnectionFailed(
            f"{where}: no answer within {seconds:g} seconds. Check hostname, port and firewalls."
        ) from error
    except OSError as error:
        raise _errors.ConnectionFailed(f"{where}: {reason(error)}. Check hostname and port.") from error
    except Exception as error:
        raise _errors.ConnectionFailed(
            f"{where}: the server that answers is not a vSphere server ({reason(error)}). Check hostname and port."
        ) from error


def lost(server: Server, error: Exception) -> _errors.ConnectionLost:
    """Return the sentence for a request that was sent, and whose answer did not come."""
    return _errors.ConnectionLost(
        f"The connection to {server.hostname} broke during a call ({reason(error)}). "
        "Check the server and the network, then run again."
    )


def reason(error: BaseException) -> str:
    """Return what an exception says, as a clause without a full stop."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(" .") or type(error).__name__
