# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs that look like our children: none is powered on, powered off or destroyed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from functional.engines import CHANGING, both_engines, vmfork_only
from functional.vcenter import VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity

pytestmark = both_engines


def powered_off_child_of_another_tool(vcenter: VCenter) -> None:
    vcenter.fork("web-01", wait_for="created")
    vcenter.govc("vm.change", "-vm", "web-01", "-e", "vmfork.child=", "-e", "guestinfo.fork.vmfork.nonce=")


def foreign_vm(vcenter: VCenter) -> None:
    vcenter.control("POST", "inventory", {"vms": 1, "name": "web-01", "folder": "/DC0/vm", "power_on": True})


def clone_of_a_child(vcenter: VCenter) -> None:
    vcenter.fork("other")
    vcenter.govc("vm.clone", "-vm", "other", "-on=false", "-host", "DC0_H0", "web-01")


def clone_of_a_child_in_its_fork_group(vcenter: VCenter) -> None:
    vcenter.rule("clone_inherits_fork_group", "yes")
    clone_of_a_child(vcenter)


def child_of_another_parent(vcenter: VCenter) -> None:
    other = "DC0_H0_VM1"
    vcenter.enable(name=other)
    vcenter.quiesce(name=other)
    vcenter.fork("web-01", parent_name=other)


def record_of(vcenter: VCenter, name: str) -> str:
    """Return the record of a child."""
    return next(
        line.split(":", 1)[1].strip()
        for line in vcenter.govc("vm.info", "-e", name).splitlines()
        if line.strip().startswith("vmfork.child")
    )


def forged_in_its_guest(vcenter: VCenter) -> None:
    """Have the guest write the correct record by every means it has."""
    foreign_vm(vcenter)
    parent, own = (vcenter.ok("vmfork_parent", name=name, check=True)["parent"] for name in (vcenter.parent, "web-01"))
    record = identity.Record(parent["instance_uuid"], own["uuid"], "0" * 32)
    for key in (identity.RECORD_KEY, f"guestinfo.{identity.RECORD_KEY}"):
        vcenter.in_guest(own["moid"], f"vmtoolsd --cmd 'info-set {key} {record}'")


def record_of_another_child(vcenter: VCenter) -> None:
    vcenter.fork("real")
    record = record_of(vcenter, "real")
    foreign_vm(vcenter)
    vcenter.govc("vm.change", "-vm", "web-01", "-e", f"vmfork.child={record}")


def kept(vcenter: VCenter, name: str) -> list[str]:
    """Return the facts of a VM without its address, which appears only when its guest has started."""
    return [line for line in vcenter.govc("vm.info", name).splitlines() if "IP address" not in line]


def copy_with_the_uuid_of_a_child(vcenter: VCenter) -> None:
    """Copy a child as a restore that keeps BIOS UUIDs does: it is not known which of the two VMs is the child."""
    vcenter.fork("other")
    uuid, record = vcenter.ok("vmfork_parent", name="other", check=True)["parent"]["uuid"], record_of(vcenter, "other")
    foreign_vm(vcenter)
    vcenter.govc("vm.change", "-vm", "web-01", "-uuid", uuid, "-e", f"vmfork.child={record}")


def other_datacenter(vcenter: VCenter, *moved: str) -> None:
    """Add another datacenter with a host, and move VMs there."""
    vcenter.govc("datacenter.create", "DC1")
    vcenter.govc("host.add", "-dc", "DC1", "-hostname", "esx1", "-username", "root", "-password", "any", "-noverify")
    there = ("-host", "/DC1/host/esx1/esx1", "-pool", "/DC1/host/esx1/Resources", "-folder", "/DC1/vm")
    for name in moved:
        vcenter.govc("vm.migrate", "-dc", "DC1", *there, f"/DC0/vm/{name}")


def copy_of_a_child_in_another_datacenter(vcenter: VCenter) -> None:
    copy_with_the_uuid_of_a_child(vcenter)
    other_datacenter(vcenter, "other")


