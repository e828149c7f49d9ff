# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up vApp options of the simulator with the action plugin: the files, what they keep, and what is never shown."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from functional.vapp import Appliance, Estate, estate, prop
from functional.vcenter import SECONDS, VCenter
from harness.simulator import Simulator
from pyVmomi import vim

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECONFIGURE = "ReconfigVM_Task"
LICENSE = "vmforktest-license-0123456789"
PASSWORD = "vmforktest-password-0123456789"
VAULT_PASSWORD = "vmforktest-vault-0123456789"
SECTION = vim.vApp.OvfSectionInfo(key=1, namespace="urn:x", type="T", contents=f'<Login password="{LICENSE}"/>')


@pytest.fixture
def place() -> Iterator[Estate]:
    with Simulator("-vm", "0", "-host", "1", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "backup"


class Run(dict[str, Any]):
    """The result of the task."""


def back_up(place: Estate, directory: pathlib.Path, *options: str, **given: Any) -> Run:
    """Run the task with ``ansible`` and maximum verbosity."""
    simulator = place.vcenter.simulator
    log = directory.parent / "ansible.log"
    environment = {
        **os.environ,
        **simulator.environment,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "live"),
        "ANSIBLE_LOG_PATH": str(log),
        "ANSIBLE_NOCOLOR": "true",
        **given.pop("environment", {}),
    }
    arguments = {"directory": str(directory), **given}
    command = ["ansible", "localhost", "-vvvvv", "-m", "vmfork.vsphere.vapp_backup", "-a", json.dumps(arguments)]
    ended = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
    )
    output = ended.stdout + ended.stderr + log.read_text()
    assert PASSWORD not in output
    assert LICENSE not in output
    assert VAULT_PASSWORD not in output
    assert simulator.password not in output
    _head, _arrow, text = ended.stdout.partition(" => {")
    result = Run(json.JSONDecoder().raw_decode("{" + text)[0]) if text else Run(failed=True, msg=output)
    return Run({**result, "failed": ended.returncode != 0})


def appliance(place: Estate, name: str) -> Appliance:
    return place.appliance(
        name,
        prop("hostname", "größe"),
        prop("admin", PASSWORD, kind="password(8..)"),
        prop("license_key", LICENSE),
        prop("token", default=LICENSE, class_id="vami", instance_id="VM"),
        product="Appliance",
        eula=["Accept it.", f"password: {LICENSE}"],
        ovfSection=[vim.vApp.OvfSectionSpec(operation="add", info=SECTION)],
    )


def files(directory: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.exists() else {}


def content(directory: pathlib.Path, vm: Appliance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / f"{vm.mo.config.instanceUuid}.json").read_text(encoding="utf-8"))
    return found


def properties(document: dict[str, Any]) -> dict[str, Any]:
    return {prop["key"]: prop for prop in document["properties"]}


def index(directory: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "index.json").read_text())
    return found


def test_check_run_run_again(place: Estate, directory: pathlib.Path) -> None:
    first, second = appliance(place, "first"), appliance(place, "second")
    place.bare("plain")
    checked = back_up(place, directory, "--check", "--diff")
    assert not directory.exists()
    done = back_up(place, directory, "--diff")
    written = files(directory)
    again = back_up(place, directory, "--diff")
    assert files(directory) == written
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    for name in ("files", "vms", "summary", "complete", "diff"):
        assert checked[name] == done[name], name
    assert set(written) == {"index.json", *(f"{vm.mo.config.instanceUuid}.json" for vm in (first, second))}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    exported = place.vcenter.ok("vm_ovfenv_info", moid=[first.moid], export=True)["ovfenv"][0]["export"]
    assert content(directory, first) == exported
    assert "größe".encode() in written[f"{first.mo.config.instanceUuid}.json"]
    assert done["summary"] == {"total": 3, "saved": 2, "written": 2, "gone": 0, "not_read": 0}
    assert [(vm["name"], vm["file"], vm["state"]) for vm in index(directory)["vms"]] == [
        (vm.name, f"{vm.mo.config.instanceUuid}.json", "saved") for vm in (first, second)
    ]
    assert index(directory)["vcenter"] == "127.0.0.1"

    first.set_property("hostname", "other")
    changed = back_up(place, directory, "--diff")
    assert changed["files"] == [f"{first.mo.config.instanceUuid}.json"]
    assert '"value": "größe"' in changed["diff"][0]["before"]
    assert '"value": "other"' in changed["diff"][0]["after"]


