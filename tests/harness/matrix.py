# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the unit and functional tests with every supported ansible-core, each in an environment of its own.

    matrix.py DIRECTORY             keeps the environments in DIRECTORY
    matrix.py DIRECTORY --oldest    only the oldest, with the demo instead of the functional tests, and without the unit
                                    tests that load neither Ansible nor pyVmomi, to save time
    matrix.py DIRECTORY 2.22 ...    only these releases

Each release runs on the newest Python it supports that is on PATH; if there is none, it is NOT RUN. The oldest is
combined with the oldest supported pyVmomi, so that both ends are tested. Property tests get few examples: only
the versions matter here, and `make unit` runs all examples.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A combination: releases, and the minor versions of Python 3 that they support on the controller."""

    core: str
    pyvmomi: str
    pythons: range


ROWS = [
    Row("2.16.19", "8.0.3.0.1", range(10, 13)),
    Row("2.17.14", "9.1.1.0", range(10, 13)),
    Row("2.18.19", "9.1.1.0", range(11, 14)),
    Row("2.19.14", "9.1.1.0", range(11, 14)),
    Row("2.20.10", "9.1.1.0", range(12, 15)),
    Row("2.21.5", "9.1.1.0", range(12, 15)),
    Row("2.22.0rc1", "9.1.1.0", range(13, 16)),
]
UNIT = ["tests/harness/pytest.sh", "unit", "tests/unit", "-q"]
# The longest of those that load neither Ansible nor pyVmomi.
WITHOUT_BOTH = [
    "tests/unit/test_architecture.py",
    "tests/unit/test_guest_cloud_init.py",
    "tests/unit/test_guest_identity.py",
    "tests/unit/test_guest_network_programs.py",
    "tests/unit/test_guest_scripts.py",
    "tests/unit/plugins/module_utils/_guest/test_posix.py",
    "tests/unit/plugins/module_utils/_ovf/test_document.py",
    "tests/unit/plugins/module_utils/_ovf/test_masking.py",
]
FUNCTIONAL = ["tests/harness/pytest.sh", "functional", "tests/functional", "-q"]
DEMO = ["python", "tests/demo/demo.py"]
TOOLS = (
    "ansible-builder",
    "ansible-runner",
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "tree-sitter",
    "tree-sitter-powershell",
)


def python_for(pythons: range) -> str | None:
    """Return the path of the newest suitable Python that starts.

    A name on PATH may be a shim of pyenv. It runs an installed but unselected version only if that version is named.
    """
    for minor in reversed(pythons):
        program = shutil.which(f"python3.{minor}")
        if program is None:
            continue
        found = subprocess.run(
            [program, "-c", "import sys, venv; print(sys.executable)"],
            env={**os.environ, "PYENV_VERSION": f"3.{minor}"},
            check=False,
            capture_output=True,
            text=True,
        )
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def run(row: Row, directory: Path, tools: list[str], suites: list[list[str]]) -> bool:
    """Create the environment of a row and run the suites in it; each suite is a command."""
    python = python_for(row.pythons)
    name = f"ansible-core {row.core}"
    print(f"\n=== {name}, pyVmomi {row.pyvmomi}, {python or 'no Python'}", flush=True)
    if python is None:
        reason = f"it needs Python 3.{row.pythons[0]} to 3.{row.pythons[-1]}"
        subprocess.run(["tests/harness/not_run.sh", name, reason], check=True)
        return True
    venv = directory / row.core
    packages = [f"ansible-core=={row.core}", f"pyvmomi=={row.pyvmomi}", *tools]
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages]
    user = {**os.environ, "HOME": os.environ.get("VMFORK_USER_HOME", "")}
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    subprocess.run(pip, check=True, env=user)
    environment = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(Path(".build/live").resolve()),
        "VMFORK_EXAMPLES": "10",
    }
    codes = [subprocess.run(suite, check=False, env=environment).returncode for suite in suites]
    return not any(codes)


def main() -> int:
    """Run every row; return 1 if one failed."""
    directory = Path(sys.argv[1])
    pinned = Path("tests/requirements/test.txt").read_text(encoding="utf-8").splitlines()
    tools = [line for line in pinned if line.split("==")[0] in TOOLS]
    if sys.argv[2:] == ["--oldest"]:
        rows, suites = ROWS[:1], [[*UNIT, *(f"--ignore={file}" for file in WITHOUT_BOTH)], DEMO]
    else:
        wanted = tuple(f"{release}." for release in sys.argv[2:])
        rows, suites = [row for row in ROWS if not wanted or row.core.startswith(wanted)], [UNIT, FUNCTIONAL]
    failed = [row.core for row in rows if not run(row, directory, tools, suites)]
    print(f"\nfailed with ansible-core {', '.join(failed)}" if failed else "\nno row failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
