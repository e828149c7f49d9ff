# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's report counts only if its nonce is right and it can be parsed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, output_mask

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
"""Text that a guest may write after the nonce, but no runner does."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"n1 pre_quiesce 3 {ENCODED}", guestinfo.Report("pre_quiesce", 3, "größe\n")),
        ("n1 freeze 1 ", guestinfo.Report("freeze", 1, "")),
        ("n1 freeze 1", guestinfo.Report("freeze", 1, "")),
        (f"n2 pre_quiesce 3 {ENCODED}", None),
        ("", None),
        *((f"n1 freeze {rest}", guestinfo.Report(guestinfo.UNREADABLE, None, "")) for rest in UNREADABLE),
        ("n1", guestinfo.Report(guestinfo.UNREADABLE, None, "")),
        ("n1 no-stage 1 ", guestinfo.Report(guestinfo.UNREADABLE, None, "")),
        ("n1 killed 1 ", guestinfo.Report(guestinfo.UNREADABLE, None, "")),
    ],
)
def test_early_end(value: str, expected: guestinfo.Report | None) -> None:
    assert guestinfo.early_end({guestinfo.QUIESCE: value}, "n1") == expected


@pytest.mark.parametrize(
    ("value", "nonce", "expected"),
    [
        (f"n1 0 {ENCODED}", "n1", guestinfo.Report("post_clone", 0, "größe\n")),
        ("n1 0 ", "n1", guestinfo.Report("post_clone", 0, "")),
        ("n2 0 ", "n1", None),
        (" 0 ", None, None),
        (" 0 ", "n1", None),
        *((f"n1 {rest}", "n1", guestinfo.Report("post_clone", None, "")) for rest in UNREADABLE),
        ("n1 4294967295", "n1", guestinfo.Report("post_clone", 4294967295, "")),
    ],
)
def test_post_clone(value: str, nonce: str | None, expected: guestinfo.Report | None) -> None:
    assert guestinfo.post_clone({guestinfo.POST_CLONE: value}, nonce) == expected


def test_report_written_back_is_read_again() -> None:
    report = guestinfo.Report("post_clone", 3, "größe\n")
    assert guestinfo.post_clone({guestinfo.POST_CLONE: guestinfo.as_post_clone("n1", report)}, "n1") == report


def test_nonces_differ() -> None:
    assert len({guestinfo.new_nonce() for _number in range(50)}) == 50


# --- arbitrary reports ------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)  # including surrogates and control characters
ANY_VALUE = ANY_TEXT | st.builds("{} {} {} {}".format, st.just("n1"), ANY_TEXT, ANY_TEXT, ANY_TEXT)
GUEST_KEYS = [
    guestinfo.SCRIPTS,
    guestinfo.QUIESCED_AT,
    guestinfo.QUIESCE,
    guestinfo.POST_CLONE,
    guestinfo.SECRETS,
    guestinfo.CHILD_NONCE,
    guestinfo.DONE,
]


@given(st.fixed_dictionaries(dict.fromkeys(GUEST_KEYS, ANY_VALUE)))
def test_any_text_is_read(values: dict[str, str]) -> None:
    """No text raises an error, the result can be returned, and it is never a success that no runner reported."""
    ended = guestinfo.post_clone(values, "n1")
    if ended is not None:
        assert guestinfo.post_clone({guestinfo.POST_CLONE: guestinfo.as_post_clone("n1", ended)}, "n1") == ended
        output_mask.mask(ended.output, ["s3cret-value"]).encode()
    early = guestinfo.early_end(values, "n1")
    assert early is None or early.stage == guestinfo.UNREADABLE or early.exit_code is not None
    assert guestinfo.quiesced_at(values) in (None, values[guestinfo.QUIESCED_AT])
    assert guestinfo.secrets_cleared(values, "n1") is (values[guestinfo.SECRETS].split() == ["n1", "cleared"])
    (guestinfo.scripts(values) or "").strip()
    nonce = guestinfo.child_nonce(values)
    assert nonce is None or nonce.isascii()


@given(st.binary(max_size=20_000))
def test_output_of_any_length(output: bytes) -> None:
    ended = guestinfo.post_clone({guestinfo.POST_CLONE: f"n1 0 {base64.b64encode(output).decode()}"}, "n1")
    assert ended is not None
    assert ended.exit_code == 0
    assert len(ended.output) <= guestinfo.OUTPUT_LIMIT


@pytest.mark.parametrize("value", ["2026-01-31T08:15:02Z", " ", "yesterday", "2026-01-31T08:15:02Z\n", "\u0662" * 20])
def test_time_of_the_freeze(value: str) -> None:
    expected = value if value == "2026-01-31T08:15:02Z" else None
    assert guestinfo.quiesced_at({guestinfo.QUIESCED_AT: value}) == expected


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
def test_setting_that_prevents_a_guest_from_reporting(values: dict[str, str], expected: str | None) -> None:
    assert guestinfo.obstacle(values) == expected
