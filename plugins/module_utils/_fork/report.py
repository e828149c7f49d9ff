# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest tells us through guestinfo, and how it is written.

Private to the collection. The runner in the guest writes these values with
``info-set``; we read them in ``config.extraConfig``. Each report begins with
a nonce that was made for it, so that a value inherited from the parent, or
left by an earlier run, never counts.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import typing as t

SCRIPTS = "guestinfo.vmfork.scripts"
"""SHA-256 of the scripts a VM was quiesced with, written before the freeze. Only a VM that stands at the fork point
should have it: it is removed after an early end, in every child, and after a power-off."""

QUIESCED_AT = "guestinfo.vmfork.quiesced_at"
"""When the runner asked for the freeze: UTC by the guest's clock, ISO 8601. Counts beside the scripts only."""

QUIESCE = "guestinfo.vmfork.quiesce"
"""An end before the freeze: ``<nonce> <stage> <exit code> <output>``."""

POST_CLONE = "guestinfo.vmfork.post_clone"
"""The end of a child's post-clone script: ``<nonce> <exit code> <output>``."""

DONE = "vmfork.post_clone"
"""Our note of a persistent child's report, ``<nonce> <exit code>``: guestinfo does not outlast a power cycle on every
server, and the script does not run again. No guest can write this key."""

SECRETS = "guestinfo.vmfork.secrets"
"""The guest's word that it can read its secrets no more: ``<nonce> cleared``."""

PARAMS = "guestinfo.fork."
"""Where a guest reads its config params: VMFork puts them there by itself, and with Instant Clone we do."""

OWN_PARAMS = "vmfork."
"""Config params below this prefix are ours."""

SECRETS_PARAM = "vmfork.secrets"
"""The config param that names the guestinfo keys of a child's secrets, with spaces between."""

NONCE_PARAM = "vmfork.nonce"
"""The config param that carries a child's nonce."""

CHILD_SECRETS, CHILD_NONCE = PARAMS + SECRETS_PARAM, PARAMS + NONCE_PARAM
"""Where a child reads them, whatever made it."""


class Report(t.NamedTuple):
    """How a program in the guest ended."""

    stage: str
    exit_code: int
    output: str


def new_nonce() -> str:
    """A nonce: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def post_clone(extra_config: t.Mapping[str, str], nonce: str | None) -> Report | None:
    """The child's report, or our note of it, if it is there and carries this nonce."""
    for key in (POST_CLONE, DONE):
        parts = extra_config.get(key, "").split(" ")
        if nonce is not None and parts[0] == nonce:
            return _report("post_clone", parts[1:])
    return None


def secrets_cleared(extra_config: t.Mapping[str, str], nonce: str | None) -> bool:
    """Whether the child itself has cleared its secrets, by its word with this nonce."""
    return nonce is not None and extra_config.get(SECRETS) == f"{nonce} cleared"


def early_end(extra_config: t.Mapping[str, str], nonce: str) -> Report | None:
    """The report of a runner that ended before the freeze, if it is there and carries this nonce."""
    parts = extra_config.get(QUIESCE, "").split(" ")
    if parts[0] != nonce or len(parts) < 3:
        return None
    return _report(parts[1], parts[2:])


def as_post_clone(nonce: str, told: Report) -> str:
    """A child's report as the child writes it."""
    return f"{nonce} {told.exit_code} {base64.b64encode(told.output.encode()).decode()}"


MASK = "********"

LONG_ENOUGH, A_REST = 8, 4
"""Characters of a line of a secret that is hidden by itself, and of its end where the output was cut within it; shorter
ones would mangle other output."""

QUOTING = "\"'\\"
"""Characters that shells put between those of a word when they print it (``set -x``)."""


def mask(output: str, secrets: t.Iterable[str]) -> str:
    """Hide secrets in a script's output, as the runner does in the guest.

    Ansible hides them where they stand as they are. Here the output may have
    been cut within one, shells like to put a secret's lines in a row, and to
    quote what they print.
    """
    parts = {part for one in secrets for part in (one, *one.splitlines()) if len(part) >= LONG_ENOUGH}
    if not parts:
        return output
    places = [place for place, char in enumerate(output) if char not in QUOTING]
    plain = "".join(output[place] for place in places)
    hidden: set[int] = set()
    for part in parts:
        letters = "".join(char for char in part if char not in QUOTING)
        if len(letters) < A_REST:
            continue
        at = plain.find(letters)
        while at >= 0:
            hidden.update(range(places[at], places[at + len(letters) - 1] + 1))
            at = plain.find(letters, at + 1)
        longest = min(len(letters) - 1, len(plain))
        rest = next((n for n in range(longest, A_REST - 1, -1) if plain.startswith(letters[-n:])), 0)
        hidden.update(range(places[rest - 1] + 1 if rest else 0))
    return "".join(
        char if place not in hidden else "" if place - 1 in hidden else MASK for place, char in enumerate(output)
    )


def _report(stage: str, parts: list[str]) -> Report | None:
    """Exit code, and output in base64, which may be missing when there was none."""
    if not parts or not parts[0].isdigit():
        return None
    try:
        output = base64.b64decode("".join(parts[1:])).decode(errors="replace")
    except binascii.Error:
        output = ""
    return Report(stage, int(parts[0]), output)
