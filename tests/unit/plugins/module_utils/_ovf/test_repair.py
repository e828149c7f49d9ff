# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power cycle of a VM that lost its OVF environment: what is done, what is refused, and the report."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, ON, FakeVCenter
from unit.plugins.module_utils._ovf.secret_properties import PLAIN, SECRET

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import examine, plan, repair
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import GuestView
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

ACCEPTED = ("guest_not_seen",)
QUESTIONS = examine.Questions(forked_from=lambda values: None, mask=Mask())
NOW = datetime.datetime.now(datetime.timezone.utc)
BOOTED = NOW - datetime.timedelta(hours=2)
HOSTNAME = vim.vApp.PropertyInfo(key=0, id="hostname", value="web", userConfigurable=True)
OTHERS_QUESTION = vim.vm.QuestionInfo(id="1", text="Did you move it?", choice=vim.option.ChoiceOption())


class Bed:
    """A VM that root of its ESXi host powered on two hours ago."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vcenter = vcenter
        self.warnings: list[str] = []
        self.events = [self.event("VmPoweredOnEvent", BOOTED, "root")]
        self.tasks: list[Any] = []
        self.vm = vcenter.vm(
            "web",
            **{
                "config.vAppConfig": vim.vApp.VmConfigInfo(
                    property=[HOSTNAME], ovfEnvironmentTransport=["com.vmware.guestInfo"]
                ),
                "config.template": False,
                "guest.toolsRunningStatus": "guestToolsRunning",
                "runtime.bootTime": BOOTED,
                "runtime.connectionState": "connected",
            },
        )
        self.read: set[str] = set()
        vcenter.effects["ReadNextEvents"] = lambda collector, **_given: self.read_once(collector, self.events)
        vcenter.effects["ReadNextTasks"] = lambda collector, **_given: self.read_once(collector, self.tasks)
        vcenter.effects["PowerOnVM_Task"] = self.power_on
        self.session = vcenter.use(monkeypatch)

    def read_once(self, collector: Any, known: list[Any]) -> list[Any]:
        """Return everything that a collector has, and then nothing."""
        moid = collector._GetMoId()
        if moid in self.read:
            return []
        self.read.add(moid)
        return list(known)

    def event(self, kind: str, when: datetime.datetime, user: str, chain: int = 7) -> Any:
        about = vim.event.VmEventArgument(name="web", vm=vim.VirtualMachine("vm-100"))
        return getattr(vim.event, kind)(key=chain, chainId=chain, createdTime=when, userName=user, vm=about)

    def power_on(self, vm: Any, **_given: Any) -> None:
        """Power on as vCenter does for a user, with the events."""
        self.vcenter._do_PowerOnVM(vm)
        later = NOW + datetime.timedelta(minutes=5)
        self.vcenter.objects[vm]["runtime.bootTime"] = later
        self.events = [*self.events, self.event("VmPoweredOnEvent", later, "ann", 9)]
        self.tasks = [
            vim.TaskInfo(
                descriptionId="VirtualMachine.powerOn",
                entity=vm,
                eventChainId=9,
                queueTime=later,
                reason=vim.TaskReasonUser(userName="ann"),
            )
        ]

    def target(self, seconds: float = 600, **how: Any) -> repair.RepairTarget:
        given = {"questions": QUESTIONS, "accepted": ACCEPTED, **how}
        return repair.RepairTarget(
            self.session, Deadline(seconds), self.vm, repair.Options(**given), self.warnings.append
        )

    def repaired(self, seconds: float = 600, **how: Any) -> repair.RepairTarget:
        """Return the VM after its power cycle."""
        target = self.target(seconds, **how)
        target.prepare()
        target.repair()
        return target

    @property
    def acts(self) -> list[str]:
        """Return the calls that change the VM, in order."""
        changes = ("ShutdownGuest", "PowerOffVM_Task", "PowerOnVM_Task", "ReconfigVM_Task")
        return [call.method for call in self.vcenter.calls if call.method in changes]

    @property
    def state(self) -> str | None:
        return self.vcenter.state(self.vm)


@pytest.fixture
def bed(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(vcenter, monkeypatch)


CYCLE = ["ShutdownGuest", "PowerOnVM_Task"]


@pytest.mark.parametrize(
    ("shutdown", "acts"),
    [("guest", CYCLE), ("hard", ["PowerOffVM_Task", "PowerOnVM_Task"])],
)
def test_power_cycle(bed: Bed, shutdown: str, acts: list[str]) -> None:
    target = bed.repaired(shutdown=shutdown)
    assert (target.before.diagnosis.status, target.after.diagnosis.status) == ("lost_suspected", "delivered_assumed")
    assert (bed.acts, bed.state, target.is_touched, bed.warnings) == (acts, ON, True, [])


def test_powered_off_vm_is_powered_on(bed: Bed) -> None:
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    target = bed.repaired()
    assert (bed.acts, target.is_touched) == (["PowerOnVM_Task"], True)


def test_vm_with_a_delivered_document_is_left_unchanged(bed: Bed) -> None:
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    bed.repaired()
    again = bed.target()
    again.prepare()
    assert (again.is_delivered, again.is_touched, again.plan.steps) == (True, False, ())


@pytest.mark.parametrize("accepted", [(), ("may_be_fork",)])
def test_every_risk_must_be_accepted(bed: Bed, accepted: tuple[str, ...]) -> None:
    with pytest.raises(_errors.Refused, match="accept_risks="):
        bed.target(accepted=accepted).prepare()
    assert bed.acts == []


# --- the origin of the power-on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("booted", "origin", "reason"),
    [
        pytest.param(BOOTED, "esxi_direct", None, id="the event is of this run"),
        pytest.param(NOW, "unknown", "host_was_disconnected", id="the event is of an earlier run"),
    ],
)
def test_boot_time_is_read(bed: Bed, booted: datetime.datetime, origin: str, reason: str | None) -> None:
    """Events of an earlier run do not apply to this one: only ``runtime.bootTime`` tells them apart."""
    bed.vcenter.objects[bed.vm]["runtime.bootTime"] = booted
    power_on = bed.target().before.evidence.power_on
    assert (power_on.origin, power_on.reason) == (origin, reason)


def test_boot_time_is_returned(bed: Bed) -> None:
    (found,) = examine.examine(bed.session, Deadline(60), _inventory.Selection(moid=[bed.vm._GetMoId()]), QUESTIONS)
    assert examine.facts(found, Mask())["boot_time"] == BOOTED.isoformat().replace("+00:00", "Z")


# --- timeouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "left", "begins"),
    [
        pytest.param(600, 121, True, id="enough"),
        pytest.param(600, 119, False, id="too little"),
        pytest.param(100, 51, True, id="half of a short task"),
        pytest.param(100, 49, False, id="less than half of a short task"),
    ],
)
@pytest.mark.parametrize("shutdown", ["guest", "hard"])
def test_no_shutdown_with_too_little_time(bed: Bed, seconds: float, left: float, begins: bool, shutdown: str) -> None:
    target = bed.target(seconds, shutdown=shutdown)
    target.prepare()
    bed.vcenter.now += seconds - left
    if begins:
        target.repair()
    else:
        with pytest.raises(_errors.TimedOut, match=r"is left unchanged .* which is too short for a shutdown"):
            target.repair()
    assert (bool(bed.acts), bed.state, target.is_touched) == (begins, ON, begins)


def test_power_on_gets_time_after_a_slow_shutdown(bed: Bed) -> None:
    bed.vcenter.effects["ShutdownGuest"] = lambda vm: bed.vcenter.later(99, lambda: bed.vcenter._do_PowerOffVM(vm))
    bed.vcenter.held.add("PowerOnVM_Task")

    def end() -> None:
        bed.vcenter.end_tasks("PowerOnVM_Task")

    bed.vcenter.later(99 + 60, end)
    target = bed.repaired(100)
    assert (bed.state, target.is_delivered) == (ON, True)


def test_guest_that_does_not_shut_down(bed: Bed) -> None:
    bed.vcenter.effects["ShutdownGuest"] = lambda _vm: None
    target = bed.target(100)
    target.prepare()
    with pytest.raises(_errors.TimedOut, match=r"is still running.*IT STAYS OFF"):
        target.repair()
    assert (bed.acts, target.is_touched) == (["ShutdownGuest"], True)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refused_shutdown_changes_nothing(bed: Bed) -> None:
    bed.vcenter.refuse("ShutdownGuest", vim.fault.ToolsUnavailable(msg="No Tools."))
    target = bed.target()
    target.prepare()
    with pytest.raises(_errors.OperationFailed, match="No Tools"):
        target.repair()
    assert (target.is_touched, bed.state) == (False, ON)


def test_vm_that_stays_off_is_reported_as_off(bed: Bed) -> None:
    bed.vcenter.fail("PowerOnVM_Task", vim.fault.InsufficientResourcesFault(msg="No memory."))
    bed.vcenter.objects[bed.vm]["runtime.question"] = OTHERS_QUESTION
    target = bed.target()
    target.prepare()
    with pytest.raises(_errors.OperationFailed, match=r"IS POWERED OFF.*No memory.*Did you move it\?"):
        target.repair()
    assert (target.is_touched, bed.state) == (True, OFF)


def test_vm_that_was_off_before_and_cannot_be_powered_on_is_untouched(bed: Bed) -> None:
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    bed.vcenter.fail("PowerOnVM_Task", vim.fault.InsufficientResourcesFault(msg="No memory."))
    target = bed.target()
    target.prepare()
    with pytest.raises(_errors.OperationFailed, match=r"^Could not power on VM web: No memory"):
        target.repair()
    assert target.is_touched is False


def test_power_off_by_others_is_noticed(bed: Bed) -> None:
    target = bed.target()
    target.prepare()
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    with pytest.raises(_errors.Refused, match="somebody else is working on it"):
        target.repair()
    assert bed.acts == []


SERVER_SAYS: dict[str, tuple[Callable[[Bed], Any], str]] = {
    "host in maintenance mode": (
        lambda bed: bed.vcenter.objects[bed.vcenter.host].update({"runtime.inMaintenanceMode": True}),
        "its ESXi host is in maintenance mode",
    ),
    "host on its way to maintenance mode": (
        lambda bed: bed.vcenter.objects[bed.vcenter.host].update(
            recentTask=[
                bed.vcenter.add(
                    vim.Task,
                    "task-1",
                    **{"info.descriptionId": "HostSystem.enterMaintenanceMode", "info.state": "running"},
                )
            ]
        ),
        "its ESXi host is entering maintenance mode",
    ),
    "datastore": (
        lambda bed: bed.vcenter.objects[bed.vm].update(
            {"datastore": [bed.vcenter.add(vim.Datastore, "ds-1", name="nfs", **{"summary.accessible": False})]}
        ),
        "its datastore nfs cannot be reached",
    ),
    "check": (
        lambda bed: bed.vcenter.effects.update(
            CheckPowerOn_Task=lambda _checker, **_given: [
                vim.vm.check.Result(error=[vim.fault.InvalidPowerState(), vim.fault.NoDiskSpace(msg="Full.")])
            ]
        ),
        r": Full \(NoDiskSpace\)\.$",
    ),
    "privilege": (
        lambda bed: bed.vcenter.effects.update(
            HasPrivilegeOnEntities=lambda _manager, entity, **given: [
                vim.AuthorizationManager.EntityPrivilege(
                    entity=entity[0],
                    privAvailability=[
                        vim.AuthorizationManager.PrivilegeAvailability(
                            privId=privilege, isGranted="PowerOff" not in privilege
                        )
                        for privilege in given["privId"]
                    ],
                )
            ]
        ),
        "lacks the privilege VirtualMachine.Interact.PowerOff",
    ),
}


@pytest.mark.parametrize(("arrange", "sentence"), SERVER_SAYS.values(), ids=list(SERVER_SAYS))
def test_obstacles_to_the_power_on_are_checked_first(bed: Bed, arrange: Callable[[Bed], Any], sentence: str) -> None:
    arrange(bed)
    with pytest.raises((_errors.Refused, _errors.OperationFailed), match=rf"is left unchanged.*{sentence}"):
        bed.target().prepare()
    assert bed.acts == []


def test_hidden_host_is_no_obstacle(bed: Bed) -> None:
    """The VM itself shows that it is connected."""
    bed.vcenter.objects[bed.vcenter.host] = {}
    assert bed.repaired().is_delivered


@pytest.mark.parametrize(
    ("values", "settings", "is_it"),
    [
        pytest.param({"guest.hostName": "VC.lab"}, {"VirtualCenter.FQDN": "vc.lab"}, True, id="name"),
        pytest.param({"guest.hostName": "vcenter"}, {}, True, id="name that we use"),
        pytest.param({"guest.net": ["198.51.100.7"]}, {}, True, id="address behind the name that we use"),
        pytest.param(
            {"guest.net": ["203.0.113.9"]}, {"VirtualCenter.AutoManagedIPV4": "203.0.113.9"}, True, id="address"
        ),
        pytest.param(
            {"guest.hostName": "web.lab"}, {"VirtualCenter.InstanceName": "web.lab"}, False, id="other setting"
        ),
        pytest.param({"guest.hostName": "web.lab"}, {"VirtualCenter.FQDN": ""}, False, id="no name"),
    ],
)
def test_vcenter_itself_is_never_powered_off(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], settings: dict[str, str], is_it: bool
) -> None:
    monkeypatch.setattr(
        repair.socket, "getaddrinfo", lambda *_given: [(2, 1, 6, "", ("198.51.100.7", 0)), (2, 2, 17, "", ("::1", 0))]
    )
    nics = [vim.vm.GuestInfo.NicInfo(connected=True, deviceConfigId=4000, ipAddress=values.pop("guest.net", []))]
    bed.vcenter.objects[bed.vm].update({"guest.net": nics, **values})
    bed.vcenter.effects["QueryOptions"] = lambda _manager, **_given: [
        vim.option.OptionValue(key=key, value=value) for key, value in settings.items()
    ]
    if is_it:
        with pytest.raises(_errors.Refused, match="it runs this vCenter"):
            bed.target().prepare()
        assert bed.acts == []
    else:
        assert bed.repaired().is_delivered


@pytest.mark.parametrize("shutdown", ["guest", "hard"])
def test_guest_without_tools_cannot_be_shut_down(bed: Bed, shutdown: str) -> None:
    bed.vcenter.objects[bed.vm]["guest.toolsRunningStatus"] = "guestToolsNotRunning"
    if shutdown == "guest":
        with pytest.raises(_errors.Refused, match="VMware Tools is not running"):
            bed.target().prepare()
        assert bed.acts == []
    else:
        assert bed.repaired(shutdown=shutdown).is_delivered


def test_failed_check_of_vcenter_is_a_warning(bed: Bed) -> None:
    bed.vcenter.fail("CheckPowerOn_Task", vim.fault.InvalidState(msg="Not now."))
    assert bed.repaired().is_delivered
    assert bed.warnings == ["vCenter could not be asked whether VM web can be powered on (InvalidState)."]


# --- a busy VM --------------------------------------------------------------------------------------------------------

BUSY = vim.fault.TaskInProgress(msg="The operation is not allowed in the current state.")
STOPS = {"guest": "ShutdownGuest", "hard": "PowerOffVM_Task"}


def when_refused(bed: Bed, method: str, act: Callable[[], Any]) -> None:
    """Run a function while the task waits for a VM that was busy when a method was called."""
    bed.vcenter.refuse(method, BUSY)
    bed.vcenter.later(0.1, act)


@pytest.mark.parametrize("shutdown", STOPS)
def test_busy_vm_is_retried(bed: Bed, shutdown: str) -> None:
    bed.vcenter.refuse(STOPS[shutdown], BUSY, times=2)
    target = bed.repaired(shutdown=shutdown)
    assert (target.is_delivered, target.is_touched) == (True, True)
    assert bed.acts == [STOPS[shutdown]] * 3 + ["PowerOnVM_Task"]


@pytest.mark.parametrize("fault", [BUSY, vim.fault.ConcurrentAccess(msg="Changed.")])
def test_busy_powered_off_vm_is_retried(bed: Bed, fault: Exception) -> None:
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    bed.vcenter.refuse("PowerOnVM_Task", fault, times=2)
    target = bed.repaired()
    assert (bed.acts, target.is_touched) == (["PowerOnVM_Task"] * 3, True)


@pytest.mark.parametrize("state", [ON, OFF])
def test_vm_that_stays_busy_is_left_unchanged(bed: Bed, state: str) -> None:
    method = "ShutdownGuest" if state == ON else "PowerOnVM_Task"
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = state
    bed.vcenter.refuse(method, BUSY, times=1000)
    target = bed.target(30)
    target.prepare()
    with pytest.raises(_errors.Error, match="VM web"):
        target.repair()
    assert (set(bed.acts), target.is_touched, bed.state) == ({method}, False, state)


def test_no_shutdown_if_the_vm_was_busy_too_long(bed: Bed) -> None:
    def refuse(_vm: Any) -> None:
        bed.vcenter.now += 500
        raise BUSY

    bed.vcenter.effects["ShutdownGuest"] = refuse
    target = bed.target(600)
    target.prepare()
    with pytest.raises(_errors.OperationFailed, match=r"VM web: .*\(TaskInProgress\)"):
        target.repair()
    assert (bed.acts, target.is_touched) == (["ShutdownGuest"], False)


WHILE_BUSY: dict[str, tuple[dict[str, Any], str]] = {
    "renamed": ({"name": "web-old"}, "it was renamed to web-old"),
    "template": ({"config.template": True}, "it is a template"),
    "parent": ({"runtime.instantCloneFrozen": True, "runtime.powerState": ON}, "it is a fork parent"),
    "fault tolerance": ({"config.ftInfo": vim.vm.FaultToleranceConfigInfo(role=1)}, "protected by Fault Tolerance"),
    "options gone": ({"config.vAppConfig": None}, "a power cycle would not help"),
}


@pytest.mark.parametrize(("changes", "why"), WHILE_BUSY.values(), ids=list(WHILE_BUSY))
@pytest.mark.parametrize("how", ["guest", "hard", "off"])
def test_busy_vm_that_changed_is_left_unchanged(bed: Bed, how: str, changes: dict[str, Any], why: str) -> None:
    if how == "off":
        bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    method = STOPS.get(how, "PowerOnVM_Task")
    when_refused(bed, method, lambda: bed.vcenter.objects[bed.vm].update(changes))
    target = bed.target(shutdown=how if how != "off" else "guest")
    target.prepare()
    with pytest.raises(_errors.Refused, match=f"^VM web is left unchanged.*{why}"):
        target.repair()
    assert (bed.acts, target.is_touched) == ([method], False)


@pytest.mark.parametrize("shutdown", STOPS)
def test_new_risk_of_a_busy_vm_must_be_accepted(bed: Bed, shutdown: str) -> None:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(diskMode="independent_nonpersistent")
    disk = vim.vm.device.VirtualDisk(key=2000, backing=backing)
    when_refused(bed, STOPS[shutdown], lambda: bed.vcenter.objects[bed.vm].update({"config.hardware.device": [disk]}))
    target = bed.target(shutdown=shutdown)
    target.prepare()
    with pytest.raises(_errors.Refused, match=r"everything written since .* accept_risks=data_loss"):
        target.repair()
    assert (bed.acts, target.is_touched) == ([STOPS[shutdown]], False)
    assert "data_loss" in [risk.name for risk in target.plan.risks]


@pytest.mark.parametrize("shutdown", STOPS)
def test_host_of_a_busy_vm_is_checked_again(bed: Bed, shutdown: str) -> None:
    """VMs are moved from, and so busy on, a host that enters maintenance mode."""
    when_refused(bed, STOPS[shutdown], lambda: SERVER_SAYS["host in maintenance mode"][0](bed))
    target = bed.target(shutdown=shutdown)
    target.prepare()
    with pytest.raises(_errors.Refused, match="its ESXi host is in maintenance mode"):
        target.repair()
    assert (bed.acts, target.is_touched) == ([STOPS[shutdown]], False)


@pytest.mark.parametrize("shutdown", STOPS)
def test_power_off_by_others_while_the_vm_is_busy(bed: Bed, shutdown: str) -> None:
    when_refused(bed, STOPS[shutdown], lambda: bed.vcenter._do_PowerOffVM(bed.vm))
    target = bed.target(shutdown=shutdown)
    target.prepare()
    with pytest.raises(_errors.Refused, match=r"its power state changed from poweredOn to poweredOff"):
        target.repair()
    assert (bed.acts, bed.state, target.is_touched) == ([STOPS[shutdown]], OFF, False)


@pytest.mark.parametrize("shutdown", STOPS)
def test_power_cycle_by_others_while_the_vm_is_busy(bed: Bed, shutdown: str) -> None:
    """It delivered the OVF environment: nothing is left to do."""

    def cycle() -> None:
        bed.vcenter._do_PowerOffVM(bed.vm)
        bed.power_on(bed.vm)

    when_refused(bed, STOPS[shutdown], cycle)
    target = bed.repaired(shutdown=shutdown)
    assert (bed.acts, target.is_delivered, target.is_touched) == ([STOPS[shutdown]], True, False)


def test_power_off_by_others_just_before_ours(bed: Bed) -> None:
    def lose_the_race(vm: Any) -> None:
        bed.vcenter._do_PowerOffVM(vm)
        bed.vcenter._do_PowerOffVM(vm)

    bed.vcenter.effects["PowerOffVM_Task"] = lose_the_race
    target = bed.target(shutdown="hard")
    target.prepare()
    with pytest.raises(_errors.Refused, match=r"its power state changed from poweredOn to poweredOff"):
        target.repair()
    assert (bed.acts, bed.state, target.is_touched) == (["PowerOffVM_Task"], OFF, False)


def test_busy_vm_is_not_cycled_twice(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    target = bed.target()
    target.prepare()

    def look(*_given: Any) -> Any:
        raise _errors.OperationFailed("Could not look into VM web.", "TaskInProgress")

    monkeypatch.setattr(examine, "examine", look)
    with pytest.raises(_errors.OperationFailed, match="could not be examined again: Could not look into VM web"):
        target.repair()
    assert (bed.acts, target.is_touched) == (CYCLE, True)


@pytest.mark.parametrize("through_vcenter", [True, False])
@pytest.mark.parametrize("is_busy", [True, False])
def test_vm_started_first_by_others(bed: Bed, through_vcenter: bool, is_busy: bool) -> None:
    """Our power-on is refused while theirs is running, or because it has ended."""
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    target = bed.target()
    target.prepare()
    start = bed.power_on if through_vcenter else bed.vcenter._do_PowerOnVM
    if is_busy:
        when_refused(bed, "PowerOnVM_Task", lambda: start(bed.vm))
    else:

        def lose_the_race(vm: Any, **_given: Any) -> None:
            start(vm)
            bed.vcenter._do_PowerOnVM(vm)

        bed.vcenter.effects["PowerOnVM_Task"] = lose_the_race
    if through_vcenter:
        target.repair()
        assert target.is_delivered
    else:
        with pytest.raises(_errors.Refused, match=r"its power state changed from poweredOff to poweredOn"):
            target.repair()
    assert (bed.acts, bed.state, target.is_touched) == (["PowerOnVM_Task"], ON, False)


def test_vm_shut_down_by_us_is_always_powered_on(bed: Bed) -> None:
    bed.vcenter.effects["ShutdownGuest"] = bed.vcenter._do_PowerOffVM
    changes = {"name": "web-old", "config.ftInfo": vim.vm.FaultToleranceConfigInfo(role=1)}
    when_refused(bed, "PowerOnVM_Task", lambda: bed.vcenter.objects[bed.vm].update(changes))
    target = bed.repaired()
    assert (bed.acts, bed.state, target.is_touched) == (
        ["ShutdownGuest", "PowerOnVM_Task", "PowerOnVM_Task"],
        ON,
        True,
    )


def test_signal_ends_the_wait_for_a_busy_vm(bed: Bed) -> None:
    when_refused(bed, "ShutdownGuest", lambda: bed.session.budget.interrupt("SIGTERM"))
    target = bed.target()
    target.prepare()
    with pytest.raises(_errors.Interrupted):
        target.repair()
    assert (bed.acts, target.is_touched, bed.state) == (["ShutdownGuest"], False, ON)


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("method", ["ShutdownGuest", "PowerOffVM_Task", "PowerOnVM_Task"])
def test_lost_answer(bed: Bed, method: str, carried_out: bool) -> None:
    bed.vcenter.lose_answer(method, carried_out=carried_out)
    target = bed.repaired(shutdown="hard" if method == "PowerOffVM_Task" else "guest")
    assert (bed.state, target.is_delivered, target.is_touched) == (ON, True, True)


def test_power_on_that_may_have_been_carried_out_is_a_change(bed: Bed) -> None:
    """Both answers were lost, but the VM is off."""
    bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF
    bed.vcenter.lose_answer("PowerOnVM_Task", carried_out=False)
    bed.vcenter.lose_answer("PowerOnVM_Task", carried_out=False)
    target = bed.target()
    target.prepare()
    with pytest.raises(_errors.ConnectionLost):
        target.repair()
    assert (target.is_touched, bed.state) == (True, OFF)


def test_late_effect_of_a_power_on_is_awaited(bed: Bed) -> None:
    bed.vcenter.held.add("PowerOnVM_Task")
    bed.vcenter.lose_answer("PowerOnVM_Task", carried_out=True)
    bed.vcenter.lose_answer("PowerOnVM_Task", carried_out=True)
    target = bed.target()
    target.prepare()
    bed.vcenter.later(20, lambda: bed.vcenter.end_tasks("PowerOnVM_Task"))
    target.repair()
    assert (target.is_delivered, bed.state) == (True, ON)


def test_vm_that_cannot_be_read_after_its_shutdown_may_be_off(bed: Bed) -> None:
    bed.vcenter.effects["ShutdownGuest"] = lambda _vm: None

    def read(target: Any, **given: Any) -> Any:
        if bed.vcenter.count("ShutdownGuest"):
            raise vim.fault.NoPermission(privilegeId="System.Read")
        return bed.vcenter._do_RetrievePropertiesEx(target, **given)

    bed.vcenter.effects["RetrievePropertiesEx"] = read
    target = bed.target(100)
    target.prepare()
    with pytest.raises(_errors.TimedOut, match=r"may be off.*IT STAYS OFF"):
        target.repair()
    assert target.is_touched


# --- the second cycle -------------------------------------------------------------------------------------------------


def test_verdict_that_stays_bad_fails(bed: Bed) -> None:
    bed.vcenter.effects["PowerOnVM_Task"] = bed.vcenter._do_PowerOnVM
    target = bed.target()
    target.prepare()
    with pytest.raises(_errors.VerdictFailed, match="the verdict is now"):
        target.repair()
    assert (target.is_touched, bed.state, bed.acts) == (True, ON, CYCLE)


def test_tools_that_do_not_start_are_mentioned(bed: Bed) -> None:
    def power_on(vm: Any, **_given: Any) -> None:
        bed.power_on(vm)
        bed.vcenter.objects[vm]["guest.toolsRunningStatus"] = "guestToolsNotRunning"

    bed.vcenter.effects["PowerOnVM_Task"] = power_on
    bed.repaired()
    assert ["VMware Tools did not start" in warning for warning in bed.warnings] == [True]


def looks(monkeypatch: pytest.MonkeyPatch, *states: str) -> examine.Questions:
    """Return questions whose guest probes return these views in turn."""
    views = (GuestView(state, "exit_code", bears_id="own" if state == "xml" else None) for state in states)
    monkeypatch.setattr(examine.probe, "look", lambda *_given: next(views))
    return replace(QUESTIONS, probe="exit_code", login=GuestLogin("root", "guest-password"))


@pytest.fixture
def ready(bed: Bed) -> Bed:
    """Return a VM whose guest accepts operations."""
    bed.vcenter.objects[bed.vm]["guest.guestOperationsReady"] = True
    return bed


def test_second_cycle_rewrites_the_vapp_options(ready: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The VM is off meanwhile; only the transports are written, which contain no values that could be damaged."""
    questions = looks(monkeypatch, "no_value", "no_value", "xml")
    written: list[Any] = []

    def write(vm: Any, spec: Any) -> None:
        assert ready.vcenter.state(vm) == OFF
        written.append(spec)

    ready.vcenter.effects["ReconfigVM_Task"] = write
    target = ready.repaired(questions=questions, accepted=("may_be_fork", "guest_not_seen"))
    assert ready.acts == [*CYCLE, "ShutdownGuest", "ReconfigVM_Task", "PowerOnVM_Task"]
    (spec,) = written
    assert spec.vAppConfig.ovfEnvironmentTransport == ["com.vmware.guestInfo"]
    assert (spec.vAppConfig.property, spec.vAppConfig.product, spec.extraConfig) == ([], [], [])
    assert ["did not bring the OVF environment of VM web back" in warning for warning in ready.warnings] == [True]
    assert target.is_delivered


