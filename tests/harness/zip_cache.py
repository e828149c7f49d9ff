# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the compiled code of the modules that Python imports from zip files.

Ansible sends each module and its libraries as source in a zip file, and Python compiles all of it for each task: half
of the CPU time of a module of ours. The Makefile copies this file into the environment of the tests, where a .pth
file loads it at each start of Python. The measurements go without it, as users do.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport
from types import CodeType

CACHE = os.path.join(sys.prefix, "zip_cache")  # noqa: PTH118 - pathlib would slow down each start of Python
compile_source = zipimport._compile_source  # type: ignore[attr-defined]


def compile_once(path: str, source: bytes) -> CodeType:
    """Return the code of a module, compiled now or by an earlier process. Its tracebacks name the earlier zip file."""
    digest = int.from_bytes(_imp.source_hash(sys.hexversion, source), "little")
    file = f"{CACHE}/{digest:016x}-{len(source)}"
    try:
        with open(file, "rb") as stream:  # noqa: PTH123
            return marshal.load(stream)
    except OSError:
        pass
    code: CodeType = compile_source(path, source)
    try:
        os.makedirs(CACHE, exist_ok=True)  # noqa: PTH103
        with open(f"{file}.{os.getpid()}", "wb") as new:  # noqa: PTH123
            marshal.dump(code, new)
        os.replace(new.name, file)  # noqa: PTH105
    except OSError:  # another user's environment, or a full disk
        pass
    return code


if "VMFORK_WITHOUT_ZIP_CACHE" not in os.environ:
    zipimport._compile_source = compile_once  # type: ignore[attr-defined]
