# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_child: the networks of the children's adapters, and when the adapters are connected."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from functional.engines import CHANGING, INSTANT_CLONE
from functional.vcenter import POST_CLONE, VCenter

pytestmark = pytest.mark.engines(INSTANT_CLONE)

RECONFIGURE = "ReconfigVM_Task"
SHOW_LINK = "cat /sys/class/net/eth0/carrier\n"
MAC = "00:50:56:01:02:03"


def adapters(vcenter: VCenter, name: str) -> list[dict[str, Any]]:
    """Return the network adapters of a VM, as govc shows them."""
    devices = json.loads(vcenter.govc("device.info", "-json", "-vm", name, "ethernet-*"))["devices"]
    assert devices
    return list(devices)


def network_of(vcenter: VCenter, name: str) -> str:
    """Return the name of the network of a VM's first adapter."""
    backing = adapters(vcenter, name)[0]["backing"]
    if "port" not in backing:
        return str(backing["deviceName"])
    moid = backing["port"]["portgroupKey"]
    return vcenter.govc("object.collect", "-s", f"DistributedVirtualPortgroup:{moid}", "name").strip()


def connected(vcenter: VCenter, name: str) -> list[bool]:
    """Return whether each adapter is connected; assert that it will be the same after the next power-on."""
    shown = [adapter["connectable"] for adapter in adapters(vcenter, name)]
    assert all(adapter["connected"] is adapter["startConnected"] for adapter in shown)
    return [adapter["connected"] for adapter in shown]


def user_without(vcenter: VCenter, *deny: str) -> dict[str, str]:
    """Return a user who lacks privileges everywhere."""
    login = {"name": "junior", "password": "juniors-long-password"}
    vcenter.control("POST", "users", {**login, "deny": deny})
    return {"username": login["name"], "password": login["password"]}


def networks_with_one_name(vcenter: VCenter) -> None:
    """Create two networks with one name in different folders: a distributed port group and one of a standard switch."""
    vcenter.control("POST", "inventory", {"networks": ["twin"]})
    vcenter.govc("folder.create", "/DC0/network/below")
    vcenter.govc("object.mv", "/DC0/network/twin", "/DC0/network/below")
    vcenter.control("POST", "inventory", {"port_groups": [{"name": "twin", "ports": 4}]})


@pytest.fixture
def lab(vcenter: VCenter) -> VCenter:
    """Return a parent with two adapters at its fork point, with two more networks for its children."""
    group = {"name": "dv-web", "ports": 16, "auto_expand": False}
    vcenter.control("POST", "inventory", {"networks": ["lab"], "port_groups": [group]})
    vcenter.govc("vm.network.add", "-vm", vcenter.parent, "-net", "VM Network", "-net.adapter", "vmxnet3")
    vcenter.quiesce(post_clone_script=POST_CLONE.replace("set -e\n", SHOW_LINK + "set -e\n"))
    return vcenter


def test_check_run_run_again(lab: VCenter) -> None:
    given = {
        "parent_name": lab.parent,
        "networks": [{"network": "dv-web", "connect": "after_post_clone"}],
        "children": [
            {"name": "web-01"},
            {"name": "web-02", "networks": [{"network": "lab", "mac_address": MAC.upper()}]},
        ],
    }
    with lab.calls() as calls:
        checked = lab.ok("vmfork_child", check=True, **given)
    assert not CHANGING & set(calls)
    done = lab.ok("vmfork_child", **given)
    with lab.calls() as calls:
        again = lab.ok("vmfork_child", **given)
    assert not CHANGING & set(calls)
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert [network_of(lab, name) for name in ("web-01", "web-02")] == ["dv-web", "lab"]
    assert done.child("web-02")["mac_addresses"][0] == MAC
    parents = {adapter["macAddress"] for adapter in adapters(lab, lab.parent)}
    others = [*done.child("web-01")["mac_addresses"], done.child("web-02")["mac_addresses"][1]]
    assert len({*others, *parents, MAC}) == 6
    # The first was cut off while its script ran, the second was never connected.
    assert [done.child(name)["post_clone"]["output"].split()[0] for name in ("web-01", "web-02")] == ["0", "1"]
    assert connected(lab, "web-01") == connected(lab, "web-02") == [True, True]


