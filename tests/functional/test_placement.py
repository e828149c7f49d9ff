# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders, datastores, resource pools and VMs by name, and the message when nothing has that name."""

from __future__ import annotations

from typing import Any

import pytest
from functional.engines import INSTANT_CLONE
from functional.vcenter import VCenter

pytestmark = [
    pytest.mark.engines(INSTANT_CLONE, why="places are looked up in the same way for both engines"),
    pytest.mark.flags("-guest", "none", "-vm", "2", "-host", "1"),
]

RUNNING: dict[str, Any] = {"allow_running_parent": True, "wait_for": "powered_on"}


def place(vcenter: VCenter, **given: Any) -> dict[str, Any]:
    """Create a child at a place, remove it again, and return its entry."""
    made = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", **RUNNING, **given).child("web-01")
    vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", state="absent")
    return made


def test_places_by_common_names(vcenter: VCenter) -> None:
    vcenter.govc("folder.create", "/DC0/vm/web")
    for folder in ("web", "/DC0/vm/web", "DC0/vm/web", "DC0/vm/web/"):
        assert place(vcenter, folder=folder)["folder"] == "/DC0/vm/web", folder
        vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", state="absent", folder=folder)
    assert vcenter.ok("vmfork_parent", name=vcenter.parent, folder="DC0/vm", check=True)
    # Each cluster and each host has a pool with this name; one pool contains the parent's host.
    pools = vcenter.govc("find", "/DC0/host", "-type", "p", "-name", "Resources").splitlines()
    assert len(pools) > 1
    place(vcenter, resource_pool="Resources")
    vcenter.govc("folder.create", "-pod", "/DC0/datastore/pod")
    empty = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-01", datastore="pod", **RUNNING)
    assert "pod is a datastore cluster, and the ESXi host of VM DC0_H0_VM0 can use none" in empty.msg
    vcenter.govc("object.mv", "/DC0/datastore/LocalDS_0", "/DC0/datastore/pod")
    for cluster in ("pod", "/DC0/datastore/pod"):
        assert place(vcenter, datastore=cluster)["datastore"] == "LocalDS_0"


def test_slash_in_a_name(vcenter: VCenter) -> None:
    vcenter.govc("vm.change", "-vm", "DC0_H0_VM1", "-name", "a/b")
    named = vcenter.ok("vmfork_parent", name="a/b", check=True)["parent"]
    assert named["inventory_path"] == "/DC0/vm/a%2fb"
    for path in ("/DC0/vm/a%2fb", "/DC0/vm/a%2Fb", "/DC0/vm/a/b", "DC0/vm/a/b"):
        assert vcenter.ok("vmfork_parent", inventory_path=path, check=True)["parent"] == named, path
        assert vcenter.ok("vm_ovfenv_info", inventory_path=[path])["ovfenv"][0]["moid"] == named["moid"], path


SIMILAR: list[tuple[dict[str, Any], str]] = [
    ({"parent_name": "dc0_h0_vm"}, "VM dc0_h0_vm was not found on 127.0.0.1"),
    ({"parent_name": "dc0_h0_vm"}, "Similar names: DC0_H0_VM1, DC0_H0_VM0"),
    ({"parent_inventory_path": "/DC0/vm/DC0_H0_VM9"}, "VM at /DC0/vm/DC0_H0_VM9 was not found"),
    ({"folder": "wbe"}, "The folder /DC0/vm/wbe was not found on"),
    ({"folder": "wbe"}, "Similar names: /DC0/vm/web."),
    (
        {"datastore": "localds_1"},
        "The datastore localds_1 was not found in the VM's datacenter. Similar names: LocalDS_0.",
    ),
    (
        {"resource_pool": "resource"},
        "The resource pool resource was not found in the VM's datacenter. Similar names: Resources.",
    ),
    (
        {"networks": [{"network": "VM-Network"}]},
        "The network VM-Network was not found in the VM's datacenter. Similar names: VM Network.",
    ),
]


def test_similar_names_are_listed(vcenter: VCenter) -> None:
    vcenter.govc("folder.create", "/DC0/vm/web")
    for given, message in SIMILAR:
        parent = {} if any(name.startswith("parent_") for name in given) else {"parent_name": vcenter.parent}
        assert message in vcenter.fails("vmfork_child", name="web-01", **RUNNING, **parent, **given).msg, given


def test_similar_names_of_several_vms(vcenter: VCenter) -> None:
    refusal = vcenter.fails("vm_ovfenv_info", name=["DC0_H0_VM0", "DC0_H0_VM7"])
    assert "VM DC0_H0_VM7 was not found on" in refusal.msg
    assert "Similar names: DC0_H0_VM" in refusal.msg
