# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide whether a VM may be power-cycled to bring its OVF environment back, and what could go wrong.

Private to the collection. Pure functions; ``repair.py`` queries the server and acts. One table, ``REFUSALS``, has the
reasons to refuse, and another, ``RISK_ROWS``, the risks that the user must accept by name.
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
"""The properties of a VM that are needed."""

PATHS_6_7 = ("runtime.instantCloneFrozen",)
"""More properties, which exist since vSphere 6.7."""


@dataclass(frozen=True)
class Case:
    """A VM that may have to be power-cycled.

    :param examined: the VM as it was examined, perhaps minutes ago.
    :param values: its properties (:data:`PATHS`) now.
    :param is_fork: whether the properties show that it was forked.
    :param shutdown: ``guest`` or ``hard``.
    :param vcenter: the addresses and names of the vCenter itself.
    :param pools: the IP pools of the VM's datacenter; ``None`` when they could not be read.
    """

    examined: examine.Examined
    values: t.Mapping[str, t.Any]
    is_fork: bool = False
    shutdown: str = "guest"
    vcenter: t.Collection[str] = ()
    pools: t.Sequence[t.Any] | None = None

    @property
    def name(self) -> str:
        """The VM's name now, or the examined one if the name is not visible."""
        return _inventory.unescape(self.values.get("name") or self.examined.found.name)

    @property
    def is_on(self) -> bool:
        """Return whether the VM is powered on now."""
        return _power.is_on(self.values)

    @property
    def power_state(self) -> str:
        """``runtime.powerState`` now."""
        return str(self.values.get("runtime.powerState") or "not visible")


class Risk(t.NamedTuple):
    """A reason to stop unless the user accepts it."""

    name: str
    message: str


