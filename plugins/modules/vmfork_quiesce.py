#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_quiesce
short_description: Quiesce a fork parent at its fork point, with the scripts for its children (Instant Clone freeze)
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Uploads scripts to the guest, runs the pre-quiesce script, and makes the guest call the fork point
    (C(vmtoolsd --cmd 'instantclone.freeze'), on vSphere 6.0 and 6.5 C(vmtoolsd --cmd 'vmfork-begin -1 -1')). The VM is
    frozen from then on.
  - Each child that M(vmfork.vsphere.vmfork_child) creates continues at that point and runs the post-clone script.
  - A VM that is already quiesced with the same scripts is left unchanged. If it was quiesced with other scripts, the
    task fails, since its children would run those.
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
    details:
      - The task asks vCenter whether the user has the required privileges, and fails if not.
      - If the VM is powered off or not yet a fork parent, the task only warns, since an earlier task might change that.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  method:
    description:
      - V(scripts) runs O(pre_quiesce_script), calls the fork point, and has each child run O(post_clone_script). Before
        each of them, it runs O(identity_script), if there is one.
      - V(script) runs the single O(script), which calls the fork point itself. The part after that call runs in each
        child. The collection cannot run anything right after that call. On servers that keep guestinfo values, a child
        that is powered off and on by others therefore shows the report of its previous run until the new run has ended.
        Power on such a child with M(vmfork.vsphere.vmfork_child), which removes the old report first.
      - V(wait) waits for a guest that reaches the fork point by itself. It needs no guest login. An old record of
        scripts is removed. A record that another task has written in the last 10 minutes is kept, with a warning.
    type: str
    choices: [scripts, script, wait]
    default: scripts
  pre_quiesce_script:
    description:
      - Text of the script that runs in the parent before the fork point, for example to shut down the network.
      - It must end with exit code 0.
      - A file name is refused. Use the C(ansible.builtin.file) lookup to pass the text of a file.
      - The first line can name an interpreter (C(#!/bin/bash)). Line endings are converted to those of the guest,
        and a byte order mark at the beginning is removed.
      - In a Windows guest PowerShell runs it, or C(cmd) if the first line that is not blank begins with C(@echo),
        C(echo off), C(setlocal), C(rem) or C(::).
    type: str
  post_clone_script:
    description:
      - Text of the script that runs in each child, for example to set its address and name.
      - It reads the child's config params with C(vmtoolsd --cmd 'info-get guestinfo.fork.KEY').
    type: str
  script:
    description: Text of the script for O(method=script).
    type: str
  identity_script:
    description:
      - Text of a script that renews the identity of each child, such as its machine ID, SSH host keys, clock and
        addresses. The role P(vmfork.vsphere.vmfork#role) passes its own. With O(method=scripts) only.
      - It is called with C(prepare) in the parent, before O(pre_quiesce_script), and with C(renew) in each child,
        before O(post_clone_script). The second argument is O(identity_items), the third is O(identity_network).
      - If the guest does not reach the fork point after C(prepare), the script is called with C(undo), to give the
        parent its network back.
      - Its first line names its interpreter, and O(interpreter) does not apply to it. The environment variable
        C(VMFORK_TOOLS) has the path of VMware Tools' program.
      - In a Windows guest, it is a script for PowerShell, and its support is experimental.
      - If it fails in the parent, the task fails. If it fails in a child, O(post_clone_script) does not run there, and
        the exit code is that of the identity script.
      - It reports the identity through guestinfo, with C(prepare) that of the parent. Without the latter, children with
        a machine ID or SSH host keys in their report fail, since they may be the same. See
        O(vmfork.vsphere.vmfork_child#module:identity) and RV(vmfork.vsphere.vmfork_child#module:children[].identity).
      - If a VM is already quiesced with another version of this script, the task prints a warning and leaves it
        unchanged.
    type: str
    version_added: 0.2.0
  identity_items:
    description:
      - What O(identity_script) renews. V(auto) is everything that the guest has. Otherwise any of V(clock), V(random),
        V(machine_id), V(leases), V(adapters), V(hostname), V(network), V(ssh_host_keys), V(boot_id), V(agents),
        V(services) and V(announce), and beside either V(cloud_init).
      - O(vmfork.vsphere.vmfork_child#module:identity) overrides it for children.
    type: list
    elements: str
    default: [auto]
    version_added: 0.2.0
  identity_network:
    description:
      - What manages the network in the guest. V(auto) finds out, and V(none) leaves the network unchanged. In a Windows
        guest, only these two are valid.
      - With V(none), V(leases), V(adapters) and V(network) are absent in the children. With V(cloud_init), only
        V(network) is, and cloud-init sets up the network.
      - O(vmfork.vsphere.vmfork_child#module:identity) overrides it for children.
    type: str
    choices: [auto, networkd, netplan, networkmanager, ifupdown, wicked, ip, none]
    default: auto
    version_added: 0.2.0
  script_delivery:
    description:
      - How the scripts are transferred to the guest.
      - V(file_transfer) uploads them to the ESXi host that runs the VM, which must be reachable on port 443.
      - V(guestinfo) transfers them through vCenter. They are in the VM's C(extraConfig) for a short time.
      - V(auto) is V(file_transfer), or V(guestinfo) if the host cannot be reached or the user cannot read it.
      - V(guestinfo) is refused if the guest cannot write to guestinfo (for example because of
        C(isolation.tools.setinfo.disable)), since the guest could not clear the scripts and every child would have
        them.
    type: str
    choices: [auto, file_transfer, guestinfo]
    default: auto
  interpreter:
    description:
      - Program that runs the scripts, instead of the one in their first line. For example V(/bin/bash -e).
      - Scripts without such a line are run by C(/bin/sh).
      - In a Windows guest V(powershell), V(cmd), or any other command, to which the path of the script is appended,
        such as V(C:\\Python313\\python.exe -X utf8). Put a path with spaces in double quotes.
      - In a Windows guest the script file has the extension that the program needs, C(.cmd) for C(cmd), C(.ps1) for
        C(powershell) and C(pwsh), C(.vbs) for C(cscript) and C(wscript), and none for others. If required, C(/c) or
        C(-File) is added before its path.
    type: str
  guest_directory:
    description:
      - Directory in the guest in which the directory for the scripts is created.
      - The default is the guest's directory for temporary files. With O(script_delivery=guestinfo) it is V(/tmp), or
        V(C:\\Windows\\Temp) in a Windows guest.
    type: str
  tools_path:
    description:
      - Path of C(vmtoolsd) or C(vmware-rpctool) in the guest, or of a program that replaces them. It can contain
        spaces.
      - If this is not given or does not exist, the standard locations of VMware Tools in that kind of guest are
        searched. Scripts can also call the programs by name.
    type: str
  timeout:
    description:
      - Seconds the whole task may take.
      - When the time is over, the scripts in the guest and all processes that they started are ended, so that the VM
        does not reach its fork point later. This can take up to 120 more seconds. If it fails, the error says so.
    type: int
    default: 300
notes:
  - The guest family is the one that VMware Tools report (C(guest.guestFamily), C(guest.guestId)), or else that of
    C(config.guestId), or else that of O(tools_path). If it remains unknown, the guest is assumed to be Linux.
  - In Linux guests, C(vmtoolsd) and C(vmware-rpctool) are searched for in PATH, in the usual directories and in
    C(/usr/lib/vmware-tools). In nested ESXi also in C(/usr/lib/vmware/vmtools/bin), with the libraries next to it. In
    macOS guests C(vmware-tools-daemon) in C(/Library/Application Support/VMware Tools). In Windows guests
    C(vmtoolsd.exe) and C(rpctool.exe) in C(C:\Program Files\VMware\VMware Tools).
  - A Windows guest needs Windows PowerShell 5.1, and a login as an administrator who is not restricted by User Account
    Control, such as C(Administrator). A group policy that requires signed scripts prevents it. O(guest_become=sudo) is
    refused. Scripts and their output are UTF-8.
  - Support for Windows, nested ESXi and macOS guests has been tested as far as possible without such guests. No script
    of this collection has ever been run in Windows.
  - The scripts are in a directory that only the guest user and root (in Windows, administrators and the system) can
    access. It is removed if the parent does not reach the fork point, and in every child. A parent at the fork point
    cannot remove it. It can also remain if the VM is powered off or becomes unreachable. The error then names it, and
    also says if the runner could not be ended.
  - If another task is quiescing the VM, this task waits for it. It succeeds when the VM reaches the fork point with the
    same scripts.
  - A new run removes what a killed task has left in the guest, before the VM reaches the fork point. These are the
    directories C(vmfork.*), in the directory for temporary files and in O(guest_directory), with a runner of this
    collection that is no longer running.
  - A VM at the fork point carries a record of the scripts (C(guestinfo.vmfork.scripts) in its C(extraConfig)). On some
    servers the record survives a power-off. Power off the VM with M(vmfork.vsphere.vmfork_parent), which removes it.
    Otherwise the record would still apply if the VM later reaches the fork point by itself.
  - With Instant Clone, the task writes a new random value to C(vmfork.generation) in the C(extraConfig) of the VM
    before the VM is frozen. It shows which children belong to an earlier fork point. A VM that is already quiesced
    keeps its value.
  - The required privileges are C(VirtualMachine.GuestOperations.Execute), C(VirtualMachine.GuestOperations.Modify)
    and C(VirtualMachine.GuestOperations.Query), and with O(script_delivery=guestinfo) also
    C(VirtualMachine.Config.AdvancedConfig). O(method=wait) needs none. Without the last privilege,
    C(vmfork.generation) is not written and the task prints a warning.
seealso:
  - module: vmfork.vsphere.vmfork_parent
  - module: vmfork.vsphere.vmfork_child
"""

EXAMPLES = r"""
- name: Quiesce golden at the fork point
  vmfork.vsphere.vmfork_quiesce:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    name: golden
    guest_username: root
    guest_password: "{{ guest_password }}"
    pre_quiesce_script: "{{ lookup('ansible.builtin.file', 'pre_quiesce.sh', rstrip=false) }}"
    post_clone_script: "{{ lookup('ansible.builtin.file', 'post_clone.sh', rstrip=false) }}"

- name: Quiesce golden if the ESXi hosts cannot be reached, as a user with sudo
  vmfork.vsphere.vmfork_quiesce:
    name: golden
    guest_username: ansible
    guest_password: "{{ guest_password }}"
    guest_become: sudo
    script_delivery: guestinfo
    post_clone_script: |
      #!/bin/sh
      hostname "$(vmtoolsd --cmd 'info-get guestinfo.fork.hostname')"

# Scripts that were published for Instant Clone are a single file that calls the freeze.
- name: Run a script that calls the fork point itself
  vmfork.vsphere.vmfork_quiesce:
    name: golden
    guest_username: root
    guest_password: "{{ guest_password }}"
    method: script
    script: |
      #!/bin/sh -e
      ip address flush dev eth0 scope global
      vmware-rpctool "instantclone.freeze"
      hostnamectl set-hostname "$(vmware-rpctool 'info-get guestinfo.ic.hostname')"

- name: Wait for a guest that reaches the fork point by itself
  vmfork.vsphere.vmfork_quiesce:
    name: golden
    method: wait

- name: Quiesce golden with the role's script, which renews the identity of each child
  vmfork.vsphere.vmfork_quiesce:
    name: golden
    guest_username: root
    guest_password: "{{ guest_password }}"
    identity_script: "{{ lookup('ansible.builtin.file', 'linux_identity.sh', rstrip=false) }}"
"""

RETURN = r"""
parent:
  description:
    - The VM after the task, as M(vmfork.vsphere.vmfork_parent) returns it. In check mode, the VM as the task would
      leave it.
  returned: success, and failure in the guest
  type: dict
  sample:
    name: golden
    moid: vm-42
    enabled: true
    quiesced: true
    quiesced_at: "2026-01-31T08:15:02Z"
has_identity_script:
  description:
    - Whether the children of this VM run an identity script, in check mode as the task would leave it. V(false) if
      that is not known.
  returned: success
  type: bool
  version_added: 0.2.0
  sample: true
guest:
  description: The actions in the guest. All values are V(null) if there were none.
  returned: success, and failure in the guest
  type: dict
  contains:
    directory:
      description: The directory with the scripts.
      type: str
      sample: /tmp/vmfork.1a2b3c
    pid:
      description: Process ID of the runner.
      type: int
      sample: 1742
    exit_code:
      description:
        - Exit code of the script that ended before the fork point. V(null) if the fork point was reached.
        - V(143) if the task ended the script because of the timeout.
      type: int
      sample: 3
    output:
      description: The last 2 kB of its output.
      type: str
      sample: "ifdown: interface eth0 not configured"
"""

import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import quiesce
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

_FILE_NAME = re.compile(
    r"[\w.~/\\:@%+,-]*([/\\][\w.~/\\:@%+,-]*|\.(sh|bash|py|pl|rb|ps1|cmd|bat|vbs|j2|txt))", re.IGNORECASE
)
"""A single word that is a path or has the extension of a script, so it is a file name and not a script's text."""

SCRIPTS = {
    "scripts": ("pre_quiesce_script", "post_clone_script", "identity_script"),
    "script": ("script",),
    "wait": (),
}
"""The scripts of each method."""


def plan(params: _arguments.Params) -> quiesce.Plan:
    """Return how to quiesce the VM.

    :raises _errors.BadInput: the options contradict each other.
    """
    method = params["method"]
    for option in _arguments.SCRIPTS:
        if params[option] is None:
            continue
        if option not in SCRIPTS[method]:
            raise _errors.BadInput(
                f"{option} cannot be used with method={method}. Remove it, or choose another method."
            )
        if not params[option].removeprefix("\ufeff").strip() or "\0" in params[option]:
            raise _errors.BadInput(f"{option} is not the text of a script. Set it to the text, or remove it.")
        if _FILE_NAME.fullmatch(params[option].removeprefix("\ufeff").strip()):
            raise _errors.BadInput(
                f"{option} looks like a file name, but must be the text of the script. Use "
                "lookup('ansible.builtin.file', NAME, rstrip=false). If it is a command, start with the line "
                "#!/bin/sh."
            )
    if method == "wait":
        return quiesce.Plan(job=None)
    if all(params[option] is None for option in SCRIPTS[method]):
        raise _errors.BadInput(
            f"method={method} needs {' or '.join(SCRIPTS[method])}. Set it to the text of the script."
        )
    if params["interpreter"] is not None and not params["interpreter"].strip():
        raise _errors.BadInput("interpreter is empty. Set it to a program, or remove it.")
    login = _arguments.guest(params)
    job = runner.Job(
        pre_quiesce=params["pre_quiesce_script"],
        post_clone=params["post_clone_script"],
        script=params["script"],
        interpreter=params["interpreter"],
        tools_path=params["tools_path"],
        become=login.become,
        identity=_identity(params),
    )
    return quiesce.Plan(job, login, params["script_delivery"], params["guest_directory"])


def _identity(params: _arguments.Params) -> runner.Identity | None:
    names = identity_report.items(params["identity_items"], "identity_items")
    if params["identity_script"] is None:
        return None
    requested = identity_report.Wanted(names, params["identity_network"])
    return runner.Identity(params["identity_script"], requested.text, requested.network)


class Request(t.NamedTuple):
    """The request of a task."""

    vm: _inventory.Selector
    engine: _arguments.EngineChoice
    plan: quiesce.Plan


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    return Request(_arguments.vm(params), _arguments.engine(params), plan(params))


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Bring the VM to its fork point."""
    request = task.request
    deadline, wanted = session.deadline, request.plan
    engine = select.choose(session, *request.engine)
    parent = parents.find(session, engine, request.vm)
    before = parent.facts()
    if quiesce.is_done(parent, wanted.job, task.warn):
        return _result(False, before, before, quiesce.no_result(), quiesce.has_identity_script(parent))
    quiesce.check_guest(parent, wanted)
    quiesce.warn_of_no_report(parent, wanted, task.warn)
    obstacle = quiesce.obstacle(parent)
    if task.check_mode:
        if obstacle is not None:
            task.warn(obstacle)
        quiesce.check_privileges(parent, wanted)
        after = {**before, "enabled": before["enabled"] if before["enabled"] is None else True, "quiesced": True}
        has_identity_script = wanted.job is not None and wanted.job.identity is not None
        return _result(True, before, after, quiesce.no_result(), has_identity_script)
    if obstacle is not None:
        raise _errors.BadInput(obstacle)
    guest = quiesce.quiesce(parent, deadline, wanted, task.warn)
    return _result(True, before, parent.facts(), guest, quiesce.has_identity_script(parent))


def _result(
    changed: bool,
    before: _module.Result,
    after: _module.Result,
    guest: quiesce.GuestResult,
    has_identity_script: bool,
) -> _module.Result:
    return {
        "changed": changed,
        "parent": after,
        "has_identity_script": has_identity_script,
        "guest": guest,
        "diff": {"before": before, "after": after},
    }


def main() -> None:
    """Run the module."""
    _module.run(
        work,
        {
            **_arguments.vm_spec(),
            **_arguments.engine_spec(),
            **_arguments.progress_spec(),
            **_arguments.guest_spec(),
            "method": {"type": "str", "choices": ["scripts", "script", "wait"], "default": "scripts"},
            "pre_quiesce_script": {"type": "str"},
            "post_clone_script": {"type": "str"},
            "script": {"type": "str"},
            "identity_script": {"type": "str"},
            "identity_items": {"type": "list", "elements": "str", "default": [identity_report.AUTO]},
            "identity_network": {
                "type": "str",
                "choices": list(identity_report.NETWORKS),
                "default": identity_report.AUTO,
            },
            "script_delivery": {
                "type": "str",
                "choices": ["auto", "file_transfer", "guestinfo"],
                "default": "auto",
            },
            "interpreter": {"type": "str"},
            "guest_directory": {"type": "str"},
            "tools_path": {"type": "str"},
            "timeout": {"type": "int", "default": 300},
        },
        parse,
        **_arguments.vm_constraints(),
    )


if __name__ == "__main__":
    main()
