# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a reconfigure, and what is refused before it is sent."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_change, vapp_export, vapp_request

SECRET = "vmforktest-a-secret-of-its-own"
ENTRY = dict.fromkeys(("key", "id", "class_id", "instance_id", "value", "default", *vapp_request.ATTRIBUTES), None) | {
    "state": "present"
}
OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("enabled", "properties", "values", "secret_values", "transport", "ip_allocation")),
    **dict.fromkeys(("restore_from", "restore_keys")),
    "overwrite": True,
    "force": False,
    "unknown": "fail",
    "not_user_configurable": "fail",
    "update_secrets": "on_create",
    "exact": False,
}
GUESTINFO = "com.vmware.guestInfo"
IP = dict.fromkeys(("policy", "protocol", "supported_schemes", "supported_protocols"))


def prop(key: int, name: str, **fields: Any) -> Any:
    given = {"type": "string", "userConfigurable": True, "classId": "", "instanceId": "", "value": "", **fields}
    return vim.vApp.PropertyInfo(key=key, id=name, **given)


def appliance(*more: Any, **fields: Any) -> Any:
    """Return the vApp options of an appliance with all kinds of properties."""
    return vim.vApp.VmConfigInfo(
        property=[
            prop(3, "hostname", value="old", label="Host name", category="Network", defaultValue="localhost"),
            prop(4, "ip0", classId="vami", instanceId="VCSA", type="ip", value="192.0.2.1"),
            prop(5, "size", type="int(0..255)", defaultValue="7"),
            prop(6, "ssh", type="boolean", value="True"),
            prop(7, "admin", type="password(8..)", value="", defaultValue=""),
            prop(9, "debug", userConfigurable=False, value="no"),
            prop(11, "net", type="expression", defaultValue="${netmask:VM Network}", value="255.255.255.0"),
            prop(12, "mode", type='string["small", "large"]', value="small"),
            *more,
        ],
        product=[vim.vApp.ProductInfo(key=1, name="Appliance", classId="vami", instanceId="VCSA")],
        ovfEnvironmentTransport=[GUESTINFO],
        ipAssignment=vim.vApp.IPAssignmentInfo(
            ipAllocationPolicy="fixedPolicy", supportedIpProtocol=["IPv4"], ipProtocol="IPv4"
        ),
        **fields,
    )


def request(**given: Any) -> vapp_request.Request:
    options = OPTIONS | given
    if options["properties"] is not None:
        options["properties"] = [ENTRY | entry for entry in options["properties"]]
    if options["ip_allocation"] is not None:
        options["ip_allocation"] = IP | options["ip_allocation"]
    return vapp_request.read(options)


def changed(info: Any, **given: Any) -> vapp_change.Change:
    """Return the change; assert that its input is unchanged and that a second run has nothing to do."""
    wanted = request(**given)
    before = copy.deepcopy(info)
    change = vapp_change.plan("VM1", info, wanted)
    assert str(info) == str(before), "what was read was changed in place"
    again = vapp_change.plan("VM1", change.after, wanted.without_secrets())
    assert not again.changes, again.spec
    return change


def refusal(info: Any, **given: Any) -> str:
    with pytest.raises(_errors.Error) as caught:
        vapp_change.plan("VM1", info, request(**given))
    assert SECRET not in caught.value.sentence
    return caught.value.sentence


def sent(change: vapp_change.Change) -> list[tuple[str, int, dict[str, Any]]]:
    """Return operation, integer key and changed fields of each property in a spec."""
    result: list[tuple[str, int, dict[str, Any]]] = []
    for edit in change.spec.property if change.spec is not None else []:
        if edit.operation == "remove":
            result.append((edit.operation, edit.removeKey, {}))
            continue
        read = {old.key: old for old in appliance().property}.get(edit.info.key)
        fields = {item.name: getattr(edit.info, item.name) for item in edit.info._GetPropertyList()}
        news = {
            name: value
            for name, value in fields.items()
            if name not in ("dynamicType", "dynamicProperty", "key")
            and (read is None or (getattr(read, name) or "") != (value or ""))
            and (read is not None or value not in ("", None))
        }
        result.append((edit.operation, edit.info.key, news))
    return result


STRUCTURE, VALUES = vapp_change.STRUCTURE, vapp_change.VALUES

