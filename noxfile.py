# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks Ansible's collections have in common, for a public build server: `nox` (see antsibull-nox.toml).

What needs this repository's simulator is in the Makefile: `make test`. The matrix of ansible-core, Python and pyVmomi
has a session for each combination, which runs only if it is named: `nox --session "matrix(2.22.0rc1/3.13/9.1.1.0)"`.
"""

# /// script
# dependencies = ["nox>=2025.02.09", "antsibull-nox"]
# ///

from __future__ import annotations

import sys
from pathlib import Path

import antsibull_nox
import nox

sys.path.insert(0, str(Path(__file__).parent / "tests"))

from harness import matrix

antsibull_nox.load_antsibull_nox_toml()


@nox.session(name="matrix", python=False, default=False)
@nox.parametrize("cell", [nox.param(cell.name, id=cell.name) for cell in matrix.CELLS])
def combination(session: nox.Session, cell: str) -> None:
    """Run the tests with one combination of versions."""
    session.run("make", "test-matrix", f"ARGS={cell}", external=True)


# `python noxfile.py` and `pipx run noxfile.py` work, too.
if __name__ == "__main__":
    nox.main()
