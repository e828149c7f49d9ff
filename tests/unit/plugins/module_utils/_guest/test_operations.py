# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest operations on Windows, which the simulator does not have, and other cases it does not cover."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import operations, runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import LINUX, WINDOWS
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.operations import Guest
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import UnknownType


def process(pid: int, line: str | None, began: int | None = None, end: int | None = None, **more: Any) -> Any:
    """Return an entry of a process list without the values that are not given."""
    times = {"startTime": began, "endTime": end}
    given = {name: datetime.datetime.fromtimestamp(when, datetime.timezone.utc) for name, when in times.items() if when}
    command = {} if line is None else {"cmdLine": line}
    return vim.vm.guest.ProcessManager.ProcessInfo(pid=pid, **command, **given, **more)


def make_directory(directoryPath: str, createParentDirectories: bool, **_login: Any) -> None:  # noqa: N803
    """MakeDirectoryInGuest, on this machine."""
    Path(directoryPath).mkdir(parents=createParentDirectories)


@pytest.mark.parametrize("unpacked", [True, False])
def test_request_to_end_a_windows_runner_leaves_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unpacked: bool
) -> None:
    """It does so even if the runner has not created its directory yet."""
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
def test_runner_is_found_instead_of_its_script(
    monkeypatch: pytest.MonkeyPatch, processes: list[tuple[int, int, str | None]], found: int | None
) -> None:
    """Ending the script instead would leave behind the processes that it started."""
    listed = [process(pid, line, began) for pid, began, line in processes]
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
    """Return a guest whose operations raise these faults in turn and then succeed, and the number of waits."""
    left, waited = list(answers), []

    def call(_method: Any, **_arguments: Any) -> str:
        if left:
            raise _errors.Fault(left.pop(0), "vcenter")
        return "/tmp/vmfork.1a2b"

    manager = SimpleNamespace(CreateTemporaryDirectoryInGuest=None)
    monkeypatch.setattr(Guest, "_manager", lambda *_: manager)
    monkeypatch.setattr(Guest, "_await_ready", lambda _self, what, refused: waited.append(what))
    session: Any = SimpleNamespace(call=call)
    return Guest(session, Deadline(60), None, "golden", GuestLogin("u", "p"), LINUX), waited


