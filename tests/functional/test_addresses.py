# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_child: addresses that are in use by another VM, and guests that keep their parent's address."""

from __future__ import annotations

from typing import Any

import pytest
from functional.engines import CHANGING, INSTANT_CLONE, SOAP
from functional.vcenter import VCenter

AS_ASKED = """#!/bin/sh -e
address=$(ip -4 -o address show dev eth0 | awk '{print $4}')
mode=$(vmtoolsd --cmd 'info-get guestinfo.fork.mode')
[ "$mode" != flush ] || ip address flush dev eth0
[ "$mode" = reload ] || exit 0
modprobe -r vmxnet3; modprobe vmxnet3
ip link set dev eth0 up
ip address add "$address" dev eth0 # as a network service with a static address does
"""

pytestmark = pytest.mark.engines(SOAP, INSTANT_CLONE)


def test_address_that_is_taken(quiesced: VCenter) -> None:
    """No child is created, also in check mode; the lookup of the names also reads the addresses."""
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
    # Its own address is no conflict.
    assert quiesced.fork("web-00", config_params={"ipaddress": "192.0.2.200"})["changed"] is False


def test_child_that_keeps_its_parents_address(vcenter: VCenter) -> None:
    """The child fails, whether or not its driver was reloaded; its siblings do not."""
    vcenter.enable()
    vcenter.quiesce(pre_quiesce_script="true", post_clone_script=AS_ASKED)
    modes = {"web-01": "keep", "web-02": "reload", "web-03": "flush", "web-04": "keep"}
    children: list[dict[str, Any]] = [{"name": name, "config_params": {"mode": mode}} for name, mode in modes.items()]
    if vcenter.engine.starts_running:  # its adapters can be edited
        children[3]["networks"] = [{"connect": "never"}]
    else:
        del children[3]
    refusal = vcenter.fails("vmfork_child", parent_name=vcenter.parent, children=children)
    states = {child["name"]: (child["state"], child["ip_addresses"]) for child in refusal["children"]}
    expected = {"web-01": "failed", "web-02": "failed", "web-03": "created", "web-04": "created"}
    assert states == {child["name"]: (expected[child["name"]], []) for child in children}
    message = str(refusal.child("web-01")["error"])
    assert message.startswith("Child web-01 still has the address 10.")
    assert "of its parent after its post-clone script: its network driver still uses the MAC address" in message
    assert "modprobe -r" in message
    message = str(refusal.child("web-02")["error"])
    assert "VMware Tools reports it on the child's own network adapter" in message
    warned = str(refusal["warnings"])
    assert "The guest of child web-03 probably has no network" in warned
    assert "web-04" not in warned


def test_tools_that_report_late(vcenter: VCenter) -> None:
    """An unknown address is not a failure."""
    vcenter.rule("network_after_fork", "late")
    vcenter.enable()
    vcenter.quiesce(pre_quiesce_script="true", post_clone_script="true")
    made = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", address_timeout=0)
    assert any("whether child web-01 has an address of its own" in str(warning) for warning in made["warnings"])
