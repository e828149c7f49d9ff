# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test that the report and the repair show no secret, whatever vCenter names in its faults: each row is a test case.

There is a VM for each property of the table, and vCenter names the value of the property each time it is asked for
something. The web page, the CSV file and the repair's table are rendered once, with all VMs.
"""

from __future__ import annotations

import csv
import fcntl
import html
import io
import json
import pathlib
import re
import subprocess
from typing import Any, NamedTuple

import pytest
from pyVmomi import vim
from unit.fake_vcenter import FakeVCenter
from unit.plugins.module_utils._ovf.secret_properties import PLAIN, SECRET

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import examine, masking

PLAYBOOKS = pathlib.Path(__file__).resolve().parents[2] / "playbooks"
ROWS = {
    **{f"secret: {name}": row for name, row in SECRET.items()},
    **{f"plain: {name}": row for name, row in PLAIN.items()},
}
NUMBERS = {name: number for number, name in enumerate(ROWS)}


def value_of(name: str) -> str:
    """Return the value of a row; one without a value gets one that nothing else contains."""
    return ROWS[name].get("value", f"planted-{NUMBERS[name]:03d}-0123456789")


def refusal(name: str) -> str:
    """Return what vCenter says, as the sentences of the modules quote it."""
    return f"The value '{' '.join(value_of(name).split())}' is invalid"


class Shown(NamedTuple):
    """What a user sees.

    :ivar page: the row of each VM on the web page, without the markup of the values.
    :ivar csv: the line of each VM in the CSV file.
    :ivar repair: what the repair shows of each VM.
    """

    page: dict[str, str]
    csv: dict[str, str]
    repair: dict[str, str]


def facts(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch, mask: masking.Mask) -> list[dict[str, Any]]:
    """Return the VMs as vm_ovfenv_info returns them."""
    names = {}
    for name, row in ROWS.items():
        about = {"type": "string", "value": value_of(name), **row}
        about["id"] = about.pop("key")
        options = vim.vApp.VmConfigInfo(
            property=[vim.vApp.PropertyInfo(key=0, userConfigurable=True, **about)],
            ovfEnvironmentTransport=["com.vmware.guestInfo"],
        )
        values = {"config.vAppConfig": options, "runtime.connectionState": "connected",
                  "guest.toolsRunningStatus": "guestToolsRunning"}  # fmt: skip
        names[vcenter.vm(f"row-{NUMBERS[name]:03d}", **values)] = name

    def refuse(target: Any, **given: Any) -> None:
        raise vim.fault.InvalidPropertyValue(msg=f"The value '{value_of(names[given.get('vm', target)])}' is invalid.")

    vcenter.effects.update(dict.fromkeys(("ExtractOvfEnvironment", "StartProgramInGuest"), refuse))
    questions = examine.Questions(
        forked_from=lambda values: None, mask=mask, probe="exit_code", login=GuestLogin("root", "x")
    )
    examined = examine.examine(vcenter.use(monkeypatch), Deadline(600), _inventory.Selection(), questions)
    choices = examine.choices(examined, None, [])
    return [{**examine.facts(vm, mask), **chosen} for vm, chosen in zip(examined, choices, strict=True)]


TEMPLATES = ["ovfenv_report.html", "ovfenv_report.csv", "ovfenv_repair.txt"]
PLAYBOOK = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(PLAYBOOKS / "vars" / "ovfenv.yml"), "vms.json"],
        "tasks": [
            {
                "ansible.builtin.template": {"src": f"{PLAYBOOKS}/templates/{{{{ item }}}}.j2", "dest": "{{ item }}"},
                "loop": TEMPLATES,
            }
        ],
    }
]


def render(vms: list[dict[str, Any]], folder: pathlib.Path) -> None:
    """Write what the playbooks show, the repair after each VM failed."""
    moids = [vm["moid"] for vm in vms]
    plan: dict[str, list[str]] = {"steps": [], "risks": [], "notes": []}
    variables = {
        "ovfenv_result": {"ovfenv": vms, "summary": {"total": len(vms), "judged_without_guest_evidence": 0}},
        "__ovfenv_repairable": vms,
        "__ovfenv_begun": moids,
        "__ovfenv_outcomes": [
            {"moid": vm["moid"], "failed": True, "plan": plan, "why": vm["guest"]["error"]} for vm in vms
        ],
    }
    (folder / "vms.json").write_text(json.dumps(variables))
    (folder / "render.json").write_text(json.dumps(PLAYBOOK))
    ended = subprocess.run(
        ["ansible-playbook", "render.json"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Shown:
    """Render once, whichever process comes first."""
    folder = tmp_path_factory.getbasetemp().parent / f"reports-{testrun_uid}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock, pytest.MonkeyPatch.context() as monkeypatch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / TEMPLATES[-1]).exists():
            render(facts(FakeVCenter(), monkeypatch, masking.Mask()), folder)
    page, table, repair = ((folder / name).read_text() for name in TEMPLATES)
    rows = re.findall(r'<tr role="row" id="[^"]*".*?<div class="name">([^<]*)</div>(.*?)</tr>', page, re.DOTALL)
    lines = csv.DictReader(io.StringIO(table.lstrip("\ufeff"), newline=""))
    return Shown(
        {name: html.unescape(text) for name, text in rows},
        {line["name"]: " ".join(line.values()) for line in lines},
        dict(re.findall(r"^(row-\d+): (.*)$", repair, re.MULTILINE)),
    )


@pytest.mark.parametrize("name", ROWS)
def test_value_that_vcenter_names(shown: Shown, name: str) -> None:
    vm, value = f"row-{NUMBERS[name]:03d}", value_of(name)
    for text in (shown.page[vm], shown.csv[vm], shown.repair[vm]):
        if name.startswith("plain"):
            assert refusal(name) in text
        else:
            assert f"The value '{MASK}" in text
            assert refusal(name) not in text
            assert len(value) < 6 or value not in text
