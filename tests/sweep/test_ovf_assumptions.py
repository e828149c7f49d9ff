# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OVF environment with each assumption about it reversed, and each behavior that differs between servers.

Whatever a real server does: a document that is present is not called lost, an absent one is not called delivered for
certain, nothing hangs, and the repair helps or reports that it did not.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import pytest
from functional.vapp import ISO, Appliance, Estate, estate, prop
from functional.vcenter import VCenter
from harness.simulator import Simulator
from pyVim.task import WaitForTask
from sweep.topics import CLONE_AND_OVF_RULES, FORK_AND_OVF_RULES, OVF_RULES, turned

FLAGS = ("-api-version", "8.0.3.0", "-vm", "0", "-host", "2", "-exit-after", "10m")
FORKING = ("-api-version", "6.5", "-vm", "1", "-host", "1", "-exit-after", "10m")
CLONING = ("-api-version", "8.0.3.0", "-vm", "2", "-host", "1", "-exit-after", "10m")
POWER = {"ShutdownGuest", "PowerOffVM_Task", "PowerOnVM_Task"}
TIMEOUT = 60
SLOWEST = TIMEOUT + 20
"""Seconds a module may take at most; more is a hang."""


def timed(place: Estate, module: str, **given: Any) -> Any:
    began = time.monotonic()
    given |= place.vcenter.guest_login
    result = place.vcenter.run(module, timeout=TIMEOUT, **given)
    assert time.monotonic() - began < SLOWEST, f"{module} hung"
    assert "Unexpected error" not in result.msg, result.get("exception")
    return result


def resumed(vm: Appliance) -> None:
    vm.power_on()
    WaitForTask(vm.mo.SuspendVM_Task())
    WaitForTask(vm.mo.PowerOnVM_Task())


def rebooted(vm: Appliance) -> None:
    vm.power_on()
    vm.set_extra("vmx.reboot.powerCycle", "TRUE")
    vm.mo.RebootGuest()


CASES = {
    "vcenter": lambda vm: vm.power_on(),
    "esxi": lambda vm: vm.power_on("esxi"),
    "vcenter-then-esxi": lambda vm: (vm.power_on(), vm.power_on("esxi")),
    "ha": lambda vm: vm.power_on("ha"),
    "autostart": lambda vm: vm.power_on("autostart"),
    "resumed": resumed,
    "rebooted": rebooted,
}


def assert_true_verdict(entry: dict[str, Any], is_there: bool, was_seen: bool) -> None:
    """Compare a verdict with the document that the guest really has."""
    status, confidence = entry["diagnosis"]["status"], entry["diagnosis"]["confidence"]
    if is_there:
        assert status != "lost", entry["diagnosis"]
        assert status == "delivered" or not was_seen, entry["diagnosis"]
    else:
        assert not (status.startswith("delivered") and (confidence == "high" or was_seen)), entry["diagnosis"]
        assert status != "lost" or was_seen, entry["diagnosis"]


@pytest.mark.parametrize(("rule", "value"), turned(OVF_RULES))
def test_ovf_environment(rule: str, value: str) -> None:
    with Simulator(*FLAGS) as simulator, estate(VCenter(simulator)) as place:
        place.vcenter.rule(rule, value)
        vms = {}
        for name, prepare in CASES.items():
            realm = prop("computed", default="${realm}", kind="expression")
            vms[name] = place.appliance(name, prop("hostname", name), prop("admin", "pw", kind="password"), realm)
            prepare(vms[name])
        image = place.appliance("image", transports=(ISO,))
        image.power_on()
        image.power_on("esxi")
        for method in ("none", "full"):
            result = timed(place, "vm_ovfenv_info", name=[*vms, "image"], guest_probe=method)
            assert not result.get("failed"), result.msg
            found = {entry["name"]: entry for entry in result["ovfenv"]}
            for name, vm in vms.items():
                assert_true_verdict(found[name], vm.guest_document is not None, method != "none")
            status = found["image"]["diagnosis"]["status"], found["image"]["diagnosis"]["confidence"]
            assert status != ("delivered_iso", "high"), "its image may be that of an earlier power-on"
        # Events of a start on the host that look like vCenter's own contradict the guest.
        repaired = timed(place, "vm_ovfenv", name="esxi", guest_probe="exit_code", accept_risks=["contradictory"])
        assert vms["esxi"].is_on
        assert not repaired.get("failed"), repaired.msg
        assert repaired["after"]["diagnosis"]["status"] == "delivered"
        assert vms["esxi"].guest_document is not None
        again = timed(place, "vm_ovfenv", name="esxi", guest_probe="exit_code")
        assert (again.get("failed"), again["changed"]) == (None, False), again.msg


@pytest.mark.parametrize(("rule", "value"), turned(FORK_AND_OVF_RULES))
def test_fork_child(rule: str, value: str) -> None:
    """A fork is never power-cycled or called lost."""
    with Simulator(*FORKING) as simulator, estate(VCenter(simulator)) as place:
        place.vcenter.rule(rule, value)
        parent = place.existing(place.vcenter.parent)
        parent.set_vapp_options(prop("hostname", "golden"))
        parent.power_on()
        place.vcenter.enable()
        place.vcenter.quiesce()
        place.vcenter.fork("web-01", wait_for="powered_on")
        for method in ("none", "full"):
            result = timed(place, "vm_ovfenv_info", name=["web-01"], guest_probe=method)
            found = result["ovfenv"][0]["diagnosis"]
            assert found["status"] != "lost"
            assert found["remedy"] != "power_cycle_via_vcenter"
        risks = ["address_change", "no_ip_pool", "guest_not_seen"]
        with place.vcenter.calls() as calls:
            refused = timed(place, "vm_ovfenv", name="web-01", guest_probe="full", accept_risks=risks)
        assert "is left unchanged: it is a fork" in refused.msg
        assert not POWER & set(calls)


@pytest.mark.parametrize(("rule", "value"), turned(CLONE_AND_OVF_RULES))
def test_instant_clone_of_another_tool(rule: str, value: str) -> None:
    """It is power-cycled only if the user states that it is not a fork."""
    with Simulator(*CLONING) as simulator, estate(VCenter(simulator)) as place:
        vcenter = place.vcenter
        vcenter.rule(rule, value)
        clones = []
        for origin, name in {"vcenter": "DC0_H0_VM0", "esxi": "DC0_H0_VM1"}.items():
            parent = place.existing(name)
            parent.set_vapp_options(prop("hostname", "golden"))
            parent.power_on(origin)
            vcenter.ok("vmfork_quiesce", name=name, **vcenter.guest_login, post_clone_script="true")
            clones.append(f"clone-{origin}")
            where = ("-pool", "DC0_H0/Resources", "-folder", "/DC0/vm")
            vcenter.govc("vm.instantclone", "-vm", name, *where, clones[-1])
        risks = ["address_change", "no_ip_pool", "guest_not_seen"]
        for events in ("kept", "gone"):
            if events == "gone":
                vcenter.control("DELETE", "events")
            for name, probe in product(clones, ("none", "exit_code", "full")):
                with vcenter.calls() as calls:
                    refused = timed(place, "vm_ovfenv", name=name, guest_probe=probe, accept_risks=risks)
                assert refused.get("failed") or refused["before"]["diagnosis"]["status"].startswith("delivered")
                assert not POWER & set(calls), (name, events, refused["before"]["diagnosis"])