def test_cost(place: Estate, directory: pathlib.Path) -> None:
    """Running VMs need no additional calls."""
    counts = []
    for name in ("a", "b", "c"):
        appliance(place, name).power_on()
        with place.vcenter.calls() as calls:
            back_up(place, directory)
        counts.append(dict(calls))
    assert counts[0] == counts[1] == counts[2]
    assert "ExtractOvfEnvironment" not in counts[0]


def test_lost_options(place: Estate, directory: pathlib.Path) -> None:
    first = appliance(place, "first")
    back_up(place, directory)
    before = content(directory, first)
    place.vcenter.ok("vm_vapp_options", moid=first.moid, enabled=False, force=True)
    lost = back_up(place, directory)
    assert content(directory, first) == before
    (row,) = lost["vms"]
    assert row["state"] == "gone"
    assert row["message"] == f"its vApp options are gone, and {row['file']} was kept"
    assert lost["summary"]["gone"] == 1
    assert lost["complete"]
    assert not back_up(place, directory)["changed"]
    place.vcenter.ok("vm_vapp_options", moid=first.moid, restore_from=before, enabled=True)
    back_up(place, directory)
    assert index(directory)["vms"][0]["state"] == "saved"


def test_missing_named_vm(place: Estate, directory: pathlib.Path) -> None:
    appliance(place, "first")
    result = back_up(place, directory, name=["first", "secnd"])
    assert result["failed"]
    assert result["msg"] == "1 of 2 VMs could not be saved: secnd (it was not found). See vms."
    assert [vm["name"] for vm in index(directory)["vms"]] == ["first"]
    assert index(directory)["not_read"] == [{"name": "secnd", "moid": None, "reason": "it was not found"}]
    assert not index(directory)["complete"]
    missing = back_up(place, directory, name=["frist"])
    assert "VM frist was not found" in missing["msg"]


def test_user_who_sees_no_vm(place: Estate, directory: pathlib.Path) -> None:
    """Neither a backup nor a restore of nothing is a success."""
    vm = appliance(place, "first")
    back_up(place, directory)
    blind = {"name": "blind@vsphere.local", "password": "vmforktest-blind-0123456789"}
    place.vcenter.control("POST", "users", {**blind, "deny": ["System.View", "System.Read"], "deny_on": [vm.moid]})
    login = {"VMWARE_USER": blind["name"], "VMWARE_PASSWORD": blind["password"]}
    result = back_up(place, directory, environment=login)
    assert result["failed"]
    assert result["msg"] == (
        "No VM was found, so none is saved. Check name, folder and datacenter, and the privileges of the user."
    )
    assert not index(directory)["complete"]
    assert [vm["state"] for vm in index(directory)["vms"]] == ["not_in_scope"]
    command = restore_command(place, directory, ["first"])
    command["env"] |= login
    ended = subprocess.run(**command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode == 2
    assert "No VM of the backup was found." in ended.stdout
    assert "Not restored: first" in ended.stdout + ended.stderr


def test_password_within_a_value(place: Estate, directory: pathlib.Path) -> None:
    """It is neither masked in a file nor written to one."""
    password = place.vcenter.simulator.password
    vm = place.appliance("one", prop("note", f"ask for {password}, please"))
    appliance(place, "two")
    for _run in range(2):
        result = back_up(place, directory)
        assert "1 of 2 VMs could not be saved: one (a password of this run is part of its vApp options" in result["msg"]
        assert [vm["name"] for vm in index(directory)["vms"]] == ["two"]
    assert password not in str(files(directory))
    assert f"{vm.mo.config.instanceUuid}.json" not in files(directory)


def test_password_that_is_an_ordinary_word(place: Estate, directory: pathlib.Path) -> None:
    """Names are saved unchanged, although Ansible masks them in the result of a module."""
    environment = {**os.environ, **place.vcenter.simulator.environment, "VMWARE_PASSWORD": "web"}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".build" / "live")
    place.appliance("web-02", prop("role", "mail"))
    place.vcenter.control("POST", "users", {"name": "web@vsphere.local", "password": "web"})
    arguments = json.dumps({"directory": str(directory), "username": "web@vsphere.local"})
    command = ["ansible", "localhost", "-m", "vmfork.vsphere.vapp_backup", "-a", arguments]
    subprocess.run(command, capture_output=True, env=environment, timeout=SECONDS, check=True)
    assert index(directory)["vms"][0]["name"] == "web-02"
    assert index(directory)["vms"][0]["inventory_path"] == "/DC0/vm/web-02"


