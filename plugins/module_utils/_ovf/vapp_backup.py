# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which files of a backup of vApp options are written.

Private to the collection. Pure functions. They run on the controller, where pyVmomi may be missing.

A backup is a directory. It has one file for each VM with vApp options, ``<instance UUID>.json``, which is the document
of :mod:`vapp_export`, and an ``index.json``::

    {
      "version": 1,
      "vcenter": "vcenter.example.com",
      "scope": {"names": [], "moids": [], "uuids": [], "inventory_paths": [], "folder": "appliances",
                "datacenter": null},
      "complete": true,
      "vms": [{"name": …, "instance_uuid": …, "uuid": …, "inventory_path": …, "file": …, "product": …,
               "product_version": …, "state": …}],
      "not_read": [{"name": …, "moid": …, "reason": …}]
    }

Each entry of ``vms`` stands for a file that can be restored. Its ``state`` is ``saved``; ``gone``, if the VM has lost
the vApp options that the file has; ``not_read``, if the VM could not be read in this run; or ``not_in_scope``, if this
run did not search for the VM or did not find it. ``complete`` is false if ``not_read`` has entries, or if no VM was
found at all. No file contains a time, so no file changes if no vApp options have changed.

In a document, a secret is null, or the output of ansible-vault: ``{"__ansible_vault": "$ANSIBLE_VAULT;…"}``.
"""

from __future__ import annotations

import copy
import json
import re
import typing as t
from collections import Counter
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_export, vapp_types
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_export import VAULT

VERSION = 1
"""Version of the index. A later version is refused."""
INDEX = "index.json"
FILE_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")
"""Name of a VM's file."""

Document = dict[str, t.Any]
Parts = tuple[str, str, str]
Seal = t.Callable[[str, "str | None"], str]
"""Encrypts a secret. Receives the encrypted text from the file, and returns that if it decrypts to the same secret."""


class ForeignIndex(Exception):
    """``index.json`` is not from this collection; the message is a clause."""


def is_name(name: str) -> bool:
    """Return whether a file has the name of a backup file."""
    return name == INDEX or FILE_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Unusable:
    """A file that exists but cannot be used; ``reason`` is a clause."""

    reason: str


@dataclass(frozen=True)
class Found:
    """One VM of the scope.

    :param document: its vApp options as :mod:`vapp_export` writes them; ``None``: they could not be read.
    :param secrets: the secrets that the document leaves out.
    :param reason: why the VM could not be read, as a clause.
    """

    name: str
    moid: str | None
    inventory_path: str = ""
    document: Document | None = None
    secrets: t.Sequence[vapp_export.Secret] = ()
    reason: str = ""


