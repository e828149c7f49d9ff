# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job with each of the simulator's assumptions reversed.

Nobody knows which way a real server has it. A module must then succeed, or
say what it cannot do; it must not hang, and not report a success that is not
there.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest
from functional.vcenter import POST_CLONE, PRE_QUIESCE, VCenter
from functional.ways import Way
from harness.simulator import Simulator
from sweep.topics import ways

FLAGS = ("-vm", "2", "-host", "1", "-exit-after", "10m")
TIMEOUT = 20
SLOWEST = TIMEOUT + 20
"""Seconds a module may take at most; more is a hang."""

SECRET = {"token": "a-long-secret-token"}

COPY = "copy-of-web-01"
"""An ordinary clone of a child."""


@cache
def reversed_assumptions() -> list[Any]:
    """Every assumption of the simulator that has to do with forks, with each of its other values, on its ways."""
    with Simulator(*FLAGS, "-guest", "none") as simulator:
        rules = VCenter(simulator).control("GET", "rules")
    return [
        pytest.param(way, rule["name"], value, id=f"{way.name}-{rule['name']}-{value}")
        for rule in rules
        if "assumption" in rule["source"]
        for way in ways(rule["name"])
        for value in rule["choices"]
        if value != rule["default"]
    ]


def timed(vcenter: VCenter, module: str, **given: Any) -> Any:
    began = time.monotonic()
    result = vcenter.run(module, timeout=TIMEOUT, **given)
    assert time.monotonic() - began < SLOWEST, f"{module} hung"
    assert "Unexpected error" not in result.msg, result.get("exception")
    return result


@pytest.mark.parametrize(("way", "rule", "value"), reversed_assumptions())
def test_main_job(way: Way, rule: str, value: Any) -> None:
    with Simulator(*FLAGS, "-api-version", way.api_version) as simulator:
        vcenter = VCenter(simulator, way)
        vcenter.rule(rule, value)
        main_job(vcenter, rule, value)


def main_job(vcenter: VCenter, rule: str, value: Any) -> None:
    way = vcenter.way
    parent = {"name": vcenter.parent}
    scripts = {**vcenter.guest_login, "pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE}
    names = ["web-01", "web-02"]
    children = {
        "parent_name": vcenter.parent,
        "address_timeout": 10,  # some rules have VMware Tools report late
        "children": [
            {"name": name, "config_params": {"ipaddress": f"192.0.2.{11 + number}"}, "secret_config_params": SECRET}
            for number, name in enumerate(names)
        ],
    }
    done = []
    for module, given in (
        ("vmfork_parent", parent),
        ("vmfork_parent", parent),
        ("vmfork_quiesce", {**parent, **scripts}),
        ("vmfork_quiesce", {**parent, **scripts}),
        ("vmfork_child", {**children, "check": True}),
        ("vmfork_child", children),
        ("vmfork_child", children),
    ):
        result = timed(vcenter, module, **given)
        assert not result.get("failed"), result.msg
        done.append(result["changed"])
    assert done == [way.enabled is not None, False, True, False, True, True, False]
    for child in result["children"]:
        assert_ready(vcenter, child)
    vcenter.govc("vm.clone", "-vm", names[0], "-on=false", "-host", "DC0_H0", COPY)
    vcenter.govc("vm.power", "-off", names[0])
    again = timed(vcenter, "vmfork_child", **children)
    if (rule, value) == ("nonpersistent_power_on_again", "InvalidState"):
        assert "Could not power on child web-01" in again.msg
        assert "Remove it and create it again." in again.msg
    else:
        assert not again.get("failed"), again.msg
        assert again["changed"]
        for child in again["children"]:
            if not (way.born_running and child["name"] == names[0]):  # it has booted, and its host name is not kept
                assert_ready(vcenter, child)
    of_a_child = timed(vcenter, "vmfork_parent", name=names[1])
    if (rule, value) == ("child_as_parent", "allowed") or way.enabled is None:
        assert of_a_child["changed"] is bool(way.enabled), of_a_child.msg
    else:
        assert "Could not make VM web-02 a fork parent" in of_a_child.msg
    listed = timed(vcenter, "vmfork_info", **parent)
    assert [one["name"] for one in listed["parents"][0]["children"]] == names
    absent = {**children, "state": "absent"}
    removed, again = timed(vcenter, "vmfork_child", **absent), timed(vcenter, "vmfork_child", **absent)
    assert [one["state"] for one in removed["children"]] == ["removed", "removed"], removed.msg
    assert (removed["changed"], again["changed"]) == (True, False)
    assert not any(vcenter.exists(f"/DC0/vm/{name}") for name in names)
    assert vcenter.exists(f"/DC0/vm/{COPY}"), "an ordinary clone of a child is none of ours"
    ended = timed(vcenter, "vmfork_parent", **parent, state="disabled", power_off=True)
    assert not ended.get("failed"), ended.msg
    assert (ended["parent"]["enabled"], ended["parent"]["quiesced"]) == (way.enabled and False, False)
    through_the_mob = "call_via" in way.options or (rule, value) == ("hidden_methods_over_soap", "unknown")
    assert ("mob:CreateForkChild_Task" in vcenter.control("GET", "calls")["methods"]) == through_the_mob


def assert_ready(vcenter: VCenter, child: dict[str, Any]) -> None:
    """What is reported of a child is true in its guest."""
    seen = vcenter.in_guest(child["moid"], "hostname; cat /root/pre-quiesce-ran; ls /tmp")
    assert seen.split() == [child["name"], "once"]
    assert child["post_clone"]["exit_code"] == 0
    assert "a-long-secret-token" not in str(vcenter.guest(child["moid"])["guestinfo"])
