# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transitions of one child, event by event."""

from __future__ import annotations

import base64
import dataclasses
import functools
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.networks import Network
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import (
    Child,
    Created,
    DeadlinePassed,
    Failed,
    PropertyUpdate,
    Request,
    Settled,
    Step,
    Succeeded,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.vmfork import VmforkEngine

NO_SESSION: Any = None
Goal = functools.partial(transitions.Goal, engine=VmforkEngine(NO_SESSION))
PARENT = {"config.instanceUuid": "parent-uuid"}
VM = object()
SECRET = {"token": "a-long-secret"}
MAC = "00:50:56:00:00:02"
ADDRESS: dict[str, Any] = {
    "config.hardware.device": [vim.vm.device.VirtualVmxnet3(macAddress=MAC)],
    "guest.net": [SimpleNamespace(macAddress=MAC, ipAddress=["192.0.2.2"])],
}


def extra(**keys: str) -> list[Any]:
    return [SimpleNamespace(key=key, value=value) for key, value in keys.items()]


def on(**keys: str) -> dict[str, Any]:
    return {
        "name": "web-01",
        "config.uuid": "child-uuid",
        "runtime.powerState": "poweredOn",
        "config.extraConfig": extra(**keys),
    }


def reported(nonce: str | None, code: int, output: str = "") -> str:
    return f"{nonce} {code} {base64.b64encode(output.encode()).decode()}"


def report(nonce: str | None, code: int, output: str = "") -> dict[str, Any]:
    return on(**{guestinfo.POST_CLONE: reported(nonce, code, output)})


def after(child: Child, *events: transitions.Event) -> Child:
    return run(child, *events)[0]


def run(child: Child, *events: transitions.Event) -> tuple[Child, list[Request | None]]:
    requests = []
    for event in events:
        child, request = transitions.advance(child, event)
        requests.append(request)
    return child, requests


def new(wait_for: str = "post_clone", **wanted: Any) -> Child:
    child, request = transitions.begin(ChildSpec("web-01", **wanted), Goal(wait_for, PARENT))
    assert request is Request.CREATE
    return child


INSTANT_CLONE = transitions.Goal("post_clone", PARENT, InstantCloneEngine(NO_SESSION))


def instant_clone(goal: transitions.Goal = INSTANT_CLONE, **wanted: Any) -> Child:
    child, request = transitions.begin(ChildSpec("web-01", **wanted), goal)
    assert request is Request.CREATE
    return child


def shown(child: Child, keys: dict[str, str]) -> PropertyUpdate:
    return PropertyUpdate({**on(**keys), "config.uuid": child.bios_uuid})


def test_child_that_runs_from_its_creation() -> None:
    """It has its record, so neither the record nor the power-on is requested."""
    child = instant_clone()
    uuid.UUID(child.bios_uuid)
    child, requests = run(child, Created(VM), shown(child, child.record))
    assert requests == [None, None]
    assert (child.step, child.recorded, child.changed) == (Step.RUNNING, True, True)
    reported = {**child.record, guestinfo.POST_CLONE: f"{child.nonce} 0 "}
    child, requests = run(child, PropertyUpdate({**on(**reported), **ADDRESS}), Succeeded())
    assert requests == [Request.NOTE, None]
    assert (child.step, child.error) == (Step.DONE, None)


GROUP = SimpleNamespace(childForkGroupId="group-2", childType="nonpersistent")


@pytest.mark.parametrize(
    ("goal", "change", "why"),
    [
        (INSTANT_CLONE, {"name": "db-01"}, "whose name is db-01"),
        (INSTANT_CLONE, {"name": "web%2f01"}, "whose name is web/01"),
        (INSTANT_CLONE, {"config.uuid": "another-uuid"}, "neither the BIOS UUID nor the nonce"),
        (Goal("created", PARENT), {"name": "WEB-01"}, "whose name is WEB-01"),
        (
            Goal("created", PARENT),
            {"config.extraConfig": extra(**{guestinfo.CHILD_NONCE: "of-another"})},
            "the nonce of another",
        ),
        (
            Goal("created", {**PARENT, "config.forkConfigInfo": SimpleNamespace(parentForkGroupId="group-1")}),
            {"config.forkConfigInfo": GROUP},
            "the fork group of another parent",
        ),
    ],
)
def test_vm_that_is_not_the_child_is_left_unchanged(goal: transitions.Goal, change: dict[str, Any], why: str) -> None:
    """It is not recorded, its secrets are not removed, and it is not assigned to a child."""
    child, _request = transitions.begin(ChildSpec("web-01", secret_config_params=SECRET), goal)
    news = PropertyUpdate({**on(), "config.uuid": child.bios_uuid or "child-uuid", **change})
    child, requests = run(child, Created(vim.VirtualMachine("vm-7")), news)
    assert requests == [None, None]
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, True)
    assert "vCenter's task names VM vm-7, " in str(child.error)
    assert why in str(child.error)


@pytest.mark.parametrize("of_parent", ["group-2", None])
def test_new_child_may_be_in_its_parents_fork_group(of_parent: str | None) -> None:
    goal = Goal("created", {**PARENT, "config.forkConfigInfo": SimpleNamespace(parentForkGroupId=of_parent)})
    child, _request = transitions.begin(ChildSpec("web-01"), goal)
    assert after(child, Created(VM), PropertyUpdate({**on(), "config.forkConfigInfo": GROUP})).vm is VM


@pytest.mark.parametrize("by", ["uuid", "nonce", "record"])
def test_new_child_is_recognized_by_its_bios_uuid_or_its_nonce(by: str) -> None:
    child = instant_clone()
    keys = {"nonce": {guestinfo.CHILD_NONCE: child.nonce or ""}, "record": child.record}.get(by, {})
    uuid_of = {"config.uuid": child.bios_uuid} if by == "uuid" else {}
    child = after(child, Created(VM), PropertyUpdate({**on(**keys), **uuid_of}))
    assert child.vm is VM


@pytest.mark.parametrize(
    ("persistent", "existed", "remedy"),
    [
        (False, False, "Check the script"),
        (False, True, "Check the script"),
        (True, False, "Check the script"),
        (True, True, "If it was powered off after it was created, it never will"),
    ],
)
def test_remedy_for_a_script_that_does_not_end(persistent: bool, existed: bool, remedy: str) -> None:
    """It runs again after each power-on, or only once."""
    child = replace(new(persistent=persistent), step=Step.RUNNING, existed=existed)
    assert remedy in transitions.unfinished(child, 30)


def test_timeout_before_the_new_vm_was_seen() -> None:
    """It is not known whether the VM that the server named is the child, so nothing may be removed."""
    child = after(new(), Created(VM), DeadlinePassed("It is too late."), Failed("It is too late."))
    assert (child.step, child.vm, child.changed) == (Step.FAILED, None, True)


