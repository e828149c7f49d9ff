# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs whose vApp options are restored, those that are refused, and why."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from ansible.module_utils.common.parameters import remove_values
from pyVmomi import vim
from unit.plugins.module_utils._ovf.test_vapp_change import appliance, prop

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import site_map, vapp_export, vapp_restore

SECRET = "vmforktest-a-secret-of-its-own"
VAULT = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n00"}


def uuid(number: int) -> str:
    return f"50050d8f-0000-0000-0000-{number:012d}"


def bios(number: int) -> str:
    return f"42050d8f-0000-0000-0000-{number:012d}"


def export(number: int, info: Any, name: str = "") -> dict[str, Any]:
    values = {"config.instanceUuid": uuid(number), "config.uuid": bios(number)}
    return vapp_export.document(name or f"web-{number}", values, info)


def vm(number: int, info: Any = None, name: str = "", moid: str = "", **changed: Any) -> dict[str, Any]:
    """Return a VM as vm_ovfenv_info returns it."""
    document = export(number, info, name)
    document["vm"].update(changed)
    return {
        "name": document["vm"]["name"],
        "moid": moid or f"vm-{number}",
        "instance_uuid": document["vm"]["instance_uuid"],
        "inventory_path": f"/DC/vm/{document['vm']['name']}",
        "name_expected": None,
        "export": document,
    }


