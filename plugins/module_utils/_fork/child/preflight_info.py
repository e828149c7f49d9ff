# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge whether children of one parent can be created, without creating any: ``vmfork_preflight_info``.

Private to the collection. In check mode, ``check_mode.py`` judges the same for the children of a task.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory, _privileges
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import (
    addresses,
    check_mode,
    existing,
    networks,
    port_groups,
    preflight,
    preflight_facts,
    present,
    transitions,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import find_folders, place
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent


@dataclass(frozen=True)
class Question:
    """What is asked about each parent.

    :param children: the requested children.
    :param is_named: whether their names are given; otherwise the names only number them.
    :param range_size: addresses for them in the network of the task; ``False``: it names none.
    """

    children: t.Sequence[ChildSpec]
    is_named: bool
    allow_running_parent: bool
    network: facts.IPNetwork | None = None
    range_size: int | t.Literal[False] = False


def examine(
    parent: Parent, question: Question, deadline: Deadline, everyone: _inventory.Everyone
) -> preflight.Judgement:
    """Return the judgement for one parent.

    :param everyone: the VMs of the server, with :func:`present.paths_of_all`.

    :raises _errors.BadInput: the task has an option that does not fit the parent.
    :raises _errors.NotFound: a place that the task names does not exist.
    """
    specs = question.children
    parent.engine.check(specs, question.allow_running_parent)
    for spec in specs:
        networks.check_against_parent(parent.name, parent.values, spec.networks)
    folders = find_folders(parent, specs)
    missing, there = specs, 0
    refusals: list[str] = []
    if question.is_named:
        by_name = existing.find_existing(parent, deadline, folders, dict.fromkeys(folders), everyone)
        found = {spec.name: present.refusal(spec, by_name[spec.name], parent) for spec in specs}
        refusals = [sentence for sentence in found.values() if sentence is not None]
        missing = [spec for spec in specs if found[spec.name] is None and by_name[spec.name].found is None]
        there = len(specs) - len(missing) - len(refusals)
    placement = place(parent, folders, missing, with_defaults=True)
    others = everyone.read() if addresses.paths(missing) else {}
    conflicts = present.conflicts(parent, missing, others, placement)
    ports = port_groups.ports(parent, missing, placement.networks)
    known = preflight_facts.Known(
        missing, question.is_named, there, tuple(refusals), conflicts, ports, question.allow_running_parent
    )
    read = preflight_facts.read(parent, placement, known)
    goal = transitions.Goal("post_clone", parent.values, parent.engine, question.network, placement.networks.shown)
    begun = [transitions.begin(spec, goal) for spec in missing]
    needs = {child.name: check_mode.steps(parent, placement, child, request) for child, request in begun}
    lacking = _privileges.known_refusals(parent.session, needs)
    first = [child for child, _request in begun if not (lacking and child.name in lacking)][:1]
    answers = check_mode.ask_server(parent, placement, first, deadline)
    known_facts = check_mode.with_answers(read, needs, lacking, answers)
    return preflight.judge(replace(known_facts, range_size=question.range_size))
