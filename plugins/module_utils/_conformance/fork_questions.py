# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask questions about VMFork, the fork methods of vSphere 6.0 and 6.5.

Private to the collection.
"""

from __future__ import annotations

import functools

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import OTHER, NotAsked
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import Lab
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.soap import SoapCaller

FORK_CONFIG = "config.forkConfigInfo"


def _plain_vm_fork_config(lab: Lab) -> str:
    lab.plain()
    info = lab.read(FORK_CONFIG).get(FORK_CONFIG)
    if info is None:
        return "unset"
    return "child-type-none" if info.childType == "none" and not info.parentEnabled else OTHER


def _quiesced_elsewhere(lab: Lab) -> str:
    lab.plain()
    value = lab.read("runtime.quiescedForkParent").get("runtime.quiescedForkParent")
    return "unset" if value is None else "false" if value is False else OTHER


def _hidden_methods_over_soap(lab: Lab) -> str:
    try:
        lab.call(SoapCaller(lab.session).call, lab.vm, methods.RETRIEVE_FORK_CHILDREN)
    except _errors.MethodUnknown:
        return "unknown"
    return "known"


def _children_of_non_parent(lab: Lab) -> str:
    lab.plain()
    return lab.attempt(lab.registry.list_children, lab.vm).choice("success")


def _parent_of_non_child(lab: Lab) -> str:
    return lab.attempt(lab.registry.find_parent, lab.vm).choice("success")


def _disable_twice(lab: Lab) -> str:
    lab.plain()
    return lab.attempt(lab.registry.disable, lab.vm).choice("success")


def _enable_twice(lab: Lab) -> str:
    lab.enabled()
    return lab.attempt(lab.registry.enable, lab.vm, None).choice("success")


def _children_result_empty(lab: Lab) -> str:
    lab.remove_children()
    lab.enabled()
    result = lab.need(lab.attempt(lab.registry.list_children, lab.vm))
    return "unset" if result is None else "empty-list" if result == [] else OTHER


def _fork_group_on_enable(lab: Lab) -> str:
    groups = []
    for _time in range(2):
        lab.plain()
        lab.enabled()
        groups.append(identity.parent_group(lab.parent.values))
    if None in groups:
        raise NotAsked("group")
    return "kept" if groups[0] == groups[1] else "new"


def _enabled_after_power_off(lab: Lab) -> str:
    lab.running()
    lab.enabled()
    lab.off()
    return "kept" if lab.parent.is_enabled else "cleared"


def _disable_while_quiesced(lab: Lab) -> str:
    lab.quiesced()
    return lab.attempt(lab.registry.disable, lab.vm).choice("allowed")


def _config_params_visible(lab: Lab) -> str:
    lab.quiesced()
    child = lab.need(lab.fork())
    return "extraConfig" if lab.extra(guestinfo.CHILD_NONCE, child) else "guest-only"


def _child_as_parent(lab: Lab) -> str:
    return lab.attempt(lab.registry.enable, lab.child(), None).choice("allowed")


def _nonpersistent_power_off(lab: Lab) -> str:
    child = lab.child()
    lab.need(lab.attempt(child.PowerOffVM_Task))
    return "kept" if lab.read("name", vm=child) else "destroyed"


def _nonpersistent_power_on_again(lab: Lab) -> str:
    child = lab.child()
    lab.need(lab.attempt(child.PowerOffVM_Task))
    return lab.attempt(child.PowerOnVM_Task).choice("forks-again")


def _with_children(lab: Lab, method: str) -> str:
    """Return what a change of the parent does to a running child."""
    child = lab.child()
    submit = functools.partial(lab.registry.disable, lab.vm) if method == "disable" else lab.vm.PowerOffVM_Task
    ended = lab.attempt(submit)
    if not ended.succeeded:
        return ended.choice("")
    is_on = str(lab.read("runtime.powerState", vm=child).get("runtime.powerState")) == "poweredOn"
    return "harmless" if is_on else "breaks"


QUESTIONS = (
    Question("hidden_methods_over_soap", _hidden_methods_over_soap, ("known", "unknown"), "vmfork"),
    Question("plain_vm_fork_config", _plain_vm_fork_config, ("unset", "child-type-none")),
    Question("quiesced_elsewhere", _quiesced_elsewhere, ("unset", "false"), "vmfork"),
    Question("children_of_non_parent", _children_of_non_parent, ("success", "InvalidState"), "vmfork"),
    Question("parent_of_non_child", _parent_of_non_child, ("success", "InvalidState"), "vmfork"),
    Question("disable_twice", _disable_twice, ("InvalidState", "success"), "vmfork"),
    Question("enable_twice", _enable_twice, ("InvalidState", "success"), "vmfork"),
    Question("children_result_empty", _children_result_empty, ("unset", "empty-list"), "vmfork"),
    Question("fork_group_on_enable", _fork_group_on_enable, ("new", "kept"), "vmfork"),
    Question("enabled_after_power_off", _enabled_after_power_off, ("kept", "cleared"), "vmfork"),
    Question("config_params_visible", _config_params_visible, ("extraConfig", "guest-only"), "vmfork", True),
    Question("child_as_parent", _child_as_parent, ("NotSupported", "allowed"), "vmfork", True),
    Question("nonpersistent_power_off", _nonpersistent_power_off, ("kept", "destroyed"), "vmfork", True),
    Question(
        "nonpersistent_power_on_again", _nonpersistent_power_on_again, ("forks-again", "InvalidState"), "vmfork", True
    ),
    Question(
        "disable_with_children",
        functools.partial(_with_children, method="disable"),
        ("breaks", "InvalidState", "harmless"),
        "vmfork",
        True,
    ),
    Question(
        "power_off_with_children",
        functools.partial(_with_children, method="power off"),
        ("breaks", "InvalidState", "harmless"),
        "vmfork",
        True,
    ),
    Question("disable_while_quiesced", _disable_while_quiesced, ("allowed", "InvalidState"), "vmfork", True),
)
