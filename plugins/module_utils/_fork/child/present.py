# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create missing children and bring all to their goal: ``state=present`` of ``vmfork_child``, without Ansible.

Private to the collection. ``absent.py`` removes them.
"""

from __future__ import annotations

import datetime
import functools
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _inventory,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts, guestinfo, identity, identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import (
    addresses,
    existing,
    networks,
    port_groups,
    transitions,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.executor import (
    ADDRESS_SECONDS,
    CLEAR_SECONDS,
    Executor,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement, find_folders, place
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result, State
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent

if t.TYPE_CHECKING:  # Ansible compiles what is imported in every task
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.preflight import Judgement


@dataclass(frozen=True)
class CreateOptions:
    """How to create children.

    :param wait_for: one of :data:`transitions.GOALS`.
    :param network: addresses outside of it do not count.
    :param concurrency: how many children to create at a time.
    :param allow_running_parent: whether the parent may be running and not at its fork point.
    :param address_timeout: in seconds; see :data:`executor.ADDRESS_SECONDS`.
    """

    wait_for: str
    concurrency: int
    network: facts.IPNetwork | None = None
    allow_running_parent: bool = False
    address_timeout: float = ADDRESS_SECONDS


@dataclass
class _Plan:
    """The plan for one child.

    :param existing: the VM that has its name.
    :param refusal: why the child cannot exist, as a sentence.
    :param child: the child after the task; ``None`` if it was refused.
    """

    spec: ChildSpec
    existing: existing.ExistingVm
    refusal: str | None
    child: transitions.Child | None = None
    seconds: float = 0.0
    timeline: t.Mapping[str, float | None] = field(default_factory=dict)

    @property
    def is_missing(self) -> bool:
        """Return whether the child must be created."""
        return self.existing.found is None and self.refusal is None

    def transition(self, goal: transitions.Goal) -> transitions.Transition:
        """Return the child's first transition."""
        found = self.existing.found
        if found is None:
            return transitions.begin(self.spec, goal)
        return transitions.resume(self.spec, goal, found.vm, found.values)

    def result(self) -> Result:
        """Return the result of the child, without its VM's current properties."""
        found, child = self.existing.found, self.child
        result = Result(
            self.spec.name,
            State.FAILED,
            before=str(found.values.get("runtime.powerState")) if found is not None else None,
            child=child,
            seconds=self.seconds,
            timeline=self.timeline,
            error=self.refusal,
        )
        if child is not None:
            result.vm, result.changed, result.error = child.vm, child.changed, child.error
            if child.error is None:
                result.state = State.EXISTING if child.existed else State.CREATED
        return result


def paths_of_all(specs: t.Sequence[ChildSpec]) -> tuple[str, ...]:
    """Return the properties to read from every VM of the server."""
    return (*existing.PATHS, *addresses.paths(specs))


class Ensured(t.NamedTuple):
    """The results of the children, and in check mode the judgement whether the missing ones can be created."""

    results: list[Result]
    preflight: Judgement | None = None


