# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out the plan for a pool: create children with the executor of ``vmfork_child``, and end others.

Private to the collection. A child is ended in two steps: its record is
replaced where it is still what was judged (`taking.py`), and then the child is
removed as by ``vmfork_child``, which asks for its identity again before it is
powered off, and before it is destroyed.
"""

from __future__ import annotations

import typing as t
import uuid
from dataclasses import dataclass, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _extra_config, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import absent, placement, present
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import result as results
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import reconcile, survey, taking
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.reconcile import Create, End, Note, PoolSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import CHILD_KEY, ChildRecord, State
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


@dataclass(frozen=True)
class Means:
    """What a task has to bring a pool to its state.

    :param child: the options of every child; the name is replaced.
    """

    session: Session
    engine: Engine
    deadline: Deadline
    names: survey.PoolNames
    spec: PoolSpec
    child: ChildSpec
    options: present.CreateOptions
    warn: t.Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """What was done to one child.

    :param what: ``created``, or the reason why it was ended, or the state that was noted.
    :param error: why it was not done, as a sentence.
    :param is_postponed: whether another task changed the child first, which is no failure.
    """

    name: str
    what: str
    error: str | None = None
    is_postponed: bool = False


def bring(means: Means) -> tuple[reconcile.Plan, list[Done]]:
    """Bring a pool to its state; return the last plan and what was done.

    Children are created by a second plan, so that what was ended makes room for them.
    """
    seen = survey.survey(means.session, means.engine, means.names)
    plan = reconcile.reconcile(seen.inventory, means.spec, seen.now)
    done = [*_end(means, seen, plan), *_note(means, seen, plan)]
    if done:
        seen = survey.survey(means.session, means.engine, means.names)
        plan = reconcile.reconcile(seen.inventory, means.spec, seen.now)
    return plan, [*done, *_create(means, seen, plan)]


def _end(means: Means, seen: survey.Survey, plan: reconcile.Plan) -> list[Done]:
    """End children: take each, and remove those that were taken."""
    ends = {end.key: end.reason.value for end in plan.actions if isinstance(end, End)}
    errors = _write(means, seen, dict.fromkeys(ends, State.RELEASING))
    by_parent: dict[str, list[_inventory.Found]] = {}
    for key in (key for key in ends if errors[key] is None):
        own = t.cast(identity.Record, identity.own_record(seen.found[key].values))
        by_parent.setdefault(own.parent_instance_uuid, []).append(seen.found[key])
    order = absent.Order("absent", means.deadline, check_mode=False, warn=means.warn)
    removed: dict[str, str | None] = {}
    for parent_uuid, children in by_parent.items():
        parent = parents.find(
            means.session, means.engine, _inventory.Selector(uuid=parent_uuid, use_instance_uuid=True)
        )
        ended = absent.remove_found(parent, children, order)
        removed.update({its.vm._GetMoId(): its.error for its in ended if its.vm is not None})
    return [
        _not_written(seen, key, reason, error)
        if (error := errors[key]) is not None
        else Done(seen.found[key].name, reason, removed[key])
        for key, reason in ends.items()
    ]


def _note(means: Means, seen: survey.Survey, plan: reconcile.Plan) -> list[Done]:
    states = {note.key: note.state for note in plan.actions if isinstance(note, Note)}
    errors = _write(means, seen, states)
    return [
        _not_written(seen, key, state.value, error)
        if (error := errors[key]) is not None
        else Done(seen.found[key].name, state.value)
        for key, state in states.items()
    ]


def _not_written(seen: survey.Survey, key: str, what: str, error: _errors.Error) -> Done:
    return Done(seen.found[key].name, what, error.sentence, isinstance(error, _errors.Refused))


def _write(means: Means, seen: survey.Survey, states: t.Mapping[str, State]) -> t.Mapping[str, _errors.Error | None]:
    """Write new states into the records of children."""
    records = {child.key: child.record for child in seen.inventory.children}
    new = [
        (seen.found[key], replace(t.cast(ChildRecord, records[key]), state=state, since=seen.now))
        for key, state in states.items()
    ]
    return taking.take(means.session, means.deadline, new) if new else {}


def _create(means: Means, seen: survey.Survey, plan: reconcile.Plan) -> list[Done]:
    """Create children, each with a record from the start, and note which of them are ready."""
    by_parent: dict[str, list[Create]] = {}
    for create in plan.actions:
        if isinstance(create, Create):
            by_parent.setdefault(create.parent, []).append(create)
    generations = {parent.key: parent.generation for parent in seen.inventory.parents}
    made: dict[t.Any, tuple[ChildRecord, results.Result]] = {}
    done: list[Done] = []
    for key, creations in by_parent.items():
        records: dict[str, ChildRecord] = {}
        for create in creations:
            its = ChildRecord(
                pool=means.names.pool,
                generation=t.cast(str, generations[key]),
                bios_uuid=str(uuid.uuid4()),
                created=seen.now,
                state=State.CREATING,
                since=seen.now,
            )
            records[means.names.slots[create.slot - 1]] = its
        specs = [
            replace(means.child, name=name, bios_uuid=its.bios_uuid, keys={CHILD_KEY: its.encode()})
            for name, its in records.items()
        ]
        parent = parents.find(means.session, means.engine, _inventory.Selector(moid=key), placement.related())
        ended, _judgement = present.ensure_present(
            parent, specs, means.options, means.deadline, check_mode=False, warn=means.warn
        )
        done += [
            Done(child.name, "created", child.error) for child in ended if child.state is not results.State.EXISTING
        ]
        # An existing child is another task's, which has used the slot first.
        made.update(
            {child.vm: (records[child.name], child) for child in ended if child.vm is not None and child.changed}
        )
    return [*done, *_admit(means, made)]


def _admit(means: Means, made: t.Mapping[t.Any, tuple[ChildRecord, results.Result]]) -> list[Done]:
    """Note which new children are ready, and which have failed; return those for which this was not possible.

    One that took long may have been ended by another task as half-made, and must not become ready again.
    """
    if not made:
        return []
    now = means.session.current_time()
    found_now = {found.vm: found for found in _inventory.locate(means.session, made, survey.PATHS)}
    new: list[taking.NewRecord] = []
    done: list[Done] = []
    for vm, (its, child) in made.items():
        found = found_now.get(vm)
        if found is None or _extra_config.mapping(found.values).get(CHILD_KEY) != its.encode():
            what = "removed it" if found is None else "changed its record"
            why = f"Child {child.name} did not become ready: another task has {what} in the meantime. Run again."
            done.append(Done(child.name, State.READY.value, why, is_postponed=True))
            continue
        boot_time = found.values.get("runtime.bootTime")
        state = State.READY if child.error is None and boot_time is not None else State.FAILED
        new.append((found, replace(its, state=state, since=now, boot_time=boot_time)))
    errors = taking.take(means.session, means.deadline, new)
    return done + [
        Done(found.name, its.state.value, error.sentence, isinstance(error, _errors.Refused))
        for found, its in new
        if (error := errors[found.moid]) is not None
    ]
