# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers with values of wrong types: each module ends with a message, and no foreign VM is changed."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from functional.launch import MODULES, patch_module_args
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim, vmodl
from unit.examples import examples
from unit.fake_vcenter import OFF, ON, FakeVCenter
from unit.plugins.module_utils._ovf.test_vapp_change import appliance
from unit.plugins.module_utils._ovf.test_vapp_restore import export

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity

LOGIN: dict[str, Any] = {
    "hostname": "vcenter",
    "username": "user",
    "password": "vcenter-password",
    "validate_certs": False,
}
DISK = vim.vm.device.VirtualDisk
CARD = vim.vm.device.VirtualEthernetCard


class WrongVCenter(FakeVCenter):
    """A vCenter that returns an invalid value for one property of one kind of object.

    :ivar asked: the properties that were read, with the kind of object, in the order of the first read.
    :ivar wrong_value: kind, property and value, and how often the right value is returned first.
    """

    def __init__(self, api_version: str) -> None:
        super().__init__(api_version)
        self.asked: dict[tuple[Any, str], None] = {}
        self.wrong_value: tuple[Any, str, Any, int] | None = None
        self._shown = 0

    def _values(self, managed: Any, specs: Any) -> dict[str, Any]:
        spec = next((candidate for candidate in specs if isinstance(managed, candidate.type)), None)
        paths = spec.pathSet if spec is not None else []
        self.asked.update(dict.fromkeys((type(managed), path) for path in paths))
        values = super()._values(managed, specs)
        if self.wrong_value is not None and self.wrong_value[0] is type(managed) and self.wrong_value[1] in paths:
            self._shown += 1
            if self._shown > self.wrong_value[3]:
                values[self.wrong_value[1]] = self.wrong_value[2]
        return values


def devices(file: str, mac: str, parent: Any = None) -> list[Any]:
    """Return the devices of a VM with a disk and a network adapter."""
    backing = DISK.FlatVer2BackingInfo(fileName=file, parent=parent)
    return [
        vim.vm.device.VirtualPCIController(key=100),
        vim.vm.device.ParaVirtualSCSIController(key=1000, busNumber=0),
        DISK(key=2000, controllerKey=1000, unitNumber=0, capacityInKB=1024, backing=backing),
        CARD(key=4000, macAddress=mac, addressType="assigned", backing=CARD.NetworkBackingInfo(deviceName="net")),
    ]


class Bed:
    """A parent at its fork point, one child, one child with its own disk, and a foreign VM."""

    def __init__(self, api_version: str) -> None:
        self.vcenter = vcenter = WrongVCenter(api_version)
        network = vcenter.add(vim.Network, "network-1", name="net")
        info = vim.vm.ForkConfigInfo(parentEnabled=True, parentForkGroupId="g1")
        base = DISK.FlatVer2BackingInfo(fileName="[ds] golden/golden.vmdk")
        self.golden = vcenter.vm(
            "golden",
            **{
                "runtime.instantCloneFrozen": True,
                "runtime.quiescedForkParent": True,
                "config.forkConfigInfo": info,
                "config.hardware.device": devices(base.fileName, "00:50:56:00:00:01"),
                "guest.net": [vim.vm.GuestInfo.NicInfo(macAddress="00:50:56:00:00:01", ipAddress=["192.0.2.1"])],
                "guest.ipAddress": "192.0.2.1",
                "network": [network],
                "guest.toolsRunningStatus": "guestToolsRunning",
            },
        )
        self.child = self.recorded("web-01", devices("[ds] web-01/web-01.vmdk", "00:50:56:00:00:02", base))
        self.keeper = self.recorded("web-02", devices("[ds] other/data.vmdk", "00:50:56:00:00:03"))
        self.foreign = vcenter.vm("web-03", **{"config.hardware.device": devices("[ds] f/f.vmdk", "00:50:56:00:00:04")})
        self.off = vcenter.vm("stopped", OFF, **{"config.changeVersion": "1"})
        assert self.off._GetMoId() == STOPPED
        vcenter.effects["RetrieveForkChildren_Task"] = lambda _parent: [self.child, self.keeper]
        vcenter.effects["RetrieveForkParent_Task"] = lambda child: (
            self.golden if child in (self.child, self.keeper) else None
        )
        vcenter.effects["DisableForkParent_Task"] = lambda _parent: None
        create = vcenter._do_InstantClone
        vcenter.effects["InstantClone_Task"] = lambda source, spec: self.report(create(source, spec))
        power_on = vcenter._do_PowerOnVM
        vcenter.effects["PowerOnVM_Task"] = lambda vm, **given: (power_on(vm, **given), self.report(vm))[0]

    def recorded(self, name: str, hardware: list[Any]) -> Any:
        vm = self.vcenter.vm(name, **{"config.hardware.device": hardware, "config.files.vmPathName": f"[ds] {name}/x"})
        of_parent, own = (self.vcenter.objects[managed] for managed in (self.golden, vm))
        record = identity.Record(of_parent["config.instanceUuid"], own["config.uuid"], "n0")
        self.vcenter.set_keys(vm, **{identity.RECORD_KEY: str(record), guestinfo.CHILD_NONCE: "n0"})
        return vm

    def report(self, vm: Any) -> Any:
        nonce = self.vcenter.keys(vm).get(guestinfo.CHILD_NONCE)
        if nonce is not None:
            self.vcenter.set_keys(vm, **{guestinfo.POST_CLONE: f"{nonce} 0 "})
        return vm


