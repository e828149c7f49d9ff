# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_vapp_options against the simulator: what it writes, what it reports, and what it leaves unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from functional.vapp import GUESTINFO, Appliance, Estate, estate, prop
from functional.vcenter import Result, VCenter
from harness.simulator import Simulator
from pyVmomi import vim

SECRET = "planted-0123456789-secret"
LATER = "planted-9876543210-later"
RECONFIGURE = "ReconfigVM_Task"


@pytest.fixture(scope="module")
def shared() -> Iterator[Estate]:
    """Run one simulator for VMs that do not affect each other."""
    with Simulator("-vm", "0", "-host", "1", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


def write(vm: Appliance, **given: Any) -> Result:
    return vm.vcenter.run("vm_vapp_options", moid=vm.moid, diff=True, **given)


def ok(vm: Appliance, **given: Any) -> Result:
    result = write(vm, **given)
    assert not result.get("failed"), result.msg
    assert SECRET not in result.raw
    assert LATER not in result.raw
    return result


def stored(vm: Appliance) -> dict[str, tuple[str, str]]:
    """Return the value and the default of each property by its full key."""
    return {
        ".".join(filter(None, (p.classId, p.id, p.instanceId))): (p.value or "", p.defaultValue or "")
        for p in vm.mo.config.vAppConfig.property
    }


def appliance(place: Estate, name: str) -> Appliance:
    return place.appliance(
        name,
        prop("hostname", "old"),
        prop("ip0", "192.0.2.1", kind="ip", class_id="vami", instance_id="VCSA"),
        prop("admin", SECRET, kind="password(8..)"),
        prop("size", default="7", kind="int(0..255)"),
        product="Appliance",
    )


def test_check_run_run_again(shared: Estate) -> None:
    """One reconfigure makes all kinds of changes; the guest keeps the old values, which is reported."""
    vm = appliance(shared, "whole")
    vm.power_on()
    given: dict[str, Any] = {
        "unknown": "create",
        "values": {"vami.ip0.VCSA": "192.0.2.9", "role": "web"},
        "secret_values": {"token": LATER},
        "properties": [
            {"key": "hostname", "value": "", "label": "Host name"},
            {"key": "size", "state": "absent"},
            {"key": "flag", "type": "boolean", "value": True, "default": False},
        ],
        "transport": [GUESTINFO, "iso"],
        "ip_allocation": {"policy": "fixedPolicy", "supported_protocols": ["IPv4"], "protocol": "IPv4"},
    }
    before = stored(vm)
    with shared.vcenter.calls() as calls:
        checked = ok(vm, check=True, **given)
    assert RECONFIGURE not in calls
    assert stored(vm) == before
    with shared.vcenter.calls() as calls:
        done = ok(vm, **given)
    assert calls[RECONFIGURE] == 1
    again = ok(vm, **given)
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    for name in ("before", "after", "diff", "needs_power_cycle", "power_cycle_reason", "secrets_written", "skipped"):
        assert checked[name] == done[name], name
    assert again["before"] == again["after"] == done["after"]
    assert again["diff"]["before"] == again["diff"]["after"]
    assert set(checked) - {"warnings"} == set(done) - {"warnings"} == set(again) - {"warnings"}
    assert stored(vm) == {
        "hostname": ("", ""),
        "vami.ip0.VCSA": ("192.0.2.9", ""),
        "admin": ("", ""),
        "role": ("web", ""),
        "token": ("", ""),
        "flag": ("True", "False"),
    }
    assert [product.name for product in vm.mo.config.vAppConfig.product] == ["Appliance"]
    assert (done["secrets_written"], again["secrets_kept"]) == (["token"], ["token"])
    assert vm.is_on, "it is never restarted"
    assert done["needs_power_cycle"]
    assert again["needs_power_cycle"], again
    shown = vm.vcenter.ok("vm_ovfenv_info", moid=[vm.moid])["ovfenv"][0]
    assert shown["configured"] == done["after"]
    assert shown["diagnosis"]["status"] == "stale", shown["diagnosis"]
    assert shown["diagnosis"]["remedy"] == "power_cycle_via_vcenter"
    vm.power_on()
    assert SECRET in (vm.guest_document or ""), "a password that was not named is as it was"
    assert LATER in (vm.guest_document or "")
    assert not ok(vm, **given)["needs_power_cycle"]


def test_secrets(shared: Estate) -> None:
    vm = appliance(shared, "secrets")
    kept = ok(vm, secret_values={"admin": LATER})
    assert (kept["changed"], kept["secrets_kept"], kept["secrets_written"]) == (False, ["admin"], [])
    for _run in range(2):
        written = ok(vm, secret_values={"admin": LATER}, update_secrets="always")
        assert (written["changed"], written["secrets_written"]) == (True, ["admin"])
        assert written["diff"]["before"] != written["diff"]["after"]
    readable = ok(vm, secret_values={"hostname": SECRET})
    assert readable["changed"]
    assert readable["after"]["properties"][0]["value"] == "********"
    assert not ok(vm, secret_values={"hostname": SECRET})["changed"]
    in_clear = write(vm, values={"admin": SECRET}, properties=[{"key": "hostname", "value": LATER}])
    assert "admin is a password (set its value in secret_values)" in in_clear.msg
    assert SECRET not in in_clear.raw
    assert LATER not in in_clear.raw
    vm.power_on()
    assert LATER in (vm.guest_document or "")


def test_removal(shared: Estate) -> None:
    vm = appliance(shared, "removed")
    refused = write(vm, enabled=False)
    assert "enabled=false would remove all of them (4 properties, 1 product; the passwords admin cannot be read" in (
        refused.msg
    )
    assert len(stored(vm)) == 4
    kept = shared.vcenter.ok("vm_ovfenv_info", moid=[vm.moid], export=True)["ovfenv"][0]["export"]
    checked = ok(vm, enabled=False, force=True, check=True)
    assert len(stored(vm)) == 4
    done = ok(vm, enabled=False, force=True)
    assert vm.mo.config.vAppConfig is None
    assert checked["after"] == done["after"]
    assert checked["export"] == done["export"] == kept
    assert checked["diff"] == done["diff"]
    assert (done["changed"], done["after"]["enabled"]) == (True, False)
    again = ok(vm, enabled=False)
    assert (again["changed"], again["export"]) == (False, None)
    restored = ok(vm, restore_from=done["export"], secret_values={"admin": SECRET})
    by_key = [{prop["key"]: prop for prop in result["properties"]} for result in (restored["after"], done["before"])]
    assert by_key[0] == by_key[1]
    ok(vm, enabled=False, force=True)
    assert "it has no vApp options (set enabled=true to add them)" in write(vm, values={"a": "x"}).msg
    back = ok(vm, enabled=True, unknown="create", values={"a": "x"}, transport=[GUESTINFO])
    assert (back["changed"], stored(vm)) == (True, {"a": ("x", "")})


def test_everything_is_refused_at_once(shared: Estate) -> None:
    vm = appliance(shared, "refused")
    with shared.vcenter.calls() as calls:
        sentences = [
            write(vm, check=check, values={"hostnam": "x", "size": 256, "vami.ip0.VCSA": "host"}).msg
            for check in (True, False)
        ]
    assert RECONFIGURE not in calls
    assert sentences[0] == sentences[1]
    for part in (
        "The vApp options of VM refused are left unchanged",
        "did you mean hostname?",
        "size",
        "vami.ip0.VCSA",
    ):
        assert part in sentences[0]


@pytest.mark.flags("-esx-l", "127.0.0.1:0")
@pytest.mark.parametrize("check", [True, False])
def test_esxi(own: Estate, check: bool) -> None:
    """An ESXi host does not keep vApp options, and receives no request for them."""
    vm = own.existing(own.vcenter.parent)
    port = int(own.vcenter.simulator.esx_url.rpartition(":")[2].partition("/")[0])
    with own.vcenter.calls() as calls:
        refused = own.vcenter.fails(
            "vm_vapp_options", name=vm.name, port=port, check=check, enabled=True, secret_values={"admin": SECRET}
        )
    assert RECONFIGURE not in calls
    assert f"The vApp options of VM {vm.name} are left unchanged: " in refused.msg
    assert refused.msg.endswith("is an ESXi host, and only vCenter keeps vApp options. Set hostname to the vCenter.")
    assert SECRET not in refused.raw


def test_concurrent_change(shared: Estate) -> None:
    """Another client writes another property while the first attempt fails: its value is kept."""
    vm = appliance(shared, "busy")
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="ConcurrentAccess", count=1)
    with shared.vcenter.at_call(RECONFIGURE, vm.set_property, "size", "9"):
        done = ok(vm, values={"hostname": "new"})
    assert done["changed"]
    assert stored(vm)["hostname"] == ("new", "")
    assert stored(vm)["size"] == ("9", "7")


