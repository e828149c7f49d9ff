# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers with types that vSphere does not declare."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from harness.soap_server import SoapServer
from pyVmomi import VmomiSupport, vim

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _types
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType

VM, TASK = vim.VirtualMachine, vim.Task
ON = vim.VirtualMachine.PowerState.poweredOn


@pytest.mark.parametrize(
    ("kind", "path", "declared", "is_optional"),
    [
        (VM, "name", str, False),
        (VM, "runtime.powerState", vim.VirtualMachine.PowerState, False),
        (VM, "config.uuid", str, True),
        (VM, "config.hardware.device", VmomiSupport.GetVmodlType("vim.vm.device.VirtualDevice[]"), True),
        (VM, 'config.extraConfig["vmfork.child"].value', object, True),
        (VM, 'config.extraConfig["a.b"]', vim.option.OptionValue, True),
        (TASK, "info.state", vim.TaskInfo.State, False),
        (TASK, "info.result", object, True),
    ],
)
def test_declaration(kind: Any, path: str, declared: Any, is_optional: bool) -> None:
    found = _types.declaration(kind, path)
    assert found is not None
    assert found.is_optional is is_optional
    assert found.type is declared


@pytest.mark.parametrize("path", ["nothing", "config.nothing", "name.length", 'config["x"]', "config..uuid"])
def test_property_that_is_not_declared(path: str) -> None:
    assert _types.declaration(VM, path) is None


def array(item: str, *items: Any) -> Any:
    made = VmomiSupport.GetVmodlType(f"{item}[]")()
    made.extend(items)
    return made


def with_items(kind: Any, name: str, *items: Any) -> Any:
    """Return a data object with array items that pyVmomi would refuse in an assignment."""
    made = kind()
    getattr(made, name).extend(items)
    return made


NIC = vim.vm.GuestInfo.NicInfo


@pytest.mark.parametrize(
    ("kind", "path", "value", "expected"),
    [
        (VM, "name", "web", None),
        (VM, "name", 7, "int instead of str"),
        (VM, "name", None, "nothing instead of str"),
        (VM, "config.uuid", None, None),
        (VM, "config.template", True, None),
        (VM, "config.template", "true", "str instead of bool"),
        (VM, "config.template", 1, "int instead of bool"),
        (VM, "config.hardware.memoryMB", 1, None),
        (VM, "config.hardware.memoryMB", VmomiSupport.long(1), None),
        (VM, "config.hardware.memoryMB", True, "bool instead of int"),
        (VM, "runtime.powerState", ON, None),
        (VM, "runtime.powerState", "poweredOn", None),
        (VM, "runtime.powerState", "elsewhere", "str instead of vim.VirtualMachine.PowerState"),
        (VM, "runtime.bootTime", datetime.datetime.now(datetime.timezone.utc), None),
        (VM, "runtime.bootTime", "2026-01-01", "str instead of datetime"),
        (VM, "runtime.host", vim.HostSystem("h"), None),
        (VM, "runtime.host", VM("vm-1"), "vim.VirtualMachine instead of vim.HostSystem"),
        (VM, "network", [vim.Network("n"), vim.dvs.DistributedVirtualPortgroup("p")], None),
        (VM, "network", [vim.Datastore("d")], "vim.Datastore instead of vim.Network"),
        (VM, "network", [None], "nothing instead of vim.Network"),
        (VM, "network", None, None),
        (VM, "guest.net", [1], "int instead of vim.vm.GuestInfo.NicInfo"),
        (VM, "guest.net", array("int", 1), "int instead of vim.vm.GuestInfo.NicInfo"),
        (VM, "guest.net", "x", "str instead of vim.vm.GuestInfo.NicInfo[]"),
        (VM, "guest.net", [with_items(NIC, "ipAddress", 1)], "int instead of str in ipAddress"),
        (VM, "guest.net", [NIC(ipAddress=["192.0.2.1"])], None),
        (VM, "config.extraConfig", ["a"], "str instead of vim.option.OptionValue"),
        (VM, "config.extraConfig", [vim.option.OptionValue(key="k", value=7)], None),
        (VM, "snapshot", vim.vm.GuestInfo(), "vim.vm.GuestInfo instead of vim.vm.SnapshotInfo"),
        (TASK, "info.state", None, "nothing instead of vim.TaskInfo.State"),
        (TASK, "info.result", 7, None),
        (TASK, "info.error", vim.fault.InvalidState(), None),
        (vim.HostSystem, "config.certificate", array("byte", 1, 2), None),
        (vim.HostSystem, "config.certificate", VmomiSupport.binary(b"x"), None),
    ],
)
def test_values(kind: Any, path: str, value: Any, expected: str | None) -> None:
    declared = _types.declaration(kind, path)
    assert declared is not None
    assert _types.misfit(value, declared) == expected


# --- results of methods -----------------------------------------------------------------------------------------------


def opened(fake: SoapServer) -> Session:
    server = Server("127.0.0.1", "me", "a-long-secret", fake.server_port, validate_certs=False)
    return Session(server, Budget(Deadline(60)))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ('<returnval xsi:type="xsd:int">7</returnval>', "with int instead of datetime."),
        ("", "with nothing instead of datetime."),
        ("<returnval>yesterday</returnval>", "does not know"),
        ('<returnval xsi:type="Nonsense">7</returnval>', "does not know"),
    ],
)
def test_result_of_a_method(answer: str, sentence: str) -> None:
    with SoapServer() as fake, opened(fake) as session:
        fake.results["CurrentTime"] = answer
        with pytest.raises(UnknownType) as error:
            session.current_time()
    assert sentence in error.value.sentence


@pytest.mark.parametrize("method", ["RetrieveServiceContent", "Login"])
@pytest.mark.parametrize(
    "answer", ["", '<returnval xsi:type="xsd:int">7</returnval>', '<returnval xsi:type="xsd:string">x</returnval>']
)
def test_unexpected_answer_to_a_login(method: str, answer: str) -> None:
    with SoapServer() as fake:
        fake.results[method] = answer
        with pytest.raises(_errors.Error, match=f"answered the call {method} on ") as error, opened(fake):
            pass
    assert "instead of" in str(error.value)


def test_unreadable_cookie() -> None:
    with SoapServer() as fake, opened(fake) as session:
        fake.cookie = "a{b=1; Path=/"
        with pytest.raises(_errors.Error, match=r"^127\.0\.0\.1 answered .*\.$"):
            session.call(session.content.sessionManager.Login, "me", "a-long-secret")


def test_method_without_a_result() -> None:
    with SoapServer() as fake, opened(fake) as session:
        session.call(session.content.sessionManager.Logout)
        assert fake.methods[-1] == "Logout"
