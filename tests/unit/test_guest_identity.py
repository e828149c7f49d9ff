# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity script for Linux guests, in guests laid out like several distributions."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import time
import typing as t

import pytest
from unit.guest_identity import distributions
from unit.guest_identity.distributions import CASES, PARENT_ID, STATIC, Case
from unit.guest_identity.rig import CHILD_MACS, CLOUD_INIT, PARENT_MACS, SCRIPT, SHELLS, Guest, Outcome, refusal, run

from ansible_collections.vmfork.vsphere.plugins.module_utils._errors import BadInput
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity_report import (
    ITEMS,
    ON_REQUEST,
    parse,
    wanted,
)

needs_namespaces = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "root"


def digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def renewed(root: pathlib.Path, guest: Guest, **options: str) -> Outcome:
    """Return a child in which no item failed."""
    outcome = run(root, guest, **options)
    assert (outcome.stderr, outcome.codes) == ("", [0] * (1 + guest.renewals)), outcome.stdout
    return outcome


def with_params(guest: Guest, **params: str) -> Guest:
    guest.params.update({name.replace("__", "."): value for name, value in params.items()})
    return guest


# --- Distributions ----------------------------------------------------------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize(
    ("case", "shell"),
    [
        pytest.param(case, shell, id=f"{case.distribution}-{case.stack}-{shell}")
        for case in CASES
        for shell in case.shells
    ],
)
def test_child_is_somebody_else(root: pathlib.Path, case: Case, shell: str) -> None:
    guest = case.guest()
    guest.params.update(STATIC)
    outcome = renewed(root, guest, shell=shell)
    name = guest.names[0]
    assert outcome.items == {item: "absent" if item in case.absent else "ok" for item in ITEMS}
    assert set(outcome.reasons) == set(case.absent)
    assert outcome.addresses(name) == ["192.0.2.11/24", "2001:db8::11/64"]
    assert outcome.routes() == [
        f"2001:db8:ffff::/48 via 2001:db8::fe dev {name}",
        f"203.0.113.0/24 via 192.0.2.254 dev {name}",
        f"default via 192.0.2.1 dev {name}",
        f"default via 2001:db8::1 dev {name}",
    ]
    assert outcome.mac(name) == CHILD_MACS[0]
    assert outcome.read("/out/hostname") == outcome.read("/etc/hostname") == "web-01\n"
    assert "127.0.1.1 web-01.example.com web-01\n" in outcome.read("/etc/hosts")
    assert "golden" not in outcome.read("/etc/hosts")
    assert_nothing_is_the_parents(outcome)


