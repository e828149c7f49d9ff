# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vCenter in memory behind pyVmomi's own objects: properties, tasks, updates, and a clock without real waits.

It is for unit tests of code that changes something: it records every call, and a test decides which call is refused,
which task fails and which answer is lost. It has no guests; the simulator models the behavior of a real vCenter.
"""

from __future__ import annotations

import datetime
import itertools
import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _connection,
    _deadline,
    _inventory,
    _properties,
    _session,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import executor
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents

ON, OFF = "poweredOn", "poweredOff"
RUNNING_TASK = "running"


class Call(NamedTuple):
    """A request that reached the server."""

    method: str
    target: str
    """Managed object ID."""
    arguments: dict[str, Any]


def options(keys: dict[str, str]) -> list[Any]:
    """Return an extraConfig."""
    return [vim.option.OptionValue(key=key, value=value) for key, value in keys.items()]


class FakeVCenter:
    """The server, its inventory and its clock.

    :ivar objects: managed object → its properties, by path.
    :ivar calls: every request, in order.
    :ivar now: seconds; the clock advances only while a client waits and nothing else happens.
    """

    def __init__(self, api_version: str = "8.0.3.0") -> None:
        self.api_version = api_version
        self.objects: dict[Any, dict[str, Any]] = {}
        self.calls: list[Call] = []
        self.now = 1000.0
        self._answering = threading.RLock()
        self.held: set[str] = set()
        """Methods whose tasks do not end by themselves."""
        self.effects: dict[str, Callable[..., Any]] = {}
        """Method → what carries it out, instead of the method of this class."""
        self._lost: dict[str, list[bool]] = defaultdict(list)
        self._silencing: dict[str, tuple[int, bool]] = {}
        self.is_silent = False
        """Whether the server no longer answers."""
        self.at_call: dict[int, Callable[[Callable[[], Any]], Any]] = {}
        """Index of a call in :attr:`calls` → what happens to it; gets what carries the request out."""
        self.budget: Any = None
        """The time of the session that was opened last."""
        self._refused: dict[str, list[Exception]] = defaultdict(list)
        self._failing: dict[str, list[Exception]] = defaultdict(list)
        self._running: list[tuple[Any, str, Callable[[], Any]]] = []
        self._later: list[tuple[float, Callable[[], Any]]] = []
        self._views: dict[str, Any] = {}
        self._going_down: set[Any] = set()
        self._filters: dict[str, Any] = {}
        self._numbers = itertools.count(100)
        self.root = self.add(vim.Folder, "group-d1", name="Datacenters")
        self.datacenter = self.add(vim.Datacenter, "datacenter-1", name="DC0", parent=self.root)
        self.folder = self.add(vim.Folder, "group-v1", name="vm", parent=self.datacenter)
        self.add(
            vim.vm.guest.GuestOperationsManager,
            "guestOperationsManager",
            authManager=vim.vm.guest.AuthManager("authManager", self),
            fileManager=vim.vm.guest.FileManager("fileManager", self),
            processManager=vim.vm.guest.ProcessManager("processManager", self),
        )
        self.host = self.add(vim.HostSystem, "host-1", name="esx-1", **{"runtime.connectionState": "connected"})

    # --- set-up by a test ---------------------------------------------------------------------------------------------

    def add(self, kind: Any, moid: str, **values: Any) -> Any:
        """Return a managed object with these properties."""
        managed = kind(moid, self)
        self.objects[managed] = values
        return managed

    def vm(self, name: str, state: str = ON, keys: dict[str, str] | None = None, **values: Any) -> Any:
        """Return a VM in the VM folder."""
        return self.add(
            vim.VirtualMachine,
            f"vm-{next(self._numbers)}",
            **{
                "name": name,
                "parent": self.folder,
                "config.uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"bios {name}")),
                "config.instanceUuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"instance {name}")),
                "config.extraConfig": options(keys or {}),
                "config.hardware.device": [vim.vm.device.VirtualPCIController(key=100)],
                "config.template": False,
                "runtime.powerState": state,
                "runtime.host": self.host,
                "recentTask": [],
                **values,
            },
        )

    def lose_answer(self, method: str, carried_out: bool) -> None:
        """Close the connection at the next call of a method, before or after the server has started it."""
        self._lost[method].append(carried_out)

    def fall_silent(self, method: str, carried_out: bool, after: int = 0) -> None:
        """Stop answering at a call of a method, before or after the server has started it.

        :param after: the number of calls of the method to answer first.
        """
        self._silencing[method] = (after, carried_out)

    def refuse(self, method: str, fault: Exception, times: int = 1) -> None:
        """Answer the next calls of a method with a fault."""
        self._refused[method] += [fault] * times

    def fail(self, method: str, fault: Exception, times: int = 1) -> None:
        """Have the tasks of the next calls of a method fail."""
        self._failing[method] += [fault] * times

    def later(self, seconds: float, act: Callable[[], Any]) -> None:
        """Run a function when a client has waited for this time."""
        self._later.append((self.now + seconds, act))

    def end_tasks(self, method: str, count: int = 1) -> None:
        """End tasks that are held."""
        for task in [task for task in self._running if task[1] == method][:count]:
            self._end(task)

    def forget_tasks(self, carry_out: bool) -> None:
        """Restart the server: it no longer knows its tasks, whether or not they were completed."""
        if carry_out:
            self.settle()
        self._running.clear()
        self.held.clear()
        for task in [managed for managed in self.objects if isinstance(managed, vim.Task)]:
            del self.objects[task]

    def settle(self) -> None:
        """Complete everything that was accepted, in the order in which it was accepted."""
        while self._running:
            self._end(self._running[0])

    def set_keys(self, vm: Any, **keys: str) -> None:
        """Write extraConfig keys without the API, as a guest does."""
        merged = {option.key: option.value for option in self.objects[vm]["config.extraConfig"]} | keys
        self.objects[vm]["config.extraConfig"] = options({key: value for key, value in merged.items() if value})

    # --- queries by a test --------------------------------------------------------------------------------------------

    def called(self, *methods: str) -> list[str]:
        """Return the calls of these methods in order, each with the ID of its object."""
        return [f"{call.method} {call.target}" for call in self.calls if call.method in methods]

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return sum(1 for call in self.calls if call.method == method)

    def keys(self, vm: Any) -> dict[str, str]:
        """Return a VM's extraConfig."""
        return {option.key: option.value for option in self.objects[vm]["config.extraConfig"]}

    def state(self, vm: Any) -> str | None:
        """Return a VM's power state; ``None`` if the VM does not exist."""
        return self.objects[vm]["runtime.powerState"] if vm in self.objects else None

    def named(self, name: str) -> list[Any]:
        """Return the VMs with a name."""
        return [vm for vm, values in self.objects.items() if values.get("name") == name]

    # --- pyVmomi's side -----------------------------------------------------------------------------------------------

    def InvokeMethod(self, target: Any, info: Any, arguments: Any) -> Any:  # noqa: N802, pyVmomi's name
        """Answer a request, as pyVmomi's stub does."""
        method = info.wsdlName
        given = {parameter.name: value for parameter, value in zip(info.params, arguments, strict=True)}
        with self._answering:
            self.calls.append(Call(method, target._GetMoId(), given))
            happen = self.at_call.pop(len(self.calls) - 1, lambda normally: normally())

        def answer() -> Any:
            with self._answering:
                return self._answer(target, info, given)

        return happen(answer)

    def _answer(self, target: Any, info: Any, given: dict[str, Any]) -> Any:
        method = info.wsdlName
        if self.is_silent:
            self._stay_silent()
        after, carried_out = self._silencing.get(method, (None, False))
        if after is not None and self.count(method) > after:
            self.is_silent = True
            if carried_out:
                self._begin(target, method, given)
            self._stay_silent()
        lost = self._lost[method].pop(0) if self._lost[method] else None
        if lost is False:
            raise ConnectionResetError("the connection was cut before the request was read")
        if self._refused[method]:
            raise self._refused[method].pop(0)
        if info.isTask or method.endswith("_Task"):
            answer = self._begin(target, method, given)
        else:
            answer = self._carry_out(target, method, given)
        if lost:
            raise ConnectionResetError("the connection was cut before the answer")
        return answer

    def _stay_silent(self) -> None:
        """Let the client wait until its timeout."""
        self._sleep(max(0.0, min(_connection.CALL_TIMEOUT, self.budget._left())))
        raise TimeoutError("timed out")

    def DropConnections(self) -> None:  # noqa: N802, pyVmomi's name
        """Do nothing: there are no connections."""

    def SetSessionId(self, _session_id: str) -> None:  # noqa: N802, pyVmomi's name
        """Do nothing: there is no login."""

    @property
    def content(self) -> Any:
        """Return the ServiceContent."""
        return SimpleNamespace(
            about=SimpleNamespace(apiVersion=self.api_version, apiType="VirtualCenter", name="VMware vCenter Server"),
            authorizationManager=vim.AuthorizationManager("AuthorizationManager", self),
            eventManager=vim.event.EventManager("EventManager", self),
            guestOperationsManager=vim.vm.guest.GuestOperationsManager("guestOperationsManager", self),
            ipPoolManager=vim.IpPoolManager("IpPoolManager", self),
            propertyCollector=vmodl.query.PropertyCollector("propertyCollector", self),
            rootFolder=self.root,
            searchIndex=vim.SearchIndex("SearchIndex", self),
            sessionManager=vim.SessionManager("SessionManager", self),
            setting=vim.option.OptionManager("VpxSettings", self),
            taskManager=vim.TaskManager("TaskManager", self),
            viewManager=vim.view.ViewManager("ViewManager", self),
            vmCompatibilityChecker=vim.vm.check.CompatibilityChecker("CompatChecker", self),
            vmProvisioningChecker=vim.vm.check.ProvisioningChecker("ProvChecker", self),
        )

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _begin(self, target: Any, method: str, given: dict[str, Any]) -> Any:
        task = self.add(vim.Task, f"task-{next(self._numbers)}", **{"info.state": RUNNING_TASK})
        fault = self._failing[method].pop(0) if self._failing[method] else None

        def act() -> Any:
            if fault is not None:
                raise fault
            return self._carry_out(target, method, given)

        self._running.append((task, method, act))
        if target in self.objects:
            self.objects[target].setdefault("recentTask", []).append(task)
        return task

    def _end(self, running: tuple[Any, str, Callable[[], Any]]) -> None:
        self._running.remove(running)
        task, _method, act = running
        try:
            self.objects[task].update({"info.state": "success", "info.result": act()})
        except vmodl.MethodFault as fault:
            self.objects[task].update({"info.state": "error", "info.error": fault})

    def _carry_out(self, target: Any, method: str, given: dict[str, Any]) -> Any:
        act = self.effects.get(method)
        if act is not None:
            return act(target, **given)
        return getattr(self, f"_do_{method.removesuffix('_Task')}")(target, **given)

    # --- methods ------------------------------------------------------------------------------------------------------

    def _do_RetrieveServiceContent(self, _target: Any) -> Any:  # noqa: N802
        return self.content

    def _do_CurrentTime(self, _target: Any) -> datetime.datetime:  # noqa: N802
        return datetime.datetime.now(datetime.timezone.utc)

    def _do_Login(self, _target: Any, **_given: Any) -> Any:  # noqa: N802
        return SimpleNamespace(key="session-1", loginTime=self._do_CurrentTime(None))

    def _do_Logout(self, _target: Any) -> None:  # noqa: N802
        pass

    def _do_PowerOnVM(self, vm: Any, **_given: Any) -> None:  # noqa: N802
        self._switch(vm, ON)

    def _do_PowerOffVM(self, vm: Any) -> None:  # noqa: N802
        self._switch(vm, OFF)

    def _do_ShutdownGuest(self, vm: Any) -> None:  # noqa: N802
        if vm not in self._going_down:  # a guest that is shutting down does not start again

            def go_down() -> None:
                self._going_down.remove(vm)
                self._switch(vm, OFF)

            self._going_down.add(vm)
            self.later(1, go_down)

    def _switch(self, vm: Any, state: str) -> None:
        if self.objects[vm]["runtime.powerState"] == state:
            raise vim.fault.InvalidPowerState(msg="The attempted operation cannot be performed in the current state.")
        self.objects[vm]["runtime.powerState"] = state

    def _do_Destroy(self, vm: Any) -> None:  # noqa: N802
        if self.objects[vm].get("runtime.powerState") == ON:
            raise vim.fault.InvalidPowerState(msg="The attempted operation cannot be performed in the current state.")
        del self.objects[vm]

    def _do_ReconfigVM(self, vm: Any, spec: Any) -> None:  # noqa: N802
        self.set_keys(vm, **{option.key: option.value for option in spec.extraConfig or []})
        if spec.uuid:
            self.objects[vm]["config.uuid"] = spec.uuid

    def _do_InstantClone(self, source: Any, spec: Any) -> Any:  # noqa: N802
        inherited = {**self.keys(source), **{option.key: option.value for option in spec.config or []}}
        keys = {key: value for key, value in inherited.items() if value}
        return self._make(spec.name, spec.location.folder, ON, keys, spec.biosUuid)

    def _do_CreateForkChild(self, _source: Any, name: str, spec: Any) -> Any:  # noqa: N802
        keys = {f"guestinfo.fork.{option.key}": option.value for option in spec.configParams or []}
        return self._make(name, spec.location.folder if spec.location else None, OFF, keys, None)

    def _make(self, name: str, folder: Any, state: str, keys: dict[str, str], bios_uuid: str | None) -> Any:
        if self.named(name):
            raise vim.fault.DuplicateName(msg="The name already exists.", name=name, object=self.named(name)[0])
        given = {"config.uuid": bios_uuid} if bios_uuid else {}
        return self.vm(name, state, keys, parent=folder or self.folder, **given)

    def _do_RetrieveForkChildren(self, _parent: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_CheckPowerOn(self, _checker: Any, **_given: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_FindAllByUuid(  # noqa: N802
        self,
        _index: Any,
        uuid: str,
        vmSearch: bool,  # noqa: N803
        instanceUuid: bool,  # noqa: N803
        **_given: Any,
    ) -> list[Any]:
        path = "config.instanceUuid" if instanceUuid else "config.uuid"
        return [vm for vm, values in self.objects.items() if values.get(path) == uuid] if vmSearch else []

    def _do_FindChild(self, _index: Any, entity: Any, name: str) -> Any:  # noqa: N802
        return next((vm for vm in self.named(name) if self.objects[vm].get("parent") == entity), None)

    def _do_HasPrivilegeOnEntities(self, _manager: Any, **_given: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_QueryOptions(self, _manager: Any, **_given: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_QueryIpPools(self, _manager: Any, **_given: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_CreateCollectorForEvents(self, _manager: Any, **_given: Any) -> Any:  # noqa: N802
        return vim.event.EventHistoryCollector(f"events-{next(self._numbers)}", self)

    def _do_CreateCollectorForTasks(self, _manager: Any, **_given: Any) -> Any:  # noqa: N802
        return vim.TaskHistoryCollector(f"tasks-{next(self._numbers)}", self)

    def _do_ReadNextEvents(self, _collector: Any, **_given: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_ReadNextTasks(self, _collector: Any, **_given: Any) -> list[Any]:  # noqa: N802
        return []

    def _do_DestroyCollector(self, _collector: Any) -> None:  # noqa: N802
        pass

    def _do_ExtractOvfEnvironment(self, _vm: Any) -> str:  # noqa: N802
        return ""

    # --- properties ---------------------------------------------------------------------------------------------------

    def _do_CreateContainerView(self, _manager: Any, container: Any, type: Any, **_given: Any) -> Any:  # noqa: N802
        def found() -> list[Any]:
            return [
                managed
                for managed in self.objects
                if isinstance(managed, tuple(type)) and (container == self.root or container in self._above(managed))
            ]

        return self._view(vim.view.ContainerView, found)

    def _do_CreateListView(self, _manager: Any, obj: Any) -> Any:  # noqa: N802
        listed = list(obj or [])
        return self._view(vim.view.ListView, lambda: listed)

    def _do_ModifyListView(self, view: Any, add: Any, remove: Any) -> list[Any]:  # noqa: N802
        shown = self._views[view._GetMoId()]()
        new = [managed for managed in add or [] if managed in self.objects]
        shown[:] = [managed for managed in shown if managed not in (remove or [])] + new
        return [managed for managed in add or [] if managed not in self.objects]

    def _view(self, kind: Any, objects: Callable[[], list[Any]]) -> Any:
        view = kind(f"view-{next(self._numbers)}", self)
        self._views[view._GetMoId()] = objects
        return view

    def _above(self, managed: Any) -> list[Any]:
        found: list[Any] = []
        current = managed
        while current is not None:
            values = self.objects.get(current, {})
            current = values.get("parent") or values.get("parentVApp")
            found += [current] if current is not None else []
        return found

    def _do_RetrievePropertiesEx(self, _collector: Any, specSet: Any, **_given: Any) -> Any:  # noqa: N802, N803
        spec = specSet[0]
        selected: dict[Any, None] = {}
        for target in spec.objectSet:
            if target.skip:
                selected.update(dict.fromkeys(self._views[target.obj._GetMoId()]()))
                continue
            if target.obj not in self.objects:
                raise vmodl.fault.ManagedObjectNotFound(obj=target.obj, msg="The object has already been deleted.")
            selected[target.obj] = None
            selected.update(dict.fromkeys(self._above(target.obj) if target.selectSet else []))
            for path in (step.path for step in target.selectSet):
                related = self.objects[target.obj].get(path)
                selected.update(dict.fromkeys(related if isinstance(related, list) else [related]))
        found = []
        for managed in selected:
            if managed in self.objects:
                values = self._values(managed, spec.propSet)
                shown = [SimpleNamespace(name=path, val=value) for path, value in values.items()]
                found.append(SimpleNamespace(obj=managed, propSet=shown))
        return SimpleNamespace(objects=found, token=None)

    def _values(self, managed: Any, specs: Any) -> dict[str, Any]:
        spec = next((candidate for candidate in specs if isinstance(managed, candidate.type)), None)
        asked = {path: self._value(managed, path) for path in (spec.pathSet if spec is not None else [])}
        return {path: value for path, value in asked.items() if value is not None}

    def _value(self, managed: Any, path: str) -> Any:
        key = re.fullmatch(r'config\.extraConfig\["(.*)"\](\.value)?', path)
        if key is None:
            return self.objects[managed].get(path)
        option = next((option for option in self.objects[managed]["config.extraConfig"] if option.key == key[1]), None)
        return option and (option.value if key[2] else option)

    def _do_CreatePropertyCollector(self, _collector: Any) -> Any:  # noqa: N802
        return vmodl.query.PropertyCollector(f"collector-{next(self._numbers)}", self)

    def _do_CreateFilter(self, collector: Any, spec: Any, **_given: Any) -> None:  # noqa: N802
        shown = self._views[spec.objectSet[0].obj._GetMoId()]()
        self._filters[collector._GetMoId()] = SimpleNamespace(view=shown, paths=spec.propSet, reported={})

    def _do_WaitForUpdatesEx(self, collector: Any, version: str, options: Any) -> Any:  # noqa: N802
        watched = self._filters[collector._GetMoId()]
        if not version:
            watched.reported.clear()
        until = self.now + options.maxWaitSeconds
        while not (updates := self._updates(watched)):
            ending = next((running for running in self._running if running[1] not in self.held), None)
            due = min(self._later, default=None, key=lambda event: event[0])
            if ending is not None:
                self._end(ending)
            elif due is not None and due[0] <= until:
                self._later.remove(due)
                self.now = max(self.now, due[0])
                due[1]()
            else:
                self.now = until
                return None
        return SimpleNamespace(version=f"{version}1", filterSet=[SimpleNamespace(objectSet=updates)])

    def _sleep(self, seconds: float) -> None:
        """Advance the clock, and run what is due."""
        until = self.now + seconds
        while (due := min(self._later, default=None, key=lambda event: event[0])) is not None and due[0] <= until:
            self._later.remove(due)
            self.now = max(self.now, due[0])
            due[1]()
        self.now = until

    def _updates(self, watched: Any) -> list[Any]:
        updates = []
        for gone in [managed for managed in watched.reported if managed not in watched.view]:
            del watched.reported[gone]
        for managed in watched.view:
            reported = watched.reported.get(managed, {})
            if managed not in self.objects:
                if managed in watched.reported:
                    del watched.reported[managed]
                    updates.append(SimpleNamespace(obj=managed, kind="leave", changeSet=[]))
                continue
            values = self._values(managed, watched.paths)
            changed = {path: value for path, value in values.items() if path not in reported or reported[path] != value}
            changed.update(dict.fromkeys(path for path in reported if path not in values))
            if changed or managed not in watched.reported:
                kind = "modify" if managed in watched.reported else "enter"
                changes = [SimpleNamespace(name=path, val=value) for path, value in changed.items()]
                updates.append(SimpleNamespace(obj=managed, kind=kind, changeSet=changes))
                watched.reported[managed] = dict(values)
        return updates

    # --- the collection's side ----------------------------------------------------------------------------------------

    def use(self, monkeypatch: pytest.MonkeyPatch, seconds: float = float("inf")) -> _session.Session:
        """Return a session that is logged in to this vCenter, with its clock.

        :param seconds: the timeout of the task.
        """
        self.install(monkeypatch)
        budget = _deadline.Budget(_deadline.Deadline(seconds))
        return _session.Session(_session.Server("vcenter", "user", "password"), budget).__enter__()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have every session that is opened use this vCenter and its clock."""
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self._sleep)
        for module in (_deadline, _properties, executor):
            if hasattr(module, "time"):
                monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(_session, "_stub", self._connect)

    def _connect(self, _server: Any, budget: _deadline.Budget) -> FakeVCenter:
        self.budget = budget
        return self

    def parent(self, session: _session.Session, vm: Any, api: str = "auto") -> parents.Parent:
        """Return a VM as a parent."""
        chosen = select.choose(session, api, "soap")
        selector = _inventory.Selector(moid=vm._GetMoId())
        return parents.find(session, chosen, selector)
