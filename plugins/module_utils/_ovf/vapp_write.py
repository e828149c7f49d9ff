# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the vApp options of a VM: read, compare, reconfigure once or twice, read again.

Private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _power, _privileges, _properties, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_change
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_request import Request
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

CHANGE_VERSION = "config.changeVersion"
PATHS = ("config.vAppConfig", CHANGE_VERSION, "runtime.powerState", "config.template")
"""Properties that are read from a VM whose vApp options are written."""


class VappWriter:
    """The vApp options of one VM, before and after.

    :param values: :data:`PATHS` of the VM, if they were already read. vCenter refuses the change if they are out of
        date, and the VM is read again.
    :ivar request: what was requested.
    :ivar before: ``config.vAppConfig`` as it was last read before the change.
    :ivar after: ``config.vAppConfig`` now.
    :ivar change: the necessary change.
    :ivar is_written: whether vCenter was asked to change anything.
    """

    def __init__(
        self,
        session: Session,
        deadline: Deadline,
        vm: t.Any,
        name: str,
        request: Request,
        values: _properties.Values | None = None,
    ) -> None:
        self._session = session
        self._deadline = deadline
        self._vm = vm
        self._name = name
        self.request = request
        self._request = request
        self._version: str | None = None
        self.is_on = False
        self._is_template = False
        self.is_written = False
        self.before: t.Any = None
        self.change = vapp_change.Change()
        self._judge(values)
        self.after = self.before

    @property
    def what(self) -> str:
        """The beginning of a sentence about a failure."""
        return f"Could not write the vApp options of VM {self._name}"

    @property
    def unfinished(self) -> str:
        """A sentence about what a failed change has left; empty: nothing."""
        if not self.is_written or not self.change.opened:
            return ""
        return (
            "Until another run completes the change, these properties may be user-configurable: "
            f"{', '.join(self.change.opened)}."
        )

    @property
    def steps(self) -> list[_privileges.Step]:
        """The calls of the change, to check the user's privileges."""
        return [_privileges.Step(self.what, need, vm=(self._vm,)) for need in sorted(self.change.needs)]

    def check(self) -> None:
        """Ask the server whether the user may make the change.

        :raises _errors.OperationFailed: a privilege is missing.
        """
        _privileges.check(self._session, self.steps)

    def write(self) -> None:
        """Make the change, and read the result.

        :raises _errors.OperationFailed: vCenter refused it, or the result is not as requested.
        """
        try:
            self._write()
        except (_errors.Error, _errors.Interrupted) as error:
            error.sentence = " ".join(filter(None, [error.sentence, self.unfinished]))
            error.args = (error.sentence,)
            raise

    def _write(self) -> None:
        try:
            _tasks.run(self._session, self._deadline, self.what, self._submit, again=self._is_still_needed)
        except _errors.OperationFailed as error:
            self.is_written = False
            is_other_way_left = bool(self.change.added_fixed) and not self._request.fixed_as_default
            if error.fault == "NotUserConfigurableProperty" and is_other_way_left:
                self._request = dataclasses.replace(self._request, fixed_as_default=True)
                self._judge()
                self._write()
                return
            if self._is_template and error.fault == "NotSupported":
                raise _errors.OperationFailed(
                    f"{error.sentence} It is a template. Convert it to a VM, run again, and convert it back.",
                    error.fault,
                ) from error
            if self.is_on and error.fault in ("InvalidPowerState", "InvalidState"):
                raise _errors.OperationFailed(
                    f"{error.sentence} Power the VM off, run again, and power it on through vCenter.", error.fault
                ) from error
            raise
        if self.is_written:
            if self.change.opened:
                self._close()
                self.change.opened = []
            self._confirm()
        else:
            self.after = self.before  # somebody else made the same change in the meantime

    def _submit(self) -> t.Any:
        """Start the reconfigure. vCenter refuses it if the VM was changed since it was read."""
        # (vSphere API reference, VirtualMachineConfigSpec.changeVersion and vAppConfigRemoved.)
        spec = vim.vm.ConfigSpec(changeVersion=self._version or None, vAppConfig=self.change.spec)
        if self.change.removes_all:
            spec.vAppConfigRemoved = True
        self.is_written = True
        return self._vm.ReconfigVM_Task(spec)

    def _close(self) -> None:
        """Correct the properties that were made user-configurable only to write their values."""
        request, before, change = self._request, self.before, self.change
        self._request = request.to_close()
        try:
            self._judge()
            self.after = self.before
            if self.change.changes:
                _tasks.run(self._session, self._deadline, self.what, self._submit, again=self._is_still_needed)
        except _errors.Refused as refused:
            raise _errors.OperationFailed(_errors.sentence(self.what, _reason(refused))) from refused
        finally:
            self._request, self.before, self.change, self.is_written = request, before, change, True

    def _is_still_needed(self) -> bool:
        """Compare again, because somebody else changed the VM first; return whether a change is still needed."""
        self.is_written = False
        self._judge()
        return self.change.changes

    def _judge(self, values: _properties.Values | None = None) -> None:
        self.before = self._options(self._values() if values is None else values)
        self.change = vapp_change.plan(self._name, self.before, self._request)

    def _values(self) -> _properties.Values:
        return _properties.read(self._session, [self._vm], PATHS).get(self._vm) or {}

    def _options(self, values: _properties.Values) -> t.Any:
        """Return the vApp options, and note what else is needed."""
        if CHANGE_VERSION not in values:
            raise _errors.Refused(
                f"The vApp options of VM {self._name} are left unchanged: vCenter does not show the configuration "
                "of the VM. Check in the vSphere Client that the VM is accessible, and that the user can see it."
            )
        self._version = values[CHANGE_VERSION]
        self.is_on = _power.is_on(values)
        self._is_template = bool(values.get("config.template"))
        return values.get("config.vAppConfig")

    def _confirm(self) -> None:
        try:
            self.after = self._options(self._values())
            left = vapp_change.plan(self._name, self.after, self._request.without_secrets())
        except _errors.Refused as refused:
            why = _reason(refused)
        else:
            if not left.changes:
                return
            why = f"they still differ in {', '.join(left.differences)}"
        raise _errors.OperationFailed(
            _errors.sentence(
                f"vCenter reported success, but the vApp options of VM {self._name} are not as requested",
                why,
                "Somebody may have changed them in the meantime. Check them in the vSphere Client, then run again.",
            )
        )


def _reason(refused: _errors.Refused) -> str:
    """Return the reason from the sentence of a refusal, as a clause. Here, the VM was already changed."""
    return refused.sentence.partition(": ")[2].rstrip(".")
