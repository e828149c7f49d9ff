# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest operations of one VM: wait until it takes them, run a program, bring files in and out.

Private to the collection. Facts on the API (URL host, certificate, exit codes
kept five minutes, a pid that is gone answers nothing) come from the vSphere
API reference of GuestFileManager and GuestProcessManager.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import ssl
import threading
import time
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _http, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.runner import STOP
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

READY_PATHS = ("runtime.powerState", "guest.toolsRunningStatus", "guest.guestOperationsReady")
"""What tells whether a guest takes operations."""

_MANAGERS = ("authManager", "fileManager", "processManager")

RETRY = 5
"""Seconds to wait for news after the guest's agent refused, before it is asked again."""

FIRST_LOOK, LAST_LOOK = 0.1, 2.0
"""Shortest and longest time, in seconds, between two looks at a guest's process list."""


_DO_NOT_ANSWER = re.compile(r"vix error codes = \(3016,")
"""How vCenter says, in a SystemError, that VMware Tools does not answer a guest operation yet (vmware/vic#5915)."""


def is_unavailable(fault: t.Any) -> bool:
    """Return whether a fault says that VMware Tools does not answer guest operations, for now or at all."""
    if isinstance(fault, vim.fault.GuestOperationsUnavailable):
        return True
    if not isinstance(fault, vmodl.fault.SystemError):
        return False
    return any(_DO_NOT_ANSWER.search(text or "") for text in (fault.reason, fault.msg))


class Frozen(t.NamedTuple):
    """How a VM that stands at its fork point is known."""

    paths: tuple[str, ...]
    test: t.Callable[[_properties.Values], bool]


class HostHidden(_errors.OperationFailed):
    """vCenter does not show the user the ESXi host, or its certificate."""


_ASKING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _managers(session: Session) -> _properties.Values:
    """The server's managers of guests, which are the same for all of them: one request for a session."""
    manager = session.content.guestOperationsManager
    return _properties.read(session, [manager], _MANAGERS)[manager]


