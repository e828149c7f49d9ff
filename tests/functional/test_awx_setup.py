# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""extensions/awx: what setup.yml passes to the modules of awx.awx, and whether the playbooks know it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from functional import awx
from functional.launch import MODULES
from unit.test_examples import PLAYBOOKS, ROLE, check_playbook

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis

ENTRY_POINTS = {"fork": "main", "remove_children": "remove", "thaw_parent": "thaw"}
"""The entry point of the role that a playbook runs."""

BOOLEANS = ["false", "true"]
CHOICES = {
    "ovfenv_guest_probe": MODULES["vm_ovfenv"].SPEC["guest_probe"]["choices"],
    "ovfenv_fail_on": list(diagnosis.URGENCY),
    "ovfenv_shutdown": MODULES["vm_ovfenv"].SPEC["shutdown"]["choices"],
    "ovfenv_accept_risks": MODULES["vm_ovfenv"].SPEC["accept_risks"]["choices"],
    "vapp_backup_secrets": MODULES["vapp_backup"].SPEC["secrets"]["choices"],
    "vapp_restore_update_secrets": MODULES["vapp_restore"].SPEC["update_secrets"]["choices"],
    "vapp_restore_match_name": BOOLEANS,
    "vapp_restore_overwrite": BOOLEANS,
    "vmfork_remove_all": BOOLEANS,
    "vmfork_remove_force": BOOLEANS,
    "vmfork_thaw_force": BOOLEANS,
}
"""The choices of variables that are not options of the role, and of booleans."""

AWX_TYPES = {"text", "textarea", "integer", "multiplechoice", "multiselect"}
"""Types of questions, without float, which no variable needs, and password, since secrets are in credentials."""


def questions(playbook: str) -> list[dict[str, Any]]:
    return list(awx.template(playbook)["survey_spec"]["spec"])


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_surveys(playbook: str) -> None:
    asked = questions(playbook)
    check_playbook(f"vmfork.vsphere.{playbook}", {question["variable"] for question in asked})
    options = ROLE[ENTRY_POINTS[playbook]]["options"] if playbook in ENTRY_POINTS else {}
    for question in asked:
        name, kind = question["variable"], question["type"]
        assert {"question_name", "question_description", "required", "default"} <= set(question), name
        assert kind in AWX_TYPES, name
        assert name in options or not options, f"the playbook {playbook} does not use {name}"
        assert not options.get(name, {}).get("no_log"), name
        assert not re.search("password|secret_", name), name
        known = CHOICES.get(name) or [choice for choice in options.get(name, {}).get("choices", []) if choice]
        assert sorted(question.get("choices", [])) == sorted(known), name
        assert (kind in ("multiplechoice", "multiselect")) == bool(known), name
        given = question["default"]
        assert not given or not known or given in known, name
    assert len({question["variable"] for question in asked}) == len(asked)


def test_every_playbook_has_a_template_and_a_file_in_the_project() -> None:
    templates = {options["playbook"]: options for options in awx.setup_calls()["job_template"]}
    assert sorted(templates) == sorted([*(f"{name}.yml" for name in PLAYBOOKS), "configure_children.yml"])
    for name in PLAYBOOKS:
        (play,) = yaml.safe_load((awx.PROJECT / f"{name}.yml").read_text())
        assert play["ansible.builtin.import_playbook"] == f"vmfork.vsphere.{name}"
        assert templates[f"{name}.yml"]["ask_job_type_on_launch"] is True, "for check mode"
    assert (awx.PROJECT / "configure_children.yml").exists()


def test_objects_refer_to_objects_that_were_created_before() -> None:
    calls = awx.setup_calls()
    names = {module: [options["name"] for options in listed] for module, listed in calls.items()}
    assert {options["credential_type"] for options in calls["credential"]} == set(names["credential_type"])
    (source,) = calls["inventory_source"]
    assert (awx.PROJECT / source["source_path"]).exists()
    assert source["source_project"] in names["project"]
    assert source["inventory"] in names["inventory"]
    assert source["credential"] in names["credential"]
    for options in calls["job_template"]:
        assert options["project"] in names["project"]
        assert options["inventory"] in names["inventory"]
        assert options["execution_environment"] in names["execution_environment"]
        assert set(options["credentials"]) <= set(names["credential"])
    assert list(calls)[:2] == ["credential_type", "credential"]


