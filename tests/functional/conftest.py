# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator for each test, with the flags its marker names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from functional.vapp import Estate, estate
from functional.vcenter import VCenter
from harness.simulator import Simulator


@pytest.fixture
def vcenter(request: pytest.FixtureRequest) -> Iterator[VCenter]:
    """A vCenter 6.5 with one host and two VMs; other flags come with @pytest.mark.flags(...)."""
    flags = ["-api-version", "6.5", "-vm", "2", "-host", "1", "-exit-after", "10m"]
    for marker in reversed(list(request.node.iter_markers("flags"))):  # those of the test override those of its file
        flags += marker.args
    with Simulator(*flags) as simulator:
        yield VCenter(simulator)


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


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker."""
    config.addinivalue_line("markers", "flags(*flags): further command-line flags of the simulator")
