# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End a task when its ansible-playbook was killed.

ansible-runner cancels a job with SIGKILL for the process group of
ansible-playbook. From ansible-core 2.19 on, the worker that runs a task has a
group of its own: without this, its module would go on, and create the other
children of a canceled job.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import typing as t

LOOK_SECONDS = 0.5
"""How often to look whether ansible-playbook still exists."""


@contextlib.contextmanager
def ended_with_playbook() -> t.Iterator[None]:
    """End this worker and its module with SIGTERM if ansible-playbook ends within the block."""
    playbook = multiprocessing.parent_process()
    if playbook is None:  # this is not a worker
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(playbook.pid, ended), name="vmfork cancellation", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(playbook: int | None, ended: threading.Event) -> None:
    """Send SIGTERM to this worker, which forwards it to its process group, as soon as it has another parent."""
    while not ended.wait(LOOK_SECONDS):
        if os.getppid() != playbook:
            os.kill(os.getpid(), signal.SIGTERM)
            return
