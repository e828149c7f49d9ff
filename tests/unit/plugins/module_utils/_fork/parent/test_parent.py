# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fork parents that are enabled and disabled while other tasks run on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, ON, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents

BUSY = vim.fault.TaskInProgress(msg="The operation is not allowed in the current state.")


def fork_config(is_enabled: bool) -> Any:
    return vim.vm.ForkConfigInfo(parentEnabled=is_enabled)


class Bed:
    """A fork parent at its fork point, and a child that is powered off, on a vCenter 6.0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
        self.vcenter = FakeVCenter("6.0")
        self.warnings: list[str] = []
        given = {"config.forkConfigInfo": fork_config(True), "runtime.quiescedForkParent": True, **values}
        self.vm = self.vcenter.vm("golden", **given)
        self.child = self.vcenter.vm("web-01", OFF)
        bios_uuid = self.vcenter.objects[self.child]["config.uuid"]
        record = identity.Record(self.vcenter.objects[self.vm]["config.instanceUuid"], bios_uuid, "n0")
        self.vcenter.set_keys(self.child, **{identity.RECORD_KEY: str(record)})
        self.vcenter.effects.update(
            PowerOffVM_Task=lambda vm: self.power(OFF, vm),
            EnableForkParent_Task=lambda _vm, **_given: self.set(**{"config.forkConfigInfo": fork_config(True)}),
            DisableForkParent_Task=lambda _vm: self.set(**{"config.forkConfigInfo": fork_config(False)}),
        )
        self.parent = self.vcenter.parent(self.vcenter.use(monkeypatch), self.vm)

    def set(self, **values: Any) -> None:
        """Change properties of the parent."""
        self.vcenter.objects[self.vm].update(values)

    def power(self, state: str, vm: Any = None) -> None:
        """Change the power state of the parent, which then leaves its fork point, or of another VM."""
        self.vcenter._switch(vm or self.vm, state)
        if vm in (None, self.vm):
            self.set(**{"runtime.quiescedForkParent": None})

    def cycle(self) -> None:
        """Power the parent off and on."""
        self.power(OFF)
        self.power(ON)

    def when_refused(self, method: str, act: Callable[[], Any]) -> None:
        """Run a function while the task waits for the parent, which was busy when a method was called."""
        self.vcenter.refuse(method, BUSY)
        self.vcenter.later(0.1, act)

    def disable(self, force: bool = False, power_off: bool = True) -> bool:
        return parents.disable(self.parent, Deadline(100), force, power_off, False, self.warnings.append)

    @property
    def acts(self) -> list[str]:
        """Return the calls that change the parent, in order."""
        changes = ("PowerOffVM_Task", "DisableForkParent_Task", "EnableForkParent_Task")
        return [call.method for call in self.vcenter.calls if call.method in changes]


BOTH = ["PowerOffVM_Task", "DisableForkParent_Task"]


@pytest.mark.parametrize("method", ["", *BOTH])
def test_disabled(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    bed = Bed(monkeypatch)
    bed.vcenter.refuse(method, BUSY, times=2)
    assert bed.disable() is True
    assert bed.acts == [call for call in BOTH for _again in range(3 if call == method else 1)]
    assert (bed.vcenter.state(bed.vm), bed.parent.is_enabled, bed.parent.is_quiesced) == (OFF, False, False)


def test_parent_of_running_children_is_left_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(monkeypatch)
    bed.power(ON, bed.child)
    with pytest.raises(_errors.Refused, match=r"it has 1 running child \(web-01\)"):
        bed.disable()
    assert (bed.acts, bed.vcenter.state(bed.vm)) == ([], ON)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("force", [True, False])
def test_child_that_is_started_while_the_parent_is_busy(
    monkeypatch: pytest.MonkeyPatch, method: str, force: bool
) -> None:
    bed = Bed(monkeypatch)
    bed.when_refused(method, lambda: bed.power(ON, bed.child))
    if force:
        assert bed.disable(force=True) is True
        return
    with pytest.raises(
        _errors.Refused, match=r"VM golden is left unchanged: it has 1 running child \(web-01\)"
    ) as error:
        bed.disable()
    assert bed.acts == BOTH[: BOTH.index(method) + 1]
    was_powered_off = method == "DisableForkParent_Task"
    assert (bed.vcenter.state(bed.vm), error.value.details["changed"]) == (
        OFF if was_powered_off else ON,
        was_powered_off,
    )


def test_parent_power_cycled_by_others_is_not_powered_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer at its fork point, and power_off is only for that."""
    bed = Bed(monkeypatch)
    bed.when_refused("PowerOffVM_Task", bed.cycle)
    assert bed.disable() is True
    assert (bed.acts, bed.vcenter.state(bed.vm), bed.parent.is_enabled) == (BOTH, ON, False)


def test_parent_reset_by_others_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(monkeypatch)

    def reset_by_others() -> None:
        bed.cycle()
        bed.set(**{"config.forkConfigInfo": fork_config(False)})

    bed.when_refused("PowerOffVM_Task", reset_by_others)
    assert bed.disable() is False
    assert (bed.acts, bed.vcenter.state(bed.vm)) == (["PowerOffVM_Task"], ON)


def test_parent_disabled_by_others_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(monkeypatch, **{"runtime.quiescedForkParent": None})
    bed.when_refused("DisableForkParent_Task", lambda: bed.set(**{"config.forkConfigInfo": fork_config(False)}))
    assert bed.disable() is False
    assert bed.acts == ["DisableForkParent_Task"]


@pytest.mark.parametrize("power_off", [True, False])
def test_busy_parent_that_reaches_its_fork_point(monkeypatch: pytest.MonkeyPatch, power_off: bool) -> None:
    bed = Bed(monkeypatch, **{"runtime.quiescedForkParent": None})
    bed.when_refused("DisableForkParent_Task", lambda: bed.set(**{"runtime.quiescedForkParent": True}))
    if power_off:
        assert bed.disable() is True
        assert (bed.acts, bed.vcenter.state(bed.vm)) == (["DisableForkParent_Task", *BOTH], OFF)
        return
    with pytest.raises(_errors.Refused, match="it is frozen at the fork point") as error:
        bed.disable(power_off=False)
    assert (bed.acts, bed.vcenter.state(bed.vm)) == (["DisableForkParent_Task"], ON)
    assert error.value.details["changed"] is False


@pytest.mark.parametrize("method", BOTH)
def test_busy_parent_that_is_renamed_is_left_unchanged(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    bed = Bed(monkeypatch)
    bed.when_refused(method, lambda: bed.set(name="golden-old"))
    with pytest.raises(_errors.Refused, match="VM golden was renamed to golden-old"):
        bed.disable()
    assert bed.acts == BOTH[: BOTH.index(method) + 1]


def test_parent_enabled_by_others_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"config.forkConfigInfo": fork_config(False), "runtime.quiescedForkParent": None}
    bed = Bed(monkeypatch, **given)
    bed.when_refused("EnableForkParent_Task", lambda: bed.set(**{"config.forkConfigInfo": fork_config(True)}))
    assert parents.enable(bed.parent, Deadline(100), None, False) is False
    assert (bed.acts, bed.parent.is_enabled) == (["EnableForkParent_Task"], True)
