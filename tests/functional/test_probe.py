# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest probe in guests of the simulator: what it finds, refusals of VMware Tools, and other obstacles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from functional.vcenter import VCenter, needs_other_accounts

from ansible_collections.vmfork.vsphere.plugins.module_utils import _properties, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import LINUX
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.operations import Guest
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import probe
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import GuestView
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

BOTH = pytest.mark.parametrize("method", ["exit_code", "full"])
SECRET = "kept-in-the-guest-0123456789"
DOCUMENT = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:ve="http://www.vmware.com/schema/ovfenv" oe:id=""{}>\n'
    f'<PropertySection><Property oe:key="password" oe:value="{SECRET}"/></PropertySection>\n</Environment>\n'
)


class Bed:
    """A VM of a vCenter, with a guest login."""

    def __init__(self, vcenter: VCenter, session: Session) -> None:
        self.vcenter = vcenter
        self.session = session
        self.planters: set[int] = set()
        self.moid = vcenter.govc("find", "-i", "/", "-type", "m", "-name", vcenter.parent).strip().rpartition(":")[2]

    def plant(self, value: str) -> None:
        quoted = "'" + f"info-set guestinfo.ovfEnv {value}".replace("'", "'\\''") + "'"
        self.vcenter.in_guest(self.moid, f"vmtoolsd --cmd {quoted}")
        self.planters = {process["pid"] for process in self.vcenter.guest(self.moid)["processes"]}

    def tools(self, **settings: Any) -> None:
        self.vcenter.control("PATCH", f"guests/{self.moid}", settings)

    def configure(self, **values: str) -> None:
        """Set the vApp options of the VM."""
        vapp = vim.vApp
        infos = [
            vapp.PropertyInfo(key=key, id=name, type="string", value=value, userConfigurable=True)
            for key, (name, value) in enumerate(values.items())
        ]
        properties = [vapp.PropertySpec(operation="add", info=info) for info in infos]
        spec = vapp.VmConfigSpec(property=properties, ovfEnvironmentTransport=["com.vmware.guestInfo"])
        vm = self.session.object(vim.VirtualMachine, self.moid)
        config = vim.vm.ConfigSpec(vAppConfig=spec)
        _tasks.run(self.session, Deadline(30), "Could not reconfigure", vm.ReconfigVM_Task, config)

    def await_tools(self) -> None:
        vm = self.session.object(vim.VirtualMachine, self.moid)
        Guest(self.session, Deadline(30), vm, self.vcenter.parent, GuestLogin("nobody", ""), LINUX).await_ready()

    def look(self, method: str, username: str = "", seconds: float = 30, password: str = "", **login: Any) -> GuestView:
        simulator = self.vcenter.simulator
        who = GuestLogin(username or simulator.guest_username, password or simulator.guest_password, **login)
        vm = self.session.object(vim.VirtualMachine, self.moid)
        values = _properties.read(self.session, [vm], probe.PATHS)[vm]
        return probe.look(self.session, Deadline(seconds), vm, self.vcenter.parent, who, method, values)

    def assert_nothing_left(self) -> None:
        """Assert that no file of ours is left, and that no command line contained the value."""
        assert self.vcenter.in_guest(self.moid, "find / -xdev -name 'vmfork.*' 2>/dev/null; ls -A /tmp").strip() == ""
        processes = [
            process for process in self.vcenter.guest(self.moid)["processes"] if process["pid"] not in self.planters
        ]
        assert processes
        assert SECRET not in str(processes)


@pytest.fixture
def bed(vcenter: VCenter) -> Iterator[Bed]:
    simulator = vcenter.simulator
    server = Server(simulator.host, simulator.username, simulator.password, port=simulator.port, validate_certs=False)
    with Session(server) as session:
        made = Bed(vcenter, session)
        made.await_tools()
        yield made


@pytest.mark.parametrize(
    ("value", "state", "bears_id"),
    [
        (DOCUMENT.format(' ve:vCenterId="{moid}"'), "xml", "own"),
        (DOCUMENT.format(' ve:vCenterId="vm-no-such"'), "xml", "other"),
        (DOCUMENT.format(""), "xml", "none"),
        (None, "no_value", None),
        ("NULL", "cleared", None),
        ("hello", "non_xml", None),
    ],
)
def test_document_in_the_guest(bed: Bed, value: str | None, state: str, bears_id: str | None) -> None:
    if value is not None:
        bed.plant(value.format(moid=bed.moid) if value.startswith("<") else value)
    with bed.vcenter.calls() as calls:
        by_code = bed.look("exit_code")
    assert (by_code.state, by_code.bears_id, by_code.tool, by_code.error) == (state, bears_id, "vmware-rpctool", None)
    assert by_code.document is None
    assert SECRET not in repr(by_code) + by_code.text
    assert not [name for name in calls if "Transfer" in name or "Directory" in name]
    full = bed.look("full")
    assert (full.state, full.bears_id, full.method, full.error) == (state, bears_id, "full", None)
    if state == "xml":
        assert full.document is not None
        assert full.document.parse_error is None
        assert full.document.properties == {"password": SECRET}
    if state == "no_value":
        assert full.stderr == "No value found"
    bed.assert_nothing_left()