@pytest.mark.parametrize("lacking", ["VApp.ApplicationConfig", "VApp.InstanceConfig"])
def test_privileges(shared: Estate, lacking: str) -> None:
    vm = appliance(shared, f"without-{lacking}")
    login = {"name": f"no-{lacking}", "password": "juniors-long-password"}
    shared.vcenter.control("POST", "users", {**login, "deny": [lacking]})
    user = {"username": login["name"], "password": login["password"]}
    given = {"properties": [{"key": "hostname", "value": "new", "label": "Name"}], **user}
    checked, ran = write(vm, check=True, **given), write(vm, **given)
    assert checked.msg == ran.msg
    assert f"lacks the privilege {lacking} on VM" in ran.msg
    alone = write(vm, values={"hostname": "new"}, **user)
    assert bool(alone.get("failed")) is (lacking == "VApp.InstanceConfig"), alone.msg


def test_privileges_of_the_file(shared: Estate) -> None:
    """The role from the file suffices for every change, and each of its write privileges is required."""
    path = Path(__file__).parents[2] / "playbooks" / "files" / "privileges" / "vapp_options.txt"
    needed = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    known = {privilege for role in shared.service.content.authorizationManager.roleList for privilege in role.privilege}
    assert set(needed) <= set(known)
    denied = sorted(privilege for privilege in known if privilege not in needed and not privilege.startswith("System."))
    login = {"name": "vapp-writer", "password": "writers-long-password"}
    shared.vcenter.control("POST", "users", {**login, "deny": denied})
    user = {"username": login["name"], "password": login["password"]}
    vm = appliance(shared, "by-role")
    given = {"unknown": "create", "values": {"hostname": "new", "a": "x"}, "transport": ["iso"], **user}
    assert ok(vm, check=True, **given)["changed"]
    assert ok(vm, **given)["changed"]
    assert ok(vm, enabled=False, force=True, **user)["changed"]


