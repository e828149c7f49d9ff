# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install pip into a new virtual environment of ansible-test from Python's own ensurepip.

ansible-test downloads a script for this purpose from a server that closed networks cannot reach, but first looks in its
cache, where run_ansible_test.py puts this file. Its arguments are pip's and the packages to install.
"""

from __future__ import annotations

import ensurepip
import os
import runpy
import sys

# These options tell the original script what to leave out; pip does not know them.
FOREIGN = {"--no-setuptools", "--no-wheel"}

# ensurepip disables pip's settings in the environment; the download below needs them.
environment = dict(os.environ)
ensurepip.bootstrap()
os.environ.clear()
os.environ.update(environment)

sys.argv[1:] = ["install", *(argument for argument in sys.argv[1:] if argument not in FOREIGN)]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
