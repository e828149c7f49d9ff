# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of every format of OVF environments, and refusal of everything else."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.examples import examples
from unit.plugins.module_utils._ovf.documents import (
    ADAPTERS,
    NAMESPACES,
    PLATFORM,
    VSERVICE,
    entity,
    environment,
    names,
    properties,
    texts,
)

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import document, safe_xml
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document, parse
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

COMPLETE = environment(
    PLATFORM,
    properties({"hostname": "web-01", "vami.ip0.web": "192.0.2.11"}),
    ADAPTERS,
    VSERVICE.format(token="t0ken"),
    entity("db", {"hostname": "db-01"}),
)
OWN = {"hostname": "web-01", "vami.ip0.web": "192.0.2.11"}


def valued(value: str) -> str:
    """Return a document with one property; its value is inserted verbatim."""
    return environment(PLATFORM, f'<PropertySection><Property oe:key="k" oe:value="{value}"/></PropertySection>')


def test_complete_document() -> None:
    assert parse(COMPLETE) == Document(
        origin="vcenter",
        entity_id="",
        vcenter_id="vm-2001",
        esx_id=None,
        platform={"kind": "VMware ESXi", "version": "7.0.3", "vendor": "VMware, Inc.", "locale": "en"},
        properties=OWN,
        adapters=(
            {"mac": "00:50:56:aa:00:01", "network": "VM Network", "unit_number": "7"},
            {"mac": "00:50:56:aa:00:02", "network": "backup & restore", "unit_number": None},
        ),
        entities={"db": {"hostname": "db-01"}},
        vservices=(
            {"api": "VCenterApi", "IP": "192.0.2.9", "SelfMoRef": "VirtualMachine:vm-2001"},
            {"api": "GuestApi", "URL": "https://192.0.2.9/vsm", "Token": "t0ken"},
        ),
        sha256=hashlib.sha256(COMPLETE.strip().encode()).hexdigest(),
    )


def test_return_value() -> None:
    assert document.facts(parse(COMPLETE), "vm-2001", Mask("none")) == {
        "origin": "vcenter",
        "entity_id": "",
        "vcenter_id": "vm-2001",
        "esx_id": None,
        "moref_matches": True,
        "platform": {"kind": "VMware ESXi", "version": "7.0.3", "vendor": "VMware, Inc.", "locale": "en"},
        "properties": OWN,
        "duplicate_keys": [],
        "skipped_keys": [],
        "adapters": [
            {"mac": "00:50:56:aa:00:01", "network": "VM Network", "unit_number": "7"},
            {"mac": "00:50:56:aa:00:02", "network": "backup & restore", "unit_number": None},
        ],
        "entities": {"db": {"hostname": "db-01"}},
        "vservices": [
            {"api": "VCenterApi", "IP": "192.0.2.9", "SelfMoRef": "VirtualMachine:vm-2001"},
            {"api": "GuestApi", "URL": "https://192.0.2.9/vsm", "Token": "t0ken"},
        ],
        "sha256": hashlib.sha256(COMPLETE.strip().encode()).hexdigest(),
        "parse_error": None,
        "truncated": False,
    }


def test_empty_return_value() -> None:
    facts = document.facts(parse(""), "vm-2001", Mask())
    assert facts.keys() == document.facts(parse(COMPLETE), "vm-2001", Mask()).keys()
    assert (facts["moref_matches"], facts["parse_error"]) == (None, "it is empty")


def test_owner_of_a_document() -> None:
    assert document.facts(parse(COMPLETE), "vm-7", Mask())["moref_matches"] is False


def test_hash_does_not_reveal_masked_values() -> None:
    shown, hidden = environment(properties({"a": "b"})), environment(properties({"password": "b"}))
    mask = Mask().knowing([("a", False), ("password", False)])
    assert document.facts(parse(shown), "", mask)["sha256"] is not None
    for text in (hidden, COMPLETE, shown[:-5]):
        assert document.facts(parse(text), "", mask)["sha256"] is None