DOUBLES: dict[Callable[[VCenter], None], set[str]] = {
    copy_with_the_uuid_of_a_child: {"web-01", "other"},
    copy_of_a_child_in_another_datacenter: {"web-01", "other"},
}
"""A foreign VM is not a child, and is not named; but two VMs that cannot be distinguished are both reported."""


@pytest.mark.parametrize(
    "make",
    [
        foreign_vm,
        clone_of_a_child,
        clone_of_a_child_in_its_fork_group,
        child_of_another_parent,
        forged_in_its_guest,
        record_of_another_child,
        copy_with_the_uuid_of_a_child,
        copy_of_a_child_in_another_datacenter,
        powered_off_child_of_another_tool,
    ],
)
def test_foreign_vm_is_left_unchanged(quiesced: VCenter, make: Callable[[VCenter], None]) -> None:
    make(quiesced)
    before = kept(quiesced, "/DC0/vm/web-01")
    for given in ({"state": "present"}, {"state": "absent"}, {"state": "present", "check": True}):
        with quiesced.calls() as calls:
            refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01", **given)
        assert "is not a child that this collection created from this parent" in refusal.msg, given
        assert not CHANGING & set(calls), given
    with_all: dict[str, Any] = {"parent_name": quiesced.parent, "state": "absent", "all": True}
    gone = quiesced.run("vmfork_child", **with_all)
    states = {child["name"]: child["state"] for child in gone["children"]}
    failed = {name for name, state in states.items() if state == "failed"}
    assert failed == DOUBLES.get(make, set())
    assert "web-01" in failed or "web-01" not in states
    assert kept(quiesced, "/DC0/vm/web-01") == before


def test_copy_that_appears_while_a_child_is_powered_off(quiesced: VCenter) -> None:
    """Right before a child is destroyed, the module searches again for other VMs with its BIOS UUID."""
    uuid = quiesced.fork("web-01").child("web-01")["uuid"]
    quiesced.fault(method="PowerOffVM_Task", at="task", delay_ms=3000, count=1)
    with quiesced.at_call("PowerOffVM_Task", quiesced.govc, "vm.change", "-vm", "DC0_H0_VM1", "-uuid", uuid):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
    assert "is not removed: another VM has the same BIOS UUID" in refusal.msg
    assert (refusal["changed"], refusal.child("web-01")["power_state"]) == (True, "poweredOff")
    assert quiesced.exists("/DC0/vm/web-01")


# --- checked again ----------------------------------------------------------------------------------------------------

NOT_REMOVED = re.compile(
    r"VM web-01 \(vm-\d+\) is not removed: it is recorded as the child of another parent\. Check the VM in vCenter\."
)


SECOND_LOOK = 3
"""Reads right before something is done, in check mode too: the records of all VMs, the children, their tasks."""


def taken_over(vcenter: VCenter) -> None:
    """Record a child as that of another parent."""
    vcenter.govc("vm.change", "-vm", "web-01", "-e", "vmfork.child=1 another-parent another-child another-nonce")


@pytest.mark.parametrize("given", [{"name": "web-01"}, {"all": True}], ids=["named", "all"])
def test_child_that_is_taken_over_during_its_power_off_is_not_destroyed(
    quiesced: VCenter, given: dict[str, Any]
) -> None:
    quiesced.fork("web-01")
    quiesced.fault(method="PowerOffVM_Task", at="task", delay_ms=3000, count=1)
    with quiesced.at_call("PowerOffVM_Task", taken_over, quiesced):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, state="absent", **given)
        calls = quiesced.called()
    assert NOT_REMOVED.search(refusal.msg)
    assert "Destroy_Task" not in calls
    assert (refusal["changed"], refusal.child("web-01")["power_state"]) == (True, "poweredOff")
    assert quiesced.exists("/DC0/vm/web-01")


