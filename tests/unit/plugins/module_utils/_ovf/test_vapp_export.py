# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exported vApp options: everything except secrets, in a fixed order, and the same bytes after a restore."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest
from pyVmomi import vim
from unit.plugins.module_utils._ovf import test_vapp_change
from unit.plugins.module_utils._ovf.test_vapp_change import prop, request

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_change, vapp_export

SECRET = "vmforktest-a-secret-of-its-own"
VM = {
    "config.instanceUuid": "50050d8f-0000-0000-0000-000000000001",
    "config.uuid": "42050d8f-0000-0000-0000-000000000001",
}


def product(key: int, **fields: Any) -> Any:
    return vim.vApp.ProductInfo(key=key, **fields)


def options(*properties: Any, **fields: Any) -> Any:
    return vim.vApp.VmConfigInfo(
        property=list(properties),
        **{"ipAssignment": vim.vApp.IPAssignmentInfo(), "installBootRequired": False, **fields},
    )


ZONES = ", ".join(f'"Zone/{number}"' for number in range(500))
SHAPES: dict[str, Any] = {
    "nothing in it": options(),
    "classes and instances": options(
        prop(1, "ip0", classId="vami", instanceId="VCSA", type="ip", value="192.0.2.1"),
        prop(2, "ip0", classId="vami", instanceId="Other", type="ip", value="192.0.2.2"),
        prop(3, "ip0", classId="vm", type="ip", value="192.0.2.3"),
        prop(4, "ip0", value="x"),
        product=[
            product(9, classId="vami", instanceId="VCSA", name="vCenter", version="8", fullVersion="8.0.3", vendor="V"),
            product(4, classId="vami", instanceId="Other", name="Other", appUrl="https://${vami.ip0.Other}/"),
            product(5, name="Third", vendorUrl="https://example.com", productUrl="https://example.com/p"),
        ],
    ),
    "keys with dots": options(prop(0, "guestinfo.hostname", value="web"), prop(1, "c", classId="a.b", value="x")),
    "types": options(
        prop(1, "a", type="string(1..64)", value="x"),
        prop(2, "b", type='string["a", "b\\"c"]', value='b"c'),
        prop(3, "c", type="int(0..255)", defaultValue="3"),
        prop(4, "d", type="boolean", value="true", defaultValue="False"),
        prop(5, "e", type="real(-1.5..1.5)", value="1.5"),
        prop(6, "f", type=None, value="untyped"),
        prop(7, "g", type="something of a later version", value="x"),
    ),
    "value that is the default": options(prop(1, "a", value="x", defaultValue="x")),
    "empty value with a default": options(prop(1, "a", value="", defaultValue="x"), prop(2, "b", value=None)),
    "expression": options(prop(1, "netmask", type="expression", defaultValue="${netmask:VM Network}", value="")),
    "not user-configurable": options(prop(1, "a", userConfigurable=False, value="x", defaultValue="y")),
    "texts": options(
        prop(1, "a", label="Größe <&>", category="Réseau", description="Zeile 1\nZeile 2\t\"'", value="値\n値")
    ),
    "addresses": options(
        prop(1, "a", type="ip:VM Network", value="192.0.2.1"),
        ipAssignment=vim.vApp.IPAssignmentInfo(
            supportedAllocationScheme=["ovfenv", "dhcp"],
            ipAllocationPolicy="fixedAllocatedPolicy",
            supportedIpProtocol=["IPv4", "IPv6"],
            ipProtocol="IPv6",
        ),
    ),
    "the rest": options(
        ovfEnvironmentTransport=["iso", "com.vmware.guestInfo"],
        eula=["first", "second"],
        ovfSection=[
            vim.vApp.OvfSectionInfo(key=7, namespace="urn:b", type="B", atEnvelopeLevel=True, contents="<b/>"),
            vim.vApp.OvfSectionInfo(key=3, namespace="urn:a", type="A", atEnvelopeLevel=False, contents="<a>x</a>"),
        ],
        installBootRequired=True,
        installBootStopDelay=30,
    ),
    # Written without SOAP, as by an import; a value that is sent arrives with newlines.
    "ends of lines": options(
        prop(1, "a", label="x\r\ny", description="a\rb", value="a\nb"),
        eula=["line\r\nline\rline"],
        ovfSection=[vim.vApp.OvfSectionInfo(key=1, namespace="urn:a", type="A", contents="<a>\r\n</a>")],
    ),
    # Structures of published descriptors and scripts: CoprHD, Proxmox VE, ASCETIC, VMware's vService extension.
    "hundreds of allowed values": options(
        prop(1, "timezone", classId="system", type=f"string[{ZONES}]", defaultValue="Zone/7", value="Zone/499"),
        prop(2, "ipv40", classId="network", instanceId="SetupVM", type="ip", value="192.0.2.5"),
        prop(3, "vmname", classId="vm", defaultValue="SetupVM", userConfigurable=False),
        product=[product(1, classId="vm"), product(2, classId="network", instanceId="SetupVM")],
        ovfEnvironmentTransport=["iso", "com.vmware.guestInfo"],
    ),
    "version of several lines": options(
        product=[
            product(1, classId="com.proxmox.exported.vm", instanceId="100", fullVersion="pve: 8.2\n\tkernel: 6.8\n")
        ],
        ovfEnvironmentTransport=[],
    ),
    "numbers at their limits": options(
        prop(1, "a", classId="eu.ascetic.vm", type="int(0..18446744073709551615)", value="18446744073709551615"),
        prop(2, "b", classId="eu.ascetic.vm", type="int(-9223372036854775808..0)", value="-9223372036854775808"),
        prop(3, "c", classId="eu.ascetic.vm", type="real", value="1e3"),
    ),
    "section of vSphere": options(
        ovfSection=[
            vim.vApp.OvfSectionInfo(
                key=1,
                namespace="http://www.vmware.com/schema/ovf",
                type="vServiceDependencySection",
                contents='<vmw:Type xmlns:vmw="http://www.vmware.com/schema/ovf">com.vmware.vservice.extension</vmw:Type>',
            )
        ]
    ),
    "texts that YAML, Jinja or XML would change": options(
        *(
            prop(number, f"{{{{{number}}}}}", value=text, label=text, description=text)
            for number, text in enumerate(
                [
                    *("yes", "null", "~", "1e3", "0x10", "0o17", "0755", "12:30:45", "2026-01-02", "x  ", "\tx\t"),
                    *(
                        "\n\nx\n\n",
                        "{{ lookup('pipe', 'id') }}",
                        "{% raw %}",
                        "]]>&amp;<![CDATA[x]]>",
                        "e\u0301",
                        "\u202e",
                    ),
                    "ß" * 32767,
                ]
            )
        )
    ),
    "foreign transport": options(ovfEnvironmentTransport=["ISO,com.vmware.guestInfo"]),
}


