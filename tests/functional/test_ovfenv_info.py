# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_ovfenv_info: all cases of OVF environments that reach a guest or do not, with and without a guest probe."""

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
    """Run one simulator for VMs that do not affect each other."""
    with Simulator("-vm", "0", "-host", "2", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


def look(place: Estate, *names: str, method: str = "none", **given: Any) -> Result:
    """Run the module and assert that it changes nothing."""
    login = place.vcenter.guest_login if method != "none" else {}
    result = place.vcenter.run("vm_ovfenv_info", **{"name": names or None, "guest_probe": method, **login, **given})
    assert not result.get("changed"), result
    return result


def entries(result: Result) -> dict[str, dict[str, Any]]:
    assert not result.get("failed"), result.msg
    return {entry["name"]: entry for entry in result["ovfenv"]}


def entry(place: Estate, name: str, **given: Any) -> dict[str, Any]:
    return entries(look(place, name, **given))[name]


def verdict(entry: dict[str, Any]) -> str:
    """Return ``status (cause), confidence: remedy``."""
    found = entry["diagnosis"]
    cause = f" ({found['cause']})" if found["cause"] else ""
    remedy = "" if found["remedy"] == "none" else f": {found['remedy']}"
    return f"{found['status']}{cause}, {found['confidence']}{remedy}"


# --- how VMs are started ----------------------------------------------------------------------------------------------

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
"""The verdict where vCenter's own data is not conclusive."""
NOT_CONFIGURED = "not_configured (vapp_disabled), high: enable_vapp"


def started(origin: str, *then: str, **options: Any) -> Callable[[Estate, str], Appliance]:
    """Return a function that creates a VM with vApp options and powers it on."""

    def prepare(place: Estate, name: str) -> Appliance:
        vm = place.appliance(name, **options)
        vm.power_on(origin)
        for what in then:
            if what == "reset":
                WaitForTask(vm.mo.ResetVM_Task())
            elif what == "reboot":
                vm.mo.RebootGuest()
            else:
                vm.power_on(what)
        return vm

    return prepare


def without_drive(place: Estate, name: str) -> None:
    vm = place.appliance(name, transports=(ISO,))
    drive = next(device for device in vm.mo.config.hardware.device if isinstance(device, vim.vm.device.VirtualCdrom))
    vm.reconfigure(deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="remove", device=drive)])
    vm.power_on()


def planted(text: str, origin: str = "vcenter") -> Callable[[Estate, str], None]:
    """Return a function that creates a VM whose guest overwrites its environment; {own} is replaced by its ID."""

    def prepare(place: Estate, name: str) -> None:
        vm = started(origin)(place, name)
        vm.plant(text.replace("{own}", vm.moid))

    return prepare


def without_secrets(place: Estate, name: str) -> None:
    vm = place.appliance(name, prop("hostname", name), prop("root_password", "hunter2-hunter2", kind="password"))
    vm.power_on()
    vm.plant(document({"hostname": name}, f've:vCenterId="{vm.moid}"'))


def edited(place: Estate, name: str) -> None:
    started("vcenter")(place, name).set_property("hostname", "another")


def product_edited(place: Estate, name: str) -> None:
    """Change a value that is not delivered to the guest."""
    info = vim.vApp.ProductInfo(key=7, name="Example", productUrl="https://example.com")
    spec = vim.vApp.ProductSpec(operation="add", info=info)
    started("vcenter")(place, name).reconfigure(vAppConfig=vim.vApp.VmConfigSpec(product=[spec]))


def domain_user(place: Estate, name: str) -> None:
    """Start a VM on an ESXi host that is joined to a domain, so its users look like vCenter's."""
    place.appliance(name).power_on("esxi", user=r"CORP\jdoe")


def password_edited(place: Estate, name: str) -> None:
    vm = place.appliance(name, prop("hostname", name), prop("root_password", "hunter2-hunter2", kind="password"))
    vm.power_on()
    vm.set_property("root_password", "hunter3-hunter3")


def bare(place: Estate, name: str) -> None:
    place.bare(name).power_on()


