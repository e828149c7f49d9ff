# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which VMs get their vApp options back from a backup, and why others do not.

Private to the collection. Pure functions over the files of a backup and what ``vm_ovfenv_info`` returns with
``export: true``. They run on the controller, where pyVmomi may be missing. ``vm_vapp_options`` compares again, with the
secrets, before it writes.

Ansible masks a password wherever it occurs in a result. So a VM is left unchanged if something that decides about it is
masked, and no VM is changed if an ID may be masked.
"""

from __future__ import annotations

import copy
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import (
    sensitive,
    site_map,
    vapp_backup,
    vapp_export,
    vapp_types,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_export import VAULT

MASKED = re.compile(r"[*]{8}|VALUE_SPECIFIED_IN_NO_LOG_PARAMETER")
WRITTEN = ("restore", "overwrite")
"""Actions that write."""
NOT_RESTORED = ("refused", "ambiguous")
"""Actions that make a job fail. So does ``not_found`` for a row that was requested."""
_NAMES = {"instance_uuid": "instance UUID", "uuid": "BIOS UUID", "name": "name"}
_FIELDS = ("category", "label", "description", "user_configurable", "type", "default", "value")

Document = dict[str, t.Any]
Parts = tuple[str, str, str]


@dataclass(frozen=True)
class Options:
    """The options of a restore.

    :param vms: names or instance UUIDs in the backup; empty: all.
    :param keys: full keys of the properties to restore; empty: everything.
    :param secrets: name or instance UUID of a VM in the backup → full key → a value that is only passed on.
    :param update_secrets: whether given secrets are written although they cannot be compared.
    :param confirmed: names or managed object IDs of the VMs that may be changed.
    """

    vms: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    match_name: bool = False
    overwrite: bool = False
    force: bool = False
    site_map: site_map.SiteMap = field(default_factory=site_map.SiteMap)
    secrets: t.Mapping[str, t.Mapping[str, t.Any]] = field(default_factory=dict)
    update_secrets: bool = False
    confirmed: tuple[str, ...] = ()


@dataclass
class Row:
    """The planned action for one VM of the backup.

    :ivar action: ``restore``, ``overwrite``, ``same``, ``differs``, ``nothing``, ``not_found``, ``ambiguous``,
        ``refused``.
    :ivar requested: whether it is a failure if the VM is not found: the user has named it, or no VM was found.
    :ivar changes: the current differences, in words, with secrets masked.
    :ivar mapped: values that the map changes, in the same form.
    :ivar not_saved: what is missing now and the backup does not have, because it seems to contain a secret.
    :ivar unmapped: keys of values that contain an address of a mapped subnet inside of other text.
    """

    backup_name: str
    instance_uuid: str
    file: str
    name: str = ""
    moid: str = ""
    inventory_path: str = ""
    matched_by: str = ""
    action: str = "not_found"
    reason: str = ""
    requested: bool = False
    confirmed: bool = False
    unique: bool = True
    changes: list[str] = field(default_factory=list)
    mapped: list[str] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    secrets_given: list[str] = field(default_factory=list)
    secrets_encrypted: list[str] = field(default_factory=list)
    secrets_missing: list[str] = field(default_factory=list)
    not_saved: list[str] = field(default_factory=list)

    def end(self, action: str, reason: str = "") -> None:
        """Set the action for the VM, and its reason."""
        self.action, self.reason = action, reason


@dataclass
class Plan:
    """The planned actions for all VMs of the backup.

    :ivar faults: what is wrong with the input, as clauses; if there are any, nothing may be written.
    :ivar warnings: sentences.
    :ivar documents: managed object ID of each VM to be written → its document, with encrypted secrets.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)


