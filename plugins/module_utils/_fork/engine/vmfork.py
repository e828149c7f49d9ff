# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine for vSphere 6.0 and 6.5: VMFork.

Private to the collection. A child is created powered off and starts running at
its power-on; its parameters reach the guest as ``guestinfo.fork.<key>``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import CreateRequest, ParentRegistry


class VmforkEngine:
    """See :class:`base.Engine` and :class:`base.ParentRegistry`."""

    name = "vmfork"
    freeze_command = "vmfork-begin -1 -1"
    paths: tuple[str, ...] = ("config.forkConfigInfo", "runtime.quiescedForkParent")
    enable_method = methods.ENABLE_FORK_PARENT.wire_name
    disable_method = methods.DISABLE_FORK_PARENT.wire_name
    create_method = methods.CREATE_FORK_CHILD.wire_name
    starts_children = False
    needs_location = False
    can_predict = False

    def __init__(self, caller: methods.Caller) -> None:
        self._caller = caller
        self.registry: ParentRegistry | None = self

    def is_enabled(self, values: t.Mapping[str, t.Any]) -> bool | None:
        info = values.get("config.forkConfigInfo")
        return bool(info is not None and info.parentEnabled)

    def is_quiesced(self, values: t.Mapping[str, t.Any]) -> bool:
        return bool(values.get("runtime.quiescedForkParent"))

    def child_type(self, values: t.Mapping[str, t.Any]) -> str | None:
        kind = getattr(values.get("config.forkConfigInfo"), "childType", None)
        return str(kind) if kind is not None else None

    def uuid_at_creation(self, wanted: str | None) -> str | None:
        return None  # the request has no field for it

    def needs_snapshot(self, child: ChildSpec) -> bool:
        return child.persistent

    def forks_again(self, values: t.Mapping[str, t.Any], persistent: bool) -> bool:
        kind = self.child_type(values)
        return not persistent if kind is None else kind == "nonpersistent"

    def runs_script_at_power_on(self, values: t.Mapping[str, t.Any], persistent: bool, has_ended: bool) -> bool:
        return self.forks_again(values, persistent) or not has_ended

    def param_keys(self, key: str) -> tuple[str, ...]:
        return (guestinfo.PARAMS + key,)  # the server adds the prefix

    def check(self, children: t.Sequence[ChildSpec], allow_running_parent: bool) -> None:
        if allow_running_parent:
            raise _errors.BadInput(
                "allow_running_parent does not work with the VMFork methods, which fork a VM only at its fork point. "
                "Remove it, and quiesce the parent with vmfork_quiesce."
            )
        for child in children:
            if child.networks:
                raise _errors.BadInput(
                    f"Child {child.name}: networks does not work with the VMFork methods, which cannot change the "
                    "adapters of a child. Remove it, and set up the network in the post-clone script."
                )
            given = next((key for key in child.params if key.startswith("guestinfo.")), None)
            if given is not None:
                raise _errors.BadInput(
                    f"Child {child.name}: the config param {given} starts with guestinfo., but VMFork adds "
                    f"{guestinfo.PARAMS} itself. Remove the prefix."
                )

    def enable(self, vm: t.Any, host: t.Any | None) -> t.Any:
        return self._caller.call(vm, methods.ENABLE_FORK_PARENT, host=host)

    def disable(self, vm: t.Any) -> t.Any:
        return self._caller.call(vm, methods.DISABLE_FORK_PARENT)

    def create(self, parent: t.Any, child: CreateRequest) -> t.Any:
        return self._caller.call(
            parent,
            methods.CREATE_FORK_CHILD,
            name=child.name,
            spec=self._caller.child_spec(
                location=vim.vm.RelocateSpec(**child.location) if child.location else None,
                persistent=child.persistent,
                configParams=[vim.option.OptionValue(key=key, value=value) for key, value in child.params.items()],
            ),
        )

    def predict(self, parent: t.Any, child: CreateRequest) -> t.Any:
        raise NotImplementedError("VMFork has no dry run")

    def list_children(self, parent: t.Any) -> t.Any:
        return self._caller.call(parent, methods.RETRIEVE_FORK_CHILDREN)

    def find_parent(self, child: t.Any) -> t.Any:
        return self._caller.call(child, methods.RETRIEVE_FORK_PARENT)