# options → what is sent, which privileges it needs, and whether the guest would receive something else
CHANGES: dict[str, tuple[dict[str, Any], list[Any], set[str], bool]] = {
    "value": ({"values": {"hostname": "new"}}, [("edit", 3, {"value": "new"})], {VALUES}, True),
    "same value": ({"values": {"hostname": "old"}}, [], set(), False),
    "full key": ({"values": {"vami.ip0.VCSA": "192.0.2.9"}}, [("edit", 4, {"value": "192.0.2.9"})], {VALUES}, True),
    "parts": (
        {"properties": [{"class_id": "vami", "id": "ip0", "instance_id": "VCSA", "value": "192.0.2.9"}]},
        [("edit", 4, {"value": "192.0.2.9"})],
        {VALUES},
        True,
    ),
    "value that is the default": ({"values": {"size": 7}}, [], set(), False),
    "number": ({"values": {"size": 8}}, [("edit", 5, {"value": "8"})], {VALUES}, True),
    "boolean": ({"values": {"ssh": False}}, [("edit", 6, {"value": "False"})], {VALUES}, True),
    "boolean in another case": ({"values": {"ssh": "true"}}, [], set(), False),
    "choice": ({"values": {"mode": "large"}}, [("edit", 12, {"value": "large"})], {VALUES}, True),
    # The default would be delivered for an empty value.
    "blank": (
        {"values": {"hostname": ""}},
        [("edit", 3, {"value": "", "defaultValue": ""})],
        {STRUCTURE, VALUES},
        True,
    ),
    "blank without a value": ({"values": {"size": ""}}, [("edit", 5, {"defaultValue": ""})], {STRUCTURE, VALUES}, True),
    "reset": (
        {"properties": [{"key": "hostname", "state": "reset"}]},
        [("edit", 3, {"value": ""})],
        {VALUES},
        True,
    ),
    "reset already": ({"properties": [{"key": "size", "state": "reset"}]}, [], set(), False),
    # The comparison with the result is not refused.
    "reset of a password": (
        {"properties": [{"key": "admin", "state": "reset"}], "update_secrets": "always"},
        [("edit", 7, {})],
        {VALUES},
        True,
    ),
    "reset of an expression": ({"properties": [{"key": "net", "state": "reset"}]}, [], set(), False),
    "absent": ({"properties": [{"key": "hostname", "state": "absent"}]}, [("remove", 3, {})], {STRUCTURE}, True),
    "absent already": ({"properties": [{"key": "other", "state": "absent"}]}, [], set(), False),
    "label": (
        {"properties": [{"key": "hostname", "label": "Name", "category": "", "description": "Its name"}]},
        [("edit", 3, {"label": "Name", "category": "", "description": "Its name"})],
        {STRUCTURE, VALUES},
        False,
    ),
    "default that is not delivered": (
        {"properties": [{"key": "hostname", "default": "host"}]},
        [("edit", 3, {"defaultValue": "host"})],
        {STRUCTURE, VALUES},
        False,
    ),
    "default that is delivered": (
        {"properties": [{"key": "size", "default": 9}]},
        [("edit", 5, {"defaultValue": "9"})],
        {STRUCTURE, VALUES},
        True,
    ),
    "value that was the default": (
        {"properties": [{"key": "size", "default": 9, "value": 7}]},
        [("edit", 5, {"defaultValue": "9", "value": "7"})],
        {STRUCTURE, VALUES},
        False,
    ),
    "expression": (
        {"properties": [{"key": "net", "default": "${gateway:VM Network}"}]},
        [("edit", 11, {"defaultValue": "${gateway:VM Network}", "value": None})],
        {STRUCTURE, VALUES},
        True,
    ),
    "type": (
        {"properties": [{"key": "hostname", "type": "string(1..64)"}]},
        [("edit", 3, {"type": "string(1..64)"})],
        {STRUCTURE, VALUES},
        False,
    ),
    "type in other words": ({"properties": [{"key": "mode", "type": 'string["small","large"]'}]}, [], set(), False),
    "type of a descriptor": ({"properties": [{"key": "size", "type": "uint8"}]}, [], set(), False),
    "created": (
        {"unknown": "create", "values": {"guestinfo.role": "web"}},
        [("add", 13, {"id": "guestinfo.role", "type": "string", "userConfigurable": True, "value": "web"})],
        {STRUCTURE, VALUES},
        True,
    ),
    "created in the section of a product": (
        {"unknown": "create", "values": {"vami.DNS.VCSA": "192.0.2.53"}},
        [
            (
                "add",
                13,
                {
                    "classId": "vami",
                    "id": "DNS",
                    "instanceId": "VCSA",
                    "type": "string",
                    "userConfigurable": True,
                    "value": "192.0.2.53",
                },
            )
        ],
        {STRUCTURE, VALUES},
        True,
    ),
    "created in full": (
        {
            "unknown": "create",
            "properties": [
                {"id": "a", "class_id": "c", "type": "uint8", "default": 3, "label": "A", "user_configurable": False}
            ],
        },
        [
            (
                "add",
                13,
                {
                    "classId": "c",
                    "id": "a",
                    "type": "int(0..255)",
                    "defaultValue": "3",
                    "label": "A",
                    "userConfigurable": False,
                },
            )
        ],
        {STRUCTURE},
        True,
    ),
    "two created, one removed": (
        {
            "unknown": "create",
            "values": {"a": "1", "b": "2"},
            "properties": [{"key": "mode", "state": "absent"}],
        },
        [
            ("remove", 12, {}),
            ("add", 13, {"id": "a", "type": "string", "userConfigurable": True, "value": "1"}),
            ("add", 14, {"id": "b", "type": "string", "userConfigurable": True, "value": "2"}),
        ],
        {STRUCTURE, VALUES},
        True,
    ),
    "not user-configurable, forced": (
        {"not_user_configurable": "force", "values": {"debug": "yes"}},
        [("edit", 9, {"value": "yes", "userConfigurable": True})],
        {STRUCTURE, VALUES},
        True,
    ),
    "made user-configurable": (
        {"properties": [{"key": "debug", "user_configurable": True, "value": "yes"}]},
        [("edit", 9, {"value": "yes", "userConfigurable": True})],
        {STRUCTURE, VALUES},
        True,
    ),
    "not user-configurable, and as it is to be": ({"values": {"debug": "no"}}, [], set(), False),
    "label of what is not user-configurable": (
        {"properties": [{"key": "debug", "label": "Debug"}]},
        [("edit", 9, {"label": "Debug"})],
        {STRUCTURE, VALUES},
        False,
    ),
    "password that is there": ({"secret_values": {"admin": SECRET}}, [], set(), False),
    "password that is always written": (
        {"secret_values": {"admin": SECRET}, "update_secrets": "always"},
        [("edit", 7, {"value": SECRET})],
        {VALUES},
        True,
    ),
    "label of a password with its value": (
        {"properties": [{"key": "admin", "label": "Password"}], "secret_values": {"admin": SECRET}},
        [("edit", 7, {"label": "Password", "value": SECRET})],
        {STRUCTURE, VALUES},
        True,
    ),
    "password that becomes a text": (
        {"properties": [{"key": "admin", "type": "string"}], "secret_values": {"admin": SECRET}},
        [("edit", 7, {"type": "string", "value": SECRET})],
        {STRUCTURE, VALUES},
        True,
    ),
    "text that becomes a password": (
        {"properties": [{"key": "mode", "type": "password"}], "secret_values": {"mode": SECRET}},
        [("edit", 12, {"type": "password", "value": SECRET})],
        {STRUCTURE, VALUES},
        True,
    ),
    "blank, not user-configurable, forced": (
        {"not_user_configurable": "force", "values": {"debug": ""}},
        [("edit", 9, {"value": "", "userConfigurable": True})],
        {STRUCTURE, VALUES},
        True,
    ),
    "reset, not user-configurable, forced": (
        {"not_user_configurable": "force", "properties": [{"key": "debug", "state": "reset"}]},
        [("edit", 9, {"value": "", "userConfigurable": True})],
        {STRUCTURE, VALUES},
        True,
    ),
    "exact without the password": (
        {"exact": True, "values": {"hostname": "old"}},
        [("remove", key, {}) for key in (4, 5, 6, 7, 9, 11, 12)],
        {STRUCTURE},
        True,
    ),
    "exact with a secret": (
        {"exact": True, "secret_values": {"admin": SECRET}},
        [("remove", key, {}) for key in (3, 4, 5, 6, 9, 11, 12)],
        {STRUCTURE},
        True,
    ),
    "secret that can be read": (
        {"secret_values": {"hostname": SECRET}},
        [("edit", 3, {"value": SECRET})],
        {VALUES},
        True,
    ),
    "password that is created": (
        {"unknown": "create", "secret_values": {"root": SECRET}},
        [("add", 13, {"id": "root", "type": "password", "userConfigurable": True, "value": SECRET})],
        {STRUCTURE, VALUES},
        True,
    ),
    "exact": (
        {
            "exact": True,
            "values": {"hostname": "new", "size": 7, "ssh": True, "debug": "no"},
            "properties": [{"key": "admin"}, {"key": "net"}],
        },
        [("remove", 4, {}), ("remove", 12, {}), ("edit", 3, {"value": "new"})],
        {STRUCTURE, VALUES},
        True,
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_properties(case: str) -> None:
    given, expected, needs, delivered = CHANGES[case]
    change = changed(appliance(), **given)
    assert sent(change) == expected
    assert change.needs == needs
    assert change.delivered is delivered
    assert change.changes is bool(expected)
    if change.changes:
        assert change.spec.product == []
        assert change.spec.ovfEnvironmentTransport == []
        assert change.spec.ipAssignment is None


# options → parts of the message
REFUSALS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown": (
        {"values": {"hostnam": "x"}},
        ["it has no property hostnam (unknown=create adds it), did you mean hostname?"],
    ),
    "short key": ({"values": {"ip0": "192.0.2.1"}}, ["no property ip0", "did you mean vami.ip0.VCSA"]),
    "other case": ({"values": {"HostName": "x"}}, ["did you mean hostname?"]),
    "reset of what is not there": (
        {"unknown": "create", "properties": [{"key": "x", "state": "reset"}]},
        ["it has no property x"],
    ),
    "not user-configurable": ({"values": {"debug": "yes"}}, ["debug is not user-configurable"]),
    "blank that is not user-configurable": ({"values": {"debug": ""}}, ["debug is not user-configurable"]),
    "range": ({"values": {"size": 256}}, ["property size: the value is outside the range of the type int(0..255)"]),
    "address": ({"values": {"vami.ip0.VCSA": "host"}}, ["not an IPv4 or IPv6 address"]),
    "boolean for a string": ({"values": {"hostname": True}}, ["put the value in quotes"]),
    "list": ({"values": {"hostname": ["a"]}}, ["hostname: the value is a list"]),
    "default": ({"properties": [{"key": "size", "default": 300}]}, ["property size: the default is outside"]),
    "type that the value does not fit": (
        {"properties": [{"key": "hostname", "type": "int"}]},
        ["hostname has a value that its new type does not allow"],
    ),
    "value of an expression": ({"values": {"net": "255.0.0.0"}}, ["vCenter computes the value"]),
    "empty value of an expression": ({"values": {"net": ""}}, ["property net: vCenter computes the value"]),
    "password in clear": ({"values": {"admin": SECRET}}, ["admin is a password (set its value in secret_values)"]),
    "password in clear, created": (
        {"unknown": "create", "properties": [{"key": "x", "type": "password", "value": SECRET}]},
        ["x is a password"],
    ),
    "default of a password": (
        {"properties": [{"key": "admin", "default": SECRET}]},
        ["admin is a password", "no default"],
    ),
    "password too short": (
        {"secret_values": {"admin": "short"}, "update_secrets": "always"},
        ["admin: the value has fewer than the 8 characters"],
    ),
    "label of a password": ({"properties": [{"key": "admin", "label": "x"}]}, ["may clear it"]),
    "type of a password": ({"properties": [{"key": "admin", "type": "string"}]}, ["may clear it"]),
    "type of a password, from another": ({"properties": [{"key": "hostname", "type": "password"}]}, ["may clear it"]),
    "half a character": ({"values": {"hostname": "\ud800"}}, ["property hostname: the value has control characters"]),
    "reset of a password": (
        {"properties": [{"key": "admin", "state": "reset"}]},
        ["admin is a password", "update_secrets=always"],
    ),
    "protocol": (
        {"ip_allocation": {"protocol": "IPv6"}},
        ["the IP protocol IPv6 is not one of its supported protocols", "IPv4"],
    ),
    "everything at once": (
        {"values": {"nothing": "x", "size": -1, "debug": "yes"}, "ip_allocation": {"protocol": "IPv6"}},
        ["no property nothing", "property size", "property debug", "IPv6"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    given, expected = REFUSALS[case]
    sentence = refusal(appliance(), **given)
    assert sentence.startswith("The vApp options of VM VM1 are left unchanged: ")
    for part in expected:
        assert part in sentence


# options → what is wrong with them, for any VM
BAD_INPUT: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "there is nothing to write"),
    "no key": ({"properties": [{"value": "x"}]}, "entry 1 of properties needs either key or id"),
    "key and ID": ({"properties": [{"key": "a", "id": "a"}]}, "needs either key or id"),
    "key and class": ({"properties": [{"key": "a", "class_id": "b"}]}, "both a key and a class_id or instance_id"),
    "whitespace": ({"values": {"a b": "x"}}, "whitespace"),
    "empty key": ({"values": {"": "x"}}, "empty key"),
    "null": ({"values": {"a": None}}, "property a has no value in values"),
    "twice": ({"values": {"a": "x"}, "secret_values": {"a": SECRET}}, "property a is given more than once"),
    "twice in properties": ({"properties": [{"key": "a"}, {"key": "a"}]}, "property a is given more than once"),
    "key and parts": (
        {
            "properties": [
                {"class_id": "vami", "id": "ip0", "instance_id": "VCSA", "value": "192.0.2.7"},
                {"key": "vami.ip0.VCSA", "value": "192.0.2.8"},
            ]
        },
        "property vami.ip0.VCSA is given more than once, by its key and by its parts",
    ),
    # No VM needs to have it for that.
    "absent by its key and present by its parts": (
        {"properties": [{"key": "a", "state": "absent"}, {"id": "a", "value": "x"}], "unknown": "create"},
        "property a is given more than once, by its key and by its parts",
    ),
    "value of one of two properties": (
        {
            "properties": [{"class_id": "a", "id": "b.c"}, {"class_id": "a.b", "id": "c"}],
            "values": {"a.b.c": "x"},
        },
        "2 properties have the key a.b.c of values (identify it by id, class_id and instance_id in properties)",
    ),
    "value in both": ({"values": {"a": "x"}, "properties": [{"key": "a", "value": "x"}]}, "more than once"),
    "value of what is absent": (
        {"properties": [{"key": "a", "state": "absent", "value": "x", "label": "x"}]},
        "with value, label",
    ),
    "value of what is reset": ({"properties": [{"key": "a", "state": "reset", "value": "x"}]}, "state=reset"),
    "blank with a default": ({"properties": [{"key": "a", "value": "", "default": "x"}]}, "a default, which would be"),
    "blank with a default, in two options": (
        {"properties": [{"key": "a", "default": "x"}], "values": {"a": ""}},
        "a default, which would be",
    ),
    "type": ({"properties": [{"key": "a", "type": "text"}]}, "type text, which vCenter does not know"),
    "keys without a document": ({"restore_keys": ["a"]}, "restore_keys requires restore_from"),
    "overwrite without a document": ({"values": {"a": "x"}, "overwrite": False}, "requires restore_from"),
    "no document": ({"restore_from": {"a": 1}}, "not a document that vm_ovfenv_info has exported"),
    "later document": ({"restore_from": {"version": 2}}, "has version 2, but only version 1 is supported"),
    "document without options": ({"restore_from": {"version": 1, "enabled": False}}, "without vApp options"),
    "document that is damaged": (
        {"restore_from": {"version": 1, "enabled": True}},
        "restore_from needs properties as a list",
    ),
    "document with a damaged entry": (
        {"restore_from": {"version": 1, "properties": [{"id": 5}]}},
        "entry 1 of properties in restore_from lacks class_id, id, instance_id",
    ),
    "some keys, exactly": (
        {"restore_from": {"version": 1}, "restore_keys": ["a"], "exact": True},
        "restore_keys cannot be combined with exact, which would remove all other properties",
    ),
    "control characters": ({"properties": [{"key": "a", "label": "b\0", "description": "c\r\n"}]}, "in its label"),
    "control characters in a key": ({"values": {"a\0": "x"}}, "control characters in its key"),
    "half a character": ({"values": {"a\ud800": "x"}}, "control characters in its key"),
    "control characters in a type": ({"properties": [{"key": "a", "type": "ip:\ud800"}]}, "in its type"),
    "control characters in a choice": ({"properties": [{"key": "a", "type": 'string["\r"]'}]}, "in its type"),
    "empty ID": ({"properties": [{"class_id": "a", "id": ""}]}, "entry 1 of properties has an empty id"),
    "exact alone": ({"exact": True, "transport": ["iso"]}, "would remove every property"),
    "disabled with values": ({"enabled": False, "values": {"a": "x"}}, "values cannot be combined with enabled=false"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case: str) -> None:
    given, expected = BAD_INPUT[case]
    with pytest.raises(_errors.BadInput) as caught:
        request(**given)
    assert expected in caught.value.sentence
    assert SECRET not in caught.value.sentence


def test_skipped() -> None:
    change = changed(appliance(), not_user_configurable="skip", values={"debug": "yes", "hostname": "new"})
    assert change.skipped == ["debug"]
    assert [key for _operation, key, _fields in sent(change)] == [3]


def test_password_that_is_skipped() -> None:
    """It is not user-configurable, and no part of it is written."""
    info = appliance(prop(20, "fixed", type="password", userConfigurable=False))
    given: dict[str, Any] = {"secret_values": {"fixed": SECRET}, "update_secrets": "always"}
    change = vapp_change.plan("VM1", info, request(**given, not_user_configurable="skip"))
    assert (change.skipped, change.secrets_written, change.changes) == (["fixed"], [], False)
    assert "fixed is not user-configurable" in refusal(info, **given)


def test_no_password_in_the_prediction() -> None:
    """vCenter never returns a password, so check mode does not either."""
    given: dict[str, Any] = {"secret_values": {"admin": SECRET, "new": SECRET}, "unknown": "create"}
    change = vapp_change.plan("VM1", appliance(), request(**given, update_secrets="always"))
    assert change.secrets_written == ["admin", "new"]
    assert SECRET not in str(change.after)
    assert SECRET in str(change.spec)


@pytest.mark.parametrize(
    ("keys", "added"),
    [((-5,), 0), ((-1,), 0), ((0,), 1), ((2**31 - 1,), 0), ((0, 1, 2**31 - 1), 2), ((7, 2**31 - 2), 2**31 - 1)],
)
def test_integer_key_of_a_new_property(keys: tuple[int, ...], added: int) -> None:
    """It is unused, whatever integer keys a VM has; that of a removed property is not used again."""
    info = appliance()
    info.property = [prop(key, f"p{key}", value="x") for key in keys]
    absent = [{"key": f"p{keys[0]}", "state": "absent"}]
    change = changed(info, unknown="create", values={"new": "x"}, properties=absent)
    assert [edit.info.key for edit in change.spec.property if edit.operation == "add"] == [added]
    edited = changed(info, values={f"p{keys[-1]}": "y"})
    assert [edit.info.key for edit in edited.spec.property] == [keys[-1]]


def test_password_that_is_kept() -> None:
    assert changed(appliance(), secret_values={"admin": SECRET}).secrets_kept == ["admin"]


@pytest.mark.parametrize(
    ("transport", "expected"),
    [([GUESTINFO], None), (["iso"], ["iso"]), (["iso", GUESTINFO], ["iso", GUESTINFO]), ([], [""])],
)
def test_transport(transport: list[str], expected: list[str] | None) -> None:
    change = changed(appliance(), transport=transport)
    assert (list(change.spec.ovfEnvironmentTransport) if change.changes else None) == expected
    assert list(change.after.ovfEnvironmentTransport) == transport


def test_ip_allocation() -> None:
    change = changed(
        appliance(), ip_allocation={"policy": "dhcpPolicy", "protocol": "IPv4", "supported_schemes": ["dhcp"]}
    )
    given = change.spec.ipAssignment
    assert (given.ipAllocationPolicy, given.ipProtocol, list(given.supportedAllocationScheme)) == (
        "dhcpPolicy",
        None,
        ["dhcp"],
    )
    assert change.after.ipAssignment.ipProtocol == "IPv4"
    assert change.needs == {STRUCTURE, VALUES}
    cleared = changed(appliance(), ip_allocation={"supported_protocols": []})
    assert list(cleared.spec.ipAssignment.supportedIpProtocol) == [""]


def test_no_vapp_options() -> None:
    assert "it has no vApp options (set enabled=true to add them)" in refusal(None, values={"a": "x"}, unknown="create")
    assert changed(None, enabled=False).changes is False
    bare = changed(None, enabled=True)
    assert bare.changes
    assert (sent(bare), bare.needs) == ([], {STRUCTURE})
    full = changed(None, enabled=True, unknown="create", values={"a": "x"}, transport=["iso"])
    assert [edit[:2] for edit in sent(full)] == [("add", 0)]
    assert changed(appliance(), enabled=True).changes is False


def test_removal() -> None:
    sentence = refusal(appliance(eula=["x"]), enabled=False)
    assert "8 properties, 1 product, 1 license agreement; the passwords admin cannot be read" in sentence
    assert "force=true" in sentence
    change = vapp_change.plan("VM1", appliance(), request(enabled=False, force=True))
    assert (change.removes_all, change.spec, change.after, change.needs) == (True, None, None, {STRUCTURE})
    assert "8 properties" in change.cautions[0]


def test_ambiguous_key() -> None:
    info = appliance(prop(20, "b.c", classId="a"), prop(21, "c", classId="a.b"))
    assert "2 properties have the key a.b.c" in refusal(info, values={"a.b.c": "x"})
    change = changed(info, properties=[{"class_id": "a", "id": "b.c", "value": "x"}])
    assert [edit.info.key for edit in change.spec.property] == [20]


def test_key_that_would_be_duplicate() -> None:
    wanted = [{"id": "ip0.VCSA", "class_id": "vami", "value": "x"}]
    assert "property vami.ip0.VCSA would exist twice" in refusal(appliance(), unknown="create", properties=wanted)
    for entries, key in (
        ([{"class_id": "vami", "id": "ip1"}, {"key": "vami.ip1"}], "vami.ip1"),
        ([{"key": "vami.ip1"}, {"class_id": "vami", "id": "ip1"}], "vami.ip1"),
        ([{"key": "new"}, {"id": "new"}], "new"),
        ([{"id": "new"}, {"key": "new"}], "new"),
    ):
        text = refusal(appliance(), unknown="create", properties=[{**entry, "value": "x"} for entry in entries])
        assert f"property {key} would exist twice" in text or f"property {key} is given more than once" in text


def test_cautions() -> None:
    empty = changed(appliance(), values={"vami.ip0.VCSA": ""})
    assert any(
        "may refuse to power on VM VM1: property vami.ip0.VCSA of type ip" in caution for caution in empty.cautions
    )
    silent = changed(appliance(), values={"hostname": "new"}, transport=[])
    assert any("has no transport" in caution for caution in silent.cautions)
    assert changed(appliance(), values={"hostname": "new"}).cautions == []


SECTIONS = [("vami", "VCSA"), ("", ""), ("vami", ""), ("", "VCSA"), ("a.b", "")]


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("hostname", ("", "hostname", "")),
        ("guestinfo.hostname", ("", "guestinfo.hostname", "")),
        ("vami.ip0.VCSA", ("vami", "ip0", "VCSA")),
        ("vami.ip0", ("vami", "ip0", "")),
        ("ip0.VCSA", ("", "ip0", "VCSA")),
        ("a.b.c.d", ("a.b", "c.d", "")),
        ("vami.VCSA", ("", "vami", "VCSA")),
        ("vami", ("", "vami", "")),
        ("vami.", ("", "vami.", "")),
        ("vamiip0", ("", "vamiip0", "")),
        (".vami.ip0", ("", ".vami.ip0", "")),
        (".VCSA", ("", ".VCSA", "")),
        ("vami..VCSA", ("", "vami.", "VCSA")),
        ("vami.ip0.VCSA.", ("vami", "ip0.VCSA.", "")),
        ("vami.ip0VCSA", ("vami", "ip0VCSA", "")),
        ("x.vami.ip0.VCSA", ("", "x.vami.ip0", "VCSA")),
    ],
)
def test_parse_key(key: str, parts: tuple[str, str, str]) -> None:
    assert vapp_request.parse_key(key, SECTIONS) == parts
    assert vapp_request.full_key(parts) == key