# From the collected examples; the ID names the special case.
PREFIXED = """<ovfenv:Environment xmlns:ovfenv="http://schemas.dmtf.org/ovf/environment/1"
    xmlns:v="http://www.vmware.com/schema/ovfenv" ovfenv:id="" v:vCenterId='vm-2001'>
  <ovfenv:PropertySection>
    <ovfenv:Property ovfenv:key="vCloud_dns1_0" ovfenv:value=""/>
    <ovfenv:Property ovfenv:value="web-01" ovfenv:key="vCloud_computerName"></ovfenv:Property>
  </ovfenv:PropertySection>
</ovfenv:Environment>"""
WEB_TIER = """<?xml version="1.0"?>
<Environment xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns="http://schemas.dmtf.org/ovf/environment/1"
    xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xsi:schemaLocation="urn:one ../one.xsd" oe:id="Front">
  <!-- where it runs -->
  <oe:PlatformSection><Kind>Type</Kind><Locale>en</Locale></oe:PlatformSection>
  <PropertySection><!-- what it is --><Property oe:key="hostname" oe:value="front"/></PropertySection>
</Environment>"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            COMPLETE.replace("</Environment>", ""),
            {"properties": OWN, "truncated": True, "parse_error": "it ends before its end tag"},
            id="1: pasted without its end tag",
        ),
        pytest.param(COMPLETE + "vmtoolsd: done <&", {"properties": OWN, "parse_error": None}, id="2: garbage behind"),
        pytest.param(
            valued("&quot;a&amp;amp;b&apos; &lt;&#x20;&gt;&quot;"),
            {"properties": {"k": '"a&amp;b\' < >"'}},
            id="3: escaped once, quotes are part of the value",
        ),
        pytest.param(
            "  \n" + environment(properties({"env": '{"networks":{"a":{}}}'})),
            {"properties": {"env": '{"networks":{"a":{}}}'}, "parse_error": None},
            id="4: JSON as a value, white space in front",
        ),
        pytest.param(
            environment("<ve:EthernetAdapterSection/>", "<PropertySection></PropertySection>"),
            {"adapters": (), "properties": {}, "parse_error": None},
            id="5: empty sections",
        ),
        pytest.param(
            WEB_TIER,
            {"entity_id": "Front", "properties": {"hostname": "front"}, "platform": {"kind": "Type", "locale": "en"}},
            id="6: prefixes here and there, comments",
        ),
        pytest.param(
            PREFIXED,
            {"properties": {"vCloud_dns1_0": "", "vCloud_computerName": "web-01"}, "vcenter_id": "vm-2001"},
            id="7: other prefixes, empty values",
        ),
        pytest.param(
            environment(
                '<PropertySection><Property oe:key="a" oe:value="1"/>',
                '<Property oe:key="b" oe:value="x & y"/></PropertySection>',
                attributes='oe:id="" ve:esxId="12"',
            ),
            {
                "properties": {"a": "1"},
                "origin": "injected",
                "truncated": False,
                "skipped_keys": ("b",),
                "parse_error": None,
            },
            id="8: injected without escaping",
        ),
        pytest.param(
            COMPLETE.replace('"vm-2001">', '"vm-2001"'),
            {
                "properties": {},
                "parse_error": "it cannot be read beyond line 5, column 1: not well-formed (invalid token)",
            },
            id="9: a bracket is missing",
        ),
        pytest.param(
            environment(properties({"vami.DNS.A_Server": "192.0.2.1", "vm.vmname": "A_Server"})),
            {"properties": {"vami.DNS.A_Server": "192.0.2.1", "vm.vmname": "A_Server"}},
            id="10: three-part keys",
        ),
        pytest.param(
            environment(properties(OWN), entity("b", {"hostname": "db-01", "x": "::0"}), attributes='oe:id="a"'),
            {"entity_id": "a", "properties": OWN, "entities": {"b": {"hostname": "db-01", "x": "::0"}}},
            id="11: several VMs",
        ),
        pytest.param(
            environment("<Entity />", '<Entity oe:id="c"/>'),
            {"entities": {"c": {}}},
            id="11: empty entities",
        ),
        pytest.param(
            environment(f"<Entity>{properties({'a': '1'})}</Entity>"),
            {"entities": {"": {"a": "1"}}, "properties": {}},
            id="11: an entity without ID",
        ),
        pytest.param(
            environment(VSERVICE.format(token=" t0ken\n")),
            {
                "vservices": (
                    {"api": "VCenterApi", "IP": "192.0.2.9", "SelfMoRef": "VirtualMachine:vm-2001"},
                    {"api": "GuestApi", "URL": "https://192.0.2.9/vsm", "Token": "t0ken"},
                )
            },
            id="12: vService",
        ),
        pytest.param(
            environment(f'<Entity oe:id="b"><Entity oe:id="c">{properties({"a": "1"})}</Entity></Entity>'),
            {"entities": {"b": {}}, "properties": {}},
            id="13: properties where none belong",
        ),
        pytest.param(
            environment(properties({"dns": "192.0.2.1,", "virtualSystemId": ""})),
            {"properties": {"dns": "192.0.2.1,", "virtualSystemId": ""}},
            id="14: trailing comma, empty value",
        ),
        pytest.param(
            environment(PLATFORM, ADAPTERS), {"properties": {}, "parse_error": None}, id="15: no properties at all"
        ),
        pytest.param(
            valued("-----BEGIN&#10;MII\nx\r\ny&#13;&#10;-----END"),
            {"properties": {"k": "-----BEGIN\nMII x y\r\n-----END"}},
            id="16: several lines: written ones turn into spaces",
        ),
        pytest.param(
            '<n:Environment xmlns:n="http://schemas.dmtf.org/ovf/environment/1" '
            'xmlns:wa="http://schemas.microsoft.com/windowsazure"><wa:ProvisioningSection>'
            "<wa:Version>1.0</wa:Version></wa:ProvisioningSection></n:Environment>",
            {"parse_error": "it is the ovf-env.xml of Azure, which is not an OVF environment"},
            id="17: Azure's file of that name",
        ),
        pytest.param(
            environment(
                '<PropertySection><Property oe:key="a" oe:value="1"/>'
                '<Property oe:key="a" oe:value="2"/><Property oe:key="a" oe:value="3"/></PropertySection>'
            ),
            {"properties": {"a": "1"}, "duplicate_keys": ("a",), "parse_error": None},
            id="duplicate keys",
        ),
        pytest.param(
            environment('<PropertySection><Property oe:value="1"/><Property oe:key="a"/></PropertySection>'),
            {"properties": {"a": ""}},
            id="no key, no value",
        ),
        pytest.param(
            environment('<PropertySection><Property key="a" value="1"/></PropertySection>'),
            {"properties": {"a": "1"}},
            id="attributes without namespace",
        ),
        pytest.param(
            environment('<PropertySection><Property oe:key="a" key="b" oe:value="1"/></PropertySection>'),
            {"properties": {}},
            id="two names for one value",
        ),
        pytest.param(
            environment('<PropertySection><x:Property xmlns:x="urn:x" x:key="a" x:value="1"/></PropertySection>'),
            {"properties": {}},
            id="a property of another language",
        ),
        pytest.param(COMPLETE.replace("\n", "\r\n"), {"properties": OWN, "parse_error": None}, id="CRLF"),
        pytest.param("\ufeff" + COMPLETE, {"properties": OWN, "parse_error": None}, id="byte order mark in text"),
        pytest.param(
            " \ufeff\r\n \t" + COMPLETE, {"properties": OWN, "parse_error": None}, id="byte order mark, white space"
        ),
        pytest.param(COMPLETE + "\0\0", {"properties": OWN, "parse_error": None}, id="NUL behind"),
        pytest.param(COMPLETE.replace("<?xml", "<?XML"), {"properties": OWN, "parse_error": None}, id="in capitals"),
        pytest.param(COMPLETE.replace('"1.0"', '"1.1"'), {"properties": OWN, "parse_error": None}, id="XML 1.1"),
        pytest.param(COMPLETE.replace("UTF-8", "x-unknown"), {"properties": OWN, "parse_error": None}, id="encoding"),
        pytest.param(
            "<Environment/>", {"origin": "unknown", "entity_id": None, "parse_error": None}, id="without a namespace"
        ),
    ],
)
def test_formats(text: str, expected: dict[str, Any]) -> None:
    found = parse(text)
    assert {name: getattr(found, name) for name in expected} == expected
    assert parse(text.encode()) == found


UMLAUTS = environment(properties({"org": "Müller"}))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"\xef\xbb\xbf" + UMLAUTS.encode(), "Müller", id="UTF-8 with byte order mark"),
        pytest.param(UMLAUTS.encode("cp850"), "M\ufffdller", id="code page of a console, declared as UTF-8"),
        pytest.param(UMLAUTS.replace("UTF-8", "IBM850").encode("cp850"), "Müller", id="declared code page"),
        pytest.param(UMLAUTS.replace("UTF-8", "ISO-8859-1").encode("latin-1"), "Müller", id="ISO 8859-1"),
        pytest.param(UMLAUTS.replace("UTF-8", "windows-1252").encode("cp1252"), "Müller", id="Windows 1252"),
        pytest.param(UMLAUTS.encode("utf-16"), "Müller", id="UTF-16 with byte order mark, declared as UTF-8"),
        pytest.param(UMLAUTS.encode("utf-16-le"), "Müller", id="UTF-16, little end first"),
        pytest.param(UMLAUTS.encode("utf-16-be"), "Müller", id="UTF-16, big end first"),
        pytest.param(UMLAUTS.replace("UTF-8", "utf-7").encode(), "Müller", id="a codec that is not asked"),
        pytest.param(UMLAUTS.replace("UTF-8", "cp99999").encode(), "Müller", id="a code page that is none"),
    ],
)
def test_encodings(content: bytes, expected: str) -> None:
    found = parse(content)
    assert (found.properties, found.parse_error) == ({"org": expected}, None)


@pytest.mark.parametrize(
    ("attributes", "platform", "expected"),
    [
        ('ve:vCenterId="vm-1"', PLATFORM, "vcenter"),
        ('ve:esxId="1"', PLATFORM, "injected"),
        ("", PLATFORM.replace("en<", "US<"), "injected"),
        ("", PLATFORM.replace("ESXi", "vCenter Server").replace("en<", "US<"), "injected"),
        ('ve:vCenterId="vm-1"', PLATFORM.replace("en<", "US<"), "vcenter"),
        ("", PLATFORM.replace("VMware ESXi", "vapprun"), "vapprun"),
        ("", PLATFORM, "unknown"),
        ('ve:vCenterId=""', "", "unknown"),
    ],
)
def test_origin(attributes: str, platform: str, expected: str) -> None:
    assert parse(environment(platform, attributes=f'oe:id="" {attributes}')).origin == expected


LAUGHS = '<!DOCTYPE E [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {name} "{10 * f"&{before};"}">' for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
TEN_MEGABYTES = 10_000_000
NO_DOCTYPE = "it has a document type declaration, which OVF environments do not have"


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        pytest.param("", "it is empty", id="nothing"),
        pytest.param(b"\xef\xbb\xbf \r\n", "it is empty", id="blank"),
        pytest.param("NULL", "it is not XML", id="NULL"),
        pytest.param("No value found", "it is not XML", id="words"),
        pytest.param("\0" * 100 + "\x01", "it is not XML", id="binary"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "it is not XML", id="an image"),
        pytest.param("<html><body/></html>", "its root element is 'html', so it is not an OVF environment", id="HTML"),
        pytest.param(
            '<Environment xmlns="urn:other"/>', "its root element is 'Environment', so it is no", id="other namespace"
        ),
        pytest.param(f"<{'a' * 1000}/>", f"its root element is '{'a' * 40}', so", id="a long name"),
        pytest.param(LAUGHS + "]><E>&j;</E>", NO_DOCTYPE, id="a billion laughs"),
        pytest.param('<!DOCTYPE E SYSTEM "file:///etc/passwd"><E/>', NO_DOCTYPE, id="external document type"),
        pytest.param('<!DOCTYPE E [<!ENTITY x SYSTEM "file:///etc/passwd">]><E>&x;</E>', NO_DOCTYPE, id="entity"),
        pytest.param('<!DOCTYPE E [<!ENTITY % p SYSTEM "http://192.0.2.1/">%p;]><E/>', NO_DOCTYPE, id="parameter"),
        pytest.param(valued("&x;"), None, id="undefined"),
        pytest.param(
            environment("<a b=&x;/>"), "it cannot be read beyond line 5, column 6: ", id="undefined, elsewhere"
        ),
        pytest.param("<" * TEN_MEGABYTES, "it is longer than 1000000 characters", id="10 MB of brackets"),
        pytest.param(valued("x" * TEN_MEGABYTES), "it is longer than 1000000 characters", id="10 MB in a value"),
        pytest.param(
            environment("<a>" * 300_000), "its elements are nested deeper than 64 levels", id="deep within each other"
        ),
        pytest.param(environment("<a/>" * 60_000), "it has more than 50000 elements", id="wide"),
        pytest.param("<a " * 300_000, "it cannot be read beyond line 1, column 4:", id="brackets within a tag"),
        pytest.param("<" + "a" * 900_000, "it ends before its end tag", id="an endless name"),
        pytest.param(environment("\x00"), "it cannot be read beyond line 5, column 1:", id="NUL inside"),
        pytest.param(environment("\ud800"), None, id="half a surrogate"),
    ],
)
def test_refused(content: str | bytes, clause: str | None) -> None:
    error = parse(content).parse_error
    assert error == clause or (clause is not None and error is not None and error.startswith(clause))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LAUGHS + "]><E>&j;</E>", id="a billion laughs"),
        pytest.param("<" * TEN_MEGABYTES, id="10 MB"),
        pytest.param(environment("<a>" * 300_000), id="deep"),
        pytest.param(environment("<a/>" * 240_000), id="wide"),
        pytest.param(environment(f"<{'n' * 100_000}>" + "<a/>" * 200_000), id="wide below a long name"),
        pytest.param(environment("<a" + "".join(f' a{n}=""' for n in range(90_000)) + "/>"), id="many attributes"),
        pytest.param(environment("<a" + "".join(f' xmlns:a{n}="a"' for n in range(50_000)) + "/>"), id="namespaces"),
        pytest.param(environment(properties({str(n): "" for n in range(25_000)})), id="many properties"),
        pytest.param(environment("<!---->x" * 100_000), id="many comments"),
        pytest.param(environment("&lt;" * 200_000), id="many entities"),
        pytest.param(environment('<Property a="&"/>' * 40_000), id="many malformed properties"),
        pytest.param(environment("<Property " * 90_000), id="many open properties"),
        pytest.param(environment(properties({"a": "pass" * 200_000})), id="a value that seems to hold secrets"),
        pytest.param(environment(properties({"a": "://a:" * 150_000})), id="a value that seems to hold logins"),
    ],
)
def test_bounded(text: str) -> None:
    """The limits allow for a slow machine; without the bounds some cases take minutes and all the memory."""
    began = time.process_time()
    document.facts(parse(text), "vm-1", Mask())
    Mask().xml(text)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("before", ["\ufeff", "\ufeff\n ", " \r\n\ufeff\t", "\ufeff\ufeff \ufeff"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16"])
def test_byte_order_mark_and_white_space(before: str, encoding: str) -> None:
    found = parse((before + COMPLETE).encode(encoding))
    assert (found.properties, found.parse_error) == (OWN, None)


WELL = '<Property oe:key="b" oe:value="2"/>'


@pytest.mark.parametrize(
    ("malformed", "key"),
    [
        ('<Property oe:key="a" oe:value="x & y"/>', "a"),
        ('<Property oe:key="a" oe:value="x < y"/>', "a"),
        ('<Property oe:key="a" oe:value="say "hi" twice"/>', "a"),
        ('<Property oe:key="a" oe:value="open/>', "a"),
        ('<Property oe:key="a" oe:value="1" oe:value="2"/>', "a"),
        ('<Property oe:key="a" oe:value=1/>', "a"),
        ('<oe:Property oe:value="x & y" oe:key="vami.ip0.A_b-c"/>', "vami.ip0.A_b-c"),
        ('<Property oe:key="a & b" oe:value="1"/>', None),
        ('<Property oe:key="a" oe:value="1"><x></Property>', "a"),
        ('<Property oe:key="a" oe:value="1">&x;</Property>', "a"),
    ],
)
@pytest.mark.parametrize("place", ["first", "between", "last", "often"])
def test_malformed_property_does_not_affect_the_others(malformed: str, key: str | None, place: str) -> None:
    sequence = {
        "first": [malformed, WELL],
        "between": [WELL.replace('"b"', '"c"'), malformed, WELL],
        "last": [WELL, malformed],
        "often": [malformed, WELL, malformed, WELL, malformed],
    }[place]
    found = parse(environment("<PropertySection>" + "\n".join(sequence) + "</PropertySection>", ADAPTERS))
    assert {**found.properties, "c": "2"} == {"b": "2", "c": "2"}
    assert (found.parse_error, len(found.adapters), found.vcenter_id) == (None, 2, "vm-2001")
    assert set(found.skipped_keys) == {key}
    facts = document.facts(found, "vm-2001", Mask().knowing([("b", False), ("c", False)]))
    assert facts["skipped_keys"] == [key] * len(found.skipped_keys)
    assert facts["sha256"] is None


def test_malformed_property_in_a_truncated_document() -> None:
    text = environment("<PropertySection>", '<Property oe:key="a" oe:value="&"/>', WELL, "</PropertySection>")
    found = parse(text[: text.index("</Environment")])
    assert (found.properties, found.skipped_keys, found.truncated) == ({"b": "2"}, ("a",), True)


MANY = examples(150)


@MANY
@given(st.one_of(st.text(), st.binary(), st.text("<>&;=\"'/!?[]-xmlnsEnvironment \n"), st.text().map("<".__add__)))
@example("<?xml")
@example("<![CDATA[")
@example(b"\xff\xfe<")
@example(b"<?xml encoding='idna'?>")
def test_never_raises(content: str | bytes) -> None:
    found = parse(content)
    assert found.parse_error
    assert found.properties == {}


@MANY
@given(
    st.sampled_from([COMPLETE, WEB_TIER, PREFIXED]),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 30), st.text(max_size=5)), min_size=1, max_size=4),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_never_raises_for_an_edited_document(text: str, edits: list[tuple[int, int, str]], encoding: str) -> None:
    for at, deleted, inserted in edits:
        text = text[:at] + inserted + text[at + deleted :]
    for content in (text, text.encode(encoding, "replace")):
        found = parse(content)
        assert found.truncated <= (found.parse_error is not None)
        document.facts(found, "vm-1", Mask())


@MANY
@given(st.integers(0, len(COMPLETE)))
def test_truncated_anywhere(length: int) -> None:
    found = parse(COMPLETE[:length])
    assert found.properties.items() <= OWN.items()
    assert found.truncated == (0 < length < len(COMPLETE.rstrip()))


@MANY
@given(
    own=st.dictionaries(names, texts),
    sibling=st.dictionaries(names, texts),
    prefix=st.sampled_from(["", "oe:", "x:"]),
    space=st.sampled_from(["", " ", "\r\n\t"]),
    value_first=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", None]),
    behind=texts,
)
def test_round_trip(
    own: dict[str, str],
    sibling: dict[str, str],
    prefix: str,
    space: str,
    value_first: bool,
    encoding: str | None,
    behind: str,
) -> None:
    def section(given: dict[str, str]) -> str:
        written = []
        for key, value in given.items():
            pair = [f"oe:key{space}={space}{quoted(key)}", f"oe:value{space}={space}{quoted(value)}"]
            written.append(f"<{prefix}Property {' '.join(reversed(pair) if value_first else pair)}{space}/>")
        return f"<{prefix}PropertySection>{space.join(written)}</{prefix}PropertySection>"

    extra = ' xmlns:x="http://schemas.dmtf.org/ovf/environment/1"'
    text = f'<Environment {NAMESPACES}{extra} oe:id="a">{section(own)}<Entity oe:id="b">{section(sibling)}</Entity>'
    text += "</Environment>" + behind
    found = parse(text if encoding is None else text.encode(encoding))
    assert (found.properties, found.entities, found.parse_error) == (own, {"b": sibling}, None)


def quoted(text: str) -> str:
    """Return an attribute's value with special characters as numbers, independently of the code under test."""
    return "'" + "".join(char if char.isalnum() else f"&#{ord(char)};" for char in text) + "'"


def test_limit_is_above_that_of_vsphere() -> None:
    """Strings of vApp options may have up to 65535 characters."""
    given = {f"key{n}": "x" * 65_535 for n in range(10)}
    assert len(environment(properties(given))) < safe_xml.LIMIT
    assert parse(environment(properties(given))).properties == given