@dataclass
class Plan:
    """The changes to the directory.

    :ivar files: name → content of the files to write, ``index.json`` last.
    :ivar before: name → current content of the files that exist.
    :ivar rows: one for each VM that has vApp options or had them.
    """

    index: dict[str, t.Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, t.Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def text_of(content: t.Mapping[str, t.Any]) -> str:
    """Return the content of a file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def plan(
    found: t.Sequence[Found],
    there: t.Mapping[str, str | Unusable],
    *,
    vcenter: str,
    scope: t.Mapping[str, t.Any],
    seal: Seal | None = None,
) -> Plan:
    """Return which files to write.

    :param there: name → content of the files in the directory that have the names of backup files.
    :param seal: ``None``: secrets are null.
    :raises ForeignIndex: ``index.json`` is not from this collection.
    """
    earlier = entries(there.get(INDEX))
    documents = {name: _document(name, text) for name, text in there.items() if name != INDEX}
    result = Plan()
    counts = Counter(_uuid(vm) for vm in found)
    files: dict[str, Document] = {name: document for name, document in documents.items() if isinstance(document, dict)}
    states: dict[str, str] = {}
    paths: dict[str, str] = {}
    not_read: list[dict[str, t.Any]] = []

    for vm in found:
        uuid = _uuid(vm)
        name = f"{uuid}.json"
        row = {"name": vm.name, "moid": vm.moid, "inventory_path": vm.inventory_path, "instance_uuid": uuid or None}
        reason = _not_saved(vm, uuid, counts[uuid], documents.get(name))
        if reason:
            not_read.append({"name": vm.name, "moid": vm.moid, "reason": reason})
            kept = name if name in files else None
            result.rows.append({**row, "file": kept, "state": "not_read", "change": "none", "message": reason})
            if uuid:
                states[name] = "not_read"
            continue
        document = t.cast(Document, vm.document)
        old = files.get(name)
        if _is_gone(document, old):
            states[name], paths[name] = "gone", vm.inventory_path
            message = f"its vApp options are gone, and {name} was kept"
            result.rows.append({**row, "file": name, "state": "gone", "change": "none", "message": message})
            continue
        if not document["enabled"]:
            continue
        new = _sealed(vm, old, seal)
        states[name], paths[name], files[name] = "saved", vm.inventory_path, new
        change = _note(result, name, text_of(new), there)
        result.rows.append({**row, "file": name, "state": "saved", "change": change, "message": ""})

    unread = {row["name"]: row for row in result.rows if row["state"] == "not_read" and not row["instance_uuid"]}
    listed = []
    for name, document in files.items():
        if not document["enabled"]:
            continue
        before = earlier.get(name, {})
        state = states.get(name) or ("not_read" if document["vm"]["name"] in unread else "not_in_scope")
        entry = _entry(name, document, paths.get(name) or before.get("inventory_path"), state)
        listed.append(entry)
        if name not in states and state == "not_read":
            unread[entry["name"]].update(file=name, instance_uuid=entry["instance_uuid"])
        elif name not in states:
            row = {key: entry[key] for key in ("name", "inventory_path", "instance_uuid", "file", "state")}
            result.rows.append({**row, "moid": None, "change": "none", "message": ""})
    result.warnings += [
        f"{name} is not a backup of vApp options ({fault}) and was left unchanged."
        for name, fault in sorted(documents.items())
        if isinstance(fault, str) and name not in states
    ]
    result.rows.sort(key=lambda row: (row["name"], row["moid"] or "", row["file"] or ""))
    result.index = {
        "version": VERSION,
        "vcenter": vcenter,
        "scope": dict(scope),
        "complete": bool(found) and not not_read,
        "vms": sorted(listed, key=lambda row: (row["name"], row["file"])),
        "not_read": sorted(not_read, key=lambda row: (row["name"], row["moid"] or "")),
    }
    _note(result, INDEX, text_of(result.index), there)
    return result


def _note(result: Plan, name: str, text: str, there: t.Mapping[str, str | Unusable]) -> str:
    """Add a file to be written, unless its content is unchanged, and return the kind of change."""
    before = there.get(name)
    if before == text:
        return "none"
    result.files[name] = text
    if isinstance(before, str):
        result.before[name] = before
        return "updated"
    return "created"


def _uuid(vm: Found) -> str:
    """Return the instance UUID of a VM in lower case; empty: it has none, or the VM could not be read."""
    uuid = str(((vm.document or {}).get("vm") or {}).get("instance_uuid") or "").lower()
    return uuid if FILE_NAME.fullmatch(f"{uuid}.json") else ""


def _not_saved(vm: Found, uuid: str, count: int, old: Document | str | None) -> str:
    """Return why a VM cannot be saved, as a clause; empty: it can."""
    if vm.document is None:
        return vm.reason
    if not uuid:
        return "it has no instance UUID, so a restore could not find it" if vm.document["enabled"] else ""
    if count > 1 and (vm.document["enabled"] or old is not None):
        return f"{count} VMs have the instance UUID {uuid}, so a restore could not distinguish them"
    if isinstance(old, str):
        return f"{uuid}.json exists, but is not a backup of this VM ({old}); move it away"
    return ""


def _is_gone(new: Document, old: Document | None) -> bool:
    """Return whether a VM has lost the vApp options that its file has."""
    if old is None or not old["enabled"]:
        return False
    if not new["enabled"]:
        return True
    kept = {_parts(prop) for prop in old["properties"]}
    return bool(kept) and kept.isdisjoint(_parts(prop) for prop in new["properties"])


def _parts(prop: t.Mapping[str, t.Any]) -> Parts:
    """Return the parts of a property's key as text: an edited file may have anything there."""
    class_id, name, instance_id = (str(prop.get(field_name) or "") for field_name in ("class_id", "id", "instance_id"))
    return (class_id, name, instance_id)


def _sealed(vm: Found, old: Document | None, seal: Seal | None) -> Document:
    """Return a VM's document with its secrets encrypted, or as it is."""
    document = t.cast(Document, vm.document)
    if seal is None or not vm.secrets:
        return document
    before = {_parts(prop): prop for prop in _properties(old)}
    result = copy.deepcopy(document)
    for path, text in vm.secrets:
        part, *inner = path
        is_property = part == "properties"
        there = before.get(_parts(document["properties"][inner[0]])) if is_property else (old or {}).get(part)
        for step in inner[1:] if is_property else inner:
            there = _step(there, step)
        sealed = there.get(VAULT) if isinstance(there, dict) else None
        vapp_export.put(result, path, {VAULT: seal(text, sealed if isinstance(sealed, str) else None)})
    return result


def _step(content: t.Any, step: str | int) -> t.Any:
    """Return what is in a dictionary or a list, or ``None``: the file may be older, or edited."""
    try:
        return content[step]
    except (KeyError, IndexError, TypeError):
        return None


def _entry(name: str, document: Document, path: t.Any, state: str) -> dict[str, t.Any]:
    """Return the entry of a file in the index."""
    products = [product for product in document["products"] if product["name"]] or [{}]
    return {
        "name": document["vm"]["name"],
        "instance_uuid": document["vm"]["instance_uuid"],
        "uuid": document["vm"].get("uuid"),
        "inventory_path": path if isinstance(path, str) and path else None,
        "file": name,
        "product": products[0].get("name") or None,
        "product_version": products[0].get("full_version") or products[0].get("version") or None,
        "state": state,
    }


# --- existing files ---------------------------------------------------------------------------------------------------


def parsed(text: str | Unusable) -> t.Any:
    """Return the content of a file, a dictionary, or a clause with the reason why it cannot be used."""
    if isinstance(text, Unusable):
        return text.reason
    try:
        # Some editors begin a file with a byte order mark.
        content = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_without_repetition)
    except _Repeated as repeated:
        return f'it contains the key "{repeated!s:.40}" twice'
    except (ValueError, RecursionError):
        return "it is not JSON"
    return _wrong_content(content) or (content if isinstance(content, dict) else "it is not a JSON object")


