# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of the two engines that fork a VM, and the request for a child.

Private to the collection. An engine knows the requests and properties of its
generation of the API; the rest of the code is the same for both.
"""

from __future__ import annotations

import typing as t
from types import MappingProxyType

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec


class CreateRequest(t.NamedTuple):
    """The request to create a child.

    :param params: config params by their keys in the task.
    :param location: arguments of a VirtualMachineRelocateSpec.
    :param bios_uuid: the BIOS UUID from :meth:`Engine.uuid_at_creation`.
    :param record: the extraConfig keys that make the child ours; empty without ``bios_uuid``, which they contain.
    :param inherited: the parent's extraConfig, which a full VM inherits.
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
    """The server's registry of fork parents, which must be enabled, and their children."""

    enable_method: str
    disable_method: str
    """The methods that these call, as keys of ``_privileges.NEEDS``."""

    def enable(self, vm: t.Any, host: t.Any | None) -> t.Any:
        """Make the VM a fork parent; returns a task."""

    def disable(self, vm: t.Any) -> t.Any:
        """Make the VM an ordinary one; returns a task."""

    def list_children(self, parent: t.Any) -> t.Any:
        """Ask the server for the parent's children; returns a task whose result is a list of VMs."""

    def find_parent(self, child: t.Any) -> t.Any:
        """Ask the server for a child's parent; returns a task whose result is a VM or nothing."""


class Engine(t.Protocol):
    """One generation of the fork API. Values are properties of a VM, by path."""

    name: str
    freeze_command: str
    """The command that the guest passes to VMware Tools to stop at the fork point."""
    paths: tuple[str, ...]
    """Properties of a VM that the engine needs."""
    create_method: str
    """The method that :meth:`create` calls, as a key of ``_privileges.NEEDS``."""
    starts_children: bool
    """Whether a child runs from its creation on; otherwise it is powered on after it is recorded."""
    needs_location: bool
    """Whether a request must name resource pool and datastore; otherwise the server uses the parent's."""
    registry: ParentRegistry | None
    """See :class:`ParentRegistry`; ``None`` if the server has none."""

    def is_enabled(self, values: t.Mapping[str, t.Any]) -> bool | None:
        """Return whether the VM is a fork parent; ``None`` if nothing needs enabling."""

    def is_quiesced(self, values: t.Mapping[str, t.Any]) -> bool:
        """Return whether the VM is frozen at the fork point."""

    def child_type(self, values: t.Mapping[str, t.Any]) -> str | None:
        """Return the type of a child; ``None`` if it is not known."""

    def uuid_at_creation(self, wanted: str | None) -> str | None:
        """Return the BIOS UUID that the creation request sets, together with the record.

        :param wanted: the BIOS UUID from the task.
        :returns: ``None`` if the server chooses it. The child's UUID and record are then set by a reconfigure.
        """

    def needs_snapshot(self, child: ChildSpec) -> bool:
        """Return whether the parent must have a snapshot to create this child."""

    def forks_again(self, values: t.Mapping[str, t.Any], persistent: bool) -> bool:
        """Return whether a power-off takes the child back to the fork point, so that its script runs again.

        :param persistent: the option of the task, for a server that does not show the child's type.
        """

    def runs_script_at_power_on(self, values: t.Mapping[str, t.Any], persistent: bool, has_ended: bool) -> bool:
        """Return whether the post-clone script runs when a child is powered on.

        :param has_ended: whether the script has already run to its end once.
        """

    def param_keys(self, key: str) -> tuple[str, ...]:
        """Return the full guestinfo keys of a config param."""

    def check(self, children: t.Sequence[ChildSpec], allow_running_parent: bool) -> None:
        """Refuse options that do not work with this engine.

        :raises _errors.BadInput: the task uses one.
        """

    def create(self, parent: t.Any, child: CreateRequest) -> t.Any:
        """Create a child; returns a task."""

    @property
    def can_predict(self) -> bool:
        """Return whether the server can check a creation in advance."""

    def predict(self, parent: t.Any, child: CreateRequest) -> t.Any:
        """Ask the server whether a child can be created; returns a task whose result is a list of CheckResult."""
