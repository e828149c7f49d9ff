# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure ways to create children side by side on one simulator, and write docs/benchmarks.md and its chart.

    python tests/benchmarks/compare.py [--children 32,1,200] [--delays 20,0] [--task-delays 0,2000]
        [--vms 100,1000,10000] [--reports 1000] [--repeats 3] [--peer-loop] [--output docs]

It measures and fails nothing. The first number of each option makes the base case; the others are varied one at a time.
The ways take turns, so that a change of the machine's load affects all of them. Slow ways run once, and the peers among
them only in the base case.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / ".build" / "live")]

from benchmarks import page  # noqa: E402, the path is set above
from benchmarks.page import Case, Run, Runs  # noqa: E402
from functional.engines import INSTANT_CLONE  # noqa: E402
from functional.vapp import estate, prop  # noqa: E402
from functional.vcenter import VCenter  # noqa: E402
from harness.simulator import Simulator, SimulatorError  # noqa: E402
from pyVmomi import vim  # noqa: E402

PROGRAMS = Path(sys.executable).parent
COLLECTIONS, PEERS = ROOT / ".build" / "collections", ROOT / ".build" / "peers"
GOVC = ROOT / ".build" / "govc"

FEW, MANY = 10, 10_000
"""The numbers of VMs between which the cost of a name is compared."""


def nothing() -> None:
    """Prepare or remove nothing."""


@dataclass(frozen=True)
class Way:
    """A command to measure.

    :param before: prepares each run, and is not measured.
    :param after: removes what a run has created, and is not measured.
    :param peers: whether the command needs the collections of others, too.
    """

    name: str
    command: list[str]
    before: Callable[[], object] = nothing
    after: Callable[[], object] = nothing
    is_slow: bool = False
    peers: bool = False


class WayFailed(Exception):
    """A command did not succeed; the message contains its output."""


class Progress:
    """Shows what was measured so far."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def show(self, text: str) -> None:
        """Print a line with the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)


def run(way: Way, vcenter: VCenter) -> Run:
    """Run a command, and return its cost: with the processes that it starts, and without the simulator."""
    way.before()
    vcenter.control("DELETE", "calls")
    path = os.pathsep.join(map(str, [COLLECTIONS, PEERS] if way.peers else [COLLECTIONS]))
    quiet = {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}
    environment = {**os.environ, **vcenter.simulator.environment, **quiet, "ANSIBLE_COLLECTIONS_PATH": path}
    with tempfile.TemporaryDirectory() as directory:
        # By default, a job writes below HOME, and who asks for it looks into the home directory of the user's account.
        environment["ANSIBLE_ASYNC_DIR"] = directory
        report = Path(directory, "report")
        command = [sys.executable, "-I", "-S", str(HERE / "usage.py"), str(report), *way.command]
        ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if ended.returncode:
            raise WayFailed(f"{way.name} failed:\n{ended.stdout.decode()[-2000:]}")
        seconds, cpu, memory = json.loads(report.read_text(encoding="utf-8"))
    counted = vcenter.called()
    waits = counted.pop("WaitForUpdatesEx", 0)
    cost = Run(seconds, cpu, memory, sum(counted.values()), waits)
    way.after()
    return cost


def measure(case: Case, ways: Iterable[Way], vcenter: VCenter, repeats: int, progress: Progress) -> Runs:
    """Run the ways in turns, without those that fail."""
    runs: Runs = {}
    failed: set[str] = set()
    for repeat in range(repeats):
        for way in ways:
            if way.name in failed or (way.is_slow and repeat):
                continue
            try:
                cost = run(way, vcenter)
            except (WayFailed, AssertionError, subprocess.SubprocessError) as error:
                failed.add(way.name)
                progress.show(f"{case}: {error}")
                with suppress(AssertionError, subprocess.SubprocessError):
                    way.after()
                continue
            runs.setdefault((case, way.name), []).append(cost)
            progress.show(
                f"{case}, run {repeat + 1} of {1 if way.is_slow else repeats}: {way.name} {cost.seconds:.2f} s"
            )
    return runs


@contextmanager
def simulated(case: Case) -> Iterator[VCenter]:
    """Start a simulator with the VMs and the delays of a case."""
    flags = ("-delay", str(case.delay), "-task-delay", str(case.task_delay), "-vm", "1", "-host", "1")
    simulator = Simulator("-api-version", INSTANT_CLONE.api_version, "-exit-after", "2h", *flags)
    try:
        leave_the_processor_to_clients(simulator)
        vcenter = VCenter(simulator, INSTANT_CLONE)
        vcenter.control("POST", "inventory", {"vms": case.vms - 1, "name": "other-%05d", "folder": "/DC0/vm"})
        yield vcenter
    finally:
        with suppress(SimulatorError):  # it takes long to remove 10,000 VMs; then it was killed
            simulator.stop()


