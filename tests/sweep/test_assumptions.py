# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job with each of the simulator's assumptions reversed.

It is not known how a real server behaves. A module must then succeed or report what it cannot do; it must not
hang, and it must not report a wrong success.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from functional.engines import INSTANT_CLONE, Engine
from functional.vapp import estate
from functional.vcenter import POST_CLONE, PRE_QUIESCE, VCenter
from harness.simulator import Simulator
from sweep import topics

FLAGS = ("-vm", "2", "-host", "1", "-exit-after", "10m")
TIMEOUT = 60
SLOWEST = TIMEOUT + 20
"""Seconds a module may take at most; more is a hang."""

SECRET = {"token": "a-long-secret-token"}

COPY = "copy-of-web-01"
"""An ordinary clone of a child."""


def name_of(engine: Engine, settings: dict[str, str]) -> str:
    """Return the ID of a case."""
    (rule, value), *others = settings.items()
    return f"{engine.name}-{rule}-{value}" + (f"-and-{len(others)}-others" if others else "")


def networks_for(engine: Engine, settings: dict[str, str], number: int) -> dict[str, Any]:
    """Return the option to which rules about networks apply: an opaque network, or a free MAC address."""
    if "opaque_network_backing" in settings:
        return {"networks": [{"network": "DC0_NSX0"}]}
    if engine is INSTANT_CLONE and number and not settings.keys().isdisjoint({"mac_conflict", "reserved_macs"}):
        return {"networks": [{"mac_address": "00:50:56:01:02:03"}]}
    return {}


def timed(vcenter: VCenter, module: str, **given: Any) -> Any:
    began = time.monotonic()
    result = vcenter.run(module, timeout=TIMEOUT, **given)
    assert time.monotonic() - began < SLOWEST, f"{module} hung"
    assert "Unexpected error" not in result.msg, result.get("exception")
    return result


@pytest.mark.parametrize(
    ("engine", "settings"), [pytest.param(*case, id=name_of(*case)) for case in topics.main_jobs()]
)
def test_main_job(engine: Engine, settings: dict[str, str]) -> None:
    """Run the main job; if it fails, name the settings with which it also fails alone."""
    try:
        run_main_job(engine, settings)
    except Exception as error:
        causes = [rule for rule, value in settings.items() if len(settings) > 1 and is_failing(engine, {rule: value})]
        raise AssertionError(f"fails with {' and with '.join(causes) or settings}: {error}") from error


def is_failing(engine: Engine, settings: dict[str, str]) -> bool:
    try:
        run_main_job(engine, settings)
    except Exception:  # noqa: BLE001 - a module that prints nothing, for example
        return True
    return False


def run_main_job(engine: Engine, settings: dict[str, str]) -> None:
    with Simulator(*FLAGS, "-opaque-networks", "1", "-api-version", engine.api_version) as simulator:
        vcenter = VCenter(simulator, engine)
        for rule, value in settings.items():
            vcenter.rule(rule, value)
        if "child_of_vapp_member" in settings:
            with estate(vcenter) as place:
                vcenter.parent = place.in_vapp("shop", "shop-web").name
        main_job(vcenter, settings)


