# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_child: addresses that another VM has, and a guest that keeps its parent's."""

from __future__ import annotations

from typing import Any

import pytest
from functional.vcenter import VCenter
from functional.ways import CHANGING, INSTANT_CLONE, SOAP

KEEP_ADDRESS = """#!/bin/sh -e
# As a network service with a static address does.
address=$(ip -4 -o address show dev eth0 | awk '{print $4}')
modprobe -r vmxnet3; modprobe vmxnet3
ip link set dev eth0 up
ip address add "$address" dev eth0
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
        assert f"Child web-02 is not created: VM web-00 (vm-{refusal.msg.split('(vm-')[1][:2]}" in refusal.msg
        assert f"has the address {taken}/24 on the same network" in refusal.msg
    same = [{"name": name} for name in ("web-03", "web-04")]
    with quiesced.calls() as calls:
        refusal = quiesced.fails(
            "vmfork_child", parent_name=quiesced.parent, children=same, config_params={"ipaddress": "192.0.2.40"}
        )
    assert "192.0.2.40 is given to child web-03 and to child web-04" in refusal.msg
    assert calls == {}
    # The child itself has it, which is no conflict.
    assert quiesced.fork("web-00", config_params={"ipaddress": "192.0.2.200"})["changed"] is False


@pytest.mark.ways(INSTANT_CLONE)
def test_child_that_keeps_its_parents_address(vcenter: VCenter) -> None:
    """VMware Tools reports it when the adapter is connected, which is after the end of the script."""
    vcenter.quiesce(post_clone_script=KEEP_ADDRESS)
    late = {"networks": [{"connect": "after_post_clone"}]}
    refusal = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-01", **late)
    assert "Child web-01 still has the address 10." in refusal.msg
    assert "of its parent: VMware Tools reported it on the child's own network adapter after" in refusal.msg
    assert refusal.child("web-01")["ip_addresses"] == []
    # Where nothing newer is reported, nothing is known.
    made = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-02", address_timeout=1)
    assert any("whether child web-02 has an address of its own" in str(one) for one in made["warnings"])
