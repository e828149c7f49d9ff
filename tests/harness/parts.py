# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run parts of the tests one after the other, all of them, and say at the end how each went.

    parts.py PART ...

A part is a make target. It passes with exit code 0. What it could not run here (no C compiler, say) it reports through
not_run.sh, and that stands in the closing lines with its reason; under the part's own name it means the whole part.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Outcome:
    """How one part went: its exit code, the seconds it took, and sentences about what it left out."""

    part: str
    code: int
    seconds: float
    left_out: list[str]

    @property
    def verdict(self) -> str:
        """Return PASSED, FAILED or NOT RUN."""
        if self.code:
            return "FAILED"
        return "NOT RUN" if any(line.startswith(f"{self.part}: ") for line in self.left_out) else "PASSED"


def run(part: str) -> Outcome:
    """Run one part with its output going where ours goes."""
    print(f"\n=== {part}", flush=True)
    start = time.monotonic()
    with tempfile.NamedTemporaryFile("r", prefix="vmfork-not-run-", encoding="utf-8") as note:
        code = subprocess.run(
            [os.environ.get("MAKE", "make"), "--no-print-directory", part],
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "VMFORK_NOT_RUN": note.name},
        ).returncode
        left_out = Path(note.name).read_text(encoding="utf-8").splitlines()
    return Outcome(part, code, time.monotonic() - start, left_out)


def main() -> int:
    """Run the parts named on the command line; 1 when one failed."""
    outcomes = [run(part) for part in sys.argv[1:]]
    verdicts = [outcome.verdict for outcome in outcomes]
    left_out = [reason for outcome in outcomes for reason in outcome.left_out]
    print(f"\n=== Summary, {sum(outcome.seconds for outcome in outcomes):.0f} s")
    for outcome in outcomes:
        print(f"{outcome.verdict:8}{outcome.part:14}{outcome.seconds:6.0f} s")
    for reason in left_out:
        print(f"NOT RUN {reason}")
    passed, failed = verdicts.count("PASSED"), verdicts.count("FAILED")
    print(f"{passed} passed, {failed} failed, {len(left_out)} not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