def test_no_secret_in_a_representation() -> None:
    assert SECRET not in repr(request(secret_values={"a": SECRET}, values={"b": SECRET}))


DOCUMENT_OF = {
    "config.instanceUuid": "50050d8f-0000-0000-0000-000000000001",
    "config.uuid": "42050d8f-0000-0000-0000-000000000001",
}


def test_restore_of_some_keys() -> None:
    """The other properties are only for a VM without vApp options."""
    document = vapp_export.document("VM1", DOCUMENT_OF, appliance(eula=["first"]))
    given: dict[str, Any] = {"restore_from": document, "restore_keys": ["hostname", "vami.ip0.VCSA"]}
    info = appliance(eula=["other"])
    info.ovfEnvironmentTransport = ["iso"]
    info.property = [prop(3, "hostname", value="new")]
    change = changed(info, **given)
    assert sorted(change.changed) == ["hostname", "vami.ip0.VCSA"]
    assert (list(change.after.eula), list(change.after.ovfEnvironmentTransport)) == (["other"], ["iso"])
    change = changed(info, transport=[GUESTINFO], **given)
    assert list(change.after.ovfEnvironmentTransport) == [GUESTINFO]
    change = changed(None, **given)
    assert sorted(change.changed) == ["hostname", "vami.ip0.VCSA"]
    assert (list(change.after.eula), list(change.after.ovfEnvironmentTransport)) == (["first"], [GUESTINFO])


