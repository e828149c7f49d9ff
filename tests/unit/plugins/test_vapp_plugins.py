# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the controller's plugins that read, plan and decrypt a backup."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from unit.plugins.module_utils._ovf.test_vapp_change import appliance
from unit.plugins.module_utils._ovf.test_vapp_restore import KEPT, backup, export, vm, with_secrets

from ansible_collections.vmfork.vsphere.plugins.filter import vapp_restore_plan
from ansible_collections.vmfork.vsphere.plugins.lookup import vapp_backup, vapp_restore, vapp_secrets
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import masking

SECRET = "vmforktest-a-secret-of-its-own"


def written(directory: pathlib.Path, *documents: dict[str, Any]) -> str:
    index, files = backup(*documents)
    for name, content in {"index.json": index, **files}.items():
        (directory / name).write_text(json.dumps(content), encoding="utf-8")
    return str(directory)


def test_backup_is_read(tmp_path: pathlib.Path) -> None:
    written(tmp_path, KEPT, export(2, None), export(3, None), export(4, None))
    index = json.loads((tmp_path / "index.json").read_text())
    names = [vm["file"] for vm in index["vms"]]
    (tmp_path / names[1]).write_text("{")
    (tmp_path / names[2]).unlink()
    index["vms"][3]["file"] = "../other.json"
    (tmp_path.parent / "other.json").write_text("{}")
    (tmp_path / "index.json").write_text(json.dumps(index))
    found = vapp_backup.read(tmp_path)
    assert found["index"] == index
    assert found["documents"] == {
        names[0]: KEPT,
        names[1]: "it is not JSON",
        names[2]: "it cannot be read: No such file or directory",
        "../other.json": "it is not in the directory of the backup",
    }


def test_files_that_are_no_regular_files(tmp_path: pathlib.Path) -> None:
    """A pipe would never be read to its end, and a link may lead anywhere."""
    target = tmp_path / "target"
    tmp_path /= "backup"
    tmp_path.mkdir()
    written(tmp_path, KEPT, export(2, None), export(3, None))
    names = [vm["file"] for vm in json.loads((tmp_path / "index.json").read_text())["vms"]]
    (tmp_path / names[0]).rename(target)
    (tmp_path / names[0]).symlink_to(target)
    for name in names[1:]:
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / names[1])
    (tmp_path / names[2]).mkdir()
    assert vapp_backup.read(tmp_path)["documents"] == {
        names[0]: "it is a symbolic link",
        names[1]: "it is not a regular file",
        names[2]: "it is not a regular file",
    }


def test_volume_of_kubernetes(tmp_path: pathlib.Path) -> None:
    """Each of its files is a link to a file in a directory that is a link, too."""
    current = tmp_path / "..2026_11_29"
    current.mkdir()
    written(current, KEPT)
    (tmp_path / "..data").symlink_to(current.name)
    for path in current.iterdir():
        (tmp_path / path.name).symlink_to(f"..data/{path.name}")
    assert list(vapp_backup.read(tmp_path)["documents"].values()) == [KEPT]


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_index_that_is_no_regular_file(tmp_path: pathlib.Path, kind: str) -> None:
    index = tmp_path / "index.json"
    make = {"pipe": lambda: os.mkfifo(index), "link": lambda: index.symlink_to("x"), "directory": index.mkdir}
    make[kind]()
    with pytest.raises(AnsibleError, match=r"index\.json cannot be used, it is (not a regular file|a symbolic link)"):
        vapp_backup.read(tmp_path)


def test_index_without_files(tmp_path: pathlib.Path) -> None:
    written(tmp_path, KEPT)
    found = vapp_backup.read(tmp_path, documents=False)
    assert [vm["name"] for vm in found["index"]["vms"]] == [KEPT["vm"]["name"]]
    assert found["documents"] == {}