def template(place: Estate, name: str) -> None:
    place.appliance(name).mo.MarkAsTemplate()


def suspended(place: Estate, name: str) -> None:
    WaitForTask(started("vcenter")(place, name).mo.SuspendVM_Task())


def hardened(origin: str = "vcenter", user: str = "") -> Callable[[Estate, str], None]:
    """Return a function that creates a VM whose guest denies reading, even to root, which the probe logs in as."""

    def prepare(place: Estate, name: str) -> None:
        vm = place.appliance(name)
        vm.set_extra("guest_rpc.rpci.auth.cmd.info-get", "TRUE")
        vm.power_on(origin, **({"user": user} if user else {}))
        vm.set_tools(refuse_info=True)

    return prepare


def unreachable(place: Estate, name: str) -> None:
    vm = started("vcenter")(place, name)
    place.vcenter.control("PATCH", f"vms/{vm.moid}", {"connection_state": "inaccessible"})


def secondary(place: Estate, name: str) -> None:
    vm = started("vcenter")(place, name)
    place.vcenter.control("PATCH", f"vms/{vm.moid}", {"fault_tolerance_role": 2})


def tools_away(place: Estate, name: str) -> None:
    started("vcenter")(place, name).set_tools(tools_running=False)


def transports_gone(place: Estate, name: str) -> None:
    started("vcenter")(place, name).reconfigure(vAppConfig=vim.vApp.VmConfigSpec(ovfEnvironmentTransport=[""]))


def options_gone(place: Estate, name: str) -> None:
    started("vcenter")(place, name).reconfigure(vAppConfigRemoved=True)


# How the VM was started, and the verdict without a probe, with the probe exit_code, and with the document.
CASES: dict[str, tuple[Callable[[Estate, str], Any], list[str]]] = {
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
def all_vms(shared: Estate) -> Estate:
    """Return the VMs after all power-ons."""
    for name, (prepare, _expected) in CASES.items():
        prepare(shared, name)
    return shared


@pytest.fixture(scope="module")
def survey(all_vms: Estate) -> Callable[[str], Result]:
    """Return the module's result for all VMs by probe method."""
    return cache(lambda method: look(all_vms, *CASES, method=method))


@pytest.mark.parametrize("method", METHODS)
def test_verdicts(survey: Callable[[str], Result], method: str) -> None:
    found = entries(survey(method))
    expected = {name: expected[METHODS.index(method)] for name, (_prepare, expected) in CASES.items()}
    assert {name: verdict(facts) for name, facts in found.items()} == expected


def test_complete_entry(all_vms: Estate) -> None:
    """An entry contains who, when, what else and a sentence."""
    names = ("esxi", "edited", "both", "vcenter", "tools-away", "transports-gone", "options-gone")
    result = look(all_vms, *names, method="full")
    found = entries(result)
    lost = found["esxi"]
    assert (lost["power_on"]["origin"], lost["power_on"]["user"]) == ("esxi_direct", "root")
    assert lost["boot_time"].endswith("Z")
    assert lost["inventory_path"] == "/DC0/vm/esxi"
    assert lost["host"] == lost["power_on"]["host"]
    assert lost["guest"]["stderr"] == "No value found"
    assert (lost["extracted"]["state"], lost["extracted"]["document"]) == ("empty", None)
    assert lost["diagnosis"]["message"].endswith("by root.")
    assert any(line.startswith("guest: ") for line in lost["diagnosis"]["evidence"])
    assert lost["diagnosis"]["remedy_risks"]
    assert "still has an OVF environment" in found["transports-gone"]["diagnosis"]["message"]
    assert found["transports-gone"]["diagnosis"]["act"] == "before_next_boot"
    assert found["options-gone"]["diagnosis"]["act"] == "before_next_boot"
    edited = found["edited"]
    assert [(difference["key"], difference["kind"]) for difference in edited["differences"]] == [
        ("hostname", "changed")
    ]
    assert (edited["differences"][0]["configured"], edited["differences"][0]["guest"]) == ("another", "edited")
    assert [change["type"] for change in edited["power_on"]["reconfigured"]] == ["VmReconfiguredEvent"]
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


def test_same_keys_for_every_vm(survey: Callable[[str], Result]) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict) and "properties" not in value:
            return {key: shape(item) for key, item in value.items()}
        return None

    found = entries(survey("full"))
    for part in ("extracted", "iso", "guest", "power_on", "diagnosis"):
        assert len({str(shape({**facts[part], "document": None})) for facts in found.values()}) == 1, part
    assert len({tuple(facts) for facts in found.values()}) == 1
    assert len({tuple(facts["configured"]) for facts in found.values()}) == 1


