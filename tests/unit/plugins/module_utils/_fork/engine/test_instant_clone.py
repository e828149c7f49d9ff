# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request of Instant Clone, and which options have an effect with which engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._errors import BadInput
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import CreateRequest
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.vmfork import VmforkEngine

NO_SESSION: Any = None


class Recorder:
    """A session and a VM that record the calls."""

    content = SimpleNamespace(vmProvisioningChecker=SimpleNamespace(CheckInstantClone_Task="check"))
    InstantClone_Task = "clone"

    def call(self, method: str, *arguments: Any) -> tuple[Any, ...]:
        return (method, *arguments)


def test_request() -> None:
    server: Any = Recorder()
    folder = vim.Folder("group-v1")
    request = CreateRequest(
        name="web-01",
        persistent=False,
        params={"hostname": "web-01", "vmfork.nonce": "n0", "guestinfo.mine": "x"},
        location={"folder": folder},
        bios_uuid="4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11",
        record={"vmfork.child": "record"},
        inherited={
            "guestinfo.ic.ipaddress": "192.0.2.9",
            "guestinfo.fork.hostname": "source",
            "guestinfo.fork.gone": "",
            "guestinfo.other": "kept",
            "vmfork.child": "the parent's",
            "vmfork.pool": "the parent's",
        },
    )
    engine = InstantCloneEngine(server)
    method, spec = engine.create(server, request)
    assert method == "clone"
    assert (spec.name, spec.biosUuid, spec.location.folder) == ("web-01", request.bios_uuid, folder)
    assert {option.key: option.value for option in spec.config} == {
        "vmfork.child": "record",
        "vmfork.pool": "",
        "guestinfo.ic.ipaddress": "",
        "guestinfo.fork.hostname": "web-01",
        "guestinfo.ic.hostname": "web-01",
        "guestinfo.fork.vmfork.nonce": "n0",
        "guestinfo.mine": "x",
    }
    checked = engine.predict(server, request)
    assert checked[:2] == ("check", server)
    assert checked[2].name == "web-01"
    assert "guestinfo.mine" not in {option.key for option in checked[2].config}


@pytest.mark.parametrize(
    ("engine", "child", "allow_running_parent", "message"),
    [
        (VmforkEngine(NO_SESSION), ChildSpec("web-01"), True, "allow_running_parent does not work"),
        (
            VmforkEngine(NO_SESSION),
            ChildSpec("web-01", {"guestinfo.x": "1"}),
            False,
            "guestinfo.x starts with guestinfo.",
        ),
        (
            InstantCloneEngine(NO_SESSION),
            ChildSpec("web-01", {"x": "1"}, {"guestinfo.ic.x": "12345678"}),
            False,
            "x and guestinfo.ic.x both mean guestinfo.ic.x",
        ),
    ],
)
def test_refused(engine: Any, child: ChildSpec, allow_running_parent: bool, message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        engine.check([child], allow_running_parent)
    assert message in refusal.value.sentence


def test_effective_options() -> None:
    InstantCloneEngine(NO_SESSION).check([ChildSpec("web-01", {"guestinfo.x": "1", "x": "2"})], True)


@pytest.mark.parametrize(
    ("kind", "shown"), [("none", "instant_clone"), (None, "instant_clone"), ("nonpersistent", "nonpersistent")]
)
def test_child_type(kind: str | None, shown: str) -> None:
    values = {"config.forkConfigInfo": SimpleNamespace(childType=kind)}
    assert InstantCloneEngine(NO_SESSION).child_type(values) == shown
