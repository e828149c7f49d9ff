# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test how the server's events are parsed; tests/functional reads them from a server."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import history, origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import UnknownType

NOW = datetime.datetime(2026, 3, 1, 3, 12, tzinfo=datetime.timezone.utc)


def event(kind: str, vm: str | None = "vm-1", **fields: Any) -> Any:
    """Return an event as pyVmomi returns it."""
    about = vm and vim.event.VmEventArgument(name=vm, vm=vim.VirtualMachine(vm))
    host = vim.event.HostEventArgument(name="esx-1", host=vim.HostSystem("host-1"))
    common = {"key": 1, "chainId": 7, "createdTime": NOW, "userName": "root", "vm": about, "host": host}
    return getattr(vim.event, kind)(**{**common, **fields})


def changed(**options: Any) -> Any:
    """Return a change of vApp options."""
    return vim.vm.ConfigSpec(vAppConfig=vim.vApp.VmConfigSpec(**options))


def task(chain: int = 7, entity: Any = None, reason: Any = None) -> Any:
    return vim.TaskInfo(
        descriptionId="VirtualMachine.powerOn",
        entity=entity or vim.VirtualMachine("vm-1"),
        eventChainId=chain,
        queueTime=NOW,
        reason=reason or vim.TaskReasonUser(userName="ann"),
    )


class FakeSession:
    """A session with collectors that answer in pages of two entries."""

    def __init__(self, events: Sequence[Any], tasks: Sequence[Any] = (), unreadable: tuple[str, ...] = ()) -> None:
        self.asked: list[Any] = []
        self.collectors = 0
        self._unreadable = unreadable

        def collector(wanted: Any, known: Sequence[Any]) -> Any:
            self.asked.append(wanted)
            self.collectors += 1
            left = list(known)

            def read_next(_count: int) -> list[Any]:
                if set(self._unreadable) & set(getattr(wanted, "eventTypeId", ["TaskInfo"])):
                    raise UnknownType("The server answered with something that pyVmomi does not know.")
                page = left[:2]
                del left[:2]
                return page

            def destroy() -> None:
                self.collectors -= 1

            return SimpleNamespace(ReadNextEvents=read_next, ReadNextTasks=read_next, DestroyCollector=destroy)

        self.content = SimpleNamespace(
            eventManager=SimpleNamespace(CreateCollectorForEvents=lambda wanted: collector(wanted, events)),
            taskManager=SimpleNamespace(CreateCollectorForTasks=lambda wanted: collector(wanted, tasks)),
        )

    def call_once(self, method: Any, *arguments: Any) -> Any:
        return method(*arguments)

    ask = call_once


def read(session: Any, vms: set[str] | None = None) -> dict[str, list[origin.Event]]:
    return read_all(session, vms).events


def read_all(session: Any, vms: set[str] | None = None, seconds: float = 60) -> history.History:
    found = history.read(session, Deadline(seconds), vim.Folder("group-d1"), NOW, vms)
    assert session.collectors == 0, "collectors were left behind"
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            event("VmPoweredOnEvent"),
            origin.Event(1, "VmPoweredOnEvent", NOW, "root", 7, "vm-1", "esx-1"),
            id="plain",
        ),
        pytest.param(
            event("EventEx", eventTypeId="com.vmware.vc.ha.VmRestartedByHAEvent", userName="", host=None),
            origin.Event(1, "com.vmware.vc.ha.VmRestartedByHAEvent", NOW, "", 7, "vm-1", None),
            id="EventEx",
        ),
        pytest.param(
            event("EventEx", None, eventTypeId="an.id", objectType=vim.VirtualMachine, objectId="vm-1"),
            origin.Event(1, "an.id", NOW, "root", 7, "vm-1", "esx-1"),
            id="EventEx that names its VM by ID",
        ),
        *(
            pytest.param(
                event("VmReconfiguredEvent", configSpec=spec),
                origin.Event(1, "VmReconfiguredEvent", NOW, "root", 7, "vm-1", "esx-1", changes_vapp=changes),
                id=f"reconfigured, {what}",
            )
            for what, spec, changes in [
                ("a property", changed(property=[vim.vApp.PropertySpec(operation="edit")]), True),
                ("transports", changed(ovfEnvironmentTransport=["iso"]), True),
                ("a product", changed(product=[vim.vApp.ProductSpec(operation="edit")]), False),
                ("an agreement", changed(eula=["..."]), False),
                ("vApp options removed", vim.vm.ConfigSpec(vAppConfigRemoved=True), True),
                ("vApp options not removed", vim.vm.ConfigSpec(vAppConfigRemoved=False), False),
                ("memory", vim.vm.ConfigSpec(memoryMB=64), False),
            ]
        ),
    ],
)
def test_events(given: Any, expected: origin.Event) -> None:
    assert read(FakeSession([given])) == {"vm-1": [expected]}


