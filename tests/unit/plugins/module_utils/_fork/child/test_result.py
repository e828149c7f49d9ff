# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of a task."""

from __future__ import annotations

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result, State, timeline


def child(**seconds: float | None) -> Result:
    return Result("web", State.CREATED, timeline=seconds)


def test_timeline_without_children() -> None:
    assert timeline([]) == dict.fromkeys(("created", "powered_on", "post_clone", "ready"))


@pytest.mark.parametrize(
    ("count", "p50", "p95"), [(1, 1.0, 1.0), (2, 1.0, 2.0), (3, 2.0, 3.0), (20, 10.0, 19.0), (200, 100.0, 190.0)]
)
def test_percentiles_by_nearest_rank(count: int, p50: float, p95: float) -> None:
    results = [child(created=float(number)) for number in range(count, 0, -1)]
    assert timeline(results)["created"] == {"p50": p50, "p95": p95, "max": float(count)}


def test_children_that_did_not_reach_a_milestone_do_not_count() -> None:
    spread = timeline([child(created=1.0), child(created=None), child()])
    assert (spread["created"], spread["ready"]) == ({"p50": 1.0, "p95": 1.0, "max": 1.0}, None)


def test_each_child_has_every_milestone() -> None:
    assert child(created=1.5).as_dict()["timeline"] == {
        "created": 1.5,
        "powered_on": None,
        "post_clone": None,
        "ready": None,
    }
