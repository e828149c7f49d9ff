# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test when two network adapters are on the same network."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

CARD = vim.vm.device.VirtualEthernetCard


def port_group(key: str | None) -> Any:
    port = vim.dvs.PortConnection(switchUuid="50", portgroupKey=key, portKey="7")
    return CARD.DistributedVirtualPortBackingInfo(port=port)


def opaque(identifier: str) -> Any:
    return CARD.OpaqueNetworkBackingInfo(opaqueNetworkId=identifier, opaqueNetworkType="nsx")


def standard(name: str) -> Any:
    return CARD.NetworkBackingInfo(deviceName=name)


@pytest.mark.parametrize(
    ("backing", "other"),
    [
        (port_group("dvportgroup-1"), port_group("dvportgroup-2")),
        (opaque("a"), opaque("b")),
        (standard("VM Network"), standard("Lab")),
        (port_group("a"), opaque("a")),
    ],
)
def test_networks(backing: Any, other: Any) -> None:
    assert _devices.is_same_network(backing, backing)
    assert not _devices.is_same_network(backing, other)


@pytest.mark.parametrize("backing", [port_group(None), port_group(""), opaque(""), standard("")])
def test_network_without_an_identifier_is_unknown(backing: Any) -> None:
    assert _devices.is_same_network(backing, backing) is None


@pytest.mark.parametrize(("key", "macs"), [("a", {"00:50:56:00:00:01"}), ("b", set()), (None, {"00:50:56:00:00:01"})])
def test_adapter_that_may_share_a_network_with_the_parent(key: str | None, macs: set[str]) -> None:
    def values(group: str | None, mac: str) -> dict[str, Any]:
        adapter = vim.vm.device.VirtualVmxnet3(key=4000, macAddress=mac, backing=port_group(group))
        return {"config.hardware.device": [adapter]}

    assert _devices.beside(values(key, "00:50:56:00:00:01"), values("a", "00:50:56:00:00:02")) == macs
