# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the options of a task into a request for vApp options, checked as far as possible without a server.

Private to the collection. Pure functions.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_export, vapp_types

Triple = tuple[str, str, str]
"""Class ID, ID and instance ID of a property; the first and the last may be empty."""

ATTRIBUTES = ("type", "label", "category", "description", "user_configurable")
"""Suboptions of a property besides its value and default."""

TRANSPORTS = ("com.vmware.guestInfo", "iso")
POLICIES = ("dhcpPolicy", "transientPolicy", "fixedPolicy", "fixedAllocatedPolicy")
PROTOCOLS = ("IPv4", "IPv6")
SCHEMES = ("dhcp", "ovfenv")


@dataclass(frozen=True)
class WantedProperty:
    """A property as requested. ``None`` means that an attribute is not changed.

    :param key: full key: ``[classId.]id[.instanceId]``.
    :param parts: the parts of the key; ``None``: only the full key is known.
    :param value: the value as it was given in YAML.
    :param secret: whether the value must never be shown.
    :param restored: whether it is from an exported document, which has none of the VM's secrets.
    :param lacks: the secret attributes that were not given: ``value``, ``default``.
    """

    key: str
    parts: Triple | None = None
    state: str = "present"
    value: t.Any = field(default=None, repr=False)
    default: t.Any = field(default=None, repr=False)
    type: str | None = None
    label: str | None = None
    category: str | None = None
    description: str | None = None
    user_configurable: bool | None = None
    secret: bool = False
    restored: bool = False
    lacks: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[str, Triple | None]:
        """The key that no two requested properties may share."""
        return self.key, self.parts


@dataclass(frozen=True)
class IpAllocation:
    """The requested IP allocation. ``None`` means no change; an empty list clears a field."""

    policy: str | None = None
    protocol: str | None = None
    supported_schemes: tuple[str, ...] | None = None
    supported_protocols: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Request:
    """The requested vApp options. ``None`` means that a part is not changed.

    :param enabled: ``False``: remove all vApp options.
    :param exact: whether properties that are not named are removed.
    :param fixed_as_default: whether the value of an added property that is not user-configurable is written as its
        default, because vCenter refused it as a value. The guest receives the same.
    :param closing: whether the values are already written, and properties that were made user-configurable for that
        are now corrected.
    :param update_secrets: ``on_create``, ``always``, or ``written``: this run has already written them.
    :param overwrite: whether existing properties may be changed.
    :param secret_keys: keys of properties that the task or the document marks as secret.
    :param part: the request for a VM that already has vApp options, if only a part of a document is restored.
    """

    enabled: bool | None = None
    force: bool = False
    properties: tuple[WantedProperty, ...] = ()
    transport: tuple[str, ...] | None = None
    ip_allocation: IpAllocation | None = None
    unknown: str = "fail"
    not_user_configurable: str = "fail"
    update_secrets: str = "on_create"
    exact: bool = False
    overwrite: bool = True
    secret_keys: frozenset[str] = frozenset()
    rest: vapp_export.Restored | None = None
    fixed_as_default: bool = False
    closing: bool = False
    part: Request | None = None

    def without_secrets(self) -> Request:
        """Return the request for a comparison with what was written: the passwords are already there."""
        return self._everywhere(update_secrets="written")

    def to_close(self) -> Request:
        """Return the request for the rest after the values were written; see :attr:`closing`."""
        return self._everywhere(update_secrets="written", closing=True)

    def _everywhere(self, **fields: t.Any) -> Request:
        part = None if self.part is None else self.part._everywhere(**fields)
        return replace(self, part=part, **fields)


def full_key(parts: Triple) -> str:
    """Return the key under which a property is delivered (vSphere API reference, VAppPropertyInfo.id)."""
    return ".".join(part for part in parts if part)


def parse_key(key: str, sections: t.Iterable[tuple[str, str]] = ()) -> Triple:
    """Return the parts of the full key of a property that does not exist yet.

    Dots do not separate the parts reliably, since an ID may contain them, as in ``guestinfo.hostname``. So the parts
    are those of a section that the VM has. Without one, the whole key is the ID, which is delivered as the same key.

    :param sections: class ID and instance ID of the VM's products and properties.
    """
    fitting: list[Triple] = []
    for class_id, instance_id in sections:
        before, after = class_id and f"{class_id}.", instance_id and f".{instance_id}"
        middle = key[len(before) : len(key) - len(after)]
        if (before or after) and middle and key == f"{before}{middle}{after}":
            fitting.append((class_id, middle, instance_id))
    return min(fitting, key=lambda parts: (len(parts[1]), parts), default=("", key, ""))