@dataclass(frozen=True)
class Plan:
    """The steps of a power cycle, and their risks.

    :param steps: in order; empty when there is nothing to do.
    :param risks: the risks of this VM, named as in :data:`RISKS`.
    :param notes: further advice.
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
    if mine & {name.lower() for name in case.vcenter}:
        return True
    # An appliance that reports neither address nor name may be this one.
    is_appliance = any(
        "vcenter server" in product.name.lower() for product in case.examined.evidence.configured.products
    )
    return is_appliance and not mine


def _would_not_help(case: Case) -> bool:
    verdict = case.examined.diagnosis
    if verdict.status == "not_running" and case.examined.evidence.power_state == "poweredOff":
        return False
    return verdict.remedy != diagnosis.POWER_CYCLE


def _lacks_drive(case: Case) -> bool:
    evidence = case.examined.evidence
    return evidence.configured.delivers_by == {ISO} and not evidence.iso.cdrom_present


def _cannot_shut_down(case: Case) -> bool:
    return (
        case.is_on and case.shutdown == "guest" and case.values.get("guest.toolsRunningStatus") != "guestToolsRunning"
    )


class Refusal(t.NamedTuple):
    """A reason to leave a VM unchanged: the condition, and the end of the sentence."""

    applies: t.Callable[[Case], bool]
    why: str


REFUSALS = (
    Refusal(lambda c: bool(c.values.get("config.template")),
            ": it is a template, and never runs."),
    Refusal(lambda c: c.is_fork or c.examined.evidence.forked_from is not None,
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
    Refusal(lambda c: c.name != c.examined.found.name,
            ": it was renamed to {name} after it was examined. Run again with the current name of the intended VM."),
    Refusal(lambda c: c.power_state != c.examined.evidence.power_state,
            ": its power state changed from {was} to {now} after it was examined, so somebody else is working on it. "
            "Run again when they are done."),
    Refusal(_lacks_drive,
            ": its OVF environment is delivered by CD-ROM, and it has no CD-ROM drive. Add a drive, then run again."),
    Refusal(_cannot_shut_down,
            ": VMware Tools is not running, so vCenter cannot shut down its guest. Shut it down from inside the "
            "guest, or use shutdown=hard."),
)  # fmt: skip
"""The first refusal that applies is reported."""


def refusal(case: Case) -> str | None:
    """Return why this VM must not be changed, as sentences; ``None`` if it may."""
    for applies, why in REFUSALS:
        if applies(case):
            words = {
                "status": case.examined.diagnosis.status,
                "message": case.examined.diagnosis.message,
                "was": case.examined.evidence.power_state,
                "now": case.power_state,
                "name": case.name,
            }
            return f"VM {case.examined.found.name} is left unchanged{why.format(**words)}"
    return None


# --- what must be accepted ------------------------------------------------------------------------------------------


def _guest_not_seen(case: Case) -> str | None:
    verdict, guest = case.examined.diagnosis, case.examined.evidence.guest
    if verdict.confidence == diagnosis.HIGH or verdict.status == "contradictory":
        return None
    how = f"The verdict {verdict.status} has {verdict.confidence} confidence"
    if guest.state == "not_asked":
        return f"{how}, because its guest was not probed. Set guest_probe."
    return f"{how}, although its guest was probed. guest_probe=full gives the most certain verdict."


def _contradictory(case: Case) -> str | None:
    if case.examined.diagnosis.status != "contradictory":
        return None
    return (
        "vCenter powered it on, but its guest has no OVF environment. Another power-on may not help. Check VMware "
        "Tools and the guest_rpc settings first."
    )


def _foreign_id(case: Case) -> str | None:
    evidence = case.examined.evidence
    documents = (evidence.guest.document, evidence.extracted.document)
    ids = {document.vcenter_id for document in documents if document is not None and document.vcenter_id} - {
        evidence.moid
    }
    if not ids and evidence.guest.bears_id != "other":
        return None
    return (
        f"Its OVF environment contains another VM's ID{' (' + ', '.join(sorted(ids)) + ')' if ids else ''}. It may be "
        "an Instant Clone or fork created by another tool. A power cycle would destroy its memory state."
    )


def _may_be_fork(case: Case) -> str | None:
    if diagnosis.came_up_by_power_on(case.examined.evidence) or _foreign_id(case) is not None:
        return None
    layout = case.values.get("layoutEx")
    # Every disk of a fork or an Instant Clone is a delta disk on top of its parent's (Broadcom KB 67186).
    if layout is not None and not any(len(disk.chain or []) > 1 for disk in layout.disk or []):
        return None
    disks = "are not visible" if layout is None else "are deltas"
    return (
        f"Nothing proves that it was powered on, and its disks {disks}. It may be an Instant Clone or fork created by "
        "another tool. A power cycle would destroy its memory state."
    )


def _data_loss(case: Case) -> str | None:
    disks = [
        disk.deviceInfo.label if disk.deviceInfo else f"disk {disk.key}"
        for disk in _devices.disks(case.values)
        if str(getattr(disk.backing, "diskMode", None)) in ("independent_nonpersistent", "nonpersistent")
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
    secret = {prop.key for prop in case.examined.evidence.configured.properties if prop.secret}
    listed = ", ".join(f"{key}={MASK if key in secret else address}" for key, address in sorted(new.items()))
    return f"The VM uses {', '.join(sorted(using))} now, and would receive {listed}."


def _required_empty(case: Case) -> str | None:
    lacking = case.examined.evidence.configured.required_empty
    if not lacking:
        return None
    named = ", ".join(f"{prop.key} ({prop.type})" for prop in lacking)
    return f"vCenter refuses to power on the VM while required properties have no value: {named}."


def _no_ip_pool(case: Case) -> str | None:
    pools = case.pools
    if pools is None:
        return None
    lacking = ip_pools.lacking(case.examined.evidence.configured, pools)
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
"""Name of the risk, whether only a running VM has it, and the function that returns its message."""

RISKS = tuple(name for name, _running, _find in RISK_ROWS)
"""Risks that can be accepted by name."""


def risks(case: Case) -> tuple[Risk, ...]:
    """Return every risk of the power cycle."""
    found = ((name, find(case)) for name, running, find in RISK_ROWS if case.is_on or not running)
    return tuple(Risk(name, message) for name, message in found if message is not None)


def _notes(case: Case) -> t.Iterator[str]:
    yield from case.examined.diagnosis.remedy_risks
    if _new_addresses(case) and not addresses_in_use(case.values):
        yield "The guest does not report its addresses, so they were not compared with the addresses to be delivered."
    if case.pools is None and (computed := ip_pools.needed_by(case.examined.evidence.configured)):
        yield f"These properties are computed at power-on, and the IP pools could not be read: {', '.join(computed)}."
    if around := case.examined.evidence.configured.parent_vapps:
        yield f"It is in the vApp {around[0]}. Only this VM is power-cycled, regardless of the start order of the vApp."
    if manager := case.values.get("config.managedBy"):
        yield f"It is managed by the extension {manager.extensionKey}, which may undo or repeat the power cycle."


# --- addresses ------------------------------------------------------------------------------------------------------


def addresses_in_use(values: t.Mapping[str, t.Any]) -> set[str]:
    """Return the addresses of the guest, without loopback and link-local addresses."""
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
    for prop in properties:
        address = _address(prop.effective or "")
        # The class and the instance in a key name the product, which may be a server.
        name = in_words(prop.id)
        named = _OWN_ADDRESS.search(name) or prop.type.startswith("ip")
        if address is not None and not address.is_unspecified and named and not _OTHERS_ADDRESS.search(name):
            result[prop.key] = str(address)
    return result


def _new_addresses(case: Case) -> dict[str, str]:
    using = addresses_in_use(case.values)
    coming = addresses_coming(case.examined.evidence.configured.properties)
    return {key: address for key, address in coming.items() if address not in using}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a text as an address, with or without a prefix length; ``None`` for others and whole networks."""
    try:
        found = ipaddress.ip_interface(text.strip())
    except ValueError:
        return None
    is_network = found.network.num_addresses > 2 and found.ip == found.network.network_address
    return None if is_network else found.ip


# --- what the server says -------------------------------------------------------------------------------------------


def check_errors(results: t.Sequence[t.Any], is_on: bool) -> list[t.Any]:
    """Return the errors of CheckPowerOn_Task that prevent a power-on.

    :param is_on: whether the VM was running during the check. This is no obstacle, because it will be off by then.
    """
    # Many real obstacles derive from InvalidState: a vService's refusal, a missing key, a question.
    running = ("InvalidState", "InvalidPowerState") if is_on else ()
    return [
        error for result in results or [] for error in result.error or [] if _errors.fault_name(error) not in running
    ]


def maintenance(host: t.Mapping[str, t.Any], tasks: t.Iterable[t.Mapping[str, t.Any]]) -> str | None:
    """Return why an ESXi host cannot start VMs, as a clause; ``None``: it can.

    :param tasks: ``info.descriptionId`` and ``info.state`` of its recent tasks.
    """
    if host.get("runtime.inMaintenanceMode"):
        return "its ESXi host is in maintenance mode"
    for task in tasks:
        enters = task.get("info.descriptionId") == "HostSystem.enterMaintenanceMode"
        if enters and str(task.get("info.state")) in ("queued", "running"):
            return "its ESXi host is entering maintenance mode"
    return None
