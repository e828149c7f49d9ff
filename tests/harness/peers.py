# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extract the other VMware collections for Ansible from the Python package that bundles them.

    peers.py REQUIREMENTS DESTINATION    leaves DESTINATION/ansible_collections/{community,vmware}/vmware

The bundle contains a hundred more collections, which would slow down every search for plugins.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PEERS = ("ansible_collections/community/vmware/", "ansible_collections/vmware/vmware/")


def main() -> None:
    """Download the bundle and unpack the two collections."""
    requirements, destination = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="vmfork-peers-") as directory:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--dest", directory, "-r", requirements]
        subprocess.run(pip, check=True)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as bundle:
            bundle.extractall(destination, [name for name in bundle.namelist() if name.startswith(PEERS)])


if __name__ == "__main__":
    main()
