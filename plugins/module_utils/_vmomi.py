# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import pyVmomi in one place, and check its version.

Private to the collection. Importing this file never fails: without pyVmomi
the names are ``None``, and :func:`missing` says what to install before
anything uses them.
"""

from __future__ import annotations

import sys
import traceback
import typing as t

__all__ = ["SoapStubAdapter", "VmomiSupport", "at_least", "missing", "numbers", "version", "vim", "vmodl"]

MINIMUM = "8.0.3.0.1"
"""Oldest tested pyVmomi; keep it in sync with requirements.txt and the doc fragment."""

IMPORT_ERROR: str | None = None
vim: t.Any
vmodl: t.Any
VmomiSupport: t.Any
SoapStubAdapter: t.Any
version: str | None
try:
    import pyVmomi
    from pyVmomi import SoapStubAdapter, VmomiSupport, vim, vmodl

    # Releases that are older than the supported ones do not have a version string.
    version = getattr(pyVmomi, "version_info_str", "0")
except ImportError:
    IMPORT_ERROR = traceback.format_exc()
    vim = vmodl = VmomiSupport = SoapStubAdapter = version = None


def missing() -> str | None:
    """Return what to install, as a sentence; ``None`` if pyVmomi is installed and new enough."""
    if IMPORT_ERROR is not None:
        return (
            f"pyVmomi is missing for the Python interpreter that runs this task ({sys.executable}). Install it there "
            f"({sys.executable} -m pip install 'pyvmomi>={MINIMUM}'), or set ansible_python_interpreter to an "
            "interpreter that has it."
        )
    if not at_least(MINIMUM):
        return f"pyVmomi {version} is too old. Install a newer one: pip install 'pyvmomi>={MINIMUM}'."
    return None


def at_least(minimum: str) -> bool:
    """Return whether the installed pyVmomi is ``minimum`` or newer."""
    return numbers(version or "") >= numbers(minimum)


def numbers(dotted: str) -> tuple[int, ...]:
    """Return a dotted version as numbers, up to the first part that is not a number."""
    result: list[int] = []
    for part in dotted.split("."):
        if not part.isdigit():
            break
        result.append(int(part))
    return tuple(result)
