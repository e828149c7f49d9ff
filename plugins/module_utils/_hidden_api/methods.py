# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the unpublished methods of VirtualMachine in one table.

Private to the collection. Pure data; ``soap.py`` and ``mob.py`` send them.

Sources: the method names and the properties they change were found in the
page source of the Managed Object Browser of vCenter 6.0 (blog of higebu,
27 April 2016); parameters and wire form are from lox/govmomi-vmfork, used with
vCenter 6.0; VirtualMachineCreateChildSpec is documented in the vSphere API 6.0
reference (vim.vm.CreateChildSpec).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

VERSION = "vim.version.version10"
"""vSphere API 6.0, which introduced VMFork."""

VSPHERE = "vSphere 6.0 and 6.5"
"""The releases that have these methods."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, or a property of a data object.

    :param type: name of the type in pyVmomi: ``vim.HostSystem``.
    """

    name: str
    type: str
    optional: bool = False


@dataclass(frozen=True)
class Method:
    """A method that returns a task. On the wire its name is followed by ``_Task``."""

    name: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def wire_name(self) -> str:
        """The name of the SOAP request: ``EnableForkParent_Task``."""
        return f"{self.name}_Task"

    @property
    def browser_name(self) -> str:
        """The name in the Managed Object Browser: ``enableForkParent``."""
        return self.name[0].lower() + self.name[1:]


ENABLE_FORK_PARENT = Method("EnableForkParent", (Parameter("host", "vim.HostSystem", optional=True),))
DISABLE_FORK_PARENT = Method("DisableForkParent")
CREATE_FORK_CHILD = Method(
    "CreateForkChild", (Parameter("name", "string"), Parameter("spec", "vim.vm.CreateChildSpec"))
)
RETRIEVE_FORK_CHILDREN = Method("RetrieveForkChildren")
RETRIEVE_FORK_PARENT = Method("RetrieveForkParent")

CREATE_CHILD_SPEC = (
    Parameter("location", "vim.vm.RelocateSpec", optional=True),
    Parameter("persistent", "boolean"),
    Parameter("configParams", "vim.option.OptionValue[]", optional=True),
)
"""VirtualMachineCreateChildSpec, in the order of its elements on the wire."""


class Caller(t.Protocol):
    """A way to call these methods: SOAP, or the Managed Object Browser."""

    def call(self, vm: t.Any, method: Method, **arguments: t.Any) -> t.Any:
        """Call a method of a VM, and return the task that it starts.

        :raises _errors.MethodUnknown: the server does not know the method.
        """

    def child_spec(self, **values: t.Any) -> t.Any:
        """Return a VirtualMachineCreateChildSpec."""
