# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse an OVF environment document, whatever a guest or vCenter returns as one.

Private to the collection. Pure functions; the content is not trusted.
Namespaces and shapes: DMTF DSP0243 (OVF 1.1), section 11, and the documents
that vCenter writes.
"""

from __future__ import annotations

import hashlib
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import safe_xml

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

NAMESPACE = "http://schemas.dmtf.org/ovf/environment/1"
VMWARE_NAMESPACE = "http://www.vmware.com/schema/ovfenv"

# Namespaces, with the prefixes used for their names here. The prefixes in the document do not matter.
_PREFIXES = {
    "": "",
    NAMESPACE: "",
    VMWARE_NAMESPACE: "ve:",
    "http://schemas.microsoft.com/windowsazure": "azure:",
}
_ROOT = ("Environment",)
_PLATFORM = (*_ROOT, "PlatformSection")
_PLATFORM_NAMES = {"Kind": "kind", "Version": "version", "Vendor": "vendor", "Locale": "locale"}
_PROPERTY = (*_ROOT, "PropertySection", "Property")
_ADAPTER = (*_ROOT, "ve:EthernetAdapterSection", "ve:Adapter")
_VSERVICE = (*_ROOT, "ve:vServiceEnvironmentSection")
_ENTITY = (*_ROOT, "Entity")
_ENTITY_PROPERTY = (*_ENTITY, "PropertySection", "Property")
_AZURE = (*_ROOT, "azure:ProvisioningSection")

_INJECTED_KINDS = ("VMware ESXi", "VMware vCenter Server")


@dataclass(frozen=True)
class Document:
    """An OVF environment, as far as it could be read.

    :param origin: who created it: ``vcenter``, ``injected``, ``vapprun`` or ``unknown``.
    :param entity_id: the VM's ID inside its vApp (``oe:id``); empty for a lone VM.
    :param vcenter_id: the VM's managed object ID on the vCenter that created it (``ve:vCenterId``).
    :param esx_id: the same in an injected document (``ve:esxId``).
    :param platform: those of ``kind``, ``version``, ``vendor`` and ``locale`` that the document has.
    :param properties: the VM's own properties, full key → value.
    :param skipped_keys: keys of the properties that were skipped because they are malformed: some programs do not
        escape values. ``None`` where the key cannot be read either.
    :param duplicate_keys: keys that occur more than once; the first value counts.
    :param adapters: ``mac``, ``network``, ``unit_number`` of each network adapter.
    :param entities: properties of the siblings inside a vApp, by their ID.
    :param vservices: what vService extensions added, including a token: ``api`` names the element, the other keys are
        its content.
    :param sha256: hash of the document's text in UTF-8 without surrounding white space, in hexadecimal digits.
    :param parse_error: why it could not be read, or not to its end; one clause.
    :param truncated: it ends before its end tag; what precedes the cut is here.
    """

    origin: str = "unknown"
    entity_id: str | None = None
    vcenter_id: str | None = None
    esx_id: str | None = None
    platform: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict, repr=False)
    duplicate_keys: tuple[str, ...] = ()
    skipped_keys: tuple[str | None, ...] = ()
    adapters: tuple[dict[str, str | None], ...] = ()
    entities: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    vservices: tuple[dict[str, str], ...] = field(default=(), repr=False)
    sha256: str = ""
    parse_error: str | None = None
    truncated: bool = False


def parse(source: str | bytes) -> Document:
    """Parse a document. Never raises: what is wrong with it is in ``parse_error``."""
    text = safe_xml.decode(source)
    reader, outcome = _read(text)
    skipped: tuple[str | None, ...] = ()
    if outcome.malformed:
        rest, found = _without_malformed(text)
        again, end = _read(rest) if found else (reader, outcome)
        if end.error is None or end.truncated:
            reader, outcome, skipped = again, end, tuple(found)
    return Document(
        origin=reader.origin(),
        entity_id=reader.environment.get("id"),
        vcenter_id=reader.environment.get("vCenterId") or None,
        esx_id=reader.environment.get("esxId") or None,
        platform=reader.platform,
        properties=reader.properties,
        duplicate_keys=tuple(reader.duplicate_keys),
        skipped_keys=skipped,
        adapters=tuple(reader.adapters),
        entities=reader.entities,
        vservices=tuple(reader.vservices),
        sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
        parse_error=outcome.error,
        truncated=outcome.truncated,
    )


def _read(text: str) -> tuple[_Reader, safe_xml.Outcome]:
    reader = _Reader()
    return reader, safe_xml.walk(text, reader)


# Where a property begins, and where the section of properties ends at the latest.
_PROPERTY_TAG = re.compile(r"<(?:[\w.-]{1,40}:)?Property(?=[\s/>])|</(?:[\w.-]{1,40}:)?PropertySection\b")
_KEY = re.compile(r"""\bkey\s{0,9}=\s{0,9}(["'])([\w.-]{1,80})\1""", re.ASCII)


def _without_malformed(text: str) -> tuple[str, list[str | None]]:
    """Return the text without its malformed properties, and their keys."""
    kept, skipped = [], []
    tags = [tag.start() for tag in _PROPERTY_TAG.finditer(text)]
    at = 0
    for begin, end in zip(tags, [*tags[1:], len(text)], strict=False):
        piece = text[begin:end]
        if piece.startswith("</") or safe_xml.is_well_formed(f"<a>{piece}</a>"):
            continue
        kept.append(text[at:begin])
        at = end
        key = _KEY.search(piece)
        skipped.append(key[2] if key else None)
    return "".join([*kept, text[at:]]), skipped


def facts(document: Document, moid: str, mask: Mask) -> dict[str, t.Any]:
    """Return the document as a return value, with secrets masked.

    The hash is left out if the document was not read to its end or has a masked value: anyone who knows all but the
    password could try passwords against it.

    :param moid: the VM the document was found in.
    """
    properties = _masked(document.properties, mask)
    # The VM's own vApp options do not describe a sibling's keys, not even keys that both have.
    entities = {name: _masked(values, mask, secret=True) for name, values in document.entities.items()}
    vservices = [_masked_vservice(vservice, mask) for vservice in document.vservices]
    shown = (properties, entities, vservices) == (document.properties, document.entities, list(document.vservices))
    return {
        "origin": document.origin,
        "entity_id": document.entity_id,
        "vcenter_id": document.vcenter_id,
        "esx_id": document.esx_id,
        "moref_matches": None if document.vcenter_id is None else document.vcenter_id == moid,
        "platform": {name: document.platform.get(name) for name in _PLATFORM_NAMES.values()},
        "properties": properties,
        "duplicate_keys": list(document.duplicate_keys),
        "skipped_keys": list(document.skipped_keys),
        "adapters": [dict(adapter) for adapter in document.adapters],
        "entities": entities,
        "vservices": vservices,
        "sha256": document.sha256 if shown and not (document.parse_error or document.skipped_keys) else None,
        "parse_error": document.parse_error,
        "truncated": document.truncated,
    }


def _masked(properties: t.Mapping[str, str], mask: Mask, secret: bool = False) -> dict[str, str | None]:
    return {key: mask.value(key, value, secret=secret) for key, value in properties.items()}


def _masked_vservice(vservice: t.Mapping[str, str], mask: Mask) -> dict[str, str]:
    secret = mask.is_secret_element(vservice["api"])
    return {name: text if name == "api" else mask.element(name, text, secret) for name, text in vservice.items()}


class _Reader:
    """Collects the known elements and ignores all others."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.platform: dict[str, str] = {}
        self.properties: dict[str, str] = {}
        self.duplicate_keys: dict[str, None] = {}
        self.adapters: list[dict[str, str | None]] = []
        self.entities: dict[str, dict[str, str]] = {}
        self.vservices: list[dict[str, str]] = []
        self._path: tuple[str, ...] = ()
        self._entity: str | None = None
        self._text = ""

    def start(self, name: str, attributes: list[tuple[str, str]]) -> None:
        self._path = (*self._path, _short(name))
        self._text = ""
        if len(self._path) == 1:
            if self._path != _ROOT:
                raise safe_xml.Refused(f"its root element is {_local(name)[:40]!r}, so it is not an OVF environment")
            self.environment = _named(attributes)
        elif self._path == _PROPERTY:
            self._property(self.properties, _named(attributes))
        elif self._path == _ENTITY:
            # <Entity/> means that there are no siblings.
            self._entity = _named(attributes).get("id")
            if self._entity is not None:
                self.entities.setdefault(self._entity, {})
        elif self._path == _ENTITY_PROPERTY:
            self._property(self.entities.setdefault(self._entity or "", {}), _named(attributes))
        elif self._path == _ADAPTER:
            given = _named(attributes)
            self.adapters.append(
                {"mac": given.get("mac"), "network": given.get("network"), "unit_number": given.get("unitNumber")}
            )
        elif self._path[:-1] == _VSERVICE:
            self.vservices.append({"api": _local(name)})
        elif self._path == _AZURE:
            raise safe_xml.Refused("it is the ovf-env.xml of Azure, which is not an OVF environment")

    def text(self, data: str) -> None:
        self._text += data

    def end(self) -> None:
        *above, name = self._path
        self._path = tuple(above)
        if self._path == _PLATFORM and name in _PLATFORM_NAMES:
            self.platform.setdefault(_PLATFORM_NAMES[name], self._text.strip())
        elif self._path[:-1] == _VSERVICE:
            self.vservices[-1].setdefault(_local(name), self._text.strip())
        self._text = ""

    def _property(self, properties: dict[str, str], given: dict[str, str]) -> None:
        key = given.get("key")
        if key is None:
            return
        if key in properties and properties is self.properties:
            self.duplicate_keys[key] = None
        properties.setdefault(key, given.get("value", ""))

    def origin(self) -> str:
        """Return who created the document, by what only vCenter or only an injecting program writes."""
        if self.environment.get("vCenterId"):
            return "vcenter"
        if self.environment.get("esxId"):
            return "injected"
        if self.platform.get("kind") == "vapprun":
            return "vapprun"
        # govc and its successors write the product's name there; vCenter's locale is a language, not a country.
        if self.platform.get("kind") in _INJECTED_KINDS and self.platform.get("locale") == "US":
            return "injected"
        return "unknown"


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _short(name: str) -> str:
    """Return a name with our prefix; names of other namespaces keep theirs."""
    namespace, _space, local = name.rpartition(" ")
    prefix = _PREFIXES.get(namespace)
    return name if prefix is None else prefix + local


def _named(attributes: list[tuple[str, str]]) -> dict[str, str]:
    """Return attributes of our namespaces by local name. A name that occurs with several prefixes is ambiguous."""
    named: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in attributes:
        namespace, _space, local = name.rpartition(" ")
        if local in seen:
            named.pop(local, None)
        elif namespace in _PREFIXES:
            named[local] = value
        seen.add(local)
    return named
