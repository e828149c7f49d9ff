# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send HTTPS requests other than SOAP: TLS with pinning, proxy, size limits, no redirects.

Private to the collection.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import (
    Connection,
    reaching,
    reason,
    tls_context,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

REACH_TIMEOUT = 10
"""Seconds for the connection to an ESXi host: it is on the network, and there may be an alternative to it."""


class Unreachable(_errors.ConnectionFailed):
    """The host could not be connected to; nothing was sent."""


class Untrusted(_errors.ConnectionFailed):
    """The host's certificate is not the expected one; nothing was sent."""


@dataclass(frozen=True)
class Transfer:
    """A file transfer to or from an ESXi host.

    :param url: an https URL; the host ``*`` stands for the server we are logged in to.
    :param what: begins the error sentence: "Could not upload a script to VM golden".
    :param otherwise: the user's alternative if the host is not reachable: "use script_delivery=guestinfo".
    :param certificate: the only accepted certificate (DER); ``None``: certificates of trusted CAs are accepted.
    :param check: if false, any certificate is accepted.
    """

    url: str
    what: str
    otherwise: str
    certificate: bytes | None
    check: bool = True


class Answer(t.NamedTuple):
    """An answer of the server we are logged in to."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    session: Session, method: str, path: str, headers: t.Mapping[str, str], content: bytes | None, limit: int
) -> Answer:
    """Send a request to the server we are logged in to, with the session's proxy and TLS settings. Follow no redirect.

    :raises _errors.ConnectionFailed: nothing was sent.
    :raises _errors.ConnectionLost: there was no answer, or it had more than ``limit`` bytes.
    :raises _errors.TimedOut: the deadline has passed; nothing was sent.
    """
    server = session.server
    session.begin()
    context = tls_context(server.ca_path, server.validate_certs)
    with session.budget.call():
        seconds = min(_connection.CONNECT_TIMEOUT, session.budget.left())
        connection = Connection(server, session.budget, server.hostname, server.port, context, seconds)
        try:
            with reaching(server, min(_connection.CONNECT_TIMEOUT, session.deadline.seconds)):
                connection.connect()
            connection.request(method, path, content, dict(headers))
            answer = connection.getresponse()
            body = answer.read(limit + 1)
            if len(body) > limit:
                raise OSError(f"it answered with more than {limit} bytes")
        except (OSError, http.client.HTTPException) as error:
            raise session.failed(error) from error
        finally:
            connection.close()
    return Answer(answer.status, answer.reason, answer.headers, body)


def put(session: Session, transfer: Transfer, content: bytes) -> None:
    """Send ``content`` with PUT."""
    _request(session, transfer, "PUT", content, 0)


def get(session: Session, transfer: Transfer, limit: int) -> bytes:
    """Fetch a file of at most ``limit`` bytes with GET.

    :raises _errors.OperationFailed: it is longer.
    """
    return _request(session, transfer, "GET", None, limit)


def _request(session: Session, transfer: Transfer, method: str, content: bytes | None, limit: int) -> bytes:
    host, port, path = _target(session, transfer)
    session.begin()
    with session.budget.call():
        connection = _connect(session, host, port, transfer)
        try:
            connection.request(method, path, content, {"Content-Type": "application/octet-stream"} if content else {})
            answer = connection.getresponse()
            body = answer.read(limit + 1)
        except (OSError, http.client.HTTPException) as error:
            kind = _errors.Unanswered if session.budget.cut_off() else _errors.ConnectionLost
            raise kind(
                _errors.sentence(
                    transfer.what, f"the connection to ESXi host {host} broke ({reason(error)})", "Run again."
                )
            ) from error
        finally:
            connection.close()
    if answer.status not in (200, 201):
        why = f"ESXi host {host} answered {answer.status} {answer.reason}"
        remedy = "Run again."
        if 300 <= answer.status < 400:
            why += ", a redirect, which is not followed"
            remedy = f"Check for a proxy in front of the host, or {transfer.otherwise}."
        raise _errors.OperationFailed(_errors.sentence(transfer.what, why, remedy))
    if method == "GET" and len(body) > limit:
        raise _errors.OperationFailed(_errors.sentence(transfer.what, f"it is longer than {limit} bytes"))
    return body


def _target(session: Session, transfer: Transfer) -> tuple[str, int, str]:
    """Return host, port and path of a transfer.

    :raises _errors.OperationFailed: the server gave a URL that cannot be used.
    """
    try:
        parts = urlsplit(transfer.url)
        host, port = parts.hostname, parts.port or 443
        if parts.scheme != "https" or not host or re.search(r"[^\x21-\x7e]", transfer.url):
            raise ValueError
    except ValueError as error:
        raise _errors.OperationFailed(
            _errors.sentence(
                transfer.what,
                f"{session.server.hostname} returned a URL for it that cannot be used",
                f"Check the name of the VM's ESXi host in vCenter, or {transfer.otherwise}.",
            )
        ) from error
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return (session.server.hostname if host == "*" else host), port, path or "/"


def _connect(session: Session, host: str, port: int, transfer: Transfer) -> Connection:
    server = session.server
    pinned = transfer.check and transfer.certificate is not None
    context = tls_context(server.ca_path, verify=transfer.check and not pinned)
    connection = Connection(server, session.budget, host, port, context, min(REACH_TIMEOUT, session.budget.left()))
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(
            _errors.sentence(
                transfer.what,
                f"the certificate of ESXi host {host} is not trusted ({error.verify_message})",
                "Use guest_transfer_certs=pinned, or set ca_path to the certificate of its CA.",
            )
        ) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        connection.close()
        why = f"ESXi host {host} port {port} cannot be reached ({reason(error)})"
        if isinstance(error, (socket.gaierror, UnicodeError)):
            why = f"the name of ESXi host {host} does not resolve"
        raise Unreachable(
            _errors.sentence(transfer.what, why, f"Allow connections to it, or {transfer.otherwise}.")
        ) from error
    if pinned and _peer_certificate(connection) != transfer.certificate:
        connection.close()
        raise Untrusted(
            _errors.sentence(
                transfer.what,
                f"ESXi host {host} shows a different certificate than vCenter reports for it",
                "Find out which server answers before you continue.",
            )
        )
    return connection


def _peer_certificate(connection: http.client.HTTPSConnection) -> bytes | None:
    sock = t.cast(ssl.SSLSocket, connection.sock)
    return sock.getpeercert(binary_form=True)
