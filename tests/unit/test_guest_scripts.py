# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The effect of the playbooks' scripts in a child, in real shells.

Shell functions replace the programs that change a machine, because busybox prefers its own programs to those on PATH.
"""

from __future__ import annotations

import pathlib
import shlex
import shutil
import subprocess

import pytest

FILES = pathlib.Path(__file__).resolve().parents[2] / "playbooks" / "files"
BUSYBOX = shutil.which("busybox")
SHELLS = {"sh": ["/bin/sh"], "busybox": [str(BUSYBOX), "sh"]}

MACHINE = """
vmtoolsd() {
  case $2 in
    "info-get guestinfo.fork.hostname") value=$given_hostname ;;
    "info-get guestinfo.fork.fqdn") value=$given_fqdn ;;
    *) value= ;;
  esac
  [ -n "$value" ] && echo "$value" || { echo "No value found" >&2; return 1; }
}
ip() { [ "$*" != "-o link show" ] || printf '%s\\n' '1: lo: <UP>' '2: ens192: <UP>'; }
modprobe() { :; }
hwclock() { :; }
hostnamectl() { echo "$*" >>"$record"; }
hostname() { echo web-01; }
"""

HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.example.com golden\n::1\tip6-localhost\n"


@pytest.fixture(
    params=["sh", pytest.param("busybox", marks=pytest.mark.skipif(not BUSYBOX, reason="busybox is not installed"))]
)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return SHELLS[request.param]


def run(shell: list[str], root: pathlib.Path, hostname: str, fqdn: str) -> str:
    """Run linux_post_clone.sh with a host name; return its calls of ``hostnamectl``."""
    script = (FILES / "linux_post_clone.sh").read_text()
    assert script.count("/etc/hosts") == 3
    record = root / "record"
    record.write_text("")
    values = {"given_hostname": hostname, "given_fqdn": fqdn, "record": str(record)}
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    text = "\n".join([*lines, MACHINE, script.replace("/etc/hosts", str(root / "hosts"))])
    ended = subprocess.run([*shell, "-c", text], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return record.read_text()


@pytest.mark.parametrize(
    ("fqdn", "before", "after"),
    [
        pytest.param(
            "web-01.example.com",
            HOSTS,
            "127.0.0.1\tlocalhost\n::1\tip6-localhost\n127.0.1.1 web-01.example.com web-01\n",
            id="fqdn",
        ),
        pytest.param("", HOSTS, "127.0.0.1\tlocalhost\n::1\tip6-localhost\n127.0.1.1 web-01\n", id="no fqdn"),
        pytest.param(
            "web-01.example.com",
            "127.0.1.10 golden\n# 127.0.1.1 golden",
            "127.0.1.10 golden\n# 127.0.1.1 golden\n127.0.1.1 web-01.example.com web-01\n",
            id="other lines stay",
        ),
        pytest.param("web-01.example.com", "127.0.1.1 golden\n", "127.0.1.1 web-01.example.com web-01\n", id="alone"),
        pytest.param("web-01.example.com", "", "127.0.1.1 web-01.example.com web-01\n", id="empty"),
        pytest.param("web-01.example.com", None, None, id="no file"),
    ],
)
def test_child_resolves_its_full_name(
    shell: list[str], tmp_path: pathlib.Path, fqdn: str, before: str | None, after: str | None
) -> None:
    """It no longer resolves the parent's name. Running the script again changes nothing."""
    hosts = tmp_path / "hosts"
    if before is not None:
        hosts.write_text(before)
    for _again in range(2):
        assert run(shell, tmp_path, "web-01", fqdn) == "set-hostname web-01\n"
        assert (hosts.read_text() if hosts.exists() else None) == after


def test_child_without_a_host_name_is_unchanged(shell: list[str], tmp_path: pathlib.Path) -> None:
    """No part of the VM's name is a valid host name, and the task gives none."""
    (tmp_path / "hosts").write_text(HOSTS)
    assert run(shell, tmp_path, "", "") == ""
    assert (tmp_path / "hosts").read_text() == HOSTS
