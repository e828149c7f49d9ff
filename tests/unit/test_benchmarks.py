# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that `make bench` writes: every measurement is in the table and in the chart."""

from __future__ import annotations

import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import compare
from benchmarks.compare import Case, Run

CASES = (Case(1, 0, 0, 100), Case(32, 20, 2000, 10_000))
RUNS = {
    (CASES[0], compare.FLOOR): [Run(1.0, 0.5, 0, 0), Run(3.0, 0.7, 0, 0), Run(2.0, 0.6, 0, 0)],
    (CASES[0], "a < b & c"): [Run(4.0, 0.5, 20, 3)],
    (CASES[1], compare.FLOOR): [Run(8.0, 0.25, 0, 0)],
}


def test_table() -> None:
    head, rule, *rows = compare.table(RUNS).splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {11}
    assert rows[0] == (f"| 1 | 0 ms | 0 s | 100 | {compare.FLOOR} | 2.00 s | 1.00–3.00 s | 0.60 s | 0 | 0 |")
    assert rows[2].startswith("| 32 | 20 ms | 2 s | 10,000 |")


def test_bars_are_proportional_to_the_medians() -> None:
    drawing = ElementTree.fromstring(compare.chart(RUNS))
    space = "{http://www.w3.org/2000/svg}"
    first, second, third = [float(rect.get("width", "")) for rect in drawing.iter(f"{space}rect")]
    assert (second, third) == (pytest.approx(2 * first, abs=0.2), pytest.approx(4 * first, abs=0.2))
    texts = [text.text for text in drawing.iter(f"{space}text")]
    assert texts[0] == "1 child, 0 ms a call, 0 s a task, 100 VMs"
    assert texts[3:5] == ["a < b & c", "4.00 s"]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Case] = []

    def measure(case: Case, _repeats: int) -> compare.Runs:
        measured.append(case)
        return {(case, compare.FLOOR): [Run(1.0, 0.5, 0, 0)]}

    monkeypatch.setattr(compare, "measure", measure)
    options = ["--children", "1,2", "--delays", "20", "--task-delays", "0", "--vms", "10", "--output", str(tmp_path)]
    compare.main(options)
    assert measured == [Case(1, 20, 0, 10), Case(2, 20, 0, 10)]
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "![Median seconds](benchmarks.svg)" in page
    assert f"on {datetime.datetime.now(datetime.timezone.utc).date()}: ansible-core " in page
    ElementTree.parse(tmp_path / "benchmarks.svg")
