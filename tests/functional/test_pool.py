# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a pool and the records of its children, in a vCenter that checks ``changeVersion``."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from functional.vapp import Estate
from functional.vcenter import VCenter
from pyVim.task import WaitForTask
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import placement, present
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Selector
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import carry_out, survey, taking
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.reconcile import Kin, Plan, PoolSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import ChildRecord, Mode, State
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session

pytestmark = pytest.mark.flags("-api-version", "8.0.3.0")

SECONDS = 60
SLOTS = [f"ci-{number:03}" for number in range(1, 100)]


@pytest.fixture
def session(vcenter: VCenter) -> Iterator[Session]:
    with opened(vcenter) as session:
        yield session


def opened(vcenter: VCenter) -> Session:
    simulator = vcenter.simulator
    server = Server(simulator.host, simulator.username, simulator.password, simulator.port, validate_certs=False)
    return Session(server, Budget(Deadline(SECONDS)))


def add(own: Estate, vcenter: VCenter, *names: str) -> None:
    """Create children with the record of a pool."""
    vcenter.ok("vmfork_child", parent_name=vcenter.parent, name=list(names), wait_for="powered_on")
    for name in names:
        vm = own.existing(name)
        boot, now = vm.mo.runtime.bootTime, datetime.datetime.now(datetime.timezone.utc)
        its = ChildRecord("ci", "g", vm.mo.config.uuid, now, State.READY, now, boot_time=boot)
        vm.set_extra("vmfork.pool", its.encode())


def look(session: Session, vcenter: VCenter, own: Estate) -> survey.Survey:
    names = survey.PoolNames("ci", [vcenter.moid()], own.existing(vcenter.parent).mo.parent, SLOTS)
    # The folder is compared with one of another connection.
    names = replace(names, folder=session.object(type(names.folder), names.folder._GetMoId()))
    return survey.survey(session, select.choose(session, "auto", "soap"), names)


@pytest.fixture
def pool(vcenter: VCenter, own: Estate) -> VCenter:
    """Return a vCenter whose first VM is at its fork point and has two children of a pool."""
    own.existing(vcenter.parent).set_extra("vmfork.generation", "m1")
    vcenter.quiesce()
    add(own, vcenter, "ci-001", "ci-002")
    return vcenter


def test_survey(pool: VCenter, own: Estate, session: Session) -> None:
    """Five calls, for two children as for twelve, and for an inventory of 300 more VMs."""
    pool.ok("vmfork_child", parent_name=pool.parent, name="ci-003", wait_for="powered_on")
    counts = []
    for more in ((), tuple(SLOTS[10:20])):
        if more:
            add(own, pool, *more)
            pool.control("POST", "inventory", {"vms": 300, "name": "many-%04d", "folder": "/DC0/vm"})
        with opened(pool) as other:
            look(other, pool, own)  # what belongs to the session is created
            names = survey.PoolNames("ci", [pool.moid()], None, SLOTS)
            engine = select.choose(other, "auto", "soap")
            with pool.calls() as calls:
                seen = survey.survey(other, engine, names)
            counts.append(calls)
            assert len(seen.inventory.children) == 2 + len(more)
    assert counts[0] == counts[1] == {"RetrievePropertiesEx": 3, "CurrentTime": 1}
    seen = look(session, pool, own)
    assert {child.name: (child.kin, child.slot) for child in seen.inventory.children[:2]} == {
        "ci-001": (Kin.CHILD, 1),
        "ci-002": (Kin.CHILD, 2),
    }
    assert all(child.is_reachable and child.is_on for child in seen.inventory.children)
    assert seen.inventory.foreign_slots == {3}
    assert seen.inventory.parents[0].generation is not None
    assert seen.inventory.parents[0].obstacle is None
    assert abs(seen.now - seen.inventory.controller_time) < datetime.timedelta(seconds=30)


def test_one_of_several_tasks_takes_a_child(pool: VCenter, own: Estate) -> None:
    every = threading.Barrier(4)

    def take(number: int) -> dict[str, Any]:
        with opened(pool) as session:
            seen = look(session, pool, own)
            now = seen.now + datetime.timedelta(seconds=number)
            records = [
                (seen.found[child.key], replace(child.record, state=State.RELEASING, since=now))
                for child in seen.inventory.children
                if isinstance(child.record, ChildRecord) and child.record.state is State.READY
            ]
            every.wait(SECONDS)
            return taking.take(session, Deadline(SECONDS), records)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(take, range(4)))
    for moid in {moid for answer in answers for moid in answer}:
        ends = [answer[moid] for answer in answers if moid in answer]
        assert ends.count(None) == 1
        assert all(isinstance(error, _errors.Refused) for error in ends if error is not None)
    assert sum(1 for answer in answers for error in answer.values() if error is None) == 2


