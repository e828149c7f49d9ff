# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test that the OVF playbooks decide the same if Ansible masks a password in the result, or refuse to decide."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.parameters import remove_values
from unit import templates
from unit.templates import trusted

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis

PLAYBOOKS = pathlib.Path(__file__).resolve().parents[2] / "playbooks"
VARS = yaml.safe_load((PLAYBOOKS / "vars" / "ovfenv.yml").read_text(encoding="utf-8"))
CHECK = "Check that no value that the playbook needs is masked"

STATUSES = ("lost", "lost_suspected", "stale", "delivered", "delivered_assumed", "not_configured", "not_applicable")
LOGINS = [{"name": "a", "guest_username": f"admin-{number}", "guest_password": "x"} for number in range(12)]


def vm(number: int, status: str) -> dict[str, Any]:
    """Return a VM as vm_ovfenv_info returns it, with the values that the playbooks use."""
    return {
        "name": f"web-{number}",
        "moid": f"vm-{900 + number}",
        "name_expected": number % 2 == 0,
        "name_unique": True,
        "needs_power_on": status == "not_running" and number % 2 == 0,
        "guests_entry": number + 3 if number < 3 else None,
        "configured": {"enabled": status != "not_configured"},
        "diagnosis": {
            "status": status,
            "rank": diagnosis.URGENCY.index(status) + 1,
            "act": "now" if number == 0 else "decide",
            "act_now": number == 0,
            "remedy": "power_cycle_via_vcenter" if status in STATUSES[:3] else "none",
            "needs_power_cycle": status in STATUSES[:3],
        },
    }


RESULT = {
    "ovfenv": [vm(number, status) for number, status in enumerate(STATUSES)],
    "summary": {"total": len(STATUSES), "judged_without_guest_evidence": 5},
}
PASSWORDS = ["vcenter", "lost", "delivered", "true", "True", "False", "e", "None", "web-", "vm-", "now", "decide",
             "power", "_", *map(str, range(19)), "90", "903"]  # fmt: skip


MASKS_BOOLEANS = remove_values([True], {"True"}) != [True]
"""As ansible-core before 2.19 does."""


def playbook(name: str) -> list[dict[str, Any]]:
    (play,) = yaml.safe_load((PLAYBOOKS / name).read_text(encoding="utf-8"))
    tasks: list[dict[str, Any]] = play["tasks"]
    return tasks


def templar(result: dict[str, Any], **more: Any) -> Any:
    begun = [entry["moid"] for entry in result["ovfenv"][:2]]
    variables = {
        **VARS,
        "ovfenv_guests": LOGINS,
        "ovfenv_result": result,
        "ovfenv_fail_on": "lost,stale",
        "__ovfenv_begun": begun,
        "__ovfenv_outcomes": [{"moid": begun[0], "failed": True}],
        **more,
    }
    return templates.templar(variables)


def decisions(result: dict[str, Any]) -> list[Any]:
    """Return the decisions of the playbooks: which VMs, in which order, how many, and with which logins."""
    lists = (
        "__ovfenv_rows | map(attribute='diagnosis.rank')",
        "__ovfenv_failing | map(attribute='diagnosis.rank')",
        "__ovfenv_repairable | map(attribute='moid')",
        "__ovfenv_repairable | map(attribute='name_expected')",
        "__ovfenv_failed | map(attribute='moid')",
        "__ovfenv_not_tried | map(attribute='moid')",
        "__ovfenv_seen | selectattr('diagnosis.act', '==', 'now') | map(attribute='moid')",
        "[ovfenv_result.summary.total]",
    )
    found = [templar(result).template(trusted("{{ " + expression + " | list }}")) for expression in lists]
    logins = [
        templar(result, __ovfenv_vm=entry).template(trusted(VARS["__ovfenv_login"])) for entry in result["ovfenv"]
    ]
    return [*found, [login.get("guest_username") for login in logins]]


def is_refused(name: str, result: dict[str, Any]) -> bool:
    """Return whether a playbook ends before it decides."""
    (check,) = [task for task in playbook(name) if task["name"] == CHECK]
    conditions = check["ansible.builtin.assert"]["that"]
    return not all(
        templar(result).template(trusted("{{ " + condition + " }}"))
        for condition in ([conditions] if isinstance(conditions, str) else conditions)
    )


@functools.cache
def of_repair() -> list[Any]:
    """Return the decisions without a masked value."""
    return decisions(RESULT)


@functools.cache
def of_report() -> list[Any]:
    """Return the decisions without a masked value."""
    return decisions(without_moids(RESULT))


@pytest.mark.parametrize("password", PASSWORDS)
def test_same_decision_or_refusal(password: str) -> None:
    masked = remove_values(RESULT, {password})
    if not is_refused("ovfenv_repair.yml", masked):
        assert decisions(masked) == of_repair()
    if not is_refused("ovfenv_report.yml", masked):
        assert decisions(without_moids(masked)) == of_report()


def without_moids(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without the managed object IDs, which the report only displays."""
    return {**result, "ovfenv": [{**entry, "moid": "vm"} for entry in result["ovfenv"]]}


@pytest.mark.parametrize("password", ["vcenter", "lost", "delivered", "true", "True", "e", "web-", "power"])
def test_words_do_not_lead_to_a_refusal(password: str) -> None:
    masked = remove_values(RESULT, {password})
    is_word = not (MASKS_BOOLEANS and password in str(True))
    assert is_refused("ovfenv_repair.yml", masked) is not is_word
    assert is_refused("ovfenv_report.yml", masked) is not is_word


@pytest.mark.parametrize("password", ["2", "12", "delivered"])
def test_verdict_after_a_repair(password: str) -> None:
    """A VM was power-cycled: the play reports it, whatever is masked in its verdict."""
    after = {"diagnosis": {"status": "delivered", "rank": diagnosis.URGENCY.index("delivered") + 1}}
    repaired = remove_values({"after": after, "changed": True}, {password})
    _wait, remember = yaml.safe_load((PLAYBOOKS / "tasks" / "ovfenv_repair_one.yml").read_text(encoding="utf-8"))
    given = {key: trusted(value) for key, value in remember["vars"].items() if isinstance(value, str)}
    job = {"ansible_job_id": "j1.2", "__ovfenv_vm": vm(0, "lost")}
    reads = templar(RESULT, __ovfenv_one=repaired, __ovfenv_job=job, **given)
    outcome = {key: reads.template(trusted(value)) for key, value in remember["vars"]["__ovfenv_outcome"].items()}
    assert outcome["status"] == "delivered"
    assert outcome["failed"] is False