PORT_GROUP = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="lab", network=vim.Network("network-1"))
ELSEWHERE = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="dmz", network=vim.Network("network-2"))
PARENTS_MAC = "00:50:56:00:00:01"


def at(
    mac: str, *addresses: str, backing: Any = PORT_GROUP, connected: bool = True, on: str = "", device: int = 4000
) -> dict[str, Any]:
    """Return a VM with an adapter, and what VMware Tools report about it."""
    connectable = vim.vm.device.VirtualDevice.ConnectInfo(connected=connected)
    card = vim.vm.device.VirtualVmxnet3(key=4000, macAddress=mac, backing=backing, connectable=connectable)
    nic = vim.vm.GuestInfo.NicInfo(macAddress=on or mac, ipAddress=list(addresses), deviceConfigId=device)
    return {"config.hardware.device": [card], "guest.net": [nic]}


def stale(*addresses: str, **more: Any) -> dict[str, Any]:
    """Return a child whose guest has not reloaded its network driver."""
    return at(MAC, *addresses, on=PARENTS_MAC.upper(), device=-1, **more)


WITH_ADDRESS = {**PARENT, **at(PARENTS_MAC, "192.0.2.1")}


OWN_ADAPTER = "192.0.2.1 of its parent after its post-clone script: VMware Tools reports it on the child's own network"
DRIVER = f"its network driver still uses the MAC address {PARENTS_MAC} of the parent"
OLD_DRIVER = f"192.0.2.1 of its parent after its post-clone script: {DRIVER}. Reload the driver"
NO_NETWORK = f"The guest of child web-01 probably has no network: {DRIVER}. Reload the driver"
NOTHING_NEW = "It is not known whether child web-01 has an address of its own: VMware Tools reported nothing new"


@pytest.mark.parametrize(
    ("at_end", "later", "error", "warning"),
    [
        pytest.param(at(MAC), at(MAC, "192.0.2.1"), OWN_ADAPTER, "", id="in a later report"),
        pytest.param(at(MAC), at(MAC, "192.0.2.1", "192.0.2.2"), OWN_ADAPTER, "", id="beside one of its own"),
        pytest.param(at(MAC, "192.0.2.1"), None, OWN_ADAPTER, "", id="in the report at the script's end"),
        pytest.param(at(MAC, "192.0.2.1"), at(MAC), "", "", id="later report without it"),
        pytest.param(at(MAC), None, "", "", id="no address at all"),
        pytest.param(at(MAC), at(MAC, "192.0.2.1", backing=ELSEWHERE), "", "", id="on another network"),
        pytest.param(at(MAC), at(MAC, "192.0.2.1", connected=False), "", "", id="on a disconnected adapter"),
        pytest.param(at(MAC, "192.0.2.1", on=PARENTS_MAC), None, "", NOTHING_NEW, id="still the parent's report"),
        pytest.param(at(MAC, "fe80::1", on=PARENTS_MAC), None, "", "", id="parent's report without an address"),
        pytest.param(stale("192.0.2.1"), None, OLD_DRIVER, "", id="driver was not reloaded"),
        pytest.param(at(MAC, "192.0.2.1", on=PARENTS_MAC), stale("192.0.2.1"), OLD_DRIVER, "", id="seen later"),
        pytest.param(stale("192.0.2.1"), at(MAC), "", "", id="driver was reloaded"),
        pytest.param(stale("192.0.2.9"), None, "", NO_NETWORK, id="old driver with another address"),
        pytest.param(stale(), None, "", NO_NETWORK, id="old driver without an address"),
        pytest.param(stale("192.0.2.1", backing=ELSEWHERE), None, "", NO_NETWORK, id="old driver elsewhere"),
        pytest.param(stale("192.0.2.1", connected=False), None, "", "", id="old driver, disconnected adapter"),
        pytest.param(at(MAC, "192.0.2.1", on="02:42:00:00:00:01", device=-1), None, "", "", id="on a container bridge"),
    ],
)
def test_child_that_has_its_parents_address(
    at_end: dict[str, Any], later: dict[str, Any] | None, error: str, warning: str
) -> None:
    child = instant_clone(dataclasses.replace(INSTANT_CLONE, parent=WITH_ADDRESS))
    child = after(child, Created(VM), shown(child, child.record))
    values = {**(shown(child, {**child.record, guestinfo.POST_CLONE: f"{child.nonce} 0 "}).values or {}), **at_end}
    child = after(child, PropertyUpdate(values))
    assert child.step is Step.SETTLING
    child = after(child, *([PropertyUpdate({**values, **later})] if later else []), Settled(), Succeeded())
    assert child.step is (Step.FAILED if error else Step.DONE)
    assert error in str(child.error)
    assert warning in " ".join(child.warnings)
    assert bool(child.warnings) is bool(warning)


def test_wait_for_the_address_of_a_guest_that_uses_its_parents_mac_address() -> None:
    child = instant_clone(transitions.Goal("ip_address", WITH_ADDRESS, InstantCloneEngine(NO_SESSION)))
    child = after(child, Created(VM), shown(child, child.record))
    assert "no address on its own network adapters" in transitions.unfinished(child, 30)
    child = after(child, PropertyUpdate({**child.values, **stale("192.0.2.9")}))
    assert child.step is Step.RUNNING
    assert f"is not ready after 30 seconds: {DRIVER}. Reload the driver" in transitions.unfinished(child, 30)


def test_existing_child_with_its_parents_address() -> None:
    """The age of the report is unknown, so this is no failure, and waiting does not help."""
    record = identity.Record("parent-uuid", "child-uuid", "n0")
    keys = {identity.RECORD_KEY: str(record), guestinfo.DONE: "n0 0"}
    goal = dataclasses.replace(INSTANT_CLONE, parent=WITH_ADDRESS)
    child, request = transitions.resume(ChildSpec("web-01"), goal, VM, {**on(**keys), **at(MAC, "192.0.2.1")})
    assert (child.step, request, child.changed) == (Step.DONE, None, False)
    assert child.warnings == ("Child web-01 has the address 192.0.2.1 of its parent.",)


def test_child_that_was_not_started() -> None:
    message = transitions.unfinished(instant_clone(), 30, begun=False)
    assert message == (
        "Child web-01 is not ready after 30 seconds: its creation was not started. Increase timeout or concurrency."
    )


def test_end_recorded_on_an_existing_child_is_no_change() -> None:
    record = identity.Record("parent-uuid", "child-uuid", "n0")
    done = on(**{identity.RECORD_KEY: str(record), guestinfo.POST_CLONE: "n0 0 "})
    child, request = transitions.resume(ChildSpec("web-01"), INSTANT_CLONE, VM, done)
    assert request is Request.NOTE
    child = after(child, Succeeded())
    assert (child.step, child.changed) == (Step.DONE, False)


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "of its source, which is a child itself"])
def test_record_that_the_server_dropped_is_written(dropped: bool) -> None:
    child = instant_clone(dataclasses.replace(INSTANT_CLONE, wait_for="created"))
    there = {} if dropped else {identity.RECORD_KEY: "1 other-parent other-child other-nonce"}
    child, requests = run(child, Created(VM), shown(child, there), Succeeded())
    assert requests == [None, Request.RECORD, None]
    assert (child.step, child.new_bios_uuid) == (Step.DONE, None)
    assert child.record == {identity.RECORD_KEY: f"1 parent-uuid {child.bios_uuid} {child.nonce}"}


