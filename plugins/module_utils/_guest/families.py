# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of guests: one table of where they keep things and what they understand.

Private to the collection. Where VMware Tools lie on nested ESXi and macOS is
known from public scripts for Instant Clone
(https://github.com/lamw/vmfork-community-customization-scripts,
https://github.com/lamw/instantclone-community-customization-scripts).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import posix, windows
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import Job, Keys, Package, Program

PATHS = ("guest.guestFamily", "guest.guestId", "config.guestId")
"""Properties of a VM that tell what its guest is: by VMware Tools, and by its configuration."""


class Language(t.Protocol):
    """What a runner is written in: the modules ``posix`` and ``windows``."""

    SHELL: str

    def refusal(self, job: Job) -> str | None: ...

    def files(self, job: Job, family: Family, nonce: str, freeze_command: str, keys: Keys) -> dict[str, bytes]: ...

    def start(self, family: Family, directory: str) -> Program: ...

    def privatize(self, directory: str) -> Program | None: ...

    def pack(self, contents: t.Mapping[str, bytes]) -> list[str]: ...

    def unpack(self, package: Package, job: Job, family: Family, nonce: str, keys: Keys) -> Program: ...


@dataclass(frozen=True)
class Family:
    """A kind of guests.

    :param marks: how it begins what the properties :data:`PATHS` say.
    :param superuser: who may call the fork point there.
    :param login_advice: what to do when the guest user is not one.
    :param tools: VMware Tools' programs that take commands, in the order of cloud-init: file name, and what comes
        before the command.
    :param directories: where these may lie; in a POSIX guest, besides its PATH.
    :param libraries: where theirs lie, when the guest does not find them by itself.
    :param temporary: where a directory of ours is made when the guest is not asked for a place.
    """

    name: str
    marks: tuple[str, ...]
    tools: tuple[tuple[str, str], tuple[str, str]]
    directories: tuple[str, ...]
    language: Language = posix
    superuser: str = "root"
    login_advice: str = "Use guest_become=sudo, or log in as root."
    temporary: str = "/tmp"
    separator: str = "/"
    libraries: str = ""

    @property
    def is_windows(self) -> bool:
        """Whether paths, rights and processes are those of Windows."""
        return self.language is windows

    @property
    def shell(self) -> str:
        """The program that runs our command lines."""
        return self.language.SHELL

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The programs again, first the one that VMware names for calling the fork point."""
        return tuple(name for name, _flag in reversed(self.tools))

    def join(self, directory: str, name: str) -> str:
        """The path of what lies in a directory."""
        return directory.rstrip(self.separator) + self.separator + name


_RPCTOOL, _VMTOOLSD = ("vmware-rpctool", ""), ("vmtoolsd", "--cmd")
_BIN = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")

LINUX = Family(
    name="Linux",
    marks=("linuxGuest",),
    tools=(_RPCTOOL, _VMTOOLSD),
    directories=(*_BIN, "/usr/lib/vmware-tools/sbin", "/usr/lib/vmware-tools/bin"),
)
ESXI = Family(
    name="ESXi",
    marks=("vmkernel",),
    tools=(_RPCTOOL, _VMTOOLSD),
    directories=("/usr/lib/vmware/vmtools/bin", *_BIN),
    libraries="/usr/lib/vmware/vmtools/lib",
)
MACOS = Family(
    name="macOS",
    marks=("darwin",),
    tools=(_RPCTOOL, ("vmware-tools-daemon", "--cmd")),
    directories=("/Library/Application Support/VMware Tools", *_BIN),
)
WINDOWS = Family(
    name="Windows",
    marks=("win",),
    language=windows,
    superuser="an administrator",
    login_advice="Log in as Administrator: User Account Control may take the rights of others away.",
    tools=(("rpctool.exe", ""), ("vmtoolsd.exe", "--cmd")),
    directories=(r"C:\Program Files\VMware\VMware Tools", r"C:\Program Files (x86)\VMware\VMware Tools"),
    temporary=r"C:\Windows\Temp",
    separator="\\",
)

FAMILIES = (LINUX, ESXI, MACOS, WINDOWS)


def of(values: t.Mapping[str, t.Any], tools_path: str | None = None) -> Family:
    """What kind a VM's guest is.

    VMware Tools are believed before the VM's configuration, and that before the place where the task says that VMware
    Tools lie. A guest of which all this tells nothing is taken for Linux.

    :param values: properties of the VM, those of :data:`PATHS` among them.
    """
    for path in PATHS:
        said = str(values.get(path) or "")
        for family in FAMILIES:
            if said.startswith(family.marks):
                return family
    for family in FAMILIES:
        if tools_path and tools_path.rpartition(family.separator)[0] in family.directories:
            return family
    return LINUX
