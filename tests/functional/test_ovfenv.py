# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_ovfenv: the repair, what prevents it, and what it reports when it fails halfway."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from functional.vapp import Appliance, Estate, at_the_host, document, estate, prop
from functional.vcenter import SECONDS, Result, VCenter
from harness.simulator import Simulator
from pyVim.task import WaitForTask
from pyVmomi import vim

ACCEPTED = ["guest_not_seen"]
POWER = {"PowerOnVM_Task", "PowerOffVM_Task", "ShutdownGuest", "ReconfigVM_Task"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Estate]:
    """Run one simulator for VMs that do not affect each other."""
    with Simulator("-vm", "0", "-host", "1", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


def repair(vm: Appliance, probe: str = "none", **given: Any) -> Result:
    if probe != "none":
        given |= vm.vcenter.guest_login
    return vm.vcenter.run("vm_ovfenv", moid=vm.moid, guest_probe=probe, **given)


def lost(place: Estate, name: str, *properties: Any, **options: Any) -> Appliance:
    vm = place.appliance(name, *properties, **options)
    vm.power_on("esxi")
    return vm


def verdicts(result: Result) -> tuple[str, str]:
    return result["before"]["diagnosis"]["status"], result["after"]["diagnosis"]["status"]


def assert_left_unchanged(vm: Appliance, sentence: str, **given: Any) -> Result:
    """Assert that the module refuses with a sentence, also in check mode, and changes nothing."""
    was_on = vm.is_on
    with vm.vcenter.calls() as calls:
        checked, ran = repair(vm, check=True, **given), repair(vm, **given)
    assert not POWER & set(calls)
    assert vm.is_on == was_on
    for result in (checked, ran):
        assert result.get("failed"), result
        assert sentence in result.msg, result.msg
        assert result.msg.startswith(f"VM {vm.name} is left unchanged")
        assert not result.get("changed")
        assert "exception" not in result
    return ran


# --- the repair -------------------------------------------------------------------------------------------------------


def test_check_run_run_again(shared: Estate) -> None:
    vm = lost(shared, "whole-job", prop("hostname", "whole-job"), prop("admin", "planted-0123456789", kind="password"))
    vm.set_extra("kept", "as it was")
    paths = ("config.uuid", "config.instanceUuid", "config.hardware.device", "config.extraConfig", "name")

    def state() -> list[Any]:
        return [str(_of(vm.mo, path)) for path in paths]

    before = state()
    with vm.vcenter.calls() as calls:
        checked = repair(vm, "full", check=True, diff=True)
    assert not POWER & set(calls)
    done = repair(vm, "full", diff=True)
    again = repair(vm, "full", diff=True)
    assert [result.get("failed") for result in (checked, done, again)] == [None] * 3, done.msg
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert [verdicts(result) for result in (checked, done, again)] == [
        ("lost", "lost"),
        ("lost", "delivered"),
        ("delivered", "delivered"),
    ]
    steps = ["shut down the guest", "power on through vCenter", "wait for VMware Tools", "judge again"]
    assert checked["plan"] == done["plan"]
    assert (checked["plan"]["steps"], again["plan"]["steps"]) == (steps, [])
    assert checked["diff"] == done["diff"]
    assert done["diff"] == {"before": {"ovf_environment": "lost"}, "after": {"ovf_environment": "delivered"}}
    assert again["diff"]["before"] == again["diff"]["after"]
    assert done["before"]["configured"]["properties"][0]["value"] == "whole-job"
    assert set(checked) == set(done) == set(again)
    assert vm.guest_document is not None
    assert "planted" in vm.guest_document
    assert "planted" not in checked.raw + done.raw + again.raw
    assert state() == before
    assert "Reset" not in str(calls)


def _of(vm: Any, path: str) -> Any:
    for part in path.split("."):
        vm = getattr(vm, part)
    return vm


def test_without_a_guest_probe(shared: Estate) -> None:
    """A suspicion justifies a power cycle only if the risk is accepted; the best verdict is then an assumption."""
    vm = lost(shared, "unseen")
    refused = assert_left_unchanged(vm, "set accept_risks=guest_not_seen.")
    assert refused["plan"]["risks"][0] | {"message": ""} == {"name": "guest_not_seen", "message": "", "accepted": False}
    done = repair(vm, accept_risks=ACCEPTED)
    assert verdicts(done) == ("lost_suspected", "delivered_assumed")
    assert vm.guest_document is not None


@pytest.mark.parametrize("shutdown", ["guest", "hard"])
def test_how_it_is_powered_off(shared: Estate, shutdown: str) -> None:
    vm = lost(shared, f"off-{shutdown}")
    with vm.vcenter.calls() as calls:
        done = repair(vm, "exit_code", shutdown=shutdown)
    assert done["changed"], done.msg
    assert verdicts(done) == ("lost", "delivered")
    assert ("ShutdownGuest" in calls, "PowerOffVM_Task" in calls) == (shutdown == "guest", shutdown == "hard")
    assert calls["PowerOnVM_Task"] == 1


def test_powered_off(shared: Estate) -> None:
    vm = shared.appliance("powered-off")
    checked = repair(vm, check=True)
    assert checked["plan"]["steps"][0] == "power on through vCenter"
    assert not vm.is_on
    done = repair(vm)
    assert (done["changed"], verdicts(done)) == (True, ("not_running", "delivered_assumed"))
    assert vm.is_on


def test_second_try(own: Estate) -> None:
    """vic-product: some VMs need a second power-on, after their vApp options were rewritten while they were off."""
    own.vcenter.rule("ovfenv_after_host_start", "after-reconfigure")
    vm = lost(own, "stubborn")
    with own.vcenter.calls() as calls:
        done = repair(vm, "exit_code")
    assert not done.get("failed"), done.msg
    assert verdicts(done) == ("lost", "delivered")
    assert (calls["ShutdownGuest"], calls["PowerOnVM_Task"], calls["ReconfigVM_Task"]) == (2, 2, 1)
    assert "did not bring the OVF environment of VM stubborn back" in str(done["warnings"])


def test_failed_repair(own: Estate) -> None:
    """Two power cycles did not help, which is reported; the VM is left running."""
    own.vcenter.rule("ovfenv_after_host_start", "after-reconfigure")
    vm = lost(own, "hopeless")
    own.vcenter.fault(method="ReconfigVM_Task", at="call", fault="NoPermission", count=0)
    failed = repair(vm, "exit_code")
    assert failed["failed"]
    assert failed["changed"]
    assert failed.msg.startswith("VM hopeless was powered on through vCenter, and the verdict is now contradictory: ")
    assert verdicts(failed) == ("lost", "contradictory")
    assert vm.is_on
    assert "Could not rewrite the vApp options of VM hopeless" in str(failed["warnings"])


def test_document_that_differs_after_the_power_cycle(own: Estate) -> None:
    """A document that arrived with other values is no reason for a second try."""
    vm = lost(own, "restless")

    def change() -> None:
        while not vm.is_on or vm.guest_document is None:
            pass
        vm.set_property("hostname", "another")

    own.vcenter.fault(method="WaitForUpdatesEx", at="call", delay_ms=2000, count=0)
    with own.vcenter.at_call("PowerOnVM_Task", change):
        failed = repair(vm, "full")
    assert failed.msg.startswith("VM restless was powered on through vCenter, and the verdict is now stale: ")
    assert own.vcenter.control("GET", "calls")["methods"]["PowerOnVM_Task"] == 1
    assert (failed["changed"], vm.is_on) == (True, True)


def test_privileges_of_the_file(own: Estate) -> None:
    """The role from the file is enough to probe a guest and to repair it, including a second try."""
    path = Path(__file__).parents[2] / "playbooks" / "files" / "privileges" / "ovfenv.txt"
    needed = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    known = {privilege for role in own.service.content.authorizationManager.roleList for privilege in role.privilege}
    assert set(needed) <= known
    denied = sorted(privilege for privilege in known if privilege not in needed and not privilege.startswith("System."))
    login = {"name": "ovf-repairer", "password": "repairers-long-password"}
    own.vcenter.control("POST", "users", {**login, "deny": denied})
    user = {"username": login["name"], "password": login["password"]}
    vm = lost(own, "by-role", prop("hostname", "by-role"))
    looked = own.vcenter.ok("vm_ovfenv_info", moid=[vm.moid], guest_probe="full", **own.vcenter.guest_login, **user)
    assert looked["ovfenv"][0]["diagnosis"]["status"] == "lost"
    assert not looked.get("warnings")
    repaired = repair(vm, "full", **user)
    assert not repaired.get("failed"), repaired.msg
    assert verdicts(repaired) == ("lost", "delivered")
    assert repaired["after"]["extracted"]["document"]
    assert repaired["after"]["guest"]["document"]
    own.vcenter.rule("ovfenv_after_host_start", "after-reconfigure")
    other = lost(own, "second-try", prop("hostname", "second-try"))
    with own.vcenter.calls() as calls:
        repaired = repair(other, "full", **user)
    assert not repaired.get("failed"), repaired.msg
    assert (verdicts(repaired), calls["PowerOnVM_Task"]) == (("lost", "delivered"), 2)


def test_lacking_privileges(own: Estate) -> None:
    """The VM is not powered off if it cannot be powered on, nor a second time if its options cannot be rewritten."""

    def user_without(name: str, *deny: str) -> dict[str, str]:
        login = {"name": name, "password": "juniors-long-password"}
        own.vcenter.control("POST", "users", {**login, "deny": deny})
        return {"username": name, "password": login["password"]}

    own.vcenter.rule("ovfenv_after_host_start", "after-reconfigure")
    vm = lost(own, "guarded")
    for privilege in ("VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff"):
        low = user_without(privilege[-8:], privilege)
        assert_left_unchanged(vm, f"the user lacks the privilege {privilege} on", accept_risks=ACCEPTED, **low)
    low = user_without("no-writer", "VApp.ApplicationConfig")
    with own.vcenter.calls() as calls:
        failed = repair(vm, "exit_code", **low)
    assert (verdicts(failed), vm.is_on) == (("lost", "contradictory"), True)
    assert calls["PowerOnVM_Task"] == 1
    assert "VM guarded is not cycled again: the user lacks the privilege VApp.ApplicationC" in str(failed["warnings"])


# --- risks ------------------------------------------------------------------------------------------------------------


def test_address_change(shared: Estate) -> None:
    vm = lost(shared, "moves", prop("ip0", "192.0.2.77", class_id="vami"), prop("dns", "192.0.2.53", kind="ip"))
    using = vm.mo.guest.net[0].ipAddress[0]
    refused = assert_left_unchanged(
        vm, f"The VM uses {using} now, and would receive vami.ip0=192.0.2.77.", probe="full"
    )
    assert "set accept_risks=address_change." in refused.msg
    assert [risk["name"] for risk in refused["plan"]["risks"]] == ["address_change"]
    done = repair(vm, "full", accept_risks=["address_change"])
    assert verdicts(done) == ("lost", "delivered"), done.msg
    assert done["plan"]["risks"][0]["accepted"]
    same = lost(shared, "stays", prop("ip0", using))
    same.set_property("ip0", same.mo.guest.net[0].ipAddress[0])
    assert repair(same, "exit_code", check=True)["plan"]["risks"] == []


def test_addresses_in_every_notation(shared: Estate) -> None:
    """Addresses with a prefix length and camel-case names are found; values masked elsewhere are masked here."""
    address = prop("guestinfo.interface.0.ip.0.address", "192.0.2.77/24")
    vm = lost(shared, "written", address, prop("mgmtIp", "192.0.2.78"), prop("password_ip", "192.0.2.79"))
    addresses = "guestinfo.interface.0.ip.0.address=192.0.2.77, mgmtIp=192.0.2.78, password_ip=********."
    refused = assert_left_unchanged(vm, f"would receive {addresses}", probe="full")
    assert "192.0.2.79" not in refused.raw


def test_required_property_without_a_value(shared: Estate) -> None:
    """Its host powered it on. vCenter would refuse, which is reported before the VM is powered off."""
    vm = lost(shared, "required", prop("ip0", kind="ip"))
    refused = assert_left_unchanged(vm, "Property 'ip0' must be configured for the VM to power on", probe="exit_code")
    (risk,) = refused["plan"]["risks"]
    assert (risk["name"], risk["accepted"]) == ("required_empty", False)
    vm.power_off()
    off = assert_left_unchanged(vm, "Property 'ip0' must be configured for the VM to power on")
    assert "no value: ip0. Set their values" in off["before"]["diagnosis"]["message"]


def add_pool(place: Estate, enabled: bool = True, **association: Any) -> Callable[[], None]:
    """Add an IP pool for one network; return a function that enables it."""
    datacenter, manager = place.service.content.rootFolder.childEntity[0], place.service.content.ipPoolManager
    made: Any = vim.vApp.IpPool(
        name=f"pool of {association}",
        ipv4Config=vim.vApp.IpPool.IpPoolConfigInfo(
            subnetAddress="192.0.2.0",
            netmask="255.255.255.0",
            gateway="192.0.2.1",
            range="192.0.2.10#2",
            ipPoolEnabled=enabled,
        ),
        networkAssociation=[vim.vApp.IpPool.Association(**{"networkName": "", **association})],
    )
    made.id = manager.CreateIpPool(datacenter, made)

    def enable() -> None:
        made.ipv4Config.ipPoolEnabled = True
        manager.UpdateIpPool(datacenter, made)

    return enable


def test_no_ip_pool(own: Estate) -> None:
    """Without a pool for the named network vCenter could not compute the value, and the VM would stay off."""
    vm = own.appliance("computed", prop("gateway", default="${gateway:Lab}", kind="expression"))
    vm.power_on("esxi")
    add_pool(own, network=vm.mo.network[0])  # the VM itself is on another network
    refused = assert_left_unchanged(vm, "cannot compute gateway (network Lab has no IP pool).", accept_risks=ACCEPTED)
    assert "accept_risks=no_ip_pool" in refused.msg
    failed = repair(vm, accept_risks=[*ACCEPTED, "no_ip_pool"])
    assert failed.msg.startswith("VM computed IS POWERED OFF, and vCenter did not power it on again. ")
    assert failed["changed"]
    assert not vm.is_on
    add_pool(own, networkName="Lab")  # some servers show only the name of the network
    done = repair(vm)
    assert (done["plan"]["risks"], verdicts(done)) == ([], ("not_running", "delivered_assumed")), done.msg


def test_ip_pool_that_is_not_enabled(own: Estate) -> None:
    """It provides no addresses."""
    policy = vim.vApp.IPAssignmentInfo(ipAllocationPolicy="transientPolicy")
    vm = own.appliance("leased", prop("ip0", kind="ip:Lab"), ipAssignment=policy)
    vm.power_on("esxi")
    enable = add_pool(own, enabled=False, networkName="Lab")
    why = "cannot compute ip0 (network Lab has an IP pool that is not enabled)."
    assert_left_unchanged(vm, why, accept_risks=ACCEPTED)
    failed = repair(vm, accept_risks=[*ACCEPTED, "no_ip_pool"])
    assert failed.msg.startswith("VM leased IS POWERED OFF, and vCenter did not power it on again. ")
    enable()
    done = repair(vm)
    assert (done["plan"]["risks"], verdicts(done)) == ([], ("not_running", "delivered_assumed")), done.msg


def test_data_loss(shared: Estate) -> None:
    vm = shared.appliance("kiosk")
    disk: Any = next(device for device in vm.mo.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk))
    disk.backing.diskMode = "independent_nonpersistent"
    vm.reconfigure(deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])
    vm.power_on("esxi")
    label = disk.deviceInfo.label
    assert_left_unchanged(vm, f"discards everything written since its last power-on to {label}.", probe="exit_code")
    done = repair(vm, "exit_code", accept_risks=["data_loss"])
    assert verdicts(done) == ("lost", "delivered"), done.msg


