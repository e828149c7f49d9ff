# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of Instant Clone alone; those of test_child.py and its neighbors run on both engines."""

from __future__ import annotations

from typing import Any

import pytest
from functional.vcenter import VCenter

CHANGING = {"InstantClone_Task", "PowerOnVM_Task", "PowerOffVM_Task", "ReconfigVM_Task", "Destroy_Task"}

SECRET = "kept-out-of-sight-0123456789"

SELF_FREEZING = """#!/bin/bash
# As the community's scripts for Instant Clone are: one file, with the freeze in its middle.
ip link set eth0 down
/usr/bin/vmware-rpctool "instantclone.freeze"
hostname "$(vmware-rpctool 'info-get guestinfo.ic.hostname')"
modprobe -r vmxnet3; modprobe vmxnet3
ip addr add "$(vmware-rpctool 'info-get guestinfo.ic.ipaddress')/24" dev eth0
ip link set eth0 up
"""


@pytest.fixture
def source(vcenter: VCenter) -> VCenter:
    """Return a vCenter 8 whose first VM is at its fork point."""
    vcenter.quiesce()
    return vcenter


pytestmark = pytest.mark.flags("-api-version", "8.0.3.0")


def test_child_is_created_by_one_request(source: VCenter) -> None:
    """Its record is part of the request, so it never exists without one; and it runs."""
    with source.calls() as calls:
        made = source.fork("web-01", wait_for="powered_on")
    assert {method: calls[method] for method in CHANGING & set(calls)} == {"InstantClone_Task": 1}
    child = made.child("web-01")
    assert (child["child_type"], child["survives_power_off"], child["enabled"]) == ("instant_clone", True, None)
    shown = " ".join(source.govc("vm.info", "-e", "web-01").split())
    assert f"vmfork.child: 1 {made['parent']['instance_uuid']} {child['uuid']} " in shown


@pytest.mark.parametrize("wait_for", ["created", "post_clone"])
def test_record_that_the_server_drops_is_written(source: VCenter, wait_for: str) -> None:
    source.rule("instant_clone_config_keys", "dropped")
    assert source.fork("web-01", wait_for=wait_for).child("web-01")["state"] == "created"
    assert source.fork("web-01", wait_for=wait_for)["changed"] is False
    assert source.ok("vmfork_child", parent_name=source.parent, name="web-01", state="absent")["changed"]


def test_child_of_a_child(source: VCenter) -> None:
    """It starts with the record of its source, which names another VM, and with params that are not meant for it."""
    source.fork("web-01", config_params={"site": "b"}, secret_config_params={"token": "a-long-secret-token"})
    source.quiesce(name="web-01")
    given = {"parent_name": "web-01", "name": "web-02", "config_params": {"token": "no-secret-here"}}
    made = source.ok("vmfork_child", **given).child("web-02")
    assert made["guest_hostname"] == "web-02"
    assert made["config_params"] == {"hostname": "web-02", "token": "no-secret-here"}
    assert source.ok("vmfork_child", **given).child("web-02")["config_params"] == made["config_params"]
    listed = {
        parent["name"]: [its["name"] for its in parent["children"]] for parent in source.ok("vmfork_info")["parents"]
    }
    assert listed == {source.parent: ["web-01"], "web-01": ["web-02"]}
    refusal = source.fails("vmfork_child", parent_name=source.parent, name="web-02", state="absent")
    assert "it is recorded as the child of another parent" in refusal.msg


def test_clone_of_another_tool(source: VCenter) -> None:
    """A clone of a child has the child's record, but a different BIOS UUID."""
    source.fork("web-01")
    source.quiesce(name="web-01")
    source.govc("vm.instantclone", "-vm", "web-01", "-pool", "DC0_H0/Resources", "-folder", "/DC0/vm", "copy")
    assert "vmfork.child:" in source.govc("vm.info", "-e", "copy")
    refusal = source.fails("vmfork_child", parent_name=source.parent, name="copy", state="absent")
    assert "it is a copy of a child" in refusal.msg
    gone = source.ok("vmfork_child", parent_name=source.parent, all=True, state="absent")
    assert [child["name"] for child in gone["children"]] == ["web-01"]
    assert source.exists("/DC0/vm/copy")


