# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""May a VM be power-cycled, and what could go wrong: the plan, from what is known of the VM."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, diagnosis, plan
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence, GuestView
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.examine import Examined
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import PowerOn

LOST = GuestView("no_value", "exit_code")


def prop(key: str, value: str = "", kind: str = "string", **more: Any) -> Any:
    return vim.vApp.PropertyInfo(key=0, id=key, type=kind, value=value, **more)


def examined(*properties: Any, policy: str | None = None, product: str = "", **known: Any) -> Examined:
    config = vim.vApp.VmConfigInfo(
        property=list(properties),
        product=[vim.vApp.ProductInfo(key=0, name=product)],
        ipAssignment=vim.vApp.IPAssignmentInfo(ipAllocationPolicy=policy),
        ovfEnvironmentTransport=["com.vmware.guestInfo"],
    )
    given: dict[str, Any] = {"guest": LOST, "power_on": PowerOn("esxi_direct", "high"), **known}
    evidence = Evidence("mail", "vm-1", configured=configured.read(config, running=True), **given)
    values = {"name": "mail", "runtime.powerState": evidence.power_state}
    found = _inventory.Found(vim.VirtualMachine("vm-1"), values, "/DC0/vm/mail", None, None)
    return Examined(found, None, evidence, diagnosis.judge(evidence))


def card(*addresses: str) -> Any:
    return vim.vm.GuestInfo.NicInfo(ipAddress=list(addresses))


def pool(network: str) -> Any:
    association = vim.vApp.IpPool.Association(network=vim.Network(network), networkName=network)
    return vim.vApp.IpPool(networkAssociation=[association])


def risks(one: Examined, values: dict[str, Any] | None = None, pools: list[Any] | None = None) -> dict[str, str]:
    return dict(plan.risks(one, values or {}, [] if pools is None else pools)[0])


@pytest.mark.parametrize(
    ("known", "values", "why"),
    [
        ({}, {}, None),
        ({"power_state": "poweredOff"}, {}, None),
        ({"forked_from": ""}, {}, "it is a fork, "),
        ({"forked_from": "vm-7", "power_state": "poweredOff"}, {}, "it is a fork, "),
        ({}, {"config.ftInfo": vim.vm.FaultToleranceConfigInfo(role=1)}, "it is protected by Fault Tolerance."),
        ({"power_state": "suspended"}, {}, "a power cycle would not help (not_running): "),
        ({"guest": GuestView("cleared", "full"), "power_on": PowerOn("vcenter")}, {}, "would not help (cleared): "),
        ({"guest": GuestView("non_xml", "full")}, {}, "would not help (unknown): "),
        ({}, {"guest.net": [card("192.0.2.10")]}, "it is this vCenter, "),
        ({}, {"guest.hostName": "VCENTER.example.com"}, "it is this vCenter, "),
        ({"product": "VMware vCenter Server Appliance"}, {}, "it is this vCenter, "),
        ({"product": "VMware vCenter Server Appliance"}, {"guest.hostName": "another.example.com"}, None),
    ],
)
def test_refusal(known: dict[str, Any], values: dict[str, Any], why: str | None) -> None:
    found = plan.refusal(examined(**known), values, {"vcenter.example.com", "192.0.2.10"})
    if why is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith("VM mail is left as it is")
        assert why in found


@pytest.mark.parametrize(
    ("one", "address"),
    [
        (prop("ip0", "192.0.2.1", classId="vami", instanceId="VMware_vCenter_Server_Appliance"), "192.0.2.1"),
        (prop("ip0", " 192.0.2.1 ", classId="vami"), "192.0.2.1"),
        (prop("management_ip", "2001:DB8::1"), "2001:db8::1"),
        (prop("guestinfo.ipaddress", "192.0.2.1"), "192.0.2.1"),
        (prop("guestinfo.cis.appliance.net.addr", "192.0.2.1"), "192.0.2.1"),
        (prop("whatever", "192.0.2.1", "ip"), "192.0.2.1"),
        (prop("ip0", "", defaultValue="192.0.2.1"), "192.0.2.1"),
        (prop("ip0", ""), None),
        (prop("ip0", "dhcp"), None),
        (prop("dns_server", "192.0.2.1", "ip"), None),
        (prop("gateway", "192.0.2.1", "ip"), None),
        (prop("netmask0", "255.255.255.0", "ip"), None),
        (prop("ntp.ip", "192.0.2.1"), None),
        (prop("description", "192.0.2.1"), None),
        (prop("zip", "192.0.2.1"), None),
    ],
)
def test_addresses_coming(one: Any, address: str | None) -> None:
    found = plan.addresses_coming(examined(one).evidence.configured.properties)
    assert list(found.values()) == ([] if address is None else [address])


