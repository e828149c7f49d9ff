# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which the role takes children and networks from playbooks, the command line and surveys."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.templates import evaluate

ROLE = yaml.safe_load((Path(__file__).parents[2] / "roles/vmfork/vars/main.yml").read_text(encoding="utf-8"))
NETWORK = {"mac_address": "impossible"}
CHILD = {"name": "one", "networks": [NETWORK]}


def option(name: str, **variables: Any) -> Any:
    """Return the value that the role passes to a module, with these variables of the user."""
    return evaluate("{{ " + name + " }}", {**ROLE, **variables})


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"vmfork_children": ["one"]}, ["one"]),
        ({"vmfork_children": "one"}, ["one"]),
        ({"vmfork_children": "one,two"}, ["one", "two"]),
        ({"vmfork_children": " one , two words ,, "}, ["one", "two words"]),
        ({"vmfork_children": "one\r\ntwo\r\n"}, ["one", "two"]),
        ({"vmfork_children": '["one, or so", {"name": "two"}]'}, ["one, or so", "two"]),
        ({"vmfork_children": []}, []),
        ({"vmfork_child_count": 2}, ["web-01", "web-02"]),
        ({"vmfork_child_count": "2", "vmfork_child_name": "%d of two"}, ["1 of two", "2 of two"]),
        ({"vmfork_child_count": 0}, []),
        ({"vmfork_child_count": "2", "vmfork_children": "", "vmfork_child_name": ""}, ["web-01", "web-02"]),
    ],
)
def test_children(variables: dict[str, Any], names: list[str]) -> None:
    assert [child["name"] for child in option("__vmfork_children", **variables)] == names


def test_addresses() -> None:
    children = option("__vmfork_children", vmfork_child_count="2", vmfork_first_address="192.0.2.255")
    assert [child["config_params"]["ipaddress"] for child in children] == ["192.0.2.255", "192.0.3.0"]


@pytest.mark.parametrize("given", [[NETWORK], json.dumps([NETWORK])])
def test_networks(given: Any) -> None:
    assert option("__vmfork_networks", vmfork_networks=given) == [NETWORK]


@pytest.mark.parametrize("given", [[CHILD], json.dumps([CHILD])])
def test_networks_of_a_child(given: Any) -> None:
    assert option("__vmfork_children", vmfork_children=given) == [CHILD]


@pytest.mark.parametrize("given", ["", None, True, "true", "Yes", "on", "1", 1])
def test_preflight_is_made(given: Any) -> None:
    """An unanswered question of a survey leaves the default."""
    assert option("__vmfork_preflight", vmfork_preflight=given) is True


@pytest.mark.parametrize("given", [False, "false", "No", "off", "0", 0])
def test_preflight_is_skipped(given: Any) -> None:
    assert option("__vmfork_preflight", vmfork_preflight=given) is False


LOGIN = {"vmfork_guest_username": "root"}
RUNNING, FROZEN = ({"__vmfork_enabled": {"parent": {"quiesced": quiesced}}} for quiesced in (False, True))
POST_CLONE = {"vmfork_post_clone_script_file": "post_clone.sh"}


@pytest.mark.parametrize(
    ("variables", "identity", "method"),
    [
        ({}, "none", "wait"),
        (LOGIN, "auto", "scripts"),
        ({**LOGIN, "vmfork_identity": ""}, "auto", "scripts"),
        ({**LOGIN, "vmfork_wait_for": "post_clone"}, "auto", "scripts"),
        ({**LOGIN, "vmfork_wait_for": "tools"}, "none", "wait"),
        ({**LOGIN, **POST_CLONE}, "none", "scripts"),
        ({**LOGIN, "vmfork_pre_quiesce_script_file": "pre_quiesce.sh"}, "none", "scripts"),
        ({**LOGIN, "vmfork_script_file": "script.sh"}, "none", "script"),
        ({**LOGIN, "vmfork_identity": "none"}, "none", "wait"),
        ({**LOGIN, **POST_CLONE, "vmfork_identity": "auto"}, "auto", "scripts"),
        ({"vmfork_identity": "auto"}, "auto", "scripts"),
        ({"vmfork_identity": '{"network": "none"}'}, {"network": "none"}, "scripts"),
    ],
)
def test_identity(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any], identity: Any, method: str) -> None:
    """By default, it is renewed only where a run without it could not have worked."""
    monkeypatch.delenv("VMWARE_GUEST_USER", raising=False)
    assert option("__vmfork_identity", **RUNNING, **variables) == identity
    assert option("__vmfork_method", **RUNNING, **variables) == method


