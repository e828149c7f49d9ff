# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One login to a vCenter or ESXi server: open it, call through it, close it.

Private to the collection. Knows nothing of VMs. Every request to the server
goes through :meth:`Session.call`, so each round trip is a visible call.
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
"""The API version with which Instant Clone and CheckPowerOn_Task came, and the methods of VMFork went."""

VERSIONS_LIMIT = 1024 * 1024
"""Bytes of the document in which a server lists the API versions it speaks; it has some thousand."""

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
"""What pyVmomi raises on an answer that it cannot read."""

RETRY_SECONDS = 5
"""Seconds between two attempts to connect to a vCenter that starts."""


INVALID = "This is not a valid vSphere response. Check the server's health and its log, then run again."
"""Sentences about an answer of another type than vSphere declares."""


class UnknownType(_errors.OperationFailed):
    """The server's answer holds a type that pyVmomi does not know, a fault as a rule."""


class _Unavailable(_errors.ConnectionFailed):
    """What answers for the server is there, and the server behind it is not, or not yet."""


class Session:
    """A context manager that logs in on entry and out on exit.

    :raises _errors.ConnectionFailed: the server cannot be reached, its
        certificate is not trusted, or it is not a vSphere server.
    :raises _errors.LoginFailed: user name or password are wrong.
    """

    def __init__(self, server: Server, budget: Budget | None = None, progress: Progress | None = None) -> None:
        self.server = server
        self.budget = budget or Budget()
        """The time that calls may take; every call is capped by it."""
        self.progress = progress or Progress()
        """Where to report how far the task is."""
        self.logins = 0
        self.key = ""
        self._renewing = threading.Lock()
        self._stub: t.Any = None
        self.content: t.Any = None
        self.closing = contextlib.ExitStack()
        """What else ends with the session: logged out of first."""

    @property
    def deadline(self) -> Deadline:
        """The task's deadline."""
        return self.budget.deadline

    def clean_up(self, seconds: float = _deadline.EXTRA_SECONDS) -> contextlib.AbstractContextManager[Deadline]:
        """Allow calls that clean up after the deadline, or after a signal; see :meth:`_deadline.Budget.clean_up`."""
        return self.budget.clean_up(seconds)

    def __enter__(self) -> Session:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The task's outcome stands; a log-out that fails must not replace it.
        with self.budget.log_out():
            try:
                with contextlib.suppress(Exception):
                    self.closing.close()
            finally:  # also when the user ends us meanwhile
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
        """Log out, also of a session whose login was not seen to succeed, and drop the connections."""
        if self._stub is None:
            return
        with self.budget.log_out():
            try:
                if self.content is not None and getattr(self._stub, "cookie", True):
                    self._log_out()
            finally:
                self._stub.DropConnections()

    def _log_out(self) -> None:
        for _attempt in range(2):  # the second one opens a new connection if the first broke
            with contextlib.suppress(Exception):
                with contextlib.suppress(vmodl.MethodFault):  # the session has ended already
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
        """Return the server's time, by which it dates events and tasks: one round trip."""
        return self.ask(self.object(vim.ServiceInstance, "ServiceInstance").CurrentTime)

    def object(self, kind: t.Any, moid: str) -> t.Any:
        """Return a managed object of pyVmomi type ``kind`` by its managed object ID; no round trip."""
        return kind(moid, self._stub)

    def call(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Call a method of a managed object: one round trip.

        When the server has dropped the session we log in again, once in the
        session's life, and repeat the call, which was not carried out.

        :raises _errors.Fault: the server answered with a fault.
        :raises _errors.ConnectionLost: no answer came; the request may have been carried out.
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
        """As :meth:`call`, for what changes nothing: asked again, once, when the connection breaks.

        What takes several calls, each of which is good for the session or the answer before it alone, is asked as a
        whole: as one function that makes them by :meth:`call_once`.
        """
        try:
            return self.call(method, *args, **kwargs)
        except _errors.Unanswered:
            raise
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
                f"{self.server.hostname} ended the session of {self.server.username} twice during this task. Check "
                "its log for who ended it, then run again."
            )
        self._stub.SetSessionId("")  # a cookie of the old session would make it one that is logged in already
        self._log_in()

    def call_once(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        """As :meth:`call`, but a dropped session is the caller's: for calls on what dies with a session."""
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
            # pyVmomi's deserializer, on a type it has no class for, or a value that its enumeration does not have.
            raise UnknownType(
                f"{self.server.hostname} answered with something that pyVmomi {_vmomi.version} does not know "
                f"({reason(error)}). A newer pyVmomi may know it."
            ) from error

    def begin(self) -> None:
        """Make sure that a call may be made.

        :raises _errors.TimedOut: the time is over; nothing was sent.
        :raises _errors.Interrupted: a signal came.
        """
        if not self.budget.may_begin():
            raise _errors.TimedOut(
                f"The timeout of the task ({self.deadline.seconds:g} seconds) was reached, so nothing more was sent to "
                f"{self.server.hostname}. Increase timeout, or run again."
            )

    def failed(self, error: Exception) -> _errors.ConnectionLost:
        """Return the exception for a call that was sent and not answered."""
        if self.budget.cut_off():
            return _errors.Unanswered(
                f"{self.server.hostname} did not answer a call within the {self.deadline.seconds:g} seconds of the "
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
                status = re.match(r"(50[23])\b", str(error))  # so pyVmomi reports what is not an answer of vSphere
                if status:
                    raise _unavailable(self.server, str(error)) from error
                raise

    def _log_in(self) -> None:
        server = self.server
        try:
            with self.budget.hold(), self._reaching():
                self.key = self.content.sessionManager.Login(server.username, server.password).key
        except _errors.Fault as fault:
            what = f"{server.hostname} refused the login of {server.username}"
            if fault.is_a("InvalidLogin"):
                why, remedy = "wrong user name or password", "Check username and password."
                raise _errors.LoginFailed(_errors.sentence(what, why, remedy)) from None
            raise _errors.LoginFailed(_errors.sentence(what, fault.text)) from fault
        self.logins += 1


def _unavailable(server: Server, answer: str) -> _Unavailable:
    return _Unavailable(
        f"Could not connect to {server.hostname} port {server.port}: it answered {answer}. vCenter may be starting. "
        "Wait until it has started, or check the health of its services, then run again."
    )


def _stub(server: Server, budget: Budget) -> t.Any:
    """Return a pyVmomi stub that speaks the newest version both sides know; not logged in yet.

    :raises _errors.ConnectionFailed: the server cannot be reached, or is not a vSphere server.
    """
    context = _connection.tls_context(server.ca_path, server.validate_certs)

    def connection(*_unused: t.Any, **_more: t.Any) -> _connection.Connection:
        """Connect; pyVmomi 8 names the host as an argument without a keyword."""
        seconds = min(_connection.CONNECT_TIMEOUT, budget.left())
        return _connection.Connection(server, budget, server.hostname, server.port, context, seconds)

    if not budget.may_begin():
        raise _errors.TimedOut(f"The timeout of the task was reached before {server.hostname} could be reached.")
    with reaching(server, min(_connection.CONNECT_TIMEOUT, budget.deadline.seconds)):
        version = _newest_version(server, connection())
        stub = _vmomi.SoapStubAdapter(host=server.hostname, port=server.port, version=version)
    stub.scheme = connection
    stub.InvokeMethod = functools.partial(_invoke, server, stub.InvokeMethod)
    return stub


def _invoke(server: Server, invoke: t.Callable[..., t.Any], managed: t.Any, method: t.Any, arguments: t.Any) -> t.Any:
    """Call a method and check its result.

    :param method: what pyVmomi knows about it.
    :raises UnknownType: the result is not what vSphere declares.
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
    """Return pyVmomi's name of the newest API version that both sides know."""
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        answer = connection.getresponse()
        document = answer.read(VERSIONS_LIMIT).decode("utf-8", "replace")
    finally:
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
