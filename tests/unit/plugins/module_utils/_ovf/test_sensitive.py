# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test which properties are recognized as secrets and which are not; each row is a test case."""

from __future__ import annotations

import gzip
import time

import pytest
from pyVmomi import vim
from unit.plugins.module_utils._ovf.secret_properties import PLAIN, SECRET, b64

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, document, masking, sensitive
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import MASK, Mask


def read(key: str, value: str = "x", label: str = "", category: str = "", description: str = "", type: str = "string",
         mask: Mask | None = None) -> configured.Property:  # fmt: skip
    """Return a property as read from the vApp options."""
    info = vim.vApp.PropertyInfo(
        key=0, id=key, type=type, value=value, label=label, category=category, description=description
    )
    (found,) = configured.read(vim.vApp.VmConfigInfo(property=[info]), mask=mask or Mask()).properties
    return found


def shown(given: dict[str, str], mask: Mask) -> set[str | None]:
    """Return the value in every place that returns it."""
    found = read(**given, mask=mask)
    known = mask.knowing([(found.key, found.secret)])
    value = given.get("value", "x")
    facts = configured.facts(configured.Configured(properties=(found,)), known)["properties"][0]
    delivered = document.facts(document.Document(properties={found.key: value}), "vm-1", known)
    return {facts["value"], facts["effective"], delivered["properties"][found.key]}


@pytest.mark.parametrize("given", SECRET.values(), ids=SECRET)
def test_secret(given: dict[str, str]) -> None:
    assert shown(given, Mask()) == {MASK}
    assert shown(given, Mask("password")) == {given.get("value", "x")}


@pytest.mark.parametrize("given", PLAIN.values(), ids=PLAIN)
def test_plain(given: dict[str, str]) -> None:
    assert shown(given, Mask()) == {given.get("value", "x")}


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("boolean", "True"),
        ("boolean", "false"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::7"),
        ("ip:VM Network", "192.0.2.1"),
    ],
)
def test_type_that_cannot_hold_a_secret(type: str, value: str) -> None:
    given = {"key": "show_password", "value": value, "label": "Password"}
    assert shown({**given, "type": type}, Mask()) == {value}
    assert shown({**given, "type": "string"}, Mask()) == {MASK}


def test_value_that_is_not_of_the_type() -> None:
    """The guest may have written anything into its document."""
    mask = Mask().knowing([("show_password", False)])
    assert mask.value("show_password", "hunter2") == MASK


def test_other_value_of_a_secret_property() -> None:
    """An earlier value may look harmless, but is just as secret."""
    found = read("config", value=b64("password: hush"))
    assert found.secret
    assert Mask().knowing([(found.key, found.secret)]).value("config", "older") == MASK


LONG = (
    "AAAA",
    "a=",
    "{",
    "[",
    "%41",
    "key ",
    "key.",
    "eyJ",
    "_-",
    "key:",
    "://",
    "a:",
    "Ab1",
    "key_type=",
    "key_name=Ab",
)


@pytest.mark.parametrize("value", [text * (65000 // len(text)) for text in LONG], ids=LONG)
def test_long_values_are_fast(value: str) -> None:
    begin = time.process_time()
    sensitive.holds_secret(value)
    assert time.process_time() - begin < 5


def test_compressed_text_of_any_size() -> None:
    bomb = b64(gzip.compress(b"0" * 50_000_000))
    assert not sensitive.holds_secret(bomb)


def test_own_patterns_match_the_unchanged_key() -> None:
    mask = Mask(patterns=[r"^net\.hockey$"])
    assert mask.is_secret("net.hockey", "string")
    assert mask.value("net.hockey", "x", "string") == MASK


def test_values_in_other_texts() -> None:
    text = "Property 'x' has the value 'a b-c', and not 'ab' or '7', in 17 cabs"
    assert masking.without(text, ["a b-c", "ab", "7", "", None]) == (
        f"Property 'x' has the value '{MASK}', and not '{MASK}' or '{MASK}', in 17 cabs"
    )


@pytest.mark.parametrize(("value", "shown"), [("abc", "abcd"), ("abcd", f"{MASK}e")])
def test_short_value_is_masked_only_as_a_word(value: str, shown: str) -> None:
    """Three characters are found in many words."""
    assert masking.without("abcd" if value == "abc" else "abcde", [value]) == shown
