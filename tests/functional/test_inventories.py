# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories that a small test bed does not have: vApps, several datacenters, opaque networks, a wrong clock."""

from __future__ import annotations

from typing import Any

import pytest
from functional.engines import INSTANT_CLONE
from functional.vapp import Estate
from functional.vcenter import VCenter

pytestmark = [
    pytest.mark.engines(INSTANT_CLONE, why="VMs and places are looked up in the same way for both engines"),
    pytest.mark.flags("-guest", "none"),
]

RUNNING: dict[str, Any] = {"allow_running_parent": True, "wait_for": "powered_on"}


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_names_that_differ_in_case(vcenter: VCenter, check: bool) -> None:
    vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", **RUNNING)
    for value in ("same", "different"):
        vcenter.rule("names_differing_in_case", value)
        for state in ("present", "absent", "detached"):
            more = RUNNING if state == "present" else {"state": state}
            refused = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="WEB-01", check=check, **more)
            error = refused.child("WEB-01")["error"]
            assert "VM WEB-01 was not found, but there is web-01 (vm-" in error, (value, state)
            assert refused["changed"] is False
        assert vcenter.exists("/DC0/vm/web-01")
    foreign = vcenter.control("POST", "inventory", {"vms": 1, "name": "WEB-01"})["moids"]
    again = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", check=check, **RUNNING)
    assert again["changed"] is False
    gone = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", state="absent", check=check)
    assert gone.child("web-01")["state"] == "removed"
    assert vcenter.govc("object.collect", "-s", f"VirtualMachine:{foreign[0]}", "name").strip() == "WEB-01"


def test_vms_in_a_vapp(own: Estate) -> None:
    vcenter = own.vcenter
    vm = own.in_vapp("shop", "shop-web").mo
    assert vm.parent is None
    path = "/DC0/vm/shop/shop-web"
    for which in ({"name": "shop-web"}, {"moid": vm._GetMoId()}, {"uuid": vm.config.uuid}, {"inventory_path": path}):
        found = vcenter.ok("vmfork_parent", **which, check=True)["parent"]
        assert (found["moid"], found["inventory_path"]) == (vm._GetMoId(), path), which
    assert vcenter.ok("vmfork_parent", name="shop-web", folder="/DC0/vm", check=True)["parent"]["moid"] == vm._GetMoId()
    assert path in [entry["inventory_path"] for entry in vcenter.ok("vm_ovfenv_info")["ovfenv"]]
    given = {"parent_name": "shop-web", "name": "web-01"}
    assert vcenter.ok("vmfork_child", **given, **RUNNING, check=True)["changed"]
    made = vcenter.ok("vmfork_child", **given, **RUNNING)
    assert not made.get("warnings")
    assert made.child("web-01")["folder"] == "/DC0/vm/shop"
    assert vcenter.ok("vmfork_child", **given, **RUNNING)["changed"] is False
    elsewhere = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-01", **RUNNING)
    assert "web-01" in elsewhere.msg
    assert vcenter.ok("vmfork_child", **given, state="absent")["summary"]["removed"] == 1
    assert vcenter.ok("vmfork_child", **given, state="absent")["changed"] is False


@pytest.mark.flags("-dc", "2", "-opaque-networks", "1")
def test_several_datacenters_and_opaque_networks(vcenter: VCenter) -> None:
    parent = {"parent_name": "DC1_H0_VM0"}
    assert vcenter.ok("vmfork_parent", name="DC1_H0_VM0", check=True)["parent"]["inventory_path"].startswith("/DC1/vm/")
    ambiguous = vcenter.fails("vmfork_parent", name="DC1_H0_VM0", folder="web")
    assert "Set datacenter to one of these datacenters: DC0, DC1." in ambiguous.msg
    for entry, message in (
        ({"networks": [{"network": "DC0_NSX0"}]}, "The network DC0_NSX0 was not found in the VM's datacenter"),
        ({"networks": [{"network": "DC0_DVPG0"}]}, "The network DC0_DVPG0 was not found in the VM's datacenter"),
        ({"folder": "/DC0/vm"}, "The folder /DC0/vm is in another datacenter than the VM, which is in /DC1."),
        ({"resource_pool": "/DC0/host/DC0_H0/Resources"}, "The resource pool /DC0/host/DC0_H0/Resources was not found"),
    ):
        refused = vcenter.fails("vmfork_child", **parent, name="web-01", check=True, **RUNNING, **entry)
        assert message in refused.msg, entry
    opaque = {"networks": [{"network": "DC1_NSX0"}]}
    for value in ("port-group", "kept"):
        vcenter.rule("opaque_network_backing", value)
        for check, changed in ((True, True), (False, True), (False, False)):
            done = vcenter.ok("vmfork_child", **parent, name=value, check=check, **RUNNING, **opaque)
            assert done["changed"] is changed
    made = vcenter.ok("vmfork_child", **parent, name="web-01", **RUNNING)
    assert made.child("web-01")["folder"] == "/DC1/vm"
    assert vcenter.ok("vmfork_child", **parent, name="web-01", **RUNNING)["changed"] is False
    # Each datacenter has a child of that name, which belongs to its own parent.
    vcenter.ok("vmfork_child", parent_name="DC0_H0_VM0", name="web-01", **RUNNING)
    assert vcenter.ok("vmfork_child", **parent, name="web-01", state="absent")["summary"]["removed"] == 1
    assert vcenter.exists("/DC0/vm/web-01")


@pytest.mark.flags("-clock-offset", "-960h")
def test_event_lookback_uses_the_clock_of_vcenter(own: Estate) -> None:
    """The power-on was 40 days ago by the controller's clock, and a moment ago by vCenter's."""
    made = own.appliance("esxi")
    made.power_on("esxi")
    found = own.vcenter.ok("vm_ovfenv_info", name=["esxi"], event_lookback=1)["ovfenv"][0]
    assert found["power_on"]["origin"] == "esxi_direct"
