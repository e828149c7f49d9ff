# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List all questions in the order in which they are asked, and the assumptions that one VM cannot show.

Private to the collection.
"""

from __future__ import annotations

from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import (
    clone_questions,
    fork_questions,
    vapp_questions,
    vm_questions,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.question import Question

QUESTIONS: tuple[Question, ...] = (
    *vm_questions.QUESTIONS,
    *clone_questions.QUESTIONS,
    *fork_questions.QUESTIONS,
    *vapp_questions.QUESTIONS,
)
"""Every question."""

BY_RULE = {question.rule: question for question in QUESTIONS}

_OTHER_HOST = "needs a second ESXi host"
_OTHER_LOGIN = "needs the login of a second user with fewer privileges"
_HOST_LOGIN = "needs a login to the ESXi host, to power the VM on without vCenter"
_MOB = "needs a second login, to the Managed Object Browser"
_VAPP = "needs a vApp around the VM"
_SNAPSHOT = "needs a snapshot of the VM"
_FULL = "needs a resource that is used up"

NOT_ASKABLE = {
    "enable_on_other_host": _OTHER_HOST,
    "enable_needs_tools": "needs VMware Tools to be stopped in the guest",
    "enable_independent_disk": "needs a disk in an independent mode",
    "persistent_child_group": _SNAPSHOT,
    "persistent_children_listed": _SNAPSHOT,
    "create_privilege": _OTHER_LOGIN,
    "retrieve_privilege": _OTHER_LOGIN,
    "child_reconfigure": "a child is recorded by such a reconfigure, and could not be removed without its record",
    "network_after_fork": "needs a script in the guest that changes its address",
    "clone_inherits_fork_group": "needs a full copy of the disks",
    "swap_file_space": _FULL,
    "instant_clone_vtpm_fault": "needs a vTPM",
    "chain_limit_text": "needs 255 delta disks",
    "stale_mac_report": "needs a script in the guest that reloads the driver of its adapter",
    "no_free_port": _FULL,
    "host_client_user": _HOST_LOGIN,
    "events_of_disconnected_host": "needs an ESXi host to be disconnected",
    "child_of_vapp_member": _VAPP,
    "ovfenv_vapp_properties": _VAPP,
    "computed_address_disabled": "needs an IP pool",
    "password_edited_empty": "vCenter does not show passwords",
    "extract_after_host_start": _HOST_LOGIN,
    "computed_after_host_start": _HOST_LOGIN,
    "iso_after_host_start": _HOST_LOGIN,
    "ovfenv_after_host_start": _HOST_LOGIN,
    "ovfenv_after_vmotion": _OTHER_HOST,
    "ovfenv_after_power_cycle_reboot": "needs the guest to reboot while nothing else restarts it",
    "unseen_object": _OTHER_LOGIN,
    "mob_off_answer": _MOB,
    "mob_wrong_nonce": _MOB,
    "mob_undeclared_prefixes": _MOB,
    "mob_untyped_value": _MOB,
    "mob_bad_parameter": _MOB,
    "mob_fault_page": _MOB,
    "mob_not_found": _MOB,
}
"""Assumption → why one VM and one login cannot show what vCenter does."""
