# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find which of the requested children exist, and which names foreign VMs have.

Private to the collection. Costs one read of the names and BIOS UUIDs of all VMs, in
pages, and one read of the VMs that have a requested name.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent


class ExistingVm(t.NamedTuple):
    """The VM with a requested name."""

    found: _inventory.Found | None
    """The VM, if there is a relevant one."""
    verdict: identity.Verdict | None
    error: str | None = None
    """Why no child can have this name, as a sentence."""


PATHS = ("name", "config.uuid")
"""Properties of every VM. All VMs are read together, so that the number of calls does not depend on the number of
children. The server's search index would need a call for each BIOS UUID, and returns no additional VMs."""


def same_name(name: str, other: str) -> bool:
    """Return whether two names look the same to a reader, see :func:`_inventory.folded`.

    It is not known whether vCenter treats such names as the same. So if there is only a VM with another spelling, a
    child with the requested name can neither be created nor be reported as absent.
    """
    return _inventory.folded(name) == _inventory.folded(other)


def find_existing(
    parent: Parent,
    deadline: Deadline,
    folders: t.Mapping[str, t.Any],
    uuids: t.Mapping[str, str | None],
    everyone: _inventory.Everyone,
) -> dict[str, ExistingVm]:
    """Judge the VMs that have the requested names.

    A child counts wherever it was moved in the datacenter; any other VM only if
    it is in the folder for the child.

    :param folders: requested name → the folder for it.
    :param uuids: requested name → the BIOS UUID that a VM with that name gets with its record.
    :param everyone: the VMs of the server with :data:`PATHS`, in any datacenter: a copy of a child may be registered in
        another one.
    :returns: requested name → the VM with that name.
    """
    if not folders:
        return {}
    all_vms = everyone.read()
    shared = identity.shared_uuids(all_vms.values())
    spellings = {_inventory.folded(name) for name in folders}
    named = [vm for vm, name in _inventory.plain_names(all_vms).items() if _inventory.folded(name) in spellings]
    candidates = [
        found
        for found in _inventory.locate(
            parent.session, named, parents.child_paths(parent.engine), related=_inventory.host()
        )
        if not _is_elsewhere(found, parent)
    ]
    judged = [(found, identity.judge(parent.values, found.values, shared=shared)) for found in candidates]
    if identity.parent_group(parent.values) is None and any(_is_unclear(found, verdict) for found, verdict in judged):
        # Before vSphere 6.5, no property contains the fork group, but the server has a list.
        listed = parents.listed_children(parent, deadline)
        judged = [
            (found, identity.judge(parent.values, found.values, found.vm in listed, shared)) for found in candidates
        ]
    by_name = {
        name: _choose(name, folder, [(found, verdict) for found, verdict in judged if same_name(found.name, name)])
        for name, folder in folders.items()
    }
    return {name: _with_free_uuid(parent, name, vm, uuids.get(name), all_vms) for name, vm in by_name.items()}


def _is_elsewhere(found: _inventory.Found, parent: Parent) -> bool:
    """Return whether a VM is known to be in another datacenter than the parent."""
    return None not in (found.datacenter, parent.found.datacenter) and found.datacenter != parent.found.datacenter


def _with_free_uuid(
    parent: Parent, name: str, existing_vm: ExistingVm, uuid: str | None, everyone: dict[t.Any, _properties.Values]
) -> ExistingVm:
    """Refuse a BIOS UUID that another VM has, because the two VMs could not be distinguished."""
    found, verdict = existing_vm.found, existing_vm.verdict
    if uuid is None or existing_vm.error is not None:
        return existing_vm
    if found is not None and not (verdict is not None and identity.is_half_made(verdict, found.values, parent.values)):
        return existing_vm  # it keeps its own BIOS UUID
    has_it = [vm for vm, values in everyone.items() if (values.get("config.uuid") or "").lower() == uuid.lower()]
    owners = [vm for vm in has_it if found is None or vm != found.vm]
    if not owners:
        return existing_vm
    moid = owners[0]._GetMoId()
    owner = _inventory.plain_names(everyone).get(owners[0], "without a name")
    return ExistingVm(
        None, None, f"Child {name} was not created: VM {owner} ({moid}) has the bios_uuid {uuid}. Use another one."
    )


def _is_unclear(found: _inventory.Found, verdict: identity.Verdict) -> bool:
    return verdict.kinship is identity.Kinship.FOREIGN and identity.record_of(found.values) is None


def _choose(name: str, folder: t.Any, alike: list[tuple[_inventory.Found, identity.Verdict]]) -> ExistingVm:
    """Choose among the VMs whose names are the same except for their spelling."""
    judged = [(found, verdict) for found, verdict in alike if found.name == name]
    ours = [(found, verdict) for found, verdict in judged if verdict.is_child]
    here = [(found, verdict) for found, verdict in judged if found.folder == folder]
    best = [child for child in ours if child in here] or ours
    if len(best) > 1:
        where = ", ".join(sorted(found.inventory_path for found, _verdict in best))
        return ExistingVm(None, None, f"Child {name} exists more than once: {where}. Rename or remove all but one.")
    if best or here:
        return ExistingVm(*(best or here)[0])
    others = [found for found, verdict in alike if found.name != name and (verdict.is_child or found.folder == folder)]
    if others:
        listed = ", ".join(sorted(f"{vm.name} ({vm.moid}) at {vm.inventory_path}" for vm in others))
        return ExistingVm(
            None,
            None,
            f"VM {name} was not found, but there is {listed}, whose name differs {_inventory.ALIKE}. Nothing was "
            "changed. Use the name as vCenter shows it, or choose another name.",
        )
    return ExistingVm(None, None)


def foreign_vm(name: str, existing_vm: ExistingVm, consequence: str) -> str:
    """Return the sentence about a VM that has a child's name and is not our child."""
    found, verdict = t.cast(_inventory.Found, existing_vm.found), t.cast(identity.Verdict, existing_vm.verdict)
    return (
        f"VM {name} at {found.inventory_path} ({found.moid}) is not a child that this collection created from this "
        f"parent, and {consequence}: {verdict.why}. Choose another name or folder. If that VM is not needed, remove "
        "it yourself."
    )
