# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for pools: each rule by an example, and what holds for every plan in a world that changes at random."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from dataclasses import replace

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import reconcile
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.reconcile import (
    Action,
    Create,
    End,
    Inventory,
    Kin,
    Note,
    Plan,
    PoolChild,
    PoolParent,
    PoolSpec,
    Reason,
    Spread,
    UpdateStrategy,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import (
    Amount,
    ChildRecord,
    Mode,
    PoolRecord,
    State,
    Unreadable,
)

NOW = datetime.datetime(2026, 11, 30, 12, 0, 0, tzinfo=datetime.timezone.utc)
BOOT = NOW - datetime.timedelta(hours=1)
GOLDEN = PoolParent("vm-1", "golden", "g1")
SPEC = PoolSpec("ci", Mode.PRESENT, ready_count=0, max_count=10)


def ago(**parts: float) -> datetime.datetime:
    return NOW - datetime.timedelta(**parts)


def record_of(state: State, **values: t.Any) -> ChildRecord:
    """Return the record of a child that was created an hour ago, with what its state needs."""
    held = state in (State.CLAIMING, State.LEASED)
    lease = {"lease_id": "job", "attempt": "a", "until": NOW + datetime.timedelta(hours=1)} if held else {}
    given = {"pool": "ci", "generation": "g1", "bios_uuid": "u", "created": BOOT, "since": BOOT, "boot_time": BOOT}
    result = ChildRecord(**{**given, **lease, "state": state, **values})
    assert result.contradiction is None
    return result


def vm(number: int, state: State = State.READY, **values: t.Any) -> PoolChild:
    """Return a child; values that only a record has become its record's."""
    names = {part.name for part in dataclasses.fields(ChildRecord)} - {"boot_time"}
    of_record = {name: values.pop(name) for name in list(values) if name in names}
    given = {"slot": number, "parent": "vm-1", "boot_time": BOOT, "record": record_of(state, **of_record)}
    return PoolChild(**{"key": f"vm-1{number:02}", "name": f"ci-{number:03}", "kin": Kin.CHILD, **given, **values})


def plan(*children: PoolChild, parents: tuple[PoolParent, ...] = (GOLDEN,), **options: t.Any) -> Plan:
    """Return the plan for these children; options are those of the inventory and of the spec."""
    names = {part.name for part in dataclasses.fields(Inventory)}
    of_inventory = {name: options.pop(name) for name in list(options) if name in names}
    inventory = Inventory(**{"parents": parents, "children": children, "controller_time": NOW, **of_inventory})
    return reconcile.reconcile(inventory, replace(SPEC, **options), NOW)


def ended(*children: PoolChild, **options: t.Any) -> list[tuple[int, str]]:
    """Return the number of each child that is ended, and the reason."""
    actions = plan(*children, **options).actions
    return [(int(end.key[-2:]), end.reason.value) for end in actions if isinstance(end, End)]


def test_fill() -> None:
    assert plan(vm(1), vm(3), ready_count=4).actions == (Create(2, "vm-1"), Create(4, "vm-1"))


def test_nothing_to_do() -> None:
    assert plan(vm(1), vm(2), vm(3, State.LEASED), ready_count=2) == Plan(
        (), (), {"vm-101": "ready", "vm-102": "ready", "vm-103": "leased"}
    )


def test_leased_children_count_for_max_count_only() -> None:
    its = plan(*(vm(number, State.LEASED) for number in (1, 2, 3)), ready_count=4, max_count=5)
    assert its.actions == (Create(4, "vm-1"), Create(5, "vm-1"))
    assert its.limits == ("2 ready children are missing because of max_count (5). Raise it, or wait for releases.",)


def test_a_child_that_another_task_creates_is_not_created_twice() -> None:
    assert plan(vm(1, State.CREATING, since=NOW), ready_count=1).actions == ()


def test_children_that_cannot_be_used_count_for_max_count() -> None:
    others = (vm(1, is_reachable=False), vm(2, kin=Kin.ORPHAN), vm(3, kin=Kin.DOUBTFUL))
    assert plan(*others, ready_count=3, max_count=4).actions == (Create(4, "vm-1"),)


@pytest.mark.parametrize("doubt", [{"is_reachable": False}, {"kin": Kin.ORPHAN}, {"kin": Kin.DOUBTFUL}])
@pytest.mark.parametrize("state", State)
def test_children_that_cannot_be_used_are_never_touched(state: State, doubt: dict[str, t.Any]) -> None:
    for mode in (Mode.PRESENT, Mode.DRAINED, Mode.ABSENT):
        its = plan(vm(1, state, generation="g0", boot_time=NOW, is_healthy=False, **doubt), mode=mode, force=True)
        assert its.actions == ()


def test_names_of_foreign_vms_are_left_out() -> None:
    assert plan(ready_count=2, foreign_slots=frozenset({1})).actions == (Create(2, "vm-1"), Create(3, "vm-1"))


def test_a_renamed_child_takes_the_last_slot() -> None:
    its = plan(vm(1, slot=None), ready_count=3, max_count=3)
    assert its.actions == (Create(1, "vm-1"), Create(2, "vm-1"))


def test_two_children_of_one_slot_take_two() -> None:
    assert plan(vm(1), vm(1, key="vm-900"), ready_count=5, max_count=3).actions == (Create(2, "vm-1"),)


def test_an_ended_child_keeps_its_slot() -> None:
    children = (vm(1, State.RELEASING), vm(2, State.RELEASING, slot=None))
    assert [action for action in plan(*children, ready_count=3, max_count=3).actions if isinstance(action, Create)] == [
        Create(2, "vm-1")
    ]


def test_a_child_above_a_lowered_max_count_takes_a_slot() -> None:
    its = plan(vm(9, State.LEASED), ready_count=3, max_count=3)
    assert its.actions == (Create(1, "vm-1"), Create(2, "vm-1"))


def test_scale_in_takes_outdated_then_the_oldest() -> None:
    children = (vm(1), vm(2, created=ago(hours=3)), vm(3, generation="g0"), vm(4))
    assert ended(*children, ready_count=2) == [(3, "surplus"), (2, "surplus")]
    never = {"ready_count": 2, "update_strategy": UpdateStrategy.NEVER}
    assert ended(*children, **never) == [(2, "surplus"), (1, "surplus")]


def test_a_lower_max_count_ends_no_lease() -> None:
    assert plan(vm(1, State.LEASED), vm(2, State.LEASED), max_count=1).actions == ()


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        (vm(1, State.RELEASING), "released"),
        (vm(1, State.LEASED, until=ago(minutes=14)), None),
        (vm(1, State.LEASED, until=ago(minutes=15)), "expired"),
        (vm(1, State.LEASED, is_on=False, until=ago(minutes=15)), "expired"),
        (vm(1, State.LEASED, is_on=False), None),
        (vm(1, State.LEASED, is_healthy=False), None),
        (vm(1, State.LEASED, generation="g0"), None),
        (vm(1, State.LEASED, created=ago(days=9)), None),
        (vm(1, State.CLAIMING, since=ago(minutes=14)), None),
        (vm(1, State.CLAIMING, since=ago(minutes=15)), "abandoned"),
        (vm(1, State.CREATING, since=ago(minutes=9)), None),
        (vm(1, State.CREATING, since=ago(minutes=10)), "half_made"),
        (vm(1, boot_time=ago(minutes=1)), "restarted"),
        (vm(1, State.UNHEALTHY, since=ago(minutes=1), is_healthy=False), None),
        (vm(1, created=ago(hours=23)), None),
        (vm(1, created=ago(hours=24)), "too_old"),
        (vm(1, generation="g0"), "outdated"),
        (vm(1, parent=None), "outdated"),
    ],
)
def test_why_a_child_is_ended(child: PoolChild, reason: str | None) -> None:
    options = {"ready_count": 2, "ready_ttl": 86400, "update_strategy": UpdateStrategy.ROLLING, "force": True}
    assert ended(child, vm(2), **options) == ([(1, reason)] if reason is not None else [])


