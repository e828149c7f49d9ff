# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of children that have data of their own, and detached children."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from functional.engines import CHANGING, INSTANT_CLONE, SOAP, instant_clone_only
from functional.vcenter import VCenter

pytestmark = pytest.mark.engines(SOAP, INSTANT_CLONE, why="removal calls no hidden method through the MOB")

BACKUP = "VEEAM BACKUP TEMPORARY SNAPSHOT"


def states(result: dict[str, Any]) -> dict[str, str]:
    return {child["name"]: child["state"] for child in result["children"]}


def fork(vcenter: VCenter, *names: str) -> None:
    vcenter.fork(*names, wait_for="powered_on")


def test_child_with_own_data_is_not_destroyed(quiesced: VCenter) -> None:
    fork(quiesced, "plain", "kept", "disk", "template")
    quiesced.govc("snapshot.create", "-vm", "plain", "nightly")
    quiesced.govc("vm.change", "-vm", "plain", "-annotation", "Ask Jo before you delete it")
    quiesced.govc("vm.disk.create", "-vm", "disk", "-name", "disk/data", "-size", "1M")
    quiesced.govc("vm.power", "-off", "template")
    quiesced.govc("vm.markastemplate", "template")
    gone: dict[str, Any] = {"parent_name": quiesced.parent, "state": "absent", "all": True}
    with quiesced.calls() as calls:
        checked = quiesced.fails("vmfork_child", **gone, check=True, diff=True)
    assert not CHANGING & set(calls)
    assert states(checked) == {"plain": "removed", "kept": "removed", "disk": "failed", "template": "failed"}
    ended = quiesced.fails("vmfork_child", **gone, diff=True)
    assert states(ended) == states(checked)
    for result in (checked, ended):
        assert "it was converted to a template" in result.child("template")["error"]
        assert "disk/data.vmdk" in result.child("disk")["error"]
        assert "Set force=true" in result.child("disk")["error"]
        for part in ("snapshots (nightly)", "note of its own (Ask Jo before you delete it)"):
            assert part in str(result["warnings"])
            assert part in result["diff"]["before"]["plain"]
        assert "disk/data.vmdk" in result["diff"]["before"]["disk"]
        assert result["diff"]["before"]["kept"] == "poweredOn"
        assert "kept" not in str(result["warnings"])
    assert quiesced.exists("/DC0/vm/disk")
    assert quiesced.exists("/DC0/vm/template")
    forced = quiesced.ok("vmfork_child", **gone, force=True)
    assert states(forced) == {"disk": "removed", "template": "removed"}
    assert "disk/data.vmdk" in str(forced["warnings"])
    again = quiesced.ok("vmfork_child", **gone, force=True)
    assert (again["changed"], again["children"]) == (False, [])


@instant_clone_only("with the VMFork methods a child cannot be a parent, as far as is known")
def test_parent_of_children_is_not_destroyed(quiesced: VCenter) -> None:
    fork(quiesced, "middle")
    more = {"parent_name": "middle", "allow_running_parent": True, "wait_for": "powered_on"}
    quiesced.ok("vmfork_child", name="leaf", **more)
    gone: dict[str, Any] = {"parent_name": quiesced.parent, "state": "absent", "name": "middle"}
    refusal = quiesced.fails("vmfork_child", **gone)
    assert "it is itself the parent of leaf." in refusal.msg
    quiesced.ok("vmfork_child", name="leaf", state="absent", parent_name="middle")
    assert quiesced.ok("vmfork_child", **gone)["changed"]


def test_running_backup_is_waited_for(quiesced: VCenter) -> None:
    fork(quiesced, "web-01")
    quiesced.govc("snapshot.create", "-vm", "web-01", BACKUP)
    gone: dict[str, Any] = {"parent_name": quiesced.parent, "state": "absent", "name": "web-01"}
    checked = quiesced.ok("vmfork_child", **gone, check=True)
    assert f"a backup seems to be running on it (snapshot {BACKUP})" in str(checked["warnings"])
    refusal = quiesced.fails("vmfork_child", **gone, timeout=1)
    assert f"(snapshot {BACKUP}), which did not end within 1 second" in refusal.msg
    assert not refusal["changed"]
    with quiesced.at_call("WaitForUpdatesEx", quiesced.govc, "snapshot.remove", "-vm", "web-01", BACKUP):
        assert states(quiesced.ok("vmfork_child", **gone)) == {"web-01": "removed"}


def test_running_task_is_waited_for(quiesced: VCenter) -> None:
    fork(quiesced, "web-01")
    quiesced.fault(method="CreateSnapshot_Task", at="task", delay_ms=1500, count=1)
    with quiesced.calls():
        other = threading.Thread(target=quiesced.govc, args=("snapshot.create", "-vm", "web-01", "nightly"))
        other.start()
        while not quiesced.called().get("CreateSnapshot_Task"):
            time.sleep(0.02)
        ended = quiesced.ok("vmfork_child", parent_name=quiesced.parent, state="absent", name="web-01")
        other.join()
    assert states(ended) == {"web-01": "removed"}
    assert "snapshots (nightly)" in str(ended["warnings"])


def test_child_is_detached(quiesced: VCenter) -> None:
    fork(quiesced, "web-01", "web-02")
    away: dict[str, Any] = {"parent_name": quiesced.parent, "state": "detached", "name": "web-01"}
    before = quiesced.govc("vm.info", "-e", "web-01")
    assert "vmfork.child" in before
    with quiesced.calls() as calls:
        checked = quiesced.ok("vmfork_child", **away, check=True, diff=True)
    assert not CHANGING & set(calls)
    with quiesced.calls() as calls:
        done = quiesced.ok("vmfork_child", **away, diff=True)
    assert {name: calls[name] for name in CHANGING & set(calls)} == {"ReconfigVM_Task": 1}
    assert (checked["changed"], checked["diff"], states(checked)) == (True, done["diff"], states(done))
    assert states(done) == {"web-01": "detached"}
    assert done["diff"] == {
        "before": {"web-01": "poweredOn; child of the parent"},
        "after": {"web-01": "poweredOn; foreign VM"},
    }
    assert "vmfork.child" not in quiesced.govc("vm.info", "-e", "web-01")
    again = quiesced.ok("vmfork_child", **away, diff=True)
    assert (again["changed"], states(again)) == (False, {"web-01": "detached"})
    assert again["diff"]["before"] == again["diff"]["after"]
    # From now on it is a foreign VM, also when it is off.
    quiesced.govc("vm.power", "-off", "web-01")
    for state in ("present", "absent"):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, state=state, name="web-01")
        assert "is not a child that this collection created" in refusal.msg
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, state="absent", all=True)
    assert states(gone) == {"web-02": "removed"}
    assert quiesced.exists("/DC0/vm/web-01")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "web-1", "state": "detached"}, "VM web-1 was not found, so it is not detached."),
        ({"name": "web-01", "state": "detached", "force": True}, "force=true is only for state=absent"),
        ({"name": "web-01", "state": "present", "force": True}, "force=true is only for state=absent"),
    ],
)
def test_refused(vcenter: VCenter, given: dict[str, Any], message: str) -> None:
    assert message in vcenter.fails("vmfork_child", parent_name=vcenter.parent, **given).msg
