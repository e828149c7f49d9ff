# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job with each of the simulator's assumptions reversed.

Nobody knows which way a real server has it. A module must then succeed, or
say what it cannot do; it must not hang, and not report a success that is not
there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from functional.vcenter import POST_CLONE, PRE_QUIESCE, VCenter
from harness.simulator import Simulator

FLAGS = ("-api-version", "6.5", "-vm", "2", "-host", "1", "-exit-after", "10m")
TIMEOUT = 20
SLOWEST = TIMEOUT + 20
"""Seconds a module may take at most; more is a hang."""

SECRET = {"token": "a-long-secret-token"}

COPY = "copy-of-web-01"
"""An ordinary clone of a child."""


@cache
def reversed_assumptions() -> list[tuple[str, Any]]:
    """Every assumption of the simulator, with each of its other values."""
    with Simulator(*FLAGS, "-guest", "none") as simulator:
        rules = VCenter(simulator).control("GET", "rules")
    return [
        (rule["name"], value)
        for rule in rules
        if "assumption" in rule["source"]
        for value in rule["choices"]
        if value != rule["default"]
    ]


@pytest.fixture
def vcenter() -> Iterator[VCenter]:
    with Simulator(*FLAGS) as simulator:
        yield VCenter(simulator)


def timed(vcenter: VCenter, module: str, **given: Any) -> Any:
    began = time.monotonic()
    result = vcenter.run(module, timeout=TIMEOUT, **given)
    assert time.monotonic() - began < SLOWEST, f"{module} hung"
    assert "was not written for" not in result.msg, result.get("exception")
    return result


@pytest.mark.parametrize(("rule", "value"), reversed_assumptions())
def test_main_job(vcenter: VCenter, rule: str, value: Any) -> None:
    vcenter.rule(rule, value)
    way = {"call_via": "mob"} if rule.startswith("mob_") else {}
    parent = {"name": vcenter.parent, **way}
    scripts = {**vcenter.guest_login, "pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE}
    names = ["web-01", "web-02"]
    children = {
        **way,
        "parent_name": vcenter.parent,
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
        ("vmfork_child", children),
        ("vmfork_child", children),
    ):
        result = timed(vcenter, module, **given)
        assert not result.get("failed"), result.msg
        done.append(result["changed"])
    assert done == [True, False] * 3
    for child in result["children"]:
        assert_ready(vcenter, child)
    vcenter.govc("vm.clone", "-vm", names[0], "-on=false", "-host", "DC0_H0", COPY)
    vcenter.govc("vm.power", "-off", names[0])
    again = timed(vcenter, "vmfork_child", **children)
    if (rule, value) == ("nonpersistent_power_on_again", "InvalidState"):
        assert "Could not power on child web-01" in again.msg
        assert "Remove it and make it anew." in again.msg
    else:
        assert not again.get("failed"), again.msg
        assert again["changed"]
        for child in again["children"]:
            assert_ready(vcenter, child)
    of_a_child = timed(vcenter, "vmfork_parent", **{**parent, "name": names[1]})
    if (rule, value) == ("child_as_parent", "allowed"):
        assert of_a_child["changed"], of_a_child.msg
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
    assert (ended["parent"]["enabled"], ended["parent"]["quiesced"]) == (False, False)
    calls = vcenter.control("GET", "calls")["methods"]
    through_the_mob = bool(way) or (rule, value) == ("hidden_methods_over_soap", "unknown")
    assert ("mob:CreateForkChild_Task" in calls) == through_the_mob


def assert_ready(vcenter: VCenter, child: dict[str, Any]) -> None:
    """What is reported of a child is true in its guest."""
    seen = vcenter.in_guest(child["moid"], "hostname; cat /root/pre-quiesce-ran; ls /tmp")
    assert seen.split() == [child["name"], "once"]
    assert child["post_clone"]["exit_code"] == 0
    assert "a-long-secret-token" not in str(vcenter.guest(child["moid"])["guestinfo"])