def ensure_present(
    parent: Parent,
    specs: t.Sequence[ChildSpec],
    options: CreateOptions,
    deadline: Deadline,
    check_mode: bool,
    warn: t.Callable[[str], None],
    everyone: _inventory.Everyone | None = None,
) -> Ensured:
    """Create the missing children, and bring all of them to the goal.

    :param everyone: the VMs of the server, with :func:`paths_of_all`.

    :raises _errors.BadInput: children are missing, and the parent cannot be forked in its current state.
    """
    everyone = everyone or _inventory.Everyone(parent.session, paths_of_all(specs))
    parent.engine.check(specs, options.allow_running_parent)
    for spec in specs:
        networks.check_against_parent(parent.name, parent.values, spec.networks)
    folders = find_folders(parent, specs)
    uuids = {spec.name: spec.bios_uuid for spec in specs}
    by_name = existing.find_existing(parent, deadline, folders, uuids, everyone)
    plans = [_Plan(spec, by_name[spec.name], refusal(spec, by_name[spec.name], parent)) for spec in specs]
    missing = [plan.spec for plan in plans if plan.is_missing]
    _refuse_without_identity_script(parent, missing)
    is_ready = not missing or _is_ready(parent, options, len(missing), check_mode, warn)
    placement = place(parent, folders, missing, with_defaults=check_mode or parent.engine.needs_location)
    refusals = tuple(plan.refusal for plan in plans if plan.refusal is not None)
    if missing:
        found = conflicts(parent, missing, everyone.read(), placement)
        for warning in found.warnings:
            warn(warning)
        if found.refused:
            raise _errors.BadInput(" ".join(found.refused))
        ports = port_groups.ports(parent, missing, placement.networks)
        for plan in plans:
            plan.refusal = plan.refusal or ports.shortages.get(plan.spec.name)
    goal = transitions.Goal(options.wait_for, parent.values, parent.engine, options.network, placement.networks.shown)
    begun = [plan.transition(goal) for plan in plans if plan.refusal is None]
    judgement = None
    seconds: t.Mapping[str, float] = {}
    timelines: t.Mapping[str, t.Mapping[str, float | None]] = {}
    if check_mode:
        # Ansible compiles what is imported in every task.
        from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.check_mode import predict
        from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.preflight_facts import Known

        known = None
        if missing:
            there = len(plans) - len(missing) - len(refusals)
            known = Known(missing, True, there, refusals, found, ports, options.allow_running_parent)
        children, judgement = predict(parent, placement, begun, known, deadline, is_ready, warn)
    else:
        before = everyone.read() if specs else {}
        executor = Executor(parent, placement, deadline, options.concurrency, before, options.address_timeout)
        children = executor.run(begun)
        seconds, timelines = executor.seconds, executor.timelines
        for warning in (warning for child in children for warning in child.warnings):
            warn(warning)
        _warn_of_clocks(parent, children, warn)
    children = _without_duplicates(children)
    if not check_mode:
        children = _with_refusals(parent, children)
    ended = {child.name: child for child in children}
    for plan in plans:
        plan.child, plan.seconds = ended.get(plan.spec.name), seconds.get(plan.spec.name, 0.0)
        plan.timeline = timelines.get(plan.spec.name, {})
    results = [plan.result() for plan in plans]
    nothing_to_do = all(child.is_finished for child, _request in begun)
    as_found = [plan.existing.found for plan in plans if plan.existing.found is not None]
    _describe(parent, placement, results, warn, as_found if nothing_to_do else None)
    return Ensured(results, judgement)


def _without_duplicates(children: t.Sequence[transitions.Child]) -> list[transitions.Child]:
    """Fail the children that have a machine ID or an SSH host key of another child, which only one may have."""
    reports = {child.name: report for child in children if (report := child.own_identity.report) is not None}
    clashes = identity_report.duplicates(reports)
    return [transitions.clashing(child, clashes[child.name]) if child.name in clashes else child for child in children]


def _with_refusals(parent: Parent, children: t.Sequence[transitions.Child]) -> list[transitions.Child]:
    """Record on the clashing children that their identity is refused, in place of one that was accepted before."""
    jobs: dict[str, _tasks.Job] = {}
    for child in children:
        if child.clash is not None and child.vm is not None and child.nonce and not child.own_identity.is_refused:
            spec = _extra_config.spec(guestinfo.refusal(child.nonce))
            what = f"Could not record that the identity of child {child.name} is refused"
            jobs[child.name] = (what, functools.partial(child.vm.ReconfigVM_Task, spec))
    if not jobs:
        return list(children)
    errors: t.Mapping[str, _errors.Error | None]
    try:
        with parent.session.clean_up(CLEAR_SECONDS) as deadline:
            errors = _tasks.run_all(parent.session, deadline, jobs)
    except _errors.Error as error:
        errors = dict.fromkeys(jobs, error)
    return [
        replace(child, error=f"{child.error} {failure.sentence}") if (failure := errors.get(child.name)) else child
        for child in children
    ]


OLD = datetime.timedelta(hours=24)
"""How wrong a clock must be for a warning: certificates may not be valid then."""


