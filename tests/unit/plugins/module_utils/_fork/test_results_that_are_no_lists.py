# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid results of vCenter's tasks lead to a sentence, and to no change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity, listing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import absent
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import present as children
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent

FORK_PARENT = vim.vm.ForkConfigInfo(parentEnabled=True)

RESULTS = [5, True, "vm-1", [5], ["vm-1"], [None], [vim.Folder("group-v1")], vim.VirtualMachine("vm-100")]


def remove(parent: Parent, state: str = "absent", name: str | None = None) -> None:
    order = absent.Order(state, Deadline(100), check_mode=False, warn=lambda _text: None)
    results = (
        absent.remove_all(parent, order) if name is None else absent.remove_named(parent, [ChildSpec(name)], order)
    )
    for result in results:
        if result.error is not None:
            raise _errors.OperationFailed(result.error)


ACTS: dict[str, Callable[[Parent], Any]] = {
    "absent": lambda parent: remove(parent, name="web"),
    "absent of a child that is a fork parent": lambda parent: remove(parent, name="ours"),
    "all absent": remove,
    "all detached": lambda parent: remove(parent, "detached"),
    "disabled": lambda parent: parents.disable(parent, Deadline(100), False, True, False, lambda _text: None),
    "info": lambda parent: listing.list_parents(
        parent.session, parent.engine, Deadline(100), parent, lambda _text: None
    ),
}


@pytest.mark.parametrize("result", RESULTS, ids=str)
@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
def test_list_of_children(act: Callable[[Parent], Any], result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vcenter = FakeVCenter("6.0")
    golden = vcenter.vm("golden", **{"config.forkConfigInfo": FORK_PARENT})
    vcenter.vm("web")
    ours = vcenter.vm("ours", **{"config.forkConfigInfo": FORK_PARENT})
    bios_uuid = vcenter.objects[ours]["config.uuid"]
    record = identity.Record(vcenter.objects[golden]["config.instanceUuid"], bios_uuid, "n0")
    vcenter.set_keys(ours, **{identity.RECORD_KEY: str(record)})
    parent = vcenter.parent(vcenter.use(monkeypatch), golden)
    vcenter.effects["RetrieveForkChildren_Task"] = lambda _vm: result
    with pytest.raises(_errors.OperationFailed, match="is not a list of VirtualMachine objects"):
        act(parent)
    assert vcenter.called("Destroy_Task", "PowerOffVM_Task", "ReconfigVM_Task") == []


@pytest.mark.parametrize("result", [5, "vm-1", [vim.VirtualMachine("vm-100")], vim.Folder("group-v1")], ids=str)
def test_parent_of_a_child(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vcenter = FakeVCenter("6.0")
    web = vcenter.vm("web")
    child = vcenter.parent(vcenter.use(monkeypatch), web)
    vcenter.effects["RetrieveForkParent_Task"] = lambda _vm: result
    with pytest.raises(_errors.OperationFailed, match="Could not find the parent of VM web: "):
        parents.listed_parent(child, Deadline(100))


@pytest.mark.parametrize("result", [5, "ok", [5], [vim.VirtualMachine("vm-100")]], ids=str)
def test_dry_run(result: Any, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is then unknown whether the child could be created, which is a warning."""
    golden = vcenter.vm("golden", **{"runtime.instantCloneFrozen": True})
    parent = vcenter.parent(vcenter.use(monkeypatch), golden)
    vcenter.effects["CheckInstantClone_Task"] = lambda _checker, **_given: result
    warnings: list[str] = []
    options = children.CreateOptions("post_clone", concurrency=1)
    (made,) = children.ensure_present(parent, [ChildSpec("web")], options, Deadline(100), True, warnings.append).results
    assert (made.state, made.error) == ("created", None)
    assert "is not a list of Result objects" in str(warnings)
