# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test in a collection tree, without a container and without a server of its own.

ansible-test passes on little of the environment, so its HOME (which the Makefile sets to a directory in .build) gets
pip's settings, and our get_pip.py under the name that the cache of ansible-test uses for the pip release it installs.
Several runs can start at the same time.

    run_ansible_test.py TREE COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import ast
import configparser
import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path


def pip_releases() -> set[str]:
    """Return the pip releases that the installed ansible-test puts into its virtual environments."""
    spec = find_spec("ansible_test._internal")
    if spec is None or spec.origin is None:
        sys.exit("ansible-test is not installed beside this Python")
    source = Path(spec.origin).with_name("python_requirements.py").read_text(encoding="utf-8")
    return set(re.findall(r"\bpip='([0-9.]+)'", source))


def provide_get_pip(home: Path) -> None:
    """Put our get_pip.py where ansible-test looks before it downloads, and our pip beside it."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    releases = pip_releases()
    if not releases:
        sys.exit("this ansible-test does not name its pip release; see its python_requirements.py")
    for release in releases:
        shutil.copyfile(Path(__file__).with_name("get_pip.py"), cache / f"get_pip_{release.replace('.', '_')}.py")
    pip = cache / "pip" / "pip"
    pip.parent.mkdir(exist_ok=True)
    pip.unlink(missing_ok=True)
    pip.symlink_to(Path(sysconfig.get_path("purelib")) / "pip")


def provide_pip_settings(home: Path) -> None:
    """Write the user's pip settings, from variables and files, to the one file that pip reads under ansible-test."""
    user_home = os.environ.get("VMFORK_USER_HOME", str(home))
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": user_home},
    ).stdout
    settings = configparser.RawConfigParser()
    # Variables come last: they take precedence over files.
    for line in sorted(listing.splitlines(), key=lambda line: line.startswith(":env:")):
        key, value = line.split("=", 1)
        section, option = key.replace(":env:", "global").split(".", 1)
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, option, ast.literal_eval(value))
    # Python compiles what a test imports; the rest of the packages would take a minute.
    if not settings.has_section("install"):
        settings.add_section("install")
    settings.set("install", "no-compile", "true")
    file = home / ".config" / "pip" / "pip.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    # The address of a package index may contain a password.
    file.touch(mode=0o600)
    with file.open("w", encoding="utf-8") as stream:
        settings.write(stream)


def provide_ssh_key(home: Path) -> None:
    """Create the key that ansible-test creates for integration tests, and cannot create twice at the same time."""
    key = home / ".ansible" / "test" / "id_rsa"
    if not key.with_suffix(".pub").is_file():
        key.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-m", "PEM", "-q", "-t", "rsa", "-N", "", "-f", str(key)], check=True)


def main() -> None:
    """Prepare HOME and replace this process with ansible-test."""
    tree, command, *arguments = sys.argv[1:]
    home = Path(os.environ["HOME"])
    directory = home / ".ansible" / "test"
    directory.mkdir(parents=True, exist_ok=True)
    # Several runs share HOME. The lock ends with its file descriptor, which ansible-test does not inherit.
    lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    provide_get_pip(home)
    provide_pip_settings(home)
    if command == "integration":
        provide_ssh_key(home)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    os.chdir(tree)
    program = Path(sys.executable).with_name("ansible-test")
    os.execv(program, [str(program), command, "--python", python, *arguments])


if __name__ == "__main__":
    main()
