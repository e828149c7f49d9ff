# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator started from the command line ends when the process that started it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import simulator

SECONDS = 30


@pytest.mark.parametrize("verb", ["run", "start"])
def test_request_to_end(verb: str) -> None:
    command = [sys.executable, simulator.__file__, verb, "-guest", "none", "-exit-after", "5m"]
    if verb == "run":
        command += ["--", "sh", "-c", "echo $PPID; exec sleep 300"]
    # "start" leaves a process for its parent, here a shell that waits.
    shell = ["sh", "-c", '"$@"; exec sleep 300', "sh", *command]
    with subprocess.Popen(shell if verb == "start" else command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        started = json.loads(line)["pid"] if verb == "start" else only_child(int(line))
        ended = os.pidfd_open(started)
        os.kill(parent(started) if verb == "start" else owner.pid, signal.SIGTERM)
        try:
            assert select.select([ended], [], [], SECONDS)[0], "the simulator was left behind"
        finally:
            owner.terminate()
            os.close(ended)


def only_child(pid: int) -> int:
    """Return the process ID of the simulator that the harness started next to its command."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return next(
        int(child) for child in children if "vmforksim" in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")
    )


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
