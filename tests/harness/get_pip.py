# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put pip into a fresh virtual environment of ansible-test, from what Python itself carries.

ansible-test downloads a script for this job from a server that closed networks do not reach, and first looks for it in
its cache; run_ansible_test.py puts this file there. It is called with pip's arguments and the packages to install.
"""

from __future__ import annotations

import ensurepip
import os
import runpy
import sys

# They tell the script this one stands in for what to leave out; pip does not know them.
FOREIGN = {"--no-setuptools", "--no-wheel"}

# ensurepip turns pip's settings off in the environment; the download below needs them.
environment = dict(os.environ)
ensurepip.bootstrap()
os.environ.clear()
os.environ.update(environment)

sys.argv[1:] = ["install", *(argument for argument in sys.argv[1:] if argument not in FOREIGN)]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
