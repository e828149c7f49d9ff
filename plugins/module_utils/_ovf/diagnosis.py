# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge whether a VM's OVF environment reaches its guest, why not, and what to do about it.

Private to the collection. Pure functions over ``evidence.Evidence``. All verdicts are in one table, ``ROWS``.

Two facts are not published: whether ExtractOvfEnvironment returns nothing, an old document or a new one for a VM that a
host started, and whether the values that vCenter computes at power-on are empty then. Both are reported as evidence,
but neither is ever the only reason for ``lost`` or for ``delivered`` with high confidence.
"""

from __future__ import annotations

import datetime
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import bypassed, impact, origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import (
    GUESTINFO,
    ISO,
    is_build_metadata,
    listed,
    transport_names,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Difference, Evidence
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.words import in_words

HIGH, MEDIUM, LOW = "high", "medium", "low"

NONE = "none"
POWER_CYCLE = "power_cycle_via_vcenter"
SET_TRANSPORT = "set_transport"
ENABLE_VAPP = "enable_vapp"
ADD_CDROM = "add_cdrom"
START_TOOLS = "start_tools"
FIX_GUEST_RPC = "fix_guest_rpc"
ASK_VENDOR = "ask_appliance_vendor"
GRANT_PRIVILEGE = "grant_privilege"

REMEDIES = (
    NONE,
    POWER_CYCLE,
    SET_TRANSPORT,
    ENABLE_VAPP,
    ADD_CDROM,
    START_TOOLS,
    FIX_GUEST_RPC,
    ASK_VENDOR,
    GRANT_PRIVILEGE,
)


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on one VM.

    :param evidence: the known facts; each begins with its source.
    :param message: one or two sentences for the user.
    :param remedy: one of ``REMEDIES``; a proposal.
    :param act: ``now``, ``before_next_boot``, ``never`` or ``decide``.
    :param row: the number of the row that applied.
    """

    status: str
    cause: str | None
    confidence: str
    evidence: tuple[str, ...]
    message: str
    remedy: str
    remedy_risks: tuple[str, ...]
    impact: str
    act: str
    warnings: tuple[str, ...]
    row: str


# --- conditions of the rows -----------------------------------------------------------------------------------------


def _guestinfo(e: Evidence) -> bool:
    return GUESTINFO in e.configured.delivers_by


def _iso(e: Evidence) -> bool:
    return ISO in e.configured.delivers_by


def _iso_only(e: Evidence) -> bool:
    """Return whether the document is delivered only by CD-ROM, so that VMware Tools does not have it."""
    return _iso(e) and not _guestinfo(e)


def _image_connected(e: Evidence) -> bool:
    return e.iso.connected and e.iso.backing is not None


def _may_be_refused(e: Evidence) -> bool:
    """Return whether the VM is off and vCenter may refuse to power it on, which matters more than the delivery."""
    return e.power_state == "poweredOff" and bool(e.configured.required_empty or e.lacking_pools)


def _no_transport(e: Evidence) -> bool:
    """Return whether nothing will be delivered, and no row for documents from elsewhere (6, 8) applies."""
    return not _may_be_refused(e) and not _guestinfo(e) and not _iso(e) and not _has_anothers(e) and not _injected(e)


def _document(e: Evidence) -> Document | None:
    """Return the guest's document if it was read to its end."""
    found = e.guest.document if e.guest.state == "xml" else None
    return found if found is not None and found.parse_error is None else None


def _id_owner(e: Evidence) -> str | None:
    """Return whose ID the guest's document contains: ``own``, ``other`` or ``none``; ``None``: not known."""
    if e.guest.state != "xml":
        return None
    if e.guest.document is None:
        return e.guest.bears_id
    if e.guest.document.vcenter_id:
        return "own" if e.guest.document.vcenter_id == e.moid else "other"
    # A document that could not be read to its end may contain one further on.
    return "none" if e.guest.document.parse_error is None else None


def _code_only(e: Evidence) -> bool:
    """Return whether the guest reported that it has a document, but not its content."""
    return e.guest.state == "xml" and e.guest.document is None


def _own_by_code(e: Evidence) -> bool:
    return _code_only(e) and _id_owner(e) == "own"


def _not_asked(e: Evidence) -> bool:
    return e.guest.state == "not_asked"


def _unseen(e: Evidence) -> bool:
    """Return whether it is not known what the guest has: it was not probed, or the probe failed.

    A failed probe does not change the verdict that vCenter's own data supports.
    """
    return e.guest.state not in ("xml", "no_value", "cleared", "non_xml")


def _reading_denied(e: Evidence) -> bool:
    """Return whether the guest or extraConfig shows that not every user may read the document in the guest."""
    by_config = e.rpc_denied and e.guest.state in ("not_asked", "error")
    return not _iso_only(e) and (e.guest.state == "permission_denied" or by_config)


def _fork(e: Evidence) -> bool:
    return e.forked_from is not None


def _inherited(e: Evidence) -> bool:
    """Return whether a fork child holds a document that is not its own, as seen in the guest."""
    return _fork(e) and e.guest.state == "xml" and _id_owner(e) != "own"


def _anothers(e: Evidence) -> bool:
    """Return whether a VM holds the document of another VM of this vCenter, and nothing proves a fork."""
    return not _fork(e) and e.document_of is not None


def _has_anothers(e: Evidence) -> bool:
    return _inherited(e) or _anothers(e)


def _injected(e: Evidence) -> bool:
    return not _fork(e) and _id_owner(e) == "none"


def _injected_empty(e: Evidence) -> bool:
    """Return whether the injected document was read and has no properties."""
    found = _document(e)
    return _injected(e) and found is not None and not found.properties


def _properties_gone(e: Evidence) -> bool:
    """Return whether the guest has a document with properties, and neither the vApp options nor the vApps have any."""
    configured, found = e.configured, _document(e)
    return (
        configured.enabled
        and not (configured.properties or configured.vapp_properties or configured.vapp_properties is None)
        and not _has_anothers(e)
        and found is not None
        and bool(found.properties)
        and _id_owner(e) in ("own", "other")
    )


