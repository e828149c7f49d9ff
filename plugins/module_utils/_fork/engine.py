# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ways vSphere forks a VM, behind one interface, and which one to use.

Private to the collection. An engine knows the requests and properties of its
generation of the API; what is done with them is the same for both.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.vmfork import VmforkEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.methods import VSPHERE
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.soap import SoapCaller
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

FIRST_INSTANT_CLONE = (6, 7)
"""API version that brought InstantClone_Task."""


class ChildRequest(t.NamedTuple):
    """What the server is asked to make."""

    name: str
    persistent: bool
    params: dict[str, str]
    location: dict[str, t.Any]


class Engine(t.Protocol):
    """One generation of the fork API. Values are properties of a VM, by path."""

    name: str
    freeze_command: str
    """What the guest hands to VMware Tools to stop at the fork point."""
    params_prefix: str
    """Where in guestinfo a child reads its parameters."""
    paths: tuple[str, ...]
    """Properties the engine needs to know of a VM."""
    enable_method: str
    disable_method: str
    create_method: str
    """What the server is asked by these, as ``_privileges.NEEDS`` has it."""

    def is_enabled(self, values: t.Mapping[str, t.Any]) -> bool | None:
        """Whether the VM is a fork parent; ``None`` where nothing needs enabling."""

    def is_quiesced(self, values: t.Mapping[str, t.Any]) -> bool:
        """Whether the VM stands still at the fork point."""

    def enable(self, vm: t.Any, host: t.Any | None) -> t.Any:
        """Make the VM a fork parent: a task."""

    def disable(self, vm: t.Any) -> t.Any:
        """Make the VM an ordinary one: a task."""

    def create(self, parent: t.Any, child: ChildRequest) -> t.Any:
        """Make a child: a task."""

    def list_children(self, parent: t.Any) -> t.Any:
        """Ask the server for the parent's children: a task whose result is a list of VMs."""

    def find_parent(self, child: t.Any) -> t.Any:
        """Ask the server for a child's parent: a task whose result is a VM, or nothing."""


def choose(session: Session, api: str, call_via: str) -> Engine:
    """The engine for a server.

    :param api: ``auto`` goes by the API version, anything else is an engine's name.
    :param call_via: ``auto``, ``soap`` or ``mob``.
    :raises _errors.BadInput: the choice is not to be had.
    """
    if not session.is_vcenter:
        raise _errors.BadInput(
            f"{session.name} is an ESXi host, and forking is vCenter's work. Give a vCenter server in hostname."
        )
    if call_via == "mob":
        raise _errors.BadInput(
            "call_via=mob is not available in this version of the collection. Use call_via=soap, or leave it out."
        )
    if api == "instant_clone":
        raise _errors.BadInput(
            f"api=instant_clone is not available in this version of the collection, which forks on {VSPHERE}. "
            "Use community.vmware.vmware_guest_instant_clone on newer servers."
        )
    if api == "auto" and session.api_version >= FIRST_INSTANT_CLONE:
        raise _errors.BadInput(
            f"{session.name} forks by Instant Clone, which is not available in this version of the collection; "
            f"the VMFork methods belong to {VSPHERE}. "
            "Use community.vmware.vmware_guest_instant_clone, or try api=vmfork where the server still knows them."
        )
    return VmforkEngine(SoapCaller(session))
