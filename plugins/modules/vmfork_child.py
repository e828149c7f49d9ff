#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_child
short_description: Create, remove or detach children of a fork parent (Instant Clone), any number in one task
version_added: 0.1.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - With O(state=present), creates the missing children, powers them on, and waits until each has reported the end of
    its post-clone script. Existing children are left unchanged.
  - With O(state=absent), powers off and destroys children.
  - With O(state=detached), removes the record from children and changes nothing else. They become foreign VMs.
  - Each child created by this module carries a record that names its parent and its own BIOS UUID. A VM without that
    record, or with one that does not fit, is a foreign VM. A foreign VM that has a child's name in the child's folder
    makes that child fail, and is never powered on, powered off or destroyed.
  - The only exception is a powered-off fork of the parent that a task of this module created and could not record.
    O(state=present) completes it. With Instant Clone, a child has its record from the start, if vCenter keeps the
    C(extraConfig) of the clone request. If not, a task that is interrupted before it records the child leaves a running
    VM that is a foreign VM for later tasks.
  - A copy of a child with the same BIOS UUID, for example a restored backup, cannot be distinguished from the child.
    Both are then foreign VMs, whichever datacenter they are in. The module only knows VMs that the user can see, so
    give the user read access to all VMs of the vCenter.
  - One child that fails does not stop the others. The task then fails, and returns the result of each.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
  - vmfork.vsphere.progress
  - vmfork.vsphere.vm.parent