class Guest:
    """The inside of one VM, for one guest user.

    :param family: what kind of guest it is.
    :param frozen: how a VM at its fork point is known, for which nothing is waited.
    :param otherwise: what the user may do when there is no way to the ESXi host, to which files go.
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

    def check_login(self) -> None:
        """Make sure that the guest accepts the user."""
        self._call(
            "Could not log in to the guest",
            self._manager("authManager").ValidateCredentialsInGuest,
            vm=self._vm,
            auth=self._auth,
        )

    def make_directory(self, parent: str | None) -> str:
        """A new directory that only the user can enter; below ``parent``, or where the guest keeps temporary files."""
        return self._call(
            "Could not make a directory in the guest",
            self._manager("fileManager").CreateTemporaryDirectoryInGuest,
            vm=self._vm,
            auth=self._auth,
            prefix="vmfork.",
            suffix="",
            directoryPath=parent,
        )

    def ask_to_stop(self, directory: str, pid: int) -> None:
        """Ask the runner that lies in a directory to end; that it has ended already is no error.

        Windows has no signals, and what Tools end there has no time to clean up: the runner looks for a sign. One that
        has still to unpack itself finds the sign in the directory that it was to make.
        """
        if not self.family.is_windows:
            self.terminate(pid)
            return
        with contextlib.suppress(vmodl.MethodFault, _errors.Error):
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
        """Write a file: one that only the user can read, or on Windows one with the rights of its directory.

        :raises _http.Unreachable: the ESXi host, to which the content goes, cannot be reached.
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

        :raises _http.Unreachable: the ESXi host, from which the content comes, cannot be reached.
        """
        what = f"Could not download {path} from the guest of VM {self._name}"
        found = self._call(
            f"Could not download {path} from the guest",
            self._manager("fileManager").InitiateFileTransferFromGuest,
            vm=self._vm,
            auth=self._auth,
            guestFilePath=path,
        )
        return _http.get(self._session, self._transfer(found.url, what), limit)

    def _transfer(self, url: str, what: str) -> _http.Transfer:
        certificates = self._login.transfer_certs
        return _http.Transfer(
            url,
            what,
            self._otherwise,
            certificate=self._host_certificate(what) if certificates == "pinned" else None,
            check=certificates != "ignore",
        )

    def start(self, path: str, arguments: str) -> int:
        """Start a program; its process ID is returned.

        :raises _errors.ConnectionLost: no answer came; the program may run all the same.
        """
        return self._call(
            "Could not start a program in the guest",
            self._manager("processManager").StartProgramInGuest,
            vm=self._vm,
            auth=self._auth,
            spec=vim.vm.guest.ProcessManager.ProgramSpec(programPath=path, arguments=arguments),
        )

    def terminate(self, pid: int) -> None:
        """Ask a program to end; one that has ended already, or a guest that does not answer, is no error.

        What sudo runs is root's, and Tools refuses to end it for the user who called sudo.
        """
        try:
            self._session.call(
                self._manager("processManager").TerminateProcessInGuest, vm=self._vm, auth=self._auth, pid=pid
            )
        except vim.fault.GuestProcessNotFound:
            return
        except (vmodl.MethodFault, _errors.Error):
            self._start_as_root(f"kill {pid}")

    def _start_as_root(self, command: str) -> bool:
        """Start a shell command by way of sudo; whether that could be done."""
        if self._login.become != "sudo":
            return False
        try:
            shell = self.family.shell
            self.start(shell, f"-c {shlex.quote(f'exec sudo -n {shell} -c {shlex.quote(command)}')}")
        except (vmodl.MethodFault, _errors.Error):
            return False
        return True

    def exit_code(self, pid: int) -> int | None:
        """The exit code of a program that has ended; ``None`` while it runs or when the guest does not say.

        Never waits: this is asked while something else is waited for.
        """
        try:
            found = self._session.ask(
                self._manager("processManager").ListProcessesInGuest, vm=self._vm, auth=self._auth, pids=[pid]
            )
        except vmodl.MethodFault:
            return None  # a guest that has stopped answers nothing
        for one in found or []:
            if one.pid == pid and one.endTime is not None:
                # The wire leaves an exit code of 0 out on some servers.
                return one.exitCode or 0
        return None

    def find(self, directory: str) -> int | None:
        """The process ID of the runner in a directory, or of what will be it; of several processes, of the first.

        The scripts that it runs lie in the same directory, and may be said to have begun before it: start times are
        whole seconds, and not of one clock.

        ``None``: the guest knows of none. Never waits. A program that :meth:`start` has started is found for some
        minutes after its end.

        :raises vmodl.MethodFault: the guest does not say.
        """
        found = self._session.ask(
            self._manager("processManager").ListProcessesInGuest, vm=self._vm, auth=self._auth, pids=[]
        )
        ours = [one for one in found or [] if directory in (one.cmdLine or "")]
        runners = [one for one in ours if re.search(re.escape(directory) + r"[/\\]runner\b", one.cmdLine)]
        return min(runners or ours, key=lambda one: (one.startTime, one.pid)).pid if ours else None

    def has_other_runner(self, directory: str) -> bool:
        """Return whether a runner of another task works in the guest. Never waits.

        :raises vmodl.MethodFault: the guest does not say.
        """
        found = self._session.ask(
            self._manager("processManager").ListProcessesInGuest, vm=self._vm, auth=self._auth, pids=[]
        )
        running = [process.cmdLine or "" for process in found or [] if process.endTime is None]
        return any(directory not in line and re.search(r"vmfork\.[^/\\ ]+[/\\]runner\b", line) for line in running)

    def await_exit(self, pid: int) -> int:
        """Wait until a program has ended; its exit code.

        vCenter sends no news of guest processes, so the guest's process list is asked at growing intervals.

        :raises _errors.TimedOut: it runs on, or the guest has forgotten it.
        """
        pause = FIRST_LOOK
        while (code := self.exit_code(pid)) is None:
            self._deadline.check(
                f"Could not use the guest of VM {self._name}",
                "a program that was started there did not end",
                "Look what hangs there.",
            )
            time.sleep(min(pause, self._deadline.remaining))
            pause = min(pause * 2, LAST_LOOK)
        return code

    def _call(self, what: str, method: t.Callable[..., t.Any], **arguments: t.Any) -> t.Any:
        """One guest operation, asked again while the guest's agent is not there yet."""
        what = f"{what} of VM {self._name}"
        while True:
            try:
                return self._session.call(method, **arguments)
            except vim.fault.InvalidGuestLogin as fault:
                raise _errors.LoginFailed(
                    _errors.sentence(
                        what,
                        f"the guest refused the login of {self._login.username}",
                        "Check guest_username and guest_password.",
                    )
                ) from fault
            except vmodl.MethodFault as fault:
                if not is_unavailable(fault):
                    raise _errors.failure(what, fault) from fault
            self._deadline.check(
                what,
                "VMware Tools did not answer guest operations",
                "Check that VMware Tools runs in the guest and that it is not frozen.",
            )
            self._await_ready(what, refused=True)

    def await_ready(self) -> None:
        """Wait until the guest can take operations.

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
                    _errors.sentence(what, "the VM reached its fork point meanwhile", "Look for what else quiesces it.")
                )
            return True if known.get("guest.guestOperationsReady") else None

        paths = (*READY_PATHS, *(self._frozen.paths if self._frozen is not None else ()))
        with _properties.Watch(self._session, {vim.VirtualMachine: paths}) as watch:
            watch.add([self._vm])
            if _properties.wait_for(watch, self._deadline.remaining, ready):
                if refused:  # ready by its own account: give it until the next news of it
                    watch.updates(min(RETRY, self._deadline.remaining))
                return
        why = "VMware Tools did not become ready for guest operations"
        if str(known.get("guest.toolsRunningStatus")) == "guestToolsNotRunning":
            why = "VMware Tools is not running in the guest and did not start"
        self._deadline.check(what, why, "Install or start VMware Tools in the guest, or give a longer timeout.")

    def _manager(self, which: str) -> t.Any:
        with _ASKING:
            return _managers(self._session)[which]

    def _host_certificate(self, what: str) -> bytes:
        """The certificate vCenter reports for the VM's present host, DER."""
        if self._certificate is None:
            host = _properties.read(self._session, [self._vm], ["runtime.host"]).get(self._vm, {}).get("runtime.host")
            values = _properties.read(self._session, [host], ["config.certificate"]) if host is not None else {}
            pem = values.get(host, {}).get("config.certificate") or []
            try:
                self._certificate = ssl.PEM_cert_to_DER_cert(bytes(byte & 0xFF for byte in pem).decode().strip())
            except ValueError:  # there is none, or what vCenter shows is none
                raise HostHidden(
                    _errors.sentence(
                        what,
                        "vCenter does not show the certificate of the ESXi host to this user",
                        f"Give the user read access to the host, use guest_transfer_certs=ca, or {self._otherwise}.",
                    )
                ) from None
        return self._certificate