def test_address_change() -> None:
    one = examined(prop("ip0", "192.0.2.1"), prop("ip1", "192.0.2.9"))
    using = {"guest.net": [card("192.0.2.1", "fe80::1", "127.0.0.1"), card()]}
    assert risks(one, using) == {
        plan.ADDRESS_CHANGE: "The VM uses 192.0.2.1 now, and would be told ip1=192.0.2.9.",
    }
    assert risks(one, {"guest.net": [card("192.0.2.9", "192.0.2.1")]}) == {}
    found, notes = plan.risks(one, {"guest.net": [card("fe80::1")]}, [])
    assert found == ()
    assert "The guest tells none of its addresses, so they were not compared with those to be delivered." in notes


@pytest.mark.parametrize(
    ("one", "policy", "needs"),
    [
        (prop("g", "", "expression", defaultValue="${gateway:Lab}"), None, True),
        (prop("g", "", "expression", defaultValue="${vimIp:}"), None, False),
        (prop("g", "", "expression", defaultValue="http://${hostname}"), None, False),
        (prop("ip0", "", "ip:Lab"), "fixedPolicy", True),
        (prop("ip0", "192.0.2.1", "ip:Lab"), "fixedPolicy", False),
        (prop("ip0", "192.0.2.1", "ip:network"), "fixedPolicy", False),
        (prop("ip0", "192.0.2.1", "ip:Lab"), "transientPolicy", True),
        (prop("ip0", "192.0.2.1", "ip:Lab"), "fixedAllocatedPolicy", True),
        (prop("ip0", "", "ip:Lab"), "dhcpPolicy", False),
        (prop("ip0", "", "ip"), "transientPolicy", False),
    ],
)
def test_no_ip_pool(one: Any, policy: str | None, needs: bool) -> None:
    lab = {"network": [vim.Network("network-1")]}
    is_risk = plan.NO_IP_POOL in risks(examined(one, policy=policy), lab, [pool("network-2")])
    assert is_risk == needs
    assert plan.NO_IP_POOL not in risks(examined(one, policy=policy), lab, [pool("network-2"), pool("network-1")])
    found, notes = plan.risks(examined(one, policy=policy), lab, None)
    assert found == ()
    assert any("the IP pools could not be read" in note for note in notes) == needs


def test_suspicion() -> None:
    assert set(risks(examined(guest=GuestView()))) == {plan.GUEST_NOT_SEEN}
    assert risks(examined()) == {}


def test_steps() -> None:
    on = ("power on through vCenter", "wait for VMware Tools", "judge again")
    assert plan.steps(examined(), "guest") == ("shut down the guest", *on)
    assert plan.steps(examined(), "hard") == ("power off hard", *on)
    assert plan.steps(examined(power_state="poweredOff"), "guest") == on


def test_facts() -> None:
    one = plan.Plan(("a",), (plan.Risk("address_change", "Why."), plan.Risk("no_ip_pool", "Why.")), ("note",))
    assert one.facts(["no_ip_pool"]) == {
        "steps": ["a"],
        "risks": [
            {"name": "address_change", "message": "Why.", "accepted": False},
            {"name": "no_ip_pool", "message": "Why.", "accepted": True},
        ],
        "notes": ["note"],
    }


def test_what_the_check_finds() -> None:
    running, store = vim.fault.InvalidPowerState(), vim.fault.InaccessibleDatastore()
    assert plan.check_errors([vim.vm.check.Result(error=[running, store]), vim.vm.check.Result()]) == [store]
