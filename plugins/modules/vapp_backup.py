#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vapp_backup
short_description: Back up the vApp options of VMs to files on the controller
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Writes one file for each VM that has vApp options, and an index. The playbook C(vmfork.vsphere.vapp_restore) and
    O(vmfork.vsphere.vm_vapp_options#module:restore_from) restore them, which is needed after a site recovery, or if a
    VM was registered again without its vApp options.
  - The files are suitable for version control. They contain no times and have a stable order, and a file is only
    written if its content has changed.
  - A VM that has lost its vApp options, or all properties that are in its file, never overwrites that file. Its state
    is V(gone). To save the current options of the VM, remove the file.
  - A file is kept when its VM is no longer among the VMs of the task.
  - If a VM cannot be saved, the others are, the index is marked as incomplete, and the task fails. It also fails if no
    VM was found, because the user may not see the VMs.
  - Reads only the configuration of the VMs, in a constant number of calls. The role Read-only is enough.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.vms
attributes:
  check_mode:
    support: full
    details: Reads the VMs and writes no file.
  diff_mode:
    support: full
    details: Secrets are masked, including encrypted ones.
  idempotent:
    support: full
options:
  directory:
    description:
      - Directory of the backup on the controller. It is created if it does not exist, with the mode V(0700). Files have
        the mode V(0600). Several backups can be saved into it at the same time, because each waits until another has
        written its files.
      - The name of a file is the instance UUID of its VM. Files with other names are left unchanged.
    type: path
    required: true
  secrets:
    description:
      - How to save secrets that vCenter shows, such as license keys and Ignition data.
      - With V(reference), the files name them without their values.
      - With V(vault), the values are encrypted with the Ansible Vault password of O(vault_id). A value that has not
        changed is not encrypted again.
      - The values of properties of type password cannot be read. The files only name them.
      - OVF sections and license agreements that seem to contain secrets are saved like secrets. Names of products,
        labels, categories and descriptions of properties are texts of the vendor, and are saved as they are.
    type: str
    choices: [reference, vault]
    default: reference
  vault_id:
    description:
      - ID of a vault password that this run of Ansible has, for example from C(--vault-id) or from a Vault credential
        of AWX. A password that was given without an ID has the ID V(default).
      - Only used with O(secrets=vault).
    type: str
    default: default
  mask_patterns:
    description:
      - Regular expressions. Properties whose full key matches one, and OVF sections whose type matches one, are
        secrets, in addition to those that O(vmfork.vsphere.vm_ovfenv_info#module:mask=sensitive) recognizes. Matching
        is case-insensitive.
    type: list
    elements: str
    default: []
  transport_key:
    description:
      - Do not set it. The controller and the module use it to encrypt the data between them.
    type: str
  timeout:
    description: Maximum number of seconds for reading the VMs.
    type: int
    default: 600
requirements:
  - cryptography, on the controller and where the module runs, with O(secrets=vault).
seealso:
  - module: vmfork.vsphere.vm_ovfenv_info
  - module: vmfork.vsphere.vm_vapp_options
"""

EXAMPLES = r"""
- name: Back up the vApp options of all VMs in a folder
  vmfork.vsphere.vapp_backup:
    folder: appliances
    directory: /srv/vapp_backup
  delegate_to: localhost

- name: Save license keys, too, encrypted with the vault password of an ID
  vmfork.vsphere.vapp_backup:
    directory: /srv/vapp_backup
    secrets: vault
    vault_id: vapp
  delegate_to: localhost
"""

RETURN = r"""
directory:
  description: Directory of the backup.
  returned: when the VMs were read
  type: str
  sample: /srv/vapp_backup
complete:
  description: Whether all VMs of the task were read and saved. False if there are none.
  returned: when the VMs were read
  type: bool
files:
  description: Names of the files that were written, or that check mode would write.
  returned: when the VMs were read
  type: list
  elements: str
  sample: [50050d8f-0000-0000-0000-000000000001.json, index.json]
vms:
  description: VMs that have vApp options or a file, and those that could not be saved.
  returned: when the VMs were read
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM.
      type: str
    moid:
      description: Managed object ID of the VM. Null if it is not among the VMs of the task.
      type: str
    instance_uuid:
      description: Instance UUID of the VM. Null if it could not be read.
      type: str
    inventory_path:
      description: Inventory path of the VM, or its path when the file was written.
      type: str
    file:
      description: Name of its file. Null if it has no usable file.
      type: str
    state:
      description:
        - V(saved), V(gone) if the VM has lost the options in its file, V(not_read) if it could not be saved, or
          V(not_in_scope) if it is not among the VMs of the task.
      type: str
    change:
      description: Change of its file. V(created), V(updated) or V(none).
      type: str
    message:
      description: The reason why it was not saved, as a clause. Empty otherwise.
      type: str
  sample:
    - name: appliance-01
      moid: vm-42
      instance_uuid: 50050d8f-0000-0000-0000-000000000001
      inventory_path: /Datacenter/vm/appliances/appliance-01
      file: 50050d8f-0000-0000-0000-000000000001.json
      state: saved
      change: created
      message: ""
summary:
  description: Counts of VMs.
  returned: when the VMs were read
  type: dict
  contains:
    total:
      description: VMs of the task.
      type: int
    saved:
      description: VMs whose vApp options are in a file.
      type: int
    written:
      description: Files that were written, or that check mode would write, without the index.
      type: int
    gone:
      description: VMs that have lost their vApp options.
      type: int
    not_read:
      description: VMs that could not be saved.
      type: int
  sample: {total: 40, saved: 12, written: 1, gone: 0, not_read: 0}
"""

import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _encodings, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import masking, vapp_export, vapp_payload
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

PATHS = ("config.instanceUuid", "config.uuid", "config.vAppConfig", "runtime.connectionState")


@dataclass(frozen=True)
class Request:
    """What a task requests.

    :param scope: the options that select VMs, for the index.
    :param passwords: the passwords of this task, in all their encodings. They must not be saved.
    :param key: encrypts the data on its way to the action plugin; ``None``: they contain no secrets.
    """

    selection: _inventory.Selection
    scope: t.Mapping[str, t.Any]
    mask_patterns: t.Sequence[str]
    passwords: t.Collection[str] = field(repr=False)
    key: str | None = field(repr=False)


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    key, patterns = params["transport_key"], params["mask_patterns"]
    masking.Mask("sensitive", patterns)
    if params["secrets"] == "vault" and key is None:
        raise _errors.BadInput("secrets=vault needs the action plugin of this module. Call the module from a playbook.")
    if key is not None and not vapp_payload.CAN_ENCRYPT:
        raise _errors.BadInput(
            "The Python that runs the module lacks the library cryptography, which secrets=vault needs. Install it."
        )
    passwords = _arguments.secrets({**_arguments.connection_spec(), **SPEC}, params)
    forms = passwords.union(*(_encodings.forms(password) for password in passwords))
    return Request(_arguments.vms(params), _scope(params), patterns, forms, key)


def _scope(params: _arguments.Params) -> dict[str, t.Any]:
    """Return the scope of the task for the index."""
    named = {f"{name}s": sorted(params[name] or []) for name in ("name", "moid", "uuid", "inventory_path")}
    return {**named, "folder": params["folder"], "datacenter": params["datacenter"]}


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Read the vApp options of the VMs. The action plugin writes the files."""
    request = task.request
    absent: list[str] = []
    found = _inventory.find_vms(session, request.selection, PATHS, absent=absent)
    vms = [_vm(vm, request.mask_patterns, request.passwords) for vm in found]
    vms += [{"name": name, "moid": None, "reason": "it was not found"} for name in absent]
    about = {"vcenter": session.server.hostname, "scope": request.scope}

    def packed(data: t.Any) -> t.Any:
        return vapp_payload.pack(data, request.key)

    return {
        "changed": False,
        "about": packed(about),
        "vms": [{"name": vm["name"], "moid": vm["moid"], "content": packed(vm)} for vm in vms],
    }


def _vm(vm: _inventory.Found, patterns: t.Sequence[str], passwords: t.Collection[str]) -> dict[str, t.Any]:
    """Return the data of a VM for the files.

    :param passwords: see :class:`Request`.
    """
    result = {"name": vm.name, "moid": vm.moid, "inventory_path": vm.inventory_path}
    values = vm.values
    if not any(path.startswith("config.") for path in values):
        state = str(values.get("runtime.connectionState", "connected"))
        why = f"it is {state}" if state != "connected" else "check the privileges of the user"
        return {**result, "reason": f"vCenter does not show its configuration ({why})"}
    document, hidden = vapp_export.document_and_secrets(vm.name, values, values.get("config.vAppConfig"), patterns)
    if any(password in text for text in _texts({**document, "vm": None}) for password in passwords):
        return {
            **result,
            "reason": "a password of this run is part of its vApp options and must not be saved; use a longer password",
        }
    return {**result, "document": document, "secrets": hidden}


def _texts(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


SPEC: _arguments.Spec = {
    "directory": {"type": "path", "required": True},
    "secrets": {"type": "str", "choices": ["reference", "vault"], "default": "reference"},
    "vault_id": {"type": "str", "default": "default"},
    "mask_patterns": {"type": "list", "elements": "str", "default": []},
    "transport_key": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Run the module."""
    _module.run(work, {**_arguments.vms_spec(), **SPEC}, parse)


if __name__ == "__main__":
    main()
