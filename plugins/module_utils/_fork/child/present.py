# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make children be there: what ``vmfork_child`` does with ``state=present``, without Ansible.

Private to the collection. ``absent.py`` removes them.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _inventory,
    _properties,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts, guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import (
    addresses,
    existing,
    networks,
    port_groups,
    transitions,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import check_mode as foresight
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.executor import ADDRESS_SECONDS, Executor
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement, find_folders, place
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent

MOST_DELTAS, MANY_DELTAS = 255, 100
"""Delta disks of a VM: the most there can be, and the most that vSphere does not warn of (KB 67186)."""


@dataclass(frozen=True)
class CreateOptions:
    """How children are made.

    :param wait_for: one of :data:`transitions.GOALS`.
    :param network: an address outside of it does not count.
    :param concurrency: how many at a time.
    :param allow_running_parent: also of a parent that does not stand at its fork point.
    :param address_timeout: seconds; see :data:`executor.ADDRESS_SECONDS`.
    """

    wait_for: str
    concurrency: int
    network: facts.IPNetwork | None = None
    allow_running_parent: bool = False
    address_timeout: float = ADDRESS_SECONDS


def ensure_present(
    parent: Parent,
    wanted: t.Sequence[ChildSpec],
    options: CreateOptions,
    deadline: Deadline,
    check_mode: bool,
    warn: t.Callable[[str], None],
) -> list[Result]:
    """Make the children that are missing, and bring all to the goal.

    :raises _errors.BadInput: children are missing, and the parent cannot be forked as it is.
    """
    parent.engine.check(wanted, options.allow_running_parent)
    for one in wanted:
        networks.check_against_parent(parent.name, parent.values, one.networks)
    folders = find_folders(parent, wanted)
    uuids = {one.name: one.bios_uuid for one in wanted}
    standings, everyone = existing.survey(parent, deadline, folders, uuids, addresses.paths(wanted))
    refused = {one.name: _refusal(one, standings[one.name], parent) for one in wanted}
    missing = [one for one in wanted if standings[one.name].found is None and refused[one.name] is None]
    obstacle = _obstacle(parent, options, len(missing), warn) if missing else None
    if obstacle is not None:
        if not check_mode:
            raise _errors.BadInput(obstacle)
        if options.allow_running_parent or not parent.is_on:  # else an earlier task of the play would quiesce it
            warn(obstacle)
    placement = place(parent, folders, missing, with_defaults=check_mode or parent.engine.needs_location)
    if missing:
        _refuse_conflicts(parent, missing, everyone, placement, warn)
        refused.update(port_groups.shortages(parent, missing, placement.networks))
    goal = transitions.Goal(options.wait_for, parent.values, parent.engine, options.network, placement.networks.shown)
    ways = {one.name: _way(one, goal, standings[one.name]) for one in wanted if refused[one.name] is None}
    if check_mode:
        done, seconds = foresight.foresee(parent, placement, ways, deadline, obstacle is None, warn), {}
    else:
        executor = Executor(parent, placement, deadline, options.concurrency, everyone, options.address_timeout)
        done = {child.name: child for child in executor.run(ways.values())}
        for warning in (one for child in done.values() for one in child.warnings):
            warn(warning)
        seconds = executor.seconds
    results = []
    for one in wanted:
        existing_vm, child = standings[one.name], done.get(one.name)
        results.append(
            Result(
                one.name,
                state=_state(child),
                before=_power_state(existing_vm),
                changed=child is not None and child.changed,
                child=child,
                seconds=seconds.get(one.name, 0.0),
                error=refused[one.name] if child is None else child.error,
            )
        )
    _describe(parent, placement, results, warn)
    return results


def _refuse_conflicts(
    parent: Parent,
    missing: t.Sequence[ChildSpec],
    everyone: t.Mapping[t.Any, _properties.Values],
    placement: Placement,
    warn: t.Callable[[str], None],
) -> None:
    """Refuse addresses that other VMs have.

    :raises _errors.BadInput: there is such an address.
    """
    others = {vm: values for vm, values in everyone.items() if vm != parent.vm}
    suspects = addresses.suspects(missing, others)
    adapters = _properties.read(parent.session, suspects, addresses.ADAPTER_PATHS) if suspects else {}
    others.update({vm: {**others[vm], **adapters.get(vm, {})} for vm in suspects})
    found = addresses.conflicts(parent.name, parent.values, missing, others, placement.networks.shown)
    for warning in found.warnings:
        warn(warning)
    if found.refused:
        raise _errors.BadInput(" ".join(found.refused))


def _unreported(parent: Parent, wait_for: str) -> str | None:
    """Return why children of the parent cannot report the end of their script, as a whole sentence."""
    key = guestinfo.obstacle(_extra_config.mapping(parent.values))
    if key is None or wait_for != "post_clone":
        return None
    return (
        f"Children of VM {parent.name} cannot report the end of their post-clone script: their guest may not write to "
        f"guestinfo ({key}). Use another wait_for, or remove that setting."
    )


def _obstacle(parent: Parent, options: CreateOptions, missing: int, warn: t.Callable[[str], None]) -> str | None:
    """Why children cannot be made of the parent as it is, as a whole sentence."""
    unreported = _unreported(parent, options.wait_for)
    if unreported is not None:
        return unreported
    if parent.is_quiesced:
        return None
    if not options.allow_running_parent:
        return (
            f"VM {parent.name} does not stand at its fork point, and children can be made of it only then. "
            "Bring it there with vmfork_quiesce."
        )
    if not parent.is_on:
        return f"VM {parent.name} is powered off, and children can be made of a running VM only. Power it on."
    if options.wait_for == "post_clone":
        return (
            f"VM {parent.name} does not stand at its fork point, so no post-clone script starts in its children, and "
            "wait_for=post_clone would time out. Use another wait_for, or quiesce the parent with vmfork_quiesce."
        )
    layout = _properties.read(parent.session, [parent.vm], ["layoutEx"]).get(parent.vm, {}).get("layoutEx")
    return too_many_deltas(parent.name, layout, missing, warn)


def too_many_deltas(name: str, layout: t.Any, missing: int, warn: t.Callable[[str], None]) -> str | None:
    """Why a VM that runs cannot have so many children more, as a whole sentence.

    :param layout: the VM's ``layoutEx``. The first link of a disk's chain is the base, each other one a delta disk.
    """
    disks = getattr(layout, "disk", None) or []
    then = max((len(disk.chain) - 1 for disk in disks if disk.chain), default=0) + missing
    if then > MOST_DELTAS:
        return (
            f"The disk chain of VM {name} would grow to {then} delta disks, one for each child that is made while the "
            f"VM runs, and {MOST_DELTAS} are the most. Quiesce the parent with vmfork_quiesce, whose children add none."
        )
    if then > MANY_DELTAS:
        warn(
            f"The disk chain of VM {name} grows to {then} delta disks, which makes it slow. "
            "Children of a parent that was quiesced with vmfork_quiesce add none."
        )
    return None


def _refusal(wanted: ChildSpec, existing_vm: existing.ExistingVm, parent: Parent) -> str | None:
    """Why this child cannot be: its name is taken."""
    if existing_vm.error is not None:
        return existing_vm.error
    if existing_vm.found is None or existing_vm.verdict is None or existing_vm.verdict.is_child:
        return None
    if identity.is_half_made(existing_vm.verdict, existing_vm.found.values, parent.values):
        return None  # a task of ours was cut short before it ever ran: it is finished now
    return existing.stranger(wanted.name, existing_vm, "is left alone")


def _way(wanted: ChildSpec, goal: transitions.Goal, existing_vm: existing.ExistingVm) -> transitions.Transition:
    if existing_vm.found is None:
        return transitions.begin(wanted, goal)
    return transitions.resume(wanted, goal, existing_vm.found.vm, existing_vm.found.values)


def _state(child: transitions.Child | None) -> str:
    if child is None or child.error is not None:
        return "failed"
    return "existing" if child.existed else "created"


def _power_state(existing_vm: existing.ExistingVm) -> str | None:
    return str(existing_vm.found.values.get("runtime.powerState")) if existing_vm.found is not None else None


def _describe(parent: Parent, placement: Placement, results: t.Sequence[Result], warn: t.Callable[[str], None]) -> None:
    """Fill in what the children's VMs are like now: two requests for any number.

    When the server is lost the children are told all the same, by what is known of them.
    """
    try:
        with parent.session.clean_up():
            _read_facts(parent, placement, results, warn)
    except _errors.Error:
        for result in results:
            vm = result.child.vm if result.child is not None else None
            result.facts = {
                **facts.no_vm(result.name, parent.engine),
                "moid": vm._GetMoId() if vm is not None else None,
            }


def _read_facts(
    parent: Parent, placement: Placement, results: t.Sequence[Result], warn: t.Callable[[str], None]
) -> None:
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
        asked = placement.folders[result.name]
        if result.state == "created" and asked is not None and now.folder != asked:
            # The sources contradict each other on whether a server follows the folder that it is given.
            warn(
                f"Child {result.name} is in {result.facts['folder']}: vCenter did not put it into the folder asked for."
            )
