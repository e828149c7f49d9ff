# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make children be there, or be gone: what ``vmfork_child`` does, without Ansible.

Private to the collection.
"""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _inventory,
    _power,
    _privileges,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import (
    facts,
    identity,
    networks,
    pipeline,
    port_groups,
    survey,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.executor import Executor, creation
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.pipeline import Request
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.wanted import Wanted
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

REMOVE_SECONDS = 120
"""Time to remove failed children when the task's own time may be over."""


MOST_DISKS, MANY_DISKS = 255, 100
"""Delta disks of a VM: how many there can be, and how many make vSphere warn (KB 67186)."""


@dataclass(frozen=True)
class How:
    """How children are made.

    :param concurrency: how many at a time.
    :param allow_running_parent: also of a parent that does not stand at its fork point.
    """

    concurrency: int
    check_mode: bool
    allow_running_parent: bool = False


@dataclass
class Result:
    """What became of one child.

    :param state: ``created``, ``existing``, ``removed``, ``absent`` or ``failed``.
    :param before: its power state before the task, ``None`` when it was not there.
    """

    name: str
    state: str
    before: str | None = None
    changed: bool = False
    facts: dict[str, t.Any] = field(default_factory=dict)
    child: pipeline.Child | None = None
    seconds: float = 0.0
    error: str | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """The entry in the ``children`` return value."""
        child = self.child
        ended = child.report if child is not None else None
        return {
            **self.facts,
            "state": self.state,
            "config_params": child.shown_params if child is not None else {},
            "secrets_cleared": bool(child is not None and child.secrets_cleared),
            "post_clone": {
                "done": ended is not None,
                "exit_code": ended.exit_code if ended is not None else None,
                "output": ended.output if ended is not None else None,
            },
            "seconds": self.seconds,
            "error": self.error,
        }


class Places:
    """Where children go, by what the task names: folders at once, the rest for children that are to be made.

    :ivar defaults: where the others go, if that is to be said: arguments of a VirtualMachineRelocateSpec.
    :ivar networks: the networks that are named for children which are to be made.
    """

    def __init__(self, parent: Parent, wanted: t.Sequence[Wanted]) -> None:
        self._parent = parent
        self.defaults: dict[str, t.Any] = {}
        self.networks = port_groups.Found()
        self._folders: dict[str, t.Any] = {}
        self._datastores: dict[str, t.Any] = {}
        self._pools: dict[str, t.Any] = {}
        for path in dict.fromkeys(one.folder for one in wanted if one.folder is not None):
            self._folders[path] = _inventory.find_folder(parent.session, path, parent.found.datacenter)

    def look_up(self, missing: t.Sequence[Wanted]) -> None:
        """Look up the datastores, resource pools and networks of children that are to be made."""
        session, datacenter = self._parent.session, self._parent.found.datacenter
        datastores = {one.datastore for one in missing if one.datastore is not None}
        pools = {one.resource_pool for one in missing if one.resource_pool is not None}
        self._datastores = _inventory.find_each_named(session, vim.Datastore, "datastore", datastores, datacenter)
        self._pools = _inventory.find_each_named(session, vim.ResourcePool, "resource pool", pools, datacenter)
        self.networks = port_groups.find(self._parent, missing)

    def folder_of(self, wanted: Wanted) -> t.Any:
        """The folder a child is to be in; the parent's when the task names none."""
        return self._folders[wanted.folder] if wanted.folder is not None else self._parent.found.folder

    def folder(self, child: pipeline.Child) -> t.Any:
        """See :class:`executor.Places`."""
        return self.folder_of(child.wanted)

    def location(self, child: pipeline.Child) -> dict[str, t.Any]:
        """See :class:`executor.Places`."""
        wanted = child.wanted
        places = {
            "folder": self.folder_of(wanted),
            "datastore": self._datastores.get(wanted.datastore or ""),
            "pool": self._pools.get(wanted.resource_pool or ""),
        }
        return {**self.defaults, **{name: place for name, place in places.items() if place is not None}}

    def device_changes(self, child: pipeline.Child) -> list[t.Any]:
        """See :class:`executor.Places`."""
        return networks.device_changes(self._parent.values, child.wanted.networks, self.networks.backings)

    def networks_of(self, child: pipeline.Child) -> list[t.Any]:
        """The networks that are named for a child."""
        named = dict.fromkeys(one.network for one in child.wanted.networks if one.network is not None)
        return [self.networks.objects[name] for name in named]