def _nothing_beside(e: Evidence) -> bool:
    """Return whether a VM's own properties are the only possible reason to deliver a document to it."""
    others = _has_anothers(e) or (_injected(e) and not _injected_empty(e))
    return e.configured.enabled and e.configured.vapp_properties == 0 and not others


def _no_properties(e: Evidence) -> bool:
    return _nothing_beside(e) and not e.configured.properties


def _metadata_only(e: Evidence) -> bool:
    return _nothing_beside(e) and all(is_build_metadata(prop) for prop in e.configured.properties)


def _nothing_configurable(e: Evidence) -> bool:
    configured = e.configured
    asks = any(prop.user_configurable for prop in configured.properties)
    return not _may_be_refused(e) and _nothing_beside(e) and not configured.delivers_by and not asks


def _changed(e: Evidence) -> bool:
    """Return whether the vApp options were changed after the power-on."""
    return bool(e.power_on.reconfigured)


def _differing(e: Evidence, side: str) -> list[Difference]:
    """Comparable keys that are missing or different on one side (``guest`` or ``delivered``)."""
    telling = [
        difference
        for difference in e.differences
        if difference.comparable and difference.kind in ("missing", "changed")
    ]
    return [
        difference for difference in telling if _folded(getattr(difference, side)) != _folded(difference.configured)
    ]


def _folded(value: str | None) -> str | None:
    # XML turns the line breaks of an attribute into spaces.
    return None if value is None else " ".join(value.split())


def _all_gone(e: Evidence, side: str) -> bool:
    """Return whether the document of one side (``guest`` or ``delivered``) has none of the configured properties.

    After a change of the vApp options, all properties may be new.
    """
    differing = _differing(e, side)
    found = e.guest.document if side == "guest" else e.extracted.document
    is_missing = bool(differing) and all(difference.kind == "missing" for difference in differing)
    return is_missing and not _has_configured(e, found) and not _changed(e)


def _has_configured(e: Evidence, found: Document | None) -> bool:
    known = {prop.key.casefold() for prop in e.configured.properties}
    return found is not None and any(key.casefold() in known for key in found.properties)


def _differs(e: Evidence) -> bool:
    return _document(e) is not None and bool(_differing(e, "guest"))


def _extract_differs(e: Evidence) -> bool:
    return e.extracted.state == "ok" and e.extracted.document is not None and bool(_differing(e, "delivered"))


def _lacks_secrets_only(e: Evidence) -> bool:
    """Return whether the document is this VM's own and lacks only secrets, so somebody removed them."""
    gone = [difference for difference in e.differences if difference.kind == "missing" and difference.guest is None]
    return (
        _document(e) is not None
        and _id_owner(e) == "own"
        and bool(gone)
        and all(difference.secret for difference in gone)
        and all(difference in gone for difference in _differing(e, "guest"))
    )


def _holds(e: Evidence) -> bool:
    """Return whether something was delivered to the guest, even if the guest erased it."""
    return e.guest.state in ("xml", "cleared")


def _origin(e: Evidence) -> str:
    return "unknown" if _only_the_user_speaks_for_vcenter(e) else e.power_on.origin


def _only_the_user_speaks_for_vcenter(e: Evidence) -> bool:
    """Return whether the user of the power-on is the only evidence for vCenter: no task is known for it.

    vCenter's own user also appears when an ESXi host was restarted or added again and reports its running VMs. A VM of
    such a host had no OVF environment (vic-product issue 741). Tasks that cannot be read count like missing tasks.
    """
    power_on = e.power_on
    return (
        power_on.origin == "vcenter"
        and power_on.confidence != HIGH
        and power_on.task is None
        and power_on.event_type != origin.POWERED_ON_BY_DRS
    )