def test_check_mode_is_the_same(all_vms: Estate) -> None:
    for given in ({}, {"method": "exit_code"}):
        ran, checked = (look(all_vms, "esxi", "vcenter", check=check, **given) for check in (False, True))
        assert ran["ovfenv"] == checked["ovfenv"]
        assert ran["summary"] == checked["summary"]


def test_only_and_fail_on(all_vms: Estate) -> None:
    names = ("vcenter", "esxi", "off")
    shown = look(all_vms, *names, only=["lost_suspected", "not_running"])
    assert list(entries(shown)) == ["esxi", "off"]
    assert shown["summary"]["total"] == 3
    assert not look(all_vms, *names, fail_on=["lost", "stale"]).get("failed")
    failed = look(all_vms, *names, fail_on=["lost_suspected"], only=["delivered_assumed"])
    assert failed["failed"]
    assert failed.msg == "1 of 3 VMs fails: esxi (lost_suspected, esxi_direct). See ovfenv."
    assert [entry["name"] for entry in failed["ovfenv"]] == ["vcenter"]
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


def test_bad_input(all_vms: Estate) -> None:
    for given, sentence in BAD_INPUT:
        refused = all_vms.vcenter.run("vm_ovfenv_info", **given)
        assert refused["failed"], given
        assert sentence in refused.msg
        assert "exception" not in refused
        assert refused.msg[0].isupper() or refused.msg.startswith(("name", "moid", "event_", "guest_", "value"))


def test_scopes(shared: Estate) -> None:
    for name, folder in (("scope-a", "/DC0/vm/blue"), ("scope-b", "/DC0/vm/blue/deep"), ("twin", "/DC0/vm/blue")):
        shared.appliance(name, folder=folder)
    twin = shared.appliance("twin", folder="/DC0/vm/green")
    everything = {entry["inventory_path"] for entry in look(shared)["ovfenv"]}
    blue = {"/DC0/vm/blue/scope-a", "/DC0/vm/blue/deep/scope-b", "/DC0/vm/blue/twin"}
    assert blue | {"/DC0/vm/green/twin"} <= everything

    def paths(**given: Any) -> list[str]:
        result = look(shared, **given)
        assert not result.get("failed"), result.msg
        return [entry["inventory_path"] for entry in result["ovfenv"]]

    assert set(paths(folder="blue")) == set(paths(folder="/DC0/vm/blue")) == blue
    assert set(paths(datacenter="DC0")) == everything
    assert paths(name=["twin"], folder="blue") == ["/DC0/vm/blue/twin"]
    several = look(shared, name=["twin", "scope-a"])
    assert several["failed"]
    assert "Several VMs match VM twin: /DC0/vm/blue/twin (" in several.msg
    assert paths(moid=[twin.moid], uuid=[twin.mo.config.uuid], inventory_path=["/DC0/vm/green/twin"]) == [
        "/DC0/vm/green/twin"
    ]
    by_instance_uuid = paths(uuid=[twin.mo.config.instanceUuid], use_instance_uuid=True, name=["scope-a"])
    assert by_instance_uuid == ["/DC0/vm/blue/scope-a", "/DC0/vm/green/twin"]


# --- guests -----------------------------------------------------------------------------------------------------------


