# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read properties of all VMs with bare pyVmomi, in pages, as a short script of an administrator would.

    python tests/benchmarks/bare_read.py PROPERTY ...

The environment names the server.
"""

from __future__ import annotations

import os
import ssl
import sys

from pyVim import connect
from pyVmomi import vim, vmodl

COLLECTOR = vmodl.query.PropertyCollector


def main(paths: list[str]) -> None:
    """Log in, read the properties, and log out."""
    env = os.environ
    instance = connect.SmartConnect(
        host=env["VMWARE_HOST"],
        port=int(env["VMWARE_PORT"]),
        user=env["VMWARE_USER"],
        pwd=env["VMWARE_PASSWORD"],
        sslContext=ssl._create_unverified_context(),
    )
    content = instance.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    traversal = COLLECTOR.TraversalSpec(name="view", type=type(view), path="view", skip=False)
    spec = COLLECTOR.FilterSpec(
        objectSet=[COLLECTOR.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
        propSet=[COLLECTOR.PropertySpec(type=vim.VirtualMachine, pathSet=paths)],
    )
    collector = content.propertyCollector
    found = {}
    page = collector.RetrievePropertiesEx([spec], COLLECTOR.RetrieveOptions(maxObjects=1000))
    while page is not None:
        found.update({entry.obj: {prop.name: prop.val for prop in entry.propSet} for entry in page.objects})
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    print(len(found))
    connect.Disconnect(instance)


if __name__ == "__main__":
    main(sys.argv[1:])