def test_record_contains_the_actual_bios_uuid() -> None:
    child = instant_clone(bios_uuid="4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11")
    assert "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11" in child.record[identity.RECORD_KEY]
    child, requests = run(child, Created(VM), PropertyUpdate(on(**child.record)))
    assert requests == [None, Request.RECORD]
    assert "child-uuid" in child.record[identity.RECORD_KEY]


def test_secrets_are_removed_from_every_place() -> None:
    child = instant_clone(secret_config_params={"token": "a-long-secret"})
    assert child.secret_keys == ["guestinfo.fork.token", "guestinfo.ic.token"]
    assert child.params[guestinfo.SECRETS_PARAM] == "guestinfo.fork.token guestinfo.ic.token"


@pytest.mark.parametrize(
    ("wait_for", "ahead"),
    [("created", [Request.CREATE]), ("powered_on", [Request.CREATE]), ("post_clone", [Request.CREATE, Request.NOTE])],
)
def test_requests_ahead_of_a_child_that_runs_from_its_creation(wait_for: str, ahead: list[Request]) -> None:
    child = instant_clone(dataclasses.replace(INSTANT_CLONE, wait_for=wait_for))
    assert transitions.ahead(child, Request.CREATE) == ahead


def test_report_is_kept_by_a_child_that_never_forks_again() -> None:
    record = identity.Record("parent-uuid", "child-uuid", "n0")
    off = {
        "config.uuid": "child-uuid",
        "runtime.powerState": "poweredOff",
        "config.extraConfig": extra(**{identity.RECORD_KEY: str(record), guestinfo.DONE: "n0 0"}),
    }
    child, request = transitions.resume(ChildSpec("web-01"), INSTANT_CLONE, VM, off)
    assert request is Request.POWER_ON
    assert after(child, Succeeded()).step is Step.DONE


def test_all_transitions() -> None:
    child, requests = run(
        new(),
        Created(VM),
        PropertyUpdate({"name": "web-01", "config.uuid": "child-uuid"}),
        Succeeded(),
        Succeeded(),
        PropertyUpdate(on()),
    )
    assert requests == [None, Request.RECORD, Request.POWER_ON, None, None]
    assert child.step is Step.RUNNING
    assert child.record == {identity.RECORD_KEY: f"1 parent-uuid child-uuid {child.nonce}"}
    child, requests = run(child, PropertyUpdate({**report(child.nonce, 0, "fine"), **ADDRESS}))
    assert (child.step, child.error) == (Step.DONE, None)
    assert child.report == guestinfo.Report("post_clone", 0, "fine")


def test_child_without_an_address_gets_time_to_report_one() -> None:
    child = after(new(), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded())
    child = after(child, PropertyUpdate(report(child.nonce, 0)))
    assert child.step is Step.SETTLING
    assert after(child, PropertyUpdate(ADDRESS)).step is Step.DONE
    assert after(child, Settled()).step is Step.DONE
    assert after(child, Failed("The time is over.")).step is Step.DONE


def test_no_power_on_before_the_record() -> None:
    _child, requests = run(
        new(), Created(VM), PropertyUpdate({"name": "web-01"}), PropertyUpdate({"config.uuid": "child-uuid"})
    )
    assert requests == [None, None, Request.RECORD]


def test_server_that_records_only_running_children() -> None:
    child, requests = run(
        new(), Created(VM), PropertyUpdate(on()), Failed("Not yet.", "InvalidState"), Succeeded(), Succeeded()
    )
    assert requests == [None, Request.RECORD, Request.POWER_ON, Request.RECORD, None]
    assert (child.step, child.recorded) == (Step.RUNNING, True)


def test_child_that_cannot_be_recorded_fails() -> None:
    for fault in ("NoPermission", "InvalidState"):
        child = after(new("created"), Created(VM), PropertyUpdate(on()), Failed("No.", fault))
        assert (child.step, child.error) == (Step.FAILED, "No.")
    child = after(
        new(),
        Created(VM),
        PropertyUpdate(on()),
        *[Failed("No.", "InvalidState"), Succeeded()],
        Failed("No.", "InvalidState"),
    )
    assert (child.step, child.error) == (Step.FAILED, "No.")


@pytest.mark.parametrize("nonce", ["", "0" * 32, "inherited"])
def test_report_with_another_nonce_is_ignored(nonce: str) -> None:
    child = after(new(), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded(), PropertyUpdate(report(nonce, 0)))
    assert child.step is Step.RUNNING


def test_failing_script_fails_the_child_and_its_output_is_reported() -> None:
    child = after(new(), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded())
    child = after(child, PropertyUpdate(report(child.nonce, 3, "no such\ninterface")))
    assert child.step is Step.FAILED
    assert child.error is not None
    assert "exit code 3" in child.error
    assert "no such interface" in child.error


@pytest.mark.parametrize("outcome", ["done", "script failed", "time over"])
def test_secrets_are_always_removed(outcome: str) -> None:
    child = after(
        new(secret_config_params={"token": "a-long-secret"}),
        Created(VM),
        PropertyUpdate(on()),
        Succeeded(),
        Succeeded(),
    )
    event = {
        "done": PropertyUpdate({**report(child.nonce, 0), **ADDRESS}),
        "script failed": PropertyUpdate(report(child.nonce, 1)),
        "time over": Failed("The time is over."),
    }[outcome]
    child, requests = run(child, event)
    assert requests == [Request.CLEAR]
    child = after(child, Succeeded())
    assert child.step is (Step.DONE if outcome == "done" else Step.FAILED)
    assert child.secrets_cleared is False  # they were neither shown nor reported


@pytest.mark.parametrize(
    ("shown", "confirmed", "requests", "cleared"),
    [
        pytest.param(True, True, [Request.CLEAR], True, id="vCenter still shows them"),
        pytest.param(True, False, [Request.CLEAR], True, id="a guest that cannot clear"),
        pytest.param(False, True, [None], True, id="the guest reported that they are gone"),
        pytest.param(False, False, [Request.CLEAR], False, id="it is unknown"),
    ],
)
def test_when_secrets_are_removed(shown: bool, confirmed: bool, requests: list[Request | None], cleared: bool) -> None:
    child = after(
        new(secret_config_params={"token": "a-long-secret"}),
        Created(VM),
        PropertyUpdate(on()),
        Succeeded(),
        Succeeded(),
    )
    keys = {guestinfo.POST_CLONE: f"{child.nonce} 0 "}
    if shown:
        keys["guestinfo.fork.token"] = "a-long-secret"
    if confirmed:
        keys[guestinfo.SECRETS] = f"{child.nonce} cleared"
    child, asked_for = run(child, PropertyUpdate({**on(**keys), **ADDRESS}))
    assert asked_for == requests
    child = after(child, Succeeded())
    assert (child.step, child.secrets_cleared) == (Step.DONE, cleared)


