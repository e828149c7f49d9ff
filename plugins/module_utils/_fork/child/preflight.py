# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge in advance how many children of a parent can be created, and what limits them. Pure; needs no server.

Private to the collection. ``preflight_facts.py`` collects the :class:`Facts`. Each check has its public source in
:data:`SOURCES`; a statement without one is marked as an assumption there, and never blocks. A fact that is ``None`` is
not known, and its check has the status ``unknown``.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.facts import MANY_DELTAS, MOST_DELTAS

OK, WARN, BLOCK, UNKNOWN = "ok", "warn", "block", "unknown"
STATUSES = (OK, WARN, BLOCK, UNKNOWN)

_API = "vSphere Web Services API reference"
_KB_DELTAS = "Broadcom KB 320221 (formerly 67186)"
_GOS = "vmware/ansible-vsphere-gos-validation, issue 416 and common/vm_instant_clone.yml"

SOURCES = {
    "fork_point": f"{_API}, InstantClone_Task; vmware-serengeti/serengeti-ws, VcVirtualMachine.java",
    "tools": "lox/govmomi-vmfork; test-kitchen/kitchen-vcenter, lib/support/clone_vm.rb",
    "devices": f"{_GOS}; {_API}, VirtualMachineInstantCloneSpec; vGPU: assumption",
    "disks": "assumption",
    "encryption": "assumption",
    "delta_disks": _KB_DELTAS,
    "snapshot": "vmware-serengeti/serengeti-ws, VcVirtualMachine.java",
    "host": f"{_API}, HostRuntimeInfo and HostSystem.EnterMaintenanceMode_Task",
    "memory_reservation": f"{_API}, InsufficientMemoryResourcesFault and ResourcePoolResourceUsage.unreservedForVm",
    "memory": f"{_API}, HostListSummaryQuickStats.overallMemoryUsage; vSphere Web Services SDK Programming Guide, "
    "How the Instant Clone Operation Works",
    "datastore": "vSphere Resource Management, Swap Space and Memory Overcommitment (GUID-AC40823A)",
    "datastore_growth": "vSphere Web Services SDK Programming Guide, How the Instant Clone Operation Works",
    "ports": f"{_API}, DVPortgroupConfigInfo.autoExpand and DVPortgroupConfigInfo.type",
    "names": f"{_API}, DuplicateName",
    "addresses": f"{_API}, GuestInfo.net",
    "address_range": "RFC 4632; RFC 919",
    "drs": f"{_API}, ClusterDrsVmConfigInfo; Horizon documentation of instant clone parents",
    "ha": "vSphere Availability, vSphere HA Admission Control; vmware-serengeti/serengeti-ws, VcVirtualMachine.java",
    "privileges": f"{_API}, InstantClone_Task; VMFork: assumption",
    "license": f"{_API}, NotEnoughLicenses",
    "server": f"{_API}, VirtualMachineProvisioningChecker.CheckInstantClone_Task",
}
"""Check → where its rule is published. The order is that of the checks."""

REFUSED = {
    "vtpm": "vTPM",
    "passthrough": "PCI passthrough device",
    "serial": "serial port that is not backed by a file",
    "parallel": "parallel port that is not backed by a file",
    "cd_unreachable": "connected CD image that the ESXi host cannot access",
}
"""Device kind that Instant Clone refuses → its name for users."""

DOUBTFUL = {
    "vgpu": "vGPU",
    "cd_unknown": "connected CD image whose datastore is not known",
    "independent": "independent disk",
    "shared": "shared disk",
    "rdm": "raw device mapping",
}
"""Device kind that Instant Clone may refuse → its name. No public source says so of vCenter's own method."""

_DISKS = ("independent", "shared", "rdm")


class Device(t.NamedTuple):
    """A device that prevents children, or may.

    :param kind: a key of :data:`REFUSED` or :data:`DOUBTFUL`.
    """

    label: str
    kind: str


@dataclass(frozen=True)
class Host:
    """The parent's ESXi host; memory in bytes."""

    name: str
    connection_state: str | None = None
    is_in_maintenance: bool | None = None
    is_in_quarantine: bool | None = None
    memory: int | None = None
    memory_used: int | None = None


