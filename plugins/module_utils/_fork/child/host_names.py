# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child's name → the host name and the domain name of its guest. Pure; needs no server.

Private to the collection.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

LONGEST_LABEL = 63
"""Characters of a host name (RFC 1123, section 2.1)."""


class HostName(t.NamedTuple):
    """What a guest is to call itself."""

    hostname: str
    """One label."""
    fqdn: str | None
    """The name with its domain; ``None`` where the name has none."""


def host_name(name: str) -> HostName | None:
    """Return the host name made of a VM's name; ``None`` when no part of it can be one.

    Each label is made a valid one: letters of other scripts are written as IDNA (RFC 3490) does, every other character
    that a host name cannot have becomes a hyphen. A name that is an IP address has no labels.
    """
    labels = [name] if _is_address(name) else name.split(".")
    valid = [label for label in map(_label, labels) if label is not None]
    if not valid:
        return None
    return HostName(valid[0], ".".join(valid) if len(valid) > 1 else None)


def _label(text: str) -> str | None:
    """Return a text as a label of a host name; ``None`` when nothing of it is left."""
    plain = re.sub(r"[^A-Za-z0-9\u0080-\U0010ffff-]+", "-", text).strip("-")
    if not plain.isascii():
        try:
            plain = plain.encode("idna").decode()
        except UnicodeError:  # too long, or of characters that no name can have
            plain = "".join(char for char in plain if char.isascii())
        plain = re.sub(r"[^A-Za-z0-9-]+", "-", plain).strip("-")
    return plain[:LONGEST_LABEL].strip("-") or None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
