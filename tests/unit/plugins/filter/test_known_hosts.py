# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a known_hosts file: which are replaced, which stay, and what must never get there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import pathlib
import subprocess

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.vmfork.vsphere.plugins.filter.known_hosts import FilterModule

known_hosts = FilterModule().filters()["known_hosts"]

KEY, OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "ssh-rsa AAAAB3NzaC1yc2E="
OTHERS = f"# a comment\n\n|1|c2FsdA==|aGFzaA== {KEY}\n|1|!|x {KEY}\n*.example.com {KEY}\n@revoked web-01 {KEY}\n"
OTHERS += f"web-011 {KEY}\n"


@pytest.mark.parametrize(
    ("before", "hosts", "after"),
    [
        ("", {"web-01": [KEY, OTHER]}, f"web-01 {KEY} vmfork\nweb-01 {OTHER} vmfork\n"),
        ("", {}, ""),
        (f"web-01 {OTHER} vmfork\n", {"web-01": [KEY]}, f"web-01 {KEY} vmfork\n"),
        (f"web-01 {OTHER} vmfork\nweb-01 {KEY} vmfork", {"web-01": []}, ""),
        (f"web-02 {OTHER} vmfork", {"web-01": [KEY]}, f"web-02 {OTHER} vmfork\nweb-01 {KEY} vmfork\n"),
        (OTHERS, {"web-01": [KEY]}, f"{OTHERS}web-01 {KEY} vmfork\n"),
        (f"bastion {OTHER}\n", {"bastion": []}, f"bastion {OTHER}\n"),
    ],
)
def test_lines(before: str, hosts: dict[str, list[str]], after: str) -> None:
    assert known_hosts(before, hosts) == after
    assert known_hosts(after, hosts) == after


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_feeds_end_a_line(separator: str) -> None:
    """In a comment, other separators are text for ssh."""
    before = f"gate {KEY} a{separator}web-01 {KEY} vmfork\r\n\n"
    assert known_hosts(before, {"web-01": []}) == before


def hashed(name: str) -> str:
    digest = hmac.new(b"salt", name.encode(), hashlib.sha1).digest()
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in (b"salt", digest))


@pytest.mark.parametrize(
    "line",
    [
        f"bastion {OTHER}",
        f"bastion {KEY}",
        f"bastion {OTHER} root@vmfork",
        f" \tbastion\t{OTHER}",
        f"10.0.0.5,Bastion,gate {OTHER}",
        f"{hashed('bastion')} {OTHER}",
        f"* {OTHER}",
        f"gate,B?st* {OTHER}",
        f"!gate,*st* {OTHER}",
        f"[bastion]:2222 {OTHER}",
        f"[*]:2222,!bastion {OTHER}",
        f"*,![bastion]:2222 {OTHER}",
        f"@cert-authority *stion {OTHER}",
    ],
)
def test_line_of_a_real_host_stays(line: str) -> None:
    """A child with the name of a real host must not be able to pose as it."""
    with pytest.raises(AnsibleFilterError, match=r"/known has a line for bastion that .* another file"):
        known_hosts(f"gate {KEY}\n{line}\n", {"bastion": [KEY]}, "/known")
    with pytest.raises(AnsibleFilterError, match=r"/known has a line for bastion that .* another file"):
        known_hosts(f"{line}\n", {"bastion": None}, "/known")
    assert known_hosts(f"{line}\n", {"bastion": []}) == f"{line}\n"


@pytest.mark.parametrize(
    "line",
    [
        f"bastion2,basti,bastion? {OTHER}",
        f"!bastion,* {OTHER}",
        f"*,!BAST* {OTHER}",
        f"[bastion2]:2222 {OTHER}",
        f"[*]:2222,![bas*]:2222 {OTHER}",
        f"[b-z]astion {OTHER}",
        f"@revoked * {OTHER}",
        f"#bastion {OTHER}",
        f"bastion {OTHER} vmfork",
    ],
)
def test_line_of_no_other_host(line: str) -> None:
    """A host whose keys are not known yet keeps its lines."""
    assert known_hosts(f"{line}\n", {"bastion": None}) == f"{line}\n"


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
    assert f"web-01 {key} vmfork" in found.splitlines()
