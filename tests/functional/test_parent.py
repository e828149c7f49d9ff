# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_parent: enable and disable a parent, in check mode, in a run and in a second run."""

from __future__ import annotations

import re
from typing import Any

import pytest
from functional.engines import CHANGING, both_engines, either_engine, every_transport, instant_clone_only, vmfork_only
from functional.vcenter import VCenter

pytestmark = both_engines


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
def test_check_run_run_again(vcenter: VCenter) -> None:
    with vcenter.calls() as calls:
        checked = vcenter.ok("vmfork_parent", name=vcenter.parent, check=True, diff=True)
    assert checked["changed"]
    assert not CHANGING & set(calls)
    done = vcenter.ok("vmfork_parent", name=vcenter.parent, diff=True)
    again = vcenter.ok("vmfork_parent", name=vcenter.parent)
    assert (done["changed"], again["changed"]) == (True, False)
    assert done["parent"]["enabled"]
    assert done["parent"] == again["parent"]
    assert set(checked["parent"]) == set(done["parent"])
    for result in (checked, done):
        assert (result["diff"]["before"]["enabled"], result["diff"]["after"]["enabled"]) == (False, True)


def test_enabled_while_powered_off(vcenter: VCenter) -> None:
    vcenter.govc("vm.power", "-off", vcenter.parent)
    assert vcenter.enable()["parent"]["power_state"] == "poweredOff"


@pytest.mark.flags("-vm", "2")
def test_esxi_hostname(vcenter: VCenter) -> None:
    assert vcenter.enable(esxi_hostname="DC0_H0")["parent"]["esxi_hostname"] == "DC0_H0"
    refusal = vcenter.fails("vmfork_parent", name="DC0_H0_VM1", esxi_hostname="nowhere")
    assert "The ESXi host nowhere was not found" in refusal.msg
    assert "DC0_H0" in refusal.msg


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
def test_disable(vcenter: VCenter) -> None:
    vcenter.enable()
    checked = vcenter.ok("vmfork_parent", name=vcenter.parent, state="disabled", check=True)
    done = vcenter.ok("vmfork_parent", name=vcenter.parent, state="disabled")
    again = vcenter.ok("vmfork_parent", name=vcenter.parent, state="disabled")
    assert (checked["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert done["parent"]["enabled"] is False


def test_frozen_parent_is_powered_off_only_when_allowed(quiesced: VCenter) -> None:
    refusal = quiesced.fails("vmfork_parent", name=quiesced.parent, state="disabled")
    assert "power_off=true" in refusal.msg
    assert refusal["parent"]["quiesced"]
    checked = quiesced.ok("vmfork_parent", name=quiesced.parent, state="disabled", power_off=True, check=True)
    done = quiesced.ok("vmfork_parent", name=quiesced.parent, state="disabled", power_off=True)
    assert checked["parent"] == done["parent"]
    assert (done["parent"]["power_state"], done["parent"]["quiesced"]) == ("poweredOff", False)


def test_parent_of_running_children_is_not_disabled(quiesced: VCenter) -> None:
    quiesced.fork("web-01")
    with quiesced.calls() as calls:
        refusal = quiesced.fails("vmfork_parent", name=quiesced.parent, state="disabled", power_off=True)
    assert "it has 1 running child (web-01)" in refusal.msg
    assert not CHANGING & set(calls)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "nobody"}, "VM nobody was not found"),
    ({"moid": "vm-99999"}, "VM with the managed object ID vm-99999 was not found"),
    ({"uuid": "00000000-0000-0000-0000-000000000000"}, "VM with the BIOS UUID 00000000"),
    ({"inventory_path": "/DC0/vm/nobody"}, "VM at /DC0/vm/nobody was not found"),
    ({"inventory_path": "/DC0/vm"}, "VM at /DC0/vm was not found"),
    ({"name": "DC0_H0_VM0", "datacenter": "DC9"}, "The datacenter DC9 was not found"),
    ({"name": "DC0_H0_VM0", "folder": "/DC0/vm/nowhere"}, "The folder /DC0/vm/nowhere was not found"),
    ({"name": " "}, "name is empty"),
    ({"name": "x" * 81}, "81 characters"),
    ({}, "one of the following is required: name, moid, uuid, inventory_path."),
    ({"name": "DC0_H0_VM0", "moid": "vm-1"}, "mutually exclusive: name|moid|uuid|inventory_path."),
    ({"name": "DC0_H0_VM0", "timeout": 0}, "timeout is 0 seconds"),
]


@pytest.mark.flags("-guest", "none")
@either_engine
def test_refused(vcenter: VCenter) -> None:
    with vcenter.calls() as calls:
        for given, message in REFUSED:
            refusal = vcenter.run("vmfork_parent", **given)
            assert refusal["failed"], given
            assert message in refusal.msg + ".", given
    assert not CHANGING & set(calls)


