# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as jobs of AWX: under ansible-runner, with credentials, survey answers, artifacts and cancellation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.executor.process.worker import WorkerProcess
from functional import awx
from functional.engines import INSTANT_CLONE
from functional.vcenter import SECONDS, VCenter

pytestmark = pytest.mark.engines(INSTANT_CLONE, why="a job does not depend on the engine")

UPDATE = {
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
    "ANSIBLE_INVENTORY_EXPORT": "True",
    "ANSIBLE_VERBOSE_TO_STDERR": "True",
    "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
}
"""The environment of each inventory update (STANDARD_INVENTORY_UPDATE_ENV of AWX)."""

LARGEST = 8_000
"""Bytes of an event of a job with 2 children: 4,000, and 2,000 for each child, so 50 children have about 100 kB."""


class Controller:
    """Runs jobs as AWX does: everything it knows comes from setup.yml, credentials and answers."""

    def __init__(self, vcenter: VCenter, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        simulator = vcenter.simulator
        login = {"host": simulator.host, "username": simulator.username, "password": simulator.password}
        certificate = ssl.get_server_certificate((simulator.host, simulator.port))
        files = directory / "credentials"
        files.mkdir()
        of_vcenter = {**login, "port": str(simulator.port), "ca": certificate}
        of_guest = {"username": simulator.guest_username, "password": simulator.guest_password}
        self.secrets = [simulator.password, simulator.guest_password]
        self.credentials = {
            **awx.environment("vCenter (vmfork.vsphere)", of_vcenter, files),
            **awx.environment("Guest login (vmfork.vsphere)", of_guest, files),
        }
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VMWARE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(awx.ROOT / ".build" / "live"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def start(self, playbook: str, variables: dict[str, Any], *options: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a job; return ansible-runner, which ends with it, and its directory.

        :param options: an option of ansible-playbook.
        """
        self.count += 1
        private = self.directory / f"job-{self.count}"
        shutil.copytree(awx.PROJECT, private / "project")
        for name, content in (("envvars", self.credentials), ("extravars", variables)):
            (private / "env").mkdir(exist_ok=True)
            (private / "env" / name).write_text(json.dumps(content))
        command = [sys.executable, "-m", "ansible_runner", "run", str(private), "--ident", "job", "--quiet"]
        command += [f"--cmdline={option}" for option in options]
        runner = subprocess.Popen(
            [*command, "--playbook", f"{playbook}.yml"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return runner, private

    def run(self, playbook: str, variables: dict[str, Any], *options: str) -> list[dict[str, Any]]:
        """Run a job that must succeed; return its events."""
        runner, private = self.start(playbook, variables, *options)
        output, _nothing = runner.communicate(timeout=SECONDS)
        found = events(private)
        assert runner.returncode == 0, output + "".join(event["stdout"] for event in found)
        return found

    def launch(self, playbook: str, artifacts: dict[str, Any], *options: str, **given: Any) -> list[dict[str, Any]]:
        """Run the job of a template with answers to its survey, and the artifacts of jobs before it."""
        variables = awx.answers(awx.template(playbook)["survey_spec"], **given)
        return self.run(playbook, {**variables, **artifacts}, *options)


@pytest.fixture
def controller(quiesced: VCenter, tmp_path: Path) -> Controller:
    return Controller(quiesced, tmp_path)


def events(private: Path) -> list[dict[str, Any]]:
    files = (private / "artifacts" / "job" / "job_events").glob("*.json")
    return sorted((json.loads(file.read_text(encoding="utf-8")) for file in files), key=lambda event: event["counter"])


def artifacts(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a job passes on to the next jobs of a workflow."""
    (stats,) = [event for event in found if event["event"] == "playbook_on_stats"]
    return dict(stats["event_data"]["artifact_data"])


def test_workflow(controller: Controller, quiesced: VCenter) -> None:
    """Fork, update of the inventory, configuration, removal; with text for each answer, and empty text for none."""
    answered = {"vmfork_parent_name": quiesced.parent, "vmfork_child_count": "2", "vmfork_child_name": "test-%02d"}
    forked = controller.launch("fork", {}, **answered, vmfork_first_address="192.0.2.11")
    passed = artifacts(forked)
    children = passed["vmfork_forked"]["children"]
    assert passed["vmfork_forked"]["parent"] == quiesced.parent
    assert passed["vmfork_forked"]["failed"] == []
    assert passed["vmfork_forked"]["counts"]["created"] == 2
    assert [(child["name"], child["address"], child["state"]) for child in children] == [
        ("test-01", "192.0.2.11", "created"),
        ("test-02", "192.0.2.12", "created"),
    ]
    assert {child["moid"] for child in children} == {quiesced.moid(f"/DC0/vm/test-0{n}") for n in (1, 2)}

    inventory = updated_inventory(controller)
    assert sorted(inventory["vmfork_children"]["hosts"]) == ["test-01", "test-02"]
    assert inventory["_meta"]["hostvars"]["test-01"]["ansible_host"] == "192.0.2.11"
    assert "__ansible_unsafe" not in json.dumps(inventory), "AWX cannot import it"
    assert configured_hosts(controller, inventory, passed) == ["test-01", "test-02"]

    removed = controller.launch("remove_children", passed, **answered)
    assert [child["name"] for child in artifacts(removed)["vmfork_removed"]["children"]] == ["test-01", "test-02"]
    assert not quiesced.exists("/DC0/vm/test-*")
    assert "test-01" not in json.dumps(updated_inventory(controller))
    assert sessions(quiesced) == []
    for event in (*forked, *removed):
        assert not any(secret in json.dumps(event) for secret in controller.secrets)
        assert "has no variable" not in event["stdout"], "a variable of AWX is reported as misspelled"
        assert len(json.dumps(event)) < LARGEST, event["event_data"]


def updated_inventory(controller: Controller) -> dict[str, Any]:
    """Return the result of an inventory update."""
    (source,) = awx.setup_calls()["inventory_source"]
    output = controller.directory / "inventory.json"
    file = str(awx.PROJECT / source["source_path"])
    ended = subprocess.run(
        ["ansible-inventory", "--list", "--export", "-i", file, "--output", str(output)],
        env={**controller.environment, **controller.credentials, **UPDATE},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(output.read_text()))


def configured_hosts(controller: Controller, inventory: dict[str, Any], passed: dict[str, Any]) -> list[str]:
    """Return the hosts that the job between fork and removal would configure; AWX passes a script as inventory."""
    script = controller.directory / "hosts"
    script.write_text(f"#!{sys.executable}\nprint({json.dumps(inventory)!r})\n")
    script.chmod(0o700)
    playbook = str(awx.PROJECT / "configure_children.yml")
    ended = subprocess.run(
        ["ansible-playbook", playbook, "--list-hosts", "-i", str(script), "-e", json.dumps(passed)],
        env=controller.environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return sorted(line.strip() for line in ended.stdout.partition("hosts (2):")[2].splitlines() if line.strip())


def sessions(vcenter: VCenter) -> list[Any]:
    return list(vcenter.control("GET", "sessions"))


def test_templates_for_ovf_environments(controller: Controller, quiesced: VCenter) -> None:
    """With the answers that their surveys suggest, and the lists of AWX for multiple selections."""
    directory = controller.directory / "exposed"
    controller.launch("ovfenv_report", {}, ovfenv_fail_on=["lost", "config_lost"])
    backup = {"vapp_backup_directory": str(directory)}
    controller.launch("vapp_backup", {}, **backup, vapp_vms=f"{quiesced.parent}\n")
    assert list(directory.iterdir())
    controller.launch("vapp_restore", {}, "--check", **backup)
    folder = {"ovfenv_folder": "/DC0/vm", "ovfenv_accept_risks": ["guest_not_seen", "address_change"]}
    controller.launch("ovfenv_repair", {}, "--check", **folder)
    assert sessions(quiesced) == []


def test_templates_for_the_parent(controller: Controller, quiesced: VCenter) -> None:
    controller.launch("thaw_parent", {}, "--check", vmfork_parent_name=quiesced.parent)
    (parent,) = quiesced.ok("vmfork_info")["parents"]
    assert parent["quiesced"]
    controller.launch("thaw_parent", {}, vmfork_parent_name=quiesced.parent)
    exposed = controller.directory / "exposed"
    answered = {"conformance_vm": quiesced.parent, "conformance_directory": str(exposed)}
    asked = {"conformance_questions": "names_differing_in_case"}
    controller.launch("conformance", asked, "--check", **answered)
    assert not exposed.exists()
    controller.launch("conformance", asked, **answered, conformance_confirm=quiesced.parent)
    assert (exposed / "conformance.json").exists()
    assert sessions(quiesced) == []


def test_canceled_job(controller: Controller, quiesced: VCenter) -> None:
    """ansible-runner kills ansible-playbook. The module ends, logs out, and the next job creates what is missing.

    Before ansible-core 2.19, the module is killed with ansible-playbook, and nothing can log out.
    """
    answered = {"vmfork_parent_name": quiesced.parent, "vmfork_child_count": "3", "vmfork_child_name": "test-%02d"}
    variables = awx.answers(awx.template("fork")["survey_spec"], **answered)
    quiesced.fault(method=INSTANT_CLONE.create, after=1, hold="before")
    with quiesced.held_call() as held:
        runner, _private = controller.start("fork", {**variables, "vmfork_concurrency": "1"})
        assert held.poll(SECONDS)
        assert sessions(quiesced)
        runner.send_signal(signal.SIGTERM)  # as receptor does
        runner.communicate(timeout=SECONDS)
        assert runner.returncode not in (None, 0)
        deadline = time.monotonic() + SECONDS
        while sessions(quiesced) and hasattr(WorkerProcess, "_detach"):
            assert time.monotonic() < deadline, "the module does not log out"
            time.sleep(0.1)
    created = quiesced.called()[INSTANT_CLONE.create]
    assert created == 2, "the module has not ended"

    passed = artifacts(controller.launch("fork", {}, **answered))["vmfork_forked"]
    assert [child["name"] for child in passed["children"]] == ["test-01", "test-02", "test-03"]
    (parent,) = quiesced.ok("vmfork_info")["parents"]
    assert sorted(child["name"] for child in parent["children"]) == ["test-01", "test-02", "test-03"]
    assert all(quiesced.exists(f"/DC0/vm/test-0{number}") for number in (1, 2, 3))
