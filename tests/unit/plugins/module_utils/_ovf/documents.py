# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVF environment documents for tests: as vCenter writes them, and as Hypothesis generates them."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from hypothesis import strategies as st

NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:ve="http://www.vmware.com/schema/ovfenv"'
)
ATTRIBUTES = 'oe:id="" ve:vCenterId="vm-2001"'
PLATFORM = (
    "<PlatformSection><Kind>VMware ESXi</Kind><Version>7.0.3</Version>"
    "<Vendor>VMware, Inc.</Vendor><Locale>en</Locale></PlatformSection>"
)
ADAPTERS = (
    "<ve:EthernetAdapterSection>"
    '<ve:Adapter ve:mac="00:50:56:aa:00:01" ve:network="VM Network" ve:unitNumber="7"/>'
    '<ve:Adapter ve:mac="00:50:56:aa:00:02" ve:network="backup &amp; restore"/>'
    "</ve:EthernetAdapterSection>"
)
VSERVICE = (
    '<ve:vServiceEnvironmentSection ve:id="vservice-1" xmlns:evs="http://www.vmware.com/schema/vservice/ExtensionVService">'
    "<evs:VCenterApi><evs:IP>192.0.2.9</evs:IP><evs:SelfMoRef>VirtualMachine:vm-2001</evs:SelfMoRef></evs:VCenterApi>"
    "<evs:GuestApi><evs:URL>https://192.0.2.9/vsm</evs:URL><evs:Token>{token}</evs:Token></evs:GuestApi>"
    "</ve:vServiceEnvironmentSection>"
)


def environment(*content: str, attributes: str = ATTRIBUTES) -> str:
    """Return a document as vCenter writes it, with the given content of the root element."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Environment\n     {NAMESPACES}\n     {attributes}>\n' + (
        "\n".join(content) + "\n</Environment>\n"
    )


def properties(given: dict[str, str]) -> str:
    lines = [f"<Property oe:key={quoteattr(key)} oe:value={quoteattr(value)}/>" for key, value in given.items()]
    return "<PropertySection>" + "\n".join(lines) + "</PropertySection>"


def entity(name: str, given: dict[str, str]) -> str:
    return f"<Entity oe:id={quoteattr(name)}>{properties(given)}</Entity>"


# All characters that XML 1.0 allows in an attribute.
texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
        st.sampled_from("\t\r\n \"'<>&;=/"),
    ),
    max_size=40,
)
names = st.one_of(st.sampled_from(["hostname", "vami.ip0.web", "ntp servers", "guestinfo.dns"]), texts)