def test_every_way_to_name_a_vm(vcenter: VCenter) -> None:
    by_name = vcenter.ok("vmfork_parent", name=vcenter.parent, check=True)["parent"]
    for given in (
        {"moid": by_name["moid"]},
        {"uuid": by_name["uuid"]},
        {"uuid": by_name["instance_uuid"], "use_instance_uuid": True},
        {"inventory_path": by_name["inventory_path"]},
        {"name": vcenter.parent, "folder": "/DC0/vm"},
        {"name": vcenter.parent, "datacenter": "DC0"},
    ):
        assert vcenter.ok("vmfork_parent", check=True, **given)["parent"]["moid"] == by_name["moid"], given


def test_template(vcenter: VCenter) -> None:
    vcenter.govc("vm.power", "-off", vcenter.parent)
    vcenter.govc("vm.markastemplate", vcenter.parent)
    assert "is a template, and templates cannot be forked" in vcenter.fails("vmfork_parent", name=vcenter.parent).msg


def test_two_vms_with_one_name(vcenter: VCenter) -> None:
    vcenter.control("POST", "inventory", {"folders": ["/DC0/vm/a", "/DC0/vm/b"]})
    for folder in ("a", "b"):
        vcenter.control("POST", "inventory", {"vms": 1, "name": "twin", "folder": f"/DC0/vm/{folder}"})
    refusal = vcenter.fails("vmfork_parent", name="twin")
    assert "/DC0/vm/a/twin" in refusal.msg
    assert "/DC0/vm/b/twin" in refusal.msg
    found = vcenter.ok("vmfork_parent", name="twin", folder="b", check=True)
    assert found["parent"]["inventory_path"] == "/DC0/vm/b/twin"


@instant_clone_only("servers with VMFork know its methods")
@pytest.mark.parametrize("call_via", ["auto", "soap", "mob"])
def test_server_that_does_not_know_the_methods(vcenter: VCenter, call_via: str) -> None:
    for answer in ("InvalidRequest", "RuntimeFault", "MethodNotFound", "NotSupported"):
        vcenter.rule("unknown_method_fault", answer)
        refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, api="vmfork", call_via=call_via)
        assert "does not have the method EnableForkParent_Task" in refusal.msg, answer
        assert "vSphere 6.0 and 6.5" in refusal.msg, answer
        assert "Instant Clone" in refusal.msg, answer


@vmfork_only("it is about its methods", mob=True)
@pytest.mark.flags("-api-version", "8.0.3.0", "-hidden-methods", "on")
def test_newer_server_that_still_knows_the_methods(vcenter: VCenter) -> None:
    assert vcenter.ok("vmfork_parent", name=vcenter.parent, api="vmfork")["parent"]["enabled"]


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
def test_user_without_the_privilege(vcenter: VCenter) -> None:
    vcenter.control(
        "POST",
        "users",
        {"name": "junior", "password": "juniors-long-password", "deny": ["VirtualMachine.Config.ToggleForkParent"]},
    )
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, username="junior", password="juniors-long-password")
    assert "lacks the privilege VirtualMachine.Config.ToggleForkParent" in refusal.msg
    assert "juniors-long-password" not in refusal.raw


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
@pytest.mark.parametrize("at", ["call", "task"])
def test_refusal_of_the_server(vcenter: VCenter, at: str) -> None:
    vcenter.fault(method="EnableForkParent_Task", at=at, fault="InvalidState", message="Not now", count=1)
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent)
    assert f"Could not make VM {vcenter.parent} a fork parent: " in refusal.msg
    assert "InvalidState" in refusal.msg


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
def test_session_that_the_server_drops(vcenter: VCenter) -> None:
    vcenter.fault(method="EnableForkParent_Task", at="call", fault="NotAuthenticated", count=1)
    with vcenter.calls() as calls:
        assert vcenter.enable()["changed"]
    assert calls["Login"] == vcenter.engine.logins + 1


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
def test_session_that_the_server_drops_twice(vcenter: VCenter) -> None:
    vcenter.fault(method="EnableForkParent_Task", at="call", fault="NotAuthenticated", count=0)
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent)
    assert re.search(r"ended the session|when the session of \S+ has ended", refusal.msg), refusal.msg


@every_transport
def test_nobody_stays_logged_in(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.fails("vmfork_parent", name="nobody")
    assert vcenter.control("GET", "sessions") == []


@vmfork_only("with Instant Clone no list of children is asked for, which takes a while")
def test_guest_that_freezes_while_the_parent_is_disabled(vcenter: VCenter) -> None:
    """power_off=false also applies to a VM that reaches its fork point after the task has read its state."""
    it = vcenter.enable()["parent"]["moid"]
    vcenter.fault(method="RetrieveForkChildren_Task", at="call", delay_ms=6000, count=1)
    body = {"program": "/bin/sh", "arguments": "-c \"vmtoolsd --cmd 'vmfork-begin -1 -1'\"", "user": "root"}
    run = ("POST", f"guests/{it}/run", {**body, "wait": False})
    with vcenter.at_call("RetrieveForkChildren_Task", vcenter.control, *run):
        refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, state="disabled")
    assert "power_off=true" in refusal.msg
    assert refusal["parent"]["power_state"] == "poweredOn"


