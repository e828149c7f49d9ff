# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask questions about any VM: its configuration, events, guest, and children of either engine.

Private to the collection.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _devices,
    _extra_config,
    _power,
    _properties,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import OTHER, NotAsked, Outcome
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import GUEST_PROBE, PROBE, Lab, kind
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question
from ansible_collections.vmfork.vsphere.plugins.module_utils._tasks import BUSY
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

VERSION = "config.changeVersion"
RACES = 5
"""How often two reconfigures are sent at the same time."""

HANGING_SECONDS = 20
"""A guest operation that fails later than this was not refused at once."""

MOST_EVENTS = 1000
POWERED_ON = {"VmPoweredOnEvent", "DrsVmPoweredOnEvent"}

FAILED_SET = 3
"""The exit code of our command if VMware Tools refused a value."""


# --- changeVersion --------------------------------------------------------------------------------------------------


def _change_version_race(lab: Lab) -> str:
    """Send two reconfigures with the same changeVersion at the same time."""
    for _race in range(RACES):
        version = lab.read(VERSION).get(VERSION)
        spec = _extra_config.spec({PROBE: str(time.monotonic_ns())}, changeVersion=version)
        ends = lab.race(lab.vm.ReconfigVM_Task, spec)
        if all(end.succeeded for end in ends):
            return "both"
        if not any(end.succeeded for end in ends) or not {end.choice("") for end in ends} - {""} <= set(BUSY):
            return OTHER
    return "one"


def _change_version_power_on(lab: Lab) -> str:
    lab.off()
    before = lab.read(VERSION).get(VERSION)
    lab.running()
    return "kept" if lab.read(VERSION).get(VERSION) == before else "changed"


def _change_version_info_set(lab: Lab) -> str:
    lab.running()
    lab.guest()
    before = lab.read(VERSION).get(VERSION)
    if lab.in_guest(f"tools 'info-set {GUEST_PROBE} {time.monotonic_ns()}' || exit {FAILED_SET}") != 0:
        raise NotAsked("precondition")
    return "kept" if lab.read(VERSION).get(VERSION) == before else "changed"


# --- names and events -----------------------------------------------------------------------------------------------


def _names_differing_in_case(lab: Lab) -> str:
    name = lab.read("name")["name"]
    folder = lab.read("parent").get("parent")
    if name.swapcase() == name or folder is None:
        raise NotAsked("letters")
    found = lab.need(lab.call(lab.session.content.searchIndex.FindChild, folder, name.swapcase()))
    return "same" if found == lab.vm else "different"


def _query(lab: Lab, **more: t.Any) -> t.Any:
    by = vim.event.EventFilterSpec
    entity = by.ByEntity(entity=lab.vm, recursion="self")
    return lab.call(lab.session.content.eventManager.QueryEvents, by(entity=entity, **more))


def _event_type_and_id(lab: Lab) -> str:
    wanted = vim.event.VmReconfiguredEvent
    return _query(lab, type=[wanted], eventTypeId=["vim.event.VmReconfiguredEvent"]).choice("allowed")


def _event_type_subclasses(lab: Lab) -> str:
    lab.set_probe(PROBE)
    lab.events(None, lambda kinds: "VmReconfiguredEvent" in kinds)
    found = lab.need(_query(lab, type=[vim.event.VmEvent])) or []
    return "included" if any(kind(event) != "VmEvent" for event in found) else "excluded"


def _event_page_limit(lab: Lab) -> str:
    """Only the number of events is looked at."""
    collector = lab.need(
        lab.call(lab.session.content.eventManager.CreateCollectorForEvents, vim.event.EventFilterSpec())
    )
    try:
        lab.call(collector.ResetCollector)  # the older ones
        page = lab.call(collector.ReadNextEvents, MOST_EVENTS + 1)
    finally:
        lab.call(collector.DestroyCollector)
    if not page.succeeded:
        return page.choice("")
    if len(page.result or []) < MOST_EVENTS:
        raise NotAsked("few_events")
    return str(MOST_EVENTS) if len(page.result) == MOST_EVENTS else OTHER


def _multi_power_on_chain(lab: Lab) -> str:
    lab.off()
    since = lab.session.current_time()
    task = lab.need(lab.call(lab.parent.found.datacenter.PowerOnMultiVM_Task, [lab.vm]))
    lab.need(lab.end(Outcome(task)))
    _power.reaches(lab.session, lab.deadline, lab.vm, "poweredOn")
    chain = _properties.read(lab.session, [task], ["info.eventChainId"]).get(task, {}).get("info.eventChainId")
    found = lab.events(since, lambda kinds: bool(kinds & POWERED_ON))
    chains = {event.chainId for event in found if kind(event) in POWERED_ON}
    if not chains or chain is None:
        return OTHER
    return "shared" if chain in chains else "own"


