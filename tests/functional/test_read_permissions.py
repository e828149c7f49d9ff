# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users who may read only a part of the inventory get a sentence, never a traceback or a wrong success."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from functional.engines import INSTANT_CLONE, SOAP, Engine
from functional.vcenter import Result, VCenter
from harness.simulator import Simulator

RUNNING: dict[str, Any] = {"allow_running_parent": True, "wait_for": "powered_on"}
LOGIN = {"name": "reader", "password": "readers-long-password"}

READ, VIEW = "System.Read", "System.View"

PLACES: dict[str, Callable[[VCenter], str]] = {
    "parent": lambda vcenter: vcenter.moid(),
    "child": lambda vcenter: vcenter.moid("/DC0/vm/web-01"),
    "host": lambda vcenter: vcenter.moid("/DC0/host/DC0_H0/DC0_H0"),
    "compute": lambda vcenter: vcenter.moid("/DC0/host/DC0_H0"),
    "pool": lambda vcenter: vcenter.moid("/DC0/host/DC0_H0/Resources"),
    "datastore": lambda vcenter: vcenter.moid("/DC0/datastore/LocalDS_0"),
    "folder": lambda vcenter: vcenter.moid("/DC0/vm"),
    "network": lambda vcenter: vcenter.moid("/DC0/network/DC0_DVPG0"),
    "datacenter": lambda vcenter: vcenter.moid("/DC0"),
}


@pytest.fixture(scope="module", params=[INSTANT_CLONE, SOAP], ids=lambda engine: engine.name)
def shared(request: pytest.FixtureRequest) -> Iterator[VCenter]:
    """Run a server with a parent and, on Instant Clone, a child of it; no test changes it."""
    engine: Engine = request.param
    with Simulator("-api-version", engine.api_version, "-vm", "2", "-host", "1", "-guest", "none") as simulator:
        vcenter = VCenter(simulator, engine)
        if engine.starts_running:
            vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", **RUNNING)
        else:
            vcenter.enable()
        yield vcenter


def checked(vcenter: VCenter, module: str, **given: Any) -> Result:
    """Run a module in check mode; assert that it succeeds or fails with a sentence."""
    result = vcenter.run(module, check=True, **given)
    assert "Traceback" not in result.raw, result.raw
    if result.get("failed"):
        assert "Unexpected error" not in result.msg, result.get("exception")
        assert result.msg.endswith((".", "see children.")), result.msg
    return result


@pytest.mark.parametrize("privilege", [READ, VIEW])
@pytest.mark.parametrize("place", PLACES)
def test_unreadable_objects(shared: VCenter, place: str, privilege: str) -> None:
    if place == "child" and not shared.engine.starts_running:
        place = "parent"
    shared.control("POST", "users", {**LOGIN, "deny": [privilege], "deny_on": [PLACES[place](shared)]})
    low = {"username": LOGIN["name"], "password": LOGIN["password"]}
    parent = {"parent_name": shared.parent}
    has_child = shared.engine.starts_running
    for module, given in (
        ("vmfork_parent", {"name": shared.parent}),
        ("vmfork_quiesce", {"name": shared.parent, "method": "wait"}),
        ("vm_ovfenv", {"name": shared.parent}),
        ("vm_vapp_options", {"name": shared.parent, "enabled": True}),
        ("vm_ovfenv_info", {"name": [shared.parent]}),
        ("vm_ovfenv_info", {}),
        ("vmfork_info", {}),
    ):
        result = checked(shared, module, **given, **low)
        if place == "parent" and module.startswith("vmfork_") and given:
            assert result["failed"], "what cannot be read cannot be judged"
    listed = checked(shared, "vmfork_info", **low)
    if has_child and not listed.get("failed") and not (place == "child" and privilege == VIEW):
        names = [child["name"] for parent in listed["parents"] for child in parent["children"]]
        names += [child["name"] for child in listed["without_parent"]]
        assert names == ["web-01"] or (listed.get("warnings") and place in ("parent", "child")), listed
    present = checked(shared, "vmfork_child", **parent, name="web-01", **(RUNNING if has_child else {}), **low)
    if has_child and place not in ("parent", "child"):
        assert present.get("failed") or present["changed"] is False, "the child is there"
    absent = checked(shared, "vmfork_child", **parent, name="web-01", state="absent", **low)
    if has_child and not absent.get("failed") and not (place == "child" and privilege == VIEW):
        assert absent.child("web-01")["state"] == "removed", "the child is there"
    for state in ("absent", "detached"):
        all_of_them = checked(shared, "vmfork_child", **parent, all=True, state=state, **low)
        if has_child and place == "child" and not all_of_them.get("failed"):
            assert bool(all_of_them.get("warnings")) is (privilege == READ), "nobody can know of a VM that is not seen"
        elif has_child and not all_of_them.get("failed"):
            assert [child["name"] for child in all_of_them["children"]] == ["web-01"], (state, all_of_them)
