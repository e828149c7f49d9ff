# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test that every secret is masked, in parsed and in raw documents, and everything else is left unchanged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.examples import examples
from unit.plugins.module_utils._ovf.documents import (
    ADAPTERS,
    PLATFORM,
    VSERVICE,
    entity,
    environment,
    names,
    properties,
    texts,
)

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import document, masking
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import MASK, Mask

SECRET = "hush-3Qx9-hush"
SECRET_NAMES = [
    "password",
    "vami.admin_Passwd.web",
    "rootpw",
    "db.pwd",
    "root_pw",
    "client-secret",
    "guestinfo.bearerToken",
    "smcApiKey",
    "ssh_key",
    "hostkey",
    "keystore",
    "credentials",
    "private_data",
    "PASSPHRASE",
    "public_key_password",
    "keyboard_passcode",
    "private.key",
    "snmp.community",
    "user-data",
    "guestinfo.userdata",
]
PLAIN_NAMES = [
    "hostname",
    "vami.ip0.web",
    "public-keys",
    "sshPublicKey",
    "ssh_authorized_keys",
    "authorizedKeys",
    "keyboard",
    "monkey",
    "keyboard-layout",
    "console_keymap",
    "powered",
    "ntp",
    "user",
]


def harmless(*keys: str, level: str = "sensitive", patterns: Sequence[str] = ()) -> Mask:
    """Return a mask for a VM whose vApp options have these keys, none of them of type password."""
    return Mask(level, patterns, [(key, False) for key in keys])


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secret_names(name: str) -> None:
    assert Mask().is_secret(name, "string")
    assert Mask().value(name, "x", "string") == MASK


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_plain_names(name: str) -> None:
    assert not Mask().is_secret(name, "string")
    assert Mask().value(name, "x", "string") == "x"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("password", {"hostname", "api_key"}),
        ("sensitive", {"hostname"}),
        ("all", set()),
        ("none", {"hostname", "api_key", "login", "typed", "known", "unknown"}),
    ],
)
def test_levels(level: str, shown: set[str]) -> None:
    options = [("hostname", False), ("api_key", False), ("login", False), ("known", True)]
    mask = Mask(level, properties=options)
    values = {
        "hostname": mask.value("hostname", "x"),
        "api_key": mask.value("api_key", "x"),
        "login": mask.value("login", "x", secret=True),
        "typed": mask.value("typed", "x", "password(8..)"),
        "known": mask.value("known", "x"),
        "unknown": mask.value("unknown", "x"),
    }
    assert values == {key: "x" if key in shown else MASK for key in values}
    assert (mask.value("password", ""), mask.value("password", None)) == ("", None)


@pytest.mark.parametrize("level", ["password", "sensitive"])
def test_only_values_known_to_be_harmless_are_shown(level: str) -> None:
    """A password of the vApp, of a sibling, or in another spelling: nothing in the document marks it."""
    options = [("admin.code", True), ("motd", False), ("twice", False), ("Twice", True)]
    mask = Mask(level).knowing(options)
    own = {"admin.code": SECRET, "Admin.Code": SECRET, "vapp.login": SECRET, "twice": SECRET, "MOTD": "shown"}
    text = environment(properties(own), entity("db", {"db.login": SECRET, "motd": SECRET}))
    facts = document.facts(document.parse(text), "", mask)
    assert facts["properties"] == {**dict.fromkeys(own, MASK), "MOTD": "shown"}
    assert facts["entities"] == {"db": {"db.login": MASK, "motd": MASK}}
    assert SECRET not in mask.xml(text)
    assert "shown" in mask.xml(text)


@pytest.mark.parametrize("mask", [Mask("password"), Mask()])
def test_vservice_token_needs_no_pattern(mask: Mask) -> None:
    text = environment(VSERVICE.format(token=SECRET))
    assert SECRET not in mask.xml(text)
    vservices = document.facts(document.parse(text), "", mask)["vservices"]
    assert [vservice.get("Token") for vservice in vservices] == [None, MASK]


def test_own_patterns() -> None:
    mask = Mask(patterns=[r"^net\.", "Layout"])
    keys = ("net.dns", "internet.dns", "keyboard-layout", "db.pwd", "hostname")
    assert [mask.is_secret(key, "string") for key in keys] == [True, False, True, True, False]


def test_invalid_own_pattern() -> None:
    with pytest.raises(
        _errors.BadInput, match=r"^The mask pattern '\(a' cannot be used: it is not a regular expression"
    ):
        Mask(patterns=["(a"])


@pytest.mark.parametrize(
    "value",
    [
        '{"admin": {"password": "x"}}',
        r"{\"db_passwd\" : \"x\"}",
        "a: 1\nsecret_id: x",
        "PASSWORD=x",
        "tool --password x",
        "postgres://u:x@db/y",
        "-----BEGIN RSA PRIVATE KEY-----\nMII",
        "$6$salt$x",
        '<Property oe:key="password" oe:value="x"/>',
        "<password>x</password>",
    ],
)
def test_secrets_within_values(value: str) -> None:
    assert Mask().value("settings", value, "string") == MASK
    assert Mask("password").value("settings", value, "string") == value


