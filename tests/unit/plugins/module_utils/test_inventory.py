# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names as users write them and as vSphere stores them, and users who may read only a part of the inventory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim


@given(st.text() | st.text("%/\\25cf"))
def test_escaping_round_trip(name: str) -> None:
    stored = _inventory.escape(name)
    assert "/" not in stored
    assert "\\" not in stored
    assert _inventory.unescape(stored) == name


def test_uppercase_escapes_of_other_clients() -> None:
    assert _inventory.unescape("a%2Fb%5Cc%25d%20e") == "a/b\\c%d%20e"


ROOT, DATACENTER = vim.Folder("group-d1"), vim.Datacenter("datacenter-2")
SEEN, UNSEEN = vim.Datastore("datastore-1"), vim.Datastore("datastore-2")
VCENTER: Any = SimpleNamespace(name="vcenter", content=SimpleNamespace(rootFolder=ROOT, searchIndex=None))


@pytest.fixture
def roots(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the searched roots, for a user who may read the name of one datastore, and nothing of the datacenter."""
    looked_in = []

    def scan(_session: Any, root: Any, kind: Any, _paths: Any) -> dict[Any, dict[str, Any]]:
        looked_in.append(root)
        return {SEEN: {"name": "ssd%2f1"}, UNSEEN: {}} if kind is vim.Datastore else {DATACENTER: {}}

    monkeypatch.setattr(_properties, "scan", scan)
    monkeypatch.setattr(_properties, "read", lambda _session, objects, _paths: {managed: {} for managed in objects})
    monkeypatch.setattr(_properties, "read_with_ancestors", lambda _session, objects, _paths: ({}, {}))
    return looked_in


@pytest.mark.parametrize(("datacenter", "root"), [(None, ROOT), (DATACENTER, DATACENTER)])
def test_readable_object_is_found(roots: list[Any], datacenter: Any, root: Any) -> None:
    for name, datastore in {"ssd/1": SEEN, "datastore-1": SEEN, "datastore-2": UNSEEN}.items():
        assert _inventory.find_named(VCENTER, vim.Datastore, "datastore", name, datacenter) is datastore
    assert roots == [root] * 3
    with pytest.raises(_errors.NotFound, match=r"There are: ssd/1\.$"):
        _inventory.find_named(VCENTER, vim.Datastore, "datastore", "hdd", datacenter)


@pytest.mark.parametrize("datacenter", [None, DATACENTER])
@pytest.mark.usefixtures("roots")
def test_folder_of_a_vm_in_an_unreadable_datacenter(datacenter: Any) -> None:
    with pytest.raises(_errors.BadInput, match="Use the full path"):
        _inventory.find_folder(VCENTER, "web", datacenter)


@pytest.mark.usefixtures("roots")
def test_datacenter_with_an_unreadable_name() -> None:
    of_vm = _inventory.Selector(name="golden", datacenter="DC0")
    with pytest.raises(_errors.NotFound, match=r"The datacenter DC0 was not found on vcenter\. There are: none\.$"):
        _inventory.find_vm(VCENTER, of_vm, [])


def test_circular_tree() -> None:
    """A server that names a folder as its own ancestor must not hang the task."""
    folders = [vim.Folder(f"group-v{number}") for number in range(3)]
    circle = {
        folder: {"name": folder._GetMoId(), "parent": folders[number - 1]} for number, folder in enumerate(folders)
    }
    vm = vim.VirtualMachine("vm-1")
    path, chain = _inventory._path(vm, {**circle, vm: {"name": "web", "parent": folders[0]}})
    assert path.endswith("/web")
    assert len(chain) == 3
    vapps = [vim.VirtualApp(f"resgroup-v{number}") for number in range(2)]
    around: dict[Any, dict[str, Any]] = {vapps[0]: {"parent": vapps[1]}, vapps[1]: {"parent": vapps[0]}}
    assert len(list(_inventory._vapps({"parentVApp": vapps[0]}, around))) == 2


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    ("count", "given", "sentence"),
    [
        (0, {}, "VM zz was not found on vcenter (VMware vCenter Server, API 8.0.3.0). No VM is visible there. Check"),
        (
            2,
            {},
            " API 8.0.3.0). VMs there: 2 (web-00, web-01). Check",
        ),
        (
            12,
            {},
            "VMs there: 12 (web-00, web-01, web-02, web-03, web-04, web-05, web-06, web-07, web-08, web-09, ...). ",
        ),
        (2, {"datacenter": "DC0"}, "VM zz was not found in datacenter DC0 on vcenter "),
    ],
)
def test_unknown_name(
    vcenter: FakeVCenter,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    given: dict[str, str],
    sentence: str,
    several: bool,
) -> None:
    session = vcenter.use(monkeypatch)
    for number in range(count):
        vcenter.vm(f"web-{number:02}")
    find: Any = _inventory.find_vms if several else _inventory.find_vm
    which: Any = _inventory.Selection(["zz"], **given) if several else _inventory.Selector("zz", **given)
    with pytest.raises(_errors.NotFound) as refusal:
        find(session, which, [])
    assert sentence in refusal.value.sentence


def test_candidates_of_a_scope(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty candidate matches no VM, not even one with unreadable UUIDs."""
    session = vcenter.use(monkeypatch)
    for number in range(4):
        uuids: dict[str, Any] = {"config.instanceUuid": f"5f-{number}", "config.uuid": f"42-{number}"}
        vcenter.vm(f"web-{number}", **uuids)
    hidden = vcenter.vm("hidden")
    del vcenter.objects[hidden]["config.instanceUuid"], vcenter.objects[hidden]["config.uuid"]
    candidates = ["", "web-0", "5F-1", "42-2", "WEB-3"]
    found = _inventory.find_vms(session, _inventory.Selection(candidates=candidates), ["name"])
    assert sorted(vm.name for vm in found) == ["web-0", "web-1", "web-2"]


@pytest.mark.parametrize("prefix", ["", "parent_"])
def test_option_for_the_datacenter_of_a_folder(
    vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    session = vcenter.use(monkeypatch)
    vcenter.add(vim.Datacenter, "datacenter-9", name="DC1", parent=vcenter.root)
    given = dict.fromkeys(_arguments.vm_spec(prefix)) | {f"{prefix}name": "golden", f"{prefix}folder": "web"}
    with pytest.raises(_errors.BadInput, match=rf"Set {prefix}datacenter to one of these datacenters: DC0, DC1\.$"):
        _inventory.find_vm(session, _arguments.vm(given, prefix), [])
