# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test which files of a backup are written, which are kept, and the content of the index."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from pyVmomi import vim
from unit.plugins.module_utils._ovf.test_vapp_change import prop
from unit.plugins.module_utils._ovf.test_vapp_export import SHAPES, options, product

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_backup, vapp_export
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_backup import Found, Unusable

SECRET = "vmforktest-a-secret-of-its-own"
UUIDS = [f"50050d8f-0000-0000-0000-{number:012}" for number in range(10)]
FILES = [f"{uuid}.json" for uuid in UUIDS]
PLAIN = options(
    prop(1, "hostname", value="größe", label="Größe"),
    product=[product(1, name="App", version="1", fullVersion="1.2")],
)
WITH_SECRETS = options(
    prop(1, "admin", type="password", value=""), prop(2, "api_token", value=SECRET, defaultValue="d" + SECRET)
)


def found(number: int, info: Any = PLAIN, **more: Any) -> Found:
    values = {"config.instanceUuid": UUIDS[number], "config.uuid": f"bios-{number}"}
    document, secrets = vapp_export.document_and_secrets(f"vm{number}", values, info)
    given = {"inventory_path": f"/DC/vm/vm{number}", "document": document, "secrets": secrets, **more}
    return Found(f"vm{number}", f"vm-{number}", **given)


def unread(number: int) -> Found:
    return Found(f"vm{number}", f"vm-{number}", reason="vCenter does not show its configuration")


def plan(vms: list[Found], there: dict[str, Any] | None = None, **more: Any) -> vapp_backup.Plan:
    scope: dict[str, Any] = {"vms": [], "moids": [], "folder": None, "datacenter": None}
    return vapp_backup.plan(vms, there or {}, vcenter="vc", scope=scope, **more)


