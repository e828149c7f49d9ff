# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that get a signal or lose an answer at each of their requests.

After every request the module ends soon, no foreign VM is changed, no secret and no script remains in vCenter, a
change is reported, and the same task then has the result of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from functional.launch import MODULES, patch_module_args
from pyVmomi import vim
from unit import examples
from unit.fake_vcenter import ON, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import payload
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import operations
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import STAGES
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import Job as RunnerJob

LOGIN = {"hostname": "192.0.2.1", "username": "user", "password": "a-long-vcenter-password", "validate_certs": False}
SECRET = "a-long-secret-of-the-child"
OLD = "6.5"
PATIENCE = 60
"""Seconds within which a module ends after a signal or a lost answer, when the server answers everything else."""

BOOTED = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=2)
SCRIPTS = {"pre_quiesce_script": "#!/bin/sh\n", "post_clone_script": "#!/bin/sh\nexit 0\n"}
GUEST = {"guest_username": "root", "guest_password": "a-long-guest-password"}


class Bed:
    """A vCenter with a parent, foreign VMs, and guests that run our scripts."""

    def __init__(self, version: str = "8.0.3.0") -> None:
        self.vcenter = vcenter = FakeVCenter(version)
        self.vcenter.now = 1000.0
        vcenter.vm("foreign", keys={"guestinfo.fork.token": "foreign"})
        self.parent = vcenter.vm(
            "golden",
            **{
                "guest.guestFamily": "linuxGuest",
                "guest.guestOperationsReady": True,
                "guest.toolsRunningStatus": "guestToolsRunning",
                "runtime.instantCloneFrozen": False,
                "runtime.quiescedForkParent": False,
            },
        )
        vcenter.add(vim.ResourcePool, "resgroup-1", name="Resources", owner=None)
        self.is_old = version == OLD
        self.processes: dict[int, Any] = {1: process(1, "/sbin/init")}
        self.uploaded = ""
        self.seen: dict[str, str] = {}
        """Child → the secret that its script found."""
        vcenter.effects.update(
            EnableForkParent_Task=lambda vm, **_given: self.fork_info(vm, parentEnabled=True, parentForkGroupId="g1"),
            DisableForkParent_Task=lambda vm: self.fork_info(vm, parentEnabled=False),
            RetrieveForkChildren_Task=lambda _parent: self.forks(),
            CreateForkChild_Task=self.create,
            InstantClone_Task=self.clone,
            PowerOnVM_Task=self.power_on,
            PowerOffVM_Task=self.power_off,
            CreateTemporaryDirectoryInGuest=lambda _manager, **_given: "/tmp/vmfork.made",
            DeleteDirectoryInGuest=lambda _manager, **_given: None,
            InitiateFileTransferToGuest=lambda _manager, **_given: "https://esx-1/guestFile?id=1",
            ListProcessesInGuest=lambda _manager, **_given: list(self.processes.values()),
            StartProgramInGuest=self.start,
            TerminateProcessInGuest=lambda _manager, pid, **_given: self.end(pid),
            ValidateCredentialsInGuest=lambda _manager, **_given: None,
        )

    # --- server -------------------------------------------------------------------------------------------------------

    def fork_info(self, vm: Any, **values: Any) -> None:
        self.vcenter.objects[vm]["config.forkConfigInfo"] = vim.vm.ForkConfigInfo(**values)

    def forks(self) -> list[Any]:
        infos = {vm: values.get("config.forkConfigInfo") for vm, values in self.vms().items()}
        return [vm for vm, info in infos.items() if getattr(info, "childForkGroupId", None)]

    def create(self, parent: Any, **given: Any) -> Any:
        vm = self.vcenter._do_CreateForkChild(parent, **given)
        kind = "persistent" if given["spec"].persistent else "nonpersistent"
        self.fork_info(vm, childForkGroupId="g1", childType=kind)
        return vm

    def clone(self, parent: Any, **given: Any) -> Any:
        vm = self.vcenter._do_InstantClone(parent, **given)
        self.run_script(vm)
        return vm

    def power_on(self, vm: Any, **_given: Any) -> None:
        self.vcenter._do_PowerOnVM(vm)
        if vm in self.forks():
            self.run_script(vm)
        self.vcenter.objects[vm]["runtime.bootTime"] = BOOTED + datetime.timedelta(hours=3)

    def power_off(self, vm: Any) -> None:
        self.vcenter._do_PowerOffVM(vm)
        for path in ("runtime.instantCloneFrozen", "runtime.quiescedForkParent"):
            self.vcenter.objects[vm][path] = False

    def upload(self, content: bytes) -> None:
        self.uploaded = content.decode() if b"nonce=" in content else self.uploaded

    # --- guests -------------------------------------------------------------------------------------------------------

    def run_script(self, vm: Any) -> None:
        """Run the post-clone script of a child, which takes two seconds, and report its end."""

        def begin() -> None:
            keys = self.vcenter.keys(vm) if self.vcenter.state(vm) == ON else {}
            found = [keys.get(key, "") for key in keys.get(guestinfo.CHILD_SECRETS, "").split()]
            if found and all(found):
                self.seen[self.vcenter.objects[vm]["name"]] = found[0]
                self.vcenter.later(2, lambda: end(0))
            elif found:
                end(1, "guestinfo.fork.token was removed. " + AGAIN)

        def end(code: int, output: str = "") -> None:
            if self.vcenter.state(vm) == ON:
                nonce = self.vcenter.keys(vm)[guestinfo.CHILD_NONCE]
                ended = guestinfo.Report("post_clone", code, output)
                self.vcenter.set_keys(vm, **{guestinfo.POST_CLONE: guestinfo.as_post_clone(nonce, ended)})

        self.vcenter.later(0.5, begin)

    def start(self, _manager: Any, spec: Any, **_given: Any) -> int:
        """Start a runner that takes its files from guestinfo and brings the VM to its fork point after five seconds."""
        pid = 42 + len(self.processes)
        command = f"{spec.programPath} {spec.arguments}"
        self.processes[pid] = process(pid, command)
        nonce = re.findall("nonce=([0-9a-f]{32})", command + self.uploaded)[-1]
        vm = self.parent
        self.vcenter.set_keys(vm, **dict.fromkeys(self.payload, ""))

        def freeze() -> None:
            if self.processes[pid].endTime is None:
                self.vcenter.set_keys(vm, **{guestinfo.SCRIPTS: f"{JOB.digest()} {nonce}"})
                self.freeze()

        self.vcenter.later(5, freeze)
        return pid

    def freeze(self) -> None:
        """Bring the parent to its fork point."""
        for path in FROZEN:
            self.vcenter.objects[self.parent][path] = True

    def end(self, pid: int) -> None:
        """End a runner without a report."""
        self.processes[pid] = process(pid, self.processes[pid].cmdLine, endTime=BOOTED, exitCode=STAGES["terminated"])

    # --- queries by a test --------------------------------------------------------------------------------------------

    @property
    def payload(self) -> list[str]:
        """Return the keys of scripts that are in the parent's guestinfo."""
        return [key for key in self.vcenter.keys(self.parent) if key.startswith(payload.KEY)]

    def vms(self) -> dict[Any, dict[str, Any]]:
        return {vm: values for vm, values in self.vcenter.objects.items() if isinstance(vm, vim.VirtualMachine)}

    def snapshot_of_vms(self) -> dict[str, Any]:
        """Return everything that shows whether a VM was changed; VMs with the same name are each included."""
        return {
            f"{values['name']} {vm._GetMoId()}": {
                path: str(value) for path, value in values.items() if path not in ("recentTask", "runtime.bootTime")
            }
            for vm, values in self.vms().items()
        }

    def outcome(self) -> list[tuple[Any, ...]]:
        """Return the state of all VMs and guests, without values that differ between runs."""
        states = sorted(
            (
                values["name"],
                values["runtime.powerState"],
                [values.get(path) for path in FROZEN],
                str(values.get("config.forkConfigInfo")),
                str(values.get("config.vAppConfig")),
                identity.own_record({**values}) is not None,
                sorted(self.vcenter.keys(vm)),
                self.vcenter.keys(vm).get(guestinfo.POST_CLONE, "").split()[1:],
            )
            for vm, values in self.vms().items()
        )
        return [*states, tuple(sorted(self.seen.items()))]

    def run(self, job: Job) -> dict[str, Any]:
        """Run the job's module as Ansible does; return its result."""
        output = io.StringIO()
        options = {**LOGIN, **job.options}
        with patch_module_args(options), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            MODULES[job.module].main()
        result = json.loads(output.getvalue())
        self.ran_until = self.vcenter.now
        self.vcenter.settle()
        self.vcenter._sleep(100)  # processes still running in guests
        return dict(result)


