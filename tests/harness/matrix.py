# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests with every supported ansible-core, Python and pyVmomi, each combination in an environment of its own.

    matrix.py DIRECTORY                  keeps the environments in DIRECTORY
    matrix.py DIRECTORY --oldest         only the oldest ansible-core and pyVmomi, with the demo instead of functional
                                         tests, and without the unit tests that load neither, to save time
    matrix.py DIRECTORY 2.22 2.21/3.12   only the combinations whose names begin like this

A combination whose Python is not on PATH is NOT RUN. The functional tests run in one combination of each ansible-core,
with the newest Python here and the newest pyVmomi, and with the oldest of both. The others run the unit tests. Property
tests get few examples: only the versions matter here, and `make unit` runs all examples.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Cell(NamedTuple):
    """A combination; the Python is the minor version of Python 3."""

    core: str
    python: int
    pyvmomi: str

    @property
    def name(self) -> str:
        return f"{self.core}/3.{self.python}/{self.pyvmomi}"


RELEASES = {
    "2.16.19": range(10, 13),
    "2.17.14": range(10, 13),
    "2.18.19": range(11, 14),
    "2.19.14": range(11, 14),
    "2.20.10": range(12, 15),
    "2.21.5": range(12, 15),
    "2.22.0rc1": range(13, 16),
}
"""Release of ansible-core → minor versions of Python 3 that it supports on the controller."""

PYVMOMI = ("8.0.3.0.1", "9.1.1.0")
"""The oldest supported release, which is also the newest of 8, and the newest of 9."""

CELLS = [Cell(core, minor, pyvmomi) for core, pythons in RELEASES.items() for minor in pythons for pyvmomi in PYVMOMI]
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


def python_for(minor: int) -> str | None:
    """Return the path of a version of Python 3, if it starts.

    A name on PATH may be a shim of pyenv. It runs an installed but unselected version only if that version is named.
    """
    program = shutil.which(f"python3.{minor}")
    if program is None:
        return None
    found = subprocess.run(
        [program, "-c", "import sys, venv; print(sys.executable)"],
        env={**os.environ, "PYENV_VERSION": f"3.{minor}"},
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def newest(cells: list[Cell], pythons: Mapping[int, str | None]) -> set[Cell]:
    """Return for each ansible-core the combination with the newest pyVmomi and the newest Python that is here."""
    best = {cell.core: cell for cell in sorted(cells, key=by_age) if pythons[cell.python]}
    return set(best.values())


def by_age(cell: Cell) -> tuple[int, int]:
    """Return a key that sorts combinations of one ansible-core from old to new."""
    return PYVMOMI.index(cell.pyvmomi), cell.python


def run(cell: Cell, python: str | None, directory: Path, tools: list[str], suites: list[list[str]]) -> bool:
    """Create the environment of a combination and run the suites in it; each suite is a command."""
    print(f"\n=== {cell.name}, {python or 'no Python'}", flush=True)
    if python is None:
        subprocess.run(["tests/harness/not_run.sh", cell.name, f"Python 3.{cell.python} is not here"], check=True)
        return True
    venv = directory / cell.name.replace("/", "-")
    packages = [f"ansible-core=={cell.core}", f"pyvmomi=={cell.pyvmomi}", *tools]
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
    """Run every combination that is wanted; return 1 if one failed."""
    directory = Path(sys.argv[1])
    pinned = Path("tests/requirements/test.txt").read_text(encoding="utf-8").splitlines()
    tools = [line for line in pinned if line.split("==")[0] in TOOLS]
    pythons = {minor: python_for(minor) for minor in sorted({cell.python for cell in CELLS})}
    oldest = [cell for cell in CELLS if (cell.core, cell.pyvmomi) == (CELLS[0].core, PYVMOMI[0])]
    if sys.argv[2:] == ["--oldest"]:
        cells = list(newest(oldest, pythons)) or oldest[:1]
        suites = {cell: [[*UNIT, *(f"--ignore={file}" for file in WITHOUT_BOTH)], DEMO] for cell in cells}
    else:
        wanted = tuple(sys.argv[2:]) or ("",)
        cells = [cell for cell in CELLS if cell.name.startswith(wanted)]
        in_full = newest(CELLS, pythons) | newest(oldest, pythons)
        suites = {cell: [UNIT, FUNCTIONAL] if cell in in_full else [UNIT] for cell in cells}
    failed = [cell.name for cell in cells if not run(cell, pythons[cell.python], directory, tools, suites[cell])]
    print(f"\nfailed: {', '.join(failed)}" if failed else f"\n{len(cells)} combinations, none failed")
    return int(bool(failed) or not cells)


if __name__ == "__main__":
    sys.exit(main())
