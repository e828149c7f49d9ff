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
attributes:
  check_mode:
    support: full
    details: Fails if the real run would refuse, and asks vCenter whether the user has the privileges.
  diff_mode:
    support: full
    details: Secrets are masked.
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

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module, _printable
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


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Restore the vApp options."""
    targets = task.request.targets
    if not session.is_vcenter:
        raise _errors.Refused(
            f"No VM was changed: {session.name} is an ESXi host, and only vCenter keeps vApp options. Set hostname to "
            "the vCenter."
        )
    selection = _inventory.Selection(moid=[target.moid for target in targets])
    questions = examine.Questions(
        forked_from=identity.forked_from, fork_paths=(identity.RECORD_PATH,), mask=masking.Mask()
    )
    found = examine.examine(session, session.deadline, selection, questions, absent=[]) if targets else []
    by_moid = {vm.found.moid: vm for vm in found}

    def restore(target: Target) -> tuple[dict[str, t.Any], list[str], dict[str, t.Any]]:
        return _restore(session, target, by_moid.get(target.moid), task.check_mode)

    results, diffs = [], []
    with ThreadPoolExecutor(task.request.concurrency, initializer=session.budget.shared()) as pool:
        for result, cautions, diff in pool.map(restore, targets):
            results.append(result)
            diffs.append(diff)
            for caution in cautions:
                task.warn(caution)
    return _result(results, [diff for diff in diffs if diff])


def _restore(
    session: Session, target: Target, vm: examine.Examined | None, check_mode: bool
) -> tuple[dict[str, t.Any], list[str], dict[str, t.Any]]:
    """Restore one VM; return its result, warnings, and its difference if it was changed."""
    name = target.name if vm is None else vm.found.name
    result = {"name": name, "moid": target.moid, "changed": False, "failed": True, "msg": "", **dict.fromkeys(RESULT)}
    if vm is None:
        reason = f"VM {target.moid} ({name} in the document) was not found. Check whether the user can see it."
        return {**result, "msg": reason}, [], {}
    if isinstance(target.request, str):
        return {**result, "msg": target.request}, [], {}
    writer = None
    try:
        writer = vapp_write.VappWriter(session, session.deadline, vm.found.vm, name, target.request)
        written = vapp_result.write(writer, vm, check_mode)
    except (_errors.Error, _errors.Interrupted) as error:
        sentence, interruption = error.sentence, session.budget.interruption
        if interruption is not None:  # a thread notices a signal as the end of its time
            left = writer.unfinished if writer is not None else ""
            sentence = f"VM {name} was not finished. {interruption.sentence} {left}".rstrip()
        return {**result, "changed": error.details.get("changed", False), "msg": sentence}, [], {}
    done = {name: written[name] for name in ("changed", *RESULT)}
    diff = {**written["diff"], "before_header": name, "after_header": name} if written["changed"] else {}
    return {**result, **done, "failed": False}, writer.change.cautions, diff


def _result(results: list[dict[str, t.Any]], diffs: list[dict[str, t.Any]]) -> _module.Result:
    result: _module.Result = {
        "changed": any(vm["changed"] for vm in results),
        "vms": results,
        "diff": diffs,
    }
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
    _module.run(work, SPEC, parse)


if __name__ == "__main__":
    main()
