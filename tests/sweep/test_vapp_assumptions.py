# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vApp options are written with each assumption about that reversed: success, or a report of what could not be done."""

from __future__ import annotations

from typing import Any

from functional.vapp import Estate, estate, prop
from functional.vcenter import VCenter
from harness.simulator import Simulator
from sweep.topics import WRITE_RULES

FLAGS = ("-vm", "0", "-host", "1", "-exit-after", "10m")
LATER = "planted-9876543210-later"
REQUESTS: dict[str, dict[str, Any]] = {
    "vapp_values_checked": {"values": {"hostname": "new"}},
    "vapp_made_configurable": {"values": {"fixed": "new"}, "not_user_configurable": "force"},
    "vapp_fixed_value_added": {
        "unknown": "create",
        "properties": [{"key": "more", "value": "x", "user_configurable": False}],
    },
    "vapp_edit_left_out": {"properties": [{"key": "hostname", "label": "New"}]},
    "vapp_change_while_on": {"values": {"hostname": "new"}},
    "password_edited_empty": {"secret_values": {"admin": LATER}, "update_secrets": "always"},
}
"""Rule → a request on which it makes a difference."""


def test_writing() -> None:
    with Simulator(*FLAGS) as simulator, estate(VCenter(simulator)) as place:
        rules = [rule for rule in place.vcenter.control("GET", "rules") if WRITE_RULES.search(rule["name"])]
        assert {rule["name"] for rule in rules} == set(REQUESTS)
        for rule in rules:
            for value in set(rule["choices"]) - {rule["default"]}:
                assert_written_or_reported(place, rule["name"], value)
                place.vcenter.rule(rule["name"], rule["default"])


def assert_written_or_reported(place: Estate, rule: str, value: str) -> None:
    fixed = prop("fixed", default="old")
    fixed.userConfigurable = False
    vm = place.appliance(f"{rule}-{value}", prop("hostname", "old", "d"), fixed, prop("admin", LATER, kind="password"))
    if rule == "vapp_change_while_on":
        vm.power_on()
    place.vcenter.rule(rule, value)
    result = vm.vcenter.run("vm_vapp_options", moid=vm.moid, **REQUESTS[rule])
    assert LATER not in result.raw
    if result.get("failed"):
        assert vm.name in result.msg
        assert result.msg.startswith("Could not write the vApp options of VM")
        assert not result["changed"]
        assert rule in ("vapp_made_configurable", "vapp_change_while_on")
        return
    assert result["changed"]
    if rule != "password_edited_empty":
        assert not vm.vcenter.run("vm_vapp_options", moid=vm.moid, **REQUESTS[rule])["changed"]
    stored = {prop.id: (prop.defaultValue, prop.value) for prop in vm.mo.config.vAppConfig.property}
    assert stored["hostname"][0] == "d", "what was not named stays"
