# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods of VMFork through the Managed Object Browser: the same job, and faults of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from functional.test_fault_injection import vms
from functional.vcenter import VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _http
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session

MOB: dict[str, Any] = {"call_via": "mob"}
HIDDEN = ("EnableForkParent_Task", "CreateForkChild_Task", "DisableForkParent_Task", "RetrieveForkChildren_Task")


def over_soap(calls: dict[str, int]) -> set[str]:
    return set(HIDDEN) & set(calls)


@pytest.fixture(autouse=True)
def no_session_left(vcenter: VCenter) -> Iterator[None]:
    """Assert that the modules leave no session behind, whatever a test does."""
    yield
    assert vcenter.control("GET", "sessions") == []


def test_whole_job(vcenter: VCenter) -> None:
    """The results are those of SOAP, and no hidden method is called over SOAP."""
    with vcenter.calls(by_transport=True) as calls:
        parent = vcenter.enable(**MOB)["parent"]
        assert vcenter.enable(**MOB)["changed"] is False
        vcenter.quiesce(**MOB)
        made = vcenter.fork("<&\"'>", "web-02", **MOB, on_failure="remove")
        listed = vcenter.ok("vmfork_info", **MOB)
        again = vcenter.fork("<&\"'>", "web-02", **MOB)
        gone = vcenter.ok("vmfork_child", parent_name=vcenter.parent, state="absent", all=True, **MOB)
        ended = vcenter.ok("vmfork_parent", name=vcenter.parent, state="disabled", power_off=True, **MOB)
    assert parent["enabled"]
    assert [child["state"] for child in made["children"]] == ["created", "created"]
    assert [child["post_clone"]["exit_code"] for child in made["children"]] == [0, 0]
    assert [child["name"] for child in listed["parents"][0]["children"]] == ["<&\"'>", "web-02"]
    assert again["changed"] is False
    assert [child["state"] for child in gone["children"]] == ["removed", "removed"]
    assert not ended["parent"]["enabled"]
    assert not over_soap(calls)
    assert calls["mob:CreateForkChild_Task"] == 2


def test_values_equal_those_of_soap(quiesced: VCenter) -> None:
    params = {"text": "two\nlines <&\"'> é", "tab": "\tx", "empty": ""}
    arrived = []
    for call_via, name in (("soap", "web-01"), ("mob", "web-02")):
        given = {"parent_name": quiesced.parent, "name": name, "config_params": params}
        child = quiesced.ok("vmfork_child", **given, call_via=call_via).child(name)
        held = quiesced.guest(child["moid"])["guestinfo"]
        arrived.append({key: held.get(f"fork.{key}", "") for key in params})
    assert arrived == [params, params]


@pytest.mark.parametrize("children", [1, 8])
def test_calls(quiesced: VCenter, children: int) -> None:
    """One login, one form, one request for each call, one logout."""
    names = [f"web-{number:02}" for number in range(children)]
    quiesced.control("DELETE", "calls")
    quiesced.fork(*names, **MOB, wait_for="powered_on")
    counted = quiesced.control("GET", "calls")
    hidden = sum(count for name, count in counted["methods"].items() if name.startswith("mob:") and "Fork" in name)
    assert counted["methods"]["mob:CreateForkChild_Task"] == children
    assert counted["methods"]["mob:Login"] == 1
    assert counted["http"]["POST /mob"] == hidden
    assert counted["http"]["GET /mob"] == counted["http"]["GET /mob/logout"] == 1


def test_no_call_no_login(vcenter: VCenter) -> None:
    vcenter.enable()
    with vcenter.calls(by_transport=True) as calls:
        assert vcenter.enable(**MOB)["changed"] is False
    assert "mob:Login" not in calls


def test_auto_uses_soap_where_it_has_the_methods(vcenter: VCenter) -> None:
    with vcenter.calls(by_transport=True) as calls:
        vcenter.enable()
    assert over_soap(calls)
    assert "mob:Login" not in calls


