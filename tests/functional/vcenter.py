# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated vCenter, its control endpoint, and functions that run modules against it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from http.client import HTTPSConnection
from multiprocessing import Pipe, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from functional import launch
from functional.engines import SOAP, Engine
from functional.output import WITH_INVOCATION, displayed
from harness.simulator import Simulator

needs_other_accounts = pytest.mark.skipif(
    os.geteuid() != 0, reason="the simulator runs without root, so its guests have no account but root"
)

SECONDS = 240
"""A program that runs for longer hangs. A busy machine needs several times as long as an idle one."""

PRE_QUIESCE = """#!/bin/sh
ip address flush dev eth0 scope global
echo once >>/root/pre-quiesce-ran
"""

POST_CLONE = """#!/bin/sh
set -e
if name=$(vmtoolsd --cmd 'info-get guestinfo.fork.hostname' 2>/dev/null); then hostname "$name"; fi
modprobe -r vmxnet3; modprobe vmxnet3
ip link set eth0 up
address=$(vmtoolsd --cmd 'info-get guestinfo.fork.ipaddress' 2>/dev/null) || exit 0
ip addr add "$address/24" dev eth0
"""


@cache
def _processes() -> Any:
    """Return the context that starts the modules' processes, which have the libraries loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([launch.__name__])
    # The server finds the modules to load only through this variable.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    return context


class Result(dict[str, Any]):
    """The output of a module; ``raw`` is everything displayed, with standard error and the system's log."""

    raw: str

    @property
    def msg(self) -> str:
        return str(self.get("msg", ""))

    def child(self, name: str) -> dict[str, Any]:
        """Return the entry of one child."""
        return next(child for child in self["children"] if child["name"] == name)


