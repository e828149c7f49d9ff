# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write measurements as a page: a table of all of them, a table of the goals, and a chart. Pure; measures nothing."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import statistics
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

import ansible
import pyVmomi

PARALLEL = 16
"""Requests at a time of the bare script and of xargs; the default of vmfork_child."""

FLOOR = "ansible: ping (the floor)"
TASK = "ansible: vmfork_child"
NO_OP = "ansible: vmfork_child, nothing to do"
PLAYBOOK = "ansible-playbook: vmfork.vsphere.fork"
ASYNC_JOBS = 8
"""Jobs at a time of the async play. With 32 on two cores, ansible-core loses one of them ("could not find job")."""

PEER_ASYNC = f"ansible-playbook: community.vmware, {ASYNC_JOBS} async jobs at a time"
PEER_LOOP = "ansible-playbook: community.vmware, loop"
ONE_BY_ONE = "bare pyVmomi, one by one"
IN_PARALLEL = f"bare pyVmomi, {PARALLEL} at a time"
GOVC_LOOP = "govc, one by one"
GOVC_PARALLEL = f"govc, xargs -P {PARALLEL}"
IMPORT = "python: from pyVmomi import vim"
NAMES = "bare pyVmomi: names of all VMs"
BY_NAME = "module vmfork_parent, by name"
BY_FOLDER = "module vmfork_parent, by name and folder"
PROPERTIES = "bare pyVmomi: vApp options of all VMs"
REPORT = "ansible: vm_ovfenv_info"


class Case(NamedTuple):
    """The conditions of a measurement: children, delay of each call and task in milliseconds, and VMs."""

    children: int
    delay: int
    task_delay: int
    vms: int

    def __str__(self) -> str:
        if not self.children:
            return f"{self.vms:,} VMs"
        noun = "child" if self.children == 1 else "children"
        return f"{self.children} {noun}, {self.delay} ms a call, {self.task_delay / 1000:g} s a task, {self.vms:,} VMs"


BASE = Case(children=32, delay=20, task_delay=0, vms=100)


class Run(NamedTuple):
    """The cost of a run: seconds, CPU seconds and peak memory (MB) of the client, and calls to vCenter."""

    seconds: float
    cpu: float
    memory: float
    calls: int
    waits: int


Runs = dict[tuple[Case, str], list[Run]]


def median(runs: list[Run], field: str = "seconds") -> float:
    """Return the median of a cost."""
    return statistics.median(getattr(cost, field) for cost in runs)


def _per(number: float, of: int) -> str:
    return f"{1000 * number / of:.0f} ms" if of else ""