def _warn_of_clocks(parent: Parent, children: t.Sequence[transitions.Child], warn: t.Callable[[str], None]) -> None:
    """Warn about new children whose clock no identity script has set, if the parent's stopped at a very different time.

    A child's clock begins where the parent's stopped, so the guest's own time at the fork point is what counts, whether
    it was right then or not. It is compared with the server's time, which the login has returned.
    """
    extra_config = _extra_config.mapping(parent.values)
    # Without a record of scripts, the time is outdated.
    is_known = parent.is_quiesced and guestinfo.scripts(extra_config) is not None
    stopped_at = guestinfo.announced_at(extra_config) if is_known else None
    names = [child.name for child in children if not child.existed and child.vm is not None and child.lacks_clock]
    if stopped_at is None or not names:
        return
    now = parent.session.login_time or datetime.datetime.now(datetime.timezone.utc)
    if abs(now - stopped_at) > OLD:
        warn(
            f"The clock of VM {parent.name} was at {guestinfo.quiesced_at(extra_config)} when it reached its fork "
            "point, more than 24 hours from vCenter's time, and no identity script has set the clock of "
            f"{', '.join(names)}. Set it in the post-clone script, or quiesce the parent again."
        )


def _refuse_without_identity_script(parent: Parent, missing: t.Sequence[ChildSpec]) -> None:
    """Refuse children that must renew their identity, if the scripts of their parent cannot do or prove it.

    The guest of a parent that was not quiesced with scripts may do it by its own means.

    :raises _errors.BadInput: every such child would fail after its creation.
    """
    extra_config = _extra_config.mapping(parent.values)
    if not parent.is_quiesced or guestinfo.scripts(extra_config) is None:
        return
    requested = {spec.name: spec.identity for spec in missing if spec.identity is not None}
    if guestinfo.identity_script(extra_config) is None:
        names = [*requested]
        why = "it was quiesced without identity_script"
        script = "identity_script"
    elif guestinfo.parents_identity(extra_config) is None:
        names = [name for name, its in requested.items() if its.has("machine_id") or its.has("ssh_host_keys")]
        why = "its identity script has reported no valid identity of the VM itself, from which theirs must differ"
        script = "another identity_script"
    else:
        return
    if names:
        what = f"Children of VM {parent.name} cannot renew the identity that is required of {', '.join(names)}"
        remedy = f"Power off the VM and quiesce it with {script}, or remove identity."
        raise _errors.BadInput(_errors.sentence(what, why, remedy))


def _is_ready(
    parent: Parent, options: CreateOptions, missing: int, check_mode: bool, warn: t.Callable[[str], None]
) -> bool:
    """Return whether children can be created from the parent now; in check mode, that may become possible later.

    :raises _errors.BadInput: they cannot.
    """
    obstacle = _obstacle(parent, options, missing, warn)
    if obstacle is None:
        return True
    if not check_mode:
        raise _errors.BadInput(obstacle)
    if options.allow_running_parent or not parent.is_on:  # otherwise an earlier task of the play would quiesce it
        warn(obstacle)
    return False


def conflicts(
    parent: Parent,
    missing: t.Sequence[ChildSpec],
    everyone: t.Mapping[t.Any, _properties.Values],
    placement: Placement,
) -> addresses.Conflicts:
    """Return the addresses of children that other VMs have.

    :param everyone: all VMs, with the properties of :func:`addresses.paths`.
    """
    others = {vm: values for vm, values in everyone.items() if vm != parent.vm}
    suspects = addresses.suspects(missing, others)
    adapters = _properties.read(parent.session, suspects, addresses.ADAPTER_PATHS) if suspects else {}
    others.update({vm: {**others[vm], **adapters.get(vm, {})} for vm in suspects})
    return addresses.conflicts(parent.name, parent.values, missing, others, placement.networks.shown)


def _unreported(parent: Parent, wait_for: str) -> str | None:
    """Return why children of the parent cannot report the end of their script, as a sentence."""
    key = guestinfo.obstacle(_extra_config.mapping(parent.values))
    if key is None or wait_for != "post_clone":
        return None
    return (
        f"Children of VM {parent.name} cannot report the end of their post-clone script: their guest may not write to "
        f"guestinfo ({key}). Use another wait_for, or remove that setting."
    )