def exported(info: Any, **more: Any) -> dict[str, Any]:
    return vapp_export.document("VM1", VM, info, **more)


def as_bytes(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip(shape: str) -> None:
    """Export, restore to a VM without vApp options, export again; a second restore changes nothing."""
    document = exported(SHAPES[shape])
    read_again = json.loads(json.dumps(document))
    change = vapp_change.plan("VM1", None, request(restore_from=read_again))
    assert as_bytes(exported(change.after)) == as_bytes(document)
    assert change.not_restored == []
    again = vapp_change.plan("VM1", change.after, request(restore_from=read_again, exact=True))
    assert not again.changes, again.spec
    on_itself = vapp_change.plan("VM1", SHAPES[shape], request(restore_from=read_again, exact=True))
    assert not on_itself.changes, on_itself.spec


DAMAGE: dict[str, Any] = {
    "no list": ("properties", {}),
    "no entry": ("properties", ["a"]),
    "number for a text": ("properties", [{"class_id": "", "id": 5}]),
    "no products": ("products", None),
    "text for a list": ("eula", "text"),
    "numbers for texts": ("transport", [1]),
    "no numbers": ("install_boot", {"required": "no", "stop_delay": "x"}),
    "no policy": ("ip_allocation", {"policy": 5}),
    "no sections": ("ovf_sections", [{}]),
    "delay that no integer holds": ("install_boot", {"required": True, "stop_delay": 2**31}),
    "negative delay": ("install_boot", {"required": True, "stop_delay": -1}),
    "half a character in an agreement": ("eula", ["\ud800"]),
    "control character in a transport": ("transport", ["iso\0"]),
    "control character in a policy": (
        "ip_allocation",
        {"policy": "a\x1b", "protocol": None, "supported_schemes": [], "supported_protocols": []},
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_document(damage: str) -> None:
    """A file may have been edited manually."""
    part, content = DAMAGE[damage]
    with pytest.raises(_errors.BadInput, match=f"{part}.*Nothing was changed"):
        request(restore_from={**exported(SHAPES["the rest"]), part: content})


@pytest.mark.parametrize("text", ["\ud800", "a\0", "a\r\nb"], ids=ascii)
@pytest.mark.parametrize("field", ["label", "category", "description", "type"])
def test_text_of_a_property_that_cannot_be_sent(field: str, text: str) -> None:
    document = exported(options(prop(1, "a", value="x")))
    document["properties"][0][field] = f"ip:{text}" if field == "type" else text
    with pytest.raises(_errors.BadInput, match="properties in restore_from has control characters"):
        request(restore_from=document)


@pytest.mark.parametrize("part", ["products", "ovf_sections"])
def test_other_text_that_cannot_be_sent(part: str) -> None:
    document = exported(options(**other_values()))
    for name, value in document[part][0].items():
        if isinstance(value, str):
            damaged = json.loads(json.dumps(document))
            damaged[part][0][name] = "x\ud800"
            with pytest.raises(_errors.BadInput, match=f"{part} in restore_from has control characters"):
                request(restore_from=damaged)


def other_values() -> dict[str, Any]:
    return {
        "product": [product(1, name="Appliance")],
        "ovfSection": [vim.vApp.OvfSectionInfo(key=1, namespace="urn:a", type="A", contents="<a/>")],
    }


def test_property_of_a_document_without_an_id() -> None:
    document = exported(options(prop(1, "a", classId="c", value="x")))
    document["properties"][0]["id"] = ""
    with pytest.raises(_errors.BadInput, match="property c of restore_from has an empty id"):
        request(restore_from=document)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"state": "absent"}, {"b": ("", "y")}),
        ({"state": "reset"}, {"a": ("", "d"), "b": ("", "y")}),
    ],
)
def test_absent_and_reset_override_a_document(given: dict[str, str], left: dict[str, Any]) -> None:
    info = options(prop(1, "a", value="v", defaultValue="d"), prop(2, "b", defaultValue="y"))
    document = exported(info)
    change = vapp_change.plan("VM1", info, request(restore_from=document, properties=[{"key": "a", **given}]))
    assert {prop.id: (prop.value or "", prop.defaultValue) for prop in change.after.property} == left
    assert change.changed == ["a"]


