#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_child
short_description: Make, remove or detach children of a fork parent (Instant Clone), any number in one task
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - With O(state=present), makes the children that are missing, powers them on, and waits until each has reported the
    end of its post-clone script. Children that exist are left alone.
  - With O(state=absent), powers off and destroys children.
  - With O(state=detached), gives children away. Their record is removed, and nothing else is changed.
  - Each child created by this module carries a record that names its parent and its own BIOS UUID. A VM without that
    record, or with one that does not fit, is a foreign VM. A foreign VM that has a child's name in the child's folder
    makes that child fail, and is never powered on, powered off or destroyed.
  - The one exception is a powered-off fork of the parent that a task of this module had made and could not record any
    more. O(state=present) finishes it. With Instant Clone, a child has its record from its creation on, where vCenter
    keeps what it is made with. Where it does not, a task that is cut short before it has recorded the child leaves a
    VM that runs, and is a foreign VM for later tasks.
  - A copy of a child that has its BIOS UUID, too, as a restored backup may, cannot be distinguished from the child.
    Both are foreign VMs then, in whatever datacenter they are. Copies that the user may not see are not known, so let
    the user see all VMs of the vCenter.
  - One child that fails does not stop the others. The task then fails, and returns the result of each.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
  - vmfork.vsphere.vm.parent
