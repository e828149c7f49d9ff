# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Obstacles to a power cycle, and the risks to accept first: every row of both tables."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, diagnosis, plan
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence, Extracted, GuestView, Iso
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.examine import Examined
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import PowerOn

MOID = "vm-42"
VCENTER = ("vc.example.com", "198.51.100.1")


def prop(key: str, value: str = "", kind: str = "string", **more: Any) -> Any:
    return vim.vApp.PropertyInfo(key=0, id=key, type=kind, value=value, **more)


def examined(
    *properties: Any,
    policy: str | None = None,
    protocol: str | None = None,
    product: str = "",
    transport: str = "com.vmware.guestInfo",
    vapps: tuple[str, ...] = (),
    **known: Any,
) -> Examined:
    """Return a VM that is known to have lost its OVF environment, unless other evidence is given."""
    config = vim.vApp.VmConfigInfo(
        property=list(properties) or [prop("motd", "hello")],
        product=[vim.vApp.ProductInfo(key=0, name=product)],
        ipAssignment=vim.vApp.IPAssignmentInfo(ipAllocationPolicy=policy, ipProtocol=protocol),
        ovfEnvironmentTransport=[transport],
    )
    given: dict[str, Any] = {
        "guest": GuestView("no_value", "exit_code"),
        "power_on": PowerOn("esxi_direct", "high"),
        **known,
    }
    read = configured.read(config, [(name, None) for name in vapps], running=True, mask=Mask())
    evidence = Evidence("web", MOID, configured=read, **given)
    found = _inventory.Found(vim.VirtualMachine(MOID), {"name": "web"}, "/DC0/vm/web", None, None)
    return Examined(found, None, evidence, diagnosis.judge(evidence))


def layout(*chains: int) -> Any:
    """Return disks with chains of these numbers of files."""
    info = vim.vm.FileLayoutEx
    disks = [info.DiskLayout(chain=[info.DiskUnit(fileKey=[key]) for key in range(files)]) for files in chains]
    return info(disk=disks)


RUNNING = {
    "runtime.powerState": "poweredOn",
    "guest.toolsRunningStatus": "guestToolsRunning",
    "layoutEx": layout(1),
}
OFF = {"runtime.powerState": "poweredOff", "guest.toolsRunningStatus": "guestToolsNotRunning"}


def case(vm: Examined | None = None, values: dict[str, Any] | None = None, **more: Any) -> plan.Case:
    """Return a case in which nothing prevents a power cycle, unless other values are given."""
    vm = vm or examined()
    now = {**(RUNNING if vm.evidence.power_state == "poweredOn" else OFF), **(values or {})}
    return plan.Case(vm, {path: value for path, value in now.items() if value is not None}, vcenter=VCENTER, **more)


def card(*addresses: str) -> Any:
    return vim.vm.GuestInfo.NicInfo(connected=True, deviceConfigId=4000, ipAddress=list(addresses))


def disk(mode: str) -> Any:
    return vim.vm.device.VirtualDisk(
        key=2000,
        deviceInfo=vim.Description(label="Hard disk 1", summary=""),
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode=mode),
    )


def pool(*networks: str, enabled: bool | None = True, gateway: str = "192.0.2.1", **more: Any) -> Any:
    """Return an IP pool whose associations may lack the network itself."""
    return vim.vApp.IpPool(
        networkAssociation=[vim.vApp.IpPool.Association(networkName=network) for network in networks],
        ipv4Config=vim.vApp.IpPool.IpPoolConfigInfo(
            ipPoolEnabled=enabled, gateway=gateway, netmask="255.255.255.0", subnetAddress="192.0.2.0"
        ),
        ipv6Config=vim.vApp.IpPool.IpPoolConfigInfo(ipPoolEnabled=False),
        **more,
    )


