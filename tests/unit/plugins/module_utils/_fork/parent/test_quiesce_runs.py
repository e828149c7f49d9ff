# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A quiesce from its start to the fork point or a failure: it leaves nothing in the guest or in vCenter."""

from __future__ import annotations

import base64
import datetime
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import present as children
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import payload, quiesce
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.operations import Guest
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import STAGES, Job

PID = 42
JOB = Job(pre_quiesce="#!/bin/sh\n", post_clone="#!/bin/sh\nexit 0\n")
WHEN = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)


class Bed:
    """A running VM whose guest accepts operations, and a runner controlled by the test."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vcenter = vcenter
        self.warnings: list[str] = []
        self.vm = vcenter.vm(
            "golden",
            **{
                "guest.guestFamily": "linuxGuest",
                "guest.guestOperationsReady": True,
                "guest.toolsRunningStatus": "guestToolsRunning",
                "runtime.instantCloneFrozen": False,
            },
        )
        nonces = (f"nonce{number}" for number in itertools.count())
        monkeypatch.setattr(guestinfo, "new_nonce", lambda: next(nonces))
        self.processes: dict[int, Any] = {}
        self.payloads: list[dict[str, str]] = []
        self.on_stop: Callable[[], None] = self.end
        vcenter.effects.update(
            ValidateCredentialsInGuest=lambda _manager, **_given: None,
            StartProgramInGuest=self.start,
            ListProcessesInGuest=lambda _manager, **_given: list(self.processes.values()),
            TerminateProcessInGuest=lambda _manager, **_given: self.on_stop(),
            DeleteDirectoryInGuest=lambda _manager, **_given: None,
        )
        self.session = vcenter.use(monkeypatch)
        self.parent: Parent = vcenter.parent(self.session, self.vm)

    def start(self, _manager: Any, spec: Any, **_given: Any) -> int:
        """Start the runner, which finds its files in guestinfo, and return its process ID."""
        self.payloads.append({key: value for key, value in self.vcenter.keys(self.vm).items() if self.is_payload(key)})
        command = f"{spec.programPath} {spec.arguments}"
        self.processes[PID] = vim.vm.guest.ProcessManager.ProcessInfo(
            pid=PID, name="sh", owner="root", cmdLine=command, startTime=WHEN
        )
        return PID

    def announce(self, nonce: str = "nonce0") -> None:
        """Have a runner write its record of the scripts."""
        self.vcenter.set_keys(self.vm, **{guestinfo.SCRIPTS: f"{JOB.digest()} {nonce}"})

    def freeze(self) -> None:
        """Reach the fork point."""
        self.announce()
        self.vcenter.objects[self.vm]["runtime.instantCloneFrozen"] = True

    def end(self, code: int = STAGES["terminated"]) -> None:
        """End the runner without a report."""
        old = self.processes[PID]
        self.processes[PID] = vim.vm.guest.ProcessManager.ProcessInfo(
            pid=PID, name="sh", owner="root", cmdLine=old.cmdLine, startTime=WHEN, endTime=WHEN, exitCode=code
        )

    def report_end(self, stage: str, code: int, nonce: str = "nonce0", output: str = "") -> None:
        """Have the runner report an end before the fork point."""
        report = guestinfo.Report(stage, code, output)
        self.vcenter.set_keys(self.vm, **{guestinfo.QUIESCE: guestinfo.as_post_clone(f"{nonce} {stage}", report)})

    def run(self, seconds: float = 60, **plan: Any) -> dict[str, Any]:
        given = {"job": JOB, "login": GuestLogin("root", "guest-password"), "delivery": "guestinfo", **plan}
        return quiesce.quiesce(self.parent, Deadline(seconds), quiesce.Plan(**given), self.warnings.append)

    @staticmethod
    def is_payload(key: str) -> bool:
        return key.startswith(payload.KEY)

    @property
    def left(self) -> list[str]:
        """Return the payload keys that are in vCenter."""
        return [key for key in self.vcenter.keys(self.vm) if self.is_payload(key)]


@pytest.fixture
def bed(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(vcenter, monkeypatch)


def test_fork_point(bed: Bed) -> None:
    bed.vcenter.later(10, bed.freeze)
    trace = bed.run()
    assert (trace["pid"], trace["exit_code"]) == (PID, None)
    assert [bool(payload) for payload in bed.payloads] == [True], "the runner finds its files"
    assert (bed.left, bed.warnings) == ([], [])
    assert guestinfo.scripts(bed.vcenter.keys(bed.vm)) == JOB.digest()
    assert bed.parent.is_quiesced
    assert not bed.vcenter.called("TerminateProcessInGuest", "DeleteDirectoryInGuest")


OLD = f"{payload.KEY}.7"


@pytest.mark.parametrize("plan", [{}, {"job": None, "login": None}], ids=["scripts", "wait"])
def test_leftover_scripts_are_removed_before_the_fork_point(bed: Bed, plan: dict[str, Any]) -> None:
    bed.vcenter.set_keys(bed.vm, **{OLD: "c2NyaXB0"})
    bed.parent.refresh()
    bed.vcenter.later(10, bed.freeze)
    at_freeze: list[str] = []
    bed.vcenter.later(9, lambda: at_freeze.extend(bed.left))
    bed.run(**plan)
    assert OLD not in at_freeze
    assert bed.left == []


def test_scripts_that_the_runner_has_removed_are_not_removed_again(bed: Bed) -> None:
    def take(manager: Any, **given: Any) -> int:
        pid = bed.start(manager, **given)
        bed.vcenter.set_keys(bed.vm, **dict.fromkeys(bed.left, ""))
        return pid

    bed.vcenter.effects["StartProgramInGuest"] = take
    bed.vcenter.later(10, bed.freeze)
    bed.run()
    assert bed.vcenter.count("ReconfigVM_Task") == 1


def test_scripts_that_arrive_late_are_also_removed(bed: Bed) -> None:
    """The timeout ended while vCenter was working, so the removal must come after that."""
    bed.vcenter.held.add("ReconfigVM_Task")
    for seconds in (25, 30):
        bed.vcenter.later(seconds, lambda: bed.vcenter._end(bed.vcenter._running[-1]))
    with pytest.raises(_errors.NotEnded):
        bed.run(seconds=20)
    bed.vcenter.settle()
    assert (bed.left, bed.vcenter.count("ReconfigVM_Task")) == ([], 2)


@pytest.mark.parametrize("stage", ["pre_quiesce", "freeze", "not_root"])
def test_runner_that_ends_early_is_reported_and_leaves_nothing(bed: Bed, stage: str) -> None:
    bed.vcenter.later(10, lambda: bed.report_end(stage, 3))
    with pytest.raises(_errors.GuestFailed, match="exit code 3") as error:
        bed.run()
    assert error.value.details["guest"]["exit_code"] == 3
    assert bed.left == []
    assert not bed.vcenter.called("TerminateProcessInGuest")


@pytest.mark.parametrize(
    "output",
    [
        "guest-password" + "." * 292,  # the error's last 300 characters would cut this one
        "password\n",  # the guest has cut this one
        "+ sudo 'guest-password'\n+ echo guest\\-password",
        base64.b64encode(b"root:guest-password").decode(),
    ],
)
def test_password_in_the_output_is_masked_before_the_output_is_cut(bed: Bed, output: str) -> None:
    bed.vcenter.later(10, lambda: bed.report_end("pre_quiesce", 3, output=output))
    with pytest.raises(_errors.GuestFailed) as failure:
        bed.run()
    shown = f"{failure.value.sentence} {failure.value.details}"
    assert MASK in shown
    assert not any(part in shown for part in ("password", base64.b64encode(b"password").decode()[2:8]))


def test_report_of_an_earlier_runner_is_ignored(bed: Bed) -> None:
    bed.report_end("pre_quiesce", 3, nonce="earlier")
    bed.vcenter.later(10, bed.freeze)
    assert bed.run()["exit_code"] is None


def test_runner_that_is_killed_is_noticed(bed: Bed) -> None:
    bed.vcenter.later(10, lambda: bed.end(137))
    with pytest.raises(_errors.GuestFailed, match=r"ended without a report \(exit code 137\)"):
        bed.run()
    assert (bed.left, bed.vcenter.now < 1000 + 30) == ([], True)


def test_runner_with_an_unreadable_report_is_ended(bed: Bed) -> None:
    """It would bring the VM to the fork point when nobody waits for it."""
    bed.vcenter.later(10, lambda: bed.vcenter.set_keys(bed.vm, **{guestinfo.QUIESCE: "nonce0 \u00b2 x"}))
    with pytest.raises(_errors.GuestFailed, match="unreadable report"):
        bed.run()
    assert bed.vcenter.count("TerminateProcessInGuest") == 1
    assert bed.left == []


def test_record_of_scripts_that_did_not_reach_the_fork_point_is_removed(bed: Bed) -> None:
    """A runner killed after writing the record cannot remove it."""

    def fail() -> None:
        bed.announce()
        bed.end(137)

    bed.vcenter.later(10, fail)
    with pytest.raises(_errors.GuestFailed):
        bed.run()
    assert guestinfo.SCRIPTS not in bed.vcenter.keys(bed.vm)


def test_runner_is_ended_at_the_timeout(bed: Bed) -> None:
    with pytest.raises(_errors.TimedOut, match="did not reach the fork point within 60 seconds"):
        bed.run()
    assert bed.vcenter.count("TerminateProcessInGuest") == 1
    assert bed.left == []
    assert guestinfo.SCRIPTS not in bed.vcenter.keys(bed.vm)


def test_fork_point_reached_while_the_runner_is_ended_is_a_success(bed: Bed) -> None:
    bed.on_stop = bed.freeze
    bed.run()
    assert bed.parent.is_quiesced
    assert bed.left == []


def test_runner_that_cannot_be_ended_is_mentioned(bed: Bed) -> None:
    bed.on_stop = lambda: None
    with pytest.raises(_errors.GuestFailed, match=rf"process {PID}\) could not be ended") as error:
        bed.run()
    assert error.value.details["changed"] is True, "the VM may freeze later"
    assert not bed.vcenter.called("DeleteDirectoryInGuest"), "its children would not find their script"


def test_vm_that_is_powered_off(bed: Bed) -> None:
    def power_off() -> None:
        bed.vcenter.objects[bed.vm]["runtime.powerState"] = OFF

    bed.vcenter.later(10, power_off)
    with pytest.raises(_errors.GuestFailed, match="was powered off before it reached the fork point"):
        bed.run()
    assert bed.left == []


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("ValidateCredentialsInGuest", vim.fault.InvalidGuestLogin(msg="No.")),
        ("ReconfigVM_Task", vim.fault.NoPermission(privilegeId="VirtualMachine.Config.AdvancedConfig")),
        ("StartProgramInGuest", vim.fault.FileNotFound(msg="No shell.", file="/bin/sh")),
    ],
)
def test_refusals_leave_nothing(bed: Bed, method: str, fault: Exception) -> None:
    bed.vcenter.refuse(method, fault)
    with pytest.raises(_errors.Error):
        bed.run()
    assert bed.left == []
    assert not bed.parent.is_quiesced


def test_scripts_of_an_unfinished_task_are_removed(bed: Bed) -> None:
    """The task that writes them is accepted, but does not end before the timeout."""
    bed.vcenter.held.add("ReconfigVM_Task")

    def end() -> None:
        bed.vcenter.held.clear()

    bed.vcenter.later(70, end)
    with pytest.raises(_errors.Error):
        bed.run()
    bed.vcenter.settle()
    assert (bed.left, bed.vcenter.count("StartProgramInGuest")) == ([], 0)


@pytest.mark.parametrize(
    "plan", [{}, {"delivery": "file_transfer"}, {"job": None, "login": None}], ids=["guestinfo", "files", "wait"]
)
def test_scripts_of_an_earlier_task_are_removed_before_the_fork_point(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any]
) -> None:
    """All children would inherit them."""
    bed.vcenter.set_keys(bed.vm, **{f"{payload.KEY}.7": "left"})
    bed.parent.refresh()
    bed.vcenter.effects["CreateTemporaryDirectoryInGuest"] = lambda _manager, **_given: "/tmp/vmfork.1"
    monkeypatch.setattr(Guest, "upload", lambda _guest, *_file: None)
    at_the_fork_point: list[str] = []

    def freeze() -> None:
        at_the_fork_point.extend(key for key in bed.left if key.endswith(".7"))
        bed.freeze()

    bed.vcenter.later(10, freeze)
    bed.run(**plan)
    assert bed.parent.is_quiesced
    assert (at_the_fork_point, bed.left) == ([], [])


def test_payload_that_cannot_be_removed_is_mentioned(bed: Bed) -> None:
    def refuse() -> None:
        bed.vcenter.refuse("ReconfigVM_Task", vim.fault.InvalidState(msg="Frozen."), times=9)
        bed.freeze()

    bed.vcenter.later(10, refuse)
    bed.run()
    assert bed.left != []
    assert any("Scripts may remain in the extraConfig of VM golden" in warning for warning in bed.warnings)


@pytest.mark.parametrize("command", ["/sbin/init", ""])
@pytest.mark.parametrize("carried_out", [True, False])
def test_lost_answer_to_the_start(bed: Bed, carried_out: bool, command: str) -> None:
    """The runner is never started twice; it is searched for by its directory if the guest reports command lines."""
    bed.processes[1] = vim.vm.guest.ProcessManager.ProcessInfo(
        pid=1, name="init", owner="root", cmdLine=command, startTime=WHEN
    )
    bed.vcenter.lose_answer("StartProgramInGuest", carried_out=carried_out)
    bed.vcenter.later(10, lambda: bed.freeze() if carried_out else None)
    if carried_out:
        bed.run()
    else:
        error = _errors.GuestFailed if command else _errors.TimedOut
        with pytest.raises(error, match="answer to the start of the runner"):
            bed.run()
        assert (bed.vcenter.now < 1000 + 30) == bool(command)
    assert bed.vcenter.count("StartProgramInGuest") == 1
    assert bed.left == []


def test_guest_that_quiesces_by_itself(bed: Bed) -> None:
    bed.vcenter.later(10, bed.freeze)
    bed.run(job=None, login=None)
    assert bed.parent.is_quiesced
    assert not bed.vcenter.called("StartProgramInGuest", "ListProcessesInGuest")
    assert bed.vcenter.count("ReconfigVM_Task") == 1, "the generation"


@pytest.mark.parametrize("plan", [{}, {"job": None, "login": None}], ids=["scripts", "wait"])
def test_generation_is_written_before_the_fork_point(bed: Bed, plan: dict[str, Any]) -> None:
    bed.vcenter.set_keys(bed.vm, **{guestinfo.GENERATION: "earlier"})
    bed.parent.refresh()
    at_freeze: list[str] = []
    bed.vcenter.later(9, lambda: at_freeze.append(bed.vcenter.keys(bed.vm)[guestinfo.GENERATION]))
    bed.vcenter.later(10, bed.freeze)
    bed.run(**plan)
    assert at_freeze == [bed.vcenter.keys(bed.vm)[guestinfo.GENERATION]] != ["earlier"]


def test_user_who_may_not_write_the_generation(bed: Bed) -> None:
    """Only pools need it."""
    bed.vcenter.refuse("ReconfigVM_Task", vim.fault.NoPermission(privilegeId="VirtualMachine.Config.AdvancedConfig"))
    bed.vcenter.later(10, bed.freeze)
    bed.run(job=None, login=None)
    assert bed.parent.is_quiesced
    assert "Without it, its children cannot be told from those of an earlier fork point." in str(bed.warnings)


def test_generation_that_cannot_be_written_ends_the_task(bed: Bed) -> None:
    """Children would seem to belong to the earlier fork point."""
    bed.vcenter.refuse("ReconfigVM_Task", vim.fault.InvalidState(msg="No."))
    with pytest.raises(_errors.OperationFailed, match=r"Could not write vmfork\.generation") as error:
        bed.run(job=None, login=None)
    assert error.value.details["changed"] is False


def test_guest_that_does_not_quiesce_by_itself(bed: Bed) -> None:
    with pytest.raises(_errors.TimedOut, match=r"Check in the guest what calls instantclone\.freeze"):
        bed.run(job=None, login=None)


def test_guest_that_is_not_ready_is_awaited(bed: Bed) -> None:
    bed.vcenter.objects[bed.vm]["guest.guestOperationsReady"] = False
    bed.parent.refresh()

    def ready() -> None:
        bed.vcenter.objects[bed.vm]["guest.guestOperationsReady"] = True

    bed.vcenter.later(5, ready)
    bed.vcenter.later(10, bed.freeze)
    bed.run()
    assert bed.parent.is_quiesced


@pytest.mark.parametrize("recorded", [JOB.digest(), "", "0" * 64])
def test_quiesced_before(bed: Bed, recorded: str) -> None:
    bed.freeze()
    bed.vcenter.set_keys(bed.vm, **{guestinfo.SCRIPTS: recorded})
    bed.parent.refresh()
    if recorded.startswith("000"):
        with pytest.raises(_errors.Refused, match="but with different scripts") as error:
            quiesce.is_done(bed.parent, JOB, bed.warnings.append)
        assert error.value.details["parent"]["quiesced"]
    else:
        assert quiesce.is_done(bed.parent, JOB, bed.warnings.append)
    assert bool(bed.warnings) == (recorded == "")
    assert quiesce.is_done(bed.parent, None, bed.warnings.append)


def test_not_quiesced_before(bed: Bed) -> None:
    assert not quiesce.is_done(bed.parent, JOB, bed.warnings.append)


def test_obstacles(bed: Bed) -> None:
    assert quiesce.obstacle(bed.parent) is None
    bed.parent.values["runtime.powerState"] = OFF
    assert "only a running VM can be quiesced" in str(quiesce.obstacle(bed.parent))


@pytest.mark.parametrize("enabled", [True, False])
def test_only_a_fork_parent_can_be_quiesced_on_6_5(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    vcenter.api_version = "6.5"
    bed = Bed(vcenter, monkeypatch)
    bed.parent.values["config.forkConfigInfo"] = vim.vm.ForkConfigInfo(parentEnabled=enabled)
    assert (quiesce.obstacle(bed.parent) is None) == enabled


# --- two tasks at the same time ---------------------------------------------------------------------------------------


def busy_then(bed: Bed, then: Callable[[], None]) -> None:
    """Have the runner leave the guest to another task's runner, which then ends in this way."""
    bed.vcenter.later(10, lambda: (bed.report_end("busy", 1), bed.end(STAGES["busy"])))
    bed.vcenter.later(20, then)


