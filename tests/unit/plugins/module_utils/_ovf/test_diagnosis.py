# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdicts: every row of the table, the rules below it, and invariants for any evidence."""

from __future__ import annotations

import datetime
import itertools
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim
from unit.examples import examples

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured as configuration
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis, differences
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import document as reader
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured, Product, Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import (
    Difference,
    Evidence,
    Extracted,
    GuestView,
    Iso,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import Event, PowerOn

PLAYBOOKS = Path(__file__).parents[5] / "playbooks"
MOID = "vm-42"
PARENT = "vm-7"
BOOT = datetime.datetime(2026, 11, 21, 3, 12, tzinfo=datetime.timezone.utc)
SECRET = "not-to-be-shown-0123456789"


def prop(key: str, value: str = "x", type: str = "string", **kw: Any) -> Property:
    known: dict[str, Any] = {"source": "value", "secret": False, "comparable": True, "default": "", "set": True, **kw}
    return Property(key, key, "", "", type, "", "", known["set"], value, known["default"], value, known["source"],
                    known["secret"], known["comparable"])  # fmt: skip


def configured(*transports: str, products: tuple[str, ...] = (), **kw: Any) -> Configured:
    return Configured(
        enabled=True,
        transports=transports,
        products=tuple(Product(1, "", "", name, "", "", "") for name in products),
        properties=kw.pop("properties", (prop("hostname"), prop("password", type="password", secret=True))),
        **kw,
    )


def event(type: str = "VmReconfiguredEvent", minutes: int = 60, **kw: Any) -> Event:
    return Event(1, type, BOOT + datetime.timedelta(minutes=minutes), "jane", 1, MOID, "esx-1", **kw)


def power_on(origin: str, *changes: Event, **kw: Any) -> PowerOn:
    return PowerOn(
        origin,
        "high",
        user="root",
        host="esx-1",
        event_type="VmPoweredOnEvent",
        time=BOOT,
        reconfigured=changes,
        **kw,
    )


def document(vcenter_id: str | None = MOID, **kw: Any) -> Document:
    return Document(origin="vcenter" if vcenter_id else "injected", vcenter_id=vcenter_id, **kw)


def full(vcenter_id: str | None = MOID, **kw: Any) -> GuestView:
    return GuestView("xml", "full", "/usr/bin/vmware-rpctool", 0, document=document(vcenter_id, **kw))


def code(owner: str) -> GuestView:
    return GuestView("xml", "exit_code", None, 0, bears_id=owner)


def guest(state: str) -> GuestView:
    return GuestView(state, "exit_code")


UNASKED = GuestView()
NO_VALUE = guest("no_value")
CLEARED = guest("cleared")

GUESTINFO = configured("com.vmware.guestInfo")
ISO = configured("iso")
BOTH = configured("com.vmware.guestInfo", "iso")
OFF = Configured()
EMPTY = configured("com.vmware.guestInfo", properties=())
BUILD = (prop("BUILD_DATE", "", default="2026", source="default", set=False), prop("os_version", set=False))
FIXED = (prop("role", set=False),)
UNSET = configured("com.vmware.guestInfo", properties=(prop("hostname", "", source="default"),))
IN_DRIVE = Iso(True, "[ds] web-03/_ovfenv-web-03.iso", True)

FROM_VCENTER = power_on("vcenter")
FROM_ESXI = power_on("esxi_direct")
FROM_HA = power_on("ha_restart")
FROM_HOST = power_on("host_system")
NOBODY_KNOWS = PowerOn(reason="events_aged_out")
CHANGED_LATER = power_on("vcenter", event(changes_vapp=True))

RETURNED = Extracted("ok", document(), "<Environment/>")
NOTHING_RETURNED = Extracted("empty")

INJECTED = full(None, properties={"hostname": "old"})
THREE = configured("com.vmware.guestInfo", properties=(*GUESTINFO.properties, prop("ip0")))
VPXUSER = replace(power_on("vcenter"), confidence="medium", user="vpxuser")

LACKING = ("gateway (network Lab has no IP pool)",)

CHANGED_IN_GUEST = Difference("hostname", "changed", False, True, "new", "old", "old")
CHANGED_IN_EXTRACT = Difference("hostname", "changed", False, True, "new", "old", None)
SECRET_GONE = Difference("password", "missing", True, False, None, None, None)
HOSTNAME_GONE = Difference("hostname", "missing", False, True, "x", None, None)
TOKEN_GONE = Difference("api_token", "missing", True, True, SECRET, None, None)
EXTRA = Difference("mine", "extra", False, False, None, None, "x")
OTHER_PASSWORD = Difference("password", "changed", True, False, SECRET, None, SECRET + "!")
OTHER_CASE = Difference("Hostname", "case", False, True, "x", None, "x")


def vm(**kw: Any) -> Evidence:
    return replace(Evidence("web-03", MOID, configured=GUESTINFO, power_on=FROM_VCENTER), **kw)


# The row that must match, status, cause, confidence, remedy; then the evidence.
TABLE: list[tuple[str, str, str | None, str, str, Evidence]] = [
    ("1a", "not_applicable", "connected_to_esxi", "high", "none", vm(is_vcenter=False)),
    ("1b", "not_applicable", "template", "high", "none", vm(is_template=True, power_state="poweredOff")),
    ("1c", "not_applicable", "not_connected", "high", "none", vm(connection_state="disconnected")),
    ("1c", "not_applicable", "not_connected", "high", "none", vm(connection_state="inaccessible", configured=OFF)),
    ("1c", "not_applicable", "not_connected", "high", "none", vm(connection_state="orphaned")),
    ("1d", "not_applicable", "fault_tolerance_secondary", "high", "none", vm(is_ft_secondary=True)),
    ("1c", "not_applicable", "not_connected", "high", "none",
     vm(connection_state="disconnected", configured=OFF, config_read=False)),
    ("1e", "unknown", "no_permission", "low", "grant_privilege", vm(connection_state="")),
    ("1e", "unknown", "no_permission", "low", "grant_privilege", vm(power_state="")),
    ("1e", "unknown", "no_permission", "low", "grant_privilege", vm(configured=OFF, config_read=False)),
    ("2a", "config_lost", "vapp_config_gone", "high", "enable_vapp", vm(configured=OFF, guest=full())),
    ("2a", "config_lost", "vapp_config_gone", "high", "enable_vapp", vm(configured=OFF, guest=full("vm-999"))),
    ("2b", "config_lost", "vapp_config_gone", "medium", "enable_vapp", vm(configured=OFF, guest=code("own"))),
    ("2b", "config_lost", "vapp_config_gone", "medium", "enable_vapp",
     vm(configured=OFF, guest=full(parse_error="it breaks off", truncated=True))),
    ("2c", "config_lost", "vapp_config_gone", "medium", "enable_vapp", vm(configured=OFF, listed_before=True)),
    ("3", "not_configured", "vapp_disabled", "high", "enable_vapp", vm(configured=OFF)),
    ("3", "not_configured", "vapp_disabled", "high", "enable_vapp", vm(configured=OFF, guest=NO_VALUE)),
    ("3", "not_configured", "vapp_disabled", "high", "enable_vapp", vm(configured=OFF, power_state="poweredOff")),
    ("3b", "config_lost", "properties_gone", "high", "enable_vapp",
     vm(configured=EMPTY, guest=full(properties={"hostname": "x"}))),
    ("3c", "nothing_to_deliver", "no_properties", "high", "none", vm(configured=EMPTY)),
    ("3c", "nothing_to_deliver", "no_properties", "high", "none", vm(configured=EMPTY, guest=NO_VALUE)),
    ("3c", "nothing_to_deliver", "no_properties", "high", "none", vm(configured=EMPTY, guest=full())),
    ("3c", "nothing_to_deliver", "no_properties", "high", "none",
     vm(configured=configured(properties=()), power_on=FROM_HA)),
    ("3c", "nothing_to_deliver", "no_properties", "high", "none", vm(configured=EMPTY, power_state="poweredOff")),
    ("3c", "nothing_to_deliver", "no_properties", "high", "none", vm(configured=EMPTY, guest=full(None))),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=replace(EMPTY, vapp_properties=2), power_on=FROM_HA)),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=replace(EMPTY, vapp_properties=None), power_on=FROM_HA)),
    ("3d", "nothing_to_deliver", "build_metadata", "high", "none",
     vm(configured=configured("com.vmware.guestInfo", properties=BUILD), power_on=FROM_HA)),
    ("3d", "nothing_to_deliver", "build_metadata", "high", "none", vm(configured=configured(properties=BUILD))),
    ("3e", "nothing_to_deliver", "nothing_configurable", "high", "none", vm(configured=configured(properties=FIXED))),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=configured("com.vmware.guestInfo", properties=FIXED), power_on=FROM_HA)),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=configured("iso,com.vmware.guestInfo"), iso=Iso(True), power_on=FROM_HA)),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=configured("COM.VMWARE.GUESTINFO"), power_on=FROM_HA)),
    ("4a", "not_deliverable", "no_transport", "high", "set_transport", vm(configured=configured(), guest=full())),
    ("4a", "not_deliverable", "no_transport", "high", "set_transport", vm(configured=configured(), guest=code("own"))),
    ("4b", "not_deliverable", "no_transport", "high", "set_transport", vm(configured=configured())),
    ("4b", "not_deliverable", "no_transport", "high", "set_transport", vm(configured=configured("smoke signals"))),
    ("5a", "not_running", "suspended", "high", "none", vm(power_state="suspended")),
    ("5b", "not_running", "required_values_empty", "high", "none",
     vm(power_state="poweredOff", configured=configured("iso", properties=(prop("ip0", "", "ip", source="default"),)))),
    ("5b", "not_running", "required_values_empty", "high", "none",
     vm(power_state="poweredOff", configured=configured("iso", properties=(prop("ip0", "", "ip", source="default"),)),
        lacking_pools=LACKING)),
    # vCenter refuses the power-on whatever it would deliver.
    ("5b", "not_running", "required_values_empty", "high", "none",
     vm(power_state="poweredOff", configured=configured(properties=(prop("ip0", "", "ip", source="default"),)))),
    ("5b", "not_running", "required_values_empty", "high", "none",
     vm(power_state="poweredOff",
        configured=configured(properties=(prop("ip0", "", "ip", source="default", set=False),)))),
    ("5c", "not_running", "no_ip_pool", "medium", "none",
     vm(power_state="poweredOff", configured=configured(), lacking_pools=LACKING)),
    ("5c", "not_running", "no_ip_pool", "medium", "none", vm(power_state="poweredOff", lacking_pools=LACKING)),
    ("5a", "not_running", "suspended", "high", "none", vm(power_state="suspended", lacking_pools=LACKING)),
    ("5d", "not_running", "powered_off", "high", "none", vm(power_state="poweredOff")),
    ("5d", "not_running", "powered_off", "high", "none", vm(power_state="poweredOff", lacking_pools=None)),
    ("6a", "inherited", "fork_child", "high", "none", vm(forked_from=PARENT, guest=full(PARENT))),
    ("6a", "inherited", "fork_child", "high", "none", vm(forked_from=PARENT, guest=code("other"))),
    ("6a", "inherited", "fork_child", "high", "none", vm(forked_from="", guest=full(None))),
    ("6a", "inherited", "fork_child", "high", "none", vm(forked_from=PARENT, guest=full(PARENT), configured=OFF)),
    ("6a", "inherited", "fork_child", "high", "none",
     vm(forked_from=PARENT, guest=full(PARENT), differences=(CHANGED_IN_GUEST,))),
    ("6b", "inherited", "fork_child", "medium", "none", vm(forked_from="")),
    ("6b", "inherited", "fork_child", "medium", "none", vm(forked_from=PARENT, guest=guest("login_failed"))),
    ("6b", "inherited", "fork_child", "medium", "none",
     vm(forked_from=PARENT, guest=guest("permission_denied"), extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,))),
    ("6c", "not_delivered", "fork_child", "high", "none", vm(forked_from=PARENT, guest=NO_VALUE)),
    ("6b", "inherited", "fork_child", "medium", "none",
     vm(forked_from=PARENT, power_on=PowerOn(reason="instant_clone", cloned_from=PARENT))),
    ("6d", "inherited", "fork_child", "medium", "none", vm(document_of=PARENT, guest=full(PARENT))),
    ("6d", "inherited", "fork_child", "medium", "none",
     vm(document_of=PARENT, guest=full(PARENT), differences=(CHANGED_IN_GUEST,))),
    ("6d", "inherited", "fork_child", "medium", "none", vm(document_of=PARENT, guest=full(PARENT), configured=OFF)),
    ("10", "delivered", None, "high", "none", vm(forked_from=PARENT, guest=full())),
    ("7a", "cleared", "erased_by_guest", "high", "none", vm(guest=CLEARED)),
    ("7b", "cleared", "erased_by_guest", "high", "none", vm(guest=full(), differences=(SECRET_GONE, TOKEN_GONE))),
    ("7b", "cleared", "erased_by_guest", "high", "none",
     vm(guest=full(), differences=(SECRET_GONE, EXTRA), power_on=FROM_ESXI)),
    ("7c", "cleared", "erased_by_guest", "medium", "none",
     vm(guest=CLEARED, extracted=RETURNED, power_on=NOBODY_KNOWS)),
    ("8a", "delivered_injected", "injected", "high", "none",
     vm(guest=full(None, esx_id=MOID, properties={"hostname": "x"}))),
    ("8a", "delivered_injected", "injected", "high", "none", vm(guest=INJECTED, configured=OFF)),
    ("8a", "delivered_injected", "injected", "high", "none", vm(guest=INJECTED, configured=configured())),
    ("8b", "delivered_injected", "injected", "medium", "none", vm(guest=code("none"))),
    ("7e", "stale", "injected_differs", "high", "none", vm(guest=INJECTED, differences=(CHANGED_IN_GUEST,))),
    ("7e", "stale", "injected_differs", "high", "none", vm(guest=INJECTED, differences=(TOKEN_GONE, HOSTNAME_GONE))),
    ("8a", "delivered_injected", "injected", "high", "none",
     vm(guest=INJECTED, differences=(CHANGED_IN_GUEST,), configured=configured())),
    ("8a", "delivered_injected", "injected", "high", "none", vm(guest=INJECTED, differences=(EXTRA, SECRET_GONE))),
    ("7f", "not_delivered", "injected_empty", "high", "power_cycle_via_vcenter", vm(guest=full(None))),
    ("7g", "not_delivered", "injected_empty", "high", "none", vm(guest=full(None), configured=OFF)),
    ("7g", "not_delivered", "injected_empty", "high", "none", vm(guest=full(None), configured=configured())),
    ("7h", "cleared", "erased_by_guest", "medium", "none",
     vm(guest=full(), extracted=Extracted("ok", document(properties={"hostname": "x"})), differences=(HOSTNAME_GONE,))),
    ("7i", "not_delivered", "no_properties_delivered", "high", "power_cycle_via_vcenter",
     vm(guest=full(), differences=(SECRET_GONE, HOSTNAME_GONE))),
    ("7i", "not_delivered", "no_properties_delivered", "high", "power_cycle_via_vcenter",
     vm(guest=full(properties={"mine": "x"}), differences=(HOSTNAME_GONE, EXTRA))),
    ("7j", "not_delivered", "no_properties_delivered", "medium", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(HOSTNAME_GONE,))),
    ("7j", "not_delivered", "no_properties_delivered", "medium", "power_cycle_via_vcenter",
     vm(guest=code("own"), extracted=RETURNED, differences=(HOSTNAME_GONE,))),
    # What was delivered has another one of its properties.
    ("9b", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(configured=THREE, extracted=Extracted("ok", document(properties={"ip0": "x"})), differences=(HOSTNAME_GONE,))),
    ("9a", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(guest=full(), differences=(CHANGED_IN_GUEST,))),
    ("9a", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(guest=full(), differences=(SECRET_GONE, CHANGED_IN_GUEST))),
    ("9a", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(guest=full(properties={"ip0": "x"}), differences=(SECRET_GONE, HOSTNAME_GONE), configured=THREE)),
    ("9a", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(guest=full(), differences=(SECRET_GONE, HOSTNAME_GONE), power_on=CHANGED_LATER)),
    ("9b", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,))),
    ("9b", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), guest=code("own"))),
    ("9b", "stale", "changed_since_power_on", "high", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), guest=guest("login_failed"))),
    ("18a", "lost_suspected", "esxi_direct", "medium", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), power_on=FROM_ESXI)),
    ("20", "contradictory", None, "low", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), guest=NO_VALUE)),
    ("9c", "stale", "changed_since_power_on", "medium", "power_cycle_via_vcenter", vm(power_on=CHANGED_LATER)),
    ("9c", "stale", "changed_since_power_on", "medium", "power_cycle_via_vcenter",
     vm(power_on=CHANGED_LATER, guest=guest("permission_denied"))),
    ("9c", "stale", "changed_since_power_on", "medium", "power_cycle_via_vcenter",
     vm(power_on=CHANGED_LATER, guest=NO_VALUE)),
    ("9c", "stale", "changed_since_power_on", "medium", "power_cycle_via_vcenter",
     vm(power_on=CHANGED_LATER, guest=code("own"))),
    ("9c", "stale", "changed_since_power_on", "medium", "power_cycle_via_vcenter",
     vm(power_on=CHANGED_LATER, guest=full(), differences=(SECRET_GONE,))),
    ("9d", "stale", "changed_since_power_on", "low", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), power_on=NOBODY_KNOWS)),
    ("9d", "stale", "changed_since_power_on", "low", "power_cycle_via_vcenter",
     vm(guest=code("own"), extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), power_on=FROM_ESXI)),
    ("10", "delivered", None, "high", "none", vm(guest=full())),
    ("10", "delivered", None, "high", "none", vm(guest=full(), power_on=FROM_ESXI)),
    ("10", "delivered", None, "high", "none", vm(guest=full(), differences=(EXTRA, OTHER_PASSWORD, OTHER_CASE))),
    ("10", "delivered", None, "high", "none", vm(guest=full(), power_on=CHANGED_LATER)),
    ("11", "delivered", None, "medium", "none", vm(guest=code("own"))),
    ("12a", "delivered", "foreign_id", "medium", "power_cycle_via_vcenter", vm(guest=full("vm-999"))),
    ("12b", "delivered", "foreign_id", "low", "power_cycle_via_vcenter", vm(guest=code("other"))),
    ("13a", "delivered_iso", None, "high", "none", vm(configured=ISO, iso=IN_DRIVE)),
    ("13b", "delivered_iso", None, "medium", "none", vm(configured=ISO, iso=IN_DRIVE, power_on=NOBODY_KNOWS)),
    ("15b", "lost", "powered_on_from_esxi", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=IN_DRIVE, power_on=FROM_ESXI)),
    ("15b", "lost", "powered_on_from_esxi", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=Iso(True), power_on=FROM_ESXI)),
    ("15b", "lost", "powered_on_from_esxi", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=replace(IN_DRIVE, connected=False), power_on=FROM_ESXI, guest=guest("permission_denied"))),
    ("16b", "lost", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=Iso(True), power_on=FROM_HA, rpc_denied=True)),
    ("16b", "lost", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=IN_DRIVE, power_on=FROM_HA, guest=NO_VALUE)),
    ("18c", "lost_suspected", "host_system", "low", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=IN_DRIVE, power_on=FROM_HOST, guest=NO_VALUE)),
    ("13c", "not_delivered", "no_cdrom", "high", "add_cdrom", vm(configured=ISO, power_on=FROM_HA)),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(configured=BOTH, iso=IN_DRIVE, power_on=FROM_HA)),
    ("16", "lost", "ha_restart", "high", "power_cycle_via_vcenter",
     vm(configured=BOTH, iso=IN_DRIVE, guest=NO_VALUE, power_on=FROM_HA)),
    ("13a", "delivered_iso", None, "high", "none", vm(configured=BOTH, iso=IN_DRIVE, guest=NO_VALUE)),
    ("13c", "not_delivered", "no_cdrom", "high", "add_cdrom", vm(configured=ISO)),
    ("13d", "not_delivered", "iso_not_connected", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=Iso(True))),
    ("13d", "not_delivered", "iso_not_connected", "medium", "power_cycle_via_vcenter",
     vm(configured=ISO, iso=replace(IN_DRIVE, connected=False), guest=NO_VALUE)),
    ("15", "lost", "powered_on_from_esxi", "high", "power_cycle_via_vcenter",
     vm(configured=BOTH, iso=Iso(True), guest=NO_VALUE, power_on=FROM_ESXI)),
    ("15", "lost", "powered_on_from_esxi", "high", "power_cycle_via_vcenter",
     vm(rpc_denied=True, guest=NO_VALUE, power_on=FROM_ESXI)),
    ("15", "lost", "powered_on_from_esxi", "high", "power_cycle_via_vcenter", vm(guest=NO_VALUE, power_on=FROM_ESXI)),
    ("16", "lost", "ha_restart", "high", "power_cycle_via_vcenter", vm(guest=NO_VALUE, power_on=FROM_HA)),
    ("17", "lost", "host_start_unknown", "high", "power_cycle_via_vcenter", vm(guest=NO_VALUE, power_on=NOBODY_KNOWS)),
    ("17", "lost", "host_start_unknown", "high", "power_cycle_via_vcenter", vm(guest=NO_VALUE, power_on=FROM_HOST)),
    ("18a", "lost_suspected", "esxi_direct", "medium", "power_cycle_via_vcenter", vm(power_on=FROM_ESXI)),
    ("18a", "lost_suspected", "esxi_direct", "medium", "power_cycle_via_vcenter",
     vm(power_on=FROM_ESXI, guest=guest("tools_not_running"))),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter", vm(power_on=FROM_HA)),
    ("18c", "lost_suspected", "host_system", "low", "power_cycle_via_vcenter", vm(power_on=FROM_HOST)),
    ("19", "delivered_assumed", None, "low", "none", vm()),
    ("20", "contradictory", None, "low", "power_cycle_via_vcenter", vm(guest=NO_VALUE, extracted=RETURNED)),
    ("20", "contradictory", None, "low", "power_cycle_via_vcenter", vm(guest=NO_VALUE, extracted=NOTHING_RETURNED)),
    ("19", "delivered_assumed", None, "low", "none", vm(guest=guest("login_failed"))),
    ("19", "delivered_assumed", None, "low", "none", vm(guest=guest("permission_denied"))),
    ("19", "delivered_assumed", None, "low", "none", vm(rpc_denied=True)),
    ("18a", "lost_suspected", "esxi_direct", "medium", "power_cycle_via_vcenter",
     vm(guest=guest("permission_denied"), power_on=FROM_ESXI)),
    ("18b", "lost_suspected", "ha_restart", "medium", "power_cycle_via_vcenter",
     vm(rpc_denied=True, power_on=FROM_HA)),
    ("21", "unknown", "guest_rpc_denied", "high", "fix_guest_rpc",
     vm(guest=guest("permission_denied"), power_on=NOBODY_KNOWS)),
    ("21", "unknown", "guest_rpc_denied", "high", "fix_guest_rpc", vm(rpc_denied=True, power_on=NOBODY_KNOWS)),
    ("21a", "unknown", "tools_not_running", "low", "start_tools",
     vm(guest=guest("tools_not_running"), power_on=NOBODY_KNOWS)),
    ("21b", "unknown", "ops_not_ready", "low", "start_tools", vm(guest=guest("ops_not_ready"), power_on=NOBODY_KNOWS)),
    ("21c", "unknown", "no_permission", "low", "grant_privilege",
     vm(guest=guest("no_permission"), power_on=NOBODY_KNOWS)),
    # Only the user of vCenter's connection to the host is evidence for vCenter.
    ("21m", "unknown", "no_task", "low", "none", vm(power_on=VPXUSER)),
    ("19", "delivered_assumed", None, "low", "none", vm(power_on=replace(VPXUSER, task="VirtualMachine.powerOn"))),
    ("21m", "unknown", "no_task", "low", "none", vm(power_on=replace(VPXUSER, unread=("tasks",)))),
    ("21h", "unknown", "erased_or_never_delivered", "low", "none", vm(guest=CLEARED, power_on=VPXUSER)),
    ("9d", "stale", "changed_since_power_on", "low", "power_cycle_via_vcenter",
     vm(extracted=RETURNED, differences=(CHANGED_IN_EXTRACT,), power_on=VPXUSER)),
    ("9c", "stale", "changed_since_power_on", "medium", "power_cycle_via_vcenter",
     vm(power_on=replace(VPXUSER, reconfigured=CHANGED_LATER.reconfigured))),
    ("17", "lost", "host_start_unknown", "high", "power_cycle_via_vcenter",
     vm(guest=NO_VALUE, power_on=replace(VPXUSER, reconfigured=CHANGED_LATER.reconfigured))),
    ("13b", "delivered_iso", None, "medium", "none", vm(configured=ISO, iso=IN_DRIVE, power_on=VPXUSER)),
    ("17", "lost", "host_start_unknown", "high", "power_cycle_via_vcenter", vm(guest=NO_VALUE, power_on=VPXUSER)),
    ("21d", "unknown", "login_failed", "low", "none", vm(guest=guest("login_failed"), power_on=NOBODY_KNOWS)),
    ("21e", "unknown", "tool_missing", "low", "start_tools",
     vm(guest=guest("tool_missing"), power_on=NOBODY_KNOWS)),
    ("21f", "unknown", "non_xml", "low", "ask_appliance_vendor", vm(guest=guest("non_xml"))),
    ("21g", "unknown", "unreadable_document", "low", "ask_appliance_vendor", vm(guest=full(parse_error="breaks off"))),
    ("21h", "unknown", "erased_or_never_delivered", "low", "none", vm(guest=CLEARED, power_on=FROM_ESXI)),
    ("21i", "unknown", "guest_error", "low", "none", vm(guest=guest("error"), power_on=NOBODY_KNOWS)),
    ("21j", "unknown", "no_permission", "low", "grant_privilege", vm(power_on=PowerOn(reason="no_permission"))),
    ("21k", "unknown", "events_aged_out", "low", "none", vm(power_on=NOBODY_KNOWS)),
    ("21l", "unknown", "host_was_disconnected", "low", "none", vm(power_on=PowerOn(reason="host_was_disconnected"))),
    ("21m", "unknown", "no_task", "low", "none", vm(power_on=PowerOn(reason="no_task"))),
    ("21n", "unknown", "no_evidence", "low", "none", vm(power_on=PowerOn())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "status", "cause", "confidence", "remedy", "evidence"),
    [pytest.param(*case, id=f"{number}-{case[0]}-{case[1]}") for number, case in enumerate(TABLE)],
)
def test_verdict(row: str, status: str, cause: str | None, confidence: str, remedy: str, evidence: Evidence) -> None:
    verdict = diagnosis.judge(evidence)
    assert (verdict.row, verdict.status, verdict.cause, verdict.confidence, verdict.remedy) == (
        row,
        status,
        cause,
        confidence,
        remedy,
    )
    assert verdict.message.endswith(".")
    assert "  " not in verdict.message