def assert_nothing_is_the_parents(outcome: Outcome) -> None:
    """Compare the child with its parent, by their reports and by their files."""
    parent = outcome.read("/out/parent-report")
    assert parent.startswith("parent 1 items:- ")
    old_key = " ".join(outcome.read("/out/parent-etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    new_key = " ".join(outcome.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    report = parse(parent, "parent").report
    assert report
    assert report.ssh_host_keys == (old_key,)
    assert outcome.keys == [new_key] != [old_key]
    if outcome.exists("/etc/machine-id"):
        machine_id = outcome.read("/etc/machine-id")
        assert re.fullmatch("[0-9a-f]{32}\n", machine_id)
        assert outcome.parsed.machine_id == digest(machine_id) != digest(PARENT_ID) == report.machine_id
    left = [path for path in (outcome.root / "etc").rglob("*") if path.is_file() and names_the_parent(path)]
    assert left == []


def names_the_parent(path: pathlib.Path) -> bool:
    text = path.read_text().lower()
    return PARENT_MACS[0] in text or PARENT_ID in text


@needs_namespaces
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.distribution}-{case.stack}")
def test_child_without_an_address_asks_for_a_lease(root: pathlib.Path, case: Case) -> None:
    """It gets the lease for its own MAC; the parent's had ended with .16."""
    outcome = renewed(root, with_params(case.guest(), hostname="web-01"))
    assert outcome.addresses(case.guest().names[0]) == ["198.51.100.32/24"]
    assert outcome.items["network"] == "ok"
    assert '"198.51.100.16"' not in outcome.read("/out/parent-addresses")  # removed before the fork point


@needs_namespaces
@pytest.mark.parametrize("case", CASES[::2], ids=lambda case: f"{case.distribution}-{case.stack}")
def test_renewing_twice_is_fine(root: pathlib.Path, case: Case) -> None:
    """As after a child was powered off and on, and resumes at the fork point."""
    guest = case.guest()
    guest.params.update(STATIC)
    guest.renewals = 2
    outcome = renewed(root, guest)
    assert outcome.addresses(guest.names[0]) == ["192.0.2.11/24", "2001:db8::11/64"]
    assert outcome.items["network"] == outcome.items["ssh_host_keys"] == outcome.items["boot_id"] == "ok"


@needs_namespaces
def test_leases_of_the_parent_are_removed(root: pathlib.Path) -> None:
    outcome = renewed(root, distributions.sles_wicked())
    assert not outcome.exists("/var/lib/wicked/duid.xml")
    assert not outcome.exists("/var/lib/wicked/lease-ens192-dhcp-ipv4.xml")


@needs_namespaces
def test_managers_stand_still_between_fork_and_renewal(root: pathlib.Path) -> None:
    """Otherwise each child would ask for the parent's lease again."""
    outcome = renewed(root, distributions.debian_networkd())
    stops = [line for line in outcome.read("/out/parent-record").splitlines() if " stop " in line]
    assert stops == ["systemctl stop systemd-networkd.socket", "systemctl stop systemd-networkd"]
    modprobe = outcome.record.index("modprobe vmxnet3")
    starts = [index for index, line in enumerate(outcome.record) if re.search("start systemd-networkd$", line)]
    assert starts
    assert min(starts) > modprobe


# --- A parent that does not reach its fork point ----------------------------------------------------------------------

STATIC_PARENT = """ip link set ens192 up
ip address add 192.0.2.5/25 brd 192.0.2.99 dev ens192
ip address add 2001:db8::5/64 dev ens192 nodad
ip address add 192.0.2.6/32 dev ens192 valid_lft 900 preferred_lft 800
ip route add 198.51.100.1 dev ens192
ip route add default via 198.51.100.1 dev ens192 metric 50
ip route add 203.0.113.0/24 via 192.0.2.126 dev ens192
ip -6 route add default via 2001:db8::1 dev ens192
"""


@needs_namespaces
@pytest.mark.parametrize("shell", SHELLS)
def test_undone_parent_has_its_network_again(root: pathlib.Path, shell: str) -> None:
    """Its own script or the fork point has failed."""
    outcome = run(root, Guest(before=STATIC_PARENT), shell=shell, action="undo")
    assert '"192.0.2.5"' not in outcome.read("/out/parent-addresses")
    assert (outcome.stdout, outcome.stderr, outcome.codes) == ("", "", [0, 0])
    assert sorted(outcome.addresses()) == ["192.0.2.5/25", "192.0.2.6/32", "2001:db8::5/64"]
    assert outcome.routes() == [
        "203.0.113.0/24 via 192.0.2.126 dev ens192",
        "default via 198.51.100.1 dev ens192",
        "default via 2001:db8::1 dev ens192",
    ]
    addresses = outcome.read("/out/addresses")
    assert ('"192.0.2.99"' in addresses, '"preferred_life_time":4294967295' in addresses) == (True, True)
    assert re.search('"192.0.2.6".*?"valid_life_time":(8[0-9][0-9]|900),', addresses)
    assert outcome.mac() == PARENT_MACS[0]


@needs_namespaces
def test_undone_parent_has_its_services_again(root: pathlib.Path) -> None:
    outcome = run(root, distributions.debian_networkd(), action="undo")
    assert (outcome.stdout, outcome.codes) == ("", [0, 0])
    assert outcome.exists("/services/active/systemd-networkd")
    assert outcome.addresses() == ["198.51.100.16/24"]


@needs_namespaces
def test_dhcp_client_without_a_service_runs_again(root: pathlib.Path) -> None:
    """It keeps its arguments. What was killed is seen by its name."""
    guest = distributions.plain_ip()
    guest.before += (
        "cp /usr/bin/sleep /tools/udhcpc; /tools/udhcpc 1000 & dhcp=$!\n"
        'until [ "$(cat /proc/$dhcp/comm)" = udhcpc ]; do :; done\n'
    )
    guest.between = f"{STUB_OF_DHCP}\nrm -f /record"
    guest.after = "until grep -qs udhcpc /record; do :; done"
    outcome = run(root, guest, action="undo")
    assert (outcome.stdout, outcome.codes) == ("", [0, 0])
    assert "udhcpc 1000" in outcome.record


STUB_OF_DHCP = (
    "rm /tools/udhcpc; printf '#!/bin/sh\\necho udhcpc $* >>/record\\n' >/tools/udhcpc; chmod +x /tools/udhcpc"
)


@needs_namespaces
def test_preparation_that_fails_half_way_is_undone(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    fails = 'case $2 in flush) exit 1 ;; esac; exec /usr/sbin/ip "$@"'
    guest.before += f"rm /tools/ip; printf '%s\\n' '#!/bin/sh' '{fails}' >/tools/ip; chmod 755 /tools/ip\n"
    outcome = run(root, guest, action="undo")
    assert (outcome.codes, outcome.exists("/services/active/systemd-networkd")) == ([90, 0], True)
    assert outcome.addresses() == ["198.51.100.16/24"]


@needs_namespaces
def test_nothing_to_undo(root: pathlib.Path) -> None:
    outcome = run(root, distributions.debian_networkd(), network="none", action="undo")
    assert (outcome.stdout, outcome.codes, outcome.addresses()) == ("", [0, 0], ["198.51.100.16/24"])


@needs_namespaces
def test_service_that_does_not_come_back_is_said(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    guest.between = ": >/services/broken/systemd-networkd"
    outcome = run(root, guest, action="undo")
    assert (outcome.codes, outcome.stdout[:53]) == ([0, 90], "undo: failed: systemd-networkd did not start: Job for")


# --- The network ------------------------------------------------------------------------------------------------------


def two_adapters(**params: str) -> Guest:
    guest = distributions.debian_networkd()
    guest.cables = [True, True]
    return with_params(guest, **params)


@needs_namespaces
def test_each_adapter_has_its_own_params(root: pathlib.Path) -> None:
    outcome = renewed(root, two_adapters(ethernet1__ipaddress="192.0.2.40", ethernet1__netmask="255.255.255.128"))
    assert outcome.addresses("ens192") == ["198.51.100.32/24"]
    assert outcome.addresses("ens224") == ["192.0.2.40/25"]
    assert (outcome.mac("ens192"), outcome.mac("ens224")) == tuple(CHILD_MACS)


@needs_namespaces
def test_adapter_that_does_not_exist_is_an_error(root: pathlib.Path) -> None:
    outcome = run(root, with_params(distributions.debian_networkd(), ethernet1__ipaddress="192.0.2.40"))
    assert (outcome.codes, outcome.reasons["network"]) == ([0, 90], "there is no adapter 1")


@needs_namespaces
def test_adapters_are_numbered_as_in_vsphere(root: pathlib.Path) -> None:
    """The firmware labels them; the order of the PCI devices differs from the fifth adapter on."""
    guest = two_adapters(ipaddress="192.0.2.40", ethernet0__address=CHILD_MACS[1], ethernet1__address=CHILD_MACS[0])
    labels = {"0000:0b:00.0": "Ethernet1", "0000:13:00.0": "Ethernet0"}
    guest.before = "".join(f"echo {label} >/sys/bus/pci/devices/{device}/label\n" for device, label in labels.items())
    outcome = renewed(root, guest, items="adapters,network")
    assert (outcome.addresses("ens192"), outcome.addresses("ens224")) == (["198.51.100.32/24"], ["192.0.2.40/24"])


@needs_namespaces
def test_stack_of_interfaces_is_refused_in_the_parent(root: pathlib.Path) -> None:
    """Its addresses are those of the bridge, which would come up with the parent's."""
    guest = distributions.debian_networkd()
    guest.before += ": >/sys/class/net/ens192/upper_br0\n"
    outcome = run(root, guest)
    assert outcome.codes[0] == 90
    assert "prepare: failed: ens192 is part of br0, whose addresses are not renewed" in outcome.stdout
    assert "stop" not in (outcome.read("/out/parent-record") if outcome.exists("/out/parent-record") else "")


@needs_namespaces
def test_address_of_the_other_family_is_awaited(root: pathlib.Path) -> None:
    """A router advertises a prefix at once, and the DHCP server then assigns the parent's address again."""
    guest = distributions.debian_networkd()
    guest.between = (
        "printf '#!/bin/sh\\nPATH=/usr/sbin:/usr/bin\\nip link set ens192 up\\n"
        "ip address add 2001:db8::5/64 dev ens192 nodad\\n"
        "(sleep 1; ip address add 198.51.100.16/24 dev ens192) >/dev/null 2>&1 &\\n' >/managers"
    )
    outcome = run(root, guest)
    assert "ens192 has the parent's address 198.51.100.16" in outcome.reasons.get("network", "")


@needs_namespaces
def test_mac_of_the_parent_in_netplans_output_is_replaced(root: pathlib.Path) -> None:
    """udev names the adapter by it as soon as it comes back."""
    guest = with_params(distributions.ubuntu_netplan(), ethernet0__address=CHILD_MACS[0])
    link = "/run/systemd/network/10-netplan-ens192.link"
    guest.files[link] = f"[Match]\nPermanentMACAddress={PARENT_MACS[0]}\n\n[Link]\nName=ens192\n"
    assert f"PermanentMACAddress={CHILD_MACS[0]}\n" in renewed(root, guest, items="adapters").read(link)


@needs_namespaces
def test_tabs_in_interfaces(root: pathlib.Path) -> None:
    guest = distributions.debian_ifupdown()
    path = "/etc/network/interfaces"
    guest.files[path] = guest.files[path].replace("iface ens192 inet", "iface\tens192\tinet")
    assert renewed(root, guest).addresses() == ["198.51.100.32/24"]


@needs_namespaces
def test_mac_of_the_host_is_checked(root: pathlib.Path) -> None:
    outcome = run(root, with_params(distributions.debian_networkd(), ethernet0__address="00:50:56:CC:00:30"))
    assert outcome.items["adapters"] == "failed"
    assert outcome.reasons["adapters"] == f"ens192 has the MAC {CHILD_MACS[0]} instead of 00:50:56:cc:00:30"


@needs_namespaces
def test_mac_of_the_parent_is_an_error(root: pathlib.Path) -> None:
    """With Instant Clone, no config param has the MAC of the child."""
    guest = distributions.debian_networkd()
    guest.between = "rm /new-hardware"
    outcome = run(root, guest)
    assert (outcome.codes, outcome.items["adapters"]) == ([0, 90], "failed")
    assert outcome.reasons["adapters"] == f"ens192 has the parent's MAC {PARENT_MACS[0]}"


@needs_namespaces
def test_adapter_that_has_its_mac_is_left_alone(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_networkd(), ethernet0__address=CHILD_MACS[0].upper())
    guest.renewals = 2
    assert renewed(root, guest).record.count("modprobe -r vmxnet3") == 1


@needs_namespaces
def test_driver_that_stays_is_an_error(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    guest.between = "printf '#!/bin/sh\\n' >/tools/modprobe"
    outcome = run(root, guest)
    assert outcome.codes == [0, 90]
    assert outcome.reasons["adapters"] == (
        f"the driver of ens192 did not release it; ens192 has the parent's MAC {PARENT_MACS[0]}"
    )


@needs_namespaces
def test_without_a_cable_there_is_no_lease(root: pathlib.Path) -> None:
    """As with Instant Clone's networks with connect: after_post_clone."""
    guest = distributions.debian_networkd()
    guest.between = "/usr/bin/sed -i s/up$/down/ /new-hardware"
    outcome = renewed(root, guest)
    assert outcome.reasons["network"] == "ens192 has no cable"
    assert outcome.items["network"] == outcome.items["announce"] == "absent"


@needs_namespaces
@pytest.mark.parametrize("make", [distributions.debian_networkd, distributions.rhel_keyfile], ids=["networkd", "NM"])
def test_static_address_needs_no_cable(root: pathlib.Path, make: t.Callable[[], Guest]) -> None:
    guest = with_params(make(), ipaddress="192.0.2.11", gateway="192.0.2.1", dns="192.0.2.53")
    guest.between = "/usr/bin/sed -i s/up$/down/ /new-hardware"
    outcome = renewed(root, guest)
    assert (outcome.items["network"], outcome.addresses()) == ("ok", ["192.0.2.11/24"])


@needs_namespaces
@pytest.mark.parametrize("name", ["gateway", "dns", "routes"])
def test_setting_without_an_address_is_an_error(root: pathlib.Path, name: str) -> None:
    """DHCP would set another value, and nothing would say so."""
    value = "203.0.113.0/24 via 192.0.2.1" if name == "routes" else "192.0.2.1"
    outcome = run(root, with_params(distributions.debian_networkd(), **{name: value}))
    assert outcome.codes == [0, 90]
    assert outcome.reasons["network"] == f"the config param {name} (without ipaddress) is not valid"


@needs_namespaces
def test_dhcp_server_that_does_not_answer_is_an_error(root: pathlib.Path) -> None:
    """The parent had an address, and there is a cable."""
    guest = distributions.debian_networkd()
    guest.between = "printf '#!/bin/sh\\n' >/managers"
    outcome = run(root, guest)
    assert (outcome.codes, outcome.reasons["network"]) == ([0, 90], "ens192 got no address within 2 s")


@needs_namespaces
def test_static_address_of_the_parent_is_an_error(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    guest.files["/etc/systemd/network/80-dhcp.network"] = "[Match]\nName=en*\n\n[Network]\nAddress=192.0.2.5/24\n"
    outcome = run(root, guest)
    assert outcome.codes == [0, 90]
    assert outcome.reasons["network"] == (
        "ens192 has the parent's address 192.0.2.5; set ipaddress, or use DHCP with a pool without this address"
    )


@needs_namespaces
def test_address_that_does_not_appear_is_an_error(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_networkd(), ipaddress="192.0.2.11")
    guest.between = "printf '#!/bin/sh\\n' >/managers"
    outcome = run(root, guest)
    assert outcome.codes == [0, 90]
    assert outcome.reasons["network"] == "ens192 does not have the address 192.0.2.11/24"


@needs_namespaces
def test_network_none_touches_no_network(root: pathlib.Path) -> None:
    """For users whose own script does it."""
    outcome = renewed(root, with_params(distributions.debian_networkd(), ipaddress="192.0.2.11"), network="none")
    assert {outcome.reasons[item] for item in ("leases", "adapters", "network")} == {"switched off"}
    assert not outcome.exists("/etc/systemd/network/05-vmfork-ethernet0.network")
    assert "stop" not in outcome.read("/out/parent-record")
    assert (outcome.addresses(), outcome.mac()) == (["198.51.100.16/24"], PARENT_MACS[0])
    assert not re.search("modprobe|stop", "\n".join(outcome.record))


@needs_namespaces
def test_network_none_needs_a_parent_that_has_its_network(root: pathlib.Path) -> None:
    outcome = run(root, with_params(distributions.debian_networkd(), vmfork__network="none"), items="hostname,network")
    assert outcome.codes == [0, 90]
    assert outcome.reasons["network"] == "the network was taken down in the parent; set it to none there, too"


@needs_namespaces
@pytest.mark.parametrize(
    ("parents", "childs", "renewed_items"),
    [
        ("leases", "", "leases network"),
        ("leases,announce", "", "leases network announce"),
        ("adapters", "", "adapters network"),
        ("leases,adapters,machine_id", "", "leases adapters network machine_id"),
        ("auto", "machine_id", "network machine_id"),
        ("machine_id", "", "machine_id"),
    ],
)
def test_network_that_was_taken_down_is_brought_up_again(
    root: pathlib.Path, parents: str, childs: str, renewed_items: str
) -> None:
    """Even if the item network is not among the items."""
    guest = with_params(distributions.plain_ip(), ipaddress="192.0.2.11", vmfork__identity=childs)
    guest.tools.append("arping")
    outcome = renewed(root, guest, items=parents)
    assert list(outcome.items.items()) == [(item, "ok") for item in renewed_items.split()]
    assert outcome.addresses() == ["192.0.2.11/24" if "network" in outcome.items else "198.51.100.16/24"]


STATIC_IFUPDOWN = "auto ens192\niface ens192 inet manual\n    up ip address replace 192.0.2.5/24 dev ens192\n"


@needs_namespaces
@pytest.mark.parametrize("items", ["leases", "adapters", "auto"])
@pytest.mark.parametrize("cable", [True, False])
def test_static_address_of_the_parent_is_an_error_for_any_items(root: pathlib.Path, items: str, cable: bool) -> None:
    guest = distributions.debian_ifupdown()
    guest.files["/etc/network/interfaces"] = STATIC_IFUPDOWN
    guest.cables = [cable]
    outcome = run(root, guest, items=items)
    assert (outcome.codes, outcome.items["network"]) == ([0, 90], "failed")
    assert "ens192 has the parent's address 192.0.2.5; " in outcome.reasons["network"]


@needs_namespaces
@pytest.mark.parametrize("shell", SHELLS)
def test_address_that_another_machine_has_is_an_error(root: pathlib.Path, shell: str) -> None:
    guest = with_params(distributions.plain_ip(), ipaddress="2001:db8::11")
    guest.files["/detects-duplicates"] = ""
    guest.between = (
        "cp /plug /real-plug; printf '%s\\n' '#!/bin/sh' /real-plug "
        "'/usr/sbin/ip address add 2001:db8::11/64 dev cable-ens192 nodad' >/plug"
    )
    outcome = run(root, guest, shell=shell, items="adapters,network")
    assert outcome.codes == [0, 90]
    assert outcome.reasons["network"] == (
        "ens192 does not have the address 2001:db8::11/64 for itself: another machine has it, too"
    )


@needs_namespaces
@pytest.mark.parametrize("cable", [True, False])
def test_address_is_effective_before_it_is_confirmed(root: pathlib.Path, cable: bool) -> None:
    """The kernel first asks whether another machine has it, unless there is no cable."""
    guest = with_params(distributions.plain_ip(), ipaddress="2001:db8::11")
    guest.files["/detects-duplicates"] = ""
    guest.cables = [cable]
    outcome = renewed(root, guest, items="adapters,network")
    found = [entry for link in json.loads(outcome.read("/out/addresses")) for entry in link["addr_info"]]
    own = [entry.get("tentative", False) for entry in found if entry["local"] == "2001:db8::11"]
    assert own == [not cable]


@needs_namespaces
def test_stack_that_is_named_is_used(root: pathlib.Path) -> None:
    guest = with_params(distributions.rhel_keyfile(), ipaddress="192.0.2.11", vmfork__network="ip")
    outcome = renewed(root, guest)
    assert outcome.addresses() == ["192.0.2.11/24"]
    assert not outcome.exists("/etc/NetworkManager/system-connections/vmfork-ethernet0.nmconnection")


@needs_namespaces
def test_files_of_an_earlier_generation_go(root: pathlib.Path) -> None:
    """The parent is a child itself; its own child uses DHCP."""
    guest = distributions.debian_networkd()
    guest.files["/etc/systemd/network/05-vmfork-ethernet0.network"] = (
        f"[Match]\nMACAddress={PARENT_MACS[0]}\n\n[Network]\nAddress=192.0.2.5/24\n"
    )
    assert renewed(root, guest).addresses() == ["198.51.100.32/24"]


@needs_namespaces
def test_ifcfg_without_networkmanager_is_refused(root: pathlib.Path) -> None:
    """It would bring back the parent's address at the next boot."""
    guest = with_params(distributions.plain_ip(), ipaddress="192.0.2.11")
    guest.files["/etc/sysconfig/network-scripts/ifcfg-ens192"] = "BOOTPROTO=none\nIPADDR=192.0.2.5\n"
    outcome = run(root, guest)
    assert (outcome.codes, outcome.items["network"]) == ([0, 90], "failed")
    assert "ifcfg-ens192 would bring back the parent's network at the next boot" in outcome.reasons["network"]


@needs_namespaces
def test_dns_servers_of_all_adapters_on_sles(root: pathlib.Path) -> None:
    guest = distributions.sles_wicked()
    guest.cables = [True, True]
    guest.files["/etc/sysconfig/network/ifcfg-ens224"] = "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"
    with_params(guest, ipaddress="192.0.2.11", dns="192.0.2.53", search="example.com")
    with_params(guest, ethernet1__ipaddress="198.51.100.11", ethernet1__dns="198.51.100.53")
    config = renewed(root, guest).read("/etc/sysconfig/network/config")
    assert 'NETCONFIG_DNS_STATIC_SERVERS="192.0.2.53 198.51.100.53"\n' in config
    assert 'NETCONFIG_DNS_STATIC_SEARCHLIST="example.com"\n' in config


HOTPLUG = """
mv /tools/modprobe /tools/modprobe-of-the-guest
printf '%s\\n' '#!/bin/sh' '/tools/modprobe-of-the-guest "$@"' '[ "$1" != -r ] || exit 0' 'PATH=/usr/sbin:/usr/bin' \\
  '[ -e /services/masked/ifup@ens192 ] || ip address add 192.0.2.5/24 dev ens192' \\
  'ip -o address show dev ens192 >>/out/hotplug' >/tools/modprobe
chmod 755 /tools/modprobe
"""


@needs_namespaces
def test_adapter_that_comes_back_does_not_get_the_parents_address(root: pathlib.Path) -> None:
    """On Debian, udev starts ifup@ens192 as soon as the driver is loaded, while the stanza is still the parent's."""
    guest = distributions.debian_ifupdown()
    guest.between = HOTPLUG
    outcome = renewed(root, with_params(guest, ipaddress="192.0.2.11"))
    assert "192.0.2.5" not in outcome.read("/out/hotplug")
    assert not outcome.exists("/services/masked/ifup@ens192")


# --- What is not about addresses stays --------------------------------------------------------------------------------


@needs_namespaces
def test_options_of_a_stanza_are_kept(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_ifupdown(), ipaddress="192.0.2.11", gateway="192.0.2.1")
    guest.renewals = 2
    guest.files["/etc/network/interfaces"] = (
        "auto ens192\niface ens192 inet static\n\taddress 192.0.2.5/24\n\tgateway 192.0.2.1\n\tmetric 50\n\tmtu 1400\n"
        "\tpost-up touch /out/post-up\n\tdns-nameservers 192.0.2.9\niface ens192 inet6 auto\n\tmtu 1400\n"
    )
    guest.before = guest.before.replace("/managers ifupdown ens192", "ip address add 192.0.2.5/24 dev ens192")
    stanza = renewed(root, guest).read("/etc/network/interfaces")
    lines = [line.strip() for line in stanza.splitlines()]
    assert {line: lines.count(line) for line in ("metric 50", "mtu 1400", "post-up touch /out/post-up")} == {
        "metric 50": 1,
        "mtu 1400": 1,
        "post-up touch /out/post-up": 1,
    }
    assert sum("route replace 0.0.0.0/0 via 192.0.2.1 dev ens192 metric 50" in line for line in lines) == 1
    assert ("192.0.2.5" in stanza, "192.0.2.9" in stanza) == (False, False)


NMCLI = """
mv /tools/nmcli /tools/nmcli-of-the-guest
printf '%s\\n' '#!/bin/sh' 'case "$*" in' '"-g GENERAL.CON-UUID device show ens192") echo 4c6f;;' \\
  '"-g connection.zone connection show uuid 4c6f") echo public;;' \\
  '"-g 802-3-ethernet.mtu connection show uuid 4c6f") echo 1400;;' \\
  '"-g ipv4.route-metric connection show uuid 4c6f") echo 50;;' \\
  '"-g ipv6.route-metric connection show uuid 4c6f") echo -1;;' \\
  '*) exec /tools/nmcli-of-the-guest "$@";;' esac >/tools/nmcli
chmod 755 /tools/nmcli
"""


@needs_namespaces
def test_settings_of_the_profile_are_kept(root: pathlib.Path) -> None:
    guest = with_params(distributions.rhel_ifcfg(), ipaddress="192.0.2.11")
    guest.before += NMCLI
    profile = renewed(root, guest).read("/etc/NetworkManager/system-connections/vmfork-ethernet0.nmconnection")
    sections = {text.splitlines()[0]: text.splitlines()[1:] for text in profile.split("\n\n")}
    assert "zone=public" in sections["[connection]"]
    assert sections["[ethernet]"] == [f"mac-address={CHILD_MACS[0].upper()}", "mtu=1400"]
    assert "route-metric=50" in sections["[ipv4]"]
    assert "metric" not in "".join(sections["[ipv6]"])


@needs_namespaces
def test_variables_of_an_ifcfg_file_are_kept(root: pathlib.Path) -> None:
    guest = with_params(distributions.sles_wicked(), ipaddress="192.0.2.11")
    guest.files["/etc/sysconfig/network/ifcfg-ens192"] += "MTU='1400'\nZONE=public\nIPADDR_2='192.0.2.5/24'\n"
    text = renewed(root, guest).read("/etc/sysconfig/network/ifcfg-ens192")
    assert text == "BOOTPROTO='static'\nSTARTMODE='auto'\nIPADDR_1=192.0.2.11/24\nMTU='1400'\nZONE=public\n"


@needs_namespaces
def test_link_section_is_kept(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_networkd(), ipaddress="192.0.2.11")
    guest.files["/etc/systemd/network/80-dhcp.network"] += f"\n[Link]\nMTUBytes=1400\nMACAddress={PARENT_MACS[0]}\n"
    guest.before += (
        "mkdir -p /run/systemd/netif/links; echo NETWORK_FILE=/etc/systemd/network/80-dhcp.network "
        ">/run/systemd/netif/links/$(cat /sys/class/net/ens192/ifindex)\n"
    )
    text = renewed(root, guest).read("/etc/systemd/network/05-vmfork-ethernet0.network")
    assert "[Link]\nMTUBytes=1400\n\n[Network]\n" in text
    assert (PARENT_MACS[0] in text, "DHCP=yes" in text) == (False, False)


# --- Hostile and odd values -------------------------------------------------------------------------------------------

HOSTILE = [
    "$(touch /pwned)",
    "`touch /pwned`",
    "192.0.2.11; touch /pwned",
    "192.0.2.11\nDNS=6.6.6.6",
    "/*",
    "' \"",
    "-e",
]


@needs_namespaces
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ipaddress", value) for value in HOSTILE),
        *zip(["gateway", "dns", "search", "routes", "netmask"], HOSTILE, strict=False),
        ("search", "example.com\n[Match]"),
        ("routes", "192.0.2.0/24 via"),
        ("ipaddress", "192.0.2.11/33"),
        ("ipaddress", "192.0.2.256"),
        ("netmask", "255.0.255.0"),
        ("ipaddress", "2001:db8::$(touch${IFS}/pwned)"),
        ("gateway", "2001:db8::1;DNS=6.6.6.6"),
    ],
)
def test_hostile_network_param_is_refused(root: pathlib.Path, name: str, value: str) -> None:
    guest = distributions.debian_networkd()
    guest.params = {"ipaddress": "192.0.2.11", name: value}
    outcome = run(root, guest, items="hostname,network")
    assert not outcome.exists("/pwned")
    assert outcome.codes == [0, 90]
    assert name in outcome.reasons["network"]
    assert "6.6.6.6" not in "".join(path.read_text() for path in (root / "etc/systemd/network").iterdir())


@needs_namespaces
@pytest.mark.parametrize("value", [*HOSTILE, "a" * 64, "-web", "web_01", "web..example"])
def test_hostile_host_name_is_refused(root: pathlib.Path, value: str) -> None:
    outcome = run(root, with_params(distributions.debian_networkd(), hostname=value), items="hostname")
    assert (outcome.items, outcome.codes) == ({"hostname": "failed"}, [0, 90])
    assert (outcome.read("/etc/hostname"), outcome.exists("/pwned")) == ("golden\n", False)


@needs_namespaces
@pytest.mark.parametrize("value", [*HOSTILE[:4], "../../etc", "/", "/etc/../root", "/et?", "/etc/", "///etc", "/./etc"])
def test_hostile_agent_is_refused(root: pathlib.Path, value: str) -> None:
    guest = with_params(distributions.debian_networkd(), vmfork__agents_remove=value, vmfork__agents_restart=value)
    outcome = run(root, guest, items="agents")
    assert (outcome.items, outcome.codes) == ({"agents": "failed"}, [0, 90])
    assert (outcome.exists("/pwned"), outcome.exists("/etc/machine-id")) == (False, True)


TOO_GENERAL = [
    *("/etc/*", "/*/hosts", "/etc/ho*", "/usr/lib", "/usr/*/agent", "/var/lib", "/var/lib/*", "/lib/agent", "/proc/1"),
    *("/boot/efi", "etc/hosts", "/etc/../etc/hosts", "/", "/etc", "/etc/", "/etc//hosts", "/var/*/agent/id"),
]
"""Patterns of files that are not those of an agent, or not those that they seem to be."""

SPECIFIC = [
    "/etc/agent",
    "/etc/agent/*",
    "/opt/edr/[a-z]*.id",
    "/usr/lib/agent",
    "/usr/local/agent/*",
    "/var/lib/a/*/id",
]


@needs_namespaces
def test_pattern_that_is_too_general_is_refused(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_networkd(), vmfork__agents_remove="/etc/ho* /etc/.?/etc/hosts")
    outcome = run(root, guest, items="agents")
    assert (outcome.codes, outcome.exists("/etc/hosts")) == ([0, 90], True)
    assert re.findall("vmfork.agents_remove: .*? is too general, or not absolute", outcome.reasons["agents"]) == [
        "vmfork.agents_remove: /etc/ho* is too general, or not absolute",
        "vmfork.agents_remove: /etc/.?/etc/hosts /etc/../etc/hosts is too general, or not absolute",
    ]


@pytest.mark.parametrize("shell", SHELLS.values())
def test_what_agents_remove_may_name(shell: str) -> None:
    """The script and the module agree."""
    function = re.search(r"^is_removable\(\) \{\n.*?^\}$", SCRIPT.read_text(), re.S | re.M)
    assert function
    program = f'set -f\n{function[0]}\nfor pattern in "$@"; do is_removable "$pattern" && echo "$pattern"; done; :'
    ended = subprocess.run(
        [*shell.split(), "-c", program, "sh", *TOO_GENERAL, *SPECIFIC], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == SPECIFIC
    for pattern in TOO_GENERAL:
        with pytest.raises(BadInput, match="is not an absolute path"):
            wanted({"items": None, "network": None, "agents_remove": [pattern], "agents_restart": None})
    option = wanted({"items": None, "network": None, "agents_remove": SPECIFIC, "agents_restart": None})
    assert option
    assert list(option.agents_remove) == SPECIFIC


@needs_namespaces
@pytest.mark.parametrize("nonce", ["", "a b", "$(touch /pwned)", "x\ny"])
def test_odd_nonce_is_not_published(root: pathlib.Path, nonce: str) -> None:
    outcome = run(root, with_params(distributions.debian_networkd(), vmfork__nonce=nonce), items="hostname")
    assert outcome.report.startswith("- 1 items:hostname=absent ")


@needs_namespaces
def test_config_params_take_precedence_over_arguments(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_networkd(), vmfork__identity="machine_id, boot_id")
    assert renewed(root, guest, items="clock").items == {"machine_id": "ok", "boot_id": "ok"}


@needs_namespaces
def test_unknown_item_is_an_error(root: pathlib.Path) -> None:
    """From another version of the collection. It is no name of a function."""
    outcome = run(root, distributions.debian_networkd(), items="item,boot_id")
    assert (outcome.items, outcome.codes) == ({"item": "failed", "boot_id": "ok"}, [0, 90])


# --- Broken guests ----------------------------------------------------------------------------------------------------


@needs_namespaces
def test_read_only_etc(root: pathlib.Path) -> None:
    """What needs /etc fails, the rest is done, and the reasons are published."""
    guest = distributions.debian_networkd()
    guest.params.update(STATIC)
    guest.between = "mount --bind /etc /etc; mount -o remount,bind,ro /etc"
    outcome = run(root, guest)
    assert outcome.codes == [0, 90]
    failed = [item for item, status in outcome.items.items() if status == "failed"]
    assert failed == ["machine_id", "hostname", "network", "ssh_host_keys"]
    assert outcome.reasons["machine_id"].startswith("/etc/machine-id cannot be written")
    assert outcome.items["boot_id"] == outcome.items["adapters"] == "ok"
    assert outcome.keys == [" ".join(outcome.read("/out/parent-etc/ssh/ssh_host_ed25519_key.pub").split()[:2])]
    assert outcome.parsed.machine_id == digest(PARENT_ID)


@needs_namespaces
@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"/etc/machine-id": ""}, "ok"),
        ({"/etc/machine-id": "uninitialized\n"}, "ok"),
        ({"/etc/machine-id": "-> ../var/lib/dbus/machine-id", "/var/lib/dbus/machine-id": PARENT_ID}, "ok"),
        ({"/etc/machine-id": PARENT_ID, "/var/lib/dbus/machine-id": PARENT_ID}, "ok"),
        ({"/etc/machine-id": PARENT_ID, "/var/lib/dbus/machine-id": "-> /etc/machine-id"}, "ok"),
        ({"/var/lib/dbus/machine-id": PARENT_ID}, "ok"),
        ({"/etc/machine-id": "-> nowhere"}, "absent"),
        ({}, "absent"),
    ],
    ids=["empty", "uninitialized", "link", "D-Bus file", "D-Bus link", "D-Bus alone", "dangling", "missing"],
)
def test_machine_id(root: pathlib.Path, files: dict[str, str], status: str) -> None:
    outcome = renewed(root, Guest(files=files), items="machine_id")
    assert outcome.items == {"machine_id": status}
    for path, content in files.items():
        assert (root / path.lstrip("/")).is_symlink() == content.startswith("-> ")
    if status == "ok":
        ids = {outcome.read(path).strip() for path in files if not files[path].startswith("-> /")}
        assert len(ids) == 1
        assert re.fullmatch("[0-9a-f]{32}", next(iter(ids)))
        assert outcome.parsed.machine_id == digest(ids.pop())


