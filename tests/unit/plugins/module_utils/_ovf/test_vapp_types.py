# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values that a type of vApp properties accepts."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_types

# type → accepted values, refused values
VALUES: dict[str, tuple[list[str], list[str]]] = {
    "string": (["", " ", "a\nb", "ü" * 65535], ["x" * 65536, "nul\0", "bell\a", "a\r\nb", "\ud800"]),
    "string(3..)": (["", "abc", "x" * 65535], ["ab", "x" * 65536]),
    "string(..3)": (["abc", "üüü"], ["abcd"]),
    "string(1..5)": (["a", "abcde"], ["abcdef"]),
    "string( 1 .. 5 )": (["a"], ["abcdef"]),
    'string["small","large"]': (["", "small", "large"], ["Small", "medium", "small,large"]),
    r'string["start\"middle\"end", "back\\slash", "it\'s"]': (
        ['start"middle"end', "back\\slash", "it's"],
        [r"back\\slash"],
    ),
    "password": (["", "x" * 65535], ["x" * 65536]),
    "password(8..)": (["", "12345678"], ["1234567"]),
    "password(8..10)": (["1234567890"], ["12345678901"]),
    "int": (["0", "-2147483648", "+7", "2147483647"], ["2147483648", "1.0", "0x10", "1e3", " 1", "١"]),
    "int(0..255)": (["0", "255", "007"], ["256", "-1", "0" * 101]),
    "int(-5..5)": (["-5"], ["-6"]),
    "int(5..5)": (["5"], ["4", "6"]),
    "int(0..18446744073709551615)": (["18446744073709551615"], ["18446744073709551616"]),
    "real": (["1.5", "-.5", "1.5E+10"], ["1", "1.", "nan", "inf"]),
    "real(-1.5..1.5)": (["1.5", "-1.50"], ["1.51"]),
    "boolean": (["True", "False", "true", "FALSE"], ["yes", "1"]),
    "ip": (["192.0.2.1", "2001:db8::1", "::"], ["192.0.2.1/24", "192.0.2.256", "host", "fe80::1%eth0", "192.0.2"]),
    "ip:VM Network": (["192.0.2.1"], ["host"]),
    "expression": ([], ["", "192.0.2.1"]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values(kind: str) -> None:
    parsed = vapp_types.parse(kind)
    assert parsed is not None
    accepted, refused = VALUES[kind]
    assert {value: vapp_types.wrong(parsed, value) for value in accepted} == dict.fromkeys(accepted)
    for value in refused:
        why = vapp_types.wrong(parsed, value)
        assert why is not None, value[:20]
        assert len(value) < 4 or value in kind or value not in why, "a value may be a secret"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "String",
        "string()",
        "string(..)",
        "string(5..1)",
        "string(-1..)",
        "string(..65536)",
        "string[]",
        'string["a",]',
        "string[a]",
        'string["a" "b"]',
        "int(a..b)",
        "int(5..1)",
        "int(1.5..2)",
        "boolean(1..2)",
        "ip:",
        "uint8",
    ],
)
def test_invalid_types(text: str) -> None:
    assert vapp_types.parse(text) is None


def test_unknown_type() -> None:
    """Only vCenter knows its valid values."""
    assert vapp_types.wrong(None, "anything") is None
    assert vapp_types.wrong(None, "nul\0") is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uint8", "int(0..255)"),
        ("sint8", "int(-128..127)"),
        ("uint16", "int(0..65535)"),
        ("sint32", "int(-2147483648..2147483647)"),
        ("uint64", "int(0..18446744073709551615)"),
        ("real64", "real"),
        (" string(1..5) ", "string(1..5)"),
    ],
)
def test_types_of_descriptors(text: str, expected: str) -> None:
    assert vapp_types.canonical(text) == expected
    assert vapp_types.parse(expected) is not None


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "text", "text"),
        ("string", "", ""),
        ("string", 22, "22"),
        ("int", 22, "22"),
        ("real", 1.5, "1.5"),
        ("boolean", True, "True"),
        ("boolean", "false", "False"),
        ("string", "true", "true"),
    ],
)
def test_written(kind: str, value: Any, expected: str) -> None:
    assert vapp_types.written(vapp_types.parse(kind), value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("string", True, "in quotes"),
        ("string", 1.10, "in quotes"),
        ("int", True, "in quotes"),
        ("int", 1.0, "in quotes"),
        ("string", None, "null"),
        ("string", ["a"], "list"),
        ("string", {"a": 1}, "dictionary"),
    ],
)
def test_values_changed_by_yaml(kind: str, value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        vapp_types.written(vapp_types.parse(kind), value)


@pytest.mark.parametrize(
    ("kind", "left", "right", "same"),
    [("boolean", "true", "True", True), ("boolean", "True", "False", False), ("string", "true", "True", False)],
)
def test_equal(kind: str, left: str, right: str, same: bool) -> None:
    assert vapp_types.equal(vapp_types.parse(kind), left, right) is same


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("string", False),
        ("string(1..)", True),
        ("string(..5)", False),
        ('string["a"]', True),
        ("password", False),
        ("password(8..)", False),
        ("int", True),
        ("boolean", True),
        ("ip", True),
        ("ip:net", False),
        ("expression", False),
    ],
)
def test_needs_value(kind: str, needed: bool) -> None:
    parsed = vapp_types.parse(kind)
    assert parsed is not None
    assert parsed.needs_value is needed


def test_line_ends_are_normalized_as_in_xml() -> None:
    assert vapp_types.plain("a\r\nb\rc\nd") == "a\nb\nc\nd"
    assert vapp_types.plain(None) == ""