def test_unhealthy_at_the_second_look() -> None:
    first = vm(1, is_healthy=False)
    assert plan(first, vm(2), ready_count=2).actions == (Note("vm-101", State.UNHEALTHY),)
    second = vm(1, State.UNHEALTHY, since=ago(minutes=5), is_healthy=False)
    assert ended(second, vm(2), ready_count=2) == [(1, "unhealthy")]
    for health in (None, True):
        assert ended(replace(second, is_healthy=health), vm(2), ready_count=2) == []
    assert plan(replace(second, is_healthy=True), vm(2), ready_count=2).actions == (Note("vm-101", State.READY),)


def test_most_are_unhealthy() -> None:
    children = [vm(number, State.UNHEALTHY, since=ago(hours=1), is_healthy=False) for number in (1, 2)]
    its = plan(*children, vm(3), ready_count=3)
    assert its.actions == ()
    assert [limit[:48] for limit in its.limits] == ["More than half of the idle children look unhealt"]


def test_most_become_unhealthy() -> None:
    assert plan(vm(1, is_healthy=False), vm(2, is_healthy=False), vm(3), ready_count=3).actions == ()


def test_unhealthy_ones_are_replaced_in_parts() -> None:
    dead = [vm(number, State.UNHEALTHY, since=ago(hours=1), is_healthy=False) for number in (1, 2, 3)]
    children = [*dead, *(vm(number) for number in range(4, 9))]
    assert len(ended(*children, ready_count=8, max_deletions=Amount(8))) == 2
    assert len(ended(*children, ready_count=8, force=True)) == 3


