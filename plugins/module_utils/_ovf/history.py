# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the events of many VMs' power-ons, in a number of calls that hardly grows with the VMs.

Private to the collection. A vCenter may have millions of events, most of them
TaskEvents of every kind. Those are not requested. Only the few kinds that report
a power-on are, and then, from the task history, only the tasks of their chains
(vSphere API reference, EventFilterSpec and TaskFilterSpec.eventChainId).
"""

from __future__ import annotations

import contextlib
import datetime
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import Event
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

EVENT_TYPES = (
    *origin.STARTING,
    *origin.POWERED_ON,
    *origin.POWERED_OFF,
    origin.RESTARTED_BY_HA,
    origin.INSTANT_CLONED,
    origin.RESUMING,
    origin.RECONFIGURED,
)
"""The event types to request. Subclasses are named one by one: since vCenter 6.5, a filter on a class excludes them."""

PAGE = 1000
"""Maximum number of events or tasks that vCenter returns in one call."""

CHAINS = 100
"""Number of chains in one query of the task history."""


@dataclass(frozen=True)
class History:
    """The events that were read.

    :param events: events of each VM by managed object ID, oldest first.
    :param unread: what could not be read, as in ``origin.PowerOn``.
    """

    events: dict[str, list[Event]]
    unread: tuple[str, ...] = ()


def read(
    session: Session,
    deadline: Deadline,
    root: t.Any,
    begin: datetime.datetime,
    vms: t.Collection[str] | None = None,
) -> History:
    """Return the events of VMs since ``begin``.

    Costs three calls and one per 1000 events, then four for the tasks of each 100 VMs. Most events are
    VmReconfiguredEvents, a few per day for each VM that is backed up: 2,000 VMs and 30 days may be 100 pages.

    :param root: a VM, or a folder, datacenter or other container of VMs.
    :param vms: managed object IDs of the VMs whose events are kept; ``None``: all.
    :raises _errors.OperationFailed: the server refused; its ``fault`` is the reason (``NoPermission``).
    :raises _errors.TimedOut: the timeout was reached before all events were read.
    """
    unread = []
    try:
        try:
            events = _events(session, deadline, root, begin, EVENT_TYPES, vms)
        except UnknownType:
            # A reconfigure event contains its whole ConfigSpec, which may have types that pyVmomi does not know.
            without = [name for name in EVENT_TYPES if name != origin.RECONFIGURED]
            events = _events(session, deadline, root, begin, without, vms)
            unread.append("changes")
    except _errors.Fault as fault:
        raise _errors.failure("Could not read the events of the VMs", fault) from fault
    of_vms: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: (event.time, event.key)):
        of_vms.setdefault(t.cast(str, event.vm), []).append(event)
    try:
        _add_tasks(session, deadline, of_vms)
    except (_errors.Fault, _errors.OperationFailed, _errors.TimedOut, _errors.ConnectionLost):
        unread.append("tasks")  # the events can still be judged, with less certainty
    return History(of_vms, tuple(unread))


def _events(
    session: Session,
    deadline: Deadline,
    root: t.Any,
    begin: datetime.datetime,
    types: t.Sequence[str],
    vms: t.Collection[str] | None,
) -> list[Event]:
    by = vim.event.EventFilterSpec
    wanted = by(
        entity=by.ByEntity(entity=root, recursion="self" if isinstance(root, vim.VirtualMachine) else "all"),
        time=by.ByTime(beginTime=begin),
        eventTypeId=list(types),
        disableFullMessage=True,
    )

    def kept(event: t.Any) -> Event | None:
        vm = _vm_of(event)
        return _event(event, vm) if vm is not None and (vms is None or vm in vms) else None

    create = session.content.eventManager.CreateCollectorForEvents
    return session.ask(_read_all, session, deadline, create, wanted, "ReadNextEvents", kept)


def _add_tasks(session: Session, deadline: Deadline, of_vms: dict[str, list[Event]]) -> None:
    """Add the tasks of each VM's last power-on to its events, as TaskEvents."""
    in_chain: dict[int, list[str]] = {}
    for vm, events in of_vms.items():
        for chain in {event.chain_id for event in origin.last_power_on(events)} - {0}:
            in_chain.setdefault(chain, []).append(vm)
    chains = list(in_chain)
    for start in range(0, len(chains), CHAINS):
        wanted = vim.TaskFilterSpec(eventChainId=chains[start : start + CHAINS])
        create = session.content.taskManager.CreateCollectorForTasks
        for task in session.ask(_read_all, session, deadline, create, wanted, "ReadNextTasks", _task):
            for vm in in_chain.get(task.chain_id, ()):
                # A task that powers on several VMs belongs to their datacenter, an instant clone task to the source.
                if task.vm in (None, vm) or task.task == origin.INSTANT_CLONE_TASK:
                    of_vms[vm].append(task)


def _read_all(
    session: Session,
    deadline: Deadline,
    create: t.Callable[..., t.Any],
    wanted: t.Any,
    read_next: str,
    kept: t.Callable[[t.Any], Event | None],
) -> list[Event]:
    """Return everything that a history collector has.

    The collector ends with the session, and a lost page cannot be read again. In both cases, everything is read again.
    """
    collector = session.call_once(create, wanted)
    result: list[Event] = []
    try:
        while page := session.call_once(getattr(collector, read_next), PAGE):
            result += [event for event in map(kept, page) if event is not None]
            deadline.check("Could not read the events of the VMs", "they were not read")
    finally:
        # A session may have only a few collectors. A failed removal must not discard what was read.
        with contextlib.suppress(_errors.Error):
            session.call_once(collector.DestroyCollector)
    return result


def _vm_of(event: t.Any) -> str | None:
    if event.vm is not None:
        return event.vm.vm._GetMoId()
    # An EventEx may name its object only by type and ID.
    return getattr(event, "objectId", None) if _name(getattr(event, "objectType", None)) == "VirtualMachine" else None


def _event(event: t.Any, vm: str) -> Event:
    spec = getattr(event, "configSpec", None)
    return Event(
        key=event.key,
        type=getattr(event, "eventTypeId", None) or _name(type(event)),
        time=event.createdTime,
        user=event.userName or "",
        chain_id=event.chainId,
        vm=vm,
        host=event.host.name if event.host is not None else None,
        changes_vapp=spec is not None and _changes_what_is_delivered(spec),
    )


def _changes_what_is_delivered(spec: t.Any) -> bool:
    """Return whether a change affects a delivered value or its transport, not only a product's URL or a license."""
    vapp = spec.vAppConfig
    return bool(spec.vAppConfigRemoved or (vapp is not None and (vapp.property or vapp.ovfEnvironmentTransport)))


def _task(info: t.Any) -> Event:
    return Event(
        key=0,
        type=origin.TASK,
        time=info.queueTime,
        user=getattr(info.reason, "userName", None) or "",
        chain_id=info.eventChainId,
        vm=info.entity._GetMoId() if isinstance(info.entity, vim.VirtualMachine) else None,
        host=None,
        task=info.descriptionId,
    )


def _name(kind: t.Any) -> str:
    return getattr(kind, "__name__", "").rpartition(".")[2]