def test_fork_point_that_another_task_reaches_with_the_same_scripts(bed: Bed) -> None:
    busy_then(bed, bed.freeze)
    assert bed.run() == quiesce.no_result()
    assert bed.parent.is_quiesced
    assert "another task is quiescing it" in bed.warnings[0]
    assert not bed.vcenter.called("TerminateProcessInGuest")


def test_fork_point_that_another_task_reaches_with_other_scripts(bed: Bed) -> None:
    def freeze() -> None:
        bed.freeze()
        bed.vcenter.set_keys(bed.vm, **{guestinfo.SCRIPTS: "of others"})

    busy_then(bed, freeze)
    with pytest.raises(_errors.Refused, match="with different scripts"):
        bed.run()


def test_other_task_that_does_not_reach_the_fork_point(bed: Bed) -> None:
    busy_then(bed, lambda: None)
    with pytest.raises(_errors.TimedOut, match="did not reach the fork point within 60 seconds"):
        bed.run()


def test_vm_frozen_by_another_task_at_the_start(bed: Bed) -> None:
    """Its guest no longer answers, and the task does not wait for it until the timeout."""

    def refuse(_manager: Any, **_given: Any) -> None:
        bed.freeze()
        raise vim.fault.GuestOperationsUnavailable

    bed.vcenter.effects.update(ValidateCredentialsInGuest=refuse)
    before = bed.vcenter.now
    assert bed.run() == quiesce.no_result()
    assert bed.vcenter.now - before < 30
    assert "with the same scripts" in bed.warnings[-1]
    assert bed.left == []


