# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's defaults agree with the answers of real vCenters, and each assumption has a question or a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import catalog, record
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import ANSWERED

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = sorted((ROOT / "tests/evidence").glob("*.json"))
NONE = pytest.param(Path(), marks=pytest.mark.skip(reason="nobody has sent answers of a real vCenter yet"))


def rules() -> dict[str, tuple[tuple[str, ...], bool]]:
    """Return the choices of each rule of the simulator, and whether it is an assumption, from the page of rules."""
    page = (ROOT / "docs/simulator.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| (`[^|]*`) \| ([^|]*) \|$", page, re.MULTILINE)
    return {name: (tuple(re.findall("`([^`]*)`", choices)), "assumption" in source) for name, choices, source in rows}


RULES = rules()
ASSUMPTIONS = {name for name, (_choices, is_assumed) in RULES.items() if is_assumed}


def contradictions(answers: list[dict[str, Any]], defaults: dict[str, str]) -> Iterator[str]:
    """Yield the answers of a vCenter that the simulator's defaults contradict."""
    for answer in answers:
        default = defaults.get(answer["rule"])
        if answer["state"] == ANSWERED and default is not None and answer["answer"] != default:
            yield f"{answer['rule']}: the vCenter has {answer['answer']}, the simulator {default}"


def test_each_assumption_has_a_question_or_a_reason() -> None:
    assert len(ASSUMPTIONS) > 80, "the page is read"
    without_source = {"driver_mac_after_fork", "reserved_macs", "computed_address_disabled", "vapp_values_checked"}
    assert without_source <= ASSUMPTIONS, "a source may also contain the word"
    assert set(catalog.BY_RULE) | set(catalog.NOT_ASKABLE) == ASSUMPTIONS
    assert not set(catalog.BY_RULE) & set(catalog.NOT_ASKABLE)
    assert len(catalog.BY_RULE) == len(catalog.QUESTIONS)


@pytest.mark.parametrize("question", catalog.QUESTIONS, ids=lambda question: question.rule)
def test_choices_are_those_of_the_simulator(question: Any) -> None:
    assert question.choices == RULES[question.rule][0]


@pytest.mark.parametrize("file", EVIDENCE or [NONE], ids=lambda file: file.name)
def test_simulator_agrees_with_a_real_vcenter(file: Path) -> None:
    recorded = json.loads(file.read_text(encoding="utf-8"))
    assert record.misfits(recorded) == []
    found = list(contradictions(recorded["answers"], {name: choices[0] for name, (choices, _is) in RULES.items()}))
    assert not found, "\n".join(found)


def test_contradiction_is_found_with_the_name_of_the_rule() -> None:
    answers = [
        {"rule": "enable_twice", "state": ANSWERED, "answer": "success"},
        {"rule": "disable_twice", "state": ANSWERED, "answer": "InvalidState"},
        {"rule": "chain_limit_text", "state": "not asked", "answer": ""},
    ]
    defaults = {"enable_twice": "InvalidState", "disable_twice": "InvalidState", "chain_limit_text": "shown"}
    assert list(contradictions(answers, defaults)) == [
        "enable_twice: the vCenter has success, the simulator InvalidState"
    ]


def test_only_answers_are_kept_here() -> None:
    """A salt would make the hashes of names useless."""
    files = {path.name for path in (ROOT / "tests/evidence").iterdir()}
    assert files == {"README.md", *(path.name for path in EVIDENCE)}