# --- present --------------------------------------------------------------------------------------------------------


def make(
    parent: Parent,
    wanted: t.Sequence[Wanted],
    goal: pipeline.Goal,
    deadline: Deadline,
    how: How,
    warn: t.Callable[[str], None],
) -> list[Result]:
    """Make the children that are missing, and bring all to the goal.

    :raises _errors.BadInput: children are missing, and the parent cannot be forked as it is.
    """
    parent.engine.check(wanted, how.allow_running_parent)
    for one in wanted:
        networks.check_against_parent(parent.name, parent.values, one.networks)
    places = Places(parent, wanted)
    folders = {one.name: places.folder_of(one) for one in wanted}
    standings = survey.look(parent, deadline, folders, {one.name: one.bios_uuid for one in wanted})
    refused = {one.name: _refusal(one, standings[one.name]) for one in wanted}
    missing = [one for one in wanted if standings[one.name].found is None and refused[one.name] is None]
    obstacle = _obstacle(parent, goal, how, len(missing), warn) if missing else None
    if obstacle is not None:
        if not how.check_mode:
            raise _errors.BadInput(obstacle)
        warn(obstacle)
    if missing and (how.check_mode or parent.engine.is_born_running):
        places.defaults = _places_of(parent)
    if missing:
        places.look_up(missing)
        goal = replace(goal, backings=places.networks.backings)
        refused.update(port_groups.shortages(parent, missing, places.networks))
    ways = {one.name: _way(one, goal, standings[one.name]) for one in wanted if refused[one.name] is None}
    if how.check_mode:
        done, seconds = _foresee(parent, places, ways, deadline, obstacle is None, warn), {}
    else:
        executor = Executor(parent, places, deadline, how.concurrency)
        done = {child.name: child for child in executor.run(ways.values())}
        seconds = executor.seconds
    results = []
    for one in wanted:
        standing, child = standings[one.name], done.get(one.name)
        results.append(
            Result(
                one.name,
                state=_state(child),
                before=_power_state(standing),
                changed=child is not None and child.changed,
                child=child,
                seconds=seconds.get(one.name, 0.0),
                error=refused[one.name] if child is None else child.error,
            )
        )
    _describe(parent, places, results, warn)
    return results


def _obstacle(parent: Parent, goal: pipeline.Goal, how: How, missing: int, warn: t.Callable[[str], None]) -> str | None:
    """Why children cannot be made of the parent as it is, as a whole sentence."""
    if parent.is_quiesced:
        return None
    if not how.allow_running_parent:
        return (
            f"VM {parent.name} does not stand at its fork point, and children can be made of it only then. "
            "Bring it there with vmfork_quiesce."
        )
    if not parent.is_on:
        return f"VM {parent.name} is powered off, and children can be made of a running VM only. Power it on."
    if goal.wait_for == "post_clone":
        return (
            f"VM {parent.name} does not stand at its fork point, so no post-clone script begins in its children, and "
            "wait_for=post_clone would wait in vain. Use another wait_for, or quiesce the parent with vmfork_quiesce."
        )
    longest = _longest_chain(parent)
    if longest + missing > MOST_DISKS:
        return (
            f"The disk chain of VM {parent.name} is {longest} long, and each of the {missing} children adds a delta "
            f"disk to it while the VM runs: {MOST_DISKS} are the most. Quiesce the parent with vmfork_quiesce, whose "
            "children add none."
        )
    if longest + missing > MANY_DISKS:
        warn(
            f"The disk chain of VM {parent.name} grows to {longest + missing} delta disks, which makes it slow. "
            "Children of a parent that was quiesced with vmfork_quiesce add none."
        )
    return None