def refuse_login(bed: Bed) -> None:
    bed.vcenter.refuse("ValidateCredentialsInGuest", vim.fault.InvalidGuestLogin(msg="No."))


def end_early(bed: Bed) -> None:
    bed.vcenter.later(10, lambda: (bed.report_end("not_root", 1), bed.end(STAGES["not_root"])))


@pytest.mark.parametrize("fail", [refuse_login, end_early, lambda _bed: None], ids=["login", "early end", "time-out"])
def test_record_of_a_runner_that_is_about_to_freeze_the_vm_stays(bed: Bed, fail: Callable[[Bed], None]) -> None:
    """The other task announced its scripts before this one started, and reaches the fork point after it."""
    bed.announce("of the first")
    bed.parent.refresh()
    fail(bed)
    with pytest.raises(_errors.Error):
        bed.run()
    assert guestinfo.scripts(bed.vcenter.keys(bed.vm)) == JOB.digest()


def test_record_of_the_first_of_two_tasks_stays(bed: Bed) -> None:
    bed.announce("of the first")
    bed.parent.refresh()

    def freeze() -> None:
        bed.vcenter.objects[bed.vm]["runtime.instantCloneFrozen"] = True

    busy_then(bed, freeze)
    assert bed.run() == quiesce.no_result()
    assert guestinfo.scripts(bed.vcenter.keys(bed.vm)) == JOB.digest()
    assert len(bed.warnings) == 1


