# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that pyVmomi cannot read, and the end of a session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import SoapAdapter, VmomiSupport, vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _connection, _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session, UnknownType


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        pytest.param(vim.VirtualMachine.PowerState, "<returnval>asleep</returnval>", id="value of an enumeration"),
        pytest.param(
            VmomiSupport.GetVmodlType("vmodl.DynamicData"),
            '<returnval xmlns="urn:vim25" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="NewType"/>',
            id="type",
        ),
        pytest.param(
            VmomiSupport.GetVmodlType("anyType"),
            '<returnval xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xsd:int">many</returnval>',
            id="no number",
        ),
    ],
)
def test_answer_newer_than_pyvmomi(kind: Any, answer: str) -> None:
    with pytest.raises(UnknownType, match=r"does not know .*A newer pyVmomi may know it"):
        Session(Server("vcenter", "user", "password")).call_once(SoapAdapter.Deserialize, answer, kind)


def test_invalid_path() -> None:
    with pytest.raises(_errors.BadInput, match="ca_path a\0b cannot be used"):
        _connection.tls_context("a\0b", verify=True)


def test_value_that_cannot_be_sent() -> None:
    spec = vim.vm.ConfigSpec(annotation="\ud800")
    with pytest.raises(_errors.BadInput, match="not valid Unicode"):
        Session(Server("vcenter", "user", "password")).call_once(SoapAdapter.Serialize, spec)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_interrupted_logout(failure: type[BaseException]) -> None:
    """If the cleanup before it fails, the session still ends."""
    done: list[str] = []

    def break_off() -> None:
        raise failure

    session = Session(Server("vcenter", "user", "password"))
    session.content = SimpleNamespace(sessionManager=SimpleNamespace(Logout=lambda: done.append("logged out")))
    session._stub = SimpleNamespace(DropConnections=lambda: done.append("dropped"))
    session.closing.callback(break_off)
    try:
        session.__exit__()
    except KeyboardInterrupt:
        done.append("raised")
    assert done == ["logged out", "dropped", *["raised"] * (failure is KeyboardInterrupt)]
