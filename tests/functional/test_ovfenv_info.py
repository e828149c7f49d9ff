# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_ovfenv_info: every way in which an OVF environment reaches a guest or does not, without and with a look at it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest
from functional.vapp import GUESTINFO, ISO, Appliance, Estate, at_the_host, document, estate, prop
from functional.vcenter import Result, VCenter, needs_other_accounts
from harness.simulator import Simulator
from pyVim.task import WaitForTask, WaitForTasks
from pyVmomi import vim

METHODS = ("none", "exit_code", "full")


@pytest.fixture(scope="module")
def shared() -> Iterator[Estate]:
    """One simulator for the stories that do not disturb each other."""
    with Simulator("-vm", "0", "-host", "2", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


def look(place: Estate, *names: str, method: str = "none", **given: Any) -> Result:
    """Run the module; it never changes anything."""
    login = place.vcenter.guest_login if method != "none" else {}
    result = place.vcenter.run("vm_ovfenv_info", **{"name": names or None, "guest_probe": method, **login, **given})
    assert not result.get("changed"), result
    return result


def entries(result: Result) -> dict[str, dict[str, Any]]:
    assert not result.get("failed"), result.msg
    return {one["name"]: one for one in result["ovfenv"]}


def entry(place: Estate, name: str, **given: Any) -> dict[str, Any]:
    return entries(look(place, name, **given))[name]


def verdict(one: dict[str, Any]) -> str:
    """``status (cause), confidence: remedy`` in one line."""
    found = one["diagnosis"]
    cause = f" ({found['cause']})" if found["cause"] else ""
    remedy = "" if found["remedy"] == "none" else f": {found['remedy']}"
    return f"{found['status']}{cause}, {found['confidence']}{remedy}"


# --- the stories ----------------------------------------------------------------------------------------------------

CYCLE = "power_cycle_via_vcenter"
ASSUMED = "delivered_assumed, low"
ERASED = "cleared (erased_by_guest), high"
STALE = f"stale (changed_since_power_on), high: {CYCLE}"
MAYBE_STALE = f"stale (changed_since_power_on), medium: {CYCLE}"
LOST = f"lost (powered_on_from_esxi), high: {CYCLE}"
LOST_BY_HA = f"lost (ha_restart), high: {CYCLE}"
LOST_SOMEHOW = f"lost (host_start_unknown), high: {CYCLE}"
SUSPECTED = f"lost_suspected (esxi_direct), medium: {CYCLE}"
HA_SUSPECTED = f"lost_suspected (ha_restart), medium: {CYCLE}"
HOST_SUSPECTED = f"lost_suspected (host_system), low: {CYCLE}"
DENIED = "unknown (guest_rpc_denied), high: fix_guest_rpc"
"""Where vCenter's own data says nothing."""
NOT_CONFIGURED = "not_configured (vapp_disabled), high: enable_vapp"


def started(origin: str, *then: str, **options: Any) -> Callable[[Estate, str], Appliance]:
    """Return a VM with vApp options that comes up in some way."""

    def tell(place: Estate, name: str) -> Appliance:
        one = place.appliance(name, **options)
        one.power_on(origin)
        for what in then:
            if what == "reset":
                WaitForTask(one.vm.ResetVM_Task())
            elif what == "reboot":
                one.vm.RebootGuest()
            else:
                one.power_on(what)
        return one

    return tell


def without_drive(place: Estate, name: str) -> None:
    one = place.appliance(name, transports=(ISO,))
    drive = next(each for each in one.vm.config.hardware.device if isinstance(each, vim.vm.device.VirtualCdrom))
    one.reconfigure(deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="remove", device=drive)])
    one.power_on()


def planted(text: str, origin: str = "vcenter") -> Callable[[Estate, str], None]:
    """Return a VM whose guest wrote over its environment; {own} is its ID."""

    def tell(place: Estate, name: str) -> None:
        one = started(origin)(place, name)
        one.plant(text.replace("{own}", one.moid))

    return tell


def without_secrets(place: Estate, name: str) -> None:
    one = place.appliance(name, prop("hostname", name), prop("root_password", "hunter2-hunter2", kind="password"))
    one.power_on()
    one.plant(document({"hostname": name}, f've:vCenterId="{one.moid}"'))


def edited(place: Estate, name: str) -> None:
    started("vcenter")(place, name).set_property("hostname", "another")


def product_edited(place: Estate, name: str) -> None:
    """Nothing of this is delivered."""
    info = vim.vApp.ProductInfo(key=7, name="Example", productUrl="https://example.com")
    spec = vim.vApp.ProductSpec(operation="add", info=info)
    started("vcenter")(place, name).reconfigure(vAppConfig=vim.vApp.VmConfigSpec(product=[spec]))


def domain_user(place: Estate, name: str) -> None:
    """An ESXi host that is joined to a domain knows its users, as vCenter does."""
    place.appliance(name).power_on("esxi", user=r"CORP\jdoe")


def password_edited(place: Estate, name: str) -> None:
    one = place.appliance(name, prop("hostname", name), prop("root_password", "hunter2-hunter2", kind="password"))
    one.power_on()
    one.set_property("root_password", "hunter3-hunter3")


def bare(place: Estate, name: str) -> None:
    place.bare(name).power_on()


def template(place: Estate, name: str) -> None:
    place.appliance(name).vm.MarkAsTemplate()


def suspended(place: Estate, name: str) -> None:
    WaitForTask(started("vcenter")(place, name).vm.SuspendVM_Task())


