# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who powered a VM on: the verdict over the events of its last power-on.

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
"""Told of a clone when it is made (lamw/vcenter-event-mapping: in the list of 7.0 U1, and none such in that of 6.7)."""
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
"""descriptionId of vCenter's tasks that start a VM (vCenter's task catalogue)."""

INSTANT_CLONE_TASK = "VirtualMachine.instantClone"
"""The same of the task that makes an instant clone, which runs from its birth on. The task is the clone's source's."""

HOST_ORIGINS = ("esxi_direct", "ha_restart", "host_system")
"""Origins of power-ons that vCenter had no part in."""

NEAR = datetime.timedelta(minutes=10)
"""How far an event may be from ``runtime.bootTime`` and still belong to that power-on: events are timed by vCenter's
clock, the boot time by the ESXi host's."""

JUST_BEFORE = datetime.timedelta(minutes=1)
"""How long before a power-on its task may have begun, when it is not in the same chain."""


@dataclass(frozen=True)
class Event:
    """What we need of one event.

    :param key: 0 for what was read from the task history.
    :param type: class name without package (``VmPoweredOnEvent``), or the ID of an EventEx.
    :param user: empty when the server itself acted.
    :param task: descriptionId of a TaskEvent's task, for example ``VirtualMachine.powerOn``.
    :param changes_vapp: a VmReconfiguredEvent whose spec had vApp options in it.
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
    """The last power-on.

    :param origin: ``vcenter``, ``esxi_direct``, ``ha_restart``, ``host_system`` or ``unknown``.
    :param confidence: ``high``, ``medium`` or ``low``.
    :param reason: why it is unknown: ``events_aged_out``, ``host_was_disconnected``, ``no_task``, ``not_running``,
        ``no_permission`` or ``events_unreadable``; or ``instant_clone``: there was none.
    :param cloned_from: managed object ID of the VM that this one is an instant clone of and was not powered off since,
        empty when that is not told; ``None``: no event says that it is one.
    :param events: what it was concluded from, oldest first.
    :param unread: what could not be read: ``tasks`` (vCenter's task history), ``changes`` (VmReconfiguredEvents).
    :param read_since: from when on events were asked for.
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
    """Return who powered the VM on.

    :param events: those of this VM, in any order.
    :param boot_time: ``runtime.bootTime``: a resume, a reset or a guest's reboot does not change it.
    :param power_state: ``runtime.powerState``.
    :param unread: as in ``PowerOn``, like ``read_since``.
    """
    if power_state == "poweredOff":
        return PowerOn(reason="not_running")
    events = sorted(events, key=lambda one: (one.time, one.key))
    run = last_power_on(events)
    if run and boot_time is not None and run[-1].time < boot_time - NEAR:
        run = []  # of an earlier run of the VM
    since = run[-1].time if run else boot_time
    reconfigured = tuple(one for one in events if one.changes_vapp and since is not None and one.time > since)
    if run:
        verdict = _verdict(run, _tasks(run, events), boot_time, "tasks" not in unread)
        return dataclasses.replace(verdict, reconfigured=reconfigured, unread=unread, read_since=read_since)
    # A log that reaches further back than the power-on has not lost it: nobody told vCenter.
    reaches_back = boot_time is not None and any(one.time < boot_time - NEAR for one in events)
    reason = "host_was_disconnected" if reaches_back else "events_aged_out"
    return PowerOn(reason=reason, reconfigured=reconfigured, unread=unread, read_since=read_since)


def began_without_vcenter(events: t.Sequence[Event]) -> bool:
    """Return whether the last run of a VM that is off began without vCenter, as far as its events show.

    A power-on that failed is no run: it has a VmStartingEvent at most.
    """
    events = sorted(events, key=lambda one: (one.time, one.key))
    ons = (*POWERED_ON, RESTARTED_BY_HA)
    last = max((position for position, one in enumerate(events) if one.type in ons), default=-1)
    run = last_power_on(events[: last + 1])
    if not run:
        return False
    return _verdict(run, _tasks(run, events), None, tasks_read=True).origin in ("esxi_direct", "ha_restart")


def last_power_on(events: t.Sequence[Event]) -> list[Event]:
    """Return the events of the last power-on from one VM's events, oldest first; none if there was none.

    A resume is reported as a power-on, but is not one. The creation of an Instant Clone counts as one, since it runs
    from then on.
    """
    runs: list[list[Event]] = []
    current: list[Event] = []
    resuming: Event | None = None
    for one in events:
        if one.type == RESUMING:
            resuming = one
        elif one.type in POWERED_OFF:
            current, resuming = [], None
        elif one.type in STARTING:
            current, resuming = [one], None
            runs.append(current)
        elif one.type in POWERED_ON:
            if resuming is not None and one.time - resuming.time <= NEAR:
                resuming = None
            elif current and (current[-1].type in STARTING or current[-1].chain_id == one.chain_id):
                current.append(one)
            else:
                current = [one]
                runs.append(current)
    for one in events:
        if one.type in (RESTARTED_BY_HA, INSTANT_CLONED):
            _add_what_vcenter_tells(one, runs, [off.time for off in events if off.type in POWERED_OFF])
    return max(runs, key=lambda run: run[-1].time, default=[])


def _add_what_vcenter_tells(one: Event, runs: list[list[Event]], offs: list[datetime.datetime]) -> None:
    """Handle a restart by HA, or a clone, which may have its own chain of events, before or after the power-on."""
    nearest = min(runs, key=lambda run: abs(run[-1].time - one.time), default=None)
    if nearest is not None:
        first, last = sorted((nearest[-1].time, one.time))
        if last - first <= NEAR and not any(first < off < last for off in offs):
            nearest.append(one)
            nearest.sort(key=lambda event: (event.time, event.key))
            return
    runs.append([one])


def _tasks(run: list[Event], events: t.Sequence[Event]) -> list[Event]:
    """vCenter's tasks that led to this power-on."""
    chains = {one.chain_id for one in run}
    user = _user(run)
    begin, end = run[0].time - JUST_BEFORE, run[-1].time
    return [
        one
        for one in events
        if (one.task == INSTANT_CLONE_TASK and one.chain_id in chains)
        or (
            one.task in POWER_ON_TASKS
            # A task that failed may stand just before a host's user started the VM.
            and (one.chain_id in chains or (one.user and begin <= one.time <= end and not _is_host_local(user)))
        )
    ]


def _verdict(run: list[Event], tasks: list[Event], boot_time: datetime.datetime | None, tasks_read: bool) -> PowerOn:
    """Return the first pattern that fits. What vCenter itself did is believed whatever the clocks say.

    :param tasks_read: whether it says anything that there is no task.
    """
    cloned = [one for one in run if one.type == INSTANT_CLONED]
    sources = [one.vm or "" for one in tasks if one.task == INSTANT_CLONE_TASK]
    by_ha = [one for one in run if one.type in (RESTARTED_BY_HA, RESTARTED_BY_HA_OLD)]
    by_drs = [one for one in run if one.type == POWERED_ON_BY_DRS]
    told_late = boot_time is not None and run[-1].time > boot_time + NEAR
    user = _user(run)
    reason = None
    if cloned or sources:
        origin, confidence, reason = "unknown", "low", "instant_clone"
    elif by_ha:
        origin, confidence = "ha_restart", "medium" if told_late else "high"
    elif by_drs:
        origin, confidence = "vcenter", "high"
    elif tasks:
        origin, confidence = "vcenter", "high" if any(one.user for one in tasks) else "medium"
    elif told_late:
        origin, confidence, reason = "unknown", "low", "host_was_disconnected"
    elif not user:
        origin, confidence = "host_system", "medium" if tasks_read else "low"
    elif _is_vcenter(user):
        origin, confidence = "vcenter", "medium"
    elif _is_host_local(user):
        origin, confidence = "esxi_direct", "high" if tasks_read else "medium"
    else:  # a domain's user: whatever vCenter does for one is a task, and a host that is joined to it knows them too
        origin, confidence, reason = "unknown", "low", "no_task"
    if boot_time is None and confidence == "high":
        confidence = "medium"  # nothing says that this was the last one
    event = (cloned or by_ha or by_drs or run)[-1]
    return PowerOn(
        origin=origin,
        confidence=confidence,
        reason=reason,
        user=next((one.user for one in tasks if one.user), user) or None,
        host=next((one.host for one in reversed(run) if one.host), None),
        event_type=event.type,
        time=event.time,
        chain_id=event.chain_id,
        task=tasks[-1].task if tasks else None,
        cloned_from=sources[0] if sources else "" if cloned else None,
        events=tuple(sorted([*run, *tasks], key=lambda one: (one.time, one.key))),
    )


def _user(run: list[Event]) -> str:
    return next((one.user for one in reversed(run) if one.user), "")


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
        "events": [_event_facts(one) for one in power_on.events],
        "reconfigured": [_event_facts(one) for one in power_on.reconfigured],
    }


def _event_facts(event: Event) -> dict[str, t.Any]:
    return {**dataclasses.asdict(event), "time": iso_time(event.time)}


def iso_time(time: datetime.datetime) -> str:
    """Return a time as it is returned: UTC, ISO 8601."""
    return time.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
