# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated vCenter on which each step of the main job can be repeated, and the checks of what a step left behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from functional.engines import Engine
from functional.vcenter import POST_CLONE, PRE_QUIESCE, Result, VCenter
from harness.simulator import Simulator
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

FOLDER = "/DC0/vm/forks"
PARENT = "golden"
CHILDREN = ("web-1", "web-2")
RENAMED = "renamed"
"""The name that somebody else gives a child."""

SECRET = "kept-out-of-sight-0123456789"
OBSERVER = ("observer", "observer-of-the-stage-0123456789")
"""The login of the checks; the modules have another one."""

SCRIPT_LEAVES = ["/root/pre-quiesce-ran"]
"""The files that the scripts themselves leave in a guest."""

TIMEOUT = 40
"""The option ``timeout`` of all tasks, in seconds."""
PATIENCE = TIMEOUT + 20
"""Seconds after which a task must have ended."""

NO_SENTENCE = re.compile(r"Traceback|Unexpected error|Errno|object at 0x|<class|\bb'|\bNone\b|\n|\w(Error|Exception)\b")
"""Parts of a message that is not a sentence for users."""
FAULT_NAMES = re.compile(r"\bSystemError\b")
"""Names of vSphere's faults that a sentence may contain although they look like those of exceptions."""


@dataclass(frozen=True)
class Step:
    """A step of the main job.

    :ivar level: the level of the stage on which it is run; see :class:`Stage`.
    :ivar wanted: the names of the children that exist afterwards.
    """

    name: str
    module: str
    level: int
    wanted: tuple[str, ...] = ()
    arguments: Mapping[str, Any] | None = None


_CHILDREN = {"parent_name": PARENT, "timeout": TIMEOUT}
ENABLE = Step("enable", "vmfork_parent", 0, (), {"name": PARENT})
QUIESCE = Step("quiesce", "vmfork_quiesce", 1, (), {"name": PARENT, "timeout": TIMEOUT})
QUIESCE_BY_GUESTINFO = Step(
    "quiesce by guestinfo", "vmfork_quiesce", 1, (), {**(QUIESCE.arguments or {}), "script_delivery": "guestinfo"}
)
CREATE = Step(
    "create",
    "vmfork_child",
    2,
    CHILDREN,
    {
        **_CHILDREN,
        "secret_config_params": {"token": SECRET},
        "children": [
            {"name": name, "config_params": {"ipaddress": f"192.0.2.{number}"}}
            for number, name in enumerate(CHILDREN, 11)
        ],
    },
)
REMOVE = Step(
    "remove", "vmfork_child", 3, (), {**_CHILDREN, "state": "absent", "children": [{"name": n} for n in CHILDREN]}
)
STEPS = {step.name: step for step in (ENABLE, QUIESCE, QUIESCE_BY_GUESTINFO, CREATE, REMOVE)}


@dataclass(frozen=True)
class Vm:
    """What an administrator would notice about a VM."""

    name: str
    folder: str
    power_state: str
    change_version: str
    extra_config: tuple[tuple[str, str], ...]


