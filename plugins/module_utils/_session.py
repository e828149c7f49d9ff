# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in to a vCenter or ESXi server, make calls, and log out.

Private to the collection. Knows nothing about VMs. Every request to the server
uses :meth:`Session.call`, so each round trip is a visible call.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.client
import http.cookies
import re
import threading
import time
import typing as t
import zlib
from xml.parsers import expat

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _deadline, _errors, _types, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server, lost, reaching, reason
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._progress import Progress
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

__all__ = ["Server", "Session", "UnknownType"]

API_6_7 = (6, 7)
"""The API version that introduced Instant Clone and CheckPowerOn_Task, and removed the methods of VMFork."""

VERSIONS_LIMIT = 1024 * 1024
"""Maximum size of the document in which a server lists its API versions; it has some thousand bytes."""

UNREADABLE = (
    KeyError,
    AttributeError,
    TypeError,
    ValueError,
    OverflowError,
    EOFError,
    zlib.error,
    http.cookies.CookieError,
)
"""Exceptions that pyVmomi raises for an answer that it cannot read."""

IDLE_CONNECTIONS = 1000
"""The maximum number of idle connections to keep: all of them, since each new one costs a TLS handshake. There are as
many as there were calls at a time."""

RETRY_SECONDS = 5
"""Seconds between two attempts to connect to a vCenter that is starting."""


INVALID = "This is not a valid vSphere response. Check the server's health and its log, then run again."
"""Sentences about an answer of another type than vSphere declares."""


class UnknownType(_errors.OperationFailed):
    """The server's answer contains a type that pyVmomi does not know, usually a fault."""


class _Unavailable(_errors.ConnectionFailed):
    """A proxy in front of the server answers, but the server behind it does not, or not yet."""