def test_change_of_one_of_two_properties_with_the_same_full_key() -> None:
    info = options(prop(1, "b.c", classId="a", value="x"), prop(2, "c", classId="a.b", value="y"))
    given = {"properties": [{"class_id": "a.b", "id": "c", "value": "new"}]}
    change = vapp_change.plan("VM1", None, request(restore_from=exported(info), **given))
    assert [(prop.classId, prop.value) for prop in change.after.property] == [("a", "x"), ("a.b", "new")]


@pytest.mark.parametrize(
    "given",
    [
        {"values": {"a.b.c": "new"}},
        {"secret_values": {"a.b.c": "new"}},
        {"properties": [{"key": "a.b.c", "value": "new"}]},
    ],
)
def test_value_for_one_of_two_properties_of_a_document_with_the_same_full_key(given: dict[str, Any]) -> None:
    """It is not assigned to the first of them."""
    document = exported(options(prop(1, "b.c", classId="a", value="x"), prop(2, "c", classId="a.b", value="y")))
    with pytest.raises(_errors.BadInput, match=r"2 properties have the key a\.b\.c of "):
        request(restore_from=document, **given)


@pytest.mark.parametrize("option", ["values", "properties"])
def test_value_that_overrides_a_document_is_checked(option: str) -> None:
    """Only values that vCenter had before are written unchecked."""
    document = exported(options(prop(1, "size", type="int(0..9)", value="10", defaultValue="5")))
    assert vapp_change.plan("VM1", None, request(restore_from=document)).changes
    given = {"size": 11} if option == "values" else [{"key": "size", "value": 11}]
    with pytest.raises(_errors.Refused, match="property size: the value is outside the range"):
        vapp_change.plan("VM1", None, request(restore_from=document, **{option: given}))


