# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The children listed under each parent, when only the server shows them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity, listing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.vmfork import VmforkEngine

NO_SESSION: Any = None
ENGINE = VmforkEngine(NO_SESSION)  # it reads properties only
ENABLED = {"config.instanceUuid": "p", "config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=True)}
FORK = {"config.forkConfigInfo": vim.vm.ForkConfigInfo(childType="persistent")}
PLAIN = {"config.instanceUuid": "v"}


def head_of(group: str | None) -> dict[str, Any]:
    """Return a fork parent, and the fork group that vSphere 6.5 shows on it."""
    info = vim.vm.ForkConfigInfo(parentEnabled=True, parentForkGroupId=group)
    return {"config.instanceUuid": "p", "config.forkConfigInfo": info}


def member_of(group: str | None, **values: Any) -> dict[str, Any]:
    """Return a fork of any tool, with the fork group that vSphere 6.5 shows on it."""
    info = vim.vm.ForkConfigInfo(childType="nonpersistent", childForkGroupId=group)
    return {"config.instanceUuid": "c", "config.forkConfigInfo": info, **values}


def record(parent: str, own: str = "u") -> dict[str, Any]:
    """Return our record for a VM."""
    option = SimpleNamespace(key=identity.RECORD_KEY, value=f"1 {parent} {own} nonce")
    return {"config.uuid": "u", "config.extraConfig": [option]}


@pytest.mark.parametrize(
    ("everyone", "forks", "family", "orphans"),
    [
        pytest.param({"p": ENABLED, "c": FORK}, {}, {"p": []}, ["c"], id="fork that the server does not list"),
        pytest.param({"p": ENABLED, "c": FORK}, {"c": "p"}, {"p": ["c"]}, [], id="fork, parent named"),
        pytest.param({"p": PLAIN, "c": PLAIN}, {"c": "p"}, {"p": ["c"]}, [], id="former parent"),
        pytest.param({"c": FORK}, {"c": "p"}, {}, ["c"], id="parent that cannot be seen"),
        pytest.param({"c": PLAIN}, {"c": "p"}, {}, ["c"], id="neither can be seen otherwise"),
        pytest.param({"p": ENABLED}, {"c": "p"}, {"p": []}, [], id="child that cannot be seen"),
        pytest.param({"v": PLAIN}, {}, {}, [], id="neither parent nor child"),
        # vSphere 6.5 shows the fork group on both.
        pytest.param({"p": head_of("g"), "c": member_of("g")}, {}, {"p": ["c"]}, [], id="another tool's fork on 6.5"),
        pytest.param(
            {"p": head_of("g"), "c": member_of("h")}, {}, {"p": []}, ["c"], id="fork of a parent that is gone"
        ),
        pytest.param({"p": head_of(None), "c": member_of(None)}, {}, {"p": []}, ["c"], id="no group is no match"),
        pytest.param({"p": head_of("g"), "c": member_of("g", **record("p"))}, {}, {"p": ["c"]}, [], id="child on 6.5"),
        pytest.param(
            {"p": head_of("g"), "c": member_of("h", **record("p"))},
            {},
            {"p": []},
            ["c"],
            id="record that the group contradicts",
        ),
        pytest.param(
            {"p": head_of("g"), "c": member_of("g", **record("q"))},
            {},
            {"p": []},
            ["c"],
            id="group that the record contradicts",
        ),
    ],
)
def test_family(everyone: dict[str, Any], forks: dict[str, str], family: dict[str, Any], orphans: list[str]) -> None:
    related = listing.relate(everyone, ENGINE, forks)
    assert related == family
    assert listing.without_parent(everyone, related, forks) == orphans


@pytest.mark.parametrize(("frozen", "family"), [(True, {"p": []}), (False, {})])
def test_vm_that_needs_no_enabling_is_a_parent_at_its_fork_point(frozen: bool, family: dict[str, Any]) -> None:
    everyone = {"p": {"config.instanceUuid": "p", "runtime.instantCloneFrozen": frozen}}
    assert listing.relate(everyone, InstantCloneEngine(NO_SESSION), {}) == family


def test_forks_of_other_tools_are_returned_under_their_parent(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are returned as not recorded; on 6.5 only the fork group identifies them."""
    vcenter.api_version = "6.5"
    parent = vcenter.vm("golden", **{"config.forkConfigInfo": head_of("g")["config.forkConfigInfo"]})
    group = {"config.forkConfigInfo": member_of("g")["config.forkConfigInfo"]}
    vcenter.vm("theirs", **group)
    ours = vcenter.vm("ours", **group)
    ids = [vcenter.objects[vm][path] for vm, path in [(parent, "config.instanceUuid"), (ours, "config.uuid")]]
    vcenter.set_keys(ours, **{identity.RECORD_KEY: f"1 {ids[0]} {ids[1]} nonce"})
    vcenter.vm("other")
    session = vcenter.use(monkeypatch)
    found = listing.list_parents(
        session, select.choose(session, "auto", "soap"), Deadline(60), None, lambda _text: None
    )
    assert [parent["name"] for parent in found["parents"]] == ["golden"]
    children = found["parents"][0]["children"]
    assert [(child["name"], child["recorded"]) for child in children] == [("ours", True), ("theirs", False)]
    assert found["without_parent"] == []


@pytest.mark.parametrize(
    ("there", "parents_shown", "orphans_shown"),
    [(None, ["golden"], ["lone"]), (["golden"], ["golden"], []), (["web"], ["golden"], []), (["lone"], [], ["lone"])],
)
def test_families_with_a_member_in_a_folder(
    vcenter: FakeVCenter,
    monkeypatch: pytest.MonkeyPatch,
    there: list[str] | None,
    parents_shown: list[str],
    orphans_shown: list[str],
) -> None:
    """A family is listed completely."""
    vms = {
        "golden": vcenter.vm("golden", **{"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentForkGroupId="g")}),
        "web": vcenter.vm("web", **{"config.forkConfigInfo": vim.vm.ForkConfigInfo(childForkGroupId="g")}),
        "lone": vcenter.vm("lone", **{"config.forkConfigInfo": vim.vm.ForkConfigInfo(childForkGroupId="h")}),
    }
    session = vcenter.use(monkeypatch)
    within = None if there is None else {vms[name] for name in there}
    listed = listing.list_parents(session, select.choose(session, "auto", "soap"), Deadline(60), None, print, within)
    assert [parent["name"] for parent in listed["parents"]] == parents_shown
    assert [[child["name"] for child in parent["children"]] for parent in listed["parents"]] == [["web"]] * len(
        parents_shown
    )
    assert [child["name"] for child in listed["without_parent"]] == orphans_shown
