# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases: each kind of fault at each request that a run without faults made, and a sample of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

from faults.kinds import KINDS, Kind
from faults.stage import Step, stage
from functional.engines import INSTANT_CLONE, MOB, SOAP, Engine

ENGINES = {engine.name: engine for engine in (INSTANT_CLONE, SOAP, MOB)}

Record = tuple[str, str, str, int]
"""Engine, step, request and the number of times that it was made."""


@dataclass(frozen=True, eq=False)
class Case:
    """A fault at one request.

    :ivar request: a method, with the prefix "mob:" if it was called through the MOB, or the method and path of HTTP.
    :ivar occurrence: the number of such requests before it in the step.
    """

    engine: Engine
    step: Step
    request: str
    occurrence: int
    kind: Kind

    def __str__(self) -> str:
        """Return its name in the list of tests."""
        words = (self.engine.name, self.step.name, self.request, self.occurrence, self.kind.name)
        return "-".join(str(word).replace(" ", "_") for word in words)

    @property
    def topics(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the kind on this engine, and the request in this step: a sample should have each of them."""
        engine = self.engine.name
        return (engine, self.kind.name), (engine, self.step.name, self.request)


def record(engine: Engine) -> list[Record]:
    """Run each step of the main job once without a fault, and return the requests that it made."""
    recorded = []
    with stage(engine) as it:
        for step in it.steps:
            it.bring_to(step.level)
            it.vcenter.control("DELETE", "calls")
            result = it.run(step)
            assert not result.get("failed"), result.msg
            it.level = step.level + 1
            counted = it.vcenter.control("GET", "calls")
            recorded += [(engine.name, step.name, *request) for request in requests(counted)]
    return recorded


def requests(counted: dict[str, Any]) -> list[tuple[str, int]]:
    """Return each request with its number, from the counters of the simulator.

    A method that is called both through the MOB and over SOAP counts as one that is called through the MOB.
    """
    methods = dict(counted["methods"])
    for name in [name for name in methods if name.startswith("mob:")]:
        methods[name] += methods.pop(name.removeprefix("mob:"), 0)
    return sorted({**methods, **counted["http"]}.items())


def record_all() -> list[Record]:
    """Record the main job on every engine."""
    with ThreadPoolExecutor() as pool:
        return list(chain.from_iterable(pool.map(record, ENGINES.values())))


def all_cases(records: Iterable[Record], steps: dict[str, Step]) -> list[Case]:
    """Return every kind of fault at every recorded request."""
    return [
        Case(ENGINES[engine], steps[step], request, occurrence, kind)
        for engine, step, request, count in records
        for occurrence in range(count)
        for kind in KINDS
        if kind.is_possible(step, request)
    ]


def sample(cases: list[Case], number: int, seed: str) -> list[Case]:
    """Return a number of cases in which, as far as possible, each engine meets each kind, and a fault each request."""
    shuffled = random.Random(seed).sample(cases, len(cases))
    taken: set[Case] = set()
    missing = set(chain.from_iterable(case.topics for case in cases))
    # First those that bring both a kind and a request, then those that bring a kind, then a request, then any.
    for needed in ((0, 1), (0,), (1,), ()):
        for case in shuffled:
            if len(taken) < number and case not in taken and all(case.topics[place] in missing for place in needed):
                taken.add(case)
                missing.difference_update(case.topics)
    return [case for case in cases if case in taken]
