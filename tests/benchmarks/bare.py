# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create instant clones with bare pyVmomi, as a short script of an administrator would. Checks nothing.

    python tests/benchmarks/bare.py PARENT_MOID NAME COUNT PARALLEL

NAME is the beginning of the clones' names, PARALLEL the number of requests at a time. The environment names the server.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyVim import connect
from pyVmomi import vim, vmodl

COLLECTOR = vmodl.query.PropertyCollector


def wait(collector: Any, tasks: Sequence[Any]) -> None:
    """Wait until all tasks have succeeded."""
    objects = [COLLECTOR.ObjectSpec(obj=task) for task in tasks]
    properties = COLLECTOR.PropertySpec(type=vim.Task, pathSet=["info.state"])
    made = collector.CreateFilter(COLLECTOR.FilterSpec(objectSet=objects, propSet=[properties]), partialUpdates=False)
    running, version = set(tasks), ""
    while running:
        update = collector.WaitForUpdatesEx(version, COLLECTOR.WaitOptions(maxWaitSeconds=60))
        version = update.version if update else version
        for part in update.filterSet if update else []:
            for change in part.objectSet:
                states = [str(prop.val) for prop in change.changeSet]
                if "error" in states:
                    sys.exit(f"{change.obj.info.error.msg}")
                if "success" in states:
                    running.discard(change.obj)
    made.Destroy()


def main(moid: str, name: str, count: int, parallel: int) -> None:
    """Log in, create the clones, and log out."""
    env = os.environ
    instance = connect.SmartConnect(
        host=env["VMWARE_HOST"],
        port=int(env["VMWARE_PORT"]),
        user=env["VMWARE_USER"],
        pwd=env["VMWARE_PASSWORD"],
        sslContext=ssl._create_unverified_context(),
    )
    stub = instance._GetStub()
    stub.poolSize = parallel
    parent = vim.VirtualMachine(moid, stub)
    place = {"folder": parent.parent, "pool": parent.resourcePool, "datastore": parent.datastore[0]}
    collector = instance.content.propertyCollector

    def clone(number: int) -> Any:
        spec = vim.vm.InstantCloneSpec(name=f"{name}{number:03}", location=vim.vm.RelocateSpec(**place))
        return parent.InstantClone_Task(spec)

    if parallel == 1:
        for number in range(count):
            wait(collector, [clone(number)])
    else:
        with ThreadPoolExecutor(parallel) as pool:
            wait(collector, list(pool.map(clone, range(count))))
    connect.Disconnect(instance)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