def test_empty_value_of_a_document_does_not_blank_the_default() -> None:
    document = exported(options(prop(1, "a", value="", defaultValue="d")))
    info = options(prop(1, "a", value="x", defaultValue="d"))
    change = vapp_change.plan("VM1", info, request(restore_from=document))
    assert [(prop.value, prop.defaultValue) for prop in change.after.property] == [("", "d")]


def test_value_that_cannot_be_sent() -> None:
    document = exported(options(prop(1, "a", value="a\r\nb")))
    with pytest.raises(_errors.Refused, match="property a: the value has control characters or carriage returns"):
        vapp_change.plan("VM1", None, request(restore_from=document))


def test_order_and_integer_keys_do_not_matter() -> None:
    original = SHAPES["classes and instances"]
    other = options(
        *(
            prop(
                40 - info.key,
                info.id,
                classId=info.classId,
                instanceId=info.instanceId,
                type=info.type,
                value=info.value,
            )
            for info in reversed(original.property)
        ),
        product=list(reversed(original.product)),
    )
    assert as_bytes(exported(original)) == as_bytes(exported(other))


def with_secrets() -> Any:
    return options(
        prop(1, "admin", type="password(8..)", value=""),
        prop(2, "api_token", value=SECRET),
        prop(3, "license", label="License key", value="", defaultValue=SECRET),
        prop(4, "empty_token", value=""),
        prop(5, "hostname", value="web"),
        prop(6, "site", value="hidden-by-pattern"),
    )


def test_secrets() -> None:
    document = exported(with_secrets(), patterns=["site"])
    assert SECRET not in str(document)
    assert {prop["key"]: (prop["value"], prop["default"], prop["secret"]) for prop in document["properties"]} == {
        "admin": (None, "", True),
        "api_token": (None, "", True),
        "empty_token": ("", "", False),
        "hostname": ("web", "", False),
        "license": ("", None, True),
        "site": (None, "", True),
    }
    change = vapp_change.plan("VM1", None, request(restore_from=document, secret_values={"admin": SECRET}))
    assert change.not_restored == ["api_token", "license", "site"]
    added = {edit.info.id: edit.info.value for edit in change.spec.property}
    assert added == {"admin": SECRET, "api_token": "", "empty_token": "", "hostname": "web", "license": "", "site": ""}
    kept = vapp_change.plan("VM1", with_secrets(), request(restore_from=document))
    assert not kept.changes, "what is there is not touched for want of the secrets"


def test_values_of_the_running_vm_are_left_out() -> None:
    leased = options(
        prop(1, "a", type="ip:VM Network", value="192.0.2.1"),
        prop(2, "b", type="expression", defaultValue="${ip:VM Network}", value="192.0.2.1"),
        ipAssignment=vim.vApp.IPAssignmentInfo(ipAllocationPolicy="dhcpPolicy"),
    )
    assert [prop["value"] for prop in exported(leased)["properties"]] == ["", ""]


def test_no_vapp_options() -> None:
    assert exported(None) == {
        "version": 1,
        "vm": {"name": "VM1", "instance_uuid": VM["config.instanceUuid"], "uuid": VM["config.uuid"]},
        "enabled": False,
    }


def test_values_of_the_task_take_precedence() -> None:
    document = exported(SHAPES["empty value with a default"])
    given = {
        "values": {"a": "", "b": "10.2.0.1"},
        "properties": [{"key": "new", "label": "New"}, {"key": "b", "label": "B"}],
        "transport": ["iso"],
    }
    change = vapp_change.plan("VM1", None, request(restore_from=document, **given))
    added = {edit.info.id: (edit.info.value, edit.info.defaultValue, edit.info.label) for edit in change.spec.property}
    assert added == {"a": ("", "", ""), "b": ("10.2.0.1", "", "B"), "new": ("", "", "New")}
    assert list(change.spec.ovfEnvironmentTransport) == ["iso"]


def test_additional_properties_of_the_vm() -> None:
    document = exported(SHAPES["classes and instances"])
    info = options(
        prop(1, "extra", value="x"),
        product=[product(1, classId="extra", name="Extra")],
        ovfSection=[vim.vApp.OvfSectionInfo(key=1, namespace="urn:x", type="X", contents="<x/>")],
    )
    kept = vapp_change.plan("VM1", info, request(restore_from=document)).after
    assert {"extra"} < {prop.id for prop in kept.property}
    assert {"Extra"} < {product.name for product in kept.product}
    assert len(kept.ovfSection) == 1
    exact = vapp_change.plan("VM1", info, request(restore_from=document, exact=True)).after
    assert as_bytes(exported(exact)) == as_bytes(document)


