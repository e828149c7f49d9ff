# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests for the identity script: a root directory in namespaces of its own, with real shells, real ip and real keys.

The user namespace keeps the machine safe: in it, setting the clock and adding entropy are refused, even to root.
Network adapters are veth pairs. What the test bed cannot have is simulated: VMware Tools, the driver, services, and the
network managers (managers.py), which read the files that the script wrote.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import typing as t
from dataclasses import dataclass, field
from functools import cache

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity_report

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE.parents[2] / "roles" / "vmfork" / "files" / "linux_identity.sh"
CLOUD_INIT = SCRIPT.with_name("linux_cloud_init.sh")
PACKAGES = HERE.parents[2] / ".build"
"""Where tests/harness/debian_packages.sh unpacks packages."""

PARENT_MACS = ["00:50:56:aa:00:10", "00:50:56:aa:00:11"]
CHILD_MACS = ["00:50:56:bb:00:20", "00:50:56:bb:00:21"]
DEVICES = ["0000:0b:00.0", "0000:13:00.0"]

TOOLS = (
    *("awk", "base64", "basename", "cat", "chmod", "chroot", "cut", "date", "env", "grep", "head", "hostname", "ip"),
    *("ls", "mkdir", "mktemp", "mount", "mv", "readlink", "rm", "sed", "sha256sum", "sleep", "sort", "tail", "tr"),
    *("wc", "xargs"),
)
"""Programs of the host that each guest has: of coreutils, iproute2 and util-linux."""

SHELLS = {"dash": "/bin/dash", "bash": "/bin/bash", "busybox": "/bin/busybox sh"}

UNSHARE = (
    *("unshare", "--user", "--map-root-user", "--mount", "--net", "--uts", "--pid", "--ipc", "--fork", "--kill-child"),
)

DRIVER = """set -e
root=$1 packages=$2
mount --make-rprivate /
mount --bind "$root" "$root"
for directory in usr bin sbin lib lib64; do
  [ ! -h "/$directory" ] || { ln -s "$(readlink "/$directory")" "$root/$directory"; continue; }
  [ -d "/$directory" ] || continue
  mkdir "$root/$directory"
  if [ "$directory" = usr ] && [ -n "$packages" ]; then
    mount -t overlay overlay -o "lowerdir=$packages/usr:/usr" "$root/usr"
    continue
  fi
  mount --bind "/$directory" "$root/$directory"
  mount -o remount,bind,ro "$root/$directory"
done
for device in null zero urandom random; do : >"$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/realsys"
hostname golden
ip link set lo up
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin /bin/sh /steps
"""

PLUG = """#!/bin/sh
PATH=/usr/sbin:/usr/bin
while read -r name device mac cable; do
  [ ! -e "/realsys/class/net/$name" ] || continue
  ip link add "$name" address "$mac" type veth peer name "cable-$name"
  # The detection of duplicate addresses takes a second, so it is off unless a test is about it.
  [ -e /detects-duplicates ] || echo 0 >"/proc/sys/net/ipv6/conf/$name/accept_dad"
  echo 0 >"/proc/sys/net/ipv6/conf/$name/router_solicitation_delay"
  [ "$cable" = down ] || ip link set "cable-$name" up
  mkdir -p "/sys/class/net/$name" "/sys/bus/pci/devices/$device" /sys/bus/pci/drivers/vmxnet3
  for file in address carrier ifindex type; do ln -s "/realsys/class/net/$name/$file" "/sys/class/net/$name/$file"; done
  ln -s "/sys/bus/pci/devices/$device" "/sys/class/net/$name/device"
  ln -sfn /sys/bus/pci/drivers/vmxnet3 "/sys/bus/pci/devices/$device/driver"
done </hardware
"""

HEAD = '#!/bin/sh\necho "${0##*/} $*" >>/record\nPATH=/usr/sbin:/usr/bin\n'

