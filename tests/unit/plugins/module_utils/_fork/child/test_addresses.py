# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that children cannot have because another VM has them."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._errors import BadInput
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import addresses
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.networks import Network
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec

CARD = vim.vm.device.VirtualEthernetCard
LAB, DMZ = vim.Network("network-1"), vim.Network("network-2")
MAC, PARENTS_MAC = "00:50:56:01:02:03", "00:50:56:00:00:01"


def backing(network: Any) -> Any:
    return CARD.NetworkBackingInfo(deviceName="name", network=network)


def port_group(key: str) -> Any:
    return CARD.DistributedVirtualPortBackingInfo(port=vim.dvs.PortConnection(switchUuid="s", portgroupKey=key))


def vm(name: str, address: str | None, *networks: Any, mac: str = "") -> dict[str, Any]:
    cards = [vim.vm.device.VirtualVmxnet3(key=4000, macAddress=mac, backing=backing(network)) for network in networks]
    return {"name": name, "guest.ipAddress": address, "network": list(networks), "config.hardware.device": cards}


PARENT = {
    **vm("golden", "192.0.2.1", LAB, mac=PARENTS_MAC),
    "guest.net": [SimpleNamespace(macAddress=PARENTS_MAC, ipAddress=["192.0.2.1", "2001:db8::1", "fe80::1"])],
}


def child(name: str = "web", *networks: Network, **params: str) -> ChildSpec:
    return ChildSpec(name, {key.replace("__", "."): value for key, value in params.items()}, networks=networks)


@pytest.mark.parametrize(
    "key",
    [
        "ipaddress",
        "IPAddress",
        "ip_address",
        "ip",
        "ip0",
        "ipaddr",
        "ipv4_address",
        "ipv6address",
        "address",
        "ip0.address",
        "eth0.ip",
        "guestinfo.ic.ipaddress",
        "guestinfo.fork.ip0.address",
        "guestinfo.ipaddress",
    ],
)
def test_keys_of_public_scripts(key: str) -> None:
    assert list(addresses.addresses(ChildSpec("web", {key: "192.0.2.5"}))) == [ipaddress.ip_address("192.0.2.5")]


@pytest.mark.parametrize("key", ["gateway", "dns", "netmask", "ntp", "hostname", "ip0.gateway", "vipaddress"])
def test_keys_of_other_hosts(key: str) -> None:
    assert addresses.addresses(ChildSpec("web", {key: "192.0.2.5"})) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.5/24", ["192.0.2.5"]),
        (" 192.0.2.5 ", ["192.0.2.5"]),
        ("2001:DB8:0::5/64", ["2001:db8::5"]),
        ("[2001:db8::5]", ["2001:db8::5"]),
        ("fe80::5%eth0", ["fe80::5"]),
        ("::ffff:192.0.2.5", ["192.0.2.5"]),
        ("192.0.2.5,192.0.2.6", ["192.0.2.5", "192.0.2.6"]),
        ("dhcp", []),
        ("", []),
        ("0.0.0.0", []),
        ("192.0.2.500", []),
    ],
)
def test_values(text: str, expected: list[str]) -> None:
    assert [str(address) for address in addresses.addresses(child(ipaddress=text))] == expected


FIRST = Network(1, network="lab")