def came_up_by_power_on(e: Evidence) -> bool:
    """Return whether it is certain that the VM was powered on, and not forked.

    A fork or an Instant Clone created by another tool may have no record, and its events may be gone or ambiguous. But
    it cannot have: a power-on task, a power-on by DRS, HA or a user of the ESXi host, or a document of its own.
    """
    known = _origin(e) in ("esxi_direct", "ha_restart") or e.power_on.task is not None
    return known or e.power_on.event_type == origin.POWERED_ON_BY_DRS or _id_owner(e) == "own"


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One verdict and its condition.

    :param number: the row's name in tests and documents; letters distinguish several cases.
    :param message: a template; ``_words`` returns the placeholders.
    """

    number: str
    status: str
    cause: str | None
    applies: t.Callable[[Evidence], bool]
    confidence: str
    remedy: str
    message: str


_READING_DENIED = (
    " does not let every user of its guest read the OVF environment (guest_rpc hardening). Probe it with a guest "
    "login as root, or with guest_become=sudo."
)

ROWS: tuple[Row, ...] = (
    Row("1a", "not_applicable", "connected_to_esxi",
        lambda e: not e.is_vcenter, HIGH, NONE,
        "An ESXi host delivers no OVF environment and does not know what vCenter delivered. Connect to vCenter. If "
        "there is none, inject a document with ovftool (--X:injectOvfEnv --powerOn) or govc (InjectOvfEnv in the "
        "options of import.ova)."),
    Row("1b", "not_applicable", "template",
        lambda e: e.is_template, HIGH, NONE,
        "{name} is a template, and templates never run."),
    Row("1c", "not_applicable", "not_connected",
        lambda e: e.connection_state not in ("", "connected"), HIGH, NONE,
        "{name} is {connection} in vCenter, so it cannot be judged. Reconnect its ESXi host or storage."),
    Row("1d", "not_applicable", "fault_tolerance_secondary",
        lambda e: e.is_ft_secondary, HIGH, NONE,
        "{name} is a Fault Tolerance secondary. It has what its primary has."),
    Row("1e", "unknown", "no_permission",
        lambda e: not (e.connection_state and e.power_state and e.config_read), LOW, GRANT_PRIVILEGE,
        "vCenter does not show the settings and the state of {name}. Grant the user System.Read on it."),
    # A fork child without vApp options may hold its parent's document, and a document may have been injected without
    # vCenter, which needs no vApp options. Rows 6 and 8 report both.
    Row("2a", "config_lost", "vapp_config_gone",
        lambda e: not e.configured.enabled and not _has_anothers(e) and _document(e) is not None
        and _id_owner(e) in ("own", "other"), HIGH, ENABLE_VAPP,
        "{name} lost its vApp options, while its guest still has the OVF environment created from them. Restore them "
        "from it before the next power-on."),
    Row("2b", "config_lost", "vapp_config_gone",
        lambda e: not e.configured.enabled and not _has_anothers(e) and _id_owner(e) in ("own", "other"),
        MEDIUM, ENABLE_VAPP,
        "{name} lost its vApp options, while its guest still has an OVF environment from vCenter. Restore them from "
        "it before the next power-on."),
    Row("2c", "config_lost", "vapp_config_gone",
        lambda e: not e.configured.enabled and e.listed_before and not _has_anothers(e) and not _injected(e),
        MEDIUM, ENABLE_VAPP,
        "{name} had vApp options in an earlier report or in a backup and has none now. "
        "Restore them if they were not removed on purpose."),
    Row("3", "not_configured", "vapp_disabled",
        lambda e: not e.configured.enabled and not _has_anothers(e) and not _injected(e), HIGH, ENABLE_VAPP,
        "{name} has no vApp options, so vCenter creates no OVF environment for it."),
    Row("3b", "config_lost", "properties_gone",
        _properties_gone, HIGH, ENABLE_VAPP,
        "{name} has vApp options without properties, while its guest still has an OVF environment with properties. "
        "Restore them from it before the next power-on."),
    # Nobody misses what was never there, regardless of who powered the VM on.
    Row("3c", "nothing_to_deliver", "no_properties",
        _no_properties, HIGH, NONE,
        "{name} has vApp options without properties, such as a product or a license agreement: its guest lacks nothing "
        "when no OVF environment reaches it."),
    Row("3d", "nothing_to_deliver", "build_metadata",
        _metadata_only, HIGH, NONE,
        "{name} has only properties that are the same in every deployment of its image, such as build metadata: its "
        "guest lacks nothing when no OVF environment reaches it."),
    Row("3e", "nothing_to_deliver", "nothing_configurable",
        _nothing_configurable, HIGH, NONE,
        "{name} has no transport that vCenter knows and no property that a user may set: its image expects no OVF "
        "environment."),
    # The transports may have been removed after the power-on.
    Row("4a", "not_deliverable", "no_transport",
        lambda e: _no_transport(e) and e.guest.state == "xml", HIGH, SET_TRANSPORT,
        "{name} has vApp options and {transport}. Its guest still has an OVF environment, but the next power-on "
        "delivers none."),
    Row("4b", "not_deliverable", "no_transport",
        _no_transport, HIGH, SET_TRANSPORT,
        "{name} has vApp options and {transport}, so vCenter delivers no OVF environment to its guest."),
    Row("5a", "not_running", "suspended",
        lambda e: e.power_state == "suspended", HIGH, NONE,
        "{name} is suspended. After it is resumed, its guest has what it had before. The next power-on through "
        "vCenter delivers the OVF environment again."),
    Row("5b", "not_running", "required_values_empty",
        lambda e: e.power_state != "poweredOn" and bool(e.configured.required_empty), HIGH, NONE,
        "{name} is powered off, and vCenter refuses to power it on while required properties have no value: "
        "{required}. Set their values under Configure, vApp Options."),
    Row("5c", "not_running", "no_ip_pool",
        lambda e: e.power_state != "poweredOn" and bool(e.lacking_pools), MEDIUM, NONE,
        "{name} is powered off, and vCenter may refuse to power it on, because it cannot compute {lacking}. Associate "
        "a network protocol profile (IP pool) that provides this with the network."),
    Row("5d", "not_running", "powered_off",
        lambda e: e.power_state != "poweredOn", HIGH, NONE,
        "{name} is powered off. Its OVF environment is delivered at the next power-on through vCenter."),
    Row("6a", "inherited", "fork_child",
        _inherited, HIGH, NONE,
        "{name} was created by a fork and holds the OVF environment of its parent. Do not power-cycle it to fix this: "
        "its forked state would be lost."),
    # Our record or forkConfigInfo proves the fork, but not its document: its own would be visible only in the guest.
    Row("6b", "inherited", "fork_child",
        lambda e: _fork(e) and _unseen(e), MEDIUM, NONE,
        "{name} was created by a fork, not by a power-on that delivers, so at best it holds the OVF environment of "
        "its parent. This was not verified in the guest. Do not power-cycle it to fix this: its forked state would be "
        "lost."),
    Row("6c", "not_delivered", "fork_child",
        lambda e: _fork(e) and e.guest.state == "no_value" and _guestinfo(e), HIGH, NONE,
        "{name} was created by a fork, and its guest has no OVF environment. Do not power-cycle it to fix this: its "
        "forked state would be lost."),
    Row("6d", "inherited", "fork_child",
        _anothers, MEDIUM, NONE,
        "{name} holds the OVF environment that was created for {other}, so it is a fork or an Instant Clone of that "
        "VM, unless somebody copied the document. Do not power-cycle it to fix this: its forked state would be lost."),
    Row("7a", "cleared", "erased_by_guest",
        lambda e: e.guest.state == "cleared" and _guestinfo(e) and _origin(e) == "vcenter", HIGH, NONE,
        "{name} received its OVF environment, and its guest erased it. Appliances with secrets in it do this."),
    # A document of its own that lacks only secrets was delivered, regardless of the power-on. After a change of the
    # vApp options, the secrets may be newer than the document: row 9.
    Row("7b", "cleared", "erased_by_guest",
        lambda e: _lacks_secrets_only(e) and not _changed(e), HIGH, NONE,
        "{name} received its OVF environment, and its guest removed the secrets from it."),
    # The document that vCenter returns may be older than the power-on.
    Row("7c", "cleared", "erased_by_guest",
        lambda e: e.guest.state == "cleared" and _guestinfo(e) and e.extracted.state == "ok", MEDIUM, NONE,
        "{name} has an erased OVF environment in its guest, and vCenter returns the one that it delivered."),
    Row("7e", "stale", "injected_differs",
        lambda e: _injected(e) and not _injected_empty(e) and _differs(e) and bool(e.configured.delivers_by),
        HIGH, NONE,
        "{name} has an OVF environment that was injected without vCenter, and vCenter would deliver other values: "
        "{guest_keys}. Decide which values are right. The next power-on through vCenter delivers those of the vApp "
        "options."),
    Row("7f", "not_delivered", "injected_empty",
        lambda e: _injected_empty(e) and e.configured.enabled and bool(e.configured.delivers_by), HIGH, POWER_CYCLE,
        "{name} has an OVF environment that was injected without vCenter and has no properties."),
    Row("7g", "not_delivered", "injected_empty",
        _injected_empty, HIGH, NONE,
        "{name} has an OVF environment that was injected without vCenter and has no properties, and vCenter would "
        "deliver none."),
    # A document that has none of the properties is not an older document.
    Row("7h", "cleared", "erased_by_guest",
        lambda e: _document(e) is not None and _all_gone(e, "guest")
        and _has_configured(e, e.extracted.document), MEDIUM, NONE,
        "{name} received its OVF environment, and its guest removed every property from it."),
    Row("7i", "not_delivered", "no_properties_delivered",
        lambda e: _document(e) is not None and _all_gone(e, "guest"), HIGH, POWER_CYCLE,
        "{name} has an OVF environment in its guest that contains none of its properties."),
    Row("7j", "not_delivered", "no_properties_delivered",
        lambda e: (_unseen(e) or _own_by_code(e)) and e.extracted.state == "ok" and _all_gone(e, "delivered")
        and _origin(e) == "vcenter", MEDIUM, POWER_CYCLE,
        "{name} received an OVF environment that contains none of its properties, according to vCenter."),
    Row("8a", "delivered_injected", "injected",
        lambda e: _injected(e) and _document(e) is not None, HIGH, NONE,
        "{name} has an OVF environment that was injected without vCenter; vCenter might deliver a different one."),
    Row("8b", "delivered_injected", "injected",
        _injected, MEDIUM, NONE,
        "{name} has an OVF environment without the mark of a vCenter, so it was injected without vCenter. Its content "
        "was not examined, so its values may be missing or not readable."),
    Row("9a", "stale", "changed_since_power_on",
        _differs, HIGH, POWER_CYCLE,
        "{name} has an older OVF environment in its guest than vCenter would deliver: {guest_keys}."),
    # Without a probe, only a power-on through vCenter shows that the document from vCenter is the delivered one.
    Row("9b", "stale", "changed_since_power_on",
        lambda e: (_unseen(e) or _own_by_code(e)) and _extract_differs(e) and _origin(e) == "vcenter",
        HIGH, POWER_CYCLE,
        "{name} received an older OVF environment than vCenter would deliver now: {extract_keys}."),
    Row("9c", "stale", "changed_since_power_on",
        lambda e: _changed(e) and (
            (e.power_on.origin == "vcenter" and _unseen(e))
            or (_origin(e) == "vcenter" and e.guest.state == "no_value")
            or _own_by_code(e) or _lacks_secrets_only(e)),
        MEDIUM, POWER_CYCLE,
        "The vApp options of {name} were changed{changed}, after its power-on, and a guest receives them only at "
        "power-on."),
    Row("9d", "stale", "changed_since_power_on",
        lambda e: ((_unseen(e) and _origin(e) == "unknown") or _own_by_code(e)) and _extract_differs(e)
        and not _all_gone(e, "delivered"),
        LOW, POWER_CYCLE,
        "{name} seems to have an older OVF environment than vCenter would deliver now: {extract_keys}."),
    Row("10", "delivered", None,
        lambda e: _document(e) is not None and _id_owner(e) == "own", HIGH, NONE,
        "{name} has the OVF environment that vCenter delivers."),
    Row("11", "delivered", None,
        _own_by_code, MEDIUM, NONE,
        "{name} has an OVF environment with its own ID in its guest. Its content was not examined, so its values may "
        "be outdated or not readable."),
    Row("12a", "delivered", "foreign_id",
        lambda e: _document(e) is not None and _id_owner(e) == "other", MEDIUM, POWER_CYCLE,
        "{name} has the right OVF environment with another VM's ID: it was registered again, came from another "
        "vCenter, or holds a copy. A power cycle through vCenter, when convenient, corrects this."),
    Row("12b", "delivered", "foreign_id",
        lambda e: _id_owner(e) == "other" and _code_only(e), LOW, POWER_CYCLE,
        "{name} has an OVF environment with another VM's ID in its guest. Its values were not compared. Probe it with "
        "guest_probe=full before you change anything."),
    # After a start by the host, the image in the drive may be from an earlier power-on.
    Row("13a", "delivered_iso", None,
        lambda e: _iso(e) and _image_connected(e) and _origin(e) == "vcenter", HIGH, NONE,
        "{name} has its OVF environment in its CD-ROM drive."),
    Row("13b", "delivered_iso", None,
        lambda e: _iso(e) and _image_connected(e) and _origin(e) not in origin.HOST_ORIGINS, MEDIUM, NONE,
        "{name} has an OVF environment in its CD-ROM drive, which may be that of an earlier power-on."),
    Row("13c", "not_delivered", "no_cdrom",
        lambda e: _iso_only(e) and not e.iso.cdrom_present, HIGH, ADD_CDROM,
        "The OVF environment of {name} is delivered by CD-ROM, and the VM has no CD-ROM drive. Add a drive. The next "
        "power-on through vCenter delivers."),
    # Somebody may have disconnected it after the guest had read it.
    Row("13d", "not_delivered", "iso_not_connected",
        lambda e: _iso_only(e) and _origin(e) not in origin.HOST_ORIGINS, MEDIUM, POWER_CYCLE,
        "The OVF environment of {name} is delivered by CD-ROM, and its drive has no connected image of it."),
    Row("15", "lost", "powered_on_from_esxi",
        lambda e: e.guest.state == "no_value" and not _iso_only(e) and _origin(e) == "esxi_direct", HIGH, POWER_CYCLE,
        "{name} lost its OVF environment: it was powered on from ESXi directly{when}{by}."),
    # The guest's answer does not cover the CD-ROM. vCenter creates the image when it powers the VM on.
    Row("15b", "lost", "powered_on_from_esxi",
        lambda e: _iso_only(e) and e.guest.state != "xml" and _origin(e) == "esxi_direct", MEDIUM, POWER_CYCLE,
        "{name} lost its OVF environment, which is delivered by CD-ROM: it was powered on from ESXi "
        "directly{when}{by}, and {image}."),
    Row("16", "lost", "ha_restart",
        lambda e: e.guest.state == "no_value" and not _iso_only(e) and _origin(e) == "ha_restart", HIGH, POWER_CYCLE,
        "{name} lost its OVF environment: vSphere HA restarted it{when}{on}."),
    Row("16b", "lost", "ha_restart",
        lambda e: _iso_only(e) and e.guest.state != "xml" and _origin(e) == "ha_restart", MEDIUM, POWER_CYCLE,
        "{name} lost its OVF environment, which is delivered by CD-ROM: vSphere HA restarted it{when}{on}, and "
        "{image}."),
    # It is certain that the document is missing, but not who started the VM.
    Row("17", "lost", "host_start_unknown",
        lambda e: e.guest.state == "no_value" and _guestinfo(e) and _origin(e) in ("unknown", "host_system"),
        HIGH, POWER_CYCLE,
        "{name} has no OVF environment in its guest. It is not known who powered it on{when}, but most likely it was "
        "not vCenter."),
    Row("18a", "lost_suspected", "esxi_direct",
        lambda e: _unseen(e) and _origin(e) == "esxi_direct", MEDIUM, POWER_CYCLE,
        "{name} has probably lost its OVF environment: it was powered on from ESXi directly{when}{by}. Probe the "
        "guest before you power-cycle it."),
    Row("18b", "lost_suspected", "ha_restart",
        lambda e: _unseen(e) and _origin(e) == "ha_restart", MEDIUM, POWER_CYCLE,
        "{name} has probably lost its OVF environment: vSphere HA restarted it{when}{on}. Probe the guest before you "
        "power-cycle it."),
    # Autostart and a recovered host bypass vCenter as well, but there is no public report of either.
    Row("18c", "lost_suspected", "host_system",
        lambda e: (_unseen(e) or _iso_only(e)) and _origin(e) == "host_system", LOW, POWER_CYCLE,
        "{name} may have lost its OVF environment: its ESXi host started it{when}, not vCenter. Probe the guest "
        "before you power-cycle it."),
    Row("19", "delivered_assumed", None,
        lambda e: _unseen(e) and _origin(e) == "vcenter", LOW, NONE,
        "{name} was powered on through vCenter{when}, which delivers the OVF environment. This was not verified "
        "in the guest{why}."),
    # Also if vCenter returns nothing: its power-on alone contradicts what the guest reports.
    Row("20", "contradictory", None,
        lambda e: e.guest.state == "no_value" and _origin(e) == "vcenter", LOW, POWER_CYCLE,
        "{name} was powered on through vCenter{when}, yet its guest has no OVF environment. "
        "Check VMware Tools and the guest_rpc settings first."),
    Row("21", "unknown", "guest_rpc_denied",
        _reading_denied, HIGH, FIX_GUEST_RPC, "{name}" + _READING_DENIED),
    Row("21a", "unknown", "tools_not_running",
        lambda e: e.guest.state == "tools_not_running", LOW, START_TOOLS,
        "VMware Tools is not running in {name}, so its guest could not be probed."),
    Row("21b", "unknown", "ops_not_ready",
        lambda e: e.guest.state == "ops_not_ready", LOW, START_TOOLS,
        "The guest of {name} does not accept guest operations, so it could not be probed."),
    Row("21c", "unknown", "no_permission",
        lambda e: e.guest.state == "no_permission", LOW, GRANT_PRIVILEGE,
        "The user may not run programs in the guest of {name}. Grant VirtualMachine.GuestOperations.Execute, Query "
        "and, for guest_probe=full, Modify."),
    Row("21d", "unknown", "login_failed",
        lambda e: e.guest.state == "login_failed", LOW, NONE,
        "The guest of {name} refused the login. Check guest_username and guest_password for it."),
    Row("21e", "unknown", "tool_missing",
        lambda e: e.guest.state == "tool_missing", LOW, START_TOOLS,
        "Neither vmware-rpctool nor vmtoolsd was found in the guest of {name}. Install VMware Tools."),
    Row("21f", "unknown", "non_xml",
        lambda e: e.guest.state == "non_xml", LOW, ASK_VENDOR,
        "In the guest of {name}, the place of the OVF environment holds a text that is not XML. Somebody wrote it "
        "there."),
    Row("21g", "unknown", "unreadable_document",
        lambda e: e.guest.state == "xml", LOW, ASK_VENDOR,
        "{name} has an OVF environment in its guest that cannot be read{why}. vCenter does not write such documents."),
    Row("21h", "unknown", "erased_or_never_delivered",
        lambda e: e.guest.state == "cleared", LOW, NONE,
        "{name} has an erased OVF environment in its guest, and it is not known whether one was delivered before."),
    Row("21i", "unknown", "guest_error",
        lambda e: e.guest.state == "error", LOW, NONE,
        "The guest of {name} could not be probed{why}."),
    Row("21j", "unknown", "no_permission",
        lambda e: e.power_on.reason == "no_permission", LOW, GRANT_PRIVILEGE,
        "The user may not read the events of {name}, and its guest was not probed. Grant System.View on it."),
    Row("21k", "unknown", "events_aged_out",
        lambda e: e.power_on.reason == "events_aged_out", LOW, NONE,
        "No event{since} shows who powered on {name}. It may have been running for longer (event_lookback), or "
        "vCenter deleted the events or never received them. Probe its guest (guest_probe)."),
    Row("21l", "unknown", "host_was_disconnected",
        lambda e: e.power_on.reason == "host_was_disconnected", LOW, NONE,
        "{name} was powered on while vCenter had no connection to its ESXi host. Probe its guest (guest_probe)."),
    Row("21m", "unknown", "no_task",
        lambda e: e.power_on.reason == "no_task" or _only_the_user_speaks_for_vcenter(e), LOW, NONE,
        "{name} was powered on{when}{by}, and vCenter has no task for it. Either vCenter powered it on, or its ESXi "
        "host did, which may have the same user, or was restarted or added again. Probe its guest (guest_probe)."),
    Row("21n", "unknown", "no_evidence",
        lambda e: True, LOW, NONE,
        "It is not known who powered on {name}, and its guest was not probed. Probe it (guest_probe)."),
)  # fmt: skip
"""The first row that applies is the verdict."""

STATUSES = (*dict.fromkeys(row.status for row in ROWS if row.status != "unknown"), "unknown")
"""Every status, in the order of the table."""

URGENCY = (
    "lost",
    "config_lost",
    "not_delivered",
    "not_deliverable",
    "lost_suspected",
    "stale",
    "contradictory",
    "unknown",
    "delivered_assumed",
    "delivered_injected",
    "delivered_iso",
    "delivered",
    "cleared",
    "inherited",
    "not_running",
    "not_configured",
    "not_applicable",
    "nothing_to_deliver",
)
"""Every status, the most urgent first. Add a new one at the end, since users compare ``rank`` with numbers."""


def judge(evidence: Evidence) -> Diagnosis:
    """Return the verdict on one VM; never raises."""
    row = next(row for row in ROWS if row.applies(evidence))
    # A power cycle certainly destroys the memory state of a fork child.
    remedy = NONE if row.remedy == POWER_CYCLE and _fork(evidence) else row.remedy
    consequence = _impact(row, evidence)
    return Diagnosis(
        status=row.status,
        cause=row.cause,
        confidence=row.confidence,
        evidence=tuple(_statements(evidence)),
        message=row.message.format(**_words(evidence)),
        remedy=remedy,
        remedy_risks=tuple(_risks(row, remedy, evidence)),
        impact=consequence.text,
        act=consequence.act,
        warnings=tuple(_warnings(row, evidence)),
        row=row.number,
    )


def lacks_nothing(diagnosis: Diagnosis) -> bool:
    """Return whether the guest has its OVF environment, or there is nothing to deliver to it."""
    return diagnosis.status.startswith("delivered") or diagnosis.status == "nothing_to_deliver"


def needs_power_cycle(diagnosis: Diagnosis) -> bool:
    """Return whether the guest lacks its OVF environment until a power cycle through vCenter.

    A status that begins with ``delivered`` does not need one, although it may be recommended when convenient.
    """
    return diagnosis.remedy == POWER_CYCLE and not diagnosis.status.startswith("delivered")


def facts(diagnosis: Diagnosis) -> dict[str, t.Any]:
    """Return the ``diagnosis`` return value."""
    return {
        "status": diagnosis.status,
        "rank": URGENCY.index(diagnosis.status) + 1,
        "cause": diagnosis.cause,
        "confidence": diagnosis.confidence,
        "evidence": list(diagnosis.evidence),
        "message": diagnosis.message,
        "remedy": diagnosis.remedy,
        "remedy_risks": list(diagnosis.remedy_risks),
        "impact": diagnosis.impact,
        "act": diagnosis.act,
        "act_now": diagnosis.act == "now",
        "needs_power_cycle": needs_power_cycle(diagnosis),
        "warnings": list(diagnosis.warnings),
    }


# --- messages -------------------------------------------------------------------------------------------------------


def _words(e: Evidence) -> dict[str, str]:
    """Return the placeholders of the messages; all except the name are empty if they are not known."""
    power_on = e.power_on
    why = e.guest.error or (e.guest.document.parse_error if e.guest.document else None)
    return {
        "name": e.name,
        "transport": _transport(e),
        "image": (
            "the image in its drive is from an earlier power-on"
            if _image_connected(e)
            else "its drive has no connected image from vCenter"
        ),
        "required": listed([prop.key for prop in e.configured.required_empty]),
        "lacking": listed(e.lacking_pools or ()),
        "connection": e.connection_state,
        "other": e.document_of or "",
        "since": f" since {_time(power_on.read_since)}" if power_on.read_since else "",
        "when": f" at {_time(power_on.time)}" if power_on.time else "",
        "by": f" by {power_on.user}" if power_on.user else "",
        "on": f" on {power_on.host}" if power_on.host else "",
        "changed": f" at {_time(power_on.reconfigured[-1].time)}" if power_on.reconfigured else "",
        "guest_keys": _keys(_differing(e, "guest")),
        "extract_keys": _keys(_differing(e, "delivered")),
        "why": f" ({why.rstrip('.')})" if why else "",
    }


def _transport(e: Evidence) -> str:
    foreign = e.configured.foreign_transports
    return f"only the {_transports(foreign)}, which vCenter does not support" if foreign else "no transport"


def _transports(names: t.Sequence[str]) -> str:
    return f"transport{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _time(when: datetime.datetime) -> str:
    aware = when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)
    return f"{aware.astimezone(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"


def _keys(differing: t.Sequence[Difference], shown: int = 3) -> str:
    """Return a clause such as ``a, b, c and 2 more differ``."""
    names = [difference.key for difference in differing]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more} {'differs' if len(names) == 1 else 'differ'}"


_EXTRACT = {
    "ok": "vCenter returns a document",
    "empty": "vCenter returns no document",
    "not_running": "not available, the VM is not running",
    "no_permission": "not available, the user lacks VApp.ExtractOvfEnvironment",
    "unsupported": "not available, the server does not support it",
    "error": "not available",
}

_GUEST = {
    "xml": "has a document",
    "no_value": 'VMware Tools says "No value found"',
    "cleared": "the document is erased",
    "non_xml": "has text that is not XML",
    "permission_denied": 'VMware Tools says "Permission denied"',
    "not_asked": "not asked",
}

_UNREAD = {"tasks": "vCenter's tasks", "changes": "changes of VMs, and so of their vApp options,"}

_ID_OWNERS = {"own": "with this VM's ID", "other": "with another VM's ID", "none": "without the ID of a VM"}


def _statements(e: Evidence) -> t.Iterator[str]:
    """Yield the known facts, each with its source."""
    if not e.is_vcenter:
        yield "inventory: connected to an ESXi host"
    if e.is_template:
        yield "inventory: is a template"
    if e.is_ft_secondary:
        yield "inventory: is a Fault Tolerance secondary"
    yield f"inventory: {e.connection_state or 'connection not readable'}, {e.power_state or 'power state not readable'}"
    if _fork(e):
        source = "inventory" if e.power_on.cloned_from is None else "events"
        yield f"{source}: created by a fork{' of ' + e.forked_from if e.forked_from else ''}"
    if _anothers(e):
        yield f"guest: the document lists the network adapters of {e.document_of}, and none of this VM's"
    if e.config_read:
        yield from _configured_statements(e)
    else:
        yield "configured: not readable"
    if e.extracted.state != "not_asked":
        note = ""
        if e.extracted.document is not None and e.extracted.document.parse_error:
            note = f" that cannot be read ({e.extracted.document.parse_error})"
        elif e.extracted.state == "ok" and (differing := _differing(e, "delivered")):
            note = f" in which {_keys(differing)} from the configured values"
        elif e.extracted.error:
            note = f" ({e.extracted.error})"
        yield f"extract: {_EXTRACT.get(e.extracted.state, e.extracted.state)}{note}"
    if _iso(e) or e.iso.backing:
        drive = "a" if e.iso.cdrom_present else "no"
        image = f" with {e.iso.backing}, {'' if e.iso.connected else 'not '}connected" if e.iso.backing else ""
        yield f"iso: has {drive} CD-ROM drive{image}"
    yield _guest_statement(e)
    yield _events_statement(e)
    for unread in e.power_on.unread:
        yield f"events: {_UNREAD[unread]} could not be read"
    for change in e.power_on.reconfigured[-1:]:
        yield f"events: vApp options changed at {_time(change.time)}{' by ' + change.user if change.user else ''}"
    yield from bypassed.statements(e)


def _configured_statements(e: Evidence) -> t.Iterator[str]:
    if not e.configured.enabled:
        yield "configured: no vApp options"
        if e.listed_before:
            yield "configured: an earlier report or a backup has vApp options of it"
        return
    properties = e.configured.properties
    counted = _printable.count(len(properties), "property", "properties")
    yield f"configured: {counted}, transports: {', '.join(e.configured.transports) or 'none'}"
    if foreign := e.configured.foreign_transports:
        yield (
            f"configured: vCenter delivers only through com.vmware.guestInfo and iso, not through {', '.join(foreign)}"
        )
    if any(len(transport_names(entry)) > 1 for entry in e.configured.transports):
        yield "configured: one transport entry contains several transports, which are read separately"
    if unset := _unset(e):
        yield f"configured: {unset}"
    if required := e.configured.required_empty:
        yield f"configured: required properties without a value: {listed([prop.key for prop in required])}"
    if e.lacking_pools:
        yield f"ip pools: vCenter cannot compute {listed(e.lacking_pools)}"
    if e.lacking_pools is None:
        yield "ip pools: not readable, but needed at power-on"
    if e.rpc_denied:
        yield (
            "configured: guest_rpc.rpci.auth.cmd.info-get restricts which users can read the OVF environment in the "
            "guest"
        )
    if e.configured.values_computed is not None:
        filled = "filled, which vCenter does at power-on" if e.configured.values_computed else "empty"
        yield f"computed values: the values of expressions are {filled}"


def _unset(e: Evidence) -> str:
    """Return a clause if no property was given a value at deployment, else an empty string."""
    offered = [
        prop for prop in e.configured.properties if prop.user_configurable and prop.source in ("value", "default")
    ]
    if not offered or any(prop.source == "value" for prop in offered):
        return ""
    passwords = any(prop.source == "unknown" for prop in e.configured.properties)
    return (
        "no user-configurable property has a value"
        + (", apart from defaults" if any(prop.default for prop in offered) else "")
        + (" (the values of passwords are not known)" if passwords else "")
    )


def _guest_statement(e: Evidence) -> str:
    guest = e.guest
    state = _GUEST.get(guest.state, guest.state.replace("_", " "))
    owner = _ID_OWNERS.get(_id_owner(e) or "", "")
    how = [part for part in (guest.tool, guest.method and f"guest_probe={guest.method}") if part]
    if guest.exit_code is not None:
        how.append(f"exit code {guest.exit_code}")
    differs = f", in which {_keys(_differing(e, 'guest'))} from the configured values" if _differs(e) else ""
    return f"guest: {state}{' ' + owner if owner else ''}{differs}{' (' + ', '.join(how) + ')' if how else ''}" + (
        f": {guest.error}" if guest.error else ""
    )


def _events_statement(e: Evidence) -> str:
    power_on, words = e.power_on, _words(e)
    if power_on.event_type is None and power_on.time is None:
        return f"events: no power-on found{' (' + power_on.reason + ')' if power_on.reason else ''}"
    return (
        f"events: {power_on.event_type or 'power-on'}{words['when']}{words['by']}{words['on']}"
        f", origin {power_on.origin} ({power_on.confidence} confidence)"
    )


_WITHOUT_THE_GUEST = (
    "lost",
    "lost_suspected",
    "not_delivered",
    "stale",
    "inherited",
    "delivered_iso",
    "delivered_assumed",
)
"""Verdicts that are based on vCenter's own data, so a failed probe is only a warning."""


