# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that `make bench` writes: every measurement is in the table and in the chart, and the goals are judged."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import compare, page
from benchmarks.page import BASE, Case, Run

CASES = (BASE, BASE._replace(children=200), Case(1, 0, 2000, 10_000))


def run(seconds: float, calls: int = 0, waits: int = 0, cpu: float = 0.5, memory: float = 30) -> Run:
    """Return what a run might have cost."""
    return Run(seconds, cpu, memory, calls, waits)


RUNS = {
    (CASES[0], page.FLOOR): [run(1.0), run(3.0, cpu=0.7), run(2.0, cpu=0.6)],
    (CASES[0], page.TASK): [run(4.0, 44, 24, cpu=1.6)],
    (CASES[0], page.IN_PARALLEL): [run(2.0)],
    (CASES[0], page.GOVC_LOOP): [run(20.0)],
    (CASES[1], page.TASK): [run(29.0, 213, 46)],
    (CASES[2], "a < b & c"): [run(8.0)],
}


def test_table() -> None:
    head, rule, *rows = page.table(RUNS).splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {15}
    assert rows[0] == (
        f"| 32 | 20 ms | 0 s | 100 | {page.FLOOR} | 3 | 2.00 s | 1.00–3.00 s | 0.60 s |  |  | 30 MB | 0 | 0 |"
    )
    assert "| 1.60 s | 50 ms |" in rows[1]
    assert rows[5].startswith("| 1 | 0 ms | 2 s | 10,000 |")


def test_goals() -> None:
    rows = [row.strip("| ").split(" | ") for row in page.goals(RUNS).splitlines()[2:]]
    measured = {text: (allowed, got, met) for text, allowed, got, met in rows}
    assert measured[f"{BASE}: vmfork_child ≤ 1.15 × bare in parallel + floor"] == ("≤ 4.3 s", "4 s", "yes")
    assert measured["200 children < 7 × 32"] == ("≤ 28 s", "29 s", "no")
    assert measured["govc one by one ÷ vmfork_child"] == ("≥ 4 ×", "5 ×", "yes")
    assert measured[f"{BASE}: calls ≤ children + 12"] == ("≤ 44", "44", "yes")
    assert measured[f"{CASES[1]}: calls ≤ children + 12"] == ("≤ 212", "213", "no")
    assert measured[f"{CASES[1]}: waits ≤ ⅛ of the children + 20"] == ("≤ 45", "46", "no")
    assert not any("community.vmware" in text or "nothing to do" in text for text in measured)  # not measured


def test_goals_for_large_inventories() -> None:
    few, many = Case(0, 0, 0, 10), Case(0, 0, 0, 10_000)
    runs = {
        **RUNS,
        **{(few, name): [run(1.0, memory=50)] for name in (page.NAMES, page.BY_NAME)},
        (many, page.NAMES): [run(2.0)],
        (many, page.BY_NAME): [run(2.5, memory=75)],
        **{(many, name): [run(seconds)] for name, seconds in ((page.FLOOR, 1), (page.PROPERTIES, 2), (page.REPORT, 6))},
    }
    rows = page.goals(runs).splitlines()[-3:]
    assert [row.split(" | ")[1:] for row in rows] == [
        ["≤ 1.3 s", "1.5 s", "no |"],
        ["≤ 20 MB", "25 MB", "no |"],
        ["≤ 7 s", "6 s", "yes |"],
    ]


def test_bars_are_proportional_to_the_medians_of_their_case() -> None:
    drawing = ElementTree.fromstring(page.chart(RUNS))
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(rect.get("width", "")) for rect in drawing.iter(f"{space}rect")]
    assert widths[:3] == [pytest.approx(widths[3] * part, abs=0.2) for part in (0.1, 0.2, 0.1)]
    assert widths[4] == widths[5] == widths[3]
    texts = [text.text for text in drawing.iter(f"{space}text")]
    assert texts[0] == "32 children, 20 ms a call, 0 s a task, 100 VMs"
    assert texts[-2:] == ["a < b & c", "8.00 s"]


def test_each_case_differs_from_the_base_case_in_one_number() -> None:
    given = argparse.Namespace(children=[32, 1], delays=[20, 0], task_delays=[0], vms=[100, 1000])
    assert compare.cases_of(given) == [BASE, Case(1, 20, 0, 100), Case(32, 0, 0, 100), Case(32, 20, 0, 1000)]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Case] = []

    def forks(given: argparse.Namespace, *_more: Any) -> Iterator[page.Runs]:
        measured.extend(compare.cases_of(given))
        yield RUNS

    monkeypatch.setattr(compare, "forks", forks)
    for name in ("names", "reports"):
        monkeypatch.setattr(compare, name, lambda *_given: [])
    options = ["--children", "1,2", "--delays", "20", "--task-delays", "0", "--vms", "10", "--output", str(tmp_path)]
    compare.main(options)
    assert measured == [Case(1, 20, 0, 10), Case(2, 20, 0, 10)]
    written = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "![Median seconds](benchmarks.svg)" in written
    assert f"on {datetime.datetime.now(datetime.timezone.utc).date()}: ansible-core " in written
    ElementTree.parse(tmp_path / "benchmarks.svg")


def test_usage_of_a_command(tmp_path: Path) -> None:
    """The memory is that of the command, and not of the process that measures it."""
    script = Path(compare.__file__).with_name("usage.py")
    report = tmp_path / "report"
    work = "block = bytearray(60_000_000); sum(range(3_000_000)); raise SystemExit(7)"
    command = [sys.executable, "-I", "-S", str(script), str(report), sys.executable, "-c", work]
    assert subprocess.run(command, check=False).returncode == 7
    seconds, cpu, memory = json.loads(report.read_text(encoding="utf-8"))
    assert seconds > 0
    assert cpu > 0.01
    assert 60 < memory < 90
