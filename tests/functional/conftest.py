# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator for each test, with the flags its marker names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from functional.vapp import Estate, estate
from functional.vcenter import VCenter
from functional.ways import SOAP, Way
from harness.simulator import Simulator


@pytest.fixture
def way() -> Way:
    """How VMs are forked; each of those of @pytest.mark.ways(...) in turn, where a test has that mark."""
    return SOAP


@pytest.fixture
def vcenter(request: pytest.FixtureRequest, way: Way) -> Iterator[VCenter]:
    """A vCenter of that way, with one host and two VMs; other flags come with @pytest.mark.flags(...)."""
    flags = ["-api-version", way.api_version, "-vm", "2", "-host", "1", "-exit-after", "10m"]
    for marker in reversed(list(request.node.iter_markers("flags"))):  # those of the test override those of its file
        flags += marker.args
    with Simulator(*flags) as simulator:
        yield VCenter(simulator, way)


@pytest.fixture
def own(vcenter: VCenter) -> Iterator[Estate]:
    """The VMs with vApp options of a test that changes the whole simulator."""
    with estate(vcenter) as made:
        yield made


@pytest.fixture
def quiesced(vcenter: VCenter) -> VCenter:
    """The same, with a parent at its fork point."""
    vcenter.enable()
    vcenter.quiesce()
    return vcenter


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on the ways of its own mark, or else of its file's."""
    marker = metafunc.definition.get_closest_marker("ways")
    if marker is not None and "way" in metafunc.fixturenames:
        metafunc.parametrize("way", marker.args, ids=lambda way: way.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out a case on the ways that a mark of its own does not name."""

    def is_meant(item: pytest.Item) -> bool:
        case = getattr(item, "callspec", None)
        way = case.params.get("way") if case is not None else None
        marks = (mark for mark in item.own_markers if mark.name == "ways")
        return way is None or all(way in mark.args for mark in marks)

    items[:] = [item for item in items if is_meant(item)]
