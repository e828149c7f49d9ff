# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests and results of vapp_restore with a vCenter in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import OFF, FakeVCenter
from unit.plugins.modules.test_vm_vapp_options import RECONFIGURE, SECRET, Server

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_export
from ansible_collections.vmfork.vsphere.plugins.modules import vapp_restore


class Site:
    """A vCenter with VMs, whose vApp options were exported and then lost."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.vcenter = vcenter
        self.session = vcenter.use(monkeypatch, 60.0)
        self.servers = [Server(vcenter, self.session, OFF) for _number in range(count)]
        for number, server in enumerate(self.servers):
            server.values["name"] = f"web-{number}"
            server.values["config.instanceUuid"] = f"5005{number:04}-0000-0000-0000-000000000000"
        vcenter.effects[RECONFIGURE] = self.reconfigure
        self.exported = [
            vapp_export.document(server.values["name"], server.values, server.values["config.vAppConfig"])
            for server in self.servers
        ]
        for server in self.servers:
            del server.values["config.vAppConfig"]
        self.warnings: list[str] = []

    def reconfigure(self, vm: Any, spec: Any) -> None:
        server = next(server for server in self.servers if server.vm == vm)
        server.values.setdefault("config.vAppConfig", vim.vApp.VmConfigInfo(property=[]))
        server.reconfigure(vm, spec)

    def entries(self, **more: Any) -> list[dict[str, Any]]:
        return [
            {"moid": server.vm._GetMoId(), "restore_from": document, "secret_values": None, "overwrite": False, **more}
            for server, document in zip(self.servers, self.exported, strict=True)
        ]

    def run(self, vms: list[dict[str, Any]], check: bool = False, diff: bool = True, **given: Any) -> dict[str, Any]:
        params = {name: option.get("default") for name, option in vapp_restore.SPEC.items()}
        request = vapp_restore.parse({**params, "concurrency": 1, "vms": vms, **given})
        return vapp_restore.work(_module.Task(request, check, self.warnings.append, diff), self.session)

    def stored(self) -> list[dict[str, str]]:
        options = [server.values.get("config.vAppConfig") for server in self.servers]
        return [{prop.id: prop.value for prop in info.property} if info is not None else {} for info in options]


@pytest.fixture
def make(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    return lambda count=2: Site(vcenter, monkeypatch, count)


def test_check_run_run_again(make: Callable[..., Site]) -> None:
    site = make()
    checked = site.run(site.entries(), check=True)
    assert site.vcenter.count(RECONFIGURE) == 0
    done = site.run(site.entries())
    again = site.run(site.entries())
    assert checked["vms"] == done["vms"]
    assert (done["changed"], again["changed"]) == (True, False)
    assert [vm["name"] for vm in done["vms"]] == ["web-0", "web-1"]
    assert [vm["not_restored"] for vm in done["vms"]] == [["admin"], ["admin"]]
    assert [entry["after_header"] for entry in done["diff"]] == ["web-0", "web-1"]
    assert "diff" not in again
    assert site.stored() == [{"hostname": "old", "admin": ""}] * 2
    assert site.vcenter.count(RECONFIGURE) == 2
    assert site.vcenter.count("Login") == 1


def test_secrets_are_written_and_not_shown(make: Callable[..., Site]) -> None:
    site = make(1)
    done = site.run(site.entries(secret_values={"admin": SECRET}))
    assert done["vms"][0]["secrets_written"] == ["admin"]
    assert done["vms"][0]["not_restored"] == []
    assert SECRET not in str(done) + str(site.warnings)


def test_failure_of_a_vm_does_not_stop_the_others(make: Callable[..., Site]) -> None:
    site = make(4)
    entries = site.entries()
    entries[0]["moid"] = "vm-99999"
    entries[1]["restore_from"] = {**entries[1]["restore_from"], "version": 99}
    site.vcenter.refuse(RECONFIGURE, vim.fault.NoPermission(msg="Permission was denied."))
    with pytest.raises(_errors.OperationFailed) as caught:
        site.run(entries)
    assert caught.value.sentence == (
        "3 of 4 VMs could not be restored. VM vm-99999 (web-0 in the document) was not found. Check whether the user "
        "can see it. And 2 more; see vms."
    )
    vms = caught.value.details["vms"]
    assert [(vm["failed"], vm["changed"]) for vm in vms] == [(True, False), (True, False), (True, False), (False, True)]
    assert "VM web-1 is left unchanged. The options are not valid: restore_from has version 99" in vms[1]["msg"]
    assert "Could not write the vApp options of VM web-2" in vms[2]["msg"]
    assert vms[3]["msg"] == ""
    assert site.stored() == [{}, {}, {}, {"hostname": "old", "admin": ""}]


def test_progress(make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(3)
    entries = site.entries()
    entries[1]["moid"] = "vm-99999"
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr(site.session.progress, "show", lambda text, done=0, total=0: shown.append((text, done, total)))
    with pytest.raises(_errors.OperationFailed):
        site.run(entries)
    assert shown[-4:] == [
        ("0 of 3 VMs done", 0, 3),
        ("1 of 3 VMs done", 1, 3),
        ("2 of 3 VMs done, 1 failed", 2, 3),
        ("3 of 3 VMs done, 1 failed", 3, 3),
    ]


def test_vm_with_other_options_is_not_overwritten_unless_asked(make: Callable[..., Site]) -> None:
    site = make(1)
    site.servers[0].set(vim.vApp.PropertyInfo(key=0, id="hostname", type="string", value="x", userConfigurable=True))
    with pytest.raises(_errors.OperationFailed, match="1 of 1 VM could not be restored"):
        site.run(site.entries())
    assert site.stored() == [{"hostname": "x"}]
    assert site.run(site.entries(overwrite=True))["changed"]
    assert site.stored() == [{"hostname": "old", "admin": ""}]


def test_keys_that_only_some_documents_have(make: Callable[..., Site]) -> None:
    site = make()
    entries = site.entries()
    for entry, server in zip(entries, site.servers, strict=True):
        entry["overwrite"] = True
        server.set(vim.vApp.PropertyInfo(key=0, id="hostname", type="string", value="x", userConfigurable=True))
    properties = entries[1]["restore_from"]["properties"]
    entries[1]["restore_from"] = {
        **entries[1]["restore_from"],
        "properties": [prop for prop in properties if prop["id"] != "admin"],
    }
    site.run(entries, restore_keys=["hostname", "admin"])
    assert site.stored() == [{"hostname": "old", "admin": ""}, {"hostname": "old"}]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"concurrency": 0}, "concurrency is 0, but must be at least 1"),
        ({"vms": lambda entries: entries + entries}, "vms has several entries for VM"),
        ({"vms": lambda entries: [{**entries[0], "moid": " "}]}, "An entry of vms has an empty moid"),
    ],
)
def test_bad_input(make: Callable[..., Site], change: dict[str, Any], sentence: str) -> None:
    site = make(1)
    given = {name: value(site.entries()) if callable(value) else value for name, value in change.items()}
    with pytest.raises(_errors.BadInput, match=sentence):
        site.run(**{"vms": site.entries(), **given})
    assert site.vcenter.count(RECONFIGURE) == 0


def test_nothing_to_restore(make: Callable[..., Site]) -> None:
    site = make(1)
    assert site.run([]) == {"changed": False, "vms": []}


def test_difference_is_only_returned_in_diff_mode(make: Callable[..., Site]) -> None:
    """It is as large as the vApp options of all VMs."""
    site = make()
    done = site.run(site.entries(), diff=False)
    assert done["changed"]
    assert "diff" not in done


def test_vm_that_somebody_changes_meanwhile_is_not_overwritten(make: Callable[..., Site]) -> None:
    """All VMs are read before the first one is written. vCenter refuses the outdated change of the second one."""
    site = make()
    next(prop for prop in site.exported[1]["properties"] if prop["id"] == "hostname")["value"] = "exported"

    def changed_meanwhile(vm: Any, spec: Any) -> None:
        if vm == site.servers[0].vm:
            site.servers[1].set(
                vim.vApp.PropertyInfo(key=0, id="hostname", type="string", value="theirs", userConfigurable=True)
            )
        site.reconfigure(vm, spec)

    site.vcenter.effects[RECONFIGURE] = changed_meanwhile
    with pytest.raises(_errors.OperationFailed, match="1 of 2 VMs could not be restored") as caught:
        site.run(site.entries())
    assert [vm["failed"] for vm in caught.value.details["vms"]] == [False, True]
    assert "Set overwrite=true" in caught.value.details["vms"][1]["msg"]
    assert site.stored()[1] == {"hostname": "theirs"}


def test_missing_privilege(make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked for all VMs at once, and named for the VM that it is missing on."""
    site = make()
    lacking = site.servers[1].vm

    def answer(_manager: Any, entity: list[Any], privId: list[str], **_given: Any) -> list[Any]:  # noqa: N803
        availability = vim.AuthorizationManager.PrivilegeAvailability
        return [
            vim.AuthorizationManager.EntityPrivilege(
                entity=vm, privAvailability=[availability(privId=name, isGranted=vm != lacking) for name in privId]
            )
            for vm in entity
        ]

    monkeypatch.setattr(site.vcenter, "_do_HasPrivilegeOnEntities", answer)
    with pytest.raises(_errors.OperationFailed) as caught:
        site.run(site.entries(), check=True)
    assert [vm["failed"] for vm in caught.value.details["vms"]] == [False, True]
    assert "VApp.ApplicationConfig" in caught.value.details["vms"][1]["msg"]
    assert site.vcenter.count("HasPrivilegeOnEntities") == 1


def test_signal(make: Callable[..., Site]) -> None:
    """A thread notices a signal only as the end of its time. The VM that was being changed says what vCenter did."""
    site = make(3)

    def interrupted(vm: Any, spec: Any) -> None:
        site.reconfigure(vm, spec)
        site.session.budget.interrupt("SIGTERM")

    site.vcenter.effects[RECONFIGURE] = interrupted
    with pytest.raises(_errors.OperationFailed) as caught:
        site.run(site.entries())
    vms = caught.value.details["vms"]
    assert [(vm["failed"], vm["changed"]) for vm in vms] == [(True, True), (True, False), (True, False)]
    assert "VM web-0" in vms[0]["msg"]
    assert "received SIGTERM" in vms[1]["msg"]
    assert site.vcenter.count(RECONFIGURE) == 1
