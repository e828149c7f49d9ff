# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy Ansible's containers, which template their entries when they are read, into plain ones.

Private to the collection. ``copy.deepcopy`` is no alternative: it copies the variables of the play with each container,
which takes seconds with hundreds of VMs.
"""

from __future__ import annotations

import typing as t


def plain(value: t.Any) -> t.Any:
    """Return a copy of a value with dictionaries and lists of Python's own types; the names of entries become text."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
