# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one module of the collection in this process: `launch.py MODULE`, its arguments as JSON on standard input."""

from __future__ import annotations

import importlib
import json
import sys

from ansible.module_utils.testing import patch_module_args

with patch_module_args(json.load(sys.stdin)):
    importlib.import_module(f"ansible_collections.vmfork.vsphere.plugins.modules.{sys.argv[1]}").main()
