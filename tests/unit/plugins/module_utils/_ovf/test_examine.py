# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the server, and the treatment of missing properties; tests/functional uses a server."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis, examine, history, origin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence, GuestView
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._progress import Progress

HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
QUESTIONS = examine.Questions(forked_from=lambda values: None, mask=Mask())


NOW = datetime.datetime.now(datetime.timezone.utc)


def examined(
    monkeypatch: pytest.MonkeyPatch, *vms: dict[str, Any], clock: datetime.datetime = NOW
) -> list[dict[str, Any]]:
    """Return the verdicts on VMs for which the server returns only these properties.

    :param clock: the time of the server.
    """
    found = [
        _inventory.Found(vim.VirtualMachine(f"vm-{number}"), {"name": f"vm-{number}", **values}, "/DC/vm/a", None, None)
        for number, values in enumerate(vms)
    ]
    content = SimpleNamespace(rootFolder=vim.Folder("group-d1"))
    session: Any = SimpleNamespace(
        progress=Progress(),
        api_version=(8, 0, 3, 0),
        budget=Budget(),
        is_vcenter=True,
        content=content,
        current_time=lambda: clock,
    )
    monkeypatch.setattr(examine._inventory, "find_vms", lambda *_given: found)
    monkeypatch.setattr(examine._properties, "read", lambda *_given: {})
    # After the timeout, no document is read.
    looked = examine.examine(session, Deadline(0), _inventory.Selection(), QUESTIONS)
    return [examine.facts(vm, Mask()) for vm in looked]