def hardened(origin: str = "vcenter", user: str = "") -> Callable[[Estate, str], None]:
    """Return a VM whose guest lets nobody read, not even root, who is the one to log in here."""

    def tell(place: Estate, name: str) -> None:
        one = place.appliance(name)
        one.set_extra("guest_rpc.rpci.auth.cmd.info-get", "TRUE")
        one.power_on(origin, **({"user": user} if user else {}))
        one.tools(refuse_info=True)

    return tell


def unreachable(place: Estate, name: str) -> None:
    one = started("vcenter")(place, name)
    place.vcenter.control("PATCH", f"vms/{one.moid}", {"connection_state": "inaccessible"})


def secondary(place: Estate, name: str) -> None:
    one = started("vcenter")(place, name)
    place.vcenter.control("PATCH", f"vms/{one.moid}", {"fault_tolerance_role": 2})


def tools_away(place: Estate, name: str) -> None:
    started("vcenter")(place, name).tools(tools_running=False)


def transports_gone(place: Estate, name: str) -> None:
    started("vcenter")(place, name).reconfigure(vAppConfig=vim.vApp.VmConfigSpec(ovfEnvironmentTransport=[""]))


def options_gone(place: Estate, name: str) -> None:
    started("vcenter")(place, name).reconfigure(vAppConfigRemoved=True)


# How it came about, and the verdict without a look, by exit code, and with the document.
STORIES: dict[str, tuple[Callable[[Estate, str], Any], list[str]]] = {
    "vcenter": (started("vcenter"), [ASSUMED, "delivered, medium", "delivered, high"]),
    "esxi": (started("esxi"), [SUSPECTED, LOST, LOST]),
    "ha": (started("ha"), [HA_SUSPECTED, LOST_BY_HA, LOST_BY_HA]),
    "autostart": (started("autostart"), [HOST_SUSPECTED, LOST_SOMEHOW, LOST_SOMEHOW]),
    "esxi-domain-user": (domain_user, ["unknown (no_task), low", LOST_SOMEHOW, LOST_SOMEHOW]),
    "esxi-then-reset": (started("esxi", "reset"), [SUSPECTED, LOST, LOST]),
    "esxi-then-reboot": (started("esxi", "reboot"), [SUSPECTED, LOST, LOST]),
    "esxi-then-vcenter": (started("esxi", "vcenter"), [ASSUMED, "delivered, medium", "delivered, high"]),
    "vcenter-then-ha": (started("vcenter", "ha"), [HA_SUSPECTED, LOST_BY_HA, LOST_BY_HA]),
    "vcenter-then-reset": (started("vcenter", "reset"), [ASSUMED, "delivered, medium", "delivered, high"]),
    "no-transport": (
        started("vcenter", transports=()),
        ["not_deliverable (no_transport), high: set_transport"] * 3,
    ),
    "transports-gone": (transports_gone, ["not_deliverable (no_transport), high: set_transport"] * 3),
    "iso": (started("vcenter", transports=(ISO,)), ["delivered_iso, high"] * 3),
    "iso-esxi": (
        started("esxi", transports=(ISO,)),
        [f"lost (powered_on_from_esxi), medium: {CYCLE}"] * 3,
    ),
    "iso-without-drive": (without_drive, ["not_delivered (no_cdrom), high: add_cdrom"] * 3),
    "both": (
        started("vcenter", transports=(ISO, GUESTINFO)),
        ["delivered_iso, high", "delivered, medium", "delivered, high"],
    ),
    "erased-null": (planted("NULL"), [ASSUMED, ERASED, ERASED]),
    "erased-blank": (planted(" "), [ASSUMED, ERASED, ERASED]),
    "erased-esxi": (planted("NULL", "esxi"), [SUSPECTED, *["unknown (erased_or_never_delivered), low"] * 2]),
    "secrets-removed": (without_secrets, [ASSUMED, "delivered, medium", ERASED]),
    "injected": (
        planted(document({"hostname": "injected"}, 've:esxId="1"'), "esxi"),
        [SUSPECTED, "delivered_injected (injected), medium", "delivered_injected (injected), high"],
    ),
    "not-xml": (planted("hello", "esxi"), [SUSPECTED, *["unknown (non_xml), low: ask_appliance_vendor"] * 2]),
    "foreign-id": (
        planted(document({"hostname": "foreign-id"}, 've:vCenterId="vm-1"')),
        [ASSUMED, f"delivered (foreign_id), low: {CYCLE}", f"delivered (foreign_id), medium: {CYCLE}"],
    ),
    "hardened": (hardened(), [ASSUMED] * 3),
    "hardened-ha": (hardened("ha"), [HA_SUSPECTED] * 3),
    "hardened-domain-user": (hardened("esxi", r"CORP\jdoe"), [DENIED] * 3),
    "no-vapp-options": (bare, [NOT_CONFIGURED] * 3),
    "off": (lambda place, name: place.appliance(name), ["not_running (powered_off), high"] * 3),
    "suspended": (suspended, ["not_running (suspended), high"] * 3),
    "template": (template, ["not_applicable (template), high"] * 3),
    "unreachable": (unreachable, ["not_applicable (not_connected), high"] * 3),
    "secondary": (secondary, ["not_applicable (fault_tolerance_secondary), high"] * 3),
    "edited": (edited, [STALE] * 3),
    "product-edited": (product_edited, [ASSUMED, "delivered, medium", "delivered, high"]),
    "password-edited": (password_edited, [MAYBE_STALE, MAYBE_STALE, "delivered, high"]),
    "options-gone": (
        options_gone,
        [
            NOT_CONFIGURED,
            "config_lost (vapp_config_gone), medium: enable_vapp",
            "config_lost (vapp_config_gone), high: enable_vapp",
        ],
    ),
    "tools-away": (tools_away, [ASSUMED] * 3),
}


