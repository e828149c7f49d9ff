# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data that would be lost with a child: disks its parent did not have, its own children, snapshots, its annotation."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import losses
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

GB = 1024 * 1024
BASE = "[ds] golden/golden.vmdk"


def disk(*files: str, unit: int = 0, size: int = 10 * GB, controller: int = 1000) -> Any:
    """Return a disk; the file being written to comes first."""
    backing = None
    for file in reversed(files):
        backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, parent=backing, diskMode="persistent")
    return vim.vm.device.VirtualDisk(
        key=2000 + unit,
        controllerKey=controller,
        unitNumber=unit,
        capacityInKB=size,
        backing=backing,
        deviceInfo=vim.Description(label=f"Hard disk {unit + 1}", summary=""),
    )


def vm(*disks: Any, directory: str = "web-01", **values: Any) -> dict[str, Any]:
    controllers = [
        vim.vm.device.ParaVirtualSCSIController(key=1000 + number, busNumber=number, sharedBus="noSharing")
        for number in range(2)
    ]
    return {
        "config.hardware.device": [*controllers, *disks],
        "config.files.vmPathName": f"[ds] {directory}/{directory}.vmx",
        **values,
    }


PARENT = vm(disk(BASE), directory="golden")
OWN = "[ds] web-01/web-01.vmdk"
DATA = "[ds] web-01/data.vmdk"


@pytest.mark.parametrize(
    ("parent", "child", "added"),
    [
        pytest.param(PARENT, [disk(OWN, BASE)], [], id="linked"),
        pytest.param(PARENT, [disk("[ds] web-01/web-01-000001.vmdk", OWN, BASE)], [], id="linked, with a snapshot"),
        pytest.param(
            vm(disk("[ds] golden/golden-000001.vmdk", BASE), directory="golden"),
            [disk(OWN, BASE)],
            [],
            id="linked, and the parent has gone on",
        ),
        pytest.param(PARENT, [disk(OWN, BASE, unit=3)], [], id="linked, and moved to another place"),
        pytest.param(PARENT, [disk(OWN)], [], id="consolidated"),
        pytest.param(PARENT, [disk("[other] web-01/web-01.vmdk")], [], id="on another datastore"),
        pytest.param(PARENT, [disk(OWN, BASE), disk(DATA, unit=1)], [f"Hard disk 2: {DATA}"], id="another disk"),
        pytest.param(
            PARENT,
            [disk("[ds] data/data.vmdk")],
            ["Hard disk 1: [ds] data/data.vmdk"],
            id="a disk of elsewhere in the place of the parent's",
        ),
        pytest.param(PARENT, [disk(OWN, size=GB)], [f"Hard disk 1: {OWN}"], id="another size, and no chain"),
        pytest.param(PARENT, [disk(OWN, controller=1001)], [f"Hard disk 1: {OWN}"], id="another controller"),
        pytest.param(PARENT, [disk(BASE)], [f"Hard disk 1: {BASE}"], id="the parent's own file"),
        pytest.param(vm(directory="golden"), [disk(OWN, BASE)], [f"Hard disk 1: {OWN}"], id="a parent without disks"),
        pytest.param(PARENT, [], [], id="no disk"),
        pytest.param(PARENT, [disk(OWN, BASE), disk(unit=1)], ["Hard disk 2"], id="a disk without a file"),
    ],
)
def test_added_disks(parent: dict[str, Any], child: list[Any], added: list[str]) -> None:
    assert losses.added_disks(parent, vm(*child)) == added


def named(name: str, number: int, parent: int | None = None, heads: str | None = None, of: str | None = None) -> Any:
    values: dict[str, Any] = {"name": name, "config.uuid": f"b-{number}", "config.instanceUuid": f"I-{number}"}
    if parent is not None:
        values[identity.RECORD_PATH] = str(identity.Record(f"i-{parent}", f"b-{number}", "n"))
    if heads or of:
        values["config.forkConfigInfo"] = type("Info", (), {"parentForkGroupId": heads, "childForkGroupId": of})()
    return values


