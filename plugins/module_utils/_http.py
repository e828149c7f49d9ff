# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain HTTPS for what is not SOAP: TLS with pinning, proxy, no redirects.

Private to the collection.
"""

from __future__ import annotations

import http.client
import ssl
import typing as t
from urllib.parse import urlsplit

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import (
    CALL_TIMEOUT,
    PROXY_PORT,
    Server,
    tls_context,
)

REACH_TIMEOUT = 10
"""Seconds for the connection to an ESXi host: it is on the network, and there may be another way than over it."""


class Unreachable(_errors.ConnectionFailed):
    """No connection to the host came about; nothing was sent."""


class Untrusted(_errors.ConnectionFailed):
    """The host's certificate is not the expected one; nothing was sent."""


def put(server: Server, url: str, content: bytes, what: str, certificate: bytes | None, check: bool = True) -> None:
    """Send ``content`` by PUT.

    :param url: an https URL; a host of ``*`` stands for the server we are logged in to.
    :param what: begins the error sentence: "Could not upload a script to VM golden".
    :param certificate: the only certificate (DER) that is accepted; ``None`` leaves it to the CAs.
    :param check: without it, any certificate is accepted.
    """
    parts = urlsplit(url)
    host = parts.hostname if parts.hostname not in (None, "*") else server.hostname
    port = parts.port or 443
    connection = _connect(server, str(host), port, what, certificate, check)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("PUT", path, content, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _errors.ConnectionLost(
            _errors.sentence(what, f"the connection to ESXi host {host} broke ({error})", "Run again.")
        ) from error
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise _errors.OperationFailed(
            _errors.sentence(what, f"ESXi host {host} answered {answer.status} {answer.reason}", "Run again.")
        )


def _connect(
    server: Server, host: str, port: int, what: str, certificate: bytes | None, check: bool
) -> http.client.HTTPSConnection:
    pinned = check and certificate is not None
    context = tls_context(server.ca_path, verify=check and not pinned)
    if server.proxy_host:
        connection = http.client.HTTPSConnection(
            server.proxy_host, server.proxy_port or PROXY_PORT, context=context, timeout=REACH_TIMEOUT
        )
        connection.set_tunnel(host, port)
    else:
        connection = http.client.HTTPSConnection(host, port, context=context, timeout=REACH_TIMEOUT)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(
            _errors.sentence(
                what,
                f"the certificate of ESXi host {host} is not trusted ({error.verify_message})",
                "Use guest_transfer_certs=pinned, or give its CA in ca_path.",
            )
        ) from error
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Unreachable(
            _errors.sentence(
                what,
                f"ESXi host {host} port {port} cannot be reached ({error})",
                "Open the way there, or use script_delivery=guestinfo.",
            )
        ) from error
    if pinned and _peer_certificate(connection) != certificate:
        connection.close()
        raise Untrusted(
            _errors.sentence(
                what,
                f"ESXi host {host} shows another certificate than the one vCenter reports for it",
                "Find out who answers there before you go on.",
            )
        )
    connection.sock.settimeout(CALL_TIMEOUT)  # the answer comes when the file is in the guest
    return connection


def _peer_certificate(connection: http.client.HTTPSConnection) -> bytes | None:
    sock = t.cast(ssl.SSLSocket, connection.sock)
    return sock.getpeercert(binary_form=True)