@pytest.mark.parametrize("given", [{"name": "web-01"}, {"all": True}], ids=["named", "all"])
def test_child_that_is_taken_over_after_it_was_found_is_not_powered_off(
    quiesced: VCenter, given: dict[str, Any]
) -> None:
    quiesced.fork("web-01")
    with quiesced.calls() as calls:
        quiesced.ok("vmfork_child", parent_name=quiesced.parent, state="absent", check=True, **given)
    found = calls["RetrievePropertiesEx"] - SECOND_LOOK
    quiesced.fault(method="RetrievePropertiesEx", at="call", delay_ms=3000, after=found, count=1)
    with quiesced.at_call("RetrievePropertiesEx", taken_over, quiesced, after=found):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, state="absent", **given)
        calls = quiesced.called()
    assert NOT_REMOVED.search(refusal.msg)
    assert not {"PowerOffVM_Task", "Destroy_Task"} & set(calls)
    assert (refusal["changed"], refusal.child("web-01")["power_state"]) == (False, "poweredOn")


FAIL_LATER = """vmtoolsd --cmd 'info-set guestinfo.begun yes'
until [ -e /root/go ]; do sleep 0.1; done
exit 7
"""


def test_new_child_that_is_taken_over_before_it_fails_is_not_removed(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.quiesce(post_clone_script=FAIL_LATER)

    def take_over() -> None:
        until = time.monotonic() + 60
        while "guestinfo.begun" not in vcenter.govc("vm.info", "-e", "web-01"):
            assert time.monotonic() < until
        taken_over(vcenter)
        vcenter.in_guest(vcenter.moid("/DC0/vm/web-01"), "touch /root/go")

    given = {"parent_name": vcenter.parent, "name": "web-01", "on_failure": "remove"}
    with vcenter.at_call(vcenter.engine.create, take_over):
        refusal = vcenter.fails("vmfork_child", **given)
        calls = vcenter.called()
    assert "exit code 7" in refusal.msg
    assert NOT_REMOVED.search(refusal.msg)
    assert not {"PowerOffVM_Task", "Destroy_Task"} & set(calls)


# --- among others -----------------------------------------------------------------------------------------------------


def test_foreign_vm_does_not_stop_the_others(quiesced: VCenter) -> None:
    foreign_vm(quiesced)
    given = {"parent_name": quiesced.parent, "children": [{"name": name} for name in ("web-00", "web-01", "web-02")]}
    refusal = quiesced.fails("vmfork_child", **given)
    assert {child["name"]: child["state"] for child in refusal["children"]} == {
        "web-00": "created",
        "web-01": "failed",
        "web-02": "created",
    }
    refusal = quiesced.fails("vmfork_child", **given, state="absent")
    assert {child["name"]: child["state"] for child in refusal["children"]} == {
        "web-00": "removed",
        "web-01": "failed",
        "web-02": "removed",
    }


def test_same_name_in_another_folder_is_allowed(quiesced: VCenter) -> None:
    quiesced.control("POST", "inventory", {"folders": ["/DC0/vm/else"]})
    quiesced.control("POST", "inventory", {"vms": 1, "name": "web-01", "folder": "/DC0/vm/else"})
    assert quiesced.fork("web-01")["summary"]["created"] == 1
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
    assert gone["summary"]["removed"] == 1
    assert quiesced.exists("/DC0/vm/else/web-01")


def test_two_children_with_one_name(quiesced: VCenter) -> None:
    for folder, address in (("a", "192.0.2.11"), ("b", "192.0.2.12")):
        quiesced.control("POST", "inventory", {"folders": [f"/DC0/vm/{folder}"]})
        child = {"name": "web-01", "config_params": {"ipaddress": address}}
        quiesced.fork(children=[child], wait_for="created")
        quiesced.govc("object.mv", "/DC0/vm/web-01", f"/DC0/vm/{folder}")
        quiesced.govc("object.rename", f"/DC0/vm/{folder}/web-01", f"moved-{folder}")
    for folder in ("a", "b"):
        quiesced.govc("object.rename", f"/DC0/vm/{folder}/moved-{folder}", "web-01")
    for state in ("present", "absent"):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01", state=state)
        assert "Child web-01 exists more than once: /DC0/vm/a/web-01, /DC0/vm/b/web-01." in refusal.msg


def test_moved_child_belongs_to_its_parent(quiesced: VCenter) -> None:
    quiesced.fork("web-01")
    quiesced.control("POST", "inventory", {"folders": ["/DC0/vm/else"]})
    quiesced.govc("object.mv", "/DC0/vm/web-01", "/DC0/vm/else")
    again = quiesced.fork("web-01")
    assert again["changed"] is False
    assert again.child("web-01")["inventory_path"] == "/DC0/vm/else/web-01"
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
    assert gone["summary"]["removed"] == 1


def test_child_that_was_moved_to_another_datacenter(quiesced: VCenter) -> None:
    """Names are searched for in the parent's datacenter; state=absent with all=true finds a child anywhere."""
    quiesced.fork("web-01", "web-02")
    other_datacenter(quiesced, "web-01")
    by_name: dict[str, Any] = {"parent_name": quiesced.parent, "state": "absent", "name": "web-01"}
    assert quiesced.ok("vmfork_child", **by_name)["summary"]["absent"] == 1
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, state="absent", all=True)
    assert [child["inventory_path"] for child in gone["children"]] == ["/DC1/vm/web-01", "/DC0/vm/web-02"]
    assert gone["summary"]["removed"] == 2


