#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_info
short_description: List fork parents and their children (Instant Clones)
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Lists every fork parent that the user can see, with its children, and the children whose parent no longer exists.
  - vSphere 6.7 and newer do not have fork parents and do not record the source of an Instant Clone. There, parents are
    the VMs that are quiesced at the fork point or have children, and children are the VMs created by
    M(vmfork.vsphere.vmfork_child).
  - If a VM is given, lists this VM only, as a parent or as a child. The module then also asks the server for the
    relation, if the server supports it. If the user lacks the privilege, the task prints a warning and lists the
    children that it can see.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.attributes.info
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
  - vmfork.vsphere.vm
options:
  name:
    description:
      - Name of the VM. At most one of O(name), O(moid), O(uuid) and O(inventory_path) may be given.
    type: str
  folder:
    description:
      - Search for O(name) below this VM folder only. Without a VM, list the parents that are below it or have a child
        there, each with all of its children.
      - An inventory path such as V(/Datacenter/vm/templates), or a path below the datacenter's VM folder such as
        V(templates).
    type: str
  datacenter:
    description:
      - Like O(folder), for a datacenter. Name or managed object ID.
    type: str
  timeout:
    description: Seconds the whole task may take.
    type: int
    default: 300
seealso:
  - module: vmfork.vsphere.vmfork_child
  - module: vmfork.vsphere.vmfork_parent
"""

EXAMPLES = r"""
- name: List all fork parents and their children
  vmfork.vsphere.vmfork_info:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
  register: forks

- name: Show the addresses of golden's children
  vmfork.vsphere.vmfork_info:
    name: golden
  register: golden

- name: Print them
  ansible.builtin.debug:
    msg: "{{ golden.parents[0].children | map(attribute='ip_addresses') | flatten }}"
"""

RETURN = r"""
parents:
  description:
    - The fork parents, sorted by name. Each has the keys that M(vmfork.vsphere.vmfork_parent) returns as
      RV(ignore:parent).
    - A VM that is no longer a fork parent is listed as long as it has children.
  returned: success
  type: list
  elements: dict
  contains:
    children:
      description:
        - Its children, sorted by name.
        - Each has the keys of RV(ignore:parent), and RV(ignore:child_type) to RV(ignore:guest_hostname) as
          M(vmfork.vsphere.vmfork_child) returns them.
      type: list
      elements: dict
      contains:
        recorded:
          description: Whether M(vmfork.vsphere.vmfork_child) created it. That module only removes such children.
          type: bool
        identity:
          description:
            - What the identity script reported in the child, as M(vmfork.vsphere.vmfork_child) returns it, or V(null).
            - C(renewed) is V(true) if that module has accepted and recorded it, and no other child or parent that is
              listed has the same machine ID or SSH host key. Otherwise only the guest itself has reported it.
          type: dict
          version_added: 0.2.0
  sample:
    - name: golden
      moid: vm-42
      quiesced: true
      children:
        - name: web-01
          moid: vm-57
          ip_addresses: ["192.0.2.11"]
          recorded: true
          identity: null
without_parent:
  description:
    - Children whose parent no longer exists or is not visible to the user, with the same keys as children.
    - vSphere 6.0 does not show the parent of a child. If no VM is given, children that were created by other tools are
      listed here too.
  returned: success
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import listing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


class Request(t.NamedTuple):
    """The request of a task: one VM, or all below a folder and a datacenter."""

    vm: _inventory.Selector | None
    folder: str | None
    datacenter: str | None
    engine: _arguments.EngineChoice


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    vm, engine = _arguments.optional_vm(params), _arguments.engine(params)
    return Request(vm, params["folder"], params["datacenter"], engine)


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """List parents and children."""
    request = task.request
    engine = select.choose(session, *request.engine)
    only = within = None
    if request.vm is not None:
        only = parents.find(session, engine, request.vm)
    else:
        within = _inventory.vms_within(session, request.folder, request.datacenter)
    return {"changed": False, **listing.list_parents(session, engine, session.deadline, only, task.warn, within)}


def main() -> None:
    """Run the module."""
    _module.run(
        work,
        {**_arguments.vm_spec(), **_arguments.engine_spec(), "timeout": {"type": "int", "default": 300}},
        parse,
        **_arguments.vm_constraints(required=False),
    )


if __name__ == "__main__":
    main()