def test_login_of_each_vm(shared: Estate) -> None:
    three = [shared.appliance(f"login-{number}") for number in range(3)]
    for vm in three:
        vm.power_on("esxi")
    names = [f"login-{number}" for number in range(3)]
    good = shared.vcenter.guest_login
    bad = {**good, "guest_password": "not-that-one-0123456789"}
    found = entries(look(shared, *names, method="exit_code", guests=[{"name": "login-1", **bad}]))
    assert [facts["guest"]["state"] for facts in found.values()] == ["no_value", "login_failed", "no_value"]
    assert [verdict(facts) for facts in found.values()] == [LOST, SUSPECTED, LOST]
    assert "refused the login" in found["login-1"]["diagnosis"]["warnings"][0]
    logins = [{"moid": three[2].moid, **good}, {"name": "logon-1", **good}, {"moid": "vm-0", **good}]
    result = shared.vcenter.run("vm_ovfenv_info", name=names, guest_probe="exit_code", guests=logins)
    assert [entry["guest"]["state"] for entry in entries(result).values()] == ["not_asked", "not_asked", "no_value"]
    assert len(result["warnings"]) == 1
    assert "a login for logon-1, vm-0, which is not among the examined VMs" in str(result["warnings"])


def test_login_of_one_vm_is_not_sent_to_another(shared: Estate) -> None:
    """Somebody may name a VM like another one, or like its managed object ID: its guest would learn the password."""
    meant = shared.appliance("login-meant")
    same_name = shared.appliance("login-meant", folder="/DC0/vm/other-tenant")
    named_as_id = shared.appliance(meant.moid)
    for vm in (meant, same_name, named_as_id):
        vm.power_on("esxi")

    def states(**selector: str) -> dict[str, str]:
        result = shared.vcenter.run(
            "vm_ovfenv_info",
            moid=[vm.moid for vm in (meant, same_name, named_as_id)],
            guest_probe="exit_code",
            guests=[{**selector, **shared.vcenter.guest_login}],
        )
        warned = "login-meant is the name of 2 of the examined VMs" in str(result.get("warnings"))
        assert warned == ("name" in selector)
        return {facts["moid"]: facts["guest"]["state"] for facts in result["ovfenv"]}

    others = {same_name.moid: "not_asked", named_as_id.moid: "not_asked"}
    assert states(moid=meant.moid) == {meant.moid: "no_value", **others}
    assert states(name="login-meant") == {meant.moid: "not_asked", **others}


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
    vm = shared.appliance(f"hardened-user-{method}")
    vm.set_extra("guest_rpc.rpci.auth.cmd.info-get", "TRUE")
    vm.power_on()
    name = vm.mo.name
    refused = entry(shared, name, method=method, guest_username="admin")
    assert verdict(refused) == ASSUMED
    assert ["guest_become=sudo" in warning for warning in refused["diagnosis"]["warnings"]] == [True]
    found = entry(shared, name, method=method, guest_username="admin", guest_become="sudo")
    assert found["diagnosis"]["status"] == "delivered"
    assert not found["diagnosis"]["warnings"]


def test_guest_that_is_not_ready(shared: Estate) -> None:
    """The module keeps to its timeout, and the verdict of the events stands."""
    for name in ("busy", "busy-lost"):
        vm = shared.appliance(name)
        vm.power_on("vcenter" if name == "busy" else "esxi")
        vm.set_tools(operations_ready=False)
    found = entries(look(shared, "busy", "busy-lost", method="exit_code", timeout=8))
    assert verdict(found["busy"]) == ASSUMED
    assert "guest of VM busy" in found["busy"]["diagnosis"]["warnings"][0]
    assert verdict(found["busy-lost"]) == SUSPECTED


def test_only_vms_with_vapp_options_are_probed_in_a_scope(shared: Estate) -> None:
    folder = "/DC0/vm/asked"
    shared.bare("asked-bare", folder).power_on()
    shared.appliance("asked-not", folder=folder).power_on()
    before = shared.bare("asked-before", folder)
    before.power_on()
    uuid = before.mo.config.instanceUuid.upper()
    found = entries(look(shared, folder=folder, method="exit_code", configured_before=[uuid]))
    states = {name: (facts["guest"]["state"], verdict(facts)) for name, facts in found.items()}
    assert states == {
        "asked-bare": ("not_asked", "not_configured (vapp_disabled), high: enable_vapp"),
        "asked-not": ("xml", "delivered, medium"),
        "asked-before": ("no_value", "config_lost (vapp_config_gone), medium: enable_vapp"),
    }
    assert "earlier report" in found["asked-before"]["diagnosis"]["message"]