STUBS = {
    "vmtoolsd": """#!/bin/sh
[ "$1" = --cmd ] || exit 64
rest=${2#* } key=${2#* }
case $2 in
  info-get*) [ -e "/guestinfo/$key" ] || { echo "No value found"; exit 1; }; /usr/bin/cat "/guestinfo/$key" ;;
  info-set*) key=${rest%% *}; printf '%s' "${rest#* }" >"/guestinfo/$key" ;;
esac
""",
    "modprobe": HEAD
    + """if [ "$1" = -r ]; then
  while read -r name device mac cable; do ip link del "$name"; rm -r "/sys/class/net/$name"; done </hardware
  [ ! -e /new-hardware ] || mv /new-hardware /hardware
else
  /plug
fi
""",
    "hwclock": HEAD + "[ -e /rtc ] || { echo 'Cannot access the Hardware Clock' >&2; exit 1; }\n",
    "vmfork-set-clock": HEAD + "",
    "vmfork-add-entropy": HEAD + '[ "$(base64 -d | wc -c)" = 64 ]\n',
    "arping": HEAD + "echo 'Sent 2 probes (2 broadcast(s))'\n",
    "sync": HEAD + "",
    "systemctl": HEAD
    + """verb= name=
for word in "$@"; do case $word in -*) ;; *) [ -z "$verb" ] && verb=$word || name=$word ;; esac; done
name=${name%.service}
case $verb in
  is-active) [ -e "/services/active/$name" ]; exit ;;
  is-enabled) [ -e "/services/enabled/$name" ]; exit ;;
  mask) : >"/services/masked/$name"; exit ;;
  unmask) rm "/services/masked/$name"; exit ;;
  stop) rm -f "/services/active/$name"; exit ;;
esac
[ -e "/services/enabled/$name" ] || { echo "Unit $name.service not found." >&2; exit 5; }
[ ! -e "/services/broken/$name" ] || { echo "Job for $name.service failed." >&2; exit 1; }
: >"/services/active/$name"
case $name in
  systemd-networkd) /managers networkd ;;
  NetworkManager) /managers networkmanager ;;
esac
""",
    "rc-service": HEAD
    + """[ "$1" != -q ] || shift
case $2 in status) [ -e "/services/active/$1" ]; exit ;; esac
[ -e "/services/enabled/$1" ]
""",
    "nmcli": HEAD + 'for id in "$@"; do :; done\n/managers networkmanager "$id"\n',
    "netplan": HEAD + "[ ! -e /run/netplan-broken ]\n",
    "wicked": HEAD + 'for name in "$@"; do :; done\n/managers wicked "$name"\n',
    "netconfig": HEAD + "/managers netconfig\n",
    "dhclient": HEAD + 'for name in "$@"; do :; done\n/managers dhcp "$name"\n',
    "ifup": HEAD + '/managers ifupdown "$1"\n',
    "ifdown": HEAD + '[ "$1" = --force ]\n',
    "hostnamectl": HEAD + 'hostname "$2" && echo "$2" >/etc/hostname\n',
    "vmware-rpctool": '#!/bin/sh\nexec /tools/vmtoolsd --cmd "$1"\n',
    "blkid": HEAD,
    "systemd-detect-virt": HEAD + "case $* in *--container*) exit 1 ;; esac\necho vmware\n",
    "iscsi-iname": HEAD + 'echo "iqn.2016-04.com.open-iscsi:$(cut -c 1-8 /proc/sys/kernel/random/uuid)"\n',
}

ADDRESS = """ip -j address show >/out/addresses
ip -j route show >/out/routes
ip -j -6 route show >/out/routes6
hostname >/out/hostname
cat /proc/sys/kernel/random/boot_id >/out/boot_id
"""