def test_schedule() -> None:
    (schedule,) = awx.setup_calls()["schedule"]
    report = awx.template("ovfenv_report")
    assert schedule["unified_job_template"] == report["name"]
    asked = {question["variable"]: question for question in report["survey_spec"]["spec"]}
    for name, value in schedule["extra_data"].items():
        assert set(value) <= set(asked[name]["choices"])
    assert re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=DAILY;INTERVAL=1", schedule["rrule"])


def test_workflow() -> None:
    (workflow,) = awx.setup_calls()["workflow_job_template"]
    nodes = {node["identifier"]: node for node in workflow["workflow_nodes"]}
    runs = {name: node["unified_job_template"]["name"] for name, node in nodes.items()}
    assert runs == {
        "fork": awx.template("fork")["name"],
        "inventory": awx.setup_calls()["inventory_source"][0]["name"],
        "configure": awx.template("configure_children")["name"],
        "remove": awx.template("remove_children")["name"],
    }

    def follow(name: str, *ways: str) -> list[str]:
        related = nodes[name]["related"]
        return [node["identifier"] for way in ways for node in related[f"{way}_nodes"]]

    assert follow("fork", "success", "always") == ["inventory"]
    assert follow("inventory", "success", "always") == ["configure"]
    assert follow("configure", "success", "always") == ["remove"]
    assert follow("fork", "failure", "always") == follow("inventory", "failure", "always") == ["remove"]
    asked = workflow["survey_spec"]["spec"]
    by_fork = {question["variable"] for question in questions("fork")}
    assert {question["variable"] for question in asked} <= by_fork
    required = {question["variable"] for name in ENTRY_POINTS for question in questions(name) if question["required"]}
    assert required <= {question["variable"] for question in asked if question["required"]}


@pytest.mark.parametrize("credential_type", ["vCenter (vmfork.vsphere)", "Guest login (vmfork.vsphere)"])
def test_credential_types(credential_type: str, tmp_path: Path) -> None:
    kind = awx.named("credential_type", credential_type)
    fields = kind["inputs"]["fields"]
    secret = {field["id"] for field in fields if field.get("secret")}
    assert secret == {field["id"] for field in fields if "password" in field["id"]}
    given = {field["id"]: field["type"] == "boolean" or f"the-{field['id']}" for field in fields}
    found = awx.environment(credential_type, given, tmp_path)
    spec = {**_arguments.connection_spec(), **_arguments.guest_spec()}
    read = {option["fallback"][1][0] for option in spec.values() if "fallback" in option}
    of_guest = {name for name in read if "GUEST" in name}
    assert set(found) == (of_guest if "Guest" in credential_type else read - of_guest)
    for name, value in found.items():
        assert value in ("False", str(tmp_path / "template.ca")) or value.startswith("the-"), name


def test_secrets_are_in_credentials_only() -> None:
    calls = awx.setup_calls()
    assert {options["inputs"]["password"] for options in calls["credential"]} == set(awx.PASSWORDS.values())
    assert all(options["update_secrets"] is False for options in calls["credential"])
    others = str({module: given for module, given in calls.items() if module != "credential"})
    assert not any(password in others for password in awx.PASSWORDS.values())


def test_execution_environment(tmp_path: Path) -> None:
    """ansible-builder accepts the definition, and finds what the collection needs."""
    builder = [sys.executable, "-m", "ansible_builder"]
    context = tmp_path / "context"
    definition = awx.EXTENSION / "execution-environment.yml"
    command = [*builder, "create", "--file", str(definition), "--context", str(context)]
    command += ["--output-filename", "Containerfile"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=awx.SECONDS, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "FROM" in (context / "Containerfile").read_text()
    assert "vmfork.vsphere" in (context / "_build" / "requirements.yml").read_text()

    installed = tmp_path / "collections" / "ansible_collections" / "vmfork" / "vsphere"
    for name in ("meta", "requirements.txt", "galaxy.yml"):
        source, target = awx.ROOT / name, installed / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    ended = subprocess.run(
        [*builder, "introspect", "--sanitize", str(tmp_path / "collections")],
        capture_output=True,
        text=True,
        timeout=awx.SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "pyvmomi>=8.0.3.0.1" in ended.stdout.lower()
