# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module as Ansible does, and display its progress.

The module runs in the main thread of Ansible's worker, as usual. It appends its
progress to a private file (``module_utils/_progress.py``), which a thread
reads. The lines go to the standard error stream, so that callbacks that write
JSON to the standard output stream stay parseable.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
import threading
import time
import typing as t

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display

from ansible_collections.vmfork.vsphere.plugins.module_utils._progress import FILE_OPTION
from ansible_collections.vmfork.vsphere.plugins.plugin_utils import cancellation

FIRST_SECONDS = 2.0
"""A task that ends sooner displays nothing."""

SECONDS = 5.0
"""The time between two lines, unless another tenth is done. It doubles after every :data:`LINES_OF_A_STEP` lines."""

LINES_OF_A_STEP = 12
MOST_LINES = 60
"""Maximum number of lines of one task."""

LOOK_SECONDS = 0.2
"""How often the file is read."""


class Lines:
    """Decides which reports become a line.

    :param name: name of the module, which begins each line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._text = ""
        self._tenth = 0
        self._shown_at = 0.0
        self._count = 0

    def line(self, report: dict[str, t.Any], seconds: float) -> str | None:
        """Return the line for the last report, if it is time for one.

        :param seconds: seconds since the task began.
        """
        text, total = str(report["text"]), int(report["total"])
        tenth = int(report["done"]) * 10 // total if total > 0 else 0
        pause = SECONDS * 2 ** (self._count // LINES_OF_A_STEP)
        is_due = self._count == 0 or seconds - self._shown_at >= pause or tenth > self._tenth
        if seconds < FIRST_SECONDS or text == self._text or not is_due or self._count >= MOST_LINES:
            return None
        self._text, self._tenth, self._shown_at = text, max(tenth, self._tenth), seconds
        self._count += 1
        return f"{self._name}: {text}, {seconds:.0f} s"


class _Reader(threading.Thread):
    """Displays the reports in a file until it is stopped."""

    def __init__(self, path: pathlib.Path, lines: Lines) -> None:
        super().__init__(name="vmfork progress", daemon=True)
        self._path = path
        self._lines = lines
        self._ended = threading.Event()
        self._began = time.monotonic()

    def run(self) -> None:
        """Read the file until :meth:`stop`. An error must not disturb the task: it only ends the display."""
        with contextlib.suppress(Exception), self._path.open("rb") as file:
            unread = b""
            report: dict[str, t.Any] | None = None
            while not self._ended.wait(LOOK_SECONDS):
                *whole, unread = (unread + file.read()).split(b"\n")
                report = json.loads(whole[-1]) if whole else report
                line = self._lines.line(report, time.monotonic() - self._began) if report is not None else None
                if line is not None:
                    Display().display(line, stderr=True)

    def stop(self) -> None:
        """End the display, and wait for its end."""
        self._ended.set()
        self.join()


@contextlib.contextmanager
def displayed(name: str) -> t.Iterator[str | None]:
    """Display the reports of a module while it runs, and yield the path of the file for them.

    Without room for the file, yield ``None`` and display nothing.
    """
    directory = constants.DEFAULT_LOCAL_TMP  # type: ignore[attr-defined,unused-ignore]
    try:
        handle, path = tempfile.mkstemp(prefix="vmfork-progress-", dir=directory)
    except OSError:
        yield None
        return
    os.close(handle)
    reader = _Reader(pathlib.Path(path), Lines(name))
    reader.start()
    try:
        yield path
    finally:
        reader.stop()
        pathlib.Path(path).unlink(missing_ok=True)


class ProgressAction(NormalAction):  # type: ignore[misc,unused-ignore]
    """Ansible's own action for modules, which also displays the progress, and ends the module of a canceled job."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        # A task with async is meant to outlive the play.
        with contextlib.nullcontext() if self._task.async_val else cancellation.ended_with_playbook():
            return self._run(tmp, task_vars)

    def _run(self, tmp: str | None, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        result: dict[str, t.Any]
        if not self._is_displayed():
            result = super().run(tmp, task_vars)
            return result
        given = self._task.args
        with displayed(self._name(task_vars or {})) as path:
            self._task.args = given if path is None else {**given, FILE_OPTION: path}
            try:
                result = super().run(tmp, task_vars)
            finally:
                self._task.args = given  # a further attempt (until) uses the same task
        return result

    def _is_displayed(self) -> bool:
        """Return whether the module's file can be read here, and the user wants to see its progress."""
        task = self._task
        is_here = self._connection.transport == "local" and not task.async_val
        is_other_user = task.become and (task.become_user or "root") != "root"
        return bool(is_here and not is_other_user and not task.no_log and not task.check_mode and self._is_wanted())

    def _is_wanted(self) -> bool:
        given = self._task.args.get("progress")
        given = os.environ.get("VMFORK_PROGRESS") if given in (None, "") else given
        try:
            return given in (None, "") or boolean(given)
        except TypeError:
            return True  # the module refuses the value

    def _name(self, task_vars: dict[str, t.Any]) -> str:
        """Return the name of the module, and of the host if several hosts run it."""
        name = str(self._task.action).rpartition(".")[2]
        is_one_of_several = len(task_vars.get("ansible_play_hosts") or ()) > 1
        return f"{name} [{task_vars.get('inventory_hostname')}]" if is_one_of_several else name