def _longest_chain(parent: Parent) -> int:
    layout = _properties.read(parent.session, [parent.vm], ["layoutEx"]).get(parent.vm, {}).get("layoutEx")
    return max((len(disk.chain or []) for disk in getattr(layout, "disk", None) or []), default=0)


def _foresee(
    parent: Parent,
    places: Places,
    ways: t.Mapping[str, pipeline.Next],
    deadline: Deadline,
    is_ready: bool,
    warn: t.Callable[[str], None],
) -> dict[str, pipeline.Child]:
    """What would become of the children, as far as the server tells beforehand.

    :param is_ready: children can be made of the parent as it is.
    """
    if not parent.engine.is_born_running:
        _warn_of_snapshot(parent, ways, warn)
    steps = {name: _steps(parent, places, child, request) for name, (child, request) in ways.items()}
    refused = _privileges.refusals(parent.session, steps)
    created = [child for child, request in ways.values() if request is Request.CREATE and child.name not in refused]
    told = _ask_beforehand(parent, places, created, deadline, warn)
    if is_ready:
        refused.update(told)
    else:
        for error in told.values():
            warn(error.sentence)  # it may be true until an earlier task of the play has done its work only
    return {
        name: replace(child, step=pipeline.Step.FAILED, error=refused[name].sentence)
        if name in refused
        else replace(child, changed=request not in (None, Request.NOTE))
        for name, (child, request) in ways.items()
    }


def _warn_of_snapshot(parent: Parent, ways: t.Mapping[str, pipeline.Next], warn: t.Callable[[str], None]) -> None:
    if any(child.wanted.persistent and request is Request.CREATE for child, request in ways.values()):
        now = _properties.read(parent.session, [parent.vm], ["snapshot"])
        if "snapshot" not in now.get(parent.vm, {}):
            warn(
                f"VM {parent.name} has no snapshot, and persistent children can be made of it only then. "
                "Take one first."
            )


def _ask_beforehand(
    parent: Parent,
    places: Places,
    created: t.Sequence[pipeline.Child],
    deadline: Deadline,
    warn: t.Callable[[str], None],
) -> dict[str, _errors.Error]:
    """For each child that the server would not make, its error; its warnings are passed on."""
    jobs: dict[t.Any, _tasks.Job] = {}
    for child in created if parent.engine.can_foresee else ():
        ask = functools.partial(parent.engine.foresee, parent.vm, creation(child, places))
        jobs[child.name] = ("Could not ask vCenter beforehand", ask)
    refused: dict[str, _errors.Error] = {}
    remarks: dict[str, list[str]] = {}
    for name, outcome in (_tasks.collect(parent.session, deadline, jobs) if jobs else {}).items():
        if isinstance(outcome, _errors.Error):
            remarks.setdefault(outcome.sentence, []).append(name)
            continue
        for result in outcome or []:
            for fault in result.warning or []:
                remarks.setdefault(f"vCenter warns: {_errors.fault_text(fault)}.", []).append(name)
            for fault in result.error or []:
                refused.setdefault(name, _errors.failure(f"{Request.CREATE.value} {name}", fault))
    for remark, names in remarks.items():
        warn(f"{', '.join(names)}: {remark}")
    return refused


def _places_of(parent: Parent) -> dict[str, t.Any]:
    """Where children go by default."""
    values = _properties.read(parent.session, [parent.vm], ["datastore", "resourcePool"]).get(parent.vm, {})
    home = facts.datastore_name(parent.values)  # others may hold no more than an ISO image
    datastores = _inventory.names(parent.session, values.get("datastore") or [])
    found = {
        "pool": values.get("resourcePool"),
        "datastore": next((one for one, name in datastores.items() if name == home), None),
    }
    return {name: place for name, place in found.items() if place is not None}