@pytest.mark.parametrize("part", ["value", "default", "eula", "contents"])
def test_encrypted_document(part: str) -> None:
    """It is refused as a whole, since a part that is left out would not be missed later."""
    sealed = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256"}
    document = exported(SHAPES["classes and instances"])
    section = {"namespace": "n", "type": "T", "at_envelope_level": False, "contents": "x"}
    document |= {"ovf_sections": [section], "eula": ["x"]}
    where = {"eula": (document["eula"], 0, "license agreements"), "contents": (section, "contents", "OVF section T")}
    prop = document["properties"][0]
    inside, key, name = where.get(part, (prop, part, prop["key"]))
    inside[key] = sealed
    how = r"\(decrypt the document with the lookup vmfork\.vsphere\.vapp_secrets\)"
    with pytest.raises(_errors.BadInput, match=rf"Ansible Vault: {name} {how}"):
        request(restore_from=document)


def test_many_properties_are_fast() -> None:
    """The time grows with their number, not with its square."""
    count = 6000
    document = exported(options(*(prop(number, f"key-{number}", value="x") for number in range(count))))
    begin = time.process_time()
    wanted = request(restore_from=document, secret_values={f"key-{number}": "y" for number in range(count)})
    change = vapp_change.plan("VM1", None, wanted)
    assert time.process_time() - begin < 4
    assert len(change.changed) == count


def test_another_version() -> None:
    document = exported(SHAPES["classes and instances"])
    info = options(
        product=[product(1, classId="vami", instanceId="VCSA", name="vCenter", fullVersion="7.0", vendor="V")]
    )
    with pytest.raises(
        _errors.Refused, match=r"it has the product vCenter 7\.0, and the document is for vCenter 8\.0\.3"
    ):
        vapp_change.plan("VM1", info, request(restore_from=document))
    forced = vapp_change.plan("VM1", info, request(restore_from=document, force=True))
    assert sorted(product.operation for product in forced.spec.product) == ["add", "add", "edit"]
    assert as_bytes(exported(forced.after)) == as_bytes(document)


def test_value_that_is_not_user_configurable() -> None:
    document = exported(SHAPES["not user-configurable"])
    info = options(prop(1, "a", userConfigurable=False, value="other", defaultValue="y"))
    with pytest.raises(_errors.Refused, match="is not user-configurable"):
        vapp_change.plan("VM1", info, request(restore_from=document))
    assert not vapp_change.plan("VM1", info, request(restore_from=document, not_user_configurable="skip")).changes


@pytest.mark.parametrize("as_default", [False, True])
@pytest.mark.parametrize("before", ["gone", "other value", "user-configurable", "other default"])
def test_restore_of_properties_that_are_not_user_configurable(before: str, as_default: bool) -> None:
    """It is user-configurable while its value is written; a new one may have its value as its default."""
    document = exported(SHAPES["not user-configurable"])
    fields = {"userConfigurable": before == "user-configurable", "value": "other", "defaultValue": "y"}
    if before == "other default":
        fields.update(value="", defaultValue="other")
    info = None if before == "gone" else options(prop(1, "a", **fields), prop(5, "b", value="kept"))
    wanted = request(restore_from=document, not_user_configurable="force")
    change = vapp_change.plan("VM1", info, dataclasses.replace(wanted, fixed_as_default=as_default))
    (update,) = change.spec.property
    is_added = before == "gone"
    assert (update.operation, update.info.key) == (("add", 0) if is_added else ("edit", 1))
    assert update.info.userConfigurable is not is_added
    restored = next(prop for prop in change.after.property if prop.id == "a")
    assert (restored.value, restored.defaultValue) == (("", "x") if is_added and as_default else ("x", "y"))
    assert restored.userConfigurable is False
    assert change.changed == change.values_written == ["a"]
    assert (change.added_fixed, change.opened) == ((["a"], []) if is_added else ([], ["a"]))
    assert change.needs >= {vapp_change.STRUCTURE}
    assert change.delivered
    assert any(
        "as defaults" in caution and caution.endswith("The guest receives the same values.")
        for caution in change.cautions
    ) is (is_added and as_default)
    if not is_added:
        written = vapp_change.plan("VM1", info, wanted).after
        next(prop for prop in written.property if prop.id == "a").userConfigurable = True
        closing = vapp_change.plan("VM1", written, wanted.to_close())
        (update,) = closing.spec.property
        assert (update.operation, update.info.value, update.info.userConfigurable) == ("edit", "x", False)
        assert closing.opened == []
    for again in ("fail", "force"):
        same = request(restore_from=document, not_user_configurable=again)
        assert not vapp_change.plan("VM1", change.after, same).changes


