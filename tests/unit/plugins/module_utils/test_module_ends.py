# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module ends with a result or a message, and is logged out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from functional.launch import patch_module_args
from functional.output import WITH_INVOCATION
from pyVmomi import vim, vmodl
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _module, _session, _tasks, _vmomi

LOGIN: dict[str, Any] = {
    "hostname": "vcenter",
    "username": "user",
    "password": "vcenter-password",
    "validate_certs": False,
}
SPEC: dict[str, Any] = {"timeout": {"type": "int"}, "name": {"type": "str"}}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a module's work against the vCenter and returns its result."""
    vcenter.use(monkeypatch)
    vcenter.calls.clear()

    def run(work: Callable[..., Any], parse: Any = dict, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {**WITH_INVOCATION, **LOGIN, **arguments, "_ansible_check_mode": check_mode}
        with patch_module_args(given), pytest.raises(SystemExit):
            _module.run(work, SPEC, parse)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return dict(json.loads(printed.out))

    return run


def raising(error: BaseException) -> Callable[..., Any]:
    def work(_task: _module.Task[Any], _session: Any) -> _module.Result:
        raise error

    return work


def logins(vcenter: FakeVCenter) -> tuple[int, int]:
    return vcenter.count("Login"), vcenter.count("Logout")


def test_progress_shows_no_secrets(run: Run, tmp_path: Path) -> None:
    """Ansible does not mask it. The file is named by an option that is neither refused nor returned."""
    secret = "pass\tword-\u202e-1"
    encoded = base64.b64encode(secret.encode()).decode()
    (tmp_path / "file").touch()

    def work(_task: _module.Task[Any], session: Any) -> _module.Result:
        session.progress.show(f"1 of 2 ready, 1 failed ({secret}, {encoded})", 2, 2)
        return {"changed": False}

    result = run(work, password=secret, _progress_file=str(tmp_path / "file"))
    assert json.loads((tmp_path / "file").read_text())["text"] == "1 of 2 ready, 1 failed (********, ********)"
    assert "_progress_file" not in result["invocation"]["module_args"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_result(vcenter: FakeVCenter, run: Run, check_mode: bool) -> None:
    def work(task: _module.Task[Any], session: Any) -> _module.Result:
        return {"changed": True, "seen": [task.request["name"], task.check_mode, session.server.hostname]}

    result = run(work, check_mode=check_mode, name="web")
    assert (result["changed"], result["seen"]) == (True, ["web", check_mode, "vcenter"])
    assert logins(vcenter) == (1, 1)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            _errors.Refused("VM web is left unchanged.", changed=True, parent={"name": "golden"}),
            "VM web is left unchanged",
        ),
        (
            _errors.Fault(vim.fault.NoPermission(privilegeId="X.Y"), "vcenter"),
            "vcenter refused a request: the user lacks the privilege X.Y",
        ),
        (
            _errors.Fault(vmodl.fault.NotSupported(msg="No."), "vcenter"),
            "vcenter refused a request: No (NotSupported).",
        ),
        (ValueError("a-value-of-the-guest"), "(ValueError)"),
        (KeyError("key"), "(KeyError)"),
    ],
)
def test_errors_become_a_message_after_the_logout(
    vcenter: FakeVCenter, run: Run, error: Exception, sentence: str
) -> None:
    result = run(raising(error))
    assert result["failed"]
    assert sentence in result["msg"]
    assert "a-value-of-the-guest" not in result["msg"]
    assert logins(vcenter) == (1, 1)
    if isinstance(error, _errors.Refused):
        assert (result["changed"], result["parent"]) == (True, {"name": "golden"})


RAW = "\x1b[31mred\x00\u202eder\x9b\r"
"""Characters that move a terminal's cursor, end a text in C, or change its direction."""