FAILED_LOOKS = (
    "error",
    "login_failed",
    "no_permission",
    "ops_not_ready",
    "permission_denied",
    "tool_missing",
    "tools_not_running",
)


@pytest.mark.parametrize("state", FAILED_LOOKS)
@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(case[-1], id=f"{number}-{case[0]}")
        for number, case in enumerate(TABLE)
        if case[-1].guest == UNASKED
    ],
)
def test_failed_probe_does_not_change_the_verdict_of_vcenters_data(evidence: Evidence, state: str) -> None:
    without, failed = diagnosis.judge(evidence), diagnosis.judge(replace(evidence, guest=guest(state)))
    if without.status == "unknown":
        assert failed.status == "unknown"
        return
    assert (failed.row, failed.confidence) == (without.row, without.confidence)
    if _runs_with_vapp_options(evidence) and without.status != "nothing_to_deliver":
        assert any(f"guest: {'VMware Tools says' if state == 'permission_denied' else state.replace('_', ' ')}" in line
                   for line in failed.evidence)  # fmt: skip


@pytest.mark.parametrize("state", FAILED_LOOKS)
@pytest.mark.parametrize("power_on", [FROM_VCENTER, FROM_ESXI, FROM_HA, FROM_HOST])
def test_failed_probe_is_a_warning(power_on: PowerOn, state: str) -> None:
    verdict = diagnosis.judge(vm(power_on=power_on, guest=guest(state)))
    assert len(verdict.warnings) == 1
    expected = "guest_rpc hardening" if state == "permission_denied" else state.replace("_", " ")
    assert expected in verdict.warnings[0]


