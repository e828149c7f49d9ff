# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker whose ansible-playbook was killed ends, and so does its module."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from ansible_collections.vmfork.vsphere.plugins.plugin_utils import cancellation

PLAYBOOK = """
import multiprocessing, os, signal, sys, threading
from ansible_collections.vmfork.vsphere.plugins.plugin_utils import cancellation

cancellation.LOOK_SECONDS = 0.05
report = int(sys.argv[1])

def ended(number, _frame):
    os.write(report, signal.Signals(number).name.encode())
    os._exit(0)

def worker(ready):
    signal.signal(signal.SIGTERM, ended)
    with cancellation.ended_with_playbook():
        os.write(ready, b"1")
        os.close(ready)
        {then}
    os.write(report, b"done")

heard, ready = os.pipe()
process = multiprocessing.get_context("fork").Process(target=worker, args=(ready,))
process.start()
os.read(heard, 1)
{last}
"""


def reports(then: str, last: str) -> str:
    """Return what a worker reports until it ends, if a program does something last after its start."""
    live = Path(__file__).parents[4] / ".build" / "live"
    got, report = os.pipe()
    program = subprocess.Popen(
        [sys.executable, "-c", PLAYBOOK.format(then=then, last=last), str(report)],
        env={**os.environ, "PYTHONPATH": str(live)},
        pass_fds=(report,),
    )
    os.close(report)
    with os.fdopen(got) as stream:
        text = stream.read()
    program.wait(60)
    return text


def test_a_worker_without_its_playbook_gets_a_signal() -> None:
    assert reports("threading.Event().wait(60)", "os.kill(os.getpid(), signal.SIGKILL)") == "SIGTERM"


def test_a_worker_with_its_playbook_goes_on() -> None:
    assert reports("threading.Event().wait(0.3)", "process.join()") == "done"


def test_another_process_is_not_watched() -> None:
    before = threading.active_count()
    with cancellation.ended_with_playbook():
        assert threading.active_count() == before