def plan(
    index: t.Mapping[str, t.Any],
    documents: t.Mapping[str, t.Any],
    vms: t.Sequence[t.Mapping[str, t.Any]],
    options: Options,
) -> Plan:
    """Return the planned action for each VM of a backup.

    :param index: ``index.json`` of the backup.
    :param documents: file of the index → its document, or a clause with the reason why it could not be read.
    :param vms: ``ovfenv`` as vm_ovfenv_info returns it with ``export: true``.
    """
    result = Plan(faults=list(filter(None, [vapp_backup.wrong_index(index)])) or _masked(vms))
    if result.faults:
        return result
    entries = index["vms"]
    names = {name for entry in entries for name in (entry["name"], entry["instance_uuid"])}
    given = (
        ("vapp_vms", options.vms),
        ("vapp_restore_map", options.site_map.vms),
        ("vapp_restore_secrets", options.secrets),
    )
    for what, listed in given:
        unknown = sorted(set(listed) - names)
        if unknown:
            result.faults.append(f"{what} names {', '.join(unknown)}, which is not in the backup")
    if not index.get("complete", False):
        result.warnings.append(_incomplete(index))
    matches = _match(entries, vms, options.match_name)
    known_keys: set[str] = set()
    for entry, match in zip(entries, matches, strict=True):
        named = not {entry["name"], entry["instance_uuid"]}.isdisjoint(options.vms)
        if options.vms and not named:
            continue
        row = Row(entry["name"] or "", entry["instance_uuid"] or "", entry["file"], name=entry["name"], requested=named)
        document = documents.get(entry["file"], "it was not read")
        known_keys |= _judge(row, entry, document, match, options, result)
        result.rows.append(row)
    _note_missing(result)
    result.faults += _shared(result.rows, options)
    result.faults += _collisions([row for row in result.rows if row.moid], documents, options)
    result.faults += [
        f"no VM of the backup has the property {key} of vapp_keys" for key in set(options.keys) - known_keys
    ]
    result.rows.sort(key=lambda row: (row.name.casefold(), row.inventory_path, row.file))
    _confirm(result, options)
    return result


def _note_missing(result: Plan) -> None:
    """Make the job fail if no VM exists: it looks at the wrong vCenter, or its user does not see the VMs."""
    to_restore = [row for row in result.rows if row.action != "nothing"]
    if to_restore and all(row.action == "not_found" for row in to_restore):
        for row in to_restore:
            row.requested = True
        result.warnings.append(
            "No VM of the backup was found. Check the address of vCenter, vapp_folder and vapp_datacenter, and the "
            "privileges of the user."
        )


