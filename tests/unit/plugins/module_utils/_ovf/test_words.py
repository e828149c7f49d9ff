# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words in names of properties."""

from __future__ import annotations

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.words import in_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("guestinfo.interface.0.ip.0.address", "guestinfo interface 0 ip 0 address"),
        ("management_IP", "management Ip"),
        ("managementIP", "management Ip"),
        ("mgmtIp0", "mgmt Ip0"),
        ("IPAddress", "Ip Address"),
        ("IPaddress", "Ipaddress"),
        ("mgmtIPv4Address", "mgmt Ipv4 Address"),
        ("DNSServers", "DNS Servers"),
        ("VIPAddress", "VIP Address"),
    ],
)
def test_words(name: str, words: str) -> None:
    assert in_words(name) == words
