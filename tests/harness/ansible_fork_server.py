# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the scripts that Ansible pipes into Python, in forks of one process that has loaded what all of them import.

    ansible_fork_server.py SOCKET

Half of the CPU time of a task in the tests is the start of Python and the import of Ansible's basic.py and of pyVmomi.
ansible_cache.py, which each Python of the tests loads, connects to SOCKET and passes the script's environment and file
descriptors; if nobody listens, it starts this server for the processes after it, and Python goes on as usual. The
collection's own code is not loaded here: it comes out of the payload, as it does without this server.

The script ends when its client ends: signals to the client are forwarded, and a killed client takes the script along.
Without a script for a minute, the server ends.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import locale
import marshal
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import Any, NoReturn

SECONDS_IDLE = 60


def load() -> None:
    """Import what modules import, except the collection's own code."""
    from ansible.module_utils import basic, urls  # noqa: F401 - the order in which Ansible loads them
    from ansible.module_utils.common import json as _json  # noqa: F401
    from pyVim import connect  # noqa: F401
    from pyVmomi import VmomiSupport

    with contextlib.suppress(ImportError):  # ansible-core before 2.19
        from ansible.module_utils._internal._ansiballz import _loader  # noqa: F401
    for type_names in (VmomiSupport.ListManagedTypes, VmomiSupport.ListDataTypes, VmomiSupport.ListEnumTypes):
        for name in type_names():
            VmomiSupport.GetVmodlType(name)  # pyVmomi loads a type when it is first named
    gc.collect()
    gc.freeze()  # so that new processes neither scan nor copy these objects


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return what a client asks for: its settings, and its file descriptors: three streams and its directory."""
    size, descriptors, _flags, _address = socket.recv_fds(connection, 4, 4)
    data = b""
    while len(data) < int.from_bytes(size, "little") and (more := connection.recv(1 << 16)):
        data += more
    return marshal.loads(data), descriptors


def become(settings: dict[str, Any], descriptors: list[int]) -> None:
    """Take over the client's environment, streams and directory."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.fchdir(descriptors[3])
    for descriptor in descriptors:
        os.close(descriptor)
    os.setsid()
    os.umask(settings["umask"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(settings["environment"])
    time.tzset()
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    sys.argv = [""]
    sys.orig_argv = settings["command"]
    sys.path[:] = settings["path"]
    sys.pycache_prefix = settings["pycache_prefix"]
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc] # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def run_script() -> NoReturn:
    """Run the script on standard input as Python does, and end this process.

    It ends without freeing its objects, which would copy most of the server's memory.
    """
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    code = 0
    try:
        exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), main.__dict__)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 1 and end.code != 1:
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code & 0xFF)


class Server:
    """The processes that run scripts, each with the connection of its client."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        """Wait for clients that connect to the path."""
        self.listener = listener
        self.path = path
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.running = 0

    def serve(self) -> bool:
        """Serve clients; return False after a minute without a script, and True in a process that is to run one."""
        while True:
            events = self.selector.select(SECONDS_IDLE)
            if not events and not self.running:
                self.path.unlink(missing_ok=True)
                events = self.selector.select(0)  # a client may have connected just before
                if not events:
                    return False
            for key, _mask in events:
                if self.selector.get_map().get(key.fd) is key and key.data():
                    return True

    def accept(self) -> bool:
        """Fork a process for a new client; return True in that process."""
        connection = self.listener.accept()[0]
        try:
            settings, descriptors = receive(connection)
        except (OSError, ValueError, EOFError):
            connection.close()
            return False
        pid = os.fork()
        if pid == 0:
            self.listener.close()
            self.selector.close()
            connection.close()
            become(settings, descriptors)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        ended = os.pidfd_open(pid)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self.forward(connection, ended))
        self.selector.register(ended, selectors.EVENT_READ, lambda: self.report(connection, ended, pid))
        self.running += 1
        return False

    def forward(self, connection: socket.socket, process: int) -> bool:
        """Send a process the signal that its client got; if the client has ended, kill the process."""
        try:
            signals = connection.recv(64)
        except OSError:
            signals = b""
        with contextlib.suppress(ProcessLookupError):
            for number in signals or [signal.SIGKILL]:
                signal.pidfd_send_signal(process, number)
        if not signals:
            self.selector.unregister(connection)
        return False

    def report(self, connection: socket.socket, ended: int, pid: int) -> bool:
        """Send a client the wait status of its process."""
        _pid, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            connection.send(str(status).encode())
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        self.selector.unregister(ended)
        os.close(ended)
        connection.close()
        self.running -= 1
        return False


def main() -> None:
    """Listen, unless another server does."""
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    load()
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        os.umask(0o077)
        listener.bind(str(path))
        listener.listen(64)
        is_script = Server(listener, path).serve()
    os.close(lock)
    if is_script:
        run_script()


if __name__ == "__main__":
    main()