def _runs_with_vapp_options(evidence: Evidence) -> bool:
    return evidence.power_state == "poweredOn" and evidence.configured.enabled


def test_every_row_is_tested_in_the_order_of_the_reference() -> None:
    numbers = [row.number for row in diagnosis.ROWS]
    assert {row for row, *_rest in TABLE} == set(numbers)
    assert numbers == sorted(numbers, key=lambda number: (int(number.rstrip(string.ascii_lowercase)), number))


def test_the_sentence_of_the_issue() -> None:
    verdict = diagnosis.judge(vm(guest=NO_VALUE, power_on=FROM_ESXI))
    assert verdict.message == (
        "web-03 lost its OVF environment: it was powered on from ESXi directly at 2026-11-21 03:12 UTC by root."
    )
    assert "power-on through vCenter" in diagnosis.judge(vm(power_state="poweredOff")).message


def test_missing_ip_pool_is_reported_for_a_powered_off_vm() -> None:
    verdict = diagnosis.judge(vm(power_state="poweredOff", lacking_pools=LACKING))
    assert "cannot compute gateway (network Lab has no IP pool). Associate" in verdict.message
    assert verdict.act == "before_next_boot"
    unread = diagnosis.judge(vm(power_state="poweredOff", lacking_pools=None))
    assert "ip pools: not readable, but needed at power-on" in unread.evidence