def test_report_that_shows_a_secret_is_written_back_without_it() -> None:
    child = after(new(secret_config_params=SECRET), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded())
    keys = {
        guestinfo.SECRETS: f"{child.nonce} cleared",
        guestinfo.POST_CLONE: reported(child.nonce, 7, "a-long-secret"),
    }
    child, requests = run(child, PropertyUpdate({**on(**keys), **ADDRESS}))
    assert requests == [Request.CLEAR]
    hidden = reported(child.nonce, 7, "********")
    assert child.without_secrets == {"guestinfo.fork.token": "", guestinfo.POST_CLONE: hidden}
    child = after(child, Succeeded())
    assert (child.step, child.secrets_cleared) == (Step.FAILED, True)
    assert "a-long" not in str(child.error)


def test_report_without_a_secret_is_left_unchanged() -> None:
    child = after(new(secret_config_params=SECRET), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded())
    keys = {guestinfo.SECRETS: f"{child.nonce} cleared", guestinfo.POST_CLONE: reported(child.nonce, 0, "********")}
    child, requests = run(child, PropertyUpdate({**on(**keys), **ADDRESS}))
    assert (child.step, requests) == (Step.DONE, [None])
    assert guestinfo.POST_CLONE not in child.without_secrets


def test_report_of_an_earlier_task_that_shows_a_secret_is_written_back_once() -> None:
    """The script ended after that task."""
    wanted, goal = ChildSpec("web-01", secret_config_params=SECRET), Goal("post_clone", PARENT)
    left = existing("poweredOn", **{guestinfo.POST_CLONE: reported("n1", 0, "a-long-secret")})
    child, request = transitions.resume(wanted, goal, VM, left)
    assert transitions.ahead(child, request) == [Request.CLEAR]
    assert after(child, Succeeded()).changed
    left = existing("poweredOn", **child.without_secrets)
    child, request = transitions.resume(wanted, goal, VM, left)
    assert (child.step, child.changed, request) == (Step.DONE, False, None)


def test_secrets_that_cannot_be_removed_fail_the_child() -> None:
    child = after(
        new(secret_config_params={"token": "a-long-secret"}),
        Created(VM),
        PropertyUpdate(on()),
        Succeeded(),
        Succeeded(),
    )
    child = after(child, PropertyUpdate({**report(child.nonce, 0), **ADDRESS}), Failed("No privilege."))
    assert (child.step, child.error, child.secrets_cleared) == (Step.FAILED, "No privilege.", False)


@pytest.mark.parametrize(
    ("wait_for", "values"),
    [
        ("powered_on", {}),
        ("tools", {"guest.toolsRunningStatus": "guestToolsRunning"}),
    ],
)
def test_goals_before_the_script(wait_for: str, values: dict[str, Any]) -> None:
    child = after(new(wait_for), Created(VM), PropertyUpdate(on()), Succeeded())
    assert child.step is Step.STARTING
    child = after(child, Succeeded(), PropertyUpdate({**on(), **values}))
    assert child.step is Step.DONE


def test_created_is_done_without_power_on() -> None:
    child, requests = run(new("created"), Created(VM), PropertyUpdate(on()), Succeeded())
    assert requests == [None, Request.RECORD, None]
    assert child.step is Step.DONE


@pytest.mark.parametrize(
    ("event", "message"),
    [(PropertyUpdate(None), "was removed"), (PropertyUpdate({"runtime.powerState": "poweredOff"}), "was powered off")],
)
def test_child_changed_by_others(event: PropertyUpdate, message: str) -> None:
    child = after(new(), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded(), event)
    assert child.step is Step.FAILED
    assert child.error is not None
    assert message in child.error


def test_outdated_power_state_is_no_power_off() -> None:
    child = after(
        new(), Created(VM), PropertyUpdate({**on(), "runtime.powerState": "poweredOff"}), Succeeded(), Succeeded()
    )
    child = after(child, PropertyUpdate({**on(), "runtime.powerState": "poweredOff"}))
    assert child.step is Step.RUNNING


def test_events_after_the_end_change_nothing() -> None:
    child = after(new("created"), Created(VM), PropertyUpdate(on()), Succeeded())
    assert run(child, Failed("late"), PropertyUpdate(None), Succeeded()) == (child, [None, None, None])


# --- children that exist ----------------------------------------------------------------------------------------------


def existing(power: str, *, record: bool = True, **keys: str) -> dict[str, Any]:
    if record:
        keys[identity.RECORD_KEY] = "1 parent-uuid child-uuid n1"
    return {**on(**keys), "runtime.powerState": power}


def test_existing_child_that_has_reported_needs_nothing() -> None:
    values = existing("poweredOn", **{guestinfo.POST_CLONE: "n1 0 "})
    child, request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, values)
    assert (child.step, child.changed, request) == (Step.DONE, False, None)


def test_existing_child_with_a_running_script_is_awaited() -> None:
    child, request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, existing("poweredOn"))
    assert (child.step, child.changed, request) == (Step.RUNNING, False, None)
    child = after(child, PropertyUpdate(report("n1", 0)))
    assert child.step is Step.DONE


def test_existing_child_that_is_off_is_powered_on() -> None:
    child, request = transitions.resume(ChildSpec("web-01"), Goal("powered_on", PARENT), VM, existing("poweredOff"))
    assert (child.step, request) == (Step.STARTING, Request.POWER_ON)
    assert after(child, Succeeded(), PropertyUpdate(on())).changed


def test_existing_child_that_is_powered_off_by_others() -> None:
    child, _request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, existing("poweredOn"))
    assert "was powered off" in str(after(child, PropertyUpdate(existing("poweredOff"))).error)


def test_child_of_an_interrupted_task_is_recorded_first() -> None:
    values = existing("poweredOff", record=False, **{"guestinfo.fork.vmfork.nonce": "n0"})
    child, request = transitions.resume(ChildSpec("web-01"), Goal("powered_on", PARENT), VM, values)
    assert (child.step, request) == (Step.RECORDING, Request.RECORD)
    assert child.record == {identity.RECORD_KEY: "1 parent-uuid child-uuid n0"}
    _child, requests = run(child, Succeeded())
    assert requests == [Request.POWER_ON]


