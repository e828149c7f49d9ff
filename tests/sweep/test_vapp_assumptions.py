# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vApp options are written with each assumption about that reversed: it succeeds, or says what it could not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from functional.vapp import Estate, estate, prop
from functional.vcenter import VCenter
from harness.simulator import Simulator
from sweep.topics import OF_WRITING

FLAGS = ("-vm", "0", "-host", "1", "-exit-after", "10m")
SECRET = "planted-0123456789-secret"
REQUESTS: dict[str, dict[str, Any]] = {
    "value": {"values": {"hostname": "new"}},
    "label": {"properties": [{"key": "hostname", "label": "New"}]},
    "blank": {"values": {"hostname": ""}},
    "forced": {"values": {"fixed": "new"}, "not_user_configurable": "force"},
    "password": {"secret_values": {"admin": "planted-9876543210-later"}, "update_secrets": "always"},
    "removal": {"enabled": False, "force": True},
}


@pytest.fixture(scope="module")
def place() -> Iterator[Estate]:
    with Simulator(*FLAGS) as simulator, estate(VCenter(simulator)) as made:
        yield made


def test_writing(place: Estate) -> None:
    rules = [rule for rule in place.vcenter.control("GET", "rules") if OF_WRITING.search(rule["name"])]
    assert len(rules) == 5
    for rule in rules:
        for value in set(rule["choices"]) - {rule["default"]}:
            for what, given in REQUESTS.items():
                fixed = prop("fixed", "old", "d")
                fixed.userConfigurable = False
                admin = prop("admin", SECRET, kind="password")
                one = place.appliance(f"{rule['name']}-{value}-{what}"[:80], prop("hostname", "old", "d"), fixed, admin)
                one.power_on()
                place.vcenter.rule(rule["name"], value)
                result = one.vcenter.run("vm_vapp_options", moid=one.moid, **given)
                again = one.vcenter.run("vm_vapp_options", moid=one.moid, check=True, **given)
                place.vcenter.rule(rule["name"], rule["default"])
                assert SECRET not in result.raw
                if result.get("failed"):
                    assert one.name in result.msg
                    assert "Unexpected" not in result.msg
                elif what != "password":
                    assert result["changed"]
                    assert not again["changed"]
                one.power_on()
                if what not in ("password", "removal"):
                    assert SECRET in (one.seen or ""), "a password that was not named is as it was"
