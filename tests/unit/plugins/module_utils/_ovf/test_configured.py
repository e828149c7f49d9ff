# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The properties that vCenter would deliver."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import GUESTINFO, ISO
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import MASK, Mask

SECRET = "vmforktest-a-secret-of-its-own"


def prop(**fields: Any) -> Any:
    return vim.vApp.PropertyInfo(**{"key": 0, "id": "x", **fields})


def vapp_options(*properties: Any, **fields: Any) -> Any:
    return vim.vApp.VmConfigInfo(property=list(properties), **fields)


def only_property(info: Any, **options: Any) -> configured.Property:
    (prop,) = configured.read(vapp_options(info), **options).properties
    return prop


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        pytest.param({"id": "hostname"}, "hostname", id="id alone"),
        pytest.param({"id": "hostname", "classId": "", "instanceId": ""}, "hostname", id="empty, as vCenter says it"),
        pytest.param({"classId": "vami", "id": "ip0", "instanceId": "VCSA"}, "vami.ip0.VCSA", id="all three"),
        pytest.param({"classId": "vami", "id": "ip0"}, "vami.ip0", id="no instance"),
        pytest.param({"id": "ip0", "instanceId": "VCSA"}, "ip0.VCSA", id="no class"),
        pytest.param({"classId": "a.b", "id": "c.d"}, "a.b.c.d", id="dots inside"),
    ],
)
def test_key(parts: dict[str, str], key: str) -> None:
    assert only_property(prop(**parts)).key == key


