# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses that really belong to the child."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts

OWN, PARENTS = "00:50:56:00:00:02", "00:50:56:00:00:01"


def vm(mac: str, *nics: tuple[str, list[str]], address: str | None = None) -> dict[str, Any]:
    return {
        "config.hardware.device": [
            vim.vm.device.VirtualVmxnet3(macAddress=mac),
            vim.vm.device.VirtualDisk(),
        ],
        "guest.net": [SimpleNamespace(macAddress=mac, ipAddress=list(addresses)) for mac, addresses in nics],
        "guest.ipAddress": address,
    }


PARENT = vm(PARENTS, (PARENTS, ["192.0.2.1", "fe80::1"]), address="192.0.2.1")


@pytest.mark.parametrize(
    ("child", "network", "expected"),
    [
        pytest.param(vm(OWN, (OWN, ["192.0.2.2"])), None, ["192.0.2.2"], id="own address"),
        pytest.param(vm(OWN, (OWN.upper(), ["192.0.2.2"])), None, ["192.0.2.2"], id="MAC in capitals"),
        pytest.param(vm(OWN, (PARENTS, ["192.0.2.2"])), None, [], id="on the parent's MAC"),
        pytest.param(vm(OWN, (OWN, ["192.0.2.1"])), None, [], id="the parent's address"),
        pytest.param(
            vm(OWN, (OWN, ["169.254.1.1", "fe80::5", "127.0.0.1", "::1"])), None, [], id="link-local, loopback"
        ),
        pytest.param(vm(OWN, (OWN, ["2001:db8::5"])), None, ["2001:db8::5"], id="IPv6"),
        pytest.param(
            vm(OWN, (OWN, ["198.51.100.2", "192.0.2.2"])), "192.0.2.0/24", ["192.0.2.2"], id="inside the network"
        ),
        pytest.param(vm(OWN, (OWN, ["2001:db8::5"])), "192.0.2.0/24", [], id="other family than the network"),
        pytest.param(vm(PARENTS, (PARENTS, ["192.0.2.2"])), None, [], id="an adapter that shares the parent's MAC"),
        pytest.param(vm(OWN, (OWN, ["nonsense"])), None, [], id="no address"),
        pytest.param({}, None, [], id="nothing reported"),
    ],
)
def test_own_addresses(child: dict[str, Any], network: str | None, expected: list[str]) -> None:
    within = ipaddress.ip_network(network) if network else None
    assert facts.own_addresses(child, PARENT, within) == expected


@pytest.mark.parametrize(
    ("path", "name"), [("[fast ssd] web/web.vmx", "fast ssd"), ("", None), (None, None), ("web.vmx", None)]
)
def test_datastore_name(path: str | None, name: str | None) -> None:
    assert facts.datastore_name({"config.files.vmPathName": path}) == name
