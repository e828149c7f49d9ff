# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test` runs each part after those that it needs, and reports what it did not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import parts

MAKE = """#!/bin/sh
for part; do :; done
echo "$* begins" >>"$LOG"
case $part in bad) exit 2 ;; esac
echo "$part ends" >>"$LOG"
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make = tmp_path / "make"
    make.write_text(MAKE)
    make.chmod(0o755)
    monkeypatch.setenv("MAKE", str(make))
    monkeypatch.setenv("MADE", "tree")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the parts in this process, which has other children than they."""
    monkeypatch.setattr(parts, "adopt", lambda: None)
    monkeypatch.setattr(parts, "total_cpu", lambda: 0.0)
    monkeypatch.setattr(sys, "argv", ["parts.py", *arguments])
    return parts.main()


def test_needs(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "last:first,second", "first", "second:first") == 0
    assert log.read_text().splitlines() == [
        "--no-print-directory first begins",
        "first ends",
        "--no-print-directory --old-file tree second begins",
        "second ends",
        "--no-print-directory --old-file tree last begins",
        "last ends",
    ]


def test_needed_part_that_fails(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "bad", "next:bad", "last:next", "other") == 1
    assert "next begins" not in log.read_text()
    assert "other ends" in log.read_text()
    printed = capsys.readouterr().out
    assert "NOT RUN next: bad failed\nNOT RUN last: next failed\n1 passed, 1 failed, 2 not run\n" in printed


def test_unknown_need(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="part needs unknown"):
        run(monkeypatch, "part:unknown")
    assert not log.exists()


DETACHED = """
import os, subprocess, sys
from harness import parts
parts.adopt()
before = parts.total_cpu()
busy = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run(["sh", "-c", 'setsid "$0" -c "$1" &', sys.executable, busy], check=True)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
print(parts.total_cpu() - before)
"""


def test_detached_process_counts() -> None:
    path = str(Path(parts.__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", DETACHED], env={"PYTHONPATH": path}, check=True, stdout=subprocess.PIPE, text=True
    )
    assert float(ended.stdout) >= 0.3