def test_login_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMWARE_GUEST_USER", "root")
    assert option("__vmfork_identity", **RUNNING) == "auto"


def test_parent_at_its_fork_point_stays_as_it_is() -> None:
    """Unless the user asks for an identity: then the module reports what it was quiesced with."""
    assert option("__vmfork_method", **FROZEN, **LOGIN) == "wait"
    assert option("__vmfork_method", **FROZEN, **LOGIN, vmfork_identity="auto") == "scripts"


WINDOWS = {"__vmfork_enabled": {"parent": {"quiesced": False, "guest_family": "windowsGuest"}}}


def test_identity_of_windows_guests_is_not_renewed_by_default() -> None:
    """The script is experimental. The guest is expected to come to its fork point by itself, as without a login."""
    for identity in ("", None):
        assert option("__vmfork_method", **WINDOWS, **LOGIN, vmfork_identity=identity) == "wait"
        for rehearsal in (True, False):
            state = {"__vmfork_is_rehearsal": rehearsal, "__vmfork_quiesced": {"has_identity_script": False}}
            given = {**LOGIN, "vmfork_identity": identity}
            assert option("__vmfork_child_identity", **WINDOWS, **given, **state, omit="omitted") == "omitted"


@pytest.mark.parametrize("given", ["auto", {"items": ["hostname"]}])
def test_identity_of_windows_guests_on_request(given: Any) -> None:
    assert option("__vmfork_method", **WINDOWS, **LOGIN, vmfork_identity=given) == "scripts"
    passed = option("__vmfork_child_identity", **WINDOWS, **LOGIN, vmfork_identity=given, omit="omitted")
    assert passed["items"] == (["auto"] if given == "auto" else ["hostname"])


@pytest.mark.parametrize(
    ("parent", "first"), [(RUNNING, "#!/bin/sh"), (WINDOWS, "# SPDX-FileCopyrightText: vmfork.vsphere contributors")]
)
def test_identity_script_is_that_of_the_guest(parent: dict[str, Any], first: str) -> None:
    role = str(Path(__file__).parents[2] / "roles/vmfork")
    script = option("__vmfork_identity_script", **parent, vmfork_identity="auto", role_path=role, omit="omitted")
    assert script.splitlines()[0] == first


@pytest.mark.parametrize(
    ("given", "has_script", "is_required"),
    [("", True, True), ("", False, False), ("", None, True), ("auto", False, True), ("none", True, False)],
)
def test_identity_is_required_of_children_that_have_the_script(
    given: str, has_script: bool | None, is_required: bool
) -> None:
    quiesced = {} if has_script is None else {"__vmfork_quiesced": {"has_identity_script": has_script}}
    passed = option("__vmfork_child_identity", **FROZEN, **LOGIN, vmfork_identity=given, omit="omitted", **quiesced)
    everything = {"items": ["auto"], "network": "auto", "agents_remove": [], "agents_restart": []}
    assert passed == (everything if is_required else "omitted")


@pytest.mark.parametrize(
    ("given", "is_there"),
    [("auto", False), ({"items": ["auto", "cloud_init"]}, True), ({"items": "clock,cloud_init"}, True)],
)
def test_part_for_cloud_init_is_delivered_on_request(given: Any, is_there: bool) -> None:
    path = Path(__file__).parents[2] / "roles/vmfork"
    script = option("__vmfork_identity_script", **RUNNING, vmfork_identity=given, role_path=str(path), omit="omitted")
    assert script.startswith("#!/bin/sh\n")
    assert script.endswith('\nmain "$@"\n')
    assert ("renew_cloud_init() {" in script) is is_there


