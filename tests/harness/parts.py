# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all given parts of the tests, and print a summary at the end.

    parts.py PART[:NEED,NEED...] ...

A part is a make target. It passes with exit code 0. It starts when the parts that it needs have passed, and is not run
if one of them fails. Together those make the targets in the variable MADE, which the parts that need others do not make
again. The parts run in parallel, in the given order, one more than there are cores, because a part that runs Ansible
waits most of the time.
The output of a part is printed when it has ended. It reports through not_run.sh what it could not run here (without a C
compiler, for example); the summary contains that with its reason. Reported under the part's own name, it means the
whole part.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Outcome:
    """The result of a part.

    :ivar cpu: seconds of CPU, without processes that have detached themselves.
    :ivar left_out: reasons for what was not run.
    :ivar output: output that was not shown yet.
    """

    part: str
    code: int
    seconds: float
    cpu: float
    left_out: list[str]
    output: str

    @property
    def verdict(self) -> str:
        """Return PASSED, FAILED or NOT RUN."""
        if self.code:
            return "FAILED"
        return "NOT RUN" if any(line.startswith(f"{self.part}: ") for line in self.left_out) else "PASSED"


def run(part: str, made: list[str]) -> Outcome:
    """Run a part and keep its output. Its make does not remake the targets in ``made``."""
    print(f"=== {part} begins", flush=True)
    start = time.monotonic()
    up_to_date = [option for target in made for option in ("--old-file", target)]
    with tempfile.NamedTemporaryFile("r", prefix="vmfork-not-run-", encoding="utf-8") as note:
        process = subprocess.Popen(
            [os.environ.get("MAKE", "make"), "--no-print-directory", *up_to_date, part],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "VMFORK_NOT_RUN": note.name},
        )
        assert process.stdout is not None
        with process.stdout as stream:
            output = stream.read()
        _pid, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # otherwise Popen would wait for it, too
        left_out = Path(note.name).read_text(encoding="utf-8").splitlines()
    cpu = used.ru_utime + used.ru_stime
    return Outcome(part, process.returncode, time.monotonic() - start, cpu, left_out, output)


def adopt() -> None:
    """Make this process the parent of processes that detach themselves, like the fork server and its scripts."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def total_cpu() -> float:
    """Return the seconds of CPU of all processes below this one, ended or not."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    ticks = 0
    for pid in running:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and those of its children that have ended
    return used.ru_utime + used.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def run_all(parts: dict[str, list[str]]) -> Iterator[Outcome]:
    """Yield the result of each part when it ends.

    :param parts: the parts that each part needs.
    """
    made = os.environ.get("MADE", "").split()
    waiting = dict(parts)
    verdicts: dict[str, str] = {}
    running: set[Future[Outcome]] = set()
    places = (os.cpu_count() or 1) + 1
    with ThreadPoolExecutor(places) as pool:
        try:
            while waiting or running:
                for part, needs in list(waiting.items()):
                    if failed := [need for need in needs if verdicts.get(need) == "FAILED"]:
                        del waiting[part]
                        verdicts[part] = "FAILED"
                        yield Outcome(part, 0, 0, 0, [f"{part}: {failed[0]} failed"], "")
                    elif len(running) < places and all(need in verdicts for need in needs):
                        del waiting[part]
                        running.add(pool.submit(run, part, made if needs else []))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for outcome in (future.result() for future in ended):
                    verdicts[outcome.part] = outcome.verdict
                    yield outcome
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # on Ctrl-C, no further part starts


def main() -> int:
    """Run the parts named on the command line; return 1 if one failed."""
    start = time.monotonic()
    parts = {
        part: needs.split(",") if needs else []
        for part, _colon, needs in (argument.partition(":") for argument in sys.argv[1:])
    }
    for part, needs in parts.items():
        for need in needs:
            if need not in parts:
                sys.exit(f"{part} needs {need}, which is not among the parts")
    adopt()
    outcomes = []
    for outcome in run_all(parts):
        print(f"\n=== {outcome.part}: {outcome.verdict}\n{outcome.output}", flush=True)
        outcomes.append(outcome)
    verdicts = [outcome.verdict for outcome in outcomes]
    left_out = [reason for outcome in outcomes for reason in outcome.left_out]
    total = total_cpu()
    detached = max(0.0, total - sum(outcome.cpu for outcome in outcomes))
    print(f"\n=== Summary, {time.monotonic() - start:.0f} s, {total:.0f} s of CPU, {detached:.0f} of them detached")
    for outcome in outcomes:
        print(f"{outcome.verdict:8}{outcome.part:22}{outcome.seconds:6.0f} s{outcome.cpu:8.0f} s of CPU")
    for reason in left_out:
        print(f"NOT RUN {reason}")
    passed, failed = verdicts.count("PASSED"), verdicts.count("FAILED")
    print(f"{passed} passed, {failed} failed, {len(left_out)} not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