class Pool(t.NamedTuple):
    """A resource pool for children.

    :param children: names of the children to create in it, in this order.
    :param unreserved: bytes of memory that can still be reserved.
    """

    name: str
    children: tuple[str, ...]
    unreserved: int | None


class Datastore(t.NamedTuple):
    """A datastore for children.

    :param children: names of the children to create on it, in this order.
    :param kind: ``summary.type``, such as ``VMFS`` or ``vsan``.
    :param free: in bytes.
    :param is_usable: whether the host can access it, and it is not in maintenance mode.
    """

    name: str
    children: tuple[str, ...]
    free: int | None
    is_usable: bool | None
    kind: str | None = None


class Cluster(t.NamedTuple):
    """The cluster of the host.

    :param drs: ``fullyAutomated`` and so on, for the parent; ``None``: DRS is off for it.
    :param has_admission_control: whether vSphere HA may refuse a power-on.
    """

    name: str
    drs: str | None
    has_ha: bool
    has_admission_control: bool


@dataclass(frozen=True)
class Facts:
    """What is known before children are created. ``None`` always means that it is not known.

    :param engine: name of the engine.
    :param count: children to create.
    :param allow_running: whether children may be created from a running parent.
    :param devices: those of :data:`REFUSED` and :data:`DOUBTFUL`.
    :param deltas: delta disks in the parent's longest chain.
    :param needs_snapshot: whether children require a snapshot of the parent.
    :param memory: of a child, in bytes; likewise ``reserved`` (at its power-on), ``swap_size`` and ``disk_size``.
    :param cluster: ``False``: the host is in no cluster.
    :param swap_elsewhere: whether swap files are not on the datastore of their VM.
    :param without_port: children for which a port is missing, with the reason.
    :param named: whether the children have names; ``name_errors`` has a sentence for each that cannot be used.
    :param existing: requested children that exist already, so that they need not be created.
    :param addressed: whether the children have addresses; ``address_errors`` and ``address_warnings`` are sentences.
    :param range_size: addresses that can be assigned in the network of the task; ``False``: it names none.
    :param lacking: sentences about missing privileges.
    :param server_errors: what the server's own check reports; likewise ``server_warnings``.
    :param server_asked: how many children it was asked about.
    :param server_obstacle: why the server was not asked.
    """

    parent: str
    engine: str
    count: int
    is_on: bool | None = None
    is_quiesced: bool = False
    allow_running: bool = False
    has_tools: bool | None = None
    devices: tuple[Device, ...] | None = None
    is_encrypted: bool | None = None
    deltas: int | None = None
    needs_snapshot: bool = False
    has_snapshot: bool | None = None
    host: Host | None = None
    memory: int | None = None
    reserved: int | None = None
    swap_size: int | None = None
    disk_size: int | None = None
    pools: tuple[Pool, ...] | None = None
    datastores: tuple[Datastore, ...] | None = None
    swap_elsewhere: bool | None = None
    cluster: Cluster | t.Literal[False] | None = None
    without_port: tuple[str, ...] | None = None
    named: bool = False
    existing: int = 0
    name_errors: tuple[str, ...] = ()
    addressed: bool = False
    address_errors: tuple[str, ...] = ()
    address_warnings: tuple[str, ...] = ()
    range_size: int | t.Literal[False] | None = False
    lacking: tuple[str, ...] | None = None
    server_errors: tuple[str, ...] | None = None
    server_warnings: tuple[str, ...] = ()
    server_asked: int = 0
    server_obstacle: str = ""


class Check(t.NamedTuple):
    """The result of one check.

    :param text: a clause without a period.
    :param value: the measured value, if it is one number; sizes in bytes.
    :param limit: how many children the check allows; ``None``: it does not limit their number, or that is not known.
    :param excess: names of the children for which a place has no room; ``None``: it does not depend on a place.
    """

    id: str
    status: str
    text: str
    value: int | None = None
    limit: int | None = None
    excess: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """Return the check as a return value."""
        result = {**self._asdict(), "source": SOURCES[self.id]}
        del result["excess"]
        return result

    def refused(self, created: t.Sequence[str]) -> t.Collection[str]:
        """Return those of the children that cannot be created because of this check."""
        return created[self.limit or 0 :] if self.excess is None else self.excess


