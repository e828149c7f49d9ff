# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH to simulated guests, with a real OpenSSH server in them.

``guest_ssh.py ADDRESS PORT`` is a ProxyCommand: the simulated network is not reachable from here. Everything else that
ssh and the guest do is as in a real network; which key is accepted is up to ssh. The environment is that of a simulator
(``Simulator.environment``).
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SSHD = Path("/usr/sbin/sshd")

# What the installation of an SSH server leaves in a parent, and the key of a user.
INSTALLED = """
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
echo 'sshd:x:105:65534::/run/sshd:/usr/sbin/nologin' >>/etc/passwd
mkdir -p /root/.ssh
echo {public_key} >/root/.ssh/authorized_keys
printf '%s\\n' 'PermitRootLogin yes' 'UsePAM no' >/etc/ssh/sshd_config
"""

# Guests have no init system that could start it.
START = "[ -e /run/sshd.pid ] || { mkdir -p /run/sshd && /usr/sbin/sshd; }"


def obstacle() -> str | None:
    """Return why guests cannot run an SSH server here."""
    if not SSHD.is_file():
        return "openssh-server is not installed"
    if os.geteuid() != 0:
        return "without root, a guest has no user ID for sshd"
    return None


def new_key(file: Path) -> str:
    """Create the key of a user; return its public half."""
    file.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file.with_suffix(".pub").read_text(encoding="utf-8").strip()


def installed(public_key: str) -> str:
    """Return the commands that install an SSH server in a guest."""
    return INSTALLED.format(public_key=shlex.quote(public_key))


def environment(key: Path) -> dict[str, str]:
    """Return the variables with which Ansible connects to guests, with this private key."""
    proxy = shlex.join([sys.executable, str(Path(__file__).resolve()), "%h", "%p"])
    arguments = ["-o", "ControlMaster=auto", "-o", "ControlPersist=10s", "-o", f"ProxyCommand={proxy}"]
    return {"ANSIBLE_SSH_ARGS": shlex.join(arguments), "ANSIBLE_PRIVATE_KEY_FILE": str(key)}


class Guests:
    """The guests of a simulator with this environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def find(self, *criteria: str) -> str:
        """Return the managed object ID of the VM with these properties, as govc writes them."""
        program = Path(__file__).parents[2] / ".build" / "govc"
        ended = subprocess.run(
            [str(program), "find", "-i", "-type", "m", "/", *criteria],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return ended.stdout.split()[0].partition(":")[2]

    def control(self, moid: str, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request to the control endpoint; return its answer."""
        url = self.environment["GOVC_URL"].removesuffix("/sdk")
        request = urllib.request.Request(
            f"{url}/vmforksim/guests/{moid}/{action}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, context=ssl._create_unverified_context()) as answer:
            return dict(json.load(answer))

    def run(self, moid: str, commands: str) -> None:
        """Run shell commands in a guest."""
        self.control(moid, "run", {"program": "/bin/sh", "arguments": f"-ec {shlex.quote(commands)}"})


def main(address: str, port: str) -> None:
    """Connect standard input and output with a port of a guest."""
    guests = Guests(os.environ)
    moid = guests.find("-guest.ipAddress", address)
    guests.run(moid, START)
    forwarded = guests.control(moid, "forward", {"address": address, "port": int(port)})
    with socket.create_connection((forwarded["host"], forwarded["port"])) as server, server.makefile("wb") as sent:
        # It ends with this process.
        threading.Thread(target=copy, args=(sys.stdin.buffer, sent), daemon=True).start()
        copy(server.makefile("rb"), sys.stdout.buffer)


def copy(source: Any, target: Any) -> None:
    """Copy what arrives, at once."""
    while data := source.read1():
        target.write(data)
        target.flush()


if __name__ == "__main__":
    main(*sys.argv[1:3])
