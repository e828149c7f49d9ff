# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_child: addresses that another VM has, and a guest that keeps its parent's."""

from __future__ import annotations

from typing import Any

import pytest
from functional.vcenter import VCenter
from functional.ways import CHANGING, INSTANT_CLONE, SOAP

AS_ASKED = """#!/bin/sh -e
address=$(ip -4 -o address show dev eth0 | awk '{print $4}')
mode=$(vmtoolsd --cmd 'info-get guestinfo.fork.mode')
[ "$mode" != flush ] || ip address flush dev eth0
[ "$mode" = reload ] || exit 0
modprobe -r vmxnet3; modprobe vmxnet3
ip link set dev eth0 up
ip address add "$address" dev eth0 # as a network service with a static address does
"""

pytestmark = pytest.mark.ways(SOAP, INSTANT_CLONE)


def test_address_that_is_taken(quiesced: VCenter) -> None:
    """Nothing is made, in check mode neither, and the addresses come with the names that are read anyway."""
    quiesced.fork("web-00", config_params={"ipaddress": "192.0.2.200"})
    taken = quiesced.fork("web-00").child("web-00")["ip_addresses"][0]
    children: list[dict[str, Any]] = [
        {"name": "web-01", "config_params": {"ipaddress": "192.0.2.30"}},
        {"name": "web-02", "config_params": {"ip0.address": f"{taken}/24"}},
    ]
    given = {"parent_name": quiesced.parent, "children": children}
    for check in (True, False):
        with quiesced.calls() as calls:
            refusal = quiesced.fails("vmfork_child", check=check, **given)
        assert not CHANGING & set(calls)
        assert f"Child web-02 was not created: VM web-00 (vm-{refusal.msg.split('(vm-')[1][:2]}" in refusal.msg
        assert f"has the address {taken}/24 on the same network" in refusal.msg
    moid, further = quiesced.moid("/DC0/vm/web-00"), "192.0.2.201"
    quiesced.in_guest(moid, f"ip address add {further}/24 dev eth0; vmware-toolbox-cmd info update network")
    children = [{"name": "web-05", "config_params": {"ipaddress": further}}]
    refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, children=children)
    assert f"VM web-00 ({moid}) has the address {further} on the same network" in refusal.msg
    same = [{"name": name} for name in ("web-03", "web-04")]
    with quiesced.calls() as calls:
        refusal = quiesced.fails(
            "vmfork_child", parent_name=quiesced.parent, children=same, config_params={"ipaddress": "192.0.2.40"}
        )
    assert "192.0.2.40 is assigned to both child web-03 and child web-04" in refusal.msg
    assert calls == {}
    # The child itself has it, which is no conflict.
    assert quiesced.fork("web-00", config_params={"ipaddress": "192.0.2.200"})["changed"] is False


def test_child_that_keeps_its_parents_address(vcenter: VCenter) -> None:
    """It is a failure of the child, whether its driver was reloaded or not, and no failure of its siblings."""
    vcenter.enable()
    vcenter.quiesce(pre_quiesce_script="true", post_clone_script=AS_ASKED)
    modes = {"web-01": "keep", "web-02": "reload", "web-03": "flush", "web-04": "keep"}
    children: list[dict[str, Any]] = [{"name": name, "config_params": {"mode": mode}} for name, mode in modes.items()]
    if vcenter.way.born_running:  # which can have its adapters edited
        children[3]["networks"] = [{"connect": "never"}]
    else:
        del children[3]
    refusal = vcenter.fails("vmfork_child", parent_name=vcenter.parent, children=children)
    states = {one["name"]: (one["state"], one["ip_addresses"]) for one in refusal["children"]}
    expected = {"web-01": "failed", "web-02": "failed", "web-03": "created", "web-04": "created"}
    assert states == {one["name"]: (expected[one["name"]], []) for one in children}
    said = str(refusal.child("web-01")["error"])
    assert said.startswith("Child web-01 still has the address 10.")
    assert "of its parent after its post-clone script: its network driver still uses the MAC address" in said
    assert "modprobe -r" in said
    said = str(refusal.child("web-02")["error"])
    assert "VMware Tools reports it on the child's own network adapter" in said
    warned = str(refusal["warnings"])
    assert "The guest of child web-03 probably has no network" in warned
    assert "web-04" not in warned


def test_tools_that_report_late(vcenter: VCenter) -> None:
    """Nothing is known then, and that is no failure."""
    vcenter.rule("network_after_fork", "late")
    vcenter.enable()
    vcenter.quiesce(pre_quiesce_script="true", post_clone_script="true")
    made = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", address_timeout=0)
    assert any("whether child web-01 has an address of its own" in str(one) for one in made["warnings"])