@dataclass(frozen=True)
class Judgement:
    """The result of all checks: see :func:`judge`."""

    count: int
    checks: tuple[Check, ...]

    @property
    def limiting(self) -> Check | None:
        """The check that allows the fewest children, if it allows fewer than requested."""
        limited = [check for check in self.checks if check.limit is not None and check.limit < self.count]
        return min(limited, key=lambda check: (check.limit, check.status != BLOCK), default=None)

    @property
    def room(self) -> int:
        """How many of the children can be created as far as it is known."""
        limiting = self.limiting
        return self.count if limiting is None or limiting.limit is None else max(limiting.limit, 0)

    def sentence(self, check: Check) -> str:
        """Return one check as a sentence."""
        if check.limit is None or check.limit >= self.count:
            return f"Preflight: {check.text}."
        return f"Room for {max(check.limit, 0)} of {_printable.count(self.count, 'child', 'children')}: {check.text}."

    @property
    def text(self) -> str:
        """All of it as a sentence."""
        children = _printable.count(self.count, "child", "children")
        limiting = self.limiting
        if limiting is not None:
            return self.sentence(limiting)
        unknown = ", ".join(check.id for check in self.checks if check.status == UNKNOWN)
        return f"Room for {self.count} of {children}.{f' Not known: {unknown}.' if unknown else ''}"

    def as_dict(self) -> dict[str, t.Any]:
        """Return the judgement as a return value."""
        limiting = self.limiting
        return {
            "count": self.count,
            "room": self.room,
            "limited_by": None if limiting is None else limiting.id,
            "text": self.text,
            "checks": [check.as_dict() for check in self.checks],
        }


def judge(facts: Facts) -> Judgement:
    """Return the result of every check, in the order of :data:`SOURCES`."""
    return Judgement(facts.count, tuple(_CHECKS[name](facts) for name in SOURCES))


def _fork_point(facts: Facts) -> Check:
    if facts.is_on is None:
        return Check("fork_point", UNKNOWN, f"the power state of {facts.parent} is not known")
    if not facts.is_on:
        return Check("fork_point", BLOCK, f"{facts.parent} is powered off", limit=0)
    if facts.is_quiesced:
        return Check("fork_point", OK, f"{facts.parent} is at its fork point")
    if facts.allow_running:
        return Check("fork_point", OK, f"{facts.parent} is running")
    return Check("fork_point", WARN, f"{facts.parent} is running and must be quiesced with vmfork_quiesce first")


def _tools(facts: Facts) -> Check:
    if facts.is_quiesced:
        return Check("tools", OK, f"VMware Tools brought {facts.parent} to its fork point")
    if facts.has_tools is None:
        return Check("tools", UNKNOWN, f"vCenter does not show whether VMware Tools runs in {facts.parent}")
    if facts.has_tools:
        return Check("tools", OK, f"VMware Tools runs in {facts.parent}")
    return Check(
        "tools", WARN, f"VMware Tools does not run in {facts.parent}, and only it can bring the VM to its fork point"
    )


def _devices(facts: Facts) -> Check:
    return _of_devices("devices", facts, lambda kind: kind not in _DISKS)


def _disks(facts: Facts) -> Check:
    return _of_devices("disks", facts, lambda kind: kind in _DISKS)


def _of_devices(name: str, facts: Facts, concerns: t.Callable[[str], bool]) -> Check:
    if facts.devices is None:
        return Check(name, UNKNOWN, f"vCenter does not show the devices of {facts.parent}")
    found = [device for device in facts.devices if concerns(device.kind)]
    refused = [f"{device.label} ({REFUSED[device.kind]})" for device in found if device.kind in REFUSED]
    doubtful = [f"{device.label} ({DOUBTFUL[device.kind]})" for device in found if device.kind in DOUBTFUL]
    if not found:
        return Check(
            name, OK, f"{facts.parent} has no {'disk' if name == 'disks' else 'device'} that is known to prevent forks"
        )
    if facts.engine != "instant_clone":
        listed = ", ".join([*refused, *doubtful])
        return Check(name, UNKNOWN, f"it is not known whether VMFork accepts {listed} of {facts.parent}")
    if refused:
        return Check(
            name,
            BLOCK,
            f"Instant Clone refuses {', '.join(refused)} of {facts.parent}; remove or disconnect it",
            limit=0,
        )
    if all(device.kind == "cd_unknown" for device in found):
        return Check(name, UNKNOWN, f"it is not known whether the ESXi host can access {', '.join(doubtful)}")
    return Check(name, WARN, f"Instant Clone may refuse {', '.join(doubtful)} of {facts.parent}")