def test_what_ends_is_not_noted() -> None:
    children = (vm(1, is_healthy=False, created=ago(hours=2)), vm(2), vm(3))
    assert plan(*children, ready_count=2).actions == (End("vm-101", Reason.SURPLUS),)


def test_an_unknown_generation_makes_nothing_outdated() -> None:
    unknown = {"parents": (replace(GOLDEN, generation=None),), "update_strategy": UpdateStrategy.ROLLING}
    its = plan(vm(1), vm(2), ready_count=2, **unknown)
    assert (its.actions, its.outdated) == ((), frozenset())


def test_unhealthy_ones_do_not_push_out_healthy_ones() -> None:
    children = [vm(number, State.UNHEALTHY, since=NOW, is_healthy=False) for number in (1, 2)]
    assert plan(*children, vm(3), vm(4), ready_count=2).actions == ()


def test_failed_ones_are_kept_for_a_look() -> None:
    children = [vm(number, State.FAILED, created=ago(hours=number)) for number in (1, 2, 3)]
    assert ended(*children) == [(2, "failed"), (3, "failed")]
    assert len(ended(*children, keep_failed=0)) == 3


def test_rolling_replaces_as_many_as_may_be_unavailable() -> None:
    children = [vm(number, generation="g0") for number in range(1, 9)]
    options = {"ready_count": 8, "max_count": 8, "update_strategy": UpdateStrategy.ROLLING}
    assert len(ended(*children, max_deletions=Amount(8), **options)) == 2
    assert len(ended(*children[:7], max_deletions=Amount(8), **options)) == 1
    assert len(ended(*children[:6], max_deletions=Amount(8), **options)) == 0
    assert len(ended(*children, max_deletions=Amount(1), **options)) == 1
    assert len(ended(*children, force=True, **options)) == 8
    assert ended(*children, **{**options, "update_strategy": UpdateStrategy.ON_REPLENISH}) == []


def test_max_deletions_takes_the_most_urgent_first() -> None:
    old = {"created": ago(days=2)}
    children = [vm(1, **old), vm(2, **old), vm(3, State.LEASED, until=ago(hours=1)), vm(4, State.CREATING, since=BOOT)]
    options = {"ready_count": 2, "ready_ttl": 60}
    assert ended(*children, **options) == [(3, "expired"), (4, "half_made")]
    assert (
        "Children left for the next runs because of max_deletions and max_unavailable: 2."
        in plan(*children, **options).limits[0]
    )
    assert len(ended(*children, force=True, **options)) == 4


