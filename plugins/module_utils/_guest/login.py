# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who logs in to a guest.

Private to the collection.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GuestLogin:
    """A guest user, how it becomes root, and which certificate the ESXi host must show.

    :param become: ``none`` or ``sudo``.
    :param transfer_certs: ``pinned``, ``ca`` or ``ignore``.
    """

    username: str
    password: str = field(repr=False)
    become: str = "none"
    transfer_certs: str = "pinned"
