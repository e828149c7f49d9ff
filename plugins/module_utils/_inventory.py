# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find VMs, folders and other objects in a constant number of requests.

Private to the collection. In vSphere's inventory the characters ``%``, ``/``
and ``\\`` of a name are written ``%25``, ``%2f`` and ``%5c`` (vSphere API
reference, ManagedEntity.name). Users see and give the plain name; inventory
paths keep the escaped form, so that they can be split and looked up.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

LONGEST_NAME = 80
"""Characters vSphere allows in a VM's name, counted unescaped (vSphere API reference, VirtualMachine.name)."""


@dataclass(frozen=True)
class Selector:
    """Which VM: exactly one of the first four; folder and datacenter narrow a name."""

    name: str | None = None
    moid: str | None = None
    uuid: str | None = None
    inventory_path: str | None = None
    use_instance_uuid: bool = False
    folder: str | None = None
    datacenter: str | None = None

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        if self.moid is not None:
            return f"with the managed object ID {self.moid}"
        if self.uuid is not None:
            return f"with the {'instance' if self.use_instance_uuid else 'BIOS'} UUID {self.uuid}"
        return f"at {self.inventory_path}"


@dataclass(frozen=True)
class Found:
    """A VM, its properties, and where it is."""

    vm: t.Any
    values: _properties.Values
    inventory_path: str
    datacenter: t.Any
    folder: t.Any

    @property
    def name(self) -> str:
        """The VM's plain name."""
        return unescape(self.values["name"])

    @property
    def moid(self) -> str:
        """The VM's managed object ID."""
        return self.vm._GetMoId()


def escape(name: str) -> str:
    """A plain name as vSphere stores it."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


def unescape(name: str) -> str:
    """A stored name as a person writes it."""
    return re.sub(r"%(25|2f|2F|5c|5C)", lambda match: chr(int(match[1], 16)), name)


def check_name(name: str) -> None:
    """Refuse a name that no VM can have.

    :raises _errors.BadInput: it is empty, too long, or has control characters.
    """
    if not name.strip():
        raise _errors.BadInput("A VM's name must not be empty. Give it a name.")
    if len(name) > LONGEST_NAME:
        raise _errors.BadInput(
            f"The name {name[:20]}… has {len(name)} characters, and vSphere allows {LONGEST_NAME}. Give a shorter one."
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise _errors.BadInput(f"The name {name!r} has control characters in it. Remove them.")


def find_vm(session: Session, selector: Selector, paths: t.Sequence[str]) -> Found:
    """The one VM that fits, with the given properties.

    A managed object ID, a UUID or an inventory path read that VM alone; a bare
    name reads the names of all VMs in its scope, in pages.

    :raises _errors.NotFound: no VM fits.
    :raises _errors.Ambiguous: several do; the sentence lists their paths.
    """
    candidates = _candidates(session, selector)
    found = locate(session, candidates, paths)
    if not found:
        raise _errors.NotFound(
            f"VM {selector} was not found on {session.name}. "
            "Check the spelling, and that the user may see the VM there."
        )
    if len(found) > 1:
        listed = ", ".join(sorted(f"{one.inventory_path} ({one.moid})" for one in found))
        raise _errors.Ambiguous(
            f"VM {selector} is not the only one: {listed}. Give moid or inventory_path, or narrow it with folder."
        )
    return found[0]


def locate(session: Session, vms: t.Iterable[t.Any], paths: t.Sequence[str]) -> list[Found]:
    """Properties and places of the given VMs in one request; VMs that are gone are left out."""
    values, ancestors = _properties.read_with_ancestors(session, vms, ["name", *paths])
    return [_place(vm, of_vm, ancestors) for vm, of_vm in values.items() if "name" in of_vm]


def names_below(session: Session, root: t.Any) -> dict[t.Any, str]:
    """Plain names of all VMs below a folder or datacenter."""
    return {
        vm: unescape(values["name"])
        for vm, values in _properties.scan(session, root, vim.VirtualMachine, ["name"]).items()
        if "name" in values
    }


def find_folder(session: Session, path: str, datacenter: t.Any) -> t.Any:
    """A VM folder by its inventory path: ``/DC/vm/a/b``, or ``a/b`` below the datacenter's VM folder."""
    if not path.startswith("/"):
        path = f"{_path_of(session, datacenter)}/vm/{path}"
    found = session.ask(session.content.searchIndex.FindByInventoryPath, path.strip("/"))
    if not isinstance(found, vim.Folder):
        raise _errors.NotFound(
            f"The folder {path} was not found on {session.name}. "
            "Give its inventory path, for example /Datacenter/vm/folder."
        )
    return found