def leave_the_processor_to_clients(simulator: Simulator) -> None:
    """Give the guests the lowest priority: those of vSphere run on its hosts, and do not slow down a client.

    Linux compares priorities only within a session, unless the sysctl ``kernel.sched_autogroup_enabled`` is 0.
    """
    for thread in Path(f"/proc/{simulator.pid}/task").iterdir():
        for guests in (thread / "children").read_text(encoding="ascii").split():
            for part in Path(f"/proc/{guests}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(part.name), 19)


# --- the ways to create children --------------------------------------------------------------------------------------


def ansible(module: str, **arguments: object) -> list[str]:
    """Return the command that runs a module as one task."""
    return [str(PROGRAMS / "ansible"), "localhost", "-m", module, *(["-a", json.dumps(arguments)] if arguments else [])]


def playbook(path: str, **variables: object) -> list[str]:
    """Return the command that runs a playbook."""
    return [str(PROGRAMS / "ansible-playbook"), path, "-e", json.dumps(variables)]


def python(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script of this directory."""
    return [sys.executable, str(HERE / script), *map(str, arguments)]


def ways_to_fork(case: Case, vcenter: VCenter, is_base: bool, peer_loop: bool) -> list[Way]:
    """Return the ways to create the children of a case. All of them leave the parent at its fork point."""
    moid, parent, count = vcenter.moid(), vcenter.parent, case.children
    ours: dict[str, object] = {"parent_moid": moid, "wait_for": "powered_on"}
    ours["children"] = [{"name": f"web-{number:03}"} for number in range(count)]
    names = f"seq -f bare-%03g 0 {count - 1}"

    def thaw() -> None:
        vcenter.ok("vmfork_parent", moid=moid, state="disabled", power_off=True)
        vcenter.govc("vm.power", "-on", parent)
        vcenter.in_guest(moid, "true")  # otherwise the playbook would wait for the guest to start

    def remove() -> None:
        vcenter.ok("vmfork_child", parent_moid=moid, state="absent", all=True)

    def destroy() -> None:
        command = f"{GOVC} find / -type m -name 'bare-*' | xargs -r -P {page.PARALLEL} -n 8 {GOVC} vm.destroy"
        subprocess.run(["sh", "-c", command], env={**os.environ, **vcenter.simulator.environment}, check=True)

    fork = playbook(
        "vmfork.vsphere.fork",
        vmfork_parent_name=parent,
        vmfork_child_count=count,
        vmfork_child_name="web-%03d",
        vmfork_first_address="192.0.2.11",
        vmfork_pre_quiesce_script_file="linux_pre_quiesce.sh",
        vmfork_post_clone_script_file="linux_post_clone.sh",
    )
    clone = f"{GOVC} vm.instantclone -pool DC0_H0/Resources -ds LocalDS_0 -vm {parent}"
    ways = [
        Way(page.FLOOR, ansible("ansible.builtin.ping")),
        Way(page.TASK, ansible("vmfork.vsphere.vmfork_child", **ours)),
        Way(page.NO_OP, ansible("vmfork.vsphere.vmfork_child", **ours), after=remove),
        Way(page.IN_PARALLEL, python("bare.py", moid, "bare-", count, page.PARALLEL), after=destroy),
        Way(page.GOVC_PARALLEL, ["sh", "-c", f"{names} | xargs -P {page.PARALLEL} -n 1 {clone}"], after=destroy),
        Way(page.ONE_BY_ONE, python("bare.py", moid, "bare-", count, 1), after=destroy, is_slow=True),
        Way(
            page.GOVC_LOOP,
            ["sh", "-ec", f"for name in $({names}); do {clone} $name; done"],
            after=destroy,
            is_slow=True,
        ),
    ]
    if case.delay == 0:
        ways.append(Way(page.IMPORT, [sys.executable, "-c", "from pyVmomi import vim"]))
    if is_base or case.children != page.BASE.children:
        ways.append(Way(page.PLAYBOOK, fork, before=thaw, after=remove))
    peer = {"datacenter": "DC0", "host": "DC0_H0", "datastore": "LocalDS_0", "parent": parent, "count": count}
    if is_base:
        command = playbook(str(HERE / "peer_async.yml"), at_once=page.ASYNC_JOBS, **peer)
        ways.append(Way(page.PEER_ASYNC, command, after=destroy, is_slow=True, peers=True))
    if is_base and peer_loop:
        command = playbook(str(HERE / "peer_loop.yml"), **peer)
        ways.append(Way(page.PEER_LOOP, command, after=destroy, is_slow=True, peers=True))
    return ways


def forks(given: argparse.Namespace, progress: Progress) -> Iterator[Runs]:
    """Measure the ways to create children, one case after the other."""
    cases = cases_of(given)
    for case in cases:
        progress.show(f"{case}: starting the simulator")
        with simulated(case) as vcenter:
            vcenter.quiesce()
            ways = ways_to_fork(case, vcenter, case == cases[0], given.peer_loop)
            yield measure(case, ways, vcenter, given.repeats, progress)


# --- large inventories ------------------------------------------------------------------------------------------------


def names(given: argparse.Namespace, progress: Progress) -> Iterator[Runs]:
    """Measure what it costs to find a VM by its name, with few and with many VMs."""
    for vms in (FEW, min(MANY, max(given.vms))):
        case = Case(0, 0, 0, vms)
        progress.show(f"{case}: starting the simulator")
        with simulated(case) as vcenter:
            named = {"name": vcenter.parent, **vcenter.login}
            ways = [
                Way(page.NAMES, python("bare_read.py", "name")),
                Way(page.BY_NAME, python("one_module.py", "vmfork_parent", json.dumps(named))),
                Way(
                    page.BY_FOLDER, python("one_module.py", "vmfork_parent", json.dumps({**named, "folder": "/DC0/vm"}))
                ),
            ]
            yield measure(case, ways, vcenter, given.repeats, progress)


def reports(given: argparse.Namespace, progress: Progress) -> Iterator[Runs]:
    """Measure the report on OVF environments, for VMs that have vApp options and are off."""
    for vms in given.reports:
        case = Case(0, 0, 0, vms)
        progress.show(f"{case}: starting the simulator, and setting vApp options")
        with simulated(case) as vcenter:
            _set_vapp_options(vcenter)
            ways = [
                Way(page.FLOOR, ansible("ansible.builtin.ping")),
                Way(page.PROPERTIES, python("bare_read.py", "name", "config.vAppConfig")),
                Way(page.REPORT, ansible("vmfork.vsphere.vm_ovfenv_info")),
            ]
            yield measure(case, ways, vcenter, given.repeats, progress)


def _set_vapp_options(vcenter: VCenter) -> None:
    with estate(vcenter) as made:
        content: Any = made.service.content
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)

        def set_options(vm: Any) -> None:
            options = [prop(f"key{number}", f"value {number}") for number in range(5)]
            for number, option in enumerate(options):
                option.key = number
            added = [vim.vApp.PropertySpec(operation="add", info=option) for option in options]
            spec = vim.vApp.VmConfigSpec(property=added, ovfEnvironmentTransport=["com.vmware.guestInfo"])
            vm.ReconfigVM_Task(vim.vm.ConfigSpec(vAppConfig=spec))

        with ThreadPoolExecutor(page.PARALLEL) as pool:
            list(pool.map(set_options, list(view.view)))


# --- all of it --------------------------------------------------------------------------------------------------------


def numbers(text: str) -> list[int]:
    """Return the numbers of an option: ``32,1``."""
    return [int(number) for number in text.split(",")]


def cases_of(given: argparse.Namespace) -> list[Case]:
    """Return the base case, and the others: each differs from it in one number."""
    axes = (given.children, given.delays, given.task_delays, given.vms)
    base = Case(*(axis[0] for axis in axes))
    others = [
        base._replace(**{name: number}) for name, axis in zip(Case._fields, axes, strict=True) for number in axis[1:]
    ]
    return [base, *others]


def main(arguments: Iterable[str] | None = None) -> None:
    """Measure every case, and write the page and the chart."""
    base = page.BASE
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--children", type=numbers, default=[base.children, 1, 200])
    parser.add_argument("--delays", type=numbers, default=[base.delay, 0], help="of each call, in milliseconds")
    parser.add_argument("--task-delays", type=numbers, default=[base.task_delay, 2000], help="in milliseconds")
    parser.add_argument("--vms", type=numbers, default=[base.vms, 1000, MANY])
    parser.add_argument("--reports", type=numbers, default=[1000], help="the number of VMs with vApp options")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-loop", action="store_true", help="also community.vmware in a loop, 10 minutes")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    given = parser.parse_args(None if arguments is None else list(arguments))
    progress = Progress()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    given.output.mkdir(parents=True, exist_ok=True)
    runs: Runs = {}
    for part in (forks, names, reports):
        for measured in part(given, progress):
            runs.update(measured)
            # Written after each case, so that an interruption loses little.
            (given.output / "benchmarks.md").write_text(page.page(runs, today, given.repeats, PEERS), encoding="utf-8")
            (given.output / "benchmarks.svg").write_text(page.chart(runs), encoding="utf-8")
    print(page.goals(runs))
    progress.show(f"written to {given.output}")


if __name__ == "__main__":
    main()
