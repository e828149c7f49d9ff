# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain HTTPS for what is not SOAP: TLS with pinning, proxy, size limits, no redirects.

Private to the collection.
"""

from __future__ import annotations

import http.client
import ssl
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import (
    CALL_TIMEOUT,
    CONNECT_TIMEOUT,
    PROXY_PORT,
    Server,
    lost,
    reaching,
    tls_context,
)

REACH_TIMEOUT = 10
"""Seconds for the connection to an ESXi host: it is on the network, and there may be another way than over it."""


class Unreachable(_errors.ConnectionFailed):
    """No connection to the host came about; nothing was sent."""


class Untrusted(_errors.ConnectionFailed):
    """The host's certificate is not the expected one; nothing was sent."""


@dataclass(frozen=True)
class Transfer:
    """One file that goes to or comes from an ESXi host.

    :param url: an https URL; a host of ``*`` stands for the server we are logged in to.
    :param what: begins the error sentence: "Could not upload a script to VM golden".
    :param otherwise: what the user may do when there is no way to the host: "use script_delivery=guestinfo".
    :param certificate: the only certificate (DER) that is accepted; ``None`` leaves it to the CAs.
    :param check: without it, any certificate is accepted.
    """

    url: str
    what: str
    otherwise: str
    certificate: bytes | None
    check: bool = True


class Answer(t.NamedTuple):
    """What the server we are logged in to answered to one request."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    server: Server, method: str, path: str, headers: t.Mapping[str, str], content: bytes | None, limit: int
) -> Answer:
    """One request to the server we are logged in to, reached and trusted as the session is. No redirect is followed.

    :raises _errors.ConnectionFailed: nothing was sent.
    :raises _errors.ConnectionLost: no answer came, or one of more than ``limit`` bytes.
    """
    context = tls_context(server.ca_path, server.validate_certs)
    connection = _connection(server, server.hostname, server.port, context, CONNECT_TIMEOUT)
    try:
        with reaching(server, CONNECT_TIMEOUT):
            connection.connect()
        connection.sock.settimeout(CALL_TIMEOUT)
        connection.request(method, path, content, dict(headers))
        answer = connection.getresponse()
        body = answer.read(limit + 1)
        if len(body) > limit:
            raise OSError(f"it answered with more than {limit} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise lost(server, error) from error
    finally:
        connection.close()
    return Answer(answer.status, answer.reason, answer.headers, body)


def put(server: Server, transfer: Transfer, content: bytes) -> None:
    """Send ``content`` by PUT."""
    _request(server, transfer, "PUT", content, 0)


def get(server: Server, transfer: Transfer, limit: int) -> bytes:
    """Fetch a file of at most ``limit`` bytes by GET.

    :raises _errors.OperationFailed: it is longer.
    """
    return _request(server, transfer, "GET", None, limit)


def _request(server: Server, transfer: Transfer, method: str, content: bytes | None, limit: int) -> bytes:
    parts = urlsplit(transfer.url)
    host = str(parts.hostname if parts.hostname not in (None, "*") else server.hostname)
    connection = _connect(server, host, parts.port or 443, transfer)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, content, {"Content-Type": "application/octet-stream"} if content else {})
        answer = connection.getresponse()
        body = answer.read(limit + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _errors.ConnectionLost(
            _errors.sentence(transfer.what, f"the connection to ESXi host {host} broke ({error})", "Run again.")
        ) from error
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise _errors.OperationFailed(
            _errors.sentence(transfer.what, f"ESXi host {host} answered {answer.status} {answer.reason}", "Run again.")
        )
    if method == "GET" and len(body) > limit:
        raise _errors.OperationFailed(_errors.sentence(transfer.what, f"it is longer than {limit} bytes"))
    return body


def _connect(server: Server, host: str, port: int, transfer: Transfer) -> http.client.HTTPSConnection:
    pinned = transfer.check and transfer.certificate is not None
    context = tls_context(server.ca_path, verify=transfer.check and not pinned)
    connection = _connection(server, host, port, context, REACH_TIMEOUT)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(
            _errors.sentence(
                transfer.what,
                f"the certificate of ESXi host {host} is not trusted ({error.verify_message})",
                "Use guest_transfer_certs=pinned, or give its CA in ca_path.",
            )
        ) from error
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Unreachable(
            _errors.sentence(
                transfer.what,
                f"ESXi host {host} port {port} cannot be reached ({error})",
                f"Open the way there, or {transfer.otherwise}.",
            )
        ) from error
    if pinned and _peer_certificate(connection) != transfer.certificate:
        connection.close()
        raise Untrusted(
            _errors.sentence(
                transfer.what,
                f"ESXi host {host} shows another certificate than the one vCenter reports for it",
                "Find out who answers there before you go on.",
            )
        )
    connection.sock.settimeout(CALL_TIMEOUT)  # the answer to an upload comes when the file is in the guest
    return connection


def _connection(
    server: Server, host: str, port: int, context: ssl.SSLContext, timeout: float
) -> http.client.HTTPSConnection:
    if not server.proxy_host:
        return http.client.HTTPSConnection(host, port, context=context, timeout=timeout)
    proxy_port = server.proxy_port or PROXY_PORT
    connection = http.client.HTTPSConnection(server.proxy_host, proxy_port, context=context, timeout=timeout)
    connection.set_tunnel(host, port)
    return connection


def _peer_certificate(connection: http.client.HTTPSConnection) -> bytes | None:
    sock = t.cast(ssl.SSLSocket, connection.sock)
    return sock.getpeercert(binary_form=True)
