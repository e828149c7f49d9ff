# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The origin of a VM's power-on."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import Event

BOOT = datetime.datetime(2026, 3, 1, 3, 12, tzinfo=datetime.timezone.utc)
HA = "com.vmware.vc.ha.VmRestartedByHAEvent"
ADMIN = r"VSPHERE.LOCAL\Administrator"
HOUR = 3600


def event(seconds: float, kind: str, user: str = "", chain: int = 7, **more: Any) -> Event:
    """Return an event at this number of seconds after the boot time."""
    when = BOOT + datetime.timedelta(seconds=seconds)
    return Event(int(seconds) + 10**6, kind, when, user, chain, "vm-1", "esx-1", **more)


def started(user: str, at: float = 0, chain: int = 7) -> list[Event]:
    return [event(at - 2, "VmStartingEvent", user, chain), event(at, "VmPoweredOnEvent", user, chain)]


def task(at: float, user: str = ADMIN, chain: int = 7, name: str = "Datacenter.ExecuteVmPowerOnLRO") -> Event:
    return event(at, "TaskEvent", user, chain, task=name)


CLONED = "com.vmware.vc.VmInstantClonedEvent"
OFF = "VmPoweredOffEvent"
PATTERNS: dict[str, tuple[list[Event], str, str, str | None]] = {
    # HA
    "HA reports after the power-on": ([*started(""), event(5, HA, chain=9)], "ha_restart", "high", None),
    "HA reports before the power-on": ([event(-20, HA, chain=9), *started("")], "ha_restart", "high", None),
    "only HA reports": ([event(5, HA)], "ha_restart", "high", None),
    "HA before vSphere 5": ([event(0, "VmRestartedOnAlternateHostEvent")], "ha_restart", "high", None),
    "HA, clocks minutes apart": ([*started("", -300), event(-290, HA, chain=9)], "ha_restart", "high", None),
    "HA restarted vCenter too, which reports later": ([event(HOUR, HA)], "ha_restart", "medium", None),
    "HA, then a power cycle by vCenter within minutes": (
        [*started("", -180, 3), event(-175, HA, chain=4), event(-5, OFF), *started(ADMIN), task(-3)],
        "vcenter",
        "high",
        None,
    ),
    "only HA reported, then a power cycle by a host's user": (
        [event(-175, HA, chain=4), event(-5, OFF), *started("root")],
        "esxi_direct",
        "high",
        None,
    ),
    "HA reported its restart, then the host started it again": (
        [*started("", -180, 3), event(-175, HA, chain=4), *started("root")],
        "esxi_direct",
        "high",
        None,
    ),
    "HA long before": ([event(-HOUR, HA), *started("root")], "esxi_direct", "high", None),
    # vCenter
    "DRS": ([event(0, "DrsVmPoweredOnEvent", ADMIN)], "vcenter", "high", None),
    "DRS, clocks apart": ([event(HOUR, "DrsVmPoweredOnEvent", ADMIN)], "vcenter", "high", None),
    "DRS beside the plain event": ([*started("root"), event(1, "DrsVmPoweredOnEvent")], "vcenter", "high", None),
    "DRS, then the plain event": (
        [event(-1, "DrsVmPoweredOnEvent"), event(0, "VmPoweredOnEvent", "root")],
        "vcenter",
        "high",
        None,
    ),
    **{
        f"task {name}": ([task(-3, name=name), *started(ADMIN)], "vcenter", "high", None)
        for name in (
            "VirtualMachine.powerOn",
            "Datacenter.powerOnVm",
            "VirtualApp.powerOn",
            "Datacenter.ExecuteVmPowerOnLRO",
            "Drm.ExecuteVmPowerOnLRO",
        )
    },
    "task of a user of vCenter's own machine": ([task(-3, "root"), *started("root")], "vcenter", "high", None),
    "task in another chain, just before": ([task(-30, chain=6), *started(ADMIN)], "vcenter", "high", None),
    "task in another chain, as vpxuser on the host": (
        [task(-30, chain=6), *started("vpxuser")],
        "vcenter",
        "high",
        None,
    ),
    "task in the same chain, without a user": ([task(-3, ""), *started("")], "vcenter", "medium", None),
    "task in another chain, long before": ([task(-HOUR, chain=6), *started("")], "host_system", "medium", None),
    "task in another chain, that failed before a host's user did it": (
        [task(-30, chain=6), *started("root")],
        "esxi_direct",
        "high",
        None,
    ),
    "task that starts nothing": (
        [task(-3, name="VirtualMachine.reconfigure"), *started("root")],
        "esxi_direct",
        "high",
        None,
    ),
    "vCenter's user on the host": (started("vpxuser"), "vcenter", "medium", None),
    "vCenter's user on the host, for someone": (started(r"vpxuser:CORP\ann"), "vcenter", "medium", None),
    "a solution user": (started("vpxd-extension-4c3e"), "vcenter", "medium", None),
    # An ESXi host that is joined to a domain has its users too, and what vCenter does for a user is a task.
    "a person with a domain, without a task": (started(ADMIN), "unknown", "low", "no_task"),
    "a person with an @, without a task": (started("ann@corp.example"), "unknown", "low", "no_task"),
    # The host
    "root": (started("root"), "esxi_direct", "high", None),
    "the host's console": (started("dcui"), "esxi_direct", "high", None),
    "another account of the host": (started("droneci"), "esxi_direct", "high", None),
    "only the start is reported": ([event(-2, "VmStartingEvent", "root")], "esxi_direct", "high", None),
    "start and end in chains of their own": (
        [event(-2, "VmStartingEvent", "root", 5), event(0, "VmPoweredOnEvent", "", 6)],
        "esxi_direct",
        "high",
        None,
    ),
    "no user": (started(""), "host_system", "medium", None),
    # Which of several power-ons it was
    "several, the last counts": (
        [*started(ADMIN, -HOUR, 3), task(-HOUR, chain=3), event(-60, OFF), *started("root")],
        "esxi_direct",
        "high",
        None,
    ),
    "several in chain 0": (
        [*started("root", -90, 0), event(-60, OFF), *started("vpxuser", 0, 0)],
        "vcenter",
        "medium",
        None,
    ),
    "several that share a chain": (
        [event(-90, "DrsVmPoweredOnEvent", ADMIN, 0), event(-60, OFF), event(0, "VmPoweredOnEvent", "root", 0)],
        "esxi_direct",
        "high",
        None,
    ),
    "a resume long before a power-on": (
        [event(-HOUR, "VmResumingEvent", ADMIN, 8), event(0, "VmPoweredOnEvent", "root")],
        "esxi_direct",
        "high",
        None,
    ),
    "a resume since": (
        [*started("root"), event(HOUR, "VmResumingEvent", ADMIN, 8), event(HOUR + 5, "VmPoweredOnEvent", ADMIN, 8)],
        "esxi_direct",
        "high",
        None,
    ),
    "a resume before the last power-off": (
        [
            event(-60, "VmResumingEvent", ADMIN, 8),
            event(-30, OFF),
            event(0, "VmPoweredOnEvent", "root"),
        ],
        "esxi_direct",
        "high",
        None,
    ),
    "a reset since": (
        [*started(ADMIN), task(-3), event(HOUR, "VmResettingEvent", "root", 8)],
        "vcenter",
        "high",
        None,
    ),
    "clocks minutes apart": (started("root", -400), "esxi_direct", "high", None),
    # Instant Clone
    "an instant clone": ([*started(ADMIN), event(1, CLONED, ADMIN)], "unknown", "low", "instant_clone"),
    "an instant clone, only its event": ([event(1, CLONED, ADMIN)], "unknown", "low", "instant_clone"),
    "an instant clone, its event in another chain": (
        [*started("vpxuser"), event(1, CLONED, ADMIN, 9)],
        "unknown",
        "low",
        "instant_clone",
    ),
    "an instant clone, by its task alone": (
        [task(-3, name="VirtualMachine.instantClone"), *started("root")],
        "unknown",
        "low",
        "instant_clone",
    ),
    "an instant clone that was power-cycled by vCenter": (
        [event(-90, CLONED, ADMIN, 5), event(-60, OFF), task(-3), *started(ADMIN)],
        "vcenter",
        "high",
        None,
    ),
    "an instant clone that its host's user started long after": (
        [event(-HOUR, CLONED, ADMIN, 5), *started("root")],
        "esxi_direct",
        "high",
        None,
    ),
    "an instant clone, then powered off and on by an unknown user": (
        [event(-90, CLONED, ADMIN, 5), event(-60, OFF), *started(ADMIN)],
        "unknown",
        "low",
        "no_task",
    ),
    # No evidence
    "no events": ([], "unknown", "low", "events_aged_out"),
    "only later events": ([event(HOUR, "VmReconfiguredEvent")], "unknown", "low", "events_aged_out"),
    "reported after the host came back": (started("", HOUR), "unknown", "low", "host_was_disconnected"),
    "reported after the host came back, by a user": (
        started("root", HOUR),
        "unknown",
        "low",
        "host_was_disconnected",
    ),
    "only an earlier power-on": (started(ADMIN, -HOUR), "unknown", "low", "host_was_disconnected"),
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_patterns(pattern: tuple[list[Event], str, str, str | None]) -> None:
    events, expected, confidence, reason = pattern
    for order in (events, list(reversed(events))):
        found = origin.classify(order, BOOT, "poweredOn")
        assert (found.origin, found.confidence, found.reason) == (expected, confidence, reason)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([event(0, "DrsVmPoweredOnEvent", ADMIN)], ("vcenter", "high")),
        (started("vpxuser"), ("vcenter", "medium")),
        (started("root"), ("esxi_direct", "medium")),
        (started(""), ("host_system", "low")),
        (started(ADMIN), ("unknown", "low")),
    ],
)
def test_without_tasks_less_is_certain(events: list[Event], expected: tuple[str, str]) -> None:
    found = origin.classify(events, BOOT, "poweredOn", ("tasks",))
    assert (found.origin, found.confidence) == expected
    assert found.unread == ("tasks",)


