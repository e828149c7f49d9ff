# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report the progress of a module to the action plugin that displays it.

Private to the collection. Each change is one line of JSON in a file of the
action plugin: ``text`` (names of children and counts, never text from a guest),
``done`` and ``total``. ``plugin_utils/progress.py`` reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable

FILE_OPTION = "_progress_file"
"""The option in which an action plugin names its file. No argument spec has it, because users do not set it."""


class Progress:
    """Appends to the file of an action plugin. Does nothing without a file, or if it cannot be written.

    :param path: the existing file.
    :param hide: returns a text without secrets.
    """

    def __init__(self, path: t.Any = None, hide: t.Callable[[str], str] = str) -> None:
        self._hide = hide
        self._file: int | None = None
        self._last: dict[str, t.Any] = {}
        if isinstance(path, str):
            with contextlib.suppress(OSError, ValueError):
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def show(self, text: str, done: int = 0, total: int = 0) -> None:
        """Report what the module is doing.

        :param text: such as ``3 of 8 ready``.
        :param done: how many of ``total`` are done; each tenth is displayed.
        """
        line = {"text": text, "done": done, "total": total}
        if self._file is None or line == self._last:
            return
        self._last = line
        shown = {**line, "text": _printable.text(self._hide(text))}
        with contextlib.suppress(OSError):
            os.write(self._file, json.dumps(shown).encode("ascii") + b"\n")
