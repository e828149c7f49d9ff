# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens at whichever request: a task ends with a sentence, and the next one brings about what was wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess

from faults.cases import Case
from faults.kinds import LOGINS, happen
from faults.stage import CREATE, QUIESCE, REMOVE, RENAMED, Stage, Step
from functional.vcenter import Result

ATTEMPTS = 2
"""How often a task is run until it makes the request."""
VARYING = ("ModifyListView", "WaitForUpdatesEx")
"""Requests whose number depends on the time that the server needs."""
REMOVAL = re.compile("state=absent|[Rr]emove (it|this child)")
"""What a task asks for if a child cannot be completed."""
NOT_REACHED = "not reached"
NOTHING_TO_ACT_ON = "nothing to act on"


def disturbed(stage: Stage, case: Case) -> tuple[Result, str]:
    """Run the step with the fault. Return the result, and "" or why the fault did not come to pass."""
    stage.bring_to(case.step.level)
    vcenter, kind = stage.vcenter, case.kind
    happened: list[bool] = []
    act = kind.act

    def meanwhile(process: BaseProcess) -> None:
        assert act is not None
        happened.append(happen(act, stage, process))

    vcenter.control("DELETE", "calls")
    vcenter.fault(method=case.request.removeprefix("mob:"), after=case.occurrence, **kind.fault)
    try:
        result = stage.checked(partial(stage.run, case.step, meanwhile=meanwhile if act is not None else None))
        injected = vcenter.control("GET", "faults")
    finally:
        vcenter.control("DELETE", "faults")
    stage.level = -1  # until it is known
    if happened == [False]:
        return result, NOTHING_TO_ACT_ON if injected else NOT_REACHED
    return result, "" if injected[0]["fired"] else NOT_REACHED


def rerun(stage: Stage, step: Step) -> str:
    """Run the step again, and do what it asks for, until it has brought about what is wanted; return what it took."""
    result = stage.checked(partial(stage.run, step))
    asked = result.msg + str(result.get("children"))
    if not result.get("failed"):
        return "converged"
    if f"VM {RENAMED}" in asked:  # it has the address of a child
        stage.destroy(stage.moid(RENAMED) or "")
        remedy = f"without {RENAMED}"
    else:  # a child has run its script with half of what it was to get: only the user may decide to lose it
        assert step is CREATE, result.msg
        assert REMOVAL.search(asked), result.msg
        result = stage.checked(partial(stage.run, REMOVE))
        assert not result.get("failed"), result.msg
        remedy = "after state=absent"
    result = stage.checked(partial(stage.run, step))
    assert not result.get("failed"), result.msg
    return f"converged {remedy}"


def test_fault(case: Case, stages: dict[str, Stage], record_property: Callable[[str, object], None]) -> None:
    record_property("case", (case.engine.name, case.kind.name))
    stage = stages[case.engine.name]
    for _attempt in range(ATTEMPTS):
        stage.touched.clear()
        result, why_not = disturbed(stage, case)
        if why_not != NOT_REACHED:
            break
    else:
        assert case.request in VARYING, f"{ATTEMPTS} tasks ended without this request"
    if case.kind.is_kill or (case.kind.loses_cookie and case.request in LOGINS):
        stage.end_sessions()
    assert stage.sessions() == [], "a session is left"
    if result and not result.get("failed") and not case.kind.act:
        stage.check_converged(case.step.wanted)  # no success without its effect
    first = "" if not result.get("failed") and result else "failed, " if result else "killed, "
    warned = any("secret_config_params" in warning for warning in stage.warnings(result))
    outcome = rerun(stage, case.step)
    stage.check_converged(case.step.wanted, warned)
    stage.level = case.step.level + 1
    if case.step.module == QUIESCE.module:  # its children show what is in the guest
        stage.bring_to(CREATE.level + 1)
        stage.check_converged(CREATE.wanted)
    record_property("outcome", why_not or first + outcome)