def _warnings(row: Row, e: Evidence) -> t.Iterator[str]:
    found = e.guest.document
    if _id_owner(e) == "other" and not _fork(e):
        whose = f" ({found.vcenter_id})" if found is not None else ""
        yield f"foreign_id: the guest's document contains another VM's ID{whose}, not {e.moid}."
    if row.status == "delivered_iso" and _guestinfo(e):
        yield (
            "The OVF environment was seen only on the CD-ROM. A program that asks VMware Tools for it may get nothing."
        )
    if (foreign := e.configured.foreign_transports) and e.configured.delivers_by:
        yield (
            f"The {_transports(foreign)} {'are' if len(foreign) > 1 else 'is'} unknown to vCenter, which delivers only "
            "through com.vmware.guestInfo and iso."
        )
    if row.number == "10" and _changed(e):
        yield (
            "The vApp options were changed after the power-on. Passwords cannot be compared and may be outdated in "
            "the guest."
        )
    if _not_asked(e) and e.guest.error:
        yield e.guest.error
    if row.status in _WITHOUT_THE_GUEST and _reading_denied(e):
        yield f"{e.name}{_READING_DENIED}"
    elif row.status in _WITHOUT_THE_GUEST and _unseen(e) and not _not_asked(e):
        yield e.guest.error or f"The guest could not be probed: {e.guest.state.replace('_', ' ')}."
    if row.status == "inherited" and e.extracted.document is not None and e.extracted.document.vcenter_id == e.moid:
        yield "vCenter returns a document with this VM's own ID, but it was not verified that it reached the guest."
    if (unset := _unset(e)) and row.status in _TROUBLED:
        yield f"{unset[0].upper()}{unset[1:]}, so little may be missing in the guest."
    if found is not None and found.skipped_keys:
        yield f"The guest's document has malformed properties that were skipped: {_skipped(e, found)}."
    if found is not None and found.duplicate_keys:
        yield f"The guest's document has keys twice: {', '.join(found.duplicate_keys)}."