@pytest.mark.parametrize("ending", ["result", "error", "fault", "interrupted"])
def test_no_control_character_is_returned(run: Run, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests, names and faults of the server may contain any."""
    warnings: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _module, text: warnings.append(text))

    def work(task: _module.Task[Any], _session: Any) -> _module.Result:
        task.warn(f"warned of {RAW}")
        endings = {
            "error": _errors.Refused(f"VM {RAW}", parent={"name": RAW, RAW: [RAW]}),
            "fault": _errors.Fault(vmodl.fault.SystemError(msg=RAW), "vcenter"),
            "interrupted": _errors.Interrupted(RAW, parent={"name": RAW}),
        }
        if ending in endings:
            raise endings[ending]
        return {"changed": True, "parent": {"name": RAW, RAW: [RAW]}, "diff": {"before": {RAW: RAW}, "after": {}}}

    result = run(work)
    del result["invocation"]
    assert len(warnings) == 1
    shown = json.dumps([result, warnings], ensure_ascii=False)
    assert "\\\\x1b[31mred" in shown, "as an escape sequence"
    raw = shown.replace("\\\\", "")  # escape sequences excluded
    assert not [word for word in ("\\u00", "\x1b", "\x9b", "\u202e", "\\r") if word in raw]


def test_documents_are_returned_unchanged(run: Run) -> None:
    """A VM restored from an escaped document would get the escape sequences."""
    document = {"version": 1, "vm": {"name": RAW}, "properties": [{"label": RAW}]}
    config_params = {"export": RAW}
    result = run(
        lambda _task, _session: {"export": document, "ovfenv": [{"export": document}], "params": config_params}
    )
    assert result["export"] == result["ovfenv"][0]["export"] == document
    assert "\x1b" not in result["params"]["export"], "only a document is one, whatever others have its name"


@pytest.mark.parametrize("timeout", [0, -5])
def test_invalid_timeout(vcenter: FakeVCenter, run: Run, timeout: int) -> None:
    result = run(raising(AssertionError()), timeout=timeout)
    assert f"timeout is {timeout} seconds" in result["msg"]
    assert vcenter.calls == []


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), "-Infinity", " inf "])
def test_invalid_number_is_refused_by_ansible(vcenter: FakeVCenter, run: Run, timeout: float | str) -> None:
    result = run(raising(AssertionError()), timeout=timeout)
    assert "argument 'timeout' is of type" in result["msg"]
    assert vcenter.calls == []


@pytest.mark.parametrize("timeout", [1, None, 10**400])
def test_valid_timeout(run: Run, timeout: int | None) -> None:
    assert "failed" not in run(lambda _task, _session: {"changed": False}, timeout=timeout)


def test_bad_input_is_refused_before_a_login(vcenter: FakeVCenter, run: Run) -> None:
    def parse(params: dict[str, Any]) -> None:
        raise _errors.BadInput(f"The name {params['name']} cannot be right.")

    result = run(raising(AssertionError()), parse=parse, name="web")
    assert result["msg"] == "The name web cannot be right."
    assert vcenter.calls == []


def test_options_are_parsed_once(run: Run) -> None:
    parsed: list[str] = []

    def parse(params: dict[str, Any]) -> list[str]:
        parsed.append(params["name"])
        return parsed

    result = run(lambda task, _session: {"given": task.request is parsed}, parse=parse, name="web")
    assert (result["given"], parsed) == (True, ["web"])


def test_empty_string_is_not_given(run: Run) -> None:
    seen: list[Any] = []

    def work(task: _module.Task[Any], _session: Any) -> _module.Result:
        seen.append(task.request["name"])
        return {}

    run(work, name="", timeout="")
    assert seen == [None]


@pytest.mark.parametrize(
    ("ca_path", "validate_certs", "warned"),
    [("/etc/ssl/ca.pem", False, True), ("/etc/ssl/ca.pem", True, False), (None, False, False)],
)
def test_ca_path_that_has_no_effect(
    run: Run, monkeypatch: pytest.MonkeyPatch, ca_path: str | None, validate_certs: bool, warned: bool
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _module, text, *_more, **_others: warnings.append(text))
    run(lambda _task, _session: {}, ca_path=ca_path, validate_certs=validate_certs)
    assert ["ca_path has no effect" in warning for warning in warnings] == [True] * warned


def test_missing_library_becomes_a_message(vcenter: FakeVCenter, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vmomi, "missing", lambda: "pyVmomi is missing.")
    result = run(raising(AssertionError()))
    assert result["msg"] == "pyVmomi is missing."
    assert vcenter.calls == []


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("RetrieveServiceContent", "vcenter refused a request: Not now (SystemError)."),
        ("Login", "vcenter refused the login of user: Not now (SystemError)."),
        ("PowerOnVM_Task", "Could not power on VM web: Not now (SystemError)."),
        ("CreateListView", "vcenter refused a request: Not now (SystemError)."),
        ("WaitForUpdatesEx", "vcenter refused a request: Not now (SystemError)."),
        ("Logout", None),
    ],
)
def test_fault_of_any_call_becomes_a_message(vcenter: FakeVCenter, run: Run, method: str, message: str | None) -> None:
    vm = vcenter.vm("web", "poweredOff")
    vcenter.refuse(method, vmodl.fault.SystemError(msg="Not now."))

    def work(_task: _module.Task[Any], session: Any) -> _module.Result:
        _tasks.run(session, session.deadline, "Could not power on VM web", vm.PowerOnVM_Task)
        return {}

    result = run(work, timeout=30)
    assert result.get("msg") == message
    assert "exception" not in result


def test_wrong_password(vcenter: FakeVCenter, run: Run) -> None:
    vcenter.refuse("Login", vim.fault.InvalidLogin(msg="No."))
    result = run(raising(AssertionError()))
    assert "wrong user name or password" in result["msg"]
    assert vcenter.count("Login") == 1
    assert LOGIN["password"] not in json.dumps(result)


def test_secrets_are_registered_where_ansible_core_masks_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since 2.22 they are registered with their encodings before the work starts."""
    registered: set[str] = set()
    seen: list[set[str]] = []
    monkeypatch.setattr(_module, "register_secrets", registered.update)
    run(lambda _task, _session: seen.append(set(registered)) or {})
    basic_login = base64.b64encode(f"user:{LOGIN['password']}".encode()).decode()
    assert LOGIN["password"] in seen[0]
    assert any(form in basic_login for form in seen[0])


def test_password_is_not_in_a_text_of_the_server() -> None:
    assert "a-password" not in repr(_session.Server("vcenter", "user", "a-password"))


# --- the session ------------------------------------------------------------------------------------------------------


def test_ended_session_is_opened_again_once(vcenter: FakeVCenter, run: Run) -> None:
    vm = vcenter.vm("web", "poweredOff")
    vcenter.refuse("PowerOnVM_Task", vim.fault.NotAuthenticated(msg="Gone."))

    def work(_task: _module.Task[Any], session: Any) -> _module.Result:
        session.call(vm.PowerOnVM_Task)
        return {}

    assert "failed" not in run(work)
    assert (vcenter.count("PowerOnVM_Task"), logins(vcenter)) == (2, (2, 1))


def test_session_that_ends_twice(vcenter: FakeVCenter, run: Run) -> None:
    vm = vcenter.vm("web", "poweredOff")
    gone = vim.fault.NotAuthenticated(msg="Gone.")

    def work(_task: _module.Task[Any], session: Any) -> _module.Result:
        for _number in range(2):
            vcenter.refuse("PowerOnVM_Task", gone)
            session.call(vm.PowerOnVM_Task)
        return {}

    result = run(work)
    assert "ended the session of user twice during this task" in result["msg"]
    assert (vcenter.count("PowerOnVM_Task"), vcenter.count("Login")) == (3, 2)


@pytest.mark.parametrize(("how", "calls"), [("call", 1), ("ask", 2)])
def test_changing_request_is_never_repeated_automatically(vcenter: FakeVCenter, run: Run, how: str, calls: int) -> None:
    vm = vcenter.vm("web", "poweredOff")
    vcenter.lose_answer("PowerOnVM_Task", carried_out=False)

    def work(_task: _module.Task[Any], session: Any) -> _module.Result:
        getattr(session, how)(vm.PowerOnVM_Task)
        return {}

    result = run(work)
    assert result.get("failed", False) == (how == "call")
    assert (vcenter.count("PowerOnVM_Task"), logins(vcenter)) == (calls, (1, 1))


def test_cleanup_runs_before_the_logout(vcenter: FakeVCenter, run: Run) -> None:
    ended: list[tuple[int, int]] = []

    def work(_task: _module.Task[Any], session: Any) -> _module.Result:
        session.closing.callback(lambda: ended.append(logins(vcenter)))
        raise _errors.Refused("No.")

    run(work)
    assert (ended, logins(vcenter)) == ([(1, 0)], (1, 1))


def test_failed_logout_does_not_hide_the_result(vcenter: FakeVCenter, run: Run) -> None:
    vcenter.refuse("Logout", vmodl.RuntimeFault(msg="No."), times=5)
    assert run(lambda _task, _session: {"changed": True})["changed"]
