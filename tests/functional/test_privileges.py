# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode reports lacking privileges in the words of the real run, and changes nothing."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from functional.engines import CHANGING, both_engines, every_transport, instant_clone_only, vmfork_only
from functional.vcenter import POST_CLONE, Result, VCenter

pytestmark = both_engines

ASK = "HasPrivilegeOnEntities"
TOUCHING = CHANGING | {"StartProgramInGuest", "CreateTemporaryDirectoryInGuest"}

TOGGLE = "VirtualMachine.Config.ToggleForkParent"
CREATE = "create"
"""A placeholder for the privilege that the method which creates a child requires."""
ADVANCED = "VirtualMachine.Config.AdvancedConfig"
SETTINGS = "VirtualMachine.Config.Settings"
POWER_ON = "VirtualMachine.Interact.PowerOn"
POWER_OFF = "VirtualMachine.Interact.PowerOff"
DELETE = "VirtualMachine.Inventory.Delete"
MODIFY = "VirtualMachine.GuestOperations.Modify"
EXECUTE = "VirtualMachine.GuestOperations.Execute"
QUERY = "VirtualMachine.GuestOperations.Query"


def user_without(vcenter: VCenter, *deny: str, on: tuple[str, ...] = ()) -> dict[str, str]:
    """Return a user who lacks privileges, everywhere or on the objects with the given managed object IDs."""
    login = {"name": "junior", "password": "juniors-long-password"}
    vcenter.control("POST", "users", {**login, "deny": deny, "deny_on": on})
    return {"username": login["name"], "password": login["password"]}


def check(vcenter: VCenter, module: str, **given: Any) -> Result:
    """Run a module in check mode; assert that it asks for privileges at most once, and changes nothing."""
    with vcenter.calls() as calls:
        result = vcenter.run(module, check=True, **given)
    assert not TOUCHING & set(calls)
    assert calls.get(ASK, 0) <= 1
    return result


@vmfork_only("nothing needs enabling for Instant Clone", mob=True)
def test_parent(vcenter: VCenter) -> None:
    low = user_without(vcenter, TOGGLE)
    checked = check(vcenter, "vmfork_parent", name=vcenter.parent, **low)
    with vcenter.calls() as calls:
        refused = vcenter.fails("vmfork_parent", name=vcenter.parent, **low)
    assert ASK not in calls
    assert checked["failed"]
    assert checked.msg == refused.msg
    assert f"lacks the privilege {TOGGLE} on VM {vcenter.parent} (vm-" in checked.msg
    vcenter.enable()
    with vcenter.calls() as calls:
        assert vcenter.ok("vmfork_parent", name=vcenter.parent, check=True, **low)["changed"] is False
    assert ASK not in calls, "what is done already needs no privilege"
    assert TOGGLE in check(vcenter, "vmfork_parent", name=vcenter.parent, state="disabled", **low).msg


def test_parent_that_must_be_powered_off(quiesced: VCenter) -> None:
    given = {"name": quiesced.parent, "state": "disabled", "power_off": True}
    checked = check(quiesced, "vmfork_parent", **given, **user_without(quiesced, TOGGLE, POWER_OFF))
    assert checked.msg.startswith(f"Could not power off VM {quiesced.parent}: the user lacks the privilege {POWER_OFF}")
    needs_toggle = TOGGLE in check(quiesced, "vmfork_parent", **given, **user_without(quiesced, TOGGLE)).msg
    assert needs_toggle is bool(quiesced.engine.enabled)
    assert check(quiesced, "vmfork_parent", **given, **user_without(quiesced))["changed"]


def test_unknown_esxi_hostname(vcenter: VCenter) -> None:
    assert "nowhere was not found" in check(vcenter, "vmfork_parent", name=vcenter.parent, esxi_hostname="nowhere").msg


@pytest.mark.parametrize(
    ("delivery", "needed", "not_needed"),
    [
        ("file_transfer", (MODIFY, EXECUTE), (QUERY, ADVANCED)),
        ("auto", (MODIFY, EXECUTE), (QUERY, ADVANCED)),
        ("guestinfo", (QUERY, ADVANCED, EXECUTE), (MODIFY,)),
    ],
)
def test_quiesce(vcenter: VCenter, delivery: str, needed: tuple[str, ...], not_needed: tuple[str, ...]) -> None:
    vcenter.enable()
    given = {
        "name": vcenter.parent,
        "post_clone_script": POST_CLONE,
        "script_delivery": delivery,
        **vcenter.guest_login,
    }
    for privilege in needed:
        low = user_without(vcenter, privilege)
        checked = check(vcenter, "vmfork_quiesce", **given, **low)
        assert checked["failed"]
        assert f"Could not quiesce VM {vcenter.parent}: the user lacks the privilege {privilege} on " in checked.msg
        assert f"lacks the privilege {privilege} on " in vcenter.fails("vmfork_quiesce", **given, **low).msg
    low = user_without(vcenter, *not_needed)
    assert check(vcenter, "vmfork_quiesce", **given, **low)["changed"]
    with vcenter.calls() as calls:
        assert vcenter.ok("vmfork_quiesce", **given, **low)["changed"]
    assert ASK not in calls