NOW = "2026-03-01T10:00:00Z"


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")


@pytest.mark.parametrize(
    ("announced", "booted", "stays"),
    [
        ("2026-03-01T09:59:58Z", "2026-03-01T08:00:00Z", True),
        ("2026-03-01T10:04:00Z", "2026-03-01T08:00:00Z", True),
        ("2026-03-01T09:59:58Z", None, True),
        ("2026-03-01T09:59:58Z", "2026-03-01T09:59:59Z", False),
        ("2026-03-01T09:40:00Z", "2026-03-01T08:00:00Z", False),
        ("2026-03-01T10:20:00Z", "2026-03-01T08:00:00Z", False),
        ("2026-99-99T10:00:00Z", "2026-03-01T08:00:00Z", False),
        ("", "2026-03-01T08:00:00Z", False),
    ],
    ids=["new", "clock ahead", "boot unknown", "before the boot", "old", "future", "no time", "none"],
)
def test_record_found_before_waiting_for_a_guest_that_quiesces_itself(
    bed: Bed, announced: str, booted: str | None, stays: bool
) -> None:
    """Another task's runner may have just written it, and be about to reach the fork point."""
    bed.vcenter.effects["CurrentTime"] = lambda _instance: moment(NOW)
    bed.announce("of another")
    bed.vcenter.set_keys(bed.vm, **{guestinfo.QUIESCED_AT: announced})
    if booted is not None:
        bed.vcenter.objects[bed.vm]["runtime.bootTime"] = moment(booted)
    bed.parent.refresh()

    def freeze() -> None:
        bed.vcenter.objects[bed.vm]["runtime.instantCloneFrozen"] = True

    bed.vcenter.later(10, freeze)
    bed.run(job=None, login=None)
    assert guestinfo.scripts(bed.vcenter.keys(bed.vm)) == (JOB.digest() if stays else None)
    warning = (
        "Another task may be quiescing VM golden: it recorded its scripts there at "
        f"{announced}. The fork point is assumed to be the one with these scripts."
    )
    assert bed.warnings == ([warning] if stays else [])


