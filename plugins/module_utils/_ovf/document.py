# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OVF environment document: read whatever a guest or vCenter gives for one.

Private to the collection. Pure functions; what is read is not trusted.
Namespaces and shapes: DMTF DSP0243 (OVF 1.1), section 11, and the documents
that vCenter writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Document:
    """An OVF environment, as far as it could be read.

    :param origin: who made it: ``vcenter``, ``injected``, ``vapprun`` or ``unknown``.
    :param entity_id: the VM's ID inside its vApp (``oe:id``); empty for a lone VM.
    :param vcenter_id: the VM's managed object ID on the vCenter that made it (``ve:vCenterId``).
    :param esx_id: the same in an injected document (``ve:esxId``).
    :param platform: ``kind``, ``version``, ``vendor``, ``locale``, those that are there.
    :param properties: the VM's own properties, full key → value.
    :param duplicate_keys: keys that occur more than once; the first value counts.
    :param adapters: ``mac``, ``network``, ``unit_number`` of each network adapter.
    :param entities: properties of the siblings inside a vApp, by their ID.
    :param vservices: what vService extensions added, a token among it.
    :param sha256: of the document's text, in hexadecimal digits.
    :param parse_error: why it could not be read, or not to its end; one clause.
    :param truncated: it ends before its end tag; what stood before is here.
    """

    origin: str = "unknown"
    entity_id: str | None = None
    vcenter_id: str | None = None
    esx_id: str | None = None
    platform: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict, repr=False)
    duplicate_keys: tuple[str, ...] = ()
    adapters: tuple[dict[str, str | None], ...] = ()
    entities: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    vservices: tuple[dict[str, str], ...] = field(default=(), repr=False)
    sha256: str = ""
    parse_error: str | None = None
    truncated: bool = False
