# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a survey finds in a vCenter: which VMs belong to a pool, in which state, and with how many calls."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import survey
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.reconcile import Kin, PoolChild
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import (
    ChildRecord,
    Mode,
    ParentRecord,
    PoolRecord,
    State,
    Unreadable,
    generation,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.survey import PoolNames, Survey

BOOT = datetime.datetime(2026, 11, 30, 12, 0, 0, tzinfo=datetime.timezone.utc)
SLOTS = [f"ci-{number:03}" for number in range(1, 100)]
HEALTHY = {
    "config.changeVersion": "v1",
    "guest.toolsRunningStatus": "guestToolsRunning",
    "guestHeartbeatStatus": "green",
    "runtime.bootTime": BOOT,
    "runtime.connectionState": "connected",
}


class Estate:
    """A parent in a vCenter, and what it needs to have children of a pool."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vcenter = vcenter
        self.session = vcenter.use(monkeypatch)
        self.golden = vcenter.vm(
            "golden", keys={"vmfork.generation": "m1"}, **HEALTHY, **{"runtime.instantCloneFrozen": True}
        )

    def values(self, vm: Any) -> dict[str, Any]:
        return self.vcenter.objects[vm]

    def child(self, name: str, pool: str | None = "ci", parent: Any = None, **values: Any) -> Any:
        """Return a child; with ``pool=None`` it has no record of a pool."""
        vm = self.vcenter.vm(name, **{**HEALTHY, **values})
        uuid, of_parent = self.values(vm)["config.uuid"], self.values(parent or self.golden)["config.instanceUuid"]
        self.vcenter.set_keys(vm, **{"vmfork.child": f"1 {of_parent} {uuid} nonce"})
        if pool is not None:
            its = ChildRecord(pool, "g", uuid, BOOT, State.READY, BOOT, boot_time=BOOT)
            self.vcenter.set_keys(vm, **{"vmfork.pool": its.encode()})
        return vm

    def copy(self, vm: Any, name: str, **values: Any) -> Any:
        """Return a copy of a VM with the keys of the original."""
        return self.vcenter.vm(name, keys=self.vcenter.keys(vm), **{**HEALTHY, **values})

    def look(self, *parents: Any) -> Survey:
        moids = [vm._GetMoId() for vm in parents or (self.golden,)]
        engine = select.choose(self.session, "auto", "soap")
        return survey.survey(self.session, engine, PoolNames("ci", moids, self.vcenter.folder, SLOTS))

    def children(self) -> dict[str, PoolChild]:
        return {child.name: child for child in self.look().inventory.children}


@pytest.fixture
def estate(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Estate:
    return Estate(vcenter, monkeypatch)


def test_child(estate: Estate) -> None:
    vm = estate.child("ci-002")
    seen = estate.look()
    (child,) = seen.inventory.children
    its = ChildRecord("ci", "g", estate.values(vm)["config.uuid"], BOOT, State.READY, BOOT, boot_time=BOOT)
    parent = estate.golden._GetMoId()
    assert child == PoolChild(vm._GetMoId(), "ci-002", Kin.CHILD, its, 2, parent, boot_time=BOOT)
    assert seen.found[child.key].values["config.changeVersion"] == "v1"


def test_parent(estate: Estate) -> None:
    its = PoolRecord(Mode.PRESENT, BOOT, 60)
    uuid = estate.values(estate.golden)["config.uuid"]
    estate.vcenter.set_keys(estate.golden, **{"vmfork.pools": ParentRecord(uuid, {"ci": its}).encode()})
    (parent,) = estate.look().inventory.parents
    assert parent.generation == generation(estate.values(estate.golden)["config.instanceUuid"], "m1", BOOT)
    assert (parent.obstacle, parent.pool) == (None, its)
    estate.vcenter.set_keys(estate.golden, **{"vmfork.pools": "{", "vmfork.generation": ""})
    estate.values(estate.golden)["runtime.instantCloneFrozen"] = False
    (parent,) = estate.look().inventory.parents
    assert (parent.generation, parent.pool) == (None, Unreadable("it is not JSON"))
    assert parent.obstacle is not None


def test_other_vms_do_not_belong_to_the_pool(estate: Estate) -> None:
    """VMs without a record of this pool, a copy of a child, and a fork of a child."""
    child = estate.child("ci-001")
    estate.child("ci-002", pool="other")
    estate.child("ci-003", pool=None)
    estate.copy(child, "ci-004")
    estate.vcenter.vm("ci-005")
    fork = estate.child("ci-006", parent=child)
    estate.vcenter.set_keys(fork, **{"vmfork.pool": estate.vcenter.keys(child)["vmfork.pool"]})
    inventory = estate.look().inventory
    assert [(vm.name, type(vm.record)) for vm in inventory.children] == [("ci-001", ChildRecord)]
    assert inventory.foreign_slots == {2, 3, 4, 5, 6}


def test_fork_group_of_another_parent(estate: Estate) -> None:
    """The server knows better than the record."""
    group = vim.vm.ForkConfigInfo
    estate.values(estate.golden)["config.forkConfigInfo"] = group(parentEnabled=True, parentForkGroupId="a")
    estate.child("ci-001", **{"config.forkConfigInfo": group(parentEnabled=False, childForkGroupId="b")})
    assert estate.children() == {}


def test_copy_with_the_same_bios_uuid(estate: Estate) -> None:
    child = estate.child("ci-001")
    estate.copy(child, "restored", **{"config.uuid": estate.values(child)["config.uuid"]})
    assert {name: (vm.kin, vm.slot) for name, vm in estate.children().items()} == {
        "ci-001": (Kin.DOUBTFUL, 1),
        "restored": (Kin.DOUBTFUL, None),
    }


def test_child_of_a_deleted_parent(estate: Estate) -> None:
    gone = estate.vcenter.vm("gone")
    estate.child("ci-001", parent=gone)
    del estate.vcenter.objects[gone]
    assert [(vm.kin, vm.parent) for vm in estate.children().values()] == [(Kin.ORPHAN, None)]


def test_child_of_a_parent_that_the_pool_no_longer_uses(estate: Estate) -> None:
    estate.child("ci-001", parent=estate.vcenter.vm("silver"))
    assert [(vm.kin, vm.parent) for vm in estate.children().values()] == [(Kin.CHILD, None)]


@pytest.mark.parametrize("text", ["{", None])
def test_unusable_record(estate: Estate, text: str | None) -> None:
    """A record that is not JSON, and one of another VM on a certain child."""
    other = estate.vcenter.keys(estate.child("lab", pool="lab"))["vmfork.pool"]
    estate.vcenter.set_keys(estate.child("ci-001"), **{"vmfork.pool": text or other})
    (child,) = estate.look().inventory.children
    assert (child.name, child.kin, type(child.record)) == ("ci-001", Kin.CHILD, Unreadable)


def test_slots_are_names_in_one_folder(estate: Estate) -> None:
    elsewhere = estate.vcenter.add(vim.Folder, "group-v9", name="elsewhere", parent=estate.vcenter.folder)
    estate.child("ci-001")
    moved = estate.child("ci-002")
    estate.values(moved)["parent"] = elsewhere
    estate.child("renamed")
    estate.child("CI-003")
    assert {name: vm.slot for name, vm in estate.children().items()} == {
        "ci-001": 1,
        "ci-002": None,
        "renamed": None,
        "CI-003": 3,
    }


@pytest.mark.parametrize("state", ["disconnected", "inaccessible", "orphaned", "invalid", None])
def test_vm_that_cannot_be_reached(estate: Estate, state: str | None) -> None:
    estate.child("ci-001", **{"runtime.connectionState": state})
    assert not estate.children()["ci-001"].is_reachable


@pytest.mark.parametrize("state", ["disconnected", "notResponding"])
def test_host_that_cannot_be_reached(estate: Estate, state: str) -> None:
    estate.values(estate.vcenter.host)["runtime.connectionState"] = state
    estate.child("ci-001")
    assert not estate.children()["ci-001"].is_reachable


@pytest.mark.parametrize(
    ("values", "health"),
    [
        ({}, True),
        ({"guest.toolsRunningStatus": "guestToolsNotRunning"}, False),
        ({"guest.toolsRunningStatus": None}, None),
        ({"guestHeartbeatStatus": "gray"}, None),
        ({"guestHeartbeatStatus": "gray", "state": OFF}, False),
    ],
)
def test_health(estate: Estate, values: dict[str, Any], health: bool | None) -> None:
    estate.child("ci-001", **values)
    assert estate.children()["ci-001"].is_healthy is health


def test_busy_children(estate: Estate) -> None:
    running, ended = (
        estate.vcenter.add(vim.Task, f"task-{state}", **{"info.state": state}) for state in ("running", "success")
    )
    backup = vim.vm.SnapshotTree(name="VEEAM BACKUP TEMPORARY SNAPSHOT", description="")
    estate.child("ci-001", recentTask=[running])
    estate.child("ci-002", recentTask=[ended])
    estate.child("ci-003", snapshot=vim.vm.SnapshotInfo(rootSnapshotList=[backup]))
    assert {name: vm.is_busy for name, vm in estate.children().items()} == {
        "ci-001": True,
        "ci-002": False,
        "ci-003": True,
    }


def test_parent_that_cannot_be_read(estate: Estate) -> None:
    gone = estate.vcenter.vm("gone")
    del estate.vcenter.objects[gone]
    inventory = estate.look(estate.golden, gone).inventory
    assert inventory.gap == f"The parents {gone._GetMoId()} of pool ci could not be read."
    assert estate.look().inventory.gap is None


def test_parents_are_in_the_order_of_the_task(estate: Estate) -> None:
    silver = estate.vcenter.vm("silver", **HEALTHY)
    for parents in ([silver, estate.golden], [estate.golden, silver]):
        assert [vm.key for vm in estate.look(*parents).inventory.parents] == [vm._GetMoId() for vm in parents]


def test_calls_do_not_grow(estate: Estate) -> None:
    counts = []
    for first, last in ((1, 2), (2, 60)):
        for number in range(first, last):
            task = estate.vcenter.add(vim.Task, f"task-{number}", **{"info.state": "success"})
            estate.child(f"ci-{number:03}", recentTask=[task])
            estate.vcenter.vm(f"other-{number}")
        before = len(estate.vcenter.calls)
        assert len(estate.look().inventory.children) == last - 1
        counts.append([call.method for call in estate.vcenter.calls[before:]])
    few, many = counts
    assert few == ["CreateContainerView", *["RetrievePropertiesEx"] * 3, "CurrentTime"]
    assert many == few[1:]


def test_vsphere_without_instant_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Estate(FakeVCenter("6.5"), monkeypatch)
    with pytest.raises(_errors.BadInput, match="Pool ci was not changed: pools need Instant Clone"):
        old.look()
