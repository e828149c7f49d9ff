# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost answers, dropped sessions, failing tasks: no child is created twice, and none is forgotten."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
from functional.engines import CREATE, MOB, SOAP, both_engines, every_transport, vmfork_only
from functional.vcenter import PRE_QUIESCE, VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._properties import Watch, scan
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

pytestmark = both_engines

STEP_BY_STEP = vmfork_only("an instant clone runs from its creation on, and has its record")
POWER_ON = pytest.param("PowerOnVM_Task", marks=STEP_BY_STEP)
RECONFIGURE = pytest.param("ReconfigVM_Task", marks=both_engines)
SECRET = "kept-out-of-sight-0123456789"


def vms(vcenter: VCenter) -> list[str]:
    return sorted(line.rpartition("/")[2] for line in vcenter.govc("find", "/DC0/vm", "-type", "m").splitlines())


def remove_children(vcenter: VCenter) -> None:
    """Remove all children of the parent, for the next part of a test."""
    removed = vcenter.ok("vmfork_child", parent_name=vcenter.parent, state="absent", all=True)
    assert removed["summary"]["failed"] == 0


@every_transport
@pytest.mark.parametrize("method", [CREATE, POWER_ON, RECONFIGURE])
def test_lost_answer(quiesced: VCenter, method: str) -> None:
    before = vms(quiesced)
    for result, drop in product(("child", "unset"), ("before", "after")):
        for rule in ("create_result", "instant_clone_result"):
            quiesced.rule(rule, result)
        quiesced.fault(method=quiesced.engine.method(method), at="call", drop=drop, count=1)
        made = quiesced.fork("web-01", "web-02")
        assert [child["state"] for child in made["children"]] == ["created", "created"], (result, drop)
        assert vms(quiesced) == sorted([*before, "web-01", "web-02"]), (result, drop)
        assert quiesced.fork("web-01", "web-02")["changed"] is False, (result, drop)
        remove_children(quiesced)


@every_transport
@pytest.mark.parametrize("method", [CREATE, POWER_ON, RECONFIGURE])
def test_task_that_vanishes(quiesced: VCenter, method: str) -> None:
    """vCenter restarts. Its operation goes on, so either its effect is there, or the module repeats the request."""
    before = vms(quiesced)
    quiesced.fault(method=quiesced.engine.method(method), at="vanish", count=1)
    made = quiesced.fork("web-01", "web-02")
    assert [child["state"] for child in made["children"]] == ["created", "created"]
    assert made["changed"]
    assert made["summary"]["seconds"] < 60
    assert vms(quiesced) == sorted([*before, "web-01", "web-02"])
    assert quiesced.fork("web-01", "web-02")["changed"] is False


@every_transport
def test_answers_that_are_lost_every_time(quiesced: VCenter) -> None:
    before = vms(quiesced)
    quiesced.fault(method=quiesced.engine.create, at="call", drop="before", count=0)
    refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01")
    assert "Could not create child web-01: The connection to 127.0.0.1 broke during a call" in refusal.msg
    assert vms(quiesced) == before


@every_transport
@pytest.mark.parametrize("on_failure", ["keep", "remove"])
def test_creation_that_outlives_the_deadline(quiesced: VCenter, on_failure: str) -> None:
    """The child is recorded when it appears, and keeps no secret."""
    given = {"parent_name": quiesced.parent, "name": "web-01", "secret_config_params": {"token": SECRET}}
    quiesced.fault(method=quiesced.engine.create, at="task", delay_ms=8000, count=1)
    refusal = quiesced.fails("vmfork_child", **given, timeout=4, on_failure=on_failure)
    assert "is not ready after 4 seconds: vCenter has not finished its creation" in refusal.msg
    assert refusal["changed"]
    if on_failure == "remove":
        assert not quiesced.exists("/DC0/vm/web-01")
        return
    assert SECRET not in quiesced.govc("vm.info", "-json", "-e", "web-01")
    assert refusal.child("web-01")["power_state"] == ("poweredOn" if quiesced.engine.starts_running else "poweredOff")
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
    assert gone.child("web-01")["state"] == "removed"


@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_lost_answer_to_the_start_of_the_runner(vcenter: VCenter, delivery: str) -> None:
    """The runner is running: it must not be started again, and its files must not be removed."""
    vcenter.enable()
    vcenter.fault(method="StartProgramInGuest", at="call", drop="after", count=1)
    with vcenter.calls() as calls:
        done = vcenter.quiesce(pre_quiesce_script="sleep 6\n" + PRE_QUIESCE, script_delivery=delivery)
    assert calls["StartProgramInGuest"] == 1
    assert done["parent"]["quiesced"]
    assert done["guest"]["pid"]
    child = vcenter.fork("web-01").child("web-01")
    assert vcenter.in_guest(child["moid"], "cat /root/pre-quiesce-ran").split() == ["once"]


