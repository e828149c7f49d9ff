# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that the role refuses before a login: the assertions of its task files, evaluated as in a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.templates import evaluate

ROLE = Path(__file__).parents[2] / "roles/vmfork"
VARIABLES = {
    **yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8")),
    **yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8")),
}


def assertions(file: str) -> Iterator[dict[str, Any]]:
    """Yield the tasks that assert something, in the order of a run."""
    for task in yaml.safe_load((ROLE / "tasks" / file).read_text(encoding="utf-8")):
        if "ansible.builtin.import_tasks" in task and task["ansible.builtin.import_tasks"] == "names.yml":
            yield from assertions("names.yml")
        elif "ansible.builtin.assert" in task:
            yield task


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def refusal(**variables: Any) -> str | None:
    """Return the message of the first assertion that fails for one host with these variables of the user."""
    given = {**VARIABLES, **variables}
    for task in assertions("check.yml"):
        if not evaluate("{{ " + task.get("when", "true") + " }}", given):
            continue
        for item in evaluate(task["loop"], given) if "loop" in task else [None]:
            known = given | ({task["loop_control"]["loop_var"]: item} if "loop" in task else {})
            claims = as_list(task["ansible.builtin.assert"]["that"])
            if not all(evaluate("{{ " + claim + " }}", known) for claim in claims):
                return str(evaluate(task["ansible.builtin.assert"]["fail_msg"], known))
    return None


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "Set exactly one of vmfork_children and vmfork_child_count."),
        (
            {"vmfork_children": ["one"], "vmfork_child_count": 2},
            "Set exactly one of vmfork_children and vmfork_child_count.",
        ),
        (
            {"vmfork_child_count": 2, "vmfork_child_name": "web"},
            "vmfork_child_name is web, and must contain exactly one format for the number",
        ),
        (
            {"vmfork_child_count": 2, "vmfork_child_name": "%d-%d"},
            "vmfork_child_name is %d-%d, and must contain exactly one format for the number",
        ),
        ({"vmfork_child_count": -1}, "vmfork_child_count is -1. Give an integer."),
        ({"vmfork_child_count": "two"}, "vmfork_child_count is two. Give an integer."),
        ({"vmfork_children": {"name": "one"}}, "vmfork_children is not a list of names or dictionaries"),
        ({"vmfork_children": '{"name": "one"}'}, "vmfork_children is not a list of names or dictionaries"),
        ({"vmfork_children": [["one"]]}, "vmfork_children is not a list of names or dictionaries"),
        (
            {"vmfork_child_count": 2, "vmfork_first_address": "192.0.2.256"},
            "vmfork_first_address is 192.0.2.256. It must be an IPv4 address",
        ),
        (
            {"vmfork_child_count": 2, "vmfork_first_address": "2001:db8::1"},
            "vmfork_first_address is 2001:db8::1. It must be an IPv4 address",
        ),
        ({"vmfork_children": ["one"], "vmfork_first_address": "192.0.2.1"}, "and requires vmfork_child_count"),
        (
            {"vmfork_children": ["one"], "vmfork_post_clone_script_file": "/nowhere/post_clone.sh"},
            "The script file /nowhere/post_clone.sh does not exist, cannot be read, or is empty",
        ),
        ({"vmfork_children": ["one"], "vmfork_identity": {"item": ["clock"]}}, "the keys items, network and agents"),
    ],
)
def test_refusal(variables: dict[str, Any], sentence: str) -> None:
    message = refusal(**variables)
    assert message is not None
    assert sentence in message


@pytest.mark.parametrize(
    "variables",
    [
        {"vmfork_children": ["one"]},
        {"vmfork_child_count": "2", "vmfork_first_address": "192.0.2.255"},
        {"vmfork_children": ["one"], "vmfork_post_clone_script_file": __file__},
    ],
)
def test_other_requests_pass(variables: dict[str, Any]) -> None:
    assert refusal(**variables) is None