class Job(NamedTuple):
    """A task.

    :param arrange: the set-up.
    """

    module: str
    options: dict[str, Any]
    arrange: Callable[[Bed], None] = lambda _bed: None
    version: str = "8.0.3.0"


AGAIN = "Remove this child and create it again."

FROZEN = ("runtime.instantCloneFrozen", "runtime.quiescedForkParent")


def process(pid: int, command: str, **more: Any) -> Any:
    """Return an entry of a guest's process list."""
    kind = vim.vm.guest.ProcessManager.ProcessInfo
    return kind(pid=pid, name="sh", owner="root", cmdLine=command, startTime=BOOTED, **more)


# --- tasks ------------------------------------------------------------------------------------------------------------


def enabled(bed: Bed) -> None:
    if bed.is_old:
        bed.fork_info(bed.parent, parentEnabled=True, parentForkGroupId="g1")


def frozen(bed: Bed) -> None:
    enabled(bed)
    bed.vcenter.set_keys(bed.parent, **{guestinfo.SCRIPTS: f"{JOB.digest()} of-an-earlier-task"})
    bed.freeze()


def with_children(bed: Bed) -> None:
    """Add children as the module creates them."""
    frozen(bed)
    parent = bed.vcenter.objects[bed.parent]["config.instanceUuid"]
    for name in ("web-01", "web-02"):
        vm = bed.vcenter.vm(name)
        record = identity.Record(parent, bed.vcenter.objects[vm]["config.uuid"], "n0")
        bed.vcenter.set_keys(vm, **{identity.RECORD_KEY: str(record), guestinfo.CHILD_NONCE: "n0"})
        if bed.is_old:
            bed.fork_info(vm, childForkGroupId="g1", childType="nonpersistent")


