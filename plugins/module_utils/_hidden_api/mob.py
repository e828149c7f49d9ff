# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the unpublished methods through vCenter's Managed Object Browser (MOB).

Private to the collection. Every method has a page with a form,
``/mob/?moid=vm-12&method=enableForkParent``. Sending the form calls the method,
and the answer shows its task or its fault. Everything else uses SOAP.

Sources: the login by HTTP basic authentication, the session's cookie and the
form's nonce belong together, and one nonce is valid for many calls (William
Lam's automate-vsphere-mob.ps1; Unprotect-InstantClone.ps1 of VMware, which
also logs out by GET /mob/logout; pivotal's nsx-edge-gen uses a nonce from
another method's form). Parameters: text as it is; objects and data objects as
XML whose element has the name of the parameter (vSphere Web Services SDK
Programming Guide, appendix "Managed Object Browser"); unset ones are left out
(enable-disable-vsphere-api-method.ps1 does so with sessionScope).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import re
import threading
import typing as t
from urllib.parse import urlencode
from xml.etree import ElementTree

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _http
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods, page, soap
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import VmomiSupport, vim, vmodl

LIMIT = 4 * 1024 * 1024
"""Maximum size of a page in bytes; the page of a method with its result has about ten thousand."""

SESSION_COOKIE = "vmware_soap_session"

LOGIN_FAULTS = ("InvalidLogin", "NotAuthenticated")