class VCenter:
    """The simulator of a test, whose VMs are forked by one engine."""

    parent = "DC0_H0_VM0"

    def __init__(self, simulator: Simulator, engine: Engine = SOAP) -> None:
        self.simulator = simulator
        self.engine = engine
        self._of_thread = threading.local()
        for name, value in engine.rules.items():
            self.rule(name, value)

    # --- control endpoint ---------------------------------------------------------------------------------------------

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the control endpoint; return its answer. Each thread keeps its connection."""
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = HTTPSConnection(
                self.simulator.host, self.simulator.port, timeout=SECONDS, context=ssl._create_unverified_context()
            )
        connection: HTTPSConnection = self._of_thread.connection
        written = None if body is None else json.dumps(body)
        connection.request(method, f"/vmforksim/{path}", written, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 400, f"{method} {path}: {answer.status} {text.decode()}"
        return json.loads(text or "null")

    def rule(self, name: str, value: Any) -> None:
        """Set a rule of the simulator."""
        self.control("PUT", f"rules/{name}", {"value": value})

    def fault(self, **fault: Any) -> None:
        """Inject a fault into a call, a task or a check."""
        self.control("POST", "faults", fault)

    @contextmanager
    def calls(self, by_transport: bool = False) -> Iterator[dict[str, int]]:
        """Count the calls within the block by method; see :meth:`called`."""
        self.control("DELETE", "calls")
        counted: dict[str, int] = {}
        yield counted
        counted.update(self.called(by_transport))

    def called(self, by_transport: bool = False) -> dict[str, int]:
        """Return the number of calls by method since the counters were reset.

        :param by_transport: count calls through the MOB separately, with the prefix ``mob:``.
        """
        counted: Counter[str] = Counter()
        for name, count in self.control("GET", "calls")["methods"].items():
            counted[name if by_transport else name.removeprefix("mob:")] += count
        return dict(counted)

    @contextmanager
    def at_call(self, method: str, act: Callable[..., Any], *arguments: Any, after: int = 0) -> Iterator[None]:
        """Run a function as soon as a client has called a method; it has returned when the block ends.

        :param after: the number of calls to let pass first.
        """
        self.control("DELETE", "calls")
        ended = threading.Event()

        def watch() -> None:
            while self.called().get(method, 0) <= after:
                if ended.wait(0.02):
                    return
            act(*arguments)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    @contextmanager
    def held_call(self) -> Iterator[Connection]:
        """Yield a connection that is ready as soon as the server holds a call, as an injected fault demands.

        The call is released at the end of the block. If there was none, the fault is removed.
        """
        ready, reporter = Pipe(duplex=False)

        def watch() -> None:
            reporter.send(self.control("GET", "held"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield ready
        finally:
            self.control("DELETE", "held" if ready.poll() else "faults")
            watcher.join()
            ready.close()
            reporter.close()

    def guest(self, moid: str) -> dict[str, Any]:
        """Return the state of a VM's guest from the simulator."""
        return dict(self.control("GET", f"guests/{moid}"))

    def in_guest(self, moid: str, command: str) -> str:
        """Run a shell command in a guest; return its output."""
        quoted = "'" + command.replace("'", "'\\''") + "'"
        body = {"program": "/bin/sh", "arguments": f"-c {quoted}", "user": "root", "wait": True}
        return str(self.control("POST", f"guests/{moid}/run", body)["output"])

    # --- govc, which is not part of this project ----------------------------------------------------------------------

    def govc(self, *arguments: str) -> str:
        """Run govc; return its output."""
        program = Path(os.environ.get("VMFORKSIM", ".build/vmforksim")).with_name("govc")
        environment = {**os.environ, **self.simulator.environment}
        ended = subprocess.run(
            [str(program), *arguments], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def moid(self, path: str = "") -> str:
        """Return the managed object ID at an inventory path; by default that of the parent."""
        return self.govc("find", "-i", path or f"/DC0/vm/{self.parent}", "-maxdepth", "0").split(":")[1].strip()

    def exists(self, path: str) -> bool:
        """Return whether an object exists at an inventory path."""
        return bool(self.govc("ls", "-i", path).strip())

    # --- modules ------------------------------------------------------------------------------------------------------

    def run(
        self,
        module: str,
        /,
        *,
        check: bool = False,
        diff: bool = False,
        signal_at: tuple[int, str, int] | None = None,
        meanwhile: Callable[[BaseProcess], None] | None = None,
        **arguments: Any,
    ) -> Result:
        """Run a module in a process of its own; return its result, which is empty if a signal ended the process.

        :param signal_at: a signal, the method whose call triggers it, and the number of calls to let pass first.
        :param meanwhile: called while the process runs.
        """
        options = self.engine.options if module.startswith("vmfork_") else {}
        given = {**self.login, **options, **arguments, **WITH_INVOCATION}
        given |= {"_ansible_check_mode": check, "_ansible_diff": diff}
        given = {key: value for key, value in given.items() if value is not None}
        with tempfile.TemporaryDirectory() as directory:
            files = [Path(directory, name) for name in ("output", "errors", "log")]
            process = _processes().Process(
                target=launch.run, args=(module, given, dict(os.environ), *files, SECONDS - 5)
            )
            with ExitStack() as stack:
                if signal_at is not None:
                    number, method, after = signal_at
                    stack.enter_context(self.at_call(method, lambda: os.kill(process.pid, number), after=after))
                process.start()
                if meanwhile is not None:
                    meanwhile(process)
                process.join(SECONDS)
            if process.is_alive():
                process.kill()
                raise AssertionError(f"{module} did not end within {SECONDS} seconds\n{files[1].read_text()}")
            printed, complaints, logged = (file.read_text() if file.exists() else "" for file in files)
        if process.exitcode == -signal.SIGKILL and not printed:
            return Result()
        assert "Traceback" not in complaints, complaints
        result = Result(json.loads(printed))
        result.raw = displayed(printed) + complaints + logged
        return result

    def ok(self, module: str, /, **arguments: Any) -> Result:
        """Run a module that must succeed."""
        result = self.run(module, **arguments)
        assert not result.get("failed"), result.msg
        return result

    def fails(self, module: str, /, **arguments: Any) -> Result:
        """Run a module that must fail with a sentence."""
        result = self.run(module, **arguments)
        assert result.get("failed"), result
        assert "Unexpected error" not in result.msg, result.get("exception")
        assert result.msg.endswith((".", "see children.")), result.msg
        return result

    def ansible(self, module: str, /, diff: bool = False, **arguments: Any) -> str:
        """Run a module with ``ansible -vvv``; return everything printed. The environment names the server."""
        live = Path(__file__).parents[2] / ".build" / "live"
        quiet = {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}
        program = [str(Path(sys.executable).with_name("ansible")), "localhost", "-vvv", *(["--diff"] if diff else [])]
        ended = subprocess.run(
            [*program, "-m", f"vmfork.vsphere.{module}", "-a", json.dumps(arguments)],
            env={**os.environ, **quiet, **self.simulator.environment, "ANSIBLE_COLLECTIONS_PATH": str(live)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return ended.stdout + ended.stderr

    def enable(self, **arguments: Any) -> Result:
        """Make the default parent a fork parent."""
        return self.ok("vmfork_parent", **{"name": self.parent, **arguments})

    def quiesce(self, **arguments: Any) -> Result:
        """Bring the default parent to its fork point."""
        scripts = {"pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE}
        return self.ok("vmfork_quiesce", **{"name": self.parent, **self.guest_login, **scripts, **arguments})

    def fork(self, *names: str, **arguments: Any) -> Result:
        """Create children of the default parent, each with its own address, and return all of their output."""
        children = [
            {"name": name, "config_params": {"ipaddress": f"192.0.2.{number + 11}"}}
            for number, name in enumerate(names)
        ]
        given = {"parent_name": self.parent, "children": children, "return_output": True}
        return self.ok("vmfork_child", **{**given, **arguments})

    @property
    def login(self) -> dict[str, Any]:
        """The connection options of the modules."""
        return {
            "hostname": self.simulator.host,
            "port": self.simulator.port,
            "username": self.simulator.username,
            "password": self.simulator.password,
            "validate_certs": False,
        }

    @property
    def guest_login(self) -> dict[str, str]:
        return {
            "guest_username": self.simulator.guest_username,
            "guest_password": self.simulator.guest_password,
        }