def _steps(parent: Parent, places: Places, child: pipeline.Child, request: Request | None) -> list[_privileges.Step]:
    """The calls that a child still needs."""
    where = {name: (place,) for name, place in places.location(child).items()}
    # A VM takes its permissions from its folder and from its resource pool.
    vm = (child.vm,) if child.vm is not None else (*where.get("folder", ()), *where.get("pool", ()))
    steps = []
    for one in pipeline.ahead(child, request):
        what = f"{one.value} {child.name}"
        if one is Request.CREATE:
            steps.append(_privileges.Step(what, parent.engine.create_method, vm=(parent.vm,), **where))
            if child.goal.is_born_running:
                steps.append(_privileges.Step(what, "PowerOnVM_Task", vm=vm))
            steps += [
                _privileges.Step(what, "InstantClone_Task network", network=(network,))
                for network in places.networks_of(child)
            ]
        elif one is Request.POWER_ON:
            steps.append(_privileges.Step(what, "PowerOnVM_Task", vm=vm))
        elif one is Request.CONNECT:
            steps.append(_privileges.Step(what, "ReconfigVM_Task device", vm=vm))
            steps.append(_privileges.Step(what, "ReconfigVM_Task connectable", vm=vm))
        else:
            steps.append(_privileges.Step(what, "ReconfigVM_Task extraConfig", vm=vm))
        if one is Request.RECORD and child.new_bios_uuid is not None:
            steps.append(_privileges.Step(what, "ReconfigVM_Task uuid", vm=vm))
    return steps


def _refusal(wanted: Wanted, standing: survey.Standing) -> str | None:
    """Why this child cannot be: its name is taken."""
    if standing.error is not None:
        return standing.error
    if standing.found is None or standing.verdict is None or standing.verdict.is_child:
        return None
    if identity.is_half_made(standing.verdict, standing.found.values):
        return None  # a task of ours was cut short before it ever ran: it is finished now
    return survey.stranger(wanted.name, standing, "is left alone")


def _way(wanted: Wanted, goal: pipeline.Goal, standing: survey.Standing) -> pipeline.Next:
    if standing.found is None:
        return pipeline.begin(wanted, goal)
    return pipeline.resume(wanted, goal, standing.found.vm, standing.found.values)


def _state(child: pipeline.Child | None) -> str:
    if child is None or child.error is not None:
        return "failed"
    return "existing" if child.existed else "created"


def _power_state(standing: survey.Standing) -> str | None:
    return str(standing.found.values.get("runtime.powerState")) if standing.found is not None else None


def _describe(parent: Parent, places: Places, results: t.Sequence[Result], warn: t.Callable[[str], None]) -> None:
    """Fill in what the children's VMs are like now: two requests for any number.

    When the server is lost the children are told all the same, by what is known of them.
    """
    try:
        _read_facts(parent, places, results, warn)
    except (_errors.Error, vmodl.MethodFault):
        for result in results:
            vm = result.child.vm if result.child is not None else None
            result.facts = {
                **facts.no_vm(result.name, parent.engine),
                "moid": vm._GetMoId() if vm is not None else None,
            }


def _read_facts(parent: Parent, places: Places, results: t.Sequence[Result], warn: t.Callable[[str], None]) -> None:
    vms = [one.child.vm for one in results if one.child is not None and one.child.vm is not None]
    found = {one.vm: one for one in _inventory.locate(parent.session, vms, parents.paths(parent.engine))}
    hosts = {one.values["runtime.host"] for one in found.values() if one.values.get("runtime.host") is not None}
    host_names = _inventory.names(parent.session, hosts)
    for result in results:
        now = found.get(result.child.vm) if result.child is not None else None
        if now is None:
            result.facts = facts.no_vm(result.name, parent.engine)
            continue
        host_name = host_names.get(now.values.get("runtime.host"))
        result.facts = facts.child(now, parent.engine, host_name, parent.values)
        asked = places.folder(t.cast(pipeline.Child, result.child))
        if result.state == "created" and asked is not None and now.folder != asked:
            # The sources contradict each other on whether a server follows the folder that it is given.
            warn(
                f"Child {result.name} is in {result.facts['folder']}: vCenter did not put it into the folder asked for."
            )