@pytest.mark.parametrize("goal", [Goal("created", PARENT), INSTANT_CLONE], ids=["vmfork", "instant_clone"])
@pytest.mark.parametrize("bios_uuid", [None, "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"])
def test_child_of_an_interrupted_task_gets_its_bios_uuid_with_the_record(
    goal: transitions.Goal, bios_uuid: str | None
) -> None:
    values = existing("poweredOff", record=False, **{guestinfo.CHILD_NONCE: "n0"})
    child, request = transitions.resume(ChildSpec("web-01", bios_uuid=bios_uuid), goal, VM, values)
    assert (request, child.new_bios_uuid) == (Request.RECORD, bios_uuid)
    assert child.record == {identity.RECORD_KEY: f"1 parent-uuid {bios_uuid or 'child-uuid'} n0"}


@pytest.mark.parametrize(
    ("goal", "child_type", "keys", "given_again"),
    [
        pytest.param(INSTANT_CLONE, None, {}, False, id="instant_clone"),
        pytest.param(INSTANT_CLONE, "nonpersistent", {}, True, id="VMFork's child on a server that was upgraded"),
        pytest.param(Goal("post_clone", PARENT), "none", {}, True, id="persistent, not run yet"),
        pytest.param(Goal("post_clone", PARENT), "none", {guestinfo.DONE: "n1 0"}, False, id="persistent, has run"),
        pytest.param(Goal("post_clone", PARENT), "nonpersistent", {guestinfo.DONE: "n1 0"}, True, id="nonpersistent"),
    ],
)
def test_secrets_are_written_again_if_the_script_will_run(
    goal: transitions.Goal, child_type: str | None, keys: dict[str, str], given_again: bool
) -> None:
    spec = ChildSpec("web-01", secret_config_params=SECRET)
    shown = {guestinfo.CHILD_NONCE: "n1", guestinfo.CHILD_SECRETS: "guestinfo.fork.token", **keys}
    values = {**existing("poweredOff", **shown), **(kind(child_type) if child_type is not None else {})}
    child, request = transitions.resume(spec, goal, VM, values)
    assert request is (Request.FORGET if given_again else Request.POWER_ON)
    assert (child.preparation == {"guestinfo.fork.token": SECRET["token"]}) is given_again


def test_leftover_secrets_of_an_earlier_task_are_removed() -> None:
    wanted = ChildSpec("web-01", secret_config_params={"token": "a-long-secret"})
    left = {guestinfo.POST_CLONE: "n1 0 ", "guestinfo.fork.token": "a-long-secret"}
    child, request = transitions.resume(wanted, Goal("post_clone", PARENT), VM, existing("poweredOn", **left))
    assert (child.step, request) == (Step.CLEARING, Request.CLEAR)
    assert after(child, Succeeded()).changed
    left["guestinfo.fork.token"] = ""
    child, request = transitions.resume(wanted, Goal("post_clone", PARENT), VM, existing("poweredOn", **left))
    assert (child.step, child.changed, request) == (Step.DONE, False, None)


def test_secrets_of_an_earlier_task_are_not_shown() -> None:
    """Their keys are on the child, although the present task does not name them."""
    made = new(config_params={"role": "web"}, secret_config_params={"token": "a-long-secret", "pin": "12345678"})
    assert made.params[guestinfo.SECRETS_PARAM] == "guestinfo.fork.token guestinfo.fork.pin"
    seen = {f"guestinfo.fork.{key}": value for key, value in made.params.items()}
    goal = Goal("post_clone", PARENT)
    child, _request = transitions.resume(ChildSpec("web-01"), goal, VM, existing("poweredOn", **seen))
    assert child.shown_params == {"role": "web"}


def kind(child_type: str) -> dict[str, Any]:
    return {"config.forkConfigInfo": SimpleNamespace(childType=child_type)}


def test_end_of_a_persistent_child_is_recorded() -> None:
    child = after(new(persistent=True), Created(VM), PropertyUpdate({**on(), **kind("none")}), Succeeded(), Succeeded())
    child, requests = run(child, PropertyUpdate({**report(child.nonce, 0), **ADDRESS}))
    assert (child.step, requests) == (Step.NOTING, [Request.NOTE])
    assert child.note == {guestinfo.DONE: f"{child.nonce} 0"}
    assert after(child, Succeeded()).step is Step.DONE
    child = after(child, Failed("No privilege.", "NoPermission"))
    assert (child.step, child.error) == (Step.FAILED, "No privilege.")


def test_end_is_recorded_in_the_call_that_removes_the_secrets() -> None:
    wanted = {"persistent": True, "secret_config_params": {"token": "a-long-secret"}}
    child = after(new(**wanted), Created(VM), PropertyUpdate({**on(), **kind("none")}), Succeeded(), Succeeded())
    child, requests = run(child, PropertyUpdate({**report(child.nonce, 3), **ADDRESS}), Succeeded())
    assert requests == [Request.CLEAR, None]
    assert child.note
    assert child.step is Step.FAILED


@pytest.mark.parametrize(("code", "step"), [(0, Step.DONE), (7, Step.FAILED)])
def test_recorded_end_is_used_when_vcenter_has_lost_the_report(code: int, step: Step) -> None:
    goal = Goal("post_clone", PARENT)
    values = {**existing("poweredOff", **{guestinfo.DONE: f"n1 {code}"}), **kind("none")}
    child, request = transitions.resume(ChildSpec("web-01"), goal, VM, values)
    assert request is Request.POWER_ON
    child, requests = run(child, Succeeded())
    assert (child.step, requests) == (step, [None])
    assert child.report == guestinfo.Report("post_clone", code, "")


def test_recorded_end_of_another_child_is_ignored() -> None:
    values = {**existing("poweredOn", **{guestinfo.DONE: "n0 0"}), **kind("none")}
    child, _request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, values)
    assert child.step is Step.RUNNING


@pytest.mark.parametrize("update_first", [True, False])
def test_old_report_is_removed_before_a_child_forks_again(update_first: bool) -> None:
    values = {**existing("poweredOff", **{guestinfo.POST_CLONE: "n1 0 "}), **kind("nonpersistent")}
    child, request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, values)
    assert (child.step, request) == (Step.FORGETTING, Request.FORGET)
    late, gone = PropertyUpdate(values), PropertyUpdate({**existing("poweredOff"), **kind("nonpersistent")})
    events: list[transitions.Event] = [late, gone, Succeeded()] if update_first else [late, Succeeded(), gone]
    child, requests = run(child, *events)
    assert requests == [None, None, Request.POWER_ON]
    child = after(child, Succeeded(), PropertyUpdate({"runtime.powerState": "poweredOn"}))
    assert child.step is Step.RUNNING
    assert after(child, PropertyUpdate(report("n1", 0))).step is Step.DONE


@pytest.mark.parametrize(
    ("goal", "persistent", "child_type", "expected"),
    [
        (Goal("post_clone", PARENT), False, None, True),
        (Goal("post_clone", PARENT), True, None, False),
        (Goal("post_clone", PARENT), False, "none", False),
        (Goal("post_clone", PARENT), True, "nonpersistent", True),
        (INSTANT_CLONE, False, None, False),
        (INSTANT_CLONE, False, "none", False),
        pytest.param(INSTANT_CLONE, False, "nonpersistent", True, id="VMFork's child on a server that was upgraded"),
    ],
)
def test_which_children_fork_again(
    goal: transitions.Goal, persistent: bool, child_type: str | None, expected: bool
) -> None:
    values = kind(child_type) if child_type is not None else {}
    assert Child(ChildSpec("web-01", persistent=persistent), goal, values=values).forks_again is expected


