# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play that forks children and the next one, which connects by SSH and knows the host keys from the first second."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from functional.engines import INSTANT_CLONE
from functional.vcenter import SECONDS, VCenter

SSHD = Path("/usr/sbin/sshd")

pytestmark = [
    pytest.mark.engines(INSTANT_CLONE),
    pytest.mark.skipif(not SSHD.is_file(), reason="openssh-server is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="without root a guest has one user ID, and sshd needs another one"),
]

NAMES = ["Web-01", "web-02"]

IDENTITY = ["machine_id", "adapters", "hostname", "network", "ssh_host_keys"]
"""What can be renewed in a simulated guest: the kernel refuses it the clock and the random generator."""

PLAYS = """
- hosts: localhost
  gather_facts: false
  roles:
    - vmfork.vsphere.vmfork

- hosts: vmfork_children
  gather_facts: false
  tasks:
    - name: Make the SSH server reachable, since the simulated network is not
      ansible.builtin.uri:
        url: "{{ control }}/guests/{{ vmfork_moid }}/forward"
        method: POST
        body_format: json
        body:
          address: "{{ ansible_host }}"
          port: 22
        validate_certs: false
      delegate_to: localhost
      register: forwarded

    - name: Connect to the forwarded port
      ansible.builtin.set_fact:
        ansible_host: "{{ forwarded.json.host }}"
        ansible_port: "{{ forwarded.json.port }}"

    - name: Wait for the child
      ansible.builtin.wait_for_connection:
        timeout: 60

    - name: Ask the child for its name
      ansible.builtin.command: hostname
      register: asked
      failed_when: asked.stdout | lower != inventory_hostname | lower
      changed_when: false
"""

SSH_SERVER = """
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
echo 'sshd:x:105:65534::/run/sshd:/usr/sbin/nologin' >>/etc/passwd
mkdir -p /root/.ssh
echo '@PUBLIC_KEY@' >/root/.ssh/authorized_keys
printf '%s\\n' 'PermitRootLogin yes' 'UsePAM no' >/etc/ssh/sshd_config
"""
"""What the installation of an SSH server leaves in the parent."""

POST_CLONE = """#!/bin/sh
# No init system starts it.
mkdir -p /run/sshd && /usr/sbin/sshd
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Create the key of the user who connects."""
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


def play(vcenter: VCenter, directory: Path, key: Path, playbook: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook with the variables of these tests."""
    script = directory / "post_clone.sh"
    script.write_text(POST_CLONE)
    (directory / "plays.yml").write_text(yaml.safe_dump(yaml.safe_load(PLAYS)))
    children = [
        {"name": name, "config_params": {"ipaddress": f"192.0.2.{number}"}} for number, name in enumerate(NAMES, 11)
    ]
    given = {
        "vmfork_parent_name": vcenter.parent,
        "vmfork_guest_username": vcenter.guest_login["guest_username"],
        "vmfork_guest_password": vcenter.guest_login["guest_password"],
        "vmfork_post_clone_script_file": str(script),
        "vmfork_identity": {"items": IDENTITY, "network": "ip"},
        "vmfork_children": children,
        "vmfork_known_hosts_file": str(directory / "known_hosts"),
        "control": f"https://{vcenter.simulator.host}:{vcenter.simulator.port}/vmforksim",
        "ansible_ssh_private_key_file": str(key),
        **more,
    }
    environment = {
        **os.environ,
        **vcenter.simulator.environment,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(__file__).parents[2] / ".build" / "live"),
        "ANSIBLE_REMOTE_USER": "root",
    }
    command = ["ansible-playbook", playbook, "-e", json.dumps(given)]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_children_are_known_from_the_first_second(vcenter: VCenter, tmp_path: Path, key: Path) -> None:
    """The keys are those of the children, not of whoever answers: the key of another child is refused."""
    vcenter.in_guest(vcenter.moid(), SSH_SERVER.replace("@PUBLIC_KEY@", key.with_suffix(".pub").read_text().strip()))
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("gate ssh-ed25519 AAAA\n")
    ended = play(vcenter, tmp_path, key, "plays.yml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = known_hosts.read_text().splitlines()
    assert lines[0] == "gate ssh-ed25519 AAAA"
    assert {line.split()[0] for line in lines[1:]} == {name.lower() for name in NAMES}
    assert len({line.split()[2] for line in lines[1:]}) == len(lines) - 1
    assert known_hosts.stat().st_mode & 0o777 == 0o600

    again = play(vcenter, tmp_path, key, "plays.yml")
    assert again.returncode == 0, again.stdout + again.stderr
    assert known_hosts.read_text().splitlines() == lines

    swapped = {"web-01": "web-02", "web-02": "web-01", "gate": "gate"}
    other_keys = "".join(f"{swapped[line.split()[0]]} {' '.join(line.split()[1:])}\n" for line in lines)
    exchanged = tmp_path / "exchanged_known_hosts"
    exchanged.write_text(other_keys)
    for name, file, code in (("web-01", known_hosts, 0), ("web-01", exchanged, 255)):
        moid = vcenter.moid(f"/DC0/vm/{NAMES[0]}")
        forwarded = vcenter.control("POST", f"guests/{moid}/forward", {"address": "192.0.2.11", "port": 22})
        options = {
            "HostKeyAlias": name,
            "UserKnownHostsFile": file,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "IdentityFile": key,
        }
        command = ["ssh", "-p", str(forwarded["port"]), *(f"-o{key}={value}" for key, value in options.items())]
        connected = subprocess.run(
            [*command, f"root@{forwarded['host']}", "true"], capture_output=True, text=True, timeout=60, check=False
        )
        assert connected.returncode == code, connected.stderr

    removed = play(vcenter, tmp_path, key, "vmfork.vsphere.remove_children")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert known_hosts.read_text() == "gate ssh-ed25519 AAAA\n"


def test_clash_is_found_before_the_fork(vcenter: VCenter, tmp_path: Path, key: Path) -> None:
    """Only a power-off would end the fork point."""
    (tmp_path / "known_hosts").write_text("web-0? ssh-ed25519 AAAA\n")
    ended = play(vcenter, tmp_path, key, "plays.yml")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "known_hosts has a line for web-01 that was not written for a child" in ended.stdout + ended.stderr
    assert "TASK [vmfork.vsphere.vmfork : Enable the VM" not in ended.stdout

    absent = tmp_path / "absent"
    ended = play(vcenter, tmp_path, key, "plays.yml", vmfork_known_hosts_file=str(absent / "known_hosts"))
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert f"The directory of vmfork_known_hosts_file {absent}/known_hosts does not exist" in ended.stdout