def test_changes_that_vcenter_refuses_while_the_vm_runs(shared: Estate) -> None:
    vm = appliance(shared, "running")
    vm.power_on()
    shared.vcenter.rule("vapp_change_while_on", "InvalidPowerState")
    try:
        refused = write(vm, values={"hostname": "new"})
    finally:
        shared.vcenter.rule("vapp_change_while_on", "accepted")
    assert refused.msg.startswith("Could not write the vApp options of VM running: ")
    assert refused.msg.endswith("Power the VM off, run again, and power it on through vCenter.")
    assert not refused.get("changed")


@pytest.mark.parametrize("accepted", ["refused", "accepted"])
def test_restore_of_a_property_that_is_not_user_configurable(shared: Estate, accepted: str) -> None:
    """The guest receives the value again whichever edits vCenter accepts, and a second run changes nothing."""
    vm = appliance(shared, f"fixed-{accepted}")
    shared.vcenter.rule("vapp_fixed_value_added", "accepted")
    fixed = {"key": "build", "value": "7", "default": "1", "user_configurable": False}
    ok(vm, unknown="create", properties=[fixed])
    kept = shared.vcenter.ok("vm_ovfenv_info", moid=[vm.moid], export=True)["ovfenv"][0]["export"]
    try:
        shared.vcenter.rule("vapp_fixed_value_added", accepted)
        for loss in ("all", "value"):
            if loss == "all":
                ok(vm, enabled=False, force=True)
            else:
                changed = [{"key": "build", "value": "8", "default": "8", "user_configurable": False}]
                ok(vm, properties=changed, not_user_configurable="force")
                assert "build is not user-configurable" in write(vm, restore_from=kept).msg
            given = {"restore_from": kept, "secret_values": {"admin": SECRET}, "not_user_configurable": "force"}
            done, again = ok(vm, **given), ok(vm, **given)
            assert (done["changed"], again["changed"]) == (True, False)
            is_default = loss == "all" and accepted == "refused"
            assert stored(vm)["build"] == (("", "7") if is_default else ("7", "1"))
            (build,) = [prop for prop in vm.mo.config.vAppConfig.property if prop.id == "build"]
            assert build.userConfigurable is False
            vm.power_on()
            assert 'oe:key="build" oe:value="7"' in (vm.guest_document or "")
            vm.power_off()
    finally:
        shared.vcenter.rule("vapp_fixed_value_added", "refused")


