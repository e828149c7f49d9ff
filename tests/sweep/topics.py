# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's rules, and the tests of the sweep that run with each of their other values."""

from __future__ import annotations

import re
from functools import cache
from itertools import zip_longest
from typing import Any

from functional.vcenter import VCenter
from functional.ways import INSTANT_CLONE, MOB, SOAP, Way
from harness.simulator import Simulator

OF_OVF = re.compile(
    r"ovfenv|extract_|required_property|computed_|iso_|guest_rpc|password_edited|check_power_on"
    r"|event|host_client_user|multi_power_on"
)
OF_WRITING = re.compile(r"vapp_(values|made|fixed|edit|change)_|password_edited")
OF_CLONES_WITH_OVF = re.compile(r"child_vapp_config|guestinfo_inherited|instant_clone_(event|fork_config|config_keys)")
OF_FORKS_WITH_OVF = re.compile(r"child_vapp_config|guestinfo_inherited|child_fork_group_id|extra_config_inherited")

OF_INSTANT_CLONE = re.compile(r"instant_clone|chain_limit|no_free_port|opaque_network")
OF_THE_BROWSER = re.compile(r"mob_")
OF_BOTH_ENGINES = re.compile(
    r"frozen_|unready_|_inherited|config_params_|network_after_fork|guestinfo_|mac_change_|_mac_|info_set_|child_disk_"
    r"|transfer_url|child_of_vapp_member"
)
OF_ALL = re.compile(r"mac_conflict|reserved_macs|names_differing_in_case")

OF_REFUSALS = ("unknown_method_fault", "mob", "mob_nonce")
"""Rules about servers on which the main job cannot succeed by the way to fork that they have to do with."""
OF_OTHER_CLIENTS = "newer_soap_version"
"""A rule about what govc needs, which takes part in the main job."""


@cache
def rules() -> list[dict[str, Any]]:
    """Return the simulator's table of rules."""
    with Simulator("-vm", "1", "-host", "1", "-guest", "none", "-exit-after", "10m") as simulator:
        found: list[dict[str, Any]] = VCenter(simulator).control("GET", "rules")
    return found


def other_values(rule: dict[str, Any]) -> list[str]:
    """Return the values of a rule that are not its default."""
    return [value for value in rule["choices"] if value != rule["default"]]


def turned(names: re.Pattern[str]) -> list[tuple[str, str]]:
    """Return every rule with such a name that can be switched, with each of its other values."""
    found = [(rule["name"], value) for rule in rules() if names.search(rule["name"]) for value in other_values(rule)]
    assert found
    return found


def refusals() -> list[tuple[str, str]]:
    """Return the switches of :data:`OF_REFUSALS`, in each of the values with which methods are not available."""
    return [
        (rule["name"], value)
        for rule in rules()
        if rule["name"] in OF_REFUSALS
        for value in (rule["choices"] if rule["name"] == "unknown_method_fault" else other_values(rule))
    ]


def ways(rule: str) -> tuple[Way, ...]:
    """Return the ways to fork a VM on which a rule makes a difference; none for what has to do with OVF alone."""
    if rule in (*OF_REFUSALS, OF_OTHER_CLIENTS):
        return ()
    if OF_INSTANT_CLONE.search(rule):
        return () if OF_OVF.search(rule) and not OF_CLONES_WITH_OVF.search(rule) else (INSTANT_CLONE,)
    if OF_THE_BROWSER.match(rule):
        return (MOB,)
    if OF_BOTH_ENGINES.search(rule):
        return (SOAP, INSTANT_CLONE)
    if OF_ALL.search(rule):
        return (SOAP, MOB, INSTANT_CLONE)
    return () if OF_OVF.search(rule) or OF_WRITING.search(rule) else (SOAP,)


def main_jobs() -> list[tuple[Way, dict[str, str]]]:
    """Return what the main job runs with: a way to fork, and rules that differ from their defaults.

    An assumption is reversed alone. Switches whose values have a source each, as of several versions of vSphere, are
    turned together.
    """
    jobs: list[tuple[Way, dict[str, str]]] = []
    sourced: dict[str, list[list[tuple[str, str]]]] = {}
    for rule in rules():
        name = rule["name"]
        for way in ways(name):
            if "assumption" in rule["source"]:
                jobs += [(way, {name: value}) for value in other_values(rule)]
            else:
                sourced.setdefault(way.name, []).append([(name, value) for value in other_values(rule)])
    for way in (SOAP, MOB, INSTANT_CLONE):
        together = zip_longest(*sourced.get(way.name, []))
        jobs += [(way, dict(filter(None, settings))) for settings in together]
    return [(way, settings) for way, settings in jobs if settings]