# --- absent ---------------------------------------------------------------------------------------------------------


def remove_named(parent: Parent, wanted: t.Sequence[Wanted], deadline: Deadline, check_mode: bool) -> list[Result]:
    """Make the named children be gone; a stranger of that name is an error and is left alone."""
    places = Places(parent, wanted)
    standings = survey.look(parent, deadline, {one.name: places.folder_of(one) for one in wanted})
    results = []
    for one in wanted:
        standing = standings[one.name]
        error = standing.error
        if standing.verdict is not None and not standing.verdict.is_child:
            error = survey.stranger(one.name, standing, "is not removed")
        if error is not None:
            results.append(Result(one.name, "failed", facts=facts.no_vm(one.name, parent.engine), error=error))
        elif standing.found is None:
            results.append(Result(one.name, "absent", facts=facts.no_vm(one.name, parent.engine)))
        else:
            results.append(_to_be_removed(parent, standing.found))
    _remove(parent, results, deadline, check_mode)
    return results


def remove_all(parent: Parent, deadline: Deadline, check_mode: bool) -> list[Result]:
    """Make every child of this parent that we recorded be gone."""
    results = []
    for found, verdict in sorted(parents.children(parent, deadline), key=lambda each: each[0].name):
        if verdict.is_child:
            results.append(_to_be_removed(parent, found))
        elif verdict.kinship is identity.Kinship.DOUBLE:
            error = survey.stranger(found.name, survey.Standing(found, verdict), "is not removed")
            described = facts.child(found, parent.engine, None, parent.values)
            results.append(Result(found.name, "failed", facts=described, error=error))
    _remove(parent, results, deadline, check_mode)
    return results


def remove_failed(parent: Parent, results: t.Sequence[Result]) -> None:
    """Remove the children that this task made and that failed (``on_failure: remove``)."""
    failed = [
        one
        for one in results
        if one.state == "failed" and one.child is not None and not one.child.existed and one.child.vm is not None
    ]
    for one in results:
        if one.state == "failed" and one.changed and one.child is not None and one.child.vm is None:
            one.error = f"{one.error} What may appear yet is not removed."
    made = {one.child.vm for one in failed if one.child is not None}
    errors, powered_off = _destroy(
        parent, {one.child.vm: one.name for one in failed if one.child is not None}, Deadline(REMOVE_SECONDS), made
    )
    for one in failed:
        vm = one.child.vm if one.child is not None else None
        problem = errors.get(vm)
        one.error = f"{one.error} {problem.sentence if problem else 'The child was removed.'}"
        if problem is None:
            one.facts = facts.no_vm(one.name, parent.engine)
        elif vm in powered_off:
            one.facts["power_state"] = "poweredOff"


def _to_be_removed(parent: Parent, found: _inventory.Found) -> Result:
    return Result(
        found.name,
        "removed",
        before=str(found.values.get("runtime.powerState")),
        changed=True,
        facts={**facts.child(found, parent.engine, None, parent.values), "vm": found.vm},
    )


def _remove(parent: Parent, results: t.Sequence[Result], deadline: Deadline, check_mode: bool) -> None:
    doomed = {one.facts.pop("vm"): one for one in results if one.state == "removed"}
    powered_off: set[t.Any] = set()
    if check_mode:
        errors = _privileges.refusals(parent.session, _steps_of_removal(doomed))
    else:
        errors, powered_off = _destroy(parent, {vm: one.name for vm, one in doomed.items()}, deadline, set())
    for vm, one in doomed.items():
        problem = errors.get(vm)
        if problem is not None:
            one.state, one.error = "failed", problem.sentence
            one.changed = vm in powered_off or isinstance(problem, _errors.NotEnded)
            if vm in powered_off:
                one.facts["power_state"] = "poweredOff"


