# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out who powered a VM on, from the events of its last power-on.

Private to the collection. Pure functions; ``history.py`` reads the events.
Event types: vSphere API reference, vim.event.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from dataclasses import dataclass

STARTING = ("VmStartingEvent", "VmUnsupportedStartingEvent")
POWERED_ON_BY_DRS = "DrsVmPoweredOnEvent"
RESTARTED_BY_HA = "com.vmware.vc.ha.VmRestartedByHAEvent"
RESTARTED_BY_HA_OLD = "VmRestartedOnAlternateHostEvent"  # before vSphere 5.0
POWERED_ON = ("VmPoweredOnEvent", POWERED_ON_BY_DRS, RESTARTED_BY_HA_OLD)
POWERED_OFF = ("VmPoweredOffEvent", "VmPowerOffOnIsolationEvent", "VmShutdownOnIsolationEvent")
INSTANT_CLONED = "com.vmware.vc.VmInstantClonedEvent"
"""Reported for the clone when it is created (lamw/vcenter-event-mapping: listed for 7.0 U1, but not for 6.7)."""
RESUMING = "VmResumingEvent"
RECONFIGURED = "VmReconfiguredEvent"
TASK = "TaskEvent"

POWER_ON_TASKS = (
    "VirtualMachine.powerOn",
    "Datacenter.powerOnVm",
    "VirtualApp.powerOn",
    "Datacenter.ExecuteVmPowerOnLRO",
    "Drm.ExecuteVmPowerOnLRO",
)
"""descriptionId of vCenter's tasks that start a VM (vCenter's task catalog)."""

INSTANT_CLONE_TASK = "VirtualMachine.instantClone"
"""descriptionId of the task that creates an Instant Clone. The clone runs as soon as it exists. The task's entity is
the source VM."""

HOST_ORIGINS = ("esxi_direct", "ha_restart", "host_system")
"""Origins of power-ons without vCenter."""

NEAR = datetime.timedelta(minutes=10)
"""How far an event may be from ``runtime.bootTime`` and still belong to that power-on: vCenter's clock gives the time
of events, the ESXi host's clock gives the boot time."""

JUST_BEFORE = datetime.timedelta(minutes=1)
"""How long before a power-on its task may have begun if it is not in the same chain."""


@dataclass(frozen=True)
class Event:
    """The fields of an event that are used here.

    :param key: 0 if the event is from the task history.
    :param type: class name without package (``VmPoweredOnEvent``), or the ID of an EventEx.
    :param user: empty when the server itself acted.
    :param task: descriptionId of a TaskEvent's task, for example ``VirtualMachine.powerOn``.
    :param changes_vapp: a VmReconfiguredEvent whose spec contains vApp options.
    """

    key: int
    type: str
    time: datetime.datetime
    user: str
    chain_id: int
    vm: str | None
    host: str | None
    task: str | None = None
    changes_vapp: bool = False


@dataclass(frozen=True)
class PowerOn:
    """A VM's last power-on.

    :param origin: ``vcenter``, ``esxi_direct``, ``ha_restart``, ``host_system`` or ``unknown``.
    :param confidence: ``high``, ``medium`` or ``low``.
    :param reason: why it is unknown: ``events_aged_out``, ``host_was_disconnected``, ``no_task``, ``not_running``,
        ``no_permission`` or ``events_unreadable``; or ``instant_clone``: there was none.
    :param cloned_from: managed object ID of the VM that this one is an instant clone of, if it was not powered off
        since; empty when the source is not known; ``None``: no event says that the VM is an instant clone.
    :param events: the events that led to the verdict, oldest first.
    :param unread: what could not be read: ``tasks`` (vCenter's task history), ``changes`` (VmReconfiguredEvents).
    :param read_since: the start of the period whose events were requested.
    """

    origin: str = "unknown"
    confidence: str = "low"
    reason: str | None = None
    user: str | None = None
    host: str | None = None
    event_type: str | None = None
    time: datetime.datetime | None = None
    chain_id: int | None = None
    task: str | None = None
    cloned_from: str | None = None
    events: tuple[Event, ...] = ()
    reconfigured: tuple[Event, ...] = ()
    """Changes of the vApp options since then."""
    unread: tuple[str, ...] = ()
    read_since: datetime.datetime | None = None


