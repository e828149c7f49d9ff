# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests for children: how many run at a time, and what follows when an answer is lost."""

from __future__ import annotations

import functools
import itertools
import threading
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, ON, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import executor, transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.executor import Executor
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.placement import Placement, find_folders
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import Child, Goal, Step
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._parallel import ParallelCalls

INSTANT_CLONE, VMFORK = "InstantClone_Task", "CreateForkChild_Task"
ENGINES = [pytest.param("8.0.3.0", INSTANT_CLONE, id="instant_clone"), pytest.param("6.5", VMFORK, id="vmfork")]
UUID = "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"
SECRET = {"token": "a-long-secret"}
MOST_ROUNDS = 1000
"""More than any test needs to wait for changes."""


class Bed:
    """A parent at its fork point and the children of a task."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str = "8.0.3.0") -> None:
        vcenter.api_version = version
        self.vcenter = vcenter
        frozen = {"runtime.instantCloneFrozen": True, "runtime.quiescedForkParent": True}
        enabled = {"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=True, parentForkGroupId="g1")}
        self.vm = vcenter.vm("golden", **frozen, **enabled)
        self.session = vcenter.use(monkeypatch)
        self.parent: Parent = vcenter.parent(self.session, self.vm)
        vcenter.effects["RetrieveForkChildren_Task"] = lambda _parent: [
            vm for vm in vcenter.objects if isinstance(vm, vim.VirtualMachine) and vm != self.vm
        ]

    def goal(self, wait_for: str) -> Goal:
        return Goal(wait_for, self.parent.values, self.parent.engine)

    def create_children(
        self,
        *names: str,
        wait_for: str = "created",
        seconds: float = 300,
        concurrency: int = 8,
        **wanted: Any,
    ) -> list[Child]:
        """Create children; return them in the order of their names."""
        children = [ChildSpec(name, **wanted) for name in names]
        return self.run([transitions.begin(child, self.goal(wait_for)) for child in children], seconds, concurrency)

    def placement(self, specs: list[ChildSpec]) -> Placement:
        return Placement(self.parent.values, find_folders(self.parent, specs))

    def run(self, begun: list[transitions.Transition], seconds: float = 300, concurrency: int = 8) -> list[Child]:
        placement = self.placement([child.spec for child, _request in begun])
        return Executor(self.parent, placement, Deadline(seconds), concurrency).run(begun)

    def report(self, vm: Any, code: int = 0) -> None:
        """Have a child report that its script has ended."""
        nonce = self.vcenter.keys(vm)[guestinfo.CHILD_NONCE]
        self.vcenter.set_keys(vm, **{guestinfo.POST_CLONE: f"{nonce} {code} "})


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if the executor never ends: the clock of the fake vCenter stops when nothing is awaited."""
    look, rounds = Executor._look, itertools.count(1)

    def counted(self: Executor, watch: Any) -> None:
        assert next(rounds) <= MOST_ROUNDS, "the executor does not end"
        look(self, watch)

    monkeypatch.setattr(Executor, "_look", counted)


@pytest.fixture
def bed(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Bed:
    """Return a parent on a server with Instant Clone."""
    return Bed(vcenter, monkeypatch)


# --- concurrency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "create"), ENGINES)
@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_concurrency_is_the_exact_limit(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str, concurrency: int
) -> None:
    """A child counts from its creation request until it runs; exactly this number are in progress."""
    bed = Bed(vcenter, monkeypatch, version)
    last = create if create == INSTANT_CLONE else "PowerOnVM_Task"
    vcenter.held.add(last)
    in_progress: list[int] = []

    def end_one() -> None:
        in_progress.append(vcenter.count(create) - len(in_progress))
        vcenter.end_tasks(last)
        if len(in_progress) < 5:
            vcenter.later(10, end_one)

    vcenter.later(10, end_one)
    children = bed.create_children("a", "b", "c", "d", "e", wait_for="powered_on", concurrency=concurrency)
    assert [(child.step, child.error) for child in children] == [(Step.DONE, None)] * 5
    assert in_progress == [min(concurrency, left) for left in (5, 4, 3, 2, 1)]


def test_failed_child_frees_its_slot(bed: Bed) -> None:
    bed.vcenter.refuse(INSTANT_CLONE, vim.fault.InvalidState(msg="No."))
    bed.vcenter.fail(INSTANT_CLONE, vim.fault.InvalidState(msg="No."))
    children = bed.create_children("a", "b", "c", concurrency=1)
    assert [child.step for child in children] == [Step.FAILED, Step.FAILED, Step.DONE]
    assert [child.changed for child in children] == [False, False, True]


class Overlap:
    """Holds the answers to a method back until this number of requests wait for them.

    :ivar most: the largest number of requests without an answer.
    """

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, method: str, requests: int) -> None:
        together = threading.Barrier(requests)
        self.most = 0
        invoke, take = vcenter.InvokeMethod, ParallelCalls.take

        def held(target: Any, info: Any, arguments: Any) -> Any:
            if info.wsdlName == method:
                together.wait(30)
            return invoke(target, info, arguments)

        def counted(calls: ParallelCalls[Any]) -> Any:
            self.most = max(self.most, len(calls.pending))
            return take(calls)

        monkeypatch.setattr(vcenter, "InvokeMethod", held)
        monkeypatch.setattr(ParallelCalls, "take", counted)


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_creations_are_requested_in_parallel(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str
) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    overlap = Overlap(vcenter, monkeypatch, create, 4)
    children = bed.create_children("a", "b", "c", "d", concurrency=4)
    assert [(child.step, child.error) for child in children] == [(Step.DONE, None)] * 4
    assert overlap.most == 4


