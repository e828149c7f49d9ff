# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines that fork VMs, and how they differ. The tests of the fork modules run on each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest


@dataclass(frozen=True)
class Engine:
    """A server, and how its VMs are forked.

    :ivar options: options of the four fork modules.
    :ivar rules: rules of the simulator.
    :ivar create: the method that creates a child.
    :ivar create_privilege: the privilege that it requires on the parent.
    :ivar freeze: the command with which the guest asks VMware Tools to stop at the fork point.
    :ivar enabled: value of ``enabled`` for a parent that can be quiesced.
    :ivar child_type: type of a child created with the default options.
    :ivar starts_running: whether a child runs and has its record from the start, and keeps its disks.
    :ivar logins: number of logins of a task that calls a method of the engine.
    """

    name: str
    api: str
    api_version: str
    create: str
    create_privilege: str
    freeze: str
    enabled: bool | None
    child_type: str
    starts_running: bool
    logins: int = 1
    options: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    def method(self, name: str) -> str:
        """Return the name of a method; CREATE means the one that creates a child."""
        return self.create if name == CREATE else name


SOAP = Engine(
    name="soap",
    api="vmfork",
    api_version="6.5",
    create="CreateForkChild_Task",
    create_privilege="VirtualMachine.Config.ToggleForkParent",
    freeze="vmfork-begin -1 -1",
    enabled=True,
    child_type="nonpersistent",
    starts_running=False,
)
MOB = replace(
    SOAP,
    name="mob",
    logins=2,
    options={"call_via": "mob"},
    # Hidden methods called over SOAP fail.
    rules={"hidden_methods_over_soap": "unknown"},
)
INSTANT_CLONE = Engine(
    name="instant_clone",
    api="instant_clone",
    api_version="8.0.3.0",
    create="InstantClone_Task",
    create_privilege="VirtualMachine.Provisioning.Clone",
    freeze="instantclone.freeze",
    enabled=None,
    child_type="instant_clone",
    starts_running=True,
)

CREATE = "create"
"""A placeholder for the method that creates a child in the parameters of a test."""

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

both_engines = pytest.mark.engines(SOAP, INSTANT_CLONE)
every_transport = pytest.mark.engines(SOAP, MOB, INSTANT_CLONE)
"""Marks a test whose result may depend on the transport: VMFork over SOAP and through the MOB, and Instant Clone."""
either_engine = pytest.mark.engines(SOAP)
"""Marks a test of something that does not depend on the engine."""


def vmfork_only(why: str, *, mob: bool = False) -> pytest.MarkDecorator:
    """Return the mark of a test that applies to VMFork only.

    :param mob: run it through the MOB as well; see :data:`every_transport`.
    """
    return pytest.mark.engines(SOAP, *([MOB] if mob else []), why=why)


def instant_clone_only(why: str) -> pytest.MarkDecorator:
    """Return the mark of a test that applies to Instant Clone only."""
    return pytest.mark.engines(INSTANT_CLONE, why=why)
