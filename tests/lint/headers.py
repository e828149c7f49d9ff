# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that every file has a copyright and a license line near its top."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.tree import checkout_files

WANTED = ("SPDX-FileCopyrightText: vmfork.vsphere contributors", "SPDX-License-Identifier: GPL-3.0-or-later")
LINES = 10
# The license itself, and formats without comments that programs write.
EXEMPT_NAMES = {"LICENSE", "go.sum", "CHANGELOG.md", "changelog.yaml"}
EXEMPT_SUFFIXES = {".json", ".png", ".ico"}


def lacking(path: Path) -> list[str]:
    """Return what is missing in the first lines of a file."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        head = "".join(line for line, _number in zip(stream, range(LINES), strict=False))
    return [line for line in WANTED if line not in head]


def main() -> int:
    """Print each file that lacks a line; return 1 if there is one."""
    failed = False
    for name, path in checkout_files():
        if path.name in EXEMPT_NAMES or path.suffix in EXEMPT_SUFFIXES or path.is_symlink():
            continue
        # An empty file (such as an __init__.py) contains nothing to license.
        if path.stat().st_size and (missing := lacking(path)):
            print(f"{name}: the first {LINES} lines lack: {'; '.join(missing)}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
