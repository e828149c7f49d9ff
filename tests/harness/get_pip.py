# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install pip into a new virtual environment of ansible-test, with the pip that installed ansible-test.

ansible-test downloads a script for this purpose from a server that closed networks cannot reach, but first looks in its
cache, where run_ansible_test.py puts this file, and pip into the directory "pip" beside it. Its arguments are those of
pip and the packages to install.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# These options tell the original script what to leave out; pip does not know them.
FOREIGN = {"--no-setuptools", "--no-wheel"}

sys.path.insert(0, str(Path(__file__).with_name("pip")))
sys.argv[1:] = ["install", *(argument for argument in sys.argv[1:] if argument not in FOREIGN)]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