def test_candidates_in_a_scope(shared: Estate) -> None:
    folder = "/DC0/vm/candidates"
    vms = [shared.appliance(f"candidate-{number}", folder=folder) for number in range(5)]
    uuids = [vms[1].mo.config.instanceUuid.upper(), vms[2].mo.config.uuid.upper()]
    wanted = ["candidate-0", "CANDIDATE-3", "not-there", *uuids]
    found = look(shared, folder=folder, candidates=wanted, export=True)
    assert list(entries(found)) == ["candidate-0", "candidate-1", "candidate-2"]
    assert found["summary"]["total"] == 3
    assert entries(look(shared, folder=folder, candidates=[])) == {}
    refused = look(shared, "candidate-0", candidates=wanted)
    assert "candidates narrows a scope" in refused.msg


def test_failed_power_on_is_repeated(shared: Estate) -> None:
    """Among VMs that are off, only one with an expected name that ran without its OVF environment needs a power-on."""
    folder = "/DC0/vm/power-on-repeated"
    lost, fine, other = (shared.appliance(name, folder=folder) for name in ("off-lost", "off-fine", "off-other"))
    for vm, origin in ((lost, "esxi"), (fine, "vcenter"), (other, "esxi")):
        vm.power_on(origin)
    for vm in (fine, other):
        vm.power_off()
    shared.vcenter.fault(method="PowerOnVM_Task", at="task", fault="GenericVmConfigFault", vm_name=lost.name)
    failed = shared.vcenter.run("vm_ovfenv", moid=lost.moid, shutdown="hard", accept_risks=["guest_not_seen"])
    assert "IS POWERED OFF" in failed.msg
    found = entries(look(shared, folder=folder, expected_names=["off-lost", "off-fine"]))
    assert {name: facts["needs_power_on"] for name, facts in found.items()} == {
        "off-fine": False, "off-lost": True, "off-other": False,
    }  # fmt: skip
    assert {verdict(facts) for facts in found.values()} == {"not_running (powered_off), high"}


def test_unreachable_esxi_host(own: Estate) -> None:
    own.appliance("a").power_on()
    own.appliance("b").power_on("esxi")
    own.vcenter.control("PUT", "transfers", {"blocked": True})
    found = entries(look(own, "a", "b", method="full"))
    assert [verdict(facts) for facts in found.values()] == ["delivered, medium", LOST]
    assert found["a"]["guest"]["method"] == "exit_code"
    assert "cannot be reached" in found["a"]["guest"]["error"]


# --- lacking privileges -----------------------------------------------------------------------------------------------


def user_without(place: Estate, name: str, *deny: str) -> dict[str, str]:
    login = {"name": name, "password": "juniors-long-password"}
    place.vcenter.control("POST", "users", {**login, "deny": deny})
    return {"username": login["name"], "password": login["password"]}


def test_privileges_that_are_lacking(all_vms: Estate) -> None:
    low = user_without(all_vms, "no-extract", "VApp.ExtractOvfEnvironment")
    found = entries(look(all_vms, "vcenter", "esxi", **low))
    assert [verdict(facts) for facts in found.values()] == [SUSPECTED, ASSUMED]
    assert {facts["extracted"]["state"] for facts in found.values()} == {"no_permission"}
    assert "VApp.ExtractOvfEnvironment" in found["vcenter"]["extracted"]["error"]
    low = user_without(all_vms, "no-guest", "VirtualMachine.GuestOperations.Execute")
    found = entries(look(all_vms, "vcenter", "esxi", method="exit_code", **low))
    assert [verdict(facts) for facts in found.values()] == [SUSPECTED, ASSUMED]
    assert all("GuestOperations.Execute" in facts["diagnosis"]["warnings"][0] for facts in found.values())


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("NotSupported", "unsupported"),
        ("RuntimeFault", "error"),
        ("MethodNotFound", "unsupported"),
        ("UnknownFault", "error"),  # pyVmomi cannot read this answer
    ],
)
def test_extract_that_fails(own: Estate, fault: str, state: str) -> None:
    vm = own.appliance("a")
    vm.power_on()
    own.vcenter.fault(method="ExtractOvfEnvironment", at="call", fault=fault, count=0)
    found = entry(own, "a")
    assert (found["extracted"]["state"], verdict(found)) == (state, ASSUMED)


