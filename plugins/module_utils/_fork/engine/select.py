# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Select the engine that a server and a task need.

Private to the collection.
"""

from __future__ import annotations

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import API_6_7, Session


def choose(session: Session, api: str, call_via: str) -> Engine:
    """Return the engine for a server.

    :param api: ``auto`` selects by API version, anything else is an engine's name.
    :param call_via: ``auto``, ``soap`` or ``mob``; ignored with Instant Clone.
    :raises _errors.BadInput: the server is an ESXi host.
    :raises _errors.MethodUnknown: the server is too old.
    """
    if not session.is_vcenter:
        raise _errors.BadInput(
            f"{session.name} is an ESXi host, and only vCenter can fork VMs. Set hostname to a vCenter."
        )
    knows_instant_clone = session.api_version >= API_6_7
    if api == "vmfork" or (api == "auto" and not knows_instant_clone):
        # Ansible compiles what is imported in every task, and most servers are newer.
        from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.vmfork import VmforkEngine
        from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import transport

        return VmforkEngine(transport.caller(session, call_via))
    if not knows_instant_clone:
        # pyVmomi uses no newer version of the API than the server does, so the method cannot be tried.
        raise _errors.MethodUnknown(
            f"{session.name} does not have the method InstantClone_Task, which requires vSphere 6.7 or newer. Use "
            "api=vmfork, or remove api."
        )
    return InstantCloneEngine(session)