def test_restore_without_overwriting() -> None:
    """Somebody may have restored the VM manually in the meantime."""
    document = vapp_export.document("VM1", DOCUMENT_OF, appliance())
    info = appliance()
    assert not changed(info, restore_from=document, overwrite=False).changes
    info.property[0].value = "new"
    text = refusal(info, restore_from=document, overwrite=False)
    assert "has properties of the document, such as admin, and differs from it in hostname" in text
    info.property = [prop(3, "foreign", value="x")]
    assert changed(info, restore_from=document, overwrite=False).changes
    assert changed(None, restore_from=document, overwrite=False).changes
    part: dict[str, Any] = {"restore_from": document, "restore_keys": ["hostname"], "overwrite": False}
    assert changed(info, **part).changes
    info.property = [prop(3, "hostname", value="new")]
    assert "has properties of the document" in refusal(info, **part)


def test_license_agreements_missing_in_a_document_are_removed() -> None:
    document = vapp_export.document("VM1", DOCUMENT_OF, appliance())
    change = changed(appliance(eula=["other"]), restore_from=document)
    assert (list(change.spec.eula), list(change.after.eula)) == ([""], []), "an empty list would mean no change"


@pytest.mark.parametrize("field", ["name", "vendor", "version", "fullVersion"])
def test_each_field_identifies_a_product(field: str) -> None:
    document = vapp_export.document("VM1", DOCUMENT_OF, appliance())
    info = appliance()
    setattr(info.product[0], field, "other")
    assert "and the document is for Appliance (force=true" in refusal(info, restore_from=document)
    assert changed(info, restore_from=document, force=True).changes