def test_second_cycle_of_a_busy_vm_needs_no_further_acceptance(ready: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's own first cycle has changed the verdict."""
    questions = looks(monkeypatch, "no_value", "no_value", "no_value", "xml")
    shut_down, refusals = ready.vcenter._do_ShutdownGuest, [BUSY]

    def shut(vm: Any) -> None:
        if ready.vcenter.count("PowerOnVM_Task") and refusals:
            raise refusals.pop()
        shut_down(vm)

    ready.vcenter.effects["ShutdownGuest"] = shut
    target = ready.repaired(questions=questions, accepted=("may_be_fork", "guest_not_seen"))
    assert (target.is_delivered, refusals, ready.acts.count("PowerOnVM_Task")) == (True, [], 2)


def test_no_third_cycle(ready: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = looks(monkeypatch, *["no_value"] * 4)
    ready.vcenter.effects["ReconfigVM_Task"] = lambda _vm, spec: None
    target = ready.target(questions=questions, accepted=("may_be_fork", "guest_not_seen", "contradictory"))
    target.prepare()
    with pytest.raises(_errors.VerdictFailed):
        target.repair()
    assert (ready.acts.count("PowerOnVM_Task"), ready.state) == (repair.TRIES, ON)


def test_transports_changed_by_others_are_kept(ready: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = looks(monkeypatch, "no_value", "no_value", "xml")
    written: list[Any] = []
    ready.vcenter.effects["ReconfigVM_Task"] = lambda _vm, spec: written.append(spec)
    changed = vim.vApp.VmConfigInfo(ovfEnvironmentTransport=["iso", "com.vmware.guestInfo"])
    ready.vcenter.refuse("ReconfigVM_Task", BUSY)
    shut_down = ready.vcenter._do_ShutdownGuest

    def shut(vm: Any) -> None:
        shut_down(vm)
        if ready.vcenter.count("ShutdownGuest") == 2:
            ready.vcenter.later(1.1, lambda: ready.vcenter.objects[vm].update({"config.vAppConfig": changed}))

    ready.vcenter.effects["ShutdownGuest"] = shut
    ready.repaired(questions=questions, accepted=("may_be_fork", "guest_not_seen"))
    (spec,) = written
    assert spec.vAppConfig.ovfEnvironmentTransport == ["iso", "com.vmware.guestInfo"]


def test_vapp_options_that_cannot_be_written_do_not_keep_it_off(ready: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = looks(monkeypatch, "no_value", "no_value", "xml")
    ready.vcenter.fail("ReconfigVM_Task", vim.fault.InvalidState(msg="Not now."))
    target = ready.repaired(questions=questions)
    assert (target.is_delivered, ready.state) == (True, ON)
    assert any("Could not rewrite the vApp options of VM web: Not now" in warning for warning in ready.warnings)


def test_no_second_cycle_without_write_privileges(ready: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = looks(monkeypatch, "no_value", "no_value")
    ready.vcenter.effects["HasPrivilegeOnEntities"] = lambda _manager, entity, **given: [
        vim.AuthorizationManager.EntityPrivilege(
            entity=entity[0],
            privAvailability=[
                vim.AuthorizationManager.PrivilegeAvailability(privId=privilege, isGranted="VApp" not in privilege)
                for privilege in given["privId"]
            ],
        )
    ]
    target = ready.target(questions=questions)
    target.prepare()
    with pytest.raises(_errors.VerdictFailed):
        target.repair()
    assert ready.acts == CYCLE
    assert any("is not cycled again" in warning for warning in ready.warnings)


REGISTRATION_KEY = "vmforktest registration-key-0123"
REGISTRATION = {"id": "otk", "label": "Unique Registration Key", "value": REGISTRATION_KEY, "userConfigurable": True}


@pytest.mark.parametrize("method", ["PowerOnVM_Task", "CheckPowerOn_Task"])
def test_secrets_in_a_refusal(bed: Bed, method: str) -> None:
    """vCenter names the value that it does not accept (vSphere API reference, InvalidPropertyValue)."""
    given = [vim.vApp.PropertyInfo(key=0, **REGISTRATION), vim.vApp.PropertyInfo(key=1, id="pin", value="7")]
    bed.vcenter.objects[bed.vm]["config.vAppConfig"].property = given
    key = REGISTRATION_KEY.replace(" ", "\n")
    text = f"Property 'a. Registration' has the invalid value '{key}', and 'pin' has '7'."
    fault = vim.fault.InvalidPropertyValue(msg=text)
    if method == "PowerOnVM_Task":
        bed.vcenter.fail(method, fault)
    else:
        bed.vcenter.effects[method] = lambda *_given, **_more: [vim.vm.check.Result(error=[fault])]
    with contextlib.suppress(_errors.Error):
        target = bed.target()
        try:
            target.prepare()
            target.repair()
        except _errors.Error as error:
            bed.warnings.append(error.sentence)
            raise
    message = " ".join(bed.warnings)
    assert "registration-key" not in message
    assert "'7'" not in message
    assert "InvalidPropertyValue" in message


def refused_value(bed: Bed, given: dict[str, str]) -> str:
    """Return the message about a power-on that vCenter refuses because of a property's value."""
    info = {"type": "string", "value": "planted-0123456789", **given}
    info["id"] = info.pop("key")
    bed.vcenter.objects[bed.vm]["config.vAppConfig"].property = [
        vim.vApp.PropertyInfo(key=0, userConfigurable=True, **info)
    ]
    bed.vcenter.fail("PowerOnVM_Task", vim.fault.InvalidPropertyValue(msg=f"The value '{info['value']}' is invalid."))
    target = bed.target(accepted=plan.RISKS)
    target.prepare()
    with pytest.raises(_errors.OperationFailed) as caught:
        target.repair()
    return " ".join([caught.value.sentence, *bed.warnings])


def in_one_line(given: dict[str, str]) -> str:
    return " ".join(given.get("value", "planted-0123456789").split())


@pytest.mark.parametrize("given", SECRET.values(), ids=SECRET)
def test_refused_secret(bed: Bed, given: dict[str, str]) -> None:
    message = refused_value(bed, given)
    assert MASK in message
    assert in_one_line(given) not in message


@pytest.mark.parametrize("given", PLAIN.values(), ids=PLAIN)
def test_other_refused_value(bed: Bed, given: dict[str, str]) -> None:
    assert in_one_line(given) in refused_value(bed, given)
