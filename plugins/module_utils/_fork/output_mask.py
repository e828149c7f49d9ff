# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mask secrets in the output of a script that ran in a guest.

Private to the collection. Pure functions. The runners do the same in the
guest (``hide_secrets`` in ``_guest/posix.py`` and ``_guest/windows.py``); this
is for runners that could not, and for passwords that the guest does not know.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _encodings
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import LONG_ENOUGH, MASK

A_REST = 4
"""Minimum number of characters of the end of a secret to mask if the output begins within it; shorter ones would mask
parts of other output."""

IGNORED = "\"'\\\r\n"
"""Characters that the comparison ignores: those that shells insert when they print a command (``set -x``), and the line
breaks of base64."""


def mask(output: str, secrets: t.Iterable[str]) -> str:
    """Mask secrets and their encodings in a script's output, as the runner does in the guest.

    Ansible masks only exact matches. Here, the output may begin within a
    secret, and shells may join the lines of a secret, or quote what they
    print.
    """
    whole = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= LONG_ENOUGH}
    parts = whole.union(*(_encodings.forms(part) for part in whole))
    if not parts:
        return output
    places = [place for place, char in enumerate(output) if char not in IGNORED]
    plain = "".join(output[place] for place in places)
    hidden: set[int] = set()
    for part in parts:
        letters = "".join(char for char in part if char not in IGNORED)
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
