# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one module of the collection without Ansible, to measure its own time and memory.

    python tests/benchmarks/one_module.py MODULE OPTIONS

OPTIONS is JSON. The environment names the server.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from ansible.module_utils.testing import patch_module_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".build" / "live"))


def main(module: str, options: str) -> None:
    """Run the module, which ends the process."""
    found = importlib.import_module(f"ansible_collections.vmfork.vsphere.plugins.modules.{module}")
    with patch_module_args(json.loads(options)):
        found.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