@pytest.fixture(scope="module")
def stage(shared: Estate) -> Estate:
    """Return the VMs after all power-ons."""
    for name, (tell, _expected) in STORIES.items():
        tell(shared, name)
    return shared


@pytest.fixture(scope="module")
def told(stage: Estate) -> Callable[[str], Result]:
    """The module's result over all of them, by method."""
    return cache(lambda method: look(stage, *STORIES, method=method))


@pytest.mark.parametrize("method", METHODS)
def test_stories(told: Callable[[str], Result], method: str) -> None:
    found = entries(told(method))
    expected = {name: expected[METHODS.index(method)] for name, (_tell, expected) in STORIES.items()}
    assert {name: verdict(one) for name, one in found.items()} == expected


def test_what_a_story_says(stage: Estate) -> None:
    """One entry in full: who, when, what else, and in words."""
    names = ("esxi", "edited", "both", "vcenter", "tools-away", "transports-gone", "options-gone")
    result = look(stage, *names, method="full")
    found = entries(result)
    lost = found["esxi"]
    assert (lost["power_on"]["origin"], lost["power_on"]["user"]) == ("esxi_direct", "root")
    assert lost["boot_time"].endswith("Z")
    assert lost["inventory_path"] == "/DC0/vm/esxi"
    assert lost["host"] == lost["power_on"]["host"]
    assert lost["guest"]["stderr"] == "No value found"
    assert (lost["extracted"]["state"], lost["extracted"]["document"]) == ("empty", None)
    assert lost["diagnosis"]["message"].endswith("by root.")
    assert any(one.startswith("guest: ") for one in lost["diagnosis"]["evidence"])
    assert lost["diagnosis"]["remedy_risks"]
    assert "still has an OVF environment" in found["transports-gone"]["diagnosis"]["message"]
    assert found["transports-gone"]["diagnosis"]["act"] == "before_next_boot"
    assert found["options-gone"]["diagnosis"]["act"] == "before_next_boot"
    edited = found["edited"]
    assert [(one["key"], one["kind"]) for one in edited["differences"]] == [("hostname", "changed")]
    assert (edited["differences"][0]["configured"], edited["differences"][0]["guest"]) == ("another", "edited")
    assert [one["type"] for one in edited["power_on"]["reconfigured"]] == ["VmReconfiguredEvent"]
    assert found["both"]["iso"]["backing"].endswith("/_ovfenv-both.iso")
    assert found["vcenter"]["guest"]["document"]["moref_matches"]
    assert found["vcenter"]["guest"]["document"]["properties"] == {"hostname": "vcenter"}
    assert result["summary"] == {
        "total": 7,
        "by_status": {
            "config_lost": 1,
            "delivered": 2,
            "delivered_assumed": 1,
            "lost": 1,
            "not_deliverable": 1,
            "stale": 1,
        },
        "act_now": [],
        "judged_without_guest_evidence": 1,
    }


def test_same_keys_for_every_vm(told: Callable[[str], Result]) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict) and "properties" not in value:
            return {key: shape(one) for key, one in value.items()}
        return None

    found = entries(told("full"))
    for part in ("extracted", "iso", "guest", "power_on", "diagnosis"):
        assert len({str(shape({**one[part], "document": None})) for one in found.values()}) == 1, part
    assert len({tuple(one) for one in found.values()}) == 1
    assert len({tuple(one["configured"]) for one in found.values()}) == 1


def test_check_mode_is_the_same(stage: Estate) -> None:
    for given in ({}, {"method": "exit_code"}):
        ran, checked = (look(stage, "esxi", "vcenter", check=check, **given) for check in (False, True))
        assert ran["ovfenv"] == checked["ovfenv"]
        assert ran["summary"] == checked["summary"]


def test_only_and_fail_on(stage: Estate) -> None:
    names = ("vcenter", "esxi", "off")
    shown = look(stage, *names, only=["lost_suspected", "not_running"])
    assert list(entries(shown)) == ["esxi", "off"]
    assert shown["summary"]["total"] == 3
    assert not look(stage, *names, fail_on=["lost", "stale"]).get("failed")
    failed = look(stage, *names, fail_on=["lost_suspected"], only=["delivered_assumed"])
    assert failed["failed"]
    assert failed.msg == "1 of 3 VMs fail: esxi (lost_suspected, esxi_direct). See ovfenv."
    assert [one["name"] for one in failed["ovfenv"]] == ["vcenter"]
    assert failed["summary"] == shown["summary"]
    assert "exception" not in failed


BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"name": ["no-such", "vcenter", "nor-this"]}, "VM no-such, VM nor-this was not found on"),
    ({"moid": ["vm-4711"]}, "VM with the managed object ID vm-4711 was not found on"),
    ({"inventory_path": ["/DC0/vm/no-such"]}, "VM at /DC0/vm/no-such was not found on"),
    ({"name": []}, "name is empty, or has an empty entry."),
    ({"name": ["vcenter", " "]}, "name is empty, or has an empty entry."),
    ({"moid": []}, "moid is empty, or has an empty entry."),
    ({"folder": "no-such"}, "The folder /DC0/vm/no-such was not found on"),
    ({"datacenter": "no-such"}, "The datacenter no-such was not found on"),
    ({"event_lookback": 0}, "event_lookback is 0 days."),
    ({"event_lookback": 10**9}, "event_lookback is 1000000000 days."),
    ({"mask_patterns": ["fine", "(not"]}, "mask pattern '(not'"),
    ({"guests": [{"guest_username": "root", "guest_password": "a-long-password"}]}, "needs either name or moid"),
    (
        {"guests": [{"name": "a", "moid": "vm-1", "guest_username": "root", "guest_password": "a-long-password"}]},
        "needs either name or moid",
    ),
    ({"guest_probe": "full"}, "guest_username is missing."),
    ({"only": ["broken"]}, "value of only must be one or more of"),
]