@needs_namespaces
def test_keys_remain_without_ssh_keygen(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    guest.tools.remove("ssh-keygen")
    outcome = run(root, guest, items="ssh_host_keys")
    assert outcome.reasons == {"ssh_host_keys": "no ssh-keygen; the parent's keys remain"}
    assert (outcome.codes, len(outcome.keys)) == ([0, 90], 1)


@needs_namespaces
def test_file_that_does_not_keep_what_is_written_is_an_error(root: pathlib.Path) -> None:
    guest = with_params(distributions.debian_networkd(), hostname="web-01")
    guest.files["/etc/hostname"] = "-> /dev/null"
    outcome = run(root, guest, items="hostname")
    assert outcome.reasons == {"hostname": "/etc/hostname does not have what was written to it"}
    assert outcome.codes == [0, 90]


@needs_namespaces
def test_key_that_is_not_new_is_an_error(root: pathlib.Path) -> None:
    """As from a broken random number generator."""
    guest = distributions.debian_networkd()
    guest.before += "cp /etc/ssh/ssh_host_ed25519_key /old; cp /etc/ssh/ssh_host_ed25519_key.pub /old.pub\n"
    generate = 'case $1 in -q) cp /old "$9"; cp /old.pub "$9.pub" ;; *) exec /usr/bin/ssh-keygen "$@" ;; esac'
    guest.between = (
        f"rm /tools/ssh-keygen; printf '%s\\n' '#!/bin/sh' 'PATH=/usr/bin' '{generate}' >/tools/ssh-keygen\n"
        "chmod 755 /tools/ssh-keygen"
    )
    outcome = run(root, guest, items="ssh_host_keys")
    assert outcome.reasons == {"ssh_host_keys": "/etc/ssh/ssh_host_ed25519_key is not a new key"}
    assert outcome.codes == [0, 90]


@needs_namespaces
def test_keys_of_each_type_and_place(root: pathlib.Path) -> None:
    """With a host certificate, which is for the parent's key."""
    guest = distributions.debian_networkd()
    guest.files["/etc/ssh/sshd_config.d/keys.conf"] = 'hostkey "/etc/ssh/other/key"\n'
    guest.files["/etc/ssh/ssh_host_ed25519_key-cert.pub"] = "certificate\n"
    guest.files["/etc/ssh/other"] = "/"
    generate = "/usr/bin/ssh-keygen -q -N '' -C '' "
    guest.before += f"{generate} -t ecdsa -f /etc/ssh/other/key; {generate} -t rsa -f /etc/ssh/ssh_host_rsa_key\n"
    outcome = renewed(root, guest, items="ssh_host_keys")
    old = {
        path.read_text().split()[1] for path in (root / "out/parent-etc/ssh").rglob("*.pub") if "cert" not in path.name
    }
    assert sorted(key.split()[0] for key in outcome.keys) == ["ecdsa-sha2-nistp256", "ssh-ed25519", "ssh-rsa"]
    assert not old & {key.split()[1] for key in outcome.keys}
    assert not outcome.exists("/etc/ssh/ssh_host_ed25519_key-cert.pub")
    assert (root / "etc/ssh/other/key").stat().st_mode & 0o777 == 0o600


@needs_namespaces
def test_key_of_a_type_that_openssh_has_dropped_goes(root: pathlib.Path) -> None:
    """ssh-keygen cannot even read it."""
    guest = distributions.debian_networkd()
    guest.files |= {"/etc/ssh/ssh_host_dsa_key": "unreadable\n", "/etc/ssh/ssh_host_dsa_key.pub": "ssh-dss AAAA\n"}
    refuse = 'case $* in *dsa*) echo unknown key type; exit 1 ;; esac; exec /usr/bin/ssh-keygen "$@"'
    guest.between = (
        f"rm /tools/ssh-keygen; printf '%s\\n' '#!/bin/sh' '{refuse}' >/tools/ssh-keygen; chmod 755 /tools/ssh-keygen"
    )
    outcome = renewed(root, guest, items="ssh_host_keys")
    assert not outcome.exists("/etc/ssh/ssh_host_dsa_key")
    assert not outcome.exists("/etc/ssh/ssh_host_dsa_key.pub")


@needs_namespaces
@pytest.mark.parametrize(("item", "service"), [("ssh_host_keys", "ssh"), ("services", "systemd-journald")])
def test_service_that_does_not_restart_is_an_error(root: pathlib.Path, item: str, service: str) -> None:
    guest = distributions.debian_networkd()
    guest.between = f": >/services/broken/{service}"
    outcome = run(root, guest, items=f"{item},boot_id")
    assert outcome.reasons == {item: f"{service} did not restart: Job for {service}.service failed."}
    assert (outcome.items["boot_id"], outcome.codes) == ("ok", [0, 90])


@needs_namespaces
def test_network_manager_that_does_not_start_is_an_error(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    guest.between = ": >/services/broken/systemd-networkd"
    outcome = run(root, guest, items="leases")
    assert (outcome.items, outcome.codes) == ({"leases": "ok", "network": "failed"}, [0, 90])
    assert outcome.stdout.startswith(
        "network: failed: systemd-networkd did not start: Job for systemd-networkd.service failed.; "
    )


@needs_namespaces
def test_without_vmware_tools_nothing_is_proven(root: pathlib.Path) -> None:
    guest = distributions.debian_networkd()
    guest.has_tools = False
    outcome = run(root, guest, items="machine_id")
    assert outcome.codes == [90, 90]
    assert outcome.stdout == "report: failed: VMware Tools did not accept the result\n" * 2
    assert outcome.read("/etc/machine-id") != PARENT_ID + "\n"


# --- Clock and random numbers -----------------------------------------------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize(
    ("clock", "rtc", "status", "calls"),
    [
        ("1000000000", True, "ok", ["hwclock --hctosys"]),
        ("1000000000", False, "failed", ["hwclock --hctosys"]),
        ("now", False, "ok", ["hwclock --hctosys"]),
        ("", True, "ok", ["hwclock --hctosys"]),
        ("", False, "absent", ["hwclock --hctosys"]),
        ("99999999999", True, "failed", ["hwclock --hctosys", "vmfork-set-clock 99999999999"]),
        ("$(touch /pwned)", False, "absent", ["hwclock --hctosys"]),
    ],
)
def test_clock(root: pathlib.Path, clock: str, rtc: bool, status: str, calls: list[str]) -> None:
    """The stand-in sets no clock, so a clock that is behind stays so, and that is seen."""
    requested = str(int(time.time())) if clock == "now" else clock
    guest = with_params(distributions.debian_networkd(), vmfork__clock=requested)
    guest.rtc = rtc
    outcome = run(root, guest, items="clock")
    assert (outcome.items, outcome.record, outcome.exists("/pwned")) == ({"clock": status}, calls, False)


CLOCK = """
param() { echo "$requested"; }
date() { echo "$clock"; }
attempt() { "$@"; }
hwclock() { [ "$rtc" != None ] && clock=$rtc; }
set_clock() { clock=$1; }
failed() { status=failed; }
status=ok
renew_clock
echo "$clock $status"
"""


@pytest.mark.parametrize(
    ("clock", "hardware", "requested", "after", "status"),
    [
        (1000, 5000, 4990, 5000, "ok"),
        (9000, 5000, 4990, 5000, "ok"),
        (900_000, 800_000, 1000, 900_000, "failed"),
        (800_030, 800_000, 1000, 800_030, "ok"),
        (1000, 800_000, 1500, 800_000, "ok"),
        (1000, 4000, 5000, 5000, "ok"),
        (7000, 4000, 5000, 7000, "failed"),
        (5100, None, 5000, 5100, "ok"),
        (900_000, None, 5000, 900_000, "failed"),
        (1000, None, 5000, 5000, "ok"),
    ],
    ids=[
        *("frozen parent", "parent was wrong", "hardware clock is wrong", "hardware clock is slow", "powered on again"),
        *(
            "hardware clock is behind",
            "hardware clock does not help",
            "no hardware clock",
            "nothing confirms it",
            "set",
        ),
    ],
)
def test_clock_is_not_set_back_without_two_witnesses(
    clock: int, hardware: int | None, requested: int, after: int, status: str
) -> None:
    """A child that somebody has powered on again has the time of its first request."""
    function = re.search(r"^renew_clock\(\) \{\n.*?^\}$", SCRIPT.read_text(), re.S | re.M)
    assert function
    program = f"clock={clock} rtc={hardware} requested={requested}\n{function[0]}\n{CLOCK}"
    ended = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == (f"{after} {status}\n", "")


ENTROPY = base64.b64encode(bytes(range(64))).decode()


@needs_namespaces
@pytest.mark.parametrize(
    ("tools", "status", "reason"),
    [
        (["vmfork-add-entropy"], "ok", None),
        # In these namespaces, the kernel refuses the real call.
        (["python3"], "failed", "Operation not permitted"),
        (["perl"], "failed", "Operation not permitted"),
        ([], "absent", "neither python3 nor perl"),
    ],
    ids=["stand-in", "python3", "perl", "neither"],
)
def test_entropy(root: pathlib.Path, tools: list[str], status: str, reason: str | None) -> None:
    if any(not shutil.which(tool) for tool in tools if tool != "vmfork-add-entropy"):
        pytest.skip(f"{tools[0]} is not installed")
    outcome = run(root, Guest(tools=tools, params={"vmfork.entropy": ENTROPY}), items="random")
    assert outcome.items == {"random": status}
    assert reason is None or reason in outcome.reasons["random"]
    assert ENTROPY not in outcome.stdout + outcome.stderr + outcome.report + "".join(outcome.record)


@needs_namespaces
@pytest.mark.parametrize("program", ["python3", "perl"])
def test_entropy_calls_of_the_kernel(tmp_path: pathlib.Path, program: str) -> None:
    """Both programs credit 512 bits, and reseed; a kernel that cannot reseed is reported as such."""
    strace = shutil.which("strace")
    if not strace or not shutil.which(program):
        pytest.skip("strace or the program is not installed")
    text = SCRIPT.read_text()
    source = re.search(f"^ENTROPY_{'PYTHON' if program == 'python3' else 'PERL'}='(.*?)'$", text, re.S | re.M)
    assert source
    trace = tmp_path / "trace"
    command = [strace, "-o", str(trace), "-e", "trace=ioctl", "-e", "inject=ioctl:retval=0", program]
    command += ["-c" if program == "python3" else "-e", source[1]]
    subprocess.run(["unshare", "--user", "--map-root-user", *command], input=base64.b64decode(ENTROPY), check=True)
    assert "RNDADDENTROPY, {entropy_count=512, buf_size=64" in trace.read_text()


# --- SSH servers, SELinux, and two programs called arping -------------------------------------------------------------

SSHD = pathlib.Path("/usr/sbin/sshd")


def with_sshd(program: str) -> Guest:
    """Return a guest in which a program called sshd runs outside of a service."""
    guest = distributions.debian_networkd()
    guest.active.remove("ssh")
    guest.files |= {"/run/sshd": "/", "/etc/passwd": "root:x:0:0::/:/bin/sh\nsshd:x:0:0::/run/sshd:/bin/false\n"}
    guest.before += f"{program}\nuntil ls /ready >/dev/null 2>&1; do sleep 0.1; done\n"
    return guest


@needs_namespaces
@pytest.mark.skipif(not SSHD.is_file(), reason="openssh-server is not installed")
def test_sshd_without_a_service_reads_the_new_keys(root: pathlib.Path) -> None:
    guest = with_sshd(
        f"{SSHD} -D -E /out/sshd.log & until grep -qs listening /out/sshd.log; do sleep 0.1; done; : >/ready"
    )
    guest.after = "until [ \"$(grep -c 'listening on 0' /out/sshd.log)\" = 2 ]; do sleep 0.1; done"
    outcome = renewed(root, guest, items="ssh_host_keys")
    assert "Received SIGHUP; restarting." in outcome.read("/out/sshd.log")


@needs_namespaces
def test_sshd_that_does_not_read_the_new_keys_is_an_error(root: pathlib.Path) -> None:
    guest = with_sshd("cp /usr/bin/sleep /opt-sshd; mkdir /opt; mv /opt-sshd /opt/sshd; /opt/sshd 1000 & : >/ready")
    outcome = run(root, guest, items="ssh_host_keys")
    assert (outcome.codes, outcome.items) == ([0, 90], {"ssh_host_keys": "failed"})
    assert re.fullmatch(r"sshd \(process \d+\) did not read the new keys", outcome.reasons["ssh_host_keys"])


@needs_namespaces
@pytest.mark.parametrize(("code", "status"), [(0, "ok"), (1, "absent")])
def test_boot_id_has_a_label_that_services_can_read(root: pathlib.Path, code: int, status: str) -> None:
    guest = distributions.rhel_keyfile()
    guest.files["/sys/fs/selinux/enforce"] = "1"
    guest.between = (
        f"printf '%s\\n' '#!/bin/sh' 'echo \"chcon $*\" >>/record' 'exit {code}' >/tools/chcon; chmod 755 /tools/chcon"
    )
    outcome = renewed(root, guest, items="boot_id")
    assert outcome.record == ["chcon --reference=/proc/sys/kernel/random/boot_id /run/vmfork-identity/boot_id"]
    assert outcome.items == {"boot_id": status}
    assert outcome.reasons == ({} if status == "ok" else {"boot_id": "SELinux: chcon failed"})


@needs_namespaces
@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("2 packets transmitted, 0 packets received, 100% unanswered (0 extra)", "ok"),
        ("arping: socket: Operation not permitted", "failed"),
    ],
)
def test_arping_by_habets_fails_without_an_answer(root: pathlib.Path, output: str, status: str) -> None:
    guest = with_params(distributions.debian_networkd(), ipaddress="192.0.2.11")
    guest.between = f"printf '%s\\n' '#!/bin/sh' 'echo \"{output}\"; exit 1' >/tools/arping"
    outcome = run(root, guest)
    assert outcome.items["announce"] == status
    assert status == "ok" or outcome.reasons["announce"] == f"arping on ens192: {output}"


