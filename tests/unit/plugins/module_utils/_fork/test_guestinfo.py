# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest tells counts only with the right nonce, and only when it can be read."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo as report

ENCODED = base64.b64encode("größe\n".encode()).decode()


UNREADABLE = [
    "",
    "x",
    "\u00b2 x",
    "9" * 5000,
    "-1",
    "+1",
    "1_0",
    "4294967296",
    "\u0663 ",
    "0 @@@@@",
    "0 YQ",
    "0 gr\u00f6\u00dfe",
    "0 \ud800",
    "0 YQ== YQ==",
]
"""What a guest may write behind the nonce, and no runner does."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"n1 pre_quiesce 3 {ENCODED}", report.Report("pre_quiesce", 3, "größe\n")),
        ("n1 freeze 1 ", report.Report("freeze", 1, "")),
        ("n1 freeze 1", report.Report("freeze", 1, "")),
        (f"n2 pre_quiesce 3 {ENCODED}", None),
        ("", None),
        *((f"n1 freeze {rest}", report.Report(report.UNREADABLE, None, "")) for rest in UNREADABLE),
        ("n1", report.Report(report.UNREADABLE, None, "")),
        ("n1 no-stage 1 ", report.Report(report.UNREADABLE, None, "")),
        ("n1 killed 1 ", report.Report(report.UNREADABLE, None, "")),
    ],
)
def test_early_end(value: str, expected: report.Report | None) -> None:
    assert report.early_end({report.QUIESCE: value}, "n1") == expected


@pytest.mark.parametrize(
    ("value", "nonce", "expected"),
    [
        (f"n1 0 {ENCODED}", "n1", report.Report("post_clone", 0, "größe\n")),
        ("n1 0 ", "n1", report.Report("post_clone", 0, "")),
        ("n2 0 ", "n1", None),
        (" 0 ", None, None),
        (" 0 ", "n1", None),
        *((f"n1 {rest}", "n1", report.Report("post_clone", None, "")) for rest in UNREADABLE),
        ("n1 4294967295", "n1", report.Report("post_clone", 4294967295, "")),
    ],
)
def test_post_clone(value: str, nonce: str | None, expected: report.Report | None) -> None:
    assert report.post_clone({report.POST_CLONE: value}, nonce) == expected


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
def test_secrets_in_the_output_are_hidden(output: str, expected: str) -> None:
    assert report.mask(output, ["s3cret-value", "first-line\nsecond-line", "a\nb"]) == expected


@pytest.mark.parametrize("first", [0, 1])
def test_secret_within_another_does_not_uncover_it(first: int) -> None:
    secrets = ["password", "password-and-more", "my-password"]
    assert report.mask("password-and-more, my-password", secrets[first:] + secrets[:first]) == "********, ********"


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
def test_secret_that_a_shell_has_quoted(printed: str) -> None:
    hidden = report.mask(f"+ echo {printed}\n", ["""it's C:\\"x" """])
    assert "it" not in hidden
    assert "C:" not in hidden
    assert report.MASK in hidden


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
        hidden = report.mask(f"{part}\nthe rest\n", [LONG])
        assert report.MASK in hidden
        assert hidden.endswith("the rest\n")
        assert len(hidden.removesuffix("the rest\n").replace(report.MASK, "")) < 30
        assert not any(word in hidden for word in ("kept", "sight", "secret", "more"))


@pytest.mark.parametrize("secret", ["'" * 8, "a" + "'" * 8])
def test_secret_of_quotes_does_not_hide_everything(secret: str) -> None:
    assert report.mask("a b c", [secret]) == "a b c"


def test_report_written_back_is_read_again() -> None:
    told = report.Report("post_clone", 3, "größe\n")
    assert report.post_clone({report.POST_CLONE: report.as_post_clone("n1", told)}, "n1") == told


def test_nonces_differ() -> None:
    assert len({report.new_nonce() for _number in range(50)}) == 50


# --- whatever a guest writes ------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)  # surrogates and control characters, too
ANY_VALUE = ANY_TEXT | st.builds("{} {} {} {}".format, st.just("n1"), ANY_TEXT, ANY_TEXT, ANY_TEXT)
GUEST_KEYS = [
    report.SCRIPTS,
    report.QUIESCED_AT,
    report.QUIESCE,
    report.POST_CLONE,
    report.SECRETS,
    report.CHILD_NONCE,
    report.DONE,
]


@given(st.fixed_dictionaries(dict.fromkeys(GUEST_KEYS, ANY_VALUE)))
def test_any_text_is_read(values: dict[str, str]) -> None:
    """Nothing is raised; what is returned can be handed on, and is never a success that no runner wrote."""
    ended = report.post_clone(values, "n1")
    if ended is not None:
        assert report.post_clone({report.POST_CLONE: report.as_post_clone("n1", ended)}, "n1") == ended
        report.mask(ended.output, ["s3cret-value"]).encode()
    early = report.early_end(values, "n1")
    assert early is None or early.stage == report.UNREADABLE or early.exit_code is not None
    assert report.quiesced_at(values) in (None, values[report.QUIESCED_AT])
    assert report.secrets_cleared(values, "n1") is (values[report.SECRETS].split() == ["n1", "cleared"])
    (report.scripts(values) or "").strip()
    nonce = report.child_nonce(values)
    assert nonce is None or nonce.isascii()


@given(st.binary(max_size=20_000))
def test_output_of_any_length(output: bytes) -> None:
    ended = report.post_clone({report.POST_CLONE: f"n1 0 {base64.b64encode(output).decode()}"}, "n1")
    assert ended is not None
    assert ended.exit_code == 0
    assert len(ended.output) <= report.OUTPUT_LIMIT


@pytest.mark.parametrize("value", ["2026-01-31T08:15:02Z", " ", "yesterday", "2026-01-31T08:15:02Z\n", "\u0662" * 20])
def test_time_of_the_freeze(value: str) -> None:
    expected = value if value == "2026-01-31T08:15:02Z" else None
    assert report.quiesced_at({report.QUIESCED_AT: value}) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"isolation.tools.setinfo.disable": "TRUE"}, "isolation.tools.setinfo.disable"),
        ({"isolation.tools.setInfo.disable": "true"}, "isolation.tools.setInfo.disable"),
        ({"guest_rpc.rpci.auth.cmd.info-set": "TRUE"}, None),
        ({"isolation.tools.setinfo.disable": "FALSE"}, None),
        ({"isolation.tools.copy.disable": "TRUE"}, None),
    ],
)
def test_setting_that_keeps_a_guest_from_reporting(values: dict[str, str], expected: str | None) -> None:
    assert report.obstacle(values) == expected
