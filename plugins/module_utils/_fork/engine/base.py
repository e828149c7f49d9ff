# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of the two engines that fork a VM, and the request for a child.

Private to the collection. An engine knows the requests and properties of its
generation of the API; what is done with them is the same for both.
"""

from __future__ import annotations

import typing as t
from types import MappingProxyType

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec


class CreateRequest(t.NamedTuple):
    """What the server is asked to make.

    :param params: config params, by the keys of the task.
    :param location: arguments of a VirtualMachineRelocateSpec.
    :param bios_uuid: the BIOS UUID that :meth:`Engine.uuid_at_creation` has returned.
    :param record: the extraConfig keys that make the child ours; empty without ``bios_uuid``, which they contain.
    :param inherited: the parent's extraConfig, with which a full VM begins.
    :param device_changes: settings of its adapters (VirtualDeviceConfigSpec).
    """

    name: str
    persistent: bool
    params: dict[str, str]
    location: dict[str, t.Any]
    bios_uuid: str | None = None
    record: t.Mapping[str, str] = MappingProxyType({})
    inherited: t.Mapping[str, str] = MappingProxyType({})
    device_changes: t.Sequence[t.Any] = ()


class ParentRegistry(t.Protocol):
    """The server's registry of fork parents, which have to be enabled, and of the children of each."""

    enable_method: str
    disable_method: str
    """What the server is asked by these, as ``_privileges.NEEDS`` has it."""

    def enable(self, vm: t.Any, host: t.Any | None) -> t.Any:
        """Make the VM a fork parent: a task."""

    def disable(self, vm: t.Any) -> t.Any:
        """Make the VM an ordinary one: a task."""

    def list_children(self, parent: t.Any) -> t.Any:
        """Ask the server for the parent's children: a task whose result is a list of VMs."""

    def find_parent(self, child: t.Any) -> t.Any:
        """Ask the server for a child's parent: a task whose result is a VM, or nothing."""


class Engine(t.Protocol):
    """One generation of the fork API. Values are properties of a VM, by path."""

    name: str
    freeze_command: str
    """What the guest hands to VMware Tools to stop at the fork point."""
    paths: tuple[str, ...]
    """Properties the engine needs to know of a VM."""
    create_method: str
    """What the server is asked by :meth:`create`, as ``_privileges.NEEDS`` has it."""
    starts_children: bool
    """Whether a child runs from its creation on; otherwise it is powered on once it is recorded."""
    needs_location: bool
    """Whether a request must name resource pool and datastore; otherwise the server uses those of the parent."""
    registry: ParentRegistry | None
    """See :class:`ParentRegistry`; ``None`` where the server keeps none."""

    def is_enabled(self, values: t.Mapping[str, t.Any]) -> bool | None:
        """Return whether the VM is a fork parent; ``None`` where nothing needs enabling."""

    def is_quiesced(self, values: t.Mapping[str, t.Any]) -> bool:
        """Return whether the VM stands still at the fork point."""

    def child_type(self, values: t.Mapping[str, t.Any]) -> str | None:
        """Return the kind of child that the VM is; ``None`` if it is not known."""

    def uuid_at_creation(self, wanted: str | None) -> str | None:
        """Return the BIOS UUID that the request for a child gives it, together with its record.

        :param wanted: the one that the task names.
        :returns: ``None`` where the server chooses it. The child's UUID and record are then set by a reconfigure.
        """

    def needs_snapshot(self, child: ChildSpec) -> bool:
        """Return whether the parent must have a snapshot to make this child."""

    def forks_again(self, values: t.Mapping[str, t.Any], persistent: bool) -> bool:
        """Return whether a power-off takes the child back to the fork point, so that its script runs once more.

        :param persistent: as the task has it, for a server that does not show the child's type.
        """

    def runs_script_at_power_on(self, values: t.Mapping[str, t.Any], persistent: bool, has_ended: bool) -> bool:
        """Return whether the post-clone script runs when a child is powered on.

        :param has_ended: the script has already run to its end once.
        """

    def param_keys(self, key: str) -> tuple[str, ...]:
        """Return where in guestinfo a config param is put: full keys."""

    def check(self, children: t.Sequence[ChildSpec], allow_running_parent: bool) -> None:
        """Refuse options that do not work with this engine.

        :raises _errors.BadInput: the task uses one.
        """

    def create(self, parent: t.Any, child: CreateRequest) -> t.Any:
        """Make a child: a task."""

    @property
    def can_predict(self) -> bool:
        """Return whether the server can be asked beforehand."""

    def predict(self, parent: t.Any, child: CreateRequest) -> t.Any:
        """Ask the server whether a child can be made: a task whose result is a list of CheckResult."""
