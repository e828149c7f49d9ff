# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the commands that playbooks print: what somebody named a VM must stay a name when such a command is run."""

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
from ansible.utils.vars import load_extra_vars
from unit.templates import trusted

import ansible_collections.vmfork.vsphere as collection
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_backup

TEMPLATES = pathlib.Path(next(iter(collection.__path__))) / "playbooks/templates"
UUID = "50050d8f-0000-0000-0000-000000000001"
NAMES = ["web-01", "two words", "it's", "a,b", "{{ 6 * 7 }}", "{% raw %}x{% endraw %}", "{# none #}"]


def evaluated(command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the extra variables that ansible-playbook makes of a command, as a task gets them."""
    words = shlex.split(command)
    given = tuple(trusted(after) for before, after in itertools.pairwise(words) if before == "-e")
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": given})
    load_extra_vars.__dict__.clear()  # it remembers those of an earlier call
    loader = DataLoader()
    variables = load_extra_vars(loader)
    result = Templar(loader, variables=variables).template({name: trusted(f"{{{{ {name} }}}}") for name in variables})
    return {
        name: value if isinstance(value, list) else [one.strip() for one in value.split(",")]
        for name, value in result.items()
    }


def table(**variables: Any) -> list[str]:
    """Return the lines that vapp_restore shows."""
    parts = [(TEMPLATES / f"{name}.j2").read_text() for name in ("command", "table", "vapp_restore.txt")]
    render = trusted(re.sub(r"(?m)^{% from .*\n", "", "".join(parts)))
    text = Templar(DataLoader(), variables=variables).template(render, escape_backslashes=False)
    return str(text).splitlines()


def row(name: str) -> dict[str, Any]:
    lists = {key: [] for key in ("changes", "mapped", "unmapped", "secrets_missing")}
    texts = {"name": name, "moid": "vm-1", "action": "restore", "reason": "", "matched_by": "name"}
    return {**texts, **lists, "unique": True, "confirmed": True}


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_restore(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(name)]
    shown = {"__vapp_plan": {"rows": rows}, "__vapp_written": rows}
    done = {"results": [{"needs_power_cycle": True}]}
    (hint,) = [one for one in table(**shown, ansible_check_mode=True) if one.startswith("To restore, add ")]
    assert evaluated(hint.replace("To restore, add ", ""), monkeypatch) == {"vapp_restore_confirm": [name]}
    lines = table(**shown, ansible_check_mode=False, __vapp_outcomes=done)
    (repair,) = [one for one in lines if one.startswith("ansible-playbook vmfork.vsphere.ovfenv_repair ")]
    assert evaluated(repair, monkeypatch) == {"ovfenv_moids": ["vm-1"], "ovfenv_repair_confirm": [name]}


@pytest.mark.parametrize("name", NAMES)
def test_command_of_a_backup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is more than a word is confirmed by the managed object ID."""
    command = vapp_backup._restore(vapp_backup.Found(name, "vm-1"), UUID, "/srv/backup")
    expected = {
        "vapp_vms": [UUID],
        "vapp_restore_confirm": [name if name == "web-01" else "vm-1"],
        "vapp_backup_directory": ["/srv/backup"],
    }
    assert evaluated(command, monkeypatch) == expected