def test_record_that_was_replaced_before_it_is_removed_stays(bed: Bed) -> None:
    """The task read an old record, and a runner has written its own since then."""
    bed.vcenter.effects["CurrentTime"] = lambda _instance: moment(NOW)
    bed.vcenter.set_keys(bed.vm, **{guestinfo.SCRIPTS: "old old", guestinfo.QUIESCED_AT: "2026-03-01T01:00:00Z"})
    bed.parent.refresh()
    bed.announce("of another")
    bed.vcenter.set_keys(bed.vm, **{guestinfo.QUIESCED_AT: NOW})
    bed.vcenter.later(10, lambda: bed.vcenter.objects[bed.vm].update({"runtime.instantCloneFrozen": True}))
    bed.run(job=None, login=None)
    assert guestinfo.scripts(bed.vcenter.keys(bed.vm)) == JOB.digest()


def test_record_in_a_guest_that_cannot_write_one_is_removed(bed: Bed) -> None:
    bed.vcenter.effects["CurrentTime"] = lambda _instance: moment(NOW)
    bed.announce("of another")
    bed.vcenter.set_keys(bed.vm, **{guestinfo.QUIESCED_AT: NOW, SETINFO: "TRUE"})
    bed.parent.refresh()
    bed.vcenter.later(10, lambda: bed.vcenter.objects[bed.vm].update({"runtime.instantCloneFrozen": True}))
    bed.run(job=None, login=None)
    assert guestinfo.scripts(bed.vcenter.keys(bed.vm)) is None


