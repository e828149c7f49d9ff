# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what the collection does with the playbooks that users run, in three parts of less than a screen each.

A VM is forked into eight, on two generations of vSphere; an appliance that has lost its OVF environment is repaired;
and one that has lost its vApp options is restored. Each command shown is the command that runs.

It is also a test: it fails with the output of the command if a step does not end as described here, and if a
transcript in the documentation shows something else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import guest_ssh  # noqa: E402
from harness.simulator import Simulator, SimulatorError  # noqa: E402

# This script parses the playbooks' output, so no setting of the user may change its format.
OUTPUT = {
    "ANSIBLE_STDOUT_CALLBACK": "default",
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_DISPLAY_OK_HOSTS": "true",
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_NOCOLOR": "true",
}

VARIABLES = HERE / "web.yml"
PARENT, CHILDREN = "DC0_H0_VM0", 8
FORK = f"ansible-playbook vmfork.vsphere.fork -e @{VARIABLES.relative_to(Path.cwd())}"
NEXT_PLAY = HERE / "next_play.yml"
USE = f"ansible-playbook {NEXT_PLAY.relative_to(Path.cwd())} -e @{VARIABLES.relative_to(Path.cwd())}"
# Not shown: the key of a user whom the parent knows.
KEY = Path(".build/demo_key")

PACKAGE = HERE / "appliance.ovf"
IMPORT = f"govc import.ovf -name appliance-01 -host DC0_H0 {PACKAGE.relative_to(Path.cwd())}"
# The user that every ESXi host has; the simulated host accepts vCenter's password.
POWER_ON = "GOVC_URL={host} GOVC_USERNAME=root govc vm.power -on appliance-01"
# Not shown: nobody types the next command before the guest is ready.
WAIT = "govc collect -s -wait 1m vm/appliance-01 -guest.guestOperationsReady true"
LOOK = """govc guest.run -vm appliance-01 'vmtoolsd --cmd "info-get guestinfo.ovfEnv"'"""
LOOK_AGAIN = f"{LOOK} | grep oe:key"
REPORT = """\
ansible-playbook vmfork.vsphere.ovfenv_report -e ovfenv_guest_probe=exit_code \\
    -e ovfenv_report_file=.build/ovfenv_report.html"""
REPAIR = """\
ansible-playbook vmfork.vsphere.ovfenv_repair -e ovfenv_guest_probe=exit_code \\
    -e ovfenv_vms=appliance-01 -e ovfenv_repair_confirm=appliance-01"""

BACKUP_DIRECTORY = ".build/demo_backup"
# Not shown: what a team does every night.
BACKUP = f"ansible-playbook vmfork.vsphere.vapp_backup -e vapp_backup_directory={BACKUP_DIRECTORY}"
OFF = "govc vm.power -off appliance-01"
REGISTER = "govc vm.unregister appliance-01 && govc vm.register -host DC0_H0 appliance-01/appliance-01.vmx"
# The simulated vCenter gives new UUIDs to a VM that is registered again.
RESTORE = f"""\
ansible-playbook vmfork.vsphere.vapp_restore -e vapp_backup_directory={BACKUP_DIRECTORY} \
-e vapp_restore_match_name=true -e vapp_restore_confirm=appliance-01"""
POWER_ON_AGAIN = "govc vm.power -on appliance-01"

DOCUMENTED = (Path("README.md"), Path("docs/docsite/rst/guide_ovf_environment.rst"))
"""The pages that contain parts of the output. Such a block names a file of this directory."""

NEW, OLD = ("-api-version", "8.0.3.0"), ("-api-version", "6.5")

