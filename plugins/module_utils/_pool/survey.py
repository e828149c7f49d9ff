# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what `reconcile.py` needs to know about a pool, with a constant number of calls.

Private to the collection. Costs one read of the identity and the record of
every VM, in pages, one read of the pool's children and parents, one of their
recent tasks, and one of vCenter's time. What a child's record says and its
``changeVersion`` come from the same read, so that a reconfigure with this
``changeVersion`` applies only to what was judged.
"""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _inventory,
    _power,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import losses
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import record
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.reconcile import (
    Inventory,
    Kin,
    PoolChild,
    PoolParent,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.taking import CHANGE_VERSION
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

_RECORD_PATH = _extra_config.path(record.CHILD_KEY)

SCAN_PATHS = (*identity.SCAN_PATHS, _RECORD_PATH)
"""Properties of every VM."""

_KEYS = (identity.RECORD_KEY, record.CHILD_KEY, record.PARENT_KEY, record.GENERATION_KEY)

PATHS = (
    "config.uuid",
    "config.instanceUuid",
    "config.forkConfigInfo",
    CHANGE_VERSION,
    *map(_extra_config.path, _KEYS),
    "guest.toolsRunningStatus",
    "guestHeartbeatStatus",
    "recentTask",
    "runtime.bootTime",
    "runtime.connectionState",
    "runtime.host",
    "runtime.powerState",
    "snapshot",
)
"""Properties of the pool's children and parents."""

Everyone = t.Mapping[t.Any, _properties.Values]
"""VM → its properties."""


@dataclass(frozen=True)
class PoolNames:
    """Which VMs a pool may have.

    :param parents: managed object IDs, in the order in which they are preferred.
    :param folder: the folder of the pool's children.
    :param slots: the name of each slot, from 1 on.
    """

    pool: str
    parents: t.Sequence[str]
    folder: t.Any
    slots: t.Sequence[str]


@dataclass(frozen=True)
class Survey:
    """The inventory of a pool, and the VMs behind it.

    :param now: vCenter's time.
    :param found: key → the VM of each child and parent, as it was judged.
    """

    inventory: Inventory
    now: datetime.datetime
    found: t.Mapping[str, _inventory.Found]


def survey(session: Session, engine: Engine, names: PoolNames) -> Survey:
    """Read the inventory of a pool.

    :raises _errors.BadInput: this vSphere has no Instant Clone.
    """
    if engine.create_method != "InstantClone_Task":
        raise _errors.BadInput(
            f"Pool {names.pool} was not changed: pools need Instant Clone, which {session.name} does not have. Use "
            "vSphere 6.7 or newer, or create children with vmfork_child."
        )
    everyone = _properties.scan(session, session.content.rootFolder, vim.VirtualMachine, SCAN_PATHS)
    members = _members(everyone, names)
    folded = {_inventory.folded(name): slot for slot, name in enumerate(names.slots, 1)}
    alike = [vm for vm, name in _inventory.plain_names(everyone).items() if _inventory.folded(name) in folded]
    parents = [vm for vm in everyone if vm._GetMoId() in names.parents]
    to_read = dict.fromkeys([*parents, *members, *alike])
    paths = (*PATHS, *engine.paths)
    hosts = {"runtime.host": (vim.HostSystem, ("name", "runtime.connectionState"))}
    found = {vm.vm: vm for vm in _inventory.locate(session, to_read, paths, related=hosts)}
    # What was read last counts. A child that is missing now was removed in the meantime, and its slot is free.
    members = _members({**everyone, **{vm: its.values for vm, its in found.items()}}, names)
    tasks = {task for vm in found.values() for task in vm.values.get("recentTask") or []}
    running = {
        task for task, values in _properties.read(session, tasks, ["info.state"]).items() if _tasks.is_running(values)
    }

    def slot_of(vm: _inventory.Found) -> int | None:
        return folded.get(_inventory.folded(vm.name)) if vm.folder == names.folder else None

    children = [_child(found[vm], member, slot_of(found[vm]), running) for vm, member in members.items() if vm in found]
    others = [found[vm] for vm in alike if vm in found and vm not in members]
    return Survey(
        Inventory(
            parents=tuple(
                _parent(found[vm], engine, names.pool) for vm in sorted(parents, key=_order(names)) if vm in found
            ),
            children=tuple(sorted(children, key=lambda child: (child.name, child.key))),
            controller_time=datetime.datetime.now(datetime.timezone.utc),
            foreign_slots=frozenset(slot for vm in others if (slot := slot_of(vm)) is not None),
            gap=_gap(names, {found[vm].moid for vm in parents if vm in found}),
        ),
        session.current_time(),
        {vm.moid: vm for vm in found.values()},
    )