@pytest.mark.parametrize(
    ("recorded", "later"),
    [("0" * 64, None), ("", None), ("0" * 64, JOB.digest()), ("", JOB.digest())],
    ids=["others", "none", "ours comes late after others", "ours comes late"],
)
def test_fork_point_with_other_scripts_is_no_success(bed: Bed, recorded: str, later: str | None) -> None:
    """Another run may have frozen the VM unnoticed by this one's runner."""

    def freeze() -> None:
        bed.freeze()
        bed.vcenter.set_keys(bed.vm, **{guestinfo.SCRIPTS: recorded})

    bed.vcenter.later(10, freeze)
    if later is not None:
        bed.vcenter.later(12, lambda: bed.vcenter.set_keys(bed.vm, **{guestinfo.SCRIPTS: later}))
    if recorded and not later:
        with pytest.raises(_errors.Refused, match="but with different scripts") as error:
            bed.run()
        assert (error.value.details["guest"]["pid"], error.value.details["parent"]["quiesced"]) == (PID, True)
    else:
        bed.run()
        assert bool(bed.warnings) == (later is None)


def test_scripts_that_another_task_took_from_guestinfo(bed: Bed) -> None:
    """Both wrote their scripts at once: the runner that found none leaves the VM to the other one."""

    def lose() -> None:
        bed.report_end("unpack", STAGES["unpack"])
        bed.end(STAGES["unpack"])
        bed.processes[PID + 1] = vim.vm.guest.ProcessManager.ProcessInfo(
            pid=PID + 1, name="sh", owner="root", cmdLine="/bin/sh /tmp/vmfork.other/runner", startTime=WHEN
        )

    bed.vcenter.later(10, lose)
    bed.vcenter.later(20, bed.freeze)
    assert bed.run() == quiesce.no_result()
    assert "another task is quiescing it" in bed.warnings[0]