def test_ways_to_name_a_network(lab: VCenter) -> None:
    lab.control("POST", "inventory", {"port_groups": [{"name": "a%2fb", "ports": 4}]})
    networks_with_one_name(lab)
    moid = lab.govc("find", "-i", "/DC0/network", "-name", "dv-web").split(":")[1].strip()
    meant = {
        "dv-web": "dv-web",
        "/DC0/network/dv-web": "dv-web",
        moid: "dv-web",
        "a/b": "a%2fb",
        "/DC0/network/a%2fb": "a%2fb",
        "/DC0/network/twin": "twin",
        "/DC0/network/below/twin": "twin",
    }
    names = {given: f"web-{number}" for number, given in enumerate(meant)}
    lab.fork(children=[{"name": name, "networks": [{"network": given}]} for given, name in names.items()])
    assert {given: network_of(lab, name) for given, name in names.items()} == meant
    for given, name in names.items():
        assert ("port" in adapters(lab, name)[0]["backing"]) is ("below" not in given), given


def test_networks_that_do_not_match(lab: VCenter) -> None:
    networks_with_one_name(lab)
    given = {"parent_name": lab.parent, "name": "web-01"}
    with lab.calls() as calls:
        for check in (False, True):
            refusal = lab.fails("vmfork_child", check=check, **given, networks=[{"network": "twin"}])
            assert "Several objects match the network twin: /DC0/network/below/twin (net" in refusal.msg
            assert "/DC0/network/twin (dvportgroup-" in refusal.msg
            refusal = lab.fails("vmfork_child", check=check, **given, networks=[{"network": "/DC0/network/nowhere"}])
            assert "The network /DC0/network/nowhere was not found in the VM's datacenter. There are: " in refusal.msg
            refusal = lab.fails("vmfork_child", check=check, **given, networks=[{"label": "eth7"}])
            assert refusal.msg == (
                f"networks: VM {lab.parent} has no network adapter labeled eth7. "
                "It has: Network adapter 1, Network adapter 2."
            )
    assert not CHANGING & set(calls)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"networks": [{"connect": "after_post_clone"}], "wait_for": "powered_on"}, "so it needs wait_for=post_clone"),
        ({"networks": [{"mac_address": MAC}]}, "is assigned to two adapters, of child web-01 and of child web-02"),
        ({"networks": [{"mac_address": "01:00:5e:00:00:01"}]}, "is a multicast address"),
    ],
)
def test_bad_input_is_refused_without_a_login(vcenter: VCenter, more: dict[str, Any], message: str) -> None:
    with vcenter.calls() as calls:
        refusal = vcenter.fails(
            "vmfork_child", parent_name=vcenter.parent, children=[{"name": "web-01"}, {"name": "web-02"}], **more
        )
    assert message in refusal.msg
    assert calls == {}


@pytest.mark.flags("-hidden-methods", "on")
def test_vmfork_cannot_change_adapters(vcenter: VCenter) -> None:
    given = {"api": "vmfork", "parent_name": vcenter.parent, "name": "web-01", "networks": [{"network": "VM Network"}]}
    for check in (True, False):
        with vcenter.calls() as calls:
            refusal = vcenter.fails("vmfork_child", check=check, **given)
        assert "Child web-01: networks does not work with the VMFork methods" in refusal.msg
        assert not CHANGING & set(calls)
    assert vcenter.ok("vmfork_child", **given, state="absent")["changed"] is False


@pytest.mark.parametrize("write", [str, str.upper], ids=["lower", "upper"])
def test_mac_address_of_the_parent(lab: VCenter, write: Callable[[str], str]) -> None:
    second = adapters(lab, lab.parent)[1]["macAddress"]
    given = {"parent_name": lab.parent, "name": "web-01", "networks": [{"mac_address": write(second)}]}
    for check in (True, False):
        refusal = lab.fails("vmfork_child", check=check, **given)
        assert refusal.msg == (
            f"networks: {second} is the MAC address of Network adapter 2 of VM {lab.parent}, which keeps it. "
            "Use another one, or remove mac_address to get a new one."
        )
    assert not lab.exists("/DC0/vm/web-01")


