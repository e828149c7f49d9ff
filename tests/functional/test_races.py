# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tasks that the simulator releases at the same moment, and tasks that are killed and run again."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from functional.engines import both_engines
from functional.vcenter import Result, VCenter

pytestmark = both_engines

NAMES = ("web-01", "web-02")
SECRET = "kept-out-of-sight-0123456789"


def twice(vcenter: VCenter, method: str, **arguments: object) -> list[Result]:
    """Run the same task twice; both tasks call this method at the same time."""
    vcenter.fault(method=method, at="call", gather=2)
    given = {"parent_name": vcenter.parent, "children": [{"name": name} for name in NAMES], **arguments}
    with ThreadPoolExecutor() as both:
        started = [both.submit(vcenter.run, "vmfork_child", **given) for _number in range(2)]
        results = [future.result() for future in started]
    assert vcenter.control("GET", "faults")[-1]["fired"] == 2  # they did meet
    return results


def others(vcenter: VCenter) -> list[str]:
    """Return the inventory paths in the folder except those of the children."""
    return [path for path in vcenter.govc("ls", "-i", "-l", "/DC0/vm").splitlines() if "/web-" not in path]


def test_two_at_once(quiesced: VCenter) -> None:
    """There is one child of each name, it is detached or removed, and both tasks report the truth."""
    before = others(quiesced)
    made = twice(quiesced, quiesced.engine.create)
    assert [result.msg for result in made if result.get("failed")] == []
    assert sorted(quiesced.govc("ls", "/DC0/vm").split())[-2:] == [f"/DC0/vm/{name}" for name in NAMES]
    for name in NAMES:
        children = [result.child(name) for result in made]
        assert sorted(child["state"] for child in children) == ["created", "existing"]
        assert len({child["moid"] for child in children}) == 1
        assert all(child["post_clone"]["done"] for child in children)

    gone = twice(quiesced, "PowerOffVM_Task", state="absent")
    assert [result.msg for result in gone if result.get("failed")] == []
    assert any(result["changed"] for result in gone)
    assert {result.child(name)["state"] for result in gone for name in NAMES} <= {"removed", "absent"}
    assert not any(quiesced.exists(f"/DC0/vm/{name}") for name in NAMES)

    quiesced.fork(*NAMES)
    given_away = twice(quiesced, "ReconfigVM_Task", state="detached")
    assert [result.msg for result in given_away if result.get("failed")] == []
    assert any(result["changed"] for result in given_away)
    refused = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name=NAMES[0], state="absent")
    assert not refused["changed"]
    assert all(quiesced.exists(f"/DC0/vm/{name}") for name in NAMES)
    assert others(quiesced) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("step", ["create", "WaitForUpdatesEx", "ReconfigVM_Task"])
def test_killed_and_run_again(quiesced: VCenter, number: signal.Signals, step: str) -> None:
    """The signal arrives while the server handles the call; a task that is almost done may still succeed."""
    method = quiesced.engine.create if step == "create" else step
    quiesced.fault(method=method, at="call", delay_ms=500, count=2)
    given = {"parent_name": quiesced.parent, "name": "web-01", "secret_config_params": {"token": SECRET}}
    first = quiesced.run("vmfork_child", **given, signal_at=(number, method, 0))
    if first.get("failed"):
        assert "received SIGTERM" in first.msg
        assert "received SIGTERM" in first.child("web-01")["error"]
        assert "seconds" not in first.child("web-01")["error"]
    else:
        assert number == signal.SIGKILL or first.child("web-01")["secrets_cleared"]
    again = quiesced.run("vmfork_child", **given)
    is_running = quiesced.engine.starts_running or step == "WaitForUpdatesEx"
    if is_running and "was removed before the script began" in again.msg:
        quiesced.ok("vmfork_child", parent_name=quiesced.parent, name="web-01", state="absent")
        again = quiesced.run("vmfork_child", **given)
    assert not again.get("failed"), again.msg
    child = again.child("web-01")
    assert (child["post_clone"]["exit_code"], child["secrets_cleared"]) == (0, True)
    shown = quiesced.govc("object.collect", "-json", f"VirtualMachine:{child['moid']}", "config")
    assert SECRET not in shown
    assert quiesced.ok("vmfork_child", **given)["changed"] is False
