# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Use the release file of the collection as somebody does who has nothing else: an empty HOME, Python and pip.

    tarball.py TARBALL DIRECTORY

Installs ansible-core and pyVmomi in a new virtual environment in DIRECTORY, and the collection without a Galaxy server.
Then `ansible-doc` must show every plugin and role, and the fork playbook must create children in a simulator, which
runs elsewhere. No variable of the environment and no directory names this checkout.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

from harness.simulator import Simulator

KINDS = {"modules": "module", "filter": "filter", "inventory": "inventory", "lookup": "lookup"}
"""The name that ansible-doc has for the plugins in a directory. Those of other directories have no documentation."""


class Machine:
    """A directory with an environment of its own, which is all that the commands know."""

    def __init__(self, directory: Path, tarball: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        home = directory / "home"
        home.mkdir(parents=True)
        self.tarball = Path(shutil.copy(tarball, home))
        venv.create(directory / "venv", with_pip=True)
        path = f"{directory / 'venv' / 'bin'}:/usr/bin:/bin"
        self.environment = {"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
        self.home = home

    def run(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed; return its output."""
        ended = subprocess.run(
            command,
            cwd=self.home,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ended.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{ended.stdout}")
        return ended.stdout


def contents(tarball: Path) -> dict[str, list[str]]:
    """Return the names that the collection has for each kind of plugin, and its roles."""
    with tarfile.open(tarball) as archive:
        paths = [Path(name) for name in archive.getnames()]
    found = {
        kind: [path.stem for path in paths if path.parent == Path("plugins", folder) and path.suffix == ".py"]
        for folder, kind in KINDS.items()
    }
    return {**found, "role": [path.name for path in paths if path.parent == Path("roles")]}


def main() -> None:
    """Install, read the documentation, and fork."""
    tarball, directory = (Path(argument).resolve() for argument in sys.argv[1:])
    requirements = Path(__file__).resolve().parents[1] / "requirements" / "env.txt"
    machine = Machine(directory, tarball)
    machine.run("pip", "install", "--quiet", "--disable-pip-version-check", *pinned(requirements))
    machine.run("ansible-galaxy", "collection", "install", "--offline", machine.tarball.name)
    (installed,) = machine.home.glob(".ansible/collections/ansible_collections/vmfork/vsphere")
    print(f"installed: {machine.tarball.name}, {sum(1 for path in installed.rglob('*') if path.is_file())} files")

    for kind, names in contents(tarball).items():
        documented = machine.run("ansible-doc", "--type", kind, *(f"vmfork.vsphere.{name}" for name in names))
        missing = [name for name in names if f"vmfork.vsphere.{name}" not in documented]
        if missing or "WARNING" in documented:
            sys.exit(f"ansible-doc --type {kind}: {missing or documented}")
        print(f"ansible-doc --type {kind}: {len(names)}")

    with Simulator("-api-version", "8.0.3.0", "-vm", "2", "-host", "1") as simulator:
        login = {name: value for name, value in simulator.environment.items() if name.startswith("VMWARE_")}
        answers = {"vmfork_parent_name": "DC0_H0_VM0", "vmfork_child_count": 2, "vmfork_first_address": "192.0.2.11"}
        shown = machine.run("ansible-playbook", "vmfork.vsphere.fork", "-e", json.dumps(answers), **login)
    if shown.count(" created ") < 2 or "failed=0" not in shown:
        sys.exit(f"the fork playbook did not create two children:\n{shown}")
    print("ansible-playbook vmfork.vsphere.fork: 2 children")


def pinned(requirements: Path) -> list[str]:
    """Return the requirements in a file as arguments of pip."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    main()
