# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the verdicts on published appliances, and which of their values are masked: no false alarm, no secret."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, diagnosis, examine
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence, GuestView, Iso
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import MASK, Mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import PowerOn

FLEET = yaml.safe_load((Path(__file__).parent / "fleet.yml").read_text(encoding="utf-8"))
BOOT = datetime.datetime(2026, 11, 21, 3, 12, tzinfo=datetime.timezone.utc)


def power_on(origin: str) -> PowerOn:
    return PowerOn(origin, "high", event_type="VmPoweredOnEvent", time=BOOT)


IMAGE = Iso(True, "[ds] a/_ovfenv-a.iso", True)
ON_ESXI = {"power_on": power_on("esxi_direct")}
SITUATIONS: dict[str, dict[str, Any]] = {
    "powered on through vCenter": {"power_on": power_on("vcenter"), "iso": IMAGE},
    "restarted by HA": {"power_on": power_on("ha_restart"), "iso": Iso(True)},
    "seen without": {**ON_ESXI, "iso": Iso(True), "guest": GuestView("no_value", "exit_code")},
    "off": {"power_state": "poweredOff"},
}
QUIET = ["nothing_to_deliver"] * 4
# The expected verdicts in each situation, by kind of appliance.
EXPECTED = {
    "guestinfo": ["delivered_assumed", "lost_suspected", "lost", "not_running"],
    "both": ["delivered_iso", "lost_suspected", "lost", "not_running"],
    "iso": ["delivered_iso", "lost", "lost", "not_running"],
    "no_transport": ["not_deliverable"] * 4,
    "nothing": QUIET,
}


def known(appliance: dict[str, Any], **situation: Any) -> Evidence:
    """Return the evidence about a VM of an appliance."""
    info = [
        vim.vApp.PropertyInfo(
            key=number,
            classId=prop.get("class"),
            id=prop["id"],
            instanceId=prop.get("instance"),
            type=prop.get("type", "string"),
            label=prop.get("label"),
            description=prop.get("description"),
            userConfigurable=prop.get("c", True),
            value=prop.get("v", ""),
            defaultValue=prop.get("d", ""),
        )
        for number, prop in enumerate(appliance["properties"])
    ]
    config = vim.vApp.VmConfigInfo(
        property=info,
        product=[vim.vApp.ProductInfo(key=0, name=appliance["name"])],
        ovfEnvironmentTransport=appliance["transports"],
    )
    running = situation.get("power_state") != "poweredOff"
    return Evidence(
        appliance["name"], "vm-1", configured=configured.read(config, running=running, mask=Mask()), **situation
    )


def judged(appliance: dict[str, Any]) -> list[diagnosis.Diagnosis]:
    """Return the verdict on an appliance in each situation."""
    return [diagnosis.judge(known(appliance, **situation)) for situation in SITUATIONS.values()]


def displayed(appliance: dict[str, Any]) -> dict[str, Any]:
    """Return the displayed facts of an appliance."""
    evidence = known(appliance, power_on=power_on("vcenter"))
    found = _inventory.Found(vim.VirtualMachine("vm-1"), {"name": "a"}, "/DC0/vm/a", None, None)
    return examine.facts(examine.Examined(found, None, evidence, diagnosis.judge(evidence)), Mask())


def with_value(facts: dict[str, Any]) -> dict[str, bool]:
    """Return the keys of all properties with a value, and whether it is masked."""
    found = [(prop["key"], prop["effective"]) for prop in facts["configured"]["properties"]]
    return {key: value == MASK for key, value in found if value}


@pytest.mark.parametrize("appliance", FLEET, ids=lambda appliance: appliance["name"])
def test_verdicts(appliance: dict[str, Any]) -> None:
    verdicts = judged(appliance)
    assert [verdict.status for verdict in verdicts] == EXPECTED[appliance["expect"]]
    is_red = [
        diagnosis.needs_power_cycle(verdict) or verdict.status in ("not_deliverable", "config_lost")
        for verdict in verdicts
    ]
    assert not (is_red[0] or is_red[3]) or appliance["expect"] == "no_transport"
    if "says" in appliance:
        assert all(any(appliance["says"] in line for line in verdict.evidence) for verdict in verdicts)
    off = verdicts[3]
    assert (off.cause == "required_values_empty") == ("required" in appliance)
    assert all(key in off.message for key in appliance.get("required", []))


@pytest.mark.parametrize("appliance", FLEET, ids=lambda appliance: appliance["name"])
def test_masked_values(appliance: dict[str, Any]) -> None:
    facts = displayed(appliance)
    assert [key for key, is_masked in with_value(facts).items() if is_masked] == appliance["masked"]
    assert "planted-" not in json.dumps(facts)


def test_size() -> None:
    assert len(FLEET) >= 25
    assert {appliance["expect"] for appliance in FLEET} == set(EXPECTED)


def print_tables() -> None:
    """Print the expected and actual verdicts and masked values. `make fleet` calls it."""
    wrong = 0
    for appliance in FLEET:
        rows = zip(
            SITUATIONS, EXPECTED[appliance["expect"]], (verdict.status for verdict in judged(appliance)), strict=True
        )
        for situation, expected, got in rows:
            wrong += expected != got
            print(
                f"{appliance['name']:45}  {situation:27}  {expected:18}  {got:18}  {'' if expected == got else 'WRONG'}"
            )
    shown = hidden = masked_wrongly = 0
    print()
    for appliance in FLEET:
        for key, is_masked in with_value(displayed(appliance)).items():
            is_right = is_masked == (key in appliance["masked"])
            shown, hidden, masked_wrongly = shown + (not is_masked), hidden + is_masked, masked_wrongly + (not is_right)
            word = "masked" if is_masked else "not masked"
            print(f"{appliance['name']:45}  {key:45}  {word:10}  {'' if is_right else 'WRONG'}")
    print(f"\n{len(FLEET)} appliances, {len(FLEET) * len(SITUATIONS)} verdicts, {wrong} of them wrong")
    print(f"{hidden + shown} values, {hidden} masked, {shown} not masked, {masked_wrongly} wrong")


if __name__ == "__main__":
    print_tables()
