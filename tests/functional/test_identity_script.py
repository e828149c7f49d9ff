# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's identity script in simulated guests, from the fork to what the modules return."""

from __future__ import annotations

from pathlib import Path

import pytest
from functional.engines import both_engines
from functional.vcenter import PRE_QUIESCE, Result, VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity_report import ITEMS

pytestmark = both_engines

FILES = Path(__file__).parents[2] / "roles/vmfork/files"
SCRIPT = "".join((FILES / name).read_text() for name in ("linux_cloud_init.sh", "linux_identity.sh"))


@pytest.fixture
def parent(vcenter: VCenter) -> VCenter:
    vcenter.enable()
    vcenter.in_guest(vcenter.moid(), "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")
    result = vcenter.run("vmfork_quiesce", name=vcenter.parent, **vcenter.guest_login, identity_script=SCRIPT)
    assert result.get("changed"), result.msg
    assert result["has_identity_script"] is True
    return vcenter


def fork(vcenter: VCenter, identity: dict[str, object], *names: str) -> Result:
    children = [
        {"name": name, "config_params": {"ipaddress": f"192.0.2.{at}/25, 2001:db8::{at}", "gateway": "192.0.2.1"}}
        for at, name in enumerate(names, 11)
    ]
    return vcenter.run("vmfork_child", parent_name=vcenter.parent, children=children, identity=identity)


def test_children_are_somebody_else(parent: VCenter) -> None:
    result = fork(parent, {}, "web-01", "web-02.example.com")
    assert not result.get("failed"), result.msg
    for child, address in zip(result["children"], ["192.0.2.11", "192.0.2.12"], strict=True):
        items = child["identity"]["items"]
        # No agents; arping is there on some machines.
        assert {item: items[item] for item in ITEMS if item not in ("agents", "announce")} == {
            item: "ok" for item in ITEMS if item not in ("agents", "announce")
        }, child["identity"]["reasons"]
        assert items["agents"] == "absent"
        assert child["identity"]["renewed"] is True
        assert address in child["ip_addresses"]
        assert f"{address}/25" in parent.in_guest(child["moid"], "ip address")
        assert parent.in_guest(child["moid"], "hostname").strip() == child["name"].split(".")[0]
    first, second = [child["identity"] for child in result["children"]]
    assert first["machine_id"] != second["machine_id"]
    assert not set(first["ssh_host_keys"]) & set(second["ssh_host_keys"])
    assert "web-02.example.com web-02" in parent.in_guest(result["children"][1]["moid"], "cat /etc/hosts")


def test_later_task_shows_whether_there_is_a_script(parent: VCenter) -> None:
    later = parent.run("vmfork_quiesce", name=parent.parent, method="wait")
    assert (later["changed"], later["has_identity_script"]) == (False, True)


def test_parent_without_the_script(vcenter: VCenter) -> None:
    vcenter.enable()
    login = {"name": vcenter.parent, **vcenter.guest_login}
    planned = vcenter.run("vmfork_quiesce", **login, identity_script=SCRIPT, check=True)
    assert (planned["changed"], planned["has_identity_script"]) == (True, True)
    done = vcenter.run("vmfork_quiesce", **login, pre_quiesce_script=PRE_QUIESCE)
    assert (done["changed"], done["has_identity_script"]) == (True, False)


def test_error_in_the_guest_is_that_of_the_child(parent: VCenter) -> None:
    children = [
        {"name": "web-01", "config_params": {"ipaddress": "192.0.2.11"}},
        {"name": "web-02", "config_params": {"ipaddress": "192.0.2.12", "routes": "default"}},
    ]
    result = parent.run("vmfork_child", parent_name=parent.parent, children=children, identity={})
    assert result.get("children"), result.msg
    good, bad = result["children"]
    assert (good["error"], good["identity"]["renewed"]) == (None, True)
    assert "network failed (the config param routes is not valid)" in bad["error"]
    assert bad["identity"]["items"]["machine_id"] == "ok"


def test_item_on_request_must_be_there(parent: VCenter) -> None:
    """Simulated guests do not have cloud-init."""
    result = fork(parent, {"items": ["machine_id", "cloud_init"]}, "web-01")
    [child] = result["children"]
    assert "cloud_init is not in its guest (no cloud-init)" in child["error"]
    # The parent was prepared for all items, so its network was down.
    assert child["identity"]["items"] == {"network": "ok", "machine_id": "ok", "cloud_init": "absent"}