# --- a server that ignores parts of a request -------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["kept", "dropped"])
def test_changes_that_the_server_ignores(lab: VCenter, keys: str) -> None:
    lab.rule("instant_clone_device_changes", "ignored")
    lab.rule("instant_clone_config_keys", keys)
    ignored: dict[str, tuple[dict[str, str], str]] = {
        "late": ({"connect": "after_post_clone"}, "is connected and may answer to the parent's address"),
        "never": ({"connect": "never"}, "is connected and may answer to the parent's address"),
        "standard": ({"network": "lab"}, "is not on the network lab"),
        "distributed": ({"network": "dv-web"}, "is not on the network dv-web"),
        "mac": ({"mac_address": MAC}, "has the MAC address 00:"),
    }
    children = [{"name": name, "networks": [entry]} for name, (entry, _said) in ignored.items()]
    given = {
        "parent_name": lab.parent,
        "children": [*children, {"name": "web-02", "networks": [{}, {}]}],
        "secret_config_params": {"token": "a-long-secret-token"},
    }
    refusal = lab.fails("vmfork_child", **given)
    assert refusal.child("web-02")["state"] == "created"
    for name, (_entry, message) in ignored.items():
        child = refusal.child(name)
        assert child["state"] == "failed"
        assert child["error"].startswith(
            f"Child {name} was not created with the requested networks: Network adapter 1 {message}"
        )
        assert "Disconnect or remove the child" in child["error"]
        # It is still a child, and no longer has secrets.
        assert "a-long-secret-token" not in str(lab.guest(child["moid"])["guestinfo"])
    assert lab.ok("vmfork_child", **{**given, "state": "absent"})["summary"]["removed"] == len(ignored) + 1


def test_child_that_differs_from_its_request_is_removed_on_demand(lab: VCenter) -> None:
    lab.rule("instant_clone_device_changes", "ignored")
    given = {"parent_name": lab.parent, "name": "web-01", "networks": [{"connect": "never"}, {"network": "lab"}]}
    refusal = lab.fails("vmfork_child", **given, wait_for="created", on_failure="remove")
    message = "Network adapter 1 is connected and may answer to the parent's address, Network adapter 2 is not on the"
    assert message in refusal.child("web-01")["error"]
    assert refusal.child("web-01")["error"].endswith("The child was removed.")
    assert not lab.exists("/DC0/vm/web-01")


# --- when adapters are connected --------------------------------------------------------------------------------------


def test_never(lab: VCenter) -> None:
    given = {"networks": [{}, {"connect": "never"}]}
    lab.fork("web-01", **given)
    assert connected(lab, "web-01") == [True, False]
    assert lab.fork("web-01", **given)["changed"] is False


def test_disconnected_adapter(lab: VCenter) -> None:
    given = {"networks": [{"connect": "after_post_clone"}, {"connect": "never"}]}
    made = lab.fork("web-01", **given).child("web-01")
    lab.govc("device.disconnect", "-vm", "web-01", "ethernet-0")
    with lab.calls() as calls:
        assert lab.fork("web-01", **given, check=True)["changed"]
    assert not CHANGING & set(calls)
    again = lab.fork("web-01", **given)
    assert (again["changed"], again.child("web-01")["state"]) == (True, "existing")
    assert connected(lab, "web-01") == [True, False]
    assert again.child("web-01")["mac_addresses"] == made["mac_addresses"]
    assert lab.fork("web-01", **given)["changed"] is False