class MobCaller:
    """Calls the unpublished methods through the MOB.

    Logs in before the first call, and logs out when the session ends.

    :param instead: the ``call_via`` to recommend if the MOB does not work; empty if it was already tried.
    """

    def __init__(self, session: Session, instead: str = "") -> None:
        self._session = session
        self._server = session.server
        self._otherwise = f", or use call_via={instead}" if instead else ""
        self._remedy = (
            f"Use call_via={instead}, or remove call_via."
            if instead
            else f"The server does not have it over SOAP either. {methods.VSPHERE} have it; newer versions have "
            "Instant Clone."
        )
        self._cookies: dict[str, str] = {}
        self._nonce: str | None = None
        self._was_refused = False
        self._mishap: _errors.Error | None = None
        """Why the MOB cannot be used; not retried, since repeated failed logins may lock the user out."""
        self._calling = threading.Lock()
        self._mob = f"The Managed Object Browser of {self._server.hostname}"
        session.closing.callback(self._log_out)

    def call(self, vm: t.Any, method: methods.Method, **arguments: t.Any) -> t.Any:
        """See :meth:`methods.Caller.call`. Other faults are raised unchanged.

        If the server has ended the session, we log in again, once per session, and repeat the call, which was not
        carried out.

        :raises _errors.ConnectionFailed: the MOB cannot be used, and nothing was called.
        :raises _errors.ConnectionLost: no answer with the result of the call was received.
        """
        with self._calling:  # the calls share a session, its cookies and a nonce
            return self._call(vm, method, form_fields(method, arguments))

    def _call(self, vm: t.Any, method: methods.Method, form: dict[str, str]) -> t.Any:
        if self._mishap is not None:
            raise self._mishap
        if not self.has_opened:
            self._open(vm, method)
        answer = self._send(vm, method, form)
        if answer is None and not self._was_refused:
            self._was_refused = True
            self._open(vm, method)
            answer = self._send(vm, method, form)
        if answer is None:
            raise self._refused_twice()
        return self._task(answer, method)

    @property
    def has_opened(self) -> bool:
        """Return whether the MOB works: it has returned a form."""
        return self._nonce is not None

    def child_spec(self, **values: t.Any) -> t.Any:
        """See :meth:`methods.Caller.child_spec`."""
        return soap.SoapCaller(self._session).child_spec(**values)

    # --- pages ------------------------------------------------------------------------------------------------------

    def _open(self, vm: t.Any, method: methods.Method) -> None:
        """Get a method's form, which starts a session and contains its nonce."""
        had_session = bool(self._cookies)
        answer, shown = self._get(vm, method)
        if had_session and _is_refusal(answer, shown):
            self._cookies.clear()
            answer, shown = self._get(vm, method)
        if answer.status == 404:
            raise self._not_found(answer, shown, vm, method)
        if shown.outcome is not None and not _is_refusal(answer, shown):
            raise self._raised(shown, method)
        self._mishap = self._mishap_of(answer, shown)
        if self._mishap is not None:
            raise self._mishap
        self._nonce = shown.nonce

    def _send(self, vm: t.Any, method: methods.Method, form: dict[str, str]) -> page.Page | None:
        """Send a form; ``None``: it was refused, for example because the session has ended.

        In all other cases it must not be sent again, because it may have been carried out.
        """
        content = urlencode({page.NONCE: str(self._nonce), **form}).encode()
        answer, shown = self._request("POST", _path(vm, method), content)
        if _is_refusal(answer, shown):
            return None
        if answer.status == 404:
            raise self._not_found(answer, shown, vm, method)
        self._nonce = shown.nonce or self._nonce
        if shown.outcome is None:
            raise _errors.ConnectionLost(
                f"{self._mob} answered a call with {answer.status} {answer.reason}, instead of its result. Check the "
                "VM's tasks in the vSphere Client, then run again."
            )
        return shown

    def _get(self, vm: t.Any | None = None, method: methods.Method | None = None) -> tuple[_http.Answer, page.Page]:
        """Return the page of a method or of an object, or the first page."""
        return self._request("GET", _path(vm, method))

    def _request(self, verb: str, path: str, content: bytes | None = None) -> tuple[_http.Answer, page.Page]:
        headers = self._cookie()
        if SESSION_COOKIE in self._cookies:  # with a login, an ended session would be replaced silently
            until_answered: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        else:
            headers["Authorization"] = self._login()
            until_answered = self._session.budget.hold()
        if content is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"

        def ask() -> _http.Answer:
            return _http.ask(self._session, verb, path, headers, content, LIMIT)

        with until_answered:
            try:
                answer = ask()
            except _errors.ConnectionLost:
                raise
            except _errors.ConnectionFailed:
                answer = ask()  # nothing was sent
            self._keep_cookies(answer)
        return answer, _read(answer)

    def _login(self) -> str:
        login = f"{self._server.username}:{self._server.password}"
        return f"Basic {base64.b64encode(login.encode()).decode()}"

    def _cookie(self) -> dict[str, str]:
        pairs = [f"{name}={value}" for name, value in self._cookies.items()]
        return {"Cookie": "; ".join(pairs)} if pairs else {}

    def _keep_cookies(self, answer: _http.Answer) -> None:
        for header in answer.headers.get_all("Set-Cookie", []):
            name, _equals, value = header.partition(";")[0].partition("=")  # http.cookies drops unknown attributes
            self._cookies[name.strip()] = value.strip()
        self._cookies = {name: value for name, value in self._cookies.items() if value.strip('"')}

    def _log_out(self) -> None:
        if not self._cookies:
            return
        for _attempt in range(2):
            with contextlib.suppress(_errors.ConnectionFailed):
                # Without the login, which could start a new session.
                answer = _http.ask(self._session, "GET", "/mob/logout", self._cookie(), None, LIMIT)
                shown = _read(answer)
                if _is_refusal(answer, shown) or (answer.status == 200 and shown.outcome is None):
                    return  # the session has ended

    # --- faults -----------------------------------------------------------------------------------------------------

    def _not_found(self, answer: _http.Answer, shown: page.Page, vm: t.Any, method: methods.Method) -> _errors.Error:
        """Return the error that says what is missing: the method, the VM or the MOB."""
        if _is_page(*self._get(vm)):
            return self._unknown(method)
        if _is_page(*self._get()):
            gone = f"The object '{vm._GetMoId()}' has already been deleted or has not been completely created"
            return self._as_error(vmodl.fault.ManagedObjectNotFound(obj=vm, msg=gone))
        self._mishap = self._mishap_of(answer, shown)
        return t.cast(_errors.Error, self._mishap)

    def _unknown(self, method: methods.Method, fault: _errors.Error | None = None) -> _errors.MethodUnknown:
        return soap.method_unknown(self._session, method, "in its Managed Object Browser", self._remedy, fault)

    def _mishap_of(self, answer: _http.Answer, shown: page.Page) -> _errors.Error | None:
        user, otherwise = self._server.username, self._otherwise
        status = f"({answer.status} {answer.reason})"
        if answer.status == 401 or shown.outcome in LOGIN_FAULTS:
            return _errors.LoginFailed(
                f"{self._mob} refused the login of {user}: wrong user name or password. "
                f"Check username and password{otherwise}."
            )
        if answer.status == 403:
            return _errors.LoginFailed(
                f"{self._mob} does not let {user} in {status}. Grant the user access to it{otherwise}."
            )
        if answer.status in (404, 503):
            return _errors.ConnectionFailed(
                f"{self._mob} is switched off or does not run {status}. "
                f"Set config.vpxd.enableDebugBrowse to true in vCenter's advanced settings{otherwise}."
            )
        if shown.has_password_field or 300 <= answer.status < 400:
            to = re.match(r"https?://([^/?#@]+)", answer.headers.get("Location", ""))
            return _errors.ConnectionFailed(
                f"{self._mob} answered with a login page{f' at {to[1]}' if to else ''} instead of its own page, but "
                f"only HTTP basic authentication is supported. Check for a proxy in front of it{otherwise}."
            )
        if answer.status != 200 or not shown.is_browser:
            return _errors.ConnectionFailed(
                f"{self._mob} is not what answers at https://{self._server.hostname}:{self._server.port}/mob {status}. "
                f"Check hostname and port, and any proxy in front of it{otherwise}."
            )
        if shown.nonce is None:
            return _errors.ConnectionFailed(
                f"{self._mob} returned a form without {page.NONCE}, which it requires in the reply. Try the form in a "
                f"web browser{otherwise}."
            )
        return None

    def _refused_twice(self) -> _errors.ConnectionFailed:
        return _errors.ConnectionFailed(
            f"{self._mob} refused a call twice, which happens when the session of {self._server.username} has ended. "
            f"Check the server's log for who ended it, then run again{self._otherwise}."
        )

    # --- results ----------------------------------------------------------------------------------------------------

    def _task(self, shown: page.Page, method: methods.Method) -> t.Any:
        if shown.outcome == "Task" and shown.moid:
            return self._session.object(vim.Task, shown.moid)
        raise self._raised(shown, method)

    def _raised(self, shown: page.Page, method: methods.Method) -> _errors.Error:
        """Return the exception for a page that shows something other than a task."""
        fault = self._fault(shown)
        return self._unknown(method, fault) if soap.is_unknown_method(self._session, fault) else fault

    def _as_error(self, fault: t.Any) -> _errors.Fault:
        return _errors.Fault(fault, self._server.hostname)

    def _fault(self, shown: page.Page) -> _errors.Error:
        """Return the fault that the server raised, as over SOAP."""
        kind = _type(shown.outcome or "")
        message = shown.value("msg", "localizedMessage")
        messages = shown.values("message")
        if not issubclass(kind, vmodl.MethodFault):
            text = " ".join([message or "", *messages]).strip(" .")
            return UnknownType(
                f"{self._server.hostname} answered with {shown.outcome or 'nothing'}{f': {text}' if text else ''}, "
                "which is neither a task nor a fault that pyVmomi knows. Check the VM's tasks in the vSphere Client."
            )
        fault = kind(msg=message, faultMessage=[vmodl.LocalizableMessage(key="", message=text) for text in messages])
        if issubclass(kind, vim.fault.NoPermission):
            fault.privilegeId = shown.value("privilegeId")
            refused = shown.reference("object")
            if refused:
                known = _type(refused[0])
                fault.object = self._session.object(
                    known if issubclass(known, vim.ManagedEntity) else vim.ManagedEntity, refused[1]
                )
        return self._as_error(fault)


