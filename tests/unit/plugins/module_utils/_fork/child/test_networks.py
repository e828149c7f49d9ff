# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Device changes from the network adapters of a task."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._errors import BadInput
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.networks import Network

CARD = vim.vm.device.VirtualEthernetCard
MAC = "00:50:56:01:02:03"
LAB = CARD.NetworkBackingInfo(deviceName="lab")


def on_port_group(key: str = "dvportgroup-1", port: str | None = None) -> Any:
    connection = vim.dvs.PortConnection(switchUuid="switch", portgroupKey=key, portKey=port, connectionCookie=7)
    return CARD.DistributedVirtualPortBackingInfo(port=connection)


def adapter(number: int, kind: Any = vim.vm.device.VirtualVmxnet3, connected: bool = True, **more: Any) -> Any:
    given = {
        "key": 3999 + number,
        "deviceInfo": vim.Description(label=f"Network adapter {number}", summary=""),
        "backing": CARD.NetworkBackingInfo(deviceName="home"),
        "addressType": "assigned",
        "macAddress": f"00:50:56:80:00:{number:02x}",
        "externalId": "attached",
        "connectable": vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=connected, connected=connected, allowGuestControl=False
        ),
    }
    return kind(**{**given, **more})


def vm(*cards: Any, power: str = "poweredOn") -> dict[str, Any]:
    other = vim.vm.device.VirtualDisk(key=2000)
    return {"config.hardware.device": [other, *cards], "runtime.powerState": power}


PARENT = vm(adapter(1), adapter(2, vim.vm.device.VirtualE1000, backing=on_port_group(port="17")))


# --- options ----------------------------------------------------------------------------------------------------------


def test_empty_entry_means_the_adapter_at_its_position() -> None:
    assert networks.wanted([{}, {"network": "lab"}]) == (Network(1), Network(2, network="lab"))
    assert networks.wanted(None) == networks.wanted([]) == ()


@pytest.mark.parametrize(
    ("mac", "refused"),
    [
        ("00:50:56:00:00:01", False),
        ("00:50:56:3f:ff:ff", False),
        ("00:50:56:40:00:00", True),
        ("00-50-56-90-00-01", True),
        ("00:50:56:FF:FF:FF", True),
        ("00:0C:29:12:34:56", True),
        ("00:0c:28:12:34:56", False),
        ("02:00:00:00:00:01", False),
    ],
)
def test_reserved_mac_addresses(mac: str, refused: bool) -> None:
    if refused:
        with pytest.raises(BadInput, match="a range that vSphere assigns automatically"):
            networks.check_against_parent("golden", vm(adapter(1)), networks.wanted([{"mac_address": mac}]))
    else:
        networks.check_against_parent("golden", vm(adapter(1)), networks.wanted([{"mac_address": mac}]))


@given(st.binary(min_size=6, max_size=6), st.sampled_from(":-"), st.booleans())
def test_mac_addresses(address: bytes, between: str, upper: bool) -> None:
    text = address.hex(between)
    entry = [{"mac_address": text.upper() if upper else text}]
    if address[0] & 1 or not any(address):
        with pytest.raises(BadInput, match=r"multicast|not the address of an adapter"):
            networks.wanted(entry)
    else:
        assert networks.wanted(entry)[0].mac_address == address.hex(":")