def test_names_and_logins_are_compared_unmasked() -> None:
    def examined(number: int, name: str, repairable: bool) -> examine.Examined:
        lost = Evidence(
            name=name,
            moid=f"vm-{number}",
            power_state="poweredOn",
            configured=Configured(enabled=True, transports=("com.vmware.guestInfo",), vapp_properties=None),
            guest=GuestView("no_value" if repairable else "not_asked", "exit_code"),
            power_on=origin.PowerOn("esxi_direct" if repairable else "vcenter", "high"),
        )
        found = _inventory.Found(vim.VirtualMachine(f"vm-{number}"), {"name": name}, f"/DC/vm/{name}", None, None)
        return examine.Examined(found, None, lost, diagnosis.judge(lost))

    vms = [
        examined(number, name, repairable)
        for number, (name, repairable) in enumerate(
            [("a", True), ("a", False), ("b", True), ("b", True), ("c", True), ("vm-2", True), ("vm-1", True)], start=1
        )
    ]
    logins = [("name", "c"), ("name", "a"), ("moid", "vm-2"), ("name", "c"), ("moid", "vm-1")]
    chosen = examine.choices(vms, ["a", "b"], logins)
    assert [choice["name_expected"] for choice in chosen] == [True, True, True, True, False, False, False]
    # The name vm-1 is also the managed object ID of a VM that would be repaired.
    assert [choice["name_unique"] for choice in chosen] == [True, False, False, False, True, True, False]
    assert [choice["guests_entry"] for choice in chosen] == [4, 2, None, None, 3, None, None]
    assert [choice["name_expected"] for choice in examine.choices(vms, None, [])] == [None] * 7


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"runtime.powerState": "poweredOn", "runtime.connectionState": "connected"},
        {"config.instanceUuid": "1"},
    ],
)
def test_hidden_properties_are_no_verdict(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    (found,) = examined(monkeypatch, values)
    verdict = found["diagnosis"]
    assert (verdict["status"], verdict["cause"], verdict["remedy"]) == ("unknown", "no_permission", "grant_privilege")
    assert found["power_state"] == values.get("runtime.powerState")


@pytest.mark.parametrize(
    ("up_for", "expected"),
    [
        pytest.param([HOUR, 3 * HOUR], 3 * HOUR, id="since the oldest power-on"),
        pytest.param([HOUR, 90 * DAY], 30 * DAY, id="no further than asked for"),
        pytest.param([HOUR, None], 30 * DAY, id="as far as asked for, where a power-on may be of any time"),
    ],
)
@pytest.mark.parametrize("ahead", [datetime.timedelta(0), -90 * DAY, 90 * DAY], ids=["same", "behind", "ahead"])
def test_start_of_the_events(
    monkeypatch: pytest.MonkeyPatch,
    up_for: list[datetime.timedelta | None],
    expected: datetime.timedelta,
    ahead: datetime.timedelta,
) -> None:
    """The clock of the server is used, whatever the controller's clock shows."""
    now = NOW + ahead
    asked: list[datetime.datetime] = []

    def read(_session: Any, _deadline: Any, _root: Any, begin: datetime.datetime, _vms: Any) -> history.History:
        asked.append(begin)
        return history.History({})

    monkeypatch.setattr(examine.history, "read", read)
    common = {
        "config.vAppConfig": vim.vApp.VmConfigInfo(
            property=[vim.vApp.PropertyInfo(key=0, id="hostname", value="web", userConfigurable=True)],
            ovfEnvironmentTransport=["com.vmware.guestInfo"],
        ),
        "runtime.powerState": "poweredOn",
        "runtime.connectionState": "connected",
    }
    found = examined(
        monkeypatch,
        *({**common, **({"runtime.bootTime": now - uptime} if uptime else {})} for uptime in up_for),
        clock=now,
    )
    assert abs(now - expected - asked[0]) < HOUR
    assert all(f"since {asked[0]:%Y-%m-%d %H:%M} UTC" in facts["diagnosis"]["message"] for facts in found)


def test_ip_pools_are_read_once_for_each_datacenter_that_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not read for VMs that run, need none, are templates, or cannot be reached by vCenter."""
    here, there, elsewhere = (vim.Datacenter(f"datacenter-{number}") for number in range(3))
    needy = vim.vApp.VmConfigInfo(
        property=[
            vim.vApp.PropertyInfo(key=0, id="gateway", type="expression", defaultValue="${gateway:Lab}"),
            vim.vApp.PropertyInfo(key=1, id="hostname", type="string", value="web", userConfigurable=True),
        ],
        ovfEnvironmentTransport=["com.vmware.guestInfo"],
    )
    modest = vim.vApp.VmConfigInfo(property=needy.property[1:], ovfEnvironmentTransport=["com.vmware.guestInfo"])
    off = {"config.vAppConfig": needy, "runtime.powerState": "poweredOff", "runtime.connectionState": "connected"}
    vms: list[tuple[dict[str, Any], Any]] = [
        (off, here),
        (off, here),
        (off, there),
        (off, None),
        ({**off, "config.vAppConfig": modest}, elsewhere),
        ({**off, "config.template": True}, elsewhere),
        ({**off, "runtime.connectionState": "disconnected"}, elsewhere),
        ({**off, "runtime.powerState": "suspended"}, elsewhere),
    ]
    found = [
        _inventory.Found(vim.VirtualMachine(f"vm-{number}"), {"name": f"vm-{number}", **values}, "", datacenter, None)
        for number, (values, datacenter) in enumerate(vms)
    ]
    asked: list[Any] = []
    lab = vim.vApp.IpPool(
        ipv4Config=vim.vApp.IpPool.IpPoolConfigInfo(gateway="192.0.2.1"),
        networkAssociation=[vim.vApp.IpPool.Association(networkName="Lab")],
    )

    def ask(_method: Any, dc: Any) -> list[Any]:
        asked.append(dc)
        return [lab] if dc == there else []

    content = SimpleNamespace(
        rootFolder=vim.Folder("group-d1"), ipPoolManager=SimpleNamespace(QueryIpPools="QueryIpPools")
    )
    session: Any = SimpleNamespace(
        api_version=(8, 0, 3, 0), budget=Budget(), progress=Progress(), is_vcenter=True, content=content, ask=ask
    )
    monkeypatch.setattr(examine._inventory, "find_vms", lambda *_given: found)
    monkeypatch.setattr(examine._properties, "read", lambda *_given: {})
    looked = examine.examine(session, Deadline(0), _inventory.Selection(), QUESTIONS)
    assert asked == [here, there]
    assert [vm.diagnosis.cause for vm in looked[:5]] == ["no_ip_pool", "no_ip_pool", *["powered_off"] * 3]
    assert [vm.evidence.lacking_pools for vm in looked[2:5]] == [(), None, ()]