def test_bad_input(stage: Estate) -> None:
    for given, sentence in BAD_INPUT:
        refused = stage.vcenter.run("vm_ovfenv_info", **given)
        assert refused["failed"], given
        assert sentence in refused.msg
        assert "exception" not in refused
        assert refused.msg[0].isupper() or refused.msg.startswith(("name", "moid", "event_", "guest_", "value"))


def test_scopes(shared: Estate) -> None:
    for name, folder in (("scope-a", "/DC0/vm/blue"), ("scope-b", "/DC0/vm/blue/deep"), ("twin", "/DC0/vm/blue")):
        shared.appliance(name, folder=folder)
    twin = shared.appliance("twin", folder="/DC0/vm/green")
    everything = {one["inventory_path"] for one in look(shared)["ovfenv"]}
    blue = {"/DC0/vm/blue/scope-a", "/DC0/vm/blue/deep/scope-b", "/DC0/vm/blue/twin"}
    assert blue | {"/DC0/vm/green/twin"} <= everything

    def paths(**given: Any) -> list[str]:
        result = look(shared, **given)
        assert not result.get("failed"), result.msg
        return [one["inventory_path"] for one in result["ovfenv"]]

    assert set(paths(folder="blue")) == set(paths(folder="/DC0/vm/blue")) == blue
    assert set(paths(datacenter="DC0")) == everything
    assert paths(name=["twin"], folder="blue") == ["/DC0/vm/blue/twin"]
    several = look(shared, name=["twin", "scope-a"])
    assert several["failed"]
    assert "Several VMs match VM twin: /DC0/vm/blue/twin (" in several.msg
    assert paths(moid=[twin.moid], uuid=[twin.vm.config.uuid], inventory_path=["/DC0/vm/green/twin"]) == [
        "/DC0/vm/green/twin"
    ]
    by_instance_uuid = paths(uuid=[twin.vm.config.instanceUuid], use_instance_uuid=True, name=["scope-a"])
    assert by_instance_uuid == ["/DC0/vm/blue/scope-a", "/DC0/vm/green/twin"]


# --- guests ---------------------------------------------------------------------------------------------------------


def test_login_of_each_vm(shared: Estate) -> None:
    three = [shared.appliance(f"login-{number}") for number in range(3)]
    for one in three:
        one.power_on("esxi")
    names = [f"login-{number}" for number in range(3)]
    good = shared.vcenter.guest_login
    bad = {**good, "guest_password": "not-that-one-0123456789"}
    found = entries(look(shared, *names, method="exit_code", guests=[{"name": "login-1", **bad}]))
    assert [one["guest"]["state"] for one in found.values()] == ["no_value", "login_failed", "no_value"]
    assert [verdict(one) for one in found.values()] == [LOST, SUSPECTED, LOST]
    assert "refused the login" in found["login-1"]["diagnosis"]["warnings"][0]
    logins = [{"moid": three[2].moid, **good}, {"name": "logon-1", **good}, {"moid": "vm-0", **good}]
    result = shared.vcenter.run("vm_ovfenv_info", name=names, guest_probe="exit_code", guests=logins)
    assert [one["guest"]["state"] for one in entries(result).values()] == ["not_asked", "not_asked", "no_value"]
    assert len(result["warnings"]) == 1
    assert "a login for logon-1, vm-0, which is not among the examined VMs" in str(result["warnings"])


