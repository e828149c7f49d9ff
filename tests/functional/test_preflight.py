# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_preflight_info against a vCenter: its facts, its calls, and what an unprivileged user sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from functional.engines import INSTANT_CLONE, both_engines
from functional.vcenter import VCenter

pytestmark = both_engines

PAGES = {"ContinueRetrievePropertiesEx"}
ADDRESSES = {"first_address": "192.0.2.11", "ip_network": "192.0.2.0/24"}


def preflight(vcenter: VCenter, **given: Any) -> dict[str, Any]:
    """Return the result for the only parent."""
    result = vcenter.ok("vmfork_preflight_info", **{"parent_name": [vcenter.parent], **given})
    assert result["changed"] is False
    (of_parent,) = result["preflight"]
    return dict(of_parent)


def check(of_parent: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(entry) for entry in of_parent["checks"] if entry["id"] == name)


def statuses(of_parent: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["status"] for entry in of_parent["checks"]}


def test_children_that_fit(quiesced: VCenter) -> None:
    found = preflight(quiesced, count=3, **ADDRESSES)
    assert (found["count"], found["room"], found["limited_by"]) == (3, 3, None)
    assert found["parent"]["name"] == quiesced.parent
    unknown = {"names", "license", *(() if quiesced.engine.starts_running else ("server",))}
    assert {name for name, status in statuses(found).items() if status != "ok"} == unknown


def test_memory_of_the_host(quiesced: VCenter) -> None:
    found = preflight(quiesced, count=32)
    assert (found["room"], found["limited_by"]) == (5, "memory")
    assert found["text"] == "Room for 5 of 32 children: 2.6 GiB of memory free on DC0_H0, 512 MiB a child."
    assert check(found, "memory")["status"] == "warn"


def test_calls_depend_neither_on_children_nor_on_vms(quiesced: VCenter) -> None:
    counted = []
    for count, more in ((1, 8), (32, 990)):
        quiesced.control("POST", "inventory", {"vms": more, "name": f"of-{count}-%04d", "folder": "/DC0/vm"})
        for given in ({"count": count, **ADDRESSES}, {"name": [f"web-{number}" for number in range(count)]}):
            with quiesced.calls() as calls:
                preflight(quiesced, **given)
            tasks = {"WaitForUpdatesEx", "ModifyListView"}  # depends on how the updates of the only task arrive
            counted.append({name: calls[name] for name in calls if name not in PAGES | tasks})
    assert counted[0] == counted[2]
    assert counted[1] == counted[3]
    assert counted[0].get("CheckInstantClone_Task", 0) == (1 if quiesced.engine.starts_running else 0)
    assert sum(counted[0].values()) <= 27


def test_several_parents(quiesced: VCenter) -> None:
    given = {"parent_name": [quiesced.parent], "parent_inventory_path": ["/DC0/vm/DC0_H0_VM1"], "count": 2}
    first, second = quiesced.ok("vmfork_preflight_info", **given)["preflight"]
    assert [of_parent["parent"]["name"] for of_parent in (first, second)] == [quiesced.parent, "DC0_H0_VM1"]
    assert (check(first, "fork_point")["status"], check(second, "fork_point")["status"]) == ("ok", "warn")
    assert "must be quiesced" in check(second, "fork_point")["text"]


def test_parent_that_is_off(vcenter: VCenter) -> None:
    vcenter.govc("vm.power", "-off", vcenter.parent)
    found = preflight(vcenter, count=2)
    assert (found["room"], found["limited_by"]) == (0, "fork_point")


def test_names(quiesced: VCenter) -> None:
    """One is a child already, one belongs to a foreign VM, one is free."""
    quiesced.fork("web-01", wait_for="powered_on")
    found = preflight(quiesced, name=["web-01", "DC0_H0_VM1", "web-02"])
    assert (found["count"], found["room"], found["limited_by"]) == (2, 1, "names")
    assert "DC0_H0_VM1" in check(found, "names")["text"]
    assert check(found, "names")["value"] == 1


def test_addresses_in_use(quiesced: VCenter) -> None:
    quiesced.fork("web-01", "web-02")
    found = preflight(quiesced, count=3, **ADDRESSES)
    assert (found["room"], found["limited_by"]) == (1, "addresses")
    assert "192.0.2.11" in check(found, "addresses")["text"]


def test_addresses_of_the_network(quiesced: VCenter) -> None:
    found = preflight(quiesced, count=3, first_address="192.0.2.253", ip_network="192.0.2.0/24")
    assert (found["room"], found["limited_by"]) == (2, "address_range")


def test_datastore_that_is_lost(quiesced: VCenter) -> None:
    quiesced.control("PATCH", "datastores/LocalDS_0", {"accessible": False})
    found = preflight(quiesced, count=2)
    assert (check(found, "datastore")["status"], found["room"]) == ("block", 0)


