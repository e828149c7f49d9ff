# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of a module's progress in the file of the action plugin."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._progress import Progress


def reports(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_each_change_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    progress = Progress(str(path))
    for done in (0, 1, 1):
        progress.show(f"{done} of 2 ready", done, 2)
    progress.show("wird gelöscht\x1b[31m")
    assert reports(path) == [
        {"text": "0 of 2 ready", "done": 0, "total": 2},
        {"text": "1 of 2 ready", "done": 1, "total": 2},
        {"text": "wird gelöscht\\x1b[31m", "done": 0, "total": 0},
    ]


def test_secrets_are_hidden(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    Progress(str(path), lambda text: text.replace("word", "********")).show("failed (password-1)")
    assert reports(path)[0]["text"] == "failed (pass********-1)"


@pytest.mark.parametrize("kind", ["none", "missing", "directory", "link", "pipe", "zero"])
def test_nothing_happens_without_a_file(tmp_path: Path, kind: str) -> None:
    """A file is neither created nor followed through a link, and nobody waits for the reader of a pipe."""
    path, target = tmp_path / "file", tmp_path / "target"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        target.touch()
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    there = kind not in ("none", "missing", "zero")
    progress = Progress(None if kind == "none" else "\0" if kind == "zero" else str(path))
    progress.show("1 of 2 ready")
    assert (path.exists(), target.exists() and target.read_text()) == (there, "" if kind == "link" else False)


def test_a_full_disk_is_ignored() -> None:
    progress = Progress("/dev/full")
    progress.show("1 of 2 ready")
    progress.show("2 of 2 ready")
