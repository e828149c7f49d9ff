# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of examples of a property test. VMFORK_EXAMPLES limits it, for runs in which only versions matter."""

from __future__ import annotations

import os

from hypothesis import settings

LIMIT = int(os.environ.get("VMFORK_EXAMPLES", "10000"))


def examples(count: int) -> settings:
    """Return the settings of a property test that gets so many examples, if the limit allows."""
    return settings(max_examples=min(count, LIMIT))