def after(vms: list[Found], there: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the contents of the directory after a run."""
    return {**(there or {}), **plan(vms, there, **more).files}


def states(result: vapp_backup.Plan) -> dict[str, str]:
    return {vm["file"]: vm["state"] for vm in result.index["vms"]}


def row(result: vapp_backup.Plan, number: int) -> dict[str, Any]:
    (row,) = [row for row in result.rows if row["name"] == f"vm{number}"]
    return row


def test_first_run() -> None:
    result = plan([found(1), found(0), found(2, None)])
    assert list(result.files) == [FILES[1], FILES[0], "index.json"]
    text = result.files[FILES[0]]
    assert json.loads(text) == found(0).document
    assert text.endswith("}\n")
    assert "größe" in text
    assert text.startswith('{\n  "version": 1,\n  "vm": {\n    "name": "vm0"')
    assert result.index == {
        "version": 1,
        "vcenter": "vc",
        "scope": {"vms": [], "moids": [], "folder": None, "datacenter": None},
        "complete": True,
        "vms": [
            {
                "name": f"vm{number}",
                "instance_uuid": UUIDS[number],
                "uuid": f"bios-{number}",
                "inventory_path": f"/DC/vm/vm{number}",
                "file": FILES[number],
                "product": "App",
                "product_version": "1.2",
                "state": "saved",
            }
            for number in (0, 1)
        ],
        "not_read": [],
    }
    assert json.loads(result.files["index.json"]) == result.index
    assert [(row["name"], row["change"]) for row in result.rows] == [("vm0", "created"), ("vm1", "created")]


def test_second_run_changes_nothing() -> None:
    there = after([found(0), found(1), found(2, WITH_SECRETS), found(3, None), unread(4)])
    again = plan([unread(4), found(3, None), found(2, WITH_SECRETS), found(1), found(0)], there)
    assert again.files == {}


def test_only_changed_files_are_written() -> None:
    there = after([found(0), found(1)])
    other = options(prop(1, "hostname", value="other"))
    result = plan([found(0), found(1, other)], there)
    assert list(result.files) == [FILES[1], "index.json"], "the product is gone from the index"
    assert list(result.before) == [FILES[1], "index.json"]
    assert [row["change"] for row in result.rows] == ["none", "updated"]


@pytest.mark.parametrize(
    "now",
    [None, options(), options(prop(1, "other", value="x")), options(prop(1, "hostname", classId="of-another"))],
    ids=["no options", "no properties", "others", "other class"],
)
def test_lost_options(now: Any) -> None:
    """The file of a VM that lost its options is kept until the VM is restored or the file is removed."""
    there = after([found(0), found(1)])
    result = plan([found(0, now), found(1)], there)
    assert list(result.files) == ["index.json"]
    assert states(result) == {FILES[0]: "gone", FILES[1]: "saved"}
    assert row(result, 0)["message"] == f"its vApp options are gone, and {FILES[0]} was kept"
    assert result.index["complete"], "it was read"
    assert plan([found(0, now), found(1)], after([found(0, now), found(1)], there)).files == {}
    removed = {name: text for name, text in there.items() if name != FILES[0]}
    assert row(plan([found(0, now), found(1)], removed), 1)["state"] == "saved"
    if now is not None:
        assert states(plan([found(0, now)], removed))[FILES[0]] == "saved"


def test_some_properties_lost() -> None:
    there = after([found(0, SHAPES["classes and instances"])])
    left = options(prop(1, "ip0", classId="vm", type="ip", value="192.0.2.3"))
    assert list(plan([found(0, left)], there).files) == [FILES[0], "index.json"]


def test_vm_without_properties_that_lost_its_options() -> None:
    there = after([found(0, options(product=[product(1, name="App")]))])
    assert states(plan([found(0, None)], there)) == {FILES[0]: "gone"}


def test_vm_out_of_scope() -> None:
    there = after([found(0), found(1)])
    result = plan([found(1)], there)
    assert states(result) == {FILES[0]: "not_in_scope", FILES[1]: "saved"}
    assert result.index["complete"]
    assert result.index["vms"][0]["inventory_path"] == "/DC/vm/vm0", "as the earlier index has it"
    assert FILES[0] not in result.files
    assert row(result, 0)["state"] == "not_in_scope"
    there.pop("index.json")
    assert plan([found(1)], there).index["vms"][0]["inventory_path"] is None


def test_vm_that_cannot_be_read() -> None:
    there = after([found(0), found(1)])
    result = plan([unread(0), found(1)], there)
    assert result.index["not_read"] == [
        {"name": "vm0", "moid": "vm-0", "reason": "vCenter does not show its configuration"}
    ]
    assert not result.index["complete"]
    assert states(result) == {FILES[0]: "not_read", FILES[1]: "saved"}, "its file can still be restored"
    assert list(result.files) == ["index.json"]


def test_two_vms_with_one_uuid() -> None:
    there = after([found(0)])
    twins = [found(0), Found("copy", "vm-9", document=found(0).document)]
    result = plan(twins, there)
    assert [vm["name"] for vm in result.index["not_read"]] == ["copy", "vm0"]
    assert "2 VMs have the instance UUID" in result.index["not_read"][0]["reason"]
    assert list(result.files) == ["index.json"]
    assert states(result) == {FILES[0]: "not_read"}
    plain = found(0, None)
    assert plan([plain, plain]).index["complete"], "two VMs without vApp options have nothing to save"


@pytest.mark.parametrize("uuid", [None, "", "../../etc/passwd", "index", UUIDS[0][:-1]])
def test_no_uuid(uuid: str | None) -> None:
    vm = found(0)
    assert vm.document is not None
    vm.document["vm"]["instance_uuid"] = uuid
    result = plan([vm])
    assert list(result.files) == ["index.json"]
    assert "no instance UUID" in result.index["not_read"][0]["reason"]
    vm.document["enabled"] = False
    assert plan([vm]).index["complete"]


def test_uuid_in_capitals() -> None:
    vm = found(0)
    assert vm.document is not None
    uuid = "5005ABCD-0000-0000-0000-000000000001"
    vm.document["vm"]["instance_uuid"] = uuid
    there = after([vm])
    assert f"{uuid.lower()}.json" in there
    assert plan([vm], there).files == {}


FOREIGN: dict[str, Any] = {
    "not JSON": "<<<<<<< HEAD\n",
    "list": "[]",
    "other JSON": '{"name": "a package"}',
    "later version": json.dumps({**(found(0).document or {}), "version": 2}),
    "of another VM": vapp_backup.text_of(found(1).document or {}),
    "damaged": json.dumps({**(found(0).document or {}), "properties": {}}),
    "deep": "[" * 100000,
    "symbolic link": Unusable("it is a symbolic link"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_file(kind: str) -> None:
    there = {FILES[0]: FOREIGN[kind]}
    result = plan([found(0), found(1)], there)
    assert FILES[0] not in result.files
    assert [vm["name"] for vm in result.index["not_read"]] == ["vm0"]
    assert f"{FILES[0]} exists, but is not a backup of this VM" in result.index["not_read"][0]["reason"]
    assert states(result) == {FILES[1]: "saved"}
    out_of_scope = plan([found(1)], there)
    assert out_of_scope.index["complete"]
    assert len(out_of_scope.warnings) == 1
    assert FILES[0] in out_of_scope.warnings[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2, "vms": []}', '{"version": 1, "vms": {}}'])
def test_foreign_index(text: str) -> None:
    with pytest.raises(vapp_backup.ForeignIndex, match=r"^it "):
        plan([found(0)], {"index.json": text})


def test_secrets_by_reference() -> None:
    assert SECRET not in str(plan([found(0, WITH_SECRETS)]).files)


def test_encrypted_secrets() -> None:
    sealed: list[tuple[str, str | None]] = []

    def seal(text: str, before: str | None) -> str:
        sealed.append((text, before))
        return before or f"$ANSIBLE_VAULT;{len(sealed)}"

    there = after([found(0, WITH_SECRETS)], seal=seal)
    assert SECRET not in str(there)
    properties = {prop["id"]: prop for prop in json.loads(there[FILES[0]])["properties"]}
    assert properties["admin"]["value"] is None, "nobody can read a password"
    assert properties["api_token"]["value"] == {"__ansible_vault": "$ANSIBLE_VAULT;2"}
    assert properties["api_token"]["default"] == {"__ansible_vault": "$ANSIBLE_VAULT;1"}
    assert plan([found(0, WITH_SECRETS)], there, seal=seal).files == {}
    assert sealed[2:] == [("d" + SECRET, "$ANSIBLE_VAULT;1"), (SECRET, "$ANSIBLE_VAULT;2")]
    assert FILES[0] in plan([found(0, WITH_SECRETS)], there).files, "they are not kept by reference"


def test_encrypted_section_and_license_agreement() -> None:
    info = options(
        ovfSection=[vim.vApp.OvfSectionInfo(key=1, type="T", contents=f"<a password='{SECRET}'/>")],
        eula=["Accept it.", f"password: {SECRET}"],
    )
    there = after([found(0, info)], seal=lambda text, before: before or f"$ANSIBLE_VAULT;{text[:3]}")
    document = json.loads(there[FILES[0]])
    assert document["ovf_sections"][0]["contents"] == {"__ansible_vault": "$ANSIBLE_VAULT;<a "}
    assert document["eula"] == ["Accept it.", {"__ansible_vault": "$ANSIBLE_VAULT;pas"}]
    again = plan([found(0, info)], there, seal=lambda _text, before: before or "encrypted again")
    assert again.files == {}
    in_clear = document | {"eula": ["Accept it.", f"password: {SECRET}"]}
    in_clear["ovf_sections"] = [document["ovf_sections"][0] | {"contents": SECRET}]
    before, now = vapp_backup.shown(vapp_backup.text_of(in_clear), there[FILES[0]])
    assert SECRET not in before + now
    assert "ANSIBLE_VAULT" not in before + now
    assert plan([found(0, info)], {FILES[0]: vapp_backup.text_of(in_clear)}).files.keys() == {FILES[0], "index.json"}


def test_secrets_do_not_change_what_was_read() -> None:
    vm = found(0, WITH_SECRETS)
    before = copy.deepcopy(vm.document)
    plan([vm], seal=lambda text, _before: "$ANSIBLE_VAULT")
    assert vm.document == before


def test_shown() -> None:
    """Somebody edited a file, and a property was not treated as a secret before."""
    old = copy.deepcopy(found(0, WITH_SECRETS).document) or {}
    old["properties"][1].update(value=SECRET, secret=False, label="old")
    new = plan([found(0, WITH_SECRETS)], seal=lambda text, _before: f"$ANSIBLE_VAULT;{text[:4]}").files[FILES[0]]
    before, now = vapp_backup.shown(vapp_backup.text_of(old), new)
    assert SECRET not in before + now
    assert "ANSIBLE_VAULT" not in before + now
    assert '"label": "old"' in before
    assert vapp_backup.shown("", new)[0] == ""
    index = plan([found(0)]).files["index.json"]
    assert vapp_backup.shown("", index)[1] == index


def test_damaged_file_of_a_vm_that_has_lost_its_options() -> None:
    """The VM cannot be restored then, so the backup is not complete."""
    there = {**after([found(0)]), FILES[0]: "<<<<<<< HEAD\n{"}
    result = plan([found(0, None)], there)
    assert not result.index["complete"]
    assert row(result, 0)["state"] == "not_read"
    assert "it is not JSON" in row(result, 0)["message"]
    assert FILES[0] not in result.files


@pytest.mark.parametrize("properties", [5, [1], [{"id": []}], [{"id": "api_token", "value": {"__ansible_vault": 5}}]])
@pytest.mark.parametrize("enabled", [True, False])
def test_file_with_wrong_types(properties: Any, enabled: bool) -> None:
    """Somebody may have edited a file. That of a VM without vApp options is replaced, others are kept."""
    text = json.dumps({**(found(0, WITH_SECRETS).document or {}), "enabled": enabled, "properties": properties})
    result = plan([found(0, WITH_SECRETS)], {FILES[0]: text}, seal=lambda clear, before: before or clear[::-1])
    assert (FILES[0] in result.files) == (not enabled)
    assert row(result, 0)["state"] == ("not_read" if enabled else "saved")
    assert vapp_backup.shown(text, text)[0]


def test_encrypted_value_with_a_wrong_type() -> None:
    document = copy.deepcopy(found(0, WITH_SECRETS).document or {})
    next(prop for prop in document["properties"] if prop["id"] == "api_token")["value"] = {"__ansible_vault": 5}
    seen = []
    plan(
        [found(0, WITH_SECRETS)],
        {FILES[0]: json.dumps(document)},
        seal=lambda clear, before: seen.append(before) or "x",
    )
    assert seen == [None, None]


@pytest.mark.parametrize("there", [{}, after([found(0)])])
def test_no_vm_in_scope(there: dict[str, Any]) -> None:
    """A user who sees no VM has saved none of them, so the backup is not complete."""
    result = plan([], there)
    assert not result.index["complete"]
    assert result.index["not_read"] == []
    assert [vm["state"] for vm in result.index["vms"]] == ["not_in_scope"] * bool(there)
    assert plan([], {**there, **result.files}).files == {}


def edited(**vm: Any) -> str:
    """Return the text of the first VM's file, with changes in what identifies the VM."""
    document = found(0).document or {}
    return json.dumps({**document, "vm": {**document["vm"], **vm}})


def nested(levels: int) -> str:
    return edited()[:-1] + ', "more": ' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (nested(40), "it is nested too deeply"),
        (nested(700), "it is nested too deeply"),
        (nested(100_000), "it is (not JSON|nested too deeply)"),
        (edited(name="\ud800"), "it contains half of a surrogate pair"),
        (edited(**{"\udfff": 1}), "it contains half of a surrogate pair"),
        (edited(uuid=["x"]), "its BIOS UUID is not text"),
        (edited(uuid={}), "its BIOS UUID is not text"),
        (edited().replace('"name": "vm0"', '"name": "a", "name": "b"'), 'it contains the key "name" twice'),
        (edited().replace('"version": 1', '"version": true'), "it has version True, but only version 1"),
        (edited().replace('"id": "hostname"', '"id": "a", "id": "b"'), 'it contains the key "id" twice'),
    ],
)
@pytest.mark.parametrize("in_scope", [True, False])
def test_file_that_somebody_has_damaged(text: str, reason: str, in_scope: bool) -> None:
    """The file is named and kept, and neither the other files nor the index are affected."""
    vms = [found(0), found(1)] if in_scope else [found(1)]
    result = plan(vms, {FILES[0]: text})
    assert set(result.files) == {FILES[1], "index.json"}
    assert all(content.encode() for content in result.files.values())
    assert vapp_backup.wrong_index(json.loads(result.files["index.json"])) == ""
    named = row(result, 0)["message"] if in_scope else " ".join(result.warnings)
    assert re.search(reason, named)
    assert result.index["complete"] != in_scope