@pytest.mark.parametrize("minutes", [-6, 6])
def test_clocks_that_differ(minutes: int) -> None:
    clock = {"controller_time": ago(minutes=minutes)}
    its = plan(vm(1, State.LEASED, until=ago(hours=1)), vm(2, State.RELEASING), **clock)
    assert its.actions == (End("vm-102", Reason.RELEASED),)
    assert its.limits[0].startswith("Nothing expires in this run: vCenter's clock differs")


def test_clock_behind_a_child() -> None:
    late = vm(2, created=NOW + datetime.timedelta(seconds=1))
    assert ended(vm(1, State.LEASED, until=ago(hours=1)), late, ready_count=1) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"gap": "The folder could not be read."},
        {"parents": (replace(GOLDEN, pool=Unreadable("it is not JSON")),)},
        {"children": (vm(1, State.RELEASING), replace(vm(2), record=Unreadable("it is not JSON")))},
    ],
)
def test_incomplete_inventory(broken: dict[str, t.Any]) -> None:
    its = plan(**{"children": (vm(1, State.RELEASING),), **broken}, ready_count=5)
    assert its.actions == ()
    assert its.limits[0].endswith("Nothing was done.")


def test_busy_children_are_postponed() -> None:
    its = plan(vm(1, State.RELEASING, is_busy=True))
    assert (its.actions, its.limits) == (
        (),
        ("Not removed, because a task or a backup is running on them: ci-001. Run again later.",),
    )


def test_paused() -> None:
    children = (vm(1), vm(2, State.RELEASING), vm(3, State.LEASED, until=ago(days=1)))
    assert plan(*children, mode=Mode.PAUSED, ready_count=5).actions == ()


def test_drained() -> None:
    children = (vm(1), vm(2, State.UNHEALTHY), vm(3, State.LEASED), vm(4, State.LEASED, until=ago(days=1)))
    assert ended(*children, mode=Mode.DRAINED, ready_count=5) == [(4, "expired"), (1, "surplus"), (2, "surplus")]


@pytest.mark.parametrize("mode", [Mode.DRAINED, Mode.ABSENT, Mode.PAUSED])
def test_only_a_present_pool_is_filled(mode: Mode) -> None:
    assert plan(mode=mode, ready_count=5).actions == ()


def test_absent() -> None:
    children = [vm(1), vm(2, State.FAILED), vm(3, State.CREATING, since=NOW)]
    assert ended(*children, mode=Mode.ABSENT) == [(2, "failed"), (1, "surplus")]
    assert len(ended(*children, mode=Mode.ABSENT, force=True)) == 3
    for leased in (vm(4, State.LEASED), vm(4, State.CLAIMING), vm(4, State.LEASED, is_reachable=False)):
        its = plan(*children, leased, mode=Mode.ABSENT)
        assert its.actions == ()
        assert its.refusal == (
            "Pool ci was not removed, because children are leased: ci-004. Wait until they are released, or set "
            "force=true."
        )
    assert len(ended(*children, vm(4, State.LEASED), mode=Mode.ABSENT, force=True)) == 4


def test_spread() -> None:
    parents = (GOLDEN, PoolParent("vm-2", "silver", "g2"))
    balanced = plan(vm(1), vm(2), ready_count=6, parents=parents).actions
    assert [create.parent for create in balanced if isinstance(create, Create)] == ["vm-2", "vm-2", "vm-1", "vm-2"]
    packed = plan(ready_count=3, spread=Spread.PACK, parents=(replace(GOLDEN, room=2), parents[1])).actions
    assert [create.parent for create in packed if isinstance(create, Create)] == ["vm-1", "vm-1", "vm-2"]