def test_unreadable_process_list_is_read_again(bed: Bed) -> None:
    """Entries without a process ID or times, or a list that pyVmomi cannot read: the fork point decides."""
    bed.vcenter.lose_answer("StartProgramInGuest", carried_out=True)
    unreadable = [vim.vm.guest.ProcessManager.ProcessInfo()]
    answers: Iterator[Any] = iter([ValueError("no number"), KeyError("Unknown"), unreadable])

    def answer(_manager: Any, **_given: Any) -> list[Any]:
        given = next(answers, None)
        if isinstance(given, Exception):
            raise given
        return given if given is not None else list(bed.processes.values())

    bed.vcenter.effects.update(ListProcessesInGuest=answer)
    bed.vcenter.later(40, bed.freeze)
    assert bed.run()["pid"] == PID


# --- a guest that may not write to guestinfo, a host that is hidden ---------------------------------------------------

SETINFO = "isolation.tools.setinfo.disable"


@pytest.fixture
def mute(bed: Bed) -> Bed:
    """Return a guest that may not write to guestinfo, with the record and payload of an earlier run."""
    bed.announce("earlier")
    bed.vcenter.set_keys(bed.vm, **{SETINFO: "TRUE", f"{payload.KEY}.0": "left"})
    bed.parent.refresh()
    return bed


