# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol of the Managed Object Browser; its answers are data."""

from __future__ import annotations

import base64
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.plugins.module_utils._hidden_api import pages

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _http
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods, transport
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.mob import MobCaller, form_fields
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.soap import SoapCaller
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

PASSWORD = "a-long-password-that-nobody-must-see"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


def answer(text: str = "", status: int = 200, cookie: str = "", **headers: str) -> _http.Answer:
    given: Message = HTTPMessage()
    for name, value in headers.items():
        given[name] = value
    if cookie:
        given["Set-Cookie"] = f'vmware_soap_session="{cookie}"; Path=/; HttpOnly; Secure; Partitioned'
    return _http.Answer(status, "Reason", given, text.encode())


class Server6(Session):
    """A session whose server returns prepared answers."""

    def __init__(self, version: str = "6.5") -> None:
        super().__init__(Server("vc", "me", PASSWORD))
        about = SimpleNamespace(name="VMware vCenter Server", apiVersion=version, apiType="VirtualCenter")
        self.content = SimpleNamespace(about=about)
        self.answers: list[_http.Answer | Exception] = []
        self.asked: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = []

    def ask(  # type: ignore[override]
        self, _server: Server, method: str, path: str, headers: dict[str, str], content: bytes | None, _limit: int
    ) -> _http.Answer:
        form = parse_qs((content or b"").decode(), keep_blank_values=True, strict_parsing=bool(content))
        self.asked.append((method, path, dict(headers), form))
        prepared = self.answers.pop(0)
        if isinstance(prepared, Exception):
            raise prepared
        return prepared

    @property
    def verbs(self) -> list[str]:
        return [request[0] for request in self.asked]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Server6:
    session = Server6()
    monkeypatch.setattr(_http, "ask", session.ask)
    return session


def enable(session: Server6, *answers: _http.Answer | Exception) -> Any:
    session.answers = list(answers)
    return MobCaller(session).call(vim.VirtualMachine("vm-12"), methods.ENABLE_FORK_PARENT)


FORM = answer(pages.form(), cookie="one")


def test_calls_of_a_task(session: Server6) -> None:
    session.answers = [FORM, answer(pages.task("task-1")), answer(pages.task("task-2")), answer(cookie="")]
    caller = MobCaller(session)
    vm = vim.VirtualMachine("vm-12")
    host = vim.HostSystem("host-7")
    assert caller.call(vm, methods.ENABLE_FORK_PARENT, host=host)._GetMoId() == "task-1"
    assert caller.call(vm, methods.DISABLE_FORK_PARENT)._GetMoId() == "task-2"
    session.closing.close()
    got, enabled, disabled, left = session.asked
    assert got[:2] == ("GET", "/mob/?moid=vm-12&method=enableForkParent")
    assert enabled[:2] == ("POST", "/mob/?moid=vm-12&method=enableForkParent")
    assert disabled[:2] == ("POST", "/mob/?moid=vm-12&method=disableForkParent")
    assert left[:2] == ("GET", "/mob/logout")
    assert left[2] == {"Cookie": 'vmware_soap_session="one"'}
    assert enabled[3]["vmware-session-nonce"] == disabled[3]["vmware-session-nonce"] == [pages.NONCE]
    host_xml = ElementTree.fromstring(enabled[3]["host"][0])
    assert (host_xml.tag, host_xml.attrib, host_xml.text) == ("host", {"type": "HostSystem"}, "host-7")
    login = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert got[2] == {"Authorization": login}
    assert enabled[2]["Cookie"] == 'vmware_soap_session="one"'
    assert "Authorization" not in {**enabled[2], **disabled[2]}, "a form must not begin a session"
    assert all(PASSWORD not in str(request[:2]) + str(request[3]) for request in session.asked)


def test_task_belongs_to_the_session(session: Server6) -> None:
    task = enable(session, FORM, answer(pages.task()))
    assert isinstance(task, vim.Task)
    assert task._GetStub() is session.object(vim.Task, "x")._GetStub()


