# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_info on servers that show little about forks, and for children that another tool created."""

from __future__ import annotations

from typing import Any

import pytest
from functional.engines import both_engines, vmfork_only
from functional.test_privileges import TOGGLE, user_without
from functional.vcenter import VCenter

pytestmark = both_engines

V6_0 = pytest.mark.flags("-api-version", "6.0")
BOOK = vmfork_only("servers keep no book of instant clones", mob=True)


def forked_by_another_tool(vcenter: VCenter, *names: str) -> None:
    vcenter.fork(*names, wait_for="powered_on")
    for name in names:
        vcenter.govc("vm.change", "-vm", name, "-e", "vmfork.child=")


def family(result: dict[str, Any]) -> dict[str, list[tuple[str, bool]]]:
    return {
        parent["name"]: [(child["name"], child["recorded"]) for child in parent["children"]]
        for parent in result["parents"]
    }


def orphans(result: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(child["name"], child["recorded"]) for child in result["without_parent"]]


@BOOK
@V6_0
@pytest.mark.parametrize("group", ["always", "absent"])
def test_forks_of_another_tool(quiesced: VCenter, group: str) -> None:
    quiesced.rule("child_fork_group_id", group)
    forked_by_another_tool(quiesced, "web-01", "web-02")
    of_all, of_parent, of_child = (quiesced.ok("vmfork_info", name=name) for name in (None, quiesced.parent, "web-01"))
    unrecorded = [("web-01", False), ("web-02", False)]
    assert (family(of_all), orphans(of_all)) == ({quiesced.parent: []}, unrecorded)
    assert (family(of_parent), orphans(of_parent)) == ({quiesced.parent: unrecorded}, [])
    assert (family(of_child), orphans(of_child)) == ({quiesced.parent: unrecorded[:1]}, [])


@BOOK
@V6_0
def test_deleted_parent(quiesced: VCenter) -> None:
    quiesced.rule("power_off_with_children", "harmless")
    quiesced.rule("child_fork_group_id", "absent")
    forked_by_another_tool(quiesced, "web-01")
    quiesced.govc("vm.destroy", quiesced.parent)
    for name in (None, "web-01"):
        listed = quiesced.ok("vmfork_info", name=name)
        assert (family(listed), orphans(listed)) == ({}, [("web-01", False)])


@BOOK
@V6_0
def test_child_without_visible_fork_data(vcenter: VCenter) -> None:
    """A persistent child that has run is a linked clone: only the server itself knows its parent."""
    vcenter.rule("persistent_child_group", "removed")
    vcenter.govc("snapshot.create", "-vm", vcenter.parent, "base")
    vcenter.enable()
    vcenter.quiesce()
    vcenter.fork("web-01", persistent=True, wait_for="powered_on")
    vcenter.govc("vm.change", "-vm", "web-01", "-e", "vmfork.child=")
    listed = vcenter.ok("vmfork_info", name="web-01")
    assert (family(listed), orphans(listed)) == ({vcenter.parent: [("web-01", False)]}, [])


@pytest.mark.parametrize("answer", ["success", "InvalidState"])
def test_vm_without_forks(vcenter: VCenter, answer: str) -> None:
    vcenter.rule("parent_of_non_child", answer)
    vcenter.rule("children_of_non_parent", answer)
    listed = vcenter.ok("vmfork_info", name=vcenter.parent)
    assert (listed["parents"], listed["without_parent"]) == ([], [])


@BOOK
@V6_0
def test_user_without_permission_to_query_forks(quiesced: VCenter) -> None:
    quiesced.rule("retrieve_privilege", "ToggleForkParent")
    quiesced.fork("web-01", wait_for="powered_on")
    low = user_without(quiesced, TOGGLE)
    for name in (quiesced.parent, "web-01"):
        listed = quiesced.ok("vmfork_info", name=name, **low)
        assert (family(listed), orphans(listed)) == ({quiesced.parent: [("web-01", True)]}, [])
        assert "Forks that this collection did not create may be missing." in str(listed["warnings"])
        assert f"lacks the privilege {TOGGLE} on" in str(listed["warnings"])
