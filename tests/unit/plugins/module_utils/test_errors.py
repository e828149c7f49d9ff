# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages about vSphere's faults."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors, _session
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import operations


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            vim.fault.NoPermission(object=vim.VirtualMachine("vm-7"), privilegeId="VirtualMachine.Interact.PowerOn"),
            (
                "Could not do it: the user lacks the privilege VirtualMachine.Interact.PowerOn on "
                "VM vm-7. "
                "Assign the user a role with this privilege on that object."
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


DELTAS = vmodl.fault.SystemError(
    msg="A general system error occurred: Unable to prepare migration.",
    reason="Launch failure",
)

REFUSED_FORKS: list[tuple[Any, str]] = [
    (
        vmodl.fault.NotSupported(msg="Instant Clone is not supported when VM with vTPM device"),
        "Remove the vTPM from the parent.",
    ),
    (
        vim.fault.DeviceNotSupported(device="Serial port 1", msg="Device 'Serial port 1' is not supported."),
        "Remove the device from the parent. A port may be backed by a file.",
    ),
    (
        vmodl.fault.SystemError(
            msg="Virtual machine is configured to use a device that prevents the operation: Device 'Serial port 1' is "
            "not supported."
        ),
        "Remove the device from the parent. A port may be backed by a file.",
    ),
    (
        vim.fault.CannotAccessVmDevice(
            msg="Currently connected device 'CD/DVD drive 2' uses backing '[ds] a.iso', which is not accessible."
        ),
        "Disconnect the device of the parent, or give its ESXi host access to the image.",
    ),
    (DELTAS, "The parent may have the maximum of 255 delta disks in a chain."),
    (
        vim.fault.GenericVmConfigFault(msg="This virtual machine has more than 100 redo logs in a single branch."),
        "Quiesce the parent with vmfork_quiesce, so that children add no delta disks.",
    ),
    (
        vim.fault.ResourceNotAvailable(msg="No free port is available in the distributed port group."),
        "Add ports to the port group, or enable its automatic expansion.",
    ),
    (
        vim.fault.GenericVmConfigFault(msg="MAC conflicts with VMware reserved MACs for other usage"),
        "Use a MAC address outside of the ranges that vSphere assigns.",
    ),
    (vim.fault.InsufficientMemoryResourcesFault(msg="No memory."), "Reserve less memory for the parent, or give"),
    (vim.fault.InsufficientFailoverResourcesFault(msg="No failover."), "Change the admission control of vSphere HA"),
    (vmodl.fault.NotEnoughLicenses(msg="No license."), "Assign a license that covers this"),
    (vim.fault.NoDiskSpace(msg="Full."), "Free space on the datastore, or choose another one."),
]
"""Refusals of a fork as real servers word them, and what to do. The preflight reports the same in advance."""


@pytest.mark.parametrize(("fault", "remedy"), REFUSED_FORKS, ids=lambda value: type(value).__name__)
def test_remedies_of_refused_forks(fault: Any, remedy: str) -> None:
    sentence = _errors.failure("Could not create child web-01", fault).sentence
    assert f". {remedy}" in sentence
    localized = vmodl.LocalizedMethodFault(fault=type(fault)(), localizedMessage=fault.msg)
    assert f". {remedy}" in _errors.failure("Could not create child web-01", localized).sentence


def test_remedies_by_text_are_all_tested() -> None:
    texts = [fault.msg for fault, _remedy in REFUSED_FORKS]
    assert [part for part in _errors._REMEDIES_BY_TEXT if not any(part in text for text in texts)] == []


@pytest.mark.parametrize("message", ["The VM is off.", "The VM is off. ", "The VM is off...", "The VM is off"])
def test_periods_are_not_doubled(message: str) -> None:
    assert _connection.reason(OSError(message)) == "The VM is off"
    assert _errors.sentence("Could not do it", message) == "Could not do it: The VM is off."
    with (
        pytest.raises(_errors.ConnectionFailed, match=r": The VM is off\. Check hostname and port\.$"),
        _connection.reaching(Server("vcenter", "me", "word"), 1),
    ):
        raise OSError(message)


def test_object_of_a_missing_privilege_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_errors, "_names", {})
    fault = vim.fault.NoPermission(object=vim.VirtualMachine("vm-7"), privilegeId="VirtualMachine.Interact.PowerOn")
    _errors.remember_name("vm-8", "other")
    assert _errors.fault_text(fault).endswith("on VM vm-7")
    _errors.remember_name("vm-7", "web-01")
    assert _errors.fault_text(fault).endswith("on VM web-01 (vm-7)")


@pytest.mark.parametrize(
    ("cause", "names"),
    [
        (vim.fault.InvalidPowerState(), ("InvalidPowerState", "InvalidState", "VimFault", "MethodFault")),
        (vim.fault.NotAuthenticated(), ("NotAuthenticated", "NoPermission")),
        (vmodl.fault.MethodNotFound(), ("MethodNotFound", "InvalidRequest", "RuntimeFault")),
    ],
)
def test_fault_matches_its_type_and_base_types(cause: Any, names: tuple[str, ...]) -> None:
    fault = _errors.Fault(cause, "vcenter")
    assert fault.fault == names[0]
    assert all(fault.is_a("DuplicateName", name) for name in names)
    assert not fault.is_a("DuplicateName")


def test_fault_becomes_the_error_of_its_operation() -> None:
    """The message contains the remedy, and not the words for an unknown call."""
    cause = vim.fault.TaskInProgress(msg="Busy.", task=vim.Task("task-1"))
    fault = _errors.Fault(cause, "vcenter")
    assert str(fault).startswith("vcenter refused a request: Busy (TaskInProgress). Wait until")
    error = _errors.explained("Could not do it", fault)
    assert isinstance(error, _errors.OperationFailed)
    assert (str(error), error.fault, error.task) == (
        str(_errors.failure("Could not do it", cause)),
        "TaskInProgress",
        cause.task,
    )
    other = _errors.NotFound("VM web was not found.")
    assert _errors.explained("Could not do it", other) is other


def test_missing_privilege_reads_like_the_fault() -> None:
    vm = vim.VirtualMachine("vm-7")
    fault = vim.fault.NoPermission(object=vm, privilegeId="VirtualMachine.Interact.PowerOn")
    expected = _errors.failure("Could not do it", fault)
    got = _errors.lacking("Could not do it", "VirtualMachine.Interact.PowerOn", vm)
    assert (got.sentence, got.fault) == (expected.sentence, expected.fault)


def drawn_tree() -> dict[str, str]:
    """Return each exception with its base class, as drawn at the head of the file."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for branch, name in re.findall(r"^    ([│├└─ ]*)([\w.]+) {2,}", (_errors.__doc__ or "") + "  ", re.MULTILINE):
        depth = len(branch) // 4
        above[depth:] = [name.rpartition(".")[2]]
        parents[above[-1]] = above[depth - 1] if depth else "Exception"
    return parents


def test_drawn_tree_matches_the_classes() -> None:
    elsewhere = (_session.UnknownType, operations.HostHidden)
    kinds = [kind for kind in vars(_errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    actual = {kind.__name__: kind.__bases__[0].__name__ for kind in (*kinds, *elsewhere)}
    assert drawn_tree() == {**actual, "Interrupted": "Exception"}
