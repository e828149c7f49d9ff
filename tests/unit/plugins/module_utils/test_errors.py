# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vSphere's faults become in words."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            vim.fault.NoPermission(object=vim.VirtualMachine("vm-7"), privilegeId="VirtualMachine.Interact.PowerOn"),
            (
                "Could not do it: the user lacks the privilege VirtualMachine.Interact.PowerOn on "
                "VM vm-7. "
                "Give the user a role with this privilege there."
            ),
        ),
        (
            vmodl.LocalizedMethodFault(fault=vim.fault.InvalidState(), localizedMessage="The VM is off."),
            "Could not do it: The VM is off (InvalidState).",
        ),
        (vmodl.LocalizedMethodFault(fault=vim.fault.InvalidState()), "Could not do it: InvalidState."),
        (
            vim.fault.InvalidName(name="x", msg="The name 'x'\nis invalid."),
            "Could not do it: The name 'x' is invalid (InvalidName).",
        ),
        (
            vim.fault.DuplicateName(name="x", msg="x exists"),
            "Could not do it: x exists (DuplicateName). Choose another name, or find the object that has it.",
        ),
        (
            vim.fault.InvalidState(
                msg="Because.", faultMessage=[vmodl.LocalizableMessage(key="k", message="Because.")]
            ),
            "Could not do it: Because (InvalidState).",
        ),
        (
            vim.fault.InvalidState(faultMessage=[vmodl.LocalizableMessage(key="k", message="Because.")]),
            "Could not do it: Because (InvalidState).",
        ),
    ],
)
def test_sentences(fault: Any, sentence: str) -> None:
    error = _errors.failure("Could not do it", fault)
    assert error.sentence == sentence
    assert error.fault == _errors.fault_name(getattr(fault, "fault", None) or fault)


@pytest.mark.parametrize("said", ["The VM is off.", "The VM is off. ", "The VM is off...", "The VM is off"])
def test_full_stops_are_not_doubled(said: str) -> None:
    assert _connection.reason(OSError(said)) == "The VM is off"
    assert _errors.sentence("Could not do it", said) == "Could not do it: The VM is off."
    with (
        pytest.raises(_errors.ConnectionFailed, match=r": The VM is off\. Check hostname and port\.$"),
        _connection.reaching(Server("vcenter", "me", "word"), 1),
    ):
        raise OSError(said)


def test_name_of_what_the_user_lacks_a_privilege_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_errors, "_names", {})
    fault = vim.fault.NoPermission(object=vim.VirtualMachine("vm-7"), privilegeId="VirtualMachine.Interact.PowerOn")
    _errors.remember_name("vm-8", "other")
    assert _errors.fault_text(fault).endswith("on VM vm-7")
    _errors.remember_name("vm-7", "web-01")
    assert _errors.fault_text(fault).endswith("on VM web-01 (vm-7)")