def test_children_of() -> None:
    everyone = [
        named("golden", 1, heads="g"),
        named("middle%2f", 2, parent=1, heads="m", of="g"),
        named("leaf%2f", 3, parent=2),
        named("of another tool", 4, of="m"),
        # A clone of the leaf has its record, but not its BIOS UUID.
        {**named("copy", 5), identity.RECORD_PATH: named("leaf", 3, parent=2)[identity.RECORD_PATH]},
        named("odd", 6, heads="g", of="g"),
    ]
    children = losses.children_of(everyone)
    assert [children(values) for values in everyone] == [
        ["middle/", "odd"],
        ["leaf/", "of another tool"],
        [],
        [],
        [],
        [],
    ]


def snapshot(name: str, *children: Any, description: str = "") -> Any:
    return vim.vm.SnapshotTree(name=name, description=description, childSnapshotList=list(children))


@pytest.mark.parametrize(
    ("values", "parent", "expected"),
    [
        ({}, {}, losses.Losses()),
        ({"config.annotation": "same \n"}, {"config.annotation": "same"}, losses.Losses()),
        ({"config.annotation": "a\n b"}, {"config.annotation": "same"}, losses.Losses(annotation="a b")),
        ({"config.annotation": "x" * 61}, {}, losses.Losses(annotation="x" * 60 + "…")),
        ({"config.template": True}, {}, losses.Losses(template=True)),
        (
            {
                "snapshot": vim.vm.SnapshotInfo(
                    rootSnapshotList=[snapshot("a", snapshot("Veeam Backup Temporary Snapshot"))]
                )
            },
            {},
            losses.Losses(
                snapshots=("a", "Veeam Backup Temporary Snapshot"), temporary=("Veeam Backup Temporary Snapshot",)
            ),
        ),
        (
            {
                "snapshot": vim.vm.SnapshotInfo(
                    rootSnapshotList=[snapshot("before the backup"), snapshot("s", description="NBU_SNAPSHOT")]
                )
            },
            {},
            losses.Losses(snapshots=("before the backup", "s"), temporary=("s",)),
        ),
    ],
)
def test_of(values: dict[str, Any], parent: dict[str, Any], expected: losses.Losses) -> None:
    assert losses.of(parent, {"config.hardware.device": [PCI], "config.template": False, **values}) == expected


PCI = vim.vm.device.VirtualPCIController(key=100)


def scsi(*keys: int) -> Any:
    return vim.vm.device.ParaVirtualSCSIController(key=1000, controllerKey=100, busNumber=0, device=list(keys))


@pytest.mark.parametrize(
    ("parent", "devices", "unseen"),
    [
        pytest.param([], None, True, id="no property"),
        pytest.param([], [], True, id="no device"),
        pytest.param([], [PCI], False, id="a VM without disks"),
        pytest.param([], [vim.vm.device.VirtualVmxnet3()], True, id="no controller"),
        pytest.param([disk(BASE)], [PCI, scsi()], True, id="no disk, and the parent has one"),
        pytest.param([disk(BASE)], [disk(OWN, BASE)], True, id="a disk without its controller"),
        pytest.param([disk(BASE)], [scsi(2000), disk(OWN, BASE)], True, id="a controller without its controller"),
        pytest.param([disk(BASE)], [PCI, scsi(2000, 2001), disk(OWN, BASE)], True, id="a disk that is not shown"),
        pytest.param([disk(BASE)], [PCI, scsi(2000), disk(OWN, BASE)], False, id="all that is named"),
        pytest.param([disk(BASE)], [PCI, scsi(), disk(OWN, BASE)], False, id="a controller that names none"),
        pytest.param(
            [disk(BASE), disk(BASE, unit=1)], [PCI, scsi(2000), disk(OWN, BASE)], False, id="parent got another"
        ),
    ],
)
def test_hidden_devices_are_an_obstacle(parent: list[Any], devices: list[Any] | None, unseen: bool) -> None:
    values = {"config.template": False, "config.files.vmPathName": "[ds] web-01/web-01.vmx"}
    if devices is not None:
        values["config.hardware.device"] = devices
    lost = losses.of({"config.hardware.device": parent}, values)
    assert lost == losses.Losses(unseen=unseen)
    assert len(lost.obstacles) == unseen


def test_unknown_template_flag() -> None:
    assert losses.of({}, {"config.hardware.device": [PCI]}).unseen
