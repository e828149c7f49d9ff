#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_vapp_options
short_description: Write the vApp options (OVF properties) of a VM
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Writes the vApp options of a VM. vCenter creates the OVF environment from them at the next power-on.
  - Sets, blanks, resets, adds and removes properties, and sets the transports and the IP allocation.
  - All options are checked before anything is sent. If one of them is refused, nothing is changed, and the error lists
    all problems.
  - The change is one reconfigure of the VM, or two if O(not_user_configurable=force) needs a second one. If somebody
    else changes the VM between the read and the reconfigure, vCenter refuses it, and the module reads the VM and
    compares again, so that the other change is not overwritten.
  - The VM is never restarted. Use M(vmfork.vsphere.vm_ovfenv) for a power cycle through vCenter, which delivers the
    new values.
  - Works with vCenter only. An ESXi host does not keep vApp options.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.vm
attributes:
  check_mode:
    support: full
    details: Fails if the real run would refuse, and asks vCenter whether the user has the privileges.
  diff_mode:
    support: full
    details: Values are masked as in RV(before).
  idempotent:
    support: partial
    details: With O(update_secrets=always), passwords are written in every run, because vCenter does not return them.
options:
  enabled:
    description:
      - V(true) adds vApp options to a VM that has none.
      - V(false) removes all vApp options. This needs O(force=true), and no other option that writes something. The
        removed options are returned in RV(export).
      - If it is not set, the task fails for a VM without vApp options.
    type: bool
  force:
    description:
      - Whether O(enabled=false) may remove vApp options. A warning lists what is lost.
      - Whether O(restore_from) may be from another product or version than that of the VM.
    type: bool
    default: false
  properties:
    description:
      - Properties with all their attributes. Attributes that are not set stay unchanged.
      - A property is identified by O(properties[].key), or by O(properties[].id) with O(properties[].class_id) and
        O(properties[].instance_id).
    type: list
    elements: dict
    suboptions:
      key:
        description: >-
          Full key of the property, C([class.]id[.instance]), as in C(key) of
          RV(vmfork.vsphere.vm_ovfenv_info#module:ovfenv[].configured).
        type: str
      id:
        description: ID of the property, the second part of its full key.
        type: str
      class_id:
        description: Class ID of the property, the first part of its full key.
        type: str
      instance_id:
        description: Instance ID of the property, the last part of its full key.
        type: str
      state:
        description:
          - V(present) makes sure that the property exists with these values.
          - V(absent) makes sure that the property does not exist.
          - V(reset) makes sure that the property has no value of its own, so that its default is delivered.
        type: str
        choices: [present, absent, reset]
        default: present
      value:
        description:
          - Value of the property. See O(values).
          - Set passwords in O(secret_values).
        type: raw
      default:
        description: Default of the property, or the expression of a property of type V(expression).
        type: raw
      type:
        description:
          - Type of the property, for example V(string), V(string(1..64\)), V(password(8..\)), V(int(0..255\)),
            V(boolean), V(ip), V(ip:VM Network) or V(expression).
          - Integer types of OVF descriptors such as V(uint8) are accepted too.
          - A new property has the type V(string), or V(password) if its value is in O(secret_values).
        type: str
      label:
        description: Label of the property. An empty string removes it.
        type: str
      category:
        description: Category of the property. An empty string removes it.
        type: str
      description:
        description: Description of the property. An empty string removes it.
        type: str
      user_configurable:
        description: Whether the property is user-configurable. A new property is user-configurable by default.
        type: bool
  values:
    description:
      - Values of properties by their full keys, C([class.]id[.instance]).
      - An empty string blanks the property, including its default, because vCenter would deliver the default instead of
        an empty value. Use O(properties[].state=reset) to have the default delivered.
      - Numbers are written as they are. A boolean is accepted for a property of type V(boolean) only. Put any other
        value that YAML would convert in quotes.
      - Values are checked against the types of the properties.
    type: dict
  secret_values:
    description:
      - Like O(values), for passwords and other secrets. They are masked everywhere.
      - The values of password properties are only accepted here.
    type: dict
  update_secrets:
    description:
      - When to write the values of password properties. vCenter never returns them, so they cannot be compared.
      - V(on_create) writes a password when its property is added, or edited for another reason.
      - V(always) writes it in every run, so the task is always changed.
      - Secrets in properties of other types are compared and written when they differ.
    type: str
    choices: [on_create, always]
    default: on_create
  transport:
    description:
      - How the OVF environment is delivered. V(com.vmware.guestInfo) is through VMware Tools, V(iso) is a CD-ROM.
      - An empty list delivers nothing.
    type: list
    elements: str
    choices: [com.vmware.guestInfo, iso]
  ip_allocation:
    description:
      - How addresses are allocated for properties that take them from a network.
      - For a VM in a vApp, the settings of the outermost vApp are used instead.
    type: dict
    suboptions:
      policy:
        description: The IP allocation policy.
        type: str
        choices: [dhcpPolicy, transientPolicy, fixedPolicy, fixedAllocatedPolicy]
      protocol:
        description: The IP protocol in use, one of the supported ones.
        type: str
        choices: [IPv4, IPv6]
      supported_schemes:
        description: How the guest software can get its address. An empty list clears this.
        type: list
        elements: str
        choices: [dhcp, ovfenv]
      supported_protocols:
        description: The IP protocols that the guest software supports. An empty list clears this.
        type: list
        elements: str
        choices: [IPv4, IPv6]
  restore_from:
    description:
      - An entry of C(export) of M(vmfork.vsphere.vm_ovfenv_info), or a file of a backup, as
        P(vmfork.vsphere.vapp_backup#lookup) reads it and P(vmfork.vsphere.vapp_secrets#lookup) decrypts it.
      - Everything in it is written, which is properties, products, license agreements, OVF sections, transports, the IP
        allocation and the settings of the first boot.
      - O(properties), O(values), O(secret_values), O(transport) and O(ip_allocation) override it. Set its secrets in
        O(secret_values). Secrets that are not set are returned in RV(not_restored).
      - Properties that it marks as secrets are masked in the return values, regardless of their names.
      - Implies O(enabled=true) and O(unknown=create).
      - Anything else that the VM has is left unchanged, unless O(exact) is true. If the VM has another product or
        version, the task fails unless O(force) is true.
    type: dict
  restore_keys:
    description:
      - Full keys of the properties to restore. By default, all of them are restored.
      - Anything else in O(restore_from), such as products and transports, is only written to a VM without vApp options.
    type: list
    elements: str
  overwrite:
    description:
      - Whether O(restore_from) may change a VM that already has properties of it. With V(false), the task fails.
    type: bool
    default: true
  unknown:
    description:
      - What to do with properties that the VM does not have.
      - V(fail) makes the task fail and names similar keys. V(create) adds them.
      - A new property whose key has dots is assigned to the class and instance of an existing product or property if
        they match. Otherwise the entire key is its ID. The delivered key is the same.
    type: str
    choices: [fail, create]
    default: fail
  not_user_configurable:
    description:
      - What to do with a new value for a property that is not user-configurable, which vCenter refuses.
      - V(fail) makes the task fail. V(skip) leaves the value as it is and returns the key in RV(skipped).
        V(force) makes the property user-configurable and writes the value. If O(properties[].user_configurable) or
        O(restore_from) defines it as not user-configurable, a second reconfigure restores that.
      - If vCenter does not accept the value of such a property when it is added, the value is written as its default.
        The guest receives the same value. A password is never written as a default, and the task fails.
    type: str
    choices: [fail, force, skip]
    default: fail
  exact:
    description:
      - Whether to remove properties that are not in O(properties), O(values), O(secret_values) or O(restore_from). With
        O(restore_from), other products and OVF sections are removed too.
    type: bool
    default: false
  timeout:
    description: Seconds the whole task may take.
    type: int
    default: 300
seealso:
  - module: vmfork.vsphere.vm_ovfenv_info
  - module: vmfork.vsphere.vm_ovfenv
notes:
  - The required vCenter privileges are C(VApp.ApplicationConfig) and C(VApp.InstanceConfig) on the VM.
    C(VApp.InstanceConfig) alone is enough to set values. With C(VApp.ExtractOvfEnvironment), RV(needs_power_cycle) is
    more certain if nothing was changed. They are listed in C(playbooks/files/privileges/vapp_options.txt).
  - The values of O(values) and of O(properties) are masked in the invocation, because they may be secrets.
"""

EXAMPLES = r"""
- name: Set properties of an appliance
  vmfork.vsphere.vm_vapp_options:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: appliance-01
    values:
      vami.ip0.Appliance: 192.0.2.10
      vami.DNS.Appliance: 192.0.2.53
      guestinfo.syslog: ""
    secret_values:
      guestinfo.root_password: "{{ root_password }}"
  register: options

- name: Deliver them
  vmfork.vsphere.vm_ovfenv:
    name: appliance-01
    accept_risks: [guest_not_seen]
  when: options.needs_power_cycle

- name: Add a property, and remove another
  vmfork.vsphere.vm_vapp_options:
    name: ubuntu-01
    unknown: create
    transport: [com.vmware.guestInfo]
    properties:
      - key: network-config
        type: string
        label: Encoded network configuration
        value: "{{ lookup('file', 'network.yml') | b64encode }}"
      - key: seedfrom
        state: absent

- name: Export the vApp options of a VM
  vmfork.vsphere.vm_ovfenv_info:
    name: [appliance-01]
    export: true
  register: kept

- name: Restore them, for example after a failover
  vmfork.vsphere.vm_vapp_options:
    name: appliance-01
    restore_from: "{{ kept.ovfenv[0].export }}"
    secret_values:
      guestinfo.root_password: "{{ root_password }}"

# ansible localhost -m vmfork.vsphere.vm_vapp_options -a '{"name": "appliance-01", "values": {"hostname": "web-01"}}'
"""

RETURN = r"""
before:
  description: >-
    The vApp options before the change, as C(configured) of
    RV(vmfork.vsphere.vm_ovfenv_info#module:ovfenv). Secrets are masked.
  returned: when the VM was found in a vCenter and could be read
  type: dict
after:
  description: The vApp options after the change. In check mode, the expected result.
  returned: when the VM was found in a vCenter and could be read
  type: dict
needs_power_cycle:
  description:
    - Whether the VM must be powered off and on through vCenter before its guest has these vApp options.
    - Also true if nothing was changed, but the guest does not have the configured values yet.
  returned: when the VM was found in a vCenter and could be read
  type: bool
power_cycle_reason:
  description: The reason, as a sentence. Empty if no power cycle is needed.
  returned: when the VM was found in a vCenter and could be read
  type: str
skipped:
  description: Full keys of the properties whose values O(not_user_configurable=skip) has not changed.
  returned: success
  type: list
  elements: str
secrets_written:
  description: Full keys of the properties to which a secret was written.
  returned: success
  type: list
  elements: str
secrets_kept:
  description: >-
    Full keys of the password properties that were not changed, because they cannot be compared. It is not known whether
    their values are those of O(secret_values).
  returned: success
  type: list
  elements: str
export:
  description: >-
    The vApp options that O(enabled=false) has removed, as C(export) of
    RV(vmfork.vsphere.vm_ovfenv_info#module:ovfenv), for O(restore_from). Secrets are left out. Null when nothing was
    removed. In check mode, what would be removed.
  returned: when the VM was found in a vCenter and could be read
  type: dict
not_restored:
  description: >-
    Full keys of the properties that were added without their secrets, because neither O(restore_from) nor
    O(secret_values) contains them. Also V(OVF section TYPE) or V(license agreements), if O(restore_from)
    leaves them out because they may contain secrets, and the VM has none.
  returned: success
  type: list
  elements: str
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import (
    examine,
    masking,
    vapp_request,
    vapp_result,
    vapp_write,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


class Request(t.NamedTuple):
    """The request of a task."""

    vm: _inventory.Selector
    options: vapp_request.Request


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Write the vApp options."""
    request = task.request.options
    found = _inventory.find_vm(session, task.request.vm, [])
    if not session.is_vcenter:
        raise _errors.Refused(
            f"The vApp options of VM {found.name} are left unchanged: {session.name} is an ESXi host, and only "
            "vCenter keeps vApp options. Set hostname to the vCenter."
        )
    writer = vapp_write.VappWriter(session, session.deadline, found.vm, found.name, request)
    selection = _inventory.Selection(moid=[found.moid])
    (examined,) = examine.examine(session, session.deadline, selection, QUESTIONS)
    result = vapp_result.carry_out(writer.check if task.check_mode else writer.write, writer, examined)
    for caution in writer.change.cautions:
        task.warn(caution)
    if writer.change.not_restored:
        task.warn(
            f"Secrets of VM {found.name} were not restored, because the document does not contain them: "
            f"{', '.join(writer.change.not_restored)}. Set those of properties in secret_values."
        )
    return result


QUESTIONS = examine.Questions(forked_from=identity.forked_from, fork_paths=(identity.RECORD_PATH,), mask=masking.Mask())
"""What to examine of a VM: no guest probe."""


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    return Request(_arguments.vm(params), vapp_request.read(params))


_PROPERTY: _arguments.Spec = {
    "key": {"type": "str", "no_log": False},  # otherwise Ansible would treat it as a secret
    **{name: {"type": "str"} for name in ("id", "class_id", "instance_id")},
    "state": {"type": "str", "choices": ["present", "absent", "reset"], "default": "present"},
    # Masked because of _arguments.VALUES.
    "value": {"type": "raw"},
    "default": {"type": "raw"},
    **{name: {"type": "str"} for name in ("type", "label", "category", "description")},
    "user_configurable": {"type": "bool"},
}

SPEC: _arguments.Spec = {
    "enabled": {"type": "bool"},
    "force": {"type": "bool", "default": False},
    "properties": {"type": "list", "elements": "dict", "options": _PROPERTY, "no_log": False},
    "values": {"type": "dict"},
    "secret_values": {"type": "dict", "no_log": True},
    "update_secrets": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
    "transport": {"type": "list", "elements": "str", "choices": list(vapp_request.TRANSPORTS)},
    "ip_allocation": {
        "type": "dict",
        "options": {
            "policy": {"type": "str", "choices": list(vapp_request.POLICIES)},
            "protocol": {"type": "str", "choices": list(vapp_request.PROTOCOLS)},
            "supported_schemes": {"type": "list", "elements": "str", "choices": list(vapp_request.SCHEMES)},
            "supported_protocols": {"type": "list", "elements": "str", "choices": list(vapp_request.PROTOCOLS)},
        },
    },
    "restore_from": {"type": "dict"},
    "restore_keys": {"type": "list", "elements": "str", "no_log": False},
    "overwrite": {"type": "bool", "default": True},
    "unknown": {"type": "str", "choices": ["fail", "create"], "default": "fail"},
    "not_user_configurable": {"type": "str", "choices": ["fail", "force", "skip"], "default": "fail"},
    "exact": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 300},
}


def main() -> None:
    """Run the module."""
    _module.run(work, {**_arguments.vm_spec(), **SPEC}, parse, **_arguments.vm_constraints())


if __name__ == "__main__":
    main()