def classify(
    events: t.Sequence[Event],
    boot_time: datetime.datetime | None,
    power_state: str,
    unread: tuple[str, ...] = (),
    read_since: datetime.datetime | None = None,
) -> PowerOn:
    """Return who powered a VM on.

    :param events: events of this VM, in any order.
    :param boot_time: ``runtime.bootTime``: a resume, a reset or a guest's reboot does not change it.
    :param power_state: ``runtime.powerState``.
    :param unread: as in ``PowerOn``, like ``read_since``.
    """
    if power_state == "poweredOff":
        return PowerOn(reason="not_running")
    events = sorted(events, key=lambda event: (event.time, event.key))
    run = last_power_on(events)
    if run and boot_time is not None and run[-1].time < boot_time - NEAR:
        run = []  # from an earlier run of the VM
    since = run[-1].time if run else boot_time
    reconfigured = tuple(event for event in events if event.changes_vapp and since is not None and event.time > since)
    if run:
        verdict = _verdict(run, _tasks(run, events), boot_time, "tasks" not in unread)
        return dataclasses.replace(verdict, reconfigured=reconfigured, unread=unread, read_since=read_since)
    # If the log reaches further back than the power-on, the event was not deleted: vCenter never received it.
    reaches_back = boot_time is not None and any(event.time < boot_time - NEAR for event in events)
    reason = "host_was_disconnected" if reaches_back else "events_aged_out"
    return PowerOn(reason=reason, reconfigured=reconfigured, unread=unread, read_since=read_since)


def began_without_vcenter(events: t.Sequence[Event]) -> bool:
    """Return whether the last run of a VM that is off began without vCenter, according to its events.

    A failed power-on does not count as a run: it has at most a VmStartingEvent.
    """
    events = sorted(events, key=lambda event: (event.time, event.key))
    ons = (*POWERED_ON, RESTARTED_BY_HA)
    last = max((position for position, event in enumerate(events) if event.type in ons), default=-1)
    run = last_power_on(events[: last + 1])
    if not run:
        return False
    return _verdict(run, _tasks(run, events), None, tasks_read=True).origin in ("esxi_direct", "ha_restart")


def last_power_on(events: t.Sequence[Event]) -> list[Event]:
    """Return the events of the last power-on from one VM's events, oldest first; none if there was none.

    A resume is reported as a power-on, but is not one. The creation of an Instant Clone counts as one, since the clone
    runs from then on.
    """
    runs: list[list[Event]] = []
    current: list[Event] = []
    resuming: Event | None = None
    for event in events:
        if event.type == RESUMING:
            resuming = event
        elif event.type in POWERED_OFF:
            current, resuming = [], None
        elif event.type in STARTING:
            current, resuming = [event], None
            runs.append(current)
        elif event.type in POWERED_ON:
            if resuming is not None and event.time - resuming.time <= NEAR:
                resuming = None
            elif current and (current[-1].type in STARTING or current[-1].chain_id == event.chain_id):
                current.append(event)
            else:
                current = [event]
                runs.append(current)
    for event in events:
        if event.type in (RESTARTED_BY_HA, INSTANT_CLONED):
            _add_vcenter_event(event, runs, [off.time for off in events if off.type in POWERED_OFF])
    return max(runs, key=lambda run: run[-1].time, default=[])


def _add_vcenter_event(event: Event, runs: list[list[Event]], offs: list[datetime.datetime]) -> None:
    """Add a restart by HA or an instant clone, which may have its own event chain, before or after the power-on."""
    nearest = min(runs, key=lambda run: abs(run[-1].time - event.time), default=None)
    if nearest is not None:
        first, last = sorted((nearest[-1].time, event.time))
        if last - first <= NEAR and not any(first < off < last for off in offs):
            nearest.append(event)
            nearest.sort(key=lambda other: (other.time, other.key))
            return
    runs.append([event])


