# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of privileges against what pyVmomi, which is made from vSphere's own definitions, says of the methods."""

from __future__ import annotations

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._privileges import NEEDS

MANAGERS = (
    vim.VirtualMachine,
    vim.vm.guest.AuthManager,
    vim.vm.guest.FileManager,
    vim.vm.guest.ProcessManager,
)


def published(method: str) -> str | None:
    """The privilege that a method needs on its VM, where the definitions name one."""
    for manager in MANAGERS:
        for info in manager._methodInfo.values():
            if info.wsdlName == method:
                return info.privId or next((one.privId for one in info.params if one.name == "vm"), None)
    return None


@pytest.mark.parametrize(
    "method",
    [
        "PowerOnVM_Task",
        "PowerOffVM_Task",
        "CreateTemporaryDirectoryInGuest",
        "InitiateFileTransferToGuest",
        "StartProgramInGuest",
        "ValidateCredentialsInGuest",
    ],
)
def test_table(method: str) -> None:
    assert NEEDS[method] == {"vm": published(method)}
