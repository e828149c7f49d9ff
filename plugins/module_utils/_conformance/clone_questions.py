# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask questions about Instant Clone.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import OTHER, NotAsked
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import PROBE, Lab, first_adapter, kind
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import placement
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

FREE_MAC, RESERVED_MAC = "00:50:56:0a:0b:0c", "00:0c:29:0a:0b:0c"
"""A manual MAC address that vSphere accepts, and one that it reserves. Adapters with them are never connected."""

FROZEN = "runtime.instantCloneFrozen"
FORK_CONFIG = "config.forkConfigInfo"
POWER_ON = {"VmStartingEvent", "VmPoweredOnEvent", "DrsVmPoweredOnEvent"}


def _edit(device: t.Any, mac: str | None = None) -> t.Any:
    """Return the edit of a device. An adapter is disconnected, and has a manual MAC address if one is given."""
    if isinstance(device, vim.vm.device.VirtualEthernetCard):
        device = type(device)(
            key=device.key,
            controllerKey=device.controllerKey,
            unitNumber=device.unitNumber,
            backing=device.backing,
            addressType="manual" if mac is not None else None,
            macAddress=mac,
            connectable=vim.vm.device.VirtualDevice.ConnectInfo(
                connected=False, startConnected=False, allowGuestControl=True
            ),
        )
    return vim.vm.device.VirtualDeviceSpec(operation="edit", device=device)


def _frozen_elsewhere(lab: Lab) -> str:
    lab.running()
    value = lab.read(FROZEN).get(FROZEN)
    return "unset" if value is None else "false" if value is False else OTHER


def _check_finds(lab: Lab) -> str:
    """A clone with the name of the VM itself is an error, and a source that is not frozen is a warning."""
    checker = lab.session.content.vmProvisioningChecker
    if checker is None:
        raise NotAsked("checker")
    lab.running()
    spec = ChildSpec(lab.parent.name)
    where = placement.place(lab.parent, placement.find_folders(lab.parent, [spec]), [spec], with_defaults=True)
    wanted = vim.vm.InstantCloneSpec(name=spec.name, location=vim.vm.RelocateSpec(**where.location(spec)))
    results = lab.need(lab.attempt(checker.CheckInstantClone_Task, lab.vm, wanted)) or []
    if not any(result.error for result in results):
        return "nothing" if not any(result.warning for result in results) else OTHER
    return "errors-and-warnings" if any(result.warning for result in results) else "errors"


def _fork_config(lab: Lab) -> str:
    child = lab.child()
    info = lab.read(FORK_CONFIG, vm=child).get(FORK_CONFIG)
    if info is None:
        return "unset"
    return "child-type-none" if info.childType == "none" and not info.childForkGroupId else OTHER


def _config_keys(lab: Lab) -> str:
    lab.running()
    value = guestinfo.new_nonce()
    child = lab.need(lab.fork(extra={PROBE: value}))
    return "kept" if lab.extra(PROBE, child) == value else "dropped"


def _folder(lab: Lab) -> str:
    root = lab.read("vmFolder", vm=lab.parent.found.datacenter)["vmFolder"]
    own = lab.read("parent").get("parent")
    if own in (None, root):
        raise NotAsked("folder")
    lab.running()
    child = lab.need(lab.fork(location={"folder": own}))
    where = lab.read("parent", vm=child).get("parent")
    return "honoured" if where == own else "ignored" if where == root else OTHER


def _device_changes(lab: Lab) -> str:
    lab.running()
    adapter = first_adapter(lab.parent.values)
    child = lab.need(lab.fork(device_changes=[_edit(adapter, FREE_MAC)]))
    macs = _devices.mac_addresses(lab.read(_devices.PATH, vm=child))
    return "honoured" if FREE_MAC in macs else "ignored"


def _reserved_macs(lab: Lab) -> str:
    """Instant Clone configures and powers on at once. Which of them refuses is seen when a running child is edited."""
    child = lab.child()
    adapter = first_adapter(lab.read(_devices.PATH, vm=child))
    lab.need(lab.attempt(child.PowerOffVM_Task))
    configured = lab.reconfigure(child, deviceChange=[_edit(adapter, RESERVED_MAC)])
    if not configured.succeeded:
        return "at-configuration"
    return "at-power-on" if not lab.attempt(child.PowerOnVM_Task).succeeded else OTHER


def _mac_conflict(lab: Lab) -> str:
    lab.running()
    change = _edit(first_adapter(lab.parent.values), FREE_MAC)
    lab.need(lab.fork(device_changes=[change]))
    second = lab.fork(device_changes=[change])
    return "VmMacConflictEvent" if second.succeeded else "refused"


def _mac_change_while_on(lab: Lab) -> str:
    child = lab.child()
    adapter = first_adapter(lab.read(_devices.PATH, vm=child))
    return lab.reconfigure(child, deviceChange=[_edit(adapter, FREE_MAC)]).choice("applied")


def _devices_of_a_clone(lab: Lab) -> str:
    lab.running()
    disks = _devices.disks(lab.parent.values)
    if not disks:
        raise NotAsked("controller")
    return lab.fork(device_changes=[_edit(disks[0])]).choice(OTHER)


def _events(lab: Lab) -> str:
    child = lab.child()
    found = lab.events(None, lambda kinds: bool(kinds & POWER_ON), vm=child)
    return "power-on" if {kind(event) for event in found} & POWER_ON else "none"


QUESTIONS = tuple(
    Question(rule, ask, choices, "instant_clone")
    for rule, ask, choices in (
        ("instant_clone_frozen_elsewhere", _frozen_elsewhere, ("false", "unset")),
        ("check_instant_clone_finds", _check_finds, ("errors-and-warnings", "errors", "nothing")),
        ("instant_clone_fork_config", _fork_config, ("child-type-none", "unset")),
        ("instant_clone_config_keys", _config_keys, ("kept", "dropped")),
        ("instant_clone_folder", _folder, ("honoured", "ignored")),
        ("instant_clone_device_changes", _device_changes, ("honoured", "ignored")),
        ("instant_clone_devices", _devices_of_a_clone, ("NotSupported", "InvalidDeviceSpec")),
        ("instant_clone_events", _events, ("power-on", "none")),
        ("mac_conflict", _mac_conflict, ("VmMacConflictEvent", "refused")),
        ("mac_change_while_on", _mac_change_while_on, ("InvalidPowerState", "applied")),
        ("reserved_macs", _reserved_macs, ("at-power-on", "at-configuration")),
    )
)
