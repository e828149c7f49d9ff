#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_ovfenv
short_description: Bring the OVF environment (vApp properties) of a VM back into its guest
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Makes sure that the guest of a VM has its OVF environment. A VM that has lost it is shut down and powered on
    again through vCenter, which is the only way to bring it back, and looked at once more.
  - A VM whose verdict by M(vmfork.vsphere.vm_ovfenv_info) is V(delivered), or any other that begins so, or
    V(nothing_to_deliver), is left alone. One that is powered off is powered on.
  - Before anything is touched, vCenter is asked whether it could power the VM on again, and the addresses that
    the guest would be told are compared with those it uses.
  - Forks and running fork parents, VMs protected by Fault Tolerance, the VM that this vCenter runs in, and VMs that a
    power cycle would not help are left as they are, and the task fails. So are VMs whose verdict is V(unknown) or
    V(cleared), and VMs whose name or power state somebody else changes meanwhile.
  - When another task is at work on the VM, that is waited for until O(timeout). Then the VM is examined again. It is
    left alone if the other task has brought the OVF environment back, and refused if it is no longer what was planned
    for.
  - Works with a vCenter only. An ESXi host cannot deliver an OVF environment.
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
      - How the VM is powered off.
      - V(guest) asks VMware Tools to shut the guest down, V(hard) cuts the power.
      - Where VMware Tools does not run, V(guest) is refused.
    type: str
    choices: [guest, hard]
    default: guest
  accept_risks:
    description:
      - Risks that are accepted. Any other that is there makes the task fail before anything is touched.
      - V(address_change) that the guest will be told an address that it does not use now.
      - V(no_ip_pool) that a property must be computed at power-on, and the network that it names has no IP pool, or one
        that cannot give what is asked for. vCenter may then refuse to power the VM on.
      - V(guest_not_seen) that the verdict is not of high confidence, as a rule since nobody has looked into the guest.
        O(guest_probe) turns a suspicion into knowledge.
      - V(contradictory) that the verdict is V(contradictory), vCenter powered the VM on and its guest has no OVF
        environment all the same. Another power-on may not help.
      - V(foreign_id) that the OVF environment bears another VM's ID. The VM may be an Instant Clone or a fork made by
        another tool, whose memory a power cycle throws away.
      - V(may_be_fork) that nothing proves that the VM was powered on, and its disks are delta disks, as with snapshots,
        linked clones, and forks and Instant Clones. If it is one of the latter, made by another tool, a power cycle
        throws its memory away.
      - V(data_loss) that powering the VM off throws away what was written to a nonpersistent disk, or reverts the VM to
        its snapshot.
      - V(required_empty) that a property of a type that does not take an empty value, such as C(ip) or C(string(1..)),
        has none. vCenter then refuses to power the VM on. Give it a value first.
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
      - Whether to look into the guest, before and after. See M(vmfork.vsphere.vm_ovfenv_info).
      - Without it, the verdict after a power cycle is V(delivered_assumed) at best.
    type: str
    choices: [none, exit_code, full]
    default: none
  timeout:
    description:
      - Seconds the whole task may take. If the VM was shut down, the task takes up to 120 seconds more to power it on
        and to examine it again.
      - No shutdown is begun with less than 120 seconds left, or less than half the time of a shorter task. A guest that
        goes down too late stays off until somebody powers it on, and the task fails with a sentence that says so.
    type: int
    default: 900
seealso:
  - module: vmfork.vsphere.vm_ovfenv_info
notes:
  - The vApp options, apart from secrets, are in C(configured) of RV(before), so that what was configured is on record.
"""

EXAMPLES = r"""
- name: See what would be done, and what could go wrong
  vmfork.vsphere.vm_ovfenv:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: appliance-01
  check_mode: true
  register: would

- name: Show it
  ansible.builtin.debug:
    var: would.plan

- name: Bring the OVF environment back, and see it in the guest
  vmfork.vsphere.vm_ovfenv:
    name: appliance-01
    guest_probe: exit_code
    guest_username: root
    guest_password: "{{ guest_password }}"