def test_concurrency_is_the_limit_of_requests_of_all_kinds(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [resumed(bed, recorded(bed, name)) for name in "abcdef"]
    overlap = Overlap(bed.vcenter, monkeypatch, "PowerOnVM_Task", 3)
    children = bed.run(begun, concurrency=3)
    assert [(child.step, child.error) for child in children] == [(Step.DONE, None)] * 6
    assert overlap.most == 3


@pytest.mark.parametrize(("version", "create"), ENGINES)
@pytest.mark.parametrize("carried_out", [True, False])
def test_answers_lost_together(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str, carried_out: bool
) -> None:
    """The effect of each request is checked; those that were not carried out are repeated."""
    bed = Bed(vcenter, monkeypatch, version)
    names = [f"web-{number}" for number in range(8)]
    for _name in names:
        vcenter.lose_answer(create, carried_out=carried_out)
    children = bed.create_children(*names)
    assert [(child.step, child.error) for child in children] == [(Step.DONE, None)] * 8
    assert vcenter.count(create) == (8 if carried_out else 16)
    assert sorted(child.vm._GetMoId() for child in children) == sorted(vcenter.named(n)[0]._GetMoId() for n in names)


@pytest.mark.parametrize(("version", "create"), ENGINES)
@pytest.mark.parametrize("carried_out", [True, False])
def test_signal_while_requests_wait_for_their_answers(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str, carried_out: bool
) -> None:
    """What was carried out is found and recorded; nothing is requested after the signal."""
    bed = Bed(vcenter, monkeypatch, version)
    names = [f"web-{number}" for number in range(6)]
    for _name in names:
        vcenter.lose_answer(create, carried_out=carried_out)
    overlap = Overlap(vcenter, monkeypatch, create, 3)
    original = vcenter.InvokeMethod

    def signalled(target: Any, info: Any, arguments: Any) -> Any:
        try:
            return original(target, info, arguments)
        except ConnectionResetError:
            bed.session.budget.interrupt("SIGTERM")
            raise

    monkeypatch.setattr(vcenter, "InvokeMethod", signalled)
    children = bed.create_children(*names, concurrency=3, secret_config_params=SECRET)
    assert overlap.most == vcenter.count(create) == 3
    assert bed.session.budget.signal == "SIGTERM"
    for child in children:
        assert (child.step, "received SIGTERM" in (child.error or "")) == (Step.FAILED, True)
    assert [child.changed for child in children] == [carried_out] * 3 + [False] * 3
    for child in children[: 3 if carried_out else 0]:
        (vm,) = vcenter.named(child.name)
        assert identity.RECORD_KEY in vcenter.keys(vm)
        assert not [value for value in vcenter.keys(vm).values() if value in SECRET.values()]


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_created_child_is_not_created_again(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str
) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    vcenter.lose_answer(create, carried_out=True)
    (child,) = bed.create_children("web")
    assert (child.step, child.error, [child.vm]) == (Step.DONE, None, vcenter.named("web"))
    assert vcenter.count(create) == 1


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_lost_creation_is_requested_again(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str
) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    vcenter.lose_answer(create, carried_out=False)
    (child,) = bed.create_children("web")
    assert (child.step, child.error, [child.vm]) == (Step.DONE, None, vcenter.named("web"))
    assert vcenter.count(create) == 2


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_no_third_request(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    vcenter.lose_answer(create, carried_out=False)
    vcenter.lose_answer(create, carried_out=False)
    (child,) = bed.create_children("web")
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, False)
    assert vcenter.count(create) == 2


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_no_request_while_the_first_one_may_continue(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str
) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    vcenter.held.add(create)
    vcenter.lose_answer(create, carried_out=True)
    (child,) = bed.create_children("web", seconds=30)
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, True)
    assert "may have been done anyway" in str(child.error)
    assert vcenter.count(create) == 1


@pytest.mark.parametrize("keys", [{}, {guestinfo.CHILD_NONCE: "another"}], ids=["none", "another"])
def test_vm_with_the_uuid_but_without_the_nonce_is_not_the_child(bed: Bed, keys: dict[str, str]) -> None:
    """It appeared after names and UUIDs were read; it is neither adopted nor changed."""
    foreign = bed.vcenter.vm("foreign", OFF, keys, **{"config.uuid": UUID})
    before = dict(bed.vcenter.objects[foreign])
    bed.vcenter.lose_answer(INSTANT_CLONE, carried_out=False)
    (child,) = bed.create_children("web", bios_uuid=UUID)
    assert [child.vm] == bed.vcenter.named("web")
    assert bed.vcenter.count(INSTANT_CLONE) == 2
    assert bed.vcenter.objects[foreign] == before


def test_vm_with_the_nonce_is_the_child(bed: Bed) -> None:
    bed.vcenter.vm("foreign", OFF, **{"config.uuid": UUID})
    bed.vcenter.lose_answer(INSTANT_CLONE, carried_out=True)
    (child,) = bed.create_children("web", bios_uuid=UUID)
    assert [child.vm] == bed.vcenter.named("web")
    assert bed.vcenter.count(INSTANT_CLONE) == 1