def test_secrets_of_a_backup(tmp_path: pathlib.Path) -> None:
    """A value masked in one document cannot be compared with another."""
    first, second = export(1, with_secrets()), export(2, with_secrets())
    next(prop for prop in first["properties"] if prop["key"] == "hostname")["secret"] = True
    for document in (first, second):
        next(prop for prop in document["properties"] if prop["key"] == "vami.ip0.VCSA")["secret"] = True
    written(tmp_path, first, second, export(3, None))
    patterns = vapp_backup.read(tmp_path)["secret_patterns"]
    mask = masking.Mask(patterns=patterns)
    keys = ("vami.ip0.VCSA", "vamixip0.VCSA", "vami.ip0.VCSA.x", "hostname", "size")
    assert [key for key in keys if mask.is_secret(key, "string")] == ["vami.ip0.VCSA"]
    assert vapp_backup.read(tmp_path, documents=False)["secret_patterns"] == []


def test_byte_order_mark(tmp_path: pathlib.Path) -> None:
    """As an editor may write it."""
    written(tmp_path, KEPT)
    for path in tmp_path.iterdir():
        path.write_text(f"\ufeff{path.read_text()}")
    assert list(vapp_backup.read(tmp_path)["documents"].values()) == [KEPT]


@pytest.mark.parametrize("index", [{}, {"version": 2, "vms": []}, {"version": 1, "vms": [{"name": "web"}]}])
def test_foreign_index(tmp_path: pathlib.Path, index: dict[str, Any]) -> None:
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(AnsibleError, match=r"The backup of vApp options in .* cannot be used: .* index of the backup"):
        vapp_backup.read(tmp_path)


@pytest.mark.parametrize("text", ['{"version": "\\u001b[2J", "vms": []}', '{"\\u001b[2J": 1, "\\u001b[2J": 2}'])
def test_message_cannot_affect_a_terminal(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(AnsibleError, match=r"\\x1b\[2J") as raised:
        vapp_backup.read(tmp_path)
    assert "\x1b" not in str(raised.value)


def test_no_backup(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AnsibleError, match=r"There is no backup of vApp options in .*vapp_backup_directory"):
        vapp_backup.read(tmp_path)


def decrypted(document: dict[str, Any], *passwords: str, **more: Any) -> dict[str, Any]:
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(password.encode())) for password in passwords])  # type: ignore[misc]
    decrypt = vapp_secrets.LookupModule(loader=loader)._decrypt
    return vapp_secrets.decrypted(document, decrypt, **{"given": {}, **more})


def encrypted(password: str) -> dict[str, Any]:
    """Return a document with an encrypted value and an encrypted default."""
    document = export(1, with_secrets())
    vault = VaultLib([("default", VaultSecret(password.encode()))])
    for prop in document["properties"]:
        name = {"license": "value", "otk": "default"}.get(prop["key"])
        if name:
            prop[name] = {"__ansible_vault": vault.encrypt(SECRET).decode()}
    return document


def test_secrets_are_decrypted() -> None:
    document = encrypted("right")
    found = decrypted(document, "wrong", "right")
    assert found["fault"] == ""
    assert found["secret_values"] == {"license": SECRET}
    properties = {prop["key"]: prop for prop in found["document"]["properties"]}
    assert (properties["license"]["value"], properties["otk"]["default"]) == (None, SECRET)
    assert SECRET not in str(document)


def test_section_and_license_agreement_are_decrypted() -> None:
    document = encrypted("right")
    sealed = {"__ansible_vault": VaultLib([("default", VaultSecret(b"right"))]).encrypt(SECRET).decode()}
    section = {"namespace": "", "type": "T", "at_envelope_level": False}
    document.update(ovf_sections=[{**section, "contents": sealed}, {**section, "contents": None}], eula=["x", sealed])
    found = decrypted(document, "right")
    assert found["document"]["eula"] == ["x", SECRET]
    assert [section["contents"] for section in found["document"]["ovf_sections"]] == [SECRET, None]
    fault = decrypted(document, "wrong")["fault"]
    assert fault.startswith("license, otk, OVF section T, license agreements cannot be decrypted")


def test_given_secrets_take_precedence() -> None:
    given = {"license": "given", "admin": "given-too"}
    found = decrypted(encrypted("right"), "right", given=given)
    assert found["secret_values"] == given
    found = decrypted(encrypted("right"), "right", given=given, keys=["admin"])
    assert found["secret_values"] == {"admin": "given-too"}


