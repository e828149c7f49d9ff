# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find VMs, folders and other objects with a constant number of calls.

Private to the collection. In vSphere's inventory the characters ``%``, ``/``
and ``\\`` of a name are written ``%25``, ``%2f`` and ``%5c`` (vSphere API
reference, ManagedEntity.name). Users see and enter the plain name; inventory
paths keep the escaped form, so that they can be split and looked up.
"""

from __future__ import annotations

import difflib
import re
import typing as t
import unicodedata
from dataclasses import dataclass, field
from types import MappingProxyType

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

LONGEST_NAME = 80
"""Maximum length of a VM's name, counted unescaped (vSphere API reference, VirtualMachine.name)."""


@dataclass(frozen=True)
class Selector:
    """Selects one VM: exactly one of the first four is set; folder and datacenter narrow a name."""

    name: str | None = None
    moid: str | None = None
    uuid: str | None = None
    inventory_path: str | None = None
    use_instance_uuid: bool = False
    folder: str | None = None
    datacenter: str | None = None
    prefix: str = field(default="", compare=False)
    """Prefix of the option names: ``parent_``."""

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        if self.moid is not None:
            return f"with the managed object ID {self.moid}"
        if self.uuid is not None:
            return f"with the {'instance' if self.use_instance_uuid else 'BIOS'} UUID {self.uuid}"
        return f"at {self.inventory_path}"


@dataclass(frozen=True)
class Selection:
    """Selects VMs: all that are named in any way; if none is named, all in a folder, a datacenter or everywhere.

    :param candidates: narrows such a scope to VMs with one of these names, instance UUIDs or BIOS UUIDs; ``None``: do
        not narrow it.
    """

    name: t.Sequence[str] = ()
    moid: t.Sequence[str] = ()
    uuid: t.Sequence[str] = ()
    inventory_path: t.Sequence[str] = ()
    use_instance_uuid: bool = False
    folder: str | None = None
    datacenter: str | None = None
    candidates: t.Collection[str] | None = None

    @property
    def is_scope(self) -> bool:
        """Return whether no VM is named."""
        return not (self.name or self.moid or self.uuid or self.inventory_path)


@dataclass(frozen=True)
class Found:
    """A VM, its properties, and its location; ``vapps`` has the properties of the vApps around it, nearest first.

    :param related: the objects that were read with it; see :func:`locate`.
    """

    vm: t.Any
    values: _properties.Values
    inventory_path: str
    datacenter: t.Any
    folder: t.Any
    vapps: tuple[_properties.Values, ...] = ()
    related: t.Mapping[t.Any, _properties.Values] = field(default_factory=dict)

    @property
    def host_name(self) -> str | None:
        """The name of the VM's ESXi host if the user may see it, and :func:`host` was read."""
        name = self.related.get(self.values.get("runtime.host"), {}).get("name")
        return unescape(name) if name is not None else None

    @property
    def name(self) -> str:
        """The VM's plain name."""
        return unescape(self.values["name"])

    @property
    def moid(self) -> str:
        """The VM's managed object ID."""
        return self.vm._GetMoId()


def host() -> _properties.Related:
    """Return what to read with each VM for the name of its ESXi host, see :func:`locate`."""
    return {"runtime.host": (vim.HostSystem, ("name",))}