# --- Agents -----------------------------------------------------------------------------------------------------------


@needs_namespaces
def test_agents_of_the_user(root: pathlib.Path) -> None:
    guest = with_params(
        distributions.debian_networkd(), vmfork__agents_remove="/opt/edr/id* /opt/gone", vmfork__agents_restart="edr@1"
    )
    guest.files |= {"/opt/edr/id-1": "1", "/opt/edr/id 2": "2", "/opt/edr/config": "kept"}
    guest.enabled = ["edr@1"]
    outcome = renewed(root, guest, items="agents")
    assert [path.name for path in (root / "opt/edr").iterdir()] == ["config"]
    assert outcome.record[-2:] == ["systemctl restart edr@1", "systemctl -q is-active edr@1"]


@needs_namespaces
def test_known_agents(root: pathlib.Path) -> None:
    guest = distributions.rhel_keyfile()
    guest.tools.append("iscsi-iname")
    guest.files |= {
        "/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.1994-05.com.redhat:golden\n",
        "/etc/nvme/hostnqn": "nqn.2014-08.org.nvmexpress:uuid:golden\n",
        "/etc/nvme/hostid": "golden\n",
        "/etc/salt/minion_id": "golden\n",
        "/etc/salt/minion": "master: salt\n",
    }
    outcome = renewed(root, guest, items="agents")
    assert "golden" not in outcome.read("/etc/iscsi/initiatorname.iscsi") + outcome.read("/etc/nvme/hostid")
    assert outcome.read("/etc/nvme/hostnqn").strip().endswith(outcome.read("/etc/nvme/hostid").strip())
    assert (outcome.exists("/etc/salt/minion_id"), outcome.exists("/etc/salt/minion")) == (False, True)
    assert "systemctl restart rhsmcertd" in outcome.record
    assert not outcome.exists("/etc/pki/consumer/cert.pem")