def test_broken_connection_does_not_end_the_report(own: Estate) -> None:
    for name in ("a", "b"):
        own.appliance(name).power_on()
    own.vcenter.fault(method="ExtractOvfEnvironment", at="call", drop="after", count=0)
    found = entries(look(own, "a", "b"))
    assert [(facts["extracted"]["state"], verdict(facts)) for facts in found.values()] == [("error", ASSUMED)] * 2


def test_timeout_before_the_guest_probes(own: Estate) -> None:
    """No program is started in a guest, and the verdict of the events stands."""
    for origin in ("vcenter", "esxi"):
        own.appliance(origin).power_on(origin)
    own.vcenter.fault(method="ExtractOvfEnvironment", at="call", delay_ms=5500, count=0)
    with own.vcenter.calls() as calls:
        found = entries(look(own, "vcenter", "esxi", method="exit_code", timeout=5))
    assert "StartProgramInGuest" not in calls
    assert [verdict(facts) for facts in found.values()] == [SUSPECTED, ASSUMED]
    for facts in found.values():
        assert facts["diagnosis"]["warnings"] == [facts["guest"]["error"]]
        assert facts["guest"]["state"] == "not_asked"
        assert "the timeout of the task was reached" in facts["guest"]["error"]


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
    """The events are read; only who started the VM is less certain."""
    own.appliance("a").power_on()
    own.appliance("b").power_on("esxi")
    own.vcenter.fault(method="CreateCollectorForTasks", at="call", fault="NoPermission", count=0)
    found = entries(look(own, "a", "b"))
    assert found["b"]["power_on"]["confidence"] == "medium"
    assert found["a"]["diagnosis"]["status"] != "lost_suspected"
    for facts in found.values():
        assert "events: vCenter's tasks could not be read" in facts["diagnosis"]["evidence"]
        assert facts["diagnosis"]["cause"] != "no_permission"


def test_events_that_are_gone(own: Estate) -> None:
    own.appliance("a").power_on()
    own.appliance("b").power_on("esxi")
    own.vcenter.control("DELETE", "events")
    found = entries(look(own, "a", "b"))
    assert {verdict(facts) for facts in found.values()} == {"unknown (events_aged_out), low"}
    assert all("No event since 20" in facts["diagnosis"]["message"] for facts in found.values())
    found = entries(look(own, "a", "b", method="exit_code"))
    assert [verdict(facts) for facts in found.values()] == [
        "delivered, medium",
        LOST_SOMEHOW,
    ]


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["6.0", "6.7", "9.1.1.0"])
def test_versions(version: str) -> None:
    """Test the versions that no other test uses."""
    flags = ("-vm", "0", "-host", "1", "-api-version", version, "-exit-after", "5m")
    with Simulator(*flags) as simulator, estate(VCenter(simulator)) as place:
        for name in ("vcenter", "esxi"):
            place.appliance(name).power_on(name)
        for method in ("none", "full"):
            found = entries(look(place, "vcenter", "esxi", method=method))
            expected = [CASES[name][1][METHODS.index(method)] for name in ("esxi", "vcenter")]
            assert [verdict(facts) for facts in found.values()] == expected


