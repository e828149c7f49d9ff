# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what to do for a pool: (inventory, spec, now) → actions and limits. A pure function, without vSphere.

Private to the collection. :data:`ENDINGS` lists for each state why a child may
be ended, and :data:`RULES` when such a reason applies. Nothing else ends a
child, except that :func:`_surplus` selects idle children above ``ready_count``.

A plan is safe if two tasks carry out theirs at once: children get the names of
slots, and vCenter gives each name in a folder to one VM only (see :func:`_free_slots`).
"""

from __future__ import annotations

import datetime
import enum
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import (
    HELD,
    Amount,
    ChildRecord,
    Mode,
    PoolRecord,
    State,
    Unreadable,
)

CLOCK_DIFFERENCE = datetime.timedelta(minutes=5)
"""How much vCenter's clock may differ from the controller's before no time counts."""

SECOND_LOOK = datetime.timedelta(minutes=5)
"""How long a child must be unhealthy before it is replaced."""

LEAST_DELETIONS = 2
"""What a share as ``max_deletions`` allows at least."""

MAX_DELETIONS = Amount(20, is_share=True)
"""Default of the option."""

MAX_UNAVAILABLE = Amount(25, is_share=True)
"""Default of the option."""


class Kin(enum.Enum):
    """What the identity of a VM with a record of the pool says."""

    CHILD = "child"
    """Our child of a parent that exists."""
    ORPHAN = "orphan"
    """A child whose parent is gone or not visible."""
    DOUBTFUL = "doubtful"
    """Our child or a copy of it. A VM that is certainly not our child does not belong to the inventory."""


@dataclass(frozen=True)
class PoolChild:
    """A VM of the pool.

    :param key: managed object ID.
    :param slot: the number of the slot whose name it has; ``None``: it has another name or is in another folder.
    :param parent: key of its parent, if that is one of the pool's.
    :param is_reachable: whether its host is connected and the VM is neither inaccessible nor orphaned.
    :param is_on: whether it is powered on.
    :param is_healthy: ``None``: not known.
    :param is_busy: whether a task or a backup is running on it.
    """

    key: str
    name: str
    kin: Kin
    record: ChildRecord | Unreadable
    slot: int | None = None
    parent: str | None = None
    is_reachable: bool = True
    is_on: bool = True
    boot_time: datetime.datetime | None = None
    is_healthy: bool | None = True
    is_busy: bool = False


@dataclass(frozen=True)
class PoolParent:
    """A parent of the pool.

    :param generation: of its children from now on; see :func:`record.generation`.
    :param obstacle: why no children can be created from it now, as a sentence.
    :param room: how many children can be created from it.
    :param pool: its record of the pool.
    """

    key: str
    name: str
    generation: str | None
    obstacle: str | None = None
    room: int | None = None
    pool: PoolRecord | Unreadable | None = None


@dataclass(frozen=True)
class Inventory:
    """What vCenter shows.

    :param foreign_slots: slots whose name a VM has that is not a child of this pool.
    :param controller_time: the controller's clock, to judge vCenter's.
    :param gap: what could not be read, as a sentence.
    """

    parents: tuple[PoolParent, ...]
    children: tuple[PoolChild, ...]
    controller_time: datetime.datetime
    foreign_slots: frozenset[int] = frozenset()
    gap: str | None = None


class UpdateStrategy(enum.Enum):
    """What to do with idle children of an old generation. The values are those of ``update_strategy``."""

    ON_REPLENISH = "on_replenish"
    ROLLING = "rolling"
    NEVER = "never"


class Spread(enum.Enum):
    """How to choose the parent of a new child. The values are those of the option ``spread``."""

    BALANCED = "balanced"
    PACK = "pack"


@dataclass(frozen=True)
class PoolSpec:
    """What the task wants. Durations are in seconds.

    :param ready_ttl: ``None``: idle children do not become too old.
    :param force: end more children than ``max_deletions``, and with ``absent`` those that are leased.
    """

    name: str
    mode: Mode
    ready_count: int
    max_count: int
    update_strategy: UpdateStrategy = UpdateStrategy.ON_REPLENISH
    spread: Spread = Spread.BALANCED
    ready_ttl: int | None = None
    lease_grace: int = 900
    create_timeout: int = 600
    stop_after_failures: int = 3
    retry_after: int = 1800
    max_deletions: Amount = MAX_DELETIONS
    max_unavailable: Amount = MAX_UNAVAILABLE
    keep_failed: int = 1
    force: bool = False


class Reason(enum.Enum):
    """Why a child is ended."""

    RELEASED = "released"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    """A claim that nobody completed."""
    HALF_MADE = "half_made"
    FAILED = "failed"
    RESTARTED = "restarted"
    UNHEALTHY = "unhealthy"
    TOO_OLD = "too_old"
    OUTDATED = "outdated"
    SURPLUS = "surplus"
    REMOVED = "removed"
    """The pool is removed by force."""


@dataclass(frozen=True)
class Create:
    """Create the child of a slot."""

    slot: int
    parent: str


@dataclass(frozen=True)
class End:
    """Destroy a child, after its record says :attr:`State.RELEASING`."""

    key: str
    reason: Reason


@dataclass(frozen=True)
class Note:
    """Write another state into the record of a child."""

    key: str
    state: State


Action = t.Union[Create, End, Note]


@dataclass(frozen=True)
class Plan:
    """The decision.

    :param limits: what keeps the pool from what is wanted, as sentences.
    :param states: key → the state of each child as users see it: a state of a record, ``used`` or ``unknown``.
    :param outdated: keys of the children of an old generation.
    :param refusal: why the task must fail, as a sentence.
    """

    actions: tuple[Action, ...] = ()
    limits: tuple[str, ...] = ()
    states: t.Mapping[str, str] = field(default_factory=dict)
    outdated: frozenset[str] = frozenset()
    refusal: str | None = None


def reconcile(inventory: Inventory, spec: PoolSpec, now: datetime.datetime) -> Plan:
    """Return what to do for a pool.

    :param now: vCenter's time.
    """
    pool = _Pool(inventory, spec, now)
    shown = {child.key: shown_state(child) for child in inventory.children}
    outdated = frozenset(child.key for child in pool.known.values() if pool.is_outdated(child))

    def plan(*actions: Action, refusal: str | None = None) -> Plan:
        return Plan(actions, tuple(pool.limits), shown, outdated, refusal)

    if not pool.is_certain():
        return plan()
    if spec.mode is Mode.PAUSED:
        return plan()
    held = [
        child.name
        for child in inventory.children
        if isinstance(child.record, ChildRecord) and child.record.state in HELD
    ]
    if spec.mode is Mode.ABSENT and held and not spec.force:
        return plan(
            refusal=f"Pool {spec.name} was not removed, because children are leased: {_listed(held)}. Wait until they "
            "are released, or set force=true."
        )
    ends = _endings(pool)
    return plan(*ends, *_notes(pool, ends), *_creations(pool, ends))


def shown_state(child: PoolChild) -> str:
    """Return the state of a child as users see it."""
    record = child.record
    if isinstance(record, Unreadable) or child.kin is Kin.DOUBTFUL or not child.is_reachable:
        return "unknown"
    restarted = child.boot_time is not None and child.boot_time != record.boot_time
    if record.state is State.LEASED and (not child.is_on or restarted):
        return "used"
    return record.state.value


@dataclass(frozen=True)
class _Known:
    """A child about which everything is known that a decision needs."""

    vm: PoolChild
    record: ChildRecord

    @property
    def key(self) -> str:
        return self.vm.key

    @property
    def name(self) -> str:
        return self.vm.name

    @property
    def state(self) -> State:
        return self.record.state


class _Pool:
    """The input, and what follows from it.

    :ivar known: key → each child that may be part of an action.
    :ivar limits: see :class:`Plan`.
    """

    def __init__(self, inventory: Inventory, spec: PoolSpec, now: datetime.datetime) -> None:
        self.inventory, self.spec, self.now = inventory, spec, now
        self.parents = {parent.key: parent for parent in inventory.parents}
        self.known = {
            child.key: _Known(child, child.record)
            for child in inventory.children
            if child.kin is Kin.CHILD and child.is_reachable and isinstance(child.record, ChildRecord)
        }
        self.limits: list[str] = []
        self.knows_time = self._knows_time()

    def is_certain(self) -> bool:
        """Return whether everything was read completely; otherwise add limits."""
        problems = [self.inventory.gap] if self.inventory.gap is not None else []
        problems += [
            f"The record on VM {child.name} cannot be used: {child.record.why}."
            for child in self.inventory.children
            if isinstance(child.record, Unreadable)
        ]
        problems += [
            f"The record of the pool on parent {parent.name} cannot be used: {parent.pool.why}."
            for parent in self.inventory.parents
            if isinstance(parent.pool, Unreadable)
        ]
        self.limits += [f"{problem} Nothing was done." for problem in problems]
        return not problems

    def _knows_time(self) -> bool:
        """Return whether times can be compared with the present; otherwise add a limit."""
        if abs(self.now - self.inventory.controller_time) > CLOCK_DIFFERENCE:
            why = "vCenter's clock differs from the controller's by more than 5 minutes"
        elif any(child.record.created > self.now for child in self.known.values()):
            why = "vCenter's clock is behind the creation of a child"
        else:
            return True
        self.limits.append(f"Nothing expires in this run: {why}. Correct the clocks.")
        return False

    def passed(self, since: datetime.datetime | None, seconds: float) -> bool:
        """Return whether this time has certainly passed since then."""
        return self.knows_time and since is not None and (self.now - since).total_seconds() >= seconds

    def is_outdated(self, child: _Known) -> bool:
        """Return whether a child is certainly of another generation than new ones would be."""
        parent = self.parents.get(child.vm.parent or "")
        if parent is None:
            return True  # its parent is no longer one of the pool's
        return parent.generation is not None and parent.generation != child.record.generation

    def wants_newer(self, child: _Known) -> bool:
        return self.spec.update_strategy is not UpdateStrategy.NEVER and self.is_outdated(child)


def _restarted(pool: _Pool, child: _Known) -> bool:
    """It was restarted since it became ready, so it is not in the state that it was checked in."""
    its = child.vm.boot_time
    return child.vm.is_on and its is not None and child.record.boot_time not in (None, its)


def _unhealthy(pool: _Pool, child: _Known) -> bool:
    """It was unhealthy at a first look, is so now, and most others are healthy."""
    long_enough = pool.passed(child.record.since, SECOND_LOOK.total_seconds())
    return child.vm.is_healthy is False and long_enough and not _most_are_unhealthy(pool)


def _too_old(pool: _Pool, child: _Known) -> bool:
    return pool.spec.ready_ttl is not None and pool.passed(child.record.created, pool.spec.ready_ttl)


def _outdated(pool: _Pool, child: _Known) -> bool:
    return pool.spec.update_strategy is UpdateStrategy.ROLLING and pool.is_outdated(child)


def _failed(pool: _Pool, child: _Known) -> bool:
    """It failed, and enough others that failed later are kept."""
    failed = [other for other in pool.known.values() if other.state is State.FAILED]
    kept = sorted(failed, key=lambda other: (other.record.created, other.key), reverse=True)[: _kept_failed(pool.spec)]
    return child not in kept


def _kept_failed(spec: PoolSpec) -> int:
    return spec.keep_failed if spec.mode is not Mode.ABSENT else 0


Rule = t.Callable[[_Pool, _Known], bool]

RULES: dict[Reason, Rule] = {
    Reason.RELEASED: lambda pool, child: True,
    Reason.EXPIRED: lambda pool, child: pool.passed(child.record.until, pool.spec.lease_grace),
    Reason.ABANDONED: lambda pool, child: pool.passed(child.record.since, pool.spec.lease_grace),
    Reason.HALF_MADE: lambda pool, child: pool.passed(child.record.since, pool.spec.create_timeout),
    Reason.FAILED: _failed,
    Reason.RESTARTED: _restarted,
    Reason.UNHEALTHY: _unhealthy,
    Reason.TOO_OLD: _too_old,
    Reason.OUTDATED: _outdated,
    Reason.REMOVED: lambda pool, child: pool.spec.mode is Mode.ABSENT and pool.spec.force,
}
"""When a reason applies to a child."""

ENDINGS: dict[State, tuple[Reason, ...]] = {
    State.CREATING: (Reason.REMOVED, Reason.HALF_MADE),
    State.READY: (Reason.RESTARTED, Reason.TOO_OLD, Reason.OUTDATED),
    State.UNHEALTHY: (Reason.RESTARTED, Reason.UNHEALTHY, Reason.TOO_OLD, Reason.OUTDATED),
    State.CLAIMING: (Reason.REMOVED, Reason.ABANDONED),
    State.LEASED: (Reason.REMOVED, Reason.EXPIRED),
    State.RELEASING: (Reason.RELEASED,),
    State.FAILED: (Reason.FAILED,),
}
"""Why a child with this state may be ended. The first reason that applies counts."""

UNLIMITED = frozenset({Reason.RELEASED, Reason.FAILED, Reason.SURPLUS, Reason.REMOVED})
"""Reasons that do not count for ``max_deletions``: they depend on no clock and no health."""

URGENCY = (
    Reason.EXPIRED,
    Reason.ABANDONED,
    Reason.HALF_MADE,
    Reason.RESTARTED,
    Reason.UNHEALTHY,
    Reason.TOO_OLD,
    Reason.OUTDATED,
)
"""Reasons in the order in which they use ``max_deletions``."""


def _endings(pool: _Pool) -> list[End]:
    """Return which children to end, within the limits."""
    found = {child.key: reason for child in pool.known.values() if (reason := _reason(pool, child)) is not None}
    _say_if_most_are_unhealthy(pool)
    chosen = [End(key, reason) for key, reason in found.items() if reason in UNLIMITED]
    chosen += _within_limits(pool, found)
    chosen += _surplus(pool, {end.key for end in chosen})
    busy = [end for end in chosen if pool.known[end.key].vm.is_busy]
    if busy:
        names = [pool.known[end.key].name for end in busy]
        pool.limits.append(
            f"Not removed, because a task or a backup is running on them: {_listed(names)}. Run again later."
        )
    return [end for end in chosen if end not in busy]


def _reason(pool: _Pool, child: _Known) -> Reason | None:
    return next((reason for reason in ENDINGS[child.state] if RULES[reason](pool, child)), None)


def _within_limits(pool: _Pool, found: t.Mapping[str, Reason]) -> list[End]:
    """Return the endings that ``max_deletions`` and ``max_unavailable`` allow."""
    spec = pool.spec
    due = sorted(
        (End(key, reason) for key, reason in found.items() if reason not in UNLIMITED),
        key=lambda end: (URGENCY.index(end.reason), pool.known[end.key].record.created, end.key),
    )
    most = len(due) if spec.force else spec.max_deletions.of(len(pool.inventory.children), LEAST_DELETIONS)
    replaced = len(due) if spec.force else spec.max_unavailable.of(spec.ready_count, at_least=1)
    updated = replaced if spec.force else replaced - _unavailable(pool)
    chosen: list[End] = []
    for end in due:
        if len(chosen) >= most:
            break
        if end.reason is Reason.OUTDATED and updated <= 0:
            continue
        if end.reason in (Reason.UNHEALTHY, Reason.OUTDATED):
            if replaced <= 0:
                continue
            replaced, updated = replaced - 1, updated - 1
        chosen.append(end)
    left = len(due) - len(chosen)
    if left:
        pool.limits.append(
            f"Children left for the next runs because of max_deletions and max_unavailable: {left}. Set force=true to "
            "remove them now."
        )
    return chosen


def _unavailable(pool: _Pool) -> int:
    """Return how many of the children that could be ready are not."""
    ready = sum(1 for child in pool.known.values() if child.state is State.READY)
    others = len(pool.inventory.children) - ready
    return max(0, min(pool.spec.ready_count, pool.spec.max_count - others) - ready)


def _most_are_unhealthy(pool: _Pool) -> bool:
    """Return whether more than half of the idle children look unhealthy, as all do after a restart of vCenter."""
    idle = [child for child in pool.known.values() if child.state in (State.READY, State.UNHEALTHY)]
    return 2 * sum(1 for child in idle if child.vm.is_healthy is False) > len(idle)


def _say_if_most_are_unhealthy(pool: _Pool) -> None:
    if _most_are_unhealthy(pool):
        pool.limits.append(
            "More than half of the idle children look unhealthy, so none was replaced for that. Check vCenter and the "
            "ESXi hosts."
        )


def _surplus(pool: _Pool, ended: t.Container[str]) -> list[End]:
    """Return which idle children to end because there are more than wanted: outdated ones, then the oldest.

    Unhealthy ones are not counted: they are not handed out, and end for that.
    """
    is_present = pool.spec.mode is Mode.PRESENT
    states = (State.READY,) if is_present else (State.READY, State.UNHEALTHY)
    idle = [child for child in pool.known.values() if child.state in states and child.key not in ended]
    more = len(idle) - (pool.spec.ready_count if is_present else 0)
    idle.sort(key=lambda child: (not pool.wants_newer(child), child.record.created, child.key))
    return [End(child.key, Reason.SURPLUS) for child in idle[: max(0, more)]]


def _notes(pool: _Pool, ends: t.Sequence[End]) -> list[Note]:
    """Return which children to note as unhealthy, or as healthy again."""
    if _most_are_unhealthy(pool):
        return []
    ended = {end.key for end in ends}
    result = []
    for child in pool.known.values():
        if child.key in ended or _restarted(pool, child):
            continue
        if child.state is State.READY and child.vm.is_healthy is False:
            result.append(Note(child.key, State.UNHEALTHY))
        elif child.state is State.UNHEALTHY and child.vm.is_healthy and child.record.boot_time is not None:
            result.append(Note(child.key, State.READY))
    return result


def _creations(pool: _Pool, ends: t.Sequence[End]) -> list[Create]:
    """Return which children to create.

    Children that end in this run keep their slots until the next one: their end may fail.
    """
    spec = pool.spec
    if spec.mode is not Mode.PRESENT:
        return []
    ended = {end.key for end in ends}
    coming = (State.CREATING, State.READY, State.UNHEALTHY)
    missing = spec.ready_count - sum(
        1 for child in pool.known.values() if child.state in coming and child.key not in ended
    )
    if missing <= 0:
        return []
    slots = _free_slots(pool)
    if len(slots) < missing:
        pool.limits.append(
            f"{missing - len(slots)} ready children are missing because of max_count ({spec.max_count}). "
            "Raise it, or wait for releases."
        )
    return _spread(pool, slots[:missing])


def _free_slots(pool: _Pool) -> list[int]:
    """Return the slots whose names new children may get, gaps first.

    This alone keeps ``max_count``: what several tasks create at once has names of slots, and each only once. Children
    without a slot, because they were renamed or moved, or ``max_count`` was larger, take the last slots away.
    """
    taken = {child.slot for child in pool.inventory.children}

    def without_slot(last: int) -> int:
        return len(pool.inventory.children) - len(taken.intersection(range(1, last + 1)))

    last = pool.spec.max_count
    while last > 0 and last + without_slot(last) > pool.spec.max_count:
        last -= 1
    return [slot for slot in range(1, last + 1) if slot not in taken | pool.inventory.foreign_slots]


def _spread(pool: _Pool, slots: t.Sequence[int]) -> list[Create]:
    """Return a parent for each slot, as far as the parents can have children."""
    usable = [parent for parent in pool.inventory.parents if _can_fork(pool, parent)]
    count = {parent.key: sum(1 for child in pool.inventory.children if child.parent == parent.key) for parent in usable}
    left = {parent.key: len(slots) if parent.room is None else parent.room for parent in usable}
    result: list[Create] = []
    for slot in slots:
        free = [parent.key for parent in usable if left[parent.key] > 0]
        if not free:
            break
        chosen = free[0] if pool.spec.spread is Spread.PACK else min(free, key=lambda key: count[key])
        count[chosen], left[chosen] = count[chosen] + 1, left[chosen] - 1
        result.append(Create(slot, chosen))
    if usable and len(result) < len(slots):
        pool.limits.append(f"The parents have room for only {len(result)} of {len(slots)} children.")
    return result


def _can_fork(pool: _Pool, parent: PoolParent) -> bool:
    """Return whether children can be created from a parent; otherwise add a limit."""
    if parent.obstacle is not None:
        pool.limits.append(parent.obstacle)
        return False
    if parent.generation is None:
        pool.limits.append(
            f"No child is created from parent {parent.name}: its generation is not known. Quiesce it with "
            "vmfork_quiesce."
        )
        return False
    its = parent.pool
    if (
        isinstance(its, PoolRecord)
        and its.failures >= pool.spec.stop_after_failures
        and its.failed_generation == parent.generation
        and not pool.passed(its.failed_at, pool.spec.retry_after)
    ):
        pool.limits.append(
            f"No child is created from parent {parent.name} for now: {its.failures} failed in a row. Look "
            "at the children that were kept."
        )
        return False
    return True


def _listed(names: t.Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(sorted(names)[:3]) + more
