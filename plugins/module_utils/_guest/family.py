# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define a guest family, and what the language of its runner must provide.

Private to the collection. ``families.py`` lists the families.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import Job, Keys, Package, Program

PATHS = ("guest.guestFamily", "guest.guestId", "config.guestId")
"""Properties of a VM that show the family of its guest: from VMware Tools, and from its configuration."""


class Language(t.Protocol):
    """The language of a runner: the modules ``posix`` and ``windows``."""

    SHELL: str

    def refusal(self, job: Job) -> str | None: ...

    def files(self, job: Job, family: Family, nonce: str, freeze_command: str, keys: Keys) -> dict[str, bytes]: ...

    def start(self, family: Family, directory: str) -> Program: ...

    def privatize(self, directory: str) -> Program | None: ...

    def pack(self, contents: t.Mapping[str, bytes]) -> list[str]: ...

    def unpack(self, package: Package, job: Job, family: Family, nonce: str, keys: Keys) -> Program: ...


@dataclass(frozen=True)
class Family:
    """A guest family.

    :param marks: prefixes of the values of ``PATHS`` for this family.
    :param superuser: the user who may call the fork point.
    :param login_advice: what to do if the guest user is not one.
    :param tools: VMware Tools' programs that run commands, in the order of cloud-init: file name, and the flag before
        the command.
    :param directories: where these may be; in a POSIX guest, in addition to its PATH.
    :param libraries: where their libraries are, if the guest does not find them itself.
    :param is_windows: whether paths, rights and processes are those of Windows.
    :param temporary: where our directory is created if the guest is not asked for a place.
    """

    name: str
    marks: tuple[str, ...]
    tools: tuple[tuple[str, str], tuple[str, str]]
    directories: tuple[str, ...]
    language: Language
    superuser: str = "root"
    login_advice: str = "Use guest_become=sudo, or log in as root."
    temporary: str = "/tmp"
    separator: str = "/"
    libraries: str = ""
    is_windows: bool = False

    @property
    def shell(self) -> str:
        """The program that runs our command lines."""
        return self.language.SHELL

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The programs, beginning with the one that VMware documents for calling the fork point."""
        return tuple(name for name, _flag in reversed(self.tools))

    def join(self, directory: str, name: str) -> str:
        """Return the path of a file in a directory."""
        return directory.rstrip(self.separator) + self.separator + name
