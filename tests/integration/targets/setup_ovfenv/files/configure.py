# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give VMs vApp options while they are off, and power them on through vCenter; or take them away while they run.

    configure.py NAME ... --without NAME ...

govc knows no vApp options.
"""

from __future__ import annotations

import os
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

PRODUCT = vim.vApp.ProductInfo(key=0, name="Mail Gateway", version="1.2")
PROPERTY = vim.vApp.PropertyInfo(key=0, id="hostname", type="string", value="mail")
OPTIONS = vim.vApp.VmConfigSpec(
    product=[vim.vApp.ProductSpec(operation="add", info=PRODUCT)],
    property=[vim.vApp.PropertySpec(operation="add", info=PROPERTY)],
    ovfEnvironmentTransport=["com.vmware.guestInfo"],
)


def main() -> None:
    """Entry point."""
    server = SmartConnect(
        host=os.environ["VMWARE_HOST"],
        port=int(os.environ["VMWARE_PORT"]),
        user=os.environ["VMWARE_USER"],
        pwd=os.environ["VMWARE_PASSWORD"],
        disableSslCertValidation=True,
    )
    content = server.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    vms = {vm.name: vm for vm in view.view}
    at = sys.argv.index("--without")
    for name in sys.argv[at + 1 :]:
        WaitForTask(vms[name].ReconfigVM_Task(vim.vm.ConfigSpec(vAppConfigRemoved=True)))
    for name in sys.argv[1:at]:
        WaitForTask(vms[name].PowerOffVM_Task())
        WaitForTask(vms[name].ReconfigVM_Task(vim.vm.ConfigSpec(vAppConfig=OPTIONS)))
        WaitForTask(vms[name].PowerOnVM_Task())
    Disconnect(server)


if __name__ == "__main__":
    main()