def backup(*documents: dict[str, Any], **index: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    entries = [{**document["vm"], "file": f"{document['vm']['instance_uuid']}.json"} for document in documents]
    files = {entry["file"]: document for entry, document in zip(entries, documents, strict=True)}
    return {"version": 1, "complete": True, "vms": entries, "not_read": [], **index}, files


def planned(documents: list[dict[str, Any]], there: list[dict[str, Any]], **options: Any) -> vapp_restore.Plan:
    if "map" in options:
        options["site_map"], faults = site_map.read(options.pop("map"))
        assert faults == []
    return vapp_restore.plan(*backup(*documents), copy.deepcopy(there), vapp_restore.Options(**options))


def row(document: dict[str, Any], existing: dict[str, Any] | None, **options: Any) -> vapp_restore.Row:
    plan = planned([document], [existing] if existing else [], **options)
    assert plan.faults == []
    (found,) = plan.rows
    assert (found.moid in plan.documents) == (found.action in vapp_restore.WRITTEN)
    return found


KEPT = export(1, appliance())


def test_matched_by_uuids_then_by_name() -> None:
    assert row(KEPT, vm(1)).matched_by == "instance_uuid"
    assert row(KEPT, vm(1, instance_uuid=uuid(7).upper())).matched_by == "uuid"
    other = vm(1, instance_uuid=uuid(7), uuid=bios(7))
    assert row(KEPT, other).action == "not_found"
    assert "vapp_restore_match_name" in row(KEPT, other).reason
    assert row(KEPT, other, match_name=True).matched_by == "name"
    assert row(KEPT, vm(7), match_name=True).action == "not_found"
    assert row(KEPT, None).reason == "there is no such VM"


@pytest.mark.parametrize("what", ["instance_uuid", "uuid", "name"])
def test_ambiguous(what: str) -> None:
    """Neither of two VMs is written."""
    changes = {"instance_uuid": {}, "uuid": {"instance_uuid": ""}, "name": {"instance_uuid": "", "uuid": ""}}[what]
    twins = [vm(1, moid="vm-1", **changes), vm(1, moid="vm-2", **changes)]
    plan = planned([KEPT], twins, match_name=True)
    assert [row.action for row in plan.rows] == ["ambiguous"]
    assert plan.rows[0].reason.startswith("2 VMs have its ")
    assert plan.rows[0].reason.endswith(": /DC/vm/web-1, /DC/vm/web-1")
    assert plan.documents == {}


def test_two_entries_that_match_one_vm() -> None:
    """A VM that matches one entry by its instance UUID is not used for another; otherwise its entry is ambiguous."""
    copied = {**KEPT, "vm": {"name": "copy", "instance_uuid": uuid(9), "uuid": bios(1)}}
    plan = planned([KEPT, copied], [vm(1)])
    assert {row.backup_name: row.action for row in plan.rows} == {"web-1": "restore", "copy": "not_found"}
    plan = planned([KEPT, copied], [vm(1, instance_uuid=uuid(5))])
    assert [row.action for row in plan.rows] == ["ambiguous", "ambiguous"]
    assert "2 VMs of the backup have its BIOS UUID" in plan.rows[0].reason


def test_lost_options() -> None:
    found = row(KEPT, vm(1))
    assert (found.action, found.reason) == ("restore", "its vApp options are gone")
    foreign = vim.vApp.VmConfigInfo(property=[prop(0, "foreign")], ipAssignment=vim.vApp.IPAssignmentInfo())
    found = row(KEPT, vm(1, foreign))
    assert (found.action, found.reason) == ("restore", "their properties are gone")
    assert row(KEPT, vm(1, appliance())).action == "same"


def test_backup_without_properties() -> None:
    """Products and license agreements come back, too."""
    info = appliance(eula=["first"])
    info.property = []
    assert row(export(1, info), vm(1)).action == "restore"
    assert row(export(1, info), vm(1, info)).action == "same"
    assert row(export(1, info), vm(1, vim.vApp.VmConfigInfo())).changes[-2:] == ["products", "license agreements"]


def changed(**fields: Any) -> Any:
    info = appliance()
    for name, value in fields.items():
        setattr(info.property[0], name, value)
    return info


def without_one() -> Any:
    info = appliance()
    del info.property[1]
    return info


def another_product(**fields: Any) -> Any:
    info = appliance()
    info.product = [
        vim.vApp.ProductInfo(key=1, **{"name": "Appliance", "classId": "vami", "instanceId": "VCSA", **fields})
    ]
    return info


DIFFERENCES: dict[str, tuple[Any, str]] = {
    "value": (changed(value="new"), "hostname: new → old"),
    "label": (changed(label="other"), r"hostname \(label\)"),
    "several": (changed(label="other", value="x"), r"hostname \(label, value\)"),
    "missing": (without_one(), "vami.ip0.VCSA is missing"),
    "transport": (appliance(), "transport"),
    "eula": (appliance(eula=["x"]), "license agreements"),
    "boot": (appliance(installBootRequired=True), "the first boot"),
    "product": (another_product(vendorUrl="https://example.com"), "products"),
}
DIFFERENCES["transport"][0].ovfEnvironmentTransport = ["iso"]


@pytest.mark.parametrize("what", DIFFERENCES)
def test_differs(what: str) -> None:
    """It is reported, and written only on request."""
    info, text = DIFFERENCES[what]
    found = row(KEPT, vm(1, info))
    assert found.action == "differs"
    (change,) = found.changes
    assert re.fullmatch(text, change)
    assert row(KEPT, vm(1, info), overwrite=True).action == "overwrite"


def test_additional_properties_are_no_difference() -> None:
    assert row(KEPT, vm(1, appliance(prop(99, "later", value="x")))).action == "same"


PRODUCTS = {
    "name": another_product(name="Other"),
    "version": another_product(version="2.0"),
    "section": another_product(name="Other", classId="x"),
}


@pytest.mark.parametrize("what", PRODUCTS)
def test_another_product(what: str) -> None:
    for overwrite in (False, True):
        found = row(KEPT, vm(1, PRODUCTS[what]), overwrite=overwrite)
        assert found.action == "refused"
        assert found.reason.startswith("it has the product ")
    assert row(KEPT, vm(1, PRODUCTS[what]), overwrite=True, force=True).action == "overwrite"


def test_keys() -> None:
    """The other properties of a VM with vApp options are not examined."""
    info = changed(value="new")
    info.ovfEnvironmentTransport = ["iso"]
    assert row(KEPT, vm(1, info), keys=("hostname",)).changes == ["hostname: new → old"]
    assert row(KEPT, vm(1, info), keys=("vami.ip0.VCSA",)).action == "same"
    lacking = without_one()
    assert row(KEPT, vm(1, lacking), keys=("vami.ip0.VCSA",)).action == "restore"
    assert row(KEPT, vm(1, lacking), keys=("vami.ip0.VCSA", "hostname")).action == "differs"
    assert planned([KEPT], [vm(1)], keys=("ip0",)).faults == ["no VM of the backup has the property ip0 of vapp_keys"]
    second = export(2, vim.vApp.VmConfigInfo(property=[prop(0, "b")], ipAssignment=vim.vApp.IPAssignmentInfo()))
    plan = planned([KEPT, second], [vm(1), vm(2)], keys=("b",))
    assert plan.faults == []
    assert [row.action for row in plan.rows] == ["nothing", "restore"]


def with_secrets() -> Any:
    return appliance(prop(20, "license", value=SECRET), prop(21, "otk", label="Registration key", defaultValue=SECRET))


def test_secrets() -> None:
    """Secrets that cannot be restored are named; those that a VM has already are left unchanged."""
    document = export(1, with_secrets())
    encrypted = copy.deepcopy(document)
    next(prop for prop in encrypted["properties"] if prop["key"] == "license")["value"] = VAULT
    found = row(document, vm(1))
    assert sorted(found.secrets_missing) == ["admin", "license", "otk"]
    found = row(encrypted, vm(1), secrets={"web-1": {"admin": "given"}})
    assert (found.secrets_given, found.secrets_encrypted, found.secrets_missing) == (["admin"], ["license"], ["otk"])
    assert row(document, vm(1, with_secrets())).action == "same"
    assert row(encrypted, vm(1, with_secrets())).action == "same"
    gone = with_secrets()
    gone.property[-2].value = ""
    found = row(encrypted, vm(1, gone), overwrite=True)
    assert found.changes == ["license: its secret is missing"]
    assert (found.secrets_encrypted, found.secrets_missing) == (["license"], [])
    found = row(document, vm(1, gone), overwrite=True)
    assert found.changes == ["license: its secret is missing"]
    assert (found.secrets_encrypted, found.secrets_missing) == ([], ["license"])


def with_secret_texts() -> Any:
    info = appliance()
    info.ovfSection = [vim.vApp.OvfSectionInfo(key=1, type="T", contents=f"<a password='{SECRET}'/>")]
    info.eula = [f"password: {SECRET}"]
    return info


def test_section_and_license_agreement_with_secrets() -> None:
    """Those that the backup does not have are named. The others are missing if they are not there."""
    document = export(1, with_secret_texts())
    encrypted = copy.deepcopy(document)
    encrypted["ovf_sections"][0]["contents"] = encrypted["eula"][0] = VAULT
    assert row(document, vm(1)).not_saved == ["OVF section T", "license agreements"]
    assert row(encrypted, vm(1)).not_saved == []
    for kept in (document, encrypted, {**encrypted, "eula": [SECRET]}):
        assert row(kept, vm(1, with_secret_texts())).action == "same"
    found = row(document, vm(1, appliance()))
    assert (found.action, found.not_saved) == ("same", ["OVF section T", "license agreements"])
    found = row(encrypted, vm(1, appliance()), overwrite=True)
    assert (found.action, found.changes) == ("overwrite", ["license agreements", "OVF sections"])


@pytest.mark.parametrize("key", ["admin", "license"])
def test_secret_added_manually_to_the_file(key: str) -> None:
    document = export(1, with_secrets())
    next(prop for prop in document["properties"] if prop["key"] == key)["value"] = "vmforktest by hand"
    found = row(document, vm(1, with_secrets()))
    assert found.changes == [f"{key}: ******** → ********"]


def test_secrets_that_are_written_again() -> None:
    given = {"secrets": {uuid(1): {"admin": "given"}}, "update_secrets": True}
    assert row(KEPT, vm(1, appliance()), **given).action == "same"
    found = row(KEPT, vm(1, appliance()), overwrite=True, **given)
    assert (found.action, found.reason) == ("overwrite", "its secrets are written again")
    del given["update_secrets"]
    assert row(KEPT, vm(1, appliance()), overwrite=True, **given).action == "same"


def test_map() -> None:
    """It changes the document, so a second run has nothing to do."""
    sites = {"vms": {"web-1": {"hostname": "other", "size": 9}}, "subnets": {"192.0.2.0/24": "198.51.100.0/24"}}
    plan = planned([KEPT], [vm(1)], map=sites)
    values = {prop["key"]: prop["value"] for prop in plan.documents["vm-1"]["properties"]}
    assert (values["hostname"], values["size"], values["vami.ip0.VCSA"]) == ("other", "9", "198.51.100.1")
    assert values["mode"] == "small"
    assert sorted(plan.rows[0].mapped) == [
        "hostname: old → other", "size: 7 → 9", "vami.ip0.VCSA: 192.0.2.1 → 198.51.100.1"
    ]  # fmt: skip
    there = changed(value="other")
    there.property[1].value, there.property[2].value = "198.51.100.1", "9"
    assert row(KEPT, vm(1, there), map=sites).action == "same"
    assert row(KEPT, vm(1, appliance()), map=sites).action == "differs"


@pytest.mark.parametrize(
    ("value", "shown"), [("x" * 80, "x" * 80), ("x" * 81, "x" * 79 + "…"), ("a\nb", "a⏎b"), ("", '""')]
)
def test_displayed_value(value: str, shown: str) -> None:
    """At most 80 characters of a value are displayed, in one line."""
    plan = planned([KEPT], [vm(1)], map={"vms": {"web-1": {"hostname": value}}})
    assert plan.rows[0].mapped == [f"hostname: old → {shown}"]
    assert row(KEPT, vm(1, changed(value=value))).changes == [f"hostname: {shown} → old"]


def test_map_of_a_default_and_of_other_text() -> None:
    info = appliance(prop(20, "dns", defaultValue="192.0.2.53"), prop(21, "url", value="http://192.0.2.9/"))
    plan = planned([export(1, info)], [vm(1)], map={"subnets": {"192.0.2.0/24": "198.51.100.0/24"}})
    dns = next(prop for prop in plan.documents["vm-1"]["properties"] if prop["key"] == "dns")
    assert (dns["value"], dns["default"]) == ("198.51.100.53", "192.0.2.53")
    assert plan.rows[0].unmapped == ["url"]


def test_map_to_an_empty_value() -> None:
    plan = planned([KEPT], [vm(1)], map={"vms": {"web-1": {"hostname": ""}}})
    hostname = next(prop for prop in plan.documents["vm-1"]["properties"] if prop["key"] == "hostname")
    assert (hostname["value"], hostname["default"]) == ("", "")


def at(number: int, **values: str) -> dict[str, Any]:
    properties = [prop(key, name, value=value) for key, (name, value) in enumerate(values.items())]
    return export(number, vim.vApp.VmConfigInfo(property=properties, ipAssignment=vim.vApp.IPAssignmentInfo()))


NESTED = {"subnets": {"10.1.0.0/16": "10.2.0.0/16", "10.1.5.0/24": "10.2.9.0/24", "10.1.0.1/32": "10.2.0.254/32"}}
COLLISION = (
    "vapp_restore_map translates 10.1.9.7 (ip0 of VM web-1) and 10.1.5.7 (dns of VM web-2) to the same address 10.2.9.7"
)


@pytest.mark.parametrize(
    ("second", "options", "faults"),
    [
        ({"dns": "10.1.5.8, 10.1.5.7"}, {}, [COLLISION]),
        ({"dns": "10.1.5.7/24"}, {}, [COLLISION]),
        ({"dns": "10.1.5.8", "gateway": "10.1.0.1"}, {}, []),
        ({"dns": "10.1.9.7"}, {}, []),  # an address shared by two VMs remains shared
        ({"dns": "10.2.9.7"}, {}, []),  # the other site may have used this address already
        ({"dns": "10.1.5.0/24", "net": "10.1.9.0/24"}, {}, []),
        ({"dns": "10.1.5.7"}, {"keys": ("ip0",)}, []),
        ({"dns": "10.1.5.7"}, {"vms": ("web-1",)}, []),
        ({"dns": "10.1.5.7"}, {"map": {**NESTED, "vms": {"web-2": {"dns": "10.2.9.8"}}}}, []),
    ],
)
def test_two_addresses_that_become_one(second: dict[str, str], options: dict[str, Any], faults: list[str]) -> None:
    plan = planned([at(1, ip0="10.1.9.7"), at(2, **second)], [vm(1), vm(2)], **{"map": NESTED, **options})
    assert plan.faults == faults


def test_two_addresses_that_become_one_of_a_default() -> None:
    second = at(2, dns="")
    second["properties"][0]["default"] = "10.1.5.7"
    assert planned([at(1, ip0="10.1.9.7"), second], [vm(1), vm(2)], map=NESTED).faults == [COLLISION]


def test_address_of_a_missing_vm() -> None:
    plan = planned([at(1, ip0="10.1.9.7"), at(2, ip0="10.1.5.7")], [vm(1)], map=NESTED)
    assert plan.faults == []


FAULTS: dict[str, dict[str, Any]] = {
    "vapp_vms names web-2, which is not in the backup": {"vms": ("web-1", "web-2")},
    "vapp_restore_map names web-2": {"map": {"vms": {"web-2": {}}}},
    "vapp_restore_secrets names web-2": {"secrets": {"web-2": {}}},
    "vapp_restore_secrets has host for VM web-1": {"secrets": {"web-1": {"host": "given"}}},
    "vapp_restore_secrets has no value for admin of VM web-1": {"secrets": {"web-1": {"admin": None}}},
    "VM web-1: its backup does not have property host, which": {"map": {"vms": {"web-1": {"host": "x"}}}},
    "VM web-1: property admin is a secret; set its value in": {"map": {"vms": {"web-1": {"admin": SECRET}}}},
    "VM web-1: property size in vapp_restore_map: the value is outside": {"map": {"vms": {"web-1": {"size": 256}}}},
    "VM web-1: property debug in vapp_restore_map: the value is a list": {"map": {"vms": {"web-1": {"debug": []}}}},
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    (text,) = planned([KEPT], [vm(1)], **FAULTS[fault]).faults
    assert text.startswith(fault)
    assert SECRET not in text


def test_damaged_backups() -> None:
    """A damaged file affects only its VM, a damaged index affects all VMs."""
    for damaged in (
        "it is not JSON",
        {"version": 2},
        {**KEPT, "version": True},
        {**export(3, None), "version": True},
        {**KEPT, "properties": 5},
        {**KEPT, "eula": ["********"]},
        export(3, None),
    ):
        index, files = backup(KEPT, export(2, appliance()))
        files[f"{uuid(1)}.json"] = damaged
        plan = vapp_restore.plan(index, files, [vm(1), vm(2)], vapp_restore.Options())
        assert plan.faults == []
        assert [row.action for row in plan.rows] == ["refused", "restore"]
        assert f"{uuid(1)}.json" in plan.rows[0].reason
    indexes: tuple[Any, ...] = (
        {},
        [],
        {"version": 9, "vms": []},
        {"version": True, "vms": []},
        {"version": 1, "vms": [5]},
        {"version": 1, "vms": [{"name": "a"}]},
    )
    for broken in indexes:
        assert len(vapp_restore.plan(broken, {}, [vm(1)], vapp_restore.Options()).faults) == 1


def test_incomplete_backup() -> None:
    index, files = backup(KEPT, complete=False, not_read=[{"name": "web-9", "moid": "vm-9", "reason": "x"}])
    (warning,) = vapp_restore.plan(index, files, [vm(1)], vapp_restore.Options()).warnings
    assert "web-9" in warning
    index["not_read"] = [{"name": f"web-{number}"} for number in range(1, 21)]
    (warning,) = vapp_restore.plan(index, files, [vm(1)], vapp_restore.Options()).warnings
    assert warning.endswith(", web-19, web-20.")
    index["not_read"].append({"name": "web-21"})
    (warning,) = vapp_restore.plan(index, files, [vm(1)], vapp_restore.Options()).warnings
    assert warning.endswith(", web-19, web-20 and others.")
    index["not_read"] = None
    (warning,) = vapp_restore.plan(index, files, [vm(1)], vapp_restore.Options()).warnings
    assert warning.endswith("are not in it.")


def test_vm_without_vapp_options_in_the_backup() -> None:
    assert row(export(1, None), vm(1, appliance())).action == "nothing"


def test_vm_that_vcenter_does_not_show() -> None:
    assert row(KEPT, {**vm(1), "export": None}).action == "refused"


def unreadable(number: int, name: str) -> dict[str, Any]:
    """Return a VM as vm_ovfenv_info returns it if vCenter shows nothing but its name, as of an inaccessible VM."""
    return {**vm(number, name=name), "instance_uuid": None, "export": None}


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("clone", [[], [vm(2, uuid=bios(1))], [vm(2, name="web-1", uuid=bios(1))]])
def test_vm_of_which_vcenter_shows_only_the_name(by_name: bool, clone: list[dict[str, Any]]) -> None:
    """It may be the VM of the backup. Then the job is not green, and no clone gets its settings."""
    plan = planned([KEPT], [unreadable(1, "web-1"), *clone], match_name=by_name)
    (found,) = plan.rows
    assert found.action == "refused"
    assert found.reason == (
        "vCenter does not show the configuration of /DC/vm/web-1, which may be this VM; check that it is accessible, "
        "and the privileges of the user"
    )
    assert plan.documents == {}


def test_no_vm_of_the_backup_exists() -> None:
    """The wrong vCenter, or a user who sees no VM: that nothing was restored is a failure."""
    documents = [KEPT, export(2, appliance()), export(3, None)]
    plan = planned(documents, [])
    assert {row.backup_name: row.requested for row in plan.rows} == {"web-1": True, "web-2": True, "web-3": False}
    (warning,) = plan.warnings
    assert warning.startswith("No VM of the backup was found.")
    some = planned(documents, [vm(2, appliance())])
    assert [row.requested for row in some.rows] == [False] * 3
    assert some.warnings == planned([export(3, None)], []).warnings == []


def test_vm_of_which_vcenter_shows_only_the_name_beside_the_right_one() -> None:
    assert row(KEPT, vm(1)).action == "restore"
    (found,) = planned([KEPT], [unreadable(2, "web-1"), vm(1)]).rows
    assert (found.action, found.moid, found.matched_by) == ("restore", "vm-1", "instance_uuid")


def test_confirmed() -> None:
    """A name that vCenter's side has compared confirms a VM; if names are not unique, its managed object ID does."""
    assert not row(KEPT, {**vm(1), "name_expected": False}).confirmed
    assert row(KEPT, {**vm(1), "name_expected": True}).confirmed
    assert row(KEPT, vm(1), confirmed=("vm-1",)).confirmed
    twins = [{**vm(1, name="web"), "name_expected": True}, {**vm(2, name="web"), "name_expected": True}]
    plan = planned([KEPT, export(2, appliance())], twins, confirmed=("web", "vm-2"))
    assert [(row.moid, row.unique, row.confirmed) for row in plan.rows] == [
        ("vm-1", False, False),
        ("vm-2", False, True),
    ]


def test_name_that_is_the_managed_object_id_of_another_vm() -> None:
    """Somebody who may rename a VM cannot have it confirmed with another one."""
    vms = [{**vm(1), "name_expected": False}, {**vm(2, name="vm-1"), "name_expected": True}]
    plan = planned([KEPT, export(2, appliance())], vms, confirmed=("vm-1",))
    assert {row.moid: (row.unique, row.confirmed) for row in plan.rows} == {
        "vm-1": (True, True),
        "vm-2": (False, False),
    }


@pytest.mark.parametrize("name", ["web", uuid(1)])
def test_values_for_a_name_that_several_vms_have(name: str) -> None:
    """No VM gets the address or the secret of another, even if somebody names a VM like another one's UUID."""
    documents = [export(1, appliance(), "web"), export(2, appliance(), name), export(3, appliance(), name)]
    label = name if name == "web" else uuid(1)
    for given in ({"map": {"vms": {label: {"hostname": "x"}}}}, {"secrets": {label: {"size": "given"}}}):
        plan = planned(documents, [vm(1), vm(2)], **given)
        what = "vapp_restore_map" if "map" in given else "vapp_restore_secrets"
        (fault,) = plan.faults
        assert fault == (
            f"{what} names {label}, which several VMs of the backup match: web ({uuid(1)}), {name} ({uuid(2)}); "
            "name each of them by its instance UUID"
        )
        assert planned(documents, [vm(1)], vms=(uuid(1),), **given).faults == []
        assert planned(documents, [vm(1)], **given).faults == [], "the others do not exist"


@pytest.mark.parametrize(
    "password", ["5005", "vm-", "web", "old", "Appliance", "192.0.2", "True", "1", "50050d8f", "a"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_masked_results(password: str, overwrite: bool) -> None:
    """Whatever Ansible masks, no other VM is written, and no masked value is written."""
    documents = [KEPT, export(2, appliance()), export(3, appliance())]
    vms = [{**vm(1), "name_expected": True}, vm(2, appliance()), vm(3, changed(value="new"))]
    clear = planned(documents, vms, overwrite=overwrite)
    masked = planned(documents, remove_values(vms, {password}), overwrite=overwrite)
    if masked.faults:
        return
    assert set(masked.documents) <= set(clear.documents)
    assert "********" not in str(masked.documents)
    for row in masked.rows:
        if row.action not in ("refused", "not_found"):
            assert row.action == next(other.action for other in clear.rows if other.file == row.file)


@pytest.mark.parametrize("name", ["instance_uuid", "uuid"])
@pytest.mark.parametrize("value", [[], {}, 1, True])
def test_index_with_wrong_types(name: str, value: Any) -> None:
    """Somebody may have edited or merged the index."""
    index, documents = backup(KEPT)
    index["vms"][0][name] = value
    plan = vapp_restore.plan(index, documents, [vm(1)], vapp_restore.Options())
    assert plan.faults == [f"entry 1 of the index of the backup has {name.replace('_', ' ')} that is no text"]
    assert plan.rows == []


def test_index_with_a_wrong_list_of_vms_not_read() -> None:
    plan = vapp_restore.plan(*backup(KEPT, complete=False, not_read=5), [vm(1)], vapp_restore.Options())
    assert plan.faults == ["not_read in the index of the backup is not a list"]
