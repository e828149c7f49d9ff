# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vCenter takes from IP pools (network protocol profiles) when it powers a VM on, and whether they have it.

Private to the collection. Pure functions, apart from :func:`read`.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured, Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType


def read(session: Session, datacenter: t.Any) -> list[t.Any] | None:
    """Return the IP pools of a datacenter in one request; ``None``: they could not be read.

    :param datacenter: ``None`` when the user cannot see which one it is.
    """
    manager = session.content.ipPoolManager
    if datacenter is None or manager is None:
        return None
    try:
        return list(session.ask(manager.QueryIpPools, dc=datacenter) or [])
    except (_errors.Fault, UnknownType, _errors.ConnectionLost, _errors.TimedOut):
        return None


def lacking(configured: Configured, pools: t.Iterable[t.Any]) -> list[str]:
    """Return what vCenter cannot compute at a power-on: the key, and in brackets why."""
    protocol = (configured.ip_assignment or {}).get("protocol")
    pools = list(pools)
    return [
        f"{need.key} (network {need.network} {why})"
        for need in needs(configured)
        if (why := _lack(need, _pool_of(need.network, pools), protocol)) is not None
    ]


def needed_by(configured: Configured) -> list[str]:
    """Return the keys of the properties that need an IP pool."""
    return list(dict.fromkeys(need.key for need in needs(configured)))


class Need(t.NamedTuple):
    """Something that a property takes from the IP pool of a network.

    :param key: of the property, and which vApp's it is, if it is not the VM's own.
    :param what: ``gateway`` and the like; ``ip`` or ``autoIp``: an address; empty: that there is one.
    :param is_held: whether it is an address that the VM was given already.
    """

    key: str
    network: str
    what: str
    is_held: bool


def needs(configured: Configured) -> t.Iterator[Need]:
    """Yield what must come from IP pools at a power-on through vCenter.

    What an expression can ask of one: vSphere API reference, VAppPropertyInfo.type and defaultValue; which policies
    take addresses out of one: IPAssignmentInfo.ipAllocationPolicy.
    """
    policy = (configured.ip_assignment or {}).get("policy")
    for one in configured.properties:
        yield from _needs_of(one.key, one, policy)
    # The document of a VM in a vApp has the vApp's properties as well, and expressions may quote them.
    for vapp, one in configured.computed_around:
        yield from _needs_of(f"{one.key} of vApp {vapp}", one, policy)


def _needs_of(name: str, one: Property, policy: object) -> t.Iterator[Need]:
    is_held = bool(one.value)  # cleared where it was given back
    if one.source == "computed":
        for what, network in re.findall(r"\$\{([A-Za-z]+):([^}]*)\}", one.default or ""):
            if what not in ("vimIp", "net"):  # vCenter's own address, and the name itself
                yield Need(name, network, what, is_held)
    elif one.type.startswith("ip:") and policy != "dhcpPolicy":
        is_taken = policy in ("transientPolicy", "fixedAllocatedPolicy")
        if is_taken or not one.effective:
            yield Need(name, one.type[len("ip:") :], "ip" if is_taken else "", is_held)


def _pool_of(network: str, pools: t.Iterable[t.Any]) -> t.Any | None:
    """The IP pool of a network; an association always has the network's name, and the network itself at times."""
    name = _inventory.unescape(network)
    for pool in pools:
        if any(_inventory.unescape(one.networkName) == name for one in pool.networkAssociation or []):
            return pool
    return None


_TOLD = {"subnet": "subnetAddress", "netmask": "netmask", "gateway": "gateway"}
"""What an expression may ask for → where a pool has it. Without it the VM does not start (VAppPropertyInfo.type)."""


def _lack(need: Need, pool: t.Any | None, protocol: object) -> str | None:
    """Why a pool cannot give what is needed, of which the network is the subject; ``None``: nothing speaks for that."""
    if pool is None:
        return "has no IP pool"
    config, free = pool.ipv4Config, pool.availableIpv4Addresses
    if protocol == "IPv6":
        config, free = pool.ipv6Config, pool.availableIpv6Addresses
    if need.what in ("ip", "autoIp"):
        if config is not None and config.ipPoolEnabled is False:
            return "has an IP pool that is not enabled"
        return "has an IP pool without a free address" if free == 0 and not need.is_held else None
    if need.what in _TOLD and not getattr(config, _TOLD[need.what], None):
        return f"has an IP pool without a {need.what}"
    return None