def test_another_vms_document(shared: Estate) -> None:
    """An Instant Clone of another tool has its parent's document, which differs and so looks stale."""
    vm = lost(shared, "clone")
    vm.plant(document({"hostname": "its-parent"}, 've:vCenterId="vm-7"').replace("\n", ""))
    refused = assert_left_unchanged(vm, "It may be an Instant Clone or fork created by another tool", probe="full")
    assert refused["before"]["diagnosis"]["status"] == "stale"
    assert "set accept_risks=foreign_id." in refused.msg


def test_weak_evidence(shared: Estate) -> None:
    """A password may be newer than the power-on, but its value cannot be compared."""
    vm = shared.appliance("edited", prop("admin", "planted-0123456789", kind="password"))
    vm.power_on()
    vm.set_property("admin", "planted-9876543210")
    refused = assert_left_unchanged(vm, "The verdict stale has medium confidence, because its guest was not probed")
    assert "set accept_risks=guest_not_seen." in refused.msg


def test_contradiction(own: Estate) -> None:
    own.vcenter.rule("ovfenv_after_host_start", "after-reconfigure")
    vm = lost(own, "odd")
    vm.power_on()
    refused = assert_left_unchanged(vm, "Another power-on may not help.", probe="exit_code")
    assert "set accept_risks=contradictory." in refused.msg