@needs_namespaces
def test_agents_that_others_depend_on_stay(root: pathlib.Path) -> None:
    """Containers would stop with Docker, and all agents would lose the authority of a Puppet server."""
    guest = distributions.debian_networkd()
    ssl = "/etc/puppetlabs/puppet/ssl"
    guest.files |= {"/var/lib/docker/engine-id": "golden", f"{ssl}/ca/ca_key.pem": "ca"}
    guest.files |= {f"{ssl}/certs/golden.pem": "golden", f"{ssl}/private_keys/golden.pem": "golden"}
    guest.active.append("docker")
    outcome = renewed(root, guest, items="agents")
    kept = (outcome.exists("/var/lib/docker/engine-id"), outcome.exists(f"{ssl}/ca/ca_key.pem"))
    gone = (outcome.exists(f"{ssl}/certs/golden.pem"), outcome.exists(f"{ssl}/private_keys/golden.pem"))
    assert (kept, gone) == ((True, True), (False, False))
    assert "systemctl restart docker" not in outcome.record


# --- The text of the script -------------------------------------------------------------------------------------------


def test_script_is_short() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) < 900
    assert max(map(len, lines)) <= 120
    starts: dict[str, int] = {}
    for number, line in enumerate(lines):
        if found := re.match(r"(\w+)\(\) \{", line):
            starts[found[1]] = number
            if line.endswith("}"):
                continue
            end = next(index for index in range(number, len(lines)) if lines[index] == "}")
            assert end - number < 40, found[1]
    assert len(starts) > 50