@pytest.mark.flags("-esx-l", "127.0.0.1:0")
def test_started_at_the_host_itself(own: Estate) -> None:
    """A client of the ESXi host powers the VM on."""
    vm = own.existing(own.vcenter.parent)
    vm.set_vapp_options(prop("hostname", "a"))
    vm.power_off()
    with at_the_host(own.vcenter) as vms:
        # WaitForTask fails on a running task of a host, because of the task's name.
        WaitForTasks([vms[vm.name].PowerOnVM_Task()])
    assert verdict(entry(own, vm.name)) == SUSPECTED
    assert verdict(entry(own, vm.name, method="full")) == LOST
    port = urlsplit(own.vcenter.simulator.esx_url).port
    asked = own.vcenter.run("vm_ovfenv_info", name=[vm.name], port=port)
    assert verdict(entries(asked)[vm.name]) == "not_applicable (connected_to_esxi), high"


@pytest.mark.parametrize("restarted", [False, True])
def test_host_that_was_disconnected(own: Estate, restarted: bool) -> None:
    """While it is away there is no verdict; when it is back, what it did meanwhile is found."""
    vm = own.existing(own.vcenter.parent)
    vm.set_vapp_options(prop("hostname", "a"))
    vm.power_on()
    host = vm.mo.runtime.host
    WaitForTask(host.DisconnectHost_Task())
    found = entry(own, vm.name, method="exit_code")
    assert verdict(found) == "not_applicable (not_connected), high"
    assert (found["extracted"]["state"], found["guest"]["state"]) == ("not_asked", "not_asked")
    if restarted:
        vm.vcenter.control("POST", f"guests/{vm.moid}/power-on", {"origin": "ha"})
    WaitForTask(host.ReconnectHost_Task(cnxSpec=None, reconnectSpec=None))
    found = entry(own, vm.name)
    assert verdict(found).startswith("lost_suspected (ha_restart)" if restarted else ASSUMED)


def test_calls(shared: Estate) -> None:
    """The number is constant, plus one request for each running VM with vApp options."""
    counts, reads = [], []
    for number in (2, 10):
        folder = f"/DC0/vm/calls-{number}"
        for index in range(number):
            shared.appliance(f"calls-{number}-{index}", folder=folder).power_on("esxi" if index % 2 else "vcenter")
            shared.bare(f"calls-{number}-bare-{index}", folder).power_on()
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
    """The verdict warns before anybody powers the VM on. Without such a VM there is no call."""
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
        assert {verdict(entry) for entry in found["ovfenv"]} == {expected}
    assert counts == {"pools": 1, "no-pools": 0}
    assert "gateway (network Nowhere has no IP pool)" in entry(shared, "pools-0")["diagnosis"]["message"]


def test_further_evidence(shared: Estate) -> None:
    """It is reported for a VM that its ESXi host started, and not for one that vCenter started."""
    lines = {
        "events: the power-on has neither a vCenter task nor a DrsVmPoweredOnEvent",
        "inventory: vSphere HA does not protect it",
        "inventory: a guest customization is pending",
        "inventory: is encrypted; vCenter provides the key to ESXi hosts, and this host had it",
        "configured: vCenter takes gateway from network protocol profiles, only when it powers the VM on",
    }
    for origin in ("esxi", "ha", "vcenter"):
        properties = [prop("hostname", "web")]
        if origin != "vcenter":  # vCenter would refuse this property
            properties.append(prop("gateway", kind="expression", default="${gateway:Nowhere}"))
        vm = shared.appliance(f"besides-{origin}", *properties)
        vm.power_on(origin)
        settings = {"ha_protected": False, "encrypted": True, "customization_pending": True}
        shared.vcenter.control("PATCH", f"vms/{vm.moid}", settings)
        evidence = set(entry(shared, vm.name)["diagnosis"]["evidence"])
        assert lines & evidence == (set() if origin == "vcenter" else lines)


# --- forks and vApps --------------------------------------------------------------------------------------------------


