# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs that are powered off and destroyed, those that are not, and the report."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim, vmodl
from unit.fake_vcenter import OFF, ON, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity, listing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import absent
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result, State
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import Child, Goal, Step
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent

ACTS = ("PowerOffVM_Task", "Destroy_Task")


class Bed:
    """A parent and VMs that may be its children."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vcenter = vcenter
        self.warnings: list[str] = []
        self.vm = vcenter.vm("golden", **{"runtime.instantCloneFrozen": True})
        self.session = vcenter.use(monkeypatch)
        self.parent: Parent = vcenter.parent(self.session, self.vm)

    def child(self, name: str, state: str = ON, of: str | None = None, bios_uuid: str | None = None) -> Any:
        """Return a VM with a record, by default a correct one."""
        vm = self.vcenter.vm(name, state)
        record = identity.Record(
            of or self.parent.values["config.instanceUuid"],
            bios_uuid or self.vcenter.objects[vm]["config.uuid"],
            "n0",
        )
        self.vcenter.set_keys(vm, **{identity.RECORD_KEY: str(record), guestinfo.CHILD_NONCE: "n0"})
        return vm

    def remove(self, *names: str, check_mode: bool = False, seconds: float = 300) -> list[Result]:
        wanted = [ChildSpec(name) for name in names]
        return absent.remove_named(self.parent, wanted, self.order(check_mode, seconds))

    def remove_all(self, check_mode: bool = False) -> list[Result]:
        return absent.remove_all(self.parent, self.order(check_mode))

    def order(self, check_mode: bool = False, seconds: float = 300, **more: Any) -> absent.Order:
        given = {"state": "absent", "warn": self.warnings.append, **more}
        return absent.Order(deadline=Deadline(seconds), check_mode=check_mode, **given)

    @property
    def acts(self) -> list[str]:
        """Return what was powered off and destroyed, in order."""
        return self.vcenter.called(*ACTS)


@pytest.fixture
def bed(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(vcenter, monkeypatch)


def outcome(results: list[Result]) -> list[tuple[str, str, bool]]:
    return [(result.name, result.state, result.changed) for result in results]


def test_children_are_powered_off_and_destroyed(bed: Bed) -> None:
    running, stopped = bed.child("a"), bed.child("b", OFF)
    results = bed.remove("a", "b", "c")
    assert outcome(results) == [("a", "removed", True), ("b", "removed", True), ("c", "absent", False)]
    assert [result.before for result in results] == [ON, OFF, None]
    assert [result.error for result in results] == [None] * 3
    moids = [running._GetMoId(), stopped._GetMoId()]
    assert bed.acts == [f"PowerOffVM_Task {moids[0]}", f"Destroy_Task {moids[0]}", f"Destroy_Task {moids[1]}"]


def test_second_run_changes_nothing(bed: Bed) -> None:
    bed.child("a")
    bed.remove("a")
    assert outcome(bed.remove("a")) == [("a", "absent", False)]
    assert len(bed.acts) == 2


def test_check_mode_reports_the_same_and_changes_nothing(bed: Bed) -> None:
    bed.child("a")
    assert outcome(bed.remove("a", "c", check_mode=True)) == [("a", "removed", True), ("c", "absent", False)]
    assert outcome(bed.remove_all(check_mode=True)) == [("a", "removed", True)]
    assert bed.acts == []


FOREIGN: dict[str, Callable[[Bed], Any]] = {
    "no record": lambda bed: bed.vcenter.vm("web"),
    "record of another parent": lambda bed: bed.child("web", of="00000000-0000-0000-0000-000000000001"),
    "record of another VM": lambda bed: bed.child("web", bios_uuid="00000000-0000-0000-0000-000000000002"),
    "same BIOS UUID as another VM": lambda bed: bed.vcenter.vm(
        "copy", **{"config.uuid": bed.vcenter.objects[bed.child("web")]["config.uuid"]}
    ),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=list(FOREIGN))
def test_foreign_vm_is_left_unchanged(bed: Bed, make: Callable[[Bed], Any]) -> None:
    make(bed)
    bed.child("a")
    results = bed.remove("web", "a")
    assert outcome(results) == [("web", "failed", False), ("a", "removed", True)]
    assert "is not removed" in str(results[0].error)
    assert len(bed.vcenter.named("web")) == 1
    assert [bed.vcenter.state(vm) for vm in bed.vcenter.named("web")] == [ON]


def test_all_leaves_other_vms_unchanged(bed: Bed) -> None:
    for number, make in enumerate(FOREIGN.values()):
        make(bed)
        (web,) = bed.vcenter.named("web")
        bed.vcenter.objects[web]["name"] = f"web-{number}"
    left = set(bed.vcenter.objects)
    gone = bed.child("a")
    results = bed.remove_all()
    assert outcome(results) == [("a", "removed", True), ("web-3", "failed", False)]
    assert "another VM has the same BIOS UUID" in str(results[1].error)
    assert left <= set(bed.vcenter.objects)
    assert gone not in bed.vcenter.objects
    assert results[1].facts["name"] == "web-3"
    assert {bed.vcenter.state(vm) for vm in left if isinstance(vm, vim.VirtualMachine)} == {ON}


@pytest.mark.parametrize("before", ["PowerOffVM_Task", "Destroy_Task"])
def test_parent_is_checked_again_before_each_step(bed: Bed, before: str) -> None:
    """Another client takes the VM over: it is left unchanged from then on, and what was done is reported."""
    vm = bed.child("web")

    def take_over() -> None:
        bed.vcenter.set_keys(vm, **{identity.RECORD_KEY: ""})

    if before == "Destroy_Task":

        def power_off(_vm: Any) -> None:
            bed.vcenter.objects[vm]["runtime.powerState"] = OFF
            take_over()

        bed.vcenter.effects["PowerOffVM_Task"] = power_off
    else:
        bed.vcenter.effects["RetrievePropertiesEx"] = _after(bed.vcenter, 2, take_over)
    (result,) = bed.remove("web")
    was_off = before == "Destroy_Task"
    assert (result.state, result.changed) == ("failed", was_off)
    assert "is not removed: " in str(result.error)
    assert bed.vcenter.count("Destroy_Task") == 0
    assert bed.vcenter.count("PowerOffVM_Task") == was_off
    assert result.facts["power_state"] == (OFF if was_off else ON)


def _after(vcenter: FakeVCenter, reads: int, act: Callable[[], None]) -> Callable[..., Any]:
    """Run a function after this number of property reads."""
    done: list[int] = []

    def read(target: Any, **given: Any) -> Any:
        answer = vcenter._do_RetrievePropertiesEx(target, **given)
        done.append(1)
        if len(done) == reads:
            act()
        return answer

    return read


def test_copy_that_appears_meanwhile_is_noticed(bed: Bed) -> None:
    vm = bed.child("web")

    def power_off(_vm: Any) -> None:
        bed.vcenter.objects[vm]["runtime.powerState"] = OFF
        bed.vcenter.vm("copy", OFF, **{"config.uuid": bed.vcenter.objects[vm]["config.uuid"]})

    bed.vcenter.effects["PowerOffVM_Task"] = power_off
    (result,) = bed.remove("web")
    assert (result.state, result.changed, bed.vcenter.count("Destroy_Task")) == ("failed", True, 0)


def test_vm_that_cannot_be_read_again_is_left_unchanged(bed: Bed) -> None:
    bed.child("web")
    faults = iter([vim.fault.NoPermission(privilegeId="System.Read")])

    def read(target: Any, **given: Any) -> Any:
        if bed.vcenter.count("RetrievePropertiesEx") > seen + 2:
            raise next(faults)
        return bed.vcenter._do_RetrievePropertiesEx(target, **given)

    seen = bed.vcenter.count("RetrievePropertiesEx")
    bed.vcenter.effects["RetrievePropertiesEx"] = read
    (result,) = bed.remove("web")
    assert (result.state, result.changed, bed.acts) == ("failed", False, [])
    assert "Could not examine child web" in str(result.error)


@pytest.mark.parametrize(
    ("method", "acts", "changed", "state"),
    [
        pytest.param("PowerOffVM_Task", 1, False, ON, id="power-off"),
        pytest.param("Destroy_Task", 2, True, OFF, id="destroy"),
    ],
)
@pytest.mark.parametrize("refusal", ["refuse", "fail"])
def test_refusals(bed: Bed, method: str, acts: int, changed: bool, state: str, refusal: str) -> None:
    vm = bed.child("web")
    getattr(bed.vcenter, refusal)(method, vim.fault.NoPermission(privilegeId="X.Y", object=vm))
    (result,) = bed.remove("web")
    assert (result.state, result.changed, len(bed.acts)) == ("failed", changed, acts)
    assert (result.facts["power_state"], bed.vcenter.state(vm)) == (state, state)
    assert "lacks the privilege X.Y" in str(result.error)


@pytest.mark.parametrize("method", ACTS)
def test_completed_request_without_an_answer_is_a_change(bed: Bed, method: str) -> None:
    bed.child("web")
    bed.vcenter.lose_answer(method, carried_out=True)
    (result,) = bed.remove("web")
    assert (result.state, result.changed, result.error) == ("removed", True, None)
    assert not bed.vcenter.named("web")
    assert bed.vcenter.count(method) == 1


@pytest.mark.parametrize("method", ACTS)
def test_lost_request_is_a_failure(bed: Bed, method: str) -> None:
    vm = bed.child("web")
    bed.vcenter.lose_answer(method, carried_out=False)
    (result,) = bed.remove("web")
    assert (result.state, result.changed) == ("failed", method == "Destroy_Task")
    assert bed.vcenter.state(vm) == (OFF if method == "Destroy_Task" else ON)


@pytest.mark.parametrize("state", [ON, OFF])
def test_removal_that_continues_is_a_change(bed: Bed, state: str) -> None:
    bed.child("web", state)
    bed.vcenter.held.add("Destroy_Task")
    (result,) = bed.remove("web", seconds=20)
    assert (result.state, result.changed) == ("failed", True)
    assert "did not end" in str(result.error)


def test_lost_answer_and_an_unreadable_vm_is_a_failure(bed: Bed) -> None:
    bed.child("web", OFF)
    bed.vcenter.lose_answer("Destroy_Task", carried_out=False)

    def read(target: Any, **given: Any) -> Any:
        if bed.vcenter.count("Destroy_Task"):
            raise vim.fault.NoPermission(privilegeId="System.Read")
        return bed.vcenter._do_RetrievePropertiesEx(target, **given)

    bed.vcenter.effects["RetrievePropertiesEx"] = read
    (result,) = bed.remove("web")
    assert result.state == "failed"
    assert "The connection to vcenter broke" in str(result.error)


@pytest.mark.parametrize(
    ("lacking", "state", "sentence"),
    [
        ("PowerOff", ON, "Could not power off child web: "),
        ("PowerOff", OFF, None),
        ("Delete", ON, "Could not remove child web: "),
        ("", ON, "Could not power off child web: "),
    ],
)
def test_check_mode_checks_the_privileges_of_the_removal(
    bed: Bed, lacking: str, state: str, sentence: str | None
) -> None:
    bed.child("web", state)
    bed.vcenter.effects["HasPrivilegeOnEntities"] = lambda _manager, entity, **given: [
        vim.AuthorizationManager.EntityPrivilege(
            entity=managed,
            privAvailability=[
                vim.AuthorizationManager.PrivilegeAvailability(privId=privilege, isGranted=lacking not in privilege)
                for privilege in given["privId"]
            ],
        )
        for managed in entity
    ]
    (result,) = bed.remove("web", check_mode=True)
    assert (result.state, result.changed) == (("removed", True) if sentence is None else ("failed", False))
    assert str(result.error).startswith(str(sentence))


# --- children created by the same task --------------------------------------------------------------------------------


def failed(bed: Bed, vm: Any, existed: bool = False, changed: bool = True) -> Result:
    goal = Goal("post_clone", bed.parent.values, bed.parent.engine)
    child = Child(ChildSpec("web"), goal, step=Step.FAILED, vm=vm, existed=existed, changed=changed, nonce="n0")
    return Result("web", State.FAILED, vm, changed=changed, child=child, error="It failed.", facts={"power_state": ON})


@pytest.mark.parametrize("record", ["recorded", "not recorded yet"])
def test_failed_child_of_this_task_is_removed(bed: Bed, record: str) -> None:
    vm = bed.child("web") if record == "recorded" else bed.vcenter.vm("web", keys={guestinfo.CHILD_NONCE: "n0"})
    result = failed(bed, vm)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert not bed.vcenter.named("web")
    assert result.error == "It failed. The child was removed."
    assert result.facts["moid"] is None


def test_failed_child_that_existed_before_is_kept(bed: Bed) -> None:
    result = failed(bed, bed.child("web"), existed=True)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert (bed.acts, result.error) == ([], "It failed.")


def test_failed_child_that_was_never_requested(bed: Bed) -> None:
    result = Result("web", State.FAILED, error="The name is taken.")
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert (bed.acts, result.error) == ([], "The name is taken.")


@pytest.mark.parametrize("state", [State.CREATED, State.EXISTING])
def test_child_that_did_not_fail_is_kept(bed: Bed, state: State) -> None:
    running, gone = failed(bed, bed.child("web")), failed(bed, None)
    running.state = gone.state = state
    absent.remove_failed(bed.parent, [running, gone], bed.warnings.append)
    assert (bed.acts, running.error, gone.error) == ([], "It failed.", "It failed.")


def test_failed_child_with_the_record_of_another_parent_is_kept(bed: Bed) -> None:
    vm = bed.child("web", of="00000000-0000-0000-0000-000000000001")
    result = failed(bed, vm)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert (bed.acts, bed.vcenter.state(vm)) == ([], ON)
    assert "is not removed: " in str(result.error)


@pytest.mark.parametrize("changed", [True, False])
def test_child_that_may_still_appear_is_mentioned(bed: Bed, changed: bool) -> None:
    result = failed(bed, None, changed=changed)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert ("If it appears later" in str(result.error)) == changed


def test_failed_child_that_could_not_be_removed(bed: Bed) -> None:
    vm = bed.child("web")
    bed.vcenter.fail("Destroy_Task", vim.fault.InvalidState(msg="Busy."))
    result = failed(bed, vm)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert str(result.error).startswith("It failed. Could not remove child web: Busy")
    assert result.facts["power_state"] == OFF


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="no nonce"),
        pytest.param({guestinfo.CHILD_NONCE: "another"}, id="another nonce"),
    ],
)
def test_vm_that_this_task_did_not_create_is_kept(bed: Bed, keys: dict[str, str]) -> None:
    """It is kept whatever named it as the child."""
    vm = bed.vcenter.vm("web", keys=keys)
    result = failed(bed, vm)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert (bed.acts, bed.vcenter.state(vm)) == ([], ON)
    assert "is not removed: " in str(result.error)


def test_failed_child_with_the_bios_uuid_of_another_vm_is_kept(bed: Bed) -> None:
    vm = bed.vcenter.vm("web", keys={guestinfo.CHILD_NONCE: "n0"})
    bed.vcenter.vm("copy", **{"config.uuid": bed.vcenter.objects[vm]["config.uuid"]})
    result = failed(bed, vm)
    absent.remove_failed(bed.parent, [result], bed.warnings.append)
    assert (bed.acts, bed.vcenter.state(vm)) == ([], ON)


# --- data that would be lost ------------------------------------------------------------------------------------------


def _own_child(bed: Bed, vm: Any) -> None:
    bed.child("grandchild", of=bed.vcenter.objects[vm]["config.instanceUuid"])


def _disk(bed: Bed, vm: Any) -> None:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName="[ds] data/data.vmdk", diskMode="persistent")
    disk = vim.vm.device.VirtualDisk(key=2001, unitNumber=1, controllerKey=1000, backing=backing, capacityInKB=1)
    bed.vcenter.objects[vm]["config.hardware.device"] = [disk]


LOSSES: dict[str, Callable[[Bed, Any], Any]] = {
    "template": lambda bed, vm: bed.vcenter.objects[vm].update({"config.template": True}),
    "own child": _own_child,
    "disk": _disk,
}


@pytest.mark.parametrize("state", [ON, OFF])
@pytest.mark.parametrize("lose", LOSSES.values(), ids=list(LOSSES))
def test_own_data_is_not_removed_without_force(bed: Bed, lose: Callable[[Bed, Any], Any], state: str) -> None:
    vm = bed.child("web", state)
    lose(bed, vm)
    (predicted,) = absent.remove_named(bed.parent, [ChildSpec("web")], bed.order(check_mode=True))
    (result,) = absent.remove_named(bed.parent, [ChildSpec("web")], bed.order())
    for removal in (predicted, result):
        assert (removal.state, removal.changed) == ("failed", False)
        assert "Set force=true" in str(removal.error)
    assert (bed.acts, bed.vcenter.state(vm)) == ([], state)
    (result,) = absent.remove_named(bed.parent, [ChildSpec("web")], bed.order(force=True))
    assert (result.state, result.changed, vm in bed.vcenter.objects) == ("removed", True, False)
    assert any("is lost with it" in warning for warning in bed.warnings)


def test_data_added_during_the_power_off_is_kept(bed: Bed) -> None:
    vm = bed.child("web")

    def power_off(_vm: Any) -> None:
        bed.vcenter.objects[vm]["runtime.powerState"] = OFF
        _disk(bed, vm)

    bed.vcenter.effects["PowerOffVM_Task"] = power_off
    (result,) = bed.remove("web")
    assert (result.state, result.changed, bed.vcenter.count("Destroy_Task")) == ("failed", True, 0)


def test_forgotten_task_is_neither_awaited_nor_read_repeatedly(bed: Bed) -> None:
    """The VM still lists it next to another task."""
    busy = bed.child("a")
    running = bed.vcenter.add(vim.Task, "task-1", **{"info.state": "running"})
    forgotten = bed.vcenter.add(vim.Task, "task-2", **{"info.state": "running"})
    bed.vcenter.objects[busy]["recentTask"] = [running, forgotten]
    del bed.vcenter.objects[forgotten]

    def modify(view: Any, **given: Any) -> Any:
        assert bed.vcenter.count("ModifyListView") < 5
        return bed.vcenter._do_ModifyListView(view, **given)

    bed.vcenter.effects["ModifyListView"] = modify
    bed.vcenter.later(20, lambda: bed.vcenter.objects[running].update({"info.state": "success"}))
    assert outcome(bed.remove("a")) == [("a", "removed", True)]
    assert bed.vcenter.now == 1020


def test_only_running_task_vanishes(bed: Bed) -> None:
    vm = bed.child("a")
    task = bed.vcenter.add(vim.Task, "task-1", **{"info.state": "running"})
    bed.vcenter.objects[vm]["recentTask"] = [task]
    bed.vcenter.later(20, lambda: bed.vcenter.objects.pop(task))
    assert outcome(bed.remove("a")) == [("a", "removed", True)]
    assert bed.vcenter.now == 1020


@pytest.mark.parametrize("ends", [True, False])
def test_running_task_is_awaited(bed: Bed, ends: bool) -> None:
    vm = bed.child("web")
    running = {"info.state": "running", "info.descriptionId": "VirtualMachine.createSnapshot"}
    task = bed.vcenter.add(vim.Task, "task-1", **running)
    bed.vcenter.objects[vm]["recentTask"] = [task]
    if ends:
        bed.vcenter.later(20, lambda: bed.vcenter.objects[task].update({"info.state": "success"}))
    (result,) = bed.remove("web", seconds=60)
    if ends:
        assert (result.state, bed.vcenter.named("web")) == ("removed", [])
    else:
        assert (result.state, result.changed, bed.acts) == ("failed", False, [])
        assert "VirtualMachine.createSnapshot is running on it" in str(result.error)
    assert bed.vcenter.now == (1020 if ends else 1060)


@pytest.mark.parametrize(
    ("lasts", "force", "state", "until"),
    [
        pytest.param(20, False, "removed", 1020, id="it ends"),
        pytest.param(90, False, "failed", 1060, id="it does not end in time"),
        pytest.param(90, True, "removed", 1000, id="it was left behind"),
    ],
)
def test_snapshot_of_a_backup_is_awaited(bed: Bed, lasts: float, force: bool, state: str, until: float) -> None:
    vm = bed.child("web", OFF)
    snapshot = vim.vm.SnapshotTree(
        snapshot=vim.vm.Snapshot("snapshot-1"),
        vm=vm,
        name="VEEAM BACKUP TEMPORARY SNAPSHOT",
        description="",
        createTime=datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc),
        state=OFF,
        quiesced=False,
    )
    bed.vcenter.objects[vm]["snapshot"] = vim.vm.SnapshotInfo(rootSnapshotList=[snapshot])
    bed.vcenter.later(lasts, lambda: bed.vcenter.objects[vm].pop("snapshot"))
    order = bed.order(seconds=60, force=force)
    (result,) = absent.remove_named(bed.parent, [ChildSpec("web")], order)
    assert (result.state, result.changed, bed.vcenter.now) == (state, state == "removed", until)
    assert len(bed.vcenter.named("web")) == (state == "failed")


@pytest.mark.parametrize("listed", [True, False])
def test_children_known_only_to_the_server_are_kept(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    """Before vSphere 6.5, properties of another tool's fork do not show its parent."""
    vcenter.api_version = "6.0"
    bed = Bed(vcenter, monkeypatch)
    enabled = {"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=True)}
    web, fork = bed.child("web"), vcenter.vm("theirs")
    vcenter.objects[web].update(enabled)
    vcenter.effects["RetrieveForkChildren_Task"] = lambda vm: [fork] if listed and vm == web else []
    (result,) = bed.remove("web")
    assert (result.state, bool(bed.acts)) == (("failed", False) if listed else ("removed", True))
    assert ("theirs" in str(result.error)) == listed


# --- detached ---------------------------------------------------------------------------------------------------------


def detach(bed: Bed, *names: str, check_mode: bool = False) -> list[Result]:
    return absent.remove_named(bed.parent, [ChildSpec(name) for name in names], bed.order(check_mode, state="detached"))


def test_detaching_removes_only_the_record(bed: Bed) -> None:
    vm = bed.child("web")
    bed.vcenter.set_keys(vm, other="kept")
    assert outcome(detach(bed, "web", check_mode=True)) == [("web", "detached", True)]
    assert identity.RECORD_KEY in bed.vcenter.keys(vm)
    assert outcome(detach(bed, "web")) == [("web", "detached", True)]
    assert (bed.vcenter.keys(vm), bed.vcenter.state(vm), bed.acts) == ({"other": "kept"}, ON, [])
    assert outcome(detach(bed, "web")) == [("web", "detached", False)]
    assert outcome(bed.remove("web")) == [("web", "failed", False)]
    assert bed.acts == []


@pytest.mark.parametrize("make", [FOREIGN["record of another parent"], FOREIGN["same BIOS UUID as another VM"]])
def test_foreign_vm_is_not_detached(bed: Bed, make: Callable[[Bed], Any]) -> None:
    make(bed)
    (vm,) = bed.vcenter.named("web")
    before = bed.vcenter.keys(vm)
    assert outcome(detach(bed, "web", "missing")) == [("web", "failed", False), ("missing", "failed", False)]
    assert bed.vcenter.keys(vm) == before


def test_similar_names_are_listed_when_detaching(bed: Bed) -> None:
    bed.child("web-01")
    (result,) = absent.remove_named(bed.parent, [ChildSpec("web-1")], bed.order(state="detached"))
    assert (result.state, result.changed) == ("failed", False)
    assert "VM web-1 was not found, so it is not detached. Similar names: web-01." in str(result.error)


def test_all_are_detached(bed: Bed) -> None:
    vms = [bed.child(name) for name in ("a", "b")]
    results = absent.remove_all(bed.parent, bed.order(state="detached"))
    assert outcome(results) == [("a", "detached", True), ("b", "detached", True)]
    assert not [vm for vm in vms if identity.RECORD_KEY in bed.vcenter.keys(vm)]


def test_check_mode_asks_for_the_privilege_to_detach(bed: Bed) -> None:
    vm = bed.child("web")
    bed.vcenter.effects["HasPrivilegeOnEntities"] = lambda _manager, entity, **given: [
        vim.AuthorizationManager.EntityPrivilege(
            entity=vm,
            privAvailability=[
                vim.AuthorizationManager.PrivilegeAvailability(privId=privilege, isGranted=False)
                for privilege in given["privId"]
            ],
        )
    ]
    assert outcome(detach(bed, "web", check_mode=True)) == [("web", "failed", False)]


@pytest.mark.parametrize("refusal", ["refuse", "fail"])
def test_child_that_cannot_be_detached(bed: Bed, refusal: str) -> None:
    vm = bed.child("web")
    getattr(bed.vcenter, refusal)("ReconfigVM_Task", vim.fault.NoPermission(privilegeId="X.Y", object=vm))
    (result,) = detach(bed, "web")
    assert (result.state, result.changed) == ("failed", False)
    assert "lacks the privilege X.Y" in str(result.error)
    assert identity.RECORD_KEY in bed.vcenter.keys(vm)


def test_lost_answer_to_detaching(bed: Bed) -> None:
    vm = bed.child("web")
    bed.vcenter.lose_answer("ReconfigVM_Task", carried_out=True)
    assert outcome(detach(bed, "web")) == [("web", "detached", True)]
    assert identity.RECORD_KEY not in bed.vcenter.keys(vm)


@pytest.mark.parametrize("check_mode", [False, True])
def test_child_that_another_task_detaches_first(bed: Bed, monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    vms = {name: bed.child(name) for name in ("ours", "theirs")}
    judge = absent._Batch._judge

    def late(*given: Any) -> Any:
        bed.vcenter.set_keys(vms["theirs"], **{identity.RECORD_KEY: ""})
        return judge(*given)

    monkeypatch.setattr(absent._Batch, "_judge", late)
    results = detach(bed, *vms, check_mode=check_mode)
    assert outcome(results) == [("ours", "detached", True), ("theirs", "detached", False)]
    assert results[1].facts["moid"] == vms["theirs"]._GetMoId()


def test_child_that_another_task_detaches_while_it_is_busy(bed: Bed) -> None:
    """vCenter refuses the request of this task, since the other one is being carried out."""
    vm = bed.child("web")

    def reconfigure(_vm: Any, **_given: Any) -> None:
        bed.vcenter.set_keys(vm, **{identity.RECORD_KEY: ""})
        raise vim.fault.TaskInProgress(task=vim.Task("task-1"))

    bed.vcenter.effects["ReconfigVM_Task"] = reconfigure
    assert outcome(detach(bed, "web")) == [("web", "detached", False)]


# --- own data, and detaching ------------------------------------------------------------------------------------------


def test_only_the_record_is_read_from_all_vms(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real VM has about 60 keys in extraConfig."""
    scanned: list[str] = []
    scan = _properties.scan

    def spy(session: Any, root: Any, kind: Any, paths: Any) -> Any:
        scanned.extend(paths)
        return scan(session, root, kind, paths)

    monkeypatch.setattr(_properties, "scan", spy)
    bed.child("a")
    listing.list_parents(bed.session, bed.parent.engine, Deadline(300), None, bed.warnings.append)
    bed.remove_all(check_mode=True)
    bed.remove("a")
    assert identity.RECORD_PATH in scanned
    assert "config.extraConfig" not in scanned


LOST: dict[str, dict[str, Any]] = {
    "it was converted to a template": {"config.template": True},
    "it has disks that its parent does not have (disk 2001)": {
        "config.hardware.device": [
            vim.vm.device.ParaVirtualSCSIController(key=1000),
            vim.vm.device.VirtualDisk(key=2001, unitNumber=1, controllerKey=1000),
        ]
    },
}


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("why", LOST)
def test_child_with_own_data_needs_force(bed: Bed, why: str, check_mode: bool) -> None:
    vm = bed.child("a")
    bed.vcenter.objects[vm].update(LOST[why])
    results = bed.remove("a", check_mode=check_mode)
    assert outcome(results) == [("a", "failed", False)]
    assert f"Child a is not removed: {why}. Set force=true" in str(results[0].error)
    assert (bed.acts, bed.warnings) == ([], [])
    forced = absent.remove_named(bed.parent, [ChildSpec("a")], bed.order(check_mode, force=True))
    assert outcome(forced) == [("a", "removed", True)]
    assert f"Child a: {why}, which {'would be' if check_mode else 'is'} lost with it." in bed.warnings
    assert bool(bed.acts) is not check_mode


def test_child_that_becomes_a_template_during_its_power_off_is_kept(bed: Bed) -> None:
    vm = bed.child("a")

    def power_off(_vm: Any) -> None:
        bed.vcenter.objects[vm].update({"runtime.powerState": OFF, "config.template": True})

    bed.vcenter.effects["PowerOffVM_Task"] = power_off
    (result,) = bed.remove("a")
    assert (result.state, result.changed, bed.vcenter.count("Destroy_Task")) == ("failed", True, 0)
    assert "it was converted to a template" in str(result.error)


def test_detach_removes_only_the_record(bed: Bed) -> None:
    vm = bed.child("a")
    bed.vcenter.set_keys(vm, other="kept")
    before = dict(bed.vcenter.objects[vm])
    detach = bed.order(state="detached")
    assert outcome(absent.remove_named(bed.parent, [ChildSpec("a")], bed.order(True, state="detached"))) == [
        ("a", "detached", True)
    ]
    assert identity.RECORD_KEY in bed.vcenter.keys(vm)
    assert outcome(absent.remove_named(bed.parent, [ChildSpec("a")], detach)) == [("a", "detached", True)]
    assert bed.vcenter.keys(vm) == {"other": "kept"}
    now = dict(bed.vcenter.objects[vm])
    assert {path for path in before if before[path] != now.get(path)} == {"config.extraConfig"}
    assert outcome(absent.remove_named(bed.parent, [ChildSpec("a")], detach)) == [("a", "detached", False)]
    assert outcome(absent.remove_all(bed.parent, detach)) == []
    assert bed.acts == []


def test_detach_of_another_parents_child_is_refused(bed: Bed) -> None:
    bed.child("a", of="00000000-0000-0000-0000-000000000001")
    (result,) = absent.remove_named(bed.parent, [ChildSpec("a")], bed.order(state="detached"))
    assert (result.state, bed.vcenter.count("ReconfigVM_Task")) == ("failed", 0)
    assert "is not detached: it is recorded as the child of another parent" in str(result.error)


# --- busy VMs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [vim.fault.TaskInProgress(msg="Busy."), vim.fault.ConcurrentAccess(msg="Changed.")])
@pytest.mark.parametrize("method", ACTS)
@pytest.mark.parametrize("refusal", ["refuse", "fail"])
def test_busy_child_is_retried(bed: Bed, method: str, refusal: str, fault: Exception) -> None:
    bed.child("web")
    getattr(bed.vcenter, refusal)(method, fault, times=3)
    (result,) = bed.remove("web")
    assert (result.state, result.changed, result.error) == ("removed", True, None)
    assert bed.vcenter.count(method) == 4


@pytest.mark.parametrize("method", ACTS)
def test_busy_child_is_identified_again_before_the_retry(bed: Bed, method: str) -> None:
    vm = bed.child("web")
    bed.vcenter.refuse(method, vim.fault.TaskInProgress(msg="Busy."))
    bed.vcenter.later(0.4, lambda: bed.vcenter.set_keys(vm, **{identity.RECORD_KEY: ""}))
    (result,) = bed.remove("web")
    assert result.state == "failed"
    assert "is not removed: " in str(result.error)
    assert bed.vcenter.count(method) == 1
    assert bed.vcenter.named("web")


def test_busy_child_that_another_client_removes(bed: Bed) -> None:
    vm = bed.child("web")
    bed.vcenter.refuse("PowerOffVM_Task", vim.fault.TaskInProgress(msg="Busy."))
    bed.vcenter.later(0.4, lambda: bed.vcenter.objects.pop(vm))
    (result,) = bed.remove("web")
    assert (result.state, result.error) == ("removed", None)


def test_child_that_stays_busy(bed: Bed) -> None:
    bed.child("web")
    bed.vcenter.refuse("PowerOffVM_Task", vim.fault.TaskInProgress(msg="Backup runs."), times=5000)
    (result,) = bed.remove("web", seconds=60)
    assert (result.state, result.changed) == ("failed", False)
    assert "Backup runs" in str(result.error)
    assert bed.vcenter.now - 1000 < 75


def test_leftover_of_an_interrupted_task_is_not_reported_as_detached(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no record yet, and the next task would treat it as its child because of the nonce."""
    vcenter.api_version = "6.5"
    bed = Bed(vcenter, monkeypatch)
    bed.parent.values["config.forkConfigInfo"] = vim.vm.ForkConfigInfo(parentForkGroupId="g")
    group = {"config.forkConfigInfo": vim.vm.ForkConfigInfo(childForkGroupId="g", childType="nonpersistent")}
    vcenter.vm("web", OFF, {guestinfo.CHILD_NONCE: "n0"}, **group)
    assert outcome(detach(bed, "web")) == [("web", "failed", False)]


def test_check_mode_reports_what_a_removal_would_wait_for(bed: Bed) -> None:
    vm = bed.child("web")
    running = {"info.state": "running", "info.descriptionId": "VirtualMachine.createSnapshot"}
    bed.vcenter.objects[vm]["recentTask"] = [bed.vcenter.add(vim.Task, "task-1", **running)]
    assert outcome(bed.remove("web", check_mode=True)) == [("web", "removed", True)]
    assert ["VirtualMachine.createSnapshot is running on it" in warning for warning in bed.warnings] == [True]
    assert bed.vcenter.now == 1000


def test_renamed_child_is_not_removed(bed: Bed) -> None:
    """A child renamed while its removal waits for another task may have a new purpose."""
    vm = bed.child("a")
    task = bed.vcenter.add(vim.Task, "task-rename", **{"info.state": "running", "info.descriptionId": "rename"})
    bed.vcenter.objects[vm]["recentTask"] = [task]

    def rename() -> None:
        bed.vcenter.objects[vm]["name"] = "database"
        bed.vcenter.objects[task]["info.state"] = "success"

    bed.vcenter.later(5, rename)
    (result,) = bed.remove("a")
    assert (result.state, result.changed, bed.acts) == ("failed", False, [])
    assert "database" in (result.error or "")


def test_renamed_child_is_removed_with_all(bed: Bed) -> None:
    """all=true depends only on the record."""
    vm = bed.child("a")
    task = bed.vcenter.add(vim.Task, "task-rename", **{"info.state": "running"})
    bed.vcenter.objects[vm]["recentTask"] = [task]

    def rename() -> None:
        bed.vcenter.objects[vm]["name"] = "b"
        bed.vcenter.objects[task]["info.state"] = "success"

    bed.vcenter.later(5, rename)
    assert outcome(bed.remove_all()) == [("a", "removed", True)]


def _lose(bed: Bed, vm: Any) -> None:
    """Have another client remove a VM after it was found and before it is checked."""
    scans = itertools.count()
    carry_out = bed.vcenter._do_RetrievePropertiesEx

    def retrieve(collector: Any, specSet: Any, **more: Any) -> Any:  # noqa: N803
        if specSet[0].objectSet[0].skip and next(scans) == 1:  # it reads what a view shows
            bed.vcenter.objects.pop(vm)
        return carry_out(collector, specSet=specSet, **more)

    bed.vcenter.effects["RetrievePropertiesEx"] = retrieve


def test_child_that_another_run_removes_is_absent_and_no_change(bed: Bed) -> None:
    _lose(bed, bed.child("a"))
    assert outcome(bed.remove("a")) == [("a", "absent", False)]
    assert bed.acts == []


def test_removed_child_is_not_reported_as_detached(bed: Bed) -> None:
    """Users detach a child to keep it."""
    _lose(bed, bed.child("a"))
    results = absent.remove_named(bed.parent, [ChildSpec("a")], bed.order(state="detached"))
    assert outcome(results) == [("a", "failed", False)]
    assert "a" in (results[0].error or "")


@pytest.mark.parametrize("answer_is_lost", [False, True])
def test_child_removed_while_it_is_detached_is_not_reported_as_detached(bed: Bed, answer_is_lost: bool) -> None:
    vm = bed.child("a")

    def reconfigure(_vm: Any, **_given: Any) -> None:
        bed.vcenter.objects.pop(vm)
        raise vmodl.fault.ManagedObjectNotFound(msg="It is gone.")

    bed.vcenter.effects["ReconfigVM_Task"] = reconfigure
    if answer_is_lost:
        bed.vcenter.lose_answer("ReconfigVM_Task", carried_out=True)
    (result,) = absent.remove_named(bed.parent, [ChildSpec("a")], bed.order(state="detached"))
    assert result.state == "failed"


@pytest.mark.parametrize("devices", [None, []], ids=["unset", "empty"])
def test_child_with_unreadable_disks_is_not_removed(bed: Bed, devices: Any) -> None:
    vm = bed.child("a")
    bed.vcenter.objects[vm]["config.hardware.device"] = devices
    (result,) = bed.remove("a")
    assert (result.state, result.changed, bed.acts) == ("failed", False, [])
    assert "disks" in (result.error or "")
    wanted = [ChildSpec("a")]
    assert outcome(absent.remove_named(bed.parent, wanted, bed.order(force=True))) == [("a", "removed", True)]
