# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity script for Windows, from the modules to the guest and back, without PowerShell.

A guest that claims to be Windows gets a shell script in place of PowerShell. It keeps the package with the scripts,
reaches the fork point, and prints the report that the real script would print in a child.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from functional.engines import either_engine
from functional.vcenter import SECONDS, Result, VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity_report import ITEMS, Report
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import runner, windows

pytestmark = either_engine

SCRIPT = (Path(__file__).parents[2] / "roles/vmfork/files/windows_identity.ps1").read_text()
ABSENT = ("random", "ssh_host_keys", "boot_id", "announce")
PARENTS_ID = "1" * 64
REPORT = Report(
    items={item: "absent" if item in ABSENT else "ok" for item in ITEMS},
    reasons=dict.fromkeys(ABSENT, "not in this guest"),
    machine_id="@ID@",
)

# In its command line, which a shell has read here, the first values in quotes are the nonce and the key of the package.
POWERSHELL = r"""#!/bin/sh
rpc() { vmtoolsd --cmd "$1" 2>/dev/null; }
param() { rpc "info-get guestinfo.fork.vmfork.$1"; }
quoted() { tr '\000' '\n' </proc/$$/cmdline | sed -n "s/^ *= '\(.*\)'\$/\1/p" | sed -n "$1p"; }
nonce=$(quoted 1) key=$(quoted 2)
rpc "info-get $key.0" >/root/package
rpc "info-set $key.0  "
rpc "info-set guestinfo.vmfork.identity @PARENT@"
rpc "info-set guestinfo.vmfork.quiesced_at 2026-01-01T00:00:00Z"
rpc "info-set guestinfo.vmfork.scripts @DIGEST@ $nonce identity=@IDENTITY@"
rpc '@FREEZE@' || exit 1
rpc "info-set guestinfo.vmfork.scripts  "
id=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
[ "$(param agents_remove)" != 'C:\agent\inherited' ] || id=@ID@
report=$(echo '@REPORT@' | sed "s/@ID@/$id/")
rpc "info-set guestinfo.vmfork.identity $(param nonce) ${report#* }"
for name in $(param secrets); do rpc "info-set $name  "; done
rpc "info-set guestinfo.vmfork.secrets $(param nonce) cleared"
rpc "info-set guestinfo.vmfork.post_clone $(param nonce) 0 "
"""


@pytest.fixture
def parent(vcenter: VCenter) -> VCenter:
    vcenter.enable()
    it = vcenter.moid()
    vcenter.control("PATCH", f"guests/{it}", {"guest_family": "windowsGuest"})
    text = POWERSHELL.replace("@FREEZE@", vcenter.engine.freeze).replace("@REPORT@", REPORT.text("-"))
    job = runner.Job(identity=runner.Identity(SCRIPT))
    text = text.replace("@DIGEST@", job.digest()).replace("@IDENTITY@", runner.Identity(SCRIPT).digest())
    text = text.replace("@PARENT@", Report(machine_id=PARENTS_ID).text("parent")).replace("=@ID@", f"={PARENTS_ID}")
    encoded = base64.b64encode(text.encode()).decode()
    vcenter.in_guest(it, f"echo {encoded} | base64 -d >'/root/{windows.SHELL}'; chmod 755 /root/*.exe")
    return vcenter


def quiesce(vcenter: VCenter, script: str = SCRIPT) -> Result:
    given = {"name": vcenter.parent, "identity_script": script, "script_delivery": "guestinfo"}
    return vcenter.run("vmfork_quiesce", **vcenter.guest_login, **given)


def fork(vcenter: VCenter, *names: str, **identity: object) -> Result:
    children = [{"name": name} for name in names]
    given = {"parent_name": vcenter.parent, "children": children, "identity": identity, "address_timeout": 0}
    return vcenter.run("vmfork_child", **given)


def test_script_is_delivered_and_its_report_accepted(parent: VCenter) -> None:
    done = quiesce(parent)
    assert done.get("changed"), done.msg
    assert done["has_identity_script"] is True
    result = fork(parent, "web-01", "web-02", agents_remove=[r"C:\Program?Files\agent\id"])
    assert not result.get("failed"), result.msg
    for child in result["children"]:
        assert child["identity"]["items"] == REPORT.items
        assert child["identity"]["reasons"]["random"] == "not in this guest"
        assert (child["identity"]["renewed"], child["secrets_cleared"]) == (True, True)
    package = base64.b64decode(parent.in_guest(result["children"][0]["moid"], "cat /root/package"))
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        assert archive.namelist() == ["runner.ps1", "identity.ps1"]
        assert archive.read("identity.ps1").decode("utf-8-sig").replace("\r\n", "\n") == SCRIPT
        assert "$run_renew = @('" in archive.read("runner.ps1").decode("utf-8-sig")


def test_another_version_of_the_script_is_a_warning(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    later = quiesce(parent, SCRIPT + "# changed\n")
    assert later["changed"] is False
    assert "was quiesced with another version of the identity script" in str(later["warnings"])


def test_children_that_are_not_renewed_fail(parent: VCenter) -> None:
    """What Windows does not have is an error if it is named, and so is the machine ID of the parent."""
    assert quiesce(parent)["changed"]
    named = fork(parent, "web-01", items=["random", "hostname"])
    assert "random is not in its guest (not in this guest)" in named.msg
    inherited = fork(parent, "web-02", agents_remove=[r"C:\agent\inherited"])
    assert "it has the machine ID of its parent" in inherited.msg


PLAY = """
- name: Fork a Windows guest
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Fork
      ansible.builtin.import_role:
        name: vmfork.vsphere.vmfork
    - name: The identities were accepted
      ansible.builtin.assert:
        that: vmfork_result.children | map(attribute="identity.renewed") == [true, true]
"""


def play(vcenter: VCenter, directory: Path, **given: Any) -> subprocess.CompletedProcess[str]:
    (directory / "play.yml").write_text(PLAY)
    variables = {
        "vmfork_parent_name": vcenter.parent,
        **{f"vmfork_{name}": value for name, value in vcenter.guest_login.items()},
        "vmfork_script_delivery": "guestinfo",
        "vmfork_child_count": 2,
        "vmfork_address_timeout": 0,
        **given,
    }
    collections = str(Path(__file__).parents[2] / ".build" / "live")
    environment = {**os.environ, **vcenter.simulator.environment, "ANSIBLE_COLLECTIONS_PATH": collections}
    command = ["ansible-playbook", "play.yml", "-e", json.dumps(variables)]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_role_brings_the_script_on_request(parent: VCenter, tmp_path: Path) -> None:
    """A later run without the variable knows that the children have the script."""
    for given, changed in (({"vmfork_identity": "auto"}, True), ({}, False)):
        ended = play(parent, tmp_path, **given)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ("changed=0" not in ended.stdout) is changed
    package = base64.b64decode(parent.in_guest(parent.moid("/DC0/vm/web-01"), "cat /root/package"))
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        assert archive.read("identity.ps1").decode("utf-8-sig").replace("\r\n", "\n") == SCRIPT