def test_host_in_maintenance_mode(vcenter: VCenter) -> None:
    vcenter.govc("vm.power", "-off", "-force", vcenter.parent)
    vcenter.govc("host.maintenance.enter", "DC0_H0")
    found = preflight(vcenter, count=2)
    assert (check(found, "host")["status"], found["room"]) == ("block", 0)


def test_no_space_for_a_swap_file(quiesced: VCenter) -> None:
    """The run fails with the same cause as check mode, and with a remedy."""
    task = {"parent_name": quiesced.parent, "name": ["web-01"], "wait_for": "created"}
    quiesced.control("PATCH", "datastores/LocalDS_0", {"free_space": 100 << 20})
    found = preflight(quiesced, count=2)
    assert (found["room"], found["limited_by"], check(found, "datastore")["status"]) == (0, "datastore", "block")
    assert found["text"].endswith(": 100 MiB free on datastore LocalDS_0, 512 MiB a child for its swap file.")
    assert "LocalDS_0" in quiesced.fails("vmfork_child", check=True, **task).msg
    assert "Free space on the datastore, or choose another one." in quiesced.fails("vmfork_child", **task).msg


@pytest.mark.engines(INSTANT_CLONE)
def test_serial_port(vcenter: VCenter) -> None:
    vcenter.govc("device.serial.add", "-vm", vcenter.parent)
    found = preflight(vcenter, count=2)
    assert (found["room"], found["limited_by"]) == (0, "devices")
    assert "serial port that is not backed by a file" in check(found, "devices")["text"]


def test_user_without_privileges(quiesced: VCenter) -> None:
    quiesced.control("POST", "users", {"name": "low", "password": "low", "deny": ["VirtualMachine.Interact.PowerOn"]})
    found = preflight(quiesced, count=2, username="low", password="low")
    assert (found["room"], found["limited_by"]) == (0, "privileges")
    assert "VirtualMachine.Interact.PowerOn" in check(found, "privileges")["text"]


def test_user_who_sees_only_the_parent(quiesced: VCenter) -> None:
    """What the user cannot see is unknown, not ok."""
    deny_on = [quiesced.moid("/DC0/host/DC0_H0/DC0_H0"), quiesced.moid("/DC0/datastore/LocalDS_0")]
    body = {"name": "low", "password": "low", "deny": ["System.Read", "System.View"], "deny_on": deny_on}
    quiesced.control("POST", "users", body)
    found = statuses(preflight(quiesced, count=2, username="low", password="low"))
    for name in ("host", "memory", "datastore", "datastore_growth", "drs", "ha"):
        assert found[name] == "unknown", name


def test_parent_that_does_not_exist(vcenter: VCenter) -> None:
    refusal = vcenter.fails("vmfork_preflight_info", parent_name=[vcenter.parent, "nowhere"], count=1)
    assert "VM nowhere was not found" in refusal.msg


def test_check_mode_makes_the_same_checks(quiesced: VCenter) -> None:
    names = [f"web-{number:02}" for number in range(7)]
    result = quiesced.ok("vmfork_child", parent_name=quiesced.parent, name=names, check=True)
    assert result["preflight"]["room"] == 5
    alone = preflight(quiesced, name=names)
    alone.pop("parent")
    assert result["preflight"] == alone
    assert any("Room for 5 of 7 children: " in str(warning) for warning in result["warnings"])
    assert quiesced.fork("web-01", wait_for="powered_on")["preflight"] is None


def test_check_mode_fails_what_the_run_would_fail(quiesced: VCenter) -> None:
    quiesced.control("PATCH", "datastores/LocalDS_0", {"accessible": False})
    refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name=["web-01"], check=True)
    assert "LocalDS_0" in refusal.msg
    assert refusal["preflight"]["room"] == 0


def test_check_mode_fails_the_children_of_the_full_datastore(quiesced: VCenter, tmp_path: Path) -> None:
    """They need not be the last ones of the task."""
    quiesced.govc("datastore.create", "-type", "local", "-name", "LocalDS_1", "-path", str(tmp_path), "DC0_H0")
    quiesced.control("PATCH", "datastores/LocalDS_0", {"free_space": 100 << 20})
    given = [{"name": "web-01", "datastore": "LocalDS_0"}, {"name": "web-02", "datastore": "LocalDS_1"}]
    for check_mode in (True, False):
        refusal = quiesced.fails(
            "vmfork_child", parent_name=quiesced.parent, children=given, wait_for="created", check=check_mode
        )
        assert {child["name"]: child["state"] for child in refusal["children"]} == {
            "web-01": "failed",
            "web-02": "created",
        }
