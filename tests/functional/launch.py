# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one module of the collection in a new process.

A fork server that has already loaded the modules and their libraries starts the processes, because loading them
takes longer than most modules run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import syslog
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils import basic
from pyVmomi import VmomiSupport

from ansible_collections.vmfork.vsphere.plugins import module_utils, modules

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # ansible-core before 2.19

    @contextlib.contextmanager
    def patch_module_args(args: dict[str, Any] | None = None) -> Iterator[None]:
        """Pass arguments to the AnsibleModule created within the block."""
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        yield


MODULES = {
    found.name: importlib.import_module(f"{modules.__name__}.{found.name}")
    for found in pkgutil.iter_modules(modules.__path__)
}
for found in pkgutil.walk_packages(module_utils.__path__, f"{module_utils.__name__}."):
    importlib.import_module(found.name)  # modules load some of them when they need them first
for type_names in (VmomiSupport.ListManagedTypes, VmomiSupport.ListDataTypes, VmomiSupport.ListEnumTypes):
    for name in type_names():
        VmomiSupport.GetVmodlType(name)  # pyVmomi loads a type when it is first named
gc.freeze()  # so that new processes neither scan nor copy these objects


def run(
    module: str,
    arguments: dict[str, Any],
    environment: dict[str, str],
    output: Path,
    errors: Path,
    log: Path,
    seconds: float,
) -> None:
    """Run a module as Ansible does, with its own environment, and write its output, errors and log to files.

    After the given number of seconds, write the stack of every thread to the errors.
    """
    os.environ.clear()
    os.environ.update(environment)
    for ignored in (signal.SIGINT, signal.SIGHUP):  # shells and nohup ignore them for background jobs
        signal.signal(ignored, signal.SIG_DFL)
    for stream, path in ((sys.stdout, output), (sys.stderr, errors)):
        with path.open("w") as file:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    syslog.syslog = lambda *given: log.open("a").write(f"{given[-1]}\n")  # type: ignore[assignment]
    faulthandler.dump_traceback_later(seconds)
    gc.set_threshold(100_000)
    with patch_module_args(arguments):
        MODULES[module].main()