# type, value, default, running → effective, source, comparable
RULES = {
    "value": ("string", "v", "d", True, "v", "value", True),
    "default for no value": ("string", None, "d", True, "d", "default", True),
    "default for the empty string": ("string", "", "d", True, "d", "default", True),
    "neither": ("string", None, None, True, "", "default", True),
    "a blank is a value": ("string", " ", "d", True, " ", "value", True),
    "false is a value": ("boolean", "False", "True", True, "False", "value", True),
    "zero is a value": ("int", "0", "1", True, "0", "value", True),
    "bounded string": ("string(1..5)", "v", "", True, "v", "value", True),
    "plain address": ("ip", "192.0.2.1", "", True, "192.0.2.1", "value", True),
    "address of a network": ("ip:network", "192.0.2.1", "", True, "192.0.2.1", "value", False),
    "address of a named network": ("ip:VM Network", "", "", True, "", "default", False),
    "password": ("password", "", "", True, None, "unknown", False),
    "bounded password": ("password(8..)", None, None, True, None, "unknown", False),
    "expression while running": ("expression", "192.0.2.9", "${autoIp:net}", True, "192.0.2.9", "computed", False),
    "expression left empty": ("expression", "", "${autoIp:net}", True, None, "computed", False),
    "expression while off": ("expression", "192.0.2.9", "${autoIp:net}", False, None, "computed", False),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_delivered_value(rule: tuple[Any, ...]) -> None:
    kind, value, default, running, effective, source, comparable = rule
    found = only_property(prop(type=kind, value=value, defaultValue=default), running=running)
    assert (found.effective, found.source, found.comparable) == (effective, source, comparable)


def test_password_returned_by_a_server_is_discarded() -> None:
    found = only_property(prop(type="password", value=SECRET, defaultValue=SECRET))
    assert (found.value, found.default, found.secret) == (None, None, True)


def test_property_without_a_type_is_a_string() -> None:
    assert only_property(prop()).type == "string"


def test_secret_by_name() -> None:
    assert only_property(prop(id="api_token"), mask=Mask()).secret
    assert not only_property(prop(id="hostname"), mask=Mask()).secret


@pytest.mark.parametrize(
    ("expression", "secret"),
    [
        ("${autoIp:net}", False),
        ("http://${host}/", False),
        ("${code}", True),
        ("${host}:${code}", True),
        ("${not_visible}", True),
    ],
)
def test_expression_that_may_contain_a_password_is_secret(expression: str, secret: bool) -> None:
    vapp = vapp_options(prop(id="host"), prop(id="code", type="password"))
    own = vapp_options(prop(id="motd", type="expression", value=SECRET, defaultValue=expression))
    read = configured.read(own, [("vapp", vapp)], running=True)
    assert read.properties[0].secret is secret
    mask = Mask("password").knowing((prop.key, prop.secret) for prop in read.properties)
    shown = [configured.facts(read, mask)["properties"][0]["effective"], mask.value("motd", SECRET)]
    assert shown == ([MASK] * 2 if secret else [SECRET] * 2)


EXPRESSION = {"type": "expression", "defaultValue": "${autoIp:net}"}


@pytest.mark.parametrize(
    ("properties", "running", "computed"),
    [
        pytest.param([prop(value="v")], True, None, id="no expressions"),
        pytest.param([prop(**EXPRESSION, value="192.0.2.9")], True, True, id="computed"),
        pytest.param([prop(**EXPRESSION, value="192.0.2.9"), prop(**EXPRESSION)], True, True, id="one came out empty"),
        pytest.param([prop(**EXPRESSION), prop(value="v")], True, False, id="not computed"),
        pytest.param([prop(**EXPRESSION)], False, None, id="not running"),
    ],
)
def test_whether_vcenter_computed_the_values(properties: list[Any], running: bool, computed: bool | None) -> None:
    assert configured.read(vapp_options(*properties), running=running).values_computed is computed


@pytest.mark.parametrize(
    ("transports", "expected"),
    [
        (["com.vmware.guestInfo", "iso"], ("com.vmware.guestInfo", "iso")),
        ([""], ()),
        ([], ()),
        (None, ()),
    ],
)
def test_transports(transports: list[str] | None, expected: tuple[str, ...]) -> None:
    assert configured.read(vim.vApp.VmConfigInfo(ovfEnvironmentTransport=transports)).transports == expected


@pytest.mark.parametrize(
    ("transports", "known", "foreign"),
    [
        (["iso"], {ISO}, ()),
        (["com.vmware.guestInfo", "iso"], {GUESTINFO, ISO}, ()),
        (["iso,com.vmware.guestInfo"], {GUESTINFO, ISO}, ()),
        (["iso com.vmware.guestInfo"], {GUESTINFO, ISO}, ()),
        (["ISO; COM.VMWARE.GUESTINFO"], {GUESTINFO, ISO}, ()),
        (["foo,iso"], {ISO}, ("foo",)),
        (["com.vmware.guestInfo,Foo"], {GUESTINFO}, ("Foo",)),
        (["foo", "iso", "foo,bar"], {ISO}, ("foo", "bar")),
        (["Foo"], set(), ("Foo",)),
        (['["iso"]'], {ISO}, ()),
        (['["iso,com.vmware.guestInfo"]'], {GUESTINFO, ISO}, ()),
        (['["iso", "com.vmware.guestInfo"]'], {GUESTINFO, ISO}, ()),
        (["['iso']"], {ISO}, ()),
        (['["foo", "iso"]'], {ISO}, ("foo",)),
        (["[]", ",", " ", '""'], set(), ()),
    ],
)
def test_known_and_foreign_transports(transports: list[str], known: set[str], foreign: tuple[str, ...]) -> None:
    read = configured.read(vim.vApp.VmConfigInfo(ovfEnvironmentTransport=transports))
    assert (read.delivers_by, read.foreign_transports) == (known, foreign)
    assert read.transports == tuple(transports)


def addresses(policy: str) -> Any:
    return vim.vApp.IPAssignmentInfo(
        ipAllocationPolicy=policy, ipProtocol="IPv4", supportedAllocationScheme=["ovfenv"], supportedIpProtocol=["IPv4"]
    )


@pytest.mark.parametrize(
    ("own", "around", "policy", "effective_from"),
    [
        pytest.param("fixedPolicy", [], "fixedPolicy", "vm", id="no vApp"),
        pytest.param("fixedPolicy", ["dhcpPolicy"], "dhcpPolicy", "vapp", id="in a vApp"),
        pytest.param(
            "fixedPolicy", ["dhcpPolicy", "transientPolicy"], "transientPolicy", "vapp", id="the top-most wins"
        ),
        pytest.param("fixedPolicy", ["dhcpPolicy", None], None, "vapp", id="the top-most is hidden from us"),
    ],
)
def test_ip_assignment(own: str, around: list[str | None], policy: str | None, effective_from: str) -> None:
    read = configured.read(
        vim.vApp.VmConfigInfo(ipAssignment=addresses(own)),
        around=[
            (f"vapp-{number}", vim.vApp.VmConfigInfo(ipAssignment=addresses(outer)) if outer else None)
            for number, outer in enumerate(around)
        ],
    )
    assert read.ip_assignment is not None
    assert (read.ip_assignment["policy"], read.ip_assignment["effective_from"]) == (policy, effective_from)
    assert read.parent_vapps == tuple(f"vapp-{number}" for number in range(len(around)))


def test_disabled() -> None:
    assert configured.read(None, around=[("outer", None)]) == configured.Configured(parent_vapps=("outer",))


def test_everything_as_return_value() -> None:
    read = configured.read(
        vim.vApp.VmConfigInfo(
            property=[
                prop(
                    id="hostname", type="string", category="Network", label="Name", userConfigurable=True, value="web"
                ),
                prop(id="api_token", type="string", value=SECRET),
            ],
            product=[vim.vApp.ProductInfo(key=1, name="Appliance", vendor="Example", version="1", fullVersion="1.0-7")],
            ipAssignment=addresses("fixedPolicy"),
            eula=["first", "second"],
            ovfSection=[
                vim.vApp.OvfSectionInfo(
                    key=0, namespace="urn:example", type="Example", atEnvelopeLevel=True, contents=SECRET
                )
            ],
            ovfEnvironmentTransport=["iso"],
            installBootRequired=True,
        ),
        mask=Mask(),
    )
    facts = configured.facts(read, Mask())
    assert json.loads(json.dumps(facts)) == {
        "enabled": True,
        "transports": ["iso"],
        "ip_assignment": {
            "policy": "fixedPolicy",
            "protocol": "IPv4",
            "supported_schemes": ["ovfenv"],
            "effective_from": "vm",
        },
        "install_boot_required": True,
        "products": [
            {
                "key": 1,
                "class_id": "",
                "instance_id": "",
                "name": "Appliance",
                "vendor": "Example",
                "version": "1",
                "full_version": "1.0-7",
            }
        ],
        "properties": [
            {
                "key": "hostname",
                "id": "hostname",
                "class_id": "",
                "instance_id": "",
                "type": "string",
                "category": "Network",
                "label": "Name",
                "user_configurable": True,
                "value": "web",
                "default": "",
                "effective": "web",
                "source": "value",
                "secret": False,
                "comparable": True,
            },
            {
                "key": "api_token",
                "id": "api_token",
                "class_id": "",
                "instance_id": "",
                "type": "string",
                "category": "",
                "label": "",
                "user_configurable": False,
                "value": "********",
                "default": "",
                "effective": "********",
                "source": "value",
                "secret": True,
                "comparable": True,
            },
        ],
        "ovf_sections": [{"namespace": "urn:example", "type": "Example", "at_envelope_level": True}],
        "eula_count": 2,
        "parent_vapps": [],
        "values_computed": None,
    }
    assert SECRET not in repr(read)
    assert configured.facts(configured.Configured(), Mask()).keys() == facts.keys()