def test_fork_child(own: Estate) -> None:
    """It has its parent's document or none. A power cycle is never the remedy."""
    parent = own.existing(own.vcenter.parent)
    parent.set_vapp_options(prop("hostname", "golden"))
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
    pool = next(host for host in own.service.content.rootFolder.childEntity[0].hostFolder.childEntity).resourcePool
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
        WaitForTask(template.mo.Clone(template.mo.parent, name, vim.vm.CloneSpec(location=location, powerOn=False)))
        vm = own.existing(name)
        realm_here = prop("realm", default="${realm}", kind="expression", class_id="auth")
        vm.set_vapp_options(prop("hostname", name), realm_here, product="vSphere Integrated Containers")
    own.existing("shop-web").power_on()
    result = look(own, "shop-web", method="full", include_raw_xml=True)
    found = entries(result)["shop-web"]
    assert verdict(found) == "delivered, high"
    assert found["guest"]["document"]["properties"]["realm"] == "EXAMPLE"
    assert secret in (own.existing("shop-web").guest_document or "")
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


# --- secrets ----------------------------------------------------------------------------------------------------------

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
    """Return a VM with secrets in every place that can hold one."""
    vm = place.appliance(
        name,
        prop("admin", SECRETS["typed"], kind="password"),
        prop("smcApiKey", SECRETS["named"], class_id="forcepoint"),
        prop("planted", SECRETS["patterned"]),
        prop("settings", f"password={SECRETS['inside']}"),
        prop("hostname", "shown-in-clear"),
    )
    vm.power_on()
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
    vm.plant(document(held, f've:vCenterId="{vm.moid}"', section))
    return vm


@pytest.mark.parametrize("method", METHODS)
def test_secrets(shared: Estate, method: str) -> None:
    """No secret is printed at -vvv, not even in raw XML; other values are shown."""
    name = f"secrets-{method}"
    vm = keeper(shared, name)
    given = {"mask_patterns": ["planted"], "include_raw_xml": True, "guest_probe": method}
    printed = shared.vcenter.ansible("vm_ovfenv_info", name=name, diff=True, **given)
    assert f'"name": "{name}"' in printed
    assert "shown-in-clear" in printed
    assert [secret for secret in SECRETS.values() if secret in printed] == []
    document = entry(shared, name, method=method, include_raw_xml=True)
    assert ("PropertySection" in (document["guest"]["raw_xml"] or "")) == (method == "full")
    assert "PropertySection" in document["extracted"]["raw_xml"]
    assert vm.guest_document is not None
    assert SECRETS["guest"] in vm.guest_document


def test_secrets_in_the_output_of_a_failing_tool(shared: Estate) -> None:
    """The first such tool in the guest's PATH need not be VMware's."""
    vm = keeper(shared, "secrets-said")
    secret_printed = "planted-said-0123456789"
    for tool in ("vmware-rpctool", "vmtoolsd"):
        wrapper = shlex.quote(WRAPPER.replace("SAID", secret_printed))
        bound = f"mount --bind /root/{tool} $(readlink -f /usr/bin/{tool})"
        shared.vcenter.in_guest(vm.moid, f"cd /root; printf %s {wrapper} >{tool}; chmod 755 {tool}; {bound}")
    printed = shared.vcenter.ansible("vm_ovfenv_info", name=vm.name, guest_probe="full", mask="all", diff=True)
    assert f'"name": "{vm.name}"' in printed
    assert [secret for secret in (*SECRETS.values(), secret_printed) if secret in printed] == []
    guest = entry(shared, vm.name, method="full")["guest"]
    assert (guest["state"], guest["stderr"]) == ("error", "********\nFailed sending message to VMware.")
    assert secret_printed in entry(shared, vm.name, method="full", mask="none")["guest"]["stderr"]


def test_mask_levels(shared: Estate) -> None:
    keeper(shared, "masked")

    def values_shown(level: str) -> set[str]:
        result = look(shared, "masked", method="full", mask=level, include_raw_xml=True)
        return {name for name, secret in SECRETS.items() if secret in result.raw}

    assert values_shown("all") == set()
    assert values_shown("sensitive") == {"patterned"}
    assert values_shown("password") == {"named", "patterned", "guest", "inside"}
    assert values_shown("none") == set(SECRETS)
