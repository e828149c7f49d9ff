# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the supported guest families: where they keep things, and what they understand.

Private to the collection. The locations of VMware Tools on nested ESXi and
macOS are from public scripts for Instant Clone
(https://github.com/lamw/vmfork-community-customization-scripts,
https://github.com/lamw/instantclone-community-customization-scripts).
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import posix, windows
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.family import PATHS, Family

_RPCTOOL, _VMTOOLSD = ("vmware-rpctool", ""), ("vmtoolsd", "--cmd")
_BIN = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")

LINUX = Family(
    name="Linux",
    marks=("linuxGuest",),
    language=posix,
    tools=(_RPCTOOL, _VMTOOLSD),
    directories=(*_BIN, "/usr/lib/vmware-tools/sbin", "/usr/lib/vmware-tools/bin"),
)
ESXI = Family(
    name="ESXi",
    marks=("vmkernel",),
    language=posix,
    tools=(_RPCTOOL, _VMTOOLSD),
    directories=("/usr/lib/vmware/vmtools/bin", *_BIN),
    libraries="/usr/lib/vmware/vmtools/lib",
)
MACOS = Family(
    name="macOS",
    marks=("darwin",),
    language=posix,
    tools=(_RPCTOOL, ("vmware-tools-daemon", "--cmd")),
    directories=("/Library/Application Support/VMware Tools", *_BIN),
)
WINDOWS = Family(
    name="Windows",
    marks=("win",),
    language=windows,
    is_windows=True,
    superuser="an administrator",
    login_advice="Log in as Administrator. User Account Control may restrict the rights of other users.",
    tools=(("rpctool.exe", ""), ("vmtoolsd.exe", "--cmd")),
    directories=(r"C:\Program Files\VMware\VMware Tools", r"C:\Program Files (x86)\VMware\VMware Tools"),
    temporary=r"C:\Windows\Temp",
    separator="\\",
)

FAMILIES = (LINUX, ESXI, MACOS, WINDOWS)


def of(values: t.Mapping[str, t.Any], tools_path: str | None = None) -> Family:
    """Return the family of a VM's guest.

    VMware Tools has priority over the VM's configuration, and that over the task's path to VMware Tools. If nothing
    shows the family, Linux is assumed.

    :param values: properties of the VM, including :data:`PATHS`.
    """
    for path in PATHS:
        value = str(values.get(path) or "")
        for family in FAMILIES:
            if value.startswith(family.marks):
                return family
    for family in FAMILIES:
        if tools_path and tools_path.rpartition(family.separator)[0] in family.directories:
            return family
    return LINUX