FIRST = "1. A running VM becomes eight, by Instant Clone in a vCenter 8.0 that is simulated on this machine:\n"
ONCE_MORE = "\nOnce more: the children are there, and nothing is left to do."
NEXT_PLAY_TOO = """
Once more: nothing is left to do. The next play connects to the children by SSH, which
accepts only the host keys that they have reported:"""
NOT_RUN = "NOT RUN: a play that connects to the children by SSH, because {obstacle}."
ELSEWHERE = "\nThe same command on a vCenter 6.5, which does not have Instant Clone yet. It uses VMFork:"
SECOND = """
2. An appliance, imported into the vCenter 8.0, is started on its ESXi host directly.
   Its guest does not get its settings, because only vCenter delivers them:
"""
THIRD = "\n3. Its vApp options are backed up. Then the appliance is registered again, and has none:"
END = """
The same playbooks work with your vCenter. The report changes nothing and needs no guest
login. The fork needs a Linux guest:
$ . .build/activate
$ export VMWARE_HOST=vcenter.example.com VMWARE_USER=… VMWARE_PASSWORD=…
$ ansible-playbook vmfork.vsphere.ovfenv_report
$ export VMWARE_GUEST_USER=root VMWARE_GUEST_PASSWORD=…
$ {fork} \\
    -e vmfork_parent_name=golden -e vmfork_first_address=192.0.2.101"""


class DemoFailed(Exception):
    """A command did not have the effect shown here; the message contains its output."""


@dataclass(frozen=True)
class Played:
    """The output of a playbook: all of it, the table at its end, and its recap with the seconds it took."""

    output: str
    table: list[str]
    recap: str


SHOWN: list[str] = []


def show(*lines: str, indent: str = "") -> None:
    """Print lines immediately, and remember them."""
    SHOWN.extend(lines)
    print(*(f"{indent}{line}" if line else "" for line in lines), sep="\n", flush=True)


def expect(is_so: bool, output: str) -> None:
    """Raise DemoFailed with the output, unless the condition holds."""
    if not is_so:
        raise DemoFailed(output)