def test_file_with_a_byte_order_mark() -> None:
    """As an editor may write it."""
    vms = [found(0), found(1)]
    there = after(vms)
    result = plan(vms, {**there, **{name: f"\ufeff{there[name]}" for name in (FILES[0], "index.json")}})
    assert states(result) == {FILES[0]: "saved", FILES[1]: "saved"}
    assert result.files == {name: there[name] for name in (FILES[0], "index.json")}


@pytest.mark.parametrize("path", [["x"], {"x": 1}, 5])
def test_index_with_a_path_of_the_wrong_type(path: Any) -> None:
    there = after([found(0)])
    index = json.loads(there["index.json"])
    index["vms"][0]["inventory_path"] = path
    result = plan([found(1)], {**there, "index.json": json.dumps(index)})
    assert result.index["vms"][0]["inventory_path"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"version": 1, "vms": [], "more": "\\ud800"}', "it contains half of a surrogate pair"),
        ('{"version": 1, "vms": [], "more": ' + "[" * 40 + "]" * 40 + "}", "it is nested too deeply"),
        ('{"version": true, "vms": []}', "it has version True"),
        ('{"version": 1, "vms": [], "vms": []}', 'it contains the key "vms" twice'),
    ],
)
def test_index_that_somebody_has_damaged(text: str, reason: str) -> None:
    with pytest.raises(vapp_backup.ForeignIndex, match=reason):
        plan([found(1)], {**after([found(0)]), "index.json": text})
