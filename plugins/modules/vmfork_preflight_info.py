#!/usr/bin/python
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vmfork_preflight_info
short_description: Report how many children (Instant Clones) of a parent can be created, and what limits them
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Checks in advance whether a number of children can be created from one or more parents, and reports for each parent
    how many there is room for, and why not for more. Nothing is created or changed.
  - What the user cannot see, or vCenter does not show, is reported as V(unknown), never as V(ok).
  - The number of calls does not depend on the number of children or VMs. It grows with the number of parents.
  - Each parent is checked as if it were the only one. Parents on the same ESXi host or datastore share its room.
  - M(vmfork.vsphere.vmfork_child) makes the same checks in check mode, and the role P(vmfork.vsphere.vmfork#role)
    before it quiesces the parent.
extends_documentation_fragment:
  - vmfork.vsphere.attributes
  - vmfork.vsphere.attributes.action_group
  - vmfork.vsphere.attributes.info
  - vmfork.vsphere.connection
  - vmfork.vsphere.engine
options:
  parent_name:
    description:
      - Names of the parents. If several VMs have one of these names, the task fails and lists their inventory paths.
      - At least one of O(parent_name), O(parent_moid), O(parent_uuid) and O(parent_inventory_path) is required.
    type: list
    elements: str
  parent_moid:
    description: Managed object IDs of the parents, for example V(vm-42).
    type: list
    elements: str
  parent_uuid:
    description: BIOS UUIDs of the parents; with O(parent_use_instance_uuid=true) their instance UUIDs.
    type: list
    elements: str
  parent_inventory_path:
    description: Inventory paths of the parents, for example V(/Datacenter/vm/templates/golden).
    type: list
    elements: str
  parent_use_instance_uuid:
    description: Whether O(parent_uuid) has instance UUIDs.
    type: bool
    default: false
  parent_folder:
    description: Search for O(parent_name) below this VM folder only.
    type: str
  parent_datacenter:
    description: Search for O(parent_name) in this datacenter only. Name or managed object ID.
    type: str
  count:
    description:
      - How many children to check for, from 1 to 10000. Their names are then not checked.
      - Exactly one of O(count), O(name) and O(children) is required.
    type: int
  name:
    description: Names of the children to check for. Children that exist already need no room.
    type: list
    elements: str
  children:
    description:
      - The children to check for, as for O(vmfork.vsphere.vmfork_child#module:children). An entry can be just a name.
      - An option that is omitted from an entry has the top-level value.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the child.
        type: str
        required: true
      config_params:
        description: See O(config_params).
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
  config_params:
    description:
      - Parameters of the children. Only addresses in them are checked, as M(vmfork.vsphere.vmfork_child) does.
    type: dict
  first_address:
    description:
      - IP address of the first child. The next child has the next address, and so on. Cannot be combined with
        O(children).
    type: str
  ip_network:
    description: Network of the children's addresses, for example V(192.0.2.0/24).
    type: str
  persistent:
    description: Whether the children keep their disks when they are powered off. Ignored with Instant Clone.
    type: bool
  folder:
    description: VM folder for the children. The default is the parent's folder.
    type: str
  datastore:
    description: Datastore or datastore cluster for the children. The default is the parent's datastore.
    type: str
  resource_pool:
    description: Resource pool for the children. The default is the parent's.
    type: str
  networks:
    description: Settings of the children's network adapters. Supported by Instant Clone only.
    type: list
    elements: dict
    suboptions:
      label:
        description:
          - Label of the adapter in vCenter. By default, the first entry is for the parent's first adapter, and so on.
        type: str
      network:
        description: Network of the adapter. The default is that of the parent's adapter.
        type: str
      mac_address:
        description: MAC address of the adapter. It requires O(children), since it must be unique.
        type: str
      connect:
        description: When the adapter is connected.
        type: str
        choices: [at_clone, after_post_clone, never]
        default: at_clone
  allow_running_parent:
    description:
      - Whether children are to be created from the running parent, without its fork point. Supported by Instant Clone
        only.
    type: bool
    default: false
  timeout:
    description: Seconds the whole task may take.
    type: int
    default: 300
seealso:
  - module: vmfork.vsphere.vmfork_child
  - module: vmfork.vsphere.vmfork_quiesce
"""

EXAMPLES = r"""
- name: Check whether 32 children of golden can be created
  vmfork.vsphere.vmfork_preflight_info:
    hostname: vcenter.example.com
    username: administrator@vsphere.local
    password: "{{ vcenter_password }}"
    parent_name: golden
    count: 32
    first_address: 192.0.2.11
    ip_network: 192.0.2.0/24
  register: result

- name: Print the result, such as "Room for 22 of 32 children; 88 GiB of memory free on esx-1, 4 GiB a child."
  ansible.builtin.debug:
    msg: "{{ result.preflight[0].text }}"

- name: Stop if anything would fail
  ansible.builtin.assert:
    that: result.preflight[0].checks | selectattr("status", "eq", "block") | length == 0
    fail_msg: "{{ result.preflight[0].text }}"

- name: Check the same parent on several ESXi hosts, for children on another datastore
  vmfork.vsphere.vmfork_preflight_info:
    parent_name: [golden-1, golden-2, golden-3]
    count: 20
    datastore: fast-ssd
"""

RETURN = r"""
preflight:
  description: The result for each parent, in the order of the options.
  returned: success
  type: list
  elements: dict
  contains:
    parent:
      description: The parent, with the keys that M(vmfork.vsphere.vmfork_parent) returns as RV(ignore:parent).
      type: dict
    count:
      description: How many children would be created. Those that exist already do not count.
      type: int
      sample: 32
    room:
      description:
        - How many of them there is room for, as far as it is known. Never more than the smallest
          RV(preflight[].checks[].limit).
        - Checks that are V(unknown) do not reduce it.
      type: int
      sample: 22
    limited_by:
      description: Check that allows the fewest children; V(null) if there is room for all of them.
      type: str
      sample: memory
    text:
      description: The result as a sentence.
      type: str
      sample: "Room for 22 of 32 children: 88 GiB of memory free on esx-1, 4 GiB a child."
    checks:
      description: The checks, always all of them and in the same order.
      type: list
      elements: dict
      contains:
        id:
          description:
            - The check.
            - V(fork_point) and V(tools), whether the parent is at its fork point, or can be brought there.
            - V(devices), V(disks) and V(encryption), whether the parent has devices that prevent forks.
            - V(delta_disks) and V(snapshot), the parent's disk chain, and the snapshot that persistent children need
              with the VMFork methods.
            - V(host), the state of the parent's ESXi host.
            - V(memory_reservation), the memory that the children reserve in their resource pools.
            - V(memory), the free memory of the ESXi host if every child uses all of its own. Children share the memory
              of their parent until they write to it, so that more of them may run.
            - V(datastore), the space for the swap files; V(datastore_growth), for disks that are written completely.
            - V(ports), the free ports of distributed port groups without automatic expansion.
            - V(names), V(addresses) and V(address_range), whether names and addresses are free, and whether
              O(ip_network) has enough addresses.
            - V(drs) and V(ha), the settings of the cluster.
            - V(privileges), the user's privileges.
            - V(license), which vCenter only reports when a child is created.
            - V(server), vCenter's own check of the first child (C(CheckInstantClone_Task)), with Instant Clone.
          type: str
          sample: memory
        status:
          description:
            - V(ok).
            - V(warn) for what may fail, or makes children slow.
            - V(block) if a task with these children would fail.
            - V(unknown) if it cannot be known.
          type: str
          sample: warn
        text:
          description: What was found, as a clause.
          type: str
          sample: 88 GiB of memory free on esx-1, 4 GiB a child
        value:
          description: The measured value if it is a single number. Sizes are in bytes.
          type: int
          sample: 94489280512
        limit:
          description: How many children the check allows; V(null) if it does not limit them, or if that is not known.
          type: int
          sample: 22
        source:
          description: Where the rule is published; V(assumption) if it is not.
          type: str
          sample: vSphere Web Services API reference, HostListSummaryQuickStats.overallMemoryUsage
"""

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _module
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import (
    addresses,
    placement,
    preflight_info,
    present,
    spec,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import parent as parents
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

SELECTORS = ("name", "moid", "uuid", "inventory_path")
MOST_CHILDREN = 10000

WITHOUT_INFLUENCE = ("secret_config_params", "bios_uuid")
"""Options of a child that have no influence on whether there is room for it."""

PER_CHILD: _arguments.Spec = {name: its for name, its in spec.PER_CHILD.items() if name not in WITHOUT_INFLUENCE}


class Request(t.NamedTuple):
    """The request of a task."""

    parents: t.Sequence[_inventory.Selector]
    engine: _arguments.EngineChoice
    question: preflight_info.Question


def parse(params: _arguments.Params) -> Request:
    """Return the options as a request.

    :raises _errors.BadInput: an option is invalid.
    """
    count = params["count"]
    if count is not None and not 1 <= count <= MOST_CHILDREN:
        raise _errors.BadInput(f"count is {count}. Use 1 to {MOST_CHILDREN}.")
    entries = params["children"]
    if entries is None:
        names = params["name"] if count is None else [f"child-{number}" for number in range(1, count + 1)]
        entries = [{"name": name} for name in names]
    elif params["first_address"] is not None:
        raise _errors.BadInput("first_address cannot be combined with children. Set the addresses in config_params.")
    if not entries:
        raise _errors.BadInput("No child is named. Set count, name or children.")
    network = addresses.network(params["ip_network"])
    first, size = _first_address(params["first_address"]), _size(network, None)
    if first is not None:
        size = _size(network, first)
        entries = _numbered(entries, first, size)
    unused = dict.fromkeys(("name", *WITHOUT_INFLUENCE))
    specs = spec.parse({**params, **unused, "children": entries})
    addresses.check(specs, network)
    question = preflight_info.Question(specs, count is None, params["allow_running_parent"], network, size)
    return Request(_parents(params), _arguments.engine(params), question)


def _parents(params: _arguments.Params) -> list[_inventory.Selector]:
    narrowing = {name: params[f"parent_{name}"] for name in ("folder", "datacenter", "use_instance_uuid")}
    result = []
    for kind in SELECTORS:
        for value in params[f"parent_{kind}"] or []:
            if not value.strip():
                raise _errors.BadInput(f"parent_{kind} has an empty entry. Remove it.")
            result.append(_inventory.Selector(**{kind: value}, **narrowing, prefix="parent_"))
    if not result:
        raise _errors.BadInput(
            "No parent is named. Set parent_name, parent_moid, parent_uuid or parent_inventory_path."
        )
    return result


def _first_address(text: str | None) -> addresses.IPAddress | None:
    if text is None:
        return None
    address = addresses.parse(text)
    if address is None or "/" in text:
        raise _errors.BadInput(f"first_address {text} is not an IP address. Use a value such as 192.0.2.11.")
    return address


def _size(network: addresses.IPNetwork | None, first: addresses.IPAddress | None) -> int | t.Literal[False]:
    """Return the number of addresses that children can have in a network, from the first one on."""
    if network is None or (first is not None and first.version != network.version):
        return False
    low, high = int(network.network_address), int(network.network_address) + network.num_addresses - 1
    if network.num_addresses > 2:  # the ends of a smaller one are ordinary addresses (RFC 3021)
        low, high = low + 1, high - (network.version == 4)
    return max(high - (low if first is None else int(first)) + 1, 0)


def _numbered(
    entries: t.Sequence[dict[str, t.Any]], first: addresses.IPAddress, size: int | t.Literal[False]
) -> list[dict[str, t.Any]]:
    """Return the children with their addresses. Those for which the network has none get none."""
    highest = (1 << first.max_prefixlen) - int(first)
    most = highest if size is False else min(highest, size)
    return [
        {**entry, "config_params": {"ipaddress": str(first + number)}} if number < most else entry
        for number, entry in enumerate(entries)
    ]


def work(task: _module.Task[Request], session: Session) -> _module.Result:
    """Judge each parent."""
    request = task.request
    engine = select.choose(session, *request.engine)
    everyone = _inventory.Everyone(session, present.paths_of_all(request.question.children))
    results = []
    for selector in request.parents:
        parent = parents.find(session, engine, selector, placement.related(), everyone)
        judgement = preflight_info.examine(parent, request.question, session.deadline, everyone)
        results.append({"parent": parent.facts(), **judgement.as_dict()})
    return {"changed": False, "preflight": results}


def main() -> None:
    """Run the module."""
    of_parents = [f"parent_{kind}" for kind in SELECTORS]
    _module.run(
        work,
        {
            **{name: {"type": "list", "elements": "str"} for name in of_parents},
            "parent_use_instance_uuid": {"type": "bool", "default": False},
            "parent_folder": {"type": "str"},
            "parent_datacenter": {"type": "str"},
            **_arguments.engine_spec(),
            **PER_CHILD,
            "count": {"type": "int"},
            "name": {"type": "list", "elements": "str"},
            "children": {
                "type": "list",
                "elements": "dict",
                "options": {"name": {"type": "str", "required": True}, **PER_CHILD},
            },
            "first_address": {"type": "str"},
            "ip_network": {"type": "str"},
            "allow_running_parent": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 300},
        },
        parse,
        required_one_of=[of_parents, ["count", "name", "children"]],
        mutually_exclusive=[["count", "name", "children"]],
    )


if __name__ == "__main__":
    main()