@pytest.fixture
def vault(tmp_path: pathlib.Path) -> list[str]:
    for name, password in {"vapp": VAULT_PASSWORD, "other": "vmforktest-other-vault"}.items():
        (tmp_path / name).write_text(password)
    return ["--vault-id", f"other@{tmp_path / 'other'}", "--vault-id", f"vapp@{tmp_path / 'vapp'}"]


def decrypted(tmp_path: pathlib.Path, value: Any) -> str:
    (tmp_path / "value").write_text(value["__ansible_vault"])
    command = ["ansible-vault", "view", "--vault-id", f"vapp@{tmp_path / 'vapp'}", str(tmp_path / "value")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_vault(place: Estate, directory: pathlib.Path, tmp_path: pathlib.Path, vault: list[str]) -> None:
    first = appliance(place, "first")
    given = {"secrets": "vault", "vault_id": "vapp"}
    assert back_up(place, directory, "--check", "--diff", *vault, **given)["changed"]
    done = back_up(place, directory, "--diff", *vault, environment={"ANSIBLE_DEBUG": "true"}, **given)
    assert "ANSIBLE_VAULT" not in json.dumps(done)
    saved = properties(content(directory, first))
    assert saved["admin"]["value"] is None, "nobody can read a password"
    assert saved["license_key"]["value"]["__ansible_vault"].startswith("$ANSIBLE_VAULT;1.2;AES256;vapp\n")
    assert decrypted(tmp_path, saved["license_key"]["value"]).rstrip("\n") == LICENSE
    assert decrypted(tmp_path, saved["vami.token.VM"]["default"]).rstrip("\n") == LICENSE
    assert LICENSE.encode() not in b"".join(files(directory).values())
    assert not back_up(place, directory, *vault, **given)["changed"]

    first.set_property("license_key", LICENSE + "-new")
    assert back_up(place, directory, *vault, **given)["files"] == [f"{first.mo.config.instanceUuid}.json"]
    now = properties(content(directory, first))
    assert decrypted(tmp_path, now["license_key"]["value"]).rstrip("\n") == LICENSE + "-new"
    assert now["vami.token.VM"] == saved["vami.token.VM"], "what has not changed is not encrypted again"

    (tmp_path / "vapp").write_text(VAULT_PASSWORD + "-new")
    assert back_up(place, directory, *vault, **given)["changed"], "the password was changed"
    assert not back_up(place, directory, *vault, **given)["changed"]


def test_missing_vault_password(place: Estate, directory: pathlib.Path, vault: list[str]) -> None:
    appliance(place, "first")
    with place.vcenter.calls() as calls:
        result = back_up(place, directory, *vault, secrets="vault", vault_id="vap")
    assert "needs a vault password with the ID vap, which this run does not have (it has: other, vapp)" in result["msg"]
    assert "it has: none" in back_up(place, directory, secrets="vault")["msg"]
    assert not calls
    assert not directory.exists()


def test_files_that_cannot_be_replaced(place: Estate, directory: pathlib.Path) -> None:
    vm = appliance(place, "first")
    directory.touch()
    assert f"{directory} is not a directory." in back_up(place, directory)["msg"]
    directory.unlink()
    directory.symlink_to(directory.parent / "nowhere")
    assert f"{directory} is not a directory." in back_up(place, directory)["msg"]
    directory.unlink()
    directory.mkdir()
    link = directory / f"{vm.mo.config.instanceUuid}.json"
    link.symlink_to(directory.parent / "target")
    assert "is not a backup of this VM (it is a symbolic link); move it away" in back_up(place, directory)["msg"]
    assert link.is_symlink()
    assert not (directory.parent / "target").exists()
    (directory / "index.json").write_text("<<<<<<< HEAD")
    refused = back_up(place, directory)["msg"]
    assert (
        "index.json exists, but is not an index of a backup of vApp options: it is not JSON. Nothing was written."
        in refused
    )
    (directory / "index.json").write_text('{"version": "\\u001b[2J", "vms": []}')
    assert "it has version \\x1b[2J, but only version 1 is supported" in back_up(place, directory)["msg"]


def restore_command(place: Estate, directory: pathlib.Path, names: list[str]) -> dict[str, Any]:
    """Return the command of the playbook and its environment, as arguments of subprocess."""
    environment = {**os.environ, **place.vcenter.simulator.environment}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".build" / "live")
    given = {"vapp_backup_directory": str(directory), "vapp_restore_confirm": names}
    return {
        "args": ["ansible-playbook", "vmfork.vsphere.vapp_restore", "-e", json.dumps(given)],
        "env": environment,
    }


