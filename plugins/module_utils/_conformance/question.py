# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define a question about a vCenter's behavior.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import Lab


class Question(t.NamedTuple):
    """A question about one rule of the simulator.

    :param ask: returns the answer: one of ``choices``, the type of a fault, or :data:`OTHER`.
    :param choices: the choices of the rule; the first one is the simulator's default.
    :param engine: the engine that the question is about; ``None``: it can be asked with either.
    :param needs_guest: whether programs have to run in the guest.
    """

    rule: str
    ask: t.Callable[[Lab], str]
    choices: tuple[str, ...]
    engine: str | None = None
    needs_guest: bool = False
