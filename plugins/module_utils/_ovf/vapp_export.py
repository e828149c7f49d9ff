# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export the vApp options of a VM as a document that can be kept, compared and restored.

Private to the collection. Pure functions. The document has everything of ``config.vAppConfig`` (vSphere API reference,
VmConfigInfo), except what belongs only to this vCenter or to the running VM: integer keys, IDs of networks, and values
that vCenter computes or leases at power-on. It never contains secrets: they are null, and a restore needs them again.
A backup may contain them encrypted: :data:`VAULT`.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, sensitive, vapp_types
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

VERSION = 1
"""Version of the document. A later version is refused."""
VAULT = "__ansible_vault"
"""Key of an encrypted secret in a document, as in Ansible's own JSON."""

_PRODUCT = {
    "class_id": "classId",
    "instance_id": "instanceId",
    "name": "name",
    "vendor": "vendor",
    "version": "version",
    "full_version": "fullVersion",
    "vendor_url": "vendorUrl",
    "product_url": "productUrl",
    "app_url": "appUrl",
}
_PROPERTY = {
    "class_id": "classId",
    "id": "id",
    "instance_id": "instanceId",
    "category": "category",
    "label": "label",
    "description": "description",
}
LEASED = ("dhcpPolicy", "transientPolicy")
"""IP allocation policies with which the value of a property of type ``ip:network`` is from the last power-on."""


Path = tuple[t.Any, ...]
"""Keys and positions that lead to a text of a document."""
Secret = tuple[Path, str]
"""Where the document has null, and the text that it leaves out."""


@dataclass(frozen=True)
class Restored:
    """The parts of a document besides properties, transports and IP allocation, as fields of the vSphere API.

    :param eula: ``None``: the document does not have all license agreements.
    :param hidden_sections: the other sections, by namespace and type, whose contents the document does not have.
    """

    products: tuple[dict[str, str], ...]
    eula: tuple[str, ...] | None
    sections: tuple[dict[str, t.Any], ...]
    hidden_sections: tuple[tuple[str, str], ...]
    install_boot_required: bool
    install_boot_stop_delay: int


