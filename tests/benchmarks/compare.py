# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure ways to create children side by side on one simulator, and write docs/benchmarks.md and its chart.

    python tests/benchmarks/compare.py [--children 1,32,200] [--delays 0,20] [--task-delays 0,2000]
        [--vms 100,1000,10000] [--repeats 5] [--output docs]

It measures and fails nothing. The ways take turns, so that a change of the machine's load affects all of them.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

import ansible
import pyVmomi

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / ".build" / "live")]

from functional.engines import INSTANT_CLONE  # noqa: E402, the path is set above
from functional.vcenter import VCenter  # noqa: E402
from harness.simulator import Simulator  # noqa: E402

PARALLEL = 16
"""Requests at a time of the bare script; the default of vmfork_child."""

FLOOR = "ansible: ping (the floor)"
TASK = "ansible: vmfork_child"
NO_OP = "ansible: vmfork_child, nothing to do"
ONE_BY_ONE = "bare pyVmomi, one by one"
IN_PARALLEL = f"bare pyVmomi, {PARALLEL} at a time"


class Case(NamedTuple):
    """The conditions of a measurement: children, delay of each call and task in milliseconds, and VMs."""

    children: int
    delay: int
    task_delay: int
    vms: int


class Run(NamedTuple):
    """The cost of a run."""

    seconds: float
    cpu: float
    calls: int
    waits: int


Runs = dict[tuple[Case, str], list[Run]]


def run(command: list[str], vcenter: VCenter) -> Run:
    """Run a command, and return its cost: with the processes that it starts, and without the simulator."""
    vcenter.control("DELETE", "calls")
    environment = {**os.environ, **vcenter.simulator.environment, "ANSIBLE_LOCALHOST_WARNING": "false"}
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        output = process.stdout.read() if process.stdout is not None else b""
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{command[:4]} failed:\n{output.decode()}")
    counted = vcenter.called()
    waits = counted.pop("WaitForUpdatesEx", 0)
    return Run(seconds, usage.ru_utime + usage.ru_stime, sum(counted.values()), waits)


def task(module: str, **arguments: object) -> list[str]:
    """Return the command that runs a module."""
    program = str(Path(sys.executable).with_name("ansible"))
    return [program, "localhost", "-m", module, *(["-a", json.dumps(arguments)] if arguments else [])]


def measure(case: Case, repeats: int) -> Runs:
    """Measure every way under the same conditions."""
    flags = ("-delay", str(case.delay), "-task-delay", str(case.task_delay), "-vm", "1", "-host", "1")
    runs: Runs = {}
    with Simulator("-api-version", INSTANT_CLONE.api_version, "-exit-after", "2h", *flags) as simulator:
        vcenter = VCenter(simulator, INSTANT_CLONE)
        vcenter.control("POST", "inventory", {"vms": case.vms - 1, "name": "other-%05d", "folder": "/DC0/vm"})
        vcenter.quiesce()
        moid = vcenter.moid()
        children = [{"name": f"web-{number:03}"} for number in range(case.children)]
        ours = {"parent_moid": moid, "children": children, "wait_for": "powered_on"}

        def bare(parallel: int) -> list[str]:
            script = str(Path(__file__).with_name("bare.py"))
            return [sys.executable, script, moid, "bare-", str(case.children), str(parallel)]

        def remove() -> None:
            vcenter.ok("vmfork_child", parent_moid=moid, state="absent", children=children)

        def destroy() -> None:
            vcenter.govc("vm.destroy", *(f"bare-{number:03}" for number in range(case.children)))

        def nothing() -> None:
            pass

        ways: dict[str, tuple[list[str], Callable[[], None]]] = {
            FLOOR: (task("ansible.builtin.ping"), nothing),
            TASK: (task("vmfork.vsphere.vmfork_child", **ours), nothing),
            NO_OP: (task("vmfork.vsphere.vmfork_child", **ours), remove),
            ONE_BY_ONE: (bare(1), destroy),
            IN_PARALLEL: (bare(PARALLEL), destroy),
        }
        for _repeat in range(repeats):
            for name, (command, clean_up) in ways.items():
                runs.setdefault((case, name), []).append(run(command, vcenter))
                clean_up()
    return runs


# --- the page ---------------------------------------------------------------------------------------------------------


def median(runs: list[Run]) -> float:
    """Return the median of the seconds."""
    return statistics.median(cost.seconds for cost in runs)


