# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive the host name and the domain name of a guest from the child's name. Pure; needs no server.

Private to the collection.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

LONGEST_LABEL = 63
"""Maximum number of characters in a host name (RFC 1123, section 2.1)."""


class HostName(t.NamedTuple):
    """The names that a guest should use."""

    hostname: str
    """A single label."""
    fqdn: str | None
    """The name with its domain; ``None`` if it has no domain."""


def host_name(name: str) -> HostName | None:
    """Return the host name derived from a VM's name; ``None``: no part of it can be a host name.

    Each label is made valid: letters of other scripts are encoded as IDNA (RFC 3490), every other character that a
    host name cannot have becomes a hyphen. A name that is an IP address has no labels.
    """
    labels = [name] if _is_address(name) else name.split(".")
    valid = [label for label in map(_label, labels) if label is not None]
    if not valid:
        return None
    return HostName(valid[0], ".".join(valid) if len(valid) > 1 else None)


def _label(text: str) -> str | None:
    """Return a text as a label of a host name; ``None``: nothing valid remains."""
    plain = re.sub(r"[^A-Za-z0-9\u0080-\U0010ffff-]+", "-", text).strip("-")
    if not plain.isascii():
        try:
            plain = plain.encode("idna").decode()
        except UnicodeError:  # too long, or with characters that no name can have
            plain = "".join(char for char in plain if char.isascii())
        plain = re.sub(r"[^A-Za-z0-9-]+", "-", plain).strip("-")
    return plain[:LONGEST_LABEL].strip("-") or None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
