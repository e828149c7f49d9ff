# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that find no free port: only a port group with static binding that does not expand can be full."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim
from unit.fake_vcenter import FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks, port_groups
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.networks import Network
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent

CARD = vim.vm.device.VirtualEthernetCard


class Bed:
    """A parent with one adapter and a distributed port group."""

    def __init__(self, vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vcenter = vcenter
        adapter = vim.vm.device.VirtualVmxnet3(
            key=4000,
            deviceInfo=vim.Description(label="Network adapter 1", summary=""),
            backing=CARD.NetworkBackingInfo(deviceName="VM Network"),
        )
        self.vm = vcenter.vm("golden", **{"config.hardware.device": [adapter], "runtime.instantCloneFrozen": True})
        self.session = vcenter.use(monkeypatch)
        self.parent: Parent = vcenter.parent(self.session, self.vm)
        self.switch = vcenter.add(vim.dvs.VmwareDistributedVirtualSwitch, "dvs-1", uuid="switch")

    def port_group(self, free: int, **config: Any) -> Any:
        """Return a port group with free ports; by default with static binding and without expansion."""
        self.vcenter.effects["FetchDVPorts"] = lambda _switch, **_given: [
            vim.dvs.DistributedVirtualPort(portgroupKey="pg-1", key=str(number)) for number in range(free)
        ]
        return self.vcenter.add(
            vim.dvs.DistributedVirtualPortgroup,
            "pg-1",
            **{
                "name": "Lab",
                "parent": self.vcenter.datacenter,
                "key": "pg-1",
                "config.type": "earlyBinding",
                "config.autoExpand": False,
                "config.distributedVirtualSwitch": self.switch,
                **config,
            },
        )

    def short(self, *names: str) -> dict[str, str]:
        """Return the children without a port."""
        children = [ChildSpec(name, networks=(Network(1, network="Lab"),)) for name in names]
        found = port_groups.find(self.parent, children)
        return port_groups.ports(self.parent, children, found).shortages


@pytest.fixture
def bed(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(vcenter, monkeypatch)


@pytest.mark.parametrize(("free", "short"), [(0, ["a", "b", "c"]), (1, ["b", "c"]), (2, ["c"]), (3, [])])
def test_ports_are_assigned_in_order(bed: Bed, free: int, short: list[str]) -> None:
    bed.port_group(free)
    messages = bed.short("a", "b", "c")
    assert list(messages) == short
    noun = "free port" if free == 1 else "free ports"
    assert all(f"of the {free} {noun} of the distributed port group Lab" in message for message in messages.values())


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"config.type": "ephemeral"}, id="ephemeral"),
        pytest.param({"config.type": "lateBinding"}, id="late binding"),
        pytest.param({"config.autoExpand": True}, id="expands"),
        pytest.param({"config.autoExpand": None}, id="expansion that the user may not see"),
        pytest.param({"config.type": None}, id="type that the user may not see"),
    ],
)
def test_other_port_groups_always_have_ports(bed: Bed, config: dict[str, Any]) -> None:
    """An ephemeral port group creates a port for each adapter, so having no free port means nothing."""
    bed.port_group(0, **config)
    assert bed.short("a", "b") == {}
    assert bed.vcenter.count("FetchDVPorts") == 0


@pytest.mark.parametrize(
    ("version", "uuid", "shown"),
    [
        ("8.0.3.0", "segment-1", [None, "pg-1"]),
        ("8.0.3.0", "segment-2", [None]),
        ("8.0.3.0", None, [None]),
        ("6.7", "segment-1", [None]),  # this server does not have the property
    ],
)
def test_port_group_that_vcenter_may_show_for_an_opaque_network(
    bed: Bed, version: str, uuid: str | None, shown: list[str | None]
) -> None:
    bed.port_group(0, **{"config.logicalSwitchUuid": uuid})
    summary = vim.OpaqueNetwork.Summary(opaqueNetworkId="segment-1", opaqueNetworkType="nsx.LogicalSwitch")
    bed.vcenter.add(vim.OpaqueNetwork, "network-o1", name="NSX", parent=bed.vcenter.datacenter, summary=summary)
    bed.session.content.about.apiVersion = version
    found = port_groups.find(bed.parent, [ChildSpec("a", networks=(Network(1, network="NSX"),))])
    assert [networks.network_id(network) for network in found.shown["NSX"]] == shown
    assert found.backings["NSX"].opaqueNetworkId == "segment-1"


def test_only_opaque_networks_are_searched_for_in_all_port_groups(bed: Bed) -> None:
    bed.port_group(1)
    calls = bed.vcenter.count("CreateContainerView")
    bed.short("a")
    assert bed.vcenter.count("CreateContainerView") == calls + 1, "the networks by their names"


def test_switch_that_does_not_report_its_ports(bed: Bed) -> None:
    bed.port_group(0)
    bed.vcenter.refuse("FetchDVPorts", vim.fault.NoPermission(privilegeId="System.Read"))
    assert bed.short("a") == {}
