# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    # The VMs that the task is about.
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Names of VMs.
      - If several VMs have a name, the task fails and lists their inventory paths. Narrow it with O(folder) or
        O(datacenter), or use O(moid) or O(inventory_path).
      - O(name), O(moid), O(uuid) and O(inventory_path) can be combined. Without any of the four, all VMs below
        O(folder) or in O(datacenter) are selected. Without these, all VMs that the user can see.
      - Names require reading the names of all VMs in their scope. The other three read these VMs only.
    type: list
    elements: str
  moid:
    description: Managed object IDs of VMs, for example V(vm-42).
    type: list
    elements: str
  uuid:
    description:
      - BIOS UUIDs of VMs; with O(use_instance_uuid=true) their instance UUIDs.
    type: list
    elements: str
  use_instance_uuid:
    description: Whether O(uuid) contains instance UUIDs.
    type: bool
    default: false
  inventory_path:
    description: Inventory paths of VMs, for example V(/Datacenter/vm/appliances/web-01).
    type: list
    elements: str
  folder:
    description:
      - Select VMs, or search for O(name), below this VM folder only.
      - An inventory path such as V(/Datacenter/vm/appliances), or a path below the datacenter's VM folder such as
        V(appliances).
    type: str
  datacenter:
    description: Select VMs, or search for O(name), in this datacenter only. Name or managed object ID.
    type: str
"""