class Scenario(NamedTuple):
    """A task, and what must hold if it succeeds."""

    module: str
    arguments: dict[str, Any]
    done: Callable[[Bed], bool] = lambda _bed: True


STOPPED = "vm-104"
NEW = {"parent_name": "golden", "name": "web-04", "config_params": {"ipaddress": "192.0.2.4"}, "timeout": 60}
SCENARIOS = {
    "info": Scenario("vmfork_info", {}),
    "info of one": Scenario("vmfork_info", {"name": "golden"}),
    "preflight": Scenario(
        "vmfork_preflight_info", {"parent_name": "golden", "name": ["web-01", "web-04"], "first_address": "192.0.2.4"}
    ),
    "absent": Scenario(
        "vmfork_child",
        {"parent_name": "golden", "name": "web-01", "state": "absent", "timeout": 60},
        lambda bed: not bed.vcenter.named("web-01"),
    ),
    "absent all": Scenario(
        "vmfork_child", {"parent_name": "golden", "all": True, "state": "absent", "timeout": 60}, lambda _bed: False
    ),
    "absent foreign": Scenario(
        "vmfork_child", {"parent_name": "golden", "name": "web-03", "state": "absent"}, lambda _bed: False
    ),
    "detached": Scenario(
        "vmfork_child",
        {"parent_name": "golden", "name": "web-01", "state": "detached", "timeout": 60},
        lambda bed: identity.RECORD_KEY not in bed.vcenter.keys(bed.child),
    ),
    "present": Scenario("vmfork_child", NEW, lambda bed: len(bed.vcenter.named("web-04")) == 1),
    "present with MAC": Scenario(
        "vmfork_child",
        {**NEW, "networks": [{"mac_address": "00:50:56:00:00:09"}], "on_failure": "remove"},
        lambda bed: len(bed.vcenter.named("web-04")) == 1,
    ),
    "present again": Scenario("vmfork_child", {**NEW, "name": "web-01", "wait_for": "tools", "config_params": {}}),
    "parent": Scenario("vmfork_parent", {"name": "golden", "state": "disabled", "power_off": True, "force": True}),
    "quiesce": Scenario("vmfork_quiesce", {"name": "web-03", "method": "wait", "timeout": 60}),
    "OVF info": Scenario("vm_ovfenv_info", {}),
    "vApp options": Scenario(
        "vm_vapp_options",
        {
            "name": "stopped",
            "enabled": True,
            "unknown": "create",
            "values": {"a": "x", "c.b": "y"},
            "secret_values": {"admin": "z"},
            "transport": ["iso"],
            "exact": True,
            "timeout": 60,
        },
    ),
    "no vApp options": Scenario("vm_vapp_options", {"name": "stopped", "enabled": False, "force": True, "timeout": 60}),
    "restore": Scenario(
        "vapp_restore",
        {"vms": [{"moid": STOPPED, "restore_from": export(1, appliance()), "secret_values": {"admin": "z" * 8}}]},
    ),
    "OVF repair": Scenario("vm_ovfenv", {"name": "stopped", "shutdown": "hard", "timeout": 60}),
}
VERSIONS = ("8.0.3.0", "6.5")