def escape(name: str) -> str:
    """Return a plain name as vSphere stores it."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


def unescape(name: str) -> str:
    """Return a stored name as users write it."""
    return re.sub(r"%(25|2f|2F|5c|5C)", lambda match: chr(int(match[1], 16)), name)


def folded(name: str) -> str:
    """Return a name without differences that users do not see: case, spaces, encoding, invisible characters.

    Two names with the same result may be two VMs, or one VM written in two ways.
    """
    plain = unicodedata.normalize("NFC", name.casefold())
    return " ".join("".join(char for char in plain if unicodedata.category(char) != "Cf").split())


ALIKE = "only in case, in spaces, or in how its characters are encoded"
"""How names differ whose :func:`folded` forms are equal."""


def check_name(name: str) -> None:
    """Refuse an invalid name of a VM.

    :raises _errors.BadInput: it is empty, too long, or has control characters.
    """
    if not name.strip():
        raise _errors.BadInput("The name of a VM must not be empty. Set a name.")
    if len(name) > LONGEST_NAME:
        raise _errors.BadInput(
            f"The name {name[:20]}… has {len(name)} characters, and vSphere allows {LONGEST_NAME}. Use a shorter one."
        )
    if re.search("[\ud800-\udfff\ufffe\uffff]", name):  # XML 1.0, section 2.2
        raise _errors.BadInput(f"The name {name!r} has characters that vSphere cannot transfer. Remove them.")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise _errors.BadInput(f"The name {name!r} contains control characters. Remove them.")


def find_vm(
    session: Session,
    selector: Selector,
    paths: t.Sequence[str],
    related: _properties.Related = MappingProxyType({}),
    everyone: Everyone | None = None,
) -> Found:
    """Return the only VM that matches, with the given properties.

    With a managed object ID, a UUID or an inventory path, only that VM is read;
    so is a VM that is directly in the folder that narrows its name. With any other name, the names of all VMs in its
    scope are read, in pages.

    :param related: see :func:`locate`.
    :param everyone: if all VMs are read anyway for a bare name, they are kept here.
    :raises _errors.NotFound: no VM matches.
    :raises _errors.Ambiguous: several VMs match; the sentence lists their paths.
    """
    have: Names = {}
    if selector.name is not None and selector.folder is not None:
        check_name(selector.name)
        folder = _scope(session, selector)
        child = session.ask(session.content.searchIndex.FindChild, folder, escape(selector.name))
        direct = locate(session, [child], paths, related=related) if isinstance(child, vim.VirtualMachine) else []
        if direct and direct[0].name == selector.name:  # the search may ignore case
            return direct[0]
    candidates = _candidates(session, selector, have, everyone)
    found = locate(session, candidates, paths, related=related)
    if not found:
        raise _not_found(session, selector, [str(selector)], have)
    _check_only(str(selector), found)
    return found[0]


class Everyone:
    """All VMs that the user may see, with the properties that a task needs of them, read with the names or later.

    They are read once: whoever needs their current state must read it again.

    :param paths: the properties; the name is one of them.
    """

    def __init__(self, session: Session, paths: t.Sequence[str]) -> None:
        self._session = session
        self._paths = paths
        self._values: dict[t.Any, _properties.Values] | None = None

    def read(self) -> dict[t.Any, _properties.Values]:
        """Return the properties by VM."""
        if self._values is None:
            root = self._session.content.rootFolder
            self._values = _properties.scan(self._session, root, vim.VirtualMachine, self._paths)
        return self._values


def find_vms(
    session: Session, selection: Selection, paths: t.Sequence[str], absent: list[str] | None = None
) -> list[Found]:
    """Return the VMs of a selection, with the given properties and the ``vAppConfig`` of the vApps around them.

    :param absent: receives the named VMs that do not exist, if others do; ``None``: missing VMs are an error.
    :raises _errors.NotFound: named VMs do not exist; the sentence lists them all.
    :raises _errors.Ambiguous: a name matches several VMs.
    """
    if selection.is_scope:
        scope = _scope(session, selection)
        if selection.candidates is None:
            return _placed(
                *_properties.scan_with_ancestors(session, scope, vim.VirtualMachine, ["name", *paths], ["vAppConfig"])
            )
        return locate(session, _among(session, scope, selection.candidates), paths, ["vAppConfig"])
    candidates: dict[str, list[t.Any]] = {}
    have: Names = {}
    if selection.name:
        for name in selection.name:
            check_name(name)
        by_name: dict[str, list[t.Any]] = {}
        have.update(names_below(session, _scope(session, selection)))
        for vm, name in have.items():
            by_name.setdefault(name, []).append(vm)
        candidates.update({name: by_name.get(name, []) for name in selection.name})
    for kind in ("moid", "uuid", "inventory_path"):
        for value in getattr(selection, kind):
            selector = Selector(**{kind: value}, use_instance_uuid=selection.use_instance_uuid)
            candidates[str(selector)] = _candidates(session, selector, have)
    found = {
        entry.vm: entry
        for entry in locate(session, {vm for vms in candidates.values() for vm in vms}, paths, ["vAppConfig"])
    }
    lacking = [what for what, vms in candidates.items() if not any(vm in found for vm in vms)]
    if lacking and (absent is None or not found):
        raise _not_found(session, selection, lacking, have)
    if absent is not None:
        absent += lacking
    for what, vms in candidates.items():
        _check_only(what, [found[vm] for vm in vms if vm in found])
    return list(found.values())


def _among(session: Session, scope: t.Any, candidates: t.Collection[str]) -> t.Collection[t.Any]:
    """Return the VMs of a scope that have one of these names or UUIDs."""
    found = _properties.scan(session, scope, vim.VirtualMachine, ["name", *_UUIDS])
    names = plain_names(found)
    wanted = set(candidates)
    uuids = {identity.lower() for identity in wanted}
    return [
        vm
        for vm, values in found.items()
        if names.get(vm) in wanted or not uuids.isdisjoint(values[path].lower() for path in _UUIDS if values.get(path))
    ]


_UUIDS = ("config.instanceUuid", "config.uuid")

Names = dict[t.Any, str]
"""VM → its plain name."""

MOST_NAMES = 10
"""How many names a sentence lists if a name is not found."""


def _not_found(
    session: Session, selector: Selector | Selection, absent: t.Sequence[str], have: Names
) -> _errors.NotFound:
    """Return the error for VMs that were not found.

    :param have: the VMs whose names were compared.
    """
    where = f"on {session.name}"
    seen = ""
    if selector.name:
        scope = {"folder": selector.folder, "datacenter": selector.datacenter}
        where = " ".join([*(f"in {kind} {name}" for kind, name in scope.items() if name is not None), where])
        listed = sorted(set(have.values()))
        more = ", ..." if len(listed) > MOST_NAMES else ""
        seen = (
            f" VMs there: {len(have)} ({', '.join(listed[:MOST_NAMES])}{more})." if have else " No VM is visible there."
        )
    return _errors.NotFound(
        f"VM {', VM '.join(absent)} was not found {where}.{similar(absent, have.values()) or seen} Check the "
        "spelling, and whether the user can see the VM."
    )


def vms_within(session: Session, folder: str | None, datacenter: str | None) -> set[t.Any] | None:
    """Return the VMs below a folder or in a datacenter; ``None``: neither is given."""
    if folder is None and datacenter is None:
        return None
    return set(names_below(session, _scope(session, Selector(folder=folder, datacenter=datacenter))))


def locate(
    session: Session,
    vms: t.Iterable[t.Any],
    paths: t.Sequence[str],
    vapp_paths: t.Sequence[str] = (),
    related: _properties.Related = MappingProxyType({}),
) -> list[Found]:
    """Return properties and locations of the given VMs with one call; missing VMs are left out.

    :param related: other objects to read with the same call.
    """
    return _placed(*_properties.read_with_ancestors(session, vms, ["name", *paths], vapp_paths, related))


def _placed(values: dict[t.Any, _properties.Values], others: dict[t.Any, _properties.Values]) -> list[Found]:
    """Return VMs with their locations.

    :param others: their ancestors and the objects that were read with them.
    """
    plain_names(others)
    return [_place(vm, of_vm, others) for vm, of_vm in values.items() if "name" in of_vm]


def names_below(session: Session, root: t.Any, kind: t.Any = None) -> dict[t.Any, str]:
    """Return the plain names of all VMs, or objects of another type, below a folder or datacenter."""
    return plain_names(_properties.scan(session, root, kind or vim.VirtualMachine, ["name"]))


def find_folder(session: Session, path: str, datacenter: t.Any) -> t.Any:
    """Return a VM folder by its inventory path: ``/DC/vm/a/b``, or ``a/b`` below the datacenter's VM folder.

    A full path may lack its leading slash.

    :param datacenter: ``None`` if the user may not see the datacenter of the task's VM.
    """
    above = paths_of(session, [datacenter]) if datacenter is not None else {}
    full = [f"{above[datacenter]}/vm/{path}"] if above and not path.startswith("/") else []
    for candidate in (*full, *([path] if "/" in path else [])):
        found = _at(session, candidate)
        if isinstance(found, vim.Folder):
            if above and not _is_below(candidate, above[datacenter]):
                raise _errors.BadInput(
                    f"The folder {path} is in another datacenter than the VM, which is in {above[datacenter]}. Use a "
                    "folder of that datacenter."
                )
            _errors.remember_name(found._GetMoId(), candidate)
            return found
    if not path.startswith("/") and not above:
        raise _errors.BadInput(
            f"The folder {path} is not a full inventory path, and the user cannot see which datacenter it is in. Use "
            "the full path, for example /Datacenter/vm/folder."
        )
    path = next(iter(full), path)
    raise _errors.NotFound(
        f"The folder {path} was not found on {session.name}.{_similar_folders(session, path, datacenter)} Use its "
        "inventory path, for example /Datacenter/vm/folder."
    )


def _is_below(path: str, above: str) -> bool:
    """Return whether an inventory path is below another, however the two are written."""
    return unescape(f"/{path.strip('/')}/").casefold().startswith(unescape(f"{above}/").casefold())


def _similar_folders(session: Session, path: str, datacenter: t.Any) -> str:
    root = session.content.rootFolder if datacenter is None else datacenter
    folders = names_below(session, root, vim.Folder)
    near = _near(unescape(path.rstrip("/").rpartition("/")[2]), folders.values())
    paths = paths_of(session, [folder for folder, name in folders.items() if name in near])
    return f" Similar names: {', '.join(sorted(paths.values()))}." if paths else ""


def find_named(session: Session, kind: t.Any, what: str, name: str, datacenter: t.Any) -> t.Any:
    """Return the object of pyVmomi type ``kind`` with this name, inventory path or managed object ID.

    :param datacenter: where to search for a name or an ID; ``None``: everywhere.
    """
    if name.startswith("/"):
        found = _at(session, name)
        if isinstance(found, kind):
            return found
    return find_each_named(session, kind, what, [name], datacenter)[name]


def find_each_named(
    session: Session,
    kind: t.Any,
    what: str,
    wanted: t.Collection[str],
    datacenter: t.Any,
    narrow: t.Callable[[list[t.Any]], list[t.Any]] | None = None,
    otherwise: t.Callable[[list[str]], dict[str, t.Any]] | None = None,
) -> dict[str, t.Any]:
    """Return objects as :func:`find_named` does, for any number of names, paths and IDs with the same few calls.

    :param narrow: reduces several objects with one name to those that can be meant.
    :param otherwise: looks up the names that no object of this type has.
    """
    if not wanted:
        return {}
    root = session.content.rootFolder if datacenter is None else _root_of(session, kind, datacenter)
    everything = _properties.scan(session, root, kind, ["name"])
    all_names = {**dict.fromkeys(everything, ""), **plain_names(everything)}
    fitting = {name: [obj for obj, its in all_names.items() if name in (its, obj._GetMoId())] for name in wanted}
    # The last name of a path is compared first, so that not every object's location must be read.
    last_names = {name: unescape(name.rstrip("/").rpartition("/")[2]) for name in wanted if name.startswith("/")}
    at = {path: [obj for obj, its in all_names.items() if its == last] for path, last in last_names.items()}
    several = {obj for found in fitting.values() if len(found) > 1 for obj in found}
    if several and narrow is not None:
        kept = set(narrow(list(several)))
        fitting = {name: [obj for obj in found if obj in kept] or found for name, found in fitting.items()}
    paths = paths_of(session, several.union(*at.values()))
    for path, found in at.items():
        fitting[path] += [obj for obj in found if unescape(paths.get(obj, "")) == unescape(path.rstrip("/"))]
    unknown = [name for name, found in fitting.items() if not found]
    if unknown and otherwise is not None:
        fitting.update({name: [obj] for name, obj in otherwise(unknown).items()})
    for name, found in fitting.items():
        if len(found) > 1:
            listed = ", ".join(sorted(f"{paths.get(obj, name)} ({obj._GetMoId()})" for obj in found))
            raise _errors.Ambiguous(
                f"Several objects match the {what} {name}: {listed}. Use one of these IDs, or a path."
            )
        if not found:
            have = ", ".join(sorted(set(filter(None, all_names.values())))[:10]) or "none"
            where = f"on {session.name}" if datacenter is None else "in the VM's datacenter"
            near = similar([unescape(name.rpartition("/")[2])], all_names.values())
            raise _errors.NotFound(f"The {what} {name} was not found {where}.{near} There are: {have}.")
    return {name: found[0] for name, found in fitting.items()}


def compute_resources(session: Session, objects: t.Collection[t.Any]) -> dict[t.Any, t.Any]:
    """Return the cluster or compute resource of each host or resource pool, with one call."""
    values, ancestors = _properties.read_with_ancestors(session, objects, ["name"])
    chains = {obj: _path(obj, {**ancestors, **values})[1] for obj in values}
    return {
        obj: next((above for above in chain if isinstance(above, vim.ComputeResource)), None)
        for obj, chain in chains.items()
    }


def similar(wanted: t.Iterable[str | None], have: t.Iterable[str]) -> str:
    """Return a sentence, after a space, that lists names similar to the wanted ones; empty: there are none."""
    near = dict.fromkeys(name for text in wanted if text for name in _near(text, have))
    return f" Similar names: {', '.join(near)}." if near else ""


def _near(wanted: str, have: t.Iterable[str]) -> list[str]:
    """Return up to three similar names, ignoring case."""
    by_folded: dict[str, list[str]] = {}
    for name in sorted(set(have)):
        by_folded.setdefault(name.casefold(), []).append(name)
    return [name for folded in difflib.get_close_matches(wanted.casefold(), by_folded, 3) for name in by_folded[folded]]


def paths_of(session: Session, entities: t.Iterable[t.Any]) -> dict[t.Any, str]:
    """Return the inventory paths of the entities whose names the user may see."""
    values, ancestors = _properties.read_with_ancestors(session, entities, ["name"])
    return {entity: _path(entity, {**ancestors, **values})[0] for entity, of_one in values.items() if "name" in of_one}


def names(session: Session, objects: t.Iterable[t.Any]) -> dict[t.Any, str]:
    """Return the plain names of objects of one type with one call."""
    found = _properties.read(session, objects, ["name"])
    return {obj: unescape(values["name"]) for obj, values in found.items() if "name" in values}


def plain_names(found: dict[t.Any, _properties.Values]) -> dict[t.Any, str]:
    """Return the plain names of the objects whose names the user may see, and store them for error sentences."""
    result = {obj: unescape(values["name"]) for obj, values in found.items() if "name" in values}
    for obj, name in result.items():
        _errors.remember_name(obj._GetMoId(), name)
    return result


def _check_only(what: str, found: t.Sequence[Found]) -> None:
    if len(found) > 1:
        listed = ", ".join(sorted(f"{entry.inventory_path} ({entry.moid})" for entry in found))
        raise _errors.Ambiguous(f"Several VMs match VM {what}: {listed}. Use one of these paths or managed object IDs.")


def _candidates(session: Session, selector: Selector, have: Names, everyone: Everyone | None = None) -> list[t.Any]:
    """Return the VMs that a selector may refer to.

    :param have: receives all VMs whose names were read.
    :param everyone: see :func:`find_vm`.
    """
    index = session.content.searchIndex
    if selector.moid is not None:
        return [session.object(vim.VirtualMachine, selector.moid)]
    if selector.uuid is not None:
        return list(
            session.ask(index.FindAllByUuid, uuid=selector.uuid, vmSearch=True, instanceUuid=selector.use_instance_uuid)
            or []
        )
    if selector.inventory_path is not None:
        return _vms_at(session, selector.inventory_path, have)
    check_name(selector.name or "")
    scope = _scope(session, selector)
    is_everywhere = scope == session.content.rootFolder
    names = plain_names(everyone.read()) if everyone is not None and is_everywhere else names_below(session, scope)
    have.update(names)
    return [vm for vm, name in names.items() if name == selector.name]


def _vms_at(session: Session, path: str, have: Names) -> list[t.Any]:
    """Return the VM at an inventory path.

    Users may write a slash in a name unescaped. Such a path is compared with the paths of the VMs whose names it ends
    with.
    """
    found = _at(session, path)
    if found is not None:
        return [found] if isinstance(found, vim.VirtualMachine) else []
    plain = "/" + unescape(path.strip("/"))
    names = names_below(session, session.content.rootFolder)
    have.update(names)
    paths = paths_of(session, [vm for vm, name in names.items() if plain.endswith(f"/{name}")])
    return [vm for vm, its in paths.items() if unescape(its) == plain]


def _at(session: Session, path: str) -> t.Any:
    """Return the object at an inventory path, if there is one; escapes may be in upper case."""
    path = re.sub("%(25|2F|5C)", lambda match: match[0].lower(), path.strip("/"))
    return session.ask(session.content.searchIndex.FindByInventoryPath, path)


def _scope(session: Session, selector: Selector | Selection) -> t.Any:
    """Return where to search for a bare name: a folder, a datacenter, or everywhere."""
    if selector.folder is None and selector.datacenter is None:
        return session.content.rootFolder
    if selector.folder is not None and selector.datacenter is None:
        if selector.folder.startswith("/"):
            return find_folder(session, selector.folder, None)
        found = _at(session, selector.folder) if "/" in selector.folder else None
        if isinstance(found, vim.Folder):
            return found
    elif selector.folder is not None and selector.folder.startswith("/"):
        return find_folder(session, selector.folder, None)
    prefix = selector.prefix if isinstance(selector, Selector) else ""
    datacenter = _datacenter(session, selector.datacenter, f"{prefix}datacenter")
    return find_folder(session, selector.folder, datacenter) if selector.folder is not None else datacenter


def _datacenter(session: Session, name: str | None, option: str) -> t.Any:
    if name is not None:
        return find_named(session, vim.Datacenter, "datacenter", name, None)
    found = names_below(session, session.content.rootFolder, vim.Datacenter)
    if len(found) == 1:
        return next(iter(found))
    have = ", ".join(sorted(found.values())) or "none"
    raise _errors.BadInput(
        f"The folder is not a full inventory path. Set {option} to one of these datacenters: {have}."
    )


def _root_of(session: Session, kind: t.Any, datacenter: t.Any) -> t.Any:
    """Return a datacenter's folder for objects of a type; the datacenter itself if the user cannot see the folder."""
    if issubclass(kind, (vim.HostSystem, vim.ResourcePool)):
        which = "hostFolder"
    elif issubclass(kind, (vim.Datastore, vim.StoragePod)):
        which = "datastoreFolder"
    elif issubclass(kind, vim.Network):
        which = "networkFolder"
    else:
        return datacenter
    return _properties.read(session, [datacenter], [which]).get(datacenter, {}).get(which, datacenter)


