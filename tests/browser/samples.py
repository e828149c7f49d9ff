# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of vm_ovfenv_info: VMs with every verdict, and with hostile names."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Found
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis, differences, examine
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured, Product, Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence, Extracted, GuestView, Iso
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import Event, PowerOn
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

BOOT = datetime.datetime(2026, 11, 21, 3, 12, tzinfo=datetime.timezone.utc)

HOSTILE = (
    "it's $(touch broken) `touch broken`",
    '"><img src=x onerror="document.title=\'broken\'">',
    "</script><script>document.title='broken'</script>",
    "<&\"'>",
    "{{ 6 * 7 }}",
    "x" * 80,
    "läuft-überall 東京 🐟",
    "<script>document.title='broken'</script>",
    '=HYPERLINK("http://192.0.2.1",1)',
    "+1",
    "-1+1",
    "@SUM(1)",
    'a; "=1+1";-1;\t@SUM(1)',
)
"""Names of VMs."""


def _configured(product: str, *transports: str) -> Configured:
    return Configured(
        enabled=True,
        transports=transports or ("com.vmware.guestInfo",),
        products=(Product(1, "", "", product, "Example", "1.2", "1.2.3 build 4567"),) if product else (),
        properties=(
            Property("vami.ip0", "ip0", "vami", "", "ip", "", "", True, "192.0.2.7", "", "192.0.2.7", "value",
                     False, True),
        ),
    )  # fmt: skip


def _power_on(origin: str, number: int, user: str | None = None, **more: Any) -> PowerOn:
    time = BOOT - datetime.timedelta(hours=number)
    return PowerOn(origin, "high", user=user, host="esx-1", event_type="VmPoweredOnEvent", time=time, **more)


def _change(number: int) -> Event:
    time = BOOT + datetime.timedelta(hours=1)
    return Event(1, "VmReconfiguredEvent", time, "EXAMPLE\\jane", 1, f"vm-{number}", "esx-1", changes_vapp=True)


def entry(number: int, name: str, kind: int, product: str = "Mail Gateway") -> dict[str, Any]:
    """Return the entry of a VM; ``kind`` is the index of its verdict."""
    moid = f"vm-{number}"
    own = GuestView("xml", "full", "/usr/bin/vmware-rpctool", 0, document=Document(origin="vcenter", vcenter_id=moid))
    older = Document(origin="vcenter", vcenter_id=moid, properties={"vami.ip0": "192.0.2.8"})
    no_value = GuestView("no_value", "exit_code", "/usr/bin/vmware-rpctool", 1, "No value found")
    usual = _configured(product)
    kinds: tuple[dict[str, Any], ...] = (
        {"configured": usual, "guest": no_value, "power_on": _power_on("esxi_direct", number, "root")},
        {"configured": usual, "power_on": _power_on("ha_restart", number), "extracted": Extracted("empty")},
        {"configured": usual, "power_on": _power_on("vcenter", number, "EXAMPLE\\jane")},
        {"configured": usual, "guest": own, "power_on": _power_on("vcenter", number, "EXAMPLE\\jane")},
        {"configured": usual, "power_on": _power_on("vcenter", number, "x", reconfigured=(_change(number),))},
        {"configured": _configured(product, "iso"), "power_on": _power_on("vcenter", number, "x")},
        {"configured": _configured(product, "iso"), "power_on": _power_on("vcenter", number, "x"),
         "iso": Iso(True, "[ds] a/_ovfenv-a.iso", True)},
        {"configured": dataclasses.replace(usual, transports=()), "power_on": _power_on("vcenter", number, "x")},
        {"configured": Configured(True), "power_on": _power_on("vcenter", number, "x")},
        {"configured": usual, "guest": no_value, "power_on": _power_on("vcenter", number, "EXAMPLE\\jane")},
        {"configured": usual, "guest": GuestView("cleared", "full"), "power_on": _power_on("vcenter", number, "x")},
        {"configured": usual, "guest": GuestView("xml", "exit_code", bears_id="none")},
        {"configured": usual, "forked_from": "vm-7"},
        {"configured": usual, "power_state": "poweredOff", "power_on": PowerOn(reason="not_running")},
        {"configured": usual, "guest": GuestView("permission_denied", "exit_code")},
        {"configured": usual, "power_on": PowerOn(reason="events_aged_out")},
        {"configured": usual, "guest": GuestView("login_failed", "full", error="The guest refused the login of root.")},
        {"configured": usual, "power_on": PowerOn(reason="no_permission"), "extracted": Extracted("no_permission")},
        {"configured": Configured(), "listed_before": True},
        {"configured": Configured()},
        {"configured": usual, "connection_state": "disconnected"},
        {"configured": usual, "guest": GuestView("xml", "full", document=older),
         "differences": differences.compare(usual, None, older)},
        {"configured": usual, "extracted": Extracted("ok", older), "power_on": _power_on("vcenter", number, "x"),
         "differences": differences.compare(usual, older, None)},
        {"configured": usual, "guest": GuestView("xml", "exit_code", bears_id="other")},
        {"configured": usual, "guest": GuestView("xml", "full", document=Document("vcenter", vcenter_id="vm-7"))},
        {"configured": usual, "power_on": PowerOn(reason="instant_clone", cloned_from=""), "forked_from": ""},
        {"configured": dataclasses.replace(usual, transports=()), "power_state": "poweredOff"},
    )  # fmt: skip
    evidence = Evidence(name, moid, **kinds[kind % len(kinds)])
    path = f"/DC0/vm/appliances/{name}"
    running = evidence.power_state == "poweredOn"
    values = {
        "name": name,
        "config.instanceUuid": f"5032{number:028d}",
        "runtime.bootTime": BOOT - datetime.timedelta(hours=number) if running else None,
    }
    found = Found(vim.VirtualMachine(moid), values, path, None, None)
    examined = examine.Examined(found, f"esx-{1 + number % 2}.example.com", evidence, diagnosis.judge(evidence))
    return examine.facts(examined, Mask())


def result(count: int) -> dict[str, Any]:
    """Return a result with the given number of VMs, those with hostile names first."""
    names = [*HOSTILE, *(f"app-{number}" for number in range(len(HOSTILE), count))][:count]
    products = ("Mail Gateway", "vSphere Integrated Containers", "", "<b>Böse & Söhne</b>")
    vms = [entry(number + 100, name, number, products[number % 4]) for number, name in enumerate(names)]
    by_status: dict[str, int] = {}
    for vm in vms:
        by_status[vm["diagnosis"]["status"]] = by_status.get(vm["diagnosis"]["status"], 0) + 1
    return {
        "changed": False,
        "ovfenv": sorted(vms, key=lambda vm: (vm["name"], vm["moid"])),
        "summary": {
            "total": count,
            "by_status": by_status,
            "act_now": [vm["moid"] for vm in vms if vm["diagnosis"]["act"] == "now"],
            "judged_without_guest_evidence": sum(vm["guest"]["state"] == "not_asked" for vm in vms),
        },
    }