# --- halfway ----------------------------------------------------------------------------------------------------------


def test_guest_that_stays_up(shared: Estate) -> None:
    vm = lost(shared, "stays-up")
    vm.set_tools(stays_up=True)
    failed = repair(vm, accept_risks=ACCEPTED, timeout=8)
    assert failed.msg == (
        "VM stays-up was asked to shut down and is still running. Could not shut down the guest of VM stays-up: it was "
        "not off within 8 seconds. Shut it down from inside the guest, or use shutdown=hard. If it shuts down later, "
        "IT STAYS OFF until somebody powers it on. Check it, then run vm_ovfenv for it again, which powers it on."
    )
    assert (failed["changed"], vm.is_on) == (True, True)
    assert verdicts(failed) == ("lost_suspected", "lost_suspected")


def test_tools_that_do_not_run(shared: Estate) -> None:
    vm = lost(shared, "no-tools")
    vm.set_tools(tools_running=False)
    assert_left_unchanged(vm, "VMware Tools is not running", accept_risks=ACCEPTED)
    # Tools did not run before either, so the module does not wait for them.
    done = repair(vm, accept_risks=ACCEPTED, shutdown="hard")
    assert verdicts(done) == ("lost_suspected", "delivered_assumed"), done.msg
    assert not done.get("warnings")