# ansible localhost -m vmfork.vsphere.vm_ovfenv -a "name=appliance-01 accept_risks=guest_not_seen,address_change"
"""

RETURN = r"""
before:
  description: What was known before, as an entry of RV(vmfork.vsphere.vm_ovfenv_info#module:ovfenv).
  returned: when the VM was found in a vCenter
  type: dict
after:
  description: The same after the power cycle. In check mode, and when nothing was done, it is RV(before).
  returned: when the VM was found in a vCenter
  type: dict
plan:
  description: What had to be done.
  returned: when the VM was found in a vCenter
  type: dict
  contains:
    steps:
      description: The steps in words. Empty when nothing had to be done.
      type: list
      elements: str
    risks:
      description: Risks, each with V(name), V(message), and whether it was V(accepted).
      type: list
      elements: dict
    notes:
      description: What else to think of.
      type: list
      elements: str
  sample:
    steps: [shut down the guest, power on through vCenter, wait for VMware Tools, judge again]
    risks: []
    notes: []
"""

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import examine, masking, plan, repair
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


def work(task: _module.Task, session: Session) -> _module.Result:
    """Bring the OVF environment back, where it is lost."""
    params = task.params
    found = _inventory.find_vm(session, _arguments.vm(params), [])
    if not session.is_vcenter:
        raise _errors.Refused(
            f"VM {found.name} is left as it is: {session.name} is an ESXi host, and only vCenter delivers an OVF "
            "environment. Give the vCenter in hostname. Where there is none, inject a document with ovftool "
            "(--X:injectOvfEnv --powerOn) or govc (InjectOvfEnv in the options of import.ova)."
        )
    mask = masking.Mask()
    way = repair.Cure(
        questions=examine.Questions(
            forked_from=identity.forked_from,
            fork_paths=(identity.RECORD_PATH,),
            mask=mask,
            probe=params["guest_probe"],
            login=_arguments.guest(params) if params["guest_probe"] != "none" else None,
        ),
        shutdown=params["shutdown"],
        accepted=params["accept_risks"],
    )
    target = repair.RepairTarget(session, session.deadline, found.vm, way, task.warn)
    is_due = not target.is_delivered

    def result() -> _module.Result:
        return {
            "before": examine.facts(target.before, mask),
            "after": examine.facts(target.after, mask),
            "plan": target.plan.facts(params["accept_risks"]),
        }

    try:
        target.prepare()
        if is_due and not task.check_mode:
            target.repair()
    except _errors.Error as error:
        error.details.update(changed=target.is_touched, **result())
        raise
    changed = is_due if task.check_mode else target.is_touched
    return {"changed": changed, **result(), "diff": _diff(target, changed)}


def _diff(target: repair.RepairTarget, changed: bool) -> dict[str, dict[str, str]]:
    """The verdict before and after; in check mode what a success would be."""
    before, after = target.before.diagnosis.status, target.after.diagnosis.status
    return {
        "before": {"ovf_environment": before},
        "after": {"ovf_environment": "delivered" if changed and after == before else after},
    }


def check(params: _arguments.Params) -> None:
    """Refuse what cannot be right."""
    _arguments.vm(params)
    if params["guest_probe"] != "none":
        _arguments.guest(params)


SPEC: _arguments.Spec = {
    "state": {"type": "str", "choices": ["delivered"], "default": "delivered"},
    "shutdown": {"type": "str", "choices": ["guest", "hard"], "default": "guest"},
    "accept_risks": {"type": "list", "elements": "str", "choices": list(plan.RISKS), "default": []},
    "guest_probe": {"type": "str", "choices": ["none", "exit_code", "full"], "default": "none"},
    "timeout": {"type": "int", "default": 900},
}


def main() -> None:
    """Entry point."""
    _module.run(
        work,
        {**_arguments.vm_spec(), **_arguments.guest_spec(), **SPEC},
        check=check,
        **_arguments.vm_constraints(),
    )


if __name__ == "__main__":
    main()
