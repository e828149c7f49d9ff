# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vapp_restore against the simulator: many VMs with one login, in parallel, and what happens when one of them fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from functional.test_vapp_options import LATER, RECONFIGURE, SECRET, appliance, stored
from functional.vapp import Appliance, Estate, estate
from functional.vcenter import Result, VCenter
from harness.simulator import Simulator

COUNT = 12


@pytest.fixture
def place() -> Iterator[Estate]:
    with Simulator("-vm", "0", "-host", "1", "-exit-after", "10m") as simulator, estate(VCenter(simulator)) as made:
        yield made


def lost(place: Estate) -> tuple[list[Appliance], list[dict[str, Any]]]:
    """Return VMs that have lost their vApp options, and the argument that restores them."""
    vms = [appliance(place, f"web-{number:02}") for number in range(COUNT)]
    exported = place.vcenter.ok("vm_ovfenv_info", export=True)["ovfenv"]
    for vm in vms:
        vm.reconfigure(vAppConfigRemoved=True)
    documents = {vm["moid"]: vm["export"] for vm in exported}
    return vms, [{"moid": vm.moid, "restore_from": documents[vm.moid], "secret_values": {"admin": LATER}} for vm in vms]


def clean(result: Result) -> Result:
    assert SECRET not in result.raw
    assert LATER not in result.raw
    return result


def names(result: Result, which: str) -> list[str]:
    return [vm["name"] for vm in result["vms"] if vm[which]]


def test_check_run_run_again(place: Estate) -> None:
    vms, entries = lost(place)
    everyone = [vm.name for vm in vms]
    with place.vcenter.calls() as calls:
        checked = clean(place.vcenter.ok("vapp_restore", check=True, diff=True, vms=entries))
    assert RECONFIGURE not in calls
    assert sum(calls.values()) < COUNT, "no call for each VM"
    with place.vcenter.calls() as calls:
        done = clean(place.vcenter.ok("vapp_restore", diff=True, vms=entries))
    assert names(checked, "changed") == names(done, "changed") == everyone
    assert checked["vms"] == done["vms"]
    assert checked["diff"] == done["diff"]
    assert (calls["Login"], calls[RECONFIGURE]) == (1, COUNT)
    with place.vcenter.calls() as calls:
        again = clean(place.vcenter.ok("vapp_restore", vms=entries))
    assert not again["changed"]
    assert sum(calls.values()) < COUNT, "no call for each VM"
    assert {vm.name: stored(vm)["hostname"] for vm in vms} == dict.fromkeys(everyone, ("old", ""))


def test_several_vms_are_written_at_the_same_time(place: Estate) -> None:
    """Each reconfigure takes two seconds, and only four run at a time."""
    _vms, entries = lost(place)
    place.vcenter.fault(method=RECONFIGURE, at="task", delay_ms=2000, count=0)
    clean(place.vcenter.ok("vapp_restore", vms=entries, concurrency=4, timeout=COUNT * 2 - 6))


def test_failure_of_a_vm_does_not_stop_the_others(place: Estate) -> None:
    vms, entries = lost(place)
    place.vcenter.fault(method=RECONFIGURE, at="task", fault="InvalidPowerState", vm=vms[3].moid, count=1)
    failed = clean(place.vcenter.fails("vapp_restore", vms=entries))
    assert names(failed, "failed") == [vms[3].name]
    assert failed.msg.startswith(f"1 of {COUNT} VMs could not be restored. ")
    assert f"VM {vms[3].name}" in failed.msg
    again = clean(place.vcenter.ok("vapp_restore", vms=entries))
    assert names(again, "changed") == [vms[3].name]


def test_signal(place: Estate) -> None:
    """What was begun is restored or not, and the next run completes it."""
    vms, entries = lost(place)
    stopped = clean(
        place.vcenter.run("vapp_restore", vms=entries, concurrency=2, signal_at=(signal.SIGTERM, RECONFIGURE, 4))
    )
    assert stopped.get("failed")
    assert "received SIGTERM" in stopped.msg
    assert len(names(stopped, "failed")) < COUNT
    clean(place.vcenter.ok("vapp_restore", vms=entries))
    assert {stored(vm)["hostname"] for vm in vms} == {("old", "")}
