# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of guest families, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import families
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import (
    ESXI,
    FAMILIES,
    LINUX,
    MACOS,
    WINDOWS,
    Family,
)

IDS = [str(guest_id) for guest_id in vim.vm.GuestOsDescriptor.GuestOsIdentifier.values]  # type: ignore[attr-defined]
TOOLS = "/Library/Application Support/VMware Tools/vmware-tools-daemon"


@pytest.mark.parametrize(
    ("reported", "configured", "tools_path", "expected"),
    [
        pytest.param("linuxGuest", None, None, LINUX, id="Linux"),
        pytest.param("windowsGuest", None, None, WINDOWS, id="Windows"),
        pytest.param("darwinGuestFamily", None, None, MACOS, id="macOS"),
        pytest.param("otherGuestFamily", "vmkernel65Guest", None, ESXI, id="ESXi has no family of its own"),
        pytest.param("linuxGuest", "windows9_64Guest", None, LINUX, id="Tools know better than the configuration"),
        pytest.param(None, "windows9_64Guest", None, WINDOWS, id="no report of Tools yet"),
        pytest.param(None, "windows9_64Guest", TOOLS, WINDOWS, id="and that before a path"),
        pytest.param("otherGuestFamily", "otherGuest64", TOOLS, MACOS, id="macOS by its tools"),
        pytest.param(None, "otherGuest", "/usr/lib/vmware/vmtools/bin/vmtoolsd", ESXI, id="ESXi by its tools"),
        pytest.param(
            None, None, r"C:\Program Files\VMware\VMware Tools\vmtoolsd.exe", WINDOWS, id="Windows by its tools"
        ),
        pytest.param(None, None, "/usr/bin/vmtoolsd", LINUX, id="a place of several"),
        pytest.param("solarisGuest", "freebsd12_64Guest", "/opt/vmtoolsd", LINUX, id="unknown"),
        pytest.param(None, None, None, LINUX, id="nothing known"),
    ],
)
def test_family(reported: str | None, configured: str | None, tools_path: str | None, expected: Family) -> None:
    values = {"guest.guestFamily": reported, "config.guestId": configured}
    assert families.of(values, tools_path) is expected


def test_system_reported_by_tools_takes_precedence() -> None:
    values = {
        "guest.guestFamily": "otherGuestFamily",
        "guest.guestId": "vmkernel7Guest",
        "config.guestId": "winXPProGuest",
    }
    assert families.of(values) is ESXI


@pytest.mark.parametrize(
    "guest_id", [guest_id for guest_id in IDS if guest_id.startswith(("win", "darwin", "vmkernel"))]
)
def test_every_system_of_vsphere(guest_id: str) -> None:
    expected = {"win": WINDOWS, "dar": MACOS, "vmk": ESXI}[guest_id[:3]]
    assert families.of({"config.guestId": guest_id}) is expected


def test_all_other_systems_are_linux() -> None:
    others = [guest_id for guest_id in IDS if not guest_id.startswith(("win", "darwin", "vmkernel"))]
    assert len(others) > 50
    assert {families.of({"config.guestId": guest_id}).name for guest_id in others} == {"Linux"}


ROWS: dict[str, dict[str, Any]] = {
    "Linux": {
        "shell": "/bin/sh",
        "tool_names": ("vmtoolsd", "vmware-rpctool"),
        "temporary": "/tmp",
        "libraries": "",
        "superuser": "root",
    },
    "ESXi": {
        "shell": "/bin/sh",
        "tool_names": ("vmtoolsd", "vmware-rpctool"),
        "temporary": "/tmp",
        "libraries": "/usr/lib/vmware/vmtools/lib",
        "superuser": "root",
    },
    "macOS": {
        "shell": "/bin/sh",
        "tool_names": ("vmware-tools-daemon", "vmware-rpctool"),
        "temporary": "/tmp",
        "libraries": "",
        "superuser": "root",
    },
    "Windows": {
        "shell": r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe",
        "tool_names": ("vmtoolsd.exe", "rpctool.exe"),
        "temporary": r"C:\Windows\Temp",
        "libraries": "",
        "superuser": "an administrator",
    },
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_row(family: Family) -> None:
    assert {name: getattr(family, name) for name in ROWS[family.name]} == ROWS[family.name]


@pytest.mark.parametrize(
    ("family", "tool"),
    [
        (LINUX, "/usr/bin/vmtoolsd"),
        (LINUX, "/usr/lib/vmware-tools/sbin/vmtoolsd"),
        (ESXI, "/usr/lib/vmware/vmtools/bin/vmtoolsd"),
        (MACOS, TOOLS),
        (WINDOWS, r"C:\Program Files\VMware\VMware Tools\vmtoolsd.exe"),
        (WINDOWS, r"C:\Program Files (x86)\VMware\VMware Tools\rpctool.exe"),
    ],
)
def test_path_of_tools(family: Family, tool: str) -> None:
    assert tool in {family.join(directory, name) for directory in family.directories for name in family.tool_names}


@pytest.mark.parametrize(
    ("family", "directory", "path"),
    [
        (LINUX, "/var/tmp", "/var/tmp/runner"),
        (LINUX, "/", "/runner"),
        (WINDOWS, "C:\\Temp", r"C:\Temp\runner"),
        (WINDOWS, "D:\\", r"D:\runner"),
    ],
)
def test_paths(family: Family, directory: str, path: str) -> None:
    assert family.join(directory, "runner") == path