def test_runner_with_a_lost_start_answer_fails(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.fault(method="StartProgramInGuest", at="call", drop="after", count=1)
    given = {"name": vcenter.parent, **vcenter.guest_login, "timeout": 30}
    refusal = vcenter.fails("vmfork_quiesce", **given, pre_quiesce_script="exit 3")
    assert "the pre-quiesce script failed (exit code 3)" in refusal.msg


@pytest.mark.parametrize("drop", ["before", "after"])
@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_runner_with_a_lost_start_answer_times_out(vcenter: VCenter, drop: str, delivery: str) -> None:
    moid = vcenter.enable()["parent"]["moid"]
    vcenter.in_guest(moid, "true")
    vcenter.fault(method="StartProgramInGuest", at="call", drop=drop, count=1)
    given = {"name": vcenter.parent, **vcenter.guest_login, "script_delivery": delivery, "timeout": 6}
    with vcenter.calls() as calls:
        refusal = vcenter.fails("vmfork_quiesce", **given, pre_quiesce_script="sleep 300; touch /root/went-on")
    assert calls["StartProgramInGuest"] == 1
    # The module looked for it in the guest, and found it only if it had been started.
    assert ("the answer to the start of the runner in its guest was lost" in refusal.msg) is (drop == "before")
    assert "did not reach the fork point within 6 seconds" in refusal.msg
    until = time.monotonic() + 20
    while (left := vcenter.in_guest(moid, "pgrep -x sleep").split()) and time.monotonic() < until:
        pass  # the runner gives the script a second to end
    assert left == []
    assert vcenter.in_guest(moid, "ls /root /tmp").split() == ["/root:", "/tmp:"]
    assert not [key for key, value in vcenter.guest(moid)["guestinfo"].items() if "payload" in key and value.strip()]


def test_lost_answer_to_a_read(quiesced: VCenter) -> None:
    for method in ("WaitForUpdatesEx", "RetrievePropertiesEx", "CreateListView", "CreateFilter", "CreateContainerView"):
        quiesced.fault(method=method, at="call", drop="after", count=1)
        assert quiesced.fork("web-01")["summary"]["created"] == 1, method
        remove_children(quiesced)


@pytest.mark.flags("-guest", "none")
def test_lost_page_of_a_large_inventory(vcenter: VCenter) -> None:
    """A page's token is valid once, and in one session only."""
    vcenter.control("POST", "inventory", {"vms": 1100, "name": "many-%04d", "folder": "/DC0/vm"})
    for fault in ({"drop": "before"}, {"drop": "after"}, {"fault": "NotAuthenticated"}):
        vcenter.fault(method="ContinueRetrievePropertiesEx", at="call", count=1, **fault)
        with vcenter.calls() as calls:
            assert vcenter.ok("vmfork_parent", name="many-1099", check=True)["parent"]["name"] == "many-1099"
        assert calls["ContinueRetrievePropertiesEx"] == 2, fault


@every_transport
def test_session_dropped_by_the_server(quiesced: VCenter) -> None:
    methods = [quiesced.engine.create]
    if quiesced.engine is SOAP:
        methods.append("PowerOnVM_Task")
    if quiesced.engine is not MOB:
        methods += ["WaitForUpdatesEx", "ModifyListView", "RetrievePropertiesEx", "CreateFilter", "CreateContainerView"]
    for method in methods:
        quiesced.fault(method=method, at="call", fault="NotAuthenticated", count=1)
        with quiesced.calls() as calls:
            made = quiesced.fork("web-01", "web-02")
        assert made["summary"]["created"] == 2, method
        assert calls["Login"] == quiesced.engine.logins + 1, method
        assert calls[quiesced.engine.create] <= 4, method  # both children may be requested before the session ends
        assert calls["Logout"] == quiesced.engine.logins, method
        remove_children(quiesced)


@pytest.mark.flags("-guest", "none")
def test_session_dropped_under_several_threads(vcenter: VCenter) -> None:
    """One thread logs in again, once, and every watch continues."""
    simulator = vcenter.simulator
    every, dropped = threading.Barrier(8), threading.Event()

    def follow(session: Session, vm: Any) -> dict[str, Any]:
        with Watch(session, {vim.VirtualMachine: ["name"]}) as watch:
            watch.add([vm])
            assert watch.updates(10)
            if every.wait(30) == 0:
                vcenter.control("DELETE", "sessions")
                dropped.set()
            dropped.wait(30)
            for _attempt in range(5):
                for _vm, values in watch.updates(10):
                    return dict(values or {})
        return {}

    with Session(
        Server(simulator.host, simulator.username, simulator.password, simulator.port, validate_certs=False)
    ) as session:
        vm = next(iter(scan(session, session.content.rootFolder, vim.VirtualMachine, ["name"])))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _number: follow(session, vm), range(8)))
        assert session.logins == 2
    assert all("name" in values for values in answers)