def test_facts_are_plain_and_have_the_same_keys() -> None:
    found = [diagnosis.facts(diagnosis.judge(evidence)) for *_expected, evidence in TABLE]
    assert {tuple(facts) for facts in found} == {
        (
            *(
                "status",
                "rank",
                "cause",
                "confidence",
                "evidence",
                "message",
                "remedy",
                "remedy_risks",
                "impact",
                "act",
            ),
            *("act_now", "needs_power_cycle", "warnings"),
        )
    }
    assert all(isinstance(facts[name], list) for facts in found for name in ("evidence", "remedy_risks", "warnings"))


def test_values_for_playbooks_agree_with_the_words() -> None:
    """A word may be masked because a password is part of it; numbers and booleans are not."""
    assert sorted(diagnosis.URGENCY) == sorted(diagnosis.STATUSES)
    playbooks = yaml.safe_load((PLAYBOOKS / "vars" / "ovfenv.yml").read_text(encoding="utf-8"))
    assert tuple(playbooks["__ovfenv_verdicts"]) == diagnosis.URGENCY
    for *_expected, evidence in TABLE:
        found = diagnosis.facts(diagnosis.judge(evidence))
        assert diagnosis.URGENCY[found["rank"] - 1] == found["status"]
        assert found["act_now"] == (found["act"] == "now")
        cycled = found["remedy"] == "power_cycle_via_vcenter" and "delivered" not in found["status"].split("_")[:1]
        assert found["needs_power_cycle"] == cycled