def lost_environment(bed: Bed) -> None:
    """Add a VM that its ESXi host powered on."""
    by_host = power_on_event(BOOTED, "root", 7)
    events = [by_host]
    tasks: list[Any] = []
    vm = bed.vcenter.vm(
        "web",
        **{
            "config.vAppConfig": vim.vApp.VmConfigInfo(ovfEnvironmentTransport=["com.vmware.guestInfo"]),
            "config.template": False,
            "guest.toolsRunningStatus": "guestToolsRunning",
            "runtime.bootTime": BOOTED,
            "runtime.connectionState": "connected",
        },
    )
    by_host.vm.vm = vm

    def power_on(vm: Any, **given: Any) -> None:
        bed.power_on(vm, **given)
        later = bed.vcenter.objects[vm]["runtime.bootTime"] = BOOTED + datetime.timedelta(hours=3)
        events.append(power_on_event(later, "ann", 9, vm))
        reason = vim.TaskReasonUser(userName="ann")
        kind = "VirtualMachine.powerOn"
        tasks.append(vim.TaskInfo(descriptionId=kind, entity=vm, eventChainId=9, queueTime=later, reason=reason))

    read: set[str] = set()

    def once(known: list[Any]) -> Callable[..., list[Any]]:
        def page(collector: Any, **_given: Any) -> list[Any]:
            moid = collector._GetMoId()
            if moid in read:
                return []
            read.add(moid)
            return list(known)

        return page

    bed.vcenter.effects.update(PowerOnVM_Task=power_on, ReadNextEvents=once(events), ReadNextTasks=once(tasks))


