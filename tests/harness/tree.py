# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Update a directory, which is a git repository of its own, to contain a set of files.

Ansible's tools expect a collection under .../ansible_collections/<namespace>/<name> by its physical path, and read the
list of its files from git. The checkout may be anywhere, so they get a copy that is updated on every run.

    tree.py DESTINATION --checkout            what git sees in this checkout (tracked or new, not ignored)
    tree.py DESTINATION SOURCE [SOURCE ...]   everything in these directories; SOURCE is DIR, or DIR=PLACE to copy
                                              its content to a place inside DESTINATION
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory of any owner, and return its output."""
    command = ["git", "-c", f"safe.directory={directory}", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def checkout_files() -> Iterator[tuple[str, Path]]:
    """Yield (name in the tree, file) for what git sees in the checkout."""
    for name in git(CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        # A file that was deleted without a commit is listed but does not exist.
        if name and (CHECKOUT / name).is_file():
            yield name, CHECKOUT / name


def directory_files(source: str) -> Iterator[tuple[str, Path]]:
    """Yield (name in the tree, file) for everything in DIR or DIR=PLACE except bytecode."""
    directory, place = (*source.split("=", 1), "")[:2]
    for path in sorted(Path(directory).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield str(Path(place) / path.relative_to(directory)), path


def age_and_size(path: Path) -> tuple[int, int]:
    """Return the attributes that change when a file is written."""
    status = path.lstat()
    return status.st_mtime_ns, status.st_size


def mirror(wanted: dict[str, Path], destination: Path) -> None:
    """Make the files known to git in destination exactly the wanted ones; unchanged files keep their times."""
    destination.mkdir(parents=True, exist_ok=True)
    if not (destination / ".git").is_dir():
        git(destination, "init", "--quiet")
    for name in set(git(destination, "ls-files", "-z").split("\0")) - set(wanted) - {""}:
        (destination / name).unlink(missing_ok=True)
    for name, source in wanted.items():
        copy = destination / name
        if copy.is_file() and age_and_size(copy) == age_and_size(source):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)
    git(destination, "add", "--all")


def main() -> None:
    """Run the command of the command line."""
    destination, *sources = sys.argv[1:]
    if sources == ["--checkout"]:
        wanted = dict(checkout_files())
    else:
        wanted = {name: path for source in sources for name, path in directory_files(source)}
    mirror(wanted, Path(destination).resolve())


if __name__ == "__main__":
    main()
