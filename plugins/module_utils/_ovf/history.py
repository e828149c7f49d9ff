# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of many VMs' power-ons, in a number of calls that hardly grows with the VMs.

Private to the collection. A vCenter may hold millions of events, most of them
TaskEvents of every kind. They are not asked for: the few kinds that report a
power-on are, and then the task history for the tasks of those chains alone
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
"""What is asked for. Subclasses are named one by one: since vCenter 6.5 a filter on a class does not bring them."""

PAGE = 1000
"""Maximum number of events or tasks that vCenter returns in one answer."""

CHAINS = 100
"""Chains in one question to the task history."""


@dataclass(frozen=True)
class History:
    """What was read.

    :param events: of each VM, by managed object ID, oldest first.
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

    Costs: three calls and one for each 1000 events, then four for the tasks of each 100 VMs. What there is most of
    is VmReconfiguredEvent, a few each day for a VM that is backed up: 2,000 VMs and 30 days may be 100 pages.

    :param root: a VM, or a folder, datacenter or the like: everything below it.
    :param vms: keep what belongs to these VMs.
    :raises _errors.OperationFailed: the server refused; its ``fault`` tells why (``NoPermission``).
    :raises _errors.TimedOut: the time was over before the events were read.
    """
    unread = []
    try:
        try:
            events = _events(session, deadline, root, begin, EVENT_TYPES, vms)
        except UnknownType:
            # A reconfiguration brings its whole ConfigSpec, and that may hold what pyVmomi does not know.
            without = [one for one in EVENT_TYPES if one != origin.RECONFIGURED]
            events = _events(session, deadline, root, begin, without, vms)
            unread.append("changes")
    except _errors.Fault as fault:
        raise _errors.failure("Could not read the events of the VMs", fault) from fault
    of_vms: dict[str, list[Event]] = {}
    for one in sorted(events, key=lambda one: (one.time, one.key)):
        of_vms.setdefault(t.cast(str, one.vm), []).append(one)
    try:
        _add_tasks(session, deadline, of_vms)
    except (_errors.Fault, _errors.OperationFailed, _errors.TimedOut, _errors.ConnectionLost):
        unread.append("tasks")  # less is known then, but the events still stand
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
    """The tasks of each VM's last power-on, as TaskEvents among its events."""
    in_chain: dict[int, list[str]] = {}
    for vm, events in of_vms.items():
        for chain in {one.chain_id for one in origin.last_power_on(events)} - {0}:
            in_chain.setdefault(chain, []).append(vm)
    chains = list(in_chain)
    for start in range(0, len(chains), CHAINS):
        wanted = vim.TaskFilterSpec(eventChainId=chains[start : start + CHAINS])
        create = session.content.taskManager.CreateCollectorForTasks
        for one in session.ask(_read_all, session, deadline, create, wanted, "ReadNextTasks", _task):
            for vm in in_chain.get(one.chain_id, ()):
                # A task that powers on several VMs is their datacenter's, one that makes an instant clone its source's.
                if one.vm in (None, vm) or one.task == origin.INSTANT_CLONE_TASK:
                    of_vms[vm].append(one)


def _read_all(
    session: Session,
    deadline: Deadline,
    create: t.Callable[..., t.Any],
    wanted: t.Any,
    read_next: str,
    kept: t.Callable[[t.Any], Event | None],
) -> list[Event]:
    """Return all that a history collector has.

    It dies with the session, and an answer that got lost cannot be asked for again: it is asked as a whole.
    """
    collector = session.call_once(create, wanted)
    result: list[Event] = []
    try:
        while page := session.call_once(getattr(collector, read_next), PAGE):
            result += [one for one in map(kept, page) if one is not None]
            deadline.check("Could not read the events of the VMs", "they were not read")
    finally:
        # A session may have but a few of them. What was read must not be lost over one that is gone.
        with contextlib.suppress(_errors.Error):
            session.call_once(collector.DestroyCollector)
    return result


def _vm_of(event: t.Any) -> str | None:
    if event.vm is not None:
        return event.vm.vm._GetMoId()
    # An EventEx may name what it is about by type and ID alone.
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
    """Whether a change touches a delivered value or its way, and not a product's web address or an agreement alone."""
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
