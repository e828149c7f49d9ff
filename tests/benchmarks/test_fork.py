# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of the main job on each engine and transport: calls to vCenter and seconds, with 10 and with 1,000 VMs.

`make costs` prints the table. Seconds are those of the module's process; the simulator runs on the same machine, so
they differ from those of a real vCenter.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from functional.vcenter import VCenter
from harness.simulator import Simulator

FLAGS = ("-vm", "1", "-host", "1", "-exit-after", "20m")

ENGINES: dict[str, tuple[str, dict[str, str]]] = {
    "VMFork over SOAP": ("6.5", {}),
    "VMFork through the MOB": ("6.5", {"call_via": "mob"}),
    "Instant Clone": ("8.0.3.0", {}),
}
"""The API version and the options of each engine."""

Row = tuple[str, int, int, float]
"""The step; its calls; further pages of names among them; seconds."""


def measured(vcenter: VCenter, what: str, module: str, **given: Any) -> Row:
    vcenter.control("DELETE", "calls")
    began = time.monotonic()
    vcenter.ok(module, **given)
    seconds = time.monotonic() - began
    counts = vcenter.control("GET", "calls")
    over_soap = {method: times for method, times in counts["methods"].items() if not method.startswith("mob:")}
    pages_of_the_mob = sum(times for request, times in counts["http"].items() if "/mob" in request)
    return what, sum(over_soap.values()) + pages_of_the_mob, over_soap.get("ContinueRetrievePropertiesEx", 0), seconds


def children(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"name": f"web-{number:02}", "config_params": {"ipaddress": f"192.0.2.{number}"}}
        for number in range(first, first + count)
    ]


def job(vms: int, version: str, options: dict[str, str]) -> list[Row]:
    """Run the whole job once in an inventory with this number of VMs; return its costs."""
    with Simulator("-api-version", version, *FLAGS) as simulator:
        vcenter = VCenter(simulator)
        vcenter.control("POST", "inventory", {"vms": vms - 2, "name": "other-%04d", "folder": "/DC0/vm"})
        name = {"name": vcenter.parent, **options}
        moid = {"moid": vcenter.ok("vmfork_parent", **name, check=True)["parent"]["moid"], **options}
        scripts = {**vcenter.guest_login, "post_clone_script": POST_CLONE}
        single = {"parent_moid": moid["moid"], "children": children(11, 1), **options}
        many = {"parent_moid": moid["moid"], "children": children(21, 32), **options}
        return [
            measured(vcenter, "enable a parent, by moid", "vmfork_parent", **moid),
            measured(vcenter, "enable, no-op, by moid", "vmfork_parent", **moid),
            measured(vcenter, "enable, no-op, by name", "vmfork_parent", **name),
            measured(vcenter, "quiesce", "vmfork_quiesce", **moid, **scripts),
            measured(vcenter, "quiesce, no-op", "vmfork_quiesce", **moid, **scripts),
            measured(vcenter, "1 child to post_clone", "vmfork_child", **single),
            measured(vcenter, "1 child, no-op", "vmfork_child", **single),
            measured(vcenter, "32 children to post_clone", "vmfork_child", **many),
            measured(vcenter, "32 children, no-op", "vmfork_child", **many),
            measured(vcenter, "info, all", "vmfork_info", **options),
            measured(vcenter, "info, the parent", "vmfork_info", **moid),
            measured(vcenter, "remove 32 children", "vmfork_child", **many, state="absent"),
        ]


POST_CLONE = """#!/bin/sh -e
hostname "$(vmtoolsd --cmd 'info-get guestinfo.fork.hostname')"
modprobe -r vmxnet3; modprobe vmxnet3
ip addr add "$(vmtoolsd --cmd 'info-get guestinfo.fork.ipaddress')/24" dev eth0
ip link set eth0 up
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_main_job(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = job(10, *ENGINES[engine]), job(1000, *ENGINES[engine])
    with capsys.disabled():
        print(f"\n\n{engine:28}{'10 VMs':>8}{'s':>7}{'1,000 VMs':>11}{'pages':>7}{'s':>7}")
        for (what, calls, _pages, seconds), (_what, more_calls, pages, more_seconds) in zip(few, many, strict=True):
            print(f"{what:28}{calls:8}{seconds:7.2f}{more_calls:11}{pages:7}{more_seconds:7.2f}")
    for (what, calls, _pages, _s), (_what, more_calls, pages, _more) in zip(few, many, strict=True):
        # The number of waiting calls depends on how many updates arrive together.
        slack = calls // 4 if "to post_clone" in what or what.startswith(("quiesce", "enable a", "remove")) else 0
        assert more_calls - pages <= calls + slack, what
