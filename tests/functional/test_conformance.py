# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions to a vCenter: each one finds its rule reversed, and the run leaves nothing behind."""

from __future__ import annotations

import json
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from functional.engines import INSTANT_CLONE, SOAP, Engine
from functional.vapp import Appliance, estate
from functional.vcenter import VCenter
from harness.simulator import Simulator
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import catalog, lab, record, run
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import ANSWERED, Answer
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Selector
from ansible_collections.vmfork.vsphere.plugins.module_utils._privileges import NEEDS
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

FLAGS = ("-vm", "2", "-host", "1", "-exit-after", "10m")
NAME = "throw-away-vm"
SECONDS = 230
HANGS = ("frozen_guest_operations", "hang")
"""It takes a minute, so only ``make sweep`` tries it."""

MANAGERS = (
    vim.VirtualMachine,
    vim.Datacenter,
    vim.Folder,
    vim.ResourcePool,
    vim.Datastore,
    vim.event.EventManager,
    vim.vm.guest.AuthManager,
    vim.vm.guest.FileManager,
    vim.vm.guest.ProcessManager,
)
"""What has the methods whose privileges a role may or may not have."""

UNANSWERED = {"event_page_limit"}
"""Questions without an answer by default: the simulator has too few events."""


@contextmanager
def throw_away(engine: Engine) -> Iterator[tuple[VCenter, Appliance]]:
    """Start a simulator with a powered-off VM in a folder of its own."""
    with (
        Simulator("-api-version", engine.api_version, *FLAGS) as simulator,
        estate(VCenter(simulator, engine)) as place,
    ):
        yield place.vcenter, place.bare(NAME, "/DC0/vm/lab")


@contextmanager
def bench_of(engine: Engine, warnings: list[str]) -> Iterator[tuple[VCenter, lab.Lab]]:
    """Start a simulator with a VM, log in, and find the VM, as the module does."""
    with throw_away(engine) as (vcenter, _vm):
        simulator = vcenter.simulator
        server = Server(simulator.host, simulator.username, simulator.password, simulator.port, validate_certs=False)
        with Session(server, Budget(Deadline(SECONDS))) as session:
            found = parents.find(session, select.choose(session, "auto", "auto"), Selector(name=NAME))
            login = GuestLogin(simulator.guest_username, simulator.guest_password)
            bench = lab.Lab(found, session.deadline, login, warnings.append)
            bench.begin()
            yield vcenter, bench
            bench.restore()


def reversals(engine: Engine) -> Iterator[tuple[Question, str]]:
    """Yield each question that this engine answers in these tests, with each value that is not the default."""
    for question in catalog.QUESTIONS:
        if question.engine == engine.api or (question.engine is None and engine is INSTANT_CLONE):
            yield from ((question, value) for value in question.choices[1:] if (question.rule, value) != HANGS)


@pytest.mark.parametrize("engine", [SOAP, INSTANT_CLONE], ids=lambda engine: engine.name)
def test_reversed_rule_is_found(engine: Engine) -> None:
    """Each question is asked alone, on the VM as the question before has left it."""
    warnings: list[str] = []
    wrong = {}
    with bench_of(engine, warnings) as (vcenter, bench):
        for question, value in reversals(engine):
            vcenter.rule(question.rule, value)
            if question.rule == "change_version_race":  # both requests arrive before the first task ends
                vcenter.fault(method="ReconfigVM_Task", at="task", delay_ms=100)
            answer = Answer(question.rule, "", question.choices[0])
            run.ask(bench, question, answer, 0.0)
            vcenter.control("DELETE", "faults")
            vcenter.control("DELETE", "rules")
            if answer.choice != value:
                wrong[question.rule, value] = answer
    assert not wrong, warnings


@pytest.mark.parametrize("engine", [SOAP, INSTANT_CLONE], ids=lambda engine: engine.name)
def test_run(engine: Engine, tmp_path: Path) -> None:
    """The answers are those of the simulator, the files contain nothing else, and the VM is as before.

    The user has only the privileges of the file that names them.
    """
    with throw_away(engine) as (vcenter, vm):
        before = state(vm)
        path = tmp_path / "answers"
        given = {"name": NAME, "path": str(path), **vcenter.guest_login, **restricted_user(vm)}
        planned = vcenter.ok("vmfork_conformance", **given, check=True)
        assert not path.exists()
        assert state(vm) == before
        result = vcenter.ok("vmfork_conformance", **given, confirm=NAME)
        assert state(vm) == before
        assert [child for child in vcenter.govc("find", "/", "-type", "m").split() if "conformance" in child] == []
        sessions = [session["user"] for session in vcenter.control("GET", "sessions")]
        assert len(sessions) == 1, "ours alone"
        texts = [(path / name).read_text() for name in (record.JSON_NAME, record.JUNIT_NAME)]
    assert result["plan"] == planned["plan"]
    assert result["contradictions"] == []
    states = {answer["rule"]: answer["state"] for answer in result["answers"]}
    asked = set(planned["plan"]["asked"])
    assert {rule for rule, value in states.items() if value == ANSWERED} == asked - UNANSWERED, result.get("warnings")
    assert set(states) == set(catalog.BY_RULE) | set(catalog.NOT_ASKABLE)
    recorded = json.loads(texts[0])
    assert record.misfits(recorded) == []
    assert recorded["answers"] == result["answers"]
    for word in (NAME, "DC0", "LocalDS_0", "127.0.0.1", given["password"], given["guest_password"]):
        assert not [text for text in texts if word in text], word
    salt = path / record.SALT_NAME
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert salt.read_text().strip() not in "".join(texts)