def table(runs: Runs) -> str:
    """Return all measurements as a Markdown table."""
    head = ("children", "call", "task", "VMs", "", "median", "spread", "client CPU", "calls", "waits")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for (case, name), costs in runs.items():
        seconds = sorted(cost.seconds for cost in costs)
        cells = (
            *(str(case.children), f"{case.delay} ms", f"{case.task_delay / 1000:g} s", f"{case.vms:,}", name),
            f"{median(costs):.2f} s",
            f"{seconds[0]:.2f}–{seconds[-1]:.2f} s",
            f"{statistics.median(cost.cpu for cost in costs):.2f} s",
            f"{statistics.median(cost.calls for cost in costs):g}",
            f"{statistics.median(cost.waits for cost in costs):g}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


ROW, LABEL, WIDTH = 18, 260, 860
"""Height of a bar with its space, width of the names, and width of the chart, in pixels."""


LICENSE = (
    "<!--",
    "SPDX-FileCopyrightText: vmfork.vsphere contributors",
    "SPDX-License-Identifier: GPL-3.0-or-later",
    "-->",
)


def chart(runs: Runs) -> str:
    """Return the medians as an SVG chart, one group of bars for each case."""
    longest = max(median(costs) for costs in runs.values())
    parts: list[str] = []
    top = 0
    for case, entries in itertools.groupby(runs.items(), key=lambda entry: entry[0][0]):
        top += 2 * ROW
        noun = "child" if case.children == 1 else "children"
        title = f"{case.children} {noun}, {case.delay} ms a call, {case.task_delay / 1000:g} s a task, {case.vms:,} VMs"
        parts.append(f'<text x="0" y="{top}" font-weight="bold">{escape(title)}</text>')
        for (_case, name), costs in entries:
            top += ROW
            length = (WIDTH - LABEL - 80) * median(costs) / longest
            color = "#1a7f5a" if name.startswith("ansible: vmfork") else "#8a8f98"
            parts += [
                f'<text x="{LABEL - 8}" y="{top + 4}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{LABEL}" y="{top - 8}" width="{length:.1f}" height="{ROW - 4}" fill="{color}"/>',
                f'<text x="{LABEL + length + 6:.1f}" y="{top + 4}">{median(costs):.2f} s</text>',
            ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + ROW}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="12" fill="#57606a">', *LICENSE, *parts, "</svg>"]) + "\n"


def versions() -> str:
    """Return what was measured with."""
    return (
        f"ansible-core {ansible.__version__}, pyVmomi {pyVmomi.version_info_str}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )


def page(runs: Runs, day: datetime.date, repeats: int) -> str:
    """Return the page."""
    license_ = "\n".join(LICENSE)
    return f"""{license_}

# Benchmarks

Written by `make bench` on {day.isoformat()}: {versions()}; {repeats} runs each, in turns.

All ways create the same instant clones on the same simulator, which runs on the same machine, so compare the rows with
each other. Seconds include the start of the process. The bare script checks nothing: neither names nor networks, nor
whether the clones are what was requested.

![Median seconds](benchmarks.svg)

{table(runs)}

Call and task: their delay in the simulator. Calls: requests to vCenter other than the waits for updates.
"""


def numbers(text: str) -> list[int]:
    """Return the numbers of an option: ``1,32``."""
    return [int(number) for number in text.split(",")]


def main(arguments: Iterable[str] | None = None) -> None:
    """Measure every case, and write the page and the chart."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--children", type=numbers, default=[1, 32, 200])
    parser.add_argument("--delays", type=numbers, default=[0, 20], help="of each call, in milliseconds")
    parser.add_argument("--task-delays", type=numbers, default=[0, 2000], help="of each task, in milliseconds")
    parser.add_argument("--vms", type=numbers, default=[100, 1000, 10000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    given = parser.parse_args(None if arguments is None else list(arguments))
    runs: Runs = {}
    for case in map(Case._make, itertools.product(given.children, given.delays, given.task_delays, given.vms)):
        runs.update(measure(case, given.repeats))
        print(table({key: costs for key, costs in runs.items() if key[0] == case}), flush=True)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    (given.output / "benchmarks.md").write_text(page(runs, today, given.repeats), encoding="utf-8")
    (given.output / "benchmarks.svg").write_text(chart(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