def _place(vm: t.Any, values: _properties.Values, ancestors: dict[t.Any, _properties.Values]) -> Found:
    _errors.remember_name(vm._GetMoId(), unescape(values["name"]))
    path, chain = _path(vm, {**ancestors, vm: values})
    datacenter = next((above for above in chain if isinstance(above, vim.Datacenter)), None)
    folder = next((above for above in chain if isinstance(above, vim.Folder)), None)
    return Found(vm, values, path, datacenter, folder, tuple(_vapps(values, ancestors)), ancestors)


def _vapps(values: _properties.Values, ancestors: dict[t.Any, _properties.Values]) -> t.Iterator[_properties.Values]:
    above = values.get("parentVApp")
    seen: set[t.Any] = set()
    while isinstance(above, vim.VirtualApp) and above not in seen:
        seen.add(above)
        of_vapp = ancestors.get(above, {})
        yield of_vapp
        above = of_vapp.get("parent")


def _path(entity: t.Any, known: dict[t.Any, _properties.Values]) -> tuple[str, list[t.Any]]:
    """Return the inventory path of an entity, and its ancestors, nearest first."""
    parts: list[str] = []
    chain: list[t.Any] = []
    current = entity
    while current in known:
        values = known[current]
        above = values.get("parent") or values.get("parentVApp") or values.get("parentFolder")
        if isinstance(current, vim.VirtualApp):
            above = values.get("parentFolder") or above
        if above is None or above in chain:
            break  # the root folder, which is not part of paths
        parts.append(values.get("name", "?"))
        chain.append(above)
        current = above
    return "/" + "/".join(reversed(parts)), chain
