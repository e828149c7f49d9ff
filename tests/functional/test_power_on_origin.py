# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The origin of power-ons, read from vCenter's events: results, cost, and the effect of faults."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from functional.vcenter import VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import history, origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

pytestmark = pytest.mark.flags("-guest", "none", "-vm", "2", "-host", "1")
ON_A_HOST_ALONE, IN_A_CLUSTER = "DC0_H0_VM0", "DC0_C0_RP0_VM0"


@contextmanager
def session_with(vcenter: VCenter) -> Iterator[Session]:
    simulator = vcenter.simulator
    with Session(
        Server(simulator.host, simulator.username, simulator.password, simulator.port, validate_certs=False)
    ) as session:
        yield session


def values_of(session: Session) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the VM and its properties by name."""
    paths = ["name", "runtime.bootTime", "runtime.powerState"]
    found = _properties.scan(session, session.content.rootFolder, vim.VirtualMachine, paths)
    return {values["name"]: (vm, values) for vm, values in found.items()}


def read_all(session: Session, **options: Any) -> history.History:
    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    return history.read(session, Deadline(60), session.content.rootFolder, begin, **options)


def read(session: Session, **options: Any) -> dict[str, list[origin.Event]]:
    return read_all(session, **options).events


def judged(session: Session, name: str) -> origin.PowerOn:
    vm, values = values_of(session)[name]
    events = read(session).get(vm._GetMoId(), [])
    return origin.classify(events, values.get("runtime.bootTime"), str(values["runtime.powerState"]))


def powered_on(vcenter: VCenter, session: Session, name: str, **how: str) -> None:
    moid = values_of(session)[name][0]._GetMoId()
    if how["origin"] in ("vcenter", "esxi"):
        vcenter.govc("vm.power", "-off", name)
    vcenter.control("POST", f"guests/{moid}/power-on", how)


@pytest.mark.parametrize(
    ("name", "how", "expected", "confidence"),
    [
        (IN_A_CLUSTER, {"origin": "vcenter"}, "vcenter", "high"),
        (IN_A_CLUSTER, {"origin": "esxi"}, "esxi_direct", "high"),
        (ON_A_HOST_ALONE, {"origin": "esxi", "user": "dcui"}, "esxi_direct", "high"),
        (ON_A_HOST_ALONE, {"origin": "esxi", "user": "vpxuser"}, "vcenter", "medium"),
        (ON_A_HOST_ALONE, {"origin": "esxi", "user": r"CORP\jdoe"}, "unknown", "low"),
        (IN_A_CLUSTER, {"origin": "ha"}, "ha_restart", "high"),
        (ON_A_HOST_ALONE, {"origin": "autostart"}, "host_system", "medium"),
    ],
)
def test_origin(vcenter: VCenter, name: str, how: dict[str, str], expected: str, confidence: str) -> None:
    with session_with(vcenter) as session:
        powered_on(vcenter, session, name, **how)
        found = judged(session, name)
    assert (found.origin, found.confidence) == (expected, confidence)
    assert found.user == how.get("user", {"vcenter": vcenter.simulator.username, "esxi": "root"}.get(how["origin"]))


@pytest.mark.parametrize("chain", ["shared", "own"])
@pytest.mark.parametrize("name", [IN_A_CLUSTER, ON_A_HOST_ALONE])
def test_power_on_of_several_vms_at_once(vcenter: VCenter, name: str, chain: str) -> None:
    vcenter.rule("multi_power_on_chain", chain)
    vcenter.govc("vm.power", "-off", IN_A_CLUSTER, ON_A_HOST_ALONE)
    vcenter.govc("vm.power", "-on", "-M", IN_A_CLUSTER, ON_A_HOST_ALONE)
    with session_with(vcenter) as session:
        found = judged(session, name)
    assert (found.origin, found.confidence, found.user) == ("vcenter", "high", vcenter.simulator.username)


def test_task_shows_the_origin_without_drs(vcenter: VCenter) -> None:
    vcenter.govc("vm.power", "-off", ON_A_HOST_ALONE)
    vcenter.govc("vm.power", "-on", ON_A_HOST_ALONE)
    with session_with(vcenter) as session:
        found = judged(session, ON_A_HOST_ALONE)
    assert (found.origin, found.confidence, found.task) == ("vcenter", "high", "VirtualMachine.powerOn")


def test_task_history_is_read_by_event_chain(vcenter: VCenter) -> None:
    with session_with(vcenter) as session:
        chain = judged(session, ON_A_HOST_ALONE).chain_id
        manager = session.content.taskManager
        collector = session.call(manager.CreateCollectorForTasks, vim.TaskFilterSpec(eventChainId=[chain]))
        found = session.call(collector.ReadNextTasks, history.PAGE)
    assert [task.eventChainId for task in found] == [chain]


def test_events_aged_out(vcenter: VCenter) -> None:
    vcenter.control("DELETE", "events")
    with session_with(vcenter) as session:
        assert judged(session, ON_A_HOST_ALONE).reason == "events_aged_out"


def test_cost_and_completeness(vcenter: VCenter) -> None:
    vcenter.control("POST", "inventory", {"vms": 600, "name": "many-%04d", "power_on": True})
    with session_with(vcenter) as session:
        vms = values_of(session)
        some = {vm._GetMoId() for vm, _values in vms.values()}
        few = {vms[name][0]._GetMoId() for name in (IN_A_CLUSTER, ON_A_HOST_ALONE)}
        with vcenter.calls() as calls:
            everything = read(session)
        pages = sum(map(len, everything.values())) // history.PAGE + 2
        assert set(everything) == some
        assert calls["ReadNextEvents"] <= pages
        assert calls["CreateCollectorForEvents"] == 1
        assert calls["CreateCollectorForTasks"] <= len(some) / history.CHAINS + 1
        with vcenter.calls() as calls:
            assert set(read(session, vms=few)) == few
        # Three calls and the pages, plus four for the tasks of these VMs.
        assert sum(calls.values()) <= 3 + pages + 4


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"method": "ReadNextEvents", "fault": "NotAuthenticated"}, id="session ended"),
        pytest.param({"method": "ReadNextEvents", "fault": "NotAuthenticated", "after": 1}, id="session ended later"),
        pytest.param({"method": "ReadNextEvents", "drop": "after"}, id="page lost"),
        pytest.param({"method": "CreateCollectorForEvents", "drop": "after"}, id="collector lost"),
        pytest.param({"method": "ReadNextTasks", "fault": "NotAuthenticated"}, id="session ended, tasks"),
        pytest.param({"method": "DestroyCollector", "fault": "ManagedObjectNotFound"}, id="collector gone"),
    ],
)
def test_faults_change_nothing(vcenter: VCenter, fault: dict[str, Any]) -> None:
    with session_with(vcenter) as session:
        expected = read(session)
    with session_with(vcenter) as session:
        vcenter.fault(**fault, count=1)
        assert read(session) == expected
    assert expected


@pytest.mark.parametrize("method", ["CreateCollectorForTasks", "ReadNextTasks"])
def test_tasks_refused(vcenter: VCenter, method: str) -> None:
    with session_with(vcenter) as session:
        vcenter.fault(method=method, fault="NoPermission", count=1)
        found = read_all(session)
    assert found.unread == ("tasks",)
    assert found.events


@pytest.mark.parametrize("method", ["CreateCollectorForEvents", "ReadNextEvents"])
def test_refused(vcenter: VCenter, method: str) -> None:
    with session_with(vcenter) as session:
        vcenter.fault(method=method, fault="NoPermission", count=1)
        with vcenter.calls() as calls, pytest.raises(_errors.OperationFailed) as refused:
            read(session)
    assert refused.value.fault == "NoPermission"
    assert refused.value.sentence.endswith(".")
    assert calls.get("DestroyCollector", 0) == (method == "ReadNextEvents")
