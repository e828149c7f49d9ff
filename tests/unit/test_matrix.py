# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make oldest` leaves out cannot depend on the versions of ansible-core and pyVmomi."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import matrix

LOADED = "import importlib, sys; importlib.import_module(sys.argv[1]); print({*sys.modules} & {'ansible', 'pyVmomi'})"


@pytest.mark.parametrize("file", matrix.WITHOUT_BOTH)
def test_file_loads_neither_ansible_nor_pyvmomi(file: str) -> None:
    name = ".".join(Path(file).with_suffix("").parts[1:])
    path = [str(Path(matrix.__file__).parents[1]), str(Path(".build/live").resolve())]
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, name],
        env={"PYTHONPATH": ":".join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("set()\n", "")
