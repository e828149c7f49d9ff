# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make children be gone. Before anything is powered off or destroyed it is asked once more whose child it is.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _inventory,
    _power,
    _privileges,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts, identity, pipeline, survey
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.places import Places
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.result import Result
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.wanted import Wanted
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vmodl

REMOVE_SECONDS = 120
"""Time to remove failed children when the task's own time may be over."""


def remove_named(parent: Parent, wanted: t.Sequence[Wanted], deadline: Deadline, check_mode: bool) -> list[Result]:
    """Make the named children be gone; a stranger of that name is an error and is left alone."""
    places = Places(parent, wanted)
    standings = survey.look(parent, deadline, {one.name: places.folder_of(one) for one in wanted}, {})
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
    made = {one.child.vm: one.child for one in failed if one.child is not None}
    names = {vm: child.name for vm, child in made.items()}
    errors, powered_off = _destroy(parent, names, Deadline(REMOVE_SECONDS), made)
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
        errors, powered_off = _destroy(parent, {vm: one.name for vm, one in doomed.items()}, deadline, {})
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
    parent: Parent, names: t.Mapping[t.Any, str], deadline: Deadline, made: t.Mapping[t.Any, pipeline.Child]
) -> tuple[dict[t.Any, _errors.Error], set[t.Any]]:
    """Power off and destroy; before each of the two, every VM is judged once more.

    :param made: the children that this task made, by their VMs. One that could not be recorded is known by the nonce
        or the BIOS UUID that it was given.
    :returns: the errors, and the VMs that were powered off.
    """
    errors: dict[t.Any, _errors.Error] = {}
    off = {
        vm: (f"Could not power off child {names[vm]}", vm.PowerOffVM_Task)
        for vm, values in _still_ours(parent, names, made, errors).items()
        if _power.is_on(values)
    }
    _run(parent, deadline, off, errors, _off)
    left = {vm: name for vm, name in names.items() if vm not in errors}
    powered_off = set(off) & set(left)
    gone = {
        vm: (f"Could not remove child {names[vm]}", vm.Destroy_Task) for vm in _still_ours(parent, left, made, errors)
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
    parent: Parent,
    names: t.Mapping[t.Any, str],
    made: t.Mapping[t.Any, pipeline.Child],
    errors: dict[t.Any, _errors.Error],
) -> dict[t.Any, _properties.Values]:
    """Read the VMs again and keep those that are ours; VMs that are gone need nothing more.

    Copies are looked for anew, too: three calls for any number of VMs, and a page for each further thousand on the
    server.
    """
    if not names:
        return {}
    result: dict[t.Any, _properties.Values] = {}
    try:
        shared = survey.shared_uuids(parent.session)
        now = _properties.read(parent.session, names, [*identity.PATHS, "runtime.powerState"])
    except (_errors.Error, vmodl.MethodFault) as trouble:
        errors.update({vm: _errors.failure(f"Could not look at child {name}", trouble) for vm, name in names.items()})
        return result
    for vm, values in now.items():
        verdict = identity.judge(parent.values, values, shared=shared)
        child = made.get(vm)
        is_unrecorded = (
            child is not None
            and verdict.kinship in (identity.Kinship.UNRECORDED, identity.Kinship.STRANGER)
            and identity.record_of(values) is None
            and identity.bears_mark(values, child.nonce, child.bios_uuid)
            and (values.get("config.uuid") or "").lower() not in shared
        )
        if verdict.is_child or is_unrecorded:
            result[vm] = values
        else:
            errors[vm] = _errors.Refused(
                f"VM {names[vm]} ({vm._GetMoId()}) is not removed: {verdict.why}. Look at it in vCenter."
            )
    return result
