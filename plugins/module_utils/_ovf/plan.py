# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""May this VM be power-cycled to bring its OVF environment back, and what could go wrong?

Private to the collection. Pure functions; ``repair.py`` asks the server and acts. What makes us refuse stands in one
table, ``REFUSALS``, and what must be accepted by name in another, ``RISK_ROWS``.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _devices, _errors, _inventory, _power
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis, examine, ip_pools
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import ISO, Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.words import in_words

PATHS = (
    *examine.PATHS,
    *examine.DETAILS,
    "config.flags",
    "config.managedBy",
    "datastore",
    "guest.hostName",
    "guest.net",
    "layoutEx",
    "name",
    "runtime.quiescedForkParent",
)
"""What must be known of a VM."""

PATHS_6_7 = ("runtime.instantCloneFrozen",)
"""The same, on servers that know it: from vSphere 6.7 on."""


@dataclass(frozen=True)
class Case:
    """A VM that may have to be power-cycled.

    :param one: as it was examined; that may be minutes ago.
    :param values: its properties (:data:`PATHS`) now.
    :param is_fork: whether they say that it was forked.
    :param shutdown: ``guest`` or ``hard``.
    :param vcenter: the addresses and names of the vCenter itself.
    :param pools: the IP pools of the VM's datacenter; ``None`` when they could not be read.
    """

    one: examine.Examined
    values: t.Mapping[str, t.Any]
    is_fork: bool = False
    shutdown: str = "guest"
    vcenter: t.Collection[str] = ()
    pools: t.Sequence[t.Any] | None = None

    @property
    def name(self) -> str:
        """Its name now; as it was examined where that is not visible."""
        return _inventory.unescape(self.values.get("name") or self.one.found.name)

    @property
    def is_on(self) -> bool:
        """Return whether it runs now."""
        return _power.is_on(self.values)

    @property
    def power_state(self) -> str:
        """``runtime.powerState`` now."""
        return str(self.values.get("runtime.powerState") or "not visible")