def test_no_secret_is_reported() -> None:
    properties = (prop("api_token", SECRET, secret=True),)
    for *_expected, evidence in TABLE:
        known = replace(evidence, differences=(*evidence.differences, TOKEN_GONE, OTHER_PASSWORD))
        known = replace(known, configured=replace(known.configured, properties=properties))
        assert SECRET not in str(diagnosis.facts(diagnosis.judge(known)))


# --- together with parsing and comparison -----------------------------------------------------------------------------

WRITTEN = (
    '<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:ve="http://www.vmware.com/schema/ovfenv" oe:id="" '
    f've:vCenterId="{MOID}"><PropertySection>\n<Property oe:key="hostname" oe:value="web-03"/>\n'
    f'<Property oe:key="password" oe:value="{SECRET}"/>\n<Property oe:key="ip0" oe:value="192.0.2.7"/>\n'
    "</PropertySection></Environment>"
)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        pytest.param(WRITTEN, "10", id="as delivered"),
        pytest.param(
            "\n".join(line for line in WRITTEN.splitlines() if "password" not in line), "7b", id="no password"
        ),
        pytest.param(WRITTEN.replace("web-03", "web-02"), "9a", id="older host name"),
        pytest.param(WRITTEN.replace("web-03", "web & co"), "10", id="malformed host name"),
        pytest.param(
            WRITTEN.replace("192.0.2.7", "a & b").replace("web-03", "web-02"), "9a", id="malformed, and older"
        ),
        pytest.param(WRITTEN.replace('<Property oe:key="hostname" oe:value="web-03"/>', ""), "9a", id="no host name"),
        pytest.param(WRITTEN.replace(SECRET, "another"), "10", id="another password"),
        pytest.param(WRITTEN.replace("192.0.2.7", "192.0.2.8"), "10", id="another address of a pool"),
        pytest.param(WRITTEN.replace(MOID, "vm-999"), "12a", id="of another VM"),
        pytest.param(WRITTEN.replace(f've:vCenterId="{MOID}"', f've:esxId="{MOID}"'), "8a", id="injected"),
        pytest.param(WRITTEN.replace("</PropertySection></Environment>", ""), "21g", id="truncated"),
        pytest.param("<!DOCTYPE x []>" + WRITTEN, "21g", id="hostile"),
    ],
)
def test_parsed_document(text: str, row: str) -> None:
    info = vim.vApp.PropertyInfo
    config = vim.vApp.VmConfigInfo(
        property=[
            info(key=0, id="hostname", type="string", value="web-03"),
            info(key=1, id="password", type="password", value=""),
            info(key=2, id="ip0", type="ip:VM Network", value=""),
        ],
        ovfEnvironmentTransport=["com.vmware.guestInfo"],
    )
    shown = configuration.read(config, running=True)
    found = reader.parse(text)
    known = vm(configured=shown, guest=GuestView("xml", "full", document=found, text=text))
    assert diagnosis.judge(replace(known, differences=differences.compare(shown, None, found))).row == row


