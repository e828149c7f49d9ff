# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predict the results of children in check mode, as far as the server allows.

Private to the collection.
"""

from __future__ import annotations

import functools
import typing as t
from dataclasses import replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _privileges, _properties, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.executor import creation
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import Request
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim


def predict(
    parent: Parent,
    placement: Placement,
    begun: t.Sequence[transitions.Transition],
    deadline: Deadline,
    is_ready: bool,
    warn: t.Callable[[str], None],
) -> list[transitions.Child]:
    """Return the predicted state of each child after the task, as far as the server can say.

    :param begun: the first transition of each child.
    :param is_ready: whether children can be created from the parent in its current state.
    """
    created = [child for child, request in begun if request is Request.CREATE]
    _warn_of_snapshot(parent, created, warn)
    steps = {child.name: _steps(parent, placement, child, request) for child, request in begun}
    refused = _privileges.refusals(parent.session, steps)
    asked = [child for child in created if child.name not in refused]
    predicted, warned = _ask_server(parent, placement, asked, deadline, warn)
    # If the parent is not ready, an earlier task of the play may change that before the real run.
    if is_ready:
        refused.update(predicted)
    for remark in warned if is_ready else [error.sentence for error in predicted.values()]:
        warn(remark)
    return [
        replace(child, step=transitions.Step.FAILED, error=refused[child.name].sentence)
        if child.name in refused
        else replace(child, changed=any(later is not Request.NOTE for later in transitions.ahead(child, request)))
        for child, request in begun
    ]


def _warn_of_snapshot(parent: Parent, created: t.Sequence[transitions.Child], warn: t.Callable[[str], None]) -> None:
    if any(parent.engine.needs_snapshot(child.spec) for child in created):
        now = _properties.read(parent.session, [parent.vm], ["snapshot"])
        if "snapshot" not in now.get(parent.vm, {}):
            warn(f"VM {parent.name} has no snapshot, which persistent children need. Take a snapshot first.")


def _ask_server(
    parent: Parent,
    placement: Placement,
    created: t.Sequence[transitions.Child],
    deadline: Deadline,
    warn: t.Callable[[str], None],
) -> tuple[dict[str, _errors.Error], list[str]]:
    """Return the error of each child that the server would refuse to create, and the server's warnings."""
    jobs: dict[t.Any, _tasks.Job] = {}
    for child in created if parent.engine.can_predict else ():
        ask = functools.partial(parent.engine.predict, parent.vm, creation(child, placement))
        jobs[child.name] = ("Could not check with vCenter in advance", ask)
    refused: dict[str, _errors.Error] = {}
    warned: dict[str, list[str]] = {}
    unasked: dict[str, list[str]] = {}
    for name, outcome in (_tasks.collect(parent.session, deadline, jobs) if jobs else {}).items():
        try:
            if isinstance(outcome, _errors.Error):
                raise outcome
            results = _tasks.as_list(jobs[name][0], outcome, vim.vm.check.Result)
        except _errors.Error as error:
            unasked.setdefault(error.sentence, []).append(name)
            continue
        for result in results:
            for fault in result.warning or []:
                warned.setdefault(f"vCenter warns: {_errors.fault_text(fault)}.", []).append(name)
            for fault in result.error or []:
                refused.setdefault(name, _errors.failure(f"{Request.CREATE.value} {name}", fault))
    for remark, names in unasked.items():
        warn(f"{', '.join(names)}: {remark}")
    return refused, [f"{', '.join(names)}: {remark}" for remark, names in warned.items()]


def _steps(
    parent: Parent, placement: Placement, child: transitions.Child, request: Request | None
) -> list[_privileges.Step]:
    """Return the calls that a child still needs."""
    where = {name: (place,) for name, place in placement.location(child.spec).items()}
    # A VM takes its permissions from its folder and from its resource pool.
    vm = (child.vm,) if child.vm is not None else (*where.get("folder", ()), *where.get("pool", ()))
    steps = []
    for later in transitions.ahead(child, request):
        what = f"{later.value} {child.name}"
        if later is Request.CREATE:
            steps.append(_privileges.Step(what, parent.engine.create_method, vm=(parent.vm,), **where))
            if child.started:  # by its creation
                steps.append(_privileges.Step(what, "PowerOnVM_Task", vm=vm))
            steps += [
                _privileges.Step(what, "InstantClone_Task network", network=(network,))
                for network in placement.networks_of(child.spec)
            ]
        elif later is Request.POWER_ON:
            steps.append(_privileges.Step(what, "PowerOnVM_Task", vm=vm))
        elif later is Request.CONNECT:
            steps.append(_privileges.Step(what, "ReconfigVM_Task device", vm=vm))
            steps.append(_privileges.Step(what, "ReconfigVM_Task connectable", vm=vm))
        else:
            steps.append(_privileges.Step(what, "ReconfigVM_Task extraConfig", vm=vm))
        if later is Request.RECORD and child.new_bios_uuid is not None:
            steps.append(_privileges.Step(what, "ReconfigVM_Task uuid", vm=vm))
    return steps