@pytest.mark.flags("-vm", "2")
def test_children_of_a_deleted_parent(source: VCenter) -> None:
    """They are listed, but a child and a copy with its BIOS UUID cannot be told apart."""
    twin = source.fork("web-01", "web-02").child("web-02")
    shown = source.govc("vm.info", "-e", "web-02")
    record = next(line.split(":", 1)[1].strip() for line in shown.splitlines() if "vmfork.child" in line)
    source.govc("vm.change", "-vm", "DC0_H0_VM1", "-uuid", twin["uuid"], "-e", f"vmfork.child={record}")
    source.govc("vm.destroy", source.parent)
    listed = source.ok("vmfork_info")
    assert listed["parents"] == []
    assert {child["name"]: child["recorded"] for child in listed["without_parent"]} == {
        "web-01": True,
        "web-02": False,
        "DC0_H0_VM1": False,
    }


@pytest.mark.parametrize("result", ["child", "unset"])
@pytest.mark.parametrize("drop", ["before", "after"])
def test_lost_answer(source: VCenter, drop: str, result: str) -> None:
    source.rule("instant_clone_result", result)
    source.fault(method="InstantClone_Task", at="call", drop=drop, count=1)
    with source.calls() as calls:
        made = source.fork("web-01", "web-02")
    assert made["summary"]["created"] == 2
    assert calls["InstantClone_Task"] == (3 if drop == "before" else 2)
    assert source.fork("web-01", "web-02")["changed"] is False


def test_lost_answer_to_a_creation_that_outlives_the_deadline(source: VCenter) -> None:
    """The request is not repeated while the first one may still run, and the result is not "unchanged"."""
    source.fault(method="InstantClone_Task", at="task", delay_ms=16000, count=1)
    source.fault(method="InstantClone_Task", at="call", drop="after", count=1)
    given = {"parent_name": source.parent, "name": "web-01", "secret_config_params": {"token": SECRET}}
    with source.calls() as calls:
        refusal = source.fails("vmfork_child", **given, timeout=6)
    assert calls["InstantClone_Task"] == 1
    assert refusal["changed"]
    assert "It may have been done anyway. Check in vCenter." in refusal.msg
    assert "Could not confirm that secret_config_params were removed from child web-01" in refusal.raw


def test_lost_answer_and_failing_searches(source: VCenter) -> None:
    source.fault(method="InstantClone_Task", at="call", drop="after", count=1)
    source.fault(method="FindAllByUuid", at="call", drop="before", count=0)
    refusal = source.fails("vmfork_child", parent_name=source.parent, name="web-01", on_failure="remove")
    assert refusal["changed"]
    assert "It may have been done anyway. Check in vCenter. If it appears later, it is not removed." in refusal.msg


def test_created_is_running(source: VCenter) -> None:
    given = {"parent_name": source.parent, "name": "web-01", "wait_for": "created"}
    predicted, done = (source.ok("vmfork_child", **given, check=check, diff=True) for check in (True, False))
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["after"] == {"web-01": "poweredOn"} == {"web-01": done.child("web-01")["power_state"]}


def test_bios_uuid(source: VCenter) -> None:
    given = "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"
    assert source.fork("web-01", bios_uuid=given).child("web-01")["uuid"] == given
    assert source.fork("web-01", bios_uuid=given)["changed"] is False


def test_folder_that_the_server_ignores(source: VCenter) -> None:
    """The child is found where the server put it, and the task reports so."""
    source.control("POST", "inventory", {"folders": ["/DC0/vm/web"]})
    source.rule("instant_clone_folder", "ignored")
    made = source.fork("web-01", folder="web")
    assert "Child web-01 is in /DC0/vm: vCenter did not put it into the requested folder." in made.raw
    again = source.fork("web-01", folder="web")
    assert (again["changed"], again.child("web-01")["folder"]) == (False, "/DC0/vm")


def test_params_with_every_prefix(source: VCenter) -> None:
    params = {"role": "db", "guestinfo.site": "b"}
    child = source.fork("web-01", config_params=params).child("web-01")
    keys = ("guestinfo.fork.role", "guestinfo.ic.role", "guestinfo.site", "guestinfo.ic.hostname")
    seen = source.in_guest(child["moid"], "; ".join(f"vmtoolsd --cmd 'info-get {key}'" for key in keys))
    assert seen.split() == ["db", "db", "b", "web-01"]


def test_script_that_freezes_by_itself(vcenter: VCenter) -> None:
    done = vcenter.ok(
        "vmfork_quiesce", name=vcenter.parent, **vcenter.guest_login, method="script", script=SELF_FREEZING
    )
    assert done["parent"]["quiesced"]
    child = vcenter.fork("web-01").child("web-01")
    assert (child["guest_hostname"], child["ip_addresses"]) == ("web-01", ["192.0.2.11"])
    assert (child["post_clone"]["done"], child["post_clone"]["exit_code"]) == (True, 0)


