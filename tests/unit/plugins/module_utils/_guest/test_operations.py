# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guest operations leave in a guest that no simulator plays: Windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import operations, runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import LINUX, WINDOWS
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


NOT_YET = [
    vim.fault.GuestOperationsUnavailable(),
    vmodl.fault.SystemError(reason="vix error codes = (3016, 0).\n"),
    vmodl.fault.SystemError(msg="A general system error occurred: vix error codes = (3016, 0).\n"),
]
OTHERS = [
    vmodl.fault.SystemError(reason="vix error codes = (1, 30160)"),
    vmodl.fault.SystemError(),
    vim.fault.GuestPermissionDenied(),
    vim.fault.CannotAccessFile(),
]


def guest_that_answers(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> tuple[Guest, list[str]]:
    """A guest whose operations fail with these faults in turn, then succeed; how often it was waited for."""
    left, waited = list(answers), []

    def call(_method: Any, **_arguments: Any) -> str:
        if left:
            raise left.pop(0)
        return "/tmp/vmfork.1a2b"

    manager = SimpleNamespace(CreateTemporaryDirectoryInGuest=None)
    monkeypatch.setattr(Guest, "_manager", lambda *_: manager)
    monkeypatch.setattr(Guest, "_await_ready", lambda _self, what, refused: waited.append(what))
    session: Any = SimpleNamespace(call=call)
    return Guest(session, Deadline(60), None, "golden", GuestLogin("u", "p"), LINUX), waited


@pytest.mark.parametrize("fault", NOT_YET, ids=["unavailable", "reason", "text"])
def test_tools_that_do_not_answer_yet_are_waited_for(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    guest, waited = guest_that_answers(monkeypatch, fault, fault)
    assert guest.make_directory(None) == "/tmp/vmfork.1a2b"
    assert len(waited) == 2


@pytest.mark.parametrize("fault", OTHERS, ids=["other code", "no code", "permission", "access"])
def test_other_faults_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    guest, waited = guest_that_answers(monkeypatch, fault)
    with pytest.raises(_errors.OperationFailed) as refusal:
        guest.make_directory(None)
    assert waited == []
    advised = isinstance(fault, (vim.fault.GuestPermissionDenied, vim.fault.CannotAccessFile))
    assert ("SELinux" in refusal.value.sentence) is advised


@pytest.mark.parametrize(
    "shown", [{}, {"host": {}}, {"host": {"config.certificate": []}}, {"host": {"config.certificate": [65, -66]}}]
)
def test_host_that_the_user_may_not_read(monkeypatch: pytest.MonkeyPatch, shown: dict[str, Any]) -> None:
    """What vCenter does not show of it is no crash, and another way of delivery may be taken."""
    vm = "vm"

    def read(_session: Any, objects: list[str], paths: list[str]) -> dict[str, Any]:
        return {vm: {"runtime.host": "host"}} if objects == [vm] else shown

    monkeypatch.setattr(_properties, "read", read)
    session: Any = SimpleNamespace()
    guest = Guest(session, Deadline(60), vm, "golden", GuestLogin("u", "p"), LINUX)
    with pytest.raises(operations.HostHidden, match="Give the user read access to the host"):
        guest._host_certificate("Could not upload")


@pytest.mark.parametrize(
    ("line", "end", "expected"),
    [
        ("/bin/sh /tmp/vmfork.ffff/runner", None, True),
        (r"powershell.exe -File C:\T\vmfork.ffff\runner.ps1", None, True),
        ("/bin/sh /tmp/vmfork.ffff/runner", 1, False),
        ("/bin/sh /tmp/vmfork.1a2b/runner", None, False),
        ("vi /root/runner", None, False),
        (None, None, False),
    ],
)
def test_runner_of_another_task(
    monkeypatch: pytest.MonkeyPatch, line: str | None, end: int | None, expected: bool
) -> None:
    listed = [SimpleNamespace(pid=7, cmdLine=line, endTime=end)]
    monkeypatch.setattr(Guest, "_manager", lambda *_: SimpleNamespace(ListProcessesInGuest=lambda **_given: listed))
    session: Any = SimpleNamespace(ask=lambda method, **arguments: method(**arguments))
    guest = Guest(session, Deadline(1), None, "golden", GuestLogin("u", "p"), LINUX)
    assert guest.has_other_runner("/tmp/vmfork.1a2b") is expected
