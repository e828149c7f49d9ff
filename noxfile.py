# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks Ansible's collections have in common, for a public build server: `nox` (see antsibull-nox.toml).

What needs this repository's simulator is in the Makefile: `make test`.
"""

# /// script
# dependencies = ["nox>=2025.02.09", "antsibull-nox"]
# ///

from __future__ import annotations

import antsibull_nox
import nox

antsibull_nox.load_antsibull_nox_toml()

# `python noxfile.py` and `pipx run noxfile.py` work, too.
if __name__ == "__main__":
    nox.main()
