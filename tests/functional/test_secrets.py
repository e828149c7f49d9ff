# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After any failure, no secret remains in vCenter, the guest, the output, the log or a process list."""

from __future__ import annotations

import base64
import re
import signal
from typing import Any

import pytest
from functional.engines import both_engines
from functional.vcenter import VCenter

pytestmark = both_engines

SECRET = "kept-out-of-sight-0123456789"
ENCODED = base64.b64encode(SECRET.encode()).decode()
TOKEN = "vmtoolsd --cmd 'info-get guestinfo.fork.token'"
# Prints the secret in clear and encoded, and records the processes that every user of the guest can see.
SCRIPT = f"""{TOKEN}; {TOKEN} | base64; echo "user:$({TOKEN})" | base64
for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$one; done >/root/processes 2>/dev/null
"""

LONG_WAIT = {"timeout": 6}
CREATED = "created"
"""A placeholder for the call that creates the child."""
FAILURES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "script": ("exit 3", {}, {}),
    "time-out": ("exec sleep 60", LONG_WAIT, {}),
    "busy": ("exit 3", {}, {"method": "ReconfigVM_Task", "at": "task", "fault": "TaskInProgress", "count": 1}),
    "signal": ("exec sleep 60", {"signal_at": (signal.SIGTERM, CREATED, 0)}, {}),
}


def visible(vcenter: VCenter, moid: str) -> str:
    """Return everything that vCenter shows of a VM and its guest can read, also with base64 decoded."""
    text = vcenter.govc("object.collect", "-json", f"VirtualMachine:{moid}", "config") + str(vcenter.guest(moid))
    words = [word for word in re.findall(r"[A-Za-z0-9+/]{8,}={0,2}", text) if len(word) % 4 == 0]
    return text + b" ".join(base64.b64decode(word) for word in words).decode(errors="replace")


@pytest.mark.parametrize("failure", FAILURES)
def test_no_secret_is_visible_after_a_failure(vcenter: VCenter, failure: str) -> None:
    end, options, fault = FAILURES[failure]
    vcenter.enable()
    vcenter.quiesce(post_clone_script=SCRIPT + end)
    if fault:
        vcenter.fault(**fault)
    given = {"parent_name": vcenter.parent, "name": "web-01", "secret_config_params": {"token": SECRET}}
    if "signal_at" in options:
        method = "InstantClone_Task" if vcenter.engine.starts_running else "PowerOnVM_Task"
        options = {"signal_at": (options["signal_at"][0], method, 0)}
    result = vcenter.run("vmfork_child", **given, **options)
    assert vcenter.control("GET", "sessions") == []
    moid = vcenter.moid("/DC0/vm/web-01")
    for shown in (result.raw, visible(vcenter, moid), visible(vcenter, vcenter.moid())):
        assert SECRET not in shown
        assert ENCODED[:-4] not in shown
    assert result["failed"]
    assert "web-01" in result.raw, "the log is there"
    if failure not in ("busy", "signal"):  # then the child may not even run
        processes = vcenter.in_guest(moid, "cat /root/processes")
        assert "runner" in processes
        assert SECRET not in processes
    later = vcenter.run("vmfork_child", parent_name=vcenter.parent, name="web-01", state="present", timeout=5)
    assert SECRET not in later.raw
