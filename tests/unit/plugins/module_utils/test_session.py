# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that pyVmomi cannot read."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import SoapAdapter, VmomiSupport, vim

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
    ],
)
def test_newer_than_pyvmomi(kind: Any, answer: str) -> None:
    with pytest.raises(UnknownType, match=r"does not know .*A newer pyVmomi may know it"):
        Session(Server("vcenter", "user", "password")).call_once(SoapAdapter.Deserialize, answer, kind)
