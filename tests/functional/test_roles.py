# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of the collection suffice for everything the modules do, and contain no unused privilege."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from functional.vcenter import POST_CLONE, VCenter

ROLES = Path(__file__).parents[2] / "playbooks" / "files" / "privileges"
PARENT, OTHER_PARENT = VCenter.parent, "DC0_H0_VM1"
POOL = "/DC0/host/DC0_H0/Resources/web"
NETWORK = "VM Network"
USER = {"username": "forker", "password": "forkers-long-password"}


def privileges(engine: str) -> list[str]:
    """Return the privileges in a file, as the commands in the guide read it."""
    lines = (ROLES / f"{engine}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def assign_role(vcenter: VCenter, engine: str) -> None:
    """Create the role, and assign it to a user on the objects that the guide names."""
    vcenter.control("POST", "users", {"name": USER["username"], "password": USER["password"]})
    vcenter.control("POST", "inventory", {"folders": ["/DC0/vm/web"]})
    vcenter.govc("pool.create", POOL)
    vcenter.govc("role.create", "forker", *privileges(engine))
    to_user = ("permissions.set", "-principal", USER["username"], "-role")
    vcenter.govc(*to_user, "ReadOnly", "/")
    parents = [f"/DC0/vm/{name}" for name in (PARENT, OTHER_PARENT)]
    places = ["/DC0/vm/web", POOL, "/DC0/datastore/LocalDS_0", f"/DC0/network/{NETWORK}"]
    vcenter.govc(*to_user, "forker", *parents, *places)


def quiesce(vcenter: VCenter, parent: str, delivery: str) -> dict[str, Any]:
    script = {"post_clone_script": POST_CLONE, "script_delivery": delivery}
    return {"name": parent, **vcenter.guest_login, **script}


def children(*names: str, **arguments: Any) -> dict[str, Any]:
    given = {"parent_name": PARENT, "children": [{"name": name} for name in names]}
    return {**given, "folder": "web", "resource_pool": POOL, **arguments}


@pytest.fixture
def lacks(vcenter: VCenter) -> Callable[..., None]:
    """Return a function that runs a module once without each of some privileges, and then with all of them."""

    def run(tried: set[str], module: str, *needed: str, **given: Any) -> None:
        tried.update(needed)
        for privilege in needed:
            vcenter.govc("role.update", "-r", "forker", privilege)
            refused = vcenter.fails(module, **given, **USER)
            messages = [refused.msg, *(str(child["error"]) for child in refused.get("children", []))]
            assert any(f"lacks the privilege {privilege} on " in message for message in messages), (privilege, messages)
            vcenter.govc("role.update", "-a", "forker", privilege)
        vcenter.ok(module, **given, **USER)

    return run


TOGGLE = "VirtualMachine.Config.ToggleForkParent"
ADVANCED = "VirtualMachine.Config.AdvancedConfig"
EXECUTE = "VirtualMachine.GuestOperations.Execute"
MODIFY = "VirtualMachine.GuestOperations.Modify"
QUERY = "VirtualMachine.GuestOperations.Query"
POWER_ON = "VirtualMachine.Interact.PowerOn"
POWER_OFF = "VirtualMachine.Interact.PowerOff"
DELETE = "VirtualMachine.Inventory.Delete"
PLACES = ("VirtualMachine.Inventory.CreateFromExisting", "Resource.AssignVMToPool", "Datastore.AllocateSpace")


@pytest.mark.flags("-vm", "2")
def test_vmfork(vcenter: VCenter, lacks: Callable[..., None]) -> None:
    assign_role(vcenter, "vmfork")
    tried: set[str] = set()
    lacks(tried, "vmfork_parent", TOGGLE, name=PARENT)
    vcenter.ok("vmfork_parent", name=OTHER_PARENT, **USER)
    lacks(tried, "vmfork_quiesce", EXECUTE, MODIFY, **quiesce(vcenter, PARENT, "file_transfer"))
    lacks(tried, "vmfork_quiesce", QUERY, ADVANCED, **quiesce(vcenter, OTHER_PARENT, "guestinfo"))
    uuid = "564d0000-0000-4000-8000-000000000001"
    lacks(tried, "vmfork_child", *PLACES, ADVANCED, POWER_ON, **children("web-01"))
    lacks(tried, "vmfork_child", "VirtualMachine.Config.Settings", **children("web-02", bios_uuid=uuid))
    lacks(tried, "vmfork_child", POWER_OFF, DELETE, **children("web-01", state="absent"))
    vcenter.ok("vmfork_child", parent_name=PARENT, state="absent", all=True, **USER)
    lacks(tried, "vmfork_parent", POWER_OFF, name=PARENT, state="disabled", power_off=True)
    assert tried == set(privileges("vmfork"))


@pytest.mark.flags("-api-version", "8.0.3.0", "-vm", "2")
def test_instant_clone(vcenter: VCenter, lacks: Callable[..., None]) -> None:
    assign_role(vcenter, "instant_clone")
    tried: set[str] = set()
    lacks(tried, "vmfork_quiesce", EXECUTE, MODIFY, **quiesce(vcenter, PARENT, "file_transfer"))
    lacks(tried, "vmfork_quiesce", QUERY, ADVANCED, **quiesce(vcenter, OTHER_PARENT, "guestinfo"))
    clone = "VirtualMachine.Provisioning.Clone"
    lacks(tried, "vmfork_child", clone, *PLACES, POWER_ON, **children("web-01"))
    secret = {"token": "only-the-guest-may-read-this"}
    lacks(tried, "vmfork_child", ADVANCED, **children("web-02", secret_config_params=secret))
    late = {"networks": [{"network": NETWORK, "connect": "after_post_clone"}]}
    device = ("VirtualMachine.Config.EditDevice", "VirtualMachine.Interact.DeviceConnection")
    lacks(tried, "vmfork_child", "Network.Assign", *device, **children("web-03", **late))
    lacks(tried, "vmfork_child", POWER_OFF, DELETE, **children("web-01", state="absent"))
    vcenter.ok("vmfork_child", parent_name=PARENT, state="absent", all=True, **USER)
    lacks(tried, "vmfork_parent", POWER_OFF, name=PARENT, state="disabled", power_off=True)
    assert tried == set(privileges("instant_clone"))