@pytest.mark.parametrize(
    "text",
    [
        "005056010203",
        "00:50:56:01:02",
        "00:50:56:01:02:03:04",
        "00:50:56-01-02-03",
        "00:50:56:01:02:0g",
        "0:50:56:1:2:3",
        " 00:50:56:01:02:03",
        "00:50:56:01:02:03\n",
        "41135085296",  # YAML reads 52:54:00:12:34:56 without quotes as this number
    ],
)
def test_invalid_mac_addresses(text: str) -> None:
    with pytest.raises(BadInput, match="is not a MAC address"):
        networks.wanted([{"mac_address": text}])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"label": ""}], "label is empty"),
        ([{"network": " "}], "network is empty"),
        ([{"mac_address": ""}], "mac_address is empty"),
        ([{"label": "Network adapter 1"}, {"label": "Network adapter 1"}], "the label Network adapter 1 occurs twice"),
    ],
)
def test_refused(entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        networks.wanted(entries)


def test_mac_address_is_used_by_one_adapter_only() -> None:
    first, second = Network(1, mac_address="00:50:56:01:02:03"), Network(2, mac_address="00:50:56:01:02:04")
    networks.check_mac_addresses({"web-01": [first], "web-02": [second, Network(3), Network(4)]})
    for twice in ({"web-01": [first], "web-02": [second, first]}, {"web-02": [first, first]}):
        with pytest.raises(
            BadInput, match=r"00:50:56:01:02:03 is assigned to two adapters, of child .* and of child web-02"
        ):
            networks.check_mac_addresses(twice)


# --- the parent's adapters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"label": "ethernet9"}], "networks: VM golden has no network adapter labeled ethernet9."),
        ([{}, {}, {}], "networks: VM golden has no network adapter number 3."),
        ([{"label": "Network adapter 2"}, {}], "networks names Network adapter 2 twice"),
    ],
)
def test_labels_that_the_parent_lacks(entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        networks.check_against_parent("golden", PARENT, networks.wanted(entries))
    assert message in refusal.value.sentence
    if "It has" in refusal.value.sentence:
        assert refusal.value.sentence.endswith("It has: Network adapter 1, Network adapter 2.")


def test_parent_without_adapters() -> None:
    networks.check_against_parent("golden", vm(), ())
    with pytest.raises(BadInput, match="It has: none"):
        networks.check_against_parent("golden", vm(), networks.wanted([{}]))


@pytest.mark.parametrize(
    "entries", [[{}, {}], [{"label": "Network adapter 2"}, {"label": "Network adapter 1"}], [{}], []]
)
def test_labels_that_the_parent_has(entries: list[dict[str, Any]]) -> None:
    networks.check_against_parent("golden", PARENT, networks.wanted(entries))


@pytest.mark.parametrize("text", ["00:50:56:80:00:01", "00-50-56-80-00-02", "00:50:56:AB:00:03"])
def test_mac_address_of_the_parent_is_refused(text: str) -> None:
    parent = vm(adapter(1), adapter(2), adapter(3, macAddress="00:50:56:Ab:00:03"))
    with pytest.raises(BadInput, match=f"is the MAC address of Network adapter {text[-1]} of VM golden"):
        networks.check_against_parent("golden", parent, networks.wanted([{"mac_address": text}]))


def changes(*entries: dict[str, Any], parent: dict[str, Any] | None = None) -> list[Any]:
    specs = networks.device_changes(parent or PARENT, networks.wanted(entries), {"lab": LAB})
    assert all(spec.operation == "edit" for spec in specs)
    return [spec.device for spec in specs]


def test_other_adapters_are_left_to_the_server() -> None:
    assert changes() == []
    assert [adapter.key for adapter in changes({"label": "Network adapter 2"})] == [4001]


def test_change_of_network_and_mac_address() -> None:
    (changed,) = changes({"network": "lab", "mac_address": "00:50:56:01:02:03"})
    assert changed.__class__.__name__.endswith("VirtualVmxnet3")
    assert (changed.key, changed.backing.deviceName) == (4000, "lab")
    assert (changed.addressType, changed.macAddress) == ("manual", "00:50:56:01:02:03")
    # Properties of the parent's adapter alone are not copied.
    assert changed.externalId is None


def test_default_is_the_parents_network_with_another_port() -> None:
    (changed,) = changes({"label": "Network adapter 2"})
    assert changed.__class__.__name__.endswith("VirtualE1000")
    assert (changed.addressType, changed.macAddress) == ("assigned", None)
    port = changed.backing.port
    assert (port.switchUuid, port.portgroupKey) == ("switch", "dvportgroup-1")
    assert (port.portKey, port.connectionCookie) == (None, None)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("connect", "connected"), [("at_clone", True), ("after_post_clone", False), ("never", False)])
def test_connection_at_creation(connect: str, connected: bool, before: bool) -> None:
    (changed,) = changes({"connect": connect}, parent=vm(adapter(1, connected=before)))
    now = changed.connectable
    assert (now.connected, now.startConnected, now.allowGuestControl) == (connected, connected, False)
    assert now.migrateConnect == ("connect" if connected else "disconnect")


def test_manual_mac_address_of_the_parent_is_replaced() -> None:
    (changed,) = changes(parent=vm(adapter(1, addressType="manual"), adapter(2)))
    assert (changed.key, changed.addressType, changed.macAddress) == (4000, "assigned", None)
    assert (changed.backing.deviceName, changed.connectable) == ("home", None)


def test_parents_devices_are_left_unchanged() -> None:
    before = str(PARENT["config.hardware.device"])
    changes({"network": "lab", "connect": "never"}, {})
    assert str(PARENT["config.hardware.device"]) == before


@pytest.mark.parametrize(
    ("entries", "keys"),
    [
        ([], {"dvportgroup-1": 1}),
        ([{"network": "lab"}, {"connect": "never"}], {"dvportgroup-1": 1}),
        ([{"network": "new"}], {"dvportgroup-1": 1, "dvportgroup-2": 1}),
        ([{"network": "new"}, {"network": "new"}], {"dvportgroup-2": 2}),
        ([{"network": "lab"}, {"network": "lab"}], {}),
    ],
)
def test_port_groups_of_a_child(entries: list[dict[str, Any]], keys: dict[str, int]) -> None:
    found = {"lab": LAB, "new": on_port_group("dvportgroup-2")}
    assert networks.landing(PARENT, networks.wanted(entries), found) == keys