@pytest.mark.parametrize(
    ("parent", "limit"),
    [
        (replace(GOLDEN, obstacle="VM golden is powered off."), "VM golden is powered off."),
        (replace(GOLDEN, generation=None), "No child is created from parent golden: its generation is not known."),
        (replace(GOLDEN, room=0), "The parents have room for only 0 of 1 children."),
        (
            replace(GOLDEN, pool=PoolRecord(Mode.PRESENT, NOW, 60, "", "", 3, ago(minutes=29), "g1")),
            "No child is created from parent golden for now: 3 failed in a row.",
        ),
    ],
)
def test_parents_that_cannot_be_forked(parent: PoolParent, limit: str) -> None:
    its = plan(ready_count=1, parents=(parent,))
    assert its.actions == ()
    assert its.limits[0].startswith(limit)


@pytest.mark.parametrize(
    "values",
    [{"failures": 2}, {"failed_at": ago(minutes=30)}, {"failed_generation": "g0"}],
)
def test_creation_resumes_after_failures(values: dict[str, t.Any]) -> None:
    its = replace(PoolRecord(Mode.PRESENT, NOW, 60, "", "", 3, ago(minutes=1), "g1"), **values)
    assert len(plan(ready_count=1, parents=(replace(GOLDEN, pool=its),)).actions) == 1


@pytest.mark.parametrize(
    ("child", "state"),
    [
        (vm(1, State.LEASED, is_on=False), "used"),
        (vm(1, State.LEASED, boot_time=NOW), "used"),
        (vm(1, State.LEASED), "leased"),
        (vm(1, is_reachable=False), "unknown"),
        (vm(1, kin=Kin.DOUBTFUL), "unknown"),
        (replace(vm(1), record=Unreadable("it is not JSON")), "unknown"),
        (vm(1, State.CREATING), "creating"),
    ],
)
def test_shown_state(child: PoolChild, state: str) -> None:
    assert plan(child).states == {child.key: state}


TIME_BASED = {
    Reason.EXPIRED,
    Reason.ABANDONED,
    Reason.HALF_MADE,
    Reason.RESTARTED,
    Reason.UNHEALTHY,
    Reason.TOO_OLD,
    Reason.OUTDATED,
}

numbers = st.integers(0, 99)


