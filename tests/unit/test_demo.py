# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the demo that a machine without an SSH server does not run. The rest of the demo is its own test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from harness import guest_ssh

DEMO = Path(__file__).parents[1] / "demo" / "demo.py"


def test_demo_says_what_it_did_not_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", demo)
    spec.loader.exec_module(demo)
    played = demo.Played("output", ["name", "web-01", "web-02"], "ok=1 changed=0 failed=0 (1 s)")
    monkeypatch.setattr(demo, "fork", lambda _environment: played)
    monkeypatch.setattr(demo, "show_the_next_play", lambda _environment: pytest.fail("this was to be left out"))
    monkeypatch.setattr(guest_ssh, "obstacle", lambda: "openssh-server is not installed")
    demo.show_a_fork({}, {})
    lines = [line for line in capsys.readouterr().out.splitlines() if "NOT RUN" in line]
    assert lines == ["  NOT RUN: a play that connects to the children by SSH, because openssh-server is not installed."]