def read(params: t.Mapping[str, t.Any]) -> Request:
    """Return the request from the options of a task.

    :raises _errors.BadInput: they contradict each other; the sentence lists everything that is wrong.
    """
    faults: list[str] = []
    source = params["restore_from"]
    if source is not None:
        faults += vapp_export.faults(source) or _encrypted(source)
    if faults:
        source = None
    keys = params["restore_keys"]
    if keys is not None and params["restore_from"] is None:
        faults.append("restore_keys requires restore_from")
    if not params["overwrite"] and params["restore_from"] is None:
        faults.append("overwrite=false requires restore_from")
    if keys is not None and params["exact"]:
        faults.append("restore_keys cannot be combined with exact, which would remove all other properties")
    properties = [_property(entry, number, faults) for number, entry in enumerate(params["properties"] or [])]
    if source is not None:
        restored = [entry for entry in source["properties"] if keys is None or _key_of(entry) in keys]
        lacking = sorted(set(keys or []) - {_key_of(entry) for entry in restored})
        faults += [f"restore_keys names the property {key}, which restore_from does not have" for key in lacking]
        properties = _with_restored(properties, restored, faults)
    for name in ("values", "secret_values"):
        properties = _with_values(properties, name, params[name] or {}, faults)
    identities = [prop.identity for prop in properties]
    repeated = dict.fromkeys(key for (key, _parts), count in Counter(identities).items() if count > 1)
    faults += [f"property {key} is given more than once" for key in repeated]
    faults += [
        f"property {prop.key} has an empty value and a default, which would be delivered instead"
        for prop in properties
        if not prop.restored and prop.value == "" and prop.default not in (None, "")
    ]
    by_parts = {prop.key for prop in properties if prop.parts is not None}
    faults += [
        f"property {prop.key} is given more than once, by its key and by its parts"
        for prop in properties
        if prop.parts is None and prop.key in by_parts
    ]
    given = [
        name
        for name in ("properties", "values", "secret_values", "transport", "ip_allocation", "restore_from")
        if params[name] is not None
    ]
    if params["enabled"] is False:
        faults += [f"{name} cannot be combined with enabled=false, which removes all vApp options" for name in given]
    elif params["enabled"] is None and not given:
        faults.append(
            "there is nothing to write; set properties, values, secret_values, transport, ip_allocation, restore_from "
            "or enabled"
        )
    named = (params["properties"], params["values"] or None, params["secret_values"] or None, params["restore_from"])
    if params["exact"] and all(option is None for option in named):
        faults.append("exact without properties, values, secret_values or restore_from would remove every property")
    if faults:
        raise _errors.BadInput(f"The options are not valid: {'; '.join(faults)}. Nothing was changed.")
    ip, transport = params["ip_allocation"], params["transport"]
    secrets = [prop.key for prop in properties if prop.secret]
    secrets += [_key_of(entry) for entry in (source or {}).get("properties", ()) if entry.get("secret")]
    request = Request(
        **{name: params[name] for name in ("force", "not_user_configurable", "update_secrets", "exact", "overwrite")},
        enabled=True if source is not None else params["enabled"],
        unknown="create" if source is not None else params["unknown"],
        properties=tuple(properties),
        secret_keys=frozenset(secrets),
        transport=None if transport is None else tuple(dict.fromkeys(transport)),
        ip_allocation=None if ip is None else _ip_allocation(ip),
    )
    if source is None:
        return request
    return replace(
        request,
        transport=tuple(dict.fromkeys(source["transport"])) if request.transport is None else request.transport,
        ip_allocation=request.ip_allocation or _ip_allocation(source["ip_allocation"]),
        rest=vapp_export.rest(source),
        part=None if keys is None else request,
    )


def restore(
    document: t.Any,
    secret_values: t.Mapping[str, t.Any],
    keys: t.Collection[str],
    *,
    overwrite: bool,
    force: bool,
    update_secrets: str,
) -> Request:
    """Return the request to restore a document, without other options of a task.

    :param keys: full keys of the properties to restore, if the document has them; empty: everything.
    :raises _errors.BadInput: the document cannot be restored.
    """
    known = [] if vapp_export.faults(document) else [_key_of(entry) for entry in document["properties"]]
    given = {
        "restore_from": document,
        "restore_keys": [key for key in keys if key in known] if keys else None,
        "secret_values": secret_values or None,
        "overwrite": overwrite,
        "force": force,
        "update_secrets": update_secrets,
    }
    return read({**_NOTHING, **given})


_NOTHING = {
    **dict.fromkeys(("enabled", "properties", "values", "transport", "ip_allocation")),
    "unknown": "fail",
    "not_user_configurable": "fail",
    "exact": False,
}


def _key_of(entry: t.Mapping[str, t.Any]) -> str:
    """Return the full key of a property of a document."""
    return full_key((entry["class_id"], entry["id"], entry["instance_id"]))


def _encrypted(source: t.Mapping[str, t.Any]) -> list[str]:
    names = ", ".join(vapp_export.encrypted(source))
    how = "decrypt the document with the lookup vmfork.vsphere.vapp_secrets"
    return [f"restore_from has parts that are encrypted with Ansible Vault: {names} ({how})"] if names else []


def _ip_allocation(given: t.Mapping[str, t.Any]) -> IpAllocation:
    def several(name: str) -> tuple[str, ...] | None:
        return None if given.get(name) is None else tuple(dict.fromkeys(given[name]))

    return IpAllocation(
        given.get("policy"), given.get("protocol"), several("supported_schemes"), several("supported_protocols")
    )


