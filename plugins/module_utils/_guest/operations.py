# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run guest operations in one VM: wait until it accepts them, run programs, upload and download files.

Private to the collection. Facts about the API (URL host, certificate, exit codes
kept for five minutes, no answer for a pid that is gone) come from the vSphere
API reference of GuestFileManager and GuestProcessManager.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shlex
import ssl
import threading
import time
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _http, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.family import Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import STOP
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

READY_PATHS = ("runtime.powerState", "guest.toolsRunningStatus", "guest.guestOperationsReady")
"""The properties that show whether a guest accepts operations."""

_MANAGERS = ("authManager", "fileManager", "processManager")

RETRY = 5
"""Seconds to wait for updates after the guest's agent refused, before the request is repeated."""

FIRST_LOOK, LAST_LOOK = 0.1, 2.0
"""Shortest and longest time, in seconds, between two reads of a guest's process list."""


_DO_NOT_ANSWER = re.compile(r"vix error codes = \(3016,")
"""How a SystemError of vCenter shows that VMware Tools does not answer guest operations yet (vmware/vic#5915)."""


def is_unavailable(fault: _errors.Fault) -> bool:
    """Return whether a fault means that VMware Tools does not answer guest operations, temporarily or at all."""
    if fault.is_a("GuestOperationsUnavailable"):
        return True
    if not fault.is_a("SystemError"):
        return False
    return any(_DO_NOT_ANSWER.search(text or "") for text in (fault.cause.reason, fault.cause.msg))


class Frozen(t.NamedTuple):
    """How to recognize a VM that is at its fork point."""

    paths: tuple[str, ...]
    test: t.Callable[[_properties.Values], bool]


class HostHidden(_errors.OperationFailed):
    """vCenter does not show the user the ESXi host, or its certificate."""


NOT_REPORTED = (_errors.Fault, UnknownType)
"""Raised if a guest does not report its processes, or if its report cannot be read."""


class Process(t.NamedTuple):
    """A process in the guest, as far as the guest reports it.

    :param began: seconds since 1970 by the guest's clock, infinite if not reported.
    :param exit_code: 0 while it runs, and if not reported: some servers leave 0 out.
    """

    pid: int
    command: str
    began: float
    has_ended: bool
    exit_code: int


def _process(reported: t.Any) -> Process | None:
    """Parse an entry of a process list, which may be incomplete; ``None``: it has no process ID."""
    pid = reported.pid
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        began = reported.startTime.timestamp()
    except (AttributeError, ValueError, OverflowError, OSError):  # missing, or not a valid time
        began = math.inf
    return Process(pid, reported.cmdLine or "", began, reported.endTime is not None, reported.exitCode or 0)


_DIRECTORY = re.compile(r"(?:/|[A-Za-z]:[/\\]|\\\\)(?:[^\x00-\x1f\x7f]*[/\\])?vmfork\.[^/\\\x00-\x1f\x7f]{1,200}")
"""A directory of ours: absolute, and named with our prefix. No other path may ever be removed."""

_RUNNER = re.compile(r"(vmfork\.[^/\\ ]{1,200})[/\\]runner\b")
"""A runner in a command line. The length of a name is limited because command lines may be very long."""


_ASKING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _managers(session: Session) -> _properties.Values:
    """Return the server's guest managers, which are the same for all guests: one call per session."""
    manager = session.content.guestOperationsManager
    return _properties.read(session, [manager], _MANAGERS).get(manager, {}) if manager is not None else {}


