# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The privileges that the calls of a run need, and checking them before anything is done.

Private to the collection. Check mode checks them, and so does a task that would
power off a VM. Any other run gets the same message from the call itself.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType

NEEDS: dict[str, dict[str, str]] = {
    # "Required Privileges" in the vSphere API reference, and "Reconfigure privilege" of VirtualMachineConfigSpec.
    "PowerOnVM_Task": {"vm": "VirtualMachine.Interact.PowerOn"},
    "PowerOffVM_Task": {"vm": "VirtualMachine.Interact.PowerOff"},
    "Destroy_Task": {"vm": "VirtualMachine.Inventory.Delete"},
    "ReconfigVM_Task extraConfig": {"vm": "VirtualMachine.Config.AdvancedConfig"},
    "ReconfigVM_Task vAppConfig": {"vm": "VApp.ApplicationConfig"},
    "ReconfigVM_Task vAppConfig values": {"vm": "VApp.InstanceConfig"},
    "ExtractOvfEnvironment": {"vm": "VApp.ExtractOvfEnvironment"},
    "ReconfigVM_Task uuid": {"vm": "VirtualMachine.Config.Settings"},
    "ReconfigVM_Task device": {"vm": "VirtualMachine.Config.EditDevice"},
    "ReconfigVM_Task connectable": {"vm": "VirtualMachine.Interact.DeviceConnection"},
    "CreateTemporaryDirectoryInGuest": {"vm": "VirtualMachine.GuestOperations.Modify"},
    "InitiateFileTransferToGuest": {"vm": "VirtualMachine.GuestOperations.Modify"},
    "StartProgramInGuest": {"vm": "VirtualMachine.GuestOperations.Execute"},
    "ValidateCredentialsInGuest": {"vm": "VirtualMachine.GuestOperations.Query"},
    # Not published: the privilege is named for this, in vCenter's roles as "Toggle fork parent".
    "EnableForkParent_Task": {"vm": "VirtualMachine.Config.ToggleForkParent"},
    "DisableForkParent_Task": {"vm": "VirtualMachine.Config.ToggleForkParent"},
    "InstantClone_Task": {
        "vm": "VirtualMachine.Provisioning.Clone",
        "folder": "VirtualMachine.Inventory.CreateFromExisting",
        "pool": "Resource.AssignVMToPool",
        "datastore": "Datastore.AllocateSpace",
    },
    # All that the vSphere Automation API lists for adapters that are changed at the creation (instant-clone of a VM).
    "InstantClone_Task network": {"network": "Network.Assign"},
    # Not published: assumed to be this, and what InstantClone_Task needs of the places.
    "CreateForkChild_Task": {
        "vm": "VirtualMachine.Config.ToggleForkParent",
        "folder": "VirtualMachine.Inventory.CreateFromExisting",
        "pool": "Resource.AssignVMToPool",
        "datastore": "Datastore.AllocateSpace",
    },
}
"""Method → on which of its objects it needs which privilege."""


@dataclass(frozen=True)
class Step:
    """A call that a run would make.

    :param what: begins the error sentence, as it does in the run.
    :param method: a key of :data:`NEEDS`.

    The others are the objects of the call. If there are several, it is enough that one
    grants the privilege; what is not known is not asked for.
    """

    what: str
    method: str
    vm: tuple[t.Any, ...] = ()
    folder: tuple[t.Any, ...] = ()
    pool: tuple[t.Any, ...] = ()
    datastore: tuple[t.Any, ...] = ()
    network: tuple[t.Any, ...] = ()

    @property
    def needs(self) -> list[tuple[str, tuple[t.Any, ...]]]:
        """The privileges, each with the objects of which one must grant it."""
        return [(privilege, getattr(self, on)) for on, privilege in NEEDS[self.method].items() if getattr(self, on)]


def check(session: Session, steps: t.Sequence[Step]) -> None:
    """Refuse steps that the server would refuse.

    :raises _errors.OperationFailed: the user lacks a privilege.
    """
    for error in refusals(session, {"": steps}).values():
        raise error


def refusals(session: Session, runs: t.Mapping[t.Any, t.Sequence[Step]]) -> dict[t.Any, _errors.Error]:
    """For each run that would fail for want of a privilege, its error: one request for all of them."""
    lacking = _lacking(session, [need for steps in runs.values() for step in steps for need in step.needs])
    result: dict[t.Any, _errors.Error] = {}
    for key, steps in runs.items():
        for step in steps:
            for privilege, objects in step.needs:
                if all((privilege, one) in lacking for one in objects):
                    result.setdefault(key, _errors.lacking(step.what, privilege, objects[0]))
    return result


def _lacking(session: Session, needs: t.Sequence[tuple[str, tuple[t.Any, ...]]]) -> set[tuple[str, t.Any]]:
    """Return the privileges and objects for which the server says that the user lacks them there."""
    if not needs:
        return set()
    privileges = list(dict.fromkeys(privilege for privilege, _objects in needs))
    objects = list(dict.fromkeys(one for _privilege, objects in needs for one in objects))

    def ask() -> t.Any:
        # The server reports that a session that is gone holds nothing. After a new login, the key is another one.
        return session.content.authorizationManager.HasPrivilegeOnEntities(objects, session.key, privileges)

    try:
        answer = session.ask(ask)
    except (_errors.Fault, UnknownType):
        return set()  # who may not ask, or asks a server that cannot tell, learns it in the run
    return {
        (one.privId, of_object.entity)
        for of_object in answer or []
        for one in of_object.privAvailability or []
        if not one.isGranted
    }
