# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watched objects that are deleted, in every way that a server can show it, and watches in several threads."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyVmomi import vim, vmodl
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties

GHOST = vim.Task("task-ghost")
NOT_FOUND = vmodl.fault.ManagedObjectNotFound(obj=GHOST, msg="The object has already been deleted.")
PATHS = {vim.Task: ["info.state"], vim.VirtualMachine: ["name"]}


def seen(watch: _properties.Watch, rounds: int = 4) -> dict[Any, Any]:
    """Return the content of some updates."""
    result: dict[Any, Any] = {}
    for _number in range(rounds):
        result.update(watch.updates(5))
    return result


@pytest.mark.parametrize("how", ["not in the first answer", "CreateListView", "ModifyListView", "unresolved"])
def test_object_deleted_before_it_was_watched(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    session = vcenter.use(monkeypatch)
    first, second = vcenter.vm("web-01"), vcenter.vm("web-02")
    with _properties.Watch(session, PATHS) as watch:
        if how in ("ModifyListView", "unresolved"):
            watch.add([first])
            assert seen(watch) == {first: {"name": "web-01"}}
        if how.endswith("ListView"):
            vcenter.refuse(how, NOT_FOUND)
        if how == "unresolved":
            vcenter.effects["ModifyListView"] = lambda view, add, remove: [
                managed
                for managed in add
                if managed not in vcenter.objects or vcenter._do_ModifyListView(view, [managed], remove)
            ]
        watch.add([first, second, GHOST])
        shown = seen(watch)
    assert shown[GHOST] is None
    assert shown[second] == {"name": "web-02"}


@pytest.mark.parametrize("is_seen", [True, False])
def test_added_object_that_goes_before_its_first_report(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, is_seen: bool
) -> None:
    """The server then reports nothing of it. Others may have changed, or not."""
    session = vcenter.use(monkeypatch)
    first, second, third = (vcenter.vm(name) for name in ("web-01", "web-02", "web-03"))
    with _properties.Watch(session, PATHS) as watch:
        watch.add([first])
        assert seen(watch, 1) == {first: {"name": "web-01"}}
        watch.add([second, third] if is_seen else [second])
        del vcenter.objects[second]
        began = vcenter.now
        shown = seen(watch, 2)
        assert vcenter.now == began
    assert shown == {second: None, **({third: {"name": "web-03"}} if is_seen else {})}


def test_no_watched_object_exists(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    session = vcenter.use(monkeypatch)
    began = vcenter.now
    with _properties.Watch(session, PATHS) as watch:
        watch.add([GHOST])
        assert seen(watch, 2) == {GHOST: None}
    assert vcenter.now == began


def test_forgotten_task_while_it_is_watched(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """No change of it is reported; VMs are not read for this."""
    session = vcenter.use(monkeypatch)
    task = vcenter.add(vim.Task, "task-1", **{"info.state": "running"})
    with _properties.Watch(session, PATHS) as watch:
        watch.add([task])
        assert watch.updates(300) == [(task, {"info.state": "running"})]
        assert watch.updates(300) == []
        del vcenter.objects[task]
        for shown in vcenter._filters.values():
            shown.reported.clear()
        assert watch.updates(300) == []
        assert watch.updates(300) == [(task, None)]


def test_fault_about_an_object_that_is_not_watched(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    session = vcenter.use(monkeypatch)
    vcenter.refuse("CreateListView", NOT_FOUND)
    with _properties.Watch(session, PATHS) as watch:
        watch.add([vcenter.vm("web-01")])
        with pytest.raises(_errors.Fault, match="ManagedObjectNotFound"):
            watch.updates(5)


@pytest.mark.parametrize("failure", [_errors.Interrupted("A signal came."), _errors.ConnectionLost("No answer came.")])
def test_changes_are_not_lost_to_an_abandoned_request(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """It still waits at the server, where it receives the next changes of its filter."""
    session = vcenter.use(monkeypatch)
    vm = vcenter.vm("web-01")
    given_up: list[Any] = []

    def wait(collector: Any, version: str, options: Any) -> Any:
        if version and not given_up:
            given_up.append(collector)
            raise failure
        if collector in given_up:
            vcenter._do_WaitForUpdatesEx(collector, version, options)
        return vcenter._do_WaitForUpdatesEx(collector, version, options)

    vcenter.effects["WaitForUpdatesEx"] = wait
    with _properties.Watch(session, PATHS) as watch:
        watch.add([vm])
        assert seen(watch, 1) == {vm: {"name": "web-01"}}
        with contextlib.suppress(_errors.Interrupted):
            assert watch.updates(5) == []
        vcenter.objects[vm]["name"] = "web-02"
        assert seen(watch) == {vm: {"name": "web-02"}}
    assert given_up


def test_interrupted_addition_is_still_watched(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    session = vcenter.use(monkeypatch)
    first, second = vcenter.vm("web-01"), vcenter.vm("web-02")
    with _properties.Watch(session, PATHS) as watch:
        watch.add([first])
        assert seen(watch, 1) == {first: {"name": "web-01"}}
        session.budget.interrupt("SIGTERM")
        with pytest.raises(_errors.Interrupted):
            watch.add([second])
        with session.clean_up():
            assert seen(watch)[second] == {"name": "web-02"}


class Meeting(list[Any]):
    """A list from which two threads remove at the same moment, if they can."""

    def __init__(self, entries: list[Any]) -> None:
        super().__init__(entries)
        self._both = threading.Barrier(2, timeout=0.5)

    def remove(self, entry: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self._both.wait()
        super().remove(entry)


def test_two_threads_do_not_get_the_same_filter(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that nobody uses is there for one watch only: the other one creates its own."""
    session = vcenter.use(monkeypatch)
    vms = [vcenter.vm("a"), vcenter.vm("b")]
    with _properties.Watch(session, PATHS) as watch:
        watch.add(vms)
        watch.updates(0)
    session.filters = Meeting(session.filters)

    both_watch = threading.Barrier(2, timeout=10)

    def watched(vm: Any) -> list[Any]:
        with _properties.Watch(session, PATHS) as watch:
            watch.add([vm])
            result = [changed for changed, _values in watch.updates(0)]
            both_watch.wait()
            return result

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(watched, vms)) == [[vm] for vm in vms]
    assert vcenter.count("CreateFilter") == 2
    collectors = {entry.collector for entry in session.filters}
    assert len(collectors) == len(session.filters) == 2