# --- assumptions must not decide --------------------------------------------------------------------------------------

EXTRACTS = {
    "empty": (NOTHING_RETURNED, ()),
    "stale": (Extracted("ok", document(), "<old/>"), (CHANGED_IN_EXTRACT,)),
    "regenerated": (Extracted("ok", document(), "<new/>"), ()),
}
"""Possible results of ExtractOvfEnvironment for a VM that its host started."""


@pytest.mark.parametrize("evidence", [case[-1] for case in TABLE])
def test_lost_and_delivered_do_not_depend_on_assumptions(evidence: Evidence) -> None:
    strong = set()
    for (extracted, more), computed in itertools.product(EXTRACTS.values(), (True, False, None)):
        kept = tuple(difference for difference in evidence.differences if difference is not CHANGED_IN_EXTRACT)
        known = replace(
            evidence,
            extracted=extracted,
            differences=(*kept, *more) if CHANGED_IN_GUEST not in kept else kept,
            configured=replace(evidence.configured, values_computed=computed),
        )
        known = replace(known, differences=tuple(_with_guest(difference, known) for difference in known.differences))
        verdict = diagnosis.judge(known)
        is_strong = verdict.status == "lost" or (verdict.status, verdict.confidence) == ("delivered", "high")
        strong.add((verdict.status, verdict.cause) if is_strong else None)
    assert len(strong) == 1


def _with_guest(difference: Difference, known: Evidence) -> Difference:
    """Give a guest with a document the configured value where only the extract differs."""
    if difference is CHANGED_IN_EXTRACT and known.guest.document:
        return replace(difference, guest=difference.configured)
    return difference


@pytest.mark.parametrize("listed_before", [False, True])
def test_evidence_of_a_vm_without_vapp_options(listed_before: bool) -> None:
    found = [
        line for line in diagnosis.judge(vm(configured=OFF, listed_before=listed_before)).evidence if "config" in line
    ]
    assert (
        found
        == ["configured: no vApp options"]
        + ["configured: an earlier report or a backup has vApp options of it"] * listed_before
    )


def test_computed_values_are_reported() -> None:
    for computed, words in ((True, "filled"), (False, "empty")):
        known = vm(power_on=FROM_ESXI, configured=replace(GUESTINFO, values_computed=computed))
        (line,) = [line for line in diagnosis.judge(known).evidence if line.startswith("computed values:")]
        assert words in line


# --- risks, impact, warnings ------------------------------------------------------------------------------------------


def test_risks_of_a_power_cycle() -> None:
    properties = (
        prop("vami.ip0.App", "192.0.2.1"),
        prop("mgmtIp", "192.0.2.2"),
        prop("description", "any"),
        prop("gw", "${gateway:net}", "expression", source="computed"),
        prop("address", "", "ip:net"),
    )
    known = vm(guest=NO_VALUE, power_on=FROM_ESXI, configured=replace(GUESTINFO, properties=properties))
    computed, network = diagnosis.judge(known).remedy_risks
    assert "gw, address" in computed
    assert "does not start" in computed
    assert "from vami.ip0.App, mgmtIp, address." in network
    assert "the guest was not probed" in " ".join(diagnosis.judge(replace(known, guest=UNASKED)).remedy_risks).lower()
    for other in (replace(known, guest=full("vm-999")), replace(known, power_on=NOBODY_KNOWS)):
        assert "Instant Clone" in " ".join(diagnosis.judge(other).remedy_risks)
    assert diagnosis.judge(replace(known, guest=full())).remedy_risks == ()


def test_fork_child_is_never_power_cycled() -> None:
    stale = diagnosis.judge(vm(forked_from=PARENT, guest=full(), differences=(CHANGED_IN_GUEST,)))
    assert (stale.status, stale.remedy, stale.remedy_risks) == ("stale", "none", ())


@pytest.mark.parametrize(
    ("products", "evidence", "act"),
    [
        (("vSphere Integrated Containers Appliance",), {"guest": NO_VALUE, "power_on": FROM_HA}, "now"),
        (("vSphere Integrated Containers",), {"power_on": FROM_HA}, "decide"),
        (("VMware Event Broker Appliance",), {"guest": NO_VALUE, "power_on": FROM_HA}, "never"),
        (("VMware Event Broker Appliance",), {"power_on": CHANGED_LATER}, "never"),
        (("Event Broker Appliance", "VIC Appliance"), {"guest": NO_VALUE, "power_on": FROM_ESXI}, "now"),
        (("Something else",), {"guest": NO_VALUE, "power_on": FROM_HA}, "decide"),
        ((), {"guest": NO_VALUE, "power_on": FROM_HA}, "decide"),
        (("vSphere Integrated Containers",), {}, "never"),
        (("vSphere Integrated Containers",), {"guest": guest("login_failed"), "power_on": NOBODY_KNOWS}, "decide"),
    ],
)
def test_impact(products: tuple[str, ...], evidence: dict[str, Any], act: str) -> None:
    verdict = diagnosis.judge(vm(configured=configured("com.vmware.guestInfo", products=products), **evidence))
    assert verdict.act == act
    assert verdict.impact


def test_uncertain_verdict_is_not_urgent() -> None:
    """The guest may have read the image before it was removed."""
    ready = vm(configured=configured("iso", products=("vSphere Integrated Containers",)), iso=Iso(True))
    assert (diagnosis.judge(ready).row, diagnosis.judge(ready).act) == ("13d", "decide")
    without_drive = diagnosis.judge(replace(ready, iso=Iso()))
    assert (without_drive.row, without_drive.act) == ("13c", "now")


@pytest.mark.parametrize("known", [{"guest": full()}, {"guest": code("own")}, {"listed_before": True}])
def test_lost_vapp_options_matter_at_the_next_boot(known: dict[str, Any]) -> None:
    """This applies to every product: the options that named it are gone too."""
    verdict = diagnosis.judge(vm(configured=configuration.read(None), **known))
    assert (verdict.status, verdict.act) == ("config_lost", "before_next_boot")
    assert "next power-on" in verdict.impact