@every_transport
@pytest.mark.parametrize("at", ["call", "task"])
def test_failing_request_fails_one_child(quiesced: VCenter, at: str) -> None:
    requests = {quiesced.engine.create: "Could not create child"}
    if quiesced.engine.starts_running:
        requests["ReconfigVM_Task"] = "Could not record the end of the post-clone script"
    elif quiesced.engine is not MOB:
        requests["ReconfigVM_Task"] = "Could not record child"
        requests["PowerOnVM_Task"] = "Could not power on child"
    for method, message in requests.items():
        quiesced.fault(method=method, at=at, fault="InsufficientResourcesFault", message="No memory is left", count=1)
        children = [{"name": f"{method}-{number}"} for number in range(3)]
        given: dict[str, Any] = {"parent_name": quiesced.parent, "children": children}
        refusal = quiesced.fails("vmfork_child", **given)
        assert (refusal["summary"]["created"], refusal["summary"]["failed"]) == (2, 1), method
        assert message in refusal.msg
        assert "InsufficientResourcesFault" in refusal.msg
        again = quiesced.ok("vmfork_child", **given)
        assert again["summary"]["failed"] == 0, method
        assert quiesced.ok("vmfork_child", **given)["changed"] is False, method


def test_power_off_that_fails(quiesced: VCenter) -> None:
    given: dict[str, Any] = {"parent_name": quiesced.parent, "state": "absent", "all": True}
    for at, fault, message in (
        ("task", "ManagedObjectNotFound", "ManagedObjectNotFound"),
        ("task", "InvalidPowerState", "cannot be performed in the current state (poweredOff)"),
        ("task", "UnknownFault", "vCenter reports a fault that pyVmomi does not know"),
        ("call", "InvalidPowerState", "cannot be performed in the current state (poweredOff)"),
        ("call", "UnknownFault", "answered with something that pyVmomi"),
    ):
        quiesced.fork("web-01", "web-02", wait_for="powered_on")
        quiesced.fault(method="PowerOffVM_Task", at=at, fault=fault, count=1)
        refusal = quiesced.fails("vmfork_child", **given)
        assert message in refusal.msg
        assert (refusal["summary"]["removed"], refusal["summary"]["failed"]) == (1, 1), (at, fault)
        assert quiesced.ok("vmfork_child", **given)["summary"]["removed"] == 1, (at, fault)


@every_transport
@pytest.mark.parametrize("at", ["call", "task"])
def test_busy_vms(quiesced: VCenter, at: str) -> None:
    """A request refused because of another task on the VM is repeated, also during the cleanup."""
    for method in (quiesced.engine.create, "ReconfigVM_Task", "PowerOnVM_Task", "PowerOffVM_Task", "Destroy_Task"):
        for fault in ("TaskInProgress", "ConcurrentAccess"):
            quiesced.fault(method=method, at=at, fault=fault, count=1)
    assert quiesced.fork("web-01")["summary"]["created"] == 1
    assert quiesced.fork("web-01")["changed"] is False
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
    assert gone["summary"]["removed"] == 1


@every_transport
def test_children_in_parallel(quiesced: VCenter) -> None:
    names = [f"web-{number:02}" for number in range(20)]
    made = quiesced.fork(*names, concurrency=3)
    assert made["summary"]["created"] == 20
    assert [child["name"] for child in made["children"]] == names
    assert len({child["uuid"] for child in made["children"]}) == 20


@pytest.mark.flags("-guest-password", "guests-own-long-password")
def test_no_secret_in_the_process_list(vcenter: VCenter) -> None:
    """Every user of a guest can see its processes."""
    vcenter.enable()
    it = vcenter.moid()
    given = {"guest_username": "root", "guest_password": "guests-own-long-password", "timeout": 30}
    for delivery in ("file_transfer", "guestinfo"):
        script = "for one in /proc/[0-9]*; do tr '\\0' ' ' <$one/cmdline; done; exit 1"
        refusal = vcenter.fails(
            "vmfork_quiesce", name=vcenter.parent, pre_quiesce_script=script, script_delivery=delivery, **given
        )
        assert "runner" in refusal["guest"]["output"]
        assert "guests-own" not in refusal["guest"]["output"]
    assert vcenter.guest(it)["frozen"] is False


