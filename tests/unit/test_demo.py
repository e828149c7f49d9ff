# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the demo that a machine without an SSH server does not run. The rest of the demo is its own test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import guest_ssh

DEMO = Path(__file__).parents[1] / "demo" / "demo.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    return module


def test_demo_says_what_it_did_not_run(
    demo: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played = demo.Played("output", ["name", "web-01", "web-02"], "ok=1 changed=0 failed=0 (1 s)")
    monkeypatch.setattr(demo, "fork", lambda _environment: played)
    monkeypatch.setattr(demo, "show_the_next_play", lambda _environment: pytest.fail("this was to be left out"))
    monkeypatch.setattr(guest_ssh, "obstacle", lambda: "openssh-server is not installed")
    demo.show_a_fork({}, {})
    lines = [line for line in capsys.readouterr().out.splitlines() if "NOT RUN" in line]
    assert lines == ["  NOT RUN: a play that connects to the children by SSH, because openssh-server is not installed."]


SHOWN = ["$ run -e @tests/demo/web.yml", "  name    moid", "  web-01  vm-9", "  web-02  vm-10", "", "$ next"]


@pytest.mark.parametrize(
    ("lines", "differing"),
    [
        (["$ run -e @tests/demo/web.yml", "  name  moid", "  web-01  vm-77", "  …", "", "$ next"], []),
        (["$ run -e @tests/demo/web.yml", "  name  state"], ["name state"]),
        (["$ next", "$ run -e @tests/demo/web.yml"], ["$ run -e @tests/demo/web.yml"]),
    ],
)
@pytest.mark.parametrize("form", ["Text\n```console\n{}\n```\n", "Text\n\n.. code-block:: console\n\n   {}\n\nMore\n"])
def test_transcripts_are_compared(demo: Any, form: str, lines: list[str], differing: list[str]) -> None:
    indent = "\n   " if "::" in form else "\n"
    assert demo.undocumented(form.format(indent.join(lines)), SHOWN) == differing
    assert demo.undocumented(form.format("$ something else"), SHOWN) == []


def test_documentation_has_transcripts(demo: Any) -> None:
    """Otherwise nothing would be compared."""
    for page in demo.DOCUMENTED:
        assert len(demo.undocumented((DEMO.parents[2] / page).read_text(), [])) > 10
