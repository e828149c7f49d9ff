# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin vmfork_children, as ansible-inventory shows it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from functional.engines import INSTANT_CLONE, SOAP
from functional.vcenter import SECONDS, VCenter

Inventory = Callable[..., subprocess.CompletedProcess[str]]

ODD = ("{{ 7 * 7 }}", "-oProxyCommand=touch x", "a;b")
"""Names of VMs that would be a template, an option of ssh, or two words for a shell."""


@pytest.fixture
def inventory(vcenter: VCenter, tmp_path: Path) -> Inventory:
    """Return a function that runs ansible-inventory with options in the configuration file."""
    file = tmp_path / "web.vmfork_children.yml"

    def run(environment: dict[str, str] | None = None, other: Path | None = None, **options: Any) -> Any:
        file.write_text(yaml.safe_dump({"plugin": "vmfork.vsphere.vmfork_children", **options}))
        live = str(Path(__file__).parents[2] / ".build" / "live")
        settings = {"ANSIBLE_COLLECTIONS_PATH": live, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
        return subprocess.run(
            ["ansible-inventory", *(["-i", str(other)] if other else []), "-i", str(file), "--list"],
            env={**os.environ, **vcenter.simulator.environment, **settings, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


def hosts(ended: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return the variables of each host."""
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr, ended.stderr
    return dict(json.loads(ended.stdout, object_hook=plain)["_meta"]["hostvars"])


def plain(value: dict[str, Any]) -> Any:
    """Return a text of which ansible-inventory says that it is no template, and anything else unchanged."""
    return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else value


def refusal(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the output of an inventory that was refused, in one line."""
    assert ended.returncode != 0, ended.stdout
    assert "Traceback" not in ended.stderr
    return " ".join(ended.stderr.split())


@pytest.mark.engines(INSTANT_CLONE, SOAP)
def test_children(quiesced: VCenter, inventory: Inventory) -> None:
    quiesced.fork("web-01", *ODD)
    quiesced.govc("vm.clone", "-vm", "web-01", "-on=false", "-pool", "DC0_H0/Resources", "copy-of-web-01")
    quiesced.control("DELETE", "calls")
    ended = inventory()
    calls = quiesced.called()
    listed = hosts(ended)
    odd = {host["vmfork_child"]["name"]: name for name, host in listed.items() if name != "web-01"}
    assert odd == {name: listed[host]["vmfork_moid"] for name, host in odd.items()}
    assert set(odd) == set(ODD)
    info = quiesced.ok("vmfork_info")["parents"][0]
    (child,) = (child for child in info["children"] if child["name"] == "web-01")
    parent = {key: info[key] for key in ("name", "moid", "instance_uuid")}
    assert listed["web-01"] == {
        "ansible_host": "192.0.2.11",
        "vmfork_moid": child["moid"],
        "vmfork_instance_uuid": child["instance_uuid"],
        "vmfork_inventory_path": "/DC0/vm/web-01",
        "vmfork_parent": quiesced.parent,
        "vmfork_child": {**child, "parent": parent},
    }
    groups = json.loads(ended.stdout, object_hook=plain)
    assert sorted(groups["vmfork_children"]["hosts"]) == sorted(listed)
    for group in (f"vmfork_parent_{quiesced.parent}", "vmfork_host_DC0_H0", "vmfork_state_poweredOn"):
        assert sorted(groups[group]["hosts"]) == sorted(listed), group

    assert calls["Login"] == calls["Logout"] == 1
    more = [{"name": f"web-0{number}"} for number in (3, 4, 5)]
    quiesced.fork(children=more, wait_for="powered_on")
    quiesced.control("DELETE", "calls")
    assert len(hosts(inventory())) == 7
    assert quiesced.called() == calls


@pytest.mark.engines(INSTANT_CLONE)
def test_options(quiesced: VCenter, inventory: Inventory, tmp_path: Path) -> None:
    quiesced.control("POST", "inventory", {"folders": ["/DC0/vm/other", "/DC0/vm/empty"]})
    quiesced.fork("web-01", "web-02", "web-03")
    quiesced.govc("object.mv", "/DC0/vm/web-01", "/DC0/vm/other")
    quiesced.govc("object.rename", "/DC0/vm/web-03", "web-01")
    named = {"hostnames": ["vmfork_child.name ~ '_' ~ vmfork_moid"]}

    said = refusal(inventory())
    assert "would be the host web-01. Set hostnames" in said
    assert len(hosts(inventory(**named))) == 3
    assert set(hosts(inventory(folder="other"))) == {"web-01"}
    listed = hosts(inventory(ip_network="192.0.2.12/32", datacenter="DC0", **named, parents=[quiesced.parent]))
    addresses = {host["ansible_host"] for host in listed.values()}
    assert "192.0.2.12" in addresses
    assert all(address.endswith(".invalid") for address in addresses - {"192.0.2.12"})
    assert len(addresses) == 3
    assert not hosts(inventory(folder="empty", parents=[quiesced.parent]))

    for options, message in (
        ({"parents": ["goldne"]}, "parents has goldne, but the user sees no VM of that name"),
        ({"ip_network": "192.0.2.0/33"}, "ip_network 192.0.2.0/33 is not a network"),
        ({"hostnames": ["'localhost'"]}, "which is the controller"),
        ({"hostnames": ["''", "'-oProxyCommand=x'"]}, "No expression of hostnames is a valid name"),
        ({"hostnames": ["'vmfork_children'"], "folder": "other"}, "the name of a host and of a group"),
        ({"hostnames": ["'new'"], "folder": "other", "groups": {"new": "true"}}, "the name of a host and of a group"),
        ({"known_hosts_file": "x", "compose": {"ansible_ssh_args": "''"}}, "compose sets ansible_ssh_args"),
        ({"validate_certs": "tru"}, "validate_certs"),
        ({"parent": quiesced.parent}, "The inventory has no option parent. Check the spelling"),
        ({"strict": True, "compose": {"unknown": "no_such_variable"}, **named}, "no_such_variable"),
    ):
        quiesced.control("DELETE", "calls")
        ended = inventory(**options)
        assert message in refusal(ended)
        may_ask = "parents" in options or "hostnames" in options
        assert may_ask or not quiesced.called(), "the server was asked before the options were checked"
        assert "web-0" not in ended.stdout, "a part of the children is in the inventory"

    grouped = inventory(
        **named,
        compose={"ansible_user": "'admin'"},
        groups={"first": "vmfork_child.name == 'web-01'"},
        keyed_groups=[{"key": "vmfork_child.folder", "prefix": "", "separator": ""}],
    )
    assert {host["ansible_user"] for host in hosts(grouped).values()} == {"admin"}
    assert len(json.loads(grouped.stdout)["first"]["hosts"]) == 2

    known = hosts(inventory(folder="other", known_hosts_file="known_hosts"))["web-01"]
    assert known["ansible_host_key_checking"] is True
    assert f'UserKnownHostsFile="{tmp_path}/known_hosts"' in known["ansible_ssh_args"]
    assert "ControlPersist" in known["ansible_ssh_args"]


@pytest.mark.engines(INSTANT_CLONE)
def test_hosts_of_other_sources(quiesced: VCenter, inventory: Inventory, tmp_path: Path) -> None:
    """A child is never mistaken for a host of another inventory, which may have its own address."""
    quiesced.fork("web-01", wait_for="powered_on")
    static = tmp_path / "static.ini"
    static.write_text("web-01 ansible_host=192.0.2.99\n")
    assert "The inventory has another host web-01" in refusal(inventory(other=static))
    static.write_text("[web-01]\ndb-01\n")
    assert "the name of a host and of a group" in refusal(inventory(other=static))


@pytest.mark.engines(INSTANT_CLONE)
def test_connection_and_cache(quiesced: VCenter, inventory: Inventory, tmp_path: Path) -> None:
    quiesced.fork("web-01", wait_for="powered_on")
    wrong = "wrong-but-secret-0123456789"
    said = refusal(inventory(password=wrong))
    assert "refused the login" in said
    assert wrong not in said
    assert "hostname is missing" in refusal(inventory(hostname="", environment={"VMWARE_HOST": ""}))

    cached = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    login = {"password": "{{ lookup('ansible.builtin.env', 'ANOTHER_VARIABLE') }}"}
    environment = {"VMWARE_PASSWORD": wrong, "ANOTHER_VARIABLE": quiesced.simulator.password}
    assert set(hosts(inventory(**cached, **login, environment=environment))) == {"web-01"}
    (file,) = (tmp_path / "cache").iterdir()
    assert quiesced.simulator.password not in file.read_text()
    quiesced.fork(children=[{"name": "web-02"}], wait_for="powered_on")
    quiesced.control("DELETE", "calls")
    assert set(hosts(inventory(**cached))) == {"web-01"}
    assert not quiesced.called()
    file.unlink()
    assert set(hosts(inventory(**cached))) == {"web-01", "web-02"}
    assert set(hosts(inventory(**cached, folder="/DC0/vm"))) == {"web-01", "web-02"}
