# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest tells counts only with the right nonce, and only when it can be read."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import report

ENCODED = base64.b64encode("größe\n".encode()).decode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"n1 pre_quiesce 3 {ENCODED}", report.Report("pre_quiesce", 3, "größe\n")),
        ("n1 freeze 1 ", report.Report("freeze", 1, "")),
        ("n1 freeze 1", report.Report("freeze", 1, "")),
        ("n1 freeze 1 @@@@@", report.Report("freeze", 1, "")),
        (f"n2 pre_quiesce 3 {ENCODED}", None),
        ("n1 freeze x ", None),
        ("n1", None),
        ("", None),
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
        ("n1", "n1", None),
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


@pytest.mark.parametrize("secret", ["'" * 8, "a" + "'" * 8])
def test_secret_of_quotes_does_not_hide_everything(secret: str) -> None:
    assert report.mask("a b c", [secret]) == "a b c"


def test_report_written_back_is_read_again() -> None:
    told = report.Report("post_clone", 3, "größe\n")
    assert report.post_clone({report.POST_CLONE: report.as_post_clone("n1", told)}, "n1") == told


def test_nonces_differ() -> None:
    assert len({report.new_nonce() for _number in range(50)}) == 50
