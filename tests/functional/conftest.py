# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator for each test, with the flags its marker names; tests of children share one that they leave as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from functional.engines import SOAP, Engine
from functional.reuse import Pool, QuiescedVCenter
from functional.vapp import Estate, estate
from functional.vcenter import VCenter
from harness.simulator import Simulator

ALONE = ("-host", "0", "-vm", "1")
"""Flags of the simulator of a test that does not name others: the guest of each VM takes time to start."""


@pytest.fixture
def engine() -> Engine:
    """Return the engine; ``@pytest.mark.engines(...)`` runs a test once for each engine that it names."""
    return SOAP


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Keep simulators for further tests of this process."""
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def vcenter(request: pytest.FixtureRequest, engine: Engine, pool: Pool) -> Iterator[VCenter]:
    """Start a vCenter for this engine with one host and one VM; ``@pytest.mark.flags(...)`` adds flags."""
    markers = reversed(list(request.node.iter_markers("flags")))  # flags of the test override those of its file
    flags = [flag for marker in markers for flag in marker.args]
    if "quiesced" in request.fixturenames and not flags:
        reused = pool.get(engine)
        yield reused
        pool.put(reused)
        return
    with Simulator("-api-version", engine.api_version, *ALONE, "-exit-after", "10m", *flags) as simulator:
        yield VCenter(simulator, engine)


@pytest.fixture
def own(vcenter: VCenter) -> Iterator[Estate]:
    """Connect to the VMs of a simulator that this test has to itself."""
    with estate(vcenter) as made:
        yield made


@pytest.fixture
def quiesced(vcenter: VCenter) -> VCenter:
    """Bring the default parent to its fork point; see :mod:`functional.reuse`."""
    if not isinstance(vcenter, QuiescedVCenter):
        vcenter.enable()
        vcenter.quiesce()
    return vcenter


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on the engines of its own mark, or else on those of its file's mark."""
    marker = metafunc.definition.get_closest_marker("engines")
    if marker is not None and "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", marker.args, ids=lambda engine: engine.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop the cases whose engine a test's own mark does not name."""

    def is_meant(item: pytest.Item) -> bool:
        case = getattr(item, "callspec", None)
        engine = case.params.get("engine") if case is not None else None
        marks = (mark for mark in item.own_markers if mark.name == "engines")
        return engine is None or all(engine in mark.args for mark in marks)

    items[:] = [item for item in items if is_meant(item)]
