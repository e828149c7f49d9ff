# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module costs in calls to vCenter, and that an inventory of 1,000 VMs costs no more."""

from __future__ import annotations

from typing import Any

from functional.vcenter import VCenter
from functional.ways import both_engines, every_way

pytestmark = both_engines

PAGES = {"ContinueRetrievePropertiesEx"}
"""Further pages of names; the only thing that may grow."""

MOST = {"enable": 15, "enable, no-op": 8, "quiesce, no-op": 8, "children, no-op": 14, "info": 8}
"""Part of the job → its calls at most."""

THREE_STEPS = ["CreateForkChild_Task", "ReconfigVM_Task", "PowerOnVM_Task"]


def cost(vcenter: VCenter, module: str, **given: Any) -> dict[str, int]:
    with vcenter.calls() as calls:
        vcenter.ok(module, **given)
    assert 1 <= calls["Login"] == calls["Logout"] <= vcenter.way.logins
    return {name: count for name, count in calls.items() if name not in PAGES}


def measure(vcenter: VCenter, children: int) -> dict[str, dict[str, int]]:
    """Run the job from its beginning to its end; return the calls of every module."""
    parent = vcenter.parent
    names = named(children)
    script = {**vcenter.guest_login, "post_clone_script": "true"}
    fork = {"parent_name": parent, "children": names, "wait_for": "powered_on"}
    result = {"enable": cost(vcenter, "vmfork_parent", name=parent)}
    result["enable, no-op"] = cost(vcenter, "vmfork_parent", name=parent)
    vcenter.in_guest(vcenter.moid(), "true")  # or its start would be waited for
    result["quiesce"] = cost(vcenter, "vmfork_quiesce", name=parent, **script)
    result["quiesce, no-op"] = cost(vcenter, "vmfork_quiesce", name=parent, **script)
    result["children"] = cost(vcenter, "vmfork_child", **fork)
    result["children, no-op"] = cost(vcenter, "vmfork_child", **fork)
    result["info"] = cost(vcenter, "vmfork_info")
    result["info of one"] = cost(vcenter, "vmfork_info", name=parent)
    return result


def named(count: int) -> list[dict[str, Any]]:
    """Children with addresses, which are compared with those of all VMs."""
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


@every_way
def test_calls_stay_few(vcenter: VCenter) -> None:
    costs = measure(vcenter, 2)
    for part, most in MOST.items():
        counted = steady(costs[part])
        assert sum(counted.values()) <= most + 2 * (vcenter.way.logins - 1), (part, counted)


@every_way
def test_a_child_costs_its_requests_and_its_share_of_the_news(quiesced: VCenter) -> None:
    names = named(16)
    costs = cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names, wait_for="powered_on")
    requests = [quiesced.way.create] if quiesced.way.born_running else THREE_STEPS
    for method in requests:
        assert costs[method] == 16
    assert costs["WaitForUpdatesEx"] + costs["ModifyListView"] <= 16 * 15  # when no two of them arrive together
    rest = sum(steady(costs).values()) - len(requests) * 16
    assert rest <= 22, costs


def test_check_mode_asks_for_privileges_in_one_request(quiesced: VCenter) -> None:
    names = named(16)
    few, many = [
        cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names[:count], check=True)
        for count in (1, 16)
    ]
    dry_runs = [costs.pop("CheckInstantClone_Task", 0) for costs in (few, many)]
    assert dry_runs == ([1, 16] if quiesced.way.born_running else [0, 0])
    assert steady(few) == steady(many)
    assert few["HasPrivilegeOnEntities"] == 1
    assert sum(steady(few).values()) <= (21 if quiesced.way.born_running else 16), few  # dry runs are tasks, waited for


def test_addresses_that_are_taken_cost_one_request(quiesced: VCenter) -> None:
    """On which network they are is read of the VMs that have them, of all at once."""
    quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=named(3))
    calls = []
    for count in (1, 3):
        children = [{**one, "name": f"other-{number}"} for number, one in enumerate(named(count))]
        with quiesced.calls() as made:
            refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, children=children)
        assert refusal.msg.count("on the same network") == count
        calls.append(steady(made))
    assert calls[0] == calls[1]


def test_removal_looks_at_all_children_in_the_same_few_requests(quiesced: VCenter) -> None:
    names = [{"name": f"web-{number:02}"} for number in range(12)]
    quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=names, wait_for="powered_on")
    for state in ("absent", "detached"):
        few, many = [
            cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names[:count], state=state, check=True)
            for count in (1, 12)
        ]
        assert steady(few) == steady(many)
        assert sum(steady(few).values()) <= 18 + 2 * (quiesced.way.logins - 1), few
    removed = cost(quiesced, "vmfork_child", parent_name=quiesced.parent, children=names, state="absent")
    assert removed["Destroy_Task"] == removed["PowerOffVM_Task"] == 12
    assert sum(steady(removed).values()) - 24 <= 34 + 2 * (quiesced.way.logins - 1), removed