@pytest.mark.parametrize("passwords", [(), ("wrong",)])
def test_secrets_that_cannot_be_decrypted(passwords: tuple[str, ...]) -> None:
    found = decrypted(encrypted("right"), *passwords)
    assert found["fault"].startswith("license, otk cannot be decrypted with the vault passwords of this run.")
    assert found["secret_values"] == {}


def restored(
    documents: list[dict[str, Any]], there: list[dict[str, Any]], password: str = "right", **options: Any
) -> list[dict[str, Any]]:
    """Return the arguments of the module for a backup, as the playbook passes them."""
    index, files = backup(*documents)
    plan = vapp_restore_plan.vapp_restore_plan({"index": index, "documents": files}, there, overwrite=True)
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(password.encode()))])  # type: ignore[list-item]
    decrypt = vapp_restore.LookupModule(loader=loader)._decrypt
    return vapp_restore.entries(plan, decrypt, **{"secrets": {}, "keys": [], **options})


def test_arguments_of_a_restore() -> None:
    sealed, plain = encrypted("right"), export(2, appliance())
    changed = appliance()
    changed.property[0].value = "other"
    secrets = {"web-1": {"admin": "by name"}, plain["vm"]["instance_uuid"]: {"admin": "by UUID"}, "web-9": {"x": "y"}}
    first, second = restored([sealed, plain], [vm(1), vm(2, changed)], secrets=secrets)
    assert (first["moid"], first["overwrite"], second["moid"], second["overwrite"]) == ("vm-1", False, "vm-2", True)
    assert first["secret_values"] == {"license": SECRET, "admin": "by name"}
    assert second["secret_values"] == {"admin": "by UUID"}
    assert "__ansible_vault" not in str(first["restore_from"])
    assert second["restore_from"] == plain
    assert restored([plain], [vm(2, changed)], secrets=secrets, keys=["hostname"])[0]["secret_values"] == {}


def test_no_arguments_without_the_vault_password() -> None:
    """A restore without some of the secrets would count as done."""
    with pytest.raises(AnsibleError, match=r"^VM web-1: license, otk cannot be decrypted with the vault passwords"):
        restored([encrypted("right")], [vm(1)], password="wrong")


def test_arguments_without_anything_to_restore() -> None:
    assert restored([KEPT], [vm(1, appliance())]) == []
    assert restored([KEPT], []) == []


def test_plan() -> None:
    index, documents = backup(KEPT)
    options = {"confirmed": ["vm-1"], "secrets": {"web-1": {"admin": SECRET}}, "site_map": {"subnets": {"x": "y"}}}
    plan = vapp_restore_plan.vapp_restore_plan({"index": index, "documents": documents}, [vm(1)], **options)
    assert plan["faults"] == [
        "vapp_restore_map has x, which is not a subnet with its prefix length, such as 10.1.0.0/16"
    ]
    assert plan["rows"][0]["action"] == "restore"
    assert plan["rows"][0]["secrets_given"] == ["admin"]
    assert plan["documents"] == {"vm-1": KEPT}
    assert SECRET not in str(plan)


def test_result_of_the_filter_is_not_a_template() -> None:
    """In every ansible-core, a name or a value that looks like a template is unchanged."""
    info = appliance()
    info.property[0].value = "{{ 6 * 7 }}"
    index, documents = backup(export(1, info, name="{{ 6 * 7 }}"))
    plan = vapp_restore_plan.vapp_restore_plan({"index": index, "documents": documents}, [vm(1)], match_name=True)
    try:
        from ansible.template import is_trusted_as_template
    except ImportError:
        from ansible.utils.unsafe_proxy import AnsibleUnsafe

        def is_trusted_as_template(value: object) -> bool:
            return not isinstance(value, AnsibleUnsafe)

    texts = [plan["rows"][0]["backup_name"], plan["rows"][0]["reason"], plan["rows"][0]["file"]]
    texts += [prop["value"] for prop in plan["documents"]["vm-1"]["properties"] if prop["value"]]
    assert not any(map(is_trusted_as_template, texts))


@pytest.mark.parametrize("given", [{"secret": {}}, {"match": True}])
def test_unknown_options(given: dict[str, Any]) -> None:
    with pytest.raises(AnsibleError, match="has no option"):
        vapp_restore_plan.vapp_restore_plan({}, [], **given)
