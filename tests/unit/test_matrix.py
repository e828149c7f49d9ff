# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The combinations of versions, and what runs in each.

What `make oldest` leaves out cannot depend on the versions of ansible-core and pyVmomi.
"""

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


HERE = {10: "/usr/bin/python3.10", 11: None, 12: "/usr/bin/python3.12", 13: "/usr/bin/python3.13", 14: None, 15: None}


def launched(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, failing: str = ""
) -> tuple[int, dict[str, tuple[str | None, list[str]]]]:
    """Return the exit code, and for each combination its Python and the first words that tell its suites apart."""
    found: dict[str, tuple[str | None, list[str]]] = {}

    def run(
        cell: matrix.Cell, python: str | None, _directory: Path, _tools: list[str], suites: list[list[str]]
    ) -> bool:
        found[cell.name] = (python, [suite[1] for suite in suites])
        return cell.name != failing

    monkeypatch.setattr(matrix, "run", run)
    monkeypatch.setattr(matrix, "python_for", HERE.get)
    monkeypatch.setattr(sys, "argv", ["matrix.py", "matrix", *arguments])
    return matrix.main(), found


def test_every_combination_runs_and_one_of_each_release_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = launched(monkeypatch)
    assert code == 0
    assert list(found) == [cell.name for cell in matrix.CELLS]
    assert len({cell.core for cell in matrix.CELLS}) == len(matrix.RELEASES)
    in_full = [name for name, (_python, suites) in found.items() if suites == ["unit", "functional"]]
    assert in_full == [
        "2.16.19/3.12/8.0.3.0.1",
        "2.16.19/3.12/9.1.1.0",
        "2.17.14/3.12/9.1.1.0",
        "2.18.19/3.13/9.1.1.0",
        "2.19.14/3.13/9.1.1.0",
        "2.20.10/3.13/9.1.1.0",
        "2.21.5/3.13/9.1.1.0",
        "2.22.0rc1/3.13/9.1.1.0",
    ]
    assert found["2.16.19/3.11/9.1.1.0"] == (None, ["unit"])


def test_some_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "2.22.0rc1/3.13/8.0.3.0.1"
    code, found = launched(monkeypatch, "2.22.0rc1/3.13", "2.21.5/3.12", failing=name)
    assert code == 1
    assert set(found) == {name, "2.22.0rc1/3.13/9.1.1.0", "2.21.5/3.12/8.0.3.0.1", "2.21.5/3.12/9.1.1.0"}
    assert launched(monkeypatch, "3.0") == (1, {})


def test_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = launched(monkeypatch, "--oldest")
    assert (code, found) == (0, {"2.16.19/3.12/8.0.3.0.1": ("/usr/bin/python3.12", ["unit", "tests/demo/demo.py"])})
