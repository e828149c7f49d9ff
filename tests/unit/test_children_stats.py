# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the jobs that fork and remove pass on to the next jobs of an AWX workflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.templates import evaluate, result_of_a_module

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
(TASK,) = yaml.safe_load((PLAYBOOKS / "tasks" / "children_stats.yml").read_text(encoding="utf-8"))
SECRET = "a-secret-of-the-child"


def child(number: int, **other: Any) -> dict[str, Any]:
    """Return a child as vmfork_child does, with more in it than a workflow needs."""
    about = {"name": f"web-{number:04d}", "moid": f"vm-{1000 + number}", "state": "created", "error": None}
    more = {
        "ip_addresses": [f"192.0.2.{number % 250}"],
        "config_params": {"token": SECRET},
        "post_clone": {"output": SECRET},
    }
    return {**about, **more, **other}


def passed(children: list[dict[str, Any]]) -> Any:
    """Return the value of the statistic for these results."""
    summary = {"created": len(children), "failed": 0, "seconds": 2.5, "timeline": {"ready": None}}
    result = {"parent": {"name": "golden"}, "children": children, "summary": summary}
    (template,) = TASK["ansible.builtin.set_stats"]["data"].values()
    return evaluate(template, {**TASK["vars"], "vmfork_result": result_of_a_module(result)})


def test_children_and_addresses() -> None:
    got = passed([child(1), child(2, ip_addresses=[]), child(3, error="It failed.", state="failed")])
    assert got == {
        "parent": "golden",
        "counts": {"created": 3, "failed": 0},
        "children": [
            {"name": "web-0001", "moid": "vm-1001", "state": "created", "address": "192.0.2.1"},
            {"name": "web-0002", "moid": "vm-1002", "state": "created", "address": None},
        ],
        "failed": [{"name": "web-0003", "moid": "vm-1003", "state": "failed", "address": "192.0.2.3"}],
    }


@pytest.mark.parametrize(("count", "is_listed"), [(50, True), (800, True), (2000, False)])
def test_it_is_small_and_has_no_secrets(count: int, is_listed: bool) -> None:
    got = passed([child(number) for number in range(count)])
    text = json.dumps(got)
    assert SECRET not in text
    assert len(text) < 100_000
    assert len(got["children"]) == (count if is_listed else 0)
    assert got["counts"]["created"] == count
    if count == 50:
        assert len(text) < 6000


def test_names_are_no_templates() -> None:
    assert passed([child(1, name="{{ 7 * 7 }}")])["children"][0]["name"] == "{{ 7 * 7 }}"


@pytest.mark.parametrize(("playbook", "stat"), [("fork", "vmfork_forked"), ("remove_children", "vmfork_removed")])
def test_playbooks_pass_it_on_after_failures_too(playbook: str, stat: str) -> None:
    (play,) = yaml.safe_load((PLAYBOOKS / f"{playbook}.yml").read_text(encoding="utf-8"))
    (block,) = play["tasks"]
    assert block["always"][-1]["ansible.builtin.import_tasks"] == "tasks/children_stats.yml"
    assert block["always"][-1]["vars"] == {"__vmfork_stat": stat}
    assert TASK["when"] == "vmfork_result is defined and not ansible_check_mode"
