# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_vapp_options against the simulator: what it writes, what it says, and what it leaves alone."""

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
    """One simulator for VMs that do not disturb each other."""
    with Simulator("-vm", "0", "-host", "1", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


def write(one: Appliance, **given: Any) -> Result:
    return one.vcenter.run("vm_vapp_options", moid=one.moid, diff=True, **given)


def ok(one: Appliance, **given: Any) -> Result:
    result = write(one, **given)
    assert not result.get("failed"), result.msg
    assert SECRET not in result.raw
    assert LATER not in result.raw
    return result


def stored(one: Appliance) -> dict[str, tuple[str, str]]:
    """Value and default of each property, by full key."""
    return {
        ".".join(filter(None, (p.classId, p.id, p.instanceId))): (p.value or "", p.defaultValue or "")
        for p in one.vm.config.vAppConfig.property
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
    """All kinds of changes in one reconfigure; afterwards the guest still has the old values, which is said."""
    one = appliance(shared, "whole")
    one.power_on()
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
    before = stored(one)
    with shared.vcenter.calls() as calls:
        checked = ok(one, check=True, **given)
    assert RECONFIGURE not in calls
    assert stored(one) == before
    with shared.vcenter.calls() as calls:
        done = ok(one, **given)
    assert calls[RECONFIGURE] == 1
    again = ok(one, **given)
    assert [each["changed"] for each in (checked, done, again)] == [True, True, False]
    for name in ("before", "after", "diff", "needs_power_cycle", "power_cycle_reason", "secrets_written", "skipped"):
        assert checked[name] == done[name], name
    assert again["before"] == again["after"] == done["after"]
    assert again["diff"]["before"] == again["diff"]["after"]
    assert set(checked) - {"warnings"} == set(done) - {"warnings"} == set(again) - {"warnings"}
    assert stored(one) == {
        "hostname": ("", ""),
        "vami.ip0.VCSA": ("192.0.2.9", ""),
        "admin": ("", ""),
        "role": ("web", ""),
        "token": ("", ""),
        "flag": ("True", "False"),
    }
    assert [each.name for each in one.vm.config.vAppConfig.product] == ["Appliance"]
    assert (done["secrets_written"], again["secrets_kept"]) == (["token"], ["token"])
    assert one.is_on, "it is never restarted"
    assert done["needs_power_cycle"]
    assert again["needs_power_cycle"], again
    shown = one.vcenter.ok("vm_ovfenv_info", moid=[one.moid])["ovfenv"][0]
    assert shown["configured"] == done["after"]
    assert shown["diagnosis"]["status"] == "stale", shown["diagnosis"]
    assert shown["diagnosis"]["remedy"] == "power_cycle_via_vcenter"
    one.power_on()
    assert SECRET in (one.seen or ""), "a password that was not named is as it was"
    assert LATER in (one.seen or "")
    assert not ok(one, **given)["needs_power_cycle"]


def test_secrets(shared: Estate) -> None:
    one = appliance(shared, "secrets")
    kept = ok(one, secret_values={"admin": LATER})
    assert (kept["changed"], kept["secrets_kept"], kept["secrets_written"]) == (False, ["admin"], [])
    for _run in range(2):
        written = ok(one, secret_values={"admin": LATER}, update_secrets="always")
        assert (written["changed"], written["secrets_written"]) == (True, ["admin"])
        assert written["diff"]["before"] != written["diff"]["after"]
    readable = ok(one, secret_values={"hostname": SECRET})
    assert readable["changed"]
    assert readable["after"]["properties"][0]["value"] == "********"
    assert not ok(one, secret_values={"hostname": SECRET})["changed"]
    in_clear = write(one, values={"admin": SECRET}, properties=[{"key": "hostname", "value": LATER}])
    assert "admin is a password (set its value in secret_values)" in in_clear.msg
    assert SECRET not in in_clear.raw
    assert LATER not in in_clear.raw
    one.power_on()
    assert LATER in (one.seen or "")


def test_removal(shared: Estate) -> None:
    one = appliance(shared, "removed")
    refused = write(one, enabled=False)
    assert "enabled=false would remove all of them (4 properties, 1 products; the passwords admin cannot be read" in (
        refused.msg
    )
    assert len(stored(one)) == 4
    kept = shared.vcenter.ok("vm_ovfenv_info", moid=[one.moid], export=True)["ovfenv"][0]["export"]
    checked = ok(one, enabled=False, force=True, check=True)
    assert len(stored(one)) == 4
    done = ok(one, enabled=False, force=True)
    assert one.vm.config.vAppConfig is None
    assert checked["after"] == done["after"]
    assert checked["export"] == done["export"] == kept
    assert checked["diff"] == done["diff"]
    assert (done["changed"], done["after"]["enabled"]) == (True, False)
    again = ok(one, enabled=False)
    assert (again["changed"], again["export"]) == (False, None)
    restored = ok(one, restore_from=done["export"], secret_values={"admin": SECRET})
    by_key = [{each["key"]: each for each in result["properties"]} for result in (restored["after"], done["before"])]
    assert by_key[0] == by_key[1]
    ok(one, enabled=False, force=True)
    assert "it has no vApp options (set enabled=true to add them)" in write(one, values={"a": "x"}).msg
    back = ok(one, enabled=True, unknown="create", values={"a": "x"}, transport=[GUESTINFO])
    assert (back["changed"], stored(one)) == (True, {"a": ("x", "")})


def test_everything_is_refused_at_once(shared: Estate) -> None:
    one = appliance(shared, "refused")
    with shared.vcenter.calls() as calls:
        sentences = [
            write(one, check=check, values={"hostnam": "x", "size": 256, "vami.ip0.VCSA": "host"}).msg
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
    """An ESXi host keeps no vApp options, and is not asked to."""
    one = own.existing(own.vcenter.parent)
    port = int(own.vcenter.simulator.esx_url.rpartition(":")[2].partition("/")[0])
    with own.vcenter.calls() as calls:
        refused = own.vcenter.fails(
            "vm_vapp_options", name=one.name, port=port, check=check, enabled=True, secret_values={"admin": SECRET}
        )
    assert RECONFIGURE not in calls
    assert f"The vApp options of VM {one.name} are left unchanged: " in refused.msg
    assert refused.msg.endswith("is an ESXi host, and only vCenter keeps vApp options. Set hostname to the vCenter.")
    assert SECRET not in refused.raw


def test_concurrent_change(shared: Estate) -> None:
    """Somebody else writes another property while the first attempt fails: what they wrote stays."""
    one = appliance(shared, "busy")
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="ConcurrentAccess", count=1)
    with shared.vcenter.at_call(RECONFIGURE, one.set_property, "size", "9"):
        done = ok(one, values={"hostname": "new"})
    assert done["changed"]
    assert stored(one)["hostname"] == ("new", "")
    assert stored(one)["size"] == ("9", "7")


@pytest.mark.parametrize("lacking", ["VApp.ApplicationConfig", "VApp.InstanceConfig"])
def test_privileges(shared: Estate, lacking: str) -> None:
    one = appliance(shared, f"without-{lacking}")
    login = {"name": f"no-{lacking}", "password": "juniors-long-password"}
    shared.vcenter.control("POST", "users", {**login, "deny": [lacking]})
    user = {"username": login["name"], "password": login["password"]}
    given = {"properties": [{"key": "hostname", "value": "new", "label": "Name"}], **user}
    checked, ran = write(one, check=True, **given), write(one, **given)
    assert checked.msg == ran.msg
    assert f"lacks the privilege {lacking} on VM" in ran.msg
    alone = write(one, values={"hostname": "new"}, **user)
    assert bool(alone.get("failed")) is (lacking == "VApp.InstanceConfig"), alone.msg


def test_privileges_of_the_file(shared: Estate) -> None:
    """The role made of the file is enough for every change, and each of its writing privileges is needed."""
    path = Path(__file__).parents[2] / "playbooks" / "files" / "privileges" / "vapp_options.txt"
    needed = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    known = {one for role in shared.service.content.authorizationManager.roleList for one in role.privilege}
    assert set(needed) <= set(known)
    denied = sorted(one for one in known if one not in needed and not one.startswith("System."))
    login = {"name": "vapp-writer", "password": "writers-long-password"}
    shared.vcenter.control("POST", "users", {**login, "deny": denied})
    user = {"username": login["name"], "password": login["password"]}
    one = appliance(shared, "by-role")
    given = {"unknown": "create", "values": {"hostname": "new", "a": "x"}, "transport": ["iso"], **user}
    assert ok(one, check=True, **given)["changed"]
    assert ok(one, **given)["changed"]
    assert ok(one, enabled=False, force=True, **user)["changed"]


def test_what_vcenter_refuses_while_the_vm_runs(shared: Estate) -> None:
    one = appliance(shared, "running")
    one.power_on()
    shared.vcenter.rule("vapp_change_while_on", "InvalidPowerState")
    try:
        refused = write(one, values={"hostname": "new"})
    finally:
        shared.vcenter.rule("vapp_change_while_on", "accepted")
    assert refused.msg.startswith("Could not write the vApp options of VM running: ")
    assert refused.msg.endswith("Power the VM off, run again, and power it on through vCenter.")
    assert not refused.get("changed")


@pytest.mark.parametrize("accepted", ["refused", "accepted"])
def test_restore_of_what_is_not_user_configurable(shared: Estate, accepted: str) -> None:
    """The guest gets the value again, whatever vCenter thinks of it, and a second run has nothing to do."""
    one = appliance(shared, f"fixed-{accepted}")
    shared.vcenter.rule("vapp_fixed_value_added", "accepted")
    fixed = {"key": "build", "value": "7", "default": "1", "user_configurable": False}
    ok(one, unknown="create", properties=[fixed])
    kept = shared.vcenter.ok("vm_ovfenv_info", moid=[one.moid], export=True)["ovfenv"][0]["export"]
    try:
        shared.vcenter.rule("vapp_fixed_value_added", accepted)
        for loss in ("all", "value"):
            if loss == "all":
                ok(one, enabled=False, force=True)
            else:
                changed = [{"key": "build", "value": "8", "default": "8", "user_configurable": False}]
                ok(one, properties=changed, not_user_configurable="force")
                assert "build is not user-configurable" in write(one, restore_from=kept).msg
            given = {"restore_from": kept, "secret_values": {"admin": SECRET}, "not_user_configurable": "force"}
            done, again = ok(one, **given), ok(one, **given)
            assert (done["changed"], again["changed"]) == (True, False)
            is_default = loss == "all" and accepted == "refused"
            assert stored(one)["build"] == (("", "7") if is_default else ("7", "1"))
            (build,) = [each for each in one.vm.config.vAppConfig.property if each.id == "build"]
            assert build.userConfigurable is False
            one.power_on()
            assert 'oe:key="build" oe:value="7"' in (one.seen or "")
            one.power_off()
    finally:
        shared.vcenter.rule("vapp_fixed_value_added", "refused")


def test_export_and_restore(shared: Estate) -> None:
    """Export, lose the vApp options, restore, export: the same bytes, and the secrets are those that are given."""
    one = appliance(shared, "kept")
    more = vim.vApp.VmConfigSpec(
        product=[vim.vApp.ProductSpec(operation="add", info=vim.vApp.ProductInfo(key=8, classId="x", name="Second"))],
        eula=["first", "second"],
        installBootRequired=True,
        installBootStopDelay=30,
        ipAssignment=vim.vApp.IPAssignmentInfo(ipAllocationPolicy="fixedPolicy", supportedIpProtocol=["IPv4"]),
    )
    one.reconfigure(vAppConfig=more)

    def export() -> Any:
        shown = shared.vcenter.ok("vm_ovfenv_info", moid=[one.moid], export=True, mask="none")
        assert SECRET not in shown.raw
        return shown["ovfenv"][0]["export"]

    kept = export()
    assert ok(one, restore_from=kept, exact=True)["changed"] is False
    ok(one, enabled=False, force=True)
    assert export()["enabled"] is False
    given: dict[str, Any] = {"restore_from": kept, "secret_values": {"admin": SECRET}}
    checked = ok(one, check=True, **given)
    with shared.vcenter.calls() as calls:
        done = ok(one, **given)
    again = ok(one, **given)
    assert calls[RECONFIGURE] == 1
    assert [each["changed"] for each in (checked, done, again)] == [True, True, False]
    assert checked["after"] == done["after"] == again["after"]
    assert done["not_restored"] == []
    assert json.dumps(export()) == json.dumps(kept)
    one.power_on()
    assert SECRET in (one.seen or "")


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
def test_half_of_a_character(shared: Estate, given: dict[str, Any]) -> None:
    """YAML and JSON can have what UTF-8 cannot."""
    one = appliance(shared, f"half-{len(str(given))}")
    with shared.vcenter.calls() as calls:
        refused = write(one, **given)
    assert RECONFIGURE not in calls
    assert refused["failed"]
    assert "half of a surrogate pair" in refused.msg
    assert SECRET not in refused.raw


def test_template(shared: Estate) -> None:
    one = appliance(shared, "template")
    one.vm.MarkAsTemplate()
    refused = write(one, values={"hostname": "new"})
    assert refused["failed"]
    assert refused.msg.startswith("Could not write the vApp options of VM template: ")
    assert refused.msg.endswith("It is a template. Convert it to a VM, run again, and convert it back.")
    assert not refused["changed"]


@pytest.mark.flags("-vm", "1")
def test_vm_in_a_vapp(own: Estate) -> None:
    """Its own vApp options are written, and not those of the vApp."""
    one = own.in_vapp("writers", "in-a-vapp")
    one.offer(prop("hostname", "old"))
    given: dict[str, Any] = {"values": {"hostname": "new"}, "transport": [GUESTINFO]}
    checked, done, again = ok(one, check=True, **given), ok(one, **given), ok(one, **given)
    assert [each["changed"] for each in (checked, done, again)] == [True, True, False]
    assert checked["after"] == done["after"]
    assert done["after"]["parent_vapps"] == ["writers"]
    assert stored(one) == {"hostname": ("new", "")}
    assert not one.vm.parentVApp.vAppConfig.property


def test_busy_vm(shared: Estate) -> None:
    """Another task is running on the VM, twice."""
    one = appliance(shared, "at-work")
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="TaskInProgress", count=2)
    assert ok(one, values={"hostname": "new"})["changed"]
    assert stored(one)["hostname"] == ("new", "")


def test_change_between_the_read_and_the_reconfigure(shared: Estate) -> None:
    """vCenter refuses by the change version; what somebody else wrote stays, and is compared again."""
    one = appliance(shared, "version")
    shared.vcenter.fault(method=RECONFIGURE, at="call", delay_ms=2000, count=1)
    with shared.vcenter.at_call(RECONFIGURE, one.set_property, "size", "9"), shared.vcenter.calls() as calls:
        done = ok(one, values={"hostname": "new"})
    assert calls[RECONFIGURE] == 3, "the first one is refused"
    assert done["changed"]
    assert (stored(one)["hostname"], stored(one)["size"]) == (("new", ""), ("9", "7"))


def test_vm_that_is_deleted_meanwhile(shared: Estate) -> None:
    one = appliance(shared, "deleted")

    def destroy() -> None:
        one.vm.Destroy_Task()

    shared.vcenter.fault(method=RECONFIGURE, at="task", delay_ms=1500, count=1)
    with shared.vcenter.at_call(RECONFIGURE, destroy):
        result = write(one, secret_values={"admin": SECRET}, update_secrets="always")
    assert result["failed"]
    assert "left unchanged" not in result.msg
    assert SECRET not in result.raw


def test_many_properties(shared: Estate) -> None:
    """One reconfigure, whatever their number."""
    one = shared.appliance("many")
    values = {f"class.key-{number}": f"value {number}" for number in range(500)}
    with shared.vcenter.calls() as calls:
        added = ok(one, unknown="create", values=values)
        edited = ok(one, values=dict.fromkeys(values, "new"))
    again = ok(one, values=dict.fromkeys(values, "new"))
    assert [each["changed"] for each in (added, edited, again)] == [True, True, False]
    assert calls[RECONFIGURE] == 2
    assert len(stored(one)) == 501
    assert stored(one)["class.key-499"] == ("new", "")


def test_names(shared: Estate) -> None:
    """An ID may have dots, and no white space; one property is named once."""
    one = shared.appliance(
        "names", prop("guestinfo.host.name", "old"), prop("x", "old", class_id="a.b", instance_id="c")
    )
    ok(one, values={"guestinfo.host.name": "new", "a.b.x.c": 7})
    assert stored(one) == {"guestinfo.host.name": ("new", ""), "a.b.x.c": ("7", "")}
    refused = write(one, unknown="create", values={"host name": "x", "host\tname": "x"})
    assert refused.msg.count("whitespace") == 2
    twice = [{"id": "x", "class_id": "a.b", "instance_id": "c", "value": "1"}, {"key": "a.b.x.c", "value": "2"}]
    assert "a.b.x.c is given more than once" in write(one, properties=twice).msg
    assert stored(one)["a.b.x.c"] == ("7", "")


def test_exact_with_secrets(shared: Estate) -> None:
    """The secret that is named stays as it is."""
    one = appliance(shared, "exact")
    done = ok(one, exact=True, secret_values={"admin": LATER}, values={"hostname": "old"})
    assert (done["secrets_kept"], set(stored(one))) == (["admin"], {"admin", "hostname"})
    done = ok(one, exact=True, secret_values={"admin": LATER})
    assert (done["secrets_kept"], set(stored(one))) == (["admin"], {"admin"})
    one.power_on()
    assert SECRET in (one.seen or "")


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
    one = fixed(shared, "fixed-password")
    with shared.vcenter.calls() as calls:
        done = ok(one, **FIXED)
    assert (done["changed"], done["secrets_written"], calls[RECONFIGURE]) == (True, ["admin"], 2)
    assert done["before"]["properties"][1]["user_configurable"] is False
    assert done["after"] == done["before"]
    one.power_on()
    assert LATER in (one.seen or "")


def test_property_that_stays_user_configurable(shared: Estate) -> None:
    """The second reconfigure fails: it is said, and the next run mends it."""
    one = fixed(shared, "left-open")
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="GenericVmConfigFault", after=1, count=1)
    failed = write(one, **FIXED)
    assert failed["failed"]
    assert failed["changed"]
    assert failed.msg.endswith("these properties may be user-configurable: admin.")
    assert LATER not in failed.raw
    assert ok(one, **{**FIXED, "update_secrets": "on_create"})["changed"]
    assert one.vm.config.vAppConfig.property[1].userConfigurable is False
    one.power_on()
    assert LATER in (one.seen or "")


def test_value_that_is_refused_as_a_default_too(shared: Estate) -> None:
    """There are two ways to add it, and no third."""
    one = appliance(shared, "no-way")
    added = {"key": "build", "value": "7", "user_configurable": False}
    shared.vcenter.fault(method=RECONFIGURE, at="task", fault="NotUserConfigurableProperty", count=2)
    with shared.vcenter.calls() as calls:
        failed = write(one, unknown="create", properties=[added])
    assert failed["failed"]
    assert not failed["changed"]
    assert calls[RECONFIGURE] == 2
    assert "build" not in stored(one)
