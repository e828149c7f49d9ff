# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the commands that playbooks print: a VM's name is never evaluated when such a command is run."""

from __future__ import annotations

import itertools
import pathlib
import re
import shlex
from typing import Any

import pytest
from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.utils.unsafe_proxy import wrap_var
from ansible.utils.vars import load_extra_vars
from unit.templates import trusted

import ansible_collections.vmfork.vsphere as collection

TEMPLATES = pathlib.Path(next(iter(collection.__path__))) / "playbooks/templates"
UUID = "50050d8f-0000-0000-0000-000000000001"
NAMES = ["web-01", "two words", "it's", "a,b", "{{ 6 * 7 }}", "{% raw %}x{% endraw %}", "{# none #}", "No"]


def evaluated(command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the extra variables of a command as ansible-playbook passes them to a task."""
    words = shlex.split(command)
    given = tuple(trusted(after) for before, after in itertools.pairwise(words) if before == "-e")
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": given})
    load_extra_vars.__dict__.clear()  # it caches the variables of an earlier call
    loader = DataLoader()
    variables = load_extra_vars(loader)
    result = Templar(loader, variables=variables).template({name: trusted(f"{{{{ {name} }}}}") for name in variables})
    return {
        name: value if isinstance(value, list) else [part.strip() for part in value.split(",")]
        for name, value in result.items()
    }


def table(shown: str, **variables: Any) -> list[str]:
    """Return the lines that vapp_restore or vapp_backup displays."""
    parts = [(TEMPLATES / f"{name}.j2").read_text() for name in ("command", "count", "table", shown)]
    variables["__ovfenv_connection"] = {"vmfork_hostname": "vc.example.com"}
    render = trusted(re.sub(r"(?m)^{% from .*\n", "", "".join(parts)))
    results = {key: wrap_var(value) for key, value in variables.items()}  # as Ansible stores results
    text = Templar(DataLoader(), variables=results).template(render, escape_backslashes=False)
    return str(text).splitlines()


def row(name: str) -> dict[str, Any]:
    lists: dict[str, list[str]] = {key: [] for key in ("changes", "mapped", "unmapped", "secrets_missing", "not_saved")}
    texts = {"name": name, "moid": "vm-1", "action": "restore", "reason": "", "matched_by": "name"}
    return {**texts, **lists, "unique": True, "confirmed": True}


def confirmed(name: str) -> list[str]:
    """Return the confirmation of a VM: its name if that is a plain word but no boolean, else its managed object ID."""
    return [name if name == "web-01" else "vm-1"]


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_restore(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(name)]
    shown = {"__vapp_plan": {"rows": rows}, "__vapp_written": rows}
    done = {"vms": [{"needs_power_cycle": True}]}
    lines = table("vapp_restore.txt", **shown, ansible_check_mode=True)
    (hint,) = [line for line in lines if line.startswith("To restore, add ")]
    assert evaluated(hint.replace("To restore, add ", ""), monkeypatch) == {"vapp_restore_confirm": confirmed(name)}
    lines = table("vapp_restore.txt", **shown, ansible_check_mode=False, __vapp_outcomes=done)
    (repair,) = [line for line in lines if line.startswith("ansible-playbook vmfork.vsphere.ovfenv_repair ")]
    assert evaluated(repair, monkeypatch) == {
        "vmfork_hostname": ["vc.example.com"],
        "ovfenv_moids": ["vm-1"],
        "ovfenv_repair_confirm": confirmed(name),
    }


def test_duplicate_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**row("web-01"), "unique": False}]
    lines = table("vapp_restore.txt", __vapp_plan={"rows": rows}, __vapp_written=rows, ansible_check_mode=True)
    (hint,) = [line for line in lines if line.startswith("To restore, add ")]
    assert evaluated(hint.replace("To restore, add ", ""), monkeypatch) == {"vapp_restore_confirm": ["vm-1"]}


@pytest.mark.parametrize("name", NAMES)
def test_command_of_a_backup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = {"name": name, "moid": "vm-1", "instance_uuid": UUID, "state": "gone", "change": "none"}
    vm |= {"file": f"{UUID}.json", "inventory_path": "/DC0/vm/x", "message": "its vApp options are gone"}
    counts = dict.fromkeys(("total", "saved", "written", "gone", "not_read"), 0)
    result = {"vms": [vm], "summary": counts, "directory": "/srv/backup"}
    lines = table("vapp_backup.txt", vapp_backup_result=result, ansible_check_mode=False)
    (command,) = [line for line in lines if line.startswith("ansible-playbook ")]
    assert evaluated(command, monkeypatch) == {
        "vmfork_hostname": ["vc.example.com"],
        "vapp_vms": [UUID],
        "vapp_restore_confirm": confirmed(name),
        "vapp_backup_directory": ["/srv/backup"],
    }