def restricted_user(vm: Appliance) -> dict[str, str]:
    """Add a user who has the privileges of the file for this playbook, and return the login."""
    file = Path(__file__).parents[2] / "playbooks/files/privileges/conformance.txt"
    given = {line for line in file.read_text().splitlines() if line and not line.startswith("#")}
    methods = [info for manager in MANAGERS for info in manager._methodInfo.values()]
    every = {name for info in methods for name in (info.privId, *(param.privId for param in info.params)) if name}
    every |= {name for needed in NEEDS.values() for name in needed.values()}
    assert given < every
    login = {"username": "prober@vsphere.local", "password": "a-long-password-of-the-prober"}
    denied = sorted(name for name in every - given if not name.startswith("System."))
    vm.vcenter.control("POST", "users", {"name": login["username"], "password": login["password"], "deny": denied})
    return login


def state(vm: Appliance) -> dict[str, Any]:
    """Return what a run may change and must restore."""
    return {
        "power": vm.mo.runtime.powerState,
        "extra": {option.key: option.value for option in vm.mo.config.extraConfig},
        "vapp": vm.mo.config.vAppConfig,
        "fork": vm.mo.config.forkConfigInfo,
        "macs": [getattr(device, "macAddress", None) for device in vm.mo.config.hardware.device],
        "parent": vm.mo.parent,
    }


@pytest.mark.parametrize("engine", [SOAP, INSTANT_CLONE], ids=lambda engine: engine.name)
def test_next_run_removes_what_a_killed_one_left(engine: Engine, tmp_path: Path) -> None:
    with throw_away(engine) as (vcenter, vm):
        vm.power_on()
        given = {"name": NAME, "path": str(tmp_path), "confirm": vm.moid, **vcenter.guest_login}
        before = state(vm)
        killed = (signal.SIGKILL, engine.create, 0)
        vcenter.run("vmfork_conformance", **given, questions=["extra_config_inherited"], signal_at=killed)
        wait_for_tasks(vm)
        planned = vcenter.ok("vmfork_conformance", **given, check=True)
        assert planned["plan"]["left"] == [f"{NAME}-conformance-1"]
        vcenter.ok("vmfork_conformance", **given, questions=["names_differing_in_case"])
        assert "conformance" not in vcenter.govc("find", "/", "-type", "m")
        after = state(vm)
        assert {**after, "extra": None} == {**before, "extra": None}
        assert set(after["extra"]) <= set(before["extra"])


def wait_for_tasks(vm: Appliance) -> None:
    """Wait until the request of the killed process has been carried out."""
    from pyVim.task import WaitForTask

    for task in vm.mo.recentTask:
        WaitForTask(task)


def test_signal_in_the_middle(tmp_path: Path) -> None:
    """The VM is restored before the task ends, and nothing is written but the salt."""
    with throw_away(INSTANT_CLONE) as (vcenter, vm):
        vm.power_on()
        before = state(vm)
        given = {"name": NAME, "path": str(tmp_path), "confirm": NAME, "questions": ["resume_events"]}
        # The signal arrives before the end of the task.
        vcenter.fault(method="SuspendVM_Task", at="task", delay_ms=3000)
        result = vcenter.fails("vmfork_conformance", **given, signal_at=(signal.SIGTERM, "SuspendVM_Task", 0))
        assert state(vm) == before
    assert "SIGTERM" in result.msg
    assert [path.name for path in tmp_path.iterdir()] == [record.SALT_NAME]


def test_vms_that_are_refused(tmp_path: Path) -> None:
    """Nothing is changed on them."""
    with throw_away(INSTANT_CLONE) as (vcenter, vm):
        given = {"name": NAME, "path": str(tmp_path / "answers"), "questions": ["extra_config_inherited"]}
        assert "confirm does not name it" in vcenter.fails("vmfork_conformance", **given).msg
        assert "confirm does not name it" in vcenter.fails("vmfork_conformance", **given, confirm="yes").msg
        given["confirm"] = NAME
        foreign = vm.estate.bare(f"{NAME}-conformance-7", "/DC0/vm/lab")
        assert "no record of that" in vcenter.fails("vmfork_conformance", **given).msg
        foreign.mo.Destroy_Task()
        vm.power_on()
        vcenter.ok("vmfork_child", parent_name=NAME, name="web-01", wait_for="created", allow_running_parent=True)
        refused = vcenter.fails("vmfork_conformance", **given)
        assert "it has children that the run has not made (web-01)" in refused.msg
        assert "it is a child itself" in vcenter.fails("vmfork_conformance", **{**given, "name": "web-01"}).msg
        vcenter.ok("vmfork_child", parent_name=NAME, name="web-01", state="absent")
        vcenter.quiesce(name=NAME)
        assert "it is a fork parent" in vcenter.fails("vmfork_conformance", **given).msg
        template = vm.estate.bare("template", "/DC0/vm/lab")
        template.mo.MarkAsTemplate()
        assert "is a template" in vcenter.fails("vmfork_conformance", **{**given, "name": "template"}).msg
        assert not (tmp_path / "answers").exists()
        assert lab.MARK not in state(vm)["extra"]
        assert identity.RECORD_KEY not in state(vm)["extra"]


def test_without_guest_login(tmp_path: Path) -> None:
    with throw_away(SOAP) as (vcenter, _vm):
        given = {"name": NAME, "path": str(tmp_path), "confirm": NAME, "questions": ["enable_twice", "child_as_parent"]}
        result = vcenter.ok("vmfork_conformance", **given)
    assert result["plan"]["asked"] == ["enable_twice"]
    assert result["plan"]["not_asked"]["child_as_parent"] == "no guest login was given"
    assert result["plan"]["not_asked"]["chain_limit_text"] == "needs 255 delta disks"
    assert result["plan"]["not_asked"]["instant_clone_folder"].startswith("the option questions")
