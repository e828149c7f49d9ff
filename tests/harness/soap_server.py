# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that implements enough of vSphere's SOAP for a login, and misbehaves on request."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
import ssl
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

VERSIONS = "GET"
"""The request for the versions that the server speaks, among the names of SOAP methods."""

PUT = "PUT"
"""The request that sends a file."""

LOCATION = "https://elsewhere.example/"
"""The target of answers with a status of 3xx."""

COOKIE = 'vmware_soap_session="f00d"; Path=/'

_DOCUMENT = """<?xml version="1.0" encoding="UTF-8" ?><namespaces version="1.0"><namespace><name>urn:vim25</name>
<version>8.0.0.0</version><priorVersions><version>6.7</version></priorVersions></namespace></namespaces>"""

_ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<soapenv:Body><{0}Response xmlns="urn:vim25">{1}</{0}Response></soapenv:Body></soapenv:Envelope>"""

_RESULTS = {
    "RetrieveServiceContent": """<returnval><rootFolder type="Folder">group-d1</rootFolder>
<propertyCollector type="PropertyCollector">propertyCollector</propertyCollector>
<about><name>VMware vCenter Server</name><fullName>VMware vCenter Server 8.0</fullName><vendor>VMware</vendor>
<version>8.0.0</version><build>1</build><osType>linux-x64</osType><productLineId>vpx</productLineId>
<apiType>VirtualCenter</apiType><apiVersion>8.0.0.0</apiVersion></about>
<sessionManager type="SessionManager">SessionManager</sessionManager>
<viewManager type="ViewManager">ViewManager</viewManager></returnval>""",
    "Login": """<returnval><key>one</key><userName>me</userName><fullName>me</fullName>
<loginTime>2026-01-01T00:00:00Z</loginTime><lastActiveTime>2026-01-01T00:00:00Z</lastActiveTime>
<locale>en</locale><messageLocale>en</messageLocale></returnval>""",
    "Logout": "",
    "CurrentTime": "<returnval>2026-01-01T00:00:00Z</returnval>",
}


class SoapServer(ThreadingHTTPServer):
    """A context manager that listens on a free port until its end.

    :param acts: method → its actions, one for each call; the last one is repeated. ``silent`` (no answer), ``drip``
        (an endless answer, byte by byte), ``cut`` (the connection is closed before the answer), ``cut body`` (or in the
        middle of it), ``last`` (the connection is closed after the answer, which says so), ``answer``, or a status such
        as ``503``. Pages other than that of the versions are named by their paths.
    :ivar pages: path → the page that is returned.
    :ivar results: method → the content of its answer.
    :ivar cookie: the cookie that an answer to a login sets.
    """

    daemon_threads = True
    pem: bytes | None = None
    """Key and certificates; without them one that nobody trusts."""

    def __init__(self, **acts: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.acts = {method: list(given) for method, given in acts.items()}
        self.pages: dict[str, str] = {}
        self.results = dict(_RESULTS)
        self.cookie = COOKIE
        self.calls: list[tuple[str, str]] = []
        """Method and session cookie of each request."""
        self.connections = 0
        """How many connections were opened."""
        self.called = threading.Condition()
        self.ended = threading.Event()
        self.socket = tls_context(self.pem).wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever)

    def __enter__(self) -> SoapServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_unused: object) -> None:
        """Print nothing: clients close connections."""

    @property
    def methods(self) -> list[str]:
        """Return the methods that were called, in order."""
        return [method for method, _cookie in self.calls]

    def await_call(self, method: str) -> None:
        """Wait until a method is called."""
        with self.called:
            assert self.called.wait_for(lambda: method in self.methods, 60)


class _Handler(BaseHTTPRequestHandler):
    server: SoapServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = VERSIONS if path.endswith("vimServiceVersions.xml") else path
        self._serve(name, lambda _method: self.server.pages.get(path, _DOCUMENT))

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._serve(PUT, lambda _method: "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        found = re.search(r"Body><(\w+)", body)
        assert found is not None
        self._serve(found[1], lambda method: _ENVELOPE.format(method, self.server.results.get(method, "")))

    def _serve(self, method: str, answer: Callable[[str], str]) -> None:
        acts = self.server.acts.get(method, ["answer"])
        act = acts.pop(0) if len(acts) > 1 else acts[0]
        with self.server.called:
            self.server.calls.append((method, self.headers.get("Cookie", "")))
            self.server.called.notify_all()
        if act == "silent":
            self.server.ended.wait()
        elif act == "cut":
            self.close_connection = True
        elif act.isdigit():
            self.send_response(int(act))
            self.send_header("Content-Length", "0")
            if act.startswith("3"):
                self.send_header("Location", LOCATION)
            self.end_headers()
        else:
            self._answer(method, answer(method).encode(), act)

    def _answer(self, method: str, content: bytes, act: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(content) + (1_000_000 if act == "drip" else 0)))
        if method in ("Login", "/mob/"):
            self.send_header("Set-Cookie", self.server.cookie)
        if act == "last":
            self.send_header("Connection", "close")
        self.end_headers()
        if act == "cut body":
            self.wfile.write(content[:100])
            self.close_connection = True
            return
        self.wfile.write(content)
        while act == "drip" and not self.server.ended.wait(0.1):
            self.wfile.write(b" ")

    def log_message(self, *_unused: object) -> None:
        """Print nothing."""


@functools.cache
def tls_context(pem: bytes | None = None) -> ssl.SSLContext:
    """Return a context with a key and its certificates, or else with a certificate that nobody trusts."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "server.pem")
        path.write_bytes(pem or certificate())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
    return context


def certificate() -> bytes:
    """Return a key and a self-signed certificate for 127.0.0.1, in PEM format."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder("fake vCenter", key).issuer_name(_name("fake vCenter")).sign(key, hashes.SHA256())
    return _as_pem(key) + made.public_bytes(serialization.Encoding.PEM)


def certificate_from_ca(has_key_identifier: bool) -> tuple[bytes, bytes]:
    """Return a key and a certificate for 127.0.0.1 issued by a CA, and the CA's certificate, in PEM format.

    :param has_key_identifier: whether the certificate has the extension Authority Key Identifier.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    ca = (
        _builder("fake CA", ca_key)
        .issuer_name(_name("fake CA"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    builder = (
        _builder("fake vCenter", key)
        .issuer_name(_name("fake CA"))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if has_key_identifier:
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        builder = builder.add_extension(authority, critical=False)
    made = builder.sign(ca_key, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    return _as_pem(key) + made.public_bytes(encoding), ca.public_bytes(encoding)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _as_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """Return a certificate for 127.0.0.1, to be signed."""
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    )