def _obstacle(parent: Parent, options: CreateOptions, missing: int, warn: t.Callable[[str], None]) -> str | None:
    """Return why children cannot be created from the parent in its current state, as a sentence."""
    unreported = _unreported(parent, options.wait_for)
    if unreported is not None:
        return unreported
    if parent.is_quiesced:
        return None
    if not options.allow_running_parent:
        return (
            f"VM {parent.name} is not at its fork point, and children can be created only there. Quiesce it with "
            "vmfork_quiesce."
        )
    if not parent.is_on:
        return f"VM {parent.name} is powered off, and children can be created only from a running VM. Power it on."
    if options.wait_for == "post_clone":
        return (
            f"VM {parent.name} is not at its fork point, so no post-clone script starts in its children, and "
            "wait_for=post_clone would time out. Use another wait_for, or quiesce the parent with vmfork_quiesce."
        )
    layout = _properties.read(parent.session, [parent.vm], ["layoutEx"]).get(parent.vm, {}).get("layoutEx")
    return too_many_deltas(parent.name, layout, missing, warn)


def too_many_deltas(name: str, layout: t.Any, missing: int, warn: t.Callable[[str], None]) -> str | None:
    """Return why a running VM cannot have that many more children, as a sentence.

    :param layout: the VM's ``layoutEx``.
    """
    then = (facts.deltas(layout) or 0) + missing
    if then > facts.MOST_DELTAS:
        return (
            f"The disk chain of VM {name} would grow to {then} delta disks, one for each child that is created while "
            f"the VM runs, and {facts.MOST_DELTAS} is the maximum. Quiesce the parent with vmfork_quiesce, so that "
            "children add none."
        )
    if then > facts.MANY_DELTAS:
        warn(
            f"The disk chain of VM {name} grows to {then} delta disks, which makes it slow. Children of a parent that "
            "was quiesced with vmfork_quiesce add none."
        )
    return None


def refusal(spec: ChildSpec, existing_vm: existing.ExistingVm, parent: Parent) -> str | None:
    """Return why this child cannot be created, because of the VM that has its name."""
    if existing_vm.error is not None:
        return existing_vm.error
    if existing_vm.found is None or existing_vm.verdict is None or existing_vm.verdict.is_child:
        return None
    if identity.is_half_made(existing_vm.verdict, existing_vm.found.values, parent.values):
        return None  # our task was interrupted before the child ever ran: this task completes it
    return existing.foreign_vm(spec.name, existing_vm, "is left unchanged")


def _describe(
    parent: Parent,
    placement: Placement,
    results: t.Sequence[Result],
    warn: t.Callable[[str], None],
    as_found: t.Sequence[_inventory.Found] | None,
) -> None:
    """Add the current properties of the children's VMs, with one call for any number.

    If the connection is lost, the children are returned anyway, with what is known about them.

    :param as_found: the VMs if they were read just now; ``None``: read them.
    """
    try:
        with parent.session.clean_up():
            _add_facts(parent, placement, results, warn, _read(parent, results) if as_found is None else as_found)
    except _errors.Error:
        for result in results:
            moid = result.vm._GetMoId() if result.vm is not None else None
            result.facts = {**facts.no_vm(result.name, parent.engine), "moid": moid}


def _read(parent: Parent, results: t.Sequence[Result]) -> list[_inventory.Found]:
    vms = [result.vm for result in results if result.vm is not None]
    return _inventory.locate(parent.session, vms, parents.listing_paths(parent.engine), related=_inventory.host())


def _add_facts(
    parent: Parent,
    placement: Placement,
    results: t.Sequence[Result],
    warn: t.Callable[[str], None],
    located: t.Sequence[_inventory.Found],
) -> None:
    found = {vm.vm: vm for vm in located}
    for result in results:
        now = found.get(result.vm)
        if now is None:
            result.facts = facts.no_vm(result.name, parent.engine)
            continue
        result.facts = facts.child(now, parent.engine, parent.values)
        asked = placement.folders[result.name]
        if result.state is State.CREATED and asked is not None and now.folder != asked:
            # Sources contradict each other about whether a server uses the folder in the request.
            warn(
                f"Child {result.name} is in {result.facts['folder']}: vCenter did not put it into the requested folder."
            )
