# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of vCenter calls of each module, and that it does not grow with an inventory of 1,000 VMs."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from functional.engines import both_engines, every_transport, instant_clone_only
from functional.vcenter import VCenter

pytestmark = both_engines

PAGES = {"ContinueRetrievePropertiesEx"}
"""Further pages of names; the only thing that may grow."""

MOST = {"enable": 13, "enable, no-op": 6, "quiesce, no-op": 6, "children, no-op": 7, "info": 6}
"""Part of the job → its calls at most."""

THREE_STEPS = ["CreateForkChild_Task", "ReconfigVM_Task", "PowerOnVM_Task"]


def cost(vcenter: VCenter, module: str, **given: Any) -> dict[str, int]:
    with vcenter.calls() as calls:
        vcenter.ok(module, **given)
    assert 1 <= calls["Login"] == calls["Logout"] <= vcenter.engine.logins
    return {name: count for name, count in calls.items() if name not in PAGES}


def measure(vcenter: VCenter, children: int) -> dict[str, dict[str, int]]:
    """Run the whole job; return the calls of every module."""
    parent = vcenter.parent
    names = named(children)
    script = {**vcenter.guest_login, "post_clone_script": "true"}
    fork = {"parent_name": parent, "children": names, "wait_for": "powered_on"}
    result = {"enable": cost(vcenter, "vmfork_parent", name=parent)}
    result["enable, no-op"] = cost(vcenter, "vmfork_parent", name=parent)
    vcenter.in_guest(vcenter.moid(), "true")  # otherwise the module would wait for it to start
    result["quiesce"] = cost(vcenter, "vmfork_quiesce", name=parent, **script)
    result["quiesce, no-op"] = cost(vcenter, "vmfork_quiesce", name=parent, **script)
    result["children"] = cost(vcenter, "vmfork_child", **fork)
    result["children, no-op"] = cost(vcenter, "vmfork_child", **fork)
    result["info"] = cost(vcenter, "vmfork_info")
    result["info of one"] = cost(vcenter, "vmfork_info", name=parent)
    return result


def named(count: int) -> list[dict[str, Any]]:
    """Return children with addresses, which the module compares with those of all VMs."""
    return [
        {"name": f"web-{number:02}", "config_params": {"ipaddress": f"192.0.2.{number + 100}"}}
        for number in range(count)
    ]


def steady(costs: dict[str, int]) -> dict[str, int]:
    """Return the counts that do not depend on how many updates arrive together."""
    return {name: count for name, count in costs.items() if name not in ("WaitForUpdatesEx", "ModifyListView")}


def test_calls_do_not_grow_with_the_inventory(vcenter: VCenter) -> None:
    measured = []
    vcenter.control("POST", "inventory", {"vms": 8, "name": "few-%04d", "folder": "/DC0/vm"})
    measured.append(measure(vcenter, 2))
    vcenter.ok("vmfork_child", parent_name=vcenter.parent, state="absent", all=True)
    vcenter.ok("vmfork_parent", name=vcenter.parent, state="disabled", power_off=True)
    vcenter.govc("vm.power", "-on", vcenter.parent)
    vcenter.control("POST", "inventory", {"vms": 990, "name": "many-%04d", "folder": "/DC0/vm"})
    measured.append(measure(vcenter, 2))
    few, many = measured
    assert set(few) == set(many)
    for part in few:
        assert steady(few[part]) == steady(many[part]), part


@every_transport
def test_calls_stay_few(vcenter: VCenter) -> None:
    costs = measure(vcenter, 2)
    for part, most in MOST.items():
        counted = steady(costs[part])
        assert sum(counted.values()) <= most + 2 * (vcenter.engine.logins - 1), (part, counted)


