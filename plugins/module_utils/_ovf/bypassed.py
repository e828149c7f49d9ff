# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what else is missing on a VM that was started without vCenter: the other things a power-on through vCenter does.

Private to the collection. Pure functions over ``evidence.Evidence``. Only what vCenter's data shows is reported; the
guide (``guide_ovf_environment.rst``, "What else is missing on such a VM") has the rest, and the sources.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import ip_pools, origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import listed
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence

PATHS = ("runtime.dasVmProtection",)
"""Properties of a VM that are needed."""

PATHS_SINCE = {(6, 5): "config.keyId", (7, 0, 2): "guest.customizationInfo"}
"""More properties, by the API version that introduced them (vSphere API reference)."""

PENDING = "TOOLSDEPLOYPKG_PENDING"
"""``guest.customizationInfo.customizationStatus`` of a customization that has not begun in the guest."""

SHARED_ACCOUNTS = ("root", "dcui", "vpxuser")
"""Accounts that every ESXi host has, so their name does not show who used them (vSphere Security)."""


def paths(api_version: tuple[int, ...]) -> list[str]:
    """Return the properties to read. A server refuses to read properties that its API version does not have."""
    return [*PATHS, *(path for since, path in PATHS_SINCE.items() if api_version >= since)]


def known(values: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the fields of an Evidence that come from a VM's properties."""
    protection = values.get("runtime.dasVmProtection")  # unset where vSphere HA is off
    customization = values.get("guest.customizationInfo")
    return {
        "ha_protected": None if protection is None else bool(protection.dasProtected),
        "is_encrypted": values.get("config.keyId") is not None,
        "customization_pending": customization is not None and customization.customizationStatus == PENDING,
    }


def statements(e: Evidence) -> t.Iterator[str]:
    """Yield what differs on the VM, one line each with its source; nothing if vCenter powered it on."""
    power_on = e.power_on
    if e.power_state != "poweredOn" or power_on.origin not in origin.HOST_ORIGINS:
        return
    on = power_on.host or "its ESXi host"
    if e.in_cluster and power_on.origin == "ha_restart":
        yield f"events: vSphere HA chose {on}; DRS did not place the VM, and admission control was not applied"
    elif e.in_cluster:
        yield f"events: {on} started it where it was; DRS did not place it, and admission control was not applied"
    if power_on.task is None and "tasks" not in power_on.unread:
        yield "events: the power-on has neither a vCenter task nor a DrsVmPoweredOnEvent"
    if power_on.origin != "ha_restart" and (power_on.user or "").casefold() in SHARED_ACCOUNTS:
        yield f"events: {power_on.user} is an account of every ESXi host; only the logs of {on} may show who used it"
    if e.ha_protected is False:
        yield "inventory: vSphere HA does not protect it"
    if e.configured.parent_vapps:
        vapp = e.configured.parent_vapps[0]
        yield f"inventory: in the vApp {vapp}, whose start order applies only when vCenter powers the vApp on"
    if needed := ip_pools.needed_by(e.configured):
        yield (
            f"configured: vCenter takes {listed(needed)} from network protocol profiles, only when it powers the VM on"
        )
    if e.customization_pending:
        yield "inventory: a guest customization is pending"
    if e.is_encrypted:
        yield "inventory: is encrypted; vCenter provides the key to ESXi hosts, and this host had it"
