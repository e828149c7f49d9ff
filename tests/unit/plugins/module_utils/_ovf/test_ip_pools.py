# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that vCenter takes from IP pools for a VM in vApps; test_plan.py covers a VM outside of vApps."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, ip_pools


def prop(key: str, value: str = "", kind: str = "expression", default: str = "") -> Any:
    return vim.vApp.PropertyInfo(key=0, id=key, type=kind, value=value, defaultValue=default)


def options(*properties: Any, policy: str | None = None) -> Any:
    return vim.vApp.VmConfigInfo(
        property=list(properties), ipAssignment=vim.vApp.IPAssignmentInfo(ipAllocationPolicy=policy)
    )


def pool(network: str) -> Any:
    return vim.vApp.IpPool(
        networkAssociation=[vim.vApp.IpPool.Association(networkName=network)],
        ipv4Config=vim.vApp.IpPool.IpPoolConfigInfo(netmask="255.255.255.0", ipPoolEnabled=True),
    )


OWN = options(prop("mask", default="${site_mask}"))
SITE_MASK = prop("site_mask", default="${netmask:Lab}")


@pytest.mark.parametrize(
    ("around", "lacking"),
    [
        pytest.param([options(SITE_MASK)], ["site_mask of vApp vApp0 (network Lab has no IP pool)"], id="expression"),
        pytest.param(
            [options(), options(SITE_MASK)], ["site_mask of vApp vApp1 (network Lab has no IP pool)"], id="outer vApp"
        ),
        pytest.param([options(prop("site_mask", "255.0.0.0", default="${netmask:Lab}"))], [], id="computed already"),
        pytest.param([options(prop("site_mask", default="255.0.0.0", kind="string"))], [], id="text"),
        pytest.param([options(prop("site_mask", default="${net:Lab}"))], [], id="needs no pool"),
        pytest.param([options(prop("site_mask", default="${netmask:DMZ}"))], [], id="has a pool"),
        pytest.param([None], [], id="not visible"),
        pytest.param(
            [options(prop("ip0", kind="ip:Lab"), policy="transientPolicy")],
            ["ip0 of vApp vApp0 (network Lab has no IP pool)"],
            id="address",
        ),
        pytest.param([options(prop("ip0", kind="ip:Lab"), policy="dhcpPolicy")], [], id="address by DHCP"),
        pytest.param(
            [options(prop("ip0", kind="ip:Lab"), policy="transientPolicy"), options(policy="dhcpPolicy")],
            [],
            id="policy of the outermost vApp",
        ),
    ],
)
def test_properties_of_the_vapps_around_a_vm(around: list[Any], lacking: list[str]) -> None:
    """vCenter computes them at the power-on of the VM, whose document also contains them."""
    read = configured.read(OWN, [(f"vApp{number}", options) for number, options in enumerate(around)])
    assert ip_pools.lacking(read, [pool("DMZ")]) == lacking
    assert ip_pools.lacking(read, [pool("DMZ"), pool("Lab")]) == []
    if lacking:
        assert ip_pools.needed_by(read) == [lacking[0].partition(" (")[0]]
