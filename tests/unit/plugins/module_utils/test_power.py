# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power changes with lost answers, and busy VMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, ON, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _power
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

Switch = Callable[[Session, Deadline, Any, str], None]
SWITCHES = [
    pytest.param(_power.on, "PowerOnVM_Task", OFF, ON, id="on"),
    pytest.param(_power.off, "PowerOffVM_Task", ON, OFF, id="off"),
]
SECONDS = 60


@pytest.fixture
def session(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Session:
    return vcenter.use(monkeypatch)


@pytest.mark.parametrize(("switch", "method", "before", "after"), SWITCHES)
def test_switch(vcenter: FakeVCenter, session: Session, switch: Switch, method: str, before: str, after: str) -> None:
    vm = vcenter.vm("web", before)
    switch(session, Deadline(SECONDS), vm, "web")
    assert (vcenter.state(vm), vcenter.count(method)) == (after, 1)


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize(("switch", "method", "before", "after"), SWITCHES)
def test_lost_answer(
    vcenter: FakeVCenter,
    session: Session,
    switch: Switch,
    method: str,
    before: str,
    after: str,
    carried_out: bool,
) -> None:
    """The request is sent once more, and a server that has carried it out refuses it."""
    vm = vcenter.vm("web", before)
    vcenter.lose_answer(method, carried_out=carried_out)
    switch(session, Deadline(SECONDS), vm, "web")
    assert vcenter.state(vm) == after


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(("switch", "method", "before", "after"), SWITCHES)
def test_lost_answer_to_a_running_request(
    vcenter: FakeVCenter, session: Session, switch: Switch, method: str, before: str, after: str, ends: bool
) -> None:
    """TaskInProgress means that the first request is running: the module waits for it, and reports no failure."""
    vm = vcenter.vm("web", before)
    vcenter.held.add(method)
    vcenter.lose_answer(method, carried_out=True)
    busy = vim.fault.TaskInProgress(msg="Another task is already in progress.", task=vim.Task("task-1"))
    if ends:
        vcenter.later(20, lambda: vcenter.end_tasks(method))
    original = vcenter.InvokeMethod

    def refuse_while_running(target: Any, info: Any, arguments: Any) -> Any:
        if info.wsdlName == method and any(task[1] == method for task in vcenter._running):
            raise busy
        return original(target, info, arguments)

    vcenter.InvokeMethod = refuse_while_running  # type: ignore[method-assign]
    if ends:
        switch(session, Deadline(SECONDS), vm, "web")
        assert vcenter.state(vm) == after
    else:
        with pytest.raises(_errors.NotEnded):
            switch(session, Deadline(SECONDS), vm, "web")
        assert vcenter.state(vm) == before


@pytest.mark.parametrize(("switch", "method", "before", "after"), SWITCHES)
def test_other_refusals_are_failures(
    vcenter: FakeVCenter, session: Session, switch: Switch, method: str, before: str, after: str
) -> None:
    vm = vcenter.vm("web", before)
    vcenter.lose_answer(method, carried_out=False)
    vcenter.fail(method, vim.fault.InvalidState(msg="No."))
    with pytest.raises(_errors.OperationFailed, match=r"^Could not power o(n|ff) VM web: No"):
        switch(session, Deadline(SECONDS), vm, "web")
    assert vcenter.state(vm) == before
    assert after != before


@pytest.mark.parametrize("state", [ON, OFF])
def test_vm_removed_while_its_state_is_awaited(vcenter: FakeVCenter, session: Session, state: str) -> None:
    vm = vcenter.vm("web", ON if state == OFF else OFF)
    vcenter.later(5, lambda: vcenter.objects.pop(vm))
    assert _power.reaches(session, Deadline(SECONDS), vm, state) is False


def test_guest_that_shuts_down(vcenter: FakeVCenter, session: Session) -> None:
    vm = vcenter.vm("web", ON)
    _power.shut_down(session, Deadline(SECONDS), vm, "web")
    assert vcenter.state(vm) == OFF


def test_guest_that_does_not_shut_down(vcenter: FakeVCenter, session: Session) -> None:
    vm = vcenter.vm("web", ON)
    vcenter.effects["ShutdownGuest"] = lambda _vm: None
    with pytest.raises(_errors.TimedOut, match="it was not off within 60 seconds"):
        _power.shut_down(session, Deadline(SECONDS), vm, "web")