def test_new_child_that_cannot_be_powered_on_is_not_created_again() -> None:
    child = after(replace(new(), step=Step.STARTING), Failed("No.", "InvalidState"))
    assert (child.step, child.error) == (Step.FAILED, "No.")


@pytest.mark.parametrize(
    ("values", "fault", "message"),
    [
        pytest.param(kind("nonpersistent"), "InvalidState", "No. Remove it and create it again.", id="forks again"),
        pytest.param(kind("nonpersistent"), "InvalidPowerState", "No.", id="it runs by now"),
        pytest.param(kind("none"), "InvalidState", "No.", id="persistent"),
    ],
)
def test_power_on_that_is_refused_is_no_change(values: dict[str, Any], fault: str, message: str) -> None:
    values = {**existing("poweredOff"), **values}
    child, _request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, values)
    child = after(child, Failed("No.", fault))
    assert (child.step, child.changed, child.error) == (Step.FAILED, False, message)


def test_refusal_of_a_persistent_child_names_its_requirements() -> None:
    assert "needs a parent with a snapshot" in str(after(new(persistent=True), Failed("No.", "InvalidState")).error)
    for child in (new(), instant_clone(persistent=True)):
        assert after(child, Failed("No.", "InvalidState")).error == "No."


@pytest.mark.parametrize(
    ("wanted", "wait_for", "requests"),
    [
        ({}, "post_clone", "CREATE RECORD POWER_ON"),
        ({}, "created", "CREATE RECORD"),
        ({"persistent": True}, "post_clone", "CREATE RECORD POWER_ON NOTE"),
        ({"persistent": True}, "tools", "CREATE RECORD POWER_ON"),
        ({"secret_config_params": {"token": "a-long-secret"}}, "post_clone", "CREATE RECORD POWER_ON CLEAR"),
    ],
)
def test_requests_ahead_of_a_new_child(wanted: dict[str, Any], wait_for: str, requests: str) -> None:
    begun = transitions.begin(ChildSpec("web-01", **wanted), Goal(wait_for, PARENT))
    assert " ".join(method.name for method in transitions.ahead(*begun)) == requests


NONCE = {guestinfo.CHILD_NONCE: "n1"}


@pytest.mark.parametrize(
    ("child_type", "keys", "requests"),
    [
        ("nonpersistent", NONCE, "POWER_ON"),
        ("nonpersistent", {**NONCE, guestinfo.POST_CLONE: "n1 0 "}, "FORGET POWER_ON"),
        ("nonpersistent", {**NONCE, "guestinfo.fork.token": "a-long-secret"}, "POWER_ON CLEAR"),
        ("nonpersistent", {**NONCE, guestinfo.CHILD_SECRETS: "guestinfo.fork.token"}, "FORGET POWER_ON"),
        # This server does not show config params.
        ("nonpersistent", {}, "FORGET POWER_ON"),
        ("none", NONCE, "POWER_ON NOTE"),
        ("none", {**NONCE, guestinfo.DONE: "n1 0"}, "POWER_ON"),
    ],
)
def test_requests_ahead_of_a_powered_off_child(child_type: str, keys: dict[str, str], requests: str) -> None:
    wanted = ChildSpec("web-01", secret_config_params={"token": "a-long-secret"})
    values = {**existing("poweredOff", **keys), **kind(child_type)}
    begun = transitions.resume(wanted, Goal("post_clone", PARENT), VM, values)
    assert " ".join(method.name for method in transitions.ahead(*begun)) == requests


# --- adapters connected after the script ------------------------------------------------------------------------------

LATE = ChildSpec("web-01", networks=(Network(1), Network(2, connect="after_post_clone")))
SECRETIVE = ChildSpec("web-01", secret_config_params=SECRET)
SHOWN_SECRET = {"guestinfo.fork.token": SECRET["token"]}


def cards(second: bool, power: str = "poweredOn") -> dict[str, Any]:
    """Return two adapters; the second may be connected, and only the first has an address."""
    connected = {4000: True, 4001: second}
    devices = [
        vim.vm.device.VirtualVmxnet3(
            key=key,
            deviceInfo=vim.Description(label=f"Network adapter {key - 3999}", summary=""),
            macAddress=MAC if key == 4000 else None,
            connectable=vim.vm.device.VirtualDevice.ConnectInfo(
                startConnected=now, connected=now and power == "poweredOn", allowGuestControl=True
            ),
        )
        for key, now in connected.items()
    ]
    return {**ADDRESS, "config.hardware.device": devices, "runtime.powerState": power}


def late(wait_for: str = "post_clone") -> Child:
    """Return a new child whose script has not ended."""
    child, _request = transitions.begin(LATE, Goal(wait_for, PARENT))
    return after(child, Created(VM), PropertyUpdate({**on(), **cards(second=False)}), Succeeded(), Succeeded())


def test_adapter_is_connected_after_a_successful_script() -> None:
    child = late()
    assert child.step is Step.RUNNING
    child, requests = run(child, PropertyUpdate(report(child.nonce, 0)))
    assert (child.step, requests) == (Step.CONNECTING, [Request.CONNECT])
    assert [adapter.key for adapter in child.disconnected] == [4001]
    # Reports in between do not repeat the request, and it is done only when vCenter shows it.
    child, requests = run(child, PropertyUpdate(report(child.nonce, 0)), Succeeded())
    assert (child.step, requests) == (Step.SETTLING, [None, None])
    child, requests = run(child, PropertyUpdate(cards(second=True)))
    assert (child.step, child.error, requests) == (Step.DONE, None, [None])


def test_connected_child_gets_time_for_its_address() -> None:
    child = after(late(), PropertyUpdate({"guest.net": []}))
    child = after(
        child,
        PropertyUpdate(report(child.nonce, 0)),
        PropertyUpdate(cards(second=True) | {"guest.net": []}),
        Succeeded(),
    )
    assert child.step is Step.SETTLING
    assert after(child, PropertyUpdate(ADDRESS | cards(second=True))).step is Step.DONE
    assert after(child, Settled()).error is None


def test_adapter_that_stays_disconnected_although_the_task_succeeded() -> None:
    child = late()
    child = after(child, PropertyUpdate(report(child.nonce, 0)), Succeeded())
    for event in (Settled(), Failed("The time is over.")):
        ended = after(child, event)
        assert ended.step is Step.FAILED
        assert ended.error is not None
        assert "Could not connect the network adapters of child web-01: vCenter's task succeeded, but" in ended.error
        assert ended.error.endswith("Left disconnected: Network adapter 2.")


