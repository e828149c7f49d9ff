#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_ovfenv_info
short_description: Report whether the OVF environment (vApp properties) reaches the guests of VMs, and why not
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - A VM with vApp options gets its settings as an XML document, the OVF environment. vCenter creates and delivers it at
    power-on. A VM that is powered on from its ESXi host, or restarted by vSphere HA, runs without it, and neither a
    reboot of the guest nor a reset brings it back.
  - For each VM, this module reports what vCenter would deliver, what vCenter reports as delivered, who powered the VM
    on, what the guest sees if it was probed, and a verdict with a remedy.
  - No guest login is needed. With one, O(guest_probe) makes verdicts certain.
  - A problem with one VM, such as a missing privilege or a refused guest login, becomes part of its verdict and does
    not end the task.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.attributes.info
  - vmfork.vsphere.connection
  - vmfork.vsphere.guest
  - vmfork.vsphere.progress
  - vmfork.vsphere.vms
options:
  guest_probe:
    description:
      - Whether to look at the OVF environment inside running guests, with a program that VMware Tools starts there.
      - V(exit_code) needs only a guest login and vCenter. The document stays in the guest. Only the kind of answer is
        returned, and whether the document is this VM's own.
      - V(full) returns the document, so that every value can be compared. It is transferred from the ESXi host. If the
        host cannot be reached, V(exit_code) is used instead.
      - Only VMs that have vApp options, that O(configured_before) lists, or that the task names are probed.
    type: str
    choices: [none, exit_code, full]
    default: none
  guests:
    description:
      - Guest logins for individual VMs. For the other VMs, O(guest_username) and O(guest_password) are used. Without
        these, they are not probed.
      - An entry that matches none of the examined VMs causes a warning.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the VM. Exactly one of O(guests[].name) and O(guests[].moid) is required.
          - If several of the examined VMs have this name, the login is not used, because their guests would learn the
            password, and a warning is issued.
        type: str
      moid:
        description: Managed object ID of the VM.
        type: str
      guest_username:
        description: User name for the guest login.
        type: str
        required: true
      guest_password:
        description: Password for the guest login.
        type: str
        required: true
      guest_become:
        description: Like O(guest_become), which is the default.
        type: str
        choices: [none, sudo]
  mask:
    description:
      - Which values to mask in the return values.
      - V(sensitive) masks properties of type password, vService tokens, and every property that looks like a secret.
        The key, the label, the category and the first sentence of the description are searched for words such as
        password, token, registration key, license, PIN or user data, and O(mask_patterns) in the key. The value is
        searched for such names as well, and for logins and signatures in URLs, private keys, license keys, access keys
        and password hashes. JSON, compressed text and text in base64 are decoded first.
      - V(password) masks only properties of type password and vService tokens. V(all) masks every value, V(none) no
        value. vCenter itself never returns the values of passwords.
      - A document does not contain types. Therefore, in documents and in the differences, V(sensitive) and V(password)
        show only the values of keys that the vApp options of the VM, or of a vApp that contains it, define with a type
        other than password, and without an expression that may quote one. All other keys may hold a password. They are
        those of the VM's siblings in a vApp, those that a guest wrote, and every key if the vApp options are gone. To
        see them, and to restore lost vApp options from them, use V(none).
    type: str
    choices: [password, sensitive, all, none]
    default: sensitive
  mask_patterns:
    description:
      - Additional regular expressions. Properties whose key matches one are masked. Matching is case-insensitive.
    type: list
    elements: str
    default: []
  include_raw_xml:
    description: Whether to return the documents as raw XML, with secrets masked.
    type: bool
    default: false
  export:
    description:
      - Whether to return all vApp options of each VM as a document in RV(ovfenv[].export), which
        O(vmfork.vsphere.vm_vapp_options#module:restore_from) accepts.
      - It never contains secrets, regardless of O(mask).
    type: bool
    default: false
    version_added: 0.2.0
  event_lookback:
    description:
      - Maximum number of days of events to read to find out who powered on a VM. By default, vCenter keeps events for
        30 days.
      - Events are read from the oldest power-on of the VMs in question, so a large value by itself costs nothing.
    type: int
    default: 30
  candidates:
    description:
      - Names, instance UUIDs and BIOS UUIDs. Only the VMs in the scope that have one of them are examined.
      - A value that no VM has is not an error, and several VMs can have the same value. A playbook uses this to find
        the VMs of a backup without reading others.
      - Cannot be used together with O(name), O(moid), O(uuid) or O(inventory_path).
    type: list
    elements: str
    version_added: 0.2.0
  configured_before:
    description:
      - Instance UUIDs of VMs that had vApp options in an earlier report or in a backup. A listed VM that has none now
        is reported as V(config_lost).
    type: list
    elements: str
    default: []
  expected_names:
    description:
      - Names to compare the names of the VMs with. RV(ovfenv[].name_expected) is true for each VM whose name is one of
        them.
      - Ansible masks a password wherever it occurs in a return value, also in names. A playbook that acts on a VM
        because of its name needs this option to compare the real names.
    type: list
    elements: str
    version_added: 0.1.0
  only:
    description:
      - Return only VMs with one of these verdicts in RV(ovfenv). RV(summary) counts all VMs.
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
      - Fail if a VM has one of these verdicts, after all VMs were examined. The failed task returns the same values.
      - This makes a scheduled job turn red.
    type: list
    elements: str
    choices: *statuses
  timeout:
    description: Seconds the whole task may take. After that, the remaining guests are not probed.
    type: int
    default: 600
seealso:
  - module: vmfork.vsphere.vm_ovfenv
notes:
  - The module makes a few reads for all VMs together, and one request for each running VM with vApp options. If a
    powered-off VM needs an IP pool at power-on, the pools of its datacenter are read once.
  - The privilege C(VApp.ExtractOvfEnvironment) (View OVF environment) is not part of the role Read-only. Without it,
    verdicts are less certain. Guest probes need the privileges C(VirtualMachine.GuestOperations.Execute),
    C(VirtualMachine.GuestOperations.Query) and, for V(full), C(VirtualMachine.GuestOperations.Modify).
"""

EXAMPLES = r"""
- name: Examine one VM
  vmfork.vsphere.vm_ovfenv_info:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: appliance-01
  register: result

- name: Show the verdict
  ansible.builtin.debug:
    msg: "{{ result.ovfenv[0].diagnosis.message }}"

- name: Turn a nightly job red when an appliance has lost its settings
  vmfork.vsphere.vm_ovfenv_info:
    folder: appliances
    fail_on: [lost, lost_suspected, config_lost]

- name: Look inside the guests, too
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
      description: Inventory path of the VM.
      type: str
    name_expected:
      description: Whether the name of the VM is one of O(expected_names). Null if that is not set.
      type: bool
    name_unique:
      description: >-
        Whether no other VM with RV(ovfenv[].diagnosis.needs_power_cycle) or RV(ovfenv[].needs_power_on) has the same
        name, or has the name as its managed object ID.
      type: bool
    needs_power_on:
      description:
        - Whether the VM is off, its name is one of O(expected_names), and its last run began without vCenter. A repair
          whose power-on failed leaves such a VM.
        - This is known from the events of that run, so it must have begun within O(event_lookback).
      type: bool
    guests_entry:
      description: Position of the entry of O(guests) for the VM, starting at 0. Null if there is none.
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
      description: Name of the vApp that contains the VM.
      type: str
    configured:
      description:
        - The settings that vCenter would deliver at the next power-on.
        - V(enabled) is false if the VM has no vApp options.
        - In V(properties), V(key) is the name under which a guest finds the property, and V(effective) is the value
          that it would find. The effective value of passwords, and of values that are computed at power-on, is unknown.
        - V(values_computed) is whether the expressions of a running VM have values. True proves that vCenter started
          the VM. Null if there are no expressions, or the VM does not run.
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
        - Two exports of the same vApp options are equal, regardless of their integer keys and their order in vCenter.
        - Values and defaults that are secrets, or look like secrets, are null, and V(secret) is true for their
          properties. License agreements and the contents of OVF sections that seem to contain secrets are null, too.
        - Names of products, labels, categories and descriptions are texts of the vendor, and are never left out.
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
        - The document that vCenter reports as delivered (ExtractOvfEnvironment), without the values of passwords.
        - V(state) is V(ok), V(empty), V(not_running), V(no_permission), V(unsupported), V(error) or V(not_asked).
          V(error) is the reason why nothing was returned.
        - V(document) has V(origin) (V(vcenter), V(injected), V(vapprun) or V(unknown)), V(entity_id), V(vcenter_id),
          V(esx_id), V(moref_matches), V(platform), V(properties), V(duplicate_keys), V(skipped_keys), V(adapters),
          V(entities), V(vservices), V(sha256), V(parse_error) and V(truncated). V(skipped_keys) are the keys of
          malformed properties, null if the key cannot be read either.
        - V(raw_xml) is the document as raw XML, with O(include_raw_xml).
      type: dict
    iso:
      description: Whether the VM has a CD-ROM drive, vCenter's image in it (V(backing)), and whether it is connected.
      type: dict
      sample: {cdrom_present: false, backing: null, connected: false}
    guest:
      description:
        - What the guest saw, if it was probed.
        - V(state) is V(xml), V(no_value), V(cleared), V(non_xml), V(permission_denied), V(tool_missing),
          V(tools_not_running), V(ops_not_ready), V(login_failed), V(no_permission), V(error) or V(not_asked).
        - V(method) is the method of O(guest_probe) that was used, V(tool) the program of VMware Tools that answered,
          and V(exit_code) the exit code of the program that called it. V(stderr) is the error output of VMware Tools,
          with V(full) only. Its lines are masked unless they are known to contain no value or O(mask) is V(none).
          V(error) is the error message if the probe failed.
        - V(bears_id) is whose ID is in the document. V(own), V(other), V(none), or null if that was not seen or
          cannot be read.
        - V(document) and V(raw_xml) are as in RV(ovfenv[].extracted). Both need V(full).
      type: dict
    power_on:
      description: The last power-on, according to the events of vCenter.
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
              V(events_unreadable), V(not_running), or V(instant_clone) for a VM that was created running and has not
              been powered off since.
            - Null otherwise, and if events were not read, as for VMs without vApp options.
          type: str
          sample: null
        user:
          description: The user who powered the VM on. Null if it was the server itself, or is not known.
          type: str
          sample: root
        time:
          description: Time of the event, UTC, ISO 8601.
          type: str
          sample: "2026-11-21T03:12:07Z"
        host:
          description: Name of the ESXi host.
          type: str
          sample: esxi-01.example.com
        event_type:
          description: Class or ID of the event.
          type: str
          sample: VmPoweredOnEvent
        chain_id:
          description: Chain ID, which all events of one operation share.
          type: int
          sample: 4711
        task:
          description: The vCenter task that powered the VM on.
          type: str
          sample: null
        events:
          description: The events and tasks that the origin was derived from, oldest first.
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
            - Changes to the vApp options since then, oldest first, as in RV(ovfenv[].power_on.events).
              V(changes_vapp) is true in all of them.
          type: list
          elements: dict
          sample: []
    differences:
      description: Properties that differ between the vApp options and the documents.
      type: list
      elements: dict
      contains:
        key:
          description: The name under which a guest finds the property.
          type: str
          sample: vami.hostname
        kind:
          description:
            - V(missing) from a document, V(changed) in a document, V(case) if the key differs in upper and lower case
              only, or V(extra) if it is only in a document.
          type: str
          sample: changed
        secret:
          description: Whether it is a password, looks like a secret, or may be one.
          type: bool
          sample: false
        comparable:
          description:
            - Whether the difference shows that the vApp options were changed. False for passwords, for values that are
              computed at power-on, and for keys that are only in a document.
          type: bool
          sample: true
        configured:
          description: The value that vCenter would deliver, masked according to O(mask). Null if it is not known.
          type: str
          sample: appliance-02
        delivered:
          description: The value in the document of RV(ovfenv[].extracted). Null if the document does not have it.
          type: str
          sample: appliance-01
        guest:
          description: The value in the document of RV(ovfenv[].guest). Null if the document does not have it.
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
            - Position of the status in the order of urgency. 1 is the most urgent status, V(lost).
            - The order is V(lost), V(config_lost), V(not_delivered), V(not_deliverable), V(lost_suspected), V(stale),
              V(contradictory), V(unknown), V(delivered_assumed), V(delivered_injected), V(delivered_iso), V(delivered),
              V(cleared), V(inherited), V(not_running), V(not_configured), V(not_applicable),
              V(nothing_to_deliver).
            - In conditions, use RV(ovfenv[].diagnosis.rank), RV(ovfenv[].diagnosis.act_now) and
              RV(ovfenv[].diagnosis.needs_power_cycle) rather than words. Ansible masks passwords inside words.
          type: int
        cause:
          description: The cause, for example V(powered_on_from_esxi), V(ha_restart) or V(no_transport).
          type: str
        confidence:
          description: V(high), V(medium) or V(low).
          type: str
        evidence:
          description:
            - The facts that the verdict is based on. Every statement names its source.
            - For a running VM that vCenter did not power on, this also lists what else a power-on through vCenter does
              and is missing according to vCenter's data. That is placement by DRS and admission control, protection by
              vSphere HA, the start order of a vApp, values from network protocol profiles, a pending guest
              customization, the key of an encrypted VM, the task and event of a power-on, and the user who did it.
          type: list
          elements: str
        warnings:
          description: Other findings.
          type: list
          elements: str
        message:
          description: The verdict in words.
          type: str
        impact:
          description: The consequence for the software in the VM, as far as it is known for the product.
          type: str
        act:
          description:
            - V(now) if a product that is known to need its OVF environment runs without it, V(before_next_boot) if the
              next power-on would deliver none, V(never) if nothing is missing, V(decide) if that is not known.
          type: str
        act_now:
          description: Whether RV(ovfenv[].diagnosis.act) is V(now).
          type: bool
        needs_power_cycle:
          description:
            - Whether RV(ovfenv[].diagnosis.remedy) is V(power_cycle_via_vcenter) and the guest runs without its OVF
              environment until then. False if the document was delivered.
          type: bool
        remedy:
          description:
            - V(none), V(power_cycle_via_vcenter), V(set_transport), V(enable_vapp), V(add_cdrom), V(start_tools),
              V(fix_guest_rpc), V(ask_appliance_vendor) or V(grant_privilege). It is a proposal. Review it before you
              automate it.
          type: str
        remedy_risks:
          description: Risks to check before you apply the remedy.
          type: list
          elements: str
summary:
  description: Counts of all examined VMs.
  returned: success, and when O(fail_on) makes the task fail
  type: dict
  contains:
    total:
      description: Number of examined VMs.
      type: int
    by_status:
      description: Number of VMs by verdict.
      type: dict
    act_now:
      description: Managed object IDs of VMs whose RV(ovfenv[].diagnosis.act) is V(now).
      type: list
      elements: str
    judged_without_guest_evidence:
      description: Number of running VMs with vApp options that were judged without evidence from their guest.
      type: int
  sample:
    total: 3
    by_status: {delivered_assumed: 2, lost_suspected: 1}
    act_now: []
    judged_without_guest_evidence: 3
"""

import dataclasses
import datetime
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module, _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis, examine, masking, vapp_export
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


@dataclass(frozen=True)
class Request:
    """What a task requests.

    :param logins: the VMs with a guest login of their own, in the order of ``guests``.
    :param expected_names: ``None``: none were given.
    :param only: statuses to return; empty: all.
    :param fail_on: statuses that make the task fail.
    :param export_masks: mask patterns for the exported documents; ``None``: nothing is exported.
    """

    selection: _inventory.Selection
    questions: examine.Questions
    logins: t.Sequence[examine.LoginKey]
    expected_names: t.Collection[str] | None
    only: t.Collection[str]
    fail_on: t.Collection[str]
    include_raw_xml: bool
    export_masks: t.Sequence[str] | None


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    selection = _selection(params)
    mask = masking.Mask(params["mask"], params["mask_patterns"])
    if not 1 <= params["event_lookback"] <= MOST_DAYS:
        raise _errors.BadInput(f"event_lookback is {params['event_lookback']} days. Set it to 1 to {MOST_DAYS}.")
    logins = _logins(params)
    questions = examine.Questions(
        forked_from=identity.forked_from,
        fork_paths=(identity.RECORD_PATH,),
        mask=mask,
        probe=params["guest_probe"],
        login=_common_login(params),
        logins=logins,
        lookback=datetime.timedelta(days=params["event_lookback"]),
        listed_before={uuid.lower() for uuid in params["configured_before"]},
        expected_names=params["expected_names"] or (),
    )
    return Request(
        selection=selection,
        questions=questions,
        logins=[_key(entry) for entry in params["guests"]],
        expected_names=params["expected_names"],
        only=params["only"] or (),
        fail_on=params["fail_on"] or (),
        include_raw_xml=params["include_raw_xml"],
        export_masks=params["mask_patterns"] if params["export"] else None,
    )


def _selection(params: _arguments.Params) -> _inventory.Selection:
    """Return which VMs are examined.

    :raises _errors.BadInput: candidates are given with VMs that are named.
    """
    selection = dataclasses.replace(_arguments.vms(params), candidates=params["candidates"])
    if selection.candidates is not None and not selection.is_scope:
        raise _errors.BadInput(
            "candidates narrows a scope and cannot be used together with name, moid, uuid or inventory_path. Leave one "
            "out."
        )
    return selection


MOST_DAYS = 36500
"""The maximum of event_lookback. The dates before it cannot be represented."""


def _common_login(params: _arguments.Params) -> GuestLogin | None:
    """Return the login for all guests. With ``guests`` it is optional, and environment variables may set it.

    :raises _errors.BadInput: a guest probe has no login, or half of one.
    """
    is_given = bool(params["guest_username"] or params["guest_password"])
    if params["guest_probe"] == "none" or (params["guests"] and not is_given):
        return None
    return _arguments.guest(params)


def _key(entry: t.Mapping[str, t.Any]) -> examine.LoginKey:
    return ("name", entry["name"]) if entry["moid"] is None else ("moid", entry["moid"])


def _logins(params: _arguments.Params) -> dict[examine.LoginKey, GuestLogin]:
    """Return the logins of single guests.

    :raises _errors.BadInput: an entry does not name one VM.
    """
    if any((entry["name"] is None) == (entry["moid"] is None) for entry in params["guests"]):
        raise _errors.BadInput("An entry of guests needs either name or moid. Set one of them.")
    return {
        _key(entry): GuestLogin(
            entry["guest_username"],
            entry["guest_password"],
            entry["guest_become"] or params["guest_become"],
            params["guest_transfer_certs"],
        )
        for entry in params["guests"]
    }


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Examine the VMs."""
    request = task.request
    questions = request.questions
    examined = examine.examine(session, session.deadline, request.selection, questions)
    _check_logins(task, [vm.found for vm in examined])
    chosen = zip(examined, examine.choices(examined, request.expected_names, request.logins), strict=True)
    shown = [pair for pair in chosen if not request.only or pair[0].diagnosis.status in request.only]
    result = {
        "ovfenv": [
            {
                **examine.facts(vm, questions.mask, request.include_raw_xml),
                **choices,
                "export": _export(vm, request.export_masks),
            }
            for vm, choices in shown
        ],
        "summary": examine.summary(examined),
    }
    failing = [vm for vm in examined if vm.diagnosis.status in request.fail_on]
    if failing:
        verdicts = ((vm.found.name, filter(None, (vm.diagnosis.status, vm.diagnosis.cause))) for vm in failing)
        listed = ", ".join(f"{name} ({', '.join(verdict)})" for name, verdict in verdicts)
        counted = f"{len(failing)} of {_printable.count(len(examined), 'VM')}"
        verb = "fails" if len(failing) == 1 else "fail"
        raise _errors.VerdictFailed(f"{counted} {verb}: {listed}. See ovfenv.", **result)
    return {"changed": False, **result}


def _check_logins(task: _module.Task[Request], vms: t.Sequence[_inventory.Found]) -> None:
    """Warn about guest logins whose name or ID no examined VM has, or several have."""
    given = task.request.questions.logins
    seen = {key for vm in vms for key in (("name", vm.name), ("moid", vm.moid))}
    unknown = ", ".join(sorted(text for _kind, text in given.keys() - seen))
    if unknown:
        task.warn(f"guests has a login for {unknown}, which is not among the examined VMs. Check the spelling.")
    for name in sorted(examine.shared_names(vms)):
        if ("name", name) in given:
            count = sum(vm.name == name for vm in vms)
            task.warn(
                f"guests has a login for {name}, but {name} is the name of {count} of the examined VMs, and the login "
                "was not used. Set moid instead of name."
            )


def _export(vm: examine.Examined, masks: t.Sequence[str] | None) -> dict[str, t.Any] | None:
    """Return all vApp options as a document, if they are requested and could be read."""
    if masks is None or not vm.evidence.config_read:
        return None
    values = vm.found.values
    return vapp_export.document(vm.found.name, values, values.get("config.vAppConfig"), masks)


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
    "candidates": {"type": "list", "elements": "str"},
    "configured_before": {"type": "list", "elements": "str", "default": []},
    "expected_names": {"type": "list", "elements": "str"},
    "only": {"type": "list", "elements": "str", "choices": list(diagnosis.STATUSES)},
    "fail_on": {"type": "list", "elements": "str", "choices": list(diagnosis.STATUSES)},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Run the module."""
    _module.run(work, {**_arguments.vms_spec(), **_arguments.guest_spec(), **_arguments.progress_spec(), **SPEC}, parse)


if __name__ == "__main__":
    main()
