# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command, and write what it cost to a file, as JSON.

    python -I -S tests/benchmarks/usage.py FILE COMMAND ...

A process of its own, because the peak memory of a process begins with that of the process that started it: this one
imports hardly anything.
"""

import os
import sys
import time


def main(report: str, command: list[str]) -> int:
    """Run the command; return its exit code."""
    began = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    status, usage = os.wait4(pid, 0)[1:]
    seconds = time.monotonic() - began
    with open(report, "w") as file:  # noqa: PTH123, pathlib would need more memory
        file.write(f"[{seconds}, {usage.ru_utime + usage.ru_stime}, {usage.ru_maxrss / 1024}]")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