def fixed_properties(bed: Bed) -> None:
    """Add a VM with a property whose value requires two reconfigures."""
    build = vim.vApp.PropertyInfo(key=5, id="build", type="string", value="7", userConfigurable=False)
    options = vim.vApp.VmConfigInfo(property=[build], ovfEnvironmentTransport=["com.vmware.guestInfo"])
    bed.vcenter.vm("appliance", "poweredOff", **{"config.vAppConfig": options, "config.changeVersion": "1"})

    def reconfigure(vm: Any, spec: Any) -> None:
        values = bed.vcenter.objects[vm]
        if spec.changeVersion != values["config.changeVersion"]:
            raise vim.fault.ConcurrentAccess(msg="The configuration was changed.")
        edited = [edit.info for edit in spec.vAppConfig.property]
        values["config.vAppConfig"] = vim.vApp.VmConfigInfo(
            property=edited, ovfEnvironmentTransport=["com.vmware.guestInfo"]
        )
        values["config.changeVersion"] += "1"

    bed.vcenter.effects["ReconfigVM_Task"] = reconfigure


def power_on_event(when: datetime.datetime, user: str, chain: int, vm: Any = None) -> Any:
    about = vim.event.VmEventArgument(name="web", vm=vm or vim.VirtualMachine("vm-0"))
    return vim.event.VmPoweredOnEvent(key=chain, chainId=chain, createdTime=when, userName=user, vm=about)


CHILDREN = {"parent_name": "golden", "children": [{"name": "web-01"}, {"name": "web-02"}]}
ONE_CHILD = {"children": [{"name": "web-01"}]}
PRESENT = {**CHILDREN, "secret_config_params": {"token": SECRET}, "config_params": {"color": "blue"}}
QUIESCE = {"name": "golden", **GUEST, **SCRIPTS}
JOB = RunnerJob(pre_quiesce=SCRIPTS["pre_quiesce_script"], post_clone=SCRIPTS["post_clone_script"])
BUILD = {
    "properties": [{"key": "build", "value": "8", "user_configurable": False}],
    "not_user_configurable": "force",
}

JOBS = {
    "enable": Job("vmfork_parent", {"name": "golden"}, version=OLD),
    "disable": Job("vmfork_parent", {"name": "golden", "state": "disabled"}, enabled, OLD),
    "disable frozen": Job("vmfork_parent", {"name": "golden", "state": "disabled", "power_off": True}, frozen, OLD),
    "quiesce by guestinfo": Job("vmfork_quiesce", {**QUIESCE, "script_delivery": "guestinfo"}),
    "quiesce by file transfer": Job("vmfork_quiesce", {**QUIESCE, "guest_transfer_certs": "ignore"}, enabled, OLD),
    "present on vmfork": Job("vmfork_child", PRESENT, frozen, OLD),
    "present persistent": Job("vmfork_child", {**PRESENT, **ONE_CHILD, "persistent": True}, frozen, OLD),
    "present": Job("vmfork_child", PRESENT, frozen),
    "absent": Job("vmfork_child", {**CHILDREN, "state": "absent"}, with_children),
    "absent all on vmfork": Job(
        "vmfork_child", {"parent_name": "golden", "all": True, "state": "absent"}, with_children, OLD
    ),
    "detached": Job("vmfork_child", {**CHILDREN, "state": "detached"}, with_children),
    "vApp options": Job("vm_vapp_options", {"name": "appliance", **BUILD}, fixed_properties),
    "repair": Job("vm_ovfenv", {"name": "web", "accept_risks": ["guest_not_seen"]}, lost_environment),
}


# --- disturbances -----------------------------------------------------------------------------------------------------


def before_answer(bed: Bed, normally: Callable[[], Any]) -> Any:
    """Raise a signal after the request was carried out or its task has started, before the answer."""
    answer = normally()
    send_signal(bed)
    bed.vcenter.budget.left()  # the connection raises it while it waits for the answer
    return answer


def with_answer(bed: Bed, normally: Callable[[], Any]) -> Any:
    """Raise a signal after the answer, before the next request is sent."""
    answer = normally()
    send_signal(bed)
    return answer


