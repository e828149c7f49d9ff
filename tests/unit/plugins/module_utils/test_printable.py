# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text from guests and servers cannot control a terminal or a log."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _printable


@pytest.mark.parametrize(
    ("number", "nouns", "words"),
    [
        (0, ("VM",), "0 VMs"),
        (1, ("VM",), "1 VM"),
        (2, ("VM",), "2 VMs"),
        (1, ("child", "children"), "1 child"),
        (30, ("child", "children"), "30 children"),
        (1.0, ("second",), "1 second"),
        (0.5, ("second",), "0.5 seconds"),
        (1234567, ("second",), "1234567 seconds"),
    ],
)
def test_count(number: float, nouns: tuple[str, ...], words: str) -> None:
    assert _printable.count(number, *nouns) == words


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain, größe 名前\n\ttext", "plain, größe 名前\n\ttext"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\0b\x9bc", "a\\x00b\\x9bc"),
        ("line\r\nnext\rover", "line\nnext\\x0dover"),
        ("one\u2028two\u202ethree", "one\\u2028two\\u202ethree"),
        ("lone \ud800", "lone \\ud800"),
    ],
)
def test_text(raw: str, safe: str) -> None:
    assert _printable.text(raw) == safe


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_result(value: Any) -> None:
    def check(part: Any) -> None:
        if isinstance(part, dict):
            for key, inner in part.items():
                check(key)
                check(inner)
        elif isinstance(part, str):
            assert not [
                char
                for char in part
                if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\n\t\u200c\u200d"
            ]

    check(_printable.result(value))


@given(st.text(alphabet="ab. ", min_size=1).filter(lambda why: why.strip(" .")))
def test_no_message_ends_with_two_periods(why: str) -> None:
    assert not _errors.sentence("Could not do it", why).endswith((" .", ".."))