@pytest.mark.parametrize(("delivery", "refused"), [("guestinfo", True), ("auto", False), ("file_transfer", False)])
def test_no_delivery_through_guestinfo_that_the_guest_cannot_clear(mute: Bed, delivery: str, refused: bool) -> None:
    plan = quiesce.Plan(JOB, GuestLogin("root", "guest-password"), delivery)
    if refused:
        with pytest.raises(_errors.BadInput, match=rf"guestinfo \({SETINFO}\)\. Use script_delivery=file_transfer"):
            quiesce.check_guest(mute.parent, plan)
    else:
        quiesce.check_guest(mute.parent, plan)


@pytest.mark.parametrize(("job", "warned"), [(JOB, True), (None, False)])
def test_limits_of_the_children_are_reported(mute: Bed, job: Job | None, warned: bool) -> None:
    quiesce.warn_of_no_report(mute.parent, quiesce.Plan(job), mute.warnings.append)
    assert [SETINFO in warning for warning in mute.warnings] == [True] * warned


def files_go_to(bed: Bed, certificate: list[int] | None) -> None:
    """Let the guest accept files through a host with this certificate."""
    bed.vcenter.objects[bed.vcenter.host]["config.certificate"] = certificate
    bed.vcenter.effects.update(
        CreateTemporaryDirectoryInGuest=lambda _manager, **_given: "/tmp/vmfork.made",
        InitiateFileTransferToGuest=lambda _manager, **_given: "https://esx-1/guestFile?id=1",
    )


def test_leftovers_are_removed_for_a_guest_that_cannot_remove_them(mute: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guest, "upload", lambda *_given: None)
    files_go_to(mute, None)

    def freeze() -> None:
        mute.vcenter.objects[mute.vm]["runtime.instantCloneFrozen"] = True

    mute.vcenter.later(10, freeze)
    mute.run(delivery="file_transfer")
    assert (mute.left, guestinfo.scripts(mute.vcenter.keys(mute.vm))) == ([], None)


@pytest.mark.parametrize("certificate", [None, [], [65, -66]])
def test_hidden_certificate_of_the_host_leaves_the_other_delivery(bed: Bed, certificate: list[int] | None) -> None:
    files_go_to(bed, certificate)
    bed.vcenter.later(10, bed.freeze)
    trace = bed.run(delivery="auto")
    assert trace["directory"] != "/tmp/vmfork.made"
    assert bed.vcenter.count("DeleteDirectoryInGuest") == 1
    assert [bool(payload) for payload in bed.payloads] == [True]
    assert "Scripts go through vCenter instead of the ESXi host" in bed.warnings[0]
    assert bed.left == []


def test_hidden_certificate_of_the_host_ends_a_file_transfer(bed: Bed) -> None:
    files_go_to(bed, None)
    with pytest.raises(_errors.OperationFailed, match="Give the user read access to the host"):
        bed.run(delivery="file_transfer")
    assert bed.vcenter.count("DeleteDirectoryInGuest") == 1
    assert not bed.vcenter.called("StartProgramInGuest")
    assert bed.left == []


def test_no_delivery_available(mute: Bed) -> None:
    """The host is hidden, and the guest could not clear guestinfo."""
    files_go_to(mute, None)
    with pytest.raises(_errors.BadInput, match="may not write to guestinfo"):
        mute.run(delivery="auto")
    assert (mute.left, mute.vcenter.count("StartProgramInGuest")) == ([], 0)


def test_children_that_cannot_report_are_not_awaited(mute: Bed) -> None:
    for wait_for, refused in {"post_clone": True, "powered_on": False}.items():
        reason = children._unreported(mute.parent, wait_for)
        assert (reason is not None) is refused
    assert "Use another wait_for" in str(children._unreported(mute.parent, "post_clone"))
