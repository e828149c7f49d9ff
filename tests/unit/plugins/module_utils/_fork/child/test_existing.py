# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM that exists under a requested name."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import existing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity import Kinship, Verdict
from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Found

HERE, ELSEWHERE = vim.Folder("group-v1"), vim.Folder("group-v2")


def vm(name: str, folder: Any, kinship: Kinship = Kinship.CHILD) -> tuple[Found, Verdict]:
    found = Found(vim.VirtualMachine(f"vm-{name}"), {"name": name}, f"/DC0/vm/{name}", None, folder)
    return found, Verdict(kinship, "why")


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("web-01", "WEB-01", True),
        ("stra\u00dfe", "STRASSE", True),
        ("web-01", "web-1", False),
        ("web-01", "web-01 ", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("web\u202e-01", "web-01", True),
        ("web 1", "web  1", True),
        ("web 1", "web1", False),
        ("\u0430", "a", False),
    ],
)
def test_same_name(name: str, other: str, same: bool) -> None:
    assert existing.same_name(name, other) is same


@pytest.mark.parametrize(
    ("there", "found", "refused"),
    [
        ([vm("WEB-01", HERE)], None, True),
        ([vm("WEB-01", ELSEWHERE)], None, True),
        ([vm("WEB-01", HERE, Kinship.FOREIGN)], None, True),
        ([vm("WEB-01", ELSEWHERE, Kinship.FOREIGN)], None, False),
        ([vm("WEB-01", HERE), vm("web-01", HERE)], "web-01", False),
        ([vm("WEB-01", HERE), vm("web-01", ELSEWHERE)], "web-01", False),
        ([vm("WEB-01", HERE), vm("web-01", ELSEWHERE, Kinship.FOREIGN)], None, True),
        ([], None, False),
    ],
)
def test_names_that_differ_in_case(there: list[tuple[Found, Verdict]], found: str | None, refused: bool) -> None:
    existing_vm = existing._choose("web-01", HERE, there)
    assert (existing_vm.found.name if existing_vm.found else None) == found
    assert (existing_vm.error is not None) is refused
    assert not refused or "WEB-01 (vm-WEB-01) at /DC0/vm/WEB-01" in str(existing_vm.error)


UUID = "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"


@pytest.mark.parametrize(
    ("owner", "refused"),
    [("other", True), ("web", False), (None, False)],
    ids=["of another VM", "its own already", "free"],
)
def test_bios_uuid_for_a_child_of_an_interrupted_task(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, owner: str | None, refused: bool
) -> None:
    """It gets the UUID with its record, and could not be told apart from another VM with that UUID."""
    vcenter.api_version = "6.5"
    head = {"config.forkConfigInfo": vim.vm.ForkConfigInfo(parentEnabled=True, parentForkGroupId="g1")}
    fork = {"config.forkConfigInfo": vim.vm.ForkConfigInfo(childForkGroupId="g1", childType="nonpersistent")}
    golden = vcenter.vm("golden", **head)
    vms = {"web": vcenter.vm("web", OFF, {guestinfo.CHILD_NONCE: "n0"}, **fork), "other": vcenter.vm("other")}
    if owner is not None:
        vcenter.objects[vms[owner]]["config.uuid"] = UUID.upper()
    parent = vcenter.parent(vcenter.use(monkeypatch), golden)
    everyone = _inventory.Everyone(parent.session, existing.PATHS)
    there = existing.find_existing(parent, Deadline(60), {"web": vcenter.folder}, {"web": UUID}, everyone)["web"]
    assert (there.error is not None) is refused
    assert (there.found is None) is refused
    assert not refused or f"has the bios_uuid {UUID}" in str(there.error)
