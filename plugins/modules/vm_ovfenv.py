#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_ovfenv
short_description: Redeliver the OVF environment (vApp properties) of a VM to its guest
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Makes sure that the guest of a VM has its OVF environment. A VM that has lost it is shut down, powered on again
    through vCenter, which is the only way to deliver it, and examined again.
  - A VM whose verdict by M(vmfork.vsphere.vm_ovfenv_info) begins with V(delivered), or is V(nothing_to_deliver), is
    left unchanged. A VM that is powered off is powered on.
  - Before the VM is changed, the module asks vCenter whether it could power the VM on again, and compares the addresses
    that the guest would receive with those that it uses.
  - Forks and running fork parents, VMs protected by Fault Tolerance, the VM that this vCenter runs in, and VMs that a
    power cycle would not help are left unchanged, and the task fails. The same applies to VMs whose verdict is
    V(unknown) or V(cleared), and to VMs whose name or power state somebody else changes in the meantime.
  - If another task is running on the VM, the module waits for it until O(timeout) and examines the VM again. The VM is
    left unchanged if the other task has brought the OVF environment back. The task fails if the VM no longer matches
    the plan.
  - Works with vCenter only. An ESXi host cannot deliver an OVF environment.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.guest
  - vmfork.vsphere.vm
attributes:
  check_mode:
    support: full
    details: Returns the plan and its risks, and fails where the real run would refuse.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: The OVF environment is in the guest.
    type: str
    choices: [delivered]
    default: delivered
  shutdown:
    description:
      - How to power off the VM.
      - V(guest) asks VMware Tools to shut down the guest, V(hard) cuts the power.
      - The task fails with V(guest) if VMware Tools does not run.
    type: str
    choices: [guest, hard]
    default: guest
  accept_risks:
    description:
      - Risks to accept. Any other risk makes the task fail before the VM is changed.
      - V(address_change). The guest will receive an address that it does not use now.
      - V(no_ip_pool). A property must be computed at power-on, and the network that it names has no IP pool, or one
        that cannot provide the value. vCenter may then refuse to power on the VM.
      - V(guest_not_seen). The confidence of the verdict is not high, usually because the guest was not probed. Set
        O(guest_probe) to make it certain.
      - V(contradictory). The verdict is V(contradictory), which means that vCenter powered on the VM, but its guest has
        no OVF environment. Another power-on may not help.
      - V(foreign_id). The OVF environment contains another VM's ID. The VM may be an Instant Clone or a fork created by
        another tool. A power cycle destroys its memory.
      - V(may_be_fork). Nothing proves that the VM was powered on, and its disks are delta disks, which snapshots,
        linked clones, forks and Instant Clones have. If it is a fork or an Instant Clone created by another tool, a
        power cycle destroys its memory.
      - V(data_loss). Powering off the VM discards what was written to a nonpersistent disk, or reverts the VM to its
        snapshot.
      - V(required_empty). A property of a type that does not allow an empty value, such as C(ip) or C(string(1..)), has
        no value. vCenter then refuses to power on the VM. Set a value first.
    type: list
    elements: str
    choices:
      - guest_not_seen
      - contradictory
      - foreign_id
      - may_be_fork
      - data_loss
      - address_change
      - no_ip_pool
      - required_empty
    default: []
  guest_probe:
    description:
      - Whether to probe the guest before and after the power cycle. See M(vmfork.vsphere.vm_ovfenv_info).
      - Without it, the verdict after a power cycle is V(delivered_assumed) at best.
    type: str
    choices: [none, exit_code, full]
    default: none
  timeout:
    description:
      - Seconds the whole task may take. If the VM was shut down, the task takes up to 120 seconds more to power it on
        and to examine it again.
      - No shutdown is started with less than 120 seconds left, or less than half the time of a shorter task. A guest
        that shuts down too late stays off until somebody powers on the VM, and the error message of the task says so.
    type: int
    default: 900
seealso:
  - module: vmfork.vsphere.vm_ovfenv_info
notes:
  - RV(before) contains the vApp options in C(configured), apart from secrets, so that the configuration is on record.
"""

EXAMPLES = r"""
- name: Plan the repair and list its risks
  vmfork.vsphere.vm_ovfenv:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: appliance-01
  check_mode: true
  register: would