def restore(place: Estate, directory: pathlib.Path, names: list[str], *vault: str) -> tuple[int, str]:
    """Run the playbook, and return its exit code and its output."""
    command = restore_command(place, directory, names)
    command["args"] += vault
    ended = subprocess.run(**command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert LICENSE not in ended.stdout + ended.stderr
    return ended.returncode, ended.stdout


def secrets_of(vm: Appliance) -> list[str]:
    """Return the texts that vCenter shows of the VM, in no order of its own."""
    options = vm.mo.config.vAppConfig
    texts = [*options.eula, *(section.contents for section in options.ovfSection)]
    return sorted([*texts, *(prop.value or "" for prop in options.property)])


def test_restored_from_a_backup(
    place: Estate, directory: pathlib.Path, tmp_path: pathlib.Path, vault: list[str]
) -> None:
    """Back up, lose all, restore, back up: the same bytes. A VM with another instance UUID has its BIOS UUID still."""
    names = ["first", "second one", "moved"]
    made = [appliance(place, name) for name in names]
    secrets = [secrets_of(vm) for vm in made]
    given = {"secrets": "vault", "vault_id": "vapp"}
    back_up(place, directory, *vault, **given)
    before = files(directory)
    assert LICENSE.encode() not in b"".join(before.values())
    assert b"".join(before.values()).count(b"$ANSIBLE_VAULT;1.2;AES256;vapp") == 4 * len(names)
    for vm in made:
        place.vcenter.ok("vm_vapp_options", moid=vm.moid, enabled=False, force=True)
    left = f"{made[2].mo.config.instanceUuid}.json"
    made[2].reconfigure(instanceUuid="50050d8f-0000-0000-0000-0000000000ff")
    lost = back_up(place, directory, *vault, **given)
    states = {row["name"]: row["state"] for row in lost["vms"]}
    assert states == {"first": "gone", "second one": "gone", "moved": "not_in_scope"}

    with place.vcenter.calls() as calls:
        code, output = restore(place, directory, names, *vault[:2])
    assert code == 2
    assert "cannot be decrypted with the vault passwords of this run. Provide the vault password of the" in output
    assert RECONFIGURE not in calls
    code, output = restore(place, directory, names, *vault)
    assert code == 0, output
    assert re.search(r"moved +restored +BIOS UUID +its", output), output
    assert [secrets_of(vm) for vm in made] == secrets
    back_up(place, directory, *vault, **given)
    kept = before.keys() - {left, "index.json"}
    assert {name: files(directory)[name] for name in kept} == {name: before[name] for name in kept}
    again = content(directory, made[2])
    assert again["properties"][0] == json.loads(before[left])["properties"][0]
