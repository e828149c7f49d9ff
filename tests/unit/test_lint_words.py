# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test that tests/lint/words.py finds the phrases of its list, and nothing else."""

from __future__ import annotations

import pytest
from lint import words

FOUND = [
    "It was tried twice in vain.",
    "The driver is loaded anew.",
    "vCenter does not write such a one.",
    "The document was injected past vCenter.",
    "The VM is not at its fork point any more.",
    "Nobody waits for it any more.",
    'It can read them no more."',
    "A child bears a record.",
    "It is taken for a secret.",
    "See what became of each.",
    "VM web is left as it is.",
    "Nothing tells who did it.",
    "The VM was told to shut down.",
    "Another task is at work on the VM.",
    '    """Of a VM in a vApp, the outermost one."""',
]


@pytest.mark.parametrize("line", FOUND)
def test_phrase_is_found(line: str) -> None:
    assert [number for number, _message in words.findings(f"Plain English.\n{line}\n")] == [2]


def test_every_phrase_has_an_example() -> None:
    unused = [phrase for phrase in words.PHRASES if not list(words.findings_of(phrase, "\n".join(FOUND)))]
    assert not unused


@pytest.mark.parametrize(
    "line",
    [
        "It is no longer at its fork point.",
        "The inventory has no more than 1,000 VMs.",
        "A bearer token is masked.",
        "bears_id is whose ID is in the document.",
        "The past power-ons of vCenter.",
        "Canewdon",
        "The two VMs cannot be told apart.",
    ],
)
def test_plain_english_is_not_found(line: str) -> None:
    assert not list(words.findings(line))
