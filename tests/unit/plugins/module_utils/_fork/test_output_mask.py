# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in the output of a script, in any form that it printed them."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import output_mask


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("token is s3cret-value\n", "token is ********\n"),
        ("t-value\nthe rest", "********\nthe rest"),
        ("first-line second-line", "******** ********"),
        ("nothing of it", "nothing of it"),
        ("lue is a short rest", "lue is a short rest"),
    ],
)
def test_secrets_in_the_output_are_masked(output: str, expected: str) -> None:
    assert output_mask.mask(output, ["s3cret-value", "first-line\nsecond-line", "a\nb"]) == expected


def test_shortest_secret_that_is_masked() -> None:
    """vmfork_child refuses shorter ones; masking a short line of a secret would mask parts of other output."""
    assert output_mask.mask("12345678 1234567", ["12345678", "another-secret\n1234567"]) == "******** 1234567"


@pytest.mark.parametrize("first", [0, 1])
def test_secret_within_another_does_not_uncover_it(first: int) -> None:
    secrets = ["password", "password-and-more", "my-password"]
    assert output_mask.mask("password-and-more, my-password", secrets[first:] + secrets[:first]) == "********, ********"


@pytest.mark.parametrize(
    "printed",
    [
        """it's C:\\"x" """,
        """'it'\\''s C:\\"x" '""",
        """'it'"'"'s C:\\"x" '""",
        """$'it\\'s C:\\\\"x" '""",
        """"it's C:\\\\\\"x\\" \"""",
    ],
)
def test_secret_quoted_by_a_shell(printed: str) -> None:
    hidden = output_mask.mask(f"+ echo {printed}\n", ["""it's C:\\"x" """])
    assert "it" not in hidden
    assert "C:" not in hidden
    assert MASK in hidden


LONG = "kept/out of+sight: größe, C:\\new\n2nd line of the secret\n" + "and-more-of-it-" * 8


@pytest.mark.parametrize(
    "printed",
    [
        base64.b64encode(LONG.encode()).decode(),
        base64.encodebytes(LONG.encode()).decode(),  # in lines, as the command base64 prints it
        base64.b64encode(f"user:{LONG}@host".encode()).decode(),
        base64.urlsafe_b64encode(f"ab{LONG}".encode()).decode(),
        urllib.parse.quote(LONG),
        urllib.parse.quote(LONG, safe=""),
        urllib.parse.quote_plus(LONG),
        re.sub("%..", lambda escape: escape.group().lower(), urllib.parse.quote(LONG)),
        json.dumps({"token": LONG}),
        json.dumps({"token": LONG}, ensure_ascii=False),
        json.dumps(json.dumps({"token": LONG})),
        repr(LONG),
        f"$'{repr(LONG)[1:-1]}'",
    ],
)
def test_encoded_secret(printed: str) -> None:
    for part in (printed, printed[20:]):
        hidden = output_mask.mask(f"{part}\nthe rest\n", [LONG])
        assert MASK in hidden
        assert hidden.endswith("the rest\n")
        assert len(hidden.removesuffix("the rest\n").replace(MASK, "")) < 30
        assert not any(word in hidden for word in ("kept", "sight", "secret", "more"))


@pytest.mark.parametrize("secret", ["'" * 8, "a" + "'" * 8])
def test_secret_of_quotes_does_not_mask_everything(secret: str) -> None:
    assert output_mask.mask("a b c", [secret]) == "a b c"