@pytest.mark.parametrize("as_default", [False, True])
def test_password_that_is_not_user_configurable(as_default: bool) -> None:
    """It is written only by force, never as a default that everybody may read, and never lost with another edit."""
    fixed = {"userConfigurable": False, "type": "password(8..)", "label": "Fixed"}
    info = appliance(prop(20, "fixed", **fixed))
    entry = {"key": "fixed", "label": "New", "user_configurable": False}
    assert "editing it without its value may clear it" in refusal(info, properties=[entry])
    given: dict[str, Any] = {"properties": [entry], "secret_values": {"fixed": SECRET}}
    assert "is not user-configurable" in refusal(info, **given)
    wanted = dataclasses.replace(request(**given, not_user_configurable="force"), fixed_as_default=as_default)
    change = vapp_change.plan("VM1", info, wanted)
    (edit,) = change.spec.property
    assert (edit.operation, edit.info.key) == ("edit", 20)
    assert (edit.info.label, edit.info.userConfigurable) == ("New", True)
    assert (edit.info.value, edit.info.defaultValue or "") == (SECRET, "")
    assert (change.added_fixed, change.opened) == ([], ["fixed"])
    (after,) = [prop for prop in change.after.property if prop.key == 20]
    assert (after.value, after.userConfigurable) == ("", False)
    info.property[-1].userConfigurable = True
    closing = vapp_change.plan("VM1", info, wanted.to_close())
    assert (closing.spec.property[0].info.value, closing.spec.property[0].info.userConfigurable) == (SECRET, False)
    assert closing.opened == []
    assert change.secrets_written == ["fixed"]
    assert SECRET not in str([change.cautions, change.differences, change.changed])