def test_tools_that_do_not_start(shared: Estate) -> None:
    """They must not use up the time for the verdict, which reports the problem."""
    vm = lost(shared, "late")
    vm.set_tools(tools_running=False)
    failed = repair(vm, "exit_code", accept_risks=ACCEPTED, shutdown="hard", timeout=12)
    assert failed.msg.startswith("VM late was powered on through vCenter, and the verdict is now delivered_assumed: ")
    assert "VMware Tools is not running). VMware Tools did not start in VM late within " in failed.msg
    assert failed["after"]["power_on"]["origin"] == "vcenter"
    assert failed["after"]["extracted"]["state"] == "ok"
    assert (failed["changed"], vm.is_on) == (True, True)


def test_server_that_stops_answering(shared: Estate) -> None:
    """The server powers off the VM and then stops answering: the error says that the VM may be off."""
    vm = lost(shared, "unheard")
    vcenter = vm.vcenter

    def fall_silent() -> None:
        for method in ("RetrievePropertiesEx", "WaitForUpdatesEx"):
            vcenter.fault(method=method, at="call", drop="before", count=0)

    vcenter.fault(method="PowerOffVM_Task", at="call", delay_ms=4000, vm=vm.moid, count=1)
    with vcenter.at_call("PowerOffVM_Task", fall_silent):
        failed = repair(vm, accept_risks=ACCEPTED, shutdown="hard")
    vcenter.control("DELETE", "faults")
    assert failed.msg.startswith("VM unheard WAS ASKED TO SHUT DOWN and may be off. The connection to ")
    assert "IT STAYS OFF until somebody powers it on" in failed.msg
    assert (failed["changed"], vm.is_on) == (True, False)
    assert failed["before"]["diagnosis"]["status"] == "lost_suspected"
    done = repair(vm)
    assert verdicts(done) == ("not_running", "delivered_assumed"), done.msg