@dataclass
class Guest:
    """A guest before it runs.

    :ivar files: its files by path; a link is written as ``-> target``, a directory as ``/``.
    :ivar tools: what it has besides :data:`TOOLS`: names of :data:`STUBS`, or of programs of the host.
    :ivar params: the config params of the child.
    :ivar cables: whether each adapter is connected.
    """

    files: dict[str, str] = field(default_factory=dict)
    tools: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    enabled: list[str] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    cables: list[bool] = field(default_factory=lambda: [True])
    names: list[str] = field(default_factory=lambda: ["ens192", "ens224"])
    rtc: bool = True
    before: str = ""
    """Commands before prepare."""
    between: str = ""
    """Commands between the fork point and the renewal."""
    after: str = ""
    """Commands after the renewal."""
    renewals: int = 1
    has_tools: bool = True
    packages: pathlib.Path | None = None
    """A directory with unpacked packages; what is in its usr is in /usr of the guest, too."""


@dataclass
class Outcome:
    """What a guest was after the renewal."""

    root: pathlib.Path
    stdout: str
    stderr: str
    codes: list[int]

    @property
    def report(self) -> str:
        return (self.root / "guestinfo/guestinfo.vmfork.identity").read_text()

    @property
    def parsed(self) -> identity_report.Report:
        """Return the report as the module reads it."""
        seen = identity_report.parse(self.report, self.report.split(" ")[0])
        assert seen.report is not None, self.report
        return seen.report

    @property
    def items(self) -> dict[str, str]:
        """Return the status of each item."""
        return self.parsed.items

    @property
    def reasons(self) -> dict[str, str]:
        return self.parsed.reasons

    @property
    def keys(self) -> list[str]:
        return list(self.parsed.ssh_host_keys)

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.root / path.lstrip("/"))

    @property
    def record(self) -> list[str]:
        """Return the calls of simulated programs after the fork point."""
        return self.read("record").splitlines() if self.exists("record") else []

    def addresses(self, interface: str = "ens192") -> list[str]:
        """Return the global addresses of an interface, with their prefix lengths."""
        for link in json.loads(self.read("out/addresses")):
            if link["ifname"] == interface:
                return [
                    f"{address['local']}/{address['prefixlen']}"
                    for address in link["addr_info"]
                    if address["scope"] == "global"
                ]
        return []

    def mac(self, interface: str = "ens192") -> str:
        links = {link["ifname"]: link["address"] for link in json.loads(self.read("out/addresses"))}
        return str(links[interface])

    def routes(self) -> list[str]:
        """Return the routes with a gateway, as ``DESTINATION via GATEWAY dev INTERFACE``."""
        found = json.loads(self.read("out/routes")) + json.loads(self.read("out/routes6"))
        return sorted(
            f"{route['dst']} via {route['gateway']} dev {route['dev']}" for route in found if "gateway" in route
        )