def _steps_of_removal(doomed: t.Mapping[t.Any, Result]) -> dict[t.Any, list[_privileges.Step]]:
    steps: dict[t.Any, list[_privileges.Step]] = {}
    for vm, one in doomed.items():
        steps[vm] = [_privileges.Step(f"Could not remove child {one.name}", "Destroy_Task", vm=(vm,))]
        if one.before == "poweredOn":
            steps[vm].insert(0, _privileges.Step(f"Could not power off child {one.name}", "PowerOffVM_Task", vm=(vm,)))
    return steps


def _destroy(
    parent: Parent, names: t.Mapping[t.Any, str], deadline: Deadline, made_here: set[t.Any]
) -> tuple[dict[t.Any, _errors.Error], set[t.Any]]:
    """Power off and destroy; before each of the two, every VM is judged once more.

    :param made_here: VMs that this very task saw the server make; they need no record yet.
    :returns: the errors, and the VMs that were powered off.
    """
    errors: dict[t.Any, _errors.Error] = {}
    off = {
        vm: (f"Could not power off child {names[vm]}", vm.PowerOffVM_Task)
        for vm, values in _still_ours(parent, names, made_here, errors).items()
        if _power.is_on(values)
    }
    _run(parent, deadline, off, errors, _off)
    left = {vm: name for vm, name in names.items() if vm not in errors}
    powered_off = set(off) & set(left)
    gone = {
        vm: (f"Could not remove child {names[vm]}", vm.Destroy_Task)
        for vm in _still_ours(parent, left, made_here, errors)
    }
    _run(parent, deadline, gone, errors, _gone)
    return errors, powered_off


def _run(
    parent: Parent,
    deadline: Deadline,
    jobs: t.Mapping[t.Any, _tasks.Job],
    errors: dict[t.Any, _errors.Error],
    done: t.Callable[[dict[t.Any, _properties.Values], t.Any], bool],
) -> None:
    """Run tasks on VMs, and note the errors of those that are not as they were to be.

    An answer that was lost says nothing of what was done, so the VMs are looked at.
    """
    outcomes = _tasks.run_all(parent.session, deadline, jobs)
    failed = {vm: error for vm, error in outcomes.items() if error is not None}
    if not failed:
        return
    try:
        _tasks.await_recent(parent.session, deadline, failed)
        now = _properties.read(parent.session, failed, ["runtime.powerState"])
        failed = {vm: error for vm, error in failed.items() if not done(now, vm)}
    except (_errors.Error, vmodl.MethodFault):
        pass  # who cannot look has the errors
    errors.update(failed)


def _off(now: dict[t.Any, _properties.Values], vm: t.Any) -> bool:
    return not _power.is_on(now.get(vm, {}))


def _gone(now: dict[t.Any, _properties.Values], vm: t.Any) -> bool:
    return vm not in now


def _still_ours(
    parent: Parent, names: t.Mapping[t.Any, str], made_here: set[t.Any], errors: dict[t.Any, _errors.Error]
) -> dict[t.Any, _properties.Values]:
    """Read the VMs again and keep those that are ours; VMs that are gone need nothing more."""
    result: dict[t.Any, _properties.Values] = {}
    try:
        now = _properties.read(parent.session, names, [*identity.PATHS, "runtime.powerState"])
    except (_errors.Error, vmodl.MethodFault) as trouble:
        errors.update({vm: _errors.failure(f"Could not look at child {name}", trouble) for vm, name in names.items()})
        return result
    for vm, values in now.items():
        verdict = identity.judge(parent.values, values)
        if verdict.is_child or (vm in made_here and identity.record_of(values) is None):
            result[vm] = values
        else:
            errors[vm] = _errors.Refused(
                f"VM {names[vm]} ({vm._GetMoId()}) is not removed: {verdict.why}. Look at it in vCenter."
            )
    return result