def test_power_on_without_an_answer(shared: Estate) -> None:
    """The power-on succeeds, but its answer is lost every time: the error does not say that the VM is off."""
    vm = lost(shared, "answerless")
    vcenter = vm.vcenter
    vcenter.fault(method="PowerOnVM_Task", at="call", drop="after", vm=vm.moid, count=2)
    done = repair(vm, accept_risks=ACCEPTED)
    assert "OFF" not in done.msg
    assert vm.is_on
    assert verdicts(done) == ("lost_suspected", "delivered_assumed"), done.msg


def test_concurrent_power_operation(own: Estate) -> None:
    """The state of the VM is read again before it is changed."""
    vm = lost(own, "contested")
    own.vcenter.fault(method="QueryIpPools", at="call", delay_ms=4000, count=1)
    with own.vcenter.at_call("QueryIpPools", lambda: WaitForTask(vm.mo.SuspendVM_Task())):
        failed = repair(vm, accept_risks=ACCEPTED)
    calls = own.vcenter.control("GET", "calls")["methods"]
    assert "its power state changed from poweredOn to suspended after it was examined" in failed.msg
    assert failed["changed"] is False
    assert not POWER & set(calls)
    assert vm.mo.runtime.powerState == "suspended"


@pytest.mark.parametrize("at", ["call", "task"])
def test_power_on_that_fails(shared: Estate, at: str) -> None:
    vm = lost(shared, f"fails-{at}")
    vm.vcenter.fault(method="PowerOnVM_Task", at=at, fault="NoPermission", vm=vm.moid, count=1)
    failed = repair(vm, "exit_code")
    assert failed.msg.startswith(f"VM {vm.name} IS POWERED OFF, and vCenter did not power it on again. Could not ")
    assert "run vm_ovfenv for this VM again" in failed.msg
    assert failed["changed"]
    assert not vm.is_on
    assert failed["before"]["diagnosis"]["status"] == "lost"
    assert failed["plan"]["steps"]
    done = repair(vm, "exit_code")
    assert (done["changed"], verdicts(done)) == (True, ("not_running", "delivered")), done.msg


def test_failing_power_on_of_a_powered_off_vm(shared: Estate) -> None:
    vm = shared.appliance("fails-off")
    vm.vcenter.fault(method="PowerOnVM_Task", at="task", fault="InsufficientResourcesFault", vm=vm.moid, count=1)
    failed = repair(vm)
    assert failed.msg.startswith("Could not power on VM fails-off: ")
    assert failed["changed"] is False


@pytest.mark.parametrize("drop", ["before", "after"])
@pytest.mark.parametrize("method", ["ShutdownGuest", "PowerOffVM_Task", "PowerOnVM_Task"])
def test_lost_connection(shared: Estate, method: str, drop: str) -> None:
    """A lost answer never leaves the VM off."""
    vm = lost(shared, f"dropped-{method}-{drop}".lower().replace("_", "-"))
    vm.vcenter.fault(method=method, at="call", drop=drop, vm=vm.moid, count=1)
    shutdown = "hard" if method == "PowerOffVM_Task" else "guest"
    result = repair(vm, "exit_code", shutdown=shutdown, timeout=60)
    assert vm.is_on
    assert not result.get("failed"), result.msg
    assert verdicts(result) == ("lost", "delivered")