@pytest.mark.parametrize(
    ("events", "source"),
    [
        ([*started(ADMIN), event(1, CLONED, ADMIN)], ""),
        ([replace(task(-3, name="VirtualMachine.instantClone"), vm="vm-7"), *started(ADMIN)], "vm-7"),
        ([replace(task(-3, name="VirtualMachine.instantClone"), vm="vm-7"), event(1, CLONED, ADMIN)], "vm-7"),
        ([replace(task(-3, name="VirtualMachine.instantClone", chain=9), vm="vm-7"), *started(ADMIN)], None),
        ([event(-90, CLONED), event(-60, OFF), *started(ADMIN)], None),
        (started(ADMIN), None),
    ],
)
def test_source_of_an_instant_clone(events: list[Event], source: str | None) -> None:
    assert origin.classify(events, BOOT, "poweredOn").cloned_from == source


def test_user_is_reported_with_the_events_that_show_it() -> None:
    by_other = event(-HOUR, "VmPoweredOnEvent", "root", 2)
    power_on = [task(-3), *started("vpxuser")]
    found = origin.classify([by_other, *power_on], BOOT, "poweredOn")
    assert found.events == tuple(power_on)
    assert (found.user, found.host, found.chain_id) == (ADMIN, "esx-1", 7)
    assert (found.event_type, found.time, found.task) == ("VmPoweredOnEvent", BOOT, "Datacenter.ExecuteVmPowerOnLRO")


