#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_conformance
short_description: Record how a vCenter behaves, on one throw-away VM, where this collection relies on assumptions
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - The tests of this collection use a simulator. Where vSphere's behavior is not published, the simulator makes an
    assumption. This module asks a real vCenter one question for each assumption that one VM can show, and writes the
    answers to files that can be published.
  - Use a VM that nobody needs. The module powers it off and on, suspends and resumes it, brings it to its fork point,
    changes its C(extraConfig), adds and removes vApp options if it has none, and creates and removes children of it. No
    other VM is changed.
  - Afterwards, the VM has no children, and the power state and the settings that it had before, apart from
    C(vmfork.generation), which marks a fork point and is removed. Unsaved data in its memory is lost. If the task is
    interrupted, the next one removes the children that are left, and restores the VM.
  - The files contain the answers, types of faults and keys of their messages, versions and durations. They contain
    neither messages nor values of properties. The names of the vCenter, the VM and its ESXi host are only included as
    keyed hashes (HMAC-SHA-256). The salt stays in a file next to them, which is readable by its owner only. Do not
    publish the salt.
  - Before the files are written, they are searched for the names of all objects that the user can see, for addresses,
    and for the passwords of the task. If one is found, nothing is written.
  - A VM is refused if it is a template, suspended, a child, a fork parent, or if it has children that this module has
    not created.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
  - vmfork.vsphere.guest
  - vmfork.vsphere.progress
  - vmfork.vsphere.vm
attributes:
  check_mode:
    support: full
    details: The task returns the plan, changes nothing and writes no files. O(confirm) is not required.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each task asks all questions again.
options:
  confirm:
    description:
      - The name of the VM, or its managed object ID, to confirm that it may be used. Required except in check mode.
    type: str
  path:
    description:
      - Directory for the files C(conformance.json), C(conformance.xml) (JUnit) and C(conformance.salt). It is created
        if it does not exist. Existing answers are replaced, and an existing salt is used again.
    type: path
    required: true
  questions:
    description:
      - Names of the simulator's rules to ask about. The default is all.
    type: list
    elements: str
  timeout:
    description:
      - Seconds the whole task may take. Questions that are left then are not asked.
    type: int
    default: 3600
notes:
  - Questions about the fork point and about the guest require O(guest_username) and O(guest_password). Without them,
    these questions are not asked.
  - The required privileges are those of all other modules and C(VirtualMachine.Interact.Suspend) on the VM. They are
    listed in C(playbooks/files/privileges/conformance.txt).
seealso:
  - module: vmfork.vsphere.vmfork_child
"""

EXAMPLES = r"""
- name: Show what would be asked
  vmfork.vsphere.vmfork_conformance:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: throw-away
    path: conformance
  check_mode: true

- name: Ask, on a VM that nobody needs
  vmfork.vsphere.vmfork_conformance:
    name: throw-away
    confirm: throw-away
    guest_username: root
    guest_password: "{{ guest_password }}"
    path: conformance
"""

RETURN = r"""
plan:
  description: What the task does, or would do.
  returned: success
  type: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
      sample: throw-away
    moid:
      description: Managed object ID of the VM.
      type: str
      sample: vm-42
    effects:
      description: What the task does to the VM.
      type: list
      elements: str
      sample: ["the VM is powered off and on, suspended and resumed, several times"]
    left:
      description: Children of an interrupted task, which are removed first.
      type: list
      elements: str
      sample: []
    asked:
      description: Rules that are asked about.
      type: list
      elements: str
      sample: ["change_version_race"]
    not_asked:
      description: Rules that are not asked about, with the reason.
      type: dict
      sample: {"chain_limit_text": "needs 255 delta disks"}
