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
    :param bios_uuid: what the child's BIOS UUID must be; for an engine whose children run from the start.
    :param record: the extraConfig keys that make the child ours; likewise.
    :param inherited: the parent's extraConfig, which such a child begins with.
    :param device_changes: settings of its adapters (VirtualDeviceConfigSpec); likewise.
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
    """A server keeps book of fork parents, which have to be made so, and of who forked whom."""

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
    is_born_running: bool
    """Whether a child runs from its creation on, keeps its disks, and gets its record by the request that makes it.
    Another is powered on when it is recorded, and may begin at the fork point each time."""
    registry: ParentRegistry | None
    """The server's own book of parents and children; ``None`` where it keeps none."""

    def is_enabled(self, values: t.Mapping[str, t.Any]) -> bool | None:
        """Whether the VM is a fork parent; ``None`` where nothing needs enabling."""

    def is_quiesced(self, values: t.Mapping[str, t.Any]) -> bool:
        """Whether the VM stands still at the fork point."""

    def child_type(self, values: t.Mapping[str, t.Any]) -> str | None:
        """What kind of child the VM is; ``None`` where nothing tells."""

    def param_keys(self, key: str) -> tuple[str, ...]:
        """Where in guestinfo a config param is put: full keys."""

    def check(self, children: t.Sequence[ChildSpec], allow_running_parent: bool) -> None:
        """Refuse what has no meaning with this engine.

        :raises _errors.BadInput: there is such a thing.
        """

    def create(self, parent: t.Any, child: CreateRequest) -> t.Any:
        """Make a child: a task."""

    @property
    def can_foresee(self) -> bool:
        """Whether the server can be asked beforehand."""

    def foresee(self, parent: t.Any, child: CreateRequest) -> t.Any:
        """Ask the server whether a child can be made: a task whose result is a list of CheckResult."""