def _resume_events(lab: Lab) -> str:
    lab.running()
    lab.need(lab.attempt(lab.vm.SuspendVM_Task))
    since = lab.session.current_time()
    lab.need(lab.attempt(lab.vm.PowerOnVM_Task))
    kinds = {kind(event) for event in lab.events(since, {"VmResumingEvent", "VmPoweredOnEvent"}.issubset)}
    if "VmResumingEvent" not in kinds:
        return OTHER
    return "resuming-and-powered-on" if kinds & POWERED_ON else "resuming"


# --- guestinfo and the guest ----------------------------------------------------------------------------------------


def _guestinfo_after_power_cycle(lab: Lab) -> str:
    lab.running()
    value = lab.set_probe(GUEST_PROBE)
    lab.off()
    return "kept" if lab.extra(GUEST_PROBE) == value else "cleared"


def _info_set_empty(lab: Lab) -> str:
    lab.running()
    ended = lab.in_guest(f"tools 'info-set {GUEST_PROBE} 1' || exit 1; tools 'info-set {GUEST_PROBE} ' || exit 3")
    return {0: "accepted", FAILED_SET: "refused"}.get(ended or 0, OTHER)


def _guestinfo_limit(lab: Lab) -> str:
    """Send 60,000 bytes, which are below both limits, and then 70,000."""
    lab.running()
    set_long = "tools \"info-set {} $(head -c {} /dev/zero | tr '\\0' x)\" || exit {}"
    ended = lab.in_guest("\n".join(set_long.format(GUEST_PROBE, *how) for how in ((60000, 1), (70000, FAILED_SET))))
    return {0: "1048576", FAILED_SET: "65536"}.get(ended or 0, OTHER)


def _frozen_guest_operations(lab: Lab) -> str:
    lab.quiesced()
    began = time.monotonic()
    ended = lab.guest_processes()
    return "hang" if time.monotonic() - began > HANGING_SECONDS else ended.choice(OTHER)


def _frozen_reconfigure(lab: Lab) -> str:
    lab.quiesced()
    return lab.attempt(lab.vm.ReconfigVM_Task, _extra_config.spec({PROBE: "1"})).choice("allowed")


# --- children -------------------------------------------------------------------------------------------------------


def _extra_config_inherited(lab: Lab) -> str:
    lab.running()
    value = lab.set_probe(PROBE)
    return "yes" if lab.extra(PROBE, lab.child()) == value else "no"


def _guestinfo_inherited(lab: Lab) -> str:
    lab.running()
    value = lab.set_probe(GUEST_PROBE)
    return "at-freeze" if lab.extra(GUEST_PROBE, lab.child()) == value else "no"


def _child_disk_backing(lab: Lab) -> str:
    child = lab.child()
    disks = _devices.disks(lab.read(_devices.PATH, vm=child))
    if not disks:
        raise NotAsked("controller")
    return "linked" if getattr(disks[0].backing, "parent", None) is not None else "flat"


def _driver_mac_after_fork(lab: Lab) -> str:
    child = lab.child()
    macs = set(_devices.mac_addresses(lab.read(_devices.PATH, vm=child)))
    command = f"tools \"info-set {GUEST_PROBE} $(cat /sys/class/net/*/address | tr '\\n' ' ')\" || exit {FAILED_SET}"
    if not macs or lab.in_guest(command, child) != 0:
        raise NotAsked("precondition")
    return "own" if macs & set((lab.extra(GUEST_PROBE, child) or "").lower().split()) else "parent"


QUESTIONS = (
    Question("names_differing_in_case", _names_differing_in_case, ("same", "different")),
    Question("event_type_and_id", _event_type_and_id, ("InvalidArgument", "allowed")),
    Question("event_type_subclasses", _event_type_subclasses, ("included", "excluded")),
    Question("event_page_limit", _event_page_limit, ("1000", "InvalidArgument")),
    Question("change_version_race", _change_version_race, ("one", "both")),
    Question("change_version_power_on", _change_version_power_on, ("changed", "kept")),
    Question("change_version_info_set", _change_version_info_set, ("kept", "changed"), None, True),
    Question("info_set_empty", _info_set_empty, ("refused", "accepted"), None, True),
    Question("guestinfo_limit", _guestinfo_limit, ("65536", "1048576"), None, True),
    Question("resume_events", _resume_events, ("resuming-and-powered-on", "resuming")),
    Question("guestinfo_after_power_cycle", _guestinfo_after_power_cycle, ("cleared", "kept")),
    Question("multi_power_on_chain", _multi_power_on_chain, ("shared", "own")),
    Question("extra_config_inherited", _extra_config_inherited, ("yes", "no")),
    Question("guestinfo_inherited", _guestinfo_inherited, ("at-freeze", "no")),
    Question("child_disk_backing", _child_disk_backing, ("linked", "flat")),
    Question("driver_mac_after_fork", _driver_mac_after_fork, ("parent", "own"), None, True),
    Question("frozen_reconfigure", _frozen_reconfigure, ("allowed", "InvalidState"), None, True),
    Question(
        "frozen_guest_operations",
        _frozen_guest_operations,
        ("SystemError", "GuestOperationsUnavailable", "hang"),
        None,
        True,
    ),
)
