# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out which versions a conformance run is about, and the names that must not be in its files.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _inventory, _properties, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import Lab
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.record import Known, Subject
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

_GUEST = ("guest.hostName", "guest.ipAddress", "guest.net", "config.uuid", "config.instanceUuid", _devices.PATH)


def subject(lab: Lab) -> Subject:
    """Return what the run is about."""
    about = lab.session.content.about
    values = lab.read("runtime.host", "config.version", "guest.guestFamily", "guest.toolsVersion")
    host = values.get("runtime.host")
    product = lab.read("config.product", vm=host).get("config.product") if host is not None else None
    versions = {
        "vcenter": about.version,
        "vcenter_build": about.build,
        "api": about.apiVersion,
        "esxi": getattr(product, "version", None),
        "esxi_build": getattr(product, "build", None),
        "hardware": values.get("config.version"),
        "guest_family": values.get("guest.guestFamily"),
        "tools": values.get("guest.toolsVersion"),
        "pyvmomi": _vmomi.version,
    }
    return Subject(
        vcenter=lab.session.server.hostname,
        vm=lab.parent.name,
        esxi=lab.parent.found.host_name or "",
        versions={name: str(value) for name, value in versions.items() if value is not None},
    )


def known(lab: Lab) -> Known:
    """Return all names and addresses that the user can see, and the passwords of the task. One call, and one more."""
    server = lab.session.server
    everything = _properties.scan(lab.session, lab.session.content.rootFolder, vim.ManagedEntity, ["name"])
    names = {_inventory.unescape(values.get("name") or "") for values in everything.values()}
    names |= _of_guest(lab.read(*_GUEST))
    for name in (server.hostname, server.username, server.proxy_host, lab.login.username if lab.login else None):
        names |= {name or "", *(name or "").replace("\\", "@").split("@")}
    passwords = (server.password, server.proxy_password, lab.login.password if lab.login else None)
    return Known(names, {password for password in passwords if password})


def _of_guest(values: _properties.Values) -> set[str]:
    """Return the names and addresses that VMware Tools report, and those of the VM's devices."""
    found: set[t.Any] = {value for value in values.values() if isinstance(value, str)}
    for adapter in values.get("guest.net") or []:
        found |= {adapter.network, adapter.macAddress, *(adapter.ipAddress or [])}
    for disk in _devices.disks(values):
        found.add(getattr(disk.backing, "fileName", None))
    found |= set(_devices.mac_addresses(values))
    return {str(value) for value in found if value}
