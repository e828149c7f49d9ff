# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play that forks children and the next one, which connects by SSH and knows the host keys from the first second."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from functional.engines import both_engines, instant_clone_only
from functional.vcenter import SECONDS, VCenter
from harness import guest_ssh

pytestmark = pytest.mark.skipif(guest_ssh.obstacle() is not None, reason=str(guest_ssh.obstacle()))

README = Path(__file__).parents[2] / "README.md"

NAMES = ["Web-01", "web-02"]

IDENTITY = ["machine_id", "adapters", "hostname", "network", "ssh_host_keys"]
"""What can be renewed in a simulated guest: the kernel refuses it the clock and the random generator."""

PLAYS = """
- hosts: localhost
  gather_facts: false
  roles:
    - vmfork.vsphere.vmfork

- hosts: vmfork_children
  remote_user: root
  gather_facts: false
  tasks:
    - name: Wait for the child
      ansible.builtin.wait_for_connection:
        timeout: 60

    - name: Ask the child for its name
      ansible.builtin.command: hostname
      register: asked
      failed_when: asked.stdout | lower != inventory_hostname | lower
      changed_when: false
"""

FORGET_KEYS = {
    "hosts": "localhost",
    "gather_facts": False,
    "tasks": [{"ansible.builtin.copy": {"content": "", "dest": "{{ playbook_dir }}/known_hosts"}}],
}


@pytest.fixture
def key(vcenter: VCenter, tmp_path: Path) -> Path:
    """Return the key of a user that the SSH server of the parent knows."""
    file = tmp_path / "key"
    vcenter.in_guest(vcenter.moid(), guest_ssh.installed(guest_ssh.new_key(file)))
    return file


def play(vcenter: VCenter, directory: Path, key: Path, playbook: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook with the variables of these tests."""
    (directory / "plays.yml").write_text(yaml.safe_dump(yaml.safe_load(PLAYS)))
    children = [
        {"name": name, "config_params": {"ipaddress": f"192.0.2.{number}"}} for number, name in enumerate(NAMES, 11)
    ]
    given = {
        "vmfork_parent_name": vcenter.parent,
        "vmfork_guest_username": vcenter.guest_login["guest_username"],
        "vmfork_guest_password": vcenter.guest_login["guest_password"],
        "vmfork_identity": {"items": IDENTITY, "network": "ip"},
        "vmfork_children": children,
        "vmfork_known_hosts_file": str(directory / "known_hosts"),
        **more,
    }
    return ansible_playbook(vcenter, directory, key, playbook, given)


def ansible_playbook(
    vcenter: VCenter, directory: Path, key: Path, playbook: str, variables: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """Run a playbook that may connect to guests by SSH."""
    environment = {
        **os.environ,
        **vcenter.simulator.environment,
        **guest_ssh.environment(key),
        "ANSIBLE_COLLECTIONS_PATH": str(Path(__file__).parents[2] / ".build" / "live"),
    }
    command = ["ansible-playbook", playbook, "-e", json.dumps(variables)]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@both_engines
def test_children_are_known_from_the_first_second(vcenter: VCenter, tmp_path: Path, key: Path) -> None:
    """The keys are those of the children, not of whoever answers: the key of another child is refused."""
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


@instant_clone_only("the role asks before it knows the engine")
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


@instant_clone_only("the playbook is the same for both")
def test_first_playbook_of_the_readme(
    vcenter: VCenter, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shown, apart from the address of vCenter, the name of the parent, and the number of children."""
    found = re.search(r"^```yaml\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    text = found[1].replace("vcenter.example.com", vcenter.simulator.host)
    text = text.replace("vmfork_parent_name: golden", f"vmfork_parent_name: {vcenter.parent}")
    (tmp_path / "readme.yml").write_text(text)
    variables = {
        "vcenter_password": vcenter.simulator.password,
        "guest_password": vcenter.guest_login["guest_password"],
        "vmfork_child_count": 2,
    }
    ended = ansible_playbook(vcenter, tmp_path, key, "readme.yml", variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    recap = dict(re.findall(r"^(\S+) +: ok=(\d+) ", ended.stdout, re.MULTILINE))
    assert (recap.pop("web-01"), recap.pop("web-02"), list(recap)) == ("2", "2", ["localhost"])
    assert {line.split()[0] for line in (tmp_path / "known_hosts").read_text().splitlines()} == {"web-01", "web-02"}

    # Without the keys, ssh refuses what answers. wait_for_connection would wait for another answer.
    fork, use = yaml.safe_load(text)
    use["tasks"] = [task for task in use["tasks"] if "ansible.builtin.ping" in task]
    (tmp_path / "other.yml").write_text(yaml.safe_dump([fork, FORGET_KEYS, use]))
    monkeypatch.setenv("ANSIBLE_SSH_CONTROL_PATH", "none")  # else the connections of the first run are used
    refused = ansible_playbook(vcenter, tmp_path, key, "other.yml", variables)
    assert refused.returncode != 0
    assert "Host key verification failed" in refused.stdout + refused.stderr
