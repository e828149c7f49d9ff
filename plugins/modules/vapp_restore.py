#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vapp_restore
short_description: Restore the vApp options of many VMs with one login
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Writes exported vApp options to VMs. For each VM, it does the same as M(vmfork.vsphere.vm_vapp_options) with
    O(vmfork.vsphere.vm_vapp_options#module:restore_from), but with one login and for several VMs in parallel.
  - Used by the playbook C(vmfork.vsphere.vapp_restore), which finds the VMs of a backup, shows a plan and requires a
    confirmation. Use the playbook to restore a backup. This module changes every VM that is in O(vms).
  - A VM that cannot be restored does not stop the others. The task fails after all VMs. If it runs again, it continues.
  - No VM is restarted. Use M(vmfork.vsphere.vm_ovfenv) for a power cycle through vCenter, which delivers the values.
  - Works with vCenter only. An ESXi host does not keep vApp options.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.progress
attributes:
  check_mode:
    support: full
    details: Fails if the real run would refuse, and asks vCenter whether the user has the privileges.
  diff_mode:
    support: full
    details: Secrets are masked. C(diff) is only returned in diff mode.
  idempotent:
    support: partial
    details: With O(update_secrets=always), passwords are written in every run, because vCenter does not return them.
options:
  vms:
    description: The VMs, and what to restore to them.
    type: list
    elements: dict
    required: true
    suboptions:
      moid:
        description: Managed object ID of the VM.
        type: str
        required: true
      restore_from:
        description: See O(vmfork.vsphere.vm_vapp_options#module:restore_from).
        type: dict
        required: true
      secret_values:
        description: See O(vmfork.vsphere.vm_vapp_options#module:secret_values).
        type: dict
      overwrite:
        description: See O(vmfork.vsphere.vm_vapp_options#module:overwrite).
        type: bool
        default: false
  restore_keys:
    description:
      - Full keys of the properties to restore. By default, everything is restored.
      - A key that a document does not have is not restored from it. A document without any of them is refused.
    type: list
    elements: str
  update_secrets:
    description: See O(vmfork.vsphere.vm_vapp_options#module:update_secrets).
    type: str
    choices: [on_create, always]
    default: on_create
  force:
    description: Whether to restore to a VM that has another product or version than the document.
    type: bool
    default: false
  concurrency:
    description: Maximum number of VMs that are changed at the same time.
    type: int
    default: 4
  timeout:
    description: Seconds the whole task may take.
    type: int
    default: 3600
seealso:
  - module: vmfork.vsphere.vapp_backup
  - module: vmfork.vsphere.vm_vapp_options
notes:
  - The required vCenter privileges are C(VApp.ApplicationConfig) and C(VApp.InstanceConfig) on the VMs. They are listed
    in C(playbooks/files/privileges/vapp_options.txt).
"""

EXAMPLES = r"""
- name: Export the vApp options of two VMs
  vmfork.vsphere.vm_ovfenv_info:
    name: [appliance-01, appliance-02]
    export: true
  register: kept

- name: Restore them, if they have lost them in the meantime
  vmfork.vsphere.vapp_restore:
    vms:
      - moid: "{{ kept.ovfenv[0].moid }}"
        restore_from: "{{ kept.ovfenv[0].export }}"
        secret_values:
          guestinfo.root_password: "{{ root_password }}"
      - moid: "{{ kept.ovfenv[1].moid }}"
        restore_from: "{{ kept.ovfenv[1].export }}"
"""

RETURN = r"""
vms:
  description: The result for each entry of O(vms), in the same order.
  returned: when the VMs were read
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM. If it was not found, its name in the document.
      type: str
    moid:
      description: Managed object ID of the VM.
      type: str
    changed:
      description: Whether its vApp options were changed, or would be in check mode.
      type: bool
    failed:
      description: Whether it could not be restored.
      type: bool
    msg:
      description: The reason, as a sentence. Empty if it has not failed.
      type: str
    needs_power_cycle:
      description: See RV(vmfork.vsphere.vm_vapp_options#module:needs_power_cycle). Null if the restore failed.
      type: bool
    power_cycle_reason:
      description: See RV(vmfork.vsphere.vm_vapp_options#module:power_cycle_reason). Null if the restore failed.
      type: str
    secrets_written:
      description: Full keys of the properties to which a secret was written. Null if the restore failed.
      type: list
      elements: str
    secrets_kept:
      description: See RV(vmfork.vsphere.vm_vapp_options#module:secrets_kept). Null if the restore failed.
      type: list
      elements: str
    not_restored:
      description: See RV(vmfork.vsphere.vm_vapp_options#module:not_restored). Null if the restore failed.
      type: list
      elements: str
"""

import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _arguments,
    _errors,
    _inventory,
    _module,
    _printable,
    _privileges,
    _properties,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import (
    examine,
    masking,
    vapp_request,
    vapp_result,
    vapp_write,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


class Target(t.NamedTuple):
    """A VM and what to restore to it.

    :param request: the request, or the reason why the document cannot be restored, as a sentence.
    """

    moid: str
    name: str
    request: vapp_request.Request | str


class Request(t.NamedTuple):
    """The request of a task."""

    targets: t.Sequence[Target]
    concurrency: int


RESULT = ("needs_power_cycle", "power_cycle_reason", "secrets_written", "secrets_kept", "not_restored")
"""What is returned for a VM that was restored, besides whether it was changed."""


class Restore:
    """The restore of one VM.

    :ivar writer: ``None``: it cannot be restored, and the result has the reason.
    :ivar result: its entry in the module's ``vms``.
    :ivar diff: what was changed; empty: nothing.
    """

    def __init__(self, session: Session, target: Target, vm: examine.Examined | None) -> None:
        self._session = session
        self._target = target
        self._vm = vm
        self._name = target.name if vm is None else vm.found.name
        self.writer: vapp_write.VappWriter | None = None
        self.diff: dict[str, t.Any] = {}
        self.result: dict[str, t.Any] = {"name": self._name, "moid": target.moid, "changed": False, "failed": True}
        self.result.update(msg="", **dict.fromkeys(RESULT))

    def prepare(self, known: t.Mapping[t.Any, _properties.Values]) -> None:
        """Compare the VM with the document.

        :param known: the properties of all VMs, see :data:`vapp_write.PATHS`.
        """
        if self._vm is None:
            self.result["msg"] = (
                f"VM {self._target.moid} ({self._name} in the document) was not found. Check whether the user can see "
                "it."
            )
        elif isinstance(self._target.request, str):
            self.result["msg"] = self._target.request
        else:
            vm = self._vm.found.vm
            try:
                self.writer = vapp_write.VappWriter(
                    self._session, self._session.deadline, vm, self._name, self._target.request, known.get(vm, {})
                )
            except _errors.Error as error:
                self.fail(error)

    def carry_out(self, act: t.Callable[[], None]) -> None:
        """Carry out the change, if there is one; see :func:`vapp_result.carry_out`."""
        if self.writer is None or self._vm is None:
            return
        try:
            written = vapp_result.carry_out(act, self.writer, self._vm)
        except (_errors.Error, _errors.Interrupted) as error:
            self.fail(error)
            return
        self.result.update({key: written[key] for key in ("changed", *RESULT)}, failed=False)
        if written["changed"]:
            self.diff = {**written["diff"], "before_header": self._name, "after_header": self._name}

    def fail(self, error: _errors.Error | _errors.Interrupted) -> None:
        """Record why the VM could not be restored."""
        sentence, interruption = error.sentence, self._session.budget.interruption
        if interruption is not None:  # a thread notices a signal as the end of its time
            left = self.writer.unfinished if self.writer is not None else ""
            sentence = f"VM {self._name} was not finished. {interruption.sentence} {left}".rstrip()
        self.result.update(changed=error.details.get("changed", False), msg=sentence)
        self.writer = None


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Restore the vApp options."""
    targets = task.request.targets
    if not session.is_vcenter:
        raise _errors.Refused(
            f"No VM was changed: {session.name} is an ESXi host, and only vCenter keeps vApp options. Set hostname to "
            "the vCenter."
        )
    restores = _prepared(session, targets)
    if task.check_mode:
        _check(session, restores)
    else:
        _write_all(session, restores, task.request.concurrency)
    for restore in restores:
        for caution in restore.writer.change.cautions if restore.writer is not None else ():
            task.warn(caution)
    diffs = [restore.diff for restore in restores if restore.diff] if task.diff_mode else []
    return _result([restore.result for restore in restores], diffs)


def _prepared(session: Session, targets: t.Sequence[Target]) -> list[Restore]:
    """Compare the VMs with their documents, with a constant number of calls."""
    selection = _inventory.Selection(moid=[target.moid for target in targets])
    questions = examine.Questions(
        forked_from=identity.forked_from, fork_paths=(identity.RECORD_PATH,), mask=masking.Mask()
    )
    found = examine.examine(session, session.deadline, selection, questions, absent=[]) if targets else []
    known = _properties.read(session, [vm.found.vm for vm in found], vapp_write.PATHS)
    by_moid = {vm.found.moid: vm for vm in found}
    restores = [Restore(session, target, by_moid.get(target.moid)) for target in targets]
    for restore in restores:
        restore.prepare(known)
    return restores


def _check(session: Session, restores: t.Sequence[Restore]) -> None:
    """Check the user's privileges for all changes with one call."""
    runs = {restore: restore.writer.steps for restore in restores if restore.writer is not None}
    refusals = _privileges.refusals(session, runs)
    for restore in restores:
        if restore in refusals:
            restore.fail(refusals[restore])
        restore.carry_out(lambda: None)


def _write_all(session: Session, restores: t.Sequence[Restore], concurrency: int) -> None:
    """Write the VMs in parallel, and report the progress."""
    count, failed = _printable.count(len(restores), "VM"), 0
    session.progress.show(f"0 of {count} done", 0, len(restores))
    with ThreadPoolExecutor(concurrency, initializer=session.budget.shared()) as pool:
        written = zip(restores, pool.map(_write, restores), strict=True)
        for done, (restore, _nothing) in enumerate(written, 1):
            failed += restore.result["failed"]
            text = f"{done} of {count} done{f', {failed} failed' if failed else ''}"
            session.progress.show(text, done, len(restores))


def _write(restore: Restore) -> None:
    if restore.writer is not None:
        restore.carry_out(restore.writer.write)


def _result(results: list[dict[str, t.Any]], diffs: list[dict[str, t.Any]]) -> _module.Result:
    result: _module.Result = {"changed": any(vm["changed"] for vm in results), "vms": results}
    if diffs:
        result["diff"] = diffs
    failed = [vm for vm in results if vm["failed"]]
    if failed:
        more = f" And {len(failed) - 1} more; see vms." if len(failed) > 1 else ""
        counted = f"{len(failed)} of {_printable.count(len(results), 'VM')}"
        raise _errors.OperationFailed(f"{counted} could not be restored. {failed[0]['msg']}{more}", **result)
    return result


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    if params["concurrency"] < 1:
        raise _errors.BadInput(f"concurrency is {params['concurrency']}, but must be at least 1. Correct it.")
    moids = [entry["moid"].strip() for entry in params["vms"]]
    repeated = sorted({moid for moid in moids if moids.count(moid) > 1})
    if repeated:
        raise _errors.BadInput(f"vms has several entries for VM {', VM '.join(repeated)}. Remove all but one of each.")
    if not all(moids):
        raise _errors.BadInput("An entry of vms has an empty moid. Set it, or remove the entry.")
    return Request([_target(entry, params) for entry in params["vms"]], params["concurrency"])


def _target(entry: t.Mapping[str, t.Any], params: _arguments.Params) -> Target:
    document = entry["restore_from"]
    about = document.get("vm")
    name = str(about["name"]) if isinstance(about, dict) and about.get("name") else "without a name"
    try:
        request: vapp_request.Request | str = vapp_request.restore(
            document,
            entry["secret_values"] or {},
            params["restore_keys"] or (),
            overwrite=entry["overwrite"],
            force=params["force"],
            update_secrets=params["update_secrets"],
        )
    except _errors.BadInput as error:
        request = f"VM {name} is left unchanged. {error.sentence}"
    return Target(entry["moid"].strip(), name, request)


SPEC: _arguments.Spec = {
    "vms": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "moid": {"type": "str", "required": True},
            "restore_from": {"type": "dict", "required": True},
            "secret_values": {"type": "dict", "no_log": True},
            "overwrite": {"type": "bool", "default": False},
        },
    },
    "restore_keys": {"type": "list", "elements": "str", "no_log": False},
    "update_secrets": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
    "force": {"type": "bool", "default": False},
    "concurrency": {"type": "int", "default": 4},
    "timeout": {"type": "int", "default": 3600},
}


def main() -> None:
    """Run the module."""
    _module.run(work, {**_arguments.progress_spec(), **SPEC}, parse)


if __name__ == "__main__":
    main()