def test_cases_of_the_other_file_are_still_exported() -> None:
    """The appliance of test_vapp_change.py, without secrets, is another case."""
    document = exported(test_vapp_change.appliance())
    change = vapp_change.plan("VM1", None, request(restore_from=document, secret_values={"admin": SECRET}))
    assert as_bytes(exported(change.after)) == as_bytes(document)


# --- secrets besides those of properties ------------------------------------------------------------------------------


def section(kind: str, contents: str, key: int = 1) -> Any:
    return vim.vApp.OvfSectionInfo(key=key, namespace="urn:x", type=kind, contents=contents)


SECTIONS = [
    ("x:ConfigSection", '<Config key="db.password" value="abc"/>', True),
    ("x:ConfigSection", "<Login><Password>abc</Password></Login>", True),
    ("x:ConfigSection", '<Login token="abc"/>', True),
    ("x:ConfigSection", f"<Id>-----BEGIN PRIVATE KEY-----{SECRET}</Id>", True),
    ("x:TokenSection", "<Id>abc</Id>", True),
    ("x:OrderSection", "<Id>abc</Id>", True),
    (
        "x:ConfigSection",
        '<Config ovf:required="false" vmw:key="virtualHW.productCompatibility" vmw:value="esx"/>',
        False,
    ),
    ("x:AnnotationSection", "<Annotation>The appliance of the first floor</Annotation>", False),
    ("x:TokenSection", "", False),
]


@pytest.mark.parametrize(("kind", "contents", "is_secret"), SECTIONS)
def test_secrets_in_ovf_sections(kind: str, contents: str, is_secret: bool) -> None:
    document, secrets = vapp_export.document_and_secrets(
        "VM1", VM, options(ovfSection=[section(kind, contents)]), ["order"]
    )
    assert document["ovf_sections"][0]["contents"] == (None if is_secret else contents)
    assert secrets == [(("ovf_sections", 0, "contents"), contents)] * is_secret


AGREEMENTS = [
    ("Log in as admin with the password: Xy7$kkkk99!", True),
    ("The default password: first-login", True),
    ("https://user:abc@example.com/", True),
    ("License key=Ab3dEf6hIj9kLm2n", True),
    ("LICENSE: Apache-2.0. License Key: the key that is delivered. You keep your password: it is yours.", False),
    ("See https://example.com/licenses/2024/end-user-agreement.html?lang=en", False),
]


@pytest.mark.parametrize(("text", "is_secret"), AGREEMENTS)
def test_secrets_in_license_agreements(text: str, is_secret: bool) -> None:
    document, secrets = vapp_export.document_and_secrets("VM1", VM, options(eula=["Accept it.", text]))
    assert document["eula"] == ["Accept it.", None if is_secret else text]
    assert secrets == [(("eula", 1), text)] * is_secret


def test_missing_parts_of_a_document_are_left_unchanged() -> None:
    info = options(
        ovfSection=[section("b", "<a token='abc'/>"), section("b", "<a/>", key=2), section("c", "<c/>", key=3)],
        eula=["password: Xy7$kkkk99!"],
    )
    document = exported(info)
    assert [section["contents"] for section in document["ovf_sections"]] == [None, "<a/>", "<c/>"]
    assert not vapp_change.plan("VM1", info, request(restore_from=document, exact=True)).changes
    change = vapp_change.plan("VM1", None, request(restore_from=document))
    assert change.not_restored == ["OVF section b", "license agreements"]
    assert [section.contents for section in change.after.ovfSection] == ["<a/>", "<c/>"]
    assert not change.after.eula
    assert vapp_export.not_restored(document, exported(change.after)) == ["license agreements"]
    assert vapp_export.not_restored(document, document) == []
    assert vapp_export.not_restored(document, exported(None)) == ["OVF section b", "license agreements"]