@pytest.mark.parametrize("at", [-1, 1])
def test_event_of_drs_takes_precedence(at: float) -> None:
    found = origin.classify([*started("root"), event(at, "DrsVmPoweredOnEvent", ADMIN)], BOOT, "poweredOn")
    assert found.event_type == "DrsVmPoweredOnEvent"
    assert found.time == BOOT + datetime.timedelta(seconds=at)


def test_not_running() -> None:
    assert origin.classify(started("root"), None, "poweredOff") == origin.PowerOn(reason="not_running")


SWITCHED_OFF = event(60, OFF, ADMIN, chain=8)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([*started("root"), SWITCHED_OFF], True, id="on its host"),
        pytest.param(
            [*started("root"), SWITCHED_OFF, event(90, "VmStartingEvent", ADMIN, chain=9)], True, id="then it failed"
        ),
        pytest.param([*started(""), event(5, HA, chain=9), SWITCHED_OFF], True, id="by HA"),
        pytest.param([*started(ADMIN), task(-1), SWITCHED_OFF], False, id="by vCenter"),
        pytest.param(
            [*started("root", -HOUR, 5), *started(ADMIN), task(-1), SWITCHED_OFF], False, id="at last by vCenter"
        ),
        pytest.param([*started(""), SWITCHED_OFF], False, id="by an unknown user"),
        pytest.param([SWITCHED_OFF], False, id="not known"),
        pytest.param([], False, id="never"),
    ],
)
def test_last_run_of_a_vm_that_is_off(events: list[Event], expected: bool) -> None:
    assert origin.began_without_vcenter(list(reversed(events))) is expected


