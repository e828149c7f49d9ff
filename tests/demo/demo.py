# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fork a simulated VM into eight by the playbook that users run, and show it in less than a screen.

It is a test, too: it fails, with the playbook's output, when a child is missing or the second run changes something.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness.simulator import Simulator, SimulatorError  # noqa: E402

VARIABLES = HERE / "web.yml"
# The playbook's output is read here, so it must look as it does without anybody's settings.
OUTPUT = {
    "ANSIBLE_STDOUT_CALLBACK": "default",
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_DISPLAY_OK_HOSTS": "true",
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_NOCOLOR": "true",
}
COMMAND = ["ansible-playbook", "vmfork.vsphere.fork", "-e", f"@{VARIABLES.relative_to(Path.cwd())}"]
CHILDREN = 8

BEGINNING = """\
A running VM becomes eight. The playbook vmfork.vsphere.fork does it, before a
vCenter 6.5 that is simulated on this machine:

$ {command}
{variables}
"""
SECOND_RUN = "\nOnce more: the children are there, and nothing is left to do."
END = """
On a real vCenter (6.0 or 6.5) it is the same playbook with your VM's name:
$ . .build/activate
$ export VMWARE_HOST=vcenter.example.com VMWARE_USER=… VMWARE_PASSWORD=…
$ export VMWARE_GUEST_USER=root VMWARE_GUEST_PASSWORD=…
$ {command} \\
    -e vmfork_parent_name=golden -e vmfork_first_address=192.0.2.101
The two scripts are in playbooks/files; copy them and make them yours."""


class DemoFailed(Exception):
    """The playbook did not do what is shown here; the message carries its output."""


def run_playbook(environment: dict[str, str]) -> tuple[list[str], str, float]:
    """Run the playbook; return the lines of its table, its recap, and the seconds it took."""
    start = time.monotonic()
    done = subprocess.run(
        COMMAND, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    seconds = time.monotonic() - start
    message = re.search(r'"msg": \[\n(.*?)\n\s*\]', done.stdout, re.DOTALL)
    table = re.findall(r'^\s*"(.*)",?$', message[1], re.MULTILINE) if message else []
    recap = re.search(r"ok=\d+ +changed=\d+.*failed=\d+", done.stdout)
    ended_well = sum(line.endswith("ended well") for line in table)
    if done.returncode != 0 or recap is None or ended_well != CHILDREN:
        raise DemoFailed(done.stdout)
    return table, " ".join(recap[0].split()), seconds


def tell(environment: dict[str, str]) -> None:
    """Tell the story; what is shown of the playbook is its own output."""
    variables = [line for line in VARIABLES.read_text(encoding="utf-8").splitlines() if line.startswith("vmfork_")]
    command = " ".join(COMMAND)
    print(BEGINNING.format(command=command, variables="\n".join(f"    {line}" for line in variables)), flush=True)
    table, recap, seconds = run_playbook(environment)
    print(*(f"  {line}" for line in table), f"  {recap} ({seconds:.0f} s)", sep="\n", flush=True)
    print(SECOND_RUN, flush=True)
    _table, recap, seconds = run_playbook(environment)
    if " changed=0 " not in recap:
        raise DemoFailed(f"The second run changed something: {recap}")
    print(f"  {recap} ({seconds:.0f} s)")
    print(END.format(command=command))


def main() -> int:
    """Start the simulator, tell the story, and stop the simulator whatever happened; 1 when the story is not true."""
    # A request to end must not leave the simulator behind.
    signal.signal(signal.SIGTERM, lambda *_arguments: sys.exit(128 + signal.SIGTERM))
    try:
        with Simulator("-api-version", "6.5") as simulator:
            tell({**os.environ, **simulator.environment, **OUTPUT})
    except (DemoFailed, SimulatorError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