def test_events_of_other_objects_are_dropped() -> None:
    other_kind = event("EventEx", None, eventTypeId="an.id", objectType=vim.HostSystem, objectId="vm-1")
    session = FakeSession([event("VmPoweredOnEvent", None), other_kind, event("VmPoweredOnEvent", "vm-2")])
    assert read(session, {"vm-1"}) == {}
    assert list(read(session)) == ["vm-2"]


def test_events_are_sorted_and_all_pages_read() -> None:
    later = NOW + datetime.timedelta(seconds=1)
    events = [event("VmPoweredOnEvent", key=key, createdTime=later if key == 1 else NOW) for key in (5, 4, 3, 2, 1)]
    assert [event.key for event in read(FakeSession(events))["vm-1"]] == [2, 3, 4, 5, 1]


DATACENTER = vim.Datacenter("datacenter-1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(task(), {"vm-1": ["ann"], "vm-2": []}, id="its own"),
        pytest.param(task(entity=DATACENTER), {"vm-1": ["ann"], "vm-2": ["ann"]}, id="the datacenter's, for several"),
        pytest.param(task(reason=vim.TaskReasonSchedule(name="nightly")), {"vm-1": [""], "vm-2": []}, id="scheduled"),
        pytest.param(task(8), {"vm-1": [], "vm-2": []}, id="of another chain, which was not requested"),
    ],
)
def test_tasks_join_the_events_of_their_chain(given: Any, expected: dict[str, list[str]]) -> None:
    session = FakeSession([event("VmPoweredOnEvent"), event("VmPoweredOnEvent", "vm-2")], [given])
    found = read(session)
    assert {
        vm: [event.user for event in events if event.type == "TaskEvent"] for vm, events in found.items()
    } == expected
    assert session.asked[-1].eventChainId == [7]


def test_task_of_an_instant_clone_belongs_to_its_source() -> None:
    made = vim.TaskInfo(
        descriptionId="VirtualMachine.instantClone",
        entity=vim.VirtualMachine("vm-7"),
        eventChainId=7,
        queueTime=NOW,
        reason=vim.TaskReasonUser(userName="ann"),
    )
    born = event("EventEx", eventTypeId="com.vmware.vc.VmInstantClonedEvent")
    session = FakeSession([born], [made])
    assert origin.classify(read(session)["vm-1"], NOW, "poweredOn").cloned_from == "vm-7"
    assert "com.vmware.vc.VmInstantClonedEvent" in session.asked[0].eventTypeId


def test_only_tasks_of_the_last_power_on_are_read_in_batches() -> None:
    events = [event("VmPoweredOnEvent", f"vm-{number}", chainId=number + 1) for number in range(250)]
    earlier = NOW - datetime.timedelta(hours=1)
    events += [event("VmPoweredOnEvent", f"vm-{number}", chainId=900, createdTime=earlier) for number in range(250)]
    session = FakeSession(events)
    read(session)
    assert [len(request.eventChainId) for request in session.asked[1:]] == [100, 100, 50]
    assert 900 not in {chain for request in session.asked[1:] for chain in request.eventChainId}


def test_tasks_are_not_read_without_a_power_on() -> None:
    session = FakeSession(
        [event("VmReconfiguredEvent", configSpec=vim.vm.ConfigSpec()), event("VmPoweredOnEvent", chainId=0)]
    )
    read(session)
    assert len(session.asked) == 1


def test_unreadable_reconfiguration_affects_only_the_reconfigurations() -> None:
    session = FakeSession([event("VmPoweredOnEvent")], unreadable=("VmReconfiguredEvent",))
    found = read_all(session)
    assert [event.type for event in found.events["vm-1"]] == ["VmPoweredOnEvent"]
    assert found.unread == ("changes",)
    assert set(session.asked[0].eventTypeId) - set(session.asked[1].eventTypeId) == {"VmReconfiguredEvent"}


def test_unreadable_task_affects_only_the_tasks() -> None:
    found = read_all(FakeSession([event("VmPoweredOnEvent")], [task()], unreadable=("TaskInfo",)))
    assert [event.type for event in found.events["vm-1"]] == ["VmPoweredOnEvent"]
    assert found.unread == ("tasks",)


def test_timeout_of_the_task_is_kept() -> None:
    with pytest.raises(_errors.TimedOut):
        read_all(FakeSession([event("VmPoweredOnEvent")]), seconds=0)


def test_unreadable_power_events_are_an_error() -> None:
    with pytest.raises(UnknownType):
        read(FakeSession([event("VmPoweredOnEvent")], unreadable=("VmPoweredOnEvent",)))


def test_events_of_one_vm_are_filtered_by_the_server() -> None:
    session: Any = FakeSession([])
    history.read(session, Deadline(60), vim.VirtualMachine("vm-1"), NOW)
    wanted = session.asked[0]
    assert (wanted.entity.entity._GetMoId(), wanted.entity.recursion) == ("vm-1", "self")
    assert (wanted.time.beginTime, wanted.disableFullMessage) == (NOW, True)
    read(session)
    assert session.asked[1].entity.recursion == "all"