def test_suspended_is_treated_as_running() -> None:
    assert origin.classify(started("root"), BOOT, "suspended").origin == "esxi_direct"


def test_nothing_is_certain_without_a_boot_time() -> None:
    found = origin.classify(started("root"), None, "poweredOn")
    assert (found.origin, found.confidence) == ("esxi_direct", "medium")
    assert origin.classify(started(ADMIN), None, "poweredOn").confidence == "low"
    assert origin.classify([], None, "poweredOn").reason == "events_aged_out"


def change(seconds: float, changes_vapp: bool = True) -> Event:
    return event(seconds, "VmReconfiguredEvent", ADMIN, 30, changes_vapp=changes_vapp)


@pytest.mark.parametrize(
    ("events", "since"),
    [
        pytest.param([*started("root"), change(60)], [60], id="since"),
        pytest.param([*started("root"), change(-60)], [], id="before"),
        pytest.param([*started("root"), change(60, changes_vapp=False)], [], id="other settings"),
        pytest.param([*started("root", 120), change(60)], [], id="before, by the clock of the events"),
        pytest.param([change(60), change(-60)], [60], id="power-on not reported"),
    ],
)
def test_reconfigured_since(events: list[Event], since: list[float]) -> None:
    found = origin.classify(events, BOOT, "poweredOn").reconfigured
    assert [(change.time - BOOT).total_seconds() for change in found] == since


def test_as_return_value() -> None:
    found = origin.facts(origin.classify([event(0, "VmPoweredOnEvent", "root"), change(60)], BOOT, "poweredOn"))
    raw = {"user": "root", "chain_id": 7, "vm": "vm-1", "host": "esx-1", "task": None, "changes_vapp": False}
    assert json.loads(json.dumps(found)) == {
        "origin": "esxi_direct",
        "confidence": "high",
        "reason": None,
        "user": "root",
        "host": "esx-1",
        "event_type": "VmPoweredOnEvent",
        "time": "2026-03-01T03:12:00Z",
        "chain_id": 7,
        "task": None,
        "events": [{"key": 10**6, "type": "VmPoweredOnEvent", "time": "2026-03-01T03:12:00Z", **raw}],
        "reconfigured": [
            {
                "key": 10**6 + 60,
                "type": "VmReconfiguredEvent",
                "time": "2026-03-01T03:13:00Z",
                **raw,
                "user": ADMIN,
                "chain_id": 30,
                "changes_vapp": True,
            }
        ],
    }
    assert origin.facts(origin.PowerOn()).keys() == found.keys()