@pytest.mark.parametrize(
    ("product", "known", "act"),
    [
        ("vSphere Integrated Containers", {}, "now"),
        ("vSphere Integrated Containers", {"guest": NO_VALUE}, "now"),
        ("vSphere Integrated Containers", {"guest": full()}, "before_next_boot"),
        ("vSphere Integrated Containers", {"guest": code("own")}, "before_next_boot"),
        ("vSphere Integrated Containers", {"guest": CLEARED}, "before_next_boot"),
        ("vSphere Integrated Containers", {"power_state": "poweredOff"}, "before_next_boot"),
        ("Something else", {"guest": full()}, "before_next_boot"),
        ("Something else", {}, "decide"),
        ("Event Broker Appliance", {"guest": full()}, "never"),
    ],
)
def test_missing_transports_matter_at_the_next_boot(product: str, known: dict[str, Any], act: str) -> None:
    """They may have been removed while the VM was running."""
    verdict = diagnosis.judge(vm(configured=configured(products=(product,)), **known))
    assert (verdict.status, verdict.act) == ("not_deliverable", act)
    assert ("still has an OVF environment" in verdict.message) == (known.get("guest", UNASKED).state == "xml")
    assert "cannot reach" not in verdict.message


@pytest.mark.parametrize(
    ("transports", "words"),
    [
        ((), "has vApp options and no transport, so"),
        (("[]",), "has vApp options and no transport, so"),
        (("foo",), "only the transport foo, which vCenter does not support, so"),
        (('["foo,bar"]', "Baz"), "only the transports foo, bar, Baz, which vCenter does not support, so"),
    ],
)
def test_foreign_transports_are_named_in_the_message(transports: tuple[str, ...], words: str) -> None:
    verdict = diagnosis.judge(vm(configured=configured(*transports)))
    assert (verdict.row, verdict.warnings) == ("4b", ())
    assert words in verdict.message


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (vm(guest=full("vm-999")), "foreign_id"),
        (vm(guest=code("other")), "foreign_id"),
        (vm(configured=BOTH, iso=IN_DRIVE, guest=NO_VALUE), "only on the CD-ROM"),
        (vm(guest=full(), power_on=CHANGED_LATER), "Passwords"),
        (
            vm(configured=configured("foo,iso"), iso=IN_DRIVE),
            "The transport foo is unknown to vCenter, ",
        ),
        (
            vm(configured=configured("com.vmware.guestInfo,Foo", "bar")),
            "The transports Foo, bar are unknown to",
        ),
        (vm(rpc_denied=True, power_on=FROM_ESXI), "guest_rpc hardening"),
        (vm(guest=guest("login_failed"), power_on=FROM_ESXI), "could not be probed: login failed."),
        (vm(forked_from=PARENT, extracted=RETURNED), "own ID"),
        (vm(guest=full(duplicate_keys=("a",))), "twice"),
        (vm(guest=full(skipped_keys=("HOSTNAME", None, SECRET))), "skipped: hostname, 2 without a known key."),
        (vm(configured=UNSET, power_on=FROM_ESXI), "No user-configurable property has a value, so little may be miss"),
    ],
)
def test_warnings(evidence: Evidence, words: str) -> None:
    (warning,) = diagnosis.judge(evidence).warnings
    assert words in warning
    assert SECRET not in warning


def test_changed_passwords_are_not_reported_for_a_stale_vm() -> None:
    found = diagnosis.judge(vm(guest=code("own"), power_on=CHANGED_LATER))
    assert (found.status, found.warnings) == ("stale", ())


def test_evidence_reports_that_no_power_on_was_found() -> None:
    assert "events: no power-on found (events_aged_out)" in diagnosis.judge(vm(power_on=NOBODY_KNOWS)).evidence


def test_evidence_reports_every_source() -> None:
    known = vm(guest=NO_VALUE, extracted=NOTHING_RETURNED, power_on=FROM_ESXI, configured=BOTH, iso=Iso(True))
    evidence = diagnosis.judge(known).evidence
    assert evidence == (
        "inventory: connected, poweredOn",
        "configured: 2 properties, transports: com.vmware.guestInfo, iso",
        "extract: vCenter returns no document",
        "iso: has a CD-ROM drive",
        'guest: VMware Tools says "No value found" (guest_probe=exit_code)',
        "events: VmPoweredOnEvent at 2026-11-21 03:12 UTC by root on esx-1, origin esxi_direct (high confidence)",
        "events: the power-on has neither a vCenter task nor a DrsVmPoweredOnEvent",
        "events: root is an account of every ESXi host; only the logs of esx-1 may show who used it",
    )
    unread = replace(known, power_on=replace(FROM_ESXI, unread=("changes", "tasks")))
    assert diagnosis.judge(unread).evidence == (
        *evidence[:-2],
        "events: changes of VMs, and so of their vApp options, could not be read",
        "events: vCenter's tasks could not be read",
        evidence[-1],
    )


@pytest.mark.parametrize(
    ("known", "statement"),
    [
        ({"forked_from": PARENT}, "inventory: created by a fork of vm-7"),
        ({"forked_from": ""}, "inventory: created by a fork"),
        ({"forked_from": PARENT, "power_on": PowerOn(cloned_from=PARENT)}, "events: created by a fork of vm-7"),
        (
            {"document_of": PARENT, "guest": full(PARENT)},
            "guest: the document lists the network adapters of vm-7, and none of this VM's",
        ),
    ],
)
def test_proof_of_a_fork_is_reported(known: dict[str, Any], statement: str) -> None:
    assert statement in diagnosis.judge(vm(**known)).evidence


@pytest.mark.parametrize(
    ("known", "certain"),
    [
        ({"power_on": FROM_ESXI}, True),
        ({"power_on": FROM_HA}, True),
        ({"power_on": power_on("vcenter", task="VirtualMachine.powerOn")}, True),
        ({"power_on": replace(FROM_VCENTER, event_type="DrsVmPoweredOnEvent")}, True),
        ({"power_on": NOBODY_KNOWS, "guest": full()}, True),
        ({"power_on": NOBODY_KNOWS, "guest": code("own")}, True),
        # As an Instant Clone may be reported, or not at all.
        ({"power_on": FROM_VCENTER}, False),
        ({"power_on": FROM_HOST}, False),
        ({"power_on": NOBODY_KNOWS}, False),
        ({"power_on": NOBODY_KNOWS, "guest": NO_VALUE}, False),
        ({"power_on": NOBODY_KNOWS, "guest": code("other")}, False),
    ],
)
def test_proof_of_a_power_on(known: dict[str, Any], certain: bool) -> None:
    assert diagnosis.came_up_by_power_on(vm(**known)) == certain


def test_start_of_the_events_is_reported() -> None:
    known = vm(power_on=replace(NOBODY_KNOWS, read_since=BOOT))
    assert "No event since 2026-11-21 03:12 UTC shows" in diagnosis.judge(known).message


def test_unreadable_data_is_reported() -> None:
    evidence = diagnosis.judge(vm(configured=OFF, config_read=False, connection_state="", power_state="")).evidence
    assert evidence[:2] == (
        "inventory: connection not readable, power state not readable",
        "configured: not readable",
    )


# --- any evidence -----------------------------------------------------------------------------------------------------

