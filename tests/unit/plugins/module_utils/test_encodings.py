# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every encoding of a secret contains one of its forms, in any context."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
import xml.sax.saxutils
from collections.abc import Callable

import pytest
from hypothesis import assume, given, strategies

from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import forms

ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "URL": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
    "repr": lambda text: repr([text]),
    "XML": xml.sax.saxutils.escape,
    "XML attribute": lambda text: xml.sax.saxutils.quoteattr(text, {"'": "&apos;", '"': "&quot;"}),
    "HTML": html.escape,
    "sh -x": lambda text: "'" + text.replace("'", "'\\''") + "'",
    "shlex": shlex.quote,
    "double quotes of a shell": lambda text: re.sub(r'["$`\\]', r"\\\g<0>", text),
    "base64 of PowerShell": lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
}
TEXT = strategies.text(strategies.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
@given(secret=strategies.text(strategies.characters(exclude_categories=["Cs"]), min_size=10), before=TEXT, after=TEXT)
def test_forms(encode: Callable[[str], str], secret: str, before: str, after: str) -> None:
    encoded = encode(before + secret + after)
    # The complete text decides which quotes a repr has.
    assume(encode is not ENCODINGS["repr"] or "'" not in before + secret + after)
    assert any(form in encoded for form in (*forms(secret), secret))


@pytest.mark.parametrize("secret", ["web", "", "pass"])
def test_short_secret_has_no_form_that_would_mask_other_output(secret: str) -> None:
    assert forms(secret) == set()


@given(strategies.text(strategies.characters(codec=None)))
def test_any_text(secret: str) -> None:
    """This includes surrogates, which stand for bytes that are not UTF-8."""
    assert all(len(form) >= 8 for form in forms(secret))