def test_child_that_was_powered_off_runs_again_from_its_disk(source: VCenter) -> None:
    source.fork("web-01")
    source.govc("vm.power", "-off", "web-01")
    again = source.fork("web-01")
    assert again["changed"]
    child = again.child("web-01")
    assert (child["power_state"], child["post_clone"]["exit_code"]) == ("poweredOn", 0)


# --- a parent that keeps running --------------------------------------------------------------------------------------


def running(vcenter: VCenter, **given: Any) -> dict[str, Any]:
    return {"parent_name": vcenter.parent, "name": "web-01", "allow_running_parent": True, **given}


def test_child_of_a_running_parent(vcenter: VCenter) -> None:
    made = vcenter.ok("vmfork_child", **running(vcenter, wait_for="tools"))
    assert (made.child("web-01")["state"], made["parent"]["quiesced"]) == ("created", False)
    assert vcenter.ok("vmfork_child", **running(vcenter, wait_for="tools"))["changed"] is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "wait_for=post_clone would time out"),
        ({"allow_running_parent": False}, "is not at its fork point"),
    ],
)
def test_running_parent_that_is_refused(vcenter: VCenter, given: dict[str, Any], message: str) -> None:
    with vcenter.calls() as calls:
        refusal = vcenter.fails("vmfork_child", **running(vcenter, **given))
    assert message in refusal.msg
    assert not CHANGING & set(calls)


def test_disk_chain_of_a_running_parent_reaches_its_limit(vcenter: VCenter) -> None:
    moid = vcenter.ok("vmfork_parent", name=vcenter.parent)["parent"]["moid"]
    vcenter.control("PATCH", f"vms/{moid}", {"chain_limit": 2})
    names = [{"name": f"web-{number:02}"} for number in range(4)]
    given = {"parent_name": vcenter.parent, "children": names, "allow_running_parent": True, "wait_for": "powered_on"}
    refusal = vcenter.fails("vmfork_child", **given, concurrency=1)
    assert refusal["summary"]["created"] > 0
    failed = [child["error"] for child in refusal["children"] if child["state"] == "failed"]
    assert failed
    assert all("the maximum of 2 delta disks" in error for error in failed)


def test_powered_off_parent_is_refused(vcenter: VCenter) -> None:
    vcenter.govc("vm.power", "-off", vcenter.parent)
    assert "is powered off" in vcenter.fails("vmfork_child", **running(vcenter, wait_for="tools")).msg


# --- checks before the creation ---------------------------------------------------------------------------------------


def test_check_mode_asks_the_server(source: VCenter) -> None:
    given = {"parent_name": source.parent, "children": [{"name": "web-01"}, {"name": "web-02"}]}
    with source.calls() as calls:
        predicted = source.ok("vmfork_child", check=True, **given)
    assert calls["CheckInstantClone_Task"] == 2
    assert not CHANGING & set(calls)
    assert not predicted.get("warnings")
    assert predicted["summary"]["created"] == 2
    source.fault(method="CheckInstantClone_Task", at="task", fault="InvalidState", count=1)
    again = source.ok("vmfork_child", check=True, **given)
    assert "Could not check with vCenter in advance" in again.raw


@pytest.mark.flags("-host", "1")
def test_check_mode_shows_the_servers_error(source: VCenter) -> None:
    given = {"parent_name": source.parent, "name": "web-01", "resource_pool": "/DC0/host/DC0_C0/Resources"}
    predicted, done = (source.fails("vmfork_child", check=check, **given) for check in (True, False))
    assert "Could not create child web-01" in predicted.msg
    assert predicted.msg == done.msg


def test_check_mode_before_the_parent_is_ready(vcenter: VCenter) -> None:
    """An earlier task of the play would bring it to its fork point."""
    predicted = vcenter.ok("vmfork_child", check=True, parent_name=vcenter.parent, name="web-01")
    assert (predicted["changed"], predicted["parent"]["quiesced"], predicted.get("warnings")) == (True, False, None)
    predicted = vcenter.ok("vmfork_child", check=True, **running(vcenter))
    assert "wait_for=post_clone would time out" in str(predicted["warnings"])


# --- which engine -----------------------------------------------------------------------------------------------------


def test_nothing_needs_enabling(vcenter: VCenter) -> None:
    with vcenter.calls() as calls:
        assert vcenter.enable()["changed"] is False
        assert vcenter.enable(esxi_hostname="DC0_H0")["parent"]["enabled"] is None
        assert vcenter.enable(state="disabled")["changed"] is False
    assert not CHANGING & set(calls)


