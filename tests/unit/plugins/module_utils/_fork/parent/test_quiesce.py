# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the messages about a runner that ended early, by engine and kind of guest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.vmfork import VmforkEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.guestinfo import UNREADABLE, Report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import quiesce
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import LINUX, MACOS, WINDOWS, Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import STAGES

NO_SESSION: Any = None
ENGINES: dict[str, Any] = {"vmfork": VmforkEngine(NO_SESSION), "instant_clone": InstantCloneEngine(NO_SESSION)}


def sentence(stage: str, engine: str = "instant_clone", family: Family = LINUX) -> str:
    parent: Any = SimpleNamespace(name="golden", values={}, engine=ENGINES[engine])
    return quiesce._early_end(parent, family, Report(stage, 3, "")).sentence


@pytest.mark.parametrize(
    ("reported", "message"),
    [
        (("script", "vmfork"), "It must call vmfork-begin -1 -1 and then continue."),
        (("script", "instant_clone"), "It must call instantclone.freeze and then continue."),
        (("freeze", "vmfork"), "Check that VMware Tools is current and the VM is a fork parent."),
        (("freeze", "instant_clone"), "Check that VMware Tools is current."),
        (("tools",), "neither vmtoolsd nor vmware-rpctool is in the guest"),
        (("tools", "vmfork", MACOS), "neither vmware-tools-daemon nor vmware-rpctool is in the guest"),
        (("tools", "vmfork", WINDOWS), "neither vmtoolsd.exe nor rpctool.exe is in the guest"),
        (("not_root",), "the guest user is not root (exit code 3). Use guest_become=sudo, or log in as root."),
        (("not_root", "vmfork", WINDOWS), "the guest user is not an administrator (exit code 3). Log in as Adm"),
        (("killed",), "ended without a report"),
    ],
)
def test_early_end(reported: tuple[Any, ...], message: str) -> None:
    assert message in sentence(*reported)


def test_unreadable_report() -> None:
    parent: Any = SimpleNamespace(name="golden", values={}, engine=ENGINES["instant_clone"])
    error = quiesce._early_end(parent, LINUX, Report(UNREADABLE, None, ""))
    assert "wrote an unreadable report to guestinfo.vmfork.quiesce. Check what writes" in error.sentence


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_message(stage: str) -> None:
    assert sentence(stage) != sentence("killed")
    assert "{" not in sentence(stage)
