# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the identity script writes, read by the programs that read it in a distribution."""

from __future__ import annotations

import pathlib

import pytest
from unit.guest_identity import distributions, rig
from unit.guest_identity.distributions import STATIC
from unit.guest_identity.rig import Guest, Outcome, run

PACKAGES = rig.PACKAGES / "network-programs"
OBSTACLE = rig.lacks_packages(PACKAGES)

pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))

ADDRESSES = ["192.0.2.11/24", "2001:db8::11/64"]
ROUTES = [
    "2001:db8:ffff::/48 via 2001:db8::fe dev ens192",
    "203.0.113.0/24 via 192.0.2.254 dev ens192",
    "default via 192.0.2.1 dev ens192",
    "default via 2001:db8::1 dev ens192",
]


def with_programs(guest: Guest, **programs: str) -> Guest:
    """Return the guest with real programs instead of simulated ones."""
    guest.packages = PACKAGES
    guest.tools = [name for name in guest.tools if name not in programs]
    guest.files |= {f"/tools/{name}": f"-> {program}" for name, program in programs.items()}
    return guest


def renewed(root: pathlib.Path, guest: Guest, items: str = "auto") -> Outcome:
    outcome = run(root, guest, items=items)
    assert (outcome.stderr, outcome.codes) == ("", [0, 0]), outcome.stdout
    return outcome


INTERFACES = """auto lo
iface lo inet loopback

auto ens192
iface ens192 inet static
    address 192.0.2.5
    netmask 255.255.255.0
    gateway 192.0.2.1
    mtu 1400
    post-up echo "$IFACE" >>/out/post-up
"""


def test_ifup_sets_the_addresses(tmp_path: pathlib.Path) -> None:
    """Both when the child is renewed and at its next boot; the commands of the parent's stanza run."""
    guest = with_programs(distributions.debian_ifupdown(), ifup="/usr/sbin/ifup", ifdown="/usr/sbin/ifdown")
    guest.params.update(STATIC)
    guest.files |= {"/etc/network/interfaces": INTERFACES, "/run/network": "/"}
    guest.files |= {f"/etc/network/if-{when}.d": "/" for when in ("pre-up", "up", "down", "post-down")}
    guest.before = distributions.KEYS + "PATH=/usr/sbin:/usr/bin:/sbin:/bin /tools/ifup ens192 >/out/boot 2>&1\n"
    guest.before += "ip -o address show dev ens192 >/out/parents; rm -f /out/post-up\n"
    guest.after = (
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n/tools/ifdown ens192; ip address flush dev ens192 scope global\n"
        "/tools/ifup ens192; cat /sys/class/net/ens192/mtu >/out/mtu\n"
    ).replace("/sys/class", "/realsys/class")
    outcome = renewed(tmp_path / "root", guest)
    assert "192.0.2.5/24" in outcome.read("/out/parents")
    assert (outcome.addresses(), outcome.routes()) == (ADDRESSES, ROUTES)
    assert outcome.read("/out/post-up").split() == ["ens192", "ens192"]
    assert outcome.read("/out/mtu") == "1400\n"


def test_nmcli_reads_the_profile(tmp_path: pathlib.Path) -> None:
    guest = with_programs(distributions.rhel_keyfile())
    guest.params.update(STATIC)
    guest.after = (
        "/usr/bin/nmcli --offline connection modify connection.id checked "
        "</etc/NetworkManager/system-connections/vmfork-ethernet0.nmconnection >/out/profile 2>/out/errors"
    )
    outcome = renewed(tmp_path / "root", guest)
    assert outcome.read("/out/errors") == ""
    sections = {text.splitlines()[0]: set(text.splitlines()[1:]) for text in outcome.read("/out/profile").split("\n\n")}
    assert sections["[ipv4]"] == {
        *("method=manual", "address1=192.0.2.11/24", "dns=192.0.2.53;", "dns-search=example.com;"),
        *("route1=0.0.0.0/0,192.0.2.1", "route2=203.0.113.0/24,192.0.2.254"),
    }
    assert {key for key in sections["[ipv6]"] if not key.startswith("addr-gen-mode")} == {
        *("method=manual", "address1=2001:db8::11/64", "dns-search=example.com;"),
        *("route1=::/0,2001:db8::1", "route2=2001:db8:ffff::/48,2001:db8::fe"),
    }


def test_netplan_leaves_the_first_place_to_the_child(tmp_path: pathlib.Path) -> None:
    """The script calls the real generator, whose file for the same adapter sorts after ours."""
    guest = with_programs(distributions.ubuntu_netplan())
    guest.params.update(STATIC)
    guest.before += (
        "rm /tools/netplan /run/systemd/network/*\n"
        "printf '#!/bin/sh\\nexec /usr/libexec/netplan/generate\\n' >/tools/netplan; chmod 755 /tools/netplan\n"
    )
    outcome = renewed(tmp_path / "root", guest)
    generated = [path.name for path in (outcome.root / "run/systemd/network").iterdir()]
    assert generated == ["10-netplan-ens192.network"]
    assert "DHCP=ipv4" in outcome.read("/run/systemd/network/10-netplan-ens192.network")
    assert sorted([*generated, "05-vmfork-ethernet0.network"])[0] == "05-vmfork-ethernet0.network"
    assert outcome.addresses() == ADDRESSES


@pytest.mark.parametrize("program", ["/usr/bin/arping", "/usr/sbin/arping", "/usr/bin/busybox"])
def test_address_is_announced(tmp_path: pathlib.Path, program: str) -> None:
    """By the programs of iputils, of Thomas Habets, and of busybox."""
    guest = with_programs(distributions.plain_ip(), arping=program)
    guest.before = "ip link set ens192 up; ip address add 192.0.2.11/24 dev ens192; rm -f /record\n"
    guest.between = "cat /realsys/class/net/cable-ens192/statistics/rx_packets >/out/before"
    guest.after = "cat /realsys/class/net/cable-ens192/statistics/rx_packets >/out/after"
    outcome = renewed(tmp_path / "root", guest, items="announce")
    assert outcome.items == {"announce": "ok"}
    assert int(outcome.read("/out/after")) >= int(outcome.read("/out/before")) + 2


NETWORKD = pathlib.Path("/lib/systemd/systemd-networkd")


@pytest.mark.skipif(not NETWORKD.is_file(), reason="systemd-networkd is not installed")
def test_networkd_sets_the_addresses(tmp_path: pathlib.Path) -> None:
    """As at the child's next boot."""
    guest = with_programs(distributions.debian_networkd())
    guest.params.update(STATIC)
    guest.files["/etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:0:0::/:/bin/false\n"
    guest.files["/etc/group"] = "root:x:0:\nsystemd-network:x:0:\n"
    guest.after = f"""export PATH=/usr/sbin:/usr/bin
ip address flush dev ens192 scope global
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
mount --bind /sys /sys; mount -o remount,bind,ro /sys # as in a container: no udev
{NETWORKD} >/out/networkd 2>&1 & networkd=$!
tries=50
until ip route show | grep -q 203.0.113 && ip -6 route show | grep -q 2001:db8:ffff || [ $tries = 0 ]; do
  sleep 0.1; tries=$((tries - 1))
done
"""
    outcome = renewed(tmp_path / "root", guest)
    assert (outcome.addresses(), outcome.routes()) == (ADDRESSES, ROUTES), outcome.read("/out/networkd")
