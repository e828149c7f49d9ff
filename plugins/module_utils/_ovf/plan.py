# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""May this VM be power-cycled to bring its OVF environment back, and what could go wrong?

Private to the collection. Pure functions; ``cure.py`` asks the server and acts.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _power
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.examine import Examined
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATHS = ("config.ftInfo", "datastore", "guest.hostName", "guest.net", "network")
"""What must be known of a VM beside what ``examine.py`` reads."""

ADDRESS_CHANGE = "address_change"
NO_IP_POOL = "no_ip_pool"
GUEST_NOT_SEEN = "guest_not_seen"
RISKS = (ADDRESS_CHANGE, NO_IP_POOL, GUEST_NOT_SEEN)
"""Risks that can be accepted by name."""


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
        """The ``plan`` return value."""
        return {
            "steps": list(self.steps),
            "risks": [
                {"name": risk.name, "message": risk.message, "accepted": risk.name in accepted} for risk in self.risks
            ],
            "notes": list(self.notes),
        }


def refusal(one: Examined, values: t.Mapping[str, t.Any], server_addresses: t.Collection[str]) -> str | None:
    """Why this VM must not be touched, as whole sentences; ``None`` when it may.

    :param values: its properties (:data:`PATHS`).
    :param server_addresses: the addresses and names under which the vCenter itself is reached.
    """
    name, verdict = one.found.name, one.diagnosis
    what = f"VM {name} is left as it is"
    if one.evidence.forked_from is not None:
        return f"{what}: it is a fork, and powering it off would throw away the memory it was forked for."
    if values.get("config.ftInfo") is not None:
        return f"{what}: it is protected by Fault Tolerance. Turn that off, or power-cycle it by hand."
    if _is_vcenter_itself(one, values, server_addresses):
        return f"{what}: it is this vCenter, which cannot power itself on. Ask the appliance's own management page."
    if verdict.status == "not_running" and one.evidence.power_state == "poweredOff":
        return None
    if verdict.remedy != "power_cycle_via_vcenter":
        return f"{what}, since a power cycle would not help ({verdict.status}): {verdict.message}"
    return None


def steps(one: Examined, shutdown: str) -> tuple[str, ...]:
    """What will be done, in words."""
    ends: tuple[str, ...] = ()
    if _power.is_on(one.found.values):
        ends = ("power off hard" if shutdown == "hard" else "shut down the guest",)
    return (*ends, "power on through vCenter", "wait for VMware Tools", "judge again")


def risks(
    one: Examined, values: t.Mapping[str, t.Any], pools: t.Sequence[t.Any] | None
) -> tuple[tuple[Risk, ...], tuple[str, ...]]:
    """The risks, and further notes.

    :param pools: the IP pools of the VM's datacenter; ``None`` when they could not be read.
    """
    found: list[Risk] = []
    notes = list(one.diagnosis.remedy_risks)
    if one.diagnosis.status == "lost_suspected":
        found.append(
            Risk(
                GUEST_NOT_SEEN,
                f"That its OVF environment is lost is a suspicion ({one.diagnosis.cause}): nobody has looked into its "
                "guest, which guest_probe would do.",
            )
        )
    using = addresses_in_use(values)
    coming = addresses_coming(one.evidence.configured.properties)
    new = {key: address for key, address in coming.items() if address not in using}
    if new and using:
        listed = ", ".join(f"{key}={address}" for key, address in sorted(new.items()))
        found.append(
            Risk(
                ADDRESS_CHANGE,
                f"The VM uses {', '.join(sorted(using))} now, and would be told {listed}.",
            )
        )
    elif new:
        notes.append("The guest tells none of its addresses, so they were not compared with those to be delivered.")
    policy = (one.evidence.configured.ip_assignment or {}).get("policy")
    computed = [each.key for each in one.evidence.configured.properties if _needs_pool(each, policy)]
    if computed and pools is None:
        notes.append(f"Computed at power-on, and the IP pools could not be read: {', '.join(computed)}.")
    elif computed:
        networks = {str(network._GetMoId()) for network in values.get("network") or []}
        served = {
            association.network._GetMoId() for pool in pools or [] for association in pool.networkAssociation or []
        }
        if not networks & served:
            found.append(
                Risk(
                    NO_IP_POOL,
                    f"Computed at power-on, and no IP pool serves the VM's networks: {', '.join(computed)}. "
                    "vCenter may refuse to power the VM on.",
                )
            )
    return tuple(found), tuple(notes)


def addresses_in_use(values: t.Mapping[str, t.Any]) -> set[str]:
    """The addresses that the guest has, without those that every network has."""
    result = set()
    for card in values.get("guest.net") or []:
        for text in card.ipAddress or []:
            address = _address(text)
            if address is not None and not address.is_link_local and not address.is_loopback:
                result.add(str(address))
    return result


_OWN_ADDRESS = re.compile(r"(?:^|[._-])(?:ip\d*|ipv?[46]|(?:ip_?)?addr(?:ess)?\d*)(?:$|[._-])", re.IGNORECASE)
_OTHERS_ADDRESS = re.compile(r"dns|gateway|\bgw|ntp|mask|proxy|server|route|peer|broker|syslog", re.IGNORECASE)


def addresses_coming(properties: t.Iterable[Property]) -> dict[str, str]:
    """Properties by which a guest is told an address of its own: key → address."""
    result = {}
    for one in properties:
        address = _address(one.effective or "")
        # Of the key, class and instance name the product, which may well be a server.
        named = _OWN_ADDRESS.search(one.id) or one.type.startswith("ip")
        if address is not None and named and not _OTHERS_ADDRESS.search(one.id):
            result[one.key] = str(address)
    return result


def _needs_pool(one: Property, policy: object) -> bool:
    # What an expression can ask of an IP pool: vSphere API reference, VAppPropertyInfo.type and defaultValue; which
    # policies take addresses out of one: IPAssignmentInfo.ipAllocationPolicy.
    if one.type == "expression":
        return re.search(r"\$\{(?!vimIp:)[A-Za-z]+:", one.default or "") is not None
    if not one.type.startswith("ip:") or policy == "dhcpPolicy":
        return False
    return policy in ("transientPolicy", "fixedAllocatedPolicy") or not one.effective


def _is_vcenter_itself(one: Examined, values: t.Mapping[str, t.Any], server_addresses: t.Collection[str]) -> bool:
    mine = addresses_in_use(values) | {str(values.get("guest.hostName") or "").lower()} - {""}
    if mine & {each.lower() for each in server_addresses}:
        return True
    # An appliance that tells neither address nor name may be this one.
    is_appliance = any("vcenter server" in product.name.lower() for product in one.evidence.configured.products)
    return is_appliance and not mine


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None


def check_errors(results: t.Sequence[t.Any]) -> list[t.Any]:
    """What CheckPowerOn_Task holds against a power-on, apart from the VM's running now."""
    return [
        error
        for result in results or []
        for error in result.error or []
        if not isinstance(error, vim.fault.InvalidState)  # InvalidPowerState is one
    ]