class Session:
    """A context manager that logs in on entry and out on exit.

    :raises _errors.ConnectionFailed: the server cannot be reached, its
        certificate is not trusted, or it is not a vSphere server.
    :raises _errors.LoginFailed: user name or password are wrong.
    """

    def __init__(self, server: Server, budget: Budget | None = None, progress: Progress | None = None) -> None:
        self.server = server
        self.budget = budget or Budget()
        """The time that calls may take; it limits every call."""
        self.progress = progress or Progress()
        """Receives the progress of the task."""
        self.logins = 0
        self.key = ""
        self.login_time: datetime.datetime | None = None
        """The time of the login by the server's clock."""
        self._renewing = threading.Lock()
        self._stub: t.Any = None
        self._cookie: str | None = None
        self.content: t.Any = None
        self.views: dict[t.Any, t.Any] = {}
        """Container views for :mod:`_properties`. Like :attr:`filters`, they end with the session, so nothing removes
        them."""
        self.filters: list[t.Any] = []
        """Filters for :mod:`_properties` that are not in use."""
        self.filtering = threading.Lock()
        """Guards :attr:`filters` and :attr:`login_with_filter`: several threads may watch."""
        self.login_with_filter = 0
        """The last of the :attr:`logins` in whose session the collector that every session has got a filter."""
        self.closing = contextlib.ExitStack()
        """What else to close with the session, before the logout."""

    @property
    def deadline(self) -> Deadline:
        """The task's deadline."""
        return self.budget.deadline

    def clean_up(self, seconds: float = _deadline.EXTRA_SECONDS) -> contextlib.AbstractContextManager[Deadline]:
        """Allow clean-up calls after the deadline or after a signal; see :meth:`_deadline.Budget.clean_up`."""
        return self.budget.clean_up(seconds)

    def __enter__(self) -> Session:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        # A failed logout must not replace the task's outcome.
        with self.budget.log_out():
            try:
                with contextlib.suppress(Exception):
                    self.closing.close()
            finally:  # even if the user interrupts this
                self._close()

    def _open(self) -> None:
        while True:
            try:
                self._stub = _stub(self.server, self.budget)
                self.content = self._first_answer()
                self._log_in()
            except _Unavailable:
                if self.deadline.remaining <= RETRY_SECONDS:
                    raise
                self._pause(RETRY_SECONDS)
            else:
                return

    def _pause(self, seconds: float) -> None:
        until = Deadline(seconds)
        while not until.passed and self.budget.may_begin():
            time.sleep(min(_connection.SLICE_SECONDS, until.remaining))

    def _close(self) -> None:
        """Log out, even if it is not known whether the login succeeded, and drop the connections."""
        if self._stub is None:
            return
        with self.budget.log_out():
            try:
                if self.content is not None and getattr(self._stub, "cookie", True):
                    self._log_out()
            finally:
                self._stub.DropConnections()

    def _log_out(self) -> None:
        for _attempt in range(2):  # the second attempt opens a new connection if the first one broke
            with contextlib.suppress(Exception):
                with contextlib.suppress(vim.fault.NotAuthenticated):  # the session has ended already
                    self.content.sessionManager.Logout()
                return

    @property
    def api_version(self) -> tuple[int, ...]:
        """``about.apiVersion`` as numbers: (8, 0, 3, 0)."""
        return _vmomi.numbers(self.content.about.apiVersion)

    @property
    def is_vcenter(self) -> bool:
        """Return whether the server is a vCenter (and not an ESXi host)."""
        return self.content.about.apiType == "VirtualCenter"

    @property
    def name(self) -> str:
        """The server in messages: host name, product and API version."""
        return f"{self.server.hostname} ({self.content.about.name}, API {self.content.about.apiVersion})"

    def current_time(self) -> datetime.datetime:
        """Return the server's time, which it uses for events and tasks, with one call."""
        return self.ask(self.object(vim.ServiceInstance, "ServiceInstance").CurrentTime)

    def object(self, kind: t.Any, moid: str) -> t.Any:
        """Return a managed object of pyVmomi type ``kind`` by its managed object ID, without a call."""
        return kind(moid, self._stub)

    def call(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Call a method of a managed object.

        If the server has ended the session, log in again, once per session,
        and repeat the call, which was not carried out.

        :raises _errors.Fault: the server answered with a fault.
        :raises _errors.ConnectionLost: there was no answer; the request may have been carried out.
        """
        logins = self.logins
        try:
            return self.call_once(method, *args, **kwargs)
        except _errors.Fault as fault:
            if not fault.is_a("NotAuthenticated"):
                raise
            self.renew(logins)
            return self.call_once(method, *args, **kwargs)

    def ask(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Call a method that changes nothing, as :meth:`call` does, and retry once if the connection breaks.

        If a result needs several calls that depend on the session or on the previous answer, pass a function that
        makes all of them with :meth:`call_once`. It is repeated as a whole.
        """
        try:
            return self.call(method, *args, **kwargs)
        except _errors.Unanswered:
            raise
        except _errors.ConnectionLost:
            return self.call(method, *args, **kwargs)

    def renew(self, seen: int) -> None:
        """Log in again after the server has ended the session, once per session.

        :param seen: :attr:`logins` before the refused call; if another thread has logged in since, nothing is left to
            do.
        """
        with self._renewing:
            if seen == self.logins:
                self._renew()
            else:  # pyVmomi takes any cookie, also that of the answer to a call which was sent before the login
                self._stub.cookie = self._cookie

    def _renew(self) -> None:
        if self.logins > 1:
            raise _errors.ConnectionFailed(
                f"{self.server.hostname} ended the session of {self.server.username} twice during this task. Check "
                "its log for who ended it, then run again."
            )
        self._stub.SetSessionId("")  # with the old cookie, the server would treat the session as logged in
        self._log_in()

    def call_once(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Call a method as :meth:`call` does, but without a new login: for objects that end with the session."""
        self.begin()
        try:
            with self.budget.call():
                return method(*args, **kwargs)
        except vmodl.MethodFault as fault:
            raise _errors.Fault(fault, self.server.hostname) from fault
        except (OSError, http.client.HTTPException, expat.ExpatError) as error:
            raise self.failed(error) from error
        except UnicodeEncodeError as error:
            raise _errors.BadInput(
                f"A value cannot be sent to {self.server.hostname}: it has characters that are not valid Unicode. "
                "Correct the options of the task."
            ) from error
        except UNREADABLE as error:
            # Raised by pyVmomi's deserializer for a type without a class, or an unknown value of an enumeration.
            raise UnknownType(
                f"{self.server.hostname} answered with something that pyVmomi {_vmomi.version} does not know "
                f"({reason(error)}). A newer pyVmomi may know it."
            ) from error

    def begin(self) -> None:
        """Check that a call may be started.

        :raises _errors.TimedOut: the deadline has passed; nothing was sent.
        :raises _errors.Interrupted: a signal was received.
        """
        if not self.budget.may_begin():
            raise _errors.TimedOut(
                f"The timeout of the task ({self.deadline.duration}) was reached, so nothing more was sent to "
                f"{self.server.hostname}. Increase timeout, or run again."
            )

    def failed(self, error: Exception) -> _errors.ConnectionLost:
        """Return the exception for a call that was sent but not answered."""
        if self.budget.cut_off():
            return _errors.Unanswered(
                f"{self.server.hostname} did not answer a call within the {self.deadline.duration} of the "
                "task. Check the server and the network, or increase timeout."
            )
        return lost(self.server, error)

    def _first_answer(self) -> t.Any:
        instance = vim.ServiceInstance("ServiceInstance", self._stub)
        with self._reaching():
            return instance.RetrieveContent()

    @contextlib.contextmanager
    def _reaching(self) -> t.Iterator[None]:
        self.begin()
        seconds = min(_connection.CALL_TIMEOUT, self.deadline.seconds)
        with reaching(self.server, seconds), self.budget.call():
            try:
                yield
            except vmodl.MethodFault as fault:
                raise _errors.Fault(fault, self.server.hostname) from fault
            except http.client.HTTPException as error:
                status = re.match(r"(50[23])\b", str(error))  # how pyVmomi reports an answer that is not from vSphere
                if status:
                    raise _unavailable(self.server, str(error)) from error
                raise

    def _log_in(self) -> None:
        server = self.server
        try:
            with self.budget.hold(), self._reaching():
                user_session = self.content.sessionManager.Login(server.username, server.password)
                self.key, self.login_time = user_session.key, user_session.loginTime
        except _errors.Fault as fault:
            what = f"{server.hostname} refused the login of {server.username}"
            if fault.is_a("InvalidLogin"):
                why, remedy = "wrong user name or password", "Check username and password."
                raise _errors.LoginFailed(_errors.sentence(what, why, remedy)) from None
            raise _errors.LoginFailed(_errors.sentence(what, fault.text)) from fault
        self._cookie = getattr(self._stub, "cookie", None)
        self.logins += 1


def _unavailable(server: Server, answer: str) -> _Unavailable:
    return _Unavailable(
        f"Could not connect to {server.hostname} port {server.port}: it answered {answer}. vCenter may be starting. "
        "Wait until it has started, or check the health of its services, then run again."
    )


def _stub(server: Server, budget: Budget) -> t.Any:
    """Return a pyVmomi stub for the newest API version that both sides know; not logged in yet.

    :raises _errors.ConnectionFailed: the server cannot be reached, or is not a vSphere server.
    """
    context = _connection.tls_context(server.ca_path, server.validate_certs)

    def connection(*_unused: t.Any, **_more: t.Any) -> _connection.Connection:
        """Create a connection; pyVmomi 8 passes the host as a positional argument."""
        seconds = min(_connection.CONNECT_TIMEOUT, budget.left())
        return _connection.Connection(server, budget, server.hostname, server.port, context, seconds)

    if not budget.may_begin():
        raise _errors.TimedOut(f"The timeout of the task was reached before {server.hostname} could be reached.")
    with reaching(server, min(_connection.CONNECT_TIMEOUT, budget.deadline.seconds)):
        first = connection()
        try:
            version = _newest_version(server, first)
        except BaseException:
            first.close()
            raise
        stub = _vmomi.SoapStubAdapter(
            host=server.hostname, port=server.port, version=version, poolSize=IDLE_CONNECTIONS
        )
    stub.scheme = connection
    stub.ReturnConnection(first)  # for the first call, instead of another TLS handshake
    stub.InvokeMethod = functools.partial(_invoke, server, stub.InvokeMethod)
    return stub


def _invoke(server: Server, invoke: t.Callable[..., t.Any], managed: t.Any, method: t.Any, arguments: t.Any) -> t.Any:
    """Call a method and check its result.

    :param method: pyVmomi's description of it.
    :raises UnknownType: the result has another type than vSphere declares.
    """
    result = invoke(managed, method, arguments)
    declared = _types.Declaration(method.result, bool(method.resultFlags & _vmomi.VmomiSupport.F_OPTIONAL))
    found = _types.misfit(result, declared)
    if found is not None:
        raise UnknownType(
            f"{server.hostname} answered the call {method.wsdlName} on {_errors.described(managed)} with {found}. "
            f"{INVALID}"
        )
    return result


def _newest_version(server: Server, connection: http.client.HTTPSConnection) -> str:
    """Return pyVmomi's name of the newest API version that both sides know. The connection can be used again."""
    connection.request("GET", "/sdk/vimServiceVersions.xml")
    answer = connection.getresponse()
    document = answer.read(VERSIONS_LIMIT).decode("utf-8", "replace")
    if not answer.isclosed():  # there is more
        connection.close()
    if answer.status in (502, 503):
        raise _unavailable(server, f"{answer.status} {answer.reason}")
    if answer.status != 200:
        raise ValueError(f"it answered {answer.status} {answer.reason}")
    spoken = set(re.findall(r"<version>\s*([^<\s]+)\s*</version>", document))
    for version in _vmomi.VmomiSupport.GetServiceVersions("vim25"):
        if _vmomi.VmomiSupport.versionIdMap[version] in spoken:
            return t.cast(str, version)
    raise ValueError("it does not list an API version that pyVmomi knows")