class World(RuleBasedStateMachine):
    """Children that change at random, and tasks that carry out plans, alone or two at once.

    As in vSphere, a folder has each name once, and a record is replaced only if it is still what the task has read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vms: dict[str, PoolChild] = {}
        self.now = NOW
        self.controller = NOW
        self.generation = 1
        self.serial = 0
        self.gap: str | None = None

    @initialize(
        ready=st.integers(2, 5),
        maximum=st.integers(4, 8),
        strategy=st.sampled_from(UpdateStrategy),
        deletions=st.sampled_from([Amount(0), Amount(1), Amount(20, is_share=True)]),
    )
    def begin(self, ready: int, maximum: int, strategy: UpdateStrategy, deletions: Amount) -> None:
        self.spec = PoolSpec("ci", Mode.PRESENT, ready, maximum, strategy, ready_ttl=7200, max_deletions=deletions)
        self.run()

    @property
    def parents(self) -> tuple[PoolParent, ...]:
        return (PoolParent("p1", "golden", f"g{self.generation}"), PoolParent("p2", "silver", "s1", room=2))

    def inventory(self) -> Inventory:
        return Inventory(self.parents, tuple(self.vms.values()), self.controller, gap=self.gap)

    def plan(self, spec: PoolSpec | None = None) -> tuple[Inventory, Plan]:
        """Return a plan after a check of what holds for every plan."""
        spec, inventory = spec or self.spec, self.inventory()
        its = reconcile.reconcile(inventory, spec, self.now)
        unsure = abs(self.now - self.controller) > datetime.timedelta(minutes=5)
        if self.gap or any(isinstance(child.record, Unreadable) for child in self.vms.values()):
            assert its.actions == ()
        timed = [end for end in its.actions if isinstance(end, End) and end.reason in TIME_BASED]
        most = spec.max_deletions.number if not spec.max_deletions.is_share else max(2, len(self.vms) // 5)
        assert spec.force or len(timed) <= most
        touched = [action.key for action in its.actions if not isinstance(action, Create)]
        assert len(touched) == len(set(touched))
        for action in its.actions:
            if isinstance(action, Create):
                assert 1 <= action.slot <= spec.max_count
                continue
            child = self.vms[action.key]
            assert child.kin is Kin.CHILD
            assert child.is_reachable
            assert isinstance(child.record, ChildRecord)
            if child.record.state in (State.LEASED, State.CLAIMING):
                assert isinstance(action, End)
                assert not unsure
                assert action.reason in (Reason.EXPIRED, Reason.ABANDONED)
                end = child.record.until if child.record.state is State.LEASED else child.record.since
                assert end is not None
                assert end + datetime.timedelta(seconds=spec.lease_grace) <= self.now
        return inventory, its

    def carry_out(self, seen: Inventory, action: Action) -> None:
        if isinstance(action, Create):
            if all(child.slot != action.slot for child in self.vms.values()):
                self.create(action)
            return
        before = next(child for child in seen.children if child.key == action.key)
        now = self.vms.get(action.key)
        if now is None or now.record != before.record:
            return
        if isinstance(action, End):
            del self.vms[action.key]
        else:
            assert isinstance(now.record, ChildRecord)
            self.vms[action.key] = replace(now, record=replace(now.record, state=action.state, since=self.now))

    def create(self, action: Create) -> None:
        self.serial += 1
        parent = next(parent for parent in self.parents if parent.key == action.parent)
        its = record_of(State.READY, generation=parent.generation, created=self.now, since=self.now, boot_time=self.now)
        key = f"vm-{self.serial}"
        self.vms[key] = PoolChild(key, key, Kin.CHILD, its, action.slot, parent.key, boot_time=self.now)

    def change(self, number: int, **values: t.Any) -> None:
        assume(self.vms)
        key = list(self.vms)[number % len(self.vms)]
        self.vms[key] = replace(self.vms[key], **values)

    def write(self, number: int, only: State | None, **values: t.Any) -> None:
        """Change the record of a child that has this state."""
        keys = [
            key
            for key, child in self.vms.items()
            if isinstance(child.record, ChildRecord) and only in (None, child.record.state)
        ]
        assume(keys)
        key = keys[number % len(keys)]
        its = self.vms[key].record
        assert isinstance(its, ChildRecord)
        self.vms[key] = replace(self.vms[key], record=replace(its, since=self.now, **values))

    @rule(number=numbers, minutes=st.integers(-60, 60))
    def lease(self, number: int, minutes: int) -> None:
        until = self.now + datetime.timedelta(minutes=minutes)
        self.write(number, State.READY, state=State.LEASED, lease_id="job", attempt="a", until=until)

    @rule(number=numbers)
    def claim(self, number: int) -> None:
        self.write(number, State.READY, state=State.CLAIMING, lease_id="job", attempt="a")

    @rule(number=numbers)
    def release(self, number: int) -> None:
        self.write(number, State.LEASED, state=State.RELEASING)

    @rule(number=numbers, state=st.sampled_from([State.FAILED, State.CREATING]))
    def fail(self, number: int, state: State) -> None:
        self.write(number, State.READY, state=state, boot_time=None)

    @rule(number=numbers, health=st.sampled_from([True, False, None]))
    def turn(self, number: int, health: bool | None) -> None:
        self.change(number, is_healthy=health)

    @rule(number=numbers)
    def restart(self, number: int) -> None:
        self.change(number, boot_time=self.now + datetime.timedelta(seconds=1))

    @rule(number=numbers, is_on=st.booleans(), is_busy=st.booleans())
    def power(self, number: int, is_on: bool, is_busy: bool) -> None:
        self.change(number, is_on=is_on, is_busy=is_busy)

    @rule(number=numbers, mishap=st.sampled_from(["renamed", "unreachable", "orphan", "copy", "damaged", "gap"]))
    def have_mishap(self, number: int, mishap: str) -> None:
        """Few of many steps, because most of these keep a pool from being changed until :meth:`repair`."""
        if mishap == "renamed":
            self.change(number, slot=None)
        elif mishap == "unreachable":
            self.change(number, is_reachable=False)
        elif mishap == "orphan":
            self.change(number, kin=Kin.ORPHAN, parent=None)
        elif mishap == "damaged":
            self.change(number, record=Unreadable("it is not JSON"))
        elif mishap == "gap":
            self.gap = "The folder could not be read."
        else:
            self.change(number, kin=Kin.DOUBTFUL)
            self.serial += 1
            twin = list(self.vms.values())[number % len(self.vms)]
            self.vms[f"vm-{self.serial}"] = replace(twin, key=f"vm-{self.serial}", slot=None)

    @rule()
    def repair(self) -> None:
        self.gap, self.controller = None, self.now
        for key, child in list(self.vms.items()):
            if child.kin is not Kin.CHILD or isinstance(child.record, Unreadable):
                del self.vms[key]
            else:
                self.vms[key] = replace(child, is_reachable=True, is_busy=False)

    @rule(number=numbers)
    def remove_by_hand(self, number: int) -> None:
        assume(self.vms)
        del self.vms[list(self.vms)[number % len(self.vms)]]

    @rule()
    def refresh_parent(self) -> None:
        self.generation += 1

    @rule(minutes=st.integers(1, 200))
    def wait(self, minutes: int) -> None:
        self.now += datetime.timedelta(minutes=minutes)
        self.controller = self.now

    @rule(days=st.sampled_from([-9, 1, 9]), both=st.booleans())
    def clock_jumps(self, days: int, both: bool) -> None:
        self.now += datetime.timedelta(days=days)
        self.controller = self.now if both else self.controller

    @rule(ready=st.integers(0, 4), maximum=st.integers(0, 6), mode=st.sampled_from([*[Mode.PRESENT] * 6, *Mode]))
    def ask_for(self, ready: int, maximum: int, mode: Mode) -> None:
        self.spec = replace(self.spec, ready_count=ready, max_count=maximum, mode=mode)

    @rule()
    def run(self) -> None:
        before = len(self.vms)
        seen, its = self.plan()
        for action in its.actions:
            self.carry_out(seen, action)
        assert len(self.vms) <= max(self.spec.max_count, before)

    @rule(data=st.data())
    def run_two_at_once(self, data: st.DataObject) -> None:
        """Carry out two plans in any order; the second may be made after a part of the first."""
        before = len(self.vms)
        first = self.plan()
        left = [(first[0], action) for action in first[1].actions]
        for _step in range(data.draw(st.integers(0, len(left)))):
            self.carry_out(*left.pop(data.draw(st.integers(0, len(left) - 1))))
        for key in data.draw(st.lists(st.sampled_from(sorted(self.vms)), max_size=2)) if self.vms else []:
            self.vms.pop(key, None)  # somebody else removes a child meanwhile
        second = self.plan()
        left = data.draw(st.permutations([*left, *((second[0], action) for action in second[1].actions)]))
        for seen, action in left:
            self.carry_out(seen, action)
            assert len(self.vms) <= max(self.spec.max_count, before)

    @precondition(lambda self: all(child.is_healthy is not False for child in self.vms.values()))
    @rule()
    def converge(self) -> None:
        """Nothing is left to do after two runs without a limit on endings; otherwise it takes as many as it allows."""
        spec = replace(self.spec, force=self.spec.mode is not Mode.ABSENT)
        for _run in range(2):
            seen, its = self.plan(spec)
            for action in its.actions:
                self.carry_out(seen, action)
        assert self.plan(spec)[1].actions == ()

    @invariant()
    def every_plan_is_checked(self) -> None:
        if hasattr(self, "spec"):
            self.plan()


World.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