class _Repeated(Exception):
    """An object of a JSON text has this key twice, as merged files may; it is not clear which one counts."""


def _without_repetition(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    content: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in content:
            raise _Repeated(key)
        content[key] = value
    return content


MOST_LEVELS = 20
"""The maximum nesting of lists and dictionaries in a file. A document has four levels; Python cannot copy hundreds."""


def _wrong_content(content: t.Any) -> str:
    """Return why parsed JSON cannot be copied or written, as a clause; empty: it can."""
    level = [content]
    for _number in range(MOST_LEVELS):
        texts = [item for item in level if isinstance(item, str)]
        texts += [key for item in level if isinstance(item, dict) for key in item]
        if any("\ud800" <= char <= "\udfff" for text in texts if not text.isascii() for char in text):
            return "it contains half of a surrogate pair, which is not valid Unicode"
        level = [inner for item in level for inner in _inner(item)]
        if not level:
            return ""
    return "it is nested too deeply"


def _inner(item: t.Any) -> t.Iterable[t.Any]:
    return item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def _document(name: str, text: str | Unusable) -> Document | str:
    """Return the document in a file, or why the file is not a document of this VM."""
    content = parsed(text)
    if isinstance(content, str):
        return content
    if not isinstance(content.get("vm"), dict) or not isinstance(content.get("enabled"), bool):
        return "it is not a document that vm_ovfenv_info has exported"
    if not vapp_export.is_version(content.get("version"), vapp_export.VERSION):
        return f"it has version {content.get('version')!s:.20}, but only version {vapp_export.VERSION} is supported"
    vm = content["vm"]
    if not isinstance(vm.get("name"), str) or f"{vm.get('instance_uuid')}.json".lower() != name:
        return "it was exported from another VM"
    if not isinstance(vm.get("uuid"), (str, type(None))):
        return "its BIOS UUID is not text"
    wrong = vapp_export.faults(content) if content["enabled"] else []
    return "; ".join(fault.removeprefix("restore_from ") for fault in wrong) or content


def entries(text: str | Unusable | None) -> dict[str, dict[str, t.Any]]:
    """Return the entries of the existing index, by file.

    :raises ForeignIndex: it is not from this collection.
    """
    if text is None:
        return {}
    content = parsed(text)
    if isinstance(content, str):
        raise ForeignIndex(content)
    vms = content.get("vms")
    if not vapp_export.is_version(content.get("version"), VERSION):
        raise ForeignIndex(f"it has version {content.get('version')!s:.20}, but only version {VERSION} is supported")
    if not isinstance(vms, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in vms
    ):
        raise ForeignIndex("it is not an index of a backup of vApp options")
    return {entry["file"]: entry for entry in vms}


def wrong_index(index: t.Any) -> str:
    """Return what is wrong with the index of a backup, as a clause; empty: nothing.

    UUIDs that an entry lacks are added as ``None``.
    """
    if not isinstance(index, dict) or "version" not in index or not isinstance(index.get("vms"), list):
        return "the index of the backup was not written by vapp_backup"
    if not vapp_export.is_version(index["version"], VERSION):
        there = f"{index['version']!s:.20}"
        return f"the index of the backup has version {there}, but only version {VERSION} is supported"
    for number, entry in enumerate(index["vms"]):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(field_name), str) for field_name in ("name", "file")
        ):
            return f"entry {number + 1} of the index of the backup has no name and file"
        for name in ("instance_uuid", "uuid"):
            if not isinstance(entry.setdefault(name, None), (str, type(None))):
                return f"entry {number + 1} of the index of the backup has {name.replace('_', ' ')} that is no text"
    if not isinstance(index.get("not_read") or [], list):
        return "not_read in the index of the backup is not a list"
    return ""