def test_guest_that_quiesces_itself_needs_no_privilege(vcenter: VCenter) -> None:
    vcenter.enable()
    low = user_without(vcenter, MODIFY, EXECUTE, QUERY, ADVANCED)
    assert check(vcenter, "vmfork_quiesce", name=vcenter.parent, method="wait", **low)["changed"]


@every_transport
def test_child_that_cannot_be_created(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "children": [{"name": "web-01"}, {"name": "web-02"}]}
    for privilege, on in (
        (quiesced.engine.create_privilege, "VM DC0_H0_VM0 (vm-"),
        ("VirtualMachine.Inventory.CreateFromExisting", "folder vm (group-"),
        ("Resource.AssignVMToPool", "resource pool resgroup-"),
        ("Datastore.AllocateSpace", "datastore LocalDS_0 (datastore-"),
    ):
        low = user_without(quiesced, privilege)
        checked = check(quiesced, "vmfork_child", **given, **low)
        with quiesced.calls() as calls:
            refused = quiesced.fails("vmfork_child", **given, **low)
        assert ASK not in calls
        assert f"Could not create child web-01: the user lacks the privilege {privilege} on {on}" in checked.msg
        assert checked.msg == refused.msg
        assert checked["changed"] is refused["changed"] is False
        assert [child["error"] for child in checked["children"]] == [child["error"] for child in refused["children"]]


def test_places_without_privileges(quiesced: VCenter) -> None:
    """Only privileges that the task really uses are checked, and only the children that use them fail."""
    quiesced.control("POST", "inventory", {"folders": ["/DC0/vm/closed"]})
    closed = quiesced.moid("/DC0/vm/closed")
    low = user_without(quiesced, "VirtualMachine.Inventory.CreateFromExisting", on=(closed,))
    given = {"parent_name": quiesced.parent, "children": [{"name": "web-01"}, {"name": "web-02", "folder": "closed"}]}
    checked = check(quiesced, "vmfork_child", wait_for="powered_on", **given, **low)
    refused = quiesced.fails("vmfork_child", wait_for="powered_on", **given, **low)
    for result in (checked, refused):
        assert (result["summary"]["created"], result["summary"]["failed"]) == (1, 1)
        assert f"on folder /DC0/vm/closed ({closed})." in result.child("web-02")["error"]


@vmfork_only("an instant clone is made in one step")
def test_operations_on_a_child_to_create(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "name": "web-01"}
    uuid = {"bios_uuid": "564d0000-0000-4000-8000-000000000001"}

    def message(privilege: str, **more: Any) -> str:
        return check(quiesced, "vmfork_child", **given, **more, **user_without(quiesced, privilege)).msg

    assert f"Could not record child web-01: the user lacks the privilege {ADVANCED} on folder vm (group-" in message(
        ADVANCED
    )
    assert f"Could not power on child web-01: the user lacks the privilege {POWER_ON} on " in message(POWER_ON)
    assert f"Could not record child web-01: the user lacks the privilege {SETTINGS} on " in message(SETTINGS, **uuid)
    assert message(SETTINGS) == message(POWER_ON, wait_for="created") == ""


@instant_clone_only("VMFork's children are made in three steps")
def test_operations_on_an_instant_clone_to_create(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "name": "web-01"}

    def message(privilege: str, **more: Any) -> str:
        return check(quiesced, "vmfork_child", **given, **more, **user_without(quiesced, privilege)).msg

    noting = "Could not record the end of the post-clone script of child web-01: the user lacks the privilege"
    assert f"{noting} {ADVANCED} on folder vm (group-" in message(ADVANCED)
    assert f"Could not create child web-01: the user lacks the privilege {POWER_ON} on " in message(POWER_ON)
    assert message(ADVANCED, wait_for="powered_on") == message(SETTINGS, bios_uuid=str(uuid.uuid4())) == ""


def test_child_has_the_permissions_of_its_folder_and_of_its_pool(quiesced: VCenter) -> None:
    places = (quiesced.moid("/DC0/vm"), quiesced.moid("/DC0/host/DC0_H0/Resources"))
    given = {"parent_name": quiesced.parent, "name": "web-01"}
    for moid in places:
        assert check(quiesced, "vmfork_child", **given, **user_without(quiesced, POWER_ON, on=(moid,)))["changed"]
    assert check(quiesced, "vmfork_child", **given, **user_without(quiesced, POWER_ON, on=places))["failed"]