def _masked(vms: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Return a clause if Ansible has masked something that decides about all VMs."""
    for vm in vms:
        identities = [vm.get("instance_uuid"), vm.get("moid"), ((vm.get("export") or {}).get("vm") or {}).get("uuid")]
        expected = vm.get("name_expected")
        if any(MASKED.search(str(identity)) for identity in identities) or not isinstance(expected, (bool, type(None))):
            return ["a password of this run masks UUIDs, managed object IDs or booleans; use a longer password"]
    return []


def _incomplete(index: t.Mapping[str, t.Any]) -> str:
    left_out = [str(entry.get("name")) for entry in index.get("not_read") or [] if isinstance(entry, dict)]
    named = f": {', '.join(left_out[:20])}{' and others' if len(left_out) > 20 else ''}" if left_out else ""
    return f"The backup is not complete. VMs that could not be read when it was made are not in it{named}."


# --- matching -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Match:
    """The VM of an entry of the backup, or the reason why there is none.

    :ivar hidden: inventory path of a VM that may be the one of the entry, but of which only the name can be read.
    """

    vm: t.Mapping[str, t.Any] | None = None
    by: str = ""
    ambiguous: str = ""
    hint: str = ""
    hidden: str = ""


def _match(
    entries: t.Sequence[t.Mapping[str, t.Any]], vms: t.Sequence[t.Mapping[str, t.Any]], by_name: bool
) -> list[_Match]:
    """Return the VM of each entry of a backup: matched by instance UUID, then by BIOS UUID, then by name."""
    result: list[_Match | None] = [None] * len(entries)
    taken: set[str] = set()
    there: dict[str, list[t.Mapping[str, t.Any]]] = {}
    for by in ("instance_uuid", "uuid", "name"):
        wanted = _grouped(enumerate(entries), lambda pair, by=by: pair[1].get(by), by)  # type: ignore[misc]
        there = _grouped(vms, lambda vm, by=by: _identity(vm, by), by)  # type: ignore[misc]
        if by == "name" and not by_name:
            break
        found_now: set[str] = set()
        for value, group in wanted.items():
            found = there.get(value, [])
            left = [number for number, _entry in group if result[number] is None]
            if not left or not found:
                continue
            if len(found) > 1:
                paths = ", ".join(str(vm.get("inventory_path") or vm["name"]) for vm in found)
                for number in left:
                    result[number] = _Match(ambiguous=f"{len(found)} VMs have its {_NAMES[by]}: {paths}")
            elif len(group) > 1 and by != "instance_uuid" and found[0]["moid"] in taken:
                continue
            elif len(group) > 1:
                for number in left:
                    result[number] = _Match(ambiguous=f"{len(group)} VMs of the backup have its {_NAMES[by]}")
            elif found[0]["moid"] not in taken:
                result[left[0]] = _Match(found[0], by)
                found_now.add(found[0]["moid"])
        taken |= found_now
    hints = {
        value: "a VM with that name exists (vapp_restore_match_name=true matches it)"
        for value, found in there.items()
        if len(found) == 1 and found[0]["moid"] not in taken and not by_name
    }
    hidden = {
        vm["name"]: str(vm.get("inventory_path") or vm["name"])
        for vm in vms
        if not isinstance(vm.get("export"), dict) and not vm.get("instance_uuid")
    }
    return [
        _Match(hidden=hidden[entry["name"]])
        if entry["name"] in hidden and (match is None or match.by not in ("", "instance_uuid"))
        else match or _Match(hint=hints.get(entry["name"], ""))
        for match, entry in zip(result, entries, strict=True)
    ]


def _identity(vm: t.Mapping[str, t.Any], by: str) -> t.Any:
    return ((vm.get("export") or {}).get("vm") or {}).get("uuid") if by == "uuid" else vm.get(by)


def _grouped(things: t.Iterable[t.Any], of: t.Callable[[t.Any], t.Any], by: str) -> dict[str, list[t.Any]]:
    groups: dict[str, list[t.Any]] = {}
    for thing in things:
        value = of(thing)
        if value:
            groups.setdefault(value if by == "name" else str(value).lower(), []).append(thing)
    return groups


# --- one VM ---------------------------------------------------------------------------------------------------------


def _judge(
    row: Row, entry: t.Mapping[str, t.Any], document: t.Any, match: _Match, options: Options, result: Plan
) -> set[str]:
    """Decide about one VM of the backup, and return the full keys of its properties.

    Faults of the input are added to the plan.
    """
    wrong = _wrong_document(row.file, entry, document)
    if wrong:
        row.end("refused", wrong)
        return set()
    if not document["enabled"]:
        row.end("nothing", "it had no vApp options when the backup was made")
        return set()
    document = copy.deepcopy(document)
    row.secrets_given = _given_secrets(row, document, options, result.faults)
    faults = _translate(document, row, options.site_map)
    result.faults += [f"VM {row.backup_name}: {fault}" for fault in faults]
    keys = {_key(prop) for prop in document["properties"]}
    if match.hidden:
        row.end(
            "refused",
            f"vCenter does not show the configuration of {match.hidden}, which may be this VM; check that it is "
            "accessible, and the privileges of the user",
        )
        return keys
    if match.vm is None:
        row.end("ambiguous" if match.ambiguous else "not_found", match.ambiguous or match.hint or "there is no such VM")
        return keys
    vm = match.vm
    row.name, row.moid, row.matched_by = str(vm["name"]), str(vm["moid"]), match.by
    row.inventory_path = str(vm.get("inventory_path") or "")
    row.confirmed = vm.get("name_expected") is True or row.moid in options.confirmed
    _compare(row, document, vm.get("export"), options)
    if row.action in WRITTEN:
        result.documents[row.moid] = document
    return keys


def _wrong_document(file: str, entry: t.Mapping[str, t.Any], document: t.Any) -> str:
    """Return why a document of the backup cannot be used, as a clause; empty: it can."""
    if not isinstance(document, dict):
        return f"{file} of the backup cannot be used: {document}"
    is_empty = document.get("enabled") is False and vapp_export.is_version(document.get("version"), vapp_export.VERSION)
    wrong = [] if is_empty else vapp_export.faults(document)
    if wrong:
        return "; ".join(fault.replace("restore_from", f"{file} of the backup") for fault in wrong)
    vm = document.get("vm")
    if not isinstance(vm, dict) or vm.get("instance_uuid") != entry["instance_uuid"]:
        return f"{file} of the backup was exported from a different VM than the index says"
    if _contains_mask(document):
        return f"{file} of the backup contains masked values; make the backup with a longer password"
    return ""


def _compare(row: Row, document: Document, current: t.Any, options: Options) -> None:
    """Decide about a VM that exists."""
    if not isinstance(current, dict):
        row.end("refused", "vCenter does not show the configuration of the VM; check that it is accessible")
        return
    if not isinstance(current.get("enabled"), bool) or _contains_mask(current):
        row.end(
            "refused", "a password of this run is part of its vApp options, and Ansible masks it; use a longer password"
        )
        return
    kept = [prop for prop in document["properties"] if not options.keys or _key(prop) in options.keys]
    if options.keys and not kept:
        row.end("nothing", "its backup has none of the properties of vapp_keys")
        return
    there = {_parts(prop): prop for prop in current.get("properties") or []}
    product = _other_product(document, current) if current["enabled"] else ""
    is_gone = not current["enabled"] or (bool(kept) and there.keys().isdisjoint(map(_parts, kept)))
    is_whole = not options.keys or not current["enabled"]
    row.changes = _differences(document, current, kept, is_whole)
    _note_secrets(row, kept, there)
    if is_whole:
        row.not_saved = vapp_export.not_restored(document, current)
    forced = bool(options.update_secrets and options.overwrite and row.secrets_given)
    if not row.changes and not forced:
        row.end("same")
    elif product and not options.force:
        row.end("refused", f"{product}; vapp_restore_force=true restores it anyway")
    elif is_gone:
        row.end("restore", "its vApp options are gone" if not current["enabled"] else "their properties are gone")
    elif options.overwrite:
        row.end("overwrite", "its secrets are written again" if not row.changes else "")
    else:
        row.end("differs", "vapp_restore_overwrite=true writes them")


def _contains_mask(value: t.Any) -> bool:
    """Return whether Ansible may have masked something in a document, which itself contains no asterisks."""
    if isinstance(value, dict):
        return any(_contains_mask(item) for name, item in value.items() if name != VAULT)
    if isinstance(value, (list, tuple)):
        return any(map(_contains_mask, value))
    return isinstance(value, str) and MASKED.search(value) is not None


def _key(prop: t.Mapping[str, t.Any]) -> str:
    return ".".join(part for part in _parts(prop) if part)


def _parts(prop: t.Mapping[str, t.Any]) -> Parts:
    return (prop.get("class_id") or "", prop.get("id") or "", prop.get("instance_id") or "")


def _is_secret(prop: t.Mapping[str, t.Any]) -> bool:
    return bool(prop.get("secret")) or vapp_types.is_password(prop.get("type"))


def _given_secrets(row: Row, document: Document, options: Options, faults: list[str]) -> list[str]:
    given = of_vm(options.secrets, row.backup_name, row.instance_uuid)
    keys = {_key(prop) for prop in document["properties"]}
    unknown = sorted(set(given) - keys)
    if unknown:
        faults.append(
            f"vapp_restore_secrets has {', '.join(unknown)} for VM {row.backup_name}, which its backup does not have"
        )
    empty = sorted(key for key, value in given.items() if value is None)
    if empty:
        faults.append(f"vapp_restore_secrets has no value for {', '.join(empty)} of VM {row.backup_name}")
    return sorted(key for key in set(given) & keys if not options.keys or key in options.keys)


def of_vm(values: t.Mapping[str, t.Mapping[str, t.Any]], name: str, instance_uuid: str) -> dict[str, t.Any]:
    """Return the values that were given for a VM of the backup by its name or by its instance UUID."""
    return {**(values.get(name) or {}), **(values.get(instance_uuid) or {})}


def _note_secrets(
    row: Row, properties: t.Iterable[t.Mapping[str, t.Any]], there: t.Mapping[Parts, t.Mapping[str, t.Any]]
) -> None:
    """Record the source of each secret that the VM does not have; whether a password exists is never visible."""
    for prop in properties:
        now = there.get(_parts(prop))
        kept = [prop.get("value"), prop.get("default")]
        if row.secrets_given.count(_key(prop)) or (now is not None and not _is_secret_gone(prop, now)):
            continue
        if any(isinstance(value, dict) for value in kept):
            row.secrets_encrypted.append(_key(prop))
        elif None in kept:
            row.secrets_missing.append(_key(prop))


def _is_secret_gone(kept: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> bool:
    """Return whether a property has lost its secret; for a password, that is never visible."""
    is_secret = kept.get("value") is None or isinstance(kept.get("value"), dict)
    return is_secret and not vapp_types.is_password(kept["type"]) and now.get("value") == ""


def _shared(rows: t.Iterable[Row], options: Options) -> list[str]:
    """Return which names with values belong to several existing VMs: a value must not reach the wrong one."""
    existing = [row for row in rows if row.moid]
    faults = []
    for what, given in (("vapp_restore_map", options.site_map.vms), ("vapp_restore_secrets", options.secrets)):
        for label in sorted(given):
            named = [
                f"{row.backup_name} ({row.instance_uuid})"
                for row in existing
                if label in (row.backup_name, row.instance_uuid)
            ]
            if len(named) > 1:
                faults.append(
                    f"{what} names {label}, which several VMs of the backup match: {', '.join(named)}; name each of "
                    "them by its instance UUID"
                )
    return faults


def _translate(document: Document, row: Row, sites: site_map.SiteMap) -> list[str]:
    """Translate the values of a document for another site; return the faults of the map."""
    faults: list[str] = []
    given = of_vm(sites.vms, row.backup_name, row.instance_uuid)
    for prop in document["properties"]:
        key = _key(prop)
        if key in given:
            faults += _set(prop, given.pop(key), row)
        elif _is_translated(prop):
            old = prop.get("value") or prop.get("default") or ""
            new = sites.translate(old) if isinstance(old, str) else old
            if new != old:
                row.mapped.append(f"{key}: {old} → {new}")
                prop["value"] = new
            elif isinstance(old, str) and sites.mentions(old):
                row.unmapped.append(key)
    faults += [f"its backup does not have property {key}, which vapp_restore_map names" for key in sorted(given)]
    return faults


def _collisions(rows: t.Iterable[Row], documents: t.Mapping[str, t.Any], options: Options) -> list[str]:
    """Return which different addresses of VMs would become the same, as overlapping subnets of a map may cause."""
    sources: dict[str, dict[str, str]] = {}
    for row in rows:
        given = of_vm(options.site_map.vms, row.backup_name, row.instance_uuid)
        for prop in documents[row.file]["properties"]:
            is_written = not options.keys or _key(prop) in options.keys
            if not is_written or _key(prop) in given or not _is_translated(prop):
                continue
            for source, target in options.site_map.moves(str(prop.get("value") or prop.get("default") or "")):
                sources.setdefault(target, {}).setdefault(source, f"{source} ({_key(prop)} of VM {row.backup_name})")
    return [
        f"vapp_restore_map translates {' and '.join(addresses.values())} to the same address {target}"
        for target, addresses in sources.items()
        if len(addresses) > 1
    ]


def _is_translated(prop: t.Mapping[str, t.Any]) -> bool:
    return not _is_secret(prop) and not str(prop["type"]).startswith("expression")


def _set(prop: dict[str, t.Any], value: t.Any, row: Row) -> list[str]:
    """Set a property to a value of a map; an empty value also blanks its default."""
    key = _key(prop)
    if _is_secret(prop):
        return [f"property {key} is a secret; set its value in vapp_restore_secrets"]
    kind = vapp_types.parse(str(prop["type"]))
    try:
        text = vapp_types.written(kind, value)
    except ValueError as error:
        return [f"property {key} in vapp_restore_map: {error}"]
    wrong = vapp_types.wrong(kind, text)
    if wrong:
        return [f"property {key} in vapp_restore_map: {wrong}"]
    old = prop.get("value") or prop.get("default") or ""
    prop["value"] = text
    if not text:
        prop["default"] = ""
    if not vapp_types.equal(kind, text, str(old)):
        row.mapped.append(f"{key}: {_shown(key, old)} → {_shown(key, text)}")
    return []


def _shown(key: str, value: t.Any) -> str:
    """Return a value as it may be shown, with secrets masked."""
    if value is None or isinstance(value, dict) or (isinstance(value, str) and sensitive.holds_secret(value, [key])):
        return MASK
    text = str(value).replace("\n", "⏎")
    return (text if len(text) <= 80 else f"{text[:79]}…") or '""'


# --- what differs ---------------------------------------------------------------------------------------------------


def _other_product(document: Document, current: Document) -> str:
    """Return as a clause that a VM has another product or version; empty: it is the same, or there is none."""
    fields = ("name", "vendor", "version", "full_version")

    def named(source: Document) -> dict[tuple[str, str], t.Any]:
        return {
            (product["class_id"], product["instance_id"]): product
            for product in source.get("products") or []
            if any(product.get(name) for name in fields)
        }

    there, kept = named(current), named(document)
    both = there.keys() & kept.keys()
    others = [
        section for section in both if any(there[section].get(name) != kept[section].get(name) for name in fields)
    ]
    if there and kept and not both:
        return f"it has the product {_product(there)}, but the backup is for {_product(kept)}"
    if others:
        section = sorted(others)[0]
        has, needed = _product({section: there[section]}), _product({section: kept[section]})
        return f"it has the product {has}, but the backup is for {needed}"
    return ""


def _product(products: t.Mapping[t.Any, t.Mapping[str, t.Any]]) -> str:
    product = products[sorted(products)[0]]
    return f"{product.get('name') or '?'} {product.get('full_version') or product.get('version') or ''}".rstrip()


def _differences(document: Document, current: Document, kept: t.Sequence[t.Any], whole: bool) -> list[str]:
    """Return the differences in words, without secrets."""
    if not current["enabled"]:
        return [_printable.count(len(kept), "property", "properties")]
    there = {_parts(prop): prop for prop in current["properties"]}
    found = [text for prop in kept if (text := _property_difference(prop, there.get(_parts(prop))))]
    if whole:
        found += _other_differences(document, current)
    return found


def _property_difference(kept: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any] | None) -> str:
    key = _key(kept)
    if now is None:
        return f"{key} is missing"
    kind = vapp_types.parse(kept["type"])
    differing = []
    for name in _FIELDS:
        old, new = now.get(name), kept.get(name)
        if name == "type":
            is_same = vapp_types.same(vapp_types.canonical(str(new)), old or "string")
        elif name in ("value", "default") and (new is None or isinstance(new, dict)):
            # Whether a secret is the same is not visible. Whether it is missing is, unless it is a password.
            is_same = name == "default" or not _is_secret_gone(kept, now)
        elif name == "value":
            is_same = old is not None and vapp_types.equal(kind, str(old), str(new))
        else:
            is_same = (old or "") == (new or "")
        if not is_same:
            differing.append(name)
    if differing == ["value"] and not _is_secret_gone(kept, now):
        # Somebody may have written a secret into the file by hand.
        if _is_secret(kept) or _is_secret(now):
            return f"{key}: {MASK} → {MASK}"
        return f"{key}: {_shown(key, now['value'])} → {_shown(key, kept['value'])}"
    if differing == ["value"]:
        return f"{key}: its secret is missing"
    return f"{key} ({', '.join(differing)})" if differing else ""


def _other_differences(document: Document, current: Document) -> list[str]:
    found = []
    if sorted(document["transport"]) != sorted(current.get("transport") or []):
        found.append("transport")
    ip, now = document["ip_allocation"], current.get("ip_allocation") or {}
    if any(ip[name] is not None and ip[name] != now.get(name) for name in ip):
        found.append("ip_allocation")
    sections = {(product["class_id"], product["instance_id"]): product for product in current.get("products") or []}
    if any(sections.get((product["class_id"], product["instance_id"])) != product for product in document["products"]):
        found.append("products")
    if None not in document["eula"] and not _are_same_texts(document["eula"], current.get("eula") or []):
        found.append("license agreements")
    if any(not _has_section(current, kept) for kept in document["ovf_sections"] if kept["contents"] is not None):
        found.append("OVF sections")
    if document["install_boot"] != current.get("install_boot"):
        found.append("the first boot")
    return found


def _are_same_texts(kept: t.Sequence[t.Any], now: t.Sequence[t.Any]) -> bool:
    """Return whether texts are the same; of secrets, only whether they are there can be seen."""
    return len(kept) == len(now) and all(
        old == new or not isinstance(old, str) or not isinstance(new, str) for old, new in zip(kept, now, strict=True)
    )


def _has_section(current: Document, kept: t.Mapping[str, t.Any]) -> bool:
    """Return whether a VM has an OVF section; whether the contents of a secret one are the same cannot be seen."""
    return any(
        all(section.get(name) == kept[name] for name in ("namespace", "type", "at_envelope_level"))
        and _are_same_texts([kept["contents"]], [section.get("contents")])
        for section in current.get("ovf_sections") or []
    )


# --- confirmation ---------------------------------------------------------------------------------------------------


def _confirm(result: Plan, options: Options) -> None:
    """Record which names of VMs to be written are not unique, or are the managed object ID of another VM.

    Those VMs must be confirmed by managed object ID.
    """
    written = [row for row in result.rows if row.action in WRITTEN]
    counts: dict[str, int] = {}
    for row in written:
        counts[row.name] = counts.get(row.name, 0) + 1
    moids = {row.moid for row in written}
    for row in written:
        row.unique = counts[row.name] == 1 and row.name not in moids - {row.moid}
        if not row.unique:
            row.confirmed = row.moid in options.confirmed