@pytest.mark.flags("-host", "1")
def test_another_host_is_refused(vcenter: VCenter) -> None:
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, esxi_hostname="DC0_C0_H0")
    assert "is on DC0_H0, not on DC0_C0_H0, and Instant Clone creates children on the parent's own host" in refusal.msg


def test_frozen_parent_is_powered_off_only_when_allowed(source: VCenter) -> None:
    given = {"name": source.parent, "state": "disabled"}
    assert "only a power-off ends that" in source.fails("vmfork_parent", **given).msg
    predicted = source.ok("vmfork_parent", **given, power_off=True, check=True)
    done = source.ok("vmfork_parent", **given, power_off=True)
    again = source.ok("vmfork_parent", **given, power_off=True)
    assert [result["changed"] for result in (predicted, done, again)] == [True, True, False]
    assert predicted["parent"] == done["parent"]
    assert (done["parent"]["quiesced"], done["parent"]["power_state"]) == (False, "poweredOff")


def test_vmfork_on_a_server_that_no_longer_has_it(vcenter: VCenter) -> None:
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, api="vmfork", call_via="soap")
    assert "does not have the method EnableForkParent_Task" in refusal.msg
    assert "Instant Clone" in refusal.msg


@pytest.mark.flags("-hidden-methods", "on")
def test_vmfork_on_a_server_that_still_has_it(vcenter: VCenter) -> None:
    assert vcenter.enable(api="vmfork")["parent"]["enabled"]
    vcenter.quiesce(api="vmfork")
    assert vcenter.fork("web-01", api="vmfork").child("web-01")["child_type"] == "nonpersistent"


@pytest.mark.flags("-hidden-methods", "on")
def test_child_of_vmfork_on_an_upgraded_server(vcenter: VCenter) -> None:
    """It forks again when it is powered on, so the report of its last run is ignored."""
    vcenter.rule("guestinfo_after_power_cycle", "kept")
    vcenter.enable(api="vmfork")
    vcenter.quiesce(api="vmfork", post_clone_script="#!/bin/sh\nsleep 1\ncat /proc/sys/kernel/random/uuid\n")
    first = vcenter.fork("web-01", api="vmfork").child("web-01")
    vcenter.govc("vm.power", "-off", "web-01")
    again = vcenter.fork("web-01")
    second = again.child("web-01")
    assert (again["changed"], second["api"], second["child_type"]) == (True, "instant_clone", "nonpersistent")
    assert first["post_clone"]["output"] != second["post_clone"]["output"]
    assert vcenter.fork("web-01")["changed"] is False


@pytest.mark.flags("-api-version", "9.1.1.0")
def test_vsphere_9(vcenter: VCenter) -> None:
    """The newest API that the simulator knows: a child is created, found again, and removed."""
    vcenter.quiesce(post_clone_script="#!/bin/sh\nexit 0\n")
    with vcenter.calls() as calls:
        created = vcenter.fork("web-01")
    assert (created["summary"]["created"], calls["InstantClone_Task"]) == (1, 1)
    assert created.child("web-01")["post_clone"]["exit_code"] == 0
    assert vcenter.fork("web-01")["changed"] is False
    (parent,) = vcenter.ok("vmfork_info")["parents"]
    assert [child["name"] for child in parent["children"]] == ["web-01"]
    assert vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", state="absent")["changed"]
    assert not vcenter.exists("/DC0/vm/web-01")


@pytest.mark.flags("-api-version", "6.5")
def test_instant_clone_on_a_server_without_it(vcenter: VCenter) -> None:
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, api="instant_clone")
    assert (
        "does not have the method InstantClone_Task, which requires vSphere 6.7 or newer. Use api=vmfork" in refusal.msg
    )


def test_mob_is_for_vmfork(source: VCenter) -> None:
    """A playbook that needs it on 6.5 runs here unchanged."""
    source.control("DELETE", "calls")
    assert source.fork("web-01", call_via="mob")["summary"]["created"] == 1
    assert not [request for request in source.control("GET", "calls")["http"] if "/mob" in request]


@pytest.mark.flags("-api-version", "6.5")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"allow_running_parent": True}, "allow_running_parent does not work with the VMFork methods"),
        ({"config_params": {"guestinfo.site": "b"}}, "guestinfo.site starts with guestinfo."),
    ],
)
def test_options_without_effect_on_vmfork(vcenter: VCenter, given: dict[str, Any], message: str) -> None:
    refusal = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-01", **given)
    assert message in refusal.msg