def main_job(vcenter: VCenter, settings: dict[str, str]) -> None:
    engine = vcenter.engine
    parent = {"name": vcenter.parent}
    scripts = {**vcenter.guest_login, "pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE}
    names = ["web-01", "web-02"]
    children = {
        "parent_name": vcenter.parent,
        "address_timeout": 10,  # some rules have VMware Tools report late
        "children": [
            {
                "name": name,
                "config_params": {"ipaddress": f"192.0.2.{11 + number}"},
                "secret_config_params": SECRET,
                **networks_for(engine, settings, number),
            }
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
    assert done == [engine.enabled is not None, False, True, False, True, True, False]
    for child in result["children"]:
        assert_ready(vcenter, child)
    vcenter.govc("vm.clone", "-vm", names[0], "-on=false", "-host", "DC0_H0", COPY)
    vcenter.govc("vm.power", "-off", names[0])
    again = timed(vcenter, "vmfork_child", **children)
    if settings.get("nonpersistent_power_on_again") == "InvalidState":
        assert "Could not power on child web-01" in again.msg
        assert "Remove it and create it again." in again.msg
    else:
        assert not again.get("failed"), again.msg
        assert again["changed"]
        for child in again["children"]:
            if not (engine.starts_running and child["name"] == names[0]):  # a reboot resets its host name
                assert_ready(vcenter, child)
    child_as_parent = timed(vcenter, "vmfork_parent", name=names[1])
    if settings.get("child_as_parent") == "allowed" or engine.enabled is None:
        assert child_as_parent["changed"] is bool(engine.enabled), child_as_parent.msg
    else:
        assert "Could not make VM web-02 a fork parent" in child_as_parent.msg
    listed = timed(vcenter, "vmfork_info", **parent)
    assert not listed.get("failed"), listed.msg
    assert [child["name"] for child in listed["parents"][0]["children"]] == names
    absent = {**children, "state": "absent"}
    removed, again = timed(vcenter, "vmfork_child", **absent), timed(vcenter, "vmfork_child", **absent)
    assert not removed.get("failed"), removed.msg
    assert [child["state"] for child in removed["children"]] == ["removed", "removed"]
    assert (removed["changed"], again["changed"]) == (True, False)
    assert not any(vcenter.exists(f"/DC0/vm/{name}") for name in names)
    assert vcenter.exists(f"/DC0/vm/{COPY}"), "an ordinary clone of a child is not one of our children"
    ended = timed(vcenter, "vmfork_parent", **parent, state="disabled", power_off=True)
    assert not ended.get("failed"), ended.msg
    assert (ended["parent"]["enabled"], ended["parent"]["quiesced"]) == (engine.enabled and False, False)
    through_the_mob = "call_via" in engine.options or "hidden_methods_over_soap" in settings
    assert ("mob:CreateForkChild_Task" in vcenter.control("GET", "calls")["methods"]) == through_the_mob


@pytest.mark.parametrize("version", ["6.5", "8.0.3.0"])
def test_methods_that_are_not_available(version: str) -> None:
    """Fail with a sentence, and change nothing."""
    with (
        Simulator(*FLAGS, "-guest", "none", "-api-version", version, "-hidden-methods", "on") as with_methods,
        Simulator(*FLAGS, "-guest", "none", "-api-version", version, "-hidden-methods", "off") as without,
    ):
        for rule, value in topics.refusals():
            is_unknown = rule == "unknown_method_fault"
            vcenter = VCenter(without if is_unknown else with_methods)
            vcenter.control("DELETE", "rules")
            vcenter.rule(rule, value)
            for call_via in ("auto", "soap", "mob") if is_unknown else ("mob",):
                refused = timed(vcenter, "vmfork_parent", name=vcenter.parent, api="vmfork", call_via=call_via)
                assert (refused.get("failed"), refused["changed"]) == (True, False), (rule, value, call_via)
                message = "does not have the method" if is_unknown else "The Managed Object Browser of 127.0.0.1 "
                assert message in refused.msg, (rule, value, call_via)


def test_server_that_refuses_versions_newer_than_its_own() -> None:
    with Simulator(*FLAGS, "-guest", "none", "-api-version", "6.5") as simulator:
        vcenter = VCenter(simulator)
        vcenter.rule(topics.OTHER_CLIENTS_RULE, "refused")
        assert timed(vcenter, "vmfork_parent", name=vcenter.parent)["parent"]["enabled"]
        assert len(timed(vcenter, "vmfork_info")["parents"]) == 1


def test_every_value_of_every_switch_is_run() -> None:
    main = {(rule, value) for _engine, settings in topics.main_jobs() for rule, value in settings.items()}
    ovf = {
        switch
        for names in (topics.OVF_RULES, topics.CLONE_AND_OVF_RULES, topics.FORK_AND_OVF_RULES, topics.WRITE_RULES)
        for switch in topics.turned(names)
    }
    every = {(rule["name"], value) for rule in topics.rules() for value in topics.other_values(rule)}
    others = {*topics.refusals(), (topics.OTHER_CLIENTS_RULE, "refused")}
    assert every - main - ovf - others == set()


def assert_ready(vcenter: VCenter, child: dict[str, Any]) -> None:
    """Assert that what the module reports about a child is true in its guest."""
    seen = vcenter.in_guest(child["moid"], "hostname; cat /root/pre-quiesce-ran; ls /tmp")
    assert seen.split() == [child["name"], "once"]
    assert child["post_clone"]["exit_code"] == 0
    assert "a-long-secret-token" not in str(vcenter.guest(child["moid"])["guestinfo"])