- name: Show the plan
  ansible.builtin.debug:
    var: would.plan

- name: Redeliver the OVF environment, and verify it in the guest
  vmfork.vsphere.vm_ovfenv:
    name: appliance-01
    guest_probe: exit_code
    guest_username: root
    guest_password: "{{ guest_password }}"

# ansible localhost -m vmfork.vsphere.vm_ovfenv -a "name=appliance-01 accept_risks=guest_not_seen,address_change"
"""

RETURN = r"""
before:
  description: The facts before the repair, as an entry of RV(vmfork.vsphere.vm_ovfenv_info#module:ovfenv).
  returned: when the VM was found in a vCenter
  type: dict
after:
  description: The facts after the power cycle. In check mode, and when nothing was done, it equals RV(before).
  returned: when the VM was found in a vCenter
  type: dict
plan:
  description: The steps that were needed, with their risks.
  returned: when the VM was found in a vCenter
  type: dict
  contains:
    steps:
      description: The steps. Empty if nothing had to be done.
      type: list
      elements: str
    risks:
      description: Risks, each with V(name), V(message), and whether it was V(accepted).
      type: list
      elements: dict
    notes:
      description: Other things to consider.
      type: list
      elements: str
  sample:
    steps: [shut down the guest, power on through vCenter, wait for VMware Tools, judge again]
    risks: []
    notes: []
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import examine, masking, plan, repair
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


class Request(t.NamedTuple):
    """What a task requests."""

    vm: _inventory.Selector
    options: repair.Options


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    questions = examine.Questions(
        forked_from=identity.forked_from,
        fork_paths=(identity.RECORD_PATH,),
        mask=masking.Mask(),
        probe=params["guest_probe"],
        login=_arguments.guest(params) if params["guest_probe"] != "none" else None,
    )
    return Request(_arguments.vm(params), repair.Options(questions, params["shutdown"], params["accept_risks"]))


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Redeliver the OVF environment if it is lost."""
    options = task.request.options
    mask = options.questions.mask
    found = _inventory.find_vm(session, task.request.vm, [])
    if not session.is_vcenter:
        raise _errors.Refused(
            f"VM {found.name} is left unchanged: {session.name} is an ESXi host, and only vCenter delivers an OVF "
            "environment. Set hostname to the vCenter. If there is none, inject a document with ovftool "
            "(--X:injectOvfEnv --powerOn) or govc (InjectOvfEnv in the options of import.ova)."
        )
    target = repair.RepairTarget(session, session.deadline, found.vm, options, task.warn)
    is_due = not target.is_delivered

    def result() -> _module.Result:
        return {
            "before": examine.facts(target.before, mask),
            "after": examine.facts(target.after, mask),
            "plan": target.plan.facts(options.accepted),
        }

    try:
        target.prepare()
        if is_due and not task.check_mode:
            target.repair()
    except (_errors.Error, _errors.Interrupted) as error:
        error.details.update(changed=target.is_touched, **result())
        raise
    changed = is_due if task.check_mode else target.is_touched
    return {"changed": changed, **result(), "diff": _diff(target, changed)}


def _diff(target: repair.RepairTarget, changed: bool) -> dict[str, dict[str, str]]:
    """Return the verdict before and after; in check mode, the verdict of a successful run."""
    before, after = target.before.diagnosis.status, target.after.diagnosis.status
    return {
        "before": {"ovf_environment": before},
        "after": {"ovf_environment": "delivered" if changed and after == before else after},
    }


SPEC: _arguments.Spec = {
    "state": {"type": "str", "choices": ["delivered"], "default": "delivered"},
    "shutdown": {"type": "str", "choices": ["guest", "hard"], "default": "guest"},
    "accept_risks": {"type": "list", "elements": "str", "choices": list(plan.RISKS), "default": []},
    "guest_probe": {"type": "str", "choices": ["none", "exit_code", "full"], "default": "none"},
    "timeout": {"type": "int", "default": 900},
}


def main() -> None:
    """Run the module."""
    _module.run(
        work,
        {**_arguments.vm_spec(), **_arguments.guest_spec(), **SPEC},
        parse,
        **_arguments.vm_constraints(),
    )


if __name__ == "__main__":
    main()
