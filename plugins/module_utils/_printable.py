# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make text from guests and servers safe to print and to log, and write numbers with their nouns.

Private to the collection.
"""

from __future__ import annotations

import typing as t
import unicodedata

_KEPT = "\n\t"
_REPLACED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls (escape, NUL, C1), formats (bidirectional overrides), surrogates, separators."""


def text(value: str) -> str:
    """Return a text in which every character that could affect a terminal or a log is an escape sequence.

    Newlines and tabs are kept, and a carriage return before a newline is removed. Joiners within words are kept, since
    some scripts and emoji need them.
    """
    if value.isascii() and value.isprintable():
        return value
    return "".join(map(_safe, value.replace("\r\n", "\n")))


def _safe(char: str) -> str:
    if char in _KEPT or char in "\u200c\u200d" or unicodedata.category(char) not in _REPLACED:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def count(number: float, singular: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 VM`` or ``2 properties``.

    :param plural: empty: the singular with an ``s``.
    """
    return f"{number:.15g} {singular if number == 1 else plural or f'{singular}s'}"


DOCUMENT = "export"
"""Key of a document of vApp options in a result. It is not changed, since it is passed back to vCenter."""


def result(value: t.Any) -> t.Any:
    """Return a result of plain JSON types with all its texts and keys made safe, except for documents."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {
            result(key): item if key == DOCUMENT and isinstance(item, dict) else result(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [result(item) for item in value]
    return value
