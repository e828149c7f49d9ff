# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which the role takes children and networks from playbooks, the command line and surveys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.templates import evaluate

ROLE = yaml.safe_load((Path(__file__).parents[2] / "roles/vmfork/vars/main.yml").read_text(encoding="utf-8"))
NETWORK = {"mac_address": "impossible"}
CHILD = {"name": "one", "networks": [NETWORK]}


def option(name: str, **variables: Any) -> Any:
    """Return the value that the role passes to a module, with these variables of the user."""
    return evaluate("{{ " + name + " }}", {**ROLE, **variables})


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"vmfork_children": ["one"]}, ["one"]),
        ({"vmfork_children": "one"}, ["one"]),
        ({"vmfork_children": "one,two"}, ["one", "two"]),
        ({"vmfork_children": " one , two words ,, "}, ["one", "two words"]),
        ({"vmfork_children": "one\r\ntwo\r\n"}, ["one", "two"]),
        ({"vmfork_children": '["one, or so", {"name": "two"}]'}, ["one, or so", "two"]),
        ({"vmfork_children": []}, []),
        ({"vmfork_child_count": 2}, ["web-01", "web-02"]),
        ({"vmfork_child_count": "2", "vmfork_child_name": "%d of two"}, ["1 of two", "2 of two"]),
        ({"vmfork_child_count": 0}, []),
        ({"vmfork_child_count": "2", "vmfork_children": "", "vmfork_child_name": ""}, ["web-01", "web-02"]),
    ],
)
def test_children(variables: dict[str, Any], names: list[str]) -> None:
    assert [child["name"] for child in option("__vmfork_children", **variables)] == names


def test_addresses() -> None:
    children = option("__vmfork_children", vmfork_child_count="2", vmfork_first_address="192.0.2.255")
    assert [child["config_params"]["ipaddress"] for child in children] == ["192.0.2.255", "192.0.3.0"]


@pytest.mark.parametrize("given", [[NETWORK], json.dumps([NETWORK])])
def test_networks(given: Any) -> None:
    assert option("__vmfork_networks", vmfork_networks=given) == [NETWORK]


@pytest.mark.parametrize("given", [[CHILD], json.dumps([CHILD])])
def test_networks_of_a_child(given: Any) -> None:
    assert option("__vmfork_children", vmfork_children=given) == [CHILD]


@pytest.mark.parametrize("given", ["", None, True, "true", "Yes", "on", "1", 1])
def test_preflight_is_made(given: Any) -> None:
    """An unanswered question of a survey leaves the default."""
    assert option("__vmfork_preflight", vmfork_preflight=given) is True


@pytest.mark.parametrize("given", [False, "false", "No", "off", "0", 0])
def test_preflight_is_skipped(given: Any) -> None:
    assert option("__vmfork_preflight", vmfork_preflight=given) is False