attributes:
  check_mode:
    support: full
    details:
      - vCenter is asked whether the user has the privileges for what would be done to each child. One that could not be
        made or removed has failed.
      - With Instant Clone, vCenter is also asked whether each child can be made (C(CheckInstantClone_Task)). Its
        warnings become warnings, its errors make that child fail.
      - A parent that runs is taken as one that stands at its fork point, since an earlier task of the play would bring
        it there. RV(parent) tells where it stands. One that is powered off is a warning.
  diff_mode:
    support: full
    details:
      - For O(state=absent), what would be lost with a child stands beside its power state.
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) makes the children exist, run, and have finished what O(wait_for) says.
      - V(absent) makes them be gone. Before a child is powered off, and again before it is destroyed, the module looks
        at what would be lost with it. See O(force).
      - V(absent) waits until O(timeout) for tasks that are at work on a child, and for the temporary snapshot of a
        backup. Other snapshots, and an annotation that differs from the parent's, are reported as warnings.
      - V(detached) removes the record from the children. From then on each is a foreign VM, which this module neither
        removes nor takes for a child. It keeps running and keeps its disks. A child that is not found is an error. A VM
        that is no child of any parent is detached already.
    type: str
    choices: [present, absent, detached]
    default: present
  name:
    description:
      - Names of the children, as a list or separated by commas. A name that contains a comma is given in a list.
      - For options that differ between children use O(children).
    type: list
    elements: str
  children:
    description:
      - The children. An empty list does nothing.
      - An entry may be the name alone. Names alone may also be given as one string, separated by commas or newlines.
      - An option that is left out of an entry has the value it has at the top of the task. O(config_params) and
        O(secret_config_params) are merged with those at the top.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the child, up to 80 characters.
        type: str
        required: true
      config_params:
        description: See O(config_params).
        type: dict
      secret_config_params:
        description: See O(secret_config_params).
        type: dict
      persistent:
        description: See O(persistent).
        type: bool
      folder:
        description: See O(folder).
        type: str
      datastore:
        description: See O(datastore).
        type: str
      resource_pool:
        description: See O(resource_pool).
        type: str
      networks:
        description: See O(networks). The list of a child stands instead of the one at the top.
        type: list
        elements: dict
        suboptions:
          label:
            description: See O(networks[].label).
            type: str
          network:
            description: See O(networks[].network).
            type: str
          mac_address:
            description: See O(networks[].mac_address).
            type: str
          connect:
            description: See O(networks[].connect).
            type: str
            choices: [at_clone, after_post_clone, never]
            default: at_clone
      bios_uuid:
        description: See O(bios_uuid).
        type: str
  force:
    description:
      - With O(state=absent), remove also children with which more would be lost than what they got from their parent.
      - Without it, a child fails, and is neither powered off nor destroyed, when it was made a template, when it is
        itself the parent of children, or when it has disks that the parent does not have. vCenter would delete the
        files of these disks, wherever they are. A child whose devices vCenter does not show fails, too.
      - A disk counts as the parent's when it is based on a file of the parent's, or when it has the size and the
        place at the controller of one of the parent's disks and its file is in the child's own directory.
      - With it, the temporary snapshot of a backup is not waited for.
    type: bool
    default: false
  all:
    description:
      - With O(state=absent), remove every child of the parent that this module made. With O(state=detached), detach it.
      - These are also found in other datacenters than the parent's, where a child of a given name is not looked for.
    type: bool
    default: false
  config_params:
    description:
      - What the child's guest gets to read, with C(vmtoolsd --cmd 'info-get guestinfo.fork.KEY').
      - Values are strings, numbers or booleans (which arrive as V(true) and V(false)), of up to 65000 bytes.
      - With Instant Clone, they can be read as C(guestinfo.ic.KEY), too. There a key that starts with C(guestinfo.) is
        taken as it is. With the VMFork methods it is refused.
      - An empty value cannot be told from one that is not there.
      - When C(hostname) is not given, it is the first label of the child's name (V(web-01) of V(web-01.example.com)),
        made valid. Characters that a host name cannot have become hyphens, and letters of other scripts are written as
        IDNA does. A name with a domain also gives C(fqdn). If no host name can be made, the task warns.
      - An address under a key that the public scripts read, such as C(ipaddress) or C(ip0.address), is compared with
        those of the other children, of the parent and of all VMs that the user may see. Every address that VMware
        Tools reports of a VM counts (C(guest.ipAddress) and C(guest.net)), on the network of the adapter that has it.
        One that is taken on the same network is refused before anything is made. Where the network is not known, the
        task warns.
      - They are handed over when a child is made. A child that exists is not changed.
    type: dict
  secret_config_params:
    description:
      - As O(config_params), for what must not be seen. Values must have at least 8 characters.
      - They are removed from the VM after the post-clone script, and hidden in what it has printed. The runner in the
        guest does that before it reports. What it could not hide, the task hides in its output and in vCenter.
      - Secrets are hidden as they are, in base64, as URLs, JSON, XML and shells (C(set -x)) write them, by each line of
        8 characters or more, and where the output was cut within them. Other encodings are not recognized.
      - Until then, users who may read the settings of the VM in vCenter can read them. What vCenter itself keeps in its
        events and logs is not removed.
      - A child that is powered off, and whose script runs when it is powered on, gets them again. If they were removed
        from a running child before its script began, for example by a task that a signal ended, the runner does not run
        the script, and the child fails. Remove it and create it again.
      - A guest without C(awk) reports no output. With O(vmfork.vsphere.vmfork_quiesce#module:method=script), none is
        reported either when the secrets were removed before the script had ended, be it by the script itself or by a
        task whose O(timeout) was over.
      - They need O(wait_for=post_clone).
    type: dict
  persistent:
    description:
      - Whether a child keeps its disks when it is powered off. The server wants the parent to have a snapshot then.
      - A child that is not persistent is meant to be removed, not restarted. When it is powered on again, it begins at
        the fork point, and its post-clone script runs once more.
      - The default is V(false).
      - Ignored with Instant Clone, where each child keeps its disks.
    type: bool
  folder:
    description:
      - VM folder for the children. An inventory path such as V(/Datacenter/vm/web), or a path below the datacenter's VM
        folder such as V(web). The default is the parent's folder.
    type: str
  datastore:
    description:
      - Datastore for the children, by name, inventory path or managed object ID. The default is the parent's.
      - Of a datastore cluster, the children get the accessible member with most free space that the parent's ESXi host
        has. Storage DRS is not asked, and all children of the task that name the cluster get the same member.
    type: str
  resource_pool:
    description:
      - Resource pool for the children, by name, inventory path or managed object ID. It must hold resources of the
        parent's ESXi host. Of several pools with the same name, the one that does is used. The default is the
        parent's.
    type: str
  networks:
    description:
      - What is different about the children's network adapters. One that is not named is on the parent's network, with
        a new MAC address, and connected if the parent's is.
      - They are set when a child is made. A child that exists is not changed, but for an adapter with
        O(networks[].connect=after_post_clone) that is still to be connected.
      - VMware's documents contradict each other on whether vCenter follows them. So a new child is looked at. One on
        another network, with another MAC address, or connected before it was to be has failed.
      - Instant Clone only. The VMFork methods cannot change a child's adapters, and it is refused with them.
    type: list
    elements: dict
    suboptions:
      label:
        description:
          - Label of the adapter in vCenter, for example V(Network adapter 1).
          - Without it, the first entry is the parent's first adapter, the second its second, and so on.
        type: str
      network:
        description:
          - Standard port group, distributed port group or opaque network in the parent's datacenter, by name, inventory
            path or managed object ID. The parent's ESXi host must have it. The default is the network of the parent's
            adapter.
          - A standard and a distributed port group may share a name. That is an error which lists their IDs.
        type: str
      mac_address:
        description:
          - MAC address for the adapter, such as V("00:50:56:01:02:03"), in quotes, since YAML takes some of them for
            numbers. One of the ranges that vSphere assigns from is refused, which start with V(00:0c:29) and, from
            V(00:50:56:40) on, with V(00:50:56).
          - No two adapters can have the same one, so with several children it belongs into the O(networks) of each. One
            of the parent's own, or of another VM on the same network, is refused.
          - The default is a new one from vCenter.
        type: str
      connect:
        description:
          - When the adapter is connected.
          - V(after_post_clone) keeps it disconnected until the child's post-clone script has ended well, so that the
            child is never seen with its parent's address. It needs O(wait_for=post_clone). The script must not wait for
            the network. When it fails, the adapter stays disconnected.
          - V(never) leaves it disconnected.
        type: str
        choices: [at_clone, after_post_clone, never]
        default: at_clone
  bios_uuid:
    description: BIOS UUID for the child. The default is a new one.
    type: str
  allow_running_parent:
    description:
      - Whether children may be made of a parent that runs on, instead of standing still at its fork point. Only with
        Instant Clone.
      - No post-clone script begins in such a child, so O(wait_for=post_clone) is refused. It has its parent's addresses
        and name until something in its guest changes them.
      - Each such child adds a delta disk to the parent, which makes it slow. The task warns where the
        parent would have more than 100 delta disks in a chain, and refuses where it would have more than 255, which is
        vSphere's limit. For more than a few children, quiesce the parent.
    type: bool
    default: false
  wait_for:
    description:
      - What the task waits for in each child.
      - V(created) powers no child on. With Instant Clone, new ones run from their creation on all the same.
      - V(powered_on) and V(tools) wait for the power-on, and for VMware Tools.
      - V(ip_address) waits for an address that is really the child's. It must be on a MAC address of its own adapters,
        not link-local, not one of the parent's, and inside O(ip_network) if that is given.
      - V(post_clone) waits until the child has reported the end of its post-clone script. An exit code other than 0
        makes the child fail. The report of a child whose script runs once more after a power-off does not count any
        more; that of a persistent child does, and is noted on it, since vCenter may forget it at the power-off. For
        children that others power on, O(vmfork.vsphere.vmfork_quiesce#module:method=script) has a limit.
    type: str
    choices: [created, powered_on, tools, ip_address, post_clone]
    default: post_clone
  ip_network:
    description:
      - The network in which an address counts for O(wait_for=ip_address), for example V(192.0.2.0/24).
      - An address that O(config_params) gives to a child must be inside of it.
    type: str
  address_timeout:
    description:
      - Seconds to wait for the address of a new child whose post-clone script has ended, with O(wait_for=post_clone).
        VMware Tools may report it later than the end of the script, in some guests by minutes.
      - A child that has no address is not waited for any longer, and has not failed. A child that still has an address
        of its parent on the parent's network has failed, also if its guest uses the parent's MAC address because the
        post-clone script did not reload the network driver. If VMware Tools reported nothing since the fork, the task
        warns.
    type: int
    default: 3
  timeout:
    description:
      - Seconds the whole task may take.
      - When they are over, the task takes up to 120 seconds more, altogether, to record children that vCenter is still
        making, to remove O(secret_config_params), and for O(on_failure=remove). Such children fail all the same.
    type: int
    default: 300
  concurrency:
    description: How many children may be between the request for their creation and their power-on at any time.
    type: int
    default: 16
  on_failure:
    description:
      - What to do with children that this task created and that failed.
    type: str
    choices: [keep, remove]
    default: keep
notes:
  - To make children, the user needs the privileges C(VirtualMachine.Provisioning.Clone) (with the VMFork methods
    C(VirtualMachine.Config.ToggleForkParent) instead), C(VirtualMachine.Inventory.CreateFromExisting),
    C(VirtualMachine.Interact.PowerOn), C(VirtualMachine.Config.AdvancedConfig), C(Resource.AssignVMToPool) and
    C(Datastore.AllocateSpace). O(bios_uuid) with the VMFork methods also needs C(VirtualMachine.Config.Settings).
  - For O(networks[].network), C(Network.Assign) is needed, and for O(networks[].connect=after_post_clone)
    C(VirtualMachine.Config.EditDevice) and C(VirtualMachine.Interact.DeviceConnection) on the children. That a MAC
    address, or an adapter that is disconnected from the start, needs none is what the reference of vSphere's Automation
    API says; should a vCenter want these two on the parent as well, only the run will tell, not check mode.
  - Before anything is made, the free ports of the distributed port groups that new adapters are to be on are counted,
    where a port group does not expand by itself and the user may look. They are handed out in the order of the task,
    and children that go short have failed.
  - To remove them, C(VirtualMachine.Interact.PowerOff) and C(VirtualMachine.Inventory.Delete). To detach them,
    C(VirtualMachine.Config.AdvancedConfig).
seealso:
  - module: vmfork.vsphere.vmfork_quiesce
  - module: vmfork.vsphere.vmfork_info
"""

EXAMPLES = r"""
- name: Make three children of golden
  vmfork.vsphere.vmfork_child:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    parent_name: golden
    config_params:
      netmask: 255.255.255.0
      gateway: 192.0.2.1
    children:
      - name: web-01
        config_params:
          ipaddress: 192.0.2.11
      - name: web-02
        config_params:
          ipaddress: 192.0.2.12
      - name: web-03
        config_params:
          ipaddress: 192.0.2.13
        datastore: fast-ssd

- name: Put children on another network, and connect them when they have addresses of their own
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    networks:
      - network: dv-web
        connect: after_post_clone
    children:
      - name: web-01
        config_params:
          ipaddress: 192.0.2.11
      - name: web-02
        config_params:
          ipaddress: 192.0.2.12

- name: Give each child a MAC address that DHCP knows, and leave its second adapter disconnected
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    children:
      - name: web-01
        networks:
          - label: Network adapter 1
            mac_address: "00:50:56:01:02:03"
          - label: Network adapter 2
            connect: never
      - name: web-02
        networks:
          - label: Network adapter 1
            mac_address: "00:50:56:01:02:04"
          - label: Network adapter 2
            connect: never

- name: Clone a VM while it runs on, without a script in the clone
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    name: golden-copy
    allow_running_parent: true
    wait_for: tools

- name: Make two children that need nothing but a name
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    children: [web-01, web-02]

# The first task for one child, ad hoc:
#   ansible localhost -m vmfork.vsphere.vmfork_child \
#     -a "name=web-01 parent_name=golden config_params='hostname=web-01,ipaddress=192.0.2.11'"
#   ansible localhost -m vmfork.vsphere.vmfork_child \
#     -a '{"parent_name": "golden", "children": [{"name": "web-01"}, {"name": "web-02"}]}'

- name: Remove two children
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    state: absent
    name: [web-01, web-02]

- name: Remove every child of golden
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    state: absent
    all: true

- name: Keep a child for good, as a VM of its own
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    state: detached
    name: web-01
"""

RETURN = r"""
parent:
  description: The parent, as M(vmfork.vsphere.vmfork_parent) returns it.
  returned: success, and when children failed
  type: dict
  sample:
    name: golden
    moid: vm-42
    quiesced: true
children:
  description:
    - The result of each child, in the order of the task.
    - Each entry also has the keys of RV(parent). They are V(null) where there is no VM.
  returned: success, and when children failed
  type: list
  elements: dict
  contains:
    name:
      description: Name of the child.
      type: str
      sample: web-01
    moid:
      description: Managed object ID.
      type: str
      sample: vm-57
    state:
      description: V(created), V(existing), V(removed), V(absent), V(detached) or V(failed).
      type: str
      sample: created
    changed:
      description: Whether something was changed for it, or would be in check mode.
      type: bool
      sample: true
    child_type:
      description:
        - V(instant_clone), or with the VMFork methods V(nonpersistent), V(persistent), or V(none) for a persistent
          child that has run.
      type: str
      sample: instant_clone
    survives_power_off:
      description: Whether it keeps its disks when it is powered off.
      type: bool
      sample: true
    datastore:
      description: Datastore of its configuration file.
      type: str
      sample: fast-ssd
    folder:
      description: Inventory path of its folder.
      type: str
      sample: /Datacenter/vm/web
    mac_addresses:
      description: MAC addresses of its network adapters.
      type: list
      elements: str
      sample: ["00:50:56:b6:1c:2d"]
    ip_addresses:
      description: Addresses on its own adapters, without link-local ones and without the parent's.
      type: list
      elements: str
      sample: ["192.0.2.11"]
    guest_hostname:
      description: Host name that VMware Tools reports. Right after a fork it may still be the parent's.
      type: str
      sample: web-01
    config_params:
      description:
        - What was handed to the guest, without secrets.
        - Of a child that existed, what vCenter shows of it, but for keys that start with C(guestinfo.).
      type: dict
      sample: {"hostname": "web-01", "ipaddress": "192.0.2.11"}
    secrets_cleared:
      description: Whether O(secret_config_params) were removed from the VM again, and from its report.
      type: bool
      sample: false
    post_clone:
      description: The end of the post-clone script as the child reported it.
      type: dict
      contains:
        done:
          description: Whether the child has reported.
          type: bool
        exit_code:
          description: Exit code of the script.
          type: int
        output:
          description:
            - The last 2 kB of its output, with secrets hidden as O(secret_config_params) says.
            - Empty when vCenter has forgotten it since, at a power-off.
          type: str
    seconds:
      description: Seconds this child took.
      type: float
      sample: 1.31
    error:
      description: Why it failed, in one sentence.
      type: str
      sample: null
summary:
  description: How many children there are of each state, and how long the task took.
  returned: success, and when children failed
  type: dict
  sample: {"created": 3, "existing": 0, "removed": 0, "absent": 0, "detached": 0, "failed": 0, "seconds": 2.4}
"""

import ipaddress
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import (
    addresses,
    children,
    executor,
    facts,
    networks,
    pipeline,
    removal,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import engine as engines
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import wanted as wishes
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.result import Result
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

NETWORK: _arguments.Spec = {
    "label": {"type": "str"},
    "network": {"type": "str"},
    "mac_address": {"type": "str"},
    "connect": {"type": "str", "choices": list(networks.CONNECT), "default": networks.AT_CLONE},
}

PER_CHILD: _arguments.Spec = {
    "config_params": {"type": "dict"},
    "secret_config_params": {"type": "dict", "no_log": True},
    "persistent": {"type": "bool"},
    "folder": {"type": "str"},
    "datastore": {"type": "str"},
    "resource_pool": {"type": "str"},
    "networks": {"type": "list", "elements": "dict", "options": NETWORK},
    "bios_uuid": {"type": "str"},
}


def check(params: _arguments.Params) -> None:
    """Refuse what cannot be right, before anything is connected."""
    wanted = wishes.children(params)
    _network(params["ip_network"])
    if params["all"] and (params["state"] == "present" or params["name"] is not None or params["children"] is not None):
        raise _errors.BadInput(
            "all=true means every child, and only with state=absent or state=detached. Leave name and children out."
        )
    if not params["all"] and params["name"] is None and params["children"] is None:
        raise _errors.BadInput(
            "No child is named. Give name or children, or all=true with state=absent or state=detached."
        )
    if params["force"] and params["state"] != "absent":
        raise _errors.BadInput("force=true is only for state=absent. Leave it out if the children are to be kept.")
    if not 0 <= params["address_timeout"] <= _module.MOST_SECONDS:
        raise _errors.BadInput(
            f"address_timeout is {params['address_timeout']} seconds. Give 0 to {_module.MOST_SECONDS}."
        )
    if params["state"] == "present":
        addresses.check(wanted, _network(params["ip_network"]))
    if params["concurrency"] < 1:
        raise _errors.BadInput(f"concurrency is {params['concurrency']}, and at least 1 is needed. Correct it.")
    secret = any(one.secret_config_params for one in wanted)
    if secret and params["state"] == "present" and params["wait_for"] != "post_clone":
        raise _errors.BadInput(
            "secret_config_params are removed after the post-clone script, so they need wait_for=post_clone. "
            "Use that, or leave them out."
        )
    late = any(adapter.connect == networks.AFTER_POST_CLONE for one in wanted for adapter in one.networks)
    if late and params["state"] == "present" and params["wait_for"] != "post_clone":
        raise _errors.BadInput(
            "connect=after_post_clone waits for the end of the post-clone script, so it needs wait_for=post_clone. "
            "Use that, or another connect."
        )


def work(task: _module.Task, session: Session) -> _module.Result:
    """Make the children be there, or be gone."""
    params = task.params
    deadline = session.deadline
    wanted = wishes.children(params)
    if params["state"] == "present":
        for remark in wishes.remarks(wanted):
            task.warn(remark)
    engine = engines.choose(session, params["api"], params["call_via"])
    parent = parents.find(session, engine, _arguments.vm(params, "parent_"))
    if not wanted and not params["all"]:
        task.warn("children is empty: there is nothing to do.")
        results = []
    elif params["state"] == "present":
        network = _network(params["ip_network"])
        goal = pipeline.Goal(
            params["wait_for"], parent.values, network, engine.param_keys, is_born_running=engine.is_born_running
        )
        how = children.How(
            params["concurrency"], task.check_mode, params["allow_running_parent"], params["address_timeout"]
        )
        results = children.make(parent, wanted, goal, deadline, how, task.warn)
        if params["on_failure"] == "remove" and session.budget.signal is None:
            removal.remove_failed(parent, results, task.warn)
        _warn_of_secrets(results, task)
    else:
        order = removal.Order(params["state"], deadline, task.check_mode, task.warn, params["force"])
        results = removal.every(parent, order) if params["all"] else removal.named(parent, wanted, order)
    return _result(parent.facts(), results, deadline)


def _result(parent: dict[str, t.Any], results: list[Result], deadline: Deadline) -> _module.Result:
    states = ("created", "existing", "removed", "absent", "detached", "failed")
    summary: dict[str, t.Any] = {state: sum(1 for one in results if one.state == state) for state in states}
    summary["seconds"] = round(deadline.elapsed, 2)
    result: _module.Result = {
        "changed": any(one.changed for one in results),
        "parent": parent,
        "children": [one.as_dict() for one in results],
        "summary": summary,
        "diff": {
            "before": {one.name: _before(one) for one in results},
            "after": {one.name: _after(one) for one in results},
        },
    }
    failed = [one for one in results if one.state == "failed"]
    if failed:
        more = f" And {len(failed) - 1} more; see children." if len(failed) > 1 else ""
        raise _errors.OperationFailed(
            f"{len(failed)} of {len(results)} children failed. {failed[0].error}{more}", **result
        )
    return result


def _warn_of_secrets(results: list[Result], task: _module.Task) -> None:
    for one in results:
        child = one.child
        # One that vCenter was still making when the time was over may be there soon.
        there = one.facts["moid"] or (one.changed and not task.check_mode)
        if child is not None and child.wanted.secret_config_params and there and not child.secrets_cleared:
            task.warn(
                f"Could not confirm that secret_config_params were removed from child {one.name}. Remove the child, or "
                "change the secrets."
            )


def _before(result: Result) -> str:
    parts = [result.before or "absent"]
    if result.losses is not None:
        parts += [*result.losses.obstacles, *result.losses.remarks]
    if result.state == "detached" and result.changed:
        parts.append("child of the parent")
    return "; ".join(parts)


def _after(result: Result) -> str:
    if result.state == "detached" and result.changed:
        return f"{result.before}; foreign VM"
    if result.state in ("removed", "absent"):
        return "absent"
    if result.changed and result.state != "failed" and result.child is not None:
        goal = result.child.goal
        return "poweredOff" if goal.wait_for == "created" and not goal.is_born_running else "poweredOn"
    return str(result.facts["power_state"] or result.before or "absent")


def _network(text: str | None) -> facts.IPNetwork | None:
    if text is None:
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise _errors.BadInput(f"ip_network {text} is not a network. Give one such as 192.0.2.0/24.") from None


def main() -> None:
    """Entry point."""
    _module.run(
        work,
        {
            **_arguments.vm_spec("parent_"),
            **_arguments.engine_spec(),
            **PER_CHILD,
            "state": {"type": "str", "choices": ["present", "absent", "detached"], "default": "present"},
            "force": {"type": "bool", "default": False},
            "name": {"type": "list", "elements": "str"},
            "children": {
                "type": "list",
                "elements": "dict",
                "options": {"name": {"type": "str", "required": True}, **PER_CHILD},
            },
            "all": {"type": "bool", "default": False},
            "allow_running_parent": {"type": "bool", "default": False},
            "wait_for": {"type": "str", "choices": list(pipeline.GOALS), "default": "post_clone"},
            "ip_network": {"type": "str"},
            "address_timeout": {"type": "int", "default": executor.ADDRESS_SECONDS},
            "timeout": {"type": "int", "default": 300},
            "concurrency": {"type": "int", "default": 16},
            "on_failure": {"type": "str", "choices": ["keep", "remove"], "default": "keep"},
        },
        check=check,
        mutually_exclusive=[
            ["name", "children"],
            ["parent_name", "parent_moid", "parent_uuid", "parent_inventory_path"],
        ],
        required_one_of=[["parent_name", "parent_moid", "parent_uuid", "parent_inventory_path"]],
    )


if __name__ == "__main__":
    main()