def run(command: str, environment: dict[str, str], code: int = 0) -> str:
    """Run a command as shown and return its output; raise DemoFailed if its exit code differs."""
    done = subprocess.run(
        ["sh", "-c", command], check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    expect(done.returncode == code, f"$ {command}\n{done.stdout}(exit code {done.returncode})")
    return done.stdout.strip()


def play(command: str, environment: dict[str, str]) -> Played:
    """Run a playbook."""
    start = time.monotonic()
    output = run(command, environment)
    seconds = time.monotonic() - start
    message = re.search(r'"msg": (\[\n.*?\n\s*\])\n', output, re.DOTALL)
    recap = re.search(r"ok=\d+ +changed=\d+.*failed=\d+", output)
    if message is None or recap is None:
        raise DemoFailed(output)
    return Played(output, json.loads(message[1]), f"{' '.join(recap[0].split())} ({seconds:.0f} s)")


def fork(environment: dict[str, str]) -> Played:
    """Run the playbook that forks; assert that all children exist and have run their script."""
    played = play(FORK, environment)
    expect(sum(" ended well " in line for line in played.table) == CHILDREN, played.output)
    return played


def show_the_next_play(environment: dict[str, str]) -> None:
    """Run the playbook once more, with a play that connects to the children."""
    show(NEXT_PLAY_TOO, f"$ {USE}")
    played = play(USE, {**environment, **guest_ssh.environment(KEY)})
    recaps = re.findall(r"^(web-\d+) +: (ok=2 +changed=0 +unreachable=0 +failed=0)", played.output, re.MULTILINE)
    expect(len(recaps) == CHILDREN and " changed=0 " in played.recap, played.output)
    (first, recap), (last, _recap) = recaps[0], recaps[-1]
    show(f"localhost:       {played.recap}", f"{first} … {last}: {' '.join(recap.split())}", indent="  ")


def show_a_fork(new: dict[str, str], old: dict[str, str]) -> None:
    """Run the first part: a fork on both engines."""
    obstacle = guest_ssh.obstacle()
    if obstacle is None:
        guests = guest_ssh.Guests(new)
        guests.run(guests.find("-name", PARENT), guest_ssh.installed(guest_ssh.new_key(KEY)))
    show(FIRST, f"$ {FORK}")
    variables = VARIABLES.read_text(encoding="utf-8").splitlines()
    show(*(line for line in variables if line.startswith("vmfork_")), indent="    ")
    first = fork(new)
    show("", *first.table, first.recap, indent="  ")
    if obstacle is None:
        show_the_next_play(new)
    else:
        show(ONCE_MORE)
        second = fork(new)
        expect(" changed=0 " in second.recap, second.output)
        show(second.recap, NOT_RUN.format(obstacle=obstacle), indent="  ")
    show(ELSEWHERE)
    elsewhere = fork(old)
    show(*elsewhere.table[:2], "…", elsewhere.recap, indent="  ")


def show_a_repair(environment: dict[str, str], esxi: str) -> None:
    """Run the second part: a lost OVF environment is repaired."""
    show(SECOND, f"$ {IMPORT}")
    run(IMPORT, environment)
    power_on = POWER_ON.format(host=esxi)
    show(f"$ {power_on}")
    show(run(power_on, environment), indent="  ")
    run(WAIT, environment)
    show(f"$ {LOOK}")
    seen = run(LOOK, environment, code=1)
    expect("No value found" in seen.splitlines(), seen)
    show(seen, indent="  ")

    show("", f"$ {REPORT}")
    report = play(REPORT, environment)
    verdict = ["appliance-01", "lost", "powered_on_from_esxi"]
    expect(any(line.split()[1:4] == verdict for line in report.table), report.output)
    show(*report.table, indent="  ")

    show("", f"$ {REPAIR}")
    repair = play(REPAIR, environment)
    expect(["appliance-01", "lost", "delivered"] in [line.split() for line in repair.table], repair.output)
    show(*repair.table, repair.recap, indent="  ")

    show("", f"$ {LOOK_AGAIN}")
    show(run(LOOK_AGAIN, environment), indent="  ")


def show_a_restore(environment: dict[str, str]) -> None:
    """Run the third part: lost vApp options are restored."""
    shutil.rmtree(BACKUP_DIRECTORY, ignore_errors=True)
    play(BACKUP, environment)
    run(OFF, environment)
    show(THIRD, f"$ {REGISTER}")
    run(REGISTER, environment)
    show(f"$ {RESTORE}")
    restored = play(RESTORE, environment)
    row = next((line for line in restored.table if line.split()[:3] == ["appliance-01", "restored", "name"]), "")
    expect(bool(row), restored.output)
    show(row, indent="  ")
    run(POWER_ON_AGAIN, environment)
    run(WAIT, environment)
    show(f"$ {POWER_ON_AGAIN}; {LOOK_AGAIN}")
    show(run(LOOK_AGAIN, environment), indent="  ")


def comparable(text: str) -> list[str]:
    """Return the lines of a text without what differs between runs: numbers, and the widths of columns."""
    lines = [" ".join(re.sub(r"[0-9]+(?:[.][0-9]+)*", "0", line).split()) for line in text.splitlines()]
    return [line for line in lines if line not in ("", "…")]


def undocumented(page: str, shown: list[str]) -> list[str]:
    """Return the lines of a page's transcripts that were not shown in this order."""
    blocks = re.findall(r"(?m)^```console\n((?:(?!```).*\n)*)|^ *\.\. code-block:: console\n((?:(?: .*)?\n)*)", page)
    remaining = iter(comparable("\n".join(shown)))
    transcripts = [markdown or rst for markdown, rst in blocks if "tests/demo/" in markdown + rst]
    return [line for block in transcripts for line in comparable(block) if line not in remaining]


def main() -> int:
    """Run all parts with simulators, which are stopped in any case; return 1 if a part failed."""
    # The simulators must be stopped even if this process is asked to end.
    signal.signal(signal.SIGTERM, lambda *_arguments: sys.exit(128 + signal.SIGTERM))
    try:
        with Simulator(*NEW, "-esx-l", "127.0.0.1:0") as new:
            environment = {**os.environ, **new.environment, **OUTPUT}
            with Simulator(*OLD) as old:
                show_a_fork(environment, {**os.environ, **old.environment, **OUTPUT})
            show_a_repair(environment, urlsplit(new.esx_url).netloc)
            show_a_restore(environment)
        for page in DOCUMENTED:
            differing = undocumented(page.read_text(encoding="utf-8"), SHOWN)
            expect(not differing, f"{page} shows lines that this run did not: {differing}")
        show(END.format(fork=FORK))
    except (DemoFailed, SimulatorError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
