# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a known_hosts file: which are replaced, which stay, and what must never get there."""

from __future__ import annotations

import pathlib
import subprocess

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.vmfork.vsphere.plugins.filter.known_hosts import FilterModule

known_hosts = FilterModule().filters()["known_hosts"]

KEY, OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "ssh-rsa AAAAB3NzaC1yc2E="
OTHERS = f"# a comment\n|1|c2FsdA==|aGFzaA== {KEY}\n*.example.com,web-01 {KEY}\n@revoked web-01 {KEY}\nweb-011 {KEY}\n"


@pytest.mark.parametrize(
    ("before", "hosts", "after"),
    [
        ("", {"web-01": [KEY, OTHER]}, f"web-01 {KEY}\nweb-01 {OTHER}\n"),
        ("", {}, ""),
        (f"web-01 {OTHER}\n", {"web-01": [KEY]}, f"web-01 {KEY}\n"),
        (f"web-01 {OTHER}\nweb-01 {KEY}", {"web-01": []}, ""),
        (f"web-02 {OTHER}", {"web-01": [KEY]}, f"web-02 {OTHER}\nweb-01 {KEY}\n"),
        (OTHERS, {"web-01": [KEY]}, f"{OTHERS}web-01 {KEY}\n"),
    ],
)
def test_lines(before: str, hosts: dict[str, list[str]], after: str) -> None:
    assert known_hosts(before, hosts) == after
    assert known_hosts(after, hosts) == after


@pytest.mark.parametrize(
    "name", ["*", "web-01,other", "!web-01", "web 01", "@cert-authority", "#", "", "Web-01", "|1|x"]
)
def test_name_with_another_meaning(name: str) -> None:
    """Patterns match other hosts, and ssh compares only lower-case names."""
    with pytest.raises(AnsibleFilterError, match="cannot be the name of a host"):
        known_hosts("", {name: [KEY]})


@pytest.mark.parametrize("key", ["", "ssh-rsa", f"{KEY}\n* {KEY}", f"{KEY} comment", f"@cert-authority {KEY}"])
def test_key_with_another_meaning(key: str) -> None:
    with pytest.raises(AnsibleFilterError, match="A host key of web-01 is not"):
        known_hosts("", {"web-01": [key]})


def test_ssh_finds_the_key(tmp_path: pathlib.Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    key = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    file = tmp_path / "known_hosts"
    file.write_text(known_hosts(OTHERS, {"web-01": [key]}))
    found = subprocess.run(
        ["ssh-keygen", "-F", "web-01", "-f", str(file)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert f"web-01 {key}" in found.splitlines()
