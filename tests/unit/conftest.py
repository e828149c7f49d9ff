# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the property tests (the same examples in every run, without a time limit), and a vCenter in memory.

Ansible finds the collection's plugins, so that templates can use its filters.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from unit import templates
from unit.examples import examples

templates.find_plugins()

from unit.fake_vcenter import FakeVCenter  # noqa: E402 - it imports the collection

settings.register_profile(
    "steady", examples(100), derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture
def vcenter() -> FakeVCenter:
    """Return a vCenter in memory with a datacenter, a VM folder and a host."""
    return FakeVCenter()