@pytest.mark.parametrize("state", ["present", "absent"])
def test_server_lost_halfway(quiesced: VCenter, state: str) -> None:
    """The result contains everything known so far."""
    given: dict[str, Any] = {"parent_name": quiesced.parent, "children": [{"name": "web-01"}, {"name": "web-02"}]}
    if state == "absent":
        quiesced.fork("web-01", "web-02")
    quiesced.fault(method="WaitForUpdatesEx", at="call", fault="NotAuthenticated", count=0)
    refusal = quiesced.fails("vmfork_child", state=state, **given)
    assert refusal["summary"]["failed"] == 2
    assert "ended the session" in refusal.msg
    assert [child["name"] for child in refusal["children"]] == ["web-01", "web-02"]
    assert refusal["changed"], "vCenter had accepted the requests"


def test_server_lost_while_a_child_with_secrets_is_created(quiesced: VCenter) -> None:
    """It is not known whether the child exists; the result warns that its secrets may remain."""
    quiesced.fault(method="WaitForUpdatesEx", at="call", fault="NotAuthenticated", count=0)
    given = {"parent_name": quiesced.parent, "name": "web-01", "secret_config_params": {"token": SECRET}}
    refusal = quiesced.fails("vmfork_child", **given)
    assert "Could not confirm that secret_config_params were removed from child web-01" in str(refusal["warnings"])
    assert refusal["changed"]


@pytest.fixture
def failing(vcenter: VCenter) -> VCenter:
    """Return a parent at its fork point whose children fail."""
    vcenter.enable()
    vcenter.quiesce(post_clone_script="exit 7")
    return vcenter


@pytest.mark.parametrize(
    ("lost", "power_state", "message"),
    [
        ({"method": "PowerOffVM_Task", "drop": "before"}, "poweredOn", "Could not power off child web-01: The connec"),
        ({"method": "Destroy_Task", "drop": "before"}, "poweredOff", "Could not remove child web-01: The connection"),
        ({"method": "Destroy_Task", "drop": "after"}, None, "The child was removed."),
        ({"method": "Destroy_Task", "fault": "NotAuthenticated"}, "poweredOff", "Could not remove child web-01: "),
    ],
)
def test_server_lost_while_a_failed_child_is_removed(
    failing: VCenter, lost: dict[str, Any], power_state: str | None, message: str
) -> None:
    failing.fault(at="call", count=0, **lost)
    refusal = failing.fails("vmfork_child", parent_name=failing.parent, name="web-01", on_failure="remove")
    child = refusal.child("web-01")
    assert child["error"].startswith("The post-clone script failed in child web-01: exit code 7. A post-clone script")
    assert message in child["error"]
    assert child["power_state"] == power_state
    assert failing.exists("/DC0/vm/web-01") == bool(power_state)


def test_server_lost_before_a_failed_child_is_removed(failing: VCenter) -> None:
    with failing.calls() as calls:
        failing.fails("vmfork_child", parent_name=failing.parent, name="web-00")
    failing.fault(method="RetrievePropertiesEx", at="call", drop="before", after=calls["RetrievePropertiesEx"], count=0)
    refusal = failing.fails("vmfork_child", parent_name=failing.parent, name="web-01", on_failure="remove")
    child = refusal.child("web-01")
    assert child["error"].startswith("The post-clone script failed in child web-01: exit code 7.")
    assert "Could not examine child web-01: The connection to 127.0.0.1 broke" in child["error"]
    assert (child["power_state"], child["post_clone"]["exit_code"]) == ("poweredOn", 7)


@pytest.mark.parametrize("method", ["PowerOffVM_Task", "Destroy_Task"])
def test_lost_answer_to_a_removal(quiesced: VCenter, method: str) -> None:
    quiesced.fork("web-01")
    quiesced.fault(method=method, at="call", drop="after", count=0)
    quiesced.fault(method=method, at="task", delay_ms=1000, count=1)
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
    assert (gone["changed"], gone.child("web-01")["state"]) == (True, "removed")


@pytest.mark.parametrize("method", ["PowerOffVM_Task", "Destroy_Task"])
def test_removal_that_outlives_the_deadline(quiesced: VCenter, method: str) -> None:
    quiesced.fork("web-01", wait_for="powered_on")
    quiesced.fault(method=method, at="task", delay_ms=8000, count=1)
    given = {"parent_name": quiesced.parent, "name": "web-01", "state": "absent"}
    refusal = quiesced.fails("vmfork_child", **given, timeout=4)
    assert "The task continues" in refusal.msg
    assert refusal["changed"]
