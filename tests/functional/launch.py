# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one module of the collection in this process, which is made for it and ends with it.

Processes come from a server that has loaded the modules and their libraries, which takes longer than most modules run.
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

from ansible_collections.vmfork.vsphere.plugins import modules

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # ansible-core before 2.19

    @contextlib.contextmanager
    def patch_module_args(args: dict[str, Any] | None = None) -> Iterator[None]:
        """Hand arguments to the AnsibleModule made within the block."""
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        yield


MODULES = {
    found.name: importlib.import_module(f"{modules.__name__}.{found.name}")
    for found in pkgutil.iter_modules(modules.__path__)
}
for type_names in (VmomiSupport.ListManagedTypes, VmomiSupport.ListDataTypes, VmomiSupport.ListEnumTypes):
    for name in type_names():
        VmomiSupport.GetVmodlType(name)  # pyVmomi loads a type when it is first named
gc.freeze()  # or each process would look through all that, and so copy it


def run(
    module: str,
    arguments: dict[str, Any],
    environment: dict[str, str],
    output: Path,
    errors: Path,
    log: Path,
    seconds: float,
) -> None:
    """Run a module as Ansible does, with an environment of its own; what it prints and logs goes into files.

    After so many seconds the place where each of its threads waits is written among the errors.
    """
    os.environ.clear()
    os.environ.update(environment)
    for ignored in (signal.SIGINT, signal.SIGHUP):  # in the background of a shell, or by nohup
        signal.signal(ignored, signal.SIG_DFL)
    for stream, path in ((sys.stdout, output), (sys.stderr, errors)):
        with path.open("w") as file:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    syslog.syslog = lambda *given: log.open("a").write(f"{given[-1]}\n")
    faulthandler.dump_traceback_later(seconds)
    with patch_module_args(arguments):
        MODULES[module].main()