@pytest.mark.parametrize(
    ("children", "network", "message"),
    [
        ([child("a", ipaddress="192.0.2.5"), child("b", ipaddress="192.0.2.5")], None, "to both child a and child b"),
        ([child("a", ip0__address="192.0.2.5/24"), child("b", ipaddress="192.0.2.5")], None, "to both child a and"),
        ([child("a", ipaddress="2001:db8::5"), child("b", ipaddress="2001:DB8:0:0::5")], None, "to both child a and"),
        ([child("a", FIRST, ip="192.0.2.5"), child("b", FIRST, ip="192.0.2.5")], None, "to both child a and"),
        (
            [child("a", Network(1, connect="after_post_clone"), ip="192.0.2.5"), child("b", ip="192.0.2.5")],
            None,
            "child a",
        ),
        ([child(ipaddress="198.51.100.5")], "192.0.2.0/24", "192.0.2.0/24. Correct the address or ip_network"),
        ([child(ipaddress="2001:db9::5")], "2001:db8::/64", "is outside ip_network"),
        ([child(ipaddress="192.0.2.0")], "192.0.2.0/24", "network or broadcast address"),
        ([child(ipaddress="192.0.2.255")], "192.0.2.0/24", "network or broadcast address"),
    ],
)
def test_refused_before_a_login(children: list[ChildSpec], network: str | None, message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        addresses.check(children, ipaddress.ip_network(network) if network else None)
    assert message in refusal.value.sentence


@pytest.mark.parametrize(
    ("children", "network"),
    [
        ([child("a", ipaddress="192.0.2.5"), child("b", ipaddress="192.0.2.6")], "192.0.2.0/24"),
        # Two isolated networks: a fenced test bed.
        ([child("a", FIRST, ip="192.0.2.5"), child("b", Network(1, network="dmz"), ip="192.0.2.5")], None),
        ([child(ip0__address="192.0.2.5", ip1__address="198.51.100.5")], "192.0.2.0/24"),
        ([child(ipaddress="2001:db8::5")], "192.0.2.0/24"),
        ([child(ipaddress="2001:db8::ffff:ffff:ffff:ffff")], "2001:db8::/64"),
        ([child(ipaddress="192.0.2.4")], "192.0.2.4/31"),
        ([child(ipaddress="dhcp"), child("b", ipaddress="dhcp")], "192.0.2.0/24"),
    ],
)
def test_not_refused_before_a_login(children: list[ChildSpec], network: str | None) -> None:
    addresses.check(children, ipaddress.ip_network(network) if network else None)


SHOWN = {
    "lab": [backing(LAB)],
    "dmz": [backing(DMZ)],
    "dvs": [port_group("dvportgroup-9")],
    "opaque": [None],
    "segment": [None, port_group("dvportgroup-9")],
}


@pytest.mark.parametrize(
    ("wanted", "others", "refused", "warned"),
    [
        (child(ipaddress="192.0.2.1"), [], "the parent, VM golden has the address 192.0.2.1", False),
        (child(ipaddress="2001:db8::1"), [], "the parent, VM golden", False),
        (child("web", Network(1, network="dmz"), ipaddress="192.0.2.1"), [], None, False),
        (child("web", Network(1, connect="never"), ipaddress="192.0.2.1"), [], None, False),
        (child("web", Network(1, network="opaque"), ipaddress="192.0.2.1"), [], None, True),
        (child(ipaddress="192.0.2.7"), [vm("db", "192.0.2.7", LAB)], "VM db (vm-0) has the address 192.0.2.7", False),
        (child(ipaddress="192.0.2.7"), [vm("a%2fb", "192.0.2.7", DMZ, LAB)], "VM a/b (vm-0)", False),
        (child(ipaddress="192.0.2.7"), [vm("db", "192.0.2.7", DMZ)], None, False),
        (child(ipaddress="192.0.2.7"), [vm("db", "192.0.2.7")], None, True),
        (child(ipaddress="192.0.2.7"), [vm("db", None, LAB)], None, False),
        (child(), [vm("db", "192.0.2.7", LAB)], None, False),
        (child("web", Network(1, mac_address=MAC)), [vm("db", None, LAB, mac=MAC)], f"the MAC address {MAC}", False),
        (child("web", Network(1, mac_address=MAC)), [vm("db", None, LAB, mac=MAC.upper())], "VM db (vm-0)", False),
        (child("web", Network(1, mac_address=MAC)), [vm("db", None, DMZ, mac=MAC)], None, False),
        (child("web", Network(1, mac_address=MAC)), [vm("db", None, None, mac=MAC)], None, True),
        (
            child("web", Network(1, network="dvs"), ipaddress="192.0.2.7"),
            [vm("db", "192.0.2.7", vim.dvs.DistributedVirtualPortgroup("dvportgroup-9"))],
            "VM db (vm-0)",
            False,
        ),
        (
            child("web", Network(1, network="segment"), ipaddress="192.0.2.7"),
            [vm("db", "192.0.2.7", vim.dvs.DistributedVirtualPortgroup("dvportgroup-9"))],
            "VM db (vm-0)",
            False,
        ),
    ],
)
def test_addresses_of_others(
    wanted: ChildSpec, others: list[dict[str, Any]], refused: str | None, warned: bool
) -> None:
    everyone = {vim.VirtualMachine(f"vm-{number}"): values for number, values in enumerate(others)}
    for values in others:
        values["network"] = [network for network in values["network"] if network is not None]
    found = addresses.conflicts("golden", PARENT, [wanted], everyone, SHOWN)
    assert bool(found.warnings) is warned
    assert bool(found.refused) is (refused is not None)
    assert refused is None or refused in found.refused[0]


OTHER_MAC = "00:50:56:00:00:02"


def nic(mac: str, *found: str, device: int | None = 4000) -> Any:
    """Return what VMware Tools report about one interface."""
    return SimpleNamespace(macAddress=mac, ipAddress=list(found), deviceConfigId=device)


def router(*nics: Any, cards: bool = True) -> dict[str, Any]:
    """Return a VM on two networks; VMware Tools report its address on the second one as the address of the VM."""
    adapters = [
        vim.vm.device.VirtualVmxnet3(key=4000, macAddress=MAC.upper(), backing=backing(LAB)),
        vim.vm.device.VirtualVmxnet3(key=4001, macAddress=OTHER_MAC, backing=backing(DMZ)),
    ]
    devices = {"config.hardware.device": adapters} if cards else {}
    return {
        "name": "router",
        "guest.ipAddress": "198.51.100.9",
        "guest.net": list(nics),
        "network": [LAB, DMZ],
        **devices,
    }


IN_LAB, IN_DMZ = child(ipaddress="192.0.2.7"), child("web", Network(1, network="dmz"), ipaddress="192.0.2.7")


PARTLY = {**vm("db", "192.0.2.7", LAB, None), "guest.net": [nic("", "192.0.2.7")]}
for number, card in enumerate(PARTLY["config.hardware.device"]):
    card.macAddress = f"00:50:56:00:01:0{number}"


@pytest.mark.parametrize(
    ("wanted", "other", "refused", "warned"),
    [
        pytest.param(IN_LAB, router(nic(MAC, "fe80::1", "192.0.2.7")), True, False, id="further address"),
        pytest.param(IN_DMZ, router(nic(MAC, "192.0.2.7")), False, False, id="on another adapter's network"),
        pytest.param(IN_DMZ, router(nic(OTHER_MAC, "192.0.2.7")), True, False, id="second adapter"),
        pytest.param(child(ipaddress="2001:db8::7"), router(nic(MAC, "2001:DB8:0::7")), True, False, id="IPv6"),
        pytest.param(IN_LAB, router(nic(MAC, "192.0.2.7"), cards=False), True, False, id="adapters not visible"),
        pytest.param(IN_LAB, router(nic("02:42:00:00:00:01", "192.0.2.7", device=-1)), False, True, id="no adapter's"),
        pytest.param(IN_LAB, router(nic("", "192.0.2.7", device=None)), True, False, id="no MAC address"),
        pytest.param(IN_DMZ, PARTLY, False, True, id="no MAC address, and the network of an adapter is not known"),
        pytest.param(IN_LAB, {"name": "db", "guest.ipAddress": "192.0.2.7"}, False, True, id="networks not visible"),
        pytest.param(IN_LAB, router(SimpleNamespace(macAddress=None, ipAddress=None)), False, False, id="no address"),
        pytest.param(IN_LAB, router(nic(MAC, "no address")), False, False, id="text"),
        pytest.param(child(ipaddress="198.51.100.9"), router(), True, False, id="main address alone"),
        pytest.param(
            child(ipaddress="198.51.100.9"), router(nic(OTHER_MAC, "198.51.100.9")), False, False, id="main elsewhere"
        ),
        pytest.param(
            child("web", Network(1, network="dmz"), ipaddress="198.51.100.9"),
            router(nic(OTHER_MAC, "198.51.100.9")),
            True,
            False,
            id="main address",
        ),
    ],
)
def test_every_address_of_others(wanted: ChildSpec, other: dict[str, Any], refused: bool, warned: bool) -> None:
    """Each address counts on the network of its own adapter."""
    found = addresses.conflicts("golden", PARENT, [wanted], {vim.VirtualMachine("vm-9"): other}, SHOWN)
    assert (bool(found.refused), bool(found.warnings)) == (refused, warned)


def test_adapters_are_read_only_from_vms_with_an_address() -> None:
    first, second, third = (vim.VirtualMachine(f"vm-{number}") for number in range(3))
    everyone = {first: vm("db", "192.0.2.7", LAB), second: router(nic(MAC, "192.0.2.8")), third: vm("x", None, LAB)}
    assert addresses.suspects([IN_LAB, child("b", ipaddress="192.0.2.8")], everyone) == [first, second]
    assert addresses.suspects([child()], everyone) == []


def test_reads_only_what_it_needs() -> None:
    with_mac, with_address = child("a", Network(1, mac_address=MAC)), child("b", ipaddress="192.0.2.7")
    assert addresses.paths([child("c", Network(1, network="lab"), gateway="192.0.2.1")]) == []
    assert addresses.paths([with_address]) == ["guest.ipAddress", "guest.net", "network"]
    assert addresses.paths([with_mac]) == ["config.hardware.device"]


HIDDEN = "192.0.2.77"


@pytest.mark.parametrize("secret_first", [True, False])
def test_address_in_a_secret_of_two_children(secret_first: bool) -> None:
    """Naming the plain address would show the secret."""
    children = [ChildSpec("a", {}, {"ip0.address": HIDDEN}), ChildSpec("b", {"ipaddress": HIDDEN})]
    with pytest.raises(BadInput) as raised:
        addresses.check(children if secret_first else children[::-1], None)
    assert "The address of secret_config_params.ip0.address is assigned to both child" in str(raised.value)
    assert HIDDEN not in str(raised.value)


def test_address_in_a_secret_is_compared_but_not_shown() -> None:
    wanted = ChildSpec("web", {}, {"ipaddress": HIDDEN})
    assert addresses.paths([wanted])
    with pytest.raises(BadInput) as raised:
        addresses.check([wanted], ipaddress.ip_network("198.51.100.0/24"))
    assert "Child web: the address of secret_config_params.ipaddress is outside ip_network" in str(raised.value)
    assert HIDDEN not in str(raised.value)
    others = {vim.VirtualMachine("vm-9"): vm("other", HIDDEN, LAB)}
    found = addresses.conflicts("golden", PARENT, [wanted], others, {})
    (refused,) = found.refused
    assert "VM other (vm-9) has the address of secret_config_params.ipaddress on the same network" in refused
    assert HIDDEN not in refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ipaddress", "192.0.2.300"),
        ("ipaddress", "192.0.2.010"),
        ("ipaddress", "192.0.2.1/33"),
        ("guestinfo.fork.ipaddress", "192.0.2.300"),
        ("ip0.address", "192.0.2.1 192.0.2.256"),
        ("netmask", "255.255.255.300"),
        ("netmask", "255.0.255.0"),
        ("gateway", "192.0.2.256"),
    ],
)
def test_invalid_address_is_refused(key: str, value: str) -> None:
    with pytest.raises(BadInput, match=rf"Child web: {key} .*is not a valid IPv4") as refusal:
        addresses.check([ChildSpec("web", {key: value})], None)
    assert value.split()[-1] in refusal.value.sentence
    with pytest.raises(BadInput, match=rf"secret_config_params\.{key} is not a valid") as refusal:
        addresses.check([ChildSpec("web", {}, {key: value})], None)
    assert value not in refusal.value.sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ipaddress", "dhcp"),
        ("ipaddress", "192.0.2.1/24"),
        ("ipaddress", "2001:db8::1"),
        ("ipaddress", "0.0.0.0"),
        ("ipaddress", ""),
        ("netmask", "24"),
        ("netmask", "255.255.254.0"),
        ("gateway", "none"),
        ("version", "1.2.3.400"),
        ("mac_address", "00:50:56:00:00:01"),
    ],
)
def test_value_that_may_be_valid_is_kept(key: str, value: str) -> None:
    addresses.check([ChildSpec("web", {key: value})], None)
    assert addresses.addresses(ChildSpec("web", {key: value})) == (
        {}
        if addresses.parse(value) is None or key != "ipaddress" or value == "0.0.0.0"
        else {addresses.parse(value): value}
    )