def test_lost_connection_and_then_a_fault(shared: Estate) -> None:
    vm = lost(shared, "dropped-and-refused")
    vm.vcenter.fault(method="PowerOnVM_Task", at="call", drop="before", vm=vm.moid, count=1)
    vm.vcenter.fault(method="PowerOnVM_Task", at="task", fault="NoDiskSpace", vm=vm.moid, count=1)
    failed = repair(vm, "exit_code")
    assert failed.msg.startswith("VM dropped-and-refused IS POWERED OFF")
    assert "NoDiskSpace" in failed.msg
    assert not vm.is_on


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_verdicts_that_a_power_cycle_does_not_change(shared: Estate) -> None:
    erased = shared.appliance("erased")
    erased.power_on()
    erased.plant("NULL")
    assert_left_unchanged(erased, "since a power cycle would not help (cleared): ", probe="exit_code")
    silent = shared.appliance("silent", transports=())
    silent.power_on()
    assert_left_unchanged(silent, "since a power cycle would not help (not_deliverable): ")
    scrawl = shared.appliance("scrawl")
    scrawl.power_on()
    scrawl.plant("hello")
    assert_left_unchanged(scrawl, "since a power cycle would not help (unknown): ", probe="exit_code")
    plain = shared.bare("plain")
    assert_left_unchanged(plain, "since a power cycle would not help (not_configured): ")


def test_fault_tolerance(shared: Estate) -> None:
    vm = lost(shared, "tolerant")
    vm.vcenter.control("PATCH", f"vms/{vm.moid}", {"fault_tolerance_role": 1})
    assert_left_unchanged(vm, "it is protected by Fault Tolerance.", accept_risks=ACCEPTED)


def test_fork_child(own: Estate) -> None:
    parent = own.existing(own.vcenter.parent)
    parent.set_vapp_options(prop("hostname", "golden"))
    parent.power_on()
    own.vcenter.enable()
    own.vcenter.quiesce()
    own.vcenter.fork("web-01", wait_for="powered_on")
    assert_left_unchanged(own.existing("web-01"), "it is a fork, and powering it off would destroy its forked memory")


def cloned(place: Estate, name: str, origin: str = "esxi") -> Appliance:
    """Return an Instant Clone created with govc from a VM powered on through vCenter or by its host."""
    source = place.existing(place.vcenter.parent)
    source.set_vapp_options(prop("hostname", "golden"))
    source.power_on(origin)
    place.vcenter.quiesce()
    place.vcenter.govc("vm.instantclone", "-vm", source.name, "-pool", "DC0_H0/Resources", "-folder", "/DC0/vm", name)
    vm = place.existing(name)
    place.vcenter.in_guest(vm.moid, "true")  # the module can then probe its guest
    return vm


@pytest.mark.flags("-api-version", "8.0.3.0")
@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ({}, "its task and its event"),
        ({"instant_clone_event": "absent"}, "its task"),
        ({"instant_clone_events": "none"}, "its event"),
    ],
)
def test_instant_clone_of_another_tool(own: Estate, rules: dict[str, str], source: str) -> None:
    """Its parent had lost its document, so the clone looks lost too; its events show that it is a clone."""
    for rule, value in rules.items():
        own.vcenter.rule(rule, value)
    vm = cloned(own, "web-01")
    moid = own.existing(own.vcenter.parent).moid
    risks = [*ACCEPTED, "may_be_fork", "contradictory"]
    refused = assert_left_unchanged(
        vm, "it is a fork, and powering it off would", probe="exit_code", accept_risks=risks
    )
    found = refused["before"]
    assert (found["diagnosis"]["status"], found["diagnosis"]["cause"]) == ("not_delivered", "fork_child"), source
    assert (found["power_on"]["origin"], found["power_on"]["reason"]) == ("unknown", "instant_clone")
    assert f"events: created by a fork of {moid}" in found["diagnosis"]["evidence"]
    unseen = assert_left_unchanged(vm, "it is a fork", accept_risks=risks)
    assert unseen["before"]["diagnosis"]["status"] == "inherited"
    vm.power_off()
    vm.power_on()
    assert repair(vm, "exit_code")["before"]["diagnosis"]["status"] == "delivered", "it is no longer a fork"


@pytest.mark.flags("-api-version", "6.7")
def test_instant_clone_without_events(own: Estate) -> None:
    """Its events are gone. It is cycled only if the user states that it is not a clone."""
    vm = cloned(own, "web-01")
    own.vcenter.control("DELETE", "events")
    refused = assert_left_unchanged(vm, "It may be an Instant Clone or fork created by another tool", probe="exit_code")
    assert refused["before"]["diagnosis"]["cause"] == "host_start_unknown"
    assert "set accept_risks=may_be_fork." in refused.msg
    done = repair(vm, "exit_code", accept_risks=["may_be_fork"])
    assert verdicts(done) == ("lost", "delivered"), done.msg
    whole = lost(own, "whole")
    own.vcenter.control("DELETE", "events")
    assert verdicts(repair(whole, "exit_code")) == ("lost", "delivered"), "its disks are its own"