class Stage:
    """A vCenter with a parent, which stands at one of these levels, and with foreign VMs of similar names.

    0: the parent runs; 1: it is enabled; 2: it is at its fork point; 3: it has the children.
    """

    def __init__(self, vcenter: VCenter, service: Any) -> None:
        self.vcenter = vcenter
        self.level = -1
        self.touched: set[str] = set()
        """Managed object IDs of VMs that somebody else has changed while a task ran."""
        self._content = service.RetrieveContent()
        self._stub = service._stub
        vcenter.control("POST", "inventory", {"vms": 0, "folders": [FOLDER, f"{FOLDER}/old"]})
        # Names that begin alike, the name of a child elsewhere, and a VM that is off.
        for name, folder, runs in (
            ("web-11", FOLDER, True),
            ("web-1", f"{FOLDER}/old", False),
            ("golden-1", FOLDER, True),
        ):
            self._add(name, folder, runs)
        self.foreign = self.vms()

    @property
    def steps(self) -> list[Step]:
        """Return the steps of the main job with this engine; Instant Clone knows no enabled parents."""
        steps = list(STEPS.values())
        return [step for step in steps if step is not ENABLE] if self.vcenter.engine.enabled is None else steps

    def _add(self, name: str, folder: str, runs: bool) -> str:
        added = self.vcenter.control("POST", "inventory", {"vms": 1, "name": name, "folder": folder, "power_on": runs})
        return str(added["moids"][0])

    # --- the state of the stage ---------------------------------------------------------------------------------------

    def vms(self) -> dict[str, Vm]:
        """Return all VMs by managed object ID."""
        kind = vim.VirtualMachine
        names = ["name", "parent", "runtime.powerState", "config.changeVersion", "config.extraConfig"]
        view = self._content.viewManager.CreateContainerView(self._content.rootFolder, [kind], True)
        collector = vmodl.query.PropertyCollector
        to_vms = collector.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[to_vms])],
            propSet=[collector.PropertySpec(type=kind, pathSet=names)],
        )
        found = {}
        for read in self._content.propertyCollector.RetrieveContents([spec]):
            have = {prop.name: prop.val for prop in read.propSet}
            extra = tuple(sorted((option.key, str(option.value)) for option in have.get("config.extraConfig", ())))
            found[read.obj._moId] = Vm(
                have["name"],
                have["parent"]._moId,
                have["runtime.powerState"],
                have.get("config.changeVersion", ""),
                extra,
            )
        view.Destroy()
        return found

    def own(self) -> dict[str, Vm]:
        """Return the VMs that are not foreign, except the parent."""
        return {moid: vm for moid, vm in self.vms().items() if moid not in self.foreign and vm.name != PARENT}

    def moid(self, name: str) -> str | None:
        """Return the managed object ID of a VM that is not foreign, if there is one of this name."""
        return next((moid for moid, vm in self.vms().items() if moid not in self.foreign and vm.name == name), None)

    def managed(self, moid: str) -> Any:
        return vim.VirtualMachine(moid, self._stub)

    def destroy(self, moid: str) -> None:
        """Power a VM off and destroy it."""
        vm = self.managed(moid)
        if vm.runtime.powerState != "poweredOff":
            WaitForTask(vm.PowerOffVM_Task())
        WaitForTask(vm.Destroy_Task())

    def clear(self) -> None:
        """Remove what any step made, and put up a new parent."""
        for moid in self.vms().keys() - self.foreign.keys():
            self.destroy(moid)
        self.end_sessions()
        self._add(PARENT, FOLDER, runs=True)
        self.level = 0

    def bring_to(self, level: int) -> None:
        """Bring the parent to a level, without faults."""
        if self.level == 3 and level == 2:
            for moid in self.own():
                self.destroy(moid)
            self.level = 2
        if not 0 <= self.level <= level:
            self.clear()
        for step in (ENABLE, QUIESCE, CREATE):
            if self.level <= step.level < level:
                result = self.run(step)
                assert not result.get("failed"), result.msg
                self.level = step.level + 1

    # --- tasks --------------------------------------------------------------------------------------------------------

    def run(self, step: Step, **more: Any) -> Result:
        """Run the module of a step."""
        quiesces = step.module == QUIESCE.module
        login = self.vcenter.guest_login if quiesces else {}
        scripts = {"pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE} if quiesces else {}
        return self.vcenter.run(step.module, **{**(step.arguments or {}), **login, **scripts, **more})

    def checked(self, run: Callable[[], Result]) -> Result:
        """Run a task, and check what holds for every task, whatever happened to it."""
        start = time.monotonic()
        result = run()
        seconds = time.monotonic() - start
        assert seconds < PATIENCE, f"the task took {seconds:.0f} seconds"
        if result:
            self.check_words(result)
        self.check_foreign()
        return result

    def warnings(self, result: Result) -> list[str]:
        """Return the warnings of a task; newer versions of ansible-core wrap each in an event."""
        found = result.get("warnings", ())
        return [warning if isinstance(warning, str) else warning["event"]["msg"] for warning in found]

    def check_words(self, result: Result) -> None:
        """Check that a result has sentences for users, and no secret."""
        sentences = self.warnings(result)
        if result.get("failed"):
            sentences.append(result.msg)
            assert result.msg.endswith((".", "see children.")), result.msg
        sentences += [child["error"] for child in result.get("children", ()) if child.get("error")]
        for sentence in sentences:
            assert not NO_SENTENCE.search(FAULT_NAMES.sub("", sentence)), sentence
        assert "exception" not in result, result["exception"]
        simulator = self.vcenter.simulator
        for secret in (SECRET, simulator.password, simulator.guest_password):
            assert secret not in result.raw, "a secret is displayed"

    def check_foreign(self) -> None:
        now = self.vms()
        assert {moid: now.get(moid) for moid in self.foreign} == self.foreign, "a foreign VM was touched"

    def sessions(self) -> list[str]:
        """Return the sessions of the modules."""
        found = self.vcenter.control("GET", "sessions")
        return [session["key"] for session in found if session["user"] == self.vcenter.simulator.username]

    def end_sessions(self) -> None:
        """End the sessions of tasks that could not log out."""
        self.vcenter.control("DELETE", "sessions?user=" + self.vcenter.simulator.username)

    def check_converged(self, wanted: tuple[str, ...], warned: bool = False) -> None:
        """Check that there are exactly the wanted children, ready, and that nothing is left of how they came to be.

        A child that somebody else has renamed may remain.

        :param warned: whether a task has warned that a child may keep its secrets; then the renamed one may.
        """
        own = self.own()
        kept = {moid for moid, vm in own.items() if moid in self.touched and vm.name == RENAMED}
        assert sorted(vm.name for moid, vm in own.items() if moid not in kept) == sorted(wanted)
        for moid, vm in own.items():
            may_keep = warned and moid in kept
            assert may_keep or SECRET not in str(vm.extra_config), f"{vm.name} keeps a secret"
            if moid not in kept:
                assert vm.power_state == "poweredOn", vm
                assert self.files(moid) == SCRIPT_LEAVES, f"files are left in {vm.name}"
        parent = self.vms()[self.moid(PARENT) or ""]
        assert not [key for key, value in parent.extra_config if "payload" in key and value.strip()]
        assert self.sessions() == [], "a session is left"

    def files(self, moid: str) -> list[str]:
        """Return what lies in the directories in which the modules and the scripts keep files in a guest."""
        return self.vcenter.in_guest(moid, "find /tmp /var/tmp /root -mindepth 1").split()


@contextmanager
def stage(engine: Engine) -> Iterator[Stage]:
    """Start a vCenter for an engine."""
    flags = ("-api-version", engine.api_version, "-vm", "1", "-host", "1", "-exit-after", "3h")
    with Simulator(*flags) as simulator:
        vcenter = VCenter(simulator, engine)
        name, password = OBSERVER
        vcenter.control("POST", "users", {"name": name, "password": password})
        service = SmartConnect(
            host=simulator.host, port=simulator.port, user=name, pwd=password, disableSslCertValidation=True
        )
        try:
            yield Stage(vcenter, service)
        finally:
            Disconnect(service)
