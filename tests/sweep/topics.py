# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's rules, and the tests of the sweep that run with each of their other values."""

from __future__ import annotations

import re
from functools import cache
from itertools import zip_longest
from typing import Any

from functional.engines import INSTANT_CLONE, MOB, SOAP, Engine
from functional.vcenter import VCenter
from harness.simulator import Simulator

OVF_RULES = re.compile(
    r"ovfenv|extract_|required_property|computed_|iso_|guest_rpc|password_edited|check_power_on"
    r"|event|host_client_user|multi_power_on"
)
WRITE_RULES = re.compile(r"vapp_(values|made|fixed|edit|change)_|password_edited")
CLONE_AND_OVF_RULES = re.compile(r"child_vapp_config|guestinfo_inherited|instant_clone_(event|fork_config|config_keys)")
FORK_AND_OVF_RULES = re.compile(r"child_vapp_config|guestinfo_inherited|child_fork_group_id|extra_config_inherited")

INSTANT_CLONE_RULES = re.compile(r"instant_clone|chain_limit|no_free_port|opaque_network")
MOB_RULES = re.compile(r"mob_")
BOTH_ENGINES_RULES = re.compile(
    r"frozen_|unready_|_inherited|config_params_|network_after_fork|guestinfo_|mac_change_|_mac_|info_set_|child_disk_"
    r"|transfer_url|child_of_vapp_member|^change_version_"
)
ALL_TRANSPORTS_RULES = re.compile(r"mac_conflict|reserved_macs|names_differing_in_case")

ASPECTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"enable_|child_as_parent|fork_group_on_enable",
        r"disable_|power_off_with_children|enabled_after_power_off",
        r"frozen_|quiesced_elsewhere",
        r"children_|parent_of_|persistent_child|plain_vm|clone_inherits",
        r"_privilege$|unseen_object",
        r"config_|guestinfo|info_set|_inherited|child_reconfigure|child_vapp",
        r"network_after_fork|stale_mac_report",
        r"mac_|reserved_macs|no_free_port|instant_clone_device_changes",
        r"nonpersistent_|child_disk|child_of_vapp|names_differing",
        r"chain_limit_text|_vtpm_fault|instant_clone_events|check_instant_clone",
        r"instant_clone_",
    )
)
"""The aspects of assumptions about forks; one that no pattern matches is an aspect of its own.

Assumptions of different aspects are reversed in the same job: they matter at different steps of it. Those of the same
aspect never are, because one could hide the other."""
ALONE = ("hidden_methods_over_soap", "nonpersistent_power_off", "nonpersistent_power_on_again")
"""Assumptions that change every step of the job, or keep a step from being checked for the others."""

REFUSAL_RULES = ("unknown_method_fault", "mob", "mob_nonce")
"""Rules about servers on which the main job cannot succeed on the engine that they concern."""
OTHER_CLIENTS_RULE = "newer_soap_version"
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
    """Return each rule whose name matches and that can be switched, with each of its other values."""
    found = [(rule["name"], value) for rule in rules() if names.search(rule["name"]) for value in other_values(rule)]
    assert found
    return found


def refusals() -> list[tuple[str, str]]:
    """Return the switches of :data:`REFUSAL_RULES`, in each of the values with which methods are not available."""
    return [
        (rule["name"], value)
        for rule in rules()
        if rule["name"] in REFUSAL_RULES
        for value in (rule["choices"] if rule["name"] == "unknown_method_fault" else other_values(rule))
    ]


def engines_of(rule: str) -> tuple[Engine, ...]:
    """Return the engines on which a rule makes a difference; none for a rule that concerns only OVF environments."""
    if rule in (*REFUSAL_RULES, OTHER_CLIENTS_RULE):
        return ()
    if INSTANT_CLONE_RULES.search(rule):
        return () if OVF_RULES.search(rule) and not CLONE_AND_OVF_RULES.search(rule) else (INSTANT_CLONE,)
    if MOB_RULES.match(rule):
        return (MOB,)
    if BOTH_ENGINES_RULES.search(rule):
        return (SOAP, INSTANT_CLONE)
    if ALL_TRANSPORTS_RULES.search(rule):
        return (SOAP, MOB, INSTANT_CLONE)
    return () if OVF_RULES.search(rule) or WRITE_RULES.search(rule) else (SOAP,)


def aspect(rule: dict[str, Any]) -> str:
    """Return the aspect of a rule. Rules with sources, such as versions of vSphere, are all reversed together."""
    name: str = rule["name"]
    if "assumption" not in rule["source"]:
        return name
    return next((names.pattern for names in ASPECTS if names.search(name)), name)


def together(group: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return settings with each other value of each rule once, and at most one value of an aspect at a time."""
    values: dict[str, list[tuple[str, str]]] = {}
    for rule in group:
        values.setdefault(aspect(rule), []).extend((rule["name"], value) for value in other_values(rule))
    return [dict(filter(None, settings)) for settings in zip_longest(*values.values())]


def main_jobs() -> list[tuple[Engine, dict[str, str]]]:
    """Return the runs of the main job: an engine, and rules that differ from their defaults."""
    jobs: list[tuple[Engine, dict[str, str]]] = []
    for engine in (SOAP, MOB, INSTANT_CLONE):
        of_engine = [rule for rule in rules() if engine in engines_of(rule["name"])]
        alone = [[rule] for rule in of_engine if rule["name"] in ALONE]
        assumed = [rule for rule in of_engine if "assumption" in rule["source"] and rule["name"] not in ALONE]
        sourced = [rule for rule in of_engine if "assumption" not in rule["source"]]
        jobs += [(engine, settings) for group in (*alone, assumed, sourced) for settings in together(group)]
    return jobs
