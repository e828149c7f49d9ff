# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List all fork parents and children of a server, as ``vmfork_info`` returns them.

Private to the collection. Costs one read of the identity of every VM, in
pages, and two reads of the VMs that are parents or children; for one VM, the
server is also asked for its parent and children.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _extra_config, _inventory, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts, guestinfo, identity, identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

Everyone = t.Mapping[t.Any, t.Mapping[str, t.Any]]
"""VM → its properties."""

Family = dict[t.Any, list[t.Any]]
"""Parent VM → its children."""


def list_parents(
    session: Session,
    engine: Engine,
    deadline: Deadline,
    only: parents.Parent | None,
    warn: t.Callable[[str], None],
    within: t.Container[t.Any] | None = None,
) -> dict[str, t.Any]:
    """Return the ``parents`` and ``without_parent`` return values.

    :param only: restrict both to the parent and children of this VM.
    :param within: restrict both to families with a member among these VMs.
    :param warn: receives what the user may not query, and which VMs cannot be read.
    """
    everyone = _properties.scan(
        session, session.content.rootFolder, vim.VirtualMachine, [*identity.SCAN_PATHS, *engine.paths]
    )
    problem = parents.unreadable(everyone)
    if problem is not None:
        warn(problem)
    shared = identity.shared_uuids(everyone.values())
    listed = _ask_server(only, deadline, warn) if only is not None else {}
    family = relate(everyone, engine, listed)
    orphans = without_parent(everyone, family, listed)
    if only is not None:
        family = {vm: its for vm, its in family.items() if only.vm in (vm, *its)}
        orphans = [vm for vm in orphans if vm == only.vm]
    if within is not None:
        family = {vm: its for vm, its in family.items() if any(member in within for member in (vm, *its))}
        orphans = [vm for vm in orphans if vm in within]
    wanted = [*family, *(child for its in family.values() for child in its), *orphans]
    located = _inventory.locate(session, wanted, parents.listing_paths(engine), related=_inventory.host())
    found = {vm.vm: vm for vm in located}

    identities = _identities(found)

    def described(vm: t.Any, of_parent: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        child = found[vm]
        verdict = identity.judge(of_parent, child.values, listed=True, shared=shared)
        return {**facts.child(child, engine, of_parent), "recorded": verdict.is_child, "identity": identities.get(vm)}

    return {
        "parents": _sorted(
            {
                **facts.parent(found[vm], engine),
                "children": _sorted(described(child, found[vm].values) for child in its if child in found),
            }
            for vm, its in family.items()
            if vm in found
        ),
        "without_parent": _sorted(
            {**described(vm, {}), "recorded": identity.is_recorded(found[vm].values, shared)}
            for vm in orphans
            if vm in found
        ),
    }


def _identities(found: t.Mapping[t.Any, _inventory.Found]) -> dict[t.Any, dict[str, t.Any]]:
    """Return the ``identity`` return value of each VM that has one."""
    reports = {}
    accepted = set()
    for vm, its in found.items():
        record = identity.own_record(its.values)
        seen = guestinfo.identity(_extra_config.mapping(its.values), record.nonce if record is not None else None)
        if seen.report is not None:
            reports[vm] = seen.report
        if seen.is_accepted:
            accepted.add(vm)
    clashes = identity_report.duplicates({vm._GetMoId(): report for vm, report in reports.items()})
    return {vm: report.as_dict(vm in accepted and vm._GetMoId() not in clashes) for vm, report in reports.items()}


def relate(everyone: Everyone, engine: Engine, listed: t.Mapping[t.Any, t.Any]) -> Family:
    """Return the children of each parent, by our records, the fork groups and the server's list. VMs that are enabled
    or at their fork point may have none.

    Each VM's parent is looked up by the VM's keys, so that the effort is proportional to the number of VMs.

    :param listed: child → parent, according to the server; it may name VMs that the user cannot see.
    """
    by_uuid = {
        values["config.instanceUuid"].lower(): vm
        for vm, values in everyone.items()
        if values.get("config.instanceUuid")
    }
    by_group = {group: vm for vm, values in everyone.items() if (group := identity.parent_group(values))}
    family: Family = {
        vm: [] for vm, values in everyone.items() if engine.is_enabled(values) or engine.is_quiesced(values)
    }
    for vm, values in everyone.items():
        record = identity.record_of(values)
        candidates = [
            by_uuid.get(record.parent_instance_uuid.lower()) if record is not None else None,
            by_group.get(identity.child_group(values) or ""),
        ]
        for parent in candidates:
            if parent is not None and identity.judge(everyone[parent], values).kinship is not identity.Kinship.FOREIGN:
                family.setdefault(parent, []).append(vm)
                break
        else:
            if listed.get(vm) in everyone:
                family.setdefault(listed[vm], []).append(vm)
    return family


def without_parent(everyone: Everyone, family: Family, listed: t.Mapping[t.Any, t.Any]) -> list[t.Any]:
    """Return the forks whose parent is gone or not visible."""
    placed = {child for its in family.values() for child in its}
    return [
        vm
        for vm, values in everyone.items()
        if vm not in placed and (vm in listed or identity.forked_from(values) is not None)
    ]


def _ask_server(only: parents.Parent, deadline: Deadline, warn: t.Callable[[str], None]) -> dict[t.Any, t.Any]:
    """Return the parent of each child, as far as the server knows it. vSphere 6.0 has no property for it."""
    listed: dict[t.Any, t.Any] = {}
    try:
        listed = dict.fromkeys(parents.listed_children(only, deadline), only.vm)
        its_parent = parents.listed_parent(only, deadline)
    except _errors.OperationFailed as error:
        if error.fault != "NoPermission":
            raise
        warn(f"Forks that this collection did not create may be missing. {error.sentence}")
        return listed
    return {**listed, only.vm: its_parent} if its_parent is not None else listed


def _sorted(entries: t.Iterable[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    return sorted(entries, key=lambda entry: (entry["name"], entry["moid"]))
