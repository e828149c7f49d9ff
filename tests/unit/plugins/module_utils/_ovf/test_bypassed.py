# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Missing parts of a VM that was not powered on by vCenter, besides its OVF environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import bypassed, configured, diagnosis
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import PowerOn

NO_EVENT = "events: the power-on has neither a vCenter task nor a DrsVmPoweredOnEvent"
POOLED = configured.read(
    vim.vApp.VmConfigInfo(
        property=[
            vim.vApp.PropertyInfo(key=number, id=f"gateway{number}", type="expression", defaultValue="${gateway:Lab}")
            for number in range(4)
        ]
    )
)


def vm(origin: str = "esxi_direct", user: str | None = "jane", task: str | None = None, **known: Any) -> Evidence:
    power_on = PowerOn(origin, "high", user=user, host="esx-1", task=task, unread=known.pop("unread", ()))
    return Evidence("web", "vm-42", power_on=power_on, **known)


@pytest.mark.parametrize(
    ("evidence", "line"),
    [
        (vm(), None),
        (vm(in_cluster=False, ha_protected=True), None),
        (
            vm(in_cluster=True),
            "events: esx-1 started it where it was; DRS did not place it, and admission control was not applied",
        ),
        (
            vm("host_system", None, in_cluster=True),
            "events: esx-1 started it where it was; DRS did not place it",
        ),
        (
            vm("ha_restart", None, in_cluster=True),
            "events: vSphere HA chose esx-1; DRS did not place the VM, and admission control was not applied",
        ),
        (
            vm(user="root"),
            "events: root is an account of every ESXi host; only the logs of esx-1 may show who used it",
        ),
        (vm(user="DCUI"), "events: DCUI is an account of every ESXi host"),
        (vm("ha_restart", "root"), None),
        (vm(ha_protected=False), "inventory: vSphere HA does not protect it"),
        (
            vm(configured=replace(configured.Configured(), parent_vapps=("shop", "all"))),
            "inventory: in the vApp shop, whose start order applies only when vCenter powers the vApp on",
        ),
        (
            vm(configured=POOLED),
            "configured: vCenter takes gateway0, gateway1, gateway2 and 1 more from network protocol profiles",
        ),
        (vm(customization_pending=True), "inventory: a guest customization is pending"),
        (
            vm(is_encrypted=True),
            "inventory: is encrypted; vCenter provides the key to ESXi hosts, and this host had it",
        ),
    ],
)
def test_lines(evidence: Evidence, line: str | None) -> None:
    first, *rest = bypassed.statements(evidence)
    lines = [first, *rest]
    lines.remove(NO_EVENT)
    assert len(lines) == (line is not None)
    assert all(message.startswith(line or "") for message in lines)
    assert set(lines) < set(diagnosis.judge(evidence).evidence)


def test_unreadable_task_is_not_reported_as_missing() -> None:
    assert list(bypassed.statements(vm(unread=("tasks",)))) == []
    assert list(bypassed.statements(vm(task="VirtualMachine.powerOn"))) == []


@pytest.mark.parametrize(
    "evidence",
    [
        vm("vcenter", "root", in_cluster=True, ha_protected=False, is_encrypted=True, configured=POOLED),
        vm("unknown", "root", in_cluster=True, ha_protected=False, is_encrypted=True, configured=POOLED),
        vm(power_state="poweredOff", in_cluster=True, ha_protected=False, is_encrypted=True, configured=POOLED),
    ],
)
def test_no_lines_for_a_vm_started_by_vcenter(evidence: Evidence) -> None:
    assert list(bypassed.statements(evidence)) == []


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ((6, 0), []),
        ((6, 5), ["config.keyId"]),
        ((7, 0, 1, 0), ["config.keyId"]),
        ((7, 0, 2, 0), ["config.keyId", "guest.customizationInfo"]),
        ((8, 0, 3, 0), ["config.keyId", "guest.customizationInfo"]),
    ],
)
def test_older_server_is_not_asked_for_unknown_properties(version: tuple[int, ...], known: list[str]) -> None:
    assert bypassed.paths(version) == ["runtime.dasVmProtection", *known]


def test_lines_from_properties() -> None:
    protection = vim.vm.RuntimeInfo.DasProtectionState
    info = vim.vm.GuestInfo.CustomizationInfo
    assert bypassed.known({}) == {"ha_protected": None, "is_encrypted": False, "customization_pending": False}
    assert bypassed.known(
        {
            "runtime.dasVmProtection": protection(dasProtected=False),
            "config.keyId": vim.encryption.CryptoKeyId(keyId="not-to-be-shown"),
            "guest.customizationInfo": info(customizationStatus="TOOLSDEPLOYPKG_PENDING"),
        }
    ) == {"ha_protected": False, "is_encrypted": True, "customization_pending": True}
    done = info(customizationStatus="TOOLSDEPLOYPKG_SUCCEEDED")
    assert bypassed.known({"guest.customizationInfo": done})["customization_pending"] is False
