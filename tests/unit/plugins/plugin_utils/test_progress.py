# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines shown for a module's progress, and cases without any."""

from __future__ import annotations

import importlib
import inspect
import json
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants
from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.vmfork.vsphere.plugins.action import vmfork_child
from ansible_collections.vmfork.vsphere.plugins.plugin_utils import progress


def shown(*reports: tuple[float, str, int, int]) -> list[str]:
    """Return the lines for reports, each with the seconds since the task began."""
    lines = progress.Lines("vmfork_child")
    found = (lines.line({"text": text, "done": done, "total": total}, at) for at, text, done, total in reports)
    return [line for line in found if line is not None]


def test_the_first_line_comes_after_two_seconds() -> None:
    assert shown((1.9, "0 of 8 ready", 0, 8)) == []
    assert shown((1.9, "0 of 8 ready", 0, 8), (2.1, "0 of 8 ready", 0, 8)) == ["vmfork_child: 0 of 8 ready, 2 s"]


def test_a_line_needs_a_change() -> None:
    assert len(shown(*((at, "0 of 8 ready", 0, 8) for at in (2.0, 7.0, 60.0)))) == 1


def test_a_further_line_comes_after_five_seconds_or_with_another_tenth() -> None:
    lines = shown(
        (2.0, "0 of 40 ready", 0, 40),
        (6.9, "3 of 40 ready", 3, 40),
        (7.0, "3 of 40 ready", 3, 40),
        (7.1, "4 of 40 ready", 4, 40),
        (7.2, "5 of 40 ready", 5, 40),
        (7.3, "8 of 40 ready", 8, 40),
    )
    assert [line.split()[1] for line in lines] == ["0", "3", "4", "8"]


def test_a_long_task_displays_at_most_sixty_lines() -> None:
    lines = shown(*((float(second), f"step {second}", 0, 0) for second in range(4 * 3600)))
    assert len(lines) == progress.MOST_LINES == 60
    assert int(lines[-1].split()[-2]) > 1800, "the last line comes too early in a long task"


def test_tenths_do_not_exceed_the_limit() -> None:
    assert len(shown(*((3.0, f"{done} of 1000", done, 1000) for done in range(1001)))) == 11