def test_script_fits_into_guestinfo() -> None:
    assert len(base64.b64encode(gzip.compress(CLOUD_INIT.read_bytes() + SCRIPT.read_bytes()))) < 30_000


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("script", [SCRIPT, CLOUD_INIT])
def test_shellcheck_has_no_remark(script: pathlib.Path) -> None:
    ended = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("", 0)


def test_items_are_those_of_the_modules() -> None:
    assert f"\nITEMS='{' '.join(ITEMS)}'\n" in SCRIPT.read_text()
    assert f"\nON_REQUEST='{' '.join(ON_REQUEST)}'\n" in CLOUD_INIT.read_text()


@pytest.mark.parametrize("arguments", [[], ["begin"], ["prepare", "auto", "dhcp"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    ended = subprocess.run(
        ["sh", str(SCRIPT), *arguments], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False
    )
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "prepare" in ended.stdout or "NETWORK must be" in ended.stdout


def test_guide_has_the_table_of_the_tests() -> None:
    guide = (SCRIPT.parents[3] / "docs/docsite/rst/guide_identity.rst").read_text()
    assert guide.endswith("   :header-rows: 1\n\n" + distributions.table())


def test_guide_explains_each_item() -> None:
    guide = (SCRIPT.parents[3] / "docs/docsite/rst/guide_identity.rst").read_text()
    assert tuple(re.findall(r"^   \* - ``(\w+)``$", guide.split("Addresses\n")[0], re.M)) == (*ITEMS, *ON_REQUEST)