@pytest.mark.parametrize(("listed", "was_there"), [(True, False), (True, True), (False, False)])
def test_vm_with_the_name_is_the_child_only_if_it_is_new_and_the_server_lists_it(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, listed: bool, was_there: bool
) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")
    there = vcenter.vm("web", OFF)
    vcenter.effects["RetrieveForkChildren_Task"] = lambda _parent: [there] if listed else []
    vcenter.lose_answer(VMFORK, carried_out=False)
    begun = [transitions.begin(ChildSpec("web"), bed.goal("created"))]
    placement = bed.placement([ChildSpec("web")])
    (child,) = Executor(bed.parent, placement, Deadline(60), 1, [there] if was_there else []).run(begun)
    is_ours = listed and not was_there
    assert child.vm == (there if is_ours else None)
    assert (identity.record_of(vcenter.objects[there]) is not None) == is_ours


def late(bed: Bed, create: str) -> None:
    """Have the request with the lost answer carried out after the module has searched for its effect."""
    first: list[Any] = []

    def look(look_up: Any) -> Any:
        def answer(target: Any, **given: Any) -> Any:
            found = look_up(target, **given)
            if not first:
                (request,) = [call for call in bed.vcenter.calls if call.method == create]
                first.append(bed.vcenter._carry_out(bed.vm, create, request.arguments))
            return found

        return answer

    bed.vcenter.effects["FindAllByUuid"] = look(bed.vcenter._do_FindAllByUuid)
    bed.vcenter.effects["FindChild"] = look(bed.vcenter._do_FindChild)
    bed.vcenter.lose_answer(create, carried_out=False)


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_name_taken_by_the_lost_request_is_no_failure(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str
) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    late(bed, create)
    (child,) = bed.create_children("web")
    assert (child.step, child.error, [child.vm]) == (Step.DONE, None, vcenter.named("web"))
    assert vcenter.count(create) == 2


def test_name_taken_by_another_client_is_a_failure(bed: Bed) -> None:
    """With or without a lost answer, the VM is foreign and is left unchanged."""
    for lost in (False, True):
        name = f"web-{lost}"
        foreign = bed.vcenter.vm(name, OFF)
        there = dict(bed.vcenter.objects[foreign])
        if lost:
            bed.vcenter.lose_answer(INSTANT_CLONE, carried_out=False)
        (child,) = bed.create_children(name)
        assert (child.step, child.vm, child.changed) == (Step.FAILED, None, False)
        assert ("DuplicateName" if lost else "got this name while the task was running") in str(child.error)
        assert bed.vcenter.objects[foreign] == there


def test_other_faults_after_a_lost_answer_are_failures(bed: Bed) -> None:
    bed.vcenter.lose_answer(INSTANT_CLONE, carried_out=False)
    bed.vcenter.fail(INSTANT_CLONE, vim.fault.InvalidState(msg="No."))
    (child,) = bed.create_children("web")
    assert (child.step, child.changed) == (Step.FAILED, False)
    assert str(child.error).startswith("Could not create child web: No (InvalidState).")


@pytest.mark.parametrize("answer", ["lost", "without a result"])
def test_child_that_cannot_be_searched_for_may_exist(bed: Bed, answer: str) -> None:
    refusal = vim.fault.NoPermission(privilegeId="System.View")
    bed.vcenter.refuse("FindAllByUuid", refusal)
    if answer == "lost":
        bed.vcenter.lose_answer(INSTANT_CLONE, carried_out=True)
    else:
        bed.vcenter.effects[INSTANT_CLONE] = lambda source, spec: bed.vcenter._do_InstantClone(source, spec) and None
    (child,) = bed.create_children("web")
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, True)
    assert "anyway. Check in vCenter." in str(child.error)
    assert bed.vcenter.count(INSTANT_CLONE) == 1


def test_task_without_a_result(bed: Bed) -> None:
    """The module searches for the child; if there is none, it reports that vCenter claims there is."""
    bed.vcenter.effects[INSTANT_CLONE] = lambda source, spec: bed.vcenter._do_InstantClone(source, spec) and None
    (child,) = bed.create_children("a")
    assert (child.step, [child.vm]) == (Step.DONE, bed.vcenter.named("a"))
    bed.vcenter.effects[INSTANT_CLONE] = lambda _source, spec: None
    (child,) = bed.create_children("b")
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, True)
    assert "no child of this parent has that name" in str(child.error)


def test_permanently_lost_connection_reports_what_is_known(bed: Bed) -> None:
    """What vCenter has accepted may be done, so it is a change."""
    bed.vcenter.held.add(INSTANT_CLONE)
    bed.vcenter.lose_answer("WaitForUpdatesEx", carried_out=True)
    bed.vcenter.lose_answer("WaitForUpdatesEx", carried_out=True)
    first, second = bed.create_children("a", "b", concurrency=1)
    assert [first.step, second.step] == [Step.FAILED] * 2
    assert [first.changed, second.changed] == [True, False]
    assert "The connection to vcenter broke" in str(first.error)


def test_server_that_refuses_to_report_on_children(bed: Bed) -> None:
    bed.vcenter.refuse("WaitForUpdatesEx", vim.fault.NoPermission(privilegeId="System.View"))
    (child,) = bed.create_children("web")
    assert (child.step, child.changed) == (Step.FAILED, True)
    assert "Could not watch the children" in str(child.error)


