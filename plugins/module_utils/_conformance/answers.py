# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the answers to questions about a vCenter's behavior, and how a request ended.

Private to the collection.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vmodl

OTHER = "other"
"""The answer if vCenter did something that no choice of the rule describes."""

MOST_KEYS = 10
"""The number of message keys that are kept of one fault."""


class SeenFault(t.NamedTuple):
    """A fault as it may be recorded: its type name and the keys of its messages, without text and arguments."""

    type: str
    keys: tuple[str, ...] = ()


def seen(fault: t.Any) -> SeenFault:
    """Return a fault of a call or a task as it may be recorded.

    :param fault: pyVmomi's ``vmodl.MethodFault``; anything else is a fault that pyVmomi does not know.
    """
    if not isinstance(fault, vmodl.MethodFault):
        return SeenFault(OTHER)
    keys: list[str] = []
    cause, depth = fault, 0
    while cause is not None and depth < MOST_KEYS:
        keys += [message.key for message in cause.faultMessage or [] if message.key]
        cause, depth = getattr(cause.faultCause, "fault", None), depth + 1
    return SeenFault(_errors.fault_name(fault), tuple(dict.fromkeys(keys))[:MOST_KEYS])


class Outcome(t.NamedTuple):
    """The end of a request: its result, or its fault."""

    result: t.Any = None
    fault: SeenFault | None = None

    @property
    def succeeded(self) -> bool:
        return self.fault is None

    def choice(self, success: str) -> str:
        """Return the answer of a question whose choices are a word for success and names of faults."""
        return success if self.fault is None else self.fault.type


class NotAsked(Exception):
    """A question cannot be asked of this VM now; the text is the reason, and one of :data:`REASONS`."""


REASONS = {
    "engine": "this vCenter does not have the fork methods that the question is about",
    "selected": "the option questions does not name it",
    "time": "the time of the task was over",
    "guest": "no guest login was given",
    "posix": "the guest has no POSIX shell",
    "vapp": "the VM has vApp options of its own, which are left unchanged",
    "folder": "the VM is in the root VM folder, where a clone would be created anyway",
    "adapter": "the VM has no network adapter",
    "controller": "the VM has no device that the request could name",
    "letters": "the name of the VM has no letters",
    "checker": "this vCenter does not have the check",
    "few_events": "this vCenter has fewer than 1,000 events",
    "group": "this vCenter does not show fork groups",
    "precondition": "the vCenter refused a request that the question depends on",
}
"""Why a question may not be asked although one VM can show the answer."""


ANSWERED, NOT_ASKED, FAILED = "answered", "not asked", "failed"
"""The states of an answer."""


@dataclass
class Answer:
    """What is known about one rule.

    :ivar choice: a choice of the rule, the type of a fault, or :data:`OTHER`; empty without an answer.
    :ivar expected: the simulator's default.
    :ivar reason: why the rule was not asked about.
    :ivar at: seconds from the beginning of the run, and ``seconds`` that it took.
    """

    rule: str
    state: str
    expected: str
    choice: str = ""
    reason: str = ""
    faults: tuple[SeenFault, ...] = ()
    at: float = 0.0
    seconds: float = 0.0

    @property
    def contradicts(self) -> bool:
        """Return whether the vCenter does something else than the simulator."""
        return self.state == ANSWERED and self.choice != self.expected
