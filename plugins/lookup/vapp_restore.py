# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vapp_restore
author: vmfork.vsphere contributors (@vmfork)
version_added: 0.2.0
short_description: Turn a plan of a restore into arguments of the module vapp_restore
description:
  - Returns an entry of O(vmfork.vsphere.vapp_restore#module:vms) for each VM that a plan restores or overwrites, with
    the secrets of the backup decrypted as by P(vmfork.vsphere.vapp_secrets#lookup). Fails if one cannot be decrypted.
  - The result contains secrets. Use it as an argument of a task only, never in a loop or in a registered variable.
  - Used by the playbook C(vmfork.vsphere.vapp_restore).
options:
  _terms:
    description: A plan, as the filter P(vmfork.vsphere.vapp_restore_plan#filter) returns it.
    required: true
  secrets:
    description: Additional secrets by name or instance UUID of the VM in the backup, and by full key.
    type: dict
    default: {}
  keys:
    description: Full keys of the properties to restore. All of them if empty.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Read the VMs of the backup
  vmfork.vsphere.vm_ovfenv_info:
    candidates: "{{ lookup('vmfork.vsphere.vapp_backup', '/srv/vapp_backup').index.vms | map(attribute='name') }}"
    export: true
  register: result

- name: Decide which of them have lost their vApp options
  ansible.builtin.set_fact:
    plan: >-
      {{ lookup('vmfork.vsphere.vapp_backup', '/srv/vapp_backup')
         | vmfork.vsphere.vapp_restore_plan(result.ovfenv, match_name=true) }}

- name: Restore them
  vmfork.vsphere.vapp_restore:
    vms: "{{ query('vmfork.vsphere.vapp_restore', plan, secrets={'appliance-01': {'root_password': root_password}}) }}"
  when: plan.faults | length == 0
"""

RETURN = r"""
_raw:
  description: Entries for O(vmfork.vsphere.vapp_restore#module:vms), in the order of the plan's rows.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleError

from ansible_collections.vmfork.vsphere.plugins.lookup import vapp_secrets
from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_restore


def entries(
    plan: t.Mapping[str, t.Any],
    decrypt: t.Callable[[str], str],
    secrets: t.Mapping[str, t.Mapping[str, t.Any]],
    keys: t.Collection[str],
) -> list[dict[str, t.Any]]:
    """Return the arguments of the module for the VMs that a plan writes.

    :raises AnsibleError: a secret cannot be decrypted.
    """
    result = []
    for row in plan["rows"]:
        if row["action"] in vapp_restore.WRITTEN:
            given = vapp_restore.of_vm(secrets, row["backup_name"], row["instance_uuid"])
            clear = vapp_secrets.decrypted(plan["documents"][row["moid"]], decrypt, given, keys)
            if clear["fault"]:
                raise AnsibleError(f"VM {_printable.text(row['name'])}: {_printable.text(clear['fault'])}")
            result.append(
                {
                    "moid": row["moid"],
                    "restore_from": clear["document"],
                    "secret_values": clear["secret_values"],
                    "overwrite": row["action"] == "overwrite",
                }
            )
    return result


class LookupModule(vapp_secrets.LookupModule):
    """See DOCUMENTATION."""

    def run(self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """Return the arguments for all VMs to be written."""
        self.set_options(var_options=variables, direct=kwargs)
        secrets, keys = self.get_option("secrets"), self.get_option("keys")
        return [entry for plan in terms for entry in entries(plan, self._decrypt, secrets, keys)]