def send_signal(bed: Bed) -> None:
    """Send a signal, which the main thread notes."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    while bed.vcenter.budget.signal is None:
        time.sleep(0.001)


def lost_request(_bed: Bed, _normally: Callable[[], Any]) -> Any:
    raise ConnectionResetError("the connection was cut before the request was read")


def lost_answer(_bed: Bed, normally: Callable[[], Any]) -> Any:
    normally()
    raise ConnectionResetError("the connection was cut before the answer")


EACH = 1 if examples.LIMIT >= 100 else 4
"""Disturb each request, or each fourth in runs in which only versions matter."""
SIGNALS = (before_answer, with_answer)
LOSSES = (lost_request, lost_answer)


class Trial:
    """A job that is disturbed at one request, and the problems found after it."""

    def __init__(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = job
        self.bed = Bed(job.version)
        self.bed.vcenter.install(monkeypatch)
        monkeypatch.setattr(operations._http, "put", lambda _session, _to, content: self.bed.upload(content))
        job.arrange(self.bed)
        self.wrong: list[str] = []
        self.first = len(self.bed.vcenter.calls)

    def check(self, is_right: bool, what: Any) -> None:
        if not is_right:
            self.wrong.append(str(what))

    def disturb(self, index: int, act: Callable[..., Any], outcome: list[Any]) -> None:
        """Run the job with a disturbance at the call with this number; check what must hold after every such run."""
        bed, vcenter = self.bed, self.bed.vcenter
        before = bed.snapshot_of_vms()
        foreign = {key: value for key, value in before.items() if key.startswith("foreign")}
        at = self.first + index
        hit = []

        def happen(normally: Callable[[], Any]) -> Any:
            hit.append(vcenter.now)
            return act(bed, normally)

        vcenter.at_call[at] = happen
        result = bed.run(self.job)
        took = bed.ran_until - hit[0]
        after = bed.snapshot_of_vms()
        self.check(took <= PATIENCE, f"took {took} seconds")
        self.check("Traceback" not in str(result) and "not written for" not in str(result), result.get("msg"))
        if not result.get("failed"):
            self.check(bed.outcome() == outcome, f"succeeds with {bed.outcome()}")
        self.check("is not ready after" not in str(result) or act in LOSSES, "a signal is no end of the time")
        is_child_job = self.job.module == "vmfork_child" and before != after
        self.check("children" in result or not is_child_job, "no children in the result")
        self.check(foreign.items() <= after.items(), "foreign VM touched")
        self.check(
            before == after or bool(result.get("changed")), f"changed is {result.get('changed')}: {result.get('msg')}"
        )
        self.check(SECRET not in str(after), "secret left")
        self.check(SECRET not in str(result), "secret shown")
        self.check(not bed.payload, "scripts left")

    def converge(self, outcome: list[Any]) -> None:
        bed = self.bed
        again = bed.run(self.job)
        if AGAIN in again.get("msg", ""):  # running children whose script can no longer get its secrets
            bed.run(Job("vmfork_child", {**CHILDREN, "state": "absent"}))
            again = bed.run(self.job)
        self.check(not again.get("failed"), f"rerun: {again.get('msg')}")
        self.check(bed.outcome() == outcome, f"rerun ends in {bed.outcome()}")
        third = bed.run(self.job)
        self.check(third.get("changed") is False and not third.get("failed"), f"third run: {third}")


@pytest.mark.parametrize("acts", [SIGNALS, LOSSES], ids=["signals", "losses"])
@pytest.mark.parametrize("job", JOBS.values(), ids=list(JOBS))
def test_disturbed(job: Job, acts: tuple[Callable[..., Any], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = Trial(job, monkeypatch)
    result = undisturbed.bed.run(job)
    assert not result.get("failed"), result
    calls = undisturbed.bed.vcenter.calls[undisturbed.first :]
    end = next(index for index, call in enumerate(calls) if call.method == "Logout")
    begin = 1 + next(index for index, call in enumerate(calls) if call.method == "Login")
    outcome = undisturbed.bed.outcome()
    states: list[Any] = []
    wrong = []
    for index in range(begin, end, EACH):
        for act in acts:
            trial = Trial(job, monkeypatch)
            trial.disturb(index, act, outcome)
            if (state := trial.bed.outcome()) not in states:
                states.append(state)
                trial.converge(outcome)
            wrong += [f"{index} {calls[index].method}, {act.__name__}: {problem}" for problem in trial.wrong]
    assert not wrong, "\n".join(wrong)
