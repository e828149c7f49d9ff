# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to fork a VM, on each of which the tests of the fork modules run, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest


@dataclass(frozen=True)
class Way:
    """A server, and how its VMs are forked.

    :ivar options: of the four fork modules.
    :ivar rules: of the simulator.
    :ivar create: the method that creates a child.
    :ivar create_privilege: the privilege that it requires on the parent.
    :ivar freeze: the command with which the guest asks VMware Tools to stop at the fork point.
    :ivar enabled: ``enabled`` of a parent that can be quiesced.
    :ivar child_type: of a child created with the default options.
    :ivar born_running: a child runs and has its record from its creation on, and keeps its disks.
    :ivar logins: how often a task logs in that calls a hidden method.
    """

    name: str
    api: str
    api_version: str
    create: str
    create_privilege: str
    freeze: str
    enabled: bool | None
    child_type: str
    born_running: bool
    logins: int = 1
    options: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    def method(self, name: str) -> str:
        """Return the name of a method; CREATE stands for the one that creates a child."""
        return self.create if name == CREATE else name


SOAP = Way(
    name="soap",
    api="vmfork",
    api_version="6.5",
    create="CreateForkChild_Task",
    create_privilege="VirtualMachine.Config.ToggleForkParent",
    freeze="vmfork-begin -1 -1",
    enabled=True,
    child_type="nonpersistent",
    born_running=False,
)
MOB = replace(
    SOAP,
    name="mob",
    logins=2,
    options={"call_via": "mob"},
    # A hidden method that is called over SOAP nevertheless fails.
    rules={"hidden_methods_over_soap": "unknown"},
)
INSTANT_CLONE = Way(
    name="instant_clone",
    api="instant_clone",
    api_version="8.0.3.0",
    create="InstantClone_Task",
    create_privilege="VirtualMachine.Provisioning.Clone",
    freeze="instantclone.freeze",
    enabled=None,
    child_type="instant_clone",
    born_running=True,
)

CREATE = "create"
"""Stands for the method that creates a child, among the cases of a test."""

CHANGING = {
    "EnableForkParent_Task",
    "DisableForkParent_Task",
    "CreateForkChild_Task",
    "InstantClone_Task",
    "ReconfigVM_Task",
    "PowerOnVM_Task",
    "PowerOffVM_Task",
    "Destroy_Task",
}
"""Methods that change something in vCenter."""

both_engines = pytest.mark.ways(SOAP, INSTANT_CLONE)
every_way = pytest.mark.ways(SOAP, MOB, INSTANT_CLONE)
"""A test that calls a hidden method, of what may differ when the call goes through the browser."""
either_engine = pytest.mark.ways(SOAP)
"""A test of what is the same for both engines."""


def vmfork_only(why: str, *, mob: bool = False) -> pytest.MarkDecorator:
    """Return the mark of a test of what only VMFork has.

    :param mob: through the browser as well; see :data:`every_way`.
    """
    return pytest.mark.ways(SOAP, *([MOB] if mob else []), why=why)


def instant_clone_only(why: str) -> pytest.MarkDecorator:
    """Return the mark of a test of what only Instant Clone has."""
    return pytest.mark.ways(INSTANT_CLONE, why=why)