def test_login_for_other_tasks(shared: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.appliance("not-asked").power_on("vcenter")
    monkeypatch.setenv("VMWARE_GUEST_USER", "root")
    monkeypatch.delenv("VMWARE_GUEST_PASSWORD", raising=False)
    assert (
        entries(shared.vcenter.ok("vm_ovfenv_info", name=["not-asked"]))["not-asked"]["guest"]["state"] == "not_asked"
    )


@needs_other_accounts
@pytest.mark.parametrize("method", ["exit_code", "full"])
def test_hardened_guest_and_an_ordinary_user(shared: Estate, method: str) -> None:
    one = shared.appliance(f"hardened-user-{method}")
    one.set_extra("guest_rpc.rpci.auth.cmd.info-get", "TRUE")
    one.power_on()
    name = one.vm.name
    refused = entry(shared, name, method=method, guest_username="admin")
    assert verdict(refused) == ASSUMED
    assert ["guest_become=sudo" in one for one in refused["diagnosis"]["warnings"]] == [True]
    found = entry(shared, name, method=method, guest_username="admin", guest_become="sudo")
    assert found["diagnosis"]["status"] == "delivered"
    assert not found["diagnosis"]["warnings"]


def test_guest_that_is_not_ready(shared: Estate) -> None:
    """The time for the whole task is kept, and what the events say stands."""
    for name in ("busy", "busy-lost"):
        one = shared.appliance(name)
        one.power_on("vcenter" if name == "busy" else "esxi")
        one.tools(operations_ready=False)
    found = entries(look(shared, "busy", "busy-lost", method="exit_code", timeout=8))
    assert verdict(found["busy"]) == ASSUMED
    assert "guest of VM busy" in found["busy"]["diagnosis"]["warnings"][0]
    assert verdict(found["busy-lost"]) == SUSPECTED


def test_only_vms_with_vapp_options_are_asked_in_a_scope(shared: Estate) -> None:
    folder = "/DC0/vm/asked"
    shared.bare("asked-bare", folder).power_on()
    shared.appliance("asked-not", folder=folder).power_on()
    before = shared.bare("asked-before", folder)
    before.power_on()
    uuid = before.vm.config.instanceUuid.upper()
    found = entries(look(shared, folder=folder, method="exit_code", configured_before=[uuid]))
    states = {name: (one["guest"]["state"], verdict(one)) for name, one in found.items()}
    assert states == {
        "asked-bare": ("not_asked", "not_configured (vapp_disabled), high: enable_vapp"),
        "asked-not": ("xml", "delivered, medium"),
        "asked-before": ("no_value", "config_lost (vapp_config_gone), medium: enable_vapp"),
    }
    assert "earlier report" in found["asked-before"]["diagnosis"]["message"]


def test_candidates_in_a_scope(shared: Estate) -> None:
    folder = "/DC0/vm/candidates"
    vms = [shared.appliance(f"candidate-{number}", folder=folder) for number in range(5)]
    uuids = [vms[1].vm.config.instanceUuid.upper(), vms[2].vm.config.uuid.upper()]
    wanted = ["candidate-0", "CANDIDATE-3", "not-there", *uuids]
    found = look(shared, folder=folder, candidates=wanted, export=True)
    assert list(entries(found)) == ["candidate-0", "candidate-1", "candidate-2"]
    assert found["summary"]["total"] == 3
    assert entries(look(shared, folder=folder, candidates=[])) == {}
    refused = look(shared, "candidate-0", candidates=wanted)
    assert "candidates narrows a scope" in refused.msg


def test_power_on_that_failed_is_to_be_repeated(shared: Estate) -> None:
    """Among VMs that are off, only one with the expected name that ran without its OVF environment is powered on."""
    folder = "/DC0/vm/power-on-repeated"
    lost, fine, other = (shared.appliance(name, folder=folder) for name in ("off-lost", "off-fine", "off-other"))
    for one, origin in ((lost, "esxi"), (fine, "vcenter"), (other, "esxi")):
        one.power_on(origin)
    for one in (fine, other):
        one.power_off()
    shared.vcenter.fault(method="PowerOnVM_Task", at="task", fault="GenericVmConfigFault", vm_name=lost.name)
    failed = shared.vcenter.run("vm_ovfenv", moid=lost.moid, shutdown="hard", accept_risks=["guest_not_seen"])
    assert "IS POWERED OFF" in failed.msg
    found = entries(look(shared, folder=folder, expected_names=["off-lost", "off-fine"]))
    assert {name: one["needs_power_on"] for name, one in found.items()} == {
        "off-fine": False, "off-lost": True, "off-other": False,
    }  # fmt: skip
    assert {verdict(one) for one in found.values()} == {"not_running (powered_off), high"}


def test_no_way_to_the_esxi_host(own: Estate) -> None:
    own.appliance("a").power_on()
    own.appliance("b").power_on("esxi")
    own.vcenter.control("PUT", "transfers", {"blocked": True})
    found = entries(look(own, "a", "b", method="full"))
    assert [verdict(one) for one in found.values()] == ["delivered, medium", LOST]
    assert found["a"]["guest"]["method"] == "exit_code"
    assert "cannot be reached" in found["a"]["guest"]["error"]


# --- what the user may not do ---------------------------------------------------------------------------------------


def junior(place: Estate, name: str, *deny: str) -> dict[str, str]:
    login = {"name": name, "password": "juniors-long-password"}
    place.vcenter.control("POST", "users", {**login, "deny": deny})
    return {"username": login["name"], "password": login["password"]}


def test_privileges_that_are_lacking(stage: Estate) -> None:
    low = junior(stage, "no-extract", "VApp.ExtractOvfEnvironment")
    found = entries(look(stage, "vcenter", "esxi", **low))
    assert [verdict(one) for one in found.values()] == [SUSPECTED, ASSUMED]
    assert {one["extracted"]["state"] for one in found.values()} == {"no_permission"}
    assert "VApp.ExtractOvfEnvironment" in found["vcenter"]["extracted"]["error"]
    low = junior(stage, "no-guest", "VirtualMachine.GuestOperations.Execute")
    found = entries(look(stage, "vcenter", "esxi", method="exit_code", **low))
    assert [verdict(one) for one in found.values()] == [SUSPECTED, ASSUMED]
    assert all("GuestOperations.Execute" in one["diagnosis"]["warnings"][0] for one in found.values())


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("NotSupported", "unsupported"),
        ("RuntimeFault", "error"),
        ("MethodNotFound", "unsupported"),
        ("UnknownFault", "error"),  # which pyVmomi cannot read
    ],
)
def test_extract_that_fails(own: Estate, fault: str, state: str) -> None:
    one = own.appliance("a")
    one.power_on()
    own.vcenter.fault(method="ExtractOvfEnvironment", at="call", fault=fault, count=0)
    found = entry(own, "a")
    assert (found["extracted"]["state"], verdict(found)) == (state, ASSUMED)


def test_a_connection_that_breaks_ends_no_report(own: Estate) -> None:
    for name in ("a", "b"):
        own.appliance(name).power_on()
    own.vcenter.fault(method="ExtractOvfEnvironment", at="call", drop="after", count=0)
    found = entries(look(own, "a", "b"))
    assert [(one["extracted"]["state"], verdict(one)) for one in found.values()] == [("error", ASSUMED)] * 2