@pytest.mark.parametrize(
    "value",
    [
        '{"hostname": "web-01"}',
        "https://192.0.2.1:5480/?a=b",
        "Key West",
        "ssh-ed25519 AAAAC3Nz admin@example.org",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ2",
        "passwordless",
        "US$1,000",
    ],
)
def test_plain_values(value: str) -> None:
    assert Mask().value("settings", value, "string") == value


def test_xml_without_secrets_is_unchanged() -> None:
    own = {"hostname": "a&b \"c\" 'd' <é>", "motd": "one\ntwo"}
    text = environment(
        PLATFORM, properties(own), ADAPTERS, VSERVICE.format(token=""), entity("db", {"x": ""}), "<Entity/>"
    )
    expected = text.strip().partition("\n")[2].replace("     ", "").replace("\n", " ", 2)
    assert harmless(*own).xml(text) == expected.replace("<evs:Token></evs:Token>", "<evs:Token/>")


def test_elements_without_white_space_between_them() -> None:
    section = "<PlatformSection><Kind>x</Kind><Empty/></PlatformSection>"
    text = f'<Environment xmlns="{document.NAMESPACE}">{section}</Environment>'
    assert Mask().xml(text) == text


def test_unmasked_xml() -> None:
    assert Mask("none").xml(f"<a {SECRET}") == f"<a {SECRET}"


def test_fully_masked_xml() -> None:
    text = Mask("all").xml(environment(PLATFORM, properties({"hostname": SECRET}), VSERVICE.format(token=SECRET)))
    assert 'oe:key="hostname" oe:value="********"' in text
    assert "<Kind>VMware ESXi</Kind>" in text
    assert SECRET not in text
    assert "192.0.2.9" not in text


def test_xml_shows_what_follows_a_secret() -> None:
    shown = Mask().xml(environment(VSERVICE.format(token=SECRET), VSERVICE.format(token=SECRET)))
    assert shown.count(">192.0.2.9<") == 2
    assert shown.count(f">{MASK}<") == 2


def test_xml_reports_what_is_left_out() -> None:
    text = environment(properties({"hostname": "web-01"}), "a < b")
    assert (
        Mask()
        .xml(text)
        .endswith(
            "<!-- the rest is masked: it cannot be read beyond line 6, column 4: not well-formed (invalid token) -->"
        )
    )
    assert Mask().xml("NULL") == "<!-- the rest is masked: it is not XML -->"


def as_property(key: str = "password", value: str = SECRET) -> str:
    return f'<Property oe:key="{key}" oe:value="{value}"/>'


ESCAPED = "".join(f"&#{ord(char)};" for char in SECRET)
SHAPES = [
    as_property(),
    f"<Property oe:key='password' oe:value='{SECRET}'/>",
    f'<Property  oe:value = "{SECRET}"\r\n\toe:key\n=\n"password" ></Property>',
    f'<Property key="password" value="{SECRET}"/>',
    f'<x:Property xmlns:x="http://schemas.dmtf.org/ovf/environment/1" x:key="password" x:value="{SECRET}"/>',
    f'<y:Property y:key="password" y:value="{SECRET}"/>',
    as_property("p&#97;ssword"),
    as_property(value=ESCAPED),
    as_property(value=f"&lt;{SECRET}&gt;"),
    as_property("settings", f"{{&quot;password&quot;: &quot;{SECRET}&quot;}}"),
    as_property("settings", f"&lt;Property oe:key=&quot;password&quot; oe:value=&quot;{SECRET}&quot;/&gt;"),
    as_property(value="") + as_property() + as_property(value="other"),
    f'<Property oe:key="password">{SECRET}</Property>',
    f'<Property oe:key="password"><Value>{SECRET}</Value></Property>',
    f'<Property oe:key="password"><Value oe:value="{SECRET}"/></Property>',
    f'<Property oe:key="hostname" key="password" oe:value="{SECRET}"/>',
    f'<Property oe:key="hostname" ve:key="password" oe:value="{SECRET}"/>',
    f'<Property oe:key="hostname" xsi:key="password" oe:value="{SECRET}"/>',
    f'<Property oe:key="hostname" oe:password="{SECRET}" oe:value="1"/>',
    f'<Property oe:key="hostname" password="{SECRET}"',
    f"<password>{SECRET}</password>",
    f"<password><![CDATA[{SECRET}]]></password>",
    f"<password>{SECRET}",
    f"<!-- {as_property()} -->",
    f"<!-- {as_property()}",
    f"<?password {SECRET}?>",
    f"<![CDATA[{as_property()}]]>",
    f"<![CDATA[{as_property()}",
    f'<Property oe:key="password" oe:value="{SECRET}',
    f'<Property oe:key="password" oe:value="a"b{SECRET}"/>',
    f'<Property oe:key="password" oe:value="a" b="{SECRET}"/>',
    f'<Property oe:key="password" oe:value="a & {SECRET}"/>',
    f'<Property oe:key="password" oe:value={SECRET}/>',
    f"password={SECRET}",
    f"</Environment>{as_property()}",
    f"</PropertySection></Environment>{as_property()}",
    f"</PropertySection>{as_property()}<PropertySection>",
    f'</PropertySection><Entity oe:id="b"><PropertySection>{as_property()}</PropertySection></Entity><PropertySection>',
    f"</PropertySection>{VSERVICE.format(token=SECRET)}<PropertySection>",
    f"</PropertySection>{VSERVICE.format(token=f'<x>{SECRET}</x>')}<PropertySection>",
    f"</PropertySection>{VSERVICE.replace('Token', 'Login').format(token=f'<Password><x>{SECRET}</x></Password>')}",
    f"</PropertySection>{VSERVICE.replace('GuestApi', 'SecretApi').replace('Token', 'x').format(token=SECRET)}",
    f"</PropertySection><PlatformSection><Password>{SECRET}</Password></PlatformSection><PropertySection>",
    f'<Property oe:key="hostname" oe:value="\x00{SECRET}',
]