def test_children_that_cannot_be_followed_keep_no_secrets(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are recorded and their secrets are removed, although their properties cannot be read."""
    bed = Bed(vcenter, monkeypatch, "6.5")
    vcenter.held.add("PowerOnVM_Task")
    fault = vim.fault.NoPermission(privilegeId="System.View")
    vcenter.later(5, lambda: vcenter.refuse("WaitForUpdatesEx", fault))
    vcenter.later(5, lambda: vcenter.end_tasks("PowerOnVM_Task"))
    (child,) = bed.create_children("web", wait_for="post_clone", secret_config_params=SECRET)
    assert "Could not watch the children" in str(child.error)
    assert not [value for value in vcenter.keys(child.vm).values() if value in SECRET.values()]
    assert (child.step, child.secrets_cleared) == (Step.FAILED, False)


@pytest.mark.parametrize("named", ["the parent", "a VM that was there before", "the other child", "no VM"])
def test_task_result_that_names_something_else(bed: Bed, named: str) -> None:
    """Nothing is written to what it names, and nothing is offered for removal."""
    there = bed.vcenter.vm("there", OFF)
    results: dict[str, Any] = {
        "the parent": bed.vm,
        "a VM that was there before": there,
        "no VM": bed.vcenter.folder,
    }
    made: list[Any] = []

    def create(source: Any, spec: Any) -> Any:
        if not made:
            made.append(bed.vcenter._do_InstantClone(source, spec))
            return made[0]
        return results.get(named, made[0])

    bed.vcenter.effects[INSTANT_CLONE] = create
    before = {vm: dict(bed.vcenter.objects[vm]) for vm in (bed.vm, there)}
    begun = [transitions.begin(ChildSpec(name), bed.goal("created")) for name in ("a", "b")]
    placement = bed.placement([child.spec for child, _request in begun])
    known = {vm for vm in bed.vcenter.objects if isinstance(vm, vim.VirtualMachine)}
    first, second = Executor(bed.parent, placement, Deadline(60), 1, known).run(begun)
    assert (first.step, [first.vm]) == (Step.DONE, made)
    assert (second.step, second.vm, second.changed) == (Step.FAILED, None, True)
    after = {vm: dict(bed.vcenter.objects[vm]) for vm in (bed.vm, there)}
    for values in (*before.values(), *after.values()):
        values.pop("recentTask")
    assert after == before


# --- power-on ---------------------------------------------------------------------------------------------------------


def recorded(bed: Bed, name: str = "web", state: str = OFF, **keys: str) -> Any:
    """Return a child of an earlier task."""
    vm = bed.vcenter.vm(name, state)
    parent = bed.parent.values["config.instanceUuid"]
    record = identity.Record(parent, bed.vcenter.objects[vm]["config.uuid"], "n0")
    bed.vcenter.set_keys(vm, **{identity.RECORD_KEY: str(record), guestinfo.CHILD_NONCE: "n0"}, **keys)
    return vm


def resumed(bed: Bed, vm: Any, wait_for: str = "powered_on", **wanted: Any) -> transitions.Transition:
    name = bed.vcenter.objects[vm]["name"]
    return transitions.resume(ChildSpec(name, **wanted), bed.goal(wait_for), vm, dict(bed.vcenter.objects[vm]))


@pytest.mark.parametrize(
    ("carried_out", "calls"), [pytest.param(True, 1, id="carried out"), pytest.param(False, 2, id="not carried out")]
)
def test_lost_answer_to_a_power_on(bed: Bed, carried_out: bool, calls: int) -> None:
    vm = recorded(bed)
    bed.vcenter.lose_answer("PowerOnVM_Task", carried_out=carried_out)
    (child,) = bed.run([resumed(bed, vm)])
    assert (child.step, child.error, child.changed) == (Step.DONE, None, True)
    assert (bed.vcenter.state(vm), bed.vcenter.count("PowerOnVM_Task")) == (ON, calls)


@pytest.mark.parametrize("state", [ON, OFF])
@pytest.mark.parametrize("refusal", ["of the call", "of the task"])
def test_power_on_by_another_client_at_the_same_moment(bed: Bed, state: str, refusal: str) -> None:
    """It is done, but not by us. If the child is off, the refusal is a failure."""
    vm = recorded(bed)
    bed.vcenter.effects["PowerOnVM_Task"] = switch = lambda vm, **_given: bed.vcenter._switch(vm, ON)
    getattr(bed.vcenter, "refuse" if refusal == "of the call" else "fail")(
        "PowerOnVM_Task", vim.fault.InvalidPowerState(msg="No.")
    )
    bed.vcenter.at_call[len(bed.vcenter.calls)] = lambda answer: (state == ON and switch(vm), answer())[1]
    (child,) = bed.run([resumed(bed, vm)])
    assert (child.step, child.changed) == (Step.DONE if state == ON else Step.FAILED, False)
    assert bed.vcenter.count("PowerOnVM_Task") == 1


# --- nothing is left behind -------------------------------------------------------------------------------------------


def test_secrets_are_removed_at_the_timeout(bed: Bed) -> None:
    """The script never ends; the secrets are removed, and the child is recorded."""
    (child,) = bed.create_children("web", wait_for="post_clone", seconds=20, secret_config_params=SECRET)
    assert (child.step, child.secrets_cleared, child.recorded) == (Step.FAILED, True, True)
    assert not [value for value in bed.vcenter.keys(child.vm).values() if value in SECRET.values()]
    assert bed.vcenter.now < 1000 + 20 + 60


def test_waiting_children_are_not_created_after_the_timeout(bed: Bed) -> None:
    bed.vcenter.held.add(INSTANT_CLONE)
    bed.vcenter.later(25, lambda: bed.vcenter.end_tasks(INSTANT_CLONE))
    first, second = bed.create_children("a", "b", seconds=20, concurrency=1)
    assert bed.vcenter.count(INSTANT_CLONE) == 1
    assert (first.recorded, first.changed, second.vm, second.changed) == (True, True, None, False)
    assert "its creation was not started" in str(second.error)


def test_child_appearing_after_the_timeout_is_recorded(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")
    vcenter.held.add(VMFORK)
    vcenter.later(25, lambda: vcenter.end_tasks(VMFORK))
    (child,) = bed.create_children("web", wait_for="powered_on", seconds=20)
    assert (child.step, child.recorded, child.changed) == (Step.FAILED, True, True)
    assert identity.RECORD_KEY in vcenter.keys(child.vm)
    assert vcenter.state(child.vm) == OFF


def test_extra_time_for_secrets_is_bounded(bed: Bed) -> None:
    """vCenter does not end the task that removes them: the child fails, and the result does not say they are gone."""
    bed.vcenter.held.add("ReconfigVM_Task")
    (child,) = bed.create_children("web", wait_for="post_clone", seconds=20, secret_config_params=SECRET)
    assert (child.step, child.changed) == (Step.FAILED, True)
    assert bed.vcenter.now == 1000 + 20 + 60
    assert "is not ready after 20 seconds" in str(child.error)


def test_seconds_of_each_child(bed: Bed) -> None:
    bed.vcenter.later(5.678, lambda: bed.report(*bed.vcenter.named("a")))
    bed.vcenter.later(10, lambda: bed.report(*bed.vcenter.named("b")))
    begun = [transitions.begin(ChildSpec(name), bed.goal("post_clone")) for name in ("a", "b")]
    placement = bed.placement([child.spec for child, _request in begun])
    executor = Executor(bed.parent, placement, Deadline(60), 8)
    executor.run(begun)
    # A child that reports no address of its own gets three more seconds to do so.
    assert executor.seconds == {"a": 8.68, "b": 13.0}
    assert executor.timelines == {
        "a": {"created": 0.0, "powered_on": 0.0, "post_clone": 5.68, "ready": 8.68},
        "b": {"created": 0.0, "powered_on": 0.0, "post_clone": 10.0, "ready": 13.0},
    }


def test_milestones_of_a_child_that_existed_have_no_time(bed: Bed) -> None:
    (child,) = bed.create_children("web")
    values = {**bed.vcenter.objects[child.vm], "runtime.powerState": OFF}
    bed.vcenter.objects[child.vm].update(values)
    resumed = transitions.resume(ChildSpec("web"), bed.goal("powered_on"), child.vm, values)
    executor = Executor(bed.parent, bed.placement([ChildSpec("web")]), Deadline(60), 8)
    texts: list[str] = []
    bed.session.progress.show = lambda text, *_counts: texts.append(text)  # type: ignore[method-assign]
    executor.run([resumed])
    assert executor.timelines == {"web": {"created": None, "powered_on": 0.0, "ready": 0.0}}
    assert set(texts) == {"0 of 1 ready, 0 created"}


def test_progress(bed: Bed) -> None:
    """Each child that is created, ready or failed is a change."""
    texts: list[tuple[str, int, int]] = []
    bed.session.progress.show = lambda *report: texts.append(report)  # type: ignore[method-assign]
    bed.vcenter.fail(INSTANT_CLONE, vim.fault.NoPermission(msg="No."), times=1)
    for number, name in enumerate("bcdef", start=1):
        bed.vcenter.later(number, functools.partial(lambda name: bed.report(*bed.vcenter.named(name)), name))
    children = [ChildSpec(name) for name in "abcdef"]
    begun = [transitions.begin(child, bed.goal("post_clone")) for child in children]
    Executor(bed.parent, bed.placement(children), Deadline(60), 8).run(begun)
    assert texts[0] == ("0 of 6 ready, 0 created", 0, 6)
    assert texts[-1] == ("4 of 6 ready, 5 created, 1 failed (a)", 5, 6)


def test_progress_names_three_of_the_failed_children(bed: Bed) -> None:
    texts: list[str] = []
    bed.session.progress.show = lambda text, *_counts: texts.append(text)  # type: ignore[method-assign]
    bed.vcenter.fail(INSTANT_CLONE, vim.fault.NoPermission(msg="No."), times=4)
    bed.vcenter.held.add(INSTANT_CLONE)
    bed.vcenter.later(5, lambda: bed.vcenter.end_tasks(INSTANT_CLONE, 4))
    bed.create_children(*"abcde", seconds=20)
    assert "0 of 5 ready, 0 created, 4 failed (a, b, c, …)" in texts


def test_end_of_a_power_on_is_not_the_end_of_the_removal_of_secrets(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout ends while a child is powered on. Its secrets are gone when the task that removes them has ended."""
    bed = Bed(vcenter, monkeypatch, "6.5")
    vcenter.held.add("PowerOnVM_Task")
    vcenter.later(15, lambda: vcenter.held.add("ReconfigVM_Task"))
    vcenter.later(25, lambda: vcenter.end_tasks("PowerOnVM_Task"))
    vcenter.later(30, lambda: vcenter.end_tasks("ReconfigVM_Task"))
    (child,) = bed.create_children("web", wait_for="post_clone", seconds=20, secret_config_params=SECRET)
    assert (child.step, child.secrets_cleared) == (Step.FAILED, True)
    assert not [value for value in vcenter.keys(child.vm).values() if value in SECRET.values()]


def test_child_that_appears_at_the_last_moment_is_recorded(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")

    def create(source: Any, **given: Any) -> Any:
        vm = vcenter._do_CreateForkChild(source, **given)
        uuid = vcenter.objects[vm].pop("config.uuid")
        vcenter.later(20, lambda: vcenter.objects[vm].update({"config.uuid": uuid}))
        return vm

    vcenter.effects[VMFORK] = create
    (child,) = bed.create_children("web", wait_for="powered_on", seconds=20)
    assert (child.step, child.recorded, vcenter.state(child.vm)) == (Step.FAILED, True, OFF)
    assert identity.RECORD_KEY in vcenter.keys(child.vm)


def test_requested_bios_uuid_is_set_with_the_record(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")
    (child,) = bed.create_children("web", bios_uuid=UUID)
    assert vcenter.objects[child.vm]["config.uuid"] == UUID
    assert f" {UUID} " in vcenter.keys(child.vm)[identity.RECORD_KEY]


def test_script_that_ended(bed: Bed) -> None:
    bed.vcenter.later(5, lambda: bed.report(*bed.vcenter.named("web")))
    (child,) = bed.create_children("web", wait_for="post_clone", secret_config_params=SECRET)
    assert (child.step, child.error, child.secrets_cleared) == (Step.DONE, None, True)
    assert not [value for value in bed.vcenter.keys(child.vm).values() if value in SECRET.values()]
    assert bed.vcenter.keys(child.vm)[guestinfo.DONE] == f"{child.nonce} 0"


def test_secrets_of_a_failed_script_are_cleared(bed: Bed) -> None:
    bed.vcenter.later(5, lambda: bed.report(bed.vcenter.named("web")[0], code=3))
    (child,) = bed.create_children("web", wait_for="post_clone", secret_config_params=SECRET)
    assert (child.step, child.secrets_cleared) == (Step.FAILED, True)
    assert "exit code 3" in str(child.error)
    assert not [value for value in bed.vcenter.keys(child.vm).values() if value in SECRET.values()]


def test_child_removed_by_another_client(bed: Bed) -> None:
    def remove() -> None:
        (vm,) = bed.vcenter.named("web")
        del bed.vcenter.objects[vm]

    bed.vcenter.later(5, remove)
    (child,) = bed.create_children("web", wait_for="post_clone")
    assert child.step is Step.FAILED
    assert "was removed during the task" in str(child.error)


def test_existing_child_is_no_change(bed: Bed) -> None:
    vm = recorded(bed, state=ON, **{guestinfo.DONE: "n0 0"})
    before = dict(bed.vcenter.objects[vm])
    (child,) = bed.run([resumed(bed, vm, "post_clone")])
    assert (child.step, child.changed) == (Step.DONE, False)
    assert bed.vcenter.objects[vm] == before


@pytest.mark.parametrize("method", ["PowerOnVM_Task", "ReconfigVM_Task"])
def test_other_children_are_created_when_one_is_refused(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")
    vcenter.fail(method, vim.fault.NoDiskSpace(msg="Full.", datastore="ds"))
    children = bed.create_children("a", "b", wait_for="powered_on", concurrency=1)
    assert [child.step for child in children] == [Step.FAILED, Step.DONE]
    assert "Full" in str(children[0].error)
    assert children[0].changed


def test_nonces_differ(bed: Bed) -> None:
    children = bed.create_children("a", "b")
    nonces = [bed.vcenter.keys(child.vm)[guestinfo.CHILD_NONCE] for child in children]
    assert len(set(nonces)) == 2


# --- busy VMs ---------------------------------------------------------------------------------------------------------

BUSY = {
    "TaskInProgress": vim.fault.TaskInProgress(msg="Another task is in progress.", task=vim.Task("task-0")),
    "ConcurrentAccess": vim.fault.ConcurrentAccess(msg="The object changed."),
}


@pytest.mark.parametrize("fault", BUSY.values(), ids=list(BUSY))
@pytest.mark.parametrize("refusal", ["refuse", "fail"])
@pytest.mark.parametrize("method", [VMFORK, "ReconfigVM_Task", "PowerOnVM_Task"])
def test_busy_vm_is_retried(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, method: str, refusal: str, fault: Exception
) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")
    getattr(vcenter, refusal)(method, fault, times=3)
    children = bed.create_children("a", "b", wait_for="powered_on")
    assert [(child.step, child.error, child.changed) for child in children] == [(Step.DONE, None, True)] * 2
    assert vcenter.count(method) == 2 + 3
    assert len(vcenter.named("a") + vcenter.named("b")) == 2


def test_conflicting_task_is_awaited(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is not repeated until that task has ended."""
    bed = Bed(vcenter, monkeypatch, "6.5")
    backup = vcenter.add(vim.Task, "task-1", **{"info.state": "running"})
    vcenter.refuse("PowerOnVM_Task", vim.fault.TaskInProgress(msg="Busy.", task=backup))
    vcenter.later(100, lambda: vcenter.objects[backup].update({"info.state": "success"}))
    (child,) = bed.create_children("web", wait_for="powered_on")
    assert (child.step, child.error) == (Step.DONE, None)
    assert vcenter.count("PowerOnVM_Task") == 2
    assert vcenter.now - 1000 >= 100


def test_lost_answer_does_not_wait_for_other_creations_of_the_task(bed: Bed) -> None:
    """They run on the same parent, and cannot be what the lost request has begun.

    The answer that is lost is that of a repeated request: by then, the task of the other child is known.
    """
    bed.vcenter.refuse(INSTANT_CLONE, BUSY["ConcurrentAccess"])
    bed.vcenter.held.add(INSTANT_CLONE)
    bed.vcenter.later(0.1, lambda: bed.vcenter.lose_answer(INSTANT_CLONE, carried_out=False))
    requested: list[int] = []

    def end() -> None:
        requested.append(bed.vcenter.count(INSTANT_CLONE))
        bed.vcenter.held.discard(INSTANT_CLONE)

    bed.vcenter.later(30, end)
    children = bed.create_children("a", "b")
    assert [(child.step, child.error) for child in children] == [(Step.DONE, None)] * 2
    assert requested == [4], "two, the repeated one whose answer is lost, and that again"


def test_busy_until_the_deadline(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure names the conflicting task; the child is recorded, and is a change."""
    bed = Bed(vcenter, monkeypatch, "6.5")
    vcenter.refuse("PowerOnVM_Task", vim.fault.TaskInProgress(msg="Backup runs."), times=500)
    (child,) = bed.create_children("web", wait_for="powered_on", seconds=30)
    assert (child.step, child.recorded, child.changed) == (Step.FAILED, True, True)
    assert "Could not power on child web: Backup runs" in str(child.error)
    assert vcenter.now - 1000 < 45


def test_change_by_another_client_is_no_change(bed: Bed) -> None:
    vm = recorded(bed, state=OFF)
    bed.vcenter.refuse("PowerOnVM_Task", BUSY["TaskInProgress"], times=2)
    bed.vcenter.later(0.7, lambda: bed.vcenter.objects[vm].update({"runtime.powerState": ON}))
    (child,) = bed.run([resumed(bed, vm, "powered_on")])
    assert (child.step, child.error, child.changed) == (Step.DONE, None, False)


@pytest.mark.parametrize("times", [2, 5000])
def test_child_whose_end_cannot_be_recorded_has_not_failed(bed: Bed, times: int) -> None:
    bed.vcenter.later(5, lambda: bed.report(*bed.vcenter.named("web")))
    bed.vcenter.fail("ReconfigVM_Task", BUSY["ConcurrentAccess"], times=times)
    (child,) = bed.create_children("web", wait_for="post_clone", seconds=60)
    assert (child.step, child.error) == (Step.DONE, None)
    assert (guestinfo.DONE in bed.vcenter.keys(child.vm)) is (times == 2)
    assert bool(child.warnings) is (times == 5000)


# --- tasks that vCenter forgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "create"), ENGINES)
@pytest.mark.parametrize("done", [True, False])
def test_creation_whose_task_vanishes(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str, done: bool
) -> None:
    """The module searches for its effect, and repeats the request only if there is none."""
    bed = Bed(vcenter, monkeypatch, version)
    vcenter.held.add(create)

    def restart() -> None:
        vcenter.held.discard(create)
        task, _method, act = vcenter._running.pop()
        if done:
            act()
        del vcenter.objects[task]
        vcenter.objects[bed.vm]["recentTask"] = []

    vcenter.later(5, restart)
    (child,) = bed.create_children("web")
    assert (child.step, child.error, [child.vm]) == (Step.DONE, None, vcenter.named("web"))
    assert vcenter.count(create) == (1 if done else 2)


# --- another run creates the same child -------------------------------------------------------------------------------


def rival(bed: Bed, child_of: str | None, keys: dict[str, str]) -> None:
    """Have another run take the name between the reading of the names and the creation."""
    vm = bed.vcenter.vm("web", keys=keys)
    if child_of is not None:
        record = identity.Record(child_of, bed.vcenter.objects[vm]["config.uuid"], "n0")
        bed.vcenter.set_keys(vm, **{identity.RECORD_KEY: str(record)})


@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_child_that_another_run_has_created(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str
) -> None:
    bed = Bed(vcenter, monkeypatch, version)
    rival(bed, bed.parent.values["config.instanceUuid"], {})
    (child,) = bed.create_children("web")
    assert (child.step, child.error, child.existed, child.changed) == (Step.DONE, None, True, False)
    assert len(vcenter.named("web")) == 1


def test_child_that_another_run_is_about_to_record(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(vcenter, monkeypatch, "6.5")
    rival(bed, None, {guestinfo.CHILD_NONCE: "n0"})
    (vm,) = vcenter.named("web")
    record = identity.Record(bed.parent.values["config.instanceUuid"], vcenter.objects[vm]["config.uuid"], "n0")
    vcenter.later(3, lambda: vcenter.set_keys(vm, **{identity.RECORD_KEY: str(record)}))
    (child,) = bed.create_children("web")
    assert (child.step, child.error, child.existed) == (Step.DONE, None, True)


def test_child_that_another_run_does_not_record(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run was killed after vCenter had started the creation; the child is finished, as by the next run."""
    bed = Bed(vcenter, monkeypatch, "6.5")
    rival(bed, None, {guestinfo.CHILD_NONCE: "n0"})
    (vm,) = vcenter.named("web")
    fork = vim.vm.ForkConfigInfo(childForkGroupId="g1", childType="nonpersistent")
    vcenter.objects[vm].update({"runtime.powerState": OFF, "config.forkConfigInfo": fork})
    (child,) = bed.create_children("web", wait_for="powered_on")
    assert (child.step, child.error, child.existed, child.changed) == (Step.DONE, None, True, True)
    assert identity.own_record(vcenter.objects[vm]) is not None
    assert len(vcenter.named("web")) == 1


def reserve(bed: Bed, create: str) -> None:
    """Have vCenter refuse the name, although it shows no VM of that name."""

    def refuse(_vm: Any, **_given: Any) -> Any:
        raise vim.fault.DuplicateName(msg="The name 'web' already exists.", name="web", object=bed.vcenter.folder)

    bed.vcenter.effects[create] = refuse


@pytest.mark.parametrize("succeeds", [True, False])
@pytest.mark.parametrize(("version", "create"), ENGINES)
def test_child_that_another_run_is_creating(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, version: str, create: str, succeeds: bool
) -> None:
    """vCenter reserves a name before it shows the VM. If the other run fails, this one creates the child."""
    bed = Bed(vcenter, monkeypatch, version)
    reserve(bed, create)

    def end() -> None:
        del vcenter.effects[create]
        if succeeds:
            rival(bed, bed.parent.values["config.instanceUuid"], {})

    vcenter.later(3, end)
    (child,) = bed.create_children("web")
    assert (child.step, child.error, child.existed) == (Step.DONE, None, succeeds)
    assert len(vcenter.named("web")) == 1


def test_name_that_stays_reserved(bed: Bed) -> None:
    """The user cannot see what has it."""
    reserve(bed, INSTANT_CLONE)
    (child,) = bed.create_children("web")
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, False)
    assert "The name 'web' already exists" in str(child.error)
    assert bed.vcenter.count(INSTANT_CLONE) == executor.MOST_LOOKS + 1


def test_foreign_vm_that_took_the_name(bed: Bed) -> None:
    rival(bed, None, {})
    (child,) = bed.create_children("web")
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, False)
    assert "got this name while the task was running, and it has no record" in str(child.error)
    assert "remove the object" not in str(child.error)


# --- errors and signals -----------------------------------------------------------------------------------------------


def ends_with(error: BaseException) -> Any:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), RuntimeError("a fault of ours")], ids=type)
def test_secrets_are_removed_whatever_ends_the_task(bed: Bed, error: BaseException) -> None:
    bed.vcenter.later(5, ends_with(error))
    with pytest.raises(type(error)):
        bed.create_children("a", "b", wait_for="post_clone", secret_config_params=SECRET)
    for name in ("a", "b"):
        (vm,) = bed.vcenter.named(name)
        assert not [value for value in bed.vcenter.keys(vm).values() if value in SECRET.values()]


def test_child_is_recorded_when_the_task_is_interrupted(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child that vCenter is creating is recorded; the waiting ones are not started."""
    bed = Bed(vcenter, monkeypatch, "6.5")
    vcenter.held.add(VMFORK)
    vcenter.later(5, ends_with(KeyboardInterrupt()))
    vcenter.later(10, lambda: vcenter.end_tasks(VMFORK))
    with pytest.raises(KeyboardInterrupt):
        bed.create_children("a", "b", wait_for="powered_on", concurrency=1)
    (vm,) = vcenter.named("a")
    assert identity.RECORD_KEY in vcenter.keys(vm)
    assert (vcenter.state(vm), vcenter.named("b")) == (OFF, [])


def test_secrets_are_removed_although_one_child_cannot_be_followed(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = transitions.advance

    def broken(child: Child, event: transitions.Event) -> transitions.Transition:
        if child.name == "a" and bed.vcenter.now > 1004:
            raise ValueError("a fault of ours")
        return advance(child, event)

    monkeypatch.setattr(transitions, "advance", broken)
    bed.vcenter.later(5, lambda: bed.report(*bed.vcenter.named("a")))
    with pytest.raises(ValueError, match="a fault of ours"):
        bed.create_children("a", "b", wait_for="post_clone", secret_config_params=SECRET)
    for name in ("a", "b"):
        (vm,) = bed.vcenter.named(name)
        assert not [value for value in bed.vcenter.keys(vm).values() if value in SECRET.values()]


# --- results that do not name the child -------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["bystander", "parent", "folder", "int", "str", "list"])
def test_task_result_that_is_not_the_child_is_left_unchanged(bed: Bed, answer: str) -> None:
    bystander = bed.vcenter.vm("db", OFF)
    answers: dict[str, Any] = {
        "bystander": bystander,
        "parent": bed.vm,
        "folder": bed.vcenter.folder,
        "int": 42,
        "str": "vm-42",
        "list": [bystander],
    }
    bed.vcenter.effects[INSTANT_CLONE] = lambda _parent, **_given: answers[answer]
    before = {vm: dict(bed.vcenter.objects[vm]) for vm in (bystander, bed.vm)}
    (child,) = bed.create_children("web", wait_for="post_clone", secret_config_params=SECRET)
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, True)
    assert "vCenter's task names " in str(child.error)
    assert bed.vcenter.called("ReconfigVM_Task", "PowerOnVM_Task", "PowerOffVM_Task", "Destroy_Task") == []
    assert bed.vcenter.objects[bystander] == before[bystander]