SOURCES = ("inventory:", "configured:", "computed values:", "extract:", "iso:", "guest:", "events:")
GUEST_STATES = (
    *("xml", "xml", "xml", "no_value", "cleared", "non_xml", "permission_denied", "tool_missing", "tools_not_running"),
    *("ops_not_ready", "login_failed", "no_permission", "not_asked", "not_asked", "error"),
)
texts = st.text(max_size=8)
keys = st.sampled_from(["hostname", "password", "vami.ip0.App", "{name}", ""])
ids = st.sampled_from([MOID, PARENT, "", None])
documents = st.none() | st.builds(
    Document,
    vcenter_id=ids,
    esx_id=ids,
    parse_error=st.none() | texts,
    duplicate_keys=st.lists(keys, max_size=2).map(tuple),
)
events = st.builds(
    Event,
    key=st.integers(),
    type=texts,
    time=st.datetimes(datetime.datetime(1970, 1, 2), timezones=st.sampled_from([None, datetime.timezone.utc])),
    user=texts,
    chain_id=st.integers(),
    vm=ids,
    host=ids,
)
properties = st.builds(prop, keys, texts, st.sampled_from(["string", "ip", "ip:net", "expression", "password(..8)"]))
evidences = st.builds(
    Evidence,
    name=texts | keys,
    moid=st.just(MOID),
    is_vcenter=st.sampled_from([True, True, True, False]),
    config_read=st.sampled_from([True] * 5 + [False]),
    is_template=st.sampled_from([False, False, False, True]),
    connection_state=st.sampled_from(["connected"] * 5 + ["disconnected", "orphaned", ""]),
    is_ft_secondary=st.sampled_from([False, False, False, True]),
    power_state=st.sampled_from(["poweredOn"] * 5 + ["poweredOff", "suspended", ""]),
    forked_from=st.sampled_from([None, None, "", PARENT]),
    document_of=st.sampled_from([None, None, PARENT]),
    rpc_denied=st.booleans(),
    listed_before=st.booleans(),
    configured=st.builds(
        Configured,
        enabled=st.sampled_from([True, True, True, False]),
        transports=st.lists(st.sampled_from(["iso", "com.vmware.guestInfo", "COM.VMWARE.GUESTINFO", ""])).map(tuple),
        products=st.lists(st.builds(Product, *[texts] * 3, texts, *[texts] * 3), max_size=2).map(tuple),
        properties=st.lists(properties, max_size=3).map(tuple),
        values_computed=st.none() | st.booleans(),
    ),
    extracted=st.builds(
        Extracted,
        state=st.sampled_from(["ok", "empty", "not_running", "no_permission", "unsupported", "error", "not_asked"]),
        document=documents,
        error=st.none() | texts,
    ),
    iso=st.builds(Iso, st.booleans(), st.none() | texts, st.booleans()),
    guest=st.builds(
        GuestView,
        state=st.sampled_from(GUEST_STATES),
        method=st.sampled_from([None, "exit_code", "full"]),
        exit_code=st.none() | st.integers(),
        document=documents,
        bears_id=st.sampled_from([None, "own", "other", "none"]),
        error=st.none() | texts,
    ),
    power_on=st.builds(
        PowerOn,
        origin=st.sampled_from(["vcenter", "esxi_direct", "ha_restart", "host_system", "unknown"]),
        confidence=st.sampled_from(["high", "medium", "low"]),
        reason=st.sampled_from(
            [None, "events_aged_out", "host_was_disconnected", "no_task", "not_running", "no_permission"]
        ),
        user=st.none() | texts,
        host=st.none() | texts,
        event_type=st.none() | texts,
        time=st.none() | st.just(BOOT),
        reconfigured=st.lists(events, max_size=2).map(tuple),
        unread=st.sampled_from([(), ("changes",), ("tasks",)]),
    ),
    differences=st.lists(
        st.builds(
            Difference,
            key=keys,
            kind=st.sampled_from(["missing", "extra", "changed", "case"]),
            secret=st.booleans(),
            comparable=st.booleans(),
            configured=st.none() | texts,
            delivered=st.none() | texts,
            guest=st.none() | texts,
        ),
        max_size=3,
    ).map(tuple),
)


@examples(500)
@given(evidences)
def test_any_evidence(evidence: Evidence) -> None:
    verdict = diagnosis.judge(evidence)
    diagnosis.facts(verdict)
    assert verdict.status in diagnosis.STATUSES
    assert verdict.remedy in diagnosis.REMEDIES
    assert verdict.confidence in ("high", "medium", "low")
    assert verdict.act in ("now", "before_next_boot", "never", "decide")
    assert all(line.startswith(SOURCES) for line in verdict.evidence)
    assert any(line.startswith("guest:") for line in verdict.evidence)
    state = evidence.guest.state
    # The guest cannot be probed for a document delivered only by CD-ROM.
    by_iso = evidence.configured.delivers_by == {"iso"}
    if verdict.status == "lost":
        assert state == "no_value" or (by_iso and verdict.confidence == "medium" and state != "xml")
    if (verdict.status, verdict.confidence) == ("delivered", "high"):
        assert state == "xml"
        assert evidence.guest.document is not None
        assert evidence.guest.document.vcenter_id == evidence.moid
    if verdict.status in ("inherited", "cleared", "delivered_injected", "delivered") and verdict.confidence == "high":
        assert state in ("xml", "cleared")
    if verdict.remedy == diagnosis.POWER_CYCLE:
        assert verdict.status not in ("inherited", "cleared", "not_applicable", "unknown", "not_running")
        assert evidence.forked_from is None
        assert evidence.document_of is None
        assert evidence.is_vcenter
    if verdict.act == "now":
        assert verdict.confidence == "high"
        assert evidence.power_state == "poweredOn"
        assert state not in ("xml", "cleared") or verdict.status != "not_deliverable"
    if state in ("not_asked", "login_failed", "no_permission", "tools_not_running", "ops_not_ready", "error"):
        assert verdict.status not in ("cleared", "delivered", "contradictory", "delivered_injected")
        assert verdict.status != "lost" or by_iso


@examples(200)
@given(evidences, st.sampled_from(sorted(EXTRACTS)), st.sampled_from([True, False, None]))
def test_any_evidence_with_other_assumptions(evidence: Evidence, extract: str, computed: bool | None) -> None:
    other = replace(
        evidence,
        extracted=EXTRACTS[extract][0],
        configured=replace(evidence.configured, values_computed=computed),
    )
    verdicts = [diagnosis.judge(known) for known in (evidence, other)]
    strong = [
        verdict.status == "lost" or (verdict.status, verdict.confidence) == ("delivered", "high")
        for verdict in verdicts
    ]
    assert strong[0] == strong[1]


@examples(100)
@given(evidences, texts)
def test_passwords_are_never_compared(evidence: Evidence, value: str) -> None:
    # A password is never comparable; whatever it is in the guest, the verdict is the same.
    compared = [
        replace(evidence, differences=(*evidence.differences, replace(OTHER_PASSWORD, guest=secret)))
        for secret in (SECRET, value)
    ]
    assert len({diagnosis.judge(known).row for known in compared}) == 1