def _property(entry: t.Mapping[str, t.Any], number: int, faults: list[str]) -> WantedProperty:
    """Return an entry of ``properties``; its faults are added to ``faults``."""
    key, parts = entry["key"], None
    if (key is None) == (entry["id"] is None):
        faults.append(f"entry {number + 1} of properties needs either key or id")
    if key is not None and (entry["class_id"] or entry["instance_id"]):
        faults.append(f"property {key} has both a key and a class_id or instance_id")
    if key is None:
        parts = (entry["class_id"] or "", entry["id"] or "", entry["instance_id"] or "")
        key = full_key(parts)
        if not parts[1]:
            faults.append(f"entry {number + 1} of properties has an empty id")
    faults += _wrong_key(key)
    given = [name for name in ("value", "default", *ATTRIBUTES) if entry[name] is not None]
    if entry["state"] == "absent" and given:
        faults.append(f"property {key} has state=absent, which cannot be combined with {', '.join(given)}")
    if entry["state"] == "reset" and "value" in given:
        faults.append(f"property {key} has state=reset, which cannot be combined with a value")
    faults += [
        f"property {key} has control characters or carriage returns in its {name}, which vCenter does not store"
        for name in ("type", "label", "category", "description")
        if not vapp_types.is_sendable(entry[name] or "")
    ]
    kind = entry["type"]
    if kind is not None:
        kind = vapp_types.canonical(kind)
        if vapp_types.parse(kind) is None:
            faults.append(f"property {key} has the type {entry['type']}, which vCenter does not know")
    return WantedProperty(
        key=key,
        parts=parts,
        type=kind,
        **{
            name: entry[name]
            for name in ("state", "value", "default", "label", "category", "description", "user_configurable")
        },
    )


def _with_restored(
    properties: list[WantedProperty], restored: t.Sequence[t.Mapping[str, t.Any]], faults: list[str]
) -> list[WantedProperty]:
    """Return the properties of a document, overridden by those of the task."""
    result: list[WantedProperty] = []
    left = list(properties)
    count = Counter(map(_key_of, restored))
    for prop in properties:
        if prop.parts is None:
            faults += _ambiguous(prop.key, count, "restore_from")
    for entry in restored:
        parts = (entry["class_id"], entry["id"], entry["instance_id"])
        key = _key_of(entry)
        faults += _wrong_key(key)
        if key and not entry["id"]:
            faults.append(f"property {key} of restore_from has an empty id")
        wanted = WantedProperty(
            key=key,
            parts=parts,
            value=entry.get("value"),
            default=entry.get("default"),
            restored=True,
            lacks=tuple(name for name in ("value", "default") if entry.get("secret") and entry.get(name) is None),
            type=entry["type"],
            user_configurable=entry["user_configurable"],
            label=entry["label"],
            category=entry["category"],
            description=entry["description"],
        )
        change = next((prop for prop in left if (prop.parts or parts) == parts and prop.key == key), None)
        if change is None:
            result.append(wanted)
            continue
        left.remove(change)
        if change.state != "present":
            result.append(change)
            continue
        news = {name: getattr(change, name) for name in ("default", *ATTRIBUTES)}
        wanted = replace(wanted, **{name: value for name, value in news.items() if value is not None})
        result.append(wanted if change.value is None else _with_value(wanted, change.value, secret=False))
    return [*result, *left]


def _with_values(
    properties: list[WantedProperty], option: str, values: t.Mapping[t.Any, t.Any], faults: list[str]
) -> list[WantedProperty]:
    """Return the properties with the values of a short form (``values`` or ``secret_values``)."""
    result = list(properties)
    count = Counter(prop.key for prop in properties)
    position: dict[str, int] = {}
    for number, prop in enumerate(properties):
        position.setdefault(prop.key, number)
    for name, value in values.items():
        key = str(name)
        faults += _wrong_key(key)
        if value is None:
            faults.append(f"property {key} has no value in {option}; use an empty string to blank it")
        faults += _ambiguous(key, count, option)
        at = position.get(key)
        if at is None:
            result.append(WantedProperty(key=key, value=value, secret=option == "secret_values"))
        elif properties[at].state != "present" or (properties[at].value is not None and not properties[at].restored):
            faults.append(f"property {key} is given more than once")
        else:
            result[at] = _with_value(properties[at], value, option == "secret_values")
    return result


def _with_value(wanted: WantedProperty, value: t.Any, secret: bool) -> WantedProperty:
    """Return a property with a value from the task. An empty value blanks it, including a document's default."""
    default = "" if wanted.restored and value == "" else wanted.default
    return replace(wanted, value=value, default=default, secret=secret, restored=False)


def _ambiguous(key: str, count: Counter[str], where: str) -> list[str]:
    hint = "identify it by id, class_id and instance_id in properties"
    return [f"{count[key]} properties have the key {key} of {where} ({hint})"] if count[key] > 1 else []


def _wrong_key(key: str) -> list[str]:
    if not key:
        return ["a property has an empty key"]
    if re.search(r"\s", key) or not vapp_types.is_sendable(key):
        return [f"property {key!r} has whitespace or control characters in its key, which vSphere does not allow"]
    return []