# --- what may be shown ------------------------------------------------------------------------------------------------


def shown(before: str, after: str) -> tuple[str, str]:
    """Return a file's old and new content with secrets masked, even encrypted ones.

    Somebody may have written a secret into the old file by hand.

    :param before: empty if there is no old file.
    """
    contents = [parsed(text) for text in (before, after)]
    properties = {
        _parts(prop)
        for content in contents
        for prop in _properties(content)
        if prop.get("secret") or vapp_types.is_password(prop.get("type"))
    }
    sections = {
        _section(entry)
        for content in contents
        for entry in _entries(content, "ovf_sections")
        if not isinstance(entry.get("contents"), str)
    }
    has_hidden_eula = any(not isinstance(text, str) for content in contents for text in _list(content, "eula"))
    old, new = (_masked(content, properties, sections, has_hidden_eula) for content in contents)
    return old, new


def secret_patterns(documents: t.Iterable[t.Any]) -> list[str]:
    """Return a list with one regular expression for the full keys of the secrets in a backup, or an empty list.

    A key whose value some document contains is left out: otherwise it could not be compared with a VM's.
    """
    secret: dict[str, bool] = {}
    for prop in (prop for document in documents for prop in _properties(document)):
        key = ".".join(filter(None, _parts(prop)))
        secret[key] = secret.get(key, True) and bool(prop.get("secret"))
    keys = [re.escape(key) for key in sorted(secret) if secret[key]]
    return [f"^(?:{'|'.join(keys)})$"] if keys else []


def _list(content: t.Any, name: str) -> list[t.Any]:
    found = content.get(name) if isinstance(content, dict) else None
    return found if isinstance(found, list) else []


def _entries(content: t.Any, name: str) -> list[dict[str, t.Any]]:
    return [entry for entry in _list(content, name) if isinstance(entry, dict)]


def _properties(content: t.Any) -> list[dict[str, t.Any]]:
    return _entries(content, "properties")


def _section(entry: t.Mapping[str, t.Any]) -> tuple[str, str]:
    return str(entry.get("namespace")), str(entry.get("type"))


def _masked(
    content: t.Any,
    properties: t.Collection[Parts],
    sections: t.Collection[tuple[str, str]],
    has_hidden_eula: bool,
) -> str:
    """Return the text of a file with its secrets masked."""
    if not isinstance(content, dict):
        return ""
    result = copy.deepcopy(content)
    secret = [
        (prop, name) for prop in _properties(result) if _parts(prop) in properties for name in ("value", "default")
    ]
    secret += [(entry, "contents") for entry in _entries(result, "ovf_sections") if _section(entry) in sections]
    for entry, name in secret:
        if entry.get(name):
            entry[name] = MASK
    if has_hidden_eula:
        result["eula"] = [text and MASK for text in _list(result, "eula")]
    return text_of(result)
