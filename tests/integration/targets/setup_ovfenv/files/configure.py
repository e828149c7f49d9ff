# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give VMs vApp options while they are off, and power them on through vCenter; or remove the options while they run.

    configure.py NAME[=PRODUCT] ... --without NAME ...

govc does not support vApp options.
"""

from __future__ import annotations

import base64
import os
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

PRODUCT = "Mail Gateway"
SECRET = "vmforktest-registration-0123456789"
"""It must never be shown, although neither key nor type of its properties mark it as a secret."""
PROPERTIES = (
    vim.vApp.PropertyInfo(key=0, id="hostname", type="string", value="mail", userConfigurable=True),
    vim.vApp.PropertyInfo(
        key=1, id="otk", type="string", label="Unique Registration Key", value=SECRET, userConfigurable=True
    ),
    vim.vApp.PropertyInfo(
        key=2,
        id="config",
        type="string",
        value=base64.b64encode(f"password: {SECRET}".encode()).decode(),
        userConfigurable=True,
    ),
)


def options(product: str) -> vim.vApp.VmConfigSpec:
    """Return the vApp options of a VM that runs the product."""
    info = vim.vApp.ProductInfo(key=0, name=product, version="1.2")
    return vim.vApp.VmConfigSpec(
        product=[vim.vApp.ProductSpec(operation="add", info=info)],
        property=[vim.vApp.PropertySpec(operation="add", info=prop) for prop in PROPERTIES],
        ovfEnvironmentTransport=["com.vmware.guestInfo"],
    )


def main() -> None:
    """Run the program."""
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
    for given in sys.argv[1:at]:
        name, product = (*given.split("=", 1), "")[:2]
        if vms[name].runtime.powerState != "poweredOff":  # a failed repair may have left it powered off
            WaitForTask(vms[name].PowerOffVM_Task())
        if vms[name].config.vAppConfig is not None:
            WaitForTask(vms[name].ReconfigVM_Task(vim.vm.ConfigSpec(vAppConfigRemoved=True)))
        WaitForTask(vms[name].ReconfigVM_Task(vim.vm.ConfigSpec(vAppConfig=options(product or PRODUCT))))
        WaitForTask(vms[name].PowerOnVM_Task())
    Disconnect(server)


if __name__ == "__main__":
    main()
