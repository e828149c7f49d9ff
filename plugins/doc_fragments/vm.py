# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    # The VM that the task is about.
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the VM.
      - If several VMs have this name, the task fails and lists their inventory paths. Narrow it with O(folder) or
        O(datacenter), or use O(moid) or O(inventory_path).
      - Exactly one of O(name), O(moid), O(uuid) and O(inventory_path) is required.
      - A name requires reading the names of all VMs in its scope. The other three read this VM only.
    type: str
  moid:
    description: Managed object ID of the VM, for example V(vm-42).
    type: str
  uuid:
    description:
      - BIOS UUID of the VM; with O(use_instance_uuid=true) its instance UUID.
    type: str
  use_instance_uuid:
    description: Whether O(uuid) is an instance UUID.
    type: bool
    default: false
  inventory_path:
    description: Inventory path of the VM, for example V(/Datacenter/vm/templates/golden).
    type: str
  folder:
    description:
      - Search for O(name) below this VM folder only. A VM directly in the folder is preferred to VMs with the same name
        further below.
      - An inventory path such as V(/Datacenter/vm/templates), or a path below the datacenter's VM folder such as
        V(templates).
    type: str
  datacenter:
    description: Search for O(name) in this datacenter only. Name or managed object ID.
    type: str
"""

    # The parent of the VMs that the task is about.
    PARENT = r"""
options:
  parent_name:
    description:
      - Name of the parent VM.
      - If several VMs have this name, the task fails and lists their inventory paths.
      - Exactly one of O(parent_name), O(parent_moid), O(parent_uuid) and O(parent_inventory_path) is required.
    type: str
  parent_moid:
    description: Managed object ID of the parent VM, for example V(vm-42).
    type: str
  parent_uuid:
    description:
      - BIOS UUID of the parent VM; with O(parent_use_instance_uuid=true) its instance UUID.
    type: str
  parent_use_instance_uuid:
    description: Whether O(parent_uuid) is an instance UUID.
    type: bool
    default: false
  parent_inventory_path:
    description: Inventory path of the parent VM, for example V(/Datacenter/vm/templates/golden).
    type: str
  parent_folder:
    description:
      - Search for O(parent_name) below this VM folder only. A VM directly in the folder is preferred to VMs with the
        same name further below.
    type: str
  parent_datacenter:
    description: Search for O(parent_name) in this datacenter only. Name or managed object ID.
    type: str
"""
