# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kind of guest, and what the language of its runner must provide.

Private to the collection. The kinds are listed in ``families.py``.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import Job, Keys, Package, Program


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
    """A kind of guest.

    :param marks: how the values of the properties ``families.PATHS`` begin for this kind.
    :param superuser: who may call the fork point there.
    :param login_advice: what to do when the guest user is not one.
    :param tools: VMware Tools' programs that take commands, in the order of cloud-init: file name, and what comes
        before the command.
    :param directories: where these may lie; in a POSIX guest, besides its PATH.
    :param libraries: where theirs lie, when the guest does not find them by itself.
    :param is_windows: whether paths, rights and processes are those of Windows.
    :param temporary: where a directory of ours is made when the guest is not asked for a place.
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
        """The programs again, first the one that VMware names for calling the fork point."""
        return tuple(name for name, _flag in reversed(self.tools))

    def join(self, directory: str, name: str) -> str:
        """Return the path of what lies in a directory."""
        return directory.rstrip(self.separator) + self.separator + name
