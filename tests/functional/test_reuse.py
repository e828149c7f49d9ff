# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator is used by the next test only if the test before it has left everything as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from functional.engines import MOB
from functional.reuse import Pool
from functional.vcenter import VCenter


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Return a pool of this test's own."""
    made = Pool()
    yield made
    made.close()


def in_the_other_vm(vcenter: VCenter) -> None:
    vcenter.in_guest(vcenter.moid("/DC0/vm/DC0_H0_VM1"), "true")


CHANGES: list[Callable[[VCenter], Any]] = [
    lambda vcenter: vcenter.govc("vm.change", "-vm", vcenter.parent, "-e", "a=b"),
    lambda vcenter: vcenter.govc("vm.power", "-off", vcenter.parent),
    lambda vcenter: vcenter.govc("object.rename", "/DC0/vm/DC0_H0_VM1", "other"),
    lambda vcenter: vcenter.govc("snapshot.create", "-vm", "DC0_H0_VM1", "snapshot"),
    lambda vcenter: vcenter.govc("vm.destroy", "DC0_H0_VM1"),
    in_the_other_vm,
    lambda vcenter: vcenter.fault(method="PowerOnVM_Task", at="task", delay_ms=1),
    lambda vcenter: vcenter.control("DELETE", "sessions"),
    lambda vcenter: vcenter.simulator.stop(),
]


def test_simulator_is_used_again(pool: Pool) -> None:
    first = pool.get(MOB)
    first.control("POST", "inventory", {"folders": ["/DC0/vm/web"]})
    first.fork("web-01", "web-02", folder="/DC0/vm/web")
    first.rule("children_result_empty", "empty-list")
    first.fault(method="PowerOnVM_Task", at="call", fault="NoPermission", count=0)
    assert first.control("GET", "sessions") == []
    pool.put(first)
    second = pool.get(MOB)
    assert second.simulator is first.simulator
    assert (second.called(), second.control("GET", "faults")) == ({}, [])
    rules = {rule["name"]: rule["value"] for rule in second.control("GET", "rules")}
    assert (rules["children_result_empty"], rules["hidden_methods_over_soap"]) == ("unset", "unknown")
    assert not second.exists("/DC0/vm/web")
    assert second.fork("web-01")["summary"]["created"] == 1


@pytest.mark.parametrize("change", CHANGES)
def test_simulator_that_a_test_has_changed_is_not(pool: Pool, change: Callable[[VCenter], Any]) -> None:
    first = pool.get(MOB)
    change(first)
    pool.put(first)
    assert first.simulator.process.poll() is not None
    assert not pool.idle