# --- a child's adapters -----------------------------------------------------------------------------------------------


def differences(card: Any, **entry: str) -> list[str]:
    shown = {"lab": [LAB], "dv": [on_port_group()], "opaque": [OPAQUE, on_port_group("dvportgroup-9")]}
    return networks.differences(vm(card), networks.wanted([entry]), shown)


OPAQUE = CARD.OpaqueNetworkBackingInfo(opaqueNetworkId="segment-1", opaqueNetworkType="nsx.LogicalSwitch")
OTHER = CARD.OpaqueNetworkBackingInfo(opaqueNetworkId="segment-2", opaqueNetworkType="nsx.LogicalSwitch")


@pytest.mark.parametrize(
    ("network", "backing", "is_same"),
    [
        ("lab", CARD.NetworkBackingInfo(deviceName="lab"), True),
        ("lab", CARD.NetworkBackingInfo(deviceName="home"), False),
        ("lab", on_port_group(), False),
        ("dv", on_port_group(port="17"), True),
        ("dv", on_port_group("dvportgroup-2"), False),
        ("dv", LAB, False),
        ("opaque", OPAQUE, True),
        ("opaque", OTHER, False),
        ("opaque", on_port_group("dvportgroup-9", port="4"), True),
        ("opaque", on_port_group("dvportgroup-8"), False),
    ],
)
def test_network_of_a_new_child(network: str, backing: Any, is_same: bool) -> None:
    message = [] if is_same else [f"Network adapter 1 is not on the network {network}"]
    assert differences(adapter(1, backing=backing), network=network) == message


@pytest.mark.parametrize(("moid", "is_same"), [("network-1", True), ("network-2", False)])
def test_network_is_compared_by_its_object_if_known(moid: str, is_same: bool) -> None:
    asked = CARD.NetworkBackingInfo(deviceName="a/b", network=vim.Network("network-1"))
    card = adapter(1, backing=CARD.NetworkBackingInfo(deviceName="a%2fb", network=vim.Network(moid)))
    assert (networks.differences(vm(card), networks.wanted([{"network": "x"}]), {"x": [asked]}) == []) is is_same


@pytest.mark.parametrize("connect", networks.CONNECT)
@pytest.mark.parametrize("connected", [True, False])
def test_connection_of_a_new_child(connect: str, connected: bool) -> None:
    message = ["Network adapter 1 is connected and may answer to the parent's address"]
    assert differences(adapter(1, connected=connected), connect=connect) == (
        message if connected and connect != "at_clone" else []
    )


def test_mac_address_of_a_new_child() -> None:
    assert differences(adapter(1, macAddress="00:50:56:AB:00:01"), mac_address="00-50-56-ab-00-01") == []
    assert differences(adapter(1), mac_address=MAC) == ["Network adapter 1 has the MAC address 00:50:56:80:00:01"]
    assert differences(adapter(1)) == []


def test_missing_adapter_of_a_new_child() -> None:
    assert networks.differences({}, networks.wanted([{}]), {}) == ["it has no network adapter 1"]


LATE = networks.wanted([{"connect": "never"}, {"connect": "after_post_clone"}, {"connect": "after_post_clone"}])


@pytest.mark.parametrize(
    ("connected", "started", "power", "is_late"),
    [
        (False, False, "poweredOn", True),
        (False, True, "poweredOn", True),
        (True, True, "poweredOn", False),
        (True, False, "poweredOn", False),
        (False, True, "poweredOff", False),
        (False, False, "poweredOff", True),
    ],
)
def test_adapters_to_connect(connected: bool, started: bool, power: str, is_late: bool) -> None:
    now = vim.vm.device.VirtualDevice.ConnectInfo(startConnected=started, connected=connected, allowGuestControl=True)
    child = vm(adapter(1, connected=False), adapter(2, connectable=now), power=power)
    assert networks.labels(networks.disconnected(child, LATE)) == ("Network adapter 2" if is_late else "")


def test_adapters_without_connection_info_are_not_connected() -> None:
    child = vm(adapter(1), adapter(2, connectable=None))
    assert len(networks.disconnected(child, LATE)) == 1
    (change,) = networks.connection(networks.disconnected(child, LATE)).deviceChange
    assert change.device.connectable.connected


def test_connecting_changes_nothing_else() -> None:
    card = adapter(2, connected=False, backing=on_port_group(port="17"))
    (change,) = networks.connection([card]).deviceChange
    assert change.operation == "edit"
    assert (change.device.key, change.device.macAddress, change.device.backing.port.portKey) == (
        4001,
        card.macAddress,
        "17",
    )
    now = change.device.connectable
    assert (now.connected, now.startConnected, now.allowGuestControl) == (True, True, False)
    assert card.connectable.connected is False