@vmfork_only("with Instant Clone no server is asked for children", mob=True)
@pytest.mark.parametrize("answer", ["success", "InvalidState"])
def test_children_of_a_vm_that_is_no_parent(vcenter: VCenter, answer: str) -> None:
    vcenter.rule("children_of_non_parent", answer)
    given = {"parent_name": vcenter.parent, "state": "absent", "all": True}
    assert vcenter.ok("vmfork_child", **given)["changed"] is False


@vmfork_only("nothing needs enabling for Instant Clone")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"method": "DisableForkParent_Task", "at": "task", "fault": "InvalidState"}, id="task fails"),
        pytest.param({"method": "DisableForkParent_Task", "at": "call", "fault": "InvalidState"}, id="call fails"),
        pytest.param({"method": "PowerOffVM_Task", "at": "call", "drop": "after"}, id="answer lost"),
    ],
)
def test_power_off_is_reported_even_if_the_task_fails_later(quiesced: VCenter, fault: dict[str, Any]) -> None:
    quiesced.fault(count=0, **fault)
    refusal = quiesced.fails("vmfork_parent", name=quiesced.parent, state="disabled", power_off=True)
    assert refusal["changed"] is True
    assert (refusal["parent"]["power_state"], refusal["parent"]["quiesced"]) == ("poweredOff", False)


CHANGES = {
    "enabled": "EnableForkParent_Task",
    "disabled": "DisableForkParent_Task",
    "poweredOff": "PowerOffVM_Task",
}


@pytest.fixture(
    params=[
        pytest.param("enabled", marks=vmfork_only("nothing needs enabling for Instant Clone", mob=True)),
        pytest.param("disabled", marks=vmfork_only("nothing needs enabling for Instant Clone", mob=True)),
        pytest.param("poweredOff", marks=both_engines),
    ]
)
def change(request: pytest.FixtureRequest, vcenter: VCenter) -> tuple[str, dict[str, Any]]:
    """Return a method of vCenter, and the options with which the module calls it first."""
    if request.param != "enabled":
        vcenter.enable()
    if request.param == "poweredOff":
        vcenter.quiesce()
    state = "enabled" if request.param == "enabled" else "disabled"
    return CHANGES[request.param], {"name": vcenter.parent, "state": state, "power_off": True}


def current_state(vcenter: VCenter) -> Any:
    """Return the state of the parent, as check mode shows it."""
    return vcenter.ok("vmfork_parent", name=vcenter.parent, check=True, diff=True)["diff"]["before"]


@every_transport
@pytest.mark.parametrize("drop", ["before", "after"])
def test_lost_answer_to_a_change(vcenter: VCenter, change: tuple[str, dict[str, Any]], drop: str) -> None:
    """A change whose answer was lost is still a change; the module waits for its task."""
    method, given = change
    before = current_state(vcenter)
    vcenter.fault(method=method, at="call", drop=drop, count=0)
    vcenter.fault(method=method, at="task", delay_ms=1000, count=1)
    refusal = vcenter.fails("vmfork_parent", **given)
    assert "broke during a call" in refusal.msg
    assert refusal["changed"] is (drop == "after")
    assert (refusal["parent"] != before) is (drop == "after")
    assert refusal["parent"] == current_state(vcenter)


@every_transport
@pytest.mark.parametrize("answer", ["there", "lost"])
def test_change_that_outlives_the_deadline(vcenter: VCenter, change: tuple[str, dict[str, Any]], answer: str) -> None:
    method, given = change
    vcenter.fault(method=method, at="task", delay_ms=4000, count=1)
    if answer == "lost":
        vcenter.fault(method=method, at="call", drop="after", count=1)
        vcenter.fault(method=method, at="call", fault="TaskInProgress", count=0)  # for a repeated request
    refusal = vcenter.fails("vmfork_parent", **given, timeout=2)
    assert refusal["changed"] is True
    assert answer == "lost" or "The task continues" in refusal.msg


@every_transport
def test_refused_request_is_no_change(vcenter: VCenter, change: tuple[str, dict[str, Any]]) -> None:
    method, given = change
    vcenter.fault(method=method, at="task", fault="InvalidState", count=0)
    refusal = vcenter.fails("vmfork_parent", **given)
    assert refusal["changed"] is False
    assert refusal["parent"]["enabled"] is (vcenter.engine.enabled and given["state"] == "disabled")