def _encryption(facts: Facts) -> Check:
    if facts.is_encrypted is None:
        return Check("encryption", UNKNOWN, f"vCenter does not show whether {facts.parent} is encrypted")
    if facts.is_encrypted:
        return Check("encryption", WARN, f"{facts.parent} is encrypted, and vCenter may refuse to fork it")
    return Check("encryption", OK, f"{facts.parent} is not encrypted")


def _delta_disks(facts: Facts) -> Check:
    if facts.deltas is None:
        return Check("delta_disks", UNKNOWN, f"vCenter does not show the disk chain of {facts.parent}")
    has = f"{facts.parent} has {_printable.count(facts.deltas, 'delta disk')} in a chain"
    left = max(MOST_DELTAS - facts.deltas, 0)
    grows = facts.allow_running and not facts.is_quiesced
    limit = left if grows or not left else None
    then = facts.deltas + (facts.count if grows else 0)
    if limit is not None and limit < facts.count:
        each = ", and each child adds one" if grows else ""
        return Check("delta_disks", BLOCK, f"{has}{each}; {MOST_DELTAS} is the maximum", facts.deltas, limit)
    if then > MANY_DELTAS:
        return Check("delta_disks", WARN, f"{has}; more than {MANY_DELTAS} make it slow", facts.deltas, limit)
    return Check("delta_disks", OK, has, facts.deltas, limit)


def _snapshot(facts: Facts) -> Check:
    if not facts.needs_snapshot:
        return Check("snapshot", OK, "these children require no snapshot")
    if facts.has_snapshot is None:
        return Check("snapshot", UNKNOWN, f"vCenter does not show whether {facts.parent} has a snapshot")
    if facts.has_snapshot:
        return Check("snapshot", OK, f"{facts.parent} has a snapshot")
    return Check("snapshot", BLOCK, f"{facts.parent} has no snapshot, which persistent children require", limit=0)


def _host(facts: Facts) -> Check:
    host = facts.host
    if host is None or host.connection_state is None or host.is_in_maintenance is None:
        return Check("host", UNKNOWN, f"the state of the ESXi host of {facts.parent} is not visible to the user")
    if host.connection_state != "connected":
        return Check("host", BLOCK, f"{host.name} is not connected ({host.connection_state})", limit=0)
    if host.is_in_maintenance:
        return Check("host", BLOCK, f"{host.name} is in maintenance mode", limit=0)
    if host.is_in_quarantine:
        return Check("host", WARN, f"{host.name} is in quarantine mode")
    return Check("host", OK, f"{host.name} is connected and not in maintenance mode")


Place = t.TypeVar("Place", Pool, Datastore)


def _shared(limits: t.Sequence[tuple[Place, int]]) -> int:
    """Return how many children several places can hold, each with its own limit."""
    if len(limits) == 1:
        return limits[0][1]
    return sum(min(len(place.children), limit) for place, limit in limits)


def _excess(limits: t.Sequence[tuple[Place, int]]) -> tuple[str, ...]:
    """Return the children that exceed the limits of their places."""
    return tuple(name for place, limit in limits for name in place.children[limit:])