@cache
def refusal() -> str | None:
    """Return why guests cannot run here."""
    for program in ("unshare", "dash", "bash", "busybox", "ssh-keygen", "ip"):
        if not shutil.which(program):
            return f"{program} is not installed"
    ended = subprocess.run(
        [*UNSHARE, "sh", "-c", "ip link add veth1 type veth peer name veth2 && mount -t sysfs sysfs /mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces: {ended.stderr.strip()}" if ended.returncode else None


def lacks_packages(packages: pathlib.Path) -> str | None:
    """Return why no guest can have these unpacked Debian packages here; ``None``: it can."""
    if not packages.is_dir():
        return f"{packages.name} is not unpacked, see tests/harness/debian_packages.sh"
    mount = f"mount -t overlay overlay -o lowerdir={packages}/usr:/usr /mnt"
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    ended = subprocess.run(unshare, capture_output=True, check=False)
    return "no overlays in a user namespace" if ended.returncode else refusal()


def run(
    root: pathlib.Path,
    guest: Guest,
    shell: str = "dash",
    items: str = "auto",
    network: str = "auto",
    action: str = "renew",
) -> Outcome:
    """Prepare a parent, fork it, and renew the child, or undo the preparation."""
    _make(root, guest)
    command = f"{SHELLS[shell]} /identity"
    if shell == "busybox":
        # It prefers its own programs to those on PATH.
        lines = [f'{name}() {{ /tools/{name} "$@"; }}' for name in _simulated(guest)]
        (root / "prelude").write_text("\n".join([*lines, ". /identity"]))
        command = f"{SHELLS[shell]} /prelude"
    environment = "PATH=/tools VMFORK_WAIT=2"
    renew = (
        f"env {environment} {command} {action} {items} {network} >>/out/stdout 2>>/out/stderr; echo $? >>/out/codes\n"
    )
    (root / "steps").write_text(
        f"/plug\n{guest.before}\n"
        f"env {environment} {command} prepare {items} {network} >>/out/stdout 2>>/out/stderr; echo $? >>/out/codes\n"
        "cp /guestinfo/guestinfo.vmfork.identity /out/parent-report 2>/dev/null\n"
        "ip -j address show >/out/parent-addresses\n"
        "mv /record /out/parent-record 2>/dev/null; mv /child-params/* /guestinfo/; cp -r /etc /out/parent-etc\n"
        f"{guest.between}\n{renew * guest.renewals}{guest.after}\n{ADDRESS}"
    )
    driver = root.parent / "driver"
    driver.write_text(DRIVER)
    ended = subprocess.run(
        [*UNSHARE, "sh", str(driver), str(root), str(guest.packages or "")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "", ended.stderr
    codes = [int(line) for line in (root / "out/codes").read_text().split()]
    return Outcome(root, (root / "out/stdout").read_text(), (root / "out/stderr").read_text(), codes)


def _simulated(guest: Guest) -> list[str]:
    """Return the simulated programs that busybox has, too."""
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in ["modprobe", "hwclock", "sync", *guest.tools] if name in STUBS and name in listed]


def _make(root: pathlib.Path, guest: Guest) -> None:
    for name in [
        "dev",
        "proc",
        "realsys",
        "sys",
        "tools",
        "out",
        "guestinfo",
        "child-params",
        "run",
        "tmp",
        "etc",
        "var/lib",
        "services/active",
        "services/enabled",
    ]:
        (root / name).mkdir(parents=True)
    (root / "services/broken").mkdir()
    (root / "services/masked").mkdir()
    (root / "identity").write_text((CLOUD_INIT.read_text() if guest.packages else "") + SCRIPT.read_text())
    _program(root / "plug", PLUG)
    _program(root / "managers", "#!/usr/bin/python3 -IS\n" + (HERE / "managers.py").read_text())
    for name in TOOLS:
        _link_tool(root, name)
    for name in ["vmtoolsd", "modprobe", "hwclock", "sync", *guest.tools]:
        if name in STUBS:
            _program(root / "tools" / name, STUBS[name])
        else:
            _link_tool(root, name)
    for name, macs in {"hardware": PARENT_MACS, "new-hardware": CHILD_MACS}.items():
        (root / name).write_text(
            "".join(
                f"{interface} {device} {mac} {'up' if cable else 'down'}\n"
                for interface, device, mac, cable in zip(guest.names, DEVICES, macs, guest.cables, strict=False)
            )
        )
    if not guest.has_tools:
        (root / "tools/vmtoolsd").unlink()
    for kind, services in {"active": guest.active, "enabled": [*guest.active, *guest.enabled]}.items():
        for name in services:
            (root / "services" / kind / name).write_text("")
    if guest.rtc:
        (root / "rtc").write_text("")
    for name, value in {"vmfork.nonce": "n0nce", **guest.params}.items():
        (root / "child-params" / f"guestinfo.fork.{name}").write_text(value)
    _write(root, guest.files)


def _write(root: pathlib.Path, files: t.Mapping[str, str]) -> None:
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if content == "/":
            target.mkdir()
        elif content.startswith("-> "):
            target.symlink_to(content[3:])
        else:
            target.write_text(content)
            target.chmod(0o600 if "system-connections" in path or path.endswith("_key") else 0o644)


def _program(path: pathlib.Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _link_tool(root: pathlib.Path, name: str) -> None:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert found, f"{name} is not installed"
    (root / "tools" / name).symlink_to(os.path.realpath(found))  # alternatives are links through /etc