def _path(vm: t.Any | None, method: methods.Method | None) -> str:
    if vm is None:
        return "/mob/"
    query = {"moid": vm._GetMoId()}
    return "/mob/?" + urlencode({**query, "method": method.browser_name} if method else query)


def _is_refusal(answer: _http.Answer, shown: page.Page) -> bool:
    """Return whether the user or the session was refused; in that case, nothing was called."""
    return answer.status in (401, 403) or shown.outcome in LOGIN_FAULTS or shown.has_password_field


def _is_page(answer: _http.Answer, shown: page.Page) -> bool:
    return answer.status == 200 and shown.is_browser and shown.outcome is None


def _read(answer: _http.Answer) -> page.Page:
    charset = answer.headers.get_content_charset("utf-8")
    try:
        shown = page.read(answer.body.decode(charset, "replace"))
    except (LookupError, UnicodeError):  # an unknown charset
        shown = page.read(answer.body.decode("utf-8", "replace"))
    if shown.outcome is None and issubclass(_type(shown.title), vmodl.MethodFault):
        return dataclasses.replace(shown, outcome=shown.title)  # the page shows only a fault
    return shown


def _type(name: str) -> t.Any:
    try:
        return VmomiSupport.GuessWsdlType(name)
    except KeyError:
        return type(None)


# --- parameters -----------------------------------------------------------------------------------------------------


def form_fields(method: methods.Method, arguments: dict[str, t.Any]) -> dict[str, str]:
    """Return the values for a method's form."""
    info, values = soap.described(method, arguments)
    return {
        parameter.name: value if isinstance(value, str) else _xml(parameter, value)
        for parameter, value in zip(info.params, values, strict=True)
        if value is not None
    }


def _xml(parameter: t.Any, value: t.Any) -> str:
    root = ElementTree.Element(parameter.name)
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xmlns:xsd", "http://www.w3.org/2001/XMLSchema")
    _fill(root, parameter.type, value)
    # A parser would read a literal carriage return as the end of a line.
    return ElementTree.tostring(root, encoding="unicode").replace("\r", "&#13;")


def _fill(element: ElementTree.Element, declared: t.Any, value: t.Any) -> None:
    """Write a value into its element, in the same form as over SOAP."""
    if isinstance(value, VmomiSupport.ManagedObject):
        element.set("type", VmomiSupport.GetWsdlName(type(value)))
        element.text = value._GetMoId()
    elif isinstance(value, VmomiSupport.DataObject):
        if value.__class__ is not declared:
            element.set("xsi:type", VmomiSupport.GetWsdlName(type(value)))
        for info in value._GetPropertyList():
            held = getattr(value, info.name)
            for item in held if isinstance(held, list) else [held]:
                if item is not None:
                    _fill(ElementTree.SubElement(element, info.name), getattr(info.type, "Item", info.type), item)
    else:
        if declared is object:
            element.set("xsi:type", "xsd:string")
        element.text = str(value).lower() if isinstance(value, bool) else str(value)