@pytest.mark.flags("-api-version", "6.7")
def test_instant_clone_with_its_parents_document(own: Estate) -> None:
    """The document shows whose it is where its values are compared."""
    vm = cloned(own, "web-01", origin="vcenter")
    own.vcenter.control("DELETE", "events")
    parent = own.existing(own.vcenter.parent)
    risks = [*ACCEPTED, "may_be_fork", "address_change"]
    refused = assert_left_unchanged(vm, "a power cycle would not help (inherited)", probe="full", accept_risks=risks)
    assert f"created for {parent.moid}, so it is a fork or an Instant Clone" in refused.msg
    assert refused["before"]["diagnosis"]["confidence"] == "medium"
    # From another vCenter's VM with such an ID: with this VM's adapters (it was migrated) or with unknown ones.
    card = next(
        device for device in vm.mo.config.hardware.device if isinstance(device, vim.vm.device.VirtualEthernetCard)
    )
    section = f'<ve:EthernetAdapterSection><ve:Adapter ve:mac="{card.macAddress}"/></ve:EthernetAdapterSection>'
    nobodys = section.replace(str(card.macAddress), "00:50:56:00:00:00")
    for moid, adapters in (
        (parent.moid, section),
        (parent.moid, nobodys),
        ("vm-4711", nobodys),
        ("no VM &amp; no ID", nobodys),
    ):
        vm.plant(document({"hostname": "golden"}, f've:vCenterId="{moid}"', adapters).replace("\n", ""))
        moved = repair(vm, "full", check=True)["before"]["diagnosis"]
        assert (moved["status"], moved["cause"]) == ("delivered", "foreign_id")


def test_fork_parent(own: Estate) -> None:
    """Its children would be lost with it."""
    parent = own.existing(own.vcenter.parent)
    parent.set_vapp_options(prop("hostname", "golden"))
    parent.power_on("esxi")
    own.vcenter.enable()
    assert_left_unchanged(parent, "it is a fork parent, and its children may end with it.", accept_risks=ACCEPTED)
    own.vcenter.quiesce()
    own.vcenter.fork("web-01", wait_for="powered_on")
    assert_left_unchanged(parent, "it is a fork parent", accept_risks=ACCEPTED, shutdown="hard")
    assert own.existing("web-01").is_on


def test_vcenter_itself(own: Estate) -> None:
    vm = lost(own, "vcsa")
    own.vcenter.control("PATCH", f"vms/{vm.moid}", {"is_vcenter": True})
    assert_left_unchanged(vm, "it runs this vCenter, which cannot power itself on.", accept_risks=ACCEPTED)


@pytest.mark.flags("-esx-l", "127.0.0.1:0")
def test_esxi(own: Estate) -> None:
    vm = own.existing(own.vcenter.parent)
    port = int(own.vcenter.simulator.esx_url.rpartition(":")[2].partition("/")[0])
    with at_the_host(own.vcenter) as vms:
        assert vms[vm.name].runtime.powerState == "poweredOn"
    refused = own.vcenter.fails("vm_ovfenv", name=vm.name, port=port)
    assert f"VM {vm.name} is left unchanged: " in refused.msg
    assert "is an ESXi host, and only vCenter delivers an OVF environment. Set hostname to the vCenter." in refused.msg


@pytest.mark.flags("-api-version", "6.7")
def test_objections_of_the_server(own: Estate) -> None:
    """The module asks vCenter before it changes the VM."""
    why = "because vCenter could not power it on again: "
    vm = lost(own, "held")
    store = vm.mo.datastore[0].name
    own.vcenter.control("PATCH", f"datastores/{store}", {"accessible": False})
    assert_left_unchanged(vm, f"{why}its datastore {store} cannot be reached.", accept_risks=ACCEPTED)
    own.vcenter.control("PATCH", f"datastores/{store}", {"accessible": True})
    two = own.appliance("gateway", prop("gateway", default="${gateway:Lab}", kind="expression"))
    two.power_on("esxi")
    refused = assert_left_unchanged(two, why, accept_risks=[*ACCEPTED, "no_ip_pool"])
    assert "MissingNetworkIpConfig" in refused.msg
    assert "InvalidPowerState" not in refused.msg
    # Like InvalidPowerState, it is an InvalidState.
    fault, objection = "OvfConsumerPowerOnFault", "Its vService does not answer"
    own.vcenter.fault(
        method="CheckPowerOn_Task", at="result", fault=fault, message=f"{objection}.", vm=vm.moid, count=0
    )
    assert_left_unchanged(vm, f"{why}{objection} ({fault}).", accept_risks=ACCEPTED)
    own.vcenter.control("DELETE", "faults")
    # That it is running is not an obstacle, although the check reports it too.
    three = lost(own, "running")
    done = repair(three, accept_risks=ACCEPTED)
    assert verdicts(done) == ("lost_suspected", "delivered_assumed"), done.msg
    WaitForTask(vm.mo.runtime.host.EnterMaintenanceMode_Task(timeout=0))
    assert_left_unchanged(vm, f"{why}its ESXi host is in maintenance mode.", accept_risks=ACCEPTED)
    WaitForTask(vm.mo.runtime.host.ExitMaintenanceMode_Task(timeout=0))
    WaitForTask(vm.mo.runtime.host.DisconnectHost_Task())
    assert_left_unchanged(vm, "since a power cycle would not help (not_applicable): ", accept_risks=ACCEPTED)