@BOTH
def test_vcenter_delivers_the_document_and_esxi_does_not(bed: Bed, method: str) -> None:
    bed.configure(hostname="web-01")
    bed.vcenter.govc("vm.power", "-off", "-force", bed.vcenter.parent)
    bed.vcenter.govc("vm.power", "-on", bed.vcenter.parent)
    bed.await_tools()
    delivered = bed.look(method)
    assert (delivered.state, delivered.bears_id, delivered.error) == ("xml", "own", None)
    if method == "full":
        assert delivered.document is not None
        assert delivered.document.properties == {"hostname": "web-01"}
    bed.vcenter.govc("vm.power", "-off", "-force", bed.vcenter.parent)
    bed.vcenter.control("POST", f"guests/{bed.moid}/power-on", {"origin": "esxi"})
    bed.await_tools()
    assert bed.look(method).state == "no_value"


@BOTH
def test_hardened_guest(bed: Bed, method: str) -> None:
    bed.tools(refuse_info=True)
    view = bed.look(method)
    assert (view.state, view.tool, view.error) == ("permission_denied", "vmtoolsd", None)
    assert view.stderr == ("Permission denied" if method == "full" else None)


@BOTH
def test_no_tools_in_the_guest(bed: Bed, method: str) -> None:
    bed.tools(tools_installed=False)
    view = bed.look(method)
    assert (view.state, view.tool, view.error) == ("tool_missing", None, None)


@BOTH
def test_tools_not_running(bed: Bed, method: str) -> None:
    bed.tools(tools_running=False)
    view = bed.look(method)
    assert view.state == "tools_not_running"


@BOTH
def test_operations_not_ready(bed: Bed, method: str) -> None:
    bed.tools(operations_ready=False)
    view = bed.look(method, seconds=2)
    assert view.state == "ops_not_ready"
    assert "within 2 seconds" in (view.error or "")


@BOTH
def test_wrong_login(bed: Bed, method: str) -> None:
    view = bed.look(method, password="not-that-one-0123456789")
    assert view.state == "login_failed"
    assert "not-that-one" not in (view.error or "")


@BOTH
@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("OperationDisabledByGuest", "ops_not_ready"),
        ("GuestComponentsOutOfDate", "ops_not_ready"),
        ("GuestPermissionDenied", "error"),
        ("FileNotFound", "tool_missing"),
        ("NoPermission", "no_permission"),
    ],
)
def test_faults(bed: Bed, fault: str, state: str, method: str) -> None:
    bed.vcenter.fault(method="StartProgramInGuest", at="call", fault=fault, count=1)
    assert bed.look(method).state == state
    bed.assert_nothing_left()


def test_agent_that_is_briefly_unavailable(bed: Bed) -> None:
    bed.vcenter.fault(method="StartProgramInGuest", at="call", fault="GuestOperationsUnavailable", count=1)
    assert bed.look("exit_code").state == "no_value"


def test_full_with_an_unreachable_esxi_host(bed: Bed) -> None:
    bed.plant(DOCUMENT.format(f' ve:vCenterId="{bed.moid}"'))
    bed.vcenter.control("PUT", "transfers", {"blocked": True})
    view = bed.look("full")
    assert (view.state, view.method, view.bears_id, view.document) == ("xml", "exit_code", "own", None)
    assert "cannot be reached" in (view.error or "")
    assert "use guest_probe=exit_code" in (view.error or "")
    bed.assert_nothing_left()


def test_full_with_a_wrong_certificate_at_the_esxi_host(bed: Bed) -> None:
    bed.plant(DOCUMENT.format(f' ve:vCenterId="{bed.moid}"'))
    bed.vcenter.control("PUT", "transfers", {"certificate": "another"})
    view = bed.look("full")
    assert (view.method, view.document) == ("exit_code", None)
    assert "a different certificate" in (view.error or "")
    assert bed.look("full", transfer_certs="ignore").document is not None


@needs_other_accounts
@BOTH
def test_user_who_becomes_root(bed: Bed, method: str) -> None:
    bed.plant(DOCUMENT.format(f' ve:vCenterId="{bed.moid}"'))
    view = bed.look(method, username="admin", become="sudo")
    assert (view.state, view.bears_id, view.error) == ("xml", "own", None)
    assert (view.document is not None) == (method == "full")
    bed.assert_nothing_left()


@needs_other_accounts
@BOTH
def test_user_who_may_not_use_sudo(bed: Bed, method: str) -> None:
    view = bed.look(method, username="operator", become="sudo")
    assert view.state == "error"
    assert "operator may not use sudo without a password" in (view.error or "")
    bed.assert_nothing_left()