@pytest.mark.parametrize("answer", ["InvalidRequest", "RuntimeFault", "MethodNotFound", "NotSupported"])
def test_auto_uses_the_mob_where_soap_lacks_the_methods(vcenter: VCenter, answer: str) -> None:
    vcenter.rule("unknown_method_fault", answer)
    vcenter.rule("hidden_methods_over_soap", "unknown")
    vcenter.enable()
    vcenter.quiesce()
    with vcenter.calls(by_transport=True) as calls:
        made = vcenter.fork("web-01", "web-02", "web-03")
    assert made["summary"]["created"] == 3
    assert calls["mob:CreateForkChild_Task"] == 3
    assert calls["mob:Login"] == calls["Login"] == calls["Logout"] == 1
    refusal = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-04", call_via="soap")
    assert "does not have the method CreateForkChild_Task" in refusal.msg


@pytest.mark.flags("-guest", "none")
def test_auto_does_not_use_the_mob_for_a_vm_that_lacks_support(vcenter: VCenter) -> None:
    """The server has the methods over SOAP; NotSupported is about the VM, or means that it is no parent."""
    why = "The virtual machine has an independent disk"
    for method in ("EnableForkParent_Task", "RetrieveForkChildren_Task"):
        vcenter.fault(method=method, at="call", fault="NotSupported", message=why, count=1)
    with vcenter.calls(by_transport=True) as calls:
        refusal = vcenter.fails("vmfork_parent", name=vcenter.parent)
        gone = vcenter.ok("vmfork_child", parent_name=vcenter.parent, state="absent", all=True)
    assert f"Could not make VM {vcenter.parent} a fork parent: {why} (NotSupported)" in refusal.msg
    assert gone["changed"] is False
    assert calls["EnableForkParent_Task"] == calls["RetrieveForkChildren_Task"] == 1
    assert "mob:Login" not in calls


@pytest.mark.flags("-api-version", "8.0.3.0", "-guest", "none")
@pytest.mark.parametrize("not_found", ["404", "fault"])
@pytest.mark.parametrize("call_via", ["auto", "mob"])
def test_server_without_the_methods(vcenter: VCenter, call_via: str, not_found: str) -> None:
    vcenter.rule("mob_not_found", not_found)
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, api="vmfork", call_via=call_via)
    assert "does not have the method EnableForkParent_Task: vSphere 6.0 and 6.5 have it" in refusal.msg
    assert "Use Instant Clone instead" in refusal.msg
    assert "switched off" not in refusal.msg


REFUSALS = [
    ({"mob": "off"}, "is switched off or does not run (404 Not Found). Set config.vpxd.enableDebugBrowse to true"),
    ({"mob": "off", "mob_off_answer": "503"}, "is switched off or does not run (503 Service Unavailable)"),
    ({"mob": "login-page"}, "answered with a login page instead of its own"),
    ({"mob": "redirect"}, "answered with a login page"),
    ({"mob_nonce": "absent"}, "returned a form without vmware-session-nonce"),
]


@pytest.mark.flags("-guest", "none")
@pytest.mark.parametrize(("rules", "message"), REFUSALS)
def test_unavailable_mob(vcenter: VCenter, rules: dict[str, str], message: str) -> None:
    for name, value in rules.items():
        vcenter.rule(name, value)
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, **MOB)
    assert f"The Managed Object Browser of 127.0.0.1 {message}" in refusal.msg
    assert refusal.msg.endswith(", or use call_via=soap.")
    vcenter.rule("hidden_methods_over_soap", "unknown")
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent)
    assert "does not have the method EnableForkParent_Task" in refusal.msg
    assert f"The Managed Object Browser of 127.0.0.1 {message}" in refusal.msg
    assert "call_via=soap" not in refusal.msg


def test_unavailable_mob_is_asked_once(quiesced: VCenter) -> None:
    quiesced.rule("mob_nonce", "absent")
    quiesced.control("DELETE", "calls")
    names = [{"name": f"web-{number:02}"} for number in range(8)]
    refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, children=names, **MOB)
    assert refusal["summary"]["failed"] == 8
    assert "Could not create child web-00: The Managed Object Browser" in refusal.msg
    assert quiesced.control("GET", "calls")["methods"]["mob:Login"] == 1


