# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a child, as ``vmfork_child`` returns it.

Private to the collection.
"""

from __future__ import annotations

import enum
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import losses, transitions


class State(str, enum.Enum):
    """The result of a child, as in the ``state`` of its return value."""

    CREATED = "created"
    EXISTING = "existing"
    REMOVED = "removed"
    ABSENT = "absent"
    DETACHED = "detached"
    FAILED = "failed"


@dataclass
class Result:
    """The result of one child.

    :param vm: its VM, if this task deals or dealt with one.
    :param before: its power state before the task; ``None``: it did not exist.
    :param losses: what is lost, or would be lost, with it.
    """

    name: str
    state: State
    vm: t.Any = None
    before: str | None = None
    changed: bool = False
    facts: dict[str, t.Any] = field(default_factory=dict)
    child: transitions.Child | None = None
    seconds: float = 0.0
    error: str | None = None
    losses: losses.Losses | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """Return the entry in the ``children`` return value."""
        child = self.child
        ended = child.report if child is not None else None
        return {
            **self.facts,
            "state": self.state.value,
            "changed": self.changed,
            "config_params": child.shown_params if child is not None else {},
            "secrets_cleared": bool(child is not None and child.secrets_cleared),
            "post_clone": {
                "done": ended is not None,
                "exit_code": ended.exit_code if ended is not None else None,
                "output": ended.output if ended is not None else None,
            },
            "seconds": self.seconds,
            "error": self.error,
        }
