# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A question to a vCenter that takes a minute with its rule reversed. The others are in tests/functional."""

from __future__ import annotations

from functional.engines import INSTANT_CLONE
from functional.test_conformance import HANGS, bench_of

from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import catalog, run
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import Answer


def test_guest_operation_that_hangs_is_found() -> None:
    warnings: list[str] = []
    rule, value = HANGS
    with bench_of(INSTANT_CLONE, warnings) as (vcenter, bench):
        vcenter.rule(rule, value)
        question = catalog.BY_RULE[rule]
        answer = Answer(rule, "", question.choices[0])
        run.ask(bench, question, answer, 0.0)
    assert answer.choice == value, warnings