def _tasks(run: list[Event], events: t.Sequence[Event]) -> list[Event]:
    """Return vCenter's tasks that led to this power-on."""
    chains = {event.chain_id for event in run}
    user = _user(run)
    begin, end = run[0].time - JUST_BEFORE, run[-1].time
    return [
        event
        for event in events
        if (event.task == INSTANT_CLONE_TASK and event.chain_id in chains)
        or (
            event.task in POWER_ON_TASKS
            # A failed task may come just before a host's user started the VM.
            and (event.chain_id in chains or (event.user and begin <= event.time <= end and not _is_host_local(user)))
        )
    ]


def _verdict(run: list[Event], tasks: list[Event], boot_time: datetime.datetime | None, tasks_read: bool) -> PowerOn:
    """Return the first pattern that matches. vCenter's own actions count regardless of clock differences.

    :param tasks_read: whether the tasks were read, so that a missing one means something.
    """
    cloned = [item for item in run if item.type == INSTANT_CLONED]
    sources = [item.vm or "" for item in tasks if item.task == INSTANT_CLONE_TASK]
    by_ha = [item for item in run if item.type in (RESTARTED_BY_HA, RESTARTED_BY_HA_OLD)]
    by_drs = [item for item in run if item.type == POWERED_ON_BY_DRS]
    reported_late = boot_time is not None and run[-1].time > boot_time + NEAR
    user = _user(run)
    reason = None
    if cloned or sources:
        origin, confidence, reason = "unknown", "low", "instant_clone"
    elif by_ha:
        origin, confidence = "ha_restart", "medium" if reported_late else "high"
    elif by_drs:
        origin, confidence = "vcenter", "high"
    elif tasks:
        origin, confidence = "vcenter", "high" if any(item.user for item in tasks) else "medium"
    elif reported_late:
        origin, confidence, reason = "unknown", "low", "host_was_disconnected"
    elif not user:
        origin, confidence = "host_system", "medium" if tasks_read else "low"
    elif _is_vcenter(user):
        origin, confidence = "vcenter", "medium"
    elif _is_host_local(user):
        origin, confidence = "esxi_direct", "high" if tasks_read else "medium"
    else:  # a domain user: vCenter always has a task for one, but a host in the domain knows the same users
        origin, confidence, reason = "unknown", "low", "no_task"
    if boot_time is None and confidence == "high":
        confidence = "medium"  # it may not be the last power-on
    event = (cloned or by_ha or by_drs or run)[-1]
    return PowerOn(
        origin=origin,
        confidence=confidence,
        reason=reason,
        user=next((item.user for item in tasks if item.user), user) or None,
        host=next((item.host for item in reversed(run) if item.host), None),
        event_type=event.type,
        time=event.time,
        chain_id=event.chain_id,
        task=tasks[-1].task if tasks else None,
        cloned_from=sources[0] if sources else "" if cloned else None,
        events=tuple(sorted([*run, *tasks], key=lambda item: (item.time, item.key))),
    )


def _user(run: list[Event]) -> str:
    return next((event.user for event in reversed(run) if event.user), "")


def _is_vcenter(user: str) -> bool:
    r"""Return whether this is vCenter on the host (``vpxuser``, also ``vpxuser:DOMAIN\user``) or a part of vCenter
    (``vpxd-extension-…``)."""
    return user.startswith(("vpxuser", "vpxd"))


def _is_host_local(user: str) -> bool:
    """Return whether this is an account of the ESXi host: ``root``, ``dcui``; vCenter's have a domain."""
    return bool(user) and not _is_vcenter(user) and "\\" not in user and "@" not in user


def facts(power_on: PowerOn) -> dict[str, t.Any]:
    """Return the ``power_on`` return value."""
    return {
        "origin": power_on.origin,
        "confidence": power_on.confidence,
        "reason": power_on.reason,
        "user": power_on.user,
        "host": power_on.host,
        "event_type": power_on.event_type,
        "time": iso_time(power_on.time) if power_on.time else None,
        "chain_id": power_on.chain_id,
        "task": power_on.task,
        "events": [_event_facts(event) for event in power_on.events],
        "reconfigured": [_event_facts(event) for event in power_on.reconfigured],
    }


def _event_facts(event: Event) -> dict[str, t.Any]:
    return {**dataclasses.asdict(event), "time": iso_time(event.time)}


def iso_time(time: datetime.datetime) -> str:
    """Return a time in UTC, ISO 8601."""
    return time.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
