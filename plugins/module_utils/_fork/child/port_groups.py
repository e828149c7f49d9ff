# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look up the networks of children's adapters, and check that each adapter gets a port.

Private to the collection. Costs the same few calls for any number of
children and networks, and one more for each distributed switch whose ports
are counted.
"""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory, _printable, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATHS = ("key", "name", "config.autoExpand", "config.distributedVirtualSwitch", "config.type")


@dataclass(frozen=True)
class Found:
    """The networks that a task names, by their names in the task.

    :param backings: the backing that an adapter on the network needs.
    :param shown: the backings that vCenter may show for such an adapter.
    :param port_groups: properties of the networks that are distributed port groups.
    """

    objects: t.Mapping[str, t.Any] = field(default_factory=dict)
    backings: t.Mapping[str, t.Any] = field(default_factory=dict)
    shown: networks.Shown = field(default_factory=dict)
    port_groups: t.Mapping[t.Any, _properties.Values] = field(default_factory=dict)


def find(parent: Parent, children: t.Sequence[ChildSpec]) -> Found:
    """Return the networks of children, which must be in the parent's datacenter.

    :raises _errors.NotFound: there is no such network, or the user cannot see enough of it.
    :raises _errors.Ambiguous: there are several.
    """
    session = parent.session
    names = {adapter.network for child in children for adapter in child.networks if adapter.network is not None}
    objects = _inventory.find_each_named(session, vim.Network, "network", names, parent.found.datacenter)
    port_groups = _properties.read(session, _of_type(vim.dvs.DistributedVirtualPortgroup, objects), PATHS)
    switches = {values.get("config.distributedVirtualSwitch") for values in port_groups.values()} - {None}
    uuids = _properties.read(session, switches, ["uuid"])
    opaque = _properties.read(session, _of_type(vim.OpaqueNetwork, objects), ["summary"])
    plain = _inventory.names(session, _of_type(vim.Network, objects))

    def backing(name: str, network: t.Any) -> t.Any:
        card = vim.vm.device.VirtualEthernetCard
        if network in port_groups:
            values = port_groups[network]
            uuid = uuids.get(values.get("config.distributedVirtualSwitch"), {}).get("uuid")
            if uuid is not None and "key" in values:
                port = vim.dvs.PortConnection(switchUuid=uuid, portgroupKey=values["key"])
                return card.DistributedVirtualPortBackingInfo(port=port)
        elif network in opaque:
            summary = opaque[network].get("summary")
            if summary is not None:
                return card.OpaqueNetworkBackingInfo(
                    opaqueNetworkId=summary.opaqueNetworkId, opaqueNetworkType=summary.opaqueNetworkType
                )
        elif network in plain:
            return card.NetworkBackingInfo(deviceName=plain[network], network=network)
        raise _errors.NotFound(
            f"No adapter can be connected to the network {name}: the user cannot read it, or the distributed switch "
            "that it belongs to. Grant the user the privilege System.Read on both."
        )

    backings = {name: backing(name, network) for name, network in objects.items()}
    segments = _of_segments(parent, backings.values())
    shown = {name: (own, *segments.get(getattr(own, "opaqueNetworkId", ""), ())) for name, own in backings.items()}
    return Found(objects, backings, shown, port_groups)


FIRST_NSX_PORT_GROUPS = (7, 0)
"""API version that introduced NSX distributed port groups (API reference, DVPortgroupConfigInfo.logicalSwitchUuid)."""


def _of_segments(parent: Parent, backings: t.Iterable[t.Any]) -> dict[str, list[t.Any]]:
    """Return, for each opaque network by its ID, the backings that vCenter may use instead.

    If NSX runs on a distributed switch, that is the port group of the same logical switch
    (vmware-tanzu/vm-operator pull request 942).
    """
    kind = vim.vm.device.VirtualEthernetCard.OpaqueNetworkBackingInfo
    wanted = {backing.opaqueNetworkId for backing in backings if isinstance(backing, kind)}
    session = parent.session
    if not wanted or session.api_version < FIRST_NSX_PORT_GROUPS:
        return {}
    root = parent.found.datacenter or session.content.rootFolder
    paths = ("key", "config.logicalSwitchUuid")
    result: dict[str, list[t.Any]] = {}
    for values in _properties.scan(session, root, vim.dvs.DistributedVirtualPortgroup, paths).values():
        uuid = values.get("config.logicalSwitchUuid", "")
        if uuid in wanted and "key" in values:
            port = vim.dvs.PortConnection(portgroupKey=values["key"])
            shown = vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)
            result.setdefault(uuid, []).append(shown)
    return result


class Ports(t.NamedTuple):
    """Whether each adapter of the children gets a port."""

    shortages: dict[str, str]
    """Name of a child → why it cannot be created because free ports are missing, as a sentence."""
    is_known: bool
    """Whether all port groups and their free ports are visible to the user. If not, the server reports a shortage."""


def ports(parent: Parent, children: t.Sequence[ChildSpec], found: Found) -> Ports:
    """Count the free ports for the children.

    Free ports are assigned in the order of the task; a child that cannot get
    all its ports gets none. Only a port group with static binding and without
    automatic expansion can run out.
    """
    landing = {child.name: networks.landing(parent.values, child.networks, found.backings) for child in children}
    needed: Counter[str] = sum(landing.values(), Counter())
    seen = [values for values in _read(parent, needed, found) if values.get("key") in needed]
    bounded = {
        values["key"]: values
        for values in seen
        if values.get("config.type") == "earlyBinding" and values.get("config.autoExpand") is False
    }
    free = _free_ports(parent.session, bounded)
    left = dict(free)
    result: dict[str, str] = {}
    for name, ports in landing.items():
        short = next((key for key, count in ports.items() if key in left and left[key] < count), None)
        if short is None:
            left.update({key: left[key] - count for key, count in ports.items() if key in left})
            continue
        result[name] = (
            f"Could not create child {name}: it needs {ports[short]} of the "
            f"{_printable.count(free[short], 'free port')} of the distributed port group "
            f"{_inventory.unescape(bounded[short]['name'])}, and children earlier in this task leave "
            f"{left[short]} of them. Add ports to it, enable its automatic expansion, or create fewer children."
        )
    readable = {
        values["key"]
        for values in seen
        if "config.type" in values and (values["config.type"] != "earlyBinding" or "config.autoExpand" in values)
    }
    return Ports(result, readable >= needed.keys() and free.keys() >= bounded.keys())


def _of_type(kind: t.Any, objects: t.Mapping[str, t.Any]) -> set[t.Any]:
    return {network for network in objects.values() if network.__class__ is kind}


def _read(parent: Parent, needed: t.Container[str], found: Found) -> list[_properties.Values]:
    """Return the properties of the task's port groups, and of the parent's if children remain on them."""
    known = list(found.port_groups.values())
    named = {values.get("key") for values in known}
    if all(key in named or key not in needed for key in networks.landing(parent.values, (), {})):
        return known
    theirs = [parent.found.related.get(network) for network in parent.values.get("network") or []]
    return [*known, *filter(None, theirs)]


def _free_ports(session: Session, port_groups: t.Mapping[str, _properties.Values]) -> dict[str, int]:
    """Return the number of free ports of each port group for which the server reports it."""
    of_switches: dict[t.Any, list[str]] = {}
    for key, values in port_groups.items():
        of_switches.setdefault(values.get("config.distributedVirtualSwitch"), []).append(key)
    result: dict[str, int] = {}
    for switch, keys in of_switches.items():
        if switch is None:
            continue
        criteria = vim.dvs.PortCriteria(portgroupKey=keys, inside=True, connected=False)
        try:
            ports = session.ask(switch.FetchDVPorts, criteria)
        except (_errors.Fault, UnknownType):
            continue
        counted = Counter(port.portgroupKey for port in ports or [])
        result.update({key: counted[key] for key in keys})
    return result