class Risk(t.NamedTuple):
    """Something that makes us stop unless it is accepted."""

    name: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What will be done, and what stands against it.

    :param steps: in order; empty when there is nothing to do.
    :param risks: those of :data:`RISKS` that are there.
    :param notes: what else to think of.
    """

    steps: tuple[str, ...] = ()
    risks: tuple[Risk, ...] = ()
    notes: tuple[str, ...] = ()

    def facts(self, accepted: t.Collection[str]) -> dict[str, t.Any]:
        """Return the ``plan`` return value."""
        return {
            "steps": list(self.steps),
            "risks": [
                {"name": risk.name, "message": risk.message, "accepted": risk.name in accepted} for risk in self.risks
            ],
            "notes": list(self.notes),
        }


def make(case: Case) -> Plan:
    """Return the plan: the steps, and their risks."""
    return Plan(steps(case), risks(case), tuple(_notes(case)))


def steps(case: Case) -> tuple[str, ...]:
    """Return the steps as text."""
    ends: tuple[str, ...] = ()
    if case.is_on:
        ends = ("power off the VM hard" if case.shutdown == "hard" else "shut down the guest",)
    return (*ends, "power on through vCenter", "wait for VMware Tools", "judge again")


# --- what makes us refuse -------------------------------------------------------------------------------------------


def _is_fork_parent(case: Case) -> bool:
    info = case.values.get("config.forkConfigInfo")
    return case.is_on and bool(
        getattr(info, "parentEnabled", None)
        or getattr(info, "parentForkGroupId", None)
        or case.values.get("runtime.quiescedForkParent")
        or case.values.get("runtime.instantCloneFrozen")
    )


def _is_vcenter_itself(case: Case) -> bool:
    mine = addresses_in_use(case.values) | {str(case.values.get("guest.hostName") or "").lower()} - {""}
    if mine & {each.lower() for each in case.vcenter}:
        return True
    # An appliance that tells neither address nor name may be this one.
    is_appliance = any("vcenter server" in product.name.lower() for product in case.one.evidence.configured.products)
    return is_appliance and not mine


def _would_not_help(case: Case) -> bool:
    verdict = case.one.diagnosis
    if verdict.status == "not_running" and case.one.evidence.power_state == "poweredOff":
        return False
    return verdict.remedy != diagnosis.POWER_CYCLE


def _lacks_drive(case: Case) -> bool:
    evidence = case.one.evidence
    return evidence.configured.delivers_by == {ISO} and not evidence.iso.cdrom_present


def _cannot_shut_down(case: Case) -> bool:
    return (
        case.is_on and case.shutdown == "guest" and case.values.get("guest.toolsRunningStatus") != "guestToolsRunning"
    )


class Refusal(t.NamedTuple):
    """A reason to leave a VM as it is, and how the sentence that begins so goes on."""

    applies: t.Callable[[Case], bool]
    why: str


REFUSALS = (
    Refusal(lambda c: bool(c.values.get("config.template")),
            ": it is a template, and never runs."),
    Refusal(lambda c: c.is_fork or c.one.evidence.forked_from is not None,
            ": it is a fork, and powering it off would destroy its forked memory state."),
    Refusal(_is_fork_parent,
            ": it is a fork parent, and its children may end with it. If they are no longer needed, turn it back into "
            "an ordinary VM with vmfork_parent (state=disabled, power_off=true)."),
    Refusal(lambda c: c.values.get("config.ftInfo") is not None,
            ": it is protected by Fault Tolerance. Turn that off, or power-cycle it by hand."),
    Refusal(_is_vcenter_itself,
            ": it runs this vCenter, which cannot power itself on. Use the management page of the vCenter appliance."),
    Refusal(_would_not_help,
            ", since a power cycle would not help ({status}): {message}"),
    Refusal(lambda c: c.name != c.one.found.name,
            ": it was renamed to {name} after it was examined. Run again with the current name of the intended VM."),
    Refusal(lambda c: c.power_state != c.one.evidence.power_state,
            ": its power state changed from {was} to {now} after it was examined, so somebody else is working on it. "
            "Run again when they are done."),
    Refusal(_lacks_drive,
            ": its OVF environment is delivered by CD-ROM, and it has no CD-ROM drive. Add a drive, then run again."),
    Refusal(_cannot_shut_down,
            ": VMware Tools is not running, so vCenter cannot shut down its guest. Shut it down from inside the "
            "guest, or use shutdown=hard."),
)  # fmt: skip
"""The first that applies is reported."""


def refusal(case: Case) -> str | None:
    """Return why this VM must not be changed, as sentences; ``None`` if it may."""
    for applies, why in REFUSALS:
        if applies(case):
            words = {
                "status": case.one.diagnosis.status,
                "message": case.one.diagnosis.message,
                "was": case.one.evidence.power_state,
                "now": case.power_state,
                "name": case.name,
            }
            return f"VM {case.one.found.name} is left unchanged{why.format(**words)}"
    return None


# --- what must be accepted ------------------------------------------------------------------------------------------


def _guest_not_seen(case: Case) -> str | None:
    verdict, guest = case.one.diagnosis, case.one.evidence.guest
    if verdict.confidence == diagnosis.HIGH or verdict.status == "contradictory":
        return None
    how = f"The verdict {verdict.status} has {verdict.confidence} confidence"
    if guest.state == "not_asked":
        return f"{how}, because its guest was not probed. Set guest_probe."
    return f"{how}, although its guest was probed. guest_probe=full gives the most certain verdict."


def _contradictory(case: Case) -> str | None:
    if case.one.diagnosis.status != "contradictory":
        return None
    return (
        "vCenter powered it on, but its guest has no OVF environment. Another power-on may not help. Check VMware "
        "Tools and the guest_rpc settings first."
    )


def _foreign_id(case: Case) -> str | None:
    evidence = case.one.evidence
    documents = (evidence.guest.document, evidence.extracted.document)
    ids = {each.vcenter_id for each in documents if each is not None and each.vcenter_id} - {evidence.moid}
    if not ids and evidence.guest.bears_id != "other":
        return None
    return (
        f"Its OVF environment contains another VM's ID{' (' + ', '.join(sorted(ids)) + ')' if ids else ''}. It may be "
        "an Instant Clone or fork created by another tool. A power cycle would destroy its memory state."
    )


def _may_be_fork(case: Case) -> str | None:
    if diagnosis.came_up_by_power_on(case.one.evidence) or _foreign_id(case) is not None:
        return None
    layout = case.values.get("layoutEx")
    # Each disk of a fork or of an Instant Clone is a delta disk over one of its parent (Broadcom KB 67186).
    if layout is not None and not any(len(disk.chain or []) > 1 for disk in layout.disk or []):
        return None
    disks = "are not visible" if layout is None else "are deltas"
    return (
        f"Nothing proves that it was powered on, and its disks {disks}. It may be an Instant Clone or fork created by "
        "another tool. A power cycle would destroy its memory state."
    )


def _data_loss(case: Case) -> str | None:
    disks = [
        each.deviceInfo.label if each.deviceInfo else f"disk {each.key}"
        for each in _devices.disks(case.values)
        if str(getattr(each.backing, "diskMode", None)) in ("independent_nonpersistent", "nonpersistent")
    ]
    if disks:
        return f"Powering it off discards everything written since its last power-on to {', '.join(disks)}."
    if str(getattr(case.values.get("config.flags"), "snapshotPowerOffBehavior", None)) == "revert":
        return "Powering it off reverts it to its snapshot and discards everything written since."
    return None


def _address_change(case: Case) -> str | None:
    using, new = addresses_in_use(case.values), _new_addresses(case)
    if not (using and new):
        return None
    secret = {one.key for one in case.one.evidence.configured.properties if one.secret}
    listed = ", ".join(f"{key}={MASK if key in secret else address}" for key, address in sorted(new.items()))
    return f"The VM uses {', '.join(sorted(using))} now, and would receive {listed}."


def _required_empty(case: Case) -> str | None:
    lacking = case.one.evidence.configured.required_empty
    if not lacking:
        return None
    named = ", ".join(f"{one.key} ({one.type})" for one in lacking)
    return f"vCenter refuses to power on the VM while required properties have no value: {named}."


def _no_ip_pool(case: Case) -> str | None:
    pools = case.pools
    if pools is None:
        return None
    lacking = ip_pools.lacking(case.one.evidence.configured, pools)
    if not lacking:
        return None
    return f"vCenter may refuse to power on the VM, because it cannot compute {', '.join(lacking)}."


RISK_ROWS: tuple[tuple[str, bool, t.Callable[[Case], str | None]], ...] = (
    ("guest_not_seen", True, _guest_not_seen),
    ("contradictory", True, _contradictory),
    ("foreign_id", True, _foreign_id),
    ("may_be_fork", True, _may_be_fork),
    ("data_loss", True, _data_loss),
    ("address_change", False, _address_change),
    ("no_ip_pool", False, _no_ip_pool),
    ("required_empty", False, _required_empty),
)
"""Name; whether it is one of a running VM only, since it comes with the power-off; what tells it."""

RISKS = tuple(name for name, _running, _tell in RISK_ROWS)
"""Risks that can be accepted by name."""


def risks(case: Case) -> tuple[Risk, ...]:
    """Return every risk of the power cycle."""
    told = ((name, tell(case)) for name, running, tell in RISK_ROWS if case.is_on or not running)
    return tuple(Risk(name, message) for name, message in told if message is not None)


def _notes(case: Case) -> t.Iterator[str]:
    yield from case.one.diagnosis.remedy_risks
    if _new_addresses(case) and not addresses_in_use(case.values):
        yield "The guest does not report its addresses, so they were not compared with the addresses to be delivered."
    if case.pools is None and (computed := ip_pools.needed_by(case.one.evidence.configured)):
        yield f"These properties are computed at power-on, and the IP pools could not be read: {', '.join(computed)}."
    if around := case.one.evidence.configured.parent_vapps:
        yield f"It is in the vApp {around[0]}. Only this VM is power-cycled, regardless of the start order of the vApp."
    if manager := case.values.get("config.managedBy"):
        yield f"It is managed by the extension {manager.extensionKey}, which may undo or repeat the power cycle."


# --- addresses ------------------------------------------------------------------------------------------------------


def addresses_in_use(values: t.Mapping[str, t.Any]) -> set[str]:
    """Return the addresses that the guest has, without those that every network has."""
    result = set()
    for card in values.get("guest.net") or []:
        for text in card.ipAddress or []:
            address = _address(text)
            if address is not None and not address.is_link_local and not address.is_loopback:
                result.add(str(address))
    return result


_OWN_ADDRESS = re.compile(r"\b(?:ip(?:v?[46])?(?:addr(?:ess)?)?|addr(?:ess)?)\d*\b", re.IGNORECASE)
_OTHERS_ADDRESS = re.compile(
    r"dns|gateway|\bgw|gw\b|ntp|mask|subnet|broadcast|proxy|server|route|peer|broker|syslog", re.IGNORECASE
)


def addresses_coming(properties: t.Iterable[Property]) -> dict[str, str]:
    """Return the properties that pass an address to the guest: key → address."""
    result = {}
    for one in properties:
        address = _address(one.effective or "")
        # The class and the instance in a key name the product, which may well be a server.
        name = in_words(one.id)
        named = _OWN_ADDRESS.search(name) or one.type.startswith("ip")
        if address is not None and not address.is_unspecified and named and not _OTHERS_ADDRESS.search(name):
            result[one.key] = str(address)
    return result


def _new_addresses(case: Case) -> dict[str, str]:
    using = addresses_in_use(case.values)
    coming = addresses_coming(case.one.evidence.configured.properties)
    return {key: address for key, address in coming.items() if address not in using}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text is, with or without the length of a prefix; that of a whole network is none."""
    try:
        found = ipaddress.ip_interface(text.strip())
    except ValueError:
        return None
    is_network = found.network.num_addresses > 2 and found.ip == found.network.network_address
    return None if is_network else found.ip


# --- what the server says -------------------------------------------------------------------------------------------


def check_errors(results: t.Sequence[t.Any], is_on: bool) -> list[t.Any]:
    """Return what CheckPowerOn_Task holds against a power-on.

    :param is_on: whether the VM ran when that was asked, which is no obstacle: it will be off by then.
    """
    # Many a real obstacle derives from InvalidState: a vService's refusal, a missing key, a question.
    running = ("InvalidState", "InvalidPowerState") if is_on else ()
    return [
        error for result in results or [] for error in result.error or [] if _errors.fault_name(error) not in running
    ]


def maintenance(host: t.Mapping[str, t.Any], tasks: t.Iterable[t.Mapping[str, t.Any]]) -> str | None:
    """Return why an ESXi host starts no VM: a clause.

    :param tasks: ``info.descriptionId`` and ``info.state`` of its recent tasks.
    """
    if host.get("runtime.inMaintenanceMode"):
        return "its ESXi host is in maintenance mode"
    for task in tasks:
        enters = task.get("info.descriptionId") == "HostSystem.enterMaintenanceMode"
        if enters and str(task.get("info.state")) in ("queued", "running"):
            return "its ESXi host is entering maintenance mode"
    return None
