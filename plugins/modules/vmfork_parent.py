#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_parent
short_description: Make a VM a fork parent (the source of an Instant Clone), or an ordinary VM again
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - A fork parent is a VM whose running state, memory included, can be copied into children in about a second.
  - Being a parent is the first of three steps. M(vmfork.vsphere.vmfork_quiesce) stops it at the fork point, and
    M(vmfork.vsphere.vmfork_child) makes the children.
  - A VM can be made a parent while it is powered off as well as while it runs.
  - vSphere 6.7 and newer need no enabling. There O(state=enabled) changes nothing, so that the same playbook runs on
    all versions, and O(state=disabled) has only to do with a VM that stands still at the fork point.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
  - vmfork.vsphere.vm
attributes:
  check_mode:
    support: full
    details: vCenter is asked whether the user has the privileges for what would be done. The task fails if not.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(enabled) makes the VM a fork parent.
      - V(disabled) makes it an ordinary VM, which does not stand still at the fork point either, and has no record of
        scripts that it was quiesced with.
    type: str
    choices: [enabled, disabled]
    default: enabled
  esxi_hostname:
    description:
      - The ESXi host to hand to the server's method when enabling. Name, inventory path or managed object ID.
      - The server takes the VM's own host when it is left out, which is right for nearly everybody.
      - With Instant Clone, children are made on the parent's own host. There it must be that host, or is refused.
    type: str
  force:
    description:
      - Allow O(state=disabled) while children of the VM run. The server decides what happens to them.
    type: bool
    default: false
  power_off:
    description:
      - Allow O(state=disabled) to power the VM off hard when it stands still at the fork point.
      - There is no other way out of that state. What the VM holds in memory is lost.
    type: bool
    default: false
  timeout:
    description: Seconds the whole task may take.
    type: int
    default: 300
notes:
  - With Instant Clone, no privileges are needed but with O(power_off), C(VirtualMachine.Interact.PowerOff).
  - With the VMFork methods, O(state=enabled) and O(state=disabled) need C(VirtualMachine.Config.ToggleForkParent), too.
  - On servers that keep guestinfo values when a VM is powered off, O(state=disabled) also removes the record of the
    scripts with which the VM was quiesced. That needs C(VirtualMachine.Config.AdvancedConfig). Without it, the task
    warns that the record is left.
seealso:
  - module: vmfork.vsphere.vmfork_quiesce
  - module: vmfork.vsphere.vmfork_child
  - module: vmfork.vsphere.vmfork_info
"""

EXAMPLES = r"""
# On vSphere 6.7 and newer this changes nothing. It is there for a playbook that also runs on 6.0 and 6.5.
- name: Make golden a fork parent
  vmfork.vsphere.vmfork_parent:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: golden

- name: Make it an ordinary VM again, also when it stands at its fork point
  vmfork.vsphere.vmfork_parent:
    name: golden
    state: disabled
    power_off: true
"""

RETURN = r"""
parent:
  description: The VM after the task. In check mode, the VM as the task would leave it.
  returned: success, and failure to change the VM
  type: dict
  contains:
    name:
      description: Name of the VM.
      type: str
      sample: golden
    moid:
      description: Managed object ID.
      type: str
      sample: vm-42
    instance_uuid:
      description: Instance UUID, unique within its vCenter.
      type: str
      sample: 5026b3c8-4d3a-2f57-8c1e-9a6f04c8d1b7
    uuid:
      description: BIOS UUID.
      type: str
      sample: 4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11
    inventory_path:
      description: Inventory path.
      type: str
      sample: /Datacenter/vm/templates/golden
    esxi_hostname:
      description: Name of the ESXi host it is on.
      type: str
      sample: esxi-03.example.com
    power_state:
      description: Power state, as vSphere names it.
      type: str
      sample: poweredOn
    api:
      description: The generation of the fork API that was used.
      type: str
      sample: vmfork
    enabled:
      description: Whether it is a fork parent. V(null) where the API does not need that.
      type: bool
      sample: true
    quiesced:
      description: Whether it stands still at the fork point.
      type: bool
      sample: false
    quiesced_at:
      description: When it was stopped, in UTC by the guest's clock. V(null) when it is not stopped or nobody noted it.
      type: str
      sample: "2026-01-31T08:15:02Z"
    fork_group_id:
      description: The group that its children belong to, where the server tells it (vSphere 6.5).
      type: str
      sample: "52 4f 1c"
    guest_family:
      description: Family of the guest operating system as VMware Tools reports it.
      type: str
      sample: linuxGuest
"""

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import engine as engines
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


def work(task: _module.Task, session: Session) -> _module.Result:
    """Bring the VM into the wanted state."""
    params = task.params
    deadline = session.deadline
    engine = engines.choose(session, params["api"], params["call_via"])
    parent = parents.find(session, engine, _arguments.vm(params))
    before = parent.facts()
    if params["state"] == "enabled":
        changed = parents.enable(parent, deadline, params["esxi_hostname"], task.check_mode)
    else:
        changed = parents.disable(parent, deadline, params["force"], params["power_off"], task.check_mode, task.warn)
    after = _predict(before, params) if task.check_mode and changed else parent.facts()
    return {"changed": changed, "parent": after, "diff": {"before": before, "after": after}}


def _predict(before: _module.Result, params: _arguments.Params) -> _module.Result:
    if params["state"] == "enabled":
        return {**before, "enabled": True}
    after = {
        **before,
        "enabled": before["enabled"] and False,
        "quiesced": False,
        "quiesced_at": None,
        "fork_group_id": None,
    }
    if before["quiesced"]:
        after["power_state"] = "poweredOff"
    return after


def main() -> None:
    """Entry point."""
    _module.run(
        work,
        {
            **_arguments.vm_spec(),
            **_arguments.engine_spec(),
            "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
            "esxi_hostname": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "power_off": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 300},
        },
        **_arguments.vm_constraints(),
    )


if __name__ == "__main__":
    main()