@vmfork_only("an instant clone runs from its creation on")
def test_children_that_exist(quiesced: VCenter) -> None:
    quiesced.fork("web-01", wait_for="created")
    given = {"parent_name": quiesced.parent, "name": "web-01", "wait_for": "powered_on"}
    checked = check(quiesced, "vmfork_child", **given, **user_without(quiesced, POWER_ON))
    refused = quiesced.fails("vmfork_child", **given, **user_without(quiesced, POWER_ON))
    assert checked.msg == refused.msg
    assert f"Could not power on child web-01: the user lacks the privilege {POWER_ON} on " in checked.msg
    quiesced.ok("vmfork_child", **given)
    with quiesced.calls() as calls:
        again = quiesced.ok("vmfork_child", check=True, **given, **user_without(quiesced, TOGGLE, POWER_ON, ADVANCED))
    assert again["changed"] is False
    assert ASK not in calls


FORKS_AGAIN = vmfork_only("an instant clone keeps its disks, and its report counts")


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        pytest.param(
            ADVANCED, "Could not prepare another run of child web-01", id="the first request", marks=FORKS_AGAIN
        ),
        pytest.param(POWER_ON, "Could not power on child web-01", id="the request after it"),
    ],
)
def test_child_that_must_be_restarted(quiesced: VCenter, lacking: str, message: str) -> None:
    quiesced.rule("guestinfo_after_power_cycle", "kept")
    quiesced.fork("web-01")
    quiesced.govc("vm.power", "-off", "web-01")
    given = {"parent_name": quiesced.parent, "name": "web-01"}
    checked = check(quiesced, "vmfork_child", **given, **user_without(quiesced, lacking))
    refused = quiesced.fails("vmfork_child", **given, **user_without(quiesced, lacking))
    assert f"{message}: the user lacks the privilege {lacking} on " in checked.msg
    assert checked.msg == refused.msg


@pytest.mark.parametrize("which", [{"all": True}, {"children": [{"name": "web-01"}, {"name": "web-02"}]}])
def test_removal(quiesced: VCenter, which: dict[str, Any]) -> None:
    made = quiesced.fork("web-01", "web-02", wait_for="powered_on")
    second = made.child("web-02")["moid"]
    given = {"parent_name": quiesced.parent, "state": "absent", **which}
    assert POWER_OFF in check(quiesced, "vmfork_child", **given, **user_without(quiesced, POWER_OFF, DELETE)).msg
    low = user_without(quiesced, DELETE, on=(second,))
    checked = check(quiesced, "vmfork_child", **given, **low)
    assert (checked["summary"]["removed"], checked["summary"]["failed"]) == (1, 1)
    with quiesced.calls() as calls:
        refused = quiesced.fails("vmfork_child", **given, **low)
    assert ASK not in calls
    assert checked.msg == refused.msg
    assert f"Could not remove child web-02: the user lacks the privilege {DELETE} on " in checked.msg
    assert POWER_OFF not in check(quiesced, "vmfork_child", **given, **user_without(quiesced, POWER_OFF)).msg


def test_server_that_does_not_report_privileges(quiesced: VCenter) -> None:
    low = user_without(quiesced, ADVANCED)
    for answer in ("NoPermission", "NotSupported", "MethodNotFound", "InvalidRequest", "RuntimeFault"):
        quiesced.control("DELETE", "faults")
        quiesced.fault(method=ASK, at="call", fault=answer, count=0)
        checked = check(quiesced, "vmfork_child", parent_name=quiesced.parent, name="web-01", **low)
        assert checked["changed"], answer
        assert not checked.get("warnings"), answer


def test_user_who_may_not_read_everything(quiesced: VCenter) -> None:
    low = user_without(quiesced, "System.Read", on=(quiesced.moid("/DC0/datastore/LocalDS_0"),))
    assert check(quiesced, "vmfork_child", parent_name=quiesced.parent, name="web-01", **low)["changed"]


@vmfork_only("nothing needs enabling for Instant Clone")
def test_session_dropped_at_the_privilege_check(vcenter: VCenter) -> None:
    """The server reports that a dropped session holds no privileges."""
    vcenter.fault(method=ASK, at="call", fault="NotAuthenticated", count=1)
    with vcenter.calls() as calls:
        assert vcenter.ok("vmfork_parent", name=vcenter.parent, check=True)["changed"]
    assert (calls["Login"], calls[ASK]) == (2, 2)
