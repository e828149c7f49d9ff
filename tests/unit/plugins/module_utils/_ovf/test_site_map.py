# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of another site that are changed, and maps that are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import site_map

MAP, FAULTS = site_map.read(
    {
        "subnets": {
            "10.1.0.0/16": "10.2.0.0/16",
            "10.1.5.0/24": "192.168.5.0/24",  # the longer prefix wins
            "10.2.0.0/16": "10.3.0.0/16",  # and nothing is changed twice
            "2001:db8:1::/48": "2001:db8:2::/48",
        }
    }
)

VALUES = {
    "10.1.2.3": "10.2.2.3",
    "10.1.5.9": "192.168.5.9",
    "10.2.0.1": "10.3.0.1",
    "10.4.0.1": "10.4.0.1",
    "10.1.2.3/24": "10.2.2.3/24",
    "10.1.0.0/16": "10.2.0.0/16",
    "10.1.2.3/255.255.0.0": "10.2.2.3/255.255.0.0",
    "10.1.0.53,10.1.5.53": "10.2.0.53,192.168.5.53",
    "10.1.0.53 ,  10.9.9.9": "10.2.0.53 ,  10.9.9.9",
    "10.1.0.53 10.1.0.54": "10.2.0.53 10.2.0.54",
    "10.1.0.53;10.1.0.54": "10.2.0.53;10.2.0.54",
    "ntp.example.com, 10.1.0.53": "ntp.example.com, 10.2.0.53",
    "2001:db8:1::5": "2001:db8:2::5",
    "2001:DB8:1:7::5/64": "2001:db8:2:7::5/64",
    "255.255.0.0": "255.255.0.0",
    "": "",
    "hello": "hello",
    "fe80::1%eth0": "fe80::1%eth0",
    "10.1.2": "10.1.2",
}
OTHER_TEXT = [
    "http://10.1.0.1/x",
    "use 10.1.0.1 please",
    "10.1.0.1:80",
    "10.1.2.3/99",
    "10.1.0.5-10.1.0.9",
    "[2001:db8:1::5]:443",
    "address=10.1.0.1,mask=255.255.0.0",
]
NO_ADDRESS = ["v10.1.0.1.2", "10.1.0.1.2", "http://10.4.0.1/", "a:b:c:d", "12:30:45", "00:50:56:aa:bb:cc"]


@pytest.mark.parametrize("value", VALUES)
def test_values(value: str) -> None:
    assert FAULTS == []
    assert MAP.translate(value) == VALUES[value]
    assert not MAP.mentions(value)


@pytest.mark.parametrize("value", OTHER_TEXT)
def test_address_within_other_text(value: str) -> None:
    """It is not changed, but the map reports that the text mentions it."""
    assert MAP.translate(value) == value
    assert MAP.mentions(value)


@pytest.mark.parametrize("value", NO_ADDRESS)
def test_no_address(value: str) -> None:
    assert MAP.translate(value) == value
    assert not MAP.mentions(value)


NONSENSE: dict[str, Any] = {
    "not a dictionary": "10.1.0.0/16",
    "only vms and subnets are supported": {"subnet": {"10.1.0.0/16": "10.2.0.0/16"}},
    "which has a different size": {"subnets": {"10.1.0.0/16": "10.2.0.0/24"}},
    "a different IP version": {"subnets": {"10.1.0.0/16": "2001::/16"}},
    "has host bits set": {"subnets": {"10.1.2.3/16": "10.2.0.0/16"}},
    "not a subnet with its prefix length": {"subnets": {"10.1.2.3": "10.2.0.0"}},
    "not a subnet .'x/8": {"subnets": {"x/8": "10.2.0.0/8"}},
    "two subnets to 10.2.0.0/16": {"subnets": {"10.1.0.0/16": "10.2.0.0/16", "10.3.0.0/16": "10.2.0.0/16"}},
    "10.1.0.0/16 more than once": {"subnets": {"10.1.0.0/16": "10.2.0.0/16", "10.1.0.0/255.255.0.0": "10.4.0.0/16"}},
    "not a dictionary of subnets": {"subnets": ["10.1.0.0/16"]},
    "a dictionary of full keys": {"vms": {"web": "10.1.0.1"}},
}


@pytest.mark.parametrize("fault", NONSENSE)
def test_invalid_maps(fault: str) -> None:
    _map, faults = site_map.read(NONSENSE[fault])
    (text,) = faults
    assert re.search(fault, text)


@pytest.mark.parametrize("given", [None, "", {}, {"vms": None, "subnets": None}])
def test_empty_maps(given: Any) -> None:
    empty, faults = site_map.read(given)
    assert faults == []
    assert empty.translate("10.1.0.1") == "10.1.0.1"
