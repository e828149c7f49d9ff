# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline and the output of children."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, output_mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result, State, timeline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import Child, Goal


def child(**seconds: float | None) -> Result:
    return Result("web", State.CREATED, timeline=seconds)


def output(text: str, error: str | None = None, whole: bool = False) -> str:
    """Return the output in the result of a child whose script has printed a text."""
    spec = ChildSpec("web", secret_config_params={"token": "s3cret\nvalue"})
    engine: Any = None
    report = f"n0 0 {base64.b64encode(text.encode()).decode()}"
    values = {"config.extraConfig": [vim.option.OptionValue(key=guestinfo.POST_CLONE, value=report)]}
    made = Child(spec, Goal("post_clone", {}, engine), nonce="n0", values=values)
    shown = Result("web", State.CREATED, child=made, error=error).as_dict(whole)["post_clone"]["output"]
    assert isinstance(shown, str)
    return shown


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("", ""),
        ("\n\n", ""),
        ("ready", "ready"),
        ("one\ntwo\n", "two"),
        ("one\r\ntwo\r\n \n", "two"),
        ("one\ns3cret\nvalue\n", output_mask.MASK),
    ],
)
def test_output_of_a_successful_child_is_its_last_line(text: str, last: str) -> None:
    assert output(text) == last
    whole = text.replace("s3cret\nvalue", output_mask.MASK)
    assert output(text, whole=True) == output(text, error="It has no address.") == whole


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