@pytest.mark.parametrize("fault", NOT_YET, ids=["unavailable", "reason", "text"])
def test_tools_that_do_not_answer_yet_are_awaited(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    guest, waited = guest_that_answers(monkeypatch, fault, fault)
    assert guest.make_directory(None) == "/tmp/vmfork.1a2b"
    assert len(waited) == 2


@pytest.mark.parametrize("fault", OTHERS, ids=["other code", "no code", "permission", "access"])
def test_other_faults_are_not_retried(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
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
    """Missing properties cause no crash, and another delivery may be used."""
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
    listed = [process(7, line, end=end)]
    monkeypatch.setattr(Guest, "_manager", lambda *_: SimpleNamespace(ListProcessesInGuest=lambda **_given: listed))
    session: Any = SimpleNamespace(ask=lambda method, **arguments: method(**arguments))
    guest = Guest(session, Deadline(1), None, "golden", GuestLogin("u", "p"), LINUX)
    assert guest.has_other_runner("/tmp/vmfork.1a2b") is expected


RUNNER = "/bin/sh /tmp/vmfork.1a2b/runner"


def guest_with(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> Guest:
    """Return a guest whose operations return what these functions do."""
    monkeypatch.setattr(Guest, "_manager", lambda *_: SimpleNamespace(**methods))

    def ask(method: Any, **arguments: Any) -> Any:
        return method(**arguments)

    session: Any = SimpleNamespace(call=ask, ask=ask, server=SimpleNamespace(hostname="vcenter"))
    login = GuestLogin("u", "p", transfer_certs="ca")
    return Guest(session, Deadline(1), None, "golden", login, LINUX)


def guest_that_lists(monkeypatch: pytest.MonkeyPatch, *processes: Any) -> Guest:
    return guest_with(monkeypatch, ListProcessesInGuest=lambda **_given: list(processes) or None)


@pytest.mark.parametrize(
    ("entry", "code", "found"),
    [
        (vim.vm.guest.ProcessManager.ProcessInfo(), None, None),
        (process(0, RUNNER, 1, 2), None, None),
        (process(-1, RUNNER, 1, 2), None, None),
        (process(7, RUNNER), None, 7),
        (process(7, None, 1, 2), 0, None),
        (process(7, RUNNER, 1, 2), 0, 7),
        (process(7, RUNNER, 1, 2, exitCode=-1), -1, 7),
        (process(7, RUNNER + "x" * 2_000_000, 1, 2, exitCode=3), 3, 7),
    ],
    ids=["empty", "no pid", "negative pid", "no times", "no command", "no exit code", "negative exit code", "long"],
)
def test_any_entry_of_a_process_list(
    monkeypatch: pytest.MonkeyPatch, entry: Any, code: int | None, found: int | None
) -> None:
    guest = guest_that_lists(monkeypatch, entry)
    assert (guest.exit_code(7), guest.find("/tmp/vmfork.1a2b")) == (code, found)
    assert guest.has_other_runner("/tmp/vmfork.ffff") is (found is not None and not entry.endTime)


@pytest.mark.parametrize("began", [None, datetime.datetime(1, 1, 1), datetime.datetime.max])
def test_entries_whose_times_cannot_be_compared(
    monkeypatch: pytest.MonkeyPatch, began: datetime.datetime | None
) -> None:
    odd = process(9, RUNNER)
    if began is not None:
        odd.startTime = began
    guest = guest_that_lists(monkeypatch, odd, process(8, RUNNER, 100), process(7, RUNNER, 101))
    assert guest.find("/tmp/vmfork.1a2b") in (8, 9)
    assert guest_that_lists(monkeypatch).find("/tmp/vmfork.1a2b") is None


def test_endless_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time grows linearly with its length."""
    guest = guest_that_lists(monkeypatch, process(7, "vmfork." * 100_000), *[process(8, RUNNER)] * 10_000)
    began = time.process_time()
    assert guest.has_other_runner("/tmp/vmfork.1a2b") is False
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "error",
    [_errors.Fault(vim.fault.GuestOperationsUnavailable(), "vcenter"), UnknownType("pyVmomi does not know it.")],
)
def test_unavailable_process_list(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(**_given: Any) -> None:
        raise error

    guest = guest_with(monkeypatch, ListProcessesInGuest=fail)
    assert guest.exit_code(7) is None
    with pytest.raises(operations.NOT_REPORTED):
        guest.find("/tmp/vmfork.1a2b")


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/vmfork.1a2b",
        "/var/tmp/my 'files'/vmfork.vmware$1",
        "/Ordner größe/vmfork.1",
        r"C:\Users\ADMINI~1\AppData\Local\Temp\vmfork.vmware12",
        "C:/T/vmfork.1",
        r"\\server\share\vmfork.1",
    ],
)
def test_directory_with_our_name(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    assert guest_with(monkeypatch, CreateTemporaryDirectoryInGuest=lambda **_given: path).make_directory(None) == path


@pytest.mark.parametrize(
    "path",
    [
        *(
            None,
            "",
            "/",
            "/tmp",
            "/tmp/",
            "/tmp/vmfork.",
            "vmfork.1",
            "/tmp/vmfork.1/",
            "/tmp/vmfork.1/..",
            "C:",
            "C:\\",
        ),
        *("/tmp/vmfork.1\n/etc", "/tmp\n/vmfork.1", "/tmp/vmfork.\x00", "/tmp/vmfork." + "x" * 100_000),
    ],
)
def test_other_directory_is_not_used(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    """It would be removed with all its contents."""
    guest = guest_with(monkeypatch, CreateTemporaryDirectoryInGuest=lambda **_given: path)
    with pytest.raises(_errors.GuestFailed, match="golden: VMware Tools returned the path") as error:
        guest.make_directory(None)
    assert len(error.value.sentence) < 500
    assert "\n" not in error.value.sentence


@pytest.mark.parametrize("pid", [None, 0, -1])
def test_program_without_a_process_id(monkeypatch: pytest.MonkeyPatch, pid: int | None) -> None:
    """It may be running, but no process is ever ended by such a number."""
    guest = guest_with(monkeypatch, StartProgramInGuest=lambda **_given: pid)
    with pytest.raises(_errors.ConnectionLost, match="for its process ID"):
        guest.start("/bin/sh", "")


URLS = [
    None,
    "",
    "/",
    "https://",
    "http://esx/x",
    "https://esx:99999/",
    "https://esx:x/",
    "https://[::1",
    "https://e x/",
]
URLS += ["https://esx/größe", "https://größe/", "https://esx/\n", "https://" + "[" * 1000, "file:///etc/passwd"]


@pytest.mark.parametrize("url", URLS)
def test_transfer_url_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    info = vim.vm.guest.FileManager.FileTransferInformation(url=url or "")
    guest = guest_with(
        monkeypatch,
        InitiateFileTransferToGuest=lambda **_given: url,
        InitiateFileTransferFromGuest=lambda **_given: info if url is not None else None,
    )
    for transfer in (lambda: guest.upload("/tmp/vmfork.1", "runner", b"x"), lambda: guest.download("/x", 10)):
        with pytest.raises(_errors.OperationFailed, match="vcenter returned a URL for it that cannot be used"):
            transfer()


@pytest.mark.parametrize("managers", [{}, {"processManager": None}, None])
def test_user_without_guest_operations(monkeypatch: pytest.MonkeyPatch, managers: Any) -> None:
    manager = None if managers is None else "manager"
    monkeypatch.setattr(_properties, "read", lambda *_given: {} if managers is None else {manager: managers})
    operations._managers.cache_clear()
    content = SimpleNamespace(guestOperationsManager=manager)
    session: Any = Mock(content=content, server=SimpleNamespace(hostname="vcenter"))
    guest = Guest(session, Deadline(1), None, "golden", GuestLogin("u", "p"), LINUX)
    with pytest.raises(_errors.OperationFailed, match="vcenter does not offer guest operations to this user"):
        guest.find("/tmp/vmfork.1")