def test_adapter_to_connect_after_the_script(vcenter: VCenter) -> None:
    """Check mode predicts it while the script that a killed task left is still running."""
    vcenter.quiesce(post_clone_script="#!/bin/sh\nip addr flush eth0\nuntil test -e /root/go; do sleep 0.1; done\n")
    child = vcenter.fork("web-01", networks=[{"connect": "never"}], wait_for="powered_on").child("web-01")
    given = {"parent_name": vcenter.parent, "name": "web-01", "networks": [{"connect": "after_post_clone"}]}
    checked = vcenter.ok("vmfork_child", check=True, **given)
    privilege = "VirtualMachine.Interact.DeviceConnection"
    refusal = vcenter.fails("vmfork_child", check=True, **given, **user_without(vcenter, privilege))
    assert f"Could not connect the network adapters of child web-01: the user lacks the privilege {privilege}" in (
        refusal.msg
    )
    vcenter.in_guest(child["moid"], "touch /root/go")
    done = vcenter.ok("vmfork_child", **given)
    assert (checked["changed"], done["changed"]) == (True, True)
    assert connected(vcenter, "web-01") == [True]


def test_adapter_stays_disconnected_when_the_script_fails(vcenter: VCenter) -> None:
    vcenter.quiesce(post_clone_script="#!/bin/sh\nexit 3\n")
    given = {"parent_name": vcenter.parent, "name": "web-01", "networks": [{"connect": "after_post_clone"}]}
    for changed in (True, False):
        refusal = vcenter.fails("vmfork_child", **given)
        message = refusal.child("web-01")["error"]
        assert message.startswith("The post-clone script failed in child web-01: exit code 3. ")
        assert message.endswith(" Left disconnected: Network adapter 1.")
        assert refusal["changed"] is changed
        assert connected(vcenter, "web-01") == [False]


@pytest.mark.parametrize("fault", [{"drop": "before"}, {"drop": "after"}, {"fault": "NotAuthenticated"}])
def test_lost_answer_to_a_connection(lab: VCenter, fault: dict[str, str]) -> None:
    lab.fault(method=RECONFIGURE, at="call", count=1, **fault)
    lab.fork("web-01", networks=[{"connect": "after_post_clone"}])
    assert connected(lab, "web-01") == [True, True]


def test_connection_that_fails_or_takes_too_long(lab: VCenter) -> None:
    given = {"parent_name": lab.parent, "name": "web-01", "networks": [{"connect": "after_post_clone"}]}
    lab.fault(method=RECONFIGURE, at="task", fault="GenericVmConfigFault", count=1)
    refusal = lab.fails("vmfork_child", **given)
    assert "Could not connect the network adapters of child web-01: " in refusal.msg
    assert connected(lab, "web-01") == [False, True]
    lab.fault(method=RECONFIGURE, at="task", delay_ms=10000, count=1)
    refusal = lab.fails("vmfork_child", **given, timeout=4)
    assert "vCenter has not finished the connection of its network adapters" in refusal.msg
    assert refusal["changed"]
    lab.ok("vmfork_child", **given)
    assert connected(lab, "web-01") == [True, True]


# --- free ports -------------------------------------------------------------------------------------------------------


def three(vcenter: VCenter) -> dict[str, Any]:
    return {"parent_name": vcenter.parent, "children": [{"name": f"web-0{number}"} for number in (1, 2, 3)]}


def test_port_group_with_too_few_ports(lab: VCenter) -> None:
    groups = [{"name": name, "ports": 2, "auto_expand": False} for name in ("dv-small", "dv-other")]
    lab.control("POST", "inventory", {"port_groups": groups})
    wanted = {
        "web-01": ["lab"],
        "web-02": ["dv-small"],
        "web-03": ["dv-small", "dv-other"],
        "web-04": ["dv-other", "dv-small"],
        "web-05": ["dv-other"],
    }
    given = {
        "parent_name": lab.parent,
        "children": [
            {"name": name, "networks": [{"network": network} for network in networks]}
            for name, networks in wanted.items()
        ],
    }
    for check in (True, False):
        with lab.calls() as calls:
            refusal = lab.fails("vmfork_child", check=check, **given)
        assert [child["state"] for child in refusal["children"]] == [
            "created",
            "created",
            "created",
            "failed",
            "created",
        ]
        # A child that finds no port on one network takes none on the other.
        assert refusal.child("web-04")["error"] == (
            "Could not create child web-04: it needs 1 of the 2 free ports of the distributed port group dv-small, and "
            "children earlier in this task leave 0 of them. Add ports to it, enable its automatic expansion, or create "
            "fewer children."
        )
        assert calls.get(INSTANT_CLONE.create, 0) == (0 if check else 4)
        assert calls["FetchDVPorts"] == 1