def test_time_that_is_over_before_the_guests(own: Estate) -> None:
    """No program is started then, and what the events say stands."""
    for origin in ("vcenter", "esxi"):
        own.appliance(origin).power_on(origin)
    own.vcenter.fault(method="ExtractOvfEnvironment", at="call", delay_ms=5500, count=0)
    with own.vcenter.calls() as calls:
        found = entries(look(own, "vcenter", "esxi", method="exit_code", timeout=5))
    assert "StartProgramInGuest" not in calls
    assert [verdict(one) for one in found.values()] == [SUSPECTED, ASSUMED]
    for one in found.values():
        assert one["diagnosis"]["warnings"] == [one["guest"]["error"]]
        assert one["guest"]["state"] == "not_asked"
        assert "the timeout of the task was reached" in one["guest"]["error"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("NoPermission", "unknown (no_permission), low: grant_privilege"),
        ("InvalidState", "unknown (no_evidence), low"),
    ],
)
def test_events_that_cannot_be_read(own: Estate, fault: str, expected: str) -> None:
    own.appliance("a").power_on()
    own.vcenter.fault(method="CreateCollectorForEvents", at="call", fault=fault, count=0)
    assert verdict(entry(own, "a")) == expected
    assert verdict(entry(own, "a", method="full")) == "delivered, high"


def test_tasks_that_cannot_be_read(own: Estate) -> None:
    """The events stand; who started the VM is less certain."""
    own.appliance("a").power_on()
    own.appliance("b").power_on("esxi")
    own.vcenter.fault(method="CreateCollectorForTasks", at="call", fault="NoPermission", count=0)
    found = entries(look(own, "a", "b"))
    assert found["b"]["power_on"]["confidence"] == "medium"
    assert found["a"]["diagnosis"]["status"] != "lost_suspected"
    for one in found.values():
        assert "events: vCenter's tasks could not be read" in one["diagnosis"]["evidence"]
        assert one["diagnosis"]["cause"] != "no_permission"


def test_events_that_are_gone(own: Estate) -> None:
    own.appliance("a").power_on()
    own.appliance("b").power_on("esxi")
    own.vcenter.control("DELETE", "events")
    found = entries(look(own, "a", "b"))
    assert {verdict(one) for one in found.values()} == {"unknown (events_aged_out), low"}
    assert all("No event since 20" in one["diagnosis"]["message"] for one in found.values())
    found = entries(look(own, "a", "b", method="exit_code"))
    assert [verdict(one) for one in found.values()] == [
        "delivered, medium",
        LOST_SOMEHOW,
    ]


# --- servers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["6.0", "6.7"])
def test_versions(version: str) -> None:
    """Those that no other test here has."""
    flags = ("-vm", "0", "-host", "1", "-api-version", version, "-exit-after", "5m")
    with Simulator(*flags) as simulator, estate(VCenter(simulator)) as place:
        for name in ("vcenter", "esxi"):
            place.appliance(name).power_on(name)
        for method in ("none", "full"):
            found = entries(look(place, "vcenter", "esxi", method=method))
            expected = [STORIES[name][1][METHODS.index(method)] for name in ("esxi", "vcenter")]
            assert [verdict(one) for one in found.values()] == expected


@pytest.mark.flags("-esx-l", "127.0.0.1:0")
def test_started_at_the_host_itself(own: Estate) -> None:
    """The whole way: a client of the ESXi host powers the VM on."""
    one = own.existing(own.vcenter.parent)
    one.offer(prop("hostname", "a"))
    one.power_off()
    with at_the_host(own.vcenter) as vms:
        # WaitForTask fails over the name of a task at a host, when it sees it run.
        WaitForTasks([vms[one.name].PowerOnVM_Task()])
    assert verdict(entry(own, one.name)) == SUSPECTED
    assert verdict(entry(own, one.name, method="full")) == LOST
    port = urlsplit(own.vcenter.simulator.esx_url).port
    asked = own.vcenter.run("vm_ovfenv_info", name=[one.name], port=port)
    assert verdict(entries(asked)[one.name]) == "not_applicable (connected_to_esxi), high"


@pytest.mark.parametrize("restarted", [False, True])
def test_host_that_was_disconnected(own: Estate, restarted: bool) -> None:
    """Nothing can be said while it is away; when it is back, what it did alone comes to light."""
    one = own.existing(own.vcenter.parent)
    one.offer(prop("hostname", "a"))
    one.power_on()
    host = one.vm.runtime.host
    WaitForTask(host.DisconnectHost_Task())
    found = entry(own, one.name, method="exit_code")
    assert verdict(found) == "not_applicable (not_connected), high"
    assert (found["extracted"]["state"], found["guest"]["state"]) == ("not_asked", "not_asked")
    if restarted:
        one.vcenter.control("POST", f"guests/{one.moid}/power-on", {"origin": "ha"})
    WaitForTask(host.ReconnectHost_Task(cnxSpec=None, reconnectSpec=None))
    found = entry(own, one.name)
    assert verdict(found).startswith("lost_suspected (ha_restart)" if restarted else ASSUMED)


