# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of privileges, compared with pyVmomi, which is generated from vSphere's own definitions.

It is also compared with the role files and the documentation of the modules.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._privileges import NEEDS

ROLES = Path(__file__).parents[4] / "playbooks" / "files" / "privileges"
MODULES = ("vmfork_parent", "vmfork_quiesce", "vmfork_child", "vm_vapp_options", "vapp_restore", "vmfork_conformance")

BOTH = {
    "PowerOnVM_Task",
    "PowerOffVM_Task",
    "Destroy_Task",
    "ReconfigVM_Task extraConfig",
    "CreateTemporaryDirectoryInGuest",
    "InitiateFileTransferToGuest",
    "StartProgramInGuest",
    "ValidateCredentialsInGuest",
}
FILES: dict[str, set[str]] = {
    "vmfork": BOTH
    | {"EnableForkParent_Task", "DisableForkParent_Task", "CreateForkChild_Task", "ReconfigVM_Task uuid"},
    "instant_clone": BOTH
    | {
        "InstantClone_Task",
        "InstantClone_Task network",
        "ReconfigVM_Task device",
        "ReconfigVM_Task connectable",
    },
    "vapp_options": {"ReconfigVM_Task vAppConfig", "ReconfigVM_Task vAppConfig values", "ExtractOvfEnvironment"},
    "ovfenv": {
        "ExtractOvfEnvironment",
        "StartProgramInGuest",
        "ValidateCredentialsInGuest",
        "CreateTemporaryDirectoryInGuest",
        "PowerOffVM_Task",
        "PowerOnVM_Task",
        "ReconfigVM_Task vAppConfig",
    },
}
FILES["conformance"] = (
    FILES["vmfork"] - {"ReconfigVM_Task uuid"} | FILES["instant_clone"] | FILES["vapp_options"] | {"SuspendVM_Task"}
)
"""File of a role → the methods that it is for."""

MANAGERS = (
    vim.VirtualMachine,
    vim.vm.guest.AuthManager,
    vim.vm.guest.FileManager,
    vim.vm.guest.ProcessManager,
)


def published(method: str) -> str | None:
    """Return the privilege that a method requires on its VM, if the definitions name one."""
    for manager in MANAGERS:
        for info in manager._methodInfo.values():
            if info.wsdlName == method:
                return info.privId or next((param.privId for param in info.params if param.name == "vm"), None)
    return None


@pytest.mark.parametrize(
    "method",
    [
        "PowerOnVM_Task",
        "PowerOffVM_Task",
        "SuspendVM_Task",
        "CreateTemporaryDirectoryInGuest",
        "InitiateFileTransferToGuest",
        "StartProgramInGuest",
        "ValidateCredentialsInGuest",
        "ExtractOvfEnvironment",
    ],
)
def test_table(method: str) -> None:
    assert NEEDS[method] == {"vm": published(method)}


def role(name: str) -> list[str]:
    """Return the privileges in a file."""
    lines = (ROLES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", FILES)
def test_role(name: str) -> None:
    needed = {privilege for method in FILES[name] for privilege in NEEDS[method].values()}
    assert sorted(role(name)) == sorted(needed)


def test_every_file_is_tested() -> None:
    assert {path.stem for path in ROLES.iterdir()} == set(FILES)


def test_every_method_belongs_to_a_role() -> None:
    assert set.union(*FILES.values()) == set(NEEDS)


def test_documentation() -> None:
    package = "ansible_collections.vmfork.vsphere.plugins.modules"
    texts = "".join(import_module(f"{package}.{module}").DOCUMENTATION for module in MODULES)
    documented = set(re.findall(r"C\(((?:VirtualMachine|Resource|Datastore|Network|VApp)\.[\w.]+)\)", texts))
    assert documented == {privilege for name in FILES for privilege in role(name)}
