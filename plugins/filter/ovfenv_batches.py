# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ovfenv_batches
short_description: Split VMs into batches without two VMs of the same product
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Splits VMs into batches whose VMs may be down at the same time. The VMs of a cluster run the same product, so no
    batch contains two VMs of the same product.
  - A product is identified by its vendor and its name, ignoring case. VMs without a product can be in any batch.
  - The order is kept as far as possible. A VM whose product is already in the batch waits for the next one, and later
    VMs may overtake it.
  - If Ansible masks a password in these texts, different products may look the same. This can only make batches
    smaller.
positional: size
options:
  _input:
    description: VMs as RV(vmfork.vsphere.vm_ovfenv_info#module:ovfenv), the most urgent first.
    type: list
    elements: dict
    required: true
  size:
    description: The maximum number of VMs in a batch, at least 1.
    type: int
    required: true
seealso:
  - module: vmfork.vsphere.vm_ovfenv_info
"""

EXAMPLES = r"""
- name: Show which VMs could be power-cycled in parallel
  ansible.builtin.debug:
    msg: "{{ result.ovfenv | vmfork.vsphere.ovfenv_batches(8) | map('map', attribute='name') }}"
"""

RETURN = r"""
_value:
  description: The batches. Each VM is in one of them.
  type: list
  elements: list
"""

import typing as t

from ansible.errors import AnsibleFilterError

VM = t.Mapping[str, t.Any]


def batches(vms: t.Sequence[VM], size: int) -> list[list[VM]]:
    """Split VMs into batches of at most ``size``, none of which contains two VMs of the same product.

    :raises AnsibleFilterError: ``size`` is not a positive number.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise AnsibleFilterError("ovfenv_batches: size must be an integer of at least 1.")
    waiting = list(vms)
    result = []
    while waiting:
        batch: list[VM] = []
        left: list[VM] = []
        present: set[tuple[str, str]] = set()
        for vm in waiting:
            own = _products(vm)
            if len(batch) < size and not own & present:
                batch.append(vm)
                present |= own
            else:
                left.append(vm)
        result.append(batch)
        waiting = left
    return result


def _products(vm: VM) -> set[tuple[str, str]]:
    """Return vendor and name of each product that has at least one of them."""
    products = ((vm.get("configured") or {}).get("products")) or []
    named = ((_plain(product.get("vendor")), _plain(product.get("name"))) for product in products)
    return {product for product in named if any(product)}


def _plain(text: object) -> str:
    return str(text or "").strip().casefold()


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"ovfenv_batches": batches}
