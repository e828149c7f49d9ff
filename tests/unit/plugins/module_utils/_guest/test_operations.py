# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guest operations leave in a guest that no simulator plays: Windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import WINDOWS
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.operations import Guest


def make_directory(directoryPath: str, createParentDirectories: bool, **_login: Any) -> None:  # noqa: N803
    """MakeDirectoryInGuest, on this machine."""
    Path(directoryPath).mkdir(parents=createParentDirectories)


@pytest.mark.parametrize("unpacked", [True, False])
def test_who_asks_a_windows_runner_to_end_leaves_a_sign(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unpacked: bool
) -> None:
    """Even where the runner has still to make its directory."""
    monkeypatch.setattr(Guest, "_manager", lambda *_: SimpleNamespace(MakeDirectoryInGuest=make_directory))
    session: Any = SimpleNamespace(call=lambda method, **arguments: method(**arguments))
    guest = Guest(session, Deadline(1), None, "golden", GuestLogin("u", "p"), replace(WINDOWS, separator="/"))
    directory = tmp_path / "vmfork.1a2b"
    if unpacked:
        directory.mkdir()
    guest.ask_to_stop(str(directory), 42)
    assert (directory / runner.STOP).exists()


@pytest.mark.parametrize(
    ("processes", "found"),
    [
        ([(7, 100, "/bin/sh /tmp/vmfork.1a2b/pre_quiesce"), (9, 101, "/bin/sh /tmp/vmfork.1a2b/runner")], 9),
        ([(7, 100, "/bin/sh /tmp/vmfork.1a2b/runner"), (9, 100, "/bin/sh /tmp/vmfork.1a2b/runner")], 7),
        ([(7, 100, r'powershell.exe -File "C:\T\script.ps1"'), (9, 101, "/bin/sh -c 'directory=/tmp/vmfork.1a2b'")], 9),
        ([(7, 100, "/bin/sh /tmp/vmfork.ffff/runner"), (8, 100, None)], None),
    ],
    ids=["its script began earlier by the clock", "first of two", "not unpacked yet", "another's"],
)
def test_the_runner_is_found_and_not_its_script(
    monkeypatch: pytest.MonkeyPatch, processes: list[tuple[int, int, str | None]], found: int | None
) -> None:
    """Who ended the script in its place would leave behind what the script began."""
    listed = [SimpleNamespace(pid=pid, startTime=began, cmdLine=line) for pid, began, line in processes]
    monkeypatch.setattr(Guest, "_manager", lambda *_: SimpleNamespace(ListProcessesInGuest=lambda **_given: listed))
    session: Any = SimpleNamespace(ask=lambda method, **arguments: method(**arguments))
    guest = Guest(session, Deadline(1), None, "golden", GuestLogin("u", "p"), WINDOWS)
    assert guest.find("/tmp/vmfork.1a2b") == found
