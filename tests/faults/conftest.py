# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record the main job, make the cases of it, and print at the end how they came out.

The process that starts the others records, so that all have the same cases.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from faults.cases import ENGINES, Record, all_cases, record_all, sample
from faults.kinds import KINDS
from faults.stage import STEPS, Stage, stage

RECORDS = pytest.StashKey[list[Record]]()
FINDING = "FINDING"
SEED = os.environ.get("VMFORK_FAULTS_SEED", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this directory."""
    parser.addoption("--sample", type=int, help="the number of cases to run, chosen by VMFORK_FAULTS_SEED; all without")


def pytest_configure(config: pytest.Config) -> None:
    """Record the requests of the main job, or take what the starting process has recorded."""
    given = getattr(config, "workerinput", None)
    config.stash[RECORDS] = json.loads(given["records"]) if given else record_all()
    config.pluginmanager.register(Nodes())


class Nodes:
    """A plugin for pytest-xdist."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass the record to a process."""
        node.workerinput["records"] = json.dumps(node.config.stash[RECORDS])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case."""
    if "case" not in metafunc.fixturenames:
        return
    records = metafunc.config.stash[RECORDS]
    cases = all_cases(records, STEPS)
    number = metafunc.config.getoption("sample")
    metafunc.parametrize("case", cases if number is None else sample(cases, number, SEED), ids=str)


@pytest.fixture(scope="session")
def stages() -> Iterator[dict[str, Stage]]:
    """Return the stages of this process by engine; each is put up when it is first used."""
    with ExitStack() as stack:

        class Stages(dict[str, Stage]):
            def __missing__(self, name: str) -> Stage:
                self[name] = stack.enter_context(stage(ENGINES[name]))
                return self[name]

        yield Stages()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print for each engine how the cases of each kind came out."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        known = dict(report.user_properties)
        if report.when == "call" and "case" in known:
            counted[(*known["case"], FINDING if report.failed else known["outcome"])] += 1
    for line in tables(counted):
        terminalreporter.write_line(line)
    if counted and terminalreporter.config.getoption("sample"):
        terminalreporter.write_line(f"The sample is that of VMFORK_FAULTS_SEED={SEED}.")


def tables(counted: Counter[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table for each engine, from the number of cases by engine, kind and outcome."""
    for engine in ENGINES:
        found = {outcome for name, _kind, outcome in counted if name == engine}
        outcomes = sorted(found, key=lambda outcome: (outcome == FINDING, outcome))
        if outcomes:
            yield ""
            yield f"| {engine} | cases | " + " | ".join(outcomes) + " |"
            yield "| --- " * (len(outcomes) + 2) + "|"
            for kind in (kind.name for kind in KINDS):
                numbers = [counted[engine, kind, outcome] for outcome in outcomes]
                if any(numbers):
                    yield f"| {kind} | {sum(numbers)} | " + " | ".join(str(number or "") for number in numbers) + " |"
            sums = [sum(counted[engine, kind.name, outcome] for kind in KINDS) for outcome in outcomes]
            yield f"| all | {sum(sums)} | " + " | ".join(map(str, sums)) + " |"
