# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine for vSphere 6.7 and newer: Instant Clone.

Private to the collection. Nothing needs enabling, and no call returns which VM
was cloned from which. A child runs from its creation on, is a full VM that
keeps its disks, and gets its BIOS UUID, its record and its parameters in the
creation request (vSphere API reference, VirtualMachineInstantCloneSpec).
"""

from __future__ import annotations

import typing as t
import uuid

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import CreateRequest, ParentRegistry

PREFIXES = (guestinfo.PARAMS, "guestinfo.ic.")
"""Prefixes of config params: the one that VMFork uses, and the one that published scripts for Instant Clone read."""

NOT_INHERITED = (*PREFIXES, "vmfork.")
"""Prefixes of the parent's keys that a child must not get. Those of our records begin with ``vmfork.``"""


class InstantCloneEngine:
    """See :class:`base.Engine`."""

    name = "instant_clone"
    freeze_command = "instantclone.freeze"
    paths: tuple[str, ...] = ("runtime.instantCloneFrozen",)
    create_method = "InstantClone_Task"
    starts_children = True
    needs_location = True
    registry: ParentRegistry | None = None

    def __init__(self, session: Session) -> None:
        self._session = session

    def is_enabled(self, values: t.Mapping[str, t.Any]) -> bool | None:
        return None

    def is_quiesced(self, values: t.Mapping[str, t.Any]) -> bool:
        return bool(values.get("runtime.instantCloneFrozen"))

    def child_type(self, values: t.Mapping[str, t.Any]) -> str | None:
        # A server that also knows VMFork may have children of both types.
        kind = str(getattr(values.get("config.forkConfigInfo"), "childType", None))
        return kind if kind in ("persistent", "nonpersistent") else self.name

    def uuid_at_creation(self, wanted: str | None) -> str | None:
        return wanted or str(uuid.uuid4())

    def needs_snapshot(self, child: ChildSpec) -> bool:
        return False

    def forks_again(self, values: t.Mapping[str, t.Any], persistent: bool) -> bool:
        return self.child_type(values) == "nonpersistent"

    def runs_script_at_power_on(self, values: t.Mapping[str, t.Any], persistent: bool, has_ended: bool) -> bool:
        return self.forks_again(values, persistent)

    def param_keys(self, key: str) -> tuple[str, ...]:
        if key.startswith("guestinfo."):
            return (key,)
        prefixes = PREFIXES[:1] if key.startswith(guestinfo.OWN_PARAMS) else PREFIXES
        return tuple(prefix + key for prefix in prefixes)

    def check(self, children: t.Sequence[ChildSpec], allow_running_parent: bool) -> None:
        for child in children:
            keys: dict[str, str] = {}
            for param in child.params:
                for key in self.param_keys(param):
                    if key in keys:
                        raise _errors.BadInput(
                            f"Child {child.name}: the config params {keys[key]} and {param} both mean {key}. Remove "
                            "one of them."
                        )
                    keys[key] = param

    def create(self, parent: t.Any, child: CreateRequest) -> t.Any:
        return self._session.call(parent.InstantClone_Task, self._spec(child))

    @property
    def can_predict(self) -> bool:
        return self._session.content.vmProvisioningChecker is not None

    def predict(self, parent: t.Any, child: CreateRequest) -> t.Any:
        checker = self._session.content.vmProvisioningChecker
        # The check does not need params, which may be secret.
        return self._session.call(checker.CheckInstantClone_Task, parent, self._spec(child._replace(params={})))

    def _spec(self, child: CreateRequest) -> t.Any:
        # The parent's records, and its own params if it is a child itself, are not meant for its children.
        inherited = {key: "" for key, value in child.inherited.items() if value and key.startswith(NOT_INHERITED)}
        params = {full: value for key, value in child.params.items() for full in self.param_keys(key)}
        keys = {**inherited, **child.record, **params}
        location: dict[str, t.Any] = {**child.location, "deviceChange": list(child.device_changes)}
        return vim.vm.InstantCloneSpec(
            name=child.name,
            location=vim.vm.RelocateSpec(**location),
            config=[vim.option.OptionValue(key=key, value=value) for key, value in keys.items()],
            biosUuid=child.bios_uuid,
        )