@pytest.mark.parametrize("page", ["result", "error-page"])
def test_faults_equal_those_of_soap(vcenter: VCenter, page: str) -> None:
    vcenter.rule("mob_fault_page", page)
    messages = []
    for call_via in ("soap", "mob"):
        vcenter.fault(method="EnableForkParent_Task", at="call", fault="InvalidPowerState", message="Not now", count=1)
        messages.append(vcenter.fails("vmfork_parent", name=vcenter.parent, call_via=call_via).msg)
    assert messages[0] == messages[1]
    assert "InvalidPowerState" in messages[0]


@pytest.mark.parametrize("drop", ["before", "after"])
def test_lost_answer(quiesced: VCenter, drop: str) -> None:
    before = vms(quiesced)
    quiesced.fault(method="CreateForkChild_Task", at="call", drop=drop, count=1)
    with quiesced.calls(by_transport=True) as calls:
        made = quiesced.fork("web-01", "web-02", **MOB)
    assert [child["state"] for child in made["children"]] == ["created", "created"]
    assert not over_soap(calls)
    assert vms(quiesced) == sorted([*before, "web-01", "web-02"])


@pytest.mark.parametrize("wrong_nonce", ["403", "form"])
def test_session_dropped_by_the_server(quiesced: VCenter, wrong_nonce: str) -> None:
    """Both sessions are dropped; each transport logs in once more."""
    quiesced.rule("mob_wrong_nonce", wrong_nonce)
    names = [{"name": f"web-{number:02}"} for number in range(10)]
    given = {"parent_name": quiesced.parent, "children": names, "wait_for": "powered_on", "concurrency": 1, **MOB}
    with (
        quiesced.calls(by_transport=True) as calls,
        quiesced.at_call("PowerOnVM_Task", quiesced.control, "DELETE", "sessions"),
    ):
        made = quiesced.ok("vmfork_child", **given)
    assert made["summary"]["created"] == 10
    assert calls["mob:Login"] == calls["Login"] == 2
    assert calls["mob:CreateForkChild_Task"] == 10


def test_signal_during_the_login(vcenter: VCenter) -> None:
    """The module waits for the answer, which has the cookie that it needs to log out."""

    def interrupt(process: BaseProcess) -> None:
        with vcenter.held_call() as held:
            assert held in wait([held, process.sentinel])
            assert process.pid is not None
            os.kill(process.pid, signal.SIGTERM)

    vcenter.fault(method="Login", after=1, hold="before")
    result = vcenter.run("vmfork_parent", name=vcenter.parent, **MOB, meanwhile=interrupt)
    assert "received SIGTERM" in result.msg
    assert not result["changed"]


def test_password_is_not_shown(quiesced: VCenter) -> None:
    """It is in no output, URL or log of calls."""
    outputs = [quiesced.fork("web-01", **MOB).raw]
    outputs.append(quiesced.ansible("vmfork_child", parent_name=quiesced.parent, name="web-02", **MOB))
    for mob in ("off", "login-page", "redirect"):
        quiesced.rule("mob", mob)
        outputs.append(quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-03", **MOB).raw)
        assert "Managed Object Browser of 127.0.0.1" in outputs[-1]
    outputs.append(str(quiesced.control("GET", "calls")))
    outputs.append(Path(quiesced.simulator.log).read_text(encoding="utf-8"))
    assert not [output for output in outputs if quiesced.simulator.password in output]


@pytest.mark.flags("-guest", "none")
def test_one_request(vcenter: VCenter) -> None:
    """A long answer is not read to its end."""
    simulator = vcenter.simulator
    server = Server(simulator.host, "", "", simulator.port, validate_certs=False)
    answer = _http.ask(Session(server), "GET", "/mob/", {}, None, 100)
    assert (answer.status, answer.reason) == (401, "Unauthorized")
    assert len(answer.body) <= 100
    with pytest.raises(_errors.ConnectionLost, match="it answered with more than 10 bytes"):
        _http.ask(Session(server), "GET", "/mob/", {}, None, 10)
    with pytest.raises(_errors.ConnectionFailed, match="its certificate is not trusted"):
        _http.ask(Session(Server(simulator.host, "", "", simulator.port)), "GET", "/mob/logout", {}, None, 10)
