# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do in a guest of the rig what network managers do: read their files, and set addresses, routes and DNS servers.

Called with the name of the manager, and the name of an interface if only that is to be configured. It knows the keys of
systemd.network(5), nm-settings-keyfile(5), interfaces(5), ifcfg(5) with ifroute(5) of wicked, and dhclient.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Iterator


def ip(*words: str) -> None:
    assert os.spawnv(os.P_WAIT, "/usr/sbin/ip", ["ip", *words]) == 0, words


def mac(interface: str) -> str:
    return pathlib.Path(f"/realsys/class/net/{interface}/address").read_text().strip()


def has_cable(interface: str) -> bool:
    try:
        return pathlib.Path(f"/realsys/class/net/{interface}/carrier").read_text().strip() == "1"
    except OSError:  # the interface is down
        return False


def interfaces() -> list[str]:
    return sorted(path.name for path in pathlib.Path("/sys/class/net").iterdir() if path.name != "lo")


def entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Return (section, key, value) of an INI file."""
    section = ""
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("["):
            section = line
        elif "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            yield section, key, value.strip().strip("'\"")


def apply(interface: str, addresses: list[str], routes: list[tuple[str, str]]) -> None:
    ip("address", "flush", "dev", interface, "scope", "global")
    ip("link", "set", interface, "up")
    for address in addresses:
        ip("address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))
    for destination, gateway in routes:
        ip("route", "replace", destination, "via", gateway, "dev", interface)


def lease(interface: str) -> list[str]:
    """Return the address that a DHCP server gives to the MAC."""
    ip("link", "set", interface, "up")
    if not has_cable(interface):
        return []
    return [f"198.51.100.{int(mac(interface)[-2:], 16)}/24"]


def networkd() -> None:
    servers = []
    files = sorted(pathlib.Path("/etc/systemd/network").glob("*.network")) + sorted(
        pathlib.Path("/run/systemd/network").glob("*.network")
    )
    for interface in interfaces():
        for path in sorted(files, key=lambda path: path.name):
            found = list(entries(path.read_text()))
            match = {key: value for section, key, value in found if section == "[Match]"}
            pattern = match.get("Name", interface)
            if match.get("MACAddress", mac(interface)).lower() != mac(interface):
                continue
            if pattern != interface and not (pattern.endswith("*") and interface.startswith(pattern[:-1])):
                continue
            addresses = [value for _section, key, value in found if key == "Address"]
            to = [value for _section, key, value in found if key == "Destination"]
            via = [value for section, key, value in found if key == "Gateway" and section == "[Route]"]
            default = [
                ("default", value) for section, key, value in found if key == "Gateway" and section == "[Network]"
            ]
            servers += [value for _section, key, value in found if key == "DNS"]
            dhcp = any(key == "DHCP" and value in ("yes", "ipv4") for _section, key, value in found)
            apply(interface, addresses + (lease(interface) if dhcp else []), list(zip(to, via, strict=False)) + default)
            break
    resolved = pathlib.Path("/run/systemd/resolve/resolv.conf")
    if resolved.parent.exists():
        resolved.write_text("".join(f"nameserver {server}\n" for server in servers))


def networkmanager(profile: str) -> None:
    """Activate the named profile, or all: of two for one interface, the one with the higher priority."""
    found = []
    for path in pathlib.Path("/etc/NetworkManager/system-connections").glob("*"):
        assert path.stat().st_mode & 0o77 == 0, f"{path} would be ignored: others can read it"
        found.append({f"{section}{key}": value for section, key, value in entries(path.read_text())})
    for path in pathlib.Path("/etc/sysconfig/network-scripts").glob("ifcfg-*"):
        values = {key: value for _section, key, value in entries(path.read_text())}
        found.append(
            {
                "[connection]id": values["NAME"],
                "[connection]interface-name": values["DEVICE"],
                "[ethernet]mac-address": values.get("HWADDR", ""),
                "[ipv4]method": "auto" if values.get("BOOTPROTO") == "dhcp" else "manual",
            }
        )
    for interface in interfaces():
        matching = [one for one in found if matches(one, interface)]
        matching.sort(key=lambda one: -int(one.get("[connection]autoconnect-priority", 0)))
        if matching and (not profile or matching[0]["[connection]id"] == profile):
            activate(interface, matching[0])


def matches(profile: dict[str, str], interface: str) -> bool:
    address = profile.get("[ethernet]mac-address")
    named = profile.get("[connection]interface-name", interface)
    return (not address or address.lower() == mac(interface)) and named == interface


def activate(interface: str, profile: dict[str, str]) -> None:
    ip("link", "set", interface, "up")
    if not has_cable(interface):
        return
    addresses, routes, servers = [], [], []
    for key, value in profile.items():
        name = key.split("]")[1]
        if name.rstrip("0123456789") == "address":
            addresses.append(value)
        elif name.rstrip("0123456789") == "route":
            routes.append((value.split(",")[0], value.split(",")[1]))
        elif name == "dns":
            servers += value.strip(";").split(";")
    apply(interface, addresses + (lease(interface) if profile["[ipv4]method"] == "auto" else []), routes)
    pathlib.Path("/run/NetworkManager").mkdir(exist_ok=True)
    with pathlib.Path("/run/NetworkManager/resolv.conf").open("a") as resolv:
        resolv.writelines(f"nameserver {server}\n" for server in servers)


def ifupdown(interface: str) -> None:
    """Configure one interface: its stanzas may have the methods dhcp and manual."""
    files = [pathlib.Path("/etc/network/interfaces"), *sorted(pathlib.Path("/etc/network/interfaces.d").glob("*"))]
    words = [line.split() for path in files for line in path.read_text().splitlines() if line.split()]
    own, found = False, 0
    for word in words:
        if word[0] in ("iface", "auto", "source", "source-directory") or word[0].startswith("allow-"):
            own = word[:2] == ["iface", interface]
            found += own
            if own and word[3] == "dhcp":
                apply(interface, lease(interface), [])
            elif own:
                assert word[3] == "manual", word
        elif own and word[0] == "up":
            command = ["sh", "-c", " ".join(word[1:])]
            assert os.spawnve(os.P_WAIT, "/bin/sh", command, {"PATH": "/usr/sbin:/usr/bin"}) == 0, word
    assert found == 1, f"{found} stanzas for {interface}"


def wicked(interface: str) -> None:
    values = {
        key: value
        for _section, key, value in entries(pathlib.Path(f"/etc/sysconfig/network/ifcfg-{interface}").read_text())
    }
    if values["BOOTPROTO"] == "dhcp":
        apply(interface, lease(interface), [])
        return
    routes = pathlib.Path(f"/etc/sysconfig/network/ifroute-{interface}")
    lines = [line.split() for line in (routes.read_text() if routes.exists() else "").splitlines() if line.strip()]
    apply(
        interface,
        [value for key, value in values.items() if key.startswith("IPADDR")],
        [(("::/0" if ":" in line[1] else "0.0.0.0/0") if line[0] == "default" else line[0], line[1]) for line in lines],
    )


def netconfig() -> None:
    config = pathlib.Path("/etc/sysconfig/network/config").read_text()
    values = {key: value for _section, key, value in entries(config)}
    pathlib.Path("/run/netconfig").mkdir(exist_ok=True)
    pathlib.Path("/run/netconfig/resolv.conf").write_text(
        "".join(f"nameserver {server}\n" for server in values["NETCONFIG_DNS_STATIC_SERVERS"].split())
    )


def main() -> None:
    manager, name = sys.argv[1], (sys.argv[2:] or [""])[0]
    if manager == "networkd":
        networkd()
    elif manager == "netconfig":
        netconfig()
    elif manager == "dhcp":
        apply(name, lease(name), [])
    else:
        {"networkmanager": networkmanager, "wicked": wicked, "ifupdown": ifupdown}[manager](name)


main()