class Played:
    """A task's action whose module writes the reports of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **task: Any) -> None:
        self.displayed: list[tuple[str, bool]] = []
        self.given: dict[str, Any] = {}
        self.mode = 0
        self.seen = threading.Event()
        played = self
        monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
        monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
        monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(progress, "Display", lambda: SimpleNamespace(display=self.display))

        def module(action: Any, _tmp: Any = None, _task_vars: Any = None) -> dict[str, Any]:
            played.given = dict(action._task.args)
            file = Path(played.given.get("_progress_file", tmp_path / "none"))
            if file.exists():
                played.mode = stat.S_IMODE(file.stat().st_mode)
                with file.open("ab") as reports:
                    reports.write(played.reports.encode("latin-1"))
                    reports.flush()
                    if played.reports.endswith("}\n"):
                        assert played.seen.wait(30)
                if played.reports.endswith("\n "):  # which ends the thread
                    (reader,) = (thread for thread in threading.enumerate() if thread.name == "vmfork progress")
                    reader.join(30)
                    assert not reader.is_alive()
            if played.error is not None:
                raise played.error
            return {"changed": True}

        monkeypatch.setattr(NormalAction, "run", module)
        self.reports = json.dumps({"text": "1 of 8 ready", "done": 1, "total": 8}) + "\n"
        self.error: Exception | None = None
        options = {"async_val": 0, "become": False, "become_user": None, "no_log": False, "check_mode": False}
        self.task = SimpleNamespace(action="vmfork.vsphere.vmfork_child", args={"name": "web"}, **{**options, **task})
        self.transport = "local"

    def display(self, line: str, stderr: bool = False) -> None:
        self.displayed.append((line, stderr))
        self.seen.set()

    def run(self, **task_vars: Any) -> Any:
        connection = SimpleNamespace(transport=self.transport)
        action = vmfork_child.ActionModule(
            task=self.task, connection=connection, play_context=None, loader=None, templar=None, shared_loader_obj=None
        )
        return action.run(None, task_vars)


def test_the_progress_is_displayed_on_standard_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)
    assert played.run() == {"changed": True}
    assert played.displayed == [("vmfork_child: 1 of 8 ready, 0 s", True)]
    assert played.mode == 0o600
    assert played.task.args == {"name": "web"}, "another attempt of the task would have the old file"
    assert list(tmp_path.iterdir()) == []


def test_a_host_among_others_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)
    played.run(ansible_play_hosts=["vc-1", "vc-2"], inventory_hostname="vc-1")
    assert played.displayed == [("vmfork_child [vc-1]: 1 of 8 ready, 0 s", True)]


def test_a_module_runs_without_its_progress_if_there_is_no_room_for_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = Played(monkeypatch, tmp_path)
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "missing"), raising=False)
    assert played.run() == {"changed": True}
    assert (played.displayed, "_progress_file" in played.given) == ([], False)


def test_a_module_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)
    played.error = RuntimeError("The connection broke.")
    with pytest.raises(RuntimeError):
        played.run()
    assert (played.task.args, list(tmp_path.iterdir())) == ({"name": "web"}, [])
    assert [thread.name for thread in threading.enumerate() if thread.name == "vmfork progress"] == []


@pytest.mark.parametrize("reports", ["", "1 of 8", '{"text": "half', "[]\n ", '{"text": 1}\n ', "\xff\n "])
def test_invalid_report_does_not_disturb_the_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reports: str
) -> None:
    played = Played(monkeypatch, tmp_path)
    played.reports = reports
    assert played.run() == {"changed": True}
    assert played.displayed == []


@pytest.mark.parametrize(
    "task",
    [
        {"async_val": 60},
        {"no_log": True},
        {"check_mode": True},
        {"become": True, "become_user": "nobody"},
        {"args": {"progress": False}},
        {"args": {"progress": "no"}},
    ],
)
def test_nothing_is_displayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: dict[str, Any]) -> None:
    played = Played(monkeypatch, tmp_path)
    vars(played.task).update(task)
    assert played.run() == {"changed": True}
    assert (played.displayed, "_progress_file" in played.given) == ([], False)


def test_nothing_is_displayed_of_a_remote_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)
    played.transport = "ssh"
    played.run()
    assert (played.displayed, "_progress_file" in played.given) == ([], False)


@pytest.mark.parametrize(
    ("variable", "option", "displayed"),
    [("0", None, False), ("false", "", False), ("0", True, True), ("1", False, False), ("perhaps", None, True)],
)
def test_the_option_overrides_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, option: Any, displayed: bool
) -> None:
    monkeypatch.setenv("VMFORK_PROGRESS", variable)
    played = Played(monkeypatch, tmp_path)
    played.task.args["progress"] = option
    played.run()
    assert bool(played.displayed) is displayed


def test_a_root_user_of_become_can_write_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path, become=True)
    played.run()
    assert played.displayed


ROOT = Path(progress.__file__).parents[1]
DISPLAYED = [path.stem for path in ROOT.glob("modules/*.py") if "- vmfork.vsphere.progress\n" in path.read_text()]


@pytest.mark.parametrize("module", DISPLAYED)
def test_module_with_the_option_has_an_action_plugin(module: str) -> None:
    action = importlib.import_module(f"ansible_collections.vmfork.vsphere.plugins.action.{module}")
    assert issubclass(action.ActionModule, progress.ProgressAction)
    spec = importlib.import_module(f"ansible_collections.vmfork.vsphere.plugins.modules.{module}")
    assert "_arguments.progress_spec()" in inspect.getsource(spec.main)
