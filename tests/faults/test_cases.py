# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases follow from what was recorded, and a sample has some of everything."""

from __future__ import annotations

from itertools import chain

from faults.cases import ENGINES, Record, all_cases, requests, sample
from faults.kinds import KINDS
from faults.stage import STEPS

RECORDS: list[Record] = [
    (engine, step, request, count)
    for engine in ENGINES
    for step in ("quiesce", "create")
    for request, count in (("Login", 1), ("PowerOnVM_Task", 2), ("mob:CreateForkChild_Task", 2), ("GET /mob", 3))
]


def test_requests() -> None:
    counted = {"methods": {"Login": 1, "mob:Login": 2, "Logout": 1}, "http": {"GET /mob": 2}, "total": 6}
    assert requests(counted) == [("GET /mob", 2), ("Logout", 1), ("mob:Login", 3)]


def test_all_cases() -> None:
    names = [str(case) for case in all_cases(RECORDS, STEPS)]
    assert len(set(names)) == len(names)
    of_create = {name.removeprefix("soap-create-") for name in names if name.startswith("soap-create-")}
    assert {"Login-0-503", "PowerOnVM_Task-1-task_fails", "GET_/mob-2-garbage", "Login-0-absent_meanwhile"} <= of_create
    assert "mob:CreateForkChild_Task-1-session_expired" in of_create
    for impossible in ("Login-1-503", "Login-0-task_fails", "GET_/mob-0-busy", "mob:CreateForkChild_Task-0-empty"):
        assert impossible not in of_create
    assert not [name for name in names if "quiesce" in name and "meanwhile" in name]


def test_sample() -> None:
    cases = all_cases(RECORDS, STEPS)
    number = len(ENGINES) * (len(KINDS) + 8)
    taken = sample(cases, number, "1")
    assert len(taken) == number
    assert set(chain.from_iterable(case.topics for case in taken)) == set(
        chain.from_iterable(case.topics for case in cases)
    )
    assert taken == sample(cases, number, "1")
    assert taken != sample(cases, number, "2")
    assert sample(cases, len(cases) + 1, "1") == cases