attributes:
  check_mode:
    support: full
    details:
      - The task asks vCenter whether the user has the required privileges. A child that could not be created or removed
        fails.
      - With Instant Clone, vCenter also checks whether each child can be created (C(CheckInstantClone_Task)). Its
        warnings become warnings, its errors make that child fail.
      - The task checks whether there is room for the missing children, as M(vmfork.vsphere.vmfork_preflight_info) does.
        Children for which there is none, because of the ESXi host, reserved memory, datastores or devices, fail. Less
        free memory than the children would need without sharing any is a warning. RV(preflight) has all checks.
      - A running parent is assumed to be quiesced, since an earlier task of the play would quiesce it. RV(parent) shows
        its current state. If the parent is powered off, the task prints a warning.
  diff_mode:
    support: full
    details:
      - For O(state=absent), the diff lists what would be lost with each child, next to its power state.
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) ensures that the children exist, are running, and have reached O(wait_for).
      - V(absent) ensures that the children do not exist. Before a child is powered off, and again before it is
        destroyed, the module checks what would be lost with it. See O(force).
      - V(absent) waits until O(timeout) for running tasks of a child, and for the temporary snapshot of a backup. Other
        snapshots, and an annotation that differs from the parent's, are reported as warnings.
      - V(detached) removes the record from the children. From then on each is a foreign VM, which this module neither
        removes nor accepts as a child. It keeps running and keeps its disks. If a child is not found, the task fails. A
        VM that is not a child of any parent is already detached.
    type: str
    choices: [present, absent, detached]
    default: present
  name:
    description:
      - Names of the children, as a list or separated by commas. Use a list for a name that contains a comma.
      - For options that differ between children use O(children).
    type: list
    elements: str
  children:
    description:
      - The children. An empty list does nothing.
      - An entry can be just a name. Names can also be given as one string, separated by commas or newlines.
      - An option that is omitted from an entry has the top-level value. O(config_params) and O(secret_config_params)
        are merged with the top-level values.
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
        description: See O(networks). The list of a child replaces the top-level list.
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
      - With O(state=absent), also remove children that hold more than they inherited from their parent.
      - By default a child fails, and is neither powered off nor destroyed, if it is a template, if it has children of
        its own, or if it has disks that the parent does not have. vCenter would delete the files of these disks,
        wherever they are. A child whose devices are not visible to the user fails too.
      - A disk counts as inherited if it is based on a file of the parent, or if its size and its controller slot are
        those of one of the parent's disks and its file is in the child's own directory.
      - With V(true), the task does not wait for the temporary snapshot of a backup.
    type: bool
    default: false
  all:
    description:
      - With O(state=absent), remove all children of the parent that this module created. With O(state=detached), detach
        them.
      - This includes children in other datacenters than the parent's. Children given by name are only searched for in
        the parent's datacenter.
    type: bool
    default: false
  config_params:
    description:
      - Parameters that the child's guest reads with C(vmtoolsd --cmd 'info-get guestinfo.fork.KEY').
      - Values are strings, numbers or booleans (V(true) and V(false) in the guest), of up to 65000 bytes.
      - With Instant Clone, they are also available as C(guestinfo.ic.KEY), and a key that starts with C(guestinfo.) is
        used unchanged. With the VMFork methods such a key is refused.
      - The guest cannot distinguish an empty value from a missing one.
      - By default, C(hostname) is the first label of the child's name (V(web-01) for V(web-01.example.com)), converted
        to a valid host name. Invalid characters become hyphens, and letters of other scripts are encoded with IDNA. For
        a name with a domain, C(fqdn) is added. If no host name can be derived, the task prints a warning.
      - An address in a key that the public scripts read, such as C(ipaddress) or C(ip0.address), is compared with those
        of the other children, of the parent and of all VMs that the user can see. All addresses that VMware Tools
        report for a VM count (C(guest.ipAddress) and C(guest.net)), on the network of their adapter. An address that is
        in use on the same network is refused before any child is created. If the network is unknown, the task prints a
        warning.
      - They are set when a child is created. An existing child is not changed.
    type: dict
  secret_config_params:
    description:
      - Like O(config_params), for secrets. Values must have at least 8 characters.
      - They are removed from the VM after the post-clone script, and masked in its output. The runner in the guest does
        this before it reports. The task masks the rest in its own output and in vCenter.
      - Secrets are masked in plain text, in base64, as written in URLs, JSON, XML and shells (C(set -x)), in each line
        of 8 characters or more, and where the output was cut within a secret. Other encodings are not recognized.
      - Until then, users with read access to the settings of the VM in vCenter can read them. Events and logs of
        vCenter are not changed.
      - A child that is powered off, and whose script runs when it is powered on, receives them again. If they were
        removed from a running child before its script started, for example because a signal ended the task, the runner
        does not run the script, and the child fails. Remove it and create it again.
      - A guest without C(awk) reports no output. With O(vmfork.vsphere.vmfork_quiesce#module:method=script), no output
        is reported if the secrets were removed before the end of the script, by the script itself or by a task whose
        O(timeout) was over.
      - They require O(wait_for=post_clone).
    type: dict
  persistent:
    description:
      - Whether a child keeps its disks when it is powered off. This requires a snapshot of the parent.
      - A child that is not persistent is meant to be removed, not restarted. When it is powered on again, it starts at
        the fork point, and its post-clone script runs again.
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
      - For a datastore cluster, the accessible member of the parent's ESXi host with the most free space is used.
        Storage DRS is not used, and all children of the task that name the cluster are on the same member.
    type: str
  resource_pool:
    description:
      - Resource pool for the children, by name, inventory path or managed object ID. It must belong to the parent's
        ESXi host or cluster. If several pools have the same name, the one that does is used. The default is the
        parent's.
    type: str
  networks:
    description:
      - Settings of the children's network adapters. An adapter that is not listed is on the parent's network, has a new
        MAC address, and is connected if the parent's adapter is.
      - They are set when a child is created. An existing child is not changed, except for an adapter with
        O(networks[].connect=after_post_clone) that is not connected yet.
      - VMware's documents contradict each other on whether vCenter applies them. Each new child is therefore checked.
        It fails if it is on another network, has another MAC address, or is connected too early.
      - Supported by Instant Clone only. Refused with the VMFork methods, which cannot change a child's adapters.
    type: list
    elements: dict
    suboptions:
      label:
        description:
          - Label of the adapter in vCenter, for example V(Network adapter 1).
          - By default, the first entry is for the parent's first adapter, the second for its second, and so on.
        type: str
      network:
        description:
          - Standard port group, distributed port group or opaque network in the parent's datacenter, by name, inventory
            path or managed object ID. The parent's ESXi host must have it. The default is the network of the parent's
            adapter.
          - If several networks have this name, the task fails and lists their IDs.
        type: str
      mac_address:
        description:
          - MAC address of the adapter, such as V("00:50:56:01:02:03"). Use quotes, since YAML reads some MAC addresses
            as numbers. Addresses from the ranges that vSphere assigns are refused (V(00:0c:29), and V(00:50:56) from
            V(00:50:56:40) on).
          - MAC addresses must be unique, so with several children use O(children[].networks). An address of the parent,
            or of another VM on the same network, is refused.
          - By default vCenter assigns a new one.
        type: str
      connect:
        description:
          - When the adapter is connected.
          - V(after_post_clone) keeps it disconnected until the child's post-clone script has succeeded, so that the
            child never appears on the network with its parent's address. It requires O(wait_for=post_clone). The script
            must not wait for the network. If the script fails, the adapter remains disconnected.
          - V(never) leaves it disconnected.
        type: str
        choices: [at_clone, after_post_clone, never]
        default: at_clone
  bios_uuid:
    description: BIOS UUID for the child. The default is a new one.
    type: str
  allow_running_parent:
    description:
      - Whether to create children of a running parent, which is not quiesced at its fork point. Supported by Instant
        Clone only.
      - No post-clone script runs in such a child, so O(wait_for=post_clone) is refused. The child has its parent's
        addresses and host name until something in its guest changes them.
      - Each such child adds a delta disk to the parent, which slows the parent down. The task warns if the parent would
        have more than 100 delta disks in a chain, and refuses more than 255, which is the limit of vSphere. For more
        than a few children, quiesce the parent.
    type: bool
    default: false
  wait_for:
    description:
      - What the task waits for in each child.
      - V(created) does not power on children. With Instant Clone, new children are running anyway.
      - V(powered_on) and V(tools) wait for the power-on, and for VMware Tools.
      - V(ip_address) waits for an address of the child's own. It must be on a MAC address of its own adapters, not
        link-local, not one of the parent's, and in O(ip_network) if that is given.
      - V(post_clone) waits until the child has reported the end of its post-clone script. If the exit code is not 0,
        the child fails. After a power-off, the report of a child whose script runs again does not count anymore. The
        report of a persistent child does, and is recorded on the VM, since vCenter might lose it at the power-off. See
        O(vmfork.vsphere.vmfork_quiesce#module:method=script) for a limitation with children that others power on.
    type: str
    choices: [created, powered_on, tools, ip_address, post_clone]
    default: post_clone
  ip_network:
    description:
      - Only an address in this network counts for O(wait_for=ip_address), for example V(192.0.2.0/24).
      - Addresses of children in O(config_params) must be in it.
    type: str
  address_timeout:
    description:
      - Seconds to wait for the address of a new child after the end of its post-clone script, with
        O(wait_for=post_clone). VMware Tools can report it later than the end of the script, in some guests minutes
        later.
      - A child without an address does not fail. A child that still has an address of its parent on the parent's
        network fails, even if its guest uses the parent's MAC address because the post-clone script did not reload the
        network driver. If VMware Tools has not reported anything since the fork, the task prints a warning.
    type: int
    default: 3
  timeout:
    description:
      - Seconds the whole task may take.
      - When the time is over, the task takes up to 120 more seconds in total to record children that vCenter is still
        creating, to remove O(secret_config_params), and for O(on_failure=remove). These children fail anyway.
    type: int
    default: 300
  concurrency:
    description:
      - How many children can be between the request for their creation and their power-on at the same time.
      - Also how many requests are sent to vCenter in parallel, each over its own connection.
    type: int
    default: 16
  on_failure:
    description:
      - What to do with children that this task created and that failed.
    type: str
    choices: [keep, remove]
    default: keep
  return_output:
    description:
      - Whether RV(children[].post_clone.output) of children that did not fail is the whole output instead of its last
        line.
    type: bool
    default: false
    version_added: 0.2.0
  identity:
    description:
      - The identity that each child must have renewed, if the parent was quiesced with
        O(vmfork.vsphere.vmfork_quiesce#module:identity_script). An empty dict requires everything that the guest has.
      - A child fails if its guest has not reported the result, if the report is not valid, if an item was not renewed,
        or if its machine ID or one of its SSH host keys is also that of its parent or of another child of the task.
        Correct the cause, remove the child and create it again.
      - Without this option, only the last two and an invalid report matter, and nothing is required. A child whose
        identity script fails has failed in any case.
      - In any case, a child also fails if the parent was quiesced with an identity script that has not reported the
        parent's identity, so that they cannot be compared. Children that would fail for this reason, or because the
        parent was quiesced without an identity script, are not created.
      - What was accepted is recorded on the child, where its guest cannot change it. Later tasks use this record.
      - The options are passed to the guest as config params, together with the time and with 64 random bytes for its
        random number generator. These bytes are treated like O(secret_config_params).
      - It requires O(wait_for=post_clone).
    type: dict
    version_added: 0.2.0
    suboptions:
      items:
        description:
          - V(auto), or any of V(clock), V(random), V(machine_id), V(leases), V(adapters), V(hostname), V(network),
            V(ssh_host_keys), V(boot_id), V(agents), V(services) and V(announce). An item that is given here must be in
            the guest. With V(auto), an item that the guest does not have is left out.
          - V(network) is added if the network was taken down, which V(leases), V(adapters) and the preparation of the
            parent for one of them do.
          - V(cloud_init), alone or beside the others, lets cloud-init set up the child as a new instance.
        type: list
        elements: str
        default: [auto]
      network:
        description:
          - What manages the network in the guest. V(auto) finds out, and V(none) leaves the network unchanged, which
            must also be given to O(vmfork.vsphere.vmfork_quiesce#module:identity_network). Then V(leases), V(adapters)
            and V(network) are absent. With V(cloud_init), only V(network) is, and cloud-init sets up the network. In a
            Windows guest, only V(auto) and V(none) are valid.
        type: str
        choices: [auto, networkd, netplan, networkmanager, ifupdown, wicked, ip, none]
        default: auto
      agents_remove:
        description:
          - Paths of files in the guest with the identity of agents, to remove before the agents are restarted. They can
            contain wildcards after two components, in C(/usr) and C(/var) after three. Paths in directories such as
            C(/boot) and C(/lib) are refused.
          - In Windows paths such as V(C:\\ProgramData\\agent\\id), C(?) between two words stands for a space, and other
            wildcards can follow two components, in V(\\ProgramData), V(\\Program?Files), V(\\Program?Files?(x86\)) and
            V(\\Users) three. Paths in directories such as V(\\Windows) are refused.
        type: list
        elements: str
      agents_restart:
        description: Names of services in the guest to restart.
        type: list
        elements: str
notes:
  - The required privileges to create children are C(VirtualMachine.Provisioning.Clone) (with the VMFork methods
    C(VirtualMachine.Config.ToggleForkParent) instead), C(VirtualMachine.Inventory.CreateFromExisting),
    C(VirtualMachine.Interact.PowerOn), C(VirtualMachine.Config.AdvancedConfig), C(Resource.AssignVMToPool) and
    C(Datastore.AllocateSpace). O(bios_uuid) with the VMFork methods also requires C(VirtualMachine.Config.Settings).
  - O(networks[].network) requires C(Network.Assign), and O(networks[].connect=after_post_clone)
    C(VirtualMachine.Config.EditDevice) and C(VirtualMachine.Interact.DeviceConnection) on the children. According to
    the vSphere Automation API reference, a MAC address or an adapter that is disconnected from the start requires no
    further privileges. If a vCenter requires these two on the parent as well, the run fails, but check mode does not.
  - Before any child is created, the free ports of distributed port groups are counted, if a port group does not expand
    automatically and the user can read it. They are assigned in the order of the task. Children without a free port
    fail.
  - The required privileges to remove children are C(VirtualMachine.Interact.PowerOff) and
    C(VirtualMachine.Inventory.Delete), and to detach them C(VirtualMachine.Config.AdvancedConfig).
seealso:
  - module: vmfork.vsphere.vmfork_quiesce
  - module: vmfork.vsphere.vmfork_info
  - module: vmfork.vsphere.vmfork_preflight_info
"""

EXAMPLES = r"""
- name: Create three children of golden
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

- name: Connect children to another network after they have their own addresses
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

- name: Set a MAC address with a DHCP reservation, and leave the second adapter disconnected
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

- name: Clone a running VM, without a script in the clone
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    name: golden-copy
    allow_running_parent: true
    wait_for: tools

- name: Create two children that differ in their names only
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

- name: Remove all children of golden
  vmfork.vsphere.vmfork_child:
    parent_name: golden
    state: absent
    all: true

- name: Keep a child as an independent VM
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
    - Each entry also has the keys of RV(parent). They are V(null) if there is no VM.
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
      description: Whether this child was changed, or would be in check mode.
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
      description: Host name that VMware Tools report. Immediately after a fork it can still be the parent's.
      type: str
      sample: web-01
    config_params:
      description:
        - The parameters that were passed to the guest, without secrets.
        - For an existing child, those that vCenter shows, except keys that start with C(guestinfo.).
      type: dict
      sample: {"hostname": "web-01", "ipaddress": "192.0.2.11"}
    secrets_cleared:
      description:
        - Whether O(secret_config_params), and the random bytes for O(identity), were removed from the VM and from its
          report.
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
            - The last 2 kB of its output if the child has failed or with O(return_output=true), otherwise the last line
              of that. Secrets are masked as described for O(secret_config_params).
            - Empty if vCenter has lost it at a power-off.
          type: str
    identity:
      description:
        - What the identity script reported in the child, or V(null) if there is no valid report of this child.
        - See O(identity) and O(vmfork.vsphere.vmfork_quiesce#module:identity_script).
      type: dict
      version_added: 0.2.0
      contains:
        items:
          description: Each item with V(ok), V(absent) if the guest does not have it, or V(failed).
          type: dict
          sample: {"clock": "ok", "machine_id": "ok", "ssh_host_keys": "ok", "agents": "absent"}
        reasons:
          description: Why items are not V(ok), as the script reported it.
          type: dict
          sample: {"agents": "none given"}
        machine_id:
          description: SHA-256 of the machine ID.
          type: str
          sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        ssh_host_keys:
          description: Public SSH host keys, as in a known_hosts file without the host.
          type: list
          elements: str
          sample: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqVPHJZZ5KxjZn1lyLpuUfBHGh1ReQuHXzXCzJ0yj0M"]
        renewed:
          description:
            - Whether the identity was accepted. No item has failed, O(identity) is fulfilled, and neither the parent
              nor another child of the task has the same machine ID or SSH host key. Use the keys only if this is
              V(true).
          type: bool
          sample: true
    seconds:
      description: Seconds this child took, including waiting because of O(concurrency).
      type: float
      sample: 1.31
    timeline:
      description:
        - Seconds from the time when the task began to create children until this child reached each milestone. Waiting
          because of O(concurrency) counts.
        - V(null) if it has not reached it, or had reached it before the task.
      type: dict
      version_added: 0.2.0
      contains:
        created:
          description: vCenter has created it.
          type: float
          sample: 0.52
        powered_on:
          description: It is running.
          type: float
          sample: 0.81
        post_clone:
          description: It has reported the end of its post-clone script.
          type: float
          sample: 1.2
        ready:
          description: Everything that O(wait_for) requires is done.
          type: float
          sample: 1.31
    error:
      description: Why it failed, in one sentence.
      type: str
      sample: null
summary:
  description:
    - Number of children in each state, and the duration of the task in seconds.
    - C(timeline) has for each milestone of RV(children[].timeline) the median (C(p50)), the 95th percentile (C(p95))
      and the maximum (C(max)) of the children, or V(null) if none has reached it during the task.
  returned: success, and when children failed
  type: dict
  sample: {"created": 3, "existing": 0, "removed": 0, "absent": 0, "detached": 0, "failed": 0, "seconds": 2.4,
           "timeline": {"created": {"p50": 0.52, "p95": 0.9, "max": 0.9},
                        "powered_on": {"p50": 0.81, "p95": 1.3, "max": 1.3},
                        "post_clone": {"p50": 1.2, "p95": 1.9, "max": 1.9},
                        "ready": {"p50": 1.31, "p95": 2.02, "max": 2.02}}}
preflight:
  description:
    - Whether there is room for the children to create, with the keys C(count), C(room), C(limited_by), C(text) and
      C(checks) of RV(vmfork.vsphere.vmfork_preflight_info#module:preflight).
    - V(null) if the task is not in check mode, or if no children are missing.
  returned: success, and when children failed
  type: dict
  version_added: 0.2.0
  sample:
    count: 32
    room: 22
    limited_by: memory
    text: "Room for 22 of 32 children: 88 GiB of memory free on esx-1, 4 GiB a child."
    checks: []
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module, _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import (
    addresses,
    executor,
    existing,
    networks,
    placement,
    present,
    spec,
    transitions,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.result import Result, State, timeline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

if t.TYPE_CHECKING:  # Ansible compiles what is imported in every task
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.preflight import Judgement


class Request(t.NamedTuple):
    """The request of a task.

    :param every: whether every child of the parent is selected, instead of named ones.
    :param remove_failed: whether to remove the children that this task creates and that fail.
    """

    parent: _inventory.Selector
    engine: _arguments.EngineChoice
    state: str
    children: t.Sequence[spec.ChildSpec]
    every: bool
    force: bool
    options: present.CreateOptions
    remove_failed: bool
    whole_output: bool


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    specs = spec.parse(params)
    network = addresses.network(params["ip_network"])
    _check_selection(params)
    if not 0 <= params["address_timeout"] <= _module.MOST_SECONDS:
        raise _errors.BadInput(
            f"address_timeout is {params['address_timeout']} seconds. Use 0 to {_module.MOST_SECONDS}."
        )
    if params["state"] == "present":
        addresses.check(specs, network)
    if params["concurrency"] < 1:
        raise _errors.BadInput(f"concurrency is {params['concurrency']}, but must be at least 1. Correct it.")
    if params["state"] == "present" and params["wait_for"] != "post_clone":
        _check_needs_no_script(specs)
    return Request(
        parent=_arguments.vm(params, "parent_"),
        engine=_arguments.engine(params),
        state=params["state"],
        children=specs,
        every=params["all"],
        force=params["force"],
        options=present.CreateOptions(
            wait_for=params["wait_for"],
            network=network,
            concurrency=params["concurrency"],
            allow_running_parent=params["allow_running_parent"],
            address_timeout=params["address_timeout"],
        ),
        remove_failed=params["on_failure"] == "remove",
        whole_output=params["return_output"],
    )


def _check_selection(params: _arguments.Params) -> None:
    """Refuse a task that selects no child, or one that may remove more than intended."""
    if params["all"] and (params["state"] == "present" or params["name"] is not None or params["children"] is not None):
        raise _errors.BadInput(
            "all=true selects every child, and requires state=absent or state=detached. Remove name and children."
        )
    if not params["all"] and params["name"] is None and params["children"] is None:
        raise _errors.BadInput(
            "No child is named. Set name or children, or all=true with state=absent or state=detached."
        )
    if params["force"] and params["state"] != "absent":
        raise _errors.BadInput("force=true is only for state=absent. Remove it to keep the children.")


def _check_needs_no_script(specs: t.Sequence[spec.ChildSpec]) -> None:
    """Refuse options that need the end of the post-clone script if the task does not wait for it."""
    if any(child.identity is not None for child in specs):
        raise _errors.BadInput(
            "identity is known after the post-clone script, so it needs wait_for=post_clone. Set that, or remove it."
        )
    if any(child.secret_config_params for child in specs):
        raise _errors.BadInput(
            "secret_config_params are removed after the post-clone script, so they need wait_for=post_clone. Set "
            "that, or remove them."
        )
    if any(adapter.connect == networks.AFTER_POST_CLONE for child in specs for adapter in child.networks):
        raise _errors.BadInput(
            "connect=after_post_clone waits for the end of the post-clone script, so it needs wait_for=post_clone. "
            "Set that, or use another connect."
        )


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Create, remove or detach the children."""
    request = task.request
    deadline = session.deadline
    if request.state != "present" or request.remove_failed:
        # Few tasks need it, and Ansible compiles what is imported in every task.
        from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import absent
    if request.state == "present":
        for remark in spec.remarks(request.children):
            task.warn(remark)
    engine = select.choose(session, *request.engine)
    is_present = request.state == "present"
    related = placement.related() if is_present else {}
    everyone = _inventory.Everyone(session, present.paths_of_all(request.children) if is_present else existing.PATHS)
    parent = parents.find(session, engine, request.parent, related, everyone if request.children else None)
    judgement = None
    if not request.children and not request.every:
        task.warn("children is empty: there is nothing to do.")
        results: list[Result] = []
    elif request.state == "present":
        results, judgement = present.ensure_present(
            parent, request.children, request.options, deadline, task.check_mode, task.warn, everyone
        )
        if request.remove_failed and session.budget.signal is None:
            absent.remove_failed(parent, results, task.warn)
        _warn_of_secrets(results, task)
    else:
        order = absent.Order(
            request.state, deadline, task.check_mode, task.warn, request.force, request.options.concurrency
        )
        results = (
            absent.remove_all(parent, order)
            if request.every
            else absent.remove_named(parent, request.children, order, everyone)
        )
    return _result(parent.facts(), results, deadline, request.whole_output, judgement)


def _result(
    parent: dict[str, t.Any],
    results: list[Result],
    deadline: Deadline,
    whole_output: bool,
    judgement: Judgement | None,
) -> _module.Result:
    summary: dict[str, t.Any] = {state.value: sum(1 for result in results if result.state is state) for state in State}
    summary["seconds"] = round(deadline.elapsed, 2)
    summary["timeline"] = timeline(results)
    result: _module.Result = {
        "changed": any(child.changed for child in results),
        "parent": parent,
        "children": [child.as_dict(whole_output) for child in results],
        "summary": summary,
        "preflight": None if judgement is None else judgement.as_dict(),
        "diff": {
            "before": {child.name: _before(child) for child in results},
            "after": {child.name: _after(child) for child in results},
        },
    }
    failed = [child for child in results if child.state is State.FAILED]
    if failed:
        more = f" And {len(failed) - 1} more; see children." if len(failed) > 1 else ""
        raise _errors.OperationFailed(
            f"{len(failed)} of {_printable.count(len(results), 'child', 'children')} failed. {failed[0].error}{more}",
            **result,
        )
    return result


def _warn_of_secrets(results: list[Result], task: _module.Task[Request]) -> None:
    for result in results:
        child = result.child
        # A child that vCenter was still creating at the timeout may exist soon.
        there = result.facts["moid"] or (result.changed and not task.check_mode)
        if child is None or not there or child.secrets_cleared:
            continue
        if child.spec.secret_config_params:
            task.warn(
                f"Could not confirm that secret_config_params were removed from child {result.name}. Remove the child, "
                "or change the secrets."
            )
        elif child.spec.entropy is not None and not child.existed:
            task.warn(
                f"Could not confirm that the random bytes for child {result.name} were removed from it. Remove the "
                "child."
            )


def _before(result: Result) -> str:
    parts = [result.before or "absent"]
    if result.losses is not None:
        parts += [*result.losses.obstacles, *result.losses.remarks]
    if result.state is State.DETACHED and result.changed:
        parts.append("child of the parent")
    return "; ".join(parts)


def _after(result: Result) -> str:
    if result.state is State.DETACHED and result.changed:
        return f"{result.before}; foreign VM"
    if result.state in (State.REMOVED, State.ABSENT):
        return "absent"
    if result.changed and result.state is not State.FAILED and result.child is not None:
        return "poweredOn" if result.child.started or result.child.goal.wait_for != "created" else "poweredOff"
    return str(result.facts["power_state"] or result.before or "absent")


def main() -> None:
    """Run the module."""
    _module.run(
        work,
        {
            **_arguments.vm_spec("parent_"),
            **_arguments.engine_spec(),
            **_arguments.progress_spec(),
            **spec.PER_CHILD,
            "state": {"type": "str", "choices": ["present", "absent", "detached"], "default": "present"},
            "force": {"type": "bool", "default": False},
            "name": {"type": "list", "elements": "str"},
            "children": {
                "type": "list",
                "elements": "dict",
                "options": {"name": {"type": "str", "required": True}, **spec.PER_CHILD},
            },
            "all": {"type": "bool", "default": False},
            "allow_running_parent": {"type": "bool", "default": False},
            "wait_for": {"type": "str", "choices": list(transitions.GOALS), "default": "post_clone"},
            "ip_network": {"type": "str"},
            "address_timeout": {"type": "int", "default": executor.ADDRESS_SECONDS},
            "timeout": {"type": "int", "default": 300},
            "concurrency": {"type": "int", "default": 16},
            "on_failure": {"type": "str", "choices": ["keep", "remove"], "default": "keep"},
            "return_output": {"type": "bool", "default": False},
            "identity": {"type": "dict", "options": spec.IDENTITY},
        },
        parse,
        mutually_exclusive=[
            ["name", "children"],
            ["parent_name", "parent_moid", "parent_uuid", "parent_inventory_path"],
        ],
        required_one_of=[["parent_name", "parent_moid", "parent_uuid", "parent_inventory_path"]],
    )


if __name__ == "__main__":
    main()
