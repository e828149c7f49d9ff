# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run parts of the tests, all of them, and say at the end how each went.

    parts.py PART ... [PART+PART ...]

Parts with + between them run side by side: such as leave a core idle, and make nothing that the other uses. What they
print comes one after the other. A part is a make target. It passes with exit code 0. What it could not run here (no C
compiler, say) it reports through not_run.sh, and that stands in the closing lines with its reason; under the part's own
name it means the whole part.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Outcome:
    """How one part went: exit code, seconds, sentences about what it left out, and output that was not shown yet."""

    part: str
    code: int
    seconds: float
    left_out: list[str]
    output: str = ""

    @property
    def verdict(self) -> str:
        """Return PASSED, FAILED or NOT RUN."""
        if self.code:
            return "FAILED"
        return "NOT RUN" if any(line.startswith(f"{self.part}: ") for line in self.left_out) else "PASSED"


def run(part: str, shown: bool) -> Outcome:
    """Run one part; its output is shown as it comes, or kept."""
    start = time.monotonic()
    with tempfile.NamedTemporaryFile("r", prefix="vmfork-not-run-", encoding="utf-8") as note:
        ended = subprocess.run(
            [os.environ.get("MAKE", "make"), "--no-print-directory", part],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "VMFORK_NOT_RUN": note.name},
        )
        left_out = Path(note.name).read_text(encoding="utf-8").splitlines()
    return Outcome(part, ended.returncode, time.monotonic() - start, left_out, ended.stdout or "")


def run_side_by_side(parts: list[str]) -> list[Outcome]:
    """Run parts at the same time; the output of the first is shown as it comes."""
    print(f"\n=== {' and '.join(parts)}", flush=True)
    with ThreadPoolExecutor(len(parts)) as pool:
        outcomes = list(pool.map(run, parts, (part == parts[0] for part in parts)))
    for outcome in outcomes[1:]:
        print(f"\n=== {outcome.part}\n{outcome.output}", flush=True)
    return outcomes


def main() -> int:
    """Run the parts named on the command line; 1 when one failed."""
    start = time.monotonic()
    outcomes = [outcome for parts in sys.argv[1:] for outcome in run_side_by_side(parts.split("+"))]
    verdicts = [outcome.verdict for outcome in outcomes]
    left_out = [reason for outcome in outcomes for reason in outcome.left_out]
    print(f"\n=== Summary, {time.monotonic() - start:.0f} s")
    for outcome in outcomes:
        print(f"{outcome.verdict:8}{outcome.part:14}{outcome.seconds:6.0f} s")
    for reason in left_out:
        print(f"NOT RUN {reason}")
    passed, failed = verdicts.count("PASSED"), verdicts.count("FAILED")
    print(f"{passed} passed, {failed} failed, {len(left_out)} not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
