# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the login to a guest.

Private to the collection.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GuestLogin:
    """A guest user, how it becomes root, and how the ESXi host's certificate is checked.

    :param become: ``none`` or ``sudo``.
    :param transfer_certs: ``pinned``, ``ca`` or ``ignore``.
    """

    username: str
    password: str = field(repr=False)
    become: str = "none"
    transfer_certs: str = "pinned"
