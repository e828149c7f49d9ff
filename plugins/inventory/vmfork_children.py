# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vmfork_children
short_description: Inventory of forked children
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Lists the children that M(vmfork.vsphere.vmfork_child) has created, as hosts. Other VMs are never listed, not even
    ordinary clones of a child.
  - Uses a YAML file whose name ends with C(vmfork_children.yml) or C(vmfork_children.yaml).
  - All hosts are members of the group C(vmfork_children).
  - Each host has the variables C(vmfork_moid), C(vmfork_instance_uuid), C(vmfork_inventory_path) and C(vmfork_parent),
    which the role P(vmfork.vsphere.vmfork#role) sets as well, and C(vmfork_child), a dictionary with everything that
    M(vmfork.vsphere.vmfork_info) returns for the child, and its parent's C(name), C(moid) and C(instance_uuid) as
    C(parent). Expressions of O(compose), O(groups), O(keyed_groups) and O(hostnames) can use all of them.
  - C(ansible_host) is the first address that VMware Tools has reported on the child's own adapters. Without one, it is
    not set.
  - Logs in once, and reads all VMs in pages, so the number of calls does not depend on the number of children.
extends_documentation_fragment:
  - vmfork.vsphere.connection.plugin
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [vmfork.vsphere.vmfork_children]
  parents:
    description:
      - Names of the parents. If not set, the children of all parents are listed.
      - The inventory fails if there is no parent of a name, so that a misspelt name is not mistaken for a parent
        without children.
    type: list
    elements: str
  folder:
    description:
      - List only children below this VM folder.
      - An inventory path such as V(/Datacenter/vm/web), or a path below the datacenter's VM folder such as V(web).
    type: str
  datacenter:
    description: List only children in this datacenter. Name or managed object ID.
    type: str
  ip_network:
    description: Use only an address in this network, in CIDR notation, for C(ansible_host).
    type: str
  known_hosts_file:
    description:
      - The file to which the role has written the host keys of the children (its variable C(vmfork_known_hosts_file)).
        If set, C(ansible_ssh_common_args) and C(ansible_host_key_checking) make C(ssh) accept exactly these keys.
      - The inventory only refers to this file. A relative path is relative to the directory of the configuration file.
    type: str
  hostnames:
    description:
      - Jinja expressions for the name of a host. The first one that is not empty is used.
      - The inventory fails if two children get the same name.
    type: list
    elements: str
    default: [vmfork_child.name]
  keyed_groups:
    default:
      - key: vmfork_child.parent.name
        prefix: vmfork_parent
      - key: vmfork_child.esxi_hostname
        prefix: vmfork_host
      - key: vmfork_child.power_state
        prefix: vmfork_state
  timeout:
    description: Seconds that reading the inventory may take.
    type: int
    default: 300
seealso:
  - module: vmfork.vsphere.vmfork_info
"""

EXAMPLES = r"""
# web.vmfork_children.yml: all children. The login is in the environment: VMWARE_HOST, VMWARE_USER, VMWARE_PASSWORD.
# ansible-inventory -i web.vmfork_children.yml --graph
---
plugin: vmfork.vsphere.vmfork_children
...

# The running children of two parents, reached by SSH with the keys that the role has written.
---
plugin: vmfork.vsphere.vmfork_children
hostname: vcenter.example.com
username: reader@vsphere.local
password: "{{ lookup('ansible.builtin.env', 'VCENTER_PASSWORD') }}"
parents:
  - golden
  - golden-db
ip_network: 192.0.2.0/24
known_hosts_file: known_hosts
compose:
  ansible_user: "'admin'"
groups:
  running: vmfork_child.power_state == 'poweredOn'
  database: vmfork_parent == 'golden-db'
...

# Names that are unique although children in several folders have the same name.
---
plugin: vmfork.vsphere.vmfork_children
hostnames:
  - vmfork_child.name ~ '_' ~ vmfork_moid
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /var/cache/ansible
cache_timeout: 60
...
"""

import hashlib
import ipaddress
import json
import re
import shlex
import typing as t
from pathlib import Path

from ansible.constants import LOCALHOST
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import listing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import addresses
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session

GROUP = "vmfork_children"
"""The group of all children."""

Child = dict[str, t.Any]
"""What the inventory knows about a child, with ``parent``."""


def children_of(listed: t.Mapping[str, t.Any], parents: t.Sequence[str] | None) -> list[Child]:
    """Return our children, each with its parent, from the return values of vmfork_info.

    :param parents: names of the parents; ``None``: all, and the children without one.
    :raises _errors.BadInput: there is no parent of a name.
    """
    missing = sorted(set(parents or ()) - {parent["name"] for parent in listed["parents"]})
    if missing:
        raise _errors.BadInput(
            f"No fork parent is named {missing[0]}, or it is not visible to the user. Correct parents, or fork a child "
            "of it first."
        )
    pairs = [
        (child, {key: parent[key] for key in ("name", "moid", "instance_uuid")})
        for parent in listed["parents"]
        if parents is None or parent["name"] in parents
        for child in parent["children"]
    ]
    orphans = [(child, dict.fromkeys(("name", "moid", "instance_uuid"))) for child in listed["without_parent"]]
    if parents is None:
        pairs += orphans
    return [{**child, "parent": parent} for child, parent in pairs if child["recorded"]]


def variables_of(child: Child, ip_network: t.Any = None, known_hosts_file: str | None = None) -> dict[str, t.Any]:
    """Return the variables of a child's host.

    :param ip_network: the network in which ``ansible_host`` must be; ``None``: any.
    :param known_hosts_file: its host keys are in this file.
    """
    found = {
        "vmfork_moid": child["moid"],
        "vmfork_instance_uuid": child["instance_uuid"],
        "vmfork_inventory_path": child["inventory_path"],
        "vmfork_parent": child["parent"]["name"],
        "vmfork_child": child,
    }
    own = [text for text in child["ip_addresses"] if ip_network is None or ipaddress.ip_address(text) in ip_network]
    if own:
        found["ansible_host"] = own[0]
    if known_hosts_file is not None:
        # Otherwise host_key_checking = False of ansible.cfg would come before these arguments.
        found["ansible_host_key_checking"] = True
        found["ansible_ssh_common_args"] = ssh_arguments(child, known_hosts_file)
    return found


def ssh_arguments(child: Child, file: str) -> str:
    """Return the arguments with which ``ssh`` accepts only a child's keys in a known_hosts file, as the role sets them.

    ssh finds no key under a name with capital letters, splits a value at spaces, and replaces what follows a percent
    sign.
    """
    name = child["name"]
    alias = name if re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", name) else child["instance_uuid"]
    path = shlex.quote('UserKnownHostsFile="{}"'.format(file.replace("%", "%%")))
    strict = "-o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null"
    return f"-o HostKeyAlias={alias.lower()} {strict} -o {path}"


def without_templates(value: t.Any) -> t.Any:
    """Return a value in which Ansible evaluates no text, since names and addresses are input of others.

    Only a text with a brace can be a template. From ansible-core 2.19 on, no text of a plugin is evaluated anyway.
    """
    if isinstance(value, dict):
        return {without_templates(key): without_templates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_templates(item) for item in value]
    return wrap_var(value) if isinstance(value, str) and "{" in value else value


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """See DOCUMENTATION."""

    NAME = "vmfork.vsphere.vmfork_children"

    def __init__(self) -> None:
        super().__init__()
        self._children: dict[str, str] = {}
        """The moid of each child by the name of its host."""

    def verify_file(self, path: str) -> bool:
        """Return whether a file is meant for this plugin."""
        return super().verify_file(path) and path.endswith(("vmfork_children.yml", "vmfork_children.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Add the children to the inventory."""
        super().parse(inventory, loader, path, cache)
        given = self._read_config_data(path)
        try:
            ip_network = addresses.network(self.get_option("ip_network"))
            children = children_of(self._listed(given, path, cache), self.get_option("parents"))
        except _errors.Error as error:
            raise AnsibleParserError(error.sentence) from error
        file = self.get_option("known_hosts_file")
        if file is not None:
            file = str(Path(path).absolute().parent / Path(file).expanduser())
        variables = [without_templates(variables_of(child, ip_network, file)) for child in children]
        for host, of_host in [(self._host_name(each), each) for each in variables]:  # all names are known first
            self._add(inventory, host, of_host)

    def _listed(self, given: dict[str, t.Any], path: str, cache: bool) -> dict[str, t.Any]:
        """Return the parents and their children, from the cache if possible.

        :param cache: whether the cache may be read.
        """
        server = _arguments.connection({name: self._connection(given, name) for name in _arguments.connection_spec()})
        scope = (self.get_option("folder"), self.get_option("datacenter"))
        names = json.dumps([server.hostname, server.port, server.username, *scope])
        key = f"{self.get_cache_key(path)}_{hashlib.sha256(names.encode()).hexdigest()[:12]}"
        self.load_cache_plugin()
        if cache and self.get_option("cache") and key in self.cache:
            return dict(self.cache[key])
        listed = self._read(server, *scope)
        if self.get_option("cache"):
            self.cache[key] = listed
        return listed

    def _connection(self, given: dict[str, t.Any], name: str) -> t.Any:
        """Return an option of the connection. Only a value in the file can be a template; an empty one is not set."""
        value = self.get_option(name)
        if name in given and isinstance(value, str):
            value = self.templar.template(value)
        return None if value == "" else value

    def _read(self, server: Server, folder: str | None, datacenter: str | None) -> dict[str, t.Any]:
        """Return the parents and their children below a folder or a datacenter from the server."""
        absent = _vmomi.missing()
        if absent is not None:
            raise AnsibleParserError(absent)
        budget = Budget(Deadline(self.get_option("timeout")))
        with Session(server, budget) as session:
            engine = select.choose(session, "auto", "soap")
            within = _inventory.vms_within(session, folder, datacenter)
            listed = listing.list_parents(session, engine, session.deadline, None, self.display.warning, within)
        if within is not None:
            moids = {vm._GetMoId() for vm in within}
            for parent in listed["parents"]:
                parent["children"] = [child for child in parent["children"] if child["moid"] in moids]
        return listed

    def _add(self, inventory: t.Any, host: str, variables: dict[str, t.Any]) -> None:
        """Add a child with its variables and groups."""
        group = inventory.add_group(GROUP)
        inventory.add_host(host, group=group)
        for name, value in variables.items():
            inventory.set_variable(host, name, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _host_name(self, variables: dict[str, t.Any]) -> str:
        """Return the name of a child's host, which no other host has."""
        child = variables["vmfork_child"]
        what = f"the child {child['name']} ({child['moid']})"
        names = (self._compose(expression, variables) for expression in self.get_option("hostnames"))
        name = str(next(filter(None, names), ""))
        if not name:
            raise AnsibleParserError(f"No expression of hostnames is a name for {what}. Correct hostnames.")
        if name in LOCALHOST:
            raise AnsibleParserError(
                f"The name of {what} would be {name}, the name of the controller for Ansible. Set hostnames."
            )
        other = self._children.setdefault(name, child["moid"])
        if other != child["moid"]:
            raise AnsibleParserError(
                f"The host of {what} would be named {name}, as that of the child {other}. Set hostnames to an "
                "expression that is unique, such as vmfork_child.name ~ '_' ~ vmfork_moid."
            )
        return name