def test_export_and_restore(shared: Estate) -> None:
    """Export, delete the vApp options, restore and export again: the bytes are the same, with the given secrets."""
    vm = appliance(shared, "kept")
    more = vim.vApp.VmConfigSpec(
        product=[vim.vApp.ProductSpec(operation="add", info=vim.vApp.ProductInfo(key=8, classId="x", name="Second"))],
        eula=["first", "second"],
        installBootRequired=True,
        installBootStopDelay=30,
        ipAssignment=vim.vApp.IPAssignmentInfo(ipAllocationPolicy="fixedPolicy", supportedIpProtocol=["IPv4"]),
    )
    vm.reconfigure(vAppConfig=more)

    def export() -> Any:
        shown = shared.vcenter.ok("vm_ovfenv_info", moid=[vm.moid], export=True, mask="none")
        assert SECRET not in shown.raw
        return shown["ovfenv"][0]["export"]

    kept = export()
    assert ok(vm, restore_from=kept, exact=True)["changed"] is False
    ok(vm, enabled=False, force=True)
    assert export()["enabled"] is False
    given: dict[str, Any] = {"restore_from": kept, "secret_values": {"admin": SECRET}}
    checked = ok(vm, check=True, **given)
    with shared.vcenter.calls() as calls:
        done = ok(vm, **given)
    again = ok(vm, **given)
    assert calls[RECONFIGURE] == 1
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert checked["after"] == done["after"] == again["after"]
    assert done["not_restored"] == []
    assert json.dumps(export()) == json.dumps(kept)
    vm.power_on()
    assert SECRET in (vm.guest_document or "")


HALF = "half of a character: \ud800"


@pytest.mark.parametrize(
    "given",
    [
        {"values": {"hostname": HALF}},
        {"values": {HALF: "x"}},
        {"secret_values": {"admin": f"{SECRET}\ud800"}, "update_secrets": "always"},
        {"properties": [{"key": "hostname", "label": HALF}]},
        {"properties": [{"key": "hostname", "type": "ip:\ud800"}]},
    ],
    ids=["value", "key", "secret", "label", "type"],
)
def test_lone_surrogate(shared: Estate, given: dict[str, Any]) -> None:
    """YAML and JSON can contain text that UTF-8 cannot encode."""
    vm = appliance(shared, f"half-{len(str(given))}")
    with shared.vcenter.calls() as calls:
        refused = write(vm, **given)
    assert RECONFIGURE not in calls
    assert refused["failed"]
    assert "half of a surrogate pair" in refused.msg
    assert SECRET not in refused.raw


def test_template(shared: Estate) -> None:
    vm = appliance(shared, "template")
    vm.mo.MarkAsTemplate()
    refused = write(vm, values={"hostname": "new"})
    assert refused["failed"]
    assert refused.msg.startswith("Could not write the vApp options of VM template: ")
    assert refused.msg.endswith("It is a template. Convert it to a VM, run again, and convert it back.")
    assert not refused["changed"]


@pytest.mark.flags("-vm", "1")
def test_vm_in_a_vapp(own: Estate) -> None:
    """Its own vApp options are written, not those of the vApp."""
    vm = own.in_vapp("writers", "in-a-vapp")
    vm.set_vapp_options(prop("hostname", "old"))
    given: dict[str, Any] = {"values": {"hostname": "new"}, "transport": [GUESTINFO]}
    checked, done, again = ok(vm, check=True, **given), ok(vm, **given), ok(vm, **given)
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert checked["after"] == done["after"]
    assert done["after"]["parent_vapps"] == ["writers"]
    assert stored(vm) == {"hostname": ("new", "")}
    assert not vm.mo.parentVApp.vAppConfig.property


def test_busy_vm(shared: Estate) -> None:
    """Another task runs on the VM, twice."""
    vm = appliance(shared, "at-work")
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="TaskInProgress", count=2)
    assert ok(vm, values={"hostname": "new"})["changed"]
    assert stored(vm)["hostname"] == ("new", "")


def test_change_between_the_read_and_the_reconfigure(shared: Estate) -> None:
    """vCenter refuses because of the change version; the other client's value is kept, and is compared again."""
    vm = appliance(shared, "version")
    shared.vcenter.fault(method=RECONFIGURE, at="call", delay_ms=2000, count=1)
    with shared.vcenter.at_call(RECONFIGURE, vm.set_property, "size", "9"), shared.vcenter.calls() as calls:
        done = ok(vm, values={"hostname": "new"})
    assert calls[RECONFIGURE] == 3, "the first one is refused"
    assert done["changed"]
    assert (stored(vm)["hostname"], stored(vm)["size"]) == (("new", ""), ("9", "7"))


def test_vm_that_is_deleted_meanwhile(shared: Estate) -> None:
    vm = appliance(shared, "deleted")

    def destroy() -> None:
        vm.mo.Destroy_Task()

    shared.vcenter.fault(method=RECONFIGURE, at="task", delay_ms=1500, count=1)
    with shared.vcenter.at_call(RECONFIGURE, destroy):
        result = write(vm, secret_values={"admin": SECRET}, update_secrets="always")
    assert result["failed"]
    assert "left unchanged" not in result.msg
    assert SECRET not in result.raw