def test_adapter_stays_disconnected_when_the_script_fails() -> None:
    child = late()
    child, requests = run(child, PropertyUpdate(report(child.nonce, 3)))
    assert (child.step, requests) == (Step.FAILED, [None])
    assert child.error is not None
    assert (
        "exit code 3. A post-clone script runs only once in a child. Correct the cause, remove the child" in child.error
    )
    assert child.error.endswith(" Left disconnected: Network adapter 2.")
    assert transitions.unfinished(late(), 30).endswith("Left disconnected: Network adapter 2.")


def test_adapter_that_cannot_be_connected_fails_the_child() -> None:
    child = late()
    child = after(child, PropertyUpdate(report(child.nonce, 0)), Failed("No privilege."))
    assert (child.step, child.error) == (Step.FAILED, "No privilege.")


def test_child_that_is_powered_off_while_it_is_connected() -> None:
    child = late()
    child = after(
        child,
        PropertyUpdate(report(child.nonce, 0)),
        PropertyUpdate({"runtime.powerState": "poweredOff"}),
        Succeeded(),
    )
    assert child.step is Step.FAILED
    assert child.error is not None
    assert "was powered off" in child.error


def test_nothing_starts_after_a_timeout_before_the_connection() -> None:
    child = after(late(), DeadlinePassed("Late."))
    assert (child.step, child.error) == (Step.FAILED, "Late.")
    child = after(late(), PropertyUpdate(report("other", 0)))
    child = after(child, PropertyUpdate(report(child.nonce, 0)), DeadlinePassed("Late.", goes_on=True))
    assert (child.step, child.error, child.changed) == (Step.FAILED, "Late.", True)


def test_secrets_are_removed_after_the_connection() -> None:
    child, _request = transitions.begin(replace(LATE, secret_config_params=SECRET), Goal("post_clone", PARENT))
    child = after(child, Created(VM), PropertyUpdate({**on(), **cards(second=False)}), Succeeded(), Succeeded())
    child, requests = run(
        child, PropertyUpdate(report(child.nonce, 0)), PropertyUpdate(cards(second=True)), Succeeded(), Succeeded()
    )
    assert requests == [Request.CONNECT, None, Request.CLEAR, None]
    assert child.step is Step.DONE


@pytest.mark.parametrize(
    ("connected", "code", "asked_for", "message"),
    [
        (True, "0", None, None),
        (False, "0", Request.CONNECT, None),
        (False, "3", None, "Left disconnected: Network adapter 2."),
    ],
)
def test_existing_child_is_connected_once(
    connected: bool, code: str, asked_for: Request | None, message: str | None
) -> None:
    values = {**existing("poweredOn", **{guestinfo.POST_CLONE: f"n1 {code} "}), **cards(connected)}
    child, request = transitions.resume(LATE, Goal("post_clone", PARENT), VM, values)
    assert request is asked_for
    assert child.changed is False
    assert (child.error or "").endswith(message or "")
    if request is not None:
        child = after(child, PropertyUpdate(cards(second=True)), Succeeded())
        assert (child.step, child.changed) == (Step.DONE, True)


def test_outdated_power_state_is_no_power_off_when_an_adapter_is_connected() -> None:
    """The child was just powered on, and vCenter still shows its previous state."""
    off = {**existing("poweredOff", **{guestinfo.DONE: "n1 0"}), **cards(False, "poweredOff"), **kind("none")}
    child, request = transitions.resume(LATE, Goal("post_clone", PARENT), VM, off)
    assert request is Request.POWER_ON
    child, requests = run(child, Succeeded(), Succeeded())
    assert (child.step, child.error, requests) == (Step.SETTLING, None, [Request.CONNECT, None])
    assert after(child, PropertyUpdate(cards(second=True))).step is Step.DONE
    gone_off = after(child, PropertyUpdate(cards(second=False)), PropertyUpdate(cards(True, "poweredOff")))
    assert "was powered off" in str(gone_off.error)


@pytest.mark.parametrize(
    ("wanted", "keys", "more", "requests"),
    [
        pytest.param(LATE, {}, cards(second=False), "CONNECT", id="a task was killed before it connected them"),
        pytest.param(LATE, {}, cards(second=True), "", id="connected"),
        pytest.param(SECRETIVE, SHOWN_SECRET, {}, "CLEAR", id="a task was killed before it cleared them"),
        pytest.param(SECRETIVE, {}, {}, "", id="cleared"),
        pytest.param(ChildSpec("web-01"), {}, kind("none"), "NOTE", id="persistent"),
    ],
)
def test_requests_ahead_of_a_child_with_a_running_script(
    wanted: ChildSpec, keys: dict[str, str], more: dict[str, Any], requests: str
) -> None:
    values = {**existing("poweredOn", **keys), **kind("nonpersistent"), **more}
    begun = transitions.resume(wanted, Goal("post_clone", PARENT), VM, values)
    assert (begun[0].step, begun[1]) == (Step.RUNNING, None)
    assert " ".join(method.name for method in transitions.ahead(*begun)) == requests


def test_no_requests_ahead_of_a_child_that_has_ended() -> None:
    for code in ("0", "3"):
        values = {**existing("poweredOn", **{guestinfo.POST_CLONE: f"n1 {code} "}), **cards(code == "0")}
        begun = transitions.resume(LATE, Goal("post_clone", PARENT), VM, values)
        assert begun[0].is_finished
        assert transitions.ahead(*begun) == []


def test_requests_ahead_of_a_child_with_an_adapter_to_connect() -> None:
    goal = Goal("post_clone", PARENT)

    def ahead(power: str, connected: bool) -> list[Request]:
        values = {**existing(power, **{guestinfo.POST_CLONE: "n1 0 "}), **cards(connected, power), **kind("none")}
        return transitions.ahead(*transitions.resume(LATE, goal, VM, values))

    assert transitions.ahead(*transitions.begin(LATE, goal))[-1] is Request.CONNECT
    assert Request.CONNECT not in transitions.ahead(*transitions.begin(ChildSpec("web-01"), goal))
    assert ahead("poweredOff", connected=False)[:2] == [Request.POWER_ON, Request.CONNECT]
    assert Request.CONNECT not in ahead("poweredOff", connected=True)
    assert ahead("poweredOn", connected=False)[0] is Request.CONNECT


def too_early(**keys: str) -> Child:
    """Return a new child whose adapter is connected from the start; without keys, its record is missing too."""
    child, _request = transitions.begin(replace(LATE, secret_config_params=SECRET), INSTANT_CLONE)
    seen = child.record if keys else {}
    return after(
        child, Created(VM), PropertyUpdate({**on(**seen), **cards(second=True), "config.uuid": child.bios_uuid})
    )


TOO_EARLY = (
    "Child web-01 was not created with the requested networks: Network adapter 2 is connected and may answer to the"
)