answers:
  description: The answers, as in the file. Empty in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    rule:
      description: The rule of the simulator.
      type: str
      sample: change_version_race
    state:
      description: V(answered), V(not asked) or V(failed).
      type: str
      sample: answered
    answer:
      description:
        - One of the choices of the rule, the type of a fault, or V(other) if vCenter did something that no choice
          describes.
      type: str
      sample: one
    expected:
      description: The choice that the simulator has by default.
      type: str
      sample: one
    reason:
      description: Why the rule was not asked about.
      type: str
      sample: ""
    faults:
      description: Types of the faults that vCenter reported, and the keys of their messages.
      type: list
      elements: dict
      sample: [{"type": "ConcurrentAccess", "keys": []}]
    at:
      description: When the question was asked, in seconds from the beginning.
      type: float
      sample: 12.3
    seconds:
      description: How long it took.
      type: float
      sample: 1.52
contradictions:
  description: Rules for which the vCenter does something else than the simulator.
  returned: success
  type: list
  elements: str
  sample: []
files:
  description: The files to publish. Empty in check mode.
  returned: success
  type: list
  elements: str
  sample: ["conformance/conformance.json", "conformance/conformance.xml"]
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import catalog, record, run, subject
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import NOT_ASKED, Answer
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.lab import Lab
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


class Request(t.NamedTuple):
    """The request of a task."""

    vm: _inventory.Selector
    engine: _arguments.EngineChoice
    login: GuestLogin | None
    confirm: str | None
    path: str
    questions: t.Sequence[str] | None


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    unknown = sorted(set(params["questions"] or []) - set(catalog.BY_RULE))
    if unknown:
        raise _errors.BadInput(f"There is no question about {', '.join(unknown)}. Correct questions, or remove it.")
    has_login = params["guest_username"] or params["guest_password"]
    return Request(
        vm=_arguments.vm(params),
        engine=_arguments.engine(params),
        login=_arguments.guest(params) if has_login else None,
        confirm=params["confirm"],
        path=params["path"],
        questions=params["questions"],
    )


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Ask the questions and write the files."""
    request = task.request
    parent = parents.find(session, select.choose(session, *request.engine), request.vm)
    lab = Lab(parent, session.deadline, request.login, task.warn)
    left = lab.check()
    planned = run.plan(lab, request.questions)
    result: _module.Result = {"changed": True, "plan": _plan(lab, left, planned), "answers": [], "files": []}
    if task.check_mode:
        return {**result, "contradictions": []}
    if request.confirm not in (parent.name, parent.found.moid):
        raise _errors.Refused(
            f"VM {parent.name} is left unchanged: confirm does not name it. Set confirm to its name if nobody needs "
            "this VM."
        )
    salt = record.salt_of(request.path)
    about, known = subject.subject(lab), subject.known(lab)
    answers = run.run(lab, request.questions)
    recorded = record.document(about, answers, salt)
    files = record.write(request.path, recorded, known)
    return {
        **result,
        "answers": recorded["answers"],
        "files": files,
        "contradictions": [answer.rule for answer in answers if answer.contradicts],
    }


def _plan(lab: Lab, left: t.Sequence[str], planned: t.Sequence[Answer]) -> dict[str, t.Any]:
    return {
        "vm": lab.parent.name,
        "moid": lab.parent.found.moid,
        "effects": list(run.EFFECTS),
        "left": list(left),
        "asked": [answer.rule for answer in planned if answer.state != NOT_ASKED],
        "not_asked": {answer.rule: answer.reason for answer in planned if answer.state == NOT_ASKED},
    }


def main() -> None:
    """Run the module."""
    _module.run(
        work,
        {
            **_arguments.vm_spec(),
            **_arguments.engine_spec(),
            **_arguments.guest_spec(),
            **_arguments.progress_spec(),
            "confirm": {"type": "str"},
            "path": {"type": "path", "required": True},
            "questions": {"type": "list", "elements": "str"},
            "timeout": {"type": "int", "default": 3600},
        },
        parse,
        **_arguments.vm_constraints(),
    )


if __name__ == "__main__":
    main()