def test_calls(shared: Estate) -> None:
    """A constant number, and one request for each running VM with vApp options; no property is read guest by guest."""
    counts, reads = [], []
    for number in (2, 10):
        folder = f"/DC0/vm/calls-{number}"
        for each in range(number):
            shared.appliance(f"calls-{number}-{each}", folder=folder).power_on("esxi" if each % 2 else "vcenter")
            shared.bare(f"calls-{number}-bare-{each}", folder).power_on()
        with shared.vcenter.calls() as calls:
            found = look(shared, folder=folder)
        assert found["summary"]["total"] == 2 * number
        assert calls.pop("ExtractOvfEnvironment") == number
        counts.append(dict(calls))
        with shared.vcenter.calls() as calls:
            look(shared, folder=folder, method="exit_code")
        assert calls["StartProgramInGuest"] >= number
        reads.append(calls["RetrievePropertiesEx"])
    assert counts[0] == counts[1]
    assert reads == [counts[0]["RetrievePropertiesEx"] + 1] * 2
    assert sum(counts[0].values()) <= 25, counts[0]
    assert (counts[0]["Login"], counts[0]["Logout"]) == (1, 1)


def test_ip_pools_are_read_once_for_vms_that_are_off_and_need_them(shared: Estate) -> None:
    """The verdict says it before anybody powers the VM on, and without such a VM it costs nothing."""
    for number in range(3):
        gateway = prop("gateway", kind="expression", default="${gateway:Nowhere}")
        shared.appliance(f"pools-{number}", prop("hostname", "web"), gateway, folder="/DC0/vm/pools")
        shared.appliance(f"no-pools-{number}", folder="/DC0/vm/no-pools")
    counts = {}
    for folder in ("pools", "no-pools"):
        with shared.vcenter.calls() as calls:
            found = look(shared, folder=f"/DC0/vm/{folder}")
        counts[folder] = calls.get("QueryIpPools", 0)
        expected = "not_running (no_ip_pool), medium" if folder == "pools" else "not_running (powered_off), high"
        assert {verdict(one) for one in found["ovfenv"]} == {expected}
    assert counts == {"pools": 1, "no-pools": 0}
    assert "gateway (network Nowhere has no IP pool)" in entry(shared, "pools-0")["diagnosis"]["message"]


def test_what_else_is_missing(shared: Estate) -> None:
    """Said of a VM that its ESXi host started, and not of one that vCenter did."""
    lines = {
        "events: the power-on has neither a vCenter task nor a DrsVmPoweredOnEvent",
        "inventory: vSphere HA does not protect it",
        "inventory: a guest customization is pending",
        "inventory: is encrypted; vCenter provides the key to ESXi hosts, and this host had it",
        "configured: vCenter takes gateway from network protocol profiles, only when it powers the VM on",
    }
    for origin in ("esxi", "ha", "vcenter"):
        properties = [prop("hostname", "web")]
        if origin != "vcenter":  # which would refuse it
            properties.append(prop("gateway", kind="expression", default="${gateway:Nowhere}"))
        one = shared.appliance(f"besides-{origin}", *properties)
        one.power_on(origin)
        told = {"ha_protected": False, "encrypted": True, "customization_pending": True}
        shared.vcenter.control("PATCH", f"vms/{one.moid}", told)
        evidence = set(entry(shared, one.name)["diagnosis"]["evidence"])
        assert lines & evidence == (set() if origin == "vcenter" else lines)


# --- forks and vApps ------------------------------------------------------------------------------------------------


def test_fork_child(own: Estate) -> None:
    """It holds its parent's document, or none; whatever it is, a power cycle is never the remedy."""
    parent = own.existing(own.vcenter.parent)
    parent.offer(prop("hostname", "golden"))
    parent.power_on()
    own.vcenter.enable()
    own.vcenter.quiesce()
    own.vcenter.fork("web-01", "web-02", wait_for="powered_on")
    inherited = "inherited (fork_child), {}"
    assert verdict(entry(own, "web-01")) == inherited.format("medium")
    found = entry(own, "web-01", method="full")
    assert verdict(found) == inherited.format("high")
    assert found["guest"]["document"]["vcenter_id"] == parent.moid
    own.existing("web-01").plant(" ")
    found = entry(own, "web-01", method="exit_code")
    assert found["diagnosis"]["remedy"] == "none"
    own.existing("web-02").reconfigure(vAppConfigRemoved=True)
    assert verdict(entry(own, "web-02", method="full")) == inherited.format("high")
    assert verdict(entry(own, own.vcenter.parent)) == ASSUMED


def test_in_a_vapp(own: Estate) -> None:
    pool = next(one for one in own.service.content.rootFolder.childEntity[0].hostFolder.childEntity).resourcePool
    assignment = vim.vApp.IPAssignmentInfo(ipAllocationPolicy="dhcpPolicy", ipProtocol="IPv4")
    secret = "planted-in-the-vapp-0123456789"
    around = [prop("realm", "EXAMPLE"), prop("login", secret, kind="password")]
    for number, info in enumerate(around):
        info.key = number
    vapp = pool.CreateVApp(
        name="shop",
        resSpec=pool.config,
        configSpec=vim.vApp.VAppConfigSpec(
            property=[vim.vApp.PropertySpec(operation="add", info=info) for info in around], ipAssignment=assignment
        ),
        vmFolder=None,
    )
    template = own.existing(own.vcenter.parent)
    for name in ("shop-web", "shop-db"):
        location = vim.vm.RelocateSpec(pool=vapp)
        WaitForTask(template.vm.Clone(template.vm.parent, name, vim.vm.CloneSpec(location=location, powerOn=False)))
        one = own.existing(name)
        realm_here = prop("realm", default="${realm}", kind="expression", class_id="auth")
        one.offer(prop("hostname", name), realm_here, product="vSphere Integrated Containers")
    own.existing("shop-web").power_on()
    result = look(own, "shop-web", method="full", include_raw_xml=True)
    found = entries(result)["shop-web"]
    assert verdict(found) == "delivered, high"
    assert found["guest"]["document"]["properties"]["realm"] == "EXAMPLE"
    assert secret in (own.existing("shop-web").seen or "")
    assert secret not in result.raw
    assert found["parent_vapp"] == "shop"
    assert found["configured"]["ip_assignment"]["effective_from"] == "vapp"
    assert found["configured"]["ip_assignment"]["policy"] == "dhcpPolicy"
    assert found["configured"]["values_computed"] is True
    assert found["guest"]["document"]["entity_id"] == "shop-web"
    assert list(found["guest"]["document"]["entities"]) == ["shop-db"]
    assert found["guest"]["document"]["properties"]["auth.realm"] == "EXAMPLE"
    own.existing("shop-db").power_on("esxi")
    result = look(own, "shop-db", method="exit_code")
    lost = entries(result)["shop-db"]
    assert verdict(lost) == LOST
    assert lost["configured"]["values_computed"] is False
    assert lost["diagnosis"]["act"] == "now"
    assert result["summary"]["act_now"] == [lost["moid"]]


