# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that action group, modules and documentation name the same modules.

A module missing from the group in meta/runtime.yml silently ignores `module_defaults: group/vmfork.vsphere.all`; users
do not know that a module belongs to it if the module's documentation does not say so.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import yaml

GROUP = "all"
FRAGMENT = "vmfork.vsphere.attributes.action_group"


def documentation(module: Path) -> dict[str, object]:
    """Return the DOCUMENTATION of a module, without importing it."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            getattr(target, "id", "") == "DOCUMENTATION" for target in node.targets
        ):
            return dict(yaml.safe_load(ast.literal_eval(node.value)))
    return {}


def main() -> int:
    """Print each disagreement; return 1 if there is one."""
    runtime = yaml.safe_load(Path("meta/runtime.yml").read_text(encoding="utf-8"))
    group = set(runtime["action_groups"][GROUP])
    modules = {path.stem: path for path in Path("plugins/modules").glob("*.py") if path.stem != "__init__"}
    problems = [f"meta/runtime.yml: group {GROUP} names {name}, which is no module" for name in group - set(modules)]
    problems += [f"meta/runtime.yml: group {GROUP} lacks the module {name}" for name in set(modules) - group]
    for name, path in modules.items():
        fragments = documentation(path).get("extends_documentation_fragment") or []
        if FRAGMENT not in (fragments if isinstance(fragments, list) else [fragments]):
            problems.append(f"plugins/modules/{name}.py: the documentation does not extend {FRAGMENT}")
    print("\n".join(sorted(problems)), end="\n" if problems else "")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
