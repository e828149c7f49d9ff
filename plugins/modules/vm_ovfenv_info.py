#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_ovfenv_info
short_description: Tell whether the OVF environment (vApp properties) reaches the guests of VMs, and why not
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - A VM with vApp options gets its settings as an XML document, the OVF environment. vCenter makes and delivers it at
    power-on. A VM that is powered on from its ESXi host, or restarted by vSphere HA, runs without it, and neither a
    reboot of the guest nor a reset brings it back.
  - This module tells for one VM, for many or for all, what vCenter would deliver, what it says it has delivered, who
    powered the VM on, what the guest sees where it was asked, and a verdict from all of this with a cure.
  - No guest login is needed. With one, O(guest_probe) makes verdicts certain.
  - What goes wrong with one VM, such as a missing privilege or a refused guest login, becomes part of its verdict and
    does not end the task.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.attributes.info
  - vmfork.vsphere.connection
  - vmfork.vsphere.guest
  - vmfork.vsphere.vms
options:
  guest_probe:
    description:
      - Whether to look at the OVF environment inside of running guests, by a program that VMware Tools starts there.
      - V(exit_code) needs a guest login and vCenter alone. What the guest sees stays in the guest; only what kind of
        answer it got comes back, and whether the document is this VM's own.
      - V(full) brings the document back, so that every value can be compared. It is transferred from the ESXi host;
        where that cannot be reached, this is V(exit_code).
      - Guests are asked of VMs with vApp options, of VMs that O(configured_before) lists, and of VMs that the task
        names.
    type: str
    choices: [none, exit_code, full]
    default: none
  guests:
    description:
      - Guest logins of single VMs. The others have O(guest_username) and O(guest_password), or are not asked.
      - An entry that fits none of the VMs looked at causes a warning.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the VM. Exactly one of O(guests[].name) and O(guests[].moid) is required.
        type: str
      moid:
        description: Managed object ID of the VM.
        type: str
      guest_username:
        description: Name of the user that logs in to the guest.
        type: str
        required: true
      guest_password:
        description: Password of the user that logs in to the guest.
        type: str
        required: true
      guest_become:
        description: As O(guest_become), which it defaults to.
        type: str
        choices: [none, sudo]
  mask:
    description:
      - Which values to mask in the return values.
      - V(sensitive) masks properties of type password, vService tokens, and every property that looks like a secret.
        The key, the label, the category and the first sentence of the description are searched for words such as
        password, token, registration key, license, PIN or user data, and O(mask_patterns) in the key. The value is
        searched for such names as well, and for logins and signatures in URLs, private keys, license keys, access keys
        and hashes of passwords. JSON, compressed text and text in base64 are decoded first.
      - V(password) masks properties of type password and vService tokens only. V(all) masks every value, V(none) no
        value. vCenter itself never returns the values of passwords.
      - A document does not tell types. So in documents, and in the differences, V(sensitive) and V(password) show the
        values of keys alone that the vApp options of the VM, or of a vApp around it, have with another type than
        password, and without an expression that may quote one. All other keys may hold a password. They are those of
        the VM's siblings in a vApp, those that a guest wrote, and every key where the vApp options are gone. To see
        them, and to restore lost vApp options from them, use V(none).
    type: str
    choices: [password, sensitive, all, none]
    default: sensitive
  mask_patterns:
    description:
      - Further regular expressions. Properties whose key matches one are masked. Upper and lower case are equal.
    type: list
    elements: str
    default: []
  include_raw_xml:
    description: Whether to return the documents as they are, with secrets hidden.
    type: bool
    default: false
  export:
    description:
      - Whether to return all vApp options of each VM as a document in RV(ovfenv[].export), to be kept and given to
        O(vmfork.vsphere.vm_vapp_options#module:restore_from).
      - It never contains secrets, whatever O(mask) is.
    type: bool
    default: false
    version_added: 0.2.0
  event_lookback:
    description:
      - How many days of events are read at most to find out who powered on a VM. vCenter itself keeps them for 30 days
        unless told otherwise.
      - Events are read from the oldest power-on of the VMs in question, so a large value costs nothing by itself.
    type: int
    default: 30
  configured_before:
    description:
      - Instance UUIDs of VMs that had vApp options in an earlier report. One of them that has none now is reported as
        V(config_lost).
    type: list
    elements: str
    default: []
  expected_names:
    description:
      - Names to compare the names of the VMs with. RV(ovfenv[].name_expected) says for each VM whether its name is one
        of them.
      - Ansible masks a password wherever it occurs in a return value, also in names. A playbook that acts on a VM
        because of its name needs this option to compare the real names.
    type: list
    elements: str
    version_added: 0.1.0
  only:
    description:
      - Return only VMs with one of these verdicts in RV(ovfenv). RV(summary) counts all.
    type: list
    elements: str
    choices: &statuses
      - not_applicable
      - config_lost
      - not_configured
      - not_deliverable
      - not_running
      - inherited
      - cleared
      - delivered_injected
      - stale
      - delivered
      - delivered_iso
      - not_delivered
      - lost
      - lost_suspected
      - delivered_assumed
      - contradictory
      - nothing_to_deliver
      - unknown
  fail_on:
    description:
      - Fail when a VM has one of these verdicts, after everything was looked at. The failed task returns the same
        values.
      - Makes a scheduled job turn red.
    type: list
    elements: str
    choices: *statuses
  timeout:
    description: Seconds the whole task may take. When they are over, the remaining guests are not asked any more.
    type: int
    default: 600
seealso:
  - module: vmfork.vsphere.vm_ovfenv
notes:
  - Costs some reads for all VMs together, and one request for each running VM with vApp options. Where a VM that is off
    needs an IP pool at a power-on, the pools of its datacenter are read once.
  - The privilege C(VApp.ExtractOvfEnvironment) (View OVF environment) is not in the role Read-only. Without it verdicts
    are less certain. Guest probes need the privileges C(VirtualMachine.GuestOperations.Execute),
    C(VirtualMachine.GuestOperations.Query) and, for V(full), C(VirtualMachine.GuestOperations.Modify).
"""

EXAMPLES = r"""
- name: Look at one VM
  vmfork.vsphere.vm_ovfenv_info:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: appliance-01
  register: result

- name: Say what is the matter with it
  ansible.builtin.debug:
    msg: "{{ result.ovfenv[0].diagnosis.message }}"

- name: Turn a nightly job red when an appliance has lost its settings
  vmfork.vsphere.vm_ovfenv_info:
    folder: appliances
    fail_on: [lost, lost_suspected, config_lost]

- name: Look inside of the guests, too
  vmfork.vsphere.vm_ovfenv_info:
    name: [appliance-01, appliance-02]
    guest_probe: exit_code
    guest_username: root
    guest_password: "{{ guest_password }}"

# ansible localhost -m vmfork.vsphere.vm_ovfenv_info -a "name=appliance-01"
"""

RETURN = r"""
ovfenv:
  description: One entry for each VM, sorted by name.
  returned: success, and when O(fail_on) makes the task fail
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM.
      type: str
    moid:
      description: Managed object ID of the VM.
      type: str
    instance_uuid:
      description: Instance UUID of the VM.
      type: str
    inventory_path:
      description: Where the VM is.
      type: str
    name_expected:
      description: Whether the name of the VM is one of O(expected_names). Null without them.
      type: bool
    name_unique:
      description: Whether no other of these VMs with RV(ovfenv[].diagnosis.needs_power_cycle) has the same name.
      type: bool
    guests_entry:
      description: Position of the entry of O(guests) for the VM, starting at 0. Null when there is none.
      type: int
    host:
      description: Name of its ESXi host.
      type: str
    power_state:
      description: V(poweredOn), V(poweredOff) or V(suspended).
      type: str
    boot_time:
      description: Time of the last power-on, UTC, ISO 8601. A reboot or reset does not change it.
      type: str
    parent_vapp:
      description: Name of the vApp that the VM is in.
      type: str
    configured:
      description:
        - What vCenter would deliver at the next power-on.
        - V(enabled) is false when the VM has no vApp options.
        - In V(properties), V(key) is the name under which a guest finds the property, V(effective) what it would find.
          The effective value is unknown of passwords, and of values that are computed at power-on.
        - V(values_computed) tells whether a running VM's expressions have their values. True proves that vCenter
          started it. Null where there are none, or the VM does not run.
      type: dict
      sample:
        enabled: true
        transports: [com.vmware.guestInfo]
        ip_assignment: {policy: fixedPolicy, protocol: IPv4, supported_schemes: [ovfenv], effective_from: vm}
        install_boot_required: false
        products:
          - {key: 0, class_id: vami, instance_id: "", name: Mail, vendor: Example, version: "1", full_version: "1.0"}
        properties:
          - key: vami.hostname
            id: hostname
            class_id: vami
            instance_id: ""
            type: string
            category: Networking
            label: Host name
            user_configurable: true
            value: ""
            default: appliance
            effective: appliance
            source: default
            secret: false
            comparable: true
        ovf_sections: []
        eula_count: 0
        parent_vapps: []
        values_computed: null
    export:
      description:
        - Everything in the vApp options of the VM, with O(export). Null without it.
        - Two exports of the same vApp options are equal, whatever their integer keys and their order in vCenter.
        - Values and defaults that are or seem to be secrets are null, and V(secret) is true for their properties.
        - Integer keys, IDs of networks, and values that vCenter computes or leases at power-on are left out.
        - Texts are exactly as in vCenter. In all other return values, control characters are escaped.
      type: dict
      sample:
        version: 1
        vm: {name: mail-01, instance_uuid: 50050d8f-…, uuid: 42050d8f-…}
        enabled: true
        products:
          - {class_id: vami, instance_id: "", name: Mail, vendor: Example, version: "1", full_version: "1.0",
             vendor_url: "", product_url: "", app_url: ""}
        properties:
          - key: vami.hostname
            class_id: vami
            id: hostname
            instance_id: ""
            category: Networking
            label: Host name
            description: ""
            type: string
            user_configurable: true
            default: appliance
            value: ""
            secret: false
        transport: [com.vmware.guestInfo]
        ip_allocation: {policy: fixedPolicy, protocol: IPv4, supported_schemes: [ovfenv], supported_protocols: [IPv4]}
        eula: []
        ovf_sections: []
        install_boot: {required: false, stop_delay: 0}
    extracted:
      description:
        - What vCenter says it has delivered (ExtractOvfEnvironment), without the values of passwords.
        - V(state) is V(ok), V(empty), V(not_running), V(no_permission), V(unsupported), V(error) or V(not_asked);
          V(error) says why nothing came.
        - V(document) has V(origin) (V(vcenter), V(injected), V(vapprun) or V(unknown)), V(entity_id), V(vcenter_id),
          V(esx_id), V(moref_matches), V(platform), V(properties), V(duplicate_keys), V(skipped_keys), V(adapters),
          V(entities), V(vservices), V(sha256), V(parse_error) and V(truncated). V(skipped_keys) are the keys of
          malformed properties, null where the key cannot be read either.
        - V(raw_xml) is the document as it is, with O(include_raw_xml).
      type: dict
    iso:
      description: Whether a CD-ROM drive is there, and vCenter's image in it (V(backing)), and connected.
      type: dict
      sample: {cdrom_present: false, backing: null, connected: false}
    guest:
      description:
        - What the guest saw, when it was asked.
        - V(state) is V(xml), V(no_value), V(cleared), V(non_xml), V(permission_denied), V(tool_missing),
          V(tools_not_running), V(ops_not_ready), V(login_failed), V(no_permission), V(error) or V(not_asked).
        - V(method) is what O(guest_probe) came to, V(tool) the program of VMware Tools that answered, V(exit_code) that
          of the program that asked it. V(stderr) is what VMware Tools said instead of a value, with V(full) only. A
          line of it that is not known to hold no value is hidden, unless O(mask) is V(none). V(error) is a sentence,
          where asking failed.
        - V(bears_id) is whose ID is in the document. V(own), V(other), V(none), or null when that was not seen.
        - V(document) and V(raw_xml) are as in RV(ovfenv[].extracted); both need V(full).
      type: dict
    power_on:
      description: The last power-on, as the events of vCenter tell it.
      type: dict
      contains:
        origin:
          description: V(vcenter), V(esxi_direct), V(ha_restart), V(host_system) or V(unknown).
          type: str
          sample: esxi_direct
        confidence:
          description: V(high), V(medium) or V(low).
          type: str
          sample: high
        reason:
          description:
            - Why the origin is unknown. V(events_aged_out), V(host_was_disconnected), V(no_task), V(no_permission),
              V(events_unreadable), V(not_running), or V(instant_clone) for a VM that was made running and not powered
              off since.
            - Null otherwise, and where events were not read, as for VMs without vApp options.
          type: str
          sample: null
        user:
          description: Who did it. Null when the server itself did, or nothing tells.
          type: str
          sample: root
        time:
          description: When it was told, UTC, ISO 8601.
          type: str
          sample: "2026-11-21T03:12:07Z"
        host:
          description: Name of the ESXi host.
          type: str
          sample: esxi-01.example.com
        event_type:
          description: Class or ID of the event that tells of it.
          type: str
          sample: VmPoweredOnEvent
        chain_id:
          description: The number that all events of one operation share.
          type: int
          sample: 4711
        task:
          description: The task of vCenter that did it.
          type: str
          sample: null
        events:
          description: The events and tasks that it was concluded from, oldest first.
          type: list
          elements: dict
          sample:
            - key: 4712
              type: VmPoweredOnEvent
              time: "2026-11-21T03:12:07Z"
              user: root
              chain_id: 4711
              vm: vm-42
              host: esxi-01.example.com
              task: null
              changes_vapp: false
        reconfigured:
          description:
            - Changes of the vApp options since then, oldest first, as in RV(ovfenv[].power_on.events).
              V(changes_vapp) is true in all of them.
          type: list
          elements: dict
          sample: []
    differences:
      description: Properties that are not the same everywhere.
      type: list
      elements: dict
      contains:
        key:
          description: The name under which a guest finds the property.
          type: str
          sample: vami.hostname
        kind:
          description:
            - V(missing) from a document, V(changed) in one, spelled with other capitals there (V(case)), or V(extra),
              in a document alone.
          type: str
          sample: changed
        secret:
          description: Whether it is a password, looks like a secret, or may be one.
          type: bool
          sample: false
        comparable:
          description:
            - Whether the difference says that the vApp options were changed. It does not of passwords, of values that
              are computed at power-on, and of keys that are only in a document.
          type: bool
          sample: true
        configured:
          description: What vCenter would deliver, hidden as O(mask) says. Null when that is not known.
          type: str
          sample: appliance-02
        delivered:
          description: What is in the document of RV(ovfenv[].extracted). Null when it is not there.
          type: str
          sample: appliance-01
        guest:
          description: What is in the document of RV(ovfenv[].guest). Null when it is not there.
          type: str
          sample: appliance-01
    diagnosis:
      description: The verdict.
      type: dict
      contains:
        status:
          description: One of the choices of O(only).
          type: str
        rank:
          description:
            - Position of the status in the order of urgency, 1 for the most urgent one, V(lost).
            - The order is V(lost), V(config_lost), V(not_delivered), V(not_deliverable), V(lost_suspected), V(stale),
              V(contradictory), V(unknown), V(delivered_assumed), V(delivered_injected), V(delivered_iso), V(delivered),
              V(cleared), V(inherited), V(not_running), V(not_configured), V(not_applicable),
              V(nothing_to_deliver).
            - Decide by RV(ovfenv[].diagnosis.rank), RV(ovfenv[].diagnosis.act_now) and
              RV(ovfenv[].diagnosis.needs_power_cycle) rather than by words. Ansible masks a word of which a password is
              a part.
          type: int
        cause:
          description: Why, for example V(powered_on_from_esxi), V(ha_restart) or V(no_transport).
          type: str
        confidence:
          description: V(high), V(medium) or V(low).
          type: str
        evidence:
          description:
            - What the verdict rests on; every statement names its source.
            - Of a running VM that vCenter did not power on, also what else such a power-on does and, by the data of
              vCenter, is missing. That is placement by DRS and admission control, protection by vSphere HA, the start
              order of a vApp, what comes from network protocol profiles, a pending guest customization, the key of an
              encrypted VM, the task and event of a power-on, and a name that tells who did it.
          type: list
          elements: str
        warnings:
          description: What else was noticed.
          type: list
          elements: str
        message:
          description: The verdict in words.
          type: str
        impact:
          description: What it means for what runs in the VM, as far as that is known of the product.
          type: str
        act:
          description:
            - V(now) where something that is known to need its OVF environment goes without, V(before_next_boot) where
              the next power-on would deliver none, V(never) where nothing is missed, V(decide) where that is not known.
          type: str
        act_now:
          description: Whether RV(ovfenv[].diagnosis.act) is V(now).
          type: bool
        needs_power_cycle:
          description:
            - Whether RV(ovfenv[].diagnosis.remedy) is V(power_cycle_via_vcenter) and the guest does without its OVF
              environment until then. False when the document was delivered.
          type: bool
        remedy:
          description:
            - V(none), V(power_cycle_via_vcenter), V(set_transport), V(enable_vapp), V(add_cdrom), V(start_tools),
              V(fix_guest_rpc), V(ask_appliance_vendor) or V(grant_privilege). A proposal, not a list to be looped over
              blindly.
          type: str
        remedy_risks:
          description: What to think of before.
          type: list
          elements: str
summary:
  description: Counts over all VMs looked at.
  returned: success, and when O(fail_on) makes the task fail
  type: dict
  contains:
    total:
      description: VMs looked at.
      type: int
    by_status:
      description: How many VMs have which verdict.
      type: dict
    act_now:
      description: Managed object IDs of VMs whose RV(ovfenv[].diagnosis.act) is V(now).
      type: list
      elements: str
    judged_without_guest_evidence:
      description: How many running VMs with vApp options were judged without a look into their guest.
      type: int
  sample:
    total: 3
    by_status: {delivered_assumed: 2, lost_suspected: 1}
    act_now: []
    judged_without_guest_evidence: 3
"""

import datetime
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis, examine, masking, vapp_export
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


def work(task: _module.Task, session: Session) -> _module.Result:
    """Examine the VMs."""
    params = task.params
    mask = _mask(params)
    questions = examine.Questions(
        forked_from=identity.forked_from,
        fork_paths=(identity.RECORD_PATH,),
        mask=mask,
        probe=params["guest_probe"],
        login=_arguments.guest(params) if _logs_in(params) else None,
        logins=_logins(params),
        lookback=datetime.timedelta(days=params["event_lookback"]),
        listed_before={one.lower() for one in params["configured_before"]},
    )
    examined = examine.examine(session, session.deadline, _arguments.vms(params), questions)
    seen = {each for one in examined for each in (one.found.name, one.found.moid)}
    unknown = ", ".join(sorted(questions.logins.keys() - seen))
    if unknown:
        task.warn(f"guests has a login for {unknown}, which is not among the VMs looked at. Check the spelling.")
    logins = [one["moid"] or one["name"] for one in params["guests"]]
    chosen = zip(examined, examine.choices(examined, params["expected_names"], logins), strict=True)
    shown = [each for each in chosen if not params["only"] or each[0].diagnosis.status in params["only"]]
    result = {
        "ovfenv": [
            {**examine.facts(one, mask, params["include_raw_xml"]), **choices, "export": _export(one, params)}
            for one, choices in shown
        ],
        "summary": examine.summary(examined),
    }
    failing = [one for one in examined if one.diagnosis.status in (params["fail_on"] or [])]
    if failing:
        verdicts = ((one.found.name, filter(None, (one.diagnosis.status, one.diagnosis.cause))) for one in failing)
        listed = ", ".join(f"{name} ({', '.join(verdict)})" for name, verdict in verdicts)
        raise _errors.VerdictFailed(f"{len(failing)} of {len(examined)} VMs fail: {listed}. See ovfenv.", **result)
    return {"changed": False, **result}


def _export(one: examine.Examined, params: _arguments.Params) -> dict[str, t.Any] | None:
    """Return all vApp options as a document, if they are asked for and could be read."""
    if not params["export"] or not one.evidence.config_read:
        return None
    values = one.found.values
    return vapp_export.document(one.found.name, values, values.get("config.vAppConfig"), params["mask_patterns"])


MOST_DAYS = 36500
"""The longest time that events can be asked for; before it there is no date for the system to name."""


def check(params: _arguments.Params) -> None:
    """Refuse what cannot be right."""
    _arguments.vms(params)
    _mask(params)
    if not 1 <= params["event_lookback"] <= MOST_DAYS:
        raise _errors.BadInput(f"event_lookback is {params['event_lookback']} days. Give 1 to {MOST_DAYS}.")
    for one in params["guests"]:
        if (one["name"] is None) == (one["moid"] is None):
            raise _errors.BadInput("An entry of guests needs either name or moid. Give one of them.")
    if params["guest_probe"] != "none" and not params["guests"]:
        _arguments.guest(params)


def _logs_in(params: _arguments.Params) -> bool:
    """Whether one login for all guests is used; what the environment says of it may be meant for other tasks."""
    return params["guest_probe"] != "none" and bool(params["guest_username"] or params["guest_password"])


def _mask(params: _arguments.Params) -> masking.Mask:
    return masking.Mask(params["mask"], params["mask_patterns"])


def _logins(params: _arguments.Params) -> dict[str, GuestLogin]:
    return {
        one["moid"] or one["name"]: GuestLogin(
            one["guest_username"],
            one["guest_password"],
            one["guest_become"] or params["guest_become"],
            params["guest_transfer_certs"],
        )
        for one in params["guests"]
    }


SPEC: _arguments.Spec = {
    "guest_probe": {"type": "str", "choices": ["none", "exit_code", "full"], "default": "none"},
    "guests": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str"},
            "moid": {"type": "str"},
            "guest_username": {"type": "str", "required": True},
            "guest_password": {"type": "str", "required": True, "no_log": True},
            "guest_become": {"type": "str", "choices": ["none", "sudo"]},
        },
    },
    "mask": {"type": "str", "choices": list(masking.LEVELS), "default": "sensitive"},
    "mask_patterns": {"type": "list", "elements": "str", "default": []},
    "include_raw_xml": {"type": "bool", "default": False},
    "export": {"type": "bool", "default": False},
    "event_lookback": {"type": "int", "default": 30},
    "configured_before": {"type": "list", "elements": "str", "default": []},
    "expected_names": {"type": "list", "elements": "str"},
    "only": {"type": "list", "elements": "str", "choices": list(diagnosis.STATUSES)},
    "fail_on": {"type": "list", "elements": "str", "choices": list(diagnosis.STATUSES)},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Entry point."""
    _module.run(work, {**_arguments.vms_spec(), **_arguments.guest_spec(), **SPEC}, check=check)


if __name__ == "__main__":
    main()