# --- secrets --------------------------------------------------------------------------------------------------------

SECRETS = {
    "typed": "planted-typed-0123456789",
    "named": "planted-named-0123456789",
    "patterned": "planted-patterned-0123456789",
    "token": "planted-token-0123456789",
    "guest": "planted-guest-0123456789",
    "inside": "planted-inside-0123456789",
    "parent": "planted-parents-0123456789",
    "sibling": "planted-siblings-0123456789",
    "spelled": "planted-spelled-0123456789",
}

WRAPPER = r"""#!/bin/sh
# As an appliance may have one around the tool: it prints what it got, and fails.
echo '<Property oe:key="admin" oe:value="SAID"/>'
echo 'Failed sending message to VMware.' >&2
exit 3
"""


def keeper(place: Estate, name: str) -> Appliance:
    """Return a VM with secrets in every place where one may stand."""
    one = place.appliance(
        name,
        prop("admin", SECRETS["typed"], kind="password"),
        prop("smcApiKey", SECRETS["named"], class_id="forcepoint"),
        prop("planted", SECRETS["patterned"]),
        prop("settings", f"password={SECRETS['inside']}"),
        prop("hostname", "shown-in-clear"),
    )
    one.power_on()
    sibling = SECRETS["sibling"]
    section = (
        '<ve:vServiceEnvironmentSection xmlns:evs="http://www.vmware.com/schema/vservice/ExtensionVService">'
        f"<evs:GuestApi><evs:Token>{SECRETS['token']}</evs:Token></evs:GuestApi></ve:vServiceEnvironmentSection>"
        '<Entity oe:id="sibling"><PropertySection>'
        f'<Property oe:key="hostname" oe:value="{sibling}"/></PropertySection></Entity>'
    )
    held = {
        "admin": SECRETS["typed"],
        "Admin": SECRETS["spelled"],
        "vapp.login": SECRETS["parent"],
        "forcepoint.smcApiKey": SECRETS["guest"],
        "planted": SECRETS["patterned"],
        "settings": f"password={SECRETS['inside']}",
        "hostname": "shown-in-clear",
    }
    one.plant(document(held, f've:vCenterId="{one.moid}"', section))
    return one


@pytest.mark.parametrize("method", METHODS)
def test_secrets(shared: Estate, method: str) -> None:
    """None in anything that is printed at -vvv, also not in raw XML; what is none is shown."""
    name = f"secrets-{method}"
    one = keeper(shared, name)
    given = {"mask_patterns": ["planted"], "include_raw_xml": True, "guest_probe": method}
    printed = shared.vcenter.ansible("vm_ovfenv_info", name=name, diff=True, **given)
    assert f'"name": "{name}"' in printed
    assert "shown-in-clear" in printed
    assert [secret for secret in SECRETS.values() if secret in printed] == []
    document = entry(shared, name, method=method, include_raw_xml=True)
    assert ("PropertySection" in (document["guest"]["raw_xml"] or "")) == (method == "full")
    assert "PropertySection" in document["extracted"]["raw_xml"]
    assert one.seen is not None
    assert SECRETS["guest"] in one.seen


def test_secrets_in_what_a_tool_says_that_fails(shared: Estate) -> None:
    """The first tool in the guest's path need not be VMware's."""
    one = keeper(shared, "secrets-said")
    said = "planted-said-0123456789"
    for tool in ("vmware-rpctool", "vmtoolsd"):
        wrapper = shlex.quote(WRAPPER.replace("SAID", said))
        bound = f"mount --bind /root/{tool} $(readlink -f /usr/bin/{tool})"
        shared.vcenter.in_guest(one.moid, f"cd /root; printf %s {wrapper} >{tool}; chmod 755 {tool}; {bound}")
    printed = shared.vcenter.ansible("vm_ovfenv_info", name=one.name, guest_probe="full", mask="all", diff=True)
    assert f'"name": "{one.name}"' in printed
    assert [secret for secret in (*SECRETS.values(), said) if secret in printed] == []
    guest = entry(shared, one.name, method="full")["guest"]
    assert (guest["state"], guest["stderr"]) == ("error", "********\nFailed sending message to VMware.")
    assert said in entry(shared, one.name, method="full", mask="none")["guest"]["stderr"]


def test_mask_levels(shared: Estate) -> None:
    keeper(shared, "masked")

    def shown(level: str) -> set[str]:
        result = look(shared, "masked", method="full", mask=level, include_raw_xml=True)
        return {name for name, secret in SECRETS.items() if secret in result.raw}

    assert shown("all") == set()
    assert shown("sensitive") == {"patterned"}
    assert shown("password") == {"named", "patterned", "guest", "inside"}
    assert shown("none") == set(SECRETS)