def test_a_fork_of_a_child_inherits_no_pool(pool: VCenter, own: Estate, session: Session) -> None:
    pool.quiesce(name="ci-001")
    pool.ok("vmfork_child", parent_name="ci-001", name="ci-004", wait_for="powered_on")
    keys = {option.key: option.value for option in own.existing("ci-004").mo.config.extraConfig}
    assert "vmfork.child" in keys
    assert not keys.get("vmfork.pool")
    assert not keys.get("vmfork.generation")
    assert {child.name for child in look(session, pool, own).inventory.children} == {"ci-001", "ci-002"}


@pytest.mark.parametrize("kept", ["kept", "dropped"])
def test_record_is_written_with_the_creation(pool: VCenter, own: Estate, session: Session, kept: str) -> None:
    """If the server drops it, the reconfigure that makes the VM our child writes it."""
    if kept == "dropped":
        pool.rule("instant_clone_config_keys", kept)
    engine = select.choose(session, "auto", "soap")
    parent = parents.find(session, engine, Selector(moid=pool.moid()), placement.related())
    uuid, now = "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11", datetime.datetime.now(datetime.timezone.utc)
    its = ChildRecord("ci", "g", uuid, now, State.CREATING, now)
    wanted = ChildSpec("ci-003", bios_uuid=uuid, keys={"vmfork.pool": its.encode()})
    warnings: list[str] = []
    options = present.CreateOptions("powered_on", 4)
    (made,), _judgement = present.ensure_present(
        parent, [wanted], options, Deadline(SECONDS), check_mode=False, warn=warnings.append
    )
    assert (made.error, warnings) == (None, [])
    child = next(child for child in look(session, pool, own).inventory.children if child.name == "ci-003")
    assert (child.kin, child.record, child.slot) == (Kin.CHILD, its, 3)


class Place(NamedTuple):
    """Managed object IDs of a pool's parent and of the folder for its children."""

    parent: str
    folder: str


def place_of(vcenter: VCenter, own: Estate) -> Place:
    return Place(vcenter.moid(), own.existing(vcenter.parent).mo.parent._GetMoId())


def bring(
    vcenter: VCenter, own: Estate, place: Place | None = None, **options: Any
) -> tuple[Plan, list[carry_out.Done]]:
    """Bring the pool to a state with a session of its own; no child may be in error."""
    place = place or place_of(vcenter, own)
    given = {"mode": Mode.PRESENT, "ready_count": 0, "max_count": 6, **options}
    with opened(vcenter) as session:
        engine = select.choose(session, "auto", "soap")
        names = survey.PoolNames("ci", [place.parent], session.object(vim.Folder, place.folder), SLOTS)
        means = carry_out.Means(
            session,
            engine,
            Deadline(SECONDS),
            names,
            PoolSpec("ci", **given),
            ChildSpec("any"),
            present.CreateOptions("powered_on", 4),
            lambda _warning: None,
        )
        plan, done = carry_out.bring(means)
    assert [child.error for child in done if child.error is not None and not child.is_postponed] == []
    return plan, done


def names_of(vcenter: VCenter) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in vcenter.govc("find", "/", "-type", "m", "-name", "ci-*").split())


def test_fill_do_nothing_and_scale_in(pool: VCenter, own: Estate) -> None:
    _plan, done = bring(pool, own, ready_count=4)
    assert sorted(child.name for child in done) == ["ci-003", "ci-004"]
    place = place_of(pool, own)
    with pool.calls() as calls:
        plan, done = bring(pool, own, place, ready_count=4)
    assert (plan.actions, plan.limits, done) == ((), (), [])
    assert set(plan.states.values()) == {"ready"}
    few = {"RetrieveServiceContent": 1, "Login": 1, "CreateContainerView": 1, "RetrievePropertiesEx": 3}
    assert calls == {**few, "CurrentTime": 1, "Logout": 1}
    _plan, done = bring(pool, own, ready_count=1)
    assert {child.what for child in done} == {"surplus"}
    assert len(names_of(pool)) == 1
    assert bring(pool, own, ready_count=1)[1] == []


