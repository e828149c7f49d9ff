# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the result of a child, as ``vmfork_child`` returns it.

Private to the collection.
"""

from __future__ import annotations

import enum
import math
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import transitions

if t.TYPE_CHECKING:  # Ansible compiles what is imported in every task
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import losses


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
    :param timeline: seconds until it reached each milestone of this task.
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
    timeline: t.Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None
    losses: losses.Losses | None = None

    def as_dict(self, whole_output: bool = False) -> dict[str, t.Any]:
        """Return the entry in the ``children`` return value.

        :param whole_output: include the whole output of a successful child instead of its last line.
        """
        child = self.child
        ended = child.report if child is not None else None
        output = ended.output if ended is not None else None
        if output is not None and self.error is None and not whole_output:
            output = _last_line(output)
        return {
            **self.facts,
            "state": self.state.value,
            "changed": self.changed,
            "config_params": child.shown_params if child is not None else {},
            "secrets_cleared": bool(child is not None and child.secrets_cleared),
            "post_clone": {
                "done": ended is not None,
                "exit_code": ended.exit_code if ended is not None else None,
                "output": output,
            },
            "identity": _identity(child),
            "seconds": self.seconds,
            "timeline": {milestone: self.timeline.get(milestone) for milestone in transitions.MILESTONES},
            "error": self.error,
        }


def _identity(child: transitions.Child | None) -> dict[str, t.Any] | None:
    report = child.own_identity.report if child is not None else None
    return report.as_dict(child.objection is None) if child is not None and report is not None else None


def _last_line(output: str) -> str:
    """Return the last line that is not blank: long output of many children would fill a log."""
    return (output.rstrip().splitlines() or [""])[-1]


def timeline(results: t.Iterable[Result]) -> dict[str, dict[str, float] | None]:
    """Return for each milestone how long the children took to reach it; ``None`` if none has reached it."""
    found = list(results)
    return {
        milestone: _spread(result.timeline.get(milestone) for result in found) for milestone in transitions.MILESTONES
    }


def _spread(values: t.Iterable[float | None]) -> dict[str, float] | None:
    """Return median, 95th percentile (both by nearest rank) and maximum."""
    seconds = sorted(value for value in values if value is not None)
    if not seconds:
        return None
    return {
        "p50": seconds[math.ceil(len(seconds) * 0.5) - 1],
        "p95": seconds[math.ceil(len(seconds) * 0.95) - 1],
        "max": seconds[-1],
    }
