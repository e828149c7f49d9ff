# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start and stop vmforksim, the vCenter and ESXi host of the tests.

In Python, for one block:

    with Simulator("-vm", "2", "-api-version", "6.5") as simulator:
        simulator.environment  # VMWARE_HOST and so on

From a shell:

    simulator.py start [FLAG ...]                prints what `describe` returns, as JSON, once the simulator is ready;
                                                 it ends with the ansible-playbook (or else the shell) that started it
    simulator.py run [FLAG ...] -- COMMAND ...   runs a command with the environment of a simulator of its own

The program is .build/vmforksim, or the one that the variable VMFORKSIM names. The simulator chooses free ports. The
password is new each time, and long, so that masking it in Ansible's output masks nothing else.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

READY = re.compile(r"^vmforksim ready (?P<url>https://\S+)(?: esx (?P<esx_url>https://\S+))?$")
SECONDS_TO_START = 60
SECONDS_TO_STOP = 20

USERNAME = "administrator@vsphere.local"
# The simulator's defaults (flags -guest-username, -guest-password).
GUEST_USERNAME = "root"
GUEST_PASSWORD = "vmforksim-guest-pw"


class SimulatorError(Exception):
    """The simulator did not start or stop; the message contains its output."""


def program() -> str:
    """Return the path of the simulator."""
    return os.environ.get("VMFORKSIM") or str(Path(__file__).resolve().parents[2] / ".build" / "vmforksim")


class Simulator:
    """A running simulator; attributes contain its addresses and logins."""

    def __init__(self, *flags: str) -> None:
        """Start it with the given command-line flags and wait until it is ready."""
        self.username = USERNAME
        self.password = f"vmforksim-{secrets.token_hex(16)}"
        self.guest_username = GUEST_USERNAME
        self.guest_password = GUEST_PASSWORD
        command = [program(), "-l", "127.0.0.1:0", "-username", self.username, "-password", self.password, *flags]
        if not Path(command[0]).is_file():
            raise SimulatorError(f"there is no simulator at {command[0]}; `make simulator` builds it")
        with tempfile.NamedTemporaryFile("w", prefix="vmforksim-", suffix=".log", delete=False) as log:
            self.log = log.name
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C is meant for the tests; they stop the simulator themselves.
                start_new_session=True,
            )
        self.pid = self.process.pid
        try:
            ready = READY.match(self._first_line())
            if ready is None:
                raise SimulatorError("the simulator's first line does not contain its address")
        except BaseException:
            self.stop()
            raise
        self.url = ready["url"]
        self.esx_url = ready["esx_url"] or ""
        address = urlsplit(self.url)
        self.host = address.hostname or ""
        self.port = address.port or 443
        self.control_url = f"{address.scheme}://{address.netloc}/vmforksim"

    def _first_line(self) -> str:
        """Wait for the first line of output; raise SimulatorError if it does not come."""
        assert self.process.stdout is not None
        readable = select.select([self.process.stdout], [], [], SECONDS_TO_START)[0]
        line = self.process.stdout.readline().rstrip("\n") if readable else ""
        if not line:
            self.process.kill()
            code = self.process.wait()
            written = Path(self.log).read_text(encoding="utf-8", errors="replace").strip()
            why = f"ended with code {code}" if readable else f"was not ready after {SECONDS_TO_START} seconds"
            raise SimulatorError(f"the simulator {why} and wrote: {written or 'nothing'}")
        return line

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that the modules, community.vmware, vmware.vmware and govc read."""
        return {
            "VMWARE_HOST": self.host,
            "VMWARE_PORT": str(self.port),
            "VMWARE_USER": self.username,
            "VMWARE_PASSWORD": self.password,
            "VMWARE_VALIDATE_CERTS": "false",
            "VMWARE_GUEST_USER": self.guest_username,
            "VMWARE_GUEST_PASSWORD": self.guest_password,
            "GOVC_URL": self.url,
            "GOVC_USERNAME": self.username,
            "GOVC_PASSWORD": self.password,
            "GOVC_GUEST_LOGIN": f"{self.guest_username}:{self.guest_password}",
            "GOVC_INSECURE": "true",
            "GOVC_PERSIST_SESSION": "false",
        }

    def describe(self) -> dict[str, Any]:
        """Return everything a client needs, as JSON types."""
        names = ("pid", "log", "url", "esx_url", "control_url", "host", "port")
        logins = ("username", "password", "guest_username", "guest_password")
        return {name: getattr(self, name) for name in names + logins} | {"environment": self.environment}

    def stop(self) -> None:
        """Stop it, wait until it has ended, and remove its log."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise SimulatorError(f"the simulator did not end within {SECONDS_TO_STOP} seconds") from None
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            Path(self.log).unlink(missing_ok=True)

    def __enter__(self) -> Simulator:
        """Return the running simulator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


def owner() -> int:
    """Return the process that a simulator started from the command line belongs to.

    This is the outermost ansible-playbook above this process (its workers have the same name), or else our parent.
    """
    found = pid = os.getppid()
    while pid > 1:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:3]
        if any(Path(os.fsdecode(word)).name == "ansible-playbook" for word in words):
            found = pid
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return found


def attend(flags: list[str], belongs_to: int, answer: int) -> None:
    """Start a simulator, describe it on the descriptor `answer`, and stop it when its owner ends for any reason."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        try:
            # It ends with its owner; the simulator's own limit is short for a machine that has much else to do.
            simulator = Simulator("-exit-after", "1h", *flags)
            json.dump(simulator.describe(), stream)
        except SimulatorError as error:
            json.dump({"error": str(error)}, stream)
            return
    with simulator:
        select.select([belongs_to, os.pidfd_open(simulator.pid)], [], [])


def start(flags: list[str]) -> str:
    """Start a simulator that outlives this process, and return its description as JSON."""
    belongs_to = os.pidfd_open(owner())
    answer_here, answer_there = os.pipe()
    if os.fork() == 0:
        attend(flags, belongs_to, answer_there)
        os._exit(0)
    os.close(answer_there)
    with os.fdopen(answer_here, encoding="utf-8") as stream:
        answer = stream.read()
    if error := json.loads(answer).get("error"):
        raise SimulatorError(error)
    return answer


def main() -> int:
    """Run the command of the command line."""
    verb, *arguments = sys.argv[1:] or [""]
    # The simulator must be stopped even if this process is asked to end.
    signal.signal(signal.SIGTERM, lambda *_arguments: sys.exit(128 + signal.SIGTERM))
    try:
        if verb == "start":
            print(start(arguments))
        elif verb == "run":
            split = arguments.index("--")
            with Simulator(*arguments[:split]) as simulator:
                environment = {**os.environ, **simulator.environment, "VMFORKSIM_CONTROL_URL": simulator.control_url}
                return subprocess.run(arguments[split + 1 :], check=False, env=environment).returncode
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except SimulatorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
