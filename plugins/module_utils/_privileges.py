# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the privileges that calls need, and check them before anything is done.

Private to the collection. Check mode checks them, and so does a task that is
about to power off a VM. Otherwise the call itself fails with the same message.
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
    "SuspendVM_Task": {"vm": "VirtualMachine.Interact.Suspend"},
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
    # Not published: the privilege has the method's name; in vCenter's roles it is "Toggle fork parent".
    "EnableForkParent_Task": {"vm": "VirtualMachine.Config.ToggleForkParent"},
    "DisableForkParent_Task": {"vm": "VirtualMachine.Config.ToggleForkParent"},
    "InstantClone_Task": {
        "vm": "VirtualMachine.Provisioning.Clone",
        "folder": "VirtualMachine.Inventory.CreateFromExisting",
        "pool": "Resource.AssignVMToPool",
        "datastore": "Datastore.AllocateSpace",
    },
    # The vSphere Automation API lists this for adapters that are changed at creation (instant-clone of a VM).
    "InstantClone_Task network": {"network": "Network.Assign"},
    # Not published: assumed to be this, plus what InstantClone_Task needs on the places.
    "CreateForkChild_Task": {
        "vm": "VirtualMachine.Config.ToggleForkParent",
        "folder": "VirtualMachine.Inventory.CreateFromExisting",
        "pool": "Resource.AssignVMToPool",
        "datastore": "Datastore.AllocateSpace",
    },
}
"""Method → the privilege that it needs on each of its objects."""


@dataclass(frozen=True)
class Step:
    """A call that a run would make.

    :param what: begins the error sentence, as in the run.
    :param method: a key of :data:`NEEDS`.

    The other fields are the objects of the call. If there are several, one of them must
    grant the privilege; objects that are not known are not checked.
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
        """The privileges, each with the objects of which at least one must grant it."""
        return [(privilege, getattr(self, on)) for on, privilege in NEEDS[self.method].items() if getattr(self, on)]


def check(session: Session, steps: t.Sequence[Step]) -> None:
    """Refuse steps that the server would refuse.

    :raises _errors.OperationFailed: the user lacks a privilege.
    """
    for error in refusals(session, {"": steps}).values():
        raise error


def refusals(session: Session, runs: t.Mapping[t.Any, t.Sequence[Step]]) -> dict[t.Any, _errors.Error]:
    """Return an error for each run that would fail because of a missing privilege, with one call for all runs.

    If the user or the server does not allow this check, there is none: the run itself shows it.
    """
    return known_refusals(session, runs) or {}


def known_refusals(session: Session, runs: t.Mapping[t.Any, t.Sequence[Step]]) -> dict[t.Any, _errors.Error] | None:
    """Return errors as :func:`refusals` does; ``None``: it is not known what the user may do."""
    lacking = _lacking(session, [need for steps in runs.values() for step in steps for need in step.needs])
    if lacking is None:
        return None
    result: dict[t.Any, _errors.Error] = {}
    for key, steps in runs.items():
        for step in steps:
            for privilege, objects in step.needs:
                if all((privilege, obj) in lacking for obj in objects):
                    result.setdefault(key, _errors.lacking(step.what, privilege, objects[0]))
    return result


def _lacking(session: Session, needs: t.Sequence[tuple[str, tuple[t.Any, ...]]]) -> set[tuple[str, t.Any]] | None:
    """Return the privileges that the user lacks, each with the object; ``None``: the server does not answer that."""
    if not needs:
        return set()
    privileges = list(dict.fromkeys(privilege for privilege, _objects in needs))
    objects = list(dict.fromkeys(obj for _privilege, objects in needs for obj in objects))

    def ask() -> t.Any:
        # For an ended session, the server reports no privileges. After a new login, the key is different.
        return session.content.authorizationManager.HasPrivilegeOnEntities(objects, session.key, privileges)

    try:
        answer = session.ask(ask)
    except (_errors.Fault, UnknownType):
        return None
    return {
        (privilege.privId, of_object.entity)
        for of_object in answer or []
        for privilege in of_object.privAvailability or []
        if not privilege.isGranted
    }
