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
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import (
    preflight,
    preflight_facts,
    transitions,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.executor import creation
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import Request
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

CERTAIN = ("devices", "host", "memory_reservation", "datastore")
"""Checks of the preflight that make children fail if they block. Other parts of this module report the rest."""

POSSIBLE = (*CERTAIN, "disks", "encryption", "memory")
"""Checks of the preflight whose warnings are displayed."""


def predict(
    parent: Parent,
    placement: Placement,
    begun: t.Sequence[transitions.Transition],
    known: preflight_facts.Known | None,
    deadline: Deadline,
    is_ready: bool,
    warn: t.Callable[[str], None],
) -> tuple[list[transitions.Child], preflight.Judgement | None]:
    """Return the predicted state of each child after the task, as far as the server can say, and the preflight.

    :param begun: the first transition of each child.
    :param known: ``None``: no children are missing, and there is no preflight.
    :param is_ready: whether children can be created from the parent in its current state.
    """
    created = [child for child, request in begun if request is Request.CREATE]
    _warn_of_snapshot(parent, created, warn)
    needs = {child.name: steps(parent, placement, child, request) for child, request in begun}
    lacking = _privileges.known_refusals(parent.session, needs)
    refused = dict(lacking or {})
    asked = [child for child in created if child.name not in refused]
    answers = ask_server(parent, placement, asked, deadline)
    for remark, names in answers.unasked.items():
        warn(f"{', '.join(names)}: {remark}")
    judgement = None
    if known is not None:
        facts = preflight_facts.read(parent, placement, known)
        judgement = preflight.judge(with_answers(facts, {child.name for child in created}, lacking, answers))
    # If the parent is not ready, an earlier task of the play may change that before the real run.
    if is_ready:
        refused.update(answers.refused)
    for remark in answers.warned if is_ready else [error.sentence for error in answers.refused.values()]:
        warn(remark)
    if judgement is not None:
        refused.update(_without_room(judgement, [child.name for child in created if child.name not in refused]))
        for check in judgement.checks:
            if check.status == preflight.WARN and check.id in POSSIBLE:
                warn(judgement.sentence(check))
    children = [
        replace(child, step=transitions.Step.FAILED, error=refused[child.name].sentence)
        if child.name in refused
        else replace(child, changed=any(later is not Request.NOTE for later in transitions.ahead(child, request)))
        for child, request in begun
    ]
    return children, judgement


def with_answers(
    facts: preflight.Facts,
    created: t.Container[str],
    lacking: t.Mapping[str, _errors.Error] | None,
    answers: Answers,
) -> preflight.Facts:
    """Add to the facts of a preflight what the server says about the children to create.

    :param lacking: child → the privilege that is missing; ``None``: not known.
    """
    sentences = [error.sentence for name, error in lacking.items() if name in created] if lacking is not None else []
    errors = tuple(error.sentence for error in answers.refused.values())
    return replace(
        facts,
        lacking=None if lacking is None else tuple(sentences),
        server_errors=errors if errors or answers.is_known else None,
        server_asked=answers.asked,
        server_warnings=tuple(answers.warned),
        server_obstacle=next(iter(answers.unasked), "") if answers.can_ask else NO_CHECK,
    )


NO_CHECK = "vCenter has no check of its own for this kind of fork"


def _without_room(judgement: preflight.Judgement, created: t.Sequence[str]) -> dict[str, _errors.Error]:
    """Return an error for each child that the run could not create, since there is no room for it.

    :param created: names of the children that nothing else prevents.
    """
    result: dict[str, _errors.Error] = {}
    for check in judgement.checks:
        if check.status == preflight.BLOCK and check.id in CERTAIN:
            for name in check.refused(created):
                what = f"{Request.CREATE.value} {name}"
                result.setdefault(name, _errors.OperationFailed(_errors.sentence(what, check.text)))
    return result


def _warn_of_snapshot(parent: Parent, created: t.Sequence[transitions.Child], warn: t.Callable[[str], None]) -> None:
    if any(parent.engine.needs_snapshot(child.spec) for child in created):
        now = _properties.read(parent.session, [parent.vm], ["snapshot"])
        if "snapshot" not in now.get(parent.vm, {}):
            warn(f"VM {parent.name} has no snapshot, which persistent children need. Take a snapshot first.")


class Answers(t.NamedTuple):
    """What the server's own check reports about the creation of children.

    :param can_ask: whether the server has such a check.
    :param asked: how many children it was asked about.
    :param refused: child → why the server would refuse to create it.
    :param warned: the server's warnings, as sentences.
    :param unasked: why the check failed → the children that it failed for.
    """

    can_ask: bool
    asked: int
    refused: dict[str, _errors.Error]
    warned: list[str]
    unasked: dict[str, list[str]]

    @property
    def is_known(self) -> bool:
        return self.asked > 0 and not self.unasked


def ask_server(
    parent: Parent, placement: Placement, created: t.Sequence[transitions.Child], deadline: Deadline
) -> Answers:
    """Ask the server whether it would create the children, with one task for each."""
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
    remarks = [f"{', '.join(names)}: {remark}" for remark, names in warned.items()]
    return Answers(parent.engine.can_predict, len(jobs), refused, remarks, unasked)


def steps(
    parent: Parent, placement: Placement, child: transitions.Child, request: Request | None
) -> list[_privileges.Step]:
    """Return the calls that a child still needs."""
    where = {name: (place,) for name, place in placement.location(child.spec).items()}
    # A VM takes its permissions from its folder and from its resource pool.
    vm = (child.vm,) if child.vm is not None else (*where.get("folder", ()), *where.get("pool", ()))
    result = []
    for later in transitions.ahead(child, request):
        what = f"{later.value} {child.name}"
        if later is Request.CREATE:
            result.append(_privileges.Step(what, parent.engine.create_method, vm=(parent.vm,), **where))
            if child.started:  # by its creation
                result.append(_privileges.Step(what, "PowerOnVM_Task", vm=vm))
            result += [
                _privileges.Step(what, "InstantClone_Task network", network=(network,))
                for network in placement.networks_of(child.spec)
            ]
        elif later is Request.POWER_ON:
            result.append(_privileges.Step(what, "PowerOnVM_Task", vm=vm))
        elif later is Request.CONNECT:
            result.append(_privileges.Step(what, "ReconfigVM_Task device", vm=vm))
            result.append(_privileges.Step(what, "ReconfigVM_Task connectable", vm=vm))
        else:
            result.append(_privileges.Step(what, "ReconfigVM_Task extraConfig", vm=vm))
        if later is Request.RECORD and child.new_bios_uuid is not None:
            result.append(_privileges.Step(what, "ReconfigVM_Task uuid", vm=vm))
    return result