class Guest:
    """The inside of one VM, for one guest user.

    :param family: the guest's family.
    :param frozen: how to recognize a VM at its fork point, which is not waited for.
    :param otherwise: the user's alternative if the ESXi host, which receives files, is not reachable.
    """

    def __init__(
        self,
        session: Session,
        deadline: Deadline,
        vm: t.Any,
        name: str,
        login: GuestLogin,
        family: Family,
        otherwise: str = "use script_delivery=guestinfo",
        frozen: Frozen | None = None,
    ) -> None:
        self._session = session
        self._deadline = deadline
        self._vm = vm
        self._name = name
        self._login = login
        self.family = family
        self._otherwise = otherwise
        self._frozen = frozen
        self._auth = vim.vm.guest.NamePasswordAuthentication(
            username=login.username, password=login.password, interactiveSession=False
        )
        self._certificate: bytes | None = None

    @property
    def passwords(self) -> list[str]:
        """The passwords of this task, which programs in the guest may print."""
        server = self._session.server
        return [password for password in (self._login.password, server.password, server.proxy_password) if password]

    def check_login(self) -> None:
        """Check that the guest accepts the user."""
        self._call(
            "Could not log in to the guest",
            self._manager("authManager").ValidateCredentialsInGuest,
            vm=self._vm,
            auth=self._auth,
        )

    def make_directory(self, parent: str | None) -> str:
        """Create a directory that only the user can enter: below ``parent``, or in the guest's temporary directory.

        :raises _errors.GuestFailed: the guest returned a path that is not valid for such a directory.
        """
        what = "Could not create a directory in the guest"
        path = self._call(
            what,
            self._manager("fileManager").CreateTemporaryDirectoryInGuest,
            vm=self._vm,
            auth=self._auth,
            prefix="vmfork.",
            suffix="",
            directoryPath=parent,
        )
        if not isinstance(path, str) or not _DIRECTORY.fullmatch(path):
            raise _errors.GuestFailed(
                _errors.sentence(
                    f"{what} of VM {self._name}",
                    f"VMware Tools returned the path {path!r:.200}, which cannot be used",
                    f"Check VMware Tools in the guest, or {self._otherwise}.",
                )
            )
        return path

    def ask_to_stop(self, directory: str, pid: int) -> None:
        """Ask the runner in a directory to end. It is no error if it has already ended.

        Windows has no signals, and a process that VMware Tools ends cannot clean up, so the runner checks for a stop
        marker. A runner that is not yet unpacked finds the marker in the directory that it would create.
        """
        if not self.family.is_windows:
            self.terminate(pid)
            return
        with contextlib.suppress(_errors.Error):
            self._session.call(
                self._manager("fileManager").MakeDirectoryInGuest,
                vm=self._vm,
                auth=self._auth,
                directoryPath=self.family.join(directory, STOP),
                createParentDirectories=True,
            )

    def remove_directory(self, path: str) -> None:
        """Remove a directory with everything in it."""
        try:
            self._call(
                f"Could not remove the directory {path}",
                self._manager("fileManager").DeleteDirectoryInGuest,
                vm=self._vm,
                auth=self._auth,
                directoryPath=path,
                recursive=True,
            )
        except _errors.OperationFailed as error:
            if error.fault != "GuestPermissionDenied" or not self._start_as_root(f"rm -rf {shlex.quote(path)}"):
                raise

    def upload(self, directory: str, name: str, content: bytes) -> None:
        """Write a file that only the user can read; on Windows, with the rights of its directory.

        :raises _http.Unreachable: the ESXi host, which receives the content, cannot be reached.
        """
        kinds = vim.vm.guest.FileManager
        attributes = (
            kinds.WindowsFileAttributes() if self.family.is_windows else kinds.PosixFileAttributes(permissions=0o600)
        )
        url = self._call(
            f"Could not upload {name} to the guest",
            self._manager("fileManager").InitiateFileTransferToGuest,
            vm=self._vm,
            auth=self._auth,
            guestFilePath=self.family.join(directory, name),
            fileAttributes=attributes,
            fileSize=len(content),
            overwrite=True,
        )
        transfer = self._transfer(url, f"Could not upload {name} to the guest of VM {self._name}")
        _http.put(self._session, transfer, content)

    def download(self, path: str, limit: int) -> bytes:
        """Read a file of at most ``limit`` bytes.

        :raises _http.Unreachable: the ESXi host, which sends the content, cannot be reached.
        """
        what = f"Could not download {path} from the guest of VM {self._name}"
        found = self._call(
            f"Could not download {path} from the guest",
            self._manager("fileManager").InitiateFileTransferFromGuest,
            vm=self._vm,
            auth=self._auth,
            guestFilePath=path,
        )
        return _http.get(self._session, self._transfer(getattr(found, "url", None) or "", what), limit)

    def _transfer(self, url: str | None, what: str) -> _http.Transfer:
        certificates = self._login.transfer_certs
        return _http.Transfer(
            url or "",
            what,
            self._otherwise,
            certificate=self._host_certificate(what) if certificates == "pinned" else None,
            check=certificates != "ignore",
        )

    def start(self, path: str, arguments: str) -> int:
        """Start a program, and return its process ID.

        :raises _errors.ConnectionLost: no process ID was returned; the program may be running anyway.
        """
        what = "Could not start a program in the guest"
        pid = self._call(
            what,
            self._manager("processManager").StartProgramInGuest,
            vm=self._vm,
            auth=self._auth,
            spec=vim.vm.guest.ProcessManager.ProgramSpec(programPath=path, arguments=arguments),
        )
        if not isinstance(pid, int) or pid <= 0:
            raise _errors.ConnectionLost(
                _errors.sentence(
                    f"{what} of VM {self._name}",
                    f"vCenter returned {pid!r:.40} for its process ID",
                    "Check VMware Tools in the guest.",
                )
            )
        return pid

    def clean_up(self) -> contextlib.AbstractContextManager[Deadline]:
        """Allow clean-up operations after the deadline or after a signal; see :meth:`Session.clean_up`."""
        return self._session.clean_up()

    def terminate(self, pid: int) -> None:
        """Ask a program to end. It is no error if it has already ended, or if the guest does not answer.

        What sudo runs belongs to root, and VMware Tools refuses to end it for the user who called sudo.
        """
        try:
            self._session.call(
                self._manager("processManager").TerminateProcessInGuest, vm=self._vm, auth=self._auth, pid=pid
            )
        except _errors.Error as error:
            if not (isinstance(error, _errors.Fault) and error.is_a("GuestProcessNotFound")):
                self._start_as_root(f"kill {pid}")

    def _start_as_root(self, command: str) -> bool:
        """Start a shell command with sudo, and return whether it was started."""
        if self._login.become != "sudo":
            return False
        try:
            shell = self.family.shell
            self.start(shell, f"-c {shlex.quote(f'exec sudo -n {shell} -c {shlex.quote(command)}')}")
        except _errors.Error:
            return False
        return True

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a program that has ended; ``None`` while it runs or if the guest does not report it.

        Never waits, because the caller waits for something else meanwhile.
        """
        try:
            found = self._processes([pid])
        except NOT_REPORTED:
            return None  # a frozen guest does not answer
        return next((process.exit_code for process in found if process.pid == pid and process.has_ended), None)

    def find(self, directory: str) -> int | None:
        """Return the process ID of the runner in a directory, or of the process that will become it, or ``None``.

        If there are several processes, the first one counts. The runner's scripts are in the same directory, and may be
        reported to have started before it: start times are whole seconds, and from different clocks.

        Never waits. A program that :meth:`start` has started is found for some minutes after its end.

        :raises Exception: one of :data:`NOT_REPORTED`, the guest does not report its processes.
        """
        ours = [process for process in self._processes([]) if directory in process.command]
        runner_path = re.compile(re.escape(directory) + r"[/\\]runner\b")
        runners = [process for process in ours if runner_path.search(process.command)]
        return min(runners or ours, key=lambda process: (process.began, process.pid)).pid if ours else None

    def reports_commands(self) -> bool:
        """Return whether the guest reports the command lines of its processes. Never waits.

        :raises Exception: one of :data:`NOT_REPORTED`, the guest does not report its processes.
        """
        return any(process.command for process in self._processes([]))

    def has_other_runner(self, directory: str) -> bool:
        """Return whether a runner of another task is running in the guest. Never waits.

        :raises Exception: one of :data:`NOT_REPORTED`, the guest does not report its processes.
        """
        running = [process.command for process in self._processes([]) if not process.has_ended]
        return any(directory not in command and _RUNNER.search(command) for command in running)

    def _processes(self, pids: list[int]) -> list[Process]:
        """Return the guest's processes with these IDs; without IDs, all that the guest reports."""
        found = self._session.ask(
            self._manager("processManager").ListProcessesInGuest, vm=self._vm, auth=self._auth, pids=pids
        )
        return [process for process in map(_process, found or []) if process is not None]

    def await_exit(self, pid: int) -> int:
        """Wait until a program has ended, and return its exit code.

        vCenter sends no updates about guest processes, so the guest's process list is read at growing intervals.

        :raises _errors.TimedOut: it is still running, or the guest no longer reports it.
        """
        pause = FIRST_LOOK
        while (code := self.exit_code(pid)) is None:
            self._deadline.check(
                f"Could not use the guest of VM {self._name}",
                "a program that was started in it did not end",
                "Find out which program hangs in the guest.",
            )
            time.sleep(min(pause, self._deadline.remaining))
            pause = min(pause * 2, LAST_LOOK)
        return code

    def _call(self, what: str, method: t.Callable[..., t.Any], **arguments: t.Any) -> t.Any:
        """Call a guest operation, and repeat the call while the guest's agent is not available."""
        what = f"{what} of VM {self._name}"
        while True:
            try:
                return self._session.call(method, **arguments)
            except _errors.Fault as fault:
                if fault.is_a("InvalidGuestLogin"):
                    why = f"the guest refused the login of {self._login.username}"
                    remedy = "Check guest_username and guest_password."
                    raise _errors.GuestLoginFailed(_errors.sentence(what, why, remedy)) from fault
                if not is_unavailable(fault):
                    raise _errors.failure(what, fault) from fault
            self._deadline.check(
                what,
                "VMware Tools did not answer guest operations",
                "Check that VMware Tools runs in the guest and that it is not frozen.",
            )
            self._await_ready(what, refused=True)

    def await_ready(self) -> None:
        """Wait until the guest accepts operations.

        :raises _errors.GuestFailed: the VM is powered off.
        :raises _errors.TimedOut: it does not become ready.
        """
        self._await_ready(f"Could not use the guest of VM {self._name}")

    def _await_ready(self, what: str, refused: bool = False) -> None:
        known: _properties.Values = {}

        def ready(_vm: t.Any, values: _properties.Values | None) -> bool | None:
            known.update(values or {})
            if str(known.get("runtime.powerState")) != "poweredOn":
                raise _errors.GuestFailed(_errors.sentence(what, "the VM is powered off", "Power it on."))
            if self._frozen is not None and self._frozen.test(known):
                raise _errors.GuestFailed(
                    _errors.sentence(
                        what, "the VM reached its fork point in the meantime", "Find out what else quiesces it."
                    )
                )
            return True if known.get("guest.guestOperationsReady") else None

        paths = (*READY_PATHS, *(self._frozen.paths if self._frozen is not None else ()))
        with _properties.Watch(self._session, {vim.VirtualMachine: paths}) as watch:
            watch.add([self._vm])
            if _properties.wait_for(watch, self._deadline.remaining, ready):
                if refused:  # it reports that it is ready, but refused: wait for the next update
                    watch.updates(min(RETRY, self._deadline.remaining))
                return
        why = "VMware Tools did not become ready for guest operations"
        if str(known.get("guest.toolsRunningStatus")) == "guestToolsNotRunning":
            why = "VMware Tools is not running in the guest and did not start"
        self._deadline.check(what, why, "Install or start VMware Tools in the guest, or increase timeout.")

    def _manager(self, which: str) -> t.Any:
        with _ASKING:
            manager = _managers(self._session).get(which)
        if manager is None:
            raise _errors.OperationFailed(
                _errors.sentence(
                    f"Could not use the guest of VM {self._name}",
                    f"{self._session.server.hostname} does not offer guest operations to this user",
                    "Check the user's permissions in vCenter.",
                )
            )
        return manager

    def _host_certificate(self, what: str) -> bytes:
        """Return the certificate that vCenter reports for the VM's current host, DER."""
        if self._certificate is None:
            host = _properties.read(self._session, [self._vm], ["runtime.host"]).get(self._vm, {}).get("runtime.host")
            values = _properties.read(self._session, [host], ["config.certificate"]) if host is not None else {}
            pem = values.get(host, {}).get("config.certificate") or []
            try:
                self._certificate = ssl.PEM_cert_to_DER_cert(bytes(byte & 0xFF for byte in pem).decode().strip())
            except (TypeError, ValueError):  # there is no certificate, or an invalid one
                raise HostHidden(
                    _errors.sentence(
                        what,
                        "vCenter does not show the certificate of the ESXi host to this user",
                        f"Give the user read access to the host, use guest_transfer_certs=ca, or {self._otherwise}.",
                    )
                ) from None
        return self._certificate
