# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one module of the collection in this process: `launch.py MODULE`, its arguments as JSON on standard input."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from ansible.module_utils import basic

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # ansible-core before 2.19

    @contextlib.contextmanager
    def patch_module_args(args: dict[str, Any] | None = None) -> Iterator[None]:
        """Hand arguments to the AnsibleModule made within the block."""
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        yield


with patch_module_args(json.load(sys.stdin)):
    importlib.import_module(f"ansible_collections.vmfork.vsphere.plugins.modules.{sys.argv[1]}").main()