def test_an_expired_lease_is_ended_and_replaced(pool: VCenter, own: Estate, session: Session) -> None:
    for child, minutes in zip(look(session, pool, own).inventory.children, (-20, 20), strict=True):
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
        assert isinstance(child.record, ChildRecord)
        its = replace(child.record, state=State.LEASED, lease_id="job", attempt="a", until=until)
        own.existing(child.name).set_extra("vmfork.pool", its.encode())
    leased = own.existing("ci-002").moid
    _plan, done = bring(pool, own, ready_count=1, max_count=2)
    assert [(child.name, child.what) for child in done] == [("ci-001", "expired"), ("ci-001", "created")]
    assert own.existing("ci-002").moid == leased
    assert bring(pool, own, ready_count=1, max_count=2)[1] == []


def test_two_tasks_at_once(pool: VCenter, own: Estate) -> None:
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _number: bring(pool, own, ready_count=5, max_count=5), range(2)))
    assert names_of(pool) == SLOTS[:5]
    created = [child.name for _plan, done in answers for child in done if child.what == "created"]
    assert sorted(created) == SLOTS[2:5]
    plan, done = bring(pool, own, ready_count=5, max_count=5)
    assert (plan.actions, done) == ((), [])


def test_a_copy_of_a_child_is_not_destroyed(pool: VCenter, own: Estate) -> None:
    source = own.existing("ci-001").mo
    WaitForTask(source.Clone(source.parent, "copy", vim.vm.CloneSpec(location=vim.vm.RelocateSpec())))
    bring(pool, own, mode=Mode.DRAINED)
    assert names_of(pool) == []
    assert pool.exists("/DC0/vm/copy")


def test_a_child_that_is_leased_meanwhile_is_not_ended(
    pool: VCenter, own: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = survey.survey

    def read_before_a_lease(*given: Any) -> survey.Survey:
        seen = read(*given)
        child = next(child for child in seen.inventory.children if child.name == "ci-001")
        assert isinstance(child.record, ChildRecord)
        if child.record.state is State.READY:
            until = seen.now + datetime.timedelta(hours=1)
            its = replace(child.record, state=State.LEASED, lease_id="job", attempt="a", until=until)
            own.existing("ci-001").set_extra("vmfork.pool", its.encode())
        return seen

    monkeypatch.setattr(survey, "survey", read_before_a_lease)
    plan, done = bring(pool, own, mode=Mode.DRAINED)
    assert {(child.name, child.is_postponed) for child in done} == {("ci-001", True), ("ci-002", False)}
    assert names_of(pool) == ["ci-001"]
    assert set(plan.states.values()) == {"leased"}


def test_a_child_of_an_interrupted_task_counts_until_it_is_replaced(
    pool: VCenter, own: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(carry_out, "_admit", lambda *_given: [])
        bring(pool, own, ready_count=3)
    plan, done = bring(pool, own, ready_count=3)
    assert (sorted(plan.states.values()), done) == (["creating", "ready", "ready"], [])
    _plan, done = bring(pool, own, ready_count=3, create_timeout=0)
    assert [(child.name, child.what) for child in done] == [("ci-003", "half_made"), ("ci-003", "created")]
    plan, done = bring(pool, own, ready_count=3)
    assert (set(plan.states.values()), done) == ({"ready"}, [])


@pytest.mark.parametrize("what", ["reaped", "removed"])
def test_a_new_child_that_another_task_ends_does_not_become_ready(
    pool: VCenter, own: Estate, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Between its creation and the note that it is ready."""
    admit = carry_out._admit

    def ended_first(means: carry_out.Means, made: Any) -> list[carry_out.Done]:
        ((its, _child),) = made.values()
        if what == "reaped":
            own.existing("ci-003").set_extra("vmfork.pool", replace(its, state=State.RELEASING).encode())
        else:
            pool.govc("vm.destroy", "ci-003")
        return admit(means, made)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(carry_out, "_admit", ended_first)
        _plan, done = bring(pool, own, ready_count=3)
    assert [(child.what, child.is_postponed) for child in done] == [("created", False), ("ready", True)]
    assert "Child ci-003 did not become ready: another task has" in str(done[-1].error)
    states = set(bring(pool, own, mode=Mode.PAUSED)[0].states.values())
    assert states == ({"ready", "releasing"} if what == "reaped" else {"ready"})
