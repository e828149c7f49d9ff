# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vapp_restore_plan
author: vmfork.vsphere contributors (@vmfork)
version_added: 0.2.0
short_description: Decide which VMs get their vApp options back from a backup
description:
  - Compares a backup of vApp options with the existing VMs, and returns for each VM of the backup what to do.
  - VMs are matched by instance UUID, then by BIOS UUID, and by name only with O(match_name). An entry that several VMs
    match is ambiguous and not restored.
  - Used by the playbook C(vmfork.vsphere.vapp_restore). Decides without pyVmomi and without a connection.
positional: _input, vms
options:
  _input:
    description: A backup, as the lookup P(vmfork.vsphere.vapp_backup#lookup) returns it.
    type: dict
    required: true
  vms:
    description: >-
      The existing VMs, C(ovfenv) as M(vmfork.vsphere.vm_ovfenv_info) returns it with C(export=true).
    type: list
    elements: dict
    required: true
  only:
    description: Names or instance UUIDs of VMs of the backup. All of them if empty.
    type: list
    elements: str
    default: []
  keys:
    description: Full keys of the properties to restore. All of them if empty.
    type: list
    elements: str
    default: []
  match_name:
    description: Whether a VM that neither UUID matches is matched by its name.
    type: bool
    default: false
  overwrite:
    description: Whether to overwrite VMs that already have vApp options.
    type: bool
    default: false
  force:
    description: Whether to restore to a VM with another product or version.
    type: bool
    default: false
  site_map:
    description:
      - Values that are different at this site.
      - C(vms) has for each VM of the backup, by name or instance UUID, values by full key.
      - C(subnets) has subnets and their replacements. An address keeps its host part. Only values that are an address
        with or without a prefix length, or a list of such addresses, are translated.
    type: dict
    default: {}
  secrets:
    description: Secrets by name or instance UUID of the VM in the backup, and by full key. Only their keys are used.
    type: dict
    default: {}
  update_secrets:
    description: Whether given secrets are a reason to write a VM that is otherwise the same, with O(overwrite).
    type: bool
    default: false
  confirmed:
    description: Names or managed object IDs of the VMs that may be changed.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what a restore would do
  ansible.builtin.debug:
    msg: >-
      {{ lookup('vmfork.vsphere.vapp_backup', '/srv/vapp_backup')
         | vmfork.vsphere.vapp_restore_plan(result.ovfenv, match_name=true) }}
"""

RETURN = r"""
_value:
  description:
    - C(faults) lists what is wrong with the input. If it is not empty, nothing may be written.
    - C(warnings) lists sentences.
    - C(rows) has an entry for each VM. Its C(action) is V(restore), V(overwrite), V(same), V(differs), V(nothing),
      V(not_found), V(ambiguous) or V(refused), and its C(reason) is the reason for that.
    - C(documents) has the document of each VM to be written, by managed object ID.
  type: dict
"""

import dataclasses
import typing as t

import ansible.template
from ansible.errors import AnsibleFilterError

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import site_map as maps
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_restore
from ansible_collections.vmfork.vsphere.plugins.plugin_utils import containers

if hasattr(ansible.template, "trust_as_template"):

    def as_data(value: t.Any) -> t.Any:
        """Return a value that is never evaluated as a template. With ansible-core 2.19 and newer, no result is."""
        return value

else:
    from ansible.utils.unsafe_proxy import wrap_var as as_data


def vapp_restore_plan(backup: t.Any, vms: t.Any, **given: t.Any) -> t.Any:
    """Return the planned action for each VM of a backup."""
    if not isinstance(backup, dict) or not isinstance(vms, (list, tuple)):
        raise AnsibleFilterError("vapp_restore_plan needs a backup and a list of VMs.")
    unknown = given.keys() - _OPTIONS
    if unknown:
        raise AnsibleFilterError(f"vapp_restore_plan has no option {', '.join(sorted(unknown))}.")
    sites, faults = maps.read(containers.plain(given.get("site_map")))
    secrets, wrong = _secrets(given.get("secrets"))
    options = vapp_restore.Options(
        **{name: bool(given.get(name)) for name in ("match_name", "overwrite", "force", "update_secrets")},
        vms=tuple(map(str, given.get("only") or ())),
        keys=tuple(map(str, given.get("keys") or ())),
        confirmed=tuple(map(str, given.get("confirmed") or ())),
        site_map=sites,
        secrets=secrets,
    )
    plan = vapp_restore.plan(
        containers.plain(backup.get("index")),
        containers.plain(backup.get("documents")) or {},
        containers.plain(vms),
        options,
    )
    plan.faults[:0] = faults + wrong
    shown = _printable.result({**dataclasses.asdict(plan), "documents": {}})
    return as_data({**shown, "documents": plan.documents})


_OPTIONS = {
    "only", "keys", "match_name", "overwrite", "force", "site_map", "secrets", "update_secrets", "confirmed"
}  # fmt: skip


def _secrets(given: t.Any) -> tuple[dict[str, dict[str, t.Any]], list[str]]:
    """Return the keys of the given secrets, without reading any secret, and what is wrong with them."""
    if given in (None, "", {}):
        return {}, []
    if not isinstance(given, dict) or not all(isinstance(keys, dict) for keys in given.values()):
        return {}, ["vapp_restore_secrets needs a dictionary of full keys and values for each VM"]
    return {
        str(vm): {str(key): None if value is None else "given" for key, value in keys.items()}
        for vm, keys in given.items()
    }, []


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by their names."""
        return {"vapp_restore_plan": vapp_restore_plan}
