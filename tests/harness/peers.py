# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extract other collections for Ansible from the Python packages that bundle them.

    peers.py DESTINATION REQUIREMENTS ...    leaves the directories PEERS in DESTINATION

A collection comes from the newest bundle that contains it. The bundles contain a hundred more collections, which would
slow down every search for plugins.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PEERS = ("ansible_collections/awx/awx/", "ansible_collections/community/vmware/", "ansible_collections/vmware/vmware/")


def main() -> None:
    """Download the bundles and unpack the collections, unless they are those of these requirements already."""
    destination, *requirements = (Path(argument) for argument in sys.argv[1:])
    wanted = "".join(file.read_text(encoding="utf-8") for file in requirements) + sys.version
    unpacked = destination / "requirements.txt"
    if unpacked.exists() and unpacked.read_text(encoding="utf-8") == wanted:
        return
    with tempfile.TemporaryDirectory(prefix="vmfork-peers-") as directory:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--dest", directory]
        for file in requirements:
            subprocess.run([*pip, "-r", str(file)], check=True)
        missing = set(PEERS)
        for wheel in sorted(Path(directory).glob("*.whl"), reverse=True):
            with zipfile.ZipFile(wheel) as bundle:
                names = [name for name in bundle.namelist() if name.startswith(tuple(missing))]
                bundle.extractall(destination, names)
                missing -= {peer for peer in missing if any(name.startswith(peer) for name in names)}
    if missing:
        sys.exit(f"no bundle contains {', '.join(sorted(missing))}")
    unpacked.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