def test_new_child_that_is_connected_too_early_fails_at_once() -> None:
    child = too_early(with_="record")
    assert (child.step, child.recorded) == (Step.CLEARING, True)
    child = after(child, Succeeded())
    assert child.step is Step.FAILED
    assert (child.error or "").startswith(TOO_EARLY)


def test_new_child_that_is_connected_too_early_is_still_recorded() -> None:
    child = too_early()
    assert child.step is Step.RECORDING
    recorded, requests = run(child, DeadlinePassed("Late."), Succeeded(), Succeeded())
    assert requests == [None, Request.CLEAR, None]
    assert (recorded.step, recorded.recorded) == (Step.FAILED, True)
    assert (recorded.error or "").startswith(TOO_EARLY)
    assert (recorded.error or "").endswith("Late.")
    refused = after(child, Failed("Could not record it."), Succeeded())
    assert (refused.error or "").startswith(TOO_EARLY)
    assert (refused.error or "").endswith("Could not record it.")


# --- timeouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [{}, {"secret_config_params": SECRET}], ids=["plain", "secrets"])
def test_child_being_created_is_still_recorded_and_its_secrets_removed(wanted: dict[str, Any]) -> None:
    child, requests = run(
        new(**wanted), DeadlinePassed("Late.", goes_on=True), Created(VM), PropertyUpdate(on()), Succeeded()
    )
    assert requests == [None, None, Request.RECORD, Request.CLEAR if wanted else None]
    child = after(child, Succeeded())
    assert (child.step, child.error, child.recorded, child.changed) == (Step.FAILED, "Late.", True, True)


def test_record_in_progress_is_awaited() -> None:
    child = after(new(), Created(VM), PropertyUpdate(on()), DeadlinePassed("Late.", goes_on=True))
    assert (child.step, child.error) == (Step.RECORDING, "Late.")
    assert after(child, Failed("Not yet.", "InvalidState")).step is Step.FAILED, "nothing is powered on after that"


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (DeadlinePassed("Late."), False),  # not requested yet
        (Failed("Late.", goes_on=True), True),
        (Failed("Late."), False),
    ],
)
def test_child_that_is_no_longer_awaited(event: transitions.Event, changed: bool) -> None:
    child, requests = run(new(), event)
    assert (child.step, child.error, child.changed, requests) == (Step.FAILED, "Late.", changed, [None])


def test_power_on_in_progress_is_a_change() -> None:
    child, _request = transitions.resume(ChildSpec("web-01"), Goal("powered_on", PARENT), VM, existing("poweredOff"))
    child = after(child, DeadlinePassed("Late.", goes_on=True))
    assert (child.step, child.changed) == (Step.FAILED, True)


def test_removal_of_secrets_continues_after_the_timeout() -> None:
    child = after(new(secret_config_params=SECRET), Created(VM), PropertyUpdate(on()), Succeeded(), Succeeded())
    child = after(child, PropertyUpdate({**report(child.nonce, 0), **ADDRESS}), DeadlinePassed("Late.", goes_on=True))
    assert child.step is Step.CLEARING
    assert after(child, Succeeded()).step is Step.DONE


@pytest.mark.parametrize("wait_for", transitions.GOALS)
@pytest.mark.parametrize("step", [step for step in Step if step not in (Step.DONE, Step.FAILED)])
def test_every_unfinished_state_has_a_message(wait_for: str, step: Step) -> None:
    child = Child(ChildSpec("web-01"), Goal(wait_for, PARENT), step=step)
    sentence = transitions.unfinished(child, 30)
    assert sentence.startswith("Child web-01 is not ready after 30 seconds: ")
    assert sentence.endswith(".")
    assert ("vCenter has not finished" in sentence) is (step not in (Step.RUNNING, Step.SETTLING))


@pytest.mark.parametrize("rest", ["\u00b2 x", "9" * 5000, "0 @@@", "", "0 \ud800"])
def test_invalid_report_fails_the_child(rest: str) -> None:
    """It fails now and when the task is run again; its secrets are removed."""
    child = new(secret_config_params=SECRET)
    value = {guestinfo.POST_CLONE: f"{child.nonce} {rest}", child.secret_keys[0]: "a-long-secret"}
    child, requests = run(
        child, Created(VM), PropertyUpdate(on(**value)), Succeeded(), Succeeded(), PropertyUpdate(on(**value))
    )
    assert Request.CLEAR in requests
    assert child.report == guestinfo.Report("post_clone", None, "")
    child = after(child, Succeeded())
    assert child.step is Step.FAILED
    assert child.error is not None
    assert "unreadable report to guestinfo.vmfork.post_clone" in child.error
    assert str(child.report) not in child.error


def test_vcenter_removes_what_a_guest_could_not_remove() -> None:
    """Neither the scripts nor their digest stay in a child; a blank value contains nothing and is left."""
    child = new()
    left = {
        guestinfo.SCRIPTS: "0123",
        f"{guestinfo.PAYLOAD}.0": "x",
        f"{guestinfo.PAYLOAD}.1": " ",
        f"{guestinfo.PAYLOAD}.2": "",
    }
    values = on(**{guestinfo.POST_CLONE: reported(child.nonce, 0), **left}, **{"guestinfo.other": "x"})
    child, requests = run(child, Created(VM), PropertyUpdate(values), Succeeded(), Succeeded(), Settled())
    assert requests[-1] is Request.NOTE
    assert {key for key, value in child.note.items() if value == ""} == {guestinfo.SCRIPTS, f"{guestinfo.PAYLOAD}.0"}


def test_child_whose_guest_could_only_blank_its_values_is_not_reconfigured() -> None:
    """Neither the end of its script nor a run without changes reconfigures it: blank values are not secret."""
    child = new()
    blank = {guestinfo.SCRIPTS: " ", f"{guestinfo.PAYLOAD}.0": " "}
    values = on(**{guestinfo.POST_CLONE: reported(child.nonce, 0), **blank, **child.record})
    assert Request.NOTE not in run(child, Created(VM), PropertyUpdate(values), Succeeded(), Succeeded(), Settled())[1]
    again, request = transitions.resume(child.spec, child.goal, VM, values)
    assert (again.step, request) == (Step.DONE, None)


@pytest.mark.parametrize(
    ("child_type", "power_state", "milestones"),
    [
        ("nonpersistent", "poweredOff", ["created"]),
        ("none", "poweredOff", ["created", "post_clone"]),
        ("nonpersistent", "poweredOn", ["created", "powered_on", "post_clone"]),
    ],
)
def test_report_of_an_earlier_run_is_no_milestone(child_type: str, power_state: str, milestones: list[str]) -> None:
    values = {**existing(power_state, **{guestinfo.POST_CLONE: "n1 0 "}), **kind(child_type)}
    child, _request = transitions.resume(ChildSpec("web-01"), Goal("post_clone", PARENT), VM, values)
    assert [milestone for milestone in transitions.milestones(child) if milestone != "ready"] == milestones
