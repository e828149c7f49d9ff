# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hide secrets in the output of a script that ran in a guest.

Private to the collection. Pure functions. The runners do the same in the
guest (``hide_secrets`` in ``_guest/posix.py`` and ``_guest/windows.py``); this
is for a runner that could not, and for passwords that the guest does not know.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _encodings
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import LONG_ENOUGH, MASK

A_REST = 4
"""Characters of the end of a secret that is hidden where the output was cut within it; shorter ones would hide parts of
other output."""

IGNORED = "\"'\\\r\n"
"""Characters that are ignored in the comparison: those that shells put between the others when they print them
(``set -x``), and the line breaks of base64."""


def mask(output: str, secrets: t.Iterable[str]) -> str:
    """Hide secrets and their encodings in a script's output, as the runner does in the guest.

    Ansible hides them where they stand as they are. Here the output may have
    been cut within one, shells like to put a secret's lines in a row, and to
    quote what they print.
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