def test_calls_from_several_threads(session: Server6, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are sent one after another in one session."""
    session.answers = [FORM, *(answer(pages.task(f"task-{number}")) for number in range(4))]
    busy, others = threading.Lock(), threading.Event()

    def ask(*given: Any) -> _http.Answer:
        assert busy.acquire(blocking=False), "another request has no answer yet"
        others.wait(0.2)  # time for another thread to send, too
        result = session.ask(*given)
        busy.release()
        return result

    monkeypatch.setattr(_http, "ask", ask)
    caller, vm = MobCaller(session), vim.VirtualMachine("vm-12")
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda _number: caller.call(vm, methods.DISABLE_FORK_PARENT), range(4)))
    assert sorted(task._GetMoId() for task in tasks) == [f"task-{number}" for number in range(4)]
    assert session.verbs == ["GET", *["POST"] * 4]


LOST = _errors.ConnectionLost("The connection broke.")


@pytest.mark.parametrize(
    ("answers", "attempts"),
    [
        ([answer()], 1),
        ([answer("", 401)], 1),
        ([answer("", 503), answer()], 2),
        ([answer(pages.fault("RuntimeFault")), answer()], 2),
        ([LOST, answer()], 2),
        ([LOST, LOST], 2),
    ],
)
def test_refused_logout(session: Server6, answers: list[_http.Answer | Exception], attempts: int) -> None:
    """It is tried once more, unless the session has ended."""
    enable(session, FORM, answer(pages.task("task-1")))
    session.answers = answers
    session.closing.close()
    assert session.verbs == ["GET", "POST", *["GET"] * attempts]


def test_no_logout_without_a_call(session: Server6) -> None:
    MobCaller(session)
    session.closing.close()
    assert session.asked == []


def test_nonce_for_one_call(session: Server6) -> None:
    """The page of a result contains a new form."""
    other = answer(pages.task().replace(pages.NONCE, "second"))
    session.answers = [FORM, other, answer(pages.task())]
    caller = MobCaller(session)
    for _number in range(2):
        caller.call(vim.VirtualMachine("vm-12"), methods.DISABLE_FORK_PARENT)
    assert [request[3].get("vmware-session-nonce") for request in session.asked] == [None, [pages.NONCE], ["second"]]


def test_nonce_of_the_first_form_is_used_where_a_result_has_none(session: Server6) -> None:
    without = answer(re.sub(r"<input[^>]*>", "", pages.task()))
    session.answers = [FORM, without, answer(pages.task())]
    caller = MobCaller(session)
    for _number in range(2):
        caller.call(vim.VirtualMachine("vm-12"), methods.DISABLE_FORK_PARENT)
    assert [request[3].get("vmware-session-nonce") for request in session.asked] == [None, [pages.NONCE], [pages.NONCE]]


def test_server_that_gives_a_new_cookie_with_every_answer(session: Server6) -> None:
    """The task that was started is not lost because of it."""
    session.answers = [FORM, *(answer(pages.task(f"task-{number}"), cookie=str(number)) for number in range(5))]
    caller = MobCaller(session)
    for number in range(5):
        task = caller.call(vim.VirtualMachine("vm-12"), methods.DISABLE_FORK_PARENT)
        assert task._GetMoId() == f"task-{number}"
    assert session.asked[-1][2]["Cookie"] == 'vmware_soap_session="3"'


@pytest.mark.parametrize("cookie", ["", "balancer=3; Path=/"])
def test_server_that_gives_no_session(session: Server6, cookie: str) -> None:
    """Only the login identifies the sender of the form."""
    form = answer(pages.form())
    form.headers["Set-Cookie"] = cookie
    assert enable(session, form, answer(pages.task()))._GetMoId() == "task-123"
    assert session.asked[1][2]["Authorization"] == session.asked[0][2]["Authorization"]


NO_WAY = _errors.ConnectionFailed("Could not connect to vc port 443: Connection refused.")


@pytest.mark.parametrize("answers", [[NO_WAY, FORM, answer(pages.task())], [FORM, NO_WAY, answer(pages.task())]])
def test_connection_that_fails_once(session: Server6, answers: list[_http.Answer | Exception]) -> None:
    """Nothing had been sent."""
    assert enable(session, *answers)._GetMoId() == "task-123"


def test_connection_that_fails_twice(session: Server6) -> None:
    with pytest.raises(_errors.ConnectionFailed, match="Connection refused"):
        enable(session, FORM, NO_WAY, NO_WAY)
    assert session.answers == []


EXPIRED = {
    "401": answer("", 401),
    "403": answer("", 403),
    "fault": answer(pages.fault("vim.fault.NotAuthenticated", word="Fault")),
    "fault alone": answer(pages.fault_alone("NotAuthenticated"), 500),
    "fault with 403": answer(pages.fault_alone("NoPermission"), 403),
    "log-in page": answer(pages.LOG_IN),
}


@pytest.mark.parametrize("refusal", EXPIRED.values(), ids=EXPIRED)
def test_expired_session(session: Server6, refusal: _http.Answer) -> None:
    again = [answer("", 401), answer(pages.form("new"), cookie="three")]
    assert enable(session, FORM, refusal, *again, answer(pages.task()))._GetMoId() == "task-123"
    assert session.verbs == ["GET", "POST", "GET", "GET", "POST"]
    assert session.asked[-1][3]["vmware-session-nonce"] == ["new"]
    assert [sorted({"Cookie", "Authorization"} & set(request[2])) for request in session.asked[2:]] == [
        *(["Cookie"], ["Authorization"], ["Cookie"]),
    ]


@pytest.mark.parametrize("refusal", EXPIRED.values(), ids=EXPIRED)
def test_session_that_expires_twice(session: Server6, refusal: _http.Answer) -> None:
    again = answer(pages.form("other"), cookie="three")
    with pytest.raises(_errors.ConnectionFailed, match="refused a call twice, which happens when the session of me"):
        enable(session, FORM, refusal, again, refusal)
    assert session.verbs.count("POST") <= 2


def test_no_third_login(session: Server6) -> None:
    session.answers = [
        FORM,
        *(answer("", 401), answer("", 401), answer(pages.form(), cookie="two"), answer(pages.task())),
        answer("", 401),
    ]
    caller = MobCaller(session)
    caller.call(vim.VirtualMachine("vm-12"), methods.DISABLE_FORK_PARENT)
    with pytest.raises(_errors.ConnectionFailed, match="refused a call twice"):
        caller.call(vim.VirtualMachine("vm-12"), methods.DISABLE_FORK_PARENT)
    assert session.answers == []


FAILURES = [
    (answer("", 401), _errors.LoginFailed, "refused the login of me: wrong user name or password"),
    (answer("", 401, cookie='""'), _errors.LoginFailed, "refused the login of me: wrong user name or password"),
    *(
        (answer(pages.fault_alone(fault), status), _errors.LoginFailed, "wrong user name or password")
        for fault, status in (("NotAuthenticated", 401), ("NoPermission", 401), ("NotAuthenticated", 200))
    ),
    (answer(pages.fault("InvalidLogin"), 500), _errors.LoginFailed, "wrong user name or password"),
    (answer("", 403), _errors.LoginFailed, "does not let me in (403 Reason)"),
    (answer(pages.fault_alone("NoPermission"), 403), _errors.LoginFailed, "does not let me in (403 Reason)"),
    (answer("", 503), _errors.ConnectionFailed, "is switched off or does not run (503 Reason). Set config.vpxd.enab"),
    (answer(pages.LOG_IN), _errors.ConnectionFailed, "with a login page instead of its own"),
    (
        answer("", 302, Location="https://sso.example.com/login?token=do-not-show"),
        _errors.ConnectionFailed,
        "with a login page at sso.example.com instead of its own",
    ),
    (answer("", 301, Location="https://[/"), _errors.ConnectionFailed, "with a login page at [ instead of its own"),
    (answer(pages.OTHER_PAGE), _errors.ConnectionFailed, "is not what answers at https://vc:443/mob (200 Reason)"),
    (answer(pages.form(), 500), _errors.ConnectionFailed, "is not what answers at https://vc:443/mob (500 Reason)"),
    (answer(pages.form(nonce="")), _errors.ConnectionFailed, "returned a form without vmware-session-nonce"),
]


@pytest.mark.parametrize(("failure", "kind", "message"), FAILURES)
def test_failure_before_the_call(session: Server6, failure: _http.Answer, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)) as error:
        enable(session, failure)
    assert str(error.value).endswith(".")
    assert not re.search(f"{PASSWORD}|do-not-show", str(error.value))
    assert session.verbs == ["GET"], "a wrong password is sent once"


@pytest.mark.parametrize("text", ["", pages.fault_alone("NotAuthenticated")])
def test_failure_is_not_retried(session: Server6, text: str) -> None:
    """Many children must not lock the user out."""
    session.answers = [answer(text, 401)]
    caller = MobCaller(session)
    for _number in range(3):
        with pytest.raises(_errors.LoginFailed):
            caller.call(vim.VirtualMachine("vm-12"), methods.DISABLE_FORK_PARENT)


NOT_FOUND = answer("Managed Object Browser: not found", 404, cookie="one")
OBJECT = answer("Managed Object Type: x")


@pytest.mark.parametrize("before", [[], [FORM]])
def test_page_not_found(session: Server6, before: list[_http.Answer]) -> None:
    """There is no MOB, no such VM, or no such method."""
    with pytest.raises(_errors.ConnectionFailed, match="is switched off or does not run"):
        enable(session, *before, *[NOT_FOUND] * 3)
    with pytest.raises(_errors.Fault, match="'vm-12' has already been deleted"):
        enable(session, *before, NOT_FOUND, NOT_FOUND, OBJECT)
    with pytest.raises(_errors.MethodUnknown, match="does not have the method EnableForkParent_Task"):
        enable(session, *before, NOT_FOUND, OBJECT)
    assert [path for _verb, path, *_rest in session.asked if "method" not in path] == [
        *("/mob/?moid=vm-12", "/mob/", "/mob/?moid=vm-12", "/mob/", "/mob/?moid=vm-12")
    ]
    session.answers = [answer()] * 3
    session.closing.close()
    assert session.asked[-1][1] == "/mob/logout"


def test_vm_that_has_gone_does_not_end_the_session(session: Server6) -> None:
    session.answers = [FORM, NOT_FOUND, NOT_FOUND, OBJECT, answer(pages.task("task-1"))]
    caller = MobCaller(session)
    with pytest.raises(_errors.Fault, match="ManagedObjectNotFound"):
        caller.call(vim.VirtualMachine("vm-12"), methods.RETRIEVE_FORK_CHILDREN)
    assert caller.call(vim.VirtualMachine("vm-13"), methods.RETRIEVE_FORK_CHILDREN)._GetMoId() == "task-1"


@pytest.mark.parametrize(
    "lost",
    [
        answer(pages.OTHER_PAGE, 502),
        answer(pages.form()),
        answer(pages.form("another")),
        answer(pages.form("another"), cookie="two"),
        answer(f"{pages.task()[:900]}<![x[ y ]]>"),
        answer("", 302, Location="/elsewhere"),
        _errors.ConnectionLost("The connection to vc broke."),
    ],
)
def test_unknown_result_of_the_call(session: Server6, lost: _http.Answer | Exception) -> None:
    """The call may have been carried out, so it is not repeated."""
    with pytest.raises(_errors.ConnectionLost):
        enable(session, FORM, lost)
    assert session.verbs == ["GET", "POST"]
    assert session.asked[1][3]["vmware-session-nonce"] == [pages.NONCE]


FAULTS = [
    (pages.fault("InvalidPowerState", ("msg", "string", '"Not powered on."')), "Not powered on (InvalidPowerState)"),
    (pages.fault("vim.fault.TaskInProgress", word="Fault"), "TaskInProgress"),
    (
        pages.fault("vmodl.fault.InvalidArgument", ("faultMessage", "LocalizableMessage[]", pages.MESSAGES)),
        "The disk is in use (InvalidArgument)",
    ),
    (
        pages.fault(
            "NoPermission",
            ("object", pages.MOREF, pages.VM_LINK),
            ("privilegeId", "string", '"VirtualMachine.Config.ToggleForkParent"'),
        ),
        "the user lacks the privilege VirtualMachine.Config.ToggleForkParent on VM vm-12",
    ),
    (
        pages.fault("NoPermission", ("object", "NewObject", '<a href="?moid=x-1">x-1</a>')),
        "the user lacks the privilege unknown on ManagedEntity x-1",
    ),
    (pages.fault("NoPermission"), "the user lacks the privilege unknown on this object"),
    (pages.fault("NotSupported", ("msg", "string", '"An independent disk."')), "An independent disk (NotSupported)"),
    (
        pages.fault("InvalidState", ("faultCause", "LocalizedMethodFault", pages.CAUSE), ("msg", "string", '"Mine."')),
        "Mine. The disk is in use (InvalidState)",
    ),
    (
        pages.fault("InvalidState", ("faultCause", "LocalizedMethodFault", pages.CAUSE)),
        "The cause's. The disk is in use (InvalidState)",
    ),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_fault(session: Server6, text: str, message: str) -> None:
    with pytest.raises(_errors.Fault) as raised:
        enable(session, FORM, answer(text))
    assert str(_errors.failure("Could not", raised.value)).startswith(f"Could not: {message}.")


@pytest.mark.parametrize("before", [[], [FORM]])
@pytest.mark.parametrize("status", [200, 500])
def test_fault_on_a_page_of_its_own(session: Server6, before: list[_http.Answer], status: int) -> None:
    """It answers the request for the form or the call."""
    text = pages.fault_alone("ManagedObjectNotFound", ("msg", "string", '"vm-12 is gone."'))
    with pytest.raises(_errors.Fault) as raised:
        enable(session, *before, answer(text, status))
    assert raised.value.fault == "ManagedObjectNotFound"
    assert raised.value.cause.msg == "vm-12 is gone."
    with pytest.raises(_errors.MethodUnknown):
        enable(session, *before, answer(pages.fault_alone("MethodNotFound"), status))


@pytest.mark.parametrize(
    "text",
    [
        pages.fault("MethodNotFound"),
        pages.fault("NotSupported", ("msg", "string", '"Unable to resolve WSDL method name EnableForkParent_Task"')),
        pages.fault("RuntimeFault", ("msg", "string", '"Unable to resolve WSDL method name EnableForkParent_Task"')),
    ],
)
def test_unknown_method(session: Server6, text: str) -> None:
    with pytest.raises(_errors.MethodUnknown, match="does not have the method EnableForkParent_Task"):
        enable(session, FORM, answer(text))


@pytest.mark.parametrize("outcome", ["NewFault", "string", "void", "ManagedObjectReference:Task", "", "&lt;1&gt;"])
def test_unknown_outcome(session: Server6, outcome: str) -> None:
    with pytest.raises(UnknownType, match=r"answered with .*: Something new, which is neither a task nor a fault"):
        enable(session, FORM, answer(pages.fault(outcome, ("msg", "string", '"Something new"'))))


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "no-such-charset", "idna", "base64"])
def test_charset(session: Server6, charset: str) -> None:
    shown = answer(pages.task())
    shown.headers["Content-Type"] = f"text/html; charset={charset}"
    assert enable(session, FORM, shown)._GetMoId() == "task-123"


# --- parameters -------------------------------------------------------------------------------------------------------

LEGAL = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\t\n\r<>&\"'"))


@given(LEGAL, LEGAL, LEGAL)
def test_text_arrives_unchanged(name: str, key: str, value: str) -> None:
    """The MOB embeds the XML in an envelope of its own."""
    params = [vim.option.OptionValue(key=key, value=value)]
    spec = SoapCaller(Session(Server("vc", "me", PASSWORD))).child_spec(persistent=True, configParams=params)
    form = form_fields(methods.CREATE_FORK_CHILD, {"name": name, "spec": spec})
    assert form["name"] == name
    read = ElementTree.fromstring(f'<envelope xmlns="urn:vim25">{form["spec"]}</envelope>')[0]
    option = read.findall("{urn:vim25}configParams/*")
    assert [(element.tag, element.text or "") for element in option] == [
        ("{urn:vim25}key", key),
        ("{urn:vim25}value", value),
    ]
    assert option[1].attrib == {XSI_TYPE: "xsd:string"}


def test_spec() -> None:
    place = vim.vm.RelocateSpec(
        folder=vim.Folder("group-v3"),
        datastore=vim.Datastore("datastore-1"),
        pool=vim.ResourcePool("resgroup-8"),
        disk=[vim.vm.RelocateSpec.DiskLocator(diskId=2000, datastore=vim.Datastore("datastore-2"))],
    )
    spec = SoapCaller(Session(Server("vc", "me", PASSWORD))).child_spec(location=place, persistent=False)
    form = form_fields(methods.CREATE_FORK_CHILD, {"name": "<&\"'>", "spec": spec})
    plain = re.sub(r' xmlns:\w+="[^"]*"', "", form["spec"])
    assert plain == (
        '<spec><location><folder type="Folder">group-v3</folder><datastore type="Datastore">datastore-1</datastore>'
        '<pool type="ResourcePool">resgroup-8</pool><disk><diskId>2000</diskId>'
        '<datastore type="Datastore">datastore-2</datastore></disk></location><persistent>false</persistent></spec>'
    )


def test_unset_parameters_are_left_out() -> None:
    assert form_fields(methods.ENABLE_FORK_PARENT, {"host": None}) == {}


def test_unknown_parameter() -> None:
    with pytest.raises(TypeError, match="has no parameters spec"):
        form_fields(methods.ENABLE_FORK_PARENT, {"spec": None})


# --- which transport --------------------------------------------------------------------------------------------------


class SoapStub:
    """A stub of a VM with the same answer to every method."""

    def __init__(self, answer: Exception | str) -> None:
        self.answer = answer
        self.calls = 0

    def InvokeMethod(self, *_arguments: Any) -> Any:  # noqa: N802, pyVmomi's name
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_auto_stays_with_soap(session: Server6) -> None:
    stub = SoapStub("task")
    assert (
        transport.caller(session, "auto").call(vim.VirtualMachine("vm-12", stub), methods.DISABLE_FORK_PARENT) == "task"
    )
    assert session.asked == []


def test_auto_remembers_that_soap_lacks_the_methods(session: Server6) -> None:
    stub = SoapStub(vmodl.fault.MethodNotFound())
    session.answers = [FORM, answer(pages.task("task-1")), answer(pages.task("task-2"))]
    caller, vm = transport.caller(session, "auto"), vim.VirtualMachine("vm-12", stub)
    assert caller.call(vm, methods.ENABLE_FORK_PARENT, host=None)._GetMoId() == "task-1"
    assert caller.call(vm, methods.DISABLE_FORK_PARENT)._GetMoId() == "task-2"
    assert stub.calls == 1


def test_auto_without_the_mob(session: Server6) -> None:
    vm = vim.VirtualMachine("vm-12", SoapStub(vmodl.fault.MethodNotFound(msg="No.")))
    session.answers = [answer("", 503)]
    with pytest.raises(_errors.MethodUnknown) as error:
        transport.caller(session, "auto").call(vm, methods.DISABLE_FORK_PARENT)
    assert str(error.value).startswith(
        "vc (VMware vCenter Server, API 6.5) does not have the method DisableForkParent_Task over SOAP. "
        "It answered: No (MethodNotFound). The Managed Object Browser of vc is switched off"
    )
    assert "call_via" not in str(error.value)


LATER_FAILURES = {
    "log-in page": [answer("", 401), answer("", 401), answer(pages.LOG_IN)],
    "switched off": [NOT_FOUND, NOT_FOUND, NOT_FOUND],
    "refused twice": [answer("", 403), FORM, answer("", 403)],
}


@pytest.mark.parametrize("failure", LATER_FAILURES.values(), ids=LATER_FAILURES)
def test_auto_reports_later_failures_of_the_mob(session: Server6, failure: list[_http.Answer]) -> None:
    """The MOB had the methods a moment ago."""
    vm = vim.VirtualMachine("vm-12", SoapStub(vmodl.fault.MethodNotFound()))
    session.answers = [FORM, answer(pages.task()), *failure]
    caller = transport.caller(session, "auto")
    caller.call(vm, methods.ENABLE_FORK_PARENT, host=None)
    with pytest.raises(_errors.ConnectionFailed, match=r"^The Managed Object Browser of vc (is|answered|refused)"):
        caller.call(vm, methods.DISABLE_FORK_PARENT)
    assert session.answers == []


@pytest.mark.parametrize("call_via", ["soap", "auto"])
def test_vm_that_does_not_support_forks(session: Server6, call_via: str) -> None:
    """Servers of this version have the methods, so the fault is about the VM, and the MOB is not tried."""
    stub = SoapStub(vmodl.fault.NotSupported(msg="The virtual machine has an independent disk."))
    caller = transport.caller(session, call_via)
    for number in (1, 2):
        with pytest.raises(_errors.Fault, match="independent disk"):
            caller.call(vim.VirtualMachine("vm-12", stub), methods.ENABLE_FORK_PARENT)
        assert (stub.calls, session.asked) == (number, [])


ANSWERED = "It answered: No (MethodNotFound)."
REMEDIES = {
    "soap": f" over SOAP. {ANSWERED} Use call_via=mob, or remove call_via.",
    "mob": f" in its Managed Object Browser. {ANSWERED} Use call_via=soap, or remove call_via.",
    "auto": f" in its Managed Object Browser. {ANSWERED} The server does not have it over SOAP either. "
    f"{methods.VSPHERE} have it; newer versions have Instant Clone.",
}
ON_NEWER = f": {methods.VSPHERE} have it. {ANSWERED} Use Instant Clone instead: set api=instant_clone, or remove api."


@pytest.mark.parametrize("call_via", REMEDIES)
@pytest.mark.parametrize("version", ["6.5", "6.7"])
def test_remedy_for_an_unknown_method(monkeypatch: pytest.MonkeyPatch, version: str, call_via: str) -> None:
    session = Server6(version)
    monkeypatch.setattr(_http, "ask", session.ask)
    session.answers = [FORM, answer(pages.fault("MethodNotFound", ("msg", "string", '"No."')))]
    vm = vim.VirtualMachine("vm-12", SoapStub(vmodl.fault.MethodNotFound(msg="No.")))
    with pytest.raises(_errors.MethodUnknown) as error:
        transport.caller(session, call_via).call(vm, methods.ENABLE_FORK_PARENT)
    unknown = f"vc (VMware vCenter Server, API {version}) does not have the method EnableForkParent_Task"
    assert str(error.value) == unknown + (REMEDIES[call_via] if version == "6.5" else ON_NEWER)


@pytest.mark.parametrize("version", ["6.7", "8.0.3.0"])
def test_newer_server_does_not_support_a_method(version: str) -> None:
    vm = vim.VirtualMachine("vm-12", SoapStub(vmodl.fault.NotSupported(msg="Not here.")))
    with pytest.raises(_errors.MethodUnknown, match=r"Not here \(NotSupported\)\. Use Instant Clone instead"):
        transport.caller(Server6(version), "soap").call(vm, methods.ENABLE_FORK_PARENT)


@pytest.mark.parametrize("failure", [vim.fault.InvalidPowerState(), OSError("gone")])
def test_auto_does_not_handle_other_failures(session: Server6, failure: Exception) -> None:
    vm = vim.VirtualMachine("vm-12", SoapStub(failure))
    with pytest.raises((_errors.Fault, _errors.ConnectionLost)):
        transport.caller(session, "auto").call(vm, methods.DISABLE_FORK_PARENT)
    assert session.asked == []


@pytest.mark.parametrize("before", [[], [FORM]])
def test_lost_answer_of_the_mob_is_reported(session: Server6, before: list[_http.Answer]) -> None:
    vm = vim.VirtualMachine("vm-12", SoapStub(vmodl.fault.MethodNotFound()))
    session.answers = [*before, _errors.ConnectionLost("The connection broke.")]
    with pytest.raises(_errors.ConnectionLost):
        transport.caller(session, "auto").call(vm, methods.DISABLE_FORK_PARENT)