def run(bed: Bed, scenario: Scenario) -> dict[str, Any]:
    """Run a module in this process; return its result."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        bed.vcenter.use(patch)
        with patch_module_args({**LOGIN, **scenario.arguments}), pytest.raises(SystemExit):
            MODULES[scenario.module].main()
    return dict(json.loads(printed.getvalue()))


def check(bed: Bed, scenario: Scenario, result: dict[str, Any]) -> None:
    """Check what must hold whatever the server returns."""
    assert "exception" not in result, result["exception"]
    if result.get("failed"):
        assert result["msg"].endswith("."), result["msg"]
    foreign = {bed.foreign, bed.off} if scenario.module == "vmfork_child" else set()
    kept = {*foreign, bed.keeper}
    touched = [
        call for call in bed.vcenter.calls if call.target in {vm._GetMoId() for vm in kept} and _is_act(call.method)
    ]
    assert touched == []
    assert [bed.vcenter.state(vm) for vm in kept - {bed.off}] == [ON] * len(kept - {bed.off})


def _is_act(method: str) -> bool:
    return method.endswith("_Task") and not method.startswith("Retrieve")


def asked(name: str, version: str) -> list[tuple[Any, str]]:
    """Return the properties that a module reads, in order."""
    bed = Bed(version)
    check(bed, SCENARIOS[name], run(bed, SCENARIOS[name]))
    return list(bed.vcenter.asked)


def unchecked(kind: Any, name: str, items: list[Any]) -> Any:
    """Return a data object with an array that pyVmomi would refuse to create; it does not check items it receives."""
    made = kind()
    getattr(made, name).extend(items)
    return made


WRONG: dict[str, Any] = {
    "nothing": None,
    "int": 7,
    "number": 1.5,
    "text": "x",
    "no text": "",
    "boolean": True,
    "bytes": b"\xff\x00",
    "date": datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc),
    "date without zone": datetime.datetime(1, 1, 1),
    "list": [],
    "list of numbers": [1, 2],
    "list of strings": ["a", "b"],
    "list with nothing": [None],
    "list of options": [vim.option.OptionValue(key="k", value="v")],
    "option without key": [vim.option.OptionValue()],
    "option of an option": [vim.option.OptionValue(key="vmfork.child", value=vim.option.OptionValue(key="k"))],
    "options with one of no type": [vim.option.OptionValue(key="k", value="v"), 7],
    "empty adapters": [CARD()],
    "empty disk": [DISK()],
    "empty disk on a file": [DISK(backing=DISK.FlatVer2BackingInfo())],
    "adapter on an empty port": [CARD(backing=CARD.DistributedVirtualPortBackingInfo())],
    "empty guest adapters": [vim.vm.GuestInfo.NicInfo()],
    "guest adapters with numbers": [unchecked(vim.vm.GuestInfo.NicInfo, "ipAddress", [1, 2])],
    "object of another type": vim.HostSystem("host-99"),
    "VM": vim.VirtualMachine("vm-999"),
    "VMs": [vim.VirtualMachine("vm-999")],
    "tasks": [vim.Task("task-999")],
    "data object": vim.vm.GuestInfo(),
    "snapshots of numbers": unchecked(vim.vm.SnapshotInfo, "rootSnapshotList", [1]),
    "empty snapshot": unchecked(vim.vm.SnapshotInfo, "rootSnapshotList", [vim.vm.SnapshotTree()]),
    "layout of texts": unchecked(vim.vm.FileLayoutEx, "disk", ["x"]),
    "empty fork": vim.vm.ForkConfigInfo(),
    "empty options": vim.vApp.VmConfigInfo(),
    "vApp properties of numbers": unchecked(vim.vApp.VmConfigInfo, "property", [1]),
    "empty vApp property": unchecked(vim.vApp.VmConfigInfo, "property", [vim.vApp.PropertyInfo()]),
    "transports of numbers": unchecked(vim.vApp.VmConfigInfo, "ovfEnvironmentTransport", [1]),
    "type": vim.VirtualMachine,
    "fault": vmodl.fault.NotSupported(),
}


def is_wrong(kind: Any, path: str, value: Any) -> bool:
    """Return whether a value is invalid for a property: no task that needs it may succeed then."""
    return path == "name" and not isinstance(value, str)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_any_value_of_any_property(name: str, version: str) -> None:
    scenario = SCENARIOS[name]
    read = asked(name, version)

    @examples(25)
    @given(st.sampled_from(read), st.sampled_from(sorted(WRONG)), st.sampled_from([0, 1, 2, 5]))
    def holds(where: tuple[Any, str], what: str, after: int) -> None:
        bed = Bed(version)
        bed.vcenter.wrong_value = (*where, WRONG[what], after)
        result = run(bed, scenario)
        check(bed, scenario, result)
        if is_wrong(*where, WRONG[what]):
            assert result.get("failed") or scenario.done(bed)

    holds()
