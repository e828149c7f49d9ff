# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the throw-away VM into the state that a question needs, make children of it, and restore it.

Private to the collection. A mark in the VM's extraConfig, outside of
``guestinfo.``, contains the nonce of the run and the power state before it. Each
child is given the same nonce and carries our record. So the next run finds and
removes what an interrupted one has left.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _devices,
    _errors,
    _extra_config,
    _inventory,
    _parallel,
    _power,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import (
    NotAsked,
    Outcome,
    SeenFault,
    seen,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import absent, placement
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import State
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import CreateRequest, ParentRegistry
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import quiesce
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import families, runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.operations import Guest
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

MARK = "vmfork.conformance"
"""extraConfig key of the mark: ``<nonce> <power state before the run>``."""

PROBE, GUEST_PROBE = "vmfork.conformance.probe", "guestinfo.vmfork.conformance"
"""extraConfig keys that questions set."""

KEYS = (PROBE, GUEST_PROBE, guestinfo.GENERATION)
"""extraConfig keys that a run leaves on the VM unless it removes them; the last one marks a fork point."""

VAPP = "config.vAppConfig"
PROPERTY = "vmfork_conformance"
"""The ID of the vApp property that questions add."""

MOST_REFUSALS = 5
"""How often a request is repeated while another task is running on the VM, such as DRS or a backup."""

LOGGING_SECONDS = 3
"""How long vCenter may take to log an event after the end of its task."""

GUEST_SECONDS = 180
"""How long VMware Tools may take to be ready, and a program in the guest to end."""

RESTORE_SECONDS = 120
"""Time to restore the VM if the task's timeout has passed."""

SCRIPT = "#!/bin/sh\nexit 0\n"
"""The post-clone script of children that continue at the fork point."""

_INFIX = "-conformance-"


def child_name(vm_name: str, number: int) -> str:
    """Return the name of a child that a run makes."""
    return f"{vm_name[: _inventory.LONGEST_NAME - len(_INFIX) - 4]}{_INFIX}{number}"


def is_child_name(vm_name: str, name: str) -> bool:
    """Return whether a VM has the name of a child that a run makes."""
    return re.fullmatch(re.escape(child_name(vm_name, 0)[:-1]) + "[0-9]{1,4}", name) is not None


@dataclass
class Lab:
    """The throw-away VM, and what may be done with it.

    :param login: the login to its guest; ``None``: nothing runs there.
    :ivar faults: the faults that vCenter reported during the current question.
    """

    parent: Parent
    deadline: Deadline
    login: GuestLogin | None
    warn: t.Callable[[str], None]
    faults: list[SeenFault] = field(default_factory=list)
    _nonce: str = ""
    _was: str = ""
    _number: int = 0
    _made: list[str] = field(default_factory=list)

    @property
    def session(self) -> Session:
        return self.parent.session

    @property
    def vm(self) -> t.Any:
        return self.parent.vm

    @property
    def engine_name(self) -> str:
        return self.parent.engine.name

    @property
    def registry(self) -> ParentRegistry:
        """The server's registry of fork parents (VMFork only)."""
        return t.cast(ParentRegistry, self.parent.engine.registry)

    # --- requests ---------------------------------------------------------------------------------------------------

    def call(self, method: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> Outcome:
        """Call a method that returns no task."""
        try:
            return Outcome(self.session.call(method, *args, **kwargs))
        except _errors.Fault as fault:
            return self._noted(Outcome(fault=seen(fault.cause)))

    def attempt(self, submit: t.Callable[..., t.Any], *args: t.Any) -> Outcome:
        """Submit a task and wait for its end. Repeat the request while another task is running on the VM."""
        for number in range(MOST_REFUSALS):
            ended = self.end(self.call(submit, *args))
            if ended.fault is None or ended.fault.type not in _tasks.BUSY:
                break
            Deadline(min(_tasks.pause(number), self.deadline.remaining)).rest()
        return ended

    def race(self, submit: t.Callable[..., t.Any], *args: t.Any) -> list[Outcome]:
        """Submit the same task twice at the same time, and return both ends."""
        calls: _parallel.ParallelCalls[t.Any] = _parallel.ParallelCalls(self.session, 2)
        for number in range(2):
            calls.start(number, lambda: self.session.call(submit, *args))
        accepted = []
        for _number in range(2):
            _key, answer = calls.take()
            try:
                accepted.append(Outcome(answer.get()))
            except _errors.Fault as fault:
                accepted.append(self._noted(Outcome(fault=seen(fault.cause))))
        return [self.end(outcome) for outcome in accepted]

    def end(self, accepted: Outcome) -> Outcome:
        """Wait for the end of a task, if the request was accepted."""
        if not accepted.succeeded:
            return accepted
        known: _properties.Values = {}

        def ended(_task: t.Any, values: _properties.Values | None) -> _tasks.Outcome | None:
            if values is None:
                raise _errors.ConnectionLost(_tasks.FORGOTTEN)
            known.update(values)
            return _tasks.outcome(known)

        with _properties.Watch(self.session, {vim.Task: _tasks.PATHS}) as watch:
            watch.add([accepted.result])
            end = _properties.wait_for(watch, self.deadline.remaining, ended)
        self.deadline.check("Could not ask the question", "a task of vCenter did not end")
        if end is None or end.succeeded:
            return Outcome(end.result if end is not None else None)
        return self._noted(Outcome(fault=seen(end.fault)))

    def _noted(self, outcome: Outcome) -> Outcome:
        if outcome.fault is not None and outcome.fault not in self.faults:
            self.faults.append(outcome.fault)
        return outcome

    def need(self, outcome: Outcome) -> t.Any:
        """Return the result of a request that the question depends on.

        :raises NotAsked: it was refused.
        """
        if not outcome.succeeded:
            raise NotAsked("precondition")
        return outcome.result

    def read(self, *paths: str, vm: t.Any = None) -> _properties.Values:
        """Return properties of the VM or of a child; empty if it does not exist."""
        vm = vm or self.vm
        return _properties.read(self.session, [vm], paths).get(vm, {})

    def extra(self, key: str, vm: t.Any = None) -> str | None:
        """Return the value of an extraConfig key of the VM or of a child."""
        return _extra_config.mapping(self.read(_extra_config.PATH, vm=vm)).get(key)

    def set_probe(self, key: str) -> str:
        """Set a probe of the VM to a new value, and return that."""
        value = guestinfo.new_nonce()
        self.need(self.attempt(self.vm.ReconfigVM_Task, _extra_config.spec({key: value})))
        return value

    def reconfigure(self, vm: t.Any = None, **spec: t.Any) -> Outcome:
        """Reconfigure the VM or a child."""
        return self.attempt((vm or self.vm).ReconfigVM_Task, vim.vm.ConfigSpec(**spec))

    def events(
        self, since: datetime.datetime | None, enough: t.Callable[[set[str]], bool], vm: t.Any = None
    ) -> list[t.Any]:
        """Return the events of the VM or of a child, in order, after waiting until vCenter has logged them."""
        by = vim.event.EventFilterSpec
        wanted = by(
            entity=by.ByEntity(entity=vm or self.vm, recursion="self"),
            time=by.ByTime(beginTime=since) if since is not None else None,
        )
        patience = Deadline(min(LOGGING_SECONDS, self.deadline.remaining))
        while True:
            found = self.session.ask(self.session.content.eventManager.QueryEvents, wanted) or []
            if enough({kind(event) for event in found}) or patience.passed:
                return sorted(found, key=lambda event: event.key)
            Deadline(min(0.5, patience.remaining)).rest()

    # --- states of the VM -------------------------------------------------------------------------------------------

    def off(self) -> None:
        """Have the VM powered off, and without children."""
        self.remove_children()
        self.parent.refresh()
        if self.parent.is_on:
            _power.off(self.session, self.deadline, self.vm, self.parent.name)
            self.parent.refresh()

    def running(self) -> None:
        """Have the VM running, and not at its fork point."""
        self.parent.refresh()
        if self.parent.is_quiesced:
            self.off()
        if not self.parent.is_on:
            _power.on(self.session, self.deadline, self.vm, self.parent.name)
            self.parent.refresh()

    def plain(self) -> None:
        """Have the VM neither at its fork point nor enabled as a fork parent."""
        self.remove_children()
        self.parent.refresh()
        parents.disable(self.parent, self.deadline, force=False, power_off=True, check_mode=False, warn=self.warn)

    def enabled(self) -> None:
        """Have the VM enabled as a fork parent, if vCenter needs that."""
        self.parent.refresh()
        parents.enable(self.parent, self.deadline, None, check_mode=False)

    def quiesced(self) -> None:
        """Have the VM at its fork point."""
        self.parent.refresh()
        if self.parent.is_quiesced and self.parent.is_enabled:
            return
        if self.login is None:
            raise NotAsked("guest")
        self.running()
        self.enabled()
        job = runner.Job(post_clone=SCRIPT, become=self.login.become)
        quiesce.quiesce(self.parent, self.deadline, quiesce.Plan(job, self.login), self.warn)
        self.parent.refresh()

    def forkable(self) -> None:
        """Have the VM in a state from which children can be made."""
        if self.parent.engine.registry is None:
            self.running()
        else:
            self.quiesced()

    # --- children ---------------------------------------------------------------------------------------------------

    def fork(
        self,
        location: t.Mapping[str, t.Any] | None = None,
        device_changes: t.Sequence[t.Any] = (),
        extra: t.Mapping[str, str] | None = None,
    ) -> Outcome:
        """Make a child, and record it. With VMFork it is powered off, with Instant Clone it runs.

        :param location: further arguments of the location of the request.
        :param extra: further extraConfig keys of an Instant Clone request.
        :returns: the result is the child.
        """
        self._number += 1
        child = ChildSpec(child_name(self.parent.name, self._number))
        where = placement.place(
            self.parent,
            placement.find_folders(self.parent, [child]),
            [child],
            with_defaults=self.parent.engine.needs_location,
        ).location(child)
        bios_uuid = self.parent.engine.uuid_at_creation(None)
        request = CreateRequest(
            name=_inventory.escape(child.name),
            persistent=False,
            params={guestinfo.NONCE_PARAM: self._nonce},
            location={**where, **(location or {})},
            bios_uuid=bios_uuid,
            record={**({identity.RECORD_KEY: self._record(bios_uuid)} if bios_uuid else {}), **(extra or {})},
            device_changes=device_changes,
        )
        self._made.append(child.name)
        ended = self.attempt(self.parent.engine.create, self.vm, request)
        if ended.succeeded and ended.result is not None:
            self._ensure_record(ended.result)
        return ended

    def child(self) -> t.Any:
        """Return a new running child."""
        self.forkable()
        made = self.need(self.fork())
        if not self.parent.engine.starts_children:
            self.need(self.attempt(made.PowerOnVM_Task))
        return made

    def _record(self, bios_uuid: str) -> str:
        return str(identity.Record(self.parent.values["config.instanceUuid"], bios_uuid, self._nonce))

    def _ensure_record(self, vm: t.Any) -> None:
        values = self.read("config.uuid", identity.RECORD_PATH, vm=vm)
        if identity.own_record(values) is None and values.get("config.uuid"):
            spec = _extra_config.spec({identity.RECORD_KEY: self._record(values["config.uuid"])})
            _tasks.run(self.session, self.deadline, "Could not record a child", vm.ReconfigVM_Task, spec)

    def remove_children(self) -> None:
        """Remove the children that this run has made."""
        self._remove(self._made)
        self._made.clear()

    def _remove(self, names: t.Sequence[str], deadline: Deadline | None = None) -> None:
        if not names:
            return
        order = absent.Order("absent", deadline or self.deadline, check_mode=False, warn=self.warn)
        results = absent.remove_named(self.parent, [ChildSpec(name) for name in names], order)
        failed = [result for result in results if result.state is State.FAILED]
        if failed:
            raise _errors.OperationFailed(failed[0].error or f"Could not remove child {failed[0].name}.")

    # --- the guest --------------------------------------------------------------------------------------------------

    def guest(self, vm: t.Any = None) -> Guest:
        """Return the guest of the VM or of a child, ready for programs."""
        if self.login is None:
            raise NotAsked("guest")
        family = families.of(self.parent.values)
        if family.is_windows:
            raise NotAsked("posix")
        patience = Deadline(min(GUEST_SECONDS, self.deadline.remaining))
        inside = Guest(self.session, patience, vm or self.vm, self.parent.name, self.login, family)
        inside.await_ready()
        return inside

    def in_guest(self, command: str, vm: t.Any = None) -> int | None:
        """Run a shell command in a guest, and return its exit code. The function ``tools`` calls VMware Tools."""
        inside = self.guest(vm)
        script = f"{_TOOLS}\n{command}".replace("'", "'\\''")
        return inside.await_exit(inside.start(inside.family.shell, f"-c '{script}'"))

    def guest_processes(self) -> Outcome:
        """Ask for the processes of the guest once, without waiting until it answers."""
        if self.login is None:
            raise NotAsked("guest")
        manager = self.session.content.guestOperationsManager
        processes = _properties.read(self.session, [manager], ["processManager"])[manager]["processManager"]
        auth = vim.vm.guest.NamePasswordAuthentication(
            username=self.login.username, password=self.login.password, interactiveSession=False
        )
        return self.call(processes.ListProcessesInGuest, vm=self.vm, auth=auth)

    # --- vApp options -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def vapp_property(self, **info: t.Any) -> t.Iterator[Outcome]:
        """Give the VM vApp options with one property for the block.

        :returns: the end of the request that adds them.
        """
        if self.read(VAPP).get(VAPP) is not None:
            raise NotAsked("vapp")
        try:
            yield self.edit_property("add", **info)
        finally:
            self._remove_vapp()

    def _remove_vapp(self) -> None:
        """Remove the vApp options again; vCenter may refuse that while the VM is running."""
        if self.read(VAPP).get(VAPP) is None or self.reconfigure(vAppConfigRemoved=True).succeeded:
            return
        self.off()
        self.need(self.reconfigure(vAppConfigRemoved=True))

    def edit_property(self, operation: str, **info: t.Any) -> Outcome:
        """Add or edit the property of :meth:`vapp_property`."""
        prop = vim.vApp.PropertyInfo(**{"key": 0, "id": PROPERTY, **info})
        change = vim.vApp.PropertySpec(operation=operation, info=prop)
        options = vim.vApp.VmConfigSpec(property=[change], ovfEnvironmentTransport=["com.vmware.guestInfo"])
        return self.reconfigure(vAppConfig=options)

    # --- before and after -------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Return the names of children that an interrupted run has left.

        :raises _errors.Refused: the VM is not one that may be used.
        """
        name, values = self.parent.name, self.parent.values
        mark = self._mark()
        if identity.own_record(values) is not None:
            raise _errors.Refused(f"{_REFUSED.format(name)}: it is a child itself. Use an ordinary VM.")
        if str(values.get("runtime.powerState")) == "suspended":
            raise _errors.Refused(f"{_REFUSED.format(name)}: it is suspended. Resume it or power it off.")
        if mark is None and (self.parent.engine.is_enabled(values) or self.parent.is_quiesced):
            raise _errors.Refused(
                f"{_REFUSED.format(name)}: it is a fork parent. Use a VM that nothing else needs, or disable it with "
                "vmfork_parent."
            )
        others = [
            found.name
            for found, _verdict in parents.children(self.parent, self.deadline, self.warn)
            if not is_child_name(name, found.name)
        ]
        if others:
            raise _errors.Refused(
                f"{_REFUSED.format(name)}: it has children that the run has not made ({', '.join(sorted(others))}). "
                "Use a VM without children."
            )
        return [left for left, _vm, _values in self._leftovers(mark)]

    def _leftovers(self, mark: tuple[str, str] | None) -> list[tuple[str, t.Any, _properties.Values]]:
        """Return the VMs that an interrupted run has left.

        :raises _errors.Refused: a VM has the name of such a child, and is not one.
        """
        paths = [*identity.SCAN_PATHS, _extra_config.path(guestinfo.CHILD_NONCE)]
        everyone = _properties.scan(self.session, self.session.content.rootFolder, vim.VirtualMachine, paths)
        shared = identity.shared_uuids(everyone.values())
        found = []
        for vm, values in everyone.items():
            name = _inventory.unescape(values.get("name", ""))
            if not is_child_name(self.parent.name, name):
                continue
            is_ours = identity.judge(self.parent.values, values, shared=shared).is_child
            if not is_ours and (mark is None or not identity.has_mark(values, mark[0], None)):
                raise _errors.Refused(
                    f"{_REFUSED.format(self.parent.name)}: VM {name} has the name of a child of an earlier run, but "
                    "no record of that. Rename it, or remove it if it is no longer needed."
                )
            found.append((name, vm, values))
        return found

    def _mark(self) -> tuple[str, str] | None:
        """Return the nonce and the power state of an interrupted run, if the VM has its mark."""
        parts = _extra_config.mapping(self.parent.values).get(MARK, "").split(" ")
        return (parts[0], parts[1]) if len(parts) == 2 else None

    def begin(self) -> None:
        """Remove what an interrupted run has left, and mark the VM.

        :raises _errors.Refused: see :meth:`check`.
        """
        self.check()
        mark = self._mark()
        self._nonce, self._was = guestinfo.new_nonce(), str(self.parent.values.get("runtime.powerState"))
        if mark is not None:
            self._nonce, self._was = mark
            left = self._leftovers(mark)
            for _name, vm, _values in left:
                self._ensure_record(vm)
            self._remove([name for name, _vm, _values in left])
            self.restore()
        self._set({MARK: f"{self._nonce} {self._was}"})

    def restore(self) -> None:
        """Remove the children, and restore the state that the VM had before the run.

        :raises _errors.Error: it could not be restored. The next run continues.
        """
        with self.session.clean_up(RESTORE_SECONDS) as rest:
            before, self.deadline = self.deadline, rest if self.deadline.passed else self.deadline
            try:
                self.plain()
                keys = _extra_config.mapping(self.read(_extra_config.PATH))
                self._set({key: "" for key in KEYS if key in keys}, self._has_our_vapp())
                if self.parent.is_on and self._was != "poweredOn":
                    _power.off(self.session, self.deadline, self.vm, self.parent.name)
                elif not self.parent.is_on and self._was == "poweredOn":
                    _power.on(self.session, self.deadline, self.vm, self.parent.name)
                self._set({MARK: ""})
                self.parent.refresh()
            finally:
                self.deadline = before

    def _set(self, keys: t.Mapping[str, str], without_vapp: bool = False) -> None:
        if keys or without_vapp:
            spec = _extra_config.spec(keys, vAppConfigRemoved=True if without_vapp else None)
            what = f"Could not change the settings of VM {self.parent.name}"
            _tasks.run(self.session, self.deadline, what, self.vm.ReconfigVM_Task, spec)

    def _has_our_vapp(self) -> bool:
        """Return whether the VM has the vApp options of a question that was interrupted."""
        props = getattr(self.read(VAPP).get(VAPP), "property", None) or []
        return [prop.id for prop in props] == [PROPERTY]


_REFUSED = "VM {} is not used for the conformance run"

_TOOLS = (
    'tools() { if command -v vmware-rpctool >/dev/null 2>&1; then vmware-rpctool "$1"; else vmtoolsd --cmd "$1"; fi; }'
)


def kind(event: t.Any) -> str:
    """Return the type of an event without its package."""
    return type(event).__name__.rpartition(".")[2]


def first_adapter(values: _properties.Values) -> t.Any:
    """Return the first network adapter of a VM.

    :raises NotAsked: it has none.
    """
    adapters = _devices.adapters(values)
    if not adapters:
        raise NotAsked("adapter")
    return adapters[0]