def test_bad_input(shared: Estate) -> None:
    for given, sentence in (
        ({}, "one of the following is required: name, moid, uuid, inventory_path"),
        ({"name": "a", "moid": "vm-1"}, "mutually exclusive"),
        ({"name": "no-such"}, "VM no-such was not found on"),
        ({"name": "a", "guest_probe": "full"}, "guest_username is missing."),
        ({"name": "a", "accept_risks": ["everything"]}, "value of accept_risks must be one or more of"),
    ):
        refused = shared.vcenter.run("vm_ovfenv", **given)
        assert refused["failed"]
        assert sentence in refused.msg


def test_secrets(shared: Estate) -> None:
    planted = ["planted-typed-0123456789", "planted-named-0123456789"]
    vm = lost(shared, "secret", prop("admin", planted[0], kind="password"), prop("apiKey", planted[1]))
    printed = vm.vcenter.ansible("vm_ovfenv", diff=True, name=vm.name, guest_probe="full")
    assert '"changed": true' in printed
    assert [secret for secret in planted if secret in printed] == []
    assert vm.guest_document is not None
    assert all(secret in vm.guest_document for secret in planted)


# --- the playbook -----------------------------------------------------------------------------------------------------


NOT_IGNORED = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)
"""Run a command that SIGINT ends, although a shell has its background jobs ignore that signal."""


@contextlib.contextmanager
def playbook(place: Estate, **variables: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the repair as in a terminal, where Ctrl-C reaches all processes of the group."""
    environment = {
        **os.environ,
        **place.vcenter.simulator.environment,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(__file__).parents[2] / ".build" / "live"),
    }
    given = json.dumps(variables)
    with subprocess.Popen(
        [sys.executable, "-c", NOT_IGNORED, "ansible-playbook", "vmfork.vsphere.ovfenv_repair", "-e", given],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
    ) as started:  # fmt: skip
        try:
            yield started
        finally:
            started.kill()


def output_until(started: subprocess.Popen[str], text: str) -> str:
    """Return what a process prints until it has printed this."""
    output = ""
    while text not in output:
        line = started.stdout.readline() if started.stdout else ""
        assert line, output
        output += line
    return output


def test_interrupted_batch_and_another_run(shared: Estate) -> None:
    """The repairs continue, and the output says so. Another run powers on the VM whose power-on failed."""
    vms = [lost(shared, name) for name in ("interrupted-1", "interrupted-2")]
    names = [vm.name for vm in vms]
    given = {"ovfenv_vms": names, "ovfenv_repair_confirm": names, "ovfenv_accept_risks": "guest_not_seen"}
    sessions = len(shared.vcenter.control("GET", "sessions"))
    shared.vcenter.fault(method="PowerOnVM_Task", at="task", fault="GenericVmConfigFault", vm_name=names[1])
    with shared.vcenter.calls(), playbook(shared, **given, ovfenv_repair_batch=2) as started:
        output = output_until(
            started, "[Wait for the repair, which continues if this run is interrupted: interrupted-1]"
        )
        while shared.vcenter.called().get("ShutdownGuest", 0) < len(vms):
            assert started.poll() is None, output
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)
        output += started.communicate(timeout=SECONDS)[0]
    assert started.returncode not in (0, 2), output
    assert all(f"(item={name})" in output for name in names), output
    until = time.monotonic() + 60
    while len(shared.vcenter.control("GET", "sessions")) > sessions:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [vm.is_on for vm in vms] == [True, False]

    with playbook(shared, **given) as again:
        output = again.communicate(timeout=SECONDS)[0]
    assert again.returncode == 0, output
    assert re.search('"interrupted-1 +delivered_assumed +left alone"', output), output
    assert re.search('"interrupted-2 +not_running +delivered_assumed"', output), output
    assert [vm.is_on for vm in vms] == [True, True]