def document(name: str, values: t.Mapping[str, t.Any], info: t.Any, patterns: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """Return the document of a VM's vApp options, as :func:`document_and_secrets` does, without the secrets."""
    return document_and_secrets(name, values, info, patterns)[0]


def document_and_secrets(
    name: str, values: t.Mapping[str, t.Any], info: t.Any, patterns: t.Sequence[str] = ()
) -> tuple[dict[str, t.Any], list[Secret]]:
    """Return the document of a VM's vApp options, and the secrets that vCenter shows and the document leaves out.

    :param values: the VM's properties, with its UUIDs.
    :param info: ``config.vAppConfig``; ``None``: the VM has no vApp options.
    :param patterns: regular expressions for further keys that are secret.
    """
    result: dict[str, t.Any] = {
        "version": VERSION,
        "vm": {
            "name": name,
            "instance_uuid": values.get("config.instanceUuid"),
            "uuid": values.get("config.uuid"),
        },
        "enabled": info is not None,
    }
    if info is None:
        return result, []
    mask = Mask("sensitive", patterns)
    read = configured.read(info, mask=mask)
    assignment = info.ipAssignment
    policy = getattr(assignment, "ipAllocationPolicy", None)
    properties = sorted(
        (_property(prop, known, policy) for prop, known in zip(info.property or [], read.properties, strict=True)),
        key=lambda pair: (pair[0]["key"], pair[0]["class_id"], pair[0]["id"]),
    )
    result.update(
        products=sorted((_fields(product, _PRODUCT) for product in info.product or []), key=_order),
        properties=[entry for entry, _hidden in properties],
        transport=[transport for transport in info.ovfEnvironmentTransport or [] if transport],
        ip_allocation={
            "policy": policy or None,
            "protocol": getattr(assignment, "ipProtocol", None) or None,
            "supported_schemes": [
                scheme for scheme in getattr(assignment, "supportedAllocationScheme", None) or [] if scheme
            ],
            "supported_protocols": [
                protocol for protocol in getattr(assignment, "supportedIpProtocol", None) or [] if protocol
            ],
        },
        eula=[vapp_types.plain(text) for text in info.eula or []],
        ovf_sections=sorted((_section(section) for section in info.ovfSection or []), key=_order),
        install_boot={"required": bool(info.installBootRequired), "stop_delay": info.installBootStopDelay or 0},
    )
    secrets: list[Secret] = [
        (("properties", position, field), text)
        for position, (_entry, hidden) in enumerate(properties)
        for field, text in hidden.items()
    ]
    secrets += [(path, put(result, path, None)) for path in _other_secrets(result, mask)]
    return result, secrets


def _other_secrets(document: t.Mapping[str, t.Any], mask: Mask) -> list[Path]:
    """Return where OVF sections and license agreements of a document seem to have secrets."""
    found: list[Path] = [
        ("ovf_sections", position, "contents")
        for position, section in enumerate(document["ovf_sections"])
        if section["contents"]
        and (mask.is_secret_element(section["type"]) or sensitive.section_holds_secret(section["contents"]))
    ]
    found += [("eula", number) for number, text in enumerate(document["eula"]) if sensitive.prose_holds_secret(text)]
    return found


def put(document: t.Any, path: Path, content: t.Any) -> t.Any:
    """Replace a text of a document, and return what was there."""
    *above, last = path
    for step in above:
        document = document[step]
    before, document[last] = document[last], content
    return before


def _order(entry: t.Mapping[str, t.Any]) -> list[str]:
    return [str(value) for value in entry.values()]


def _fields(source: t.Any, names: t.Mapping[str, str]) -> dict[str, str]:
    return {name: vapp_types.plain(getattr(source, field)) for name, field in names.items()}


def _property(prop: t.Any, known: configured.Property, policy: str | None) -> tuple[dict[str, t.Any], dict[str, str]]:
    """Return the entry of a property, and its texts that are secret although vCenter shows them."""
    kind = prop.type or "string"
    value, default = prop.value or "", prop.defaultValue or ""
    if kind.startswith("expression") or (kind.startswith("ip:") and policy in LEASED):
        value = ""
    # The default of an expression is a formula, which names other properties and contains no secret.
    is_secret = known.secret and not kind.startswith("expression")
    is_password = vapp_types.is_password(kind)
    entry = {
        "key": known.key,
        **_fields(prop, _PROPERTY),
        "type": kind,
        "user_configurable": bool(prop.userConfigurable),
        "default": None if is_secret and default else default,
        "value": None if is_secret and (value or is_password) else value,
        "secret": is_secret and bool(value or default or is_password),
    }
    texts = {"default": default, "value": value}
    return entry, {name: text for name, text in texts.items() if entry[name] is None and text and not is_password}


def _section(section: t.Any) -> dict[str, t.Any]:
    return {
        "namespace": section.namespace or "",
        "type": section.type or "",
        "at_envelope_level": bool(section.atEnvelopeLevel),
        "contents": vapp_types.plain(section.contents),
    }


_SECRET_TEXT = (str, dict, type(None))
"""A text that may be a secret: then it is null, or encrypted."""


def is_version(given: t.Any, supported: int) -> bool:
    """Return whether a document or an index has the supported version. To Python, ``True`` equals 1."""
    return bool(given == supported) and not isinstance(given, bool)


def faults(given: t.Any) -> list[str]:
    """Return what is wrong with a document, as clauses without its values."""
    if not isinstance(given, dict) or "version" not in given:
        return ["restore_from is not a document that vm_ovfenv_info has exported"]
    if not is_version(given["version"], VERSION):
        return [f"restore_from has version {given['version']!s:.20}, but only version {VERSION} is supported"]
    if given.get("enabled") is False:
        return ["restore_from was exported from a VM without vApp options"]
    found = _wrong(given, "properties", {**dict.fromkeys((*_PROPERTY, "type"), str), "user_configurable": bool})
    found += _wrong(given, "products", dict.fromkeys(_PRODUCT, str))
    found += _wrong(
        given, "ovf_sections", {"namespace": str, "type": str, "contents": _SECRET_TEXT, "at_envelope_level": bool}
    )
    found += [
        f"restore_from needs {name} as a list of strings"
        for name, kinds in (("eula", _SECRET_TEXT), ("transport", (str,)))
        if not _texts(given, name, kinds)
    ]
    boot, ip = given.get("install_boot"), given.get("ip_allocation")
    if (
        not isinstance(boot, dict)
        or not isinstance(boot.get("required"), bool)
        or not isinstance(boot.get("stop_delay"), int)
        or isinstance(boot["stop_delay"], bool)
        or not 0 <= boot["stop_delay"] < 2**31
    ):
        found.append("restore_from needs install_boot with required and stop_delay")
    if (
        not isinstance(ip, dict)
        or not all(isinstance(ip.get(name), (str, type(None))) for name in ("policy", "protocol"))
        or not all(_texts(ip, name) for name in ("supported_schemes", "supported_protocols"))
    ):
        found.append(
            "restore_from needs ip_allocation with policy, protocol, supported_schemes and supported_protocols"
        )
    return found or _unsendable(given)


def encrypted(given: t.Mapping[str, t.Any]) -> list[str]:
    """Return the names of the parts of a document that are encrypted, as in a backup."""
    found = [
        ".".join(filter(None, (prop["class_id"], prop["id"], prop["instance_id"])))
        for prop in given["properties"]
        if any(isinstance(prop.get(name), dict) and VAULT in prop[name] for name in ("value", "default"))
    ]
    sections = [section for section in given["ovf_sections"] if isinstance(section["contents"], dict)]
    found += [f"OVF section {section['type']}" for section in sections]
    return found + ["license agreements"] * any(isinstance(text, dict) for text in given["eula"])


def not_restored(given: t.Mapping[str, t.Any], current: t.Mapping[str, t.Any]) -> list[str]:
    """Return the parts besides properties that neither a document nor the VM, by its own document, has.

    Those that the document has encrypted are not missing.
    """
    there = {(section["namespace"], section["type"]) for section in current.get("ovf_sections") or []}
    found = [
        f"OVF section {section['type']}"
        for section in given["ovf_sections"]
        if section["contents"] is None and (section["namespace"], section["type"]) not in there
    ]
    return found + (["license agreements"] if None in given["eula"] and not current.get("eula") else [])


def _unsendable(given: t.Mapping[str, t.Any]) -> list[str]:
    """Return which texts of a document cannot be sent; values are checked together with those of the task."""
    parts = {
        "eula": [given["eula"]],
        "transport": [given["transport"]],
        "ip_allocation": [given["ip_allocation"]],
        "products": given["products"],
        "ovf_sections": given["ovf_sections"],
        "properties": [{name: prop[name] for name in (*_PROPERTY, "type")} for prop in given["properties"]],
    }
    return [
        f"{name} in restore_from has control characters or carriage returns, which vCenter does not store"
        for name, entries in parts.items()
        if not all(map(vapp_types.is_sendable, _all_texts(entries)))
    ]


def _all_texts(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _all_texts(item)


def _wrong(given: t.Mapping[str, t.Any], name: str, fields: t.Mapping[str, t.Any]) -> list[str]:
    """Return what is wrong with a list whose entries must have these fields."""
    part = given.get(name)
    if not isinstance(part, list):
        return [f"restore_from needs {name} as a list"]
    for number, entry in enumerate(part):
        if not isinstance(entry, dict):
            return [f"entry {number + 1} of {name} in restore_from is not a dictionary"]
        lacking = [field for field, kind in fields.items() if field not in entry or not isinstance(entry[field], kind)]
        if lacking:
            return [
                f"entry {number + 1} of {name} in restore_from lacks {', '.join(lacking)}, or it has the wrong type"
            ]
    return []


def _texts(given: t.Mapping[str, t.Any], name: str, kinds: tuple[type, ...] = (str,)) -> bool:
    """Return whether an entry is a list of texts."""
    return isinstance(given.get(name), list) and all(isinstance(text, kinds) for text in given[name])


def rest(given: t.Mapping[str, t.Any]) -> Restored:
    """Return the parts of a document that have no option of their own."""
    return Restored(
        products=tuple({field: product[name] for name, field in _PRODUCT.items()} for product in given["products"]),
        eula=tuple(given["eula"]) if _texts(given, "eula") else None,
        hidden_sections=tuple(
            (section["namespace"], section["type"])
            for section in given["ovf_sections"]
            if not isinstance(section["contents"], str)
        ),
        sections=tuple(
            {
                "namespace": section["namespace"],
                "type": section["type"],
                "atEnvelopeLevel": section["at_envelope_level"],
                "contents": section["contents"],
            }
            for section in given["ovf_sections"]
            if isinstance(section["contents"], str)
        ),
        install_boot_required=given["install_boot"]["required"],
        install_boot_stop_delay=given["install_boot"]["stop_delay"],
    )