def _order(names: PoolNames) -> t.Callable[[t.Any], int]:
    return lambda vm: list(names.parents).index(vm._GetMoId())


def _gap(names: PoolNames, seen: t.Container[str]) -> str | None:
    """Return what could not be read, as a sentence."""
    lost = [moid for moid in names.parents if moid not in seen]
    return f"The parents {', '.join(lost)} of pool {names.pool} could not be read." if lost else None


class _Member(t.NamedTuple):
    """What a VM of the pool is.

    :param parent: key of its parent, if that is one of the pool's.
    """

    kin: Kin
    record: record.ChildRecord | record.Unreadable
    parent: str | None


def _members(everyone: Everyone, names: PoolNames) -> dict[t.Any, _Member]:
    """Return the VMs that are children of the pool, or may be. Only the identity decides that; the record names it."""
    shared = identity.shared_uuids(everyone.values())
    by_uuid = {values["config.instanceUuid"].lower(): vm for vm, values in everyone.items() if _has_uuid(values)}
    result: dict[t.Any, _Member] = {}
    for vm, values in everyone.items():
        its = record.decode_child(_text(values, record.CHILD_KEY), values.get("config.uuid"))
        own = identity.own_record(values)
        if its is None or own is None:
            continue  # it has no record of a pool, or it is a copy, to which the record does not apply
        parent = by_uuid.get(own.parent_instance_uuid.lower())
        key = parent._GetMoId() if parent is not None else ""
        kin = _kin(values, everyone.get(parent), shared)
        if kin is not None and _is_of(its, key, names):
            result[vm] = _Member(kin, its, key if key in names.parents else None)
    return result


def _has_uuid(values: _properties.Values) -> bool:
    return bool(values.get("config.instanceUuid"))


def _kin(values: _properties.Values, parent: _properties.Values | None, shared: t.Container[str]) -> Kin | None:
    """Return what the identity says; ``None``: the VM is certainly not our child."""
    if parent is None:
        return Kin.ORPHAN if identity.is_recorded(values, shared) else Kin.DOUBTFUL
    kinship = identity.judge(parent, values, shared=shared).kinship
    return {identity.Kinship.CHILD: Kin.CHILD, identity.Kinship.DOUBLE: Kin.DOUBTFUL}.get(kinship)


def _is_of(its: record.ChildRecord | record.Unreadable, parent: str, names: PoolNames) -> bool:
    """Return whether a record is of this pool. An unreadable one may be, if the pool uses the parent."""
    return parent in names.parents if isinstance(its, record.Unreadable) else its.pool == names.pool


def _text(values: t.Mapping[str, t.Any], key: str) -> str | None:
    return _extra_config.mapping(values).get(key)


def _child(vm: _inventory.Found, member: _Member, slot: int | None, running: t.Container[t.Any]) -> PoolChild:
    """Return a child from its properties."""
    values = vm.values
    host = vm.related.get(values.get("runtime.host"), {})
    states = (values.get("runtime.connectionState"), host.get("runtime.connectionState"))
    return PoolChild(
        key=vm.moid,
        name=vm.name,
        kin=member.kin,
        record=member.record,
        slot=slot,
        parent=member.parent,
        is_reachable=all(str(state) == "connected" for state in states),
        is_on=_power.is_on(values),
        boot_time=values.get("runtime.bootTime"),
        is_healthy=_is_healthy(values),
        is_busy=any(task in running for task in values.get("recentTask") or [])
        or bool(losses.of({}, values).temporary),
    )


def _is_healthy(values: _properties.Values) -> bool | None:
    """Return whether a VM is healthy; ``None``: not known, as when the heartbeat is late."""
    if not _power.is_on(values):
        return False
    if str(values.get("guestHeartbeatStatus")) == "gray":
        return None
    tools = values.get("guest.toolsRunningStatus")
    return None if tools is None else tools == "guestToolsRunning"


def _parent(vm: _inventory.Found, engine: Engine, pool: str) -> PoolParent:
    """Return a parent from its properties."""
    values = vm.values
    obstacle = None
    if not engine.is_quiesced(values):
        obstacle = (
            f"No child is created from parent {vm.name}: it is not at its fork point. Quiesce it with vmfork_quiesce."
        )
    pools = record.decode_parent(_text(values, record.PARENT_KEY), values.get("config.uuid") or "")
    return PoolParent(
        key=vm.moid,
        name=vm.name,
        generation=record.generation(
            values.get("config.instanceUuid") or "",
            _text(values, record.GENERATION_KEY),
            values.get("runtime.bootTime"),
        ),
        obstacle=obstacle,
        pool=pools if isinstance(pools, record.Unreadable) else pools.pools.get(pool),
    )