@every_transport
def test_children_cost_their_requests_and_a_constant_number_of_calls(quiesced: VCenter) -> None:
    """These are login and logout, the names of all VMs, the parent, the filter, and the children at the end."""
    requests = [quiesced.engine.create] if quiesced.engine.starts_running else THREE_STEPS
    first = 0
    for count in (1, 8, 32):
        names = named(first + count)[first:]
        first += count
        costs = cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names, wait_for="powered_on")
        assert {method: costs.pop(method) for method in requests} == dict.fromkeys(requests, count)
        changes = costs["WaitForUpdatesEx"] + costs["ModifyListView"]
        assert changes <= count * 2 * (len(requests) + 1)  # when the end of each task arrives separately
        assert sum(steady(costs).values()) <= 9 + 2 * (quiesced.engine.logins - 1), costs


@instant_clone_only("it is about the VMs that exist, which both engines have in common")
@pytest.mark.flags("-guest", "none", "-host", "1")
def test_nothing_to_do_for_200_children(vcenter: VCenter) -> None:
    children = [{"name": f"web-{number:03}"} for number in range(200)]
    task = {"parent_name": vcenter.parent, "children": children, "wait_for": "powered_on", "allow_running_parent": True}
    created = vcenter.ok("vmfork_child", **task)
    assert created["summary"]["created"] == 200
    with vcenter.calls() as calls:
        unchanged = vcenter.ok("vmfork_child", **task)
    assert sum(calls.values()) <= 7, calls
    assert unchanged["summary"]["existing"] == 200
    # All that is known of the children is returned, although they are read only once.
    assert [facts_of(child) for child in unchanged["children"]] == [facts_of(child) for child in created["children"]]
    assert {child["esxi_hostname"] for child in unchanged["children"]} == {"DC0_H0"}


def facts_of(child: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a child without what the task did to it."""
    done = {"state", "changed", "seconds", "timeline"}
    return {key: value for key, value in child.items() if key not in done}


def test_check_mode_asks_for_privileges_in_one_request(quiesced: VCenter) -> None:
    names = named(16)
    few, many = [
        cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names[:count], check=True)
        for count in (1, 16)
    ]
    dry_runs = [costs.pop("CheckInstantClone_Task", 0) for costs in (few, many)]
    assert dry_runs == ([1, 16] if quiesced.engine.starts_running else [0, 0])
    assert steady(few) == steady(many)
    assert few["HasPrivilegeOnEntities"] == 1
    most = 13 if quiesced.engine.starts_running else 10  # dry runs are tasks to wait for
    assert sum(steady(few).values()) <= most, few


def test_addresses_in_use_cost_one_request(quiesced: VCenter) -> None:
    """One request reads the networks of all the VMs that use these addresses."""
    quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=named(3))
    calls = []
    for count in (1, 3):
        children = [{**child, "name": f"other-{number}"} for number, child in enumerate(named(count))]
        with quiesced.calls() as made:
            refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, children=children)
        assert refusal.msg.count("on the same network") == count
        calls.append(steady(made))
    assert calls[0] == calls[1]


def test_removal_reads_all_children_in_a_constant_number_of_requests(quiesced: VCenter) -> None:
    names = [{"name": f"web-{number:02}"} for number in range(12)]
    quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=names, wait_for="powered_on")
    for state in ("absent", "detached"):
        few, many = [
            cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names[:count], state=state, check=True)
            for count in (1, 12)
        ]
        assert steady(few) == steady(many)
        assert sum(steady(few).values()) <= 11 + 2 * (quiesced.engine.logins - 1), few
    removed = cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names, state="absent")
    assert removed["Destroy_Task"] == removed["PowerOffVM_Task"] == 12
    # Every child is judged again before it is powered off, and before it is destroyed.
    assert sum(steady(removed).values()) - 24 <= 16 + 2 * (quiesced.engine.logins - 1), removed


def test_a_removal_that_is_killed_leaves_nothing_but_its_session(quiesced: VCenter) -> None:
    """Views, filters and collectors are not removed one by one: vCenter removes them with their session."""
    children = [{"name": f"web-{number}"} for number in range(4)]
    quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=children, wait_for="powered_on")
    before = quiesced.control("GET", "sessions")
    quiesced.run(
        "vmfork_child",
        parent_name=quiesced.parent,
        children=children,
        state="absent",
        signal_at=(signal.SIGTERM, "PowerOffVM_Task", 0),
    )
    assert quiesced.control("GET", "sessions") == before
