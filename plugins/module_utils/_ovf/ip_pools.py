# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what vCenter takes from IP pools (network protocol profiles) at a power-on, and whether the pools have it.

Private to the collection. Pure functions, apart from :func:`read`.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured, Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType


def read(session: Session, datacenter: t.Any) -> list[t.Any] | None:
    """Return the IP pools of a datacenter in one call; ``None``: they could not be read.

    :param datacenter: ``None`` if the user may not see it.
    """
    manager = session.content.ipPoolManager
    if datacenter is None or manager is None:
        return None
    try:
        return list(session.ask(manager.QueryIpPools, dc=datacenter) or [])
    except (_errors.Fault, UnknownType, _errors.ConnectionLost, _errors.TimedOut):
        return None


def lacking(configured: Configured, pools: t.Iterable[t.Any]) -> list[str]:
    """Return what vCenter cannot compute at a power-on: the key, and the reason in parentheses."""
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

    :param key: key of the property, and the name of its vApp unless it is the VM's own.
    :param what: such as ``gateway``; ``ip`` or ``autoIp``: an address; empty: only the pool itself.
    :param is_held: whether the VM already holds an address.
    """

    key: str
    network: str
    what: str
    is_held: bool


def needs(configured: Configured) -> t.Iterator[Need]:
    """Yield what must come from IP pools at a power-on through vCenter.

    Sources: vSphere API reference, VAppPropertyInfo.type and defaultValue for what an expression may request,
    IPAssignmentInfo.ipAllocationPolicy for the policies that take an address from a pool.
    """
    policy = (configured.ip_assignment or {}).get("policy")
    for prop in configured.properties:
        yield from _needs_of(prop.key, prop, policy)
    # The document of a VM in a vApp has the vApp's properties as well, and expressions may quote them.
    for vapp, prop in configured.computed_around:
        yield from _needs_of(f"{prop.key} of vApp {vapp}", prop, policy)


def _needs_of(name: str, prop: Property, policy: object) -> t.Iterator[Need]:
    is_held = bool(prop.value)  # cleared when the address is returned to the pool
    if prop.source == "computed":
        for what, network in re.findall(r"\$\{([A-Za-z]+):([^}]*)\}", prop.default or ""):
            if what not in ("vimIp", "net"):  # vCenter's own address, and the name itself
                yield Need(name, network, what, is_held)
    elif prop.type.startswith("ip:") and policy != "dhcpPolicy":
        is_taken = policy in ("transientPolicy", "fixedAllocatedPolicy")
        if is_taken or not prop.effective:
            yield Need(name, prop.type[len("ip:") :], "ip" if is_taken else "", is_held)


def _pool_of(network: str, pools: t.Iterable[t.Any]) -> t.Any | None:
    """Return the IP pool of a network. An association always has the network's name, but not always the network."""
    name = _inventory.unescape(network)
    for pool in pools:
        if any(_inventory.unescape(association.networkName) == name for association in pool.networkAssociation or []):
            return pool
    return None


_POOL_FIELDS = {"subnet": "subnetAddress", "netmask": "netmask", "gateway": "gateway"}
"""What an expression may request → field of a pool. Without it, the VM does not start (VAppPropertyInfo.type)."""


def _lack(need: Need, pool: t.Any | None, protocol: object) -> str | None:
    """Return why a pool cannot provide a need: the predicate of "network X"; ``None``: no reason is known."""
    if pool is None:
        return "has no IP pool"
    config, free = pool.ipv4Config, pool.availableIpv4Addresses
    if protocol == "IPv6":
        config, free = pool.ipv6Config, pool.availableIpv6Addresses
    if need.what in ("ip", "autoIp"):
        if config is not None and config.ipPoolEnabled is False:
            return "has an IP pool that is not enabled"
        return "has an IP pool without a free address" if free == 0 and not need.is_held else None
    if need.what in _POOL_FIELDS and not getattr(config, _POOL_FIELDS[need.what], None):
        return f"has an IP pool without a {need.what}"
    return None
