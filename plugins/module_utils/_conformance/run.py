# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the questions one after the other, and restore the VM.

Private to the collection.
"""

from __future__ import annotations

import time
import traceback
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import catalog
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import (
    ANSWERED,
    FAILED,
    NOT_ASKED,
    OTHER,
    REASONS,
    Answer,
    NotAsked,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import Lab
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

EFFECTS = (
    "settings of the VM in extraConfig are changed",
    "the VM is powered off and on, suspended and resumed, several times",
    "the VM is brought to its fork point, if a guest login is given or vCenter has the VMFork methods",
    "children of the VM are created and removed",
    "vApp options are added to the VM and removed, if it has none",
)
"""What a run does to the VM."""


def plan(lab: Lab, selected: t.Collection[str] | None) -> list[Answer]:
    """Return for each assumption whether it would be asked about: the state is empty if it would.

    :param selected: the rules to ask about; ``None``: all.
    """
    planned = []
    for question in catalog.QUESTIONS:
        reason = _obstacle(lab, question, selected)
        state = "" if reason is None else NOT_ASKED
        planned.append(Answer(question.rule, state, question.choices[0], reason=reason or ""))
    return planned + [Answer(rule, NOT_ASKED, "", reason=reason) for rule, reason in catalog.NOT_ASKABLE.items()]


def _obstacle(lab: Lab, question: Question, selected: t.Collection[str] | None) -> str | None:
    """Return why a question is not asked; ``None``: it is."""
    if selected is not None and question.rule not in selected:
        return REASONS["selected"]
    if question.engine not in (None, lab.engine_name):
        return REASONS["engine"]
    if question.needs_guest and lab.login is None:
        return REASONS["guest"]
    return None


def run(lab: Lab, selected: t.Collection[str] | None) -> list[Answer]:
    """Ask, and return what is known about each assumption. The VM is restored in any case.

    :raises _errors.Refused: the VM is not one that may be used.
    :raises _errors.Error: the VM could not be restored.
    """
    answers = plan(lab, selected)
    lab.begin()
    began = time.monotonic()
    try:
        for answer in answers:
            if not answer.state:
                ask(lab, catalog.BY_RULE[answer.rule], answer, began)
    finally:
        lab.restore()
    return answers


def ask(lab: Lab, question: Question, answer: Answer, began: float) -> None:
    """Ask one question and note its answer."""
    start = time.monotonic()
    lab.faults.clear()
    lab.session.progress.show(f"asking about {question.rule}")
    try:
        if lab.deadline.passed:
            raise NotAsked("time")
        answer.choice = known(question, question.ask(lab))
        answer.state = ANSWERED
    except NotAsked as obstacle:
        answer.state, answer.reason = NOT_ASKED, REASONS[str(obstacle)]
    except _errors.Error as error:
        answer.state = FAILED
        lab.warn(f"{question.rule}: {error.sentence}")
    except Exception as error:  # noqa: BLE001 - the other questions are still worth asking
        answer.state = FAILED
        where = traceback.extract_tb(error.__traceback__)[-1]
        lab.warn(
            f"{question.rule}: Unexpected error ({type(error).__name__} in line {where.lineno} of "
            f"{where.name}). Please report it."
        )
    try:
        lab.remove_children()
    except _errors.Error as error:  # the next question tries again, and so does the next run
        lab.warn(error.sentence)
    answer.faults = tuple(lab.faults)
    answer.at, answer.seconds = round(start - began, 2), round(time.monotonic() - start, 2)


def known(question: Question, found: str) -> str:
    """Return an answer if it is a choice of the question or a fault of vSphere, and :data:`OTHER` if not."""
    return found if found in question.choices or is_fault(found) else OTHER


def is_fault(name: str) -> bool:
    """Return whether vSphere has a fault of this name."""
    return any(
        isinstance(getattr(package, name, None), type) and issubclass(getattr(package, name), vmodl.MethodFault)
        for package in (vim.fault, vmodl.fault, vmodl)
        if name
    )