def _memory_reservation(facts: Facts) -> Check:
    name = "memory_reservation"
    if facts.reserved is None:
        return Check(name, UNKNOWN, f"the memory reservation of {facts.parent} is not visible to the user")
    if facts.reserved <= 0:
        return Check(name, OK, "children reserve no memory", 0)
    if facts.pools is None or any(pool.unreserved is None for pool in facts.pools):
        return Check(
            name,
            UNKNOWN,
            f"each child reserves {size(facts.reserved)}; what its resource pool can reserve is not visible",
        )
    limits = [(pool, max(pool.unreserved or 0, 0) // facts.reserved) for pool in facts.pools]
    limit = _shared(limits)
    narrow = _narrowest(limits)
    text = (
        f"{size(narrow.unreserved or 0)} of memory can be reserved in resource pool {narrow.name}, "
        f"{size(facts.reserved)} a child"
    )
    return Check(name, _status(limit, facts.count, BLOCK), text, narrow.unreserved, limit, _excess(limits))


def _narrowest(limits: t.Sequence[tuple[Place, int]]) -> Place:
    """Return the place that lacks the most, or else has the least left."""
    return min(limits, key=lambda pair: pair[1] - len(pair[0].children))[0]


def _status(limit: int | None, count: int, short: str) -> str:
    return OK if limit is None or limit >= count else short


def _memory(facts: Facts) -> Check:
    host = facts.host
    if host is None or host.memory is None or host.memory_used is None or not facts.memory:
        return Check(
            "memory", UNKNOWN, "the free memory of the ESXi host, or the memory of a child, is not visible to the user"
        )
    free = max(host.memory - host.memory_used, 0)
    limit = free // facts.memory
    text = f"{size(free)} of memory free on {host.name}, {size(facts.memory)} a child"
    return Check("memory", _status(limit, facts.count, WARN), text, free, limit)


SPARSE = ("vsan", "vVol", "NFS", "NFS41")
"""Types of datastores that do not allocate a swap file when it is created."""


def _datastore(facts: Facts) -> Check:
    stores = facts.datastores
    if stores is None or not stores:
        return Check("datastore", UNKNOWN, "the datastores of the children are not visible to the user")
    lost = [store for store in stores if store.is_usable is False]
    if lost:
        rest = sum(len(store.children) for store in stores if store.is_usable is not False)
        names = ", ".join(store.name for store in lost)
        excess = tuple(name for store in lost for name in store.children)
        return Check("datastore", BLOCK, f"the ESXi host cannot use datastore {names}", limit=rest, excess=excess)
    need = facts.swap_size
    if need is None or any(store.free is None or store.is_usable is None for store in stores):
        return Check(
            "datastore",
            UNKNOWN,
            "the free space of the datastores, or the size of a swap file, is not visible to the user",
        )
    if facts.swap_elsewhere is not False:
        return Check(
            "datastore", UNKNOWN, "swap files may be on another datastore than their VM, whose space is not checked"
        )
    limits = [(store, (store.free or 0) // need if need else len(store.children)) for store in stores]
    narrow = _narrowest(limits)
    limit = _shared(limits) if need else None
    text = f"{size(narrow.free or 0)} free on datastore {narrow.name}, {size(need)} a child for its swap file"
    short = WARN if narrow.kind in SPARSE else BLOCK
    return Check("datastore", _status(limit, facts.count, short), text, narrow.free, limit, _excess(limits))


def _datastore_growth(facts: Facts) -> Check:
    name = "datastore_growth"
    if not facts.datastores or facts.disk_size is None or any(store.free is None for store in facts.datastores):
        return Check(
            name, UNKNOWN, "the free space of the datastores, or the size of the disks, is not visible to the user"
        )
    limits = [
        (store, (store.free or 0) // facts.disk_size if facts.disk_size else len(store.children))
        for store in facts.datastores
    ]
    narrow = _narrowest(limits)
    text = (
        f"the disks of each child on datastore {narrow.name} can grow to {size(facts.disk_size)}; "
        f"{size(narrow.free or 0)} are free"
    )
    full = any(can < len(store.children) for store, can in limits)
    return Check(name, WARN if full else OK, text, narrow.free)


def _ports(facts: Facts) -> Check:
    if facts.without_port is None:
        return Check("ports", UNKNOWN, "the free ports of the networks cannot be counted")
    if not facts.without_port:
        return Check("ports", OK, "no network lacks free ports")
    limit = facts.count - len(facts.without_port)
    return Check("ports", BLOCK, facts.without_port[0].rstrip("."), limit=limit)


def _names(facts: Facts) -> Check:
    if not facts.named:
        return Check("names", UNKNOWN, "the names of the children are not given")
    there = f"{_printable.count(facts.existing, 'child', 'children')} of these names exist already"
    if facts.name_errors:
        limit = facts.count - len(facts.name_errors)
        return Check("names", BLOCK, facts.name_errors[0].rstrip("."), facts.existing, limit)
    return Check("names", OK, there if facts.existing else "the names are not in use", facts.existing)


def _addresses(facts: Facts) -> Check:
    if facts.address_errors:
        limit = max(facts.count - len(facts.address_errors), 0)
        return Check("addresses", BLOCK, facts.address_errors[0].rstrip("."), len(facts.address_errors), limit)
    if facts.address_warnings:
        return Check("addresses", WARN, facts.address_warnings[0].rstrip("."), len(facts.address_warnings))
    if not facts.addressed:
        return Check("addresses", UNKNOWN, "the addresses of the children are not given")
    return Check("addresses", OK, "no VM that the user can see reports one of the addresses")


def _address_range(facts: Facts) -> Check:
    if facts.range_size is False or facts.range_size is None:
        return Check("address_range", UNKNOWN, "ip_network is not given")
    text = f"ip_network has {_printable.count(facts.range_size, 'address', 'addresses')} for the children"
    return Check(
        "address_range", _status(facts.range_size, facts.count, BLOCK), text, facts.range_size, facts.range_size
    )


def _drs(facts: Facts) -> Check:
    if facts.cluster is None:
        return Check("drs", UNKNOWN, "the cluster of the ESXi host is not visible to the user")
    if facts.cluster is False:
        return Check("drs", OK, "the ESXi host is in no cluster")
    if facts.cluster.drs == "fullyAutomated":
        text = f"DRS may try to move {facts.parent}, and cannot move it at its fork point; set a DRS override for it"
        return Check("drs", WARN, text)
    return Check("drs", OK, f"DRS does not move {facts.parent} by itself")


def _ha(facts: Facts) -> Check:
    if facts.cluster is None:
        return Check("ha", UNKNOWN, "the cluster of the ESXi host is not visible to the user")
    if facts.cluster is False or not facts.cluster.has_ha:
        return Check("ha", OK, "vSphere HA does not protect the children")
    if facts.cluster.has_admission_control:
        return Check(
            "ha",
            UNKNOWN,
            f"only vSphere HA of cluster {facts.cluster.name} knows whether its admission control accepts the children",
        )
    return Check(
        "ha",
        WARN,
        f"vSphere HA of cluster {facts.cluster.name} may restart children, which ends what they do since the fork",
    )


def _privileges(facts: Facts) -> Check:
    if facts.lacking is None:
        return Check("privileges", UNKNOWN, "vCenter did not say which privileges the user has")
    if facts.lacking:
        limit = max(facts.count - len(facts.lacking), 0)
        return Check("privileges", BLOCK, facts.lacking[0].rstrip("."), limit=limit)
    return Check("privileges", OK, "the user has the required privileges")


def _license(facts: Facts) -> Check:
    return Check("license", UNKNOWN, "vCenter reports a missing license only when a child is created")


def _server(facts: Facts) -> Check:
    if facts.server_errors is None:
        return Check("server", UNKNOWN, facts.server_obstacle.rstrip(".") or "vCenter was not asked")
    if facts.server_errors:
        refused = len(facts.server_errors)
        limit = facts.count - refused if refused < facts.server_asked else 0
        return Check("server", BLOCK, facts.server_errors[0].rstrip("."), limit=max(limit, 0))
    if facts.server_warnings:
        return Check("server", WARN, facts.server_warnings[0].rstrip("."))
    return Check("server", OK, "vCenter's own check finds no obstacle for the first child")


_CHECKS: dict[str, t.Callable[[Facts], Check]] = {
    "fork_point": _fork_point,
    "tools": _tools,
    "devices": _devices,
    "disks": _disks,
    "encryption": _encryption,
    "delta_disks": _delta_disks,
    "snapshot": _snapshot,
    "host": _host,
    "memory_reservation": _memory_reservation,
    "memory": _memory,
    "datastore": _datastore,
    "datastore_growth": _datastore_growth,
    "ports": _ports,
    "names": _names,
    "addresses": _addresses,
    "address_range": _address_range,
    "drs": _drs,
    "ha": _ha,
    "privileges": _privileges,
    "license": _license,
    "server": _server,
}


def size(number: int) -> str:
    """Return a number of bytes for a sentence, such as ``88 GiB``; it is rounded down."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")):
        if number >= unit:
            tenths = number * 10 // unit
            return f"{tenths // 10}{f'.{tenths % 10}' if tenths % 10 and tenths < 1000 else ''} {name}"
    return _printable.count(number, "byte")