def table(runs: Runs) -> str:
    """Return all measurements as a Markdown table."""
    conditions = ("children", "call", "task", "VMs", "way", "runs")
    head = (*conditions, "median", "spread", "CPU", "CPU/child", "CPU/VM", "memory", "calls", "waits")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for (case, name), costs in runs.items():
        seconds = sorted(cost.seconds for cost in costs)
        cpu = median(costs, "cpu")
        is_fork = case.children and name not in (FLOOR, IMPORT)
        cells = (
            *(str(case.children or ""), f"{case.delay} ms", f"{case.task_delay / 1000:g} s", f"{case.vms:,}", name),
            *(str(len(costs)), f"{median(costs):.2f} s", f"{seconds[0]:.2f}–{seconds[-1]:.2f} s", f"{cpu:.2f} s"),
            *(_per(cpu, case.children if is_fork else 0), _per(cpu, 0 if case.children or name == FLOOR else case.vms)),
            *(f"{median(costs, 'memory'):.0f} MB", f"{median(costs, 'calls'):g}", f"{median(costs, 'waits'):g}"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- the goals --------------------------------------------------------------------------------------------------------


class Goal(NamedTuple):
    """A goal, in words; the number that it allows, and the one that was measured."""

    text: str
    allowed: float
    got: float
    unit: str = " s"
    is_minimum: bool = False

    @property
    def is_met(self) -> bool:
        """Return whether the goal was met."""
        return self.got >= self.allowed if self.is_minimum else self.got <= self.allowed


class _Missing(Exception):
    """Something was not measured."""


def _goals(runs: Runs) -> Iterator[Goal]:
    """Yield the goals whose numbers were measured."""

    def of(case: Case, name: str, field: str = "seconds") -> float:
        if (case, name) not in runs:
            raise _Missing
        return median(runs[case, name], field)

    cases = list(dict.fromkeys(case for case, _name in runs if case.children))
    inventories = sorted({case for case, name in runs if name == BY_NAME}, key=lambda case: case.vms) or [cases[0]]
    base = cases[0]
    most = max(cases, key=lambda case: case.children)
    quick = next((case for case in cases if case.delay == 0), base)

    def limit(case: Case) -> float:
        return 1.15 * of(case, IN_PARALLEL) + of(case, FLOOR)

    def growth(name: str, field: str) -> float:
        few, many = inventories[0], inventories[-1]
        return of(many, name, field) - of(few, name, field)

    goals = [
        lambda: Goal(f"{base}: vmfork_child ≤ 1.15 × bare in parallel + floor", limit(base), of(base, TASK)),
        lambda: Goal(
            f"{base}: whole playbook ≤ floor + 2 × that", of(base, FLOOR) + 2 * limit(base), of(base, PLAYBOOK)
        ),
        lambda: Goal(f"{most.children} children < 7 × {base.children}", 7 * of(base, TASK), of(most, TASK)),
        lambda: Goal(
            "govc one by one ÷ vmfork_child", 4, of(base, GOVC_LOOP) / of(base, TASK), unit=" ×", is_minimum=True
        ),
        lambda: Goal(
            "community.vmware async ÷ vmfork_child", 12, of(base, PEER_ASYNC) / of(base, TASK), " ×", is_minimum=True
        ),
        *(
            (lambda case=case: Goal(f"{case}: calls ≤ children + 12", case.children + 12, of(case, TASK, "calls"), ""))
            for case in cases
        ),
        *(
            (
                lambda case=case: Goal(
                    f"{case}: waits ≤ ⅛ of the children + 20", case.children / 8 + 20, of(case, TASK, "waits"), ""
                )
            )
            for case in cases
        ),
        lambda: Goal(f"{most.children} children, nothing to do: calls", 12, of(most, NO_OP, "calls"), ""),
        lambda: Goal(
            "nothing to do, 0 ms a call ≤ ping + import of vim + 0.25 s",
            of(quick, FLOOR) + of(quick, IMPORT) + 0.25,
            of(quick, NO_OP),
        ),
        lambda: Goal(
            f"a name among {inventories[-1].vms:,} instead of {inventories[0].vms} VMs ≤ 1.3 × bare read of the names",
            1.3 * growth(NAMES, "seconds"),
            growth(BY_NAME, "seconds"),
        ),
        lambda: Goal("memory for that", 20, growth(BY_NAME, "memory"), " MB"),
        *(
            (
                lambda case=case: Goal(
                    f"report on {case.vms:,} VMs ≤ floor + 3 × bare read of their vApp options",
                    of(case, FLOOR) + 3 * of(case, PROPERTIES),
                    of(case, REPORT),
                )
            )
            for case in dict.fromkeys(case for case, name in runs if name == REPORT)
        ),
    ]
    for goal in goals:
        try:
            yield goal()
        except _Missing:
            continue


def goals(runs: Runs) -> str:
    """Return the goals as a Markdown table."""
    lines = ["| goal | allowed | measured | met |", "| --- | --- | --- | --- |"]
    for goal in _goals(runs):
        sign = "≥" if goal.is_minimum else "≤"
        cells = (f"{sign} {goal.allowed:.4g}{goal.unit}", f"{goal.got:.4g}{goal.unit}", "yes" if goal.is_met else "no")
        lines.append(f"| {goal.text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- the chart --------------------------------------------------------------------------------------------------------

ROW, LABEL, WIDTH = 18, 290, 860
"""Height of a bar with its space, width of the names, and width of the chart, in pixels."""


# REUSE-IgnoreStart
LICENSE = (
    "<!--",
    "SPDX-FileCopyrightText: vmfork.vsphere contributors",
    "SPDX-License-Identifier: GPL-3.0-or-later",
    "-->",
)
# REUSE-IgnoreEnd


def chart(runs: Runs) -> str:
    """Return the medians as an SVG chart, one group of bars for each case, each with its own scale."""
    parts: list[str] = []
    top = 0
    for case, group in itertools.groupby(runs.items(), key=lambda entry: entry[0][0]):
        entries = list(group)
        longest = max(median(costs) for _key, costs in entries)
        top += 2 * ROW
        parts.append(f'<text x="0" y="{top}" font-weight="bold">{escape(str(case))}</text>')
        for (_case, name), costs in entries:
            top += ROW
            length = (WIDTH - LABEL - 80) * median(costs) / longest
            color = "#1a7f5a" if "vmfork" in name or "ovfenv" in name else "#8a8f98"
            parts += [
                f'<text x="{LABEL - 8}" y="{top + 4}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{LABEL}" y="{top - 8}" width="{length:.1f}" height="{ROW - 4}" fill="{color}"/>',
                f'<text x="{LABEL + length + 6:.1f}" y="{top + 4}">{median(costs):.2f} s</text>',
            ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + ROW}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="12" fill="#57606a">', *LICENSE, *parts, "</svg>"]) + "\n"


# --- the page ---------------------------------------------------------------------------------------------------------


def versions(peers: Path) -> str:
    """Return what was measured with.

    :param peers: the directory of the collections that are compared.
    """
    manifest = peers / "ansible_collections" / "community" / "vmware" / "MANIFEST.json"
    peer = (
        json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"] if manifest.exists() else "none"
    )
    return (
        f"ansible-core {ansible.__version__}, pyVmomi {pyVmomi.version_info_str}, community.vmware {peer}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores"
    )


def page(runs: Runs, day: datetime.date, repeats: int, peers: Path) -> str:
    """Return the page."""
    license_ = "\n".join(LICENSE)
    return f"""{license_}

# Benchmarks

Written by `make bench` on {day.isoformat()}: {versions(peers)}. {repeats} runs each, in turns; slow ways run once.

All ways create the same instant clones on the same simulator, which runs on the same machine, so compare the rows with
each other. The bare script and govc check nothing: neither names nor networks, nor whether the clones are what was
requested. The playbook also quiesces the parent, sets up the guests, and waits for their scripts. The play with async
jobs starts {ASYNC_JOBS} at a time: with many more on few cores, ansible-core loses jobs ("could not find job").

The guests of the clones run at the lowest priority, since those of vSphere run on its hosts and take no time from the
client. Only the playbook waits for them.

## Goals

{goals(runs)}

Calls are those of `vmfork_child` besides its waits for updates. Measured on a machine that does something else, the
numbers differ.

## Measurements

![Median seconds](benchmarks.svg)

{table(runs)}

- Call and task: their delay in the simulator.
- Median and spread: seconds from the start of the process to its end.
- CPU and memory: CPU seconds of all processes of the client, and the peak memory of the largest.
- Calls and waits: requests to vCenter, and among them the waits for updates, which are not counted as calls.
- VMs in a report have vApp options and are off. The rows of a module alone do not include Ansible.
"""
