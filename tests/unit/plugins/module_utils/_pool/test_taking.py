# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A record is replaced where it is still what was judged, and nowhere else."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import survey, taking
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import ChildRecord, State

NOW = datetime.datetime(2026, 11, 30, 12, 0, 0, tzinfo=datetime.timezone.utc)
VERSION = "config.changeVersion"


class Pool:
    """Children in a vCenter that checks ``changeVersion``, as they were judged."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, count: int = 1) -> None:
        self.vcenter = vcenter
        self.session = vcenter.use(monkeypatch, 600)
        self.vms = [vcenter.vm(f"ci-{number}", **{VERSION: "v1"}) for number in range(count)]
        for vm in self.vms:
            vcenter.set_keys(vm, **{"vmfork.pool": self.record(vm).encode(), "vmfork.child": "1 p u n"})
        vcenter.effects["ReconfigVM_Task"] = self.reconfigure
        self.judged = _inventory.locate(self.session, self.vms, survey.PATHS)

    def record(self, vm: Any) -> ChildRecord:
        return ChildRecord("ci", "g", self.vcenter.objects[vm]["config.uuid"], NOW, State.READY, NOW, boot_time=NOW)

    def released(self, vm: Any) -> str:
        return replace(self.record(vm), state=State.RELEASING).encode()

    def reconfigure(self, vm: Any, spec: Any) -> None:
        if spec.changeVersion and spec.changeVersion != self.vcenter.objects[vm][VERSION]:
            raise vim.fault.ConcurrentAccess(msg="The VM was changed.")
        self.vcenter.set_keys(vm, **{option.key: option.value for option in spec.extraConfig})
        self.touch(vm)

    def touch(self, vm: Any) -> None:
        """Change the VM, so that it has another version."""
        self.vcenter.objects[vm][VERSION] += "+"

    def take(self) -> list[_errors.Error | None]:
        """Release all children; return the error of each."""
        records = [(child, replace(self.record(child.vm), state=State.RELEASING)) for child in self.judged]
        ended = taking.take(self.session, Deadline(600), records)
        return [ended[vm._GetMoId()] for vm in self.vms]

    def texts(self) -> list[str]:
        return [self.vcenter.keys(vm)["vmfork.pool"] for vm in self.vms]


@pytest.fixture
def pool(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Pool:
    return Pool(vcenter, monkeypatch)


def test_record_is_replaced(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(vcenter, monkeypatch, 3)
    assert pool.take() == [None] * 3
    assert pool.texts() == [pool.released(vm) for vm in pool.vms]
    assert vcenter.count("ReconfigVM_Task") == 3


def test_another_task_was_faster(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(vcenter, monkeypatch, 2)
    leased = replace(pool.record(pool.vms[0]), state=State.LEASED, lease_id="j", attempt="a", until=NOW).encode()
    vcenter.set_keys(pool.vms[0], **{"vmfork.pool": leased})
    pool.touch(pool.vms[0])
    first, second = pool.take()
    assert isinstance(first, _errors.Refused)
    assert first.sentence.startswith("Child ci-0 is left unchanged: another task has changed its record")
    assert second is None
    assert pool.texts() == [leased, pool.released(pool.vms[1])]


@pytest.mark.parametrize("key", ["vmfork.child", "vmfork.pool"])
def test_record_was_removed(pool: Pool, key: str) -> None:
    pool.vcenter.set_keys(pool.vms[0], **{key: ""})
    pool.touch(pool.vms[0])
    (error,) = pool.take()
    assert isinstance(error, _errors.Refused)
    assert pool.released(pool.vms[0]) != pool.vcenter.keys(pool.vms[0]).get("vmfork.pool")


def test_bios_uuid_was_changed(pool: Pool) -> None:
    pool.vcenter.objects[pool.vms[0]]["config.uuid"] = "another"
    pool.touch(pool.vms[0])
    assert isinstance(pool.take()[0], _errors.Refused)


def test_something_else_was_changed(pool: Pool) -> None:
    pool.touch(pool.vms[0])
    assert pool.take() == [None]
    assert pool.texts() == [pool.released(pool.vms[0])]


def test_vm_that_changes_all_the_time(pool: Pool) -> None:
    def refuse(vm: Any, spec: Any) -> None:
        pool.touch(vm)
        raise vim.fault.ConcurrentAccess(msg="The VM was changed.")

    pool.vcenter.effects["ReconfigVM_Task"] = refuse
    (error,) = pool.take()
    assert isinstance(error, _errors.Refused)
    assert "5 times" in error.sentence
    assert pool.vcenter.count("ReconfigVM_Task") == 6


def test_vm_that_was_removed(pool: Pool) -> None:
    pool.touch(pool.vms[0])
    pool.vcenter.at_call[len(pool.vcenter.calls) + 2] = lambda normally: (
        pool.vcenter.objects.pop(pool.vms[0], None),
        normally(),
    )[1]
    (error,) = pool.take()
    assert error is not None


def test_busy_vm(pool: Pool) -> None:
    pool.vcenter.fail("ReconfigVM_Task", vim.fault.TaskInProgress(msg="Another task is in progress."))
    assert pool.take() == [None]
    assert pool.vcenter.count("ReconfigVM_Task") == 2


@pytest.mark.parametrize("carried_out", [True, False])
def test_lost_answer(pool: Pool, carried_out: bool) -> None:
    pool.vcenter.lose_answer("ReconfigVM_Task", carried_out)
    (error,) = pool.take()
    pool.vcenter.settle()
    assert (error is None) is carried_out
    assert (pool.texts() == [pool.released(pool.vms[0])]) is carried_out


@pytest.mark.parametrize("version", ["", None])
def test_no_change_version(pool: Pool, version: str | None) -> None:
    pool.judged[0].values[VERSION] = version
    (error,) = pool.take()
    assert isinstance(error, _errors.Refused)
    assert "vCenter does not show its changeVersion" in error.sentence
    assert pool.vcenter.count("ReconfigVM_Task") == 0


def test_refusal(pool: Pool) -> None:
    pool.vcenter.refuse("ReconfigVM_Task", vim.fault.NoPermission(privilegeId="VirtualMachine.Config.AdvancedConfig"))
    (error,) = pool.take()
    assert isinstance(error, _errors.OperationFailed)
    assert error.sentence.startswith("Could not write the record of child ci-0")