@pytest.mark.parametrize("datacenter", ["DC0", "DC1"])
def test_bios_uuid_of_another_vm_is_refused(quiesced: VCenter, datacenter: str) -> None:
    """The child could not be told apart from that VM later."""
    other_datacenter(quiesced, *(["DC0_H0_VM1"] if datacenter == "DC1" else []))
    owner = quiesced.ok("vmfork_parent", name="DC0_H0_VM1", check=True)["parent"]
    assert owner["inventory_path"].startswith(f"/{datacenter}/")
    with quiesced.calls() as calls:
        refusal = quiesced.fails(
            "vmfork_child", parent_name=quiesced.parent, name="web-01", bios_uuid=owner["uuid"].upper()
        )
    assert f"Child web-01 was not created: VM DC0_H0_VM1 ({owner['moid']}) has the bios_uuid " in refusal.msg
    assert not CHANGING & set(calls)


def test_renamed_child_is_found_by_its_new_name(quiesced: VCenter) -> None:
    quiesced.fork("web-01")
    quiesced.govc("object.rename", "/DC0/vm/web-01", "kept")
    assert quiesced.fork("kept")["changed"] is False
    assert quiesced.fork("kept", "web-01")["summary"]["created"] == 1  # kept has the first address
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, state="absent", all=True)
    assert {child["name"] for child in gone["children"]} == {"kept", "web-01"}


def test_fork_of_another_tool(quiesced: VCenter) -> None:
    """It is listed if vCenter shows it, but this collection neither removes it nor, while it runs, takes it over."""
    quiesced.fork("web-01")
    quiesced.govc("vm.change", "-vm", "web-01", "-e", "vmfork.child=")
    listed = quiesced.ok("vmfork_info")["parents"][0]["children"]
    # Only our record shows the parent of an Instant Clone.
    known, why = ([], "it has no record of being forked from this parent")
    if not quiesced.engine.starts_running:
        known, why = [("web-01", False)], "not recorded by this collection"
    assert [(child["name"], child["recorded"]) for child in listed] == known
    for state in ("present", "absent"):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01", state=state)
        assert why in refusal.msg
    assert quiesced.ok("vmfork_child", parent_name=quiesced.parent, state="absent", all=True)["changed"] is False
    assert quiesced.exists("/DC0/vm/web-01")


@vmfork_only("an instant clone has its record from its creation on")
@pytest.mark.parametrize("group", ["from-6.5", "absent"])
def test_child_of_an_interrupted_task_is_finished(quiesced: VCenter, group: str) -> None:
    quiesced.rule("parent_fork_group_id", group)
    quiesced.fork("web-01", wait_for="created")
    quiesced.govc("vm.change", "-vm", "web-01", "-e", "vmfork.child=")
    later = quiesced.fork("web-01", wait_for="powered_on")
    assert later["changed"]
    assert quiesced.fork("web-01", wait_for="powered_on")["changed"] is False