# Conversions of a value.
MARKUP = ["<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "/>", ">", "<", '"', "'", "=", "&", "&#", "<a>", "</a>", "a:"]


def shown(text: str, mask: Mask) -> str:
    """Return everything of a document that reaches a user, with both notations decoded."""
    found = document.parse(text)
    return mask.xml(text) + json.dumps(document.facts(found, "vm-1", mask), ensure_ascii=False) + repr(found)


def leaks(text: str) -> bool:
    """Return whether the secret is visible, also if all keys are known from the vApp options."""
    mask = harmless(*SECRET_NAMES, *document.parse(text).properties)
    return any(piece in shown(text, mask) for piece in (SECRET, ESCAPED, SECRET[5:9]))


def planted(shape: str, other: dict[str, str]) -> str:
    """Return a document that contains a secret among other properties."""
    before, after = dict(list(other.items())[::2]), dict(list(other.items())[1::2])
    return environment(
        PLATFORM, properties(before).replace("</PropertySection>", ""), shape, "</PropertySection>", properties(after)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_no_format_leaks(shape: str) -> None:
    assert not leaks(planted(shape, {"ntp": "192.0.2.1"}))
    assert not leaks(shape)


@pytest.mark.parametrize("element", ["Kind", "Version", "Vendor", "Locale"])
def test_unclosed_text_leaks_nothing(element: str) -> None:
    assert not leaks(planted(as_property(), {}).replace(f"<{element}>", f"<{element}><![CDATA["))


def test_leaks_are_detected() -> None:
    assert leaks(environment(properties({"hostname": SECRET})))


MANY = examples(200)
plain = st.dictionaries(names, texts, max_size=4)


@MANY
@given(st.sampled_from(SHAPES), plain, st.integers(0, 1500))
def test_nothing_leaks_from_a_truncated_document(shape: str, other: dict[str, str], length: int) -> None:
    assert not leaks(planted(shape, other)[:length])


@MANY
@given(
    st.sampled_from(SECRET_NAMES),
    plain,
    st.lists(st.tuples(st.integers(0, 1500), st.one_of(st.text(max_size=5), st.sampled_from(MARKUP))), max_size=4),
)
def test_nothing_leaks_from_an_edited_document(name: str, other: dict[str, str], edits: list[tuple[int, str]]) -> None:
    """It is edited anywhere except within the name and the secret."""
    text = planted(as_property(name), other)
    for at, inserted in edits:
        place = min(at, len(text))
        if name in text[max(0, place - len(name)) : place + len(name)] or SECRET in text[place - 20 : place + 20]:
            continue
        text = text[:place] + inserted + text[place:]
    assert not leaks(text)


@MANY
@given(st.sampled_from(SECRET_NAMES), texts, texts, st.sampled_from(["'", '"']))
def test_nothing_of_a_value_leaks(name: str, before: str, after: str, quote: str) -> None:
    """govc does not escape values, so the secret may contain anything."""
    raw = f"<Property oe:key={quote}{name}{quote} oe:value={quote}{before}{SECRET}{after}{quote}/>"
    assert not leaks(planted(raw, {}))
    assert not leaks(planted(f"<Property oe:key={quoteattr(name)} oe:value={quoteattr(before + SECRET + after)}/>", {}))


@MANY
@given(plain)
def test_masked_xml_is_equivalent(own: dict[str, str]) -> None:
    """The masked text can be parsed again, and contains everything that was not masked."""
    text = environment(PLATFORM, properties(own), ADAPTERS)
    mask = harmless(*list(own)[::2])
    again = document.parse(mask.xml(text))
    facts = document.facts(document.parse(text), "vm-1", mask)
    assert (again.properties, list(again.adapters), again.vcenter_id) == (
        facts["properties"],
        facts["adapters"],
        facts["vcenter_id"],
    )


@MANY
@given(st.text())
def test_never_raises(text: str) -> None:
    assert Mask().xml(text).endswith("-->")
    assert masking.Mask("none").xml(text) == text
