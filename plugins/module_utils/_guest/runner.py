# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define what the runner in a guest does, from before the fork point to after it.

Private to the collection. Pure functions: scripts in, files out. The runner
does pre-quiesce → fork point → (in each child) post-clone. ``_fork/guestinfo.py``
describes its reports; their keys are parameters here. ``posix.py`` generates it
for sh and ``windows.py`` for PowerShell, with the same structure; ``families.py``
selects one for a guest.
"""

from __future__ import annotations

import base64
import hashlib
import typing as t
from dataclasses import dataclass

Program = t.Tuple[str, str]  # noqa: UP006, ansible-test reads aliases as Python 3.8 would
"""A program's path in the guest, and its arguments."""

STAGES = {
    "unpack": 71,
    "tools": 72,
    "not_root": 73,
    "become": 74,
    "pre_quiesce": 75,
    "freeze": 76,
    "script": 77,
    "terminated": 78,
    "busy": 79,
    "prepare": 80,
}
"""Stage in which a runner ended before the freeze → its own exit code, for a guest that cannot report.
(Chosen by us; the script's exit code is in the report.)"""

IDENTITY = "identity="
"""Beginning of the word with the digest of the identity script in the record of the scripts."""

CHUNK = 60_000
"""Maximum size of a guestinfo value in bytes: VMware Tools carries 64 KB in one answer, including some overhead."""

STOP = "stop"
"""Name of the stop marker: it ends a runner when it appears in its directory, if no signal can be sent."""


MARK = "Made by the Ansible collection vmfork.vsphere"
"""Text in the first lines of every runner: a directory ``vmfork.*`` with such a runner is ours."""

ALIVE = "alive"
"""File that shows that a runner is alive: it contains the process ID, and on Windows the runner keeps it open."""


LEADS = "leads"
"""File in the directory of the only runner that continues to the fork point."""


@dataclass(frozen=True)
class Keys:
    """guestinfo keys that the runner reads and writes."""

    scripts: str
    quiesced_at: str
    quiesce: str
    post_clone: str
    identity: str
    nonce: str
    secret_keys: str
    secrets: str
    payload: str


@dataclass(frozen=True)
class Identity:
    """The identity script, which runs before the user's scripts.

    :param script: called with ``prepare`` before the fork point, with ``undo`` if the VM does not get there after that,
        and with ``renew`` in each child.
    :param items: its second argument.
    :param network: its third argument.
    """

    script: str
    items: str = "auto"
    network: str = "auto"

    @property
    def text(self) -> str:
        return _as_in_linux(self.script)

    def arguments(self, step: str) -> tuple[str, str, str]:
        """Return the arguments of the script in one of its steps."""
        return step, self.items, self.network

    def digest(self) -> str:
        """Return the SHA-256 of the script and its arguments, in hexadecimal digits."""
        return hashlib.sha256("\0".join((self.text, self.items, self.network)).encode()).hexdigest()


def _as_in_linux(script: str) -> str:
    """Return a script with the line ends of Linux and no byte order mark: a script that was edited on Windows would
    otherwise fail at its first line.
    """
    return script.removeprefix("\ufeff").replace("\r\n", "\n")


@dataclass(frozen=True)
class Job:
    """The job of a runner.

    :param pre_quiesce: script to run before the fork point, or ``None``.
    :param post_clone: script to run in every child, or ``None``.
    :param script: one script that calls the fork point itself, instead of the other two.
    :param interpreter: overrides the interpreter in a script's first line.
    :param identity: the identity script, which has its own interpreter.
    :param tools_path: path of VMware Tools' program in the guest; ``None``: search for it.
    """

    pre_quiesce: str | None = None
    post_clone: str | None = None
    script: str | None = None
    interpreter: str | None = None
    tools_path: str | None = None
    become: str = "none"
    identity: Identity | None = None

    @property
    def scripts(self) -> dict[str, str | None]:
        """The user's scripts."""
        given = {"pre_quiesce": self.pre_quiesce, "post_clone": self.post_clone, "script": self.script}
        return {name: text and _as_in_linux(text) for name, text in given.items()}

    def digest(self) -> str:
        """Return the SHA-256 of the user's scripts and their interpreter, in hexadecimal digits."""
        digest = hashlib.sha256()
        for part in (self.interpreter, *self.scripts.values()):
            data = b"-" if part is None else b"+" + part.encode()
            digest.update(b"%d:" % len(data) + data)
        return digest.hexdigest()

    def settings(self, nonce: str, freeze_command: str, keys: Keys) -> dict[str, str]:
        """Return the variables of a runner by their names in the script."""
        return {
            "nonce": nonce,
            "record": " ".join([self.digest(), nonce, *([IDENTITY + self.identity.digest()] if self.identity else [])]),
            "freeze": freeze_command,
            "key_scripts": keys.scripts,
            "key_quiesced_at": keys.quiesced_at,
            "key_quiesce": keys.quiesce,
            "key_post_clone": keys.post_clone,
            "key_identity": keys.identity,
            "key_nonce": keys.nonce,
            "key_secret_keys": keys.secret_keys,
            "key_secrets": keys.secrets,
        }


def chunks(archive: bytes) -> list[str]:
    """Return an archive as guestinfo values: base64 text."""
    text = base64.b64encode(archive).decode()
    return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]


class Package(t.NamedTuple):
    """Files that are passed in guestinfo values.

    :param directory: where they are unpacked: a path that nobody can guess. It must not exist yet, so that nobody can
        have prepared it.
    """

    chunks: list[str]
    directory: str
