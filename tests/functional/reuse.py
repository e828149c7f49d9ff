# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulators whose parent is at its fork point, each used by one test after another.

To start one and to bring its parent to the fork point takes half of the CPU time of a short test. After a test, its
children are removed; only if everything else is then as before, the next test gets the simulator.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

from functional.engines import Engine
from functional.vapp import connected
from functional.vcenter import VCenter
from harness.simulator import Simulator
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

FLAGS = ("-vm", "2", "-host", "0")
"""Their flags. Tests use the other VM as one that is not theirs."""
OBSERVER = ("observer", "observer-of-the-pool-0123456789")
"""The login that reads the state; the modules have another one."""
OF_VMS = ("config.changeVersion", "config.extraConfig", "config.forkConfigInfo", "runtime", "snapshot", "resourcePool")
MOST_ADDED = 6
"""Children that are removed after a test. To remove more costs more than to start another simulator."""

RESTORED = re.compile("GET .*|DELETE (calls|faults|held|rules|sessions.*)|PUT rules/.*|POST (faults|inventory|users)")
"""Requests to the control endpoint whose effect is undone after the test, or visible in the state."""
IN_A_GUEST = re.compile("POST guests/(.*)/run")

State = dict[str, Any]


class QuiescedVCenter(VCenter):
    """A vCenter that notes requests whose effect remains."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.is_changed = False
        super().__init__(shared.simulator, shared.engine)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the control endpoint; its answer does not show the session of the pool."""
        request = f"{method} {path}"
        in_guest = IN_A_GUEST.fullmatch(request)
        is_restored = in_guest[1] not in self.shared.state if in_guest else RESTORED.fullmatch(request)
        # What is delayed may happen during the next test.
        if not is_restored or "delay_ms" in (body or ()):
            self.is_changed = True
        answer = super().control(method, path, body)
        if request == "GET sessions":
            return [session for session in answer if session["user"] != OBSERVER[0]]
        return answer


class Shared:
    """A simulator for several tests."""

    def __init__(self, engine: Engine) -> None:
        """Start it and bring its parent to the fork point."""
        self.engine = engine
        self.state: State = {}
        with ExitStack() as stack:
            flags = ("-api-version", engine.api_version, *FLAGS, "-exit-after", "30m")
            self.simulator = stack.enter_context(Simulator(*flags))
            self.observer = VCenter(self.simulator)
            vcenter = self.vcenter()
            vcenter.enable()
            vcenter.quiesce()
            name, password = OBSERVER
            self.observer.control("POST", "users", {"name": name, "password": password})
            service = stack.enter_context(connected(self.simulator.url, name, password))
            self.content = service.RetrieveContent()
            self.state = self.read()
            self.close = stack.pop_all().close

    def vcenter(self) -> QuiescedVCenter:
        """Return the vCenter for one test."""
        self.observer.control("DELETE", "calls")
        return QuiescedVCenter(self)

    def restore(self, used: QuiescedVCenter) -> bool:
        """Undo what a test has done, and return whether everything is as before."""
        if used.is_changed:
            return False
        try:
            for path in ("faults", "rules", f"sessions?user={self.simulator.username}"):
                self.observer.control("DELETE", path)
            if self.is_busy():
                return False
            added = [entity for entity in self.entities() if entity._moId not in self.state]
            if len(added) > MOST_ADDED:
                return False
            for kind in (vim.VirtualMachine, vim.Folder):
                for entity in added:
                    if isinstance(entity, kind):
                        remove(entity)
            return self.read() == self.state
        except Exception:  # noqa: BLE001 - a test may have ended this session, or broken what it left behind
            return False

    def is_busy(self) -> bool:
        """Return whether a task has not ended, and may do something during the next test."""
        states = self.properties({vim.Task: ["info.state"]}, self.content.taskManager.recentTask)
        return any(state["info.state"] in ("queued", "running") for state in states.values())

    def entities(self) -> list[Any]:
        """Return everything in the inventory."""
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.ManagedEntity], True)
        found = list(view.view)
        view.Destroy()
        return found

    def read(self) -> State:
        """Return what is visible of everything in the inventory, by managed object ID."""
        found = self.entities()
        read = self.properties({vim.ManagedEntity: ["name", "parent"], vim.VirtualMachine: OF_VMS}, found)
        for entity in found:
            if isinstance(entity, vim.VirtualMachine):
                read[entity._moId]["guest"] = str(without_own_addresses(self.observer.guest(entity._moId)))
        return read

    def properties(self, wanted: dict[Any, Any], objects: list[Any]) -> dict[str, dict[str, str]]:
        """Return the wanted properties of each kind of object, as text, by managed object ID."""
        if not objects:
            return {}
        collector = vmodl.query.PropertyCollector
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=found) for found in objects],
            propSet=[collector.PropertySpec(type=kind, pathSet=list(names)) for kind, names in wanted.items()],
        )
        return {
            read.obj._moId: {prop.name: str(prop.val) for prop in read.propSet}
            for read in self.content.propertyCollector.RetrieveContents([spec])
        }


def without_own_addresses(guest: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a guest without the addresses that its kernel adds a second after an adapter is up."""
    for interface in guest["state"]["interfaces"] or ():
        interface["addresses"] = [each for each in interface["addresses"] or () if not each.startswith("fe80:")]
    return guest


def remove(entity: Any) -> None:
    if isinstance(entity, vim.VirtualMachine) and entity.runtime.powerState != "poweredOff":
        WaitForTask(entity.PowerOffVM_Task())
    WaitForTask(entity.Destroy_Task())


class Pool:
    """At most one idle simulator for each engine."""

    def __init__(self) -> None:
        self.idle: dict[str, Shared] = {}

    def get(self, engine: Engine) -> QuiescedVCenter:
        """Return a vCenter with a parent at its fork point."""
        return (self.idle.pop(engine.name, None) or Shared(engine)).vcenter()

    def put(self, used: QuiescedVCenter) -> None:
        """Keep a vCenter for the next test, or stop it if it cannot be restored."""
        shared = used.shared
        if shared.restore(used):
            self.idle[shared.engine.name] = shared
        else:
            shared.close()

    def close(self) -> None:
        """Stop all simulators."""
        for shared in self.idle.values():
            shared.close()