def find_named(session: Session, kind: t.Any, what: str, name: str, datacenter: t.Any) -> t.Any:
    """The object of pyVmomi type ``kind`` with this name, inventory path or managed object ID, in a datacenter."""
    if name.startswith("/"):
        found = session.ask(session.content.searchIndex.FindByInventoryPath, name.strip("/"))
        if isinstance(found, kind):
            return found
    root = datacenter
    if issubclass(kind, (vim.HostSystem, vim.ResourcePool)):
        root = _child_folder(session, datacenter, "hostFolder")
    elif issubclass(kind, vim.Datastore):
        root = _child_folder(session, datacenter, "datastoreFolder")
    all_names = _properties.scan(session, root, kind, ["name"])
    fitting = [
        one for one, values in all_names.items() if unescape(values.get("name", "")) == name or one._GetMoId() == name
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ids = ", ".join(sorted(one._GetMoId() for one in fitting))
        raise _errors.Ambiguous(
            f"The {what} {name} is not the only one of that name: {ids}. Give one of these IDs, or an inventory path."
        )
    have = sorted(unescape(values["name"]) for values in all_names.values() if "name" in values)
    raise _errors.NotFound(
        f"The {what} {name} was not found in the VM's datacenter. There are: {', '.join(have[:10]) or 'none'}."
    )


def names(session: Session, objects: t.Iterable[t.Any]) -> dict[t.Any, str]:
    """Plain names of objects of one type in one request."""
    return {
        one: unescape(values["name"])
        for one, values in _properties.read(session, objects, ["name"]).items()
        if "name" in values
    }


def _candidates(session: Session, selector: Selector) -> list[t.Any]:
    index = session.content.searchIndex
    if selector.moid is not None:
        return [session.object(vim.VirtualMachine, selector.moid)]
    if selector.uuid is not None:
        return list(
            session.ask(index.FindAllByUuid, uuid=selector.uuid, vmSearch=True, instanceUuid=selector.use_instance_uuid)
            or []
        )
    if selector.inventory_path is not None:
        found = session.ask(index.FindByInventoryPath, selector.inventory_path.strip("/"))
        return [found] if isinstance(found, vim.VirtualMachine) else []
    check_name(selector.name or "")
    return [vm for vm, name in names_below(session, _scope(session, selector)).items() if name == selector.name]


def _scope(session: Session, selector: Selector) -> t.Any:
    """Where a bare name is looked for: a folder, a datacenter, or everywhere."""
    if selector.folder is None and selector.datacenter is None:
        return session.content.rootFolder
    if selector.folder is not None and selector.folder.startswith("/"):
        return find_folder(session, selector.folder, None)
    datacenter = _datacenter(session, selector.datacenter)
    return find_folder(session, selector.folder, datacenter) if selector.folder is not None else datacenter


def _datacenter(session: Session, name: str | None) -> t.Any:
    found = _properties.scan(session, session.content.rootFolder, vim.Datacenter, ["name"])
    fitting = [one for one, values in found.items() if name in (None, unescape(values.get("name", "")), one._GetMoId())]
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(sorted(unescape(values["name"]) for values in found.values())) or "none"
    if name is None:
        raise _errors.BadInput(f"The folder is not a full inventory path, and the datacenters are: {have}. Give one.")
    raise _errors.NotFound(f"The datacenter {name} was not found on {session.name}. There are: {have}.")


def _child_folder(session: Session, datacenter: t.Any, which: str) -> t.Any:
    return _properties.read(session, [datacenter], [which])[datacenter][which]


def _path_of(session: Session, entity: t.Any) -> str:
    values, ancestors = _properties.read_with_ancestors(session, [entity], ["name"])
    return _path(entity, {**ancestors, **values})[0]


def _place(vm: t.Any, values: _properties.Values, ancestors: dict[t.Any, _properties.Values]) -> Found:
    path, chain = _path(vm, {**ancestors, vm: values})
    datacenter = next((one for one in chain if isinstance(one, vim.Datacenter)), None)
    folder = next((one for one in chain if isinstance(one, vim.Folder)), None)
    return Found(vm, values, path, datacenter, folder)


def _path(entity: t.Any, known: dict[t.Any, _properties.Values]) -> tuple[str, list[t.Any]]:
    """Inventory path of an entity, and what is above it, nearest first."""
    parts: list[str] = []
    chain: list[t.Any] = []
    current = entity
    while current in known:
        values = known[current]
        above = values.get("parent") or values.get("parentVApp") or values.get("parentFolder")
        if isinstance(current, vim.VirtualApp):
            above = values.get("parentFolder") or above
        if above is None:
            break  # the root folder, which no path names
        parts.append(values.get("name", "?"))
        chain.append(above)
        current = above
    return "/" + "/".join(reversed(parts)), chain
