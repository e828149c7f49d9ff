# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that stops answering: the task ends in time, sends nothing more, and reports what may have been done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, ON, FakeVCenter
from unit.plugins.module_utils._fork.child.test_absent import Bed as Removal
from unit.plugins.module_utils._fork.child.test_executor import ENGINES
from unit.plugins.module_utils._fork.child.test_executor import Bed as Children
from unit.plugins.module_utils._fork.parent.test_quiesce_runs import Bed as Quiesce

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _power, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import absent
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

SECONDS = 10
CONCURRENCY = 8
OVERTIME = 15
"""Seconds by which a task may exceed its time when its server is silent."""


@pytest.fixture
def limited(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each session of a test the timeout of the task."""
    original = vcenter.use
    monkeypatch.setattr(vcenter, "use", lambda patch: original(patch, SECONDS))


def finish(vcenter: FakeVCenter, session: Session, began: float) -> None:
    """Log out, and assert that the timeout was kept."""
    session.__exit__(None, None, None)
    assert SECONDS <= vcenter.now - began < SECONDS + OVERTIME


# --- children ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("answered", [0, 3])
@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_children(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str, answered: int, carried_out: bool
) -> None:
    """After the first timeout nothing more is created; one round of cleanup requests and the logout are the last ones.

    Requests that were sent together are lost together.
    """
    bed = Children(vcenter, monkeypatch, version)
    began = vcenter.now
    vcenter.fall_silent(create, carried_out, after=answered)
    names = [f"web-{number:02}" for number in range(40)]
    children = bed.create_children(
        *names, seconds=SECONDS, concurrency=CONCURRENCY, secret_config_params={"token": "a-long-secret"}
    )
    finish(vcenter, bed.session, began)
    assert answered < vcenter.count(create) <= answered + CONCURRENCY
    assert sum(child.changed for child in children) == vcenter.count(create)
    assert all(child.error for child in children)
    lost = [
        child for child in children if "did not answer a call within the 10 seconds of the task" in str(child.error)
    ]
    assert len(lost) == vcenter.count(create) - answered
    assert all("may have been" in str(child.error) for child in lost)
    silent = vcenter.calls[[call.method for call in vcenter.calls].index(create) + answered + 1 :]
    assert len([call for call in silent if call.method not in ("Logout", create)]) <= max(2, answered)


# --- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize(
    ("switch", "method", "before"),
    [
        (_power.on, "PowerOnVM_Task", OFF),
        (_power.off, "PowerOffVM_Task", ON),
        (_power.shut_down, "ShutdownGuest", ON),
    ],
)
def test_power(
    vcenter: FakeVCenter,
    monkeypatch: pytest.MonkeyPatch,
    switch: Callable[..., None],
    method: str,
    before: str,
    carried_out: bool,
) -> None:
    """The error names the lost answer, and not the second request that was never sent."""
    session = vcenter.use(monkeypatch)
    vm = vcenter.vm("web", before)
    began = vcenter.now
    vcenter.fall_silent(method, carried_out and method != "ShutdownGuest")
    with pytest.raises(_errors.ConnectionLost, match="did not answer a call"):
        switch(session, session.deadline, vm, "web")
    finish(vcenter, session, began)
    assert vcenter.count(method) == 1


@pytest.mark.usefixtures("limited")
def test_power_that_is_awaited(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task had started, so the error must not say that nothing was sent."""
    session = vcenter.use(monkeypatch)
    vm = vcenter.vm("web", OFF)
    began = vcenter.now
    vcenter.fall_silent("CreateListView", carried_out=False)
    with pytest.raises((_errors.ConnectionLost, _errors.NotEnded)) as error:
        _power.on(session, session.deadline, vm, "web")
    finish(vcenter, session, began)
    assert "nothing more was sent" not in error.value.sentence


def test_timeout_before_the_task_is_awaited(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    session = vcenter.use(monkeypatch, SECONDS)
    vm = vcenter.vm("web", OFF)

    def begin() -> Any:
        task = vm.PowerOnVM_Task()
        vcenter._sleep(SECONDS + 5)
        return task

    with pytest.raises(_errors.NotEnded, match="did not end within"):
        _tasks.run(session, Deadline(100), "Could not power on VM web", begin)


# --- several tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("carried_out", [True, False])
def test_parallel_tasks(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, carried_out: bool) -> None:
    session = vcenter.use(monkeypatch)
    vms = [vcenter.vm(f"web-{number}", OFF) for number in range(5)]
    began = vcenter.now
    vcenter.fall_silent("PowerOnVM_Task", carried_out, after=2)
    jobs: dict[Any, _tasks.Job] = {vm: (f"Could not power on VM {vm}", vm.PowerOnVM_Task) for vm in vms}
    ended = _tasks.run_all(session, session.deadline, jobs)
    errors = [ended[vm] for vm in vms]
    finish(vcenter, session, began)
    assert [isinstance(error, _errors.NotEnded) for error in errors] == [True] * 3 + [False] * 2
    assert "nothing more was sent" not in str(errors[:3])
    assert vcenter.count("PowerOnVM_Task") == 3


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("method", ["PowerOffVM_Task", "Destroy_Task"])
def test_removal(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, method: str, carried_out: bool) -> None:
    bed = Removal(vcenter, monkeypatch)
    for name in ("a", "b"):
        bed.child(name)
    began = vcenter.now
    vcenter.fall_silent(method, carried_out)
    results = bed.remove("a", "b", seconds=SECONDS)
    finish(vcenter, bed.session, began)
    powered_off = method == "Destroy_Task"
    assert [(result.state, result.changed) for result in results] == [("failed", True), ("failed", powered_off)]
    assert vcenter.count(method) == 1


@pytest.mark.parametrize("carried_out", [True, False])
def test_lost_answer_to_a_removal_is_checked(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    """What has not been carried out by then is no change."""
    bed = Removal(vcenter, monkeypatch)
    bed.child("a", OFF)
    vcenter.lose_answer("Destroy_Task", carried_out)
    (result,) = bed.remove("a")
    assert (result.state, result.changed) == (("removed", True) if carried_out else ("failed", False))


# --- the parent -------------------------------------------------------------------------------------------------------


@pytest.fixture
def parent(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> parents.Parent:
    vcenter.api_version = "6.5"
    vm = vcenter.vm(
        "golden", **{"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=False, parentForkGroupId="")}
    )

    def enable(vm: Any, **_given: Any) -> None:
        vcenter.objects[vm]["config.forkConfigInfo"] = vim.vm.ForkConfigInfo(parentEnabled=True, parentForkGroupId="g1")

    vcenter.effects["EnableForkParent_Task"] = enable
    return vcenter.parent(vcenter.use(monkeypatch, SECONDS), vm)


@pytest.mark.parametrize(
    ("method", "after", "changed"),
    [("EnableForkParent_Task", 0, True), ("CreateListView", 0, True), ("RetrievePropertiesEx", 0, True)],
)
def test_parent(vcenter: FakeVCenter, parent: parents.Parent, method: str, after: int, changed: bool) -> None:
    """The request, its task or the read after it is not answered: the VM may be a parent."""
    began = vcenter.now
    vcenter.fall_silent(method, carried_out=False, after=vcenter.count(method) + after)
    with pytest.raises(_errors.Error) as error:
        parents.enable(parent, parent.session.deadline, None, check_mode=False)
    finish(vcenter, parent.session, began)
    assert error.value.details["changed"] is changed


# --- tasks that vCenter forgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("carried_out", [True, False])
def test_vanished_task_of_a_power_change(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    """It is noticed at once, and the module checks for the effect."""
    session = vcenter.use(monkeypatch)
    vm = vcenter.vm("web", OFF)
    vcenter.held.add("PowerOnVM_Task")
    vcenter.later(1, lambda: vcenter.forget_tasks(carried_out))
    began = vcenter.now
    _power.on(session, Deadline(100), vm, "web")
    assert vcenter.state(vm) == ON
    assert vcenter.now - began < 5


def test_vanished_task_among_others(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    session = vcenter.use(monkeypatch)
    vm = vcenter.vm("web", OFF)
    vcenter.held.add("PowerOnVM_Task")
    vcenter.later(1, lambda: vcenter.forget_tasks(carry_out=False))
    began = vcenter.now
    errors = _tasks.run_all(session, Deadline(100), {vm: ("Could not power on VM web", vm.PowerOnVM_Task)})
    assert vcenter.now - began < 5
    assert isinstance(errors[vm], _errors.NotEnded)
    assert "vCenter no longer knows the task" in str(errors[vm])


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("method", ["PowerOffVM_Task", "Destroy_Task", "ReconfigVM_Task"])
def test_vanished_task_of_a_removal(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, method: str, carried_out: bool
) -> None:
    """A completed removal is no failure; one that was not is no change, and the next run does it."""
    bed = Removal(vcenter, monkeypatch)
    names = ("a", "b")
    vms = [bed.child(name) for name in names]
    state = "detached" if method == "ReconfigVM_Task" else "absent"
    done = "detached" if state == "detached" else "removed"
    given = [ChildSpec(name) for name in names]
    vcenter.held.add(method)
    vcenter.later(1, lambda: vcenter.forget_tasks(carried_out))
    began = vcenter.now
    results = absent.remove_named(bed.parent, given, bed.order(state=state))
    assert vcenter.now - began < 5
    if carried_out:
        assert [(result.state, result.changed) for result in results] == [(done, True)] * 2
        return
    assert [(result.state, result.changed) for result in results] == [("failed", method == "Destroy_Task")] * 2
    assert all("vCenter no longer knows the task" in (result.error or "") for result in results)
    assert {vcenter.state(vm) for vm in vms} == {OFF if method == "Destroy_Task" else ON}
    again = absent.remove_named(bed.parent, given, bed.order(state=state))
    assert [(result.state, result.changed) for result in again] == [(done, True)] * 2


@pytest.mark.parametrize("carried_out", [True, False])
def test_vanished_task_of_a_quiesce(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, carried_out: bool) -> None:
    """It is unknown whether the scripts are in guestinfo: none remains, and the next run reaches the fork point."""
    bed = Quiesce(vcenter, monkeypatch)
    vcenter.held.add("ReconfigVM_Task")
    vcenter.later(1, lambda: vcenter.forget_tasks(carried_out))
    began = vcenter.now
    with pytest.raises(_errors.ConnectionLost, match="vCenter no longer knows the task"):
        bed.run(seconds=300)
    assert vcenter.now - began < 5
    assert (bed.left, bed.payloads) == ([], [])
    vcenter.later(10, bed.freeze)
    bed.parent.refresh()
    bed.run()
    assert bed.parent.is_quiesced
    assert [bool(payload) for payload in bed.payloads] == [True]
    assert (bed.left, bed.warnings) == ([], [])
