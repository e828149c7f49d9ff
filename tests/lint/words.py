# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a short list of phrases out of messages, documentation, docstrings and comments.

Each phrase was common here once, and native speakers had to read it twice. This is not a style checker: if a phrase is
right somewhere, remove it from the list.
"""

from __future__ import annotations

import re
import sys
import typing as t

from harness.tree import checkout_files

ROOTS = ("plugins/", "playbooks/", "roles/", "docs/", "changelogs/", "tests/", "README.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".yml", ".j2", ".md", ".rst", ".sh", ".ps1", ".txt"}
# docs/architecture.md quotes the simulator, whose sources are not checked.
EXEMPT = ("docs/architecture.md", "tests/lint/words.py", "tests/unit/test_lint_words.py")


class Phrase(t.NamedTuple):
    """A phrase to keep out.

    :param pattern: a regular expression, matched against each line.
    :param instead: the replacement, and the reason.
    """

    pattern: str
    instead: str


PHRASES = (
    Phrase(r"\bin vain\b", 'write "without success": "in vain" is literary'),
    Phrase(r"\banew\b", 'write "again": "anew" is literary'),
    Phrase(r"\bsuch a one\b", "repeat the noun: it is archaic"),
    Phrase(r"\bpast vCenter\b", 'write "without vCenter": "past" means a time or a place'),
    Phrase(
        r"\b(?:no|not|nothing|nobody|never|none) (?:\w+ ){0,6}any more\b",
        'write "no longer": the negation is read first, and means the opposite',
    ),
    Phrase(r"\bcan\w* (?:\w+ ){0,6}no more[.,:;\"]", 'write "no longer": "no more" counts things'),
    Phrase(r"\bbears? (?:an?|the|its|no|another|what|our|this)\b", 'write "contains", "carries" or "has"'),
    Phrase(r"\b(?:is|are|was|were|be|been|never|not) taken for\b", 'write "treated as" or "mistaken for"'),
    Phrase(r"\bwhat (?:became|becomes|has become) of\b", 'write "the result of" or "the state of"'),
    Phrase(r"\bleft as (?:it is|they are)\b", 'write "left unchanged"'),
    Phrase(r"\bnothing tells\b", 'write "it is not known": data does not talk'),
    Phrase(r"\b(?:is|are|was|were|been|not) told\b", 'write "reported", "shown" or "asked": programs do not talk'),
    Phrase(r"\b(?:is|was|be) at work on (?:it|the VM)\b", 'write "is running on"'),
    Phrase(r'^\s*r?"""Of\b', 'begin with a verb or a noun: "Of X, …" hides the subject'),
)


def findings_of(phrase: Phrase, text: str) -> t.Iterator[tuple[int, str]]:
    """Yield the number of each line with a phrase, and what to write instead."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.search(phrase.pattern, line, re.IGNORECASE):
            yield number, f"{found[0].strip()!r}: {phrase.instead}"


def findings(text: str) -> t.Iterator[tuple[int, str]]:
    """Yield the number of each line with a phrase of the list, and what to write instead."""
    for phrase in PHRASES:
        yield from findings_of(phrase, text)


def main() -> int:
    """Print each phrase of the list that the sources contain; return 1 if there is one."""
    failed = False
    for name, path in checkout_files():
        if not name.startswith(ROOTS) or name in EXEMPT or path.suffix not in SUFFIXES:
            continue
        for number, message in findings(path.read_text(encoding="utf-8", errors="replace")):
            print(f"{name}:{number}: {message}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
