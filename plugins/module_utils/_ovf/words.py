# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Split the name of a property into words.

Private to the collection. Pure functions.
"""

from __future__ import annotations

import re


def in_words(name: str) -> str:
    """Return a name as words: ``guestinfo.mgmtIPv4Address`` is ``guestinfo mgmt Ipv4 Address``."""
    name = re.sub(r"(?<![A-Z])IP", "Ip", name)
    return re.sub(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