def restored(keys: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Return the options that restore an appliance, or some of its properties."""
    return {"restore_from": vapp_export.document("VM1", DOCUMENT_OF, appliance()), "restore_keys": keys, **more}


def test_secret_of_a_part_of_a_document_is_written_in_each_run_and_compared_in_none() -> None:
    given = restored(["admin"], secret_values={"admin": SECRET}, update_secrets="always")
    change = changed(appliance(), **given)
    assert (sent(change), change.secrets_written) == ([("edit", 7, {"value": SECRET})], ["admin"])


def test_part_of_a_document_with_a_fixed_property_is_closed() -> None:
    """Its value is written while it is user-configurable, and the second reconfigure makes it what it was."""
    info = appliance()
    info.property[5].value = "yes"
    wanted = request(**restored(["debug"], not_user_configurable="force"))
    assert vapp_change.plan("VM1", info, wanted).opened == ["debug"]
    info.property[5].value, info.property[5].userConfigurable = "no", True
    closing = vapp_change.plan("VM1", info, wanted.to_close())
    assert sent(closing) == [("edit", 9, {})]
    assert not closing.spec.property[0].info.userConfigurable


@pytest.mark.parametrize("keys", [None, ["debug"]])
def test_fixed_value_of_a_document_is_added_as_the_default_where_vcenter_refuses_it(keys: list[str] | None) -> None:
    info = appliance()
    del info.property[5]
    wanted = dataclasses.replace(request(**restored(keys)), fixed_as_default=True)
    (add,) = vapp_change.plan("VM1", info, wanted).spec.property
    assert (add.operation, add.info.id, add.info.defaultValue, add.info.value) == ("add", "debug", "no", "")


@pytest.mark.parametrize("keys", [None, ["hostname"]])
def test_ip_allocation_of_the_task_goes_before_that_of_the_document(keys: list[str] | None) -> None:
    info = appliance()
    info.ipAssignment.ipAllocationPolicy = "transientPolicy"
    change = changed(info, **restored(keys, ip_allocation={"policy": "dhcpPolicy"}))
    assert change.spec.ipAssignment.ipAllocationPolicy == "dhcpPolicy"
    change = changed(info, **restored(keys))
    assert (change.spec and change.spec.ipAssignment.ipAllocationPolicy) == ("fixedPolicy" if keys is None else None)


def with_default(configurable: bool, **fields: Any) -> Any:
    """Return vApp options with one property that has a default."""
    given = {"defaultValue": "eth0", "userConfigurable": configurable, **fields}
    return vim.vApp.VmConfigInfo(property=[prop(3, "nic", **given)], ovfEnvironmentTransport=[GUESTINFO])


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_restored_value_that_is_the_default_is_written(before: bool, after: bool) -> None:
    """It is written as in the document, unless vCenter had stored it only as a default."""
    document = vapp_export.document("VM1", DOCUMENT_OF, with_default(after, value="eth0"))
    given: dict[str, Any] = {"restore_from": document, "not_user_configurable": "force"}
    change = vapp_change.plan("VM1", with_default(before), request(**given))
    (edit,) = change.spec.property
    assert (edit.info.value, edit.info.defaultValue) == ("eth0", "eth0")
    assert change.opened == ([] if after else ["nic"])


def test_restored_value_that_vcenter_took_as_the_default_is_there() -> None:
    document = vapp_export.document("VM1", DOCUMENT_OF, with_default(False, value="eth0", defaultValue=""))
    assert not changed(with_default(False), restore_from=document).changes