APPLIANCE = "VMware vCenter Server Appliance"
SUSPICION = GuestView()
OFF_BEFORE: dict[str, Any] = {"power_state": "poweredOff", "guest": SUSPICION}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (case(values={"config.template": True}), ": it is a template"),
        (case(is_fork=True), ": it is a fork, "),
        (case(examined(forked_from="vm-7")), ": it is a fork, "),
        (case(values={"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=True)}), ": it is a fork parent"),
        (case(values={"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentForkGroupId="g")}), ": it is a fork parent"),
        (case(values={"runtime.quiescedForkParent": True}), ": it is a fork parent"),
        (case(values={"runtime.instantCloneFrozen": True}), ": it is a fork parent"),
        (case(values={"config.ftInfo": vim.vm.FaultToleranceConfigInfo(role=1)}), ": it is protected by Fault"),
        (case(values={"guest.hostName": "VC.example.com"}), ": it runs this vCenter"),
        (case(values={"guest.net": [card("198.51.100.1")]}), ": it runs this vCenter"),
        (case(examined(product=APPLIANCE)), ": it runs this vCenter"),
        (case(examined(guest=GuestView("cleared", "full"))), ", since a power cycle would not help (unknown): "),
        (case(examined(power_state="suspended")), ", since a power cycle would not help (not_running): "),
        (case(values=OFF), "changed from poweredOn to poweredOff"),
        (case(values={"runtime.powerState": "suspended"}), "from poweredOn to suspended"),
        (case(values={"runtime.powerState": None}), "from poweredOn to not visible"),
        (case(examined(**OFF_BEFORE), RUNNING), "changed from poweredOff to poweredOn"),
        (
            case(examined(transport="ISO", **OFF_BEFORE)),
            ": its OVF environment is delivered by CD-ROM, and it has no CD-ROM drive.",
        ),
        (case(values={"guest.toolsRunningStatus": "guestToolsNotRunning"}), ": VMware Tools is not running"),
    ],
)
def test_refusals(given: plan.Case, sentence: str) -> None:
    message = plan.refusal(given)
    assert message is not None
    assert message.startswith("VM web is left unchanged")
    assert sentence in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    "given",
    [
        case(),
        case(values={"guest.toolsRunningStatus": "guestToolsNotRunning"}, shutdown="hard"),
        case(examined(**OFF_BEFORE)),
        # It has no children that depend on its memory then.
        case(examined(**OFF_BEFORE), {"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=True)}),
        case(values={"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=False, childType="none")}),
        case(values={"runtime.quiescedForkParent": False, "runtime.instantCloneFrozen": False}),
        case(examined(product=APPLIANCE), {"guest.net": [card("198.51.100.2")]}),
        case(examined(transport="iso", iso=Iso(cdrom_present=True), **OFF_BEFORE)),
    ],
)
def test_accepted(given: plan.Case) -> None:
    assert plan.refusal(given) is None


FOREIGN = Document(origin="vcenter", vcenter_id="vm-7")
OWN = Document(origin="vcenter", vcenter_id=MOID)
REVERT = vim.vm.FlagInfo(snapshotPowerOffBehavior="revert")
GATEWAY = prop("gateway", "", "expression", defaultValue="${gateway:Lab}")


@pytest.mark.parametrize(
    ("given", "name", "sentence"),
    [
        (
            case(examined(guest=SUSPICION)),
            "guest_not_seen",
            "has medium confidence, because its guest was not probed",
        ),
        (
            case(examined(guest=GuestView("login_failed", "exit_code"))),
            "guest_not_seen",
            "although its guest was probed.",
        ),
        (
            case(examined(transport="iso", iso=Iso(cdrom_present=True))),
            "guest_not_seen",
            "The verdict lost has medium confidence",
        ),
        (case(examined(power_on=PowerOn("vcenter", "high"))), "contradictory", "Another power-on may not help"),
        (case(examined(extracted=Extracted("ok", FOREIGN))), "foreign_id", "contains another VM's ID (vm-7)."),
        (
            case(examined(power_on=PowerOn(reason="events_aged_out")), {"layoutEx": layout(1, 2)}),
            "may_be_fork",
            "its disks are deltas. It may be an Instant Clone or fork created by another tool",
        ),
        (
            case(examined(power_on=PowerOn("host_system", "medium")), {"layoutEx": None}),
            "may_be_fork",
            "its disks are not visible.",
        ),
        (case(values={"config.hardware.device": [disk("independent_nonpersistent")]}), "data_loss", "to Hard disk 1."),
        (case(values={"config.flags": REVERT}), "data_loss", "reverts it to its snapshot"),
        (
            case(examined(prop("ip0", "192.0.2.7", classId="vami")), {"guest.net": [card("192.0.2.8", "fe80::1")]}),
            "address_change",
            "The VM uses 192.0.2.8 now, and would receive vami.ip0=192.0.2.7.",
        ),
        (
            case(
                examined(prop("password_ip", "192.0.2.7"), prop("ip1", "192.0.2.9")), {"guest.net": [card("192.0.2.8")]}
            ),
            "address_change",
            "The VM uses 192.0.2.8 now, and would receive ip1=192.0.2.9, password_ip=********.",
        ),
        (
            case(examined(prop("mgmtIp", "192.0.2.7/24")), {"guest.net": [card("192.0.2.8")]}),
            "address_change",
            "would receive mgmtIp=192.0.2.7.",
        ),
        (
            case(examined(GATEWAY), pools=[pool()]),
            "no_ip_pool",
            "vCenter may refuse to power on the VM, because it cannot compute gateway (network Lab has no IP pool).",
        ),
        (
            case(examined(GATEWAY, prop("n", "", "expression", defaultValue="${netmask:Lab}")), pools=[]),
            "no_ip_pool",
            "cannot compute gateway (network Lab has no IP pool), n (network Lab has no IP pool).",
        ),
    ],
)
def test_risks(given: plan.Case, name: str, sentence: str) -> None:
    assert plan.refusal(given) is None
    (risk,) = plan.risks(given)
    assert risk.name == name
    assert sentence in risk.message


@pytest.mark.parametrize("view", [GuestView("xml", "full", document=FOREIGN), GuestView("xml", bears_id="other")])
def test_document_of_another_vm(view: GuestView) -> None:
    """It is a risk whatever the verdict is."""
    assert "foreign_id" in [risk.name for risk in plan.risks(case(examined(guest=view)))]


@pytest.mark.parametrize(
    "given",
    [
        case(),
        # A host's user or HA powers a VM on but does not fork it; and a fork has no complete disk of its own.
        case(values={"layoutEx": layout(2)}),
        case(examined(power_on=PowerOn("ha_restart", "high")), {"layoutEx": layout(2)}),
        case(examined(power_on=PowerOn(reason="events_aged_out"))),
        case(examined(power_on=PowerOn(reason="events_aged_out")), {"layoutEx": layout()}),
        case(examined(extracted=Extracted("ok", OWN))),
        case(values={"config.hardware.device": [disk("persistent")], "config.flags": vim.vm.FlagInfo()}),
        case(examined(prop("ip0", "192.0.2.8/24"), prop("dns", "192.0.2.9")), {"guest.net": [card("192.0.2.8")]}),
        # The address of the guest is unknown.
        case(examined(prop("ip0", "192.0.2.8")), {"guest.net": [card("127.0.0.1", "::1", "fe80::1")]}),
        case(examined(GATEWAY), pools=[pool("Lab")]),
        # Risks of the power-off do not apply to a VM that is off.
        case(
            examined(extracted=Extracted("ok", FOREIGN), **OFF_BEFORE),
            {"config.hardware.device": [disk("nonpersistent")], "config.flags": REVERT},
        ),
    ],
)
def test_no_risk(given: plan.Case) -> None:
    assert plan.refusal(given) is None
    assert plan.risks(given) == ()


@pytest.mark.parametrize(
    ("info", "address"),
    [
        (prop("ip0", "192.0.2.1", classId="vami", instanceId="VMware_vCenter_Server_Appliance"), "192.0.2.1"),
        (prop("ip0", " 192.0.2.1 ", classId="vami"), "192.0.2.1"),
        (prop("management_ip", "2001:DB8::1"), "2001:db8::1"),
        (prop("guestinfo.ipaddress", "192.0.2.1"), "192.0.2.1"),
        (prop("guestinfo.cis.appliance.net.addr", "192.0.2.1"), "192.0.2.1"),
        (prop("guestinfo.interface.0.ip.0.address", "192.0.2.77/24"), "192.0.2.77"),
        (prop("ip0", "192.0.2.77/255.255.255.0"), "192.0.2.77"),
        (prop("ip0", "192.0.2.0/31"), "192.0.2.0"),
        (prop("ip0", "2001:DB8::1/64"), "2001:db8::1"),
        (prop("managementIP", "192.0.2.1"), "192.0.2.1"),
        (prop("mgmtIp", "192.0.2.1"), "192.0.2.1"),
        (prop("mgmtIPv4Address", "192.0.2.1"), "192.0.2.1"),
        (prop("IPAddress", "192.0.2.1"), "192.0.2.1"),
        (prop("IPaddr", "192.0.2.1"), "192.0.2.1"),
        (prop("eth0Ip4", "192.0.2.1"), "192.0.2.1"),
        (prop("nsx_ip_0", "192.0.2.1"), "192.0.2.1"),
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
        (prop("ip0", "0.0.0.0"), None),
        (prop("ip0", "::0"), None),
        # The address of a network, and unassigned addresses.
        (prop("ip_network", "192.0.2.0/24"), None),
        (prop("clusterIpCidr", "10.96.0.0/12"), None),
        (prop("guestinfo.docker_network_cidr", "172.17.0.1/16"), None),
        (prop("podCIDR", "10.244.0.1/16"), None),
        (prop("netmaskIp", "255.255.255.0"), None),
        (prop("subnetAddress", "192.0.2.0"), None),
        (prop("broadcastAddress", "192.0.2.255"), None),
        # Addresses of others.
        (prop("gatewayIP", "192.0.2.1"), None),
        (prop("guestinfo.interface.0.route.0.gateway.address", "192.0.2.1"), None),
        (prop("ip_gw", "192.0.2.1"), None),
        (prop("ip.defaultgw", "192.0.2.1"), None),
        (prop("defaultGwIp", "192.0.2.1"), None),
        (prop("dnsIP", "192.0.2.1"), None),
        (prop("primaryDNSAddress", "192.0.2.1"), None),
        (prop("ntpServerIp", "192.0.2.1"), None),
    ],
)
def test_addresses_to_receive(info: Any, address: str | None) -> None:
    found = plan.addresses_coming(examined(info).evidence.configured.properties)
    assert list(found.values()) == ([] if address is None else [address])


def lab_expression(what: str, value: str = "") -> Any:
    return prop("x", value, "expression", defaultValue=f"${{{what}}}")


def lacking(info: Any, pools: list[Any] | None, policy: str | None = None, protocol: str | None = None) -> str | None:
    """Return what the IP pool lacks according to the only possible risk."""
    found = plan.risks(case(examined(info, policy=policy, protocol=protocol), pools=pools))
    assert {risk.name for risk in found} <= {"no_ip_pool"}
    return found[0].message.partition(" (network Lab ")[2].removesuffix(").") if found else None


@pytest.mark.parametrize(
    ("info", "policy", "needs"),
    [
        (lab_expression("gateway:Lab"), None, True),
        (lab_expression("dns:Lab"), None, True),
        (lab_expression("autoIp:Lab"), None, True),
        (lab_expression("vimIp:"), None, False),
        (lab_expression("net:Lab"), None, False),
        (lab_expression("hostname"), None, False),
        (prop("ip0", "", "ip:Lab"), "fixedPolicy", True),
        (prop("ip0", "192.0.2.1", "ip:Lab"), "fixedPolicy", False),
        (prop("ip0", "192.0.2.1", "ip:Lab"), "transientPolicy", True),
        (prop("ip0", "192.0.2.1", "ip:Lab"), "fixedAllocatedPolicy", True),
        (prop("ip0", "", "ip:Lab"), "dhcpPolicy", False),
        (prop("ip0", "192.0.2.1", "ip"), "transientPolicy", False),
    ],
)
def test_no_ip_pool(info: Any, policy: str | None, needs: bool) -> None:
    """The pool must belong to the network that the property names, whatever networks the VM is on."""
    other = pool("DMZ", "Lab 2")
    assert lacking(info, [other], policy) == ("has no IP pool" if needs else None)
    assert lacking(info, [other, pool("Prod", "Lab")], policy) is None
    assert lacking(info, None, policy) is None


@pytest.mark.parametrize("name", ["A/B", "A%2fB"])
@pytest.mark.parametrize("stored", ["A/B", "A%2FB"])
def test_network_with_a_slash(name: str, stored: str) -> None:
    assert lacking(lab_expression(f"gateway:{name}"), [pool(stored)]) is None


@pytest.mark.parametrize(
    ("info", "found", "why"),
    [
        (lab_expression("gateway:Lab"), pool("Lab", gateway=""), "has an IP pool without a gateway"),
        (lab_expression("netmask:Lab"), pool("Lab", gateway=""), None),
        (lab_expression("domainName:Lab"), pool("Lab"), None),  # may be empty
        # A pool that is not enabled provides everything except addresses.
        (lab_expression("gateway:Lab"), pool("Lab", enabled=False), None),
        (lab_expression("ip:Lab"), pool("Lab", enabled=False), "has an IP pool that is not enabled"),
        (prop("ip0", "", "ip:Lab"), pool("Lab", enabled=False), "has an IP pool that is not enabled"),
        (prop("ip0", "", "ip:Lab"), pool("Lab", enabled=None), None),
        (prop("ip0", "", "ip:Lab"), pool("Lab", availableIpv4Addresses=0), "has an IP pool without a free address"),
        (prop("ip0", "", "ip:Lab"), pool("Lab", availableIpv4Addresses=1), None),
        # An address that the VM has is returned to the pool first, or kept.
        (prop("ip0", "192.0.2.7", "ip:Lab"), pool("Lab", availableIpv4Addresses=0), None),
        (lab_expression("autoIp:Lab", "192.0.2.7"), pool("Lab", availableIpv4Addresses=0), None),
    ],
)
def test_insufficient_pool(info: Any, found: Any, why: str | None) -> None:
    assert lacking(info, [found], "transientPolicy") == why


def test_pool_of_the_other_protocol() -> None:
    info, lab = lab_expression("autoIp:Lab"), pool("Lab", availableIpv4Addresses=9, availableIpv6Addresses=0)
    assert lacking(info, [lab], protocol="IPv4") is None
    assert lacking(info, [lab], protocol="IPv6") == "has an IP pool that is not enabled"
    lab.ipv6Config.ipPoolEnabled = True
    assert lacking(info, [lab], protocol="IPv6") == "has an IP pool without a free address"
    assert lacking(lab_expression("gateway:Lab"), [lab], protocol="IPv6") == "has an IP pool without a gateway"


def test_manual_address_needs_no_pool() -> None:
    """The pool of a network with manually assigned addresses does not have to be enabled."""
    assert lacking(prop("ip0", "", "ip:Lab"), [pool("Lab", enabled=False)], "fixedPolicy") is None


REQUIRED = "vCenter refuses to power on the VM while required properties have no value: "


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        (prop("ip0", "", "ip", classId="vami"), "vami.ip0 (ip)."),
        (prop("name", "", "string(1..)"), "name (string(1..))."),
        (prop("name", "", "string(3..8)"), "name (string(3..8))."),
        (prop("size", "", 'string["small", "large"]'), 'size (string["small", "large"]).'),
        (prop("vlan", "", "int(1..4094)"), "vlan (int(1..4094))."),
        (prop("enabled", "", "boolean"), "enabled (boolean)."),
        (prop("ip0", "", "ip", defaultValue="192.0.2.1"), None),
        (prop("name", "x", "string(1..)"), None),
        (prop("name", "", "string"), None),
        (prop("name", "", "string(..8)"), None),
        (prop("name", "", "string(0..8)"), None),
        # Values that vCenter computes, and values that it never returns.
        (prop("ip0", "", "ip:Lab"), None),
        (prop("ip0", "", "expression", defaultValue="${ip:Lab}"), None),
        (prop("code", "", "password(8..)"), None),
    ],
)
@pytest.mark.parametrize("is_on", [True, False])
def test_required_properties_without_a_value(info: Any, sentence: str | None, is_on: bool) -> None:
    """They are named before the VM is powered off, because it could not be powered on again."""
    looked = examined(info, **({} if is_on else OFF_BEFORE))
    found = [risk.message for risk in plan.risks(case(looked, {} if is_on else OFF)) if risk.name == "required_empty"]
    assert found == ([REQUIRED + sentence] if sentence else [])
    assert ("no value" in looked.diagnosis.message) == (sentence is not None and not is_on)


def test_weak_verdicts() -> None:
    """Only a guest probe or vCenter's record of what it delivered justifies a power cycle without acceptance."""
    strong = {row.number for row in diagnosis.ROWS if row.remedy == diagnosis.POWER_CYCLE and row.confidence == "high"}
    assert strong == {"7f", "7i", "9a", "9b", "15", "16", "17"}


@pytest.mark.parametrize(
    ("given", "note"),
    [
        (case(examined(prop("ip0", "192.0.2.7"))), "The guest does not report its addresses"),
        (case(examined(GATEWAY)), "the IP pools could not be read: gateway."),
        (case(examined(vapps=("Shop", "Site"))), "It is in the vApp Shop. Only this VM is power-cycled"),
        (
            case(values={"config.managedBy": vim.ext.ManagedByInfo(extensionKey="com.example", type="appliance")}),
            "It is managed by the extension com.example",
        ),
    ],
)
def test_notes(given: plan.Case, note: str) -> None:
    assert note in " ".join(plan.make(given).notes)
    assert note not in " ".join(plan.make(case()).notes)


def test_steps() -> None:
    rest = ("power on through vCenter", "wait for VMware Tools", "judge again")
    assert plan.steps(case()) == ("shut down the guest", *rest)
    assert plan.steps(case(shutdown="hard")) == ("power off the VM hard", *rest)
    assert plan.steps(case(examined(**OFF_BEFORE))) == rest


@pytest.mark.parametrize(
    ("host", "tasks", "message"),
    [
        ({"runtime.inMaintenanceMode": True}, [], "is in maintenance mode"),
        ({}, [{"info.descriptionId": "HostSystem.enterMaintenanceMode", "info.state": "running"}], "is entering"),
        ({}, [{"info.descriptionId": "HostSystem.enterMaintenanceMode", "info.state": "success"}], None),
        ({"runtime.inMaintenanceMode": False}, [{"info.descriptionId": "x", "info.state": "running"}], None),
    ],
)
def test_maintenance(host: dict[str, Any], tasks: list[dict[str, Any]], message: str | None) -> None:
    found = plan.maintenance(host, tasks)
    assert found is None if message is None else message in str(found)


def test_facts() -> None:
    risky = plan.Plan(("a",), (plan.Risk("address_change", "Why."), plan.Risk("no_ip_pool", "Why.")), ("note",))
    assert risky.facts(["no_ip_pool"]) == {
        "steps": ["a"],
        "risks": [
            {"name": "address_change", "message": "Why.", "accepted": False},
            {"name": "no_ip_pool", "message": "Why.", "accepted": True},
        ],
        "notes": ["note"],
    }


OBSTACLES = [
    vim.fault.InaccessibleDatastore(),
    vim.fault.OvfConsumerPowerOnFault(),
    vim.fault.InvalidDatastoreState(),
    vim.fault.InvalidHostConnectionState(),
    vim.fault.EncryptionKeyRequired(),
    vim.fault.VmPowerOnDisabled(),
    vim.fault.QuestionPending(),
    vim.fault.NoActiveHostInCluster(),
]


def test_findings_of_the_check() -> None:
    """All findings count, except that a VM to be powered off is running; many obstacles are an InvalidState."""
    running = [vim.fault.InvalidPowerState(), vim.fault.InvalidState()]
    results = [vim.vm.check.Result(error=[*running, *OBSTACLES[:3]]), vim.vm.check.Result(error=OBSTACLES[3:])]
    assert plan.check_errors(results, is_on=True) == OBSTACLES
    assert plan.check_errors(results, is_on=False) == [*running, *OBSTACLES]
    assert plan.check_errors([vim.vm.check.Result()], is_on=True) == []
