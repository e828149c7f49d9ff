# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of a task, as ansible, ansible-playbook and ansible-runner display it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .engines import instant_clone_only
from .vcenter import SECONDS, VCenter

pytestmark = [
    pytest.mark.flags("-guest", "none", "-task-delay", "1200ms"),
    instant_clone_only("what is displayed does not depend on the engine"),
]

LINE = re.compile(r"^vmfork_child: (\d) of 3 ready, (\d) created, \d+ s$", re.MULTILINE)
TASK = {
    "allow_running_parent": True,
    "wait_for": "created",
    "concurrency": 1,
    "name": ["web-01", "web-02", "web-03"],
}


def environment(vcenter: VCenter, **more: str) -> dict[str, str]:
    quiet = {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}
    live = Path(__file__).parents[2] / ".build" / "live"
    return {
        **os.environ,
        **quiet,
        **vcenter.simulator.environment,
        "ANSIBLE_COLLECTIONS_PATH": str(live),
        "ANSIBLE_NOCOLOR": "true",
        **more,
    }


def ad_hoc(vcenter: VCenter, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", "vmfork.vsphere.vmfork_child"]
    task = {"parent_name": vcenter.parent, **TASK}
    return subprocess.run(
        [*command, "-a", json.dumps(task), *options],
        env=environment(vcenter, **more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )


def test_ad_hoc(vcenter: VCenter, tmp_path: Path) -> None:
    done = ad_hoc(vcenter, "-vvv", ANSIBLE_LOCAL_TEMP=str(tmp_path))
    assert_shown(LINE.findall(done.stderr))
    assert "vmfork_child: " not in done.stdout
    assert "progress" not in done.stdout.replace('"progress": true', "")
    assert list(tmp_path.rglob("vmfork-progress-*")) == []


def assert_shown(lines: list[tuple[str, str]]) -> None:
    """Each ready child is a third of the work, so it gets a line. On a slow machine, one comes before."""
    assert lines in ([("1", "1"), ("2", "2")], [("0", "0"), ("1", "1"), ("2", "2")])


@pytest.mark.parametrize("how", ["check", "environment"])
def test_nothing_is_displayed(vcenter: VCenter, how: str) -> None:
    done = ad_hoc(vcenter, "--check") if how == "check" else ad_hoc(vcenter, VMFORK_PROGRESS="0")
    assert "vmfork_child: " not in done.stdout + done.stderr


def events(directory: Path) -> list[dict[str, Any]]:
    """Return the events of a run, as AWX reads them."""
    files = (directory / "artifacts" / "run" / "job_events").glob("*.json")
    return sorted((json.loads(file.read_text(encoding="utf-8")) for file in files), key=lambda event: event["counter"])


def test_under_ansible_runner(vcenter: VCenter, tmp_path: Path) -> None:
    """Each line is an event of its own between the start and the end of the task."""
    task = {"vmfork.vsphere.vmfork_child": {"parent_name": vcenter.parent, **TASK}}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "ansible_runner", "run", str(tmp_path), "-p", "play.yml", "--ident", "run", "-q"],
        env=environment(vcenter, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    found = events(tmp_path)
    kinds = [event["event"] for event in found]
    shown = [number for number, event in enumerate(found) if LINE.search(event["stdout"])]
    assert_shown([LINE.findall(found[number]["stdout"])[0] for number in shown])
    assert all(kinds[number] == "verbose" for number in shown)
    of_task = [kinds.index("runner_on_start"), *shown, kinds.index("runner_on_ok")]
    assert of_task == sorted(of_task)
    times = [found[number]["created"] for number in of_task]
    assert times == sorted(times)