def test_the_parents_own_port_group(vcenter: VCenter) -> None:
    vcenter.control("POST", "inventory", {"port_groups": [{"name": "dv-small", "ports": 3, "auto_expand": False}]})
    vcenter.govc("vm.network.change", "-vm", vcenter.parent, "-net", "dv-small", "ethernet-0")
    vcenter.quiesce()
    for _again in range(2):  # existing children need no port
        refusal = vcenter.fails("vmfork_child", **three(vcenter))
        assert [child["error"] is None for child in refusal["children"]] == [True, True, False]
        assert "free ports of the distributed port group dv-small, and children earlier in this task" in refusal.msg
    # The other port group has free ports.
    assert vcenter.ok("vmfork_child", **three(vcenter), networks=[{"network": "VM Network"}])["changed"]
    with vcenter.calls() as calls:
        assert vcenter.ok("vmfork_child", **three(vcenter))["changed"] is False
    assert "FetchDVPorts" not in calls


@pytest.mark.parametrize("fault", ["ResourceNotAvailable", "InvalidArgument"])
def test_user_who_may_not_read_the_ports(vcenter: VCenter, fault: str) -> None:
    vcenter.rule("no_free_port", fault)
    vcenter.control("POST", "inventory", {"port_groups": [{"name": "dv-small", "ports": 2, "auto_expand": False}]})
    vcenter.govc("vm.network.change", "-vm", vcenter.parent, "-net", "dv-small", "ethernet-0")
    vcenter.quiesce()
    vcenter.fault(method="FetchDVPorts", at="call", fault="NoPermission", count=0)
    result = vcenter.fails("vmfork_child", **three(vcenter))
    assert (result["summary"]["created"], result["summary"]["failed"]) == (1, 2)
    assert "free port" in result.msg


# --- privileges and cost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("privilege", "what", "where"),
    [
        ("Network.Assign", "Could not create child web-01", "network lab (network-"),
        ("VirtualMachine.Config.EditDevice", "Could not connect the network adapters of child web-01", ""),
        ("VirtualMachine.Interact.DeviceConnection", "Could not connect the network adapters of child web-01", ""),
    ],
)
def test_privileges(lab: VCenter, privilege: str, what: str, where: str) -> None:
    given = {"parent_name": lab.parent, "name": "web-01"}
    networks = [{"network": "lab", "connect": "after_post_clone"}]
    low = user_without(lab, privilege)
    checked = lab.fails("vmfork_child", check=True, **given, networks=networks, **low)
    refused = lab.fails("vmfork_child", **given, networks=networks, **low)
    for result in (checked, refused):
        assert f"{what}: the user lacks the privilege {privilege} on {where}" in result.msg
    # A task that changes no networks needs none of these privileges.
    plain = {"parent_name": lab.parent, "name": "web-02"}
    assert lab.ok("vmfork_child", check=True, **plain, **low)["changed"]
    assert lab.ok("vmfork_child", **plain, **low)["changed"]


def test_lookups_have_a_constant_cost(lab: VCenter) -> None:
    names = [f"dv-{number}" for number in range(8)]
    groups = [{"name": name, "ports": 4, "auto_expand": False} for name in names]
    lab.control("POST", "inventory", {"port_groups": groups})

    def asked(count: int) -> dict[str, int]:
        children = [
            {"name": f"web-{name}", "networks": [{"network": f"/DC0/network/{name}"}, {"network": "lab"}]}
            for name in names[:count]
        ]
        with lab.calls() as calls:
            lab.ok("vmfork_child", check=True, parent_name=lab.parent, children=children)
        per_child = ("CheckInstantClone_Task", "WaitForUpdatesEx")
        return {method: times for method, times in calls.items() if method not in per_child}

    few, many = asked(1), asked(8)
    assert few == many
    assert few["FetchDVPorts"] == 1