def test_many_properties(shared: Estate) -> None:
    """One reconfigure writes any number of properties."""
    vm = shared.appliance("many")
    values = {f"class.key-{number}": f"value {number}" for number in range(500)}
    with shared.vcenter.calls() as calls:
        added = ok(vm, unknown="create", values=values)
        edited = ok(vm, values=dict.fromkeys(values, "new"))
    again = ok(vm, values=dict.fromkeys(values, "new"))
    assert [result["changed"] for result in (added, edited, again)] == [True, True, False]
    assert calls[RECONFIGURE] == 2
    assert len(stored(vm)) == 501
    assert stored(vm)["class.key-499"] == ("new", "")


def test_names(shared: Estate) -> None:
    """An ID may contain dots but no white space; a property is given only once."""
    vm = shared.appliance(
        "names", prop("guestinfo.host.name", "old"), prop("x", "old", class_id="a.b", instance_id="c")
    )
    ok(vm, values={"guestinfo.host.name": "new", "a.b.x.c": 7})
    assert stored(vm) == {"guestinfo.host.name": ("new", ""), "a.b.x.c": ("7", "")}
    refused = write(vm, unknown="create", values={"host name": "x", "host\tname": "x"})
    assert refused.msg.count("whitespace") == 2
    twice = [{"id": "x", "class_id": "a.b", "instance_id": "c", "value": "1"}, {"key": "a.b.x.c", "value": "2"}]
    assert "a.b.x.c is given more than once" in write(vm, properties=twice).msg
    assert stored(vm)["a.b.x.c"] == ("7", "")


def test_exact_with_secrets(shared: Estate) -> None:
    """A secret that is named is kept."""
    vm = appliance(shared, "exact")
    done = ok(vm, exact=True, secret_values={"admin": LATER}, values={"hostname": "old"})
    assert (done["secrets_kept"], set(stored(vm))) == (["admin"], {"admin", "hostname"})
    done = ok(vm, exact=True, secret_values={"admin": LATER})
    assert (done["secrets_kept"], set(stored(vm))) == (["admin"], {"admin"})
    vm.power_on()
    assert SECRET in (vm.guest_document or "")


def fixed(place: Estate, name: str) -> Appliance:
    made = prop("admin", SECRET, kind="password")
    made.userConfigurable = False
    place.vcenter.rule("vapp_fixed_value_added", "accepted")
    try:
        return place.appliance(name, prop("hostname", "old"), made)
    finally:
        place.vcenter.rule("vapp_fixed_value_added", "refused")


FIXED: dict[str, Any] = {
    "properties": [{"key": "admin", "user_configurable": False}],
    "secret_values": {"admin": LATER},
    "not_user_configurable": "force",
    "update_secrets": "always",
}


def test_password_that_is_not_user_configurable(shared: Estate) -> None:
    vm = fixed(shared, "fixed-password")
    with shared.vcenter.calls() as calls:
        done = ok(vm, **FIXED)
    assert (done["changed"], done["secrets_written"], calls[RECONFIGURE]) == (True, ["admin"], 2)
    assert done["before"]["properties"][1]["user_configurable"] is False
    assert done["after"] == done["before"]
    vm.power_on()
    assert LATER in (vm.guest_document or "")


def test_property_that_stays_user_configurable(shared: Estate) -> None:
    """The second reconfigure fails: this is reported, and the next run repairs it."""
    vm = fixed(shared, "left-open")
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="GenericVmConfigFault", after=1, count=1)
    failed = write(vm, **FIXED)
    assert failed["failed"]
    assert failed["changed"]
    assert failed.msg.endswith("these properties may be user-configurable: admin.")
    assert LATER not in failed.raw
    assert ok(vm, **{**FIXED, "update_secrets": "on_create"})["changed"]
    assert vm.mo.config.vAppConfig.property[1].userConfigurable is False
    vm.power_on()
    assert LATER in (vm.guest_document or "")


def test_value_that_is_also_refused_as_a_default(shared: Estate) -> None:
    """Both methods of adding it fail."""
    vm = appliance(shared, "no-way")
    added = {"key": "build", "value": "7", "user_configurable": False}
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="NotUserConfigurableProperty", count=2)
    with shared.vcenter.calls() as calls:
        failed = write(vm, unknown="create", properties=[added])
    assert failed["failed"]
    assert not failed["changed"]
    assert calls[RECONFIGURE] == 2
    assert "build" not in stored(vm)