@pytest.mark.parametrize("remove", [["/opt/a", "/opt/b"], "/opt/a,/opt/b"])
def test_identity_of_a_dictionary(remove: Any) -> None:
    given = {"items": "clock,agents", "agents": {"remove": remove, "restart": ["a"]}}
    for form in (given, json.dumps(given)):
        assert option("__vmfork_child_identity", vmfork_identity=form) == {
            "items": ["clock", "agents"],
            "network": "auto",
            "agents_remove": ["/opt/a", "/opt/b"],
            "agents_restart": ["a"],
        }


KEYS = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="]
RENEWED = {"ssh_host_keys": "ok"}


def results(*children: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of a run with these results."""
    identity = {"items": RENEWED, "ssh_host_keys": KEYS, "renewed": True}
    made = {"state": "created", "moid": "vm-1", "uuid": "u", "instance_uuid": "I-1", "inventory_path": "/x"}
    rest = {"ip_addresses": ["192.0.2.7"], "config_params": {}, "identity": identity}
    entries = [{**made, **rest, **child} for child in children]
    return {
        "vmfork_children": [child["name"] for child in children],
        "vmfork_result": {"children": entries, "parent": {"name": "golden"}},
    }


@pytest.mark.parametrize(
    ("child", "keys"),
    [
        ({"name": "Web-01"}, {"web-01": KEYS}),
        ({"name": "web 01"}, {"i-1": KEYS}),
        ({"name": "*"}, {"i-1": KEYS}),
        ({"name": "web-01", "identity": None}, {"web-01": []}),
        ({"name": "web-01", "identity": {"items": RENEWED, "ssh_host_keys": KEYS, "renewed": False}}, {"web-01": []}),
        ({"name": "web-01", "identity": {"items": {}, "ssh_host_keys": KEYS, "renewed": True}}, {"web-01": []}),
        ({"name": "web-01", "state": "failed", "identity": None}, {}),
        ({"name": "web-01", "state": "removed", "identity": None}, {"web-01": []}),
    ],
)
def test_host_keys(child: dict[str, Any], keys: dict[str, list[str]]) -> None:
    """Only keys that were renewed are accepted; an earlier key of a child without one is removed."""
    assert option("__vmfork_host_keys", **results(child)) == keys


@pytest.mark.parametrize(
    "users",
    [
        None,
        "",
        "-o ProxyJump=gate",
        "-o ProxyJump=gate -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o HostKeyAlias=other",
    ],
)
def test_ssh_arguments(users: str | None, tmp_path: Path) -> None:
    """They mean to ssh what they should, whatever is in the path, and even if the user accepts any key."""
    directory = tmp_path / "a b%h"
    directory.mkdir()
    variables = {
        **results({"name": "Web-01"}),
        "vmfork_known_hosts_file": str(directory / "known"),
        **({} if users is None else {"ansible_ssh_args": users}),
    }
    (host,) = option("__vmfork_hosts", **variables)
    arguments = shlex.split(option("__vmfork_ssh_args", __vmfork_host=host, **variables))
    meant = subprocess.run(["ssh", "-G", *arguments, "x"], check=True, stdout=subprocess.PIPE, text=True).stdout
    settings = dict(line.split(" ", 1) for line in meant.splitlines())
    assert settings["hostkeyalias"] == "web-01"
    assert settings["stricthostkeychecking"] == "true"
    assert settings["userknownhostsfile"].strip('"').replace("%%", "%") == str(directory / "known")
    assert settings["globalknownhostsfile"] == "/dev/null"
    assert settings.get("proxyjump", "") == ("gate" if users else "")
    assert ("ControlPersist=60s" in arguments) == (users is None)  # a default of Ansible


@pytest.mark.parametrize(
    ("name", "address"), [("web-01", ""), ("-oProxyCommand=x", "vm-7.invalid"), ("a/b", "vm-7.invalid")]
)
def test_name_without_an_address_is_no_option_for_ssh(name: str, address: str) -> None:
    child = {"name": name, "moid": "vm-7", "ip_addresses": [], "config_params": {}}
    (host,) = option("__vmfork_hosts", **results(child))
    assert host["address"] == address


def tasks_of(name: str) -> list[dict[str, Any]]:
    path = Path(__file__).parents[2] / f"roles/vmfork/tasks/{name}.yml"
    return list(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["ansible_host_key_checking", "ansible_ssh_host_key_checking"])
@pytest.mark.parametrize(("file", "is_checked"), [("/known", True), ("", "omitted")])
def test_host_keys_are_checked_whatever_the_configuration_says(file: str, is_checked: Any, name: str) -> None:
    (task,) = tasks_of("inventory")
    template = task["ansible.builtin.add_host"][name]
    assert evaluate(template, {**ROLE, "vmfork_known_hosts_file": file, "omit": "omitted"}) == is_checked


def known_hosts_content(file: Path, **variables: Any) -> str:
    """Return what the role writes to a known_hosts file."""
    (task,) = tasks_of("known_hosts")
    given = {**ROLE, **results({"name": "Web-01"}), "vmfork_known_hosts_file": str(file), **variables}
    return str(evaluate(task["ansible.builtin.copy"]["content"], given))


def test_known_hosts_file_is_created_or_extended(tmp_path: Path) -> None:
    file = tmp_path / "known"
    line = f"web-01 {KEYS[0]} vmfork\n"
    assert known_hosts_content(file).startswith(line)
    file.write_text("gate ssh-ed25519 AAAA\n")
    assert known_hosts_content(file).startswith(f"gate ssh-ed25519 AAAA\n{line}")


def test_known_hosts_file_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    """A directory, since root can read all files."""
    with pytest.raises(Exception, match=str(tmp_path)):
        known_hosts_content(tmp_path)


def test_known_hosts_file_is_named_in_an_error(tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_text("web-01 ssh-ed25519 AAAA\n")
    with pytest.raises(Exception, match=f"{file} has a line for web-01"):
        known_hosts_content(file)


@pytest.mark.parametrize(
    ("names", "clash"),
    [("web-01,gate", "gate"), ("Gate", "gate"), ("web-01,web-02", None), ("child of gate,*", None)],
)
def test_known_hosts_file_is_checked_before_the_fork(tmp_path: Path, names: str, clash: str | None) -> None:
    """A child whose name is no host name gets its UUID as the name for ssh, which is not known yet."""
    file = tmp_path / "known"
    file.write_text(f"gate {KEYS[0]}\nweb-01 {KEYS[0]} vmfork\n")
    (task,) = (task for task in tasks_of("check") if "known_hosts" in str(task.get("ansible.builtin.assert")))
    (condition,) = [text for text in task["ansible.builtin.assert"]["that"] if "known_hosts(" in text]
    given = {**ROLE, "vmfork_known_hosts_file": str(file), "vmfork_children": names}
    if clash is None:
        assert evaluate("{{ " + condition + " }}", given) is True
    else:
        with pytest.raises(Exception, match=f"{file} has a line for {clash}"):
            evaluate("{{ " + condition + " }}", given)


@pytest.mark.parametrize(
    ("variables", "is_written"),
    [
        ({"__vmfork_children_task": {"children": []}}, True),
        ({"__vmfork_children_task": {"children": [], "failed": True}}, True),
        ({"__vmfork_children_task": {"failed": True}, "vmfork_result": {"children": []}}, False),
        ({"__vmfork_children_task": {"children": []}, "__vmfork_is_rehearsal": True}, False),
        ({"__vmfork_children_task": {"children": []}, "vmfork_known_hosts_file": ""}, False),
    ],
)
def test_host_keys_are_written_from_results_alone(variables: dict[str, Any], is_written: bool) -> None:
    """Neither from the check before the quiesce nor from the results of an earlier run of the role."""
    (task,) = tasks_of("known_hosts")
    given = {"vmfork_known_hosts_file": "/known", **variables}
    assert isinstance(task["when"], list)
    conditions = [evaluate("{{ " + condition + " }}", given) for condition in task["when"]]
    assert all(conditions) is is_written


@pytest.mark.parametrize("file", ["children", "remove"])
def test_host_keys_are_written_after_failures(file: str) -> None:
    """One child that fails must not leave the others without their keys."""
    after = [task["always"] for task in tasks_of(file) if "always" in task]
    assert [[task["ansible.builtin.import_tasks"] for task in tasks] for tasks in after] == [
        ["result.yml", "known_hosts.yml"]
    ]


def test_known_hosts_file_stays_the_users() -> None:
    """The play may have become: true."""
    (task,) = tasks_of("known_hosts")
    assert task["become"] is False
