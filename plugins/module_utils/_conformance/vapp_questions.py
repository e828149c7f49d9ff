# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask questions about vApp options and OVF environments.

Private to the collection. Each question gives the VM one vApp property, and
removes the vApp options afterwards.
"""

from __future__ import annotations

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import OTHER, NotAsked
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import VAPP, Lab
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question

OLD, NEW = "vmfork-conformance-old", "vmfork-conformance-new"
"""Values of the property."""


def _values_checked(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="int", value="x", userConfigurable=True) as added:
        return {"": "no", "InvalidPropertyValue": "yes"}.get(added.choice(""), added.choice(OTHER))


def _fixed_value_added(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string", value=OLD, userConfigurable=False) as added:
        if added.succeeded:
            return "accepted"
        return "refused" if added.choice("") == "NotUserConfigurableProperty" else added.choice("")


def _made_configurable(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string", userConfigurable=False) as added:
        lab.need(added)
        edited = lab.edit_property("edit", type="string", value=NEW, userConfigurable=True)
        if edited.succeeded:
            return "accepted"
        return "refused" if edited.choice("") == "NotUserConfigurableProperty" else edited.choice("")


def _edit_left_out(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string", label=OLD, userConfigurable=True) as added:
        lab.need(added)
        lab.need(lab.edit_property("edit", type="string", description=NEW, userConfigurable=True))
        props = getattr(lab.read(VAPP).get(VAPP), "property", None) or []
        if not props:
            return OTHER
        return "kept" if props[0].label == OLD else "cleared" if not props[0].label else OTHER


def _change_while_on(lab: Lab) -> str:
    lab.running()
    with lab.vapp_property(type="string", value=OLD, userConfigurable=True) as added:
        return added.choice("accepted")


def _reflects_edits(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string", value=OLD, userConfigurable=True) as added:
        try:
            lab.need(added)
            lab.running()
            lab.need(lab.edit_property("edit", type="string", value=NEW, userConfigurable=True))
            document = lab.need(lab.call(lab.vm.ExtractOvfEnvironment)) or ""
        finally:
            lab.off()
    return "yes" if NEW in document else "no" if OLD in document else OTHER


def _required_types(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string(1..)", userConfigurable=True) as added:
        try:
            lab.need(added)
            return "ip-and-boolean" if lab.attempt(lab.vm.PowerOnVM_Task).succeeded else "all"
        finally:
            lab.off()


def _check_properties(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="ip", userConfigurable=True) as added:
        lab.need(added)
        return "reported" if _check_power_on(lab) else "ignored"


def _check_running(lab: Lab) -> str:
    lab.running()
    found = _check_power_on(lab)
    return found[0] if found else "ignored"


def _check_power_on(lab: Lab) -> list[str]:
    """Return the types of the faults that CheckPowerOn_Task reports."""
    checker = lab.session.content.vmCompatibilityChecker
    if checker is None or lab.engine_name != "instant_clone":
        raise NotAsked("checker")
    results = lab.need(lab.attempt(checker.CheckPowerOn_Task, lab.vm, lab.parent.values.get("runtime.host"))) or []
    return [_errors.fault_name(error) for result in results for error in result.error or []]


def _child_config(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string", value=OLD, userConfigurable=True) as added:
        try:
            lab.need(added)
            child = lab.child()
            return "unset" if lab.read(VAPP, vm=child).get(VAPP) is None else "copied"
        finally:
            lab.off()


def _after_resume(lab: Lab) -> str:
    lab.off()
    with lab.vapp_property(type="string", value=OLD, userConfigurable=True) as added:
        try:
            lab.need(added)
            lab.running()
            if lab.in_guest("tools 'info-get guestinfo.ovfEnv'") != 0:
                return OTHER
            lab.need(lab.attempt(lab.vm.SuspendVM_Task))
            lab.need(lab.attempt(lab.vm.PowerOnVM_Task))
            return "kept" if lab.in_guest("tools 'info-get guestinfo.ovfEnv'") == 0 else "lost"
        finally:
            lab.off()


QUESTIONS = (
    Question("vapp_values_checked", _values_checked, ("yes", "no")),
    Question("vapp_fixed_value_added", _fixed_value_added, ("refused", "accepted")),
    Question("vapp_made_configurable", _made_configurable, ("accepted", "refused")),
    Question("vapp_edit_left_out", _edit_left_out, ("kept", "cleared")),
    Question("required_property_types", _required_types, ("all", "ip-and-boolean")),
    Question("check_power_on_properties", _check_properties, ("reported", "ignored"), "instant_clone"),
    Question("check_power_on_running", _check_running, ("InvalidPowerState", "ignored"), "instant_clone"),
    Question("vapp_change_while_on", _change_while_on, ("accepted", "InvalidPowerState")),
    Question("extract_reflects_edits", _reflects_edits, ("no", "yes")),
    Question("child_vapp_config", _child_config, ("copied", "unset")),
    Question("ovfenv_after_resume", _after_resume, ("kept", "lost"), None, True),
)
