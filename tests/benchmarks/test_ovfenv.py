# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of a report on OVF environments: calls to vCenter and seconds, with 10, 1,000 and 2,000 VMs.

A tenth of the VMs runs with vApp options, and no guest is probed. `make costs` prints the table. Seconds are those of
the module's process; the simulator runs on the same machine, so they differ from those of a real vCenter.
"""

from __future__ import annotations

import time

import pytest
from functional.vapp import estate, prop
from functional.vcenter import VCenter
from harness.simulator import Simulator

FLAGS = ("-api-version", "8.0.3.0", "-vm", "1", "-host", "1", "-guest", "none", "-exit-after", "20m")
PAGES = ("ContinueRetrievePropertiesEx", "ReadNextEvents", "ReadNextTasks")


def report(vms: int) -> tuple[int, int, int, float]:
    """Return the calls, the pages among them, the running VMs with vApp options, and the seconds."""
    with Simulator(*FLAGS) as simulator:
        vcenter = VCenter(simulator)
        count = vms // 10
        vcenter.control("POST", "inventory", {"vms": vms - 2 - count, "name": "other-%04d", "folder": "/DC0/vm"})
        with estate(vcenter) as made:
            for number in range(count):
                made.appliance(f"app-{number:04}", prop("hostname", "web"), prop("ip0", "192.0.2.5")).power_on()
        with vcenter.calls() as calls:
            began = time.monotonic()
            result = vcenter.ok("vm_ovfenv_info")
            seconds = time.monotonic() - began
        assert result["summary"]["total"] == vms
        assert result["summary"]["by_status"] == {"delivered_assumed": count, "not_configured": vms - count}
        return sum(calls.values()), sum(calls.get(page, 0) for page in PAGES), count, seconds


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = (10, 1000, 2000)
    costs = [report(vms) for vms in sizes]
    with capsys.disabled():
        print(f"\n\n{'VMs':>8}{'running with vApp options':>28}{'calls':>8}{'pages':>8}{'s':>8}")
        for vms, (calls, pages, appliances, seconds) in zip(sizes, costs, strict=True):
            print(f"{vms:8}{appliances:28}{calls:8}{pages:8}{seconds:8.2f}")
    (few, few_pages, few_appliances, _s), *more = costs
    constant = few - few_pages - few_appliances
    for calls, pages, appliances, _seconds in more:
        assert calls - pages <= constant + 1.2 * appliances
