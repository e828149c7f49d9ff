#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_parent
short_description: Enable or disable a VM as a fork parent (the source of an Instant Clone)
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - A fork parent is a VM whose running state, including memory, can be copied into children in about a second.
  - Enabling a parent is the first of three steps. M(vmfork.vsphere.vmfork_quiesce) quiesces it at the fork point, and
    M(vmfork.vsphere.vmfork_child) creates the children.
  - A VM can be enabled while it is running or powered off.
  - vSphere 6.7 and newer do not need this step. There O(state=enabled) changes nothing, so that the same playbook works
    with all versions, and O(state=disabled) only concerns a VM that is quiesced at the fork point.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
  - vmfork.vsphere.vm
attributes:
  check_mode:
    support: full
    details: The task asks vCenter whether the user has the required privileges, and fails if not.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(enabled) enables the VM as a fork parent.
      - V(disabled) makes it an ordinary VM that is not quiesced at the fork point and has no record of scripts.
    type: str
    choices: [enabled, disabled]
    default: enabled
  esxi_hostname:
    description:
      - The ESXi host to pass to the method that enables the parent. Name, inventory path or managed object ID.
      - By default the server uses the VM's current host, which is right in nearly all cases.
      - With Instant Clone, children are created on the parent's own host, and any other host is refused.
    type: str
  force:
    description:
      - Allow O(state=disabled) while children of the VM are running. The server decides what happens to them.
    type: bool
    default: false
  power_off:
    description:
      - Allow O(state=disabled) to power off the VM (hard) if it is quiesced at the fork point.
      - There is no other way out of that state. The contents of the VM's memory are lost.
    type: bool
    default: false
  timeout:
    description: Seconds the whole task may take.
    type: int
    default: 300
notes:
  - The required privileges are C(VirtualMachine.Interact.PowerOff) for O(power_off), and with the VMFork methods also
    C(VirtualMachine.Config.ToggleForkParent).
  - On servers that keep guestinfo values when a VM is powered off, O(state=disabled) also removes the record of the
    scripts. This requires C(VirtualMachine.Config.AdvancedConfig). Without it, the record is left and the task prints a
    warning.
seealso:
  - module: vmfork.vsphere.vmfork_quiesce
  - module: vmfork.vsphere.vmfork_child
  - module: vmfork.vsphere.vmfork_info
"""

EXAMPLES = r"""
# On vSphere 6.7 and newer this changes nothing. It is needed in a playbook that also supports 6.0 and 6.5.
- name: Enable golden as a fork parent
  vmfork.vsphere.vmfork_parent:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: golden

- name: Disable it, even if it is quiesced at its fork point
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
      description: Whether it is enabled as a fork parent. V(null) if the API does not need this.
      type: bool
      sample: true
    quiesced:
      description: Whether it is quiesced at the fork point.
      type: bool
      sample: false
    quiesced_at:
      description: When it was quiesced, in UTC by the guest's clock. V(null) if not quiesced or not known.
      type: str
      sample: "2026-01-31T08:15:02Z"
    fork_group_id:
      description: ID of the fork group of its children, if the server shows it (vSphere 6.5).
      type: str
      sample: "52 4f 1c"
    guest_family:
      description: Family of the guest operating system as VMware Tools reports it.
      type: str
      sample: linuxGuest
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


class Request(t.NamedTuple):
    """The request of a task."""

    vm: _inventory.Selector
    engine: _arguments.EngineChoice
    enabled: bool
    esxi_hostname: str | None
    force: bool
    power_off: bool


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    return Request(
        vm=_arguments.vm(params),
        engine=_arguments.engine(params),
        enabled=params["state"] == "enabled",
        esxi_hostname=params["esxi_hostname"],
        force=params["force"],
        power_off=params["power_off"],
    )


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Enable or disable the fork parent."""
    request = task.request
    deadline = session.deadline
    engine = select.choose(session, *request.engine)
    parent = parents.find(session, engine, request.vm)
    before = parent.facts()
    if request.enabled:
        changed = parents.enable(parent, deadline, request.esxi_hostname, task.check_mode)
    else:
        changed = parents.disable(parent, deadline, request.force, request.power_off, task.check_mode, task.warn)
    after = _predict(before, request) if task.check_mode and changed else parent.facts()
    return {"changed": changed, "parent": after, "diff": {"before": before, "after": after}}


def _predict(before: _module.Result, request: Request) -> _module.Result:
    if request.enabled:
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
    """Run the module."""
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
        parse,
        **_arguments.vm_constraints(),
    )


if __name__ == "__main__":
    main()
