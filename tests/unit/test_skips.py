# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Skipped tests are named in the closing lines of `make test`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="no program")
def test_first(): pass

@pytest.mark.parametrize("number", [1, 2])
def test_second(number):
    if number == 1:
        pytest.skip("no root")

@pytest.mark.skip(reason="no program")
def test_third(): pass
"""


def test_reasons_are_counted(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    note = tmp_path / "note"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "VMFORK_NOT_RUN": str(note)},
        check=True,
        capture_output=True,
    )
    assert note.read_text(encoding="utf-8") == "2 of test_it.py: no program\n1 of test_it.py: no root\n"
