# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The selected VM in an inventory with duplicate names."""

from __future__ import annotations

import pytest
from functional.vcenter import VCenter


@pytest.fixture
def duplicate_names(vcenter: VCenter) -> VCenter:
    """Return an inventory with two datacenters of the same name in different folders."""
    vcenter.govc("folder.create", "/Europe")
    vcenter.govc("datacenter.create", "-folder", "/Europe", "DC0")
    return vcenter


def test_datacenters_that_share_a_name(duplicate_names: VCenter) -> None:
    refusal = duplicate_names.fails("vmfork_parent", name=duplicate_names.parent, datacenter="DC0")
    assert "Several objects match the datacenter DC0: /DC0 (datacenter-" in refusal.msg
    assert ", /Europe/DC0 (datacenter-" in refusal.msg
    moid = refusal.msg.partition("/DC0 (")[2].partition(")")[0]
    for datacenter in (moid, "/DC0"):
        assert duplicate_names.ok("vmfork_parent", name=duplicate_names.parent, datacenter=datacenter)["parent"][
            "inventory_path"
        ].startswith("/DC0/")
    assert (
        f"VM {duplicate_names.parent} was not found"
        in duplicate_names.fails("vmfork_parent", name=duplicate_names.parent, datacenter="/Europe/DC0").msg
    )


def test_folder_without_its_datacenter(duplicate_names: VCenter) -> None:
    refusal = duplicate_names.fails("vmfork_parent", name=duplicate_names.parent, folder="web")
    assert (
        "The folder is not a full inventory path. Set datacenter to one of these datacenters: DC0, DC0." in refusal.msg
    )


def test_unknown_datacenter(vcenter: VCenter) -> None:
    refusal = vcenter.fails("vmfork_parent", name=vcenter.parent, datacenter="nowhere")
    assert "The datacenter nowhere was not found on 127.0.0.1" in refusal.msg
    assert "There are: DC0." in refusal.msg


@pytest.mark.parametrize("module", ["vmfork_parent", "vmfork_child"])
def test_vms_that_share_a_name(vcenter: VCenter, module: str) -> None:
    vcenter.govc("folder.create", "/DC0/vm/other")
    vcenter.govc("vm.clone", "-vm", vcenter.parent, "-on=false", "-host", "DC0_H0", "-folder", "other", "twin")
    vcenter.govc("vm.change", "-vm", "twin", "-name", vcenter.parent)
    prefix, more = ("", {}) if module == "vmfork_parent" else ("parent_", {"children": [{"name": "web-01"}]})
    refusal = vcenter.fails(module, **{f"{prefix}name": vcenter.parent}, **more)
    paths = [f"/DC0/vm/{vcenter.parent}", f"/DC0/vm/other/{vcenter.parent}"]
    listed = ", ".join(f"{path} ({vcenter.moid(path)})" for path in paths)
    assert f"Several VMs match VM {vcenter.parent}: {listed}. Use one of these paths or " in refusal.msg


def test_vm_directly_in_a_folder_needs_no_names_of_others(vcenter: VCenter) -> None:
    vcenter.govc("folder.create", "/DC0/vm/other")
    vcenter.govc("vm.clone", "-vm", vcenter.parent, "-on=false", "-host", "DC0_H0", "-folder", "other", "twin")
    with vcenter.calls() as calls:
        below = vcenter.ok("vmfork_parent", name="twin", folder="/DC0/vm")  # it is further below
    assert calls["CreateContainerView"] == 1
    assert below["parent"]["inventory_path"] == "/DC0/vm/other/twin"
    vcenter.govc("vm.change", "-vm", "twin", "-name", vcenter.parent)
    for folder in ("/DC0/vm", "/DC0/vm/other"):
        with vcenter.calls() as calls:
            found = vcenter.ok("vmfork_parent", name=vcenter.parent, folder=folder)
        assert found["parent"]["inventory_path"] == f"{folder}/{vcenter.parent}"
        assert calls["FindChild"] == 1
        assert "CreateContainerView" not in calls