def _skipped(e: Evidence, found: Document) -> str:
    """Name the skipped keys that the vApp options have; anything else may be part of a value."""
    known = {prop.key.casefold(): prop.key for prop in e.configured.properties}
    names = [known[key.casefold()] for key in found.skipped_keys if key is not None and key.casefold() in known]
    others = len(found.skipped_keys) - len(names)
    return ", ".join([*dict.fromkeys(names), *([f"{others} without a known key"] if others else [])])


_ADDRESS = re.compile(r"\b(ip|addr|gateway|netmask|prefix|dns|cidr|route)", re.IGNORECASE)


def _risks(row: Row, remedy: str, e: Evidence) -> t.Iterator[str]:
    """Yield the risks of a power cycle, including one that a remedy needs later to take effect."""
    if remedy not in (POWER_CYCLE, SET_TRANSPORT, ADD_CDROM):
        return
    if remedy != POWER_CYCLE:
        yield "This takes effect at the next power-on through vCenter. A running guest receives nothing until then."
    properties = e.configured.properties
    if required := e.configured.required_empty:
        yield (
            "vCenter refuses to power on the VM while required properties have no value: "
            f"{listed([prop.key for prop in required])}."
        )
    computed = [
        prop.key for prop in properties if prop.source == "computed" or prop.type.startswith(("expression", "ip:"))
    ]
    if computed:
        yield (
            f"vCenter computes {listed(computed)} at power-on. If it cannot (no IP pool for the network, no free "
            "address), the VM does not start, although it did on its ESXi host."
        )
    if addresses := [
        prop.key for prop in properties if prop.type.startswith("ip") or _ADDRESS.search(in_words(prop.key))
    ]:
        yield (
            f"An appliance that applies its values at every boot configures its network from {listed(addresses)}. "
            "Compare them with what it uses now."
        )
    elif properties:
        yield "An appliance that applies its values at every boot will apply the configured ones. Compare them first."
    if remedy == POWER_CYCLE and not _fork(e):
        if _unseen(e):
            yield "The guest was not probed. Probe it first, because it may lack nothing."
        if _id_owner(e) == "other":
            yield (
                "A fork or an Instant Clone created by another tool also holds its parent's document, and a power "
                "cycle destroys its memory state. Make sure that the VM is not one."
            )
        elif not came_up_by_power_on(e):
            yield (
                "A fork or an Instant Clone created by another tool may look the same, and a power cycle destroys its "
                "memory state. Make sure that the VM is not one."
            )


# --- impact ---------------------------------------------------------------------------------------------------------

_MISSING = ("lost", "not_delivered", "not_deliverable")
"""Verdicts whose guest lacks the document; with high confidence, that is certain."""

_TROUBLED = (*_MISSING, "config_lost", "stale", "lost_suspected", "contradictory")


def _impact(row: Row, e: Evidence) -> impact.Impact:
    if row.status == "unknown" or row.cause == "foreign_id":
        return impact.Impact("Not known until its guest is probed.", "decide")
    if row.cause == "required_values_empty":
        return impact.Impact(
            "It cannot be powered on through vCenter until the required properties have values.", "before_next_boot"
        )
    if row.cause == "no_ip_pool":
        return impact.Impact("vCenter may refuse to power it on until it has an IP pool.", "before_next_boot")
    if row.status not in _TROUBLED:
        return impact.Impact("None.", "never")
    found = impact.of(e.configured.products)
    if found.act == "never":
        return found
    if row.status == "config_lost" or (row.status == "not_deliverable" and (_holds(e) or e.power_state != "poweredOn")):
        return impact.AHEAD
    # If it is not certain, it is not known whether the guest runs without the document.
    return found if row.status in _MISSING and row.confidence == HIGH else impact.Impact(found.text, "decide")
