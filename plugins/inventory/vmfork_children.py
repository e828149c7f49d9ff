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
    a name that cannot be resolved, C(vm-57.invalid), since the name of the VM could be that of another host. A guest
    can report any address; only O(known_hosts_file) proves which machine answers.
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
      - Names of the parents. If not set, the children of all parents are listed, and those without a parent.
      - The inventory fails if there is no VM of a name, so that a misspelt name is not mistaken for a parent without
        children.
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
    description: Use only an address in this network (CIDR notation, C(192.0.2.0/24)) for C(ansible_host).
    type: str
  known_hosts_file:
    description:
      - The file to which the role has written the host keys of the children (its variable C(vmfork_known_hosts_file)).
        If set, C(ansible_ssh_args), C(ansible_host_key_checking) and C(ansible_ssh_host_key_checking) make C(ssh)
        accept exactly these keys. The C(ssh_args) of C(ansible.cfg) follow; C(ssh) uses the first value of an option.
      - The inventory only refers to this file. A relative path is relative to the directory of the configuration file.
    type: str
  hostnames:
    description:
      - Jinja expressions for the name of a host. The first one that consists of letters, digits, spaces and C(._-), and
        begins with a letter, a digit or an underscore, is used. Other names could be options of C(ssh), or paths.
      - The inventory fails if two children get the same name, or if another host or a group has it.
    type: list
    elements: str
    default: [vmfork_child.name, vmfork_moid]
  keyed_groups:
    default:
      - key: vmfork_child.parent.name
        prefix: vmfork_parent
        default_value: unknown
      - key: vmfork_child.esxi_hostname
        prefix: vmfork_host
        default_value: unknown
      - key: vmfork_child.power_state
        prefix: vmfork_state
        default_value: unknown
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

from ansible import constants as C  # noqa: N812, its usual name
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.plugins.loader import connection_loader
from ansible.utils.unsafe_proxy import wrap_var

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core before 2.19

    def trust_as_template(value: str) -> str:  # type: ignore[misc,unused-ignore]
        """Return a text, which is trusted anyway."""
        return value


from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _inventory, _printable, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import listing
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import addresses
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine import select
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server, Session

GROUP = "vmfork_children"
"""The group of all children."""

OPTIONS: _arguments.Spec = {
    **_arguments.connection_spec(),
    "parents": {"type": "list", "elements": "str"},
    "folder": {"type": "str"},
    "datacenter": {"type": "str"},
    "ip_network": {"type": "str"},
    "known_hosts_file": {"type": "str"},
    "timeout": {"type": "int", "default": 300},
}
"""The options whose values are converted as those of modules are. The others are expressions, or Ansible's own."""

SSH_VARIABLES = ("ansible_ssh_args", "ansible_host_key_checking", "ansible_ssh_host_key_checking")
"""The variables with which ``ssh`` accepts only known keys."""

Child = dict[str, t.Any]
"""What the inventory knows about a child, with ``parent``."""


def options_of(given: t.Mapping[str, t.Any], template: t.Callable[[str], t.Any]) -> dict[str, t.Any]:
    """Return the values of :data:`OPTIONS` from the configuration file and the environment; an empty text is not set.

    :param template: evaluates a text that may be a template.
    :raises _errors.BadInput: a value is invalid.
    """
    values = {}
    for name in OPTIONS.keys() & given.keys():
        value = given[name]
        try:
            # A value from ansible-vault is no ordinary text up to ansible-core 2.18, and never a template.
            values[name] = template(value) if isinstance(value, str) else _plain(value)
        except AnsibleError:
            raise _errors.BadInput(
                f"The value of {name} cannot be evaluated as a template. Correct it, or encrypt it with ansible-vault: "
                "then it may have any characters."
            ) from None  # the error may contain the value
    result = ArgumentSpecValidator(OPTIONS).validate(_arguments.given(OPTIONS, values))
    if result.error_messages:
        raise _errors.BadInput(f"The configuration is invalid: {'. '.join(result.error_messages)}.")
    return dict(result.validated_parameters)


def _plain(value: t.Any) -> t.Any:
    return value if value is None or isinstance(value, (bool, int, float, list, dict)) else str(value)


def children_of(listed: t.Mapping[str, t.Any], parents: t.Sequence[str] | None) -> list[Child]:
    """Return our children, each with its parent, from the return values of vmfork_info.

    :param parents: names of the parents; ``None``: all, and the children without one.
    """
    keys = ("name", "moid", "instance_uuid")
    pairs = [
        (child, {key: parent[key] for key in keys})
        for parent in listed["parents"]
        if parents is None or parent["name"] in parents
        for child in parent["children"]
    ]
    if parents is None:
        pairs += [(child, dict.fromkeys(keys)) for child in listed["without_parent"]]
    return [{**child, "parent": parent} for child, parent in pairs if child["recorded"]]


def variables_of(child: Child, ip_network: t.Any = None) -> dict[str, t.Any]:
    """Return the variables of a child's host.

    :param ip_network: the network in which ``ansible_host`` must be; ``None``: any.
    """
    own = [text for text in child["ip_addresses"] if ip_network is None or ipaddress.ip_address(text) in ip_network]
    return {
        "ansible_host": own[0] if own else f"{child['moid']}.invalid",
        "vmfork_moid": child["moid"],
        "vmfork_instance_uuid": child["instance_uuid"],
        "vmfork_inventory_path": child["inventory_path"],
        "vmfork_parent": child["parent"]["name"],
        "vmfork_child": child,
    }


def ssh_variables(child: Child, file: str, ssh_args: str) -> dict[str, t.Any]:
    """Return the variables with which ``ssh`` accepts only a child's keys in a known_hosts file, as the role sets them.

    ssh finds no key under a name with capital letters, splits a value at spaces, and replaces what follows a percent
    sign. It uses the first value of an option, so these come before all others.

    :param ssh_args: Ansible's own setting, which would be replaced.
    """
    name = child["name"]
    alias = name if re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", name) else child["instance_uuid"]
    path = shlex.quote('UserKnownHostsFile="{}"'.format(file.replace("%", "%%")))
    strict = "-o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null"
    arguments = f"-o HostKeyAlias={alias.lower()} {strict} -o {path} {ssh_args}"
    return {**dict.fromkeys(SSH_VARIABLES, True), "ansible_ssh_args": arguments}


def without_templates(value: t.Any) -> t.Any:
    """Return a value in which Ansible evaluates no text, since names and addresses are input of others.

    Only a text with a brace can be a template. ansible-inventory writes a text that is never evaluated as a dictionary,
    from ansible-core 2.19 on each one that is not trusted. AWX 24 cannot import such an address.
    """
    if isinstance(value, dict):
        return {without_templates(key): without_templates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_templates(item) for item in value]
    if not isinstance(value, str):
        return value
    return wrap_var(value) if "{" in value or value.startswith("#") else trust_as_template(value)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """See DOCUMENTATION."""

    NAME = "vmfork.vsphere.vmfork_children"

    def verify_file(self, path: str) -> bool:
        """Return whether a file is meant for this plugin."""
        return super().verify_file(path) and path.endswith(("vmfork_children.yml", "vmfork_children.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Add the children to the inventory, or nothing if there is an error."""
        super().parse(inventory, loader, path, cache)
        given = self._read_config_data(path)
        try:
            self._check_names(given)
            options = options_of(given, self.templar.template)
            ip_network = addresses.network(options["ip_network"])
            file = self._known_hosts_file(options, path)
            children = children_of(self._listed(options, path, cache), options["parents"])
            hosts = self._hosts(children, ip_network, file, inventory.hosts)
            tried = InventoryData()
            # An expression may fail; and where a host has the name of a group, Ansible adds the group.
            self._fill(tried, {f"{host} (tried)": variables for host, variables in hosts.items()})
            if both := hosts.keys() & (tried.groups.keys() | inventory.groups.keys()):
                raise _errors.BadInput(
                    f"{min(both)} would be the name of a host and of a group, so who names one would get the other. "
                    "Set hostnames, or rename the group."
                )
            self._fill(inventory, hosts)
        except _errors.Error as error:
            raise AnsibleParserError(error.sentence) from error

    def _check_names(self, given: t.Mapping[str, t.Any]) -> None:
        """Refuse unknown options: with ``parent`` instead of ``parents``, all children would be listed."""
        unknown = given.keys() - C.config.get_configuration_definitions("inventory", self._load_name).keys()
        if unknown:
            raise _errors.BadInput(f"The inventory has no option {min(unknown)}. Check the spelling.")

    def _listed(self, options: t.Mapping[str, t.Any], path: str, cache: bool) -> dict[str, t.Any]:
        """Return the parents and their children, from the cache if possible.

        :param cache: whether the cache may be read.
        """
        server = _arguments.connection(options)
        scope = {name: options[name] for name in ("parents", "folder", "datacenter")}
        names = json.dumps([server.hostname, server.port, server.username, scope])
        key = f"{self.get_cache_key(path)}_{hashlib.sha256(names.encode()).hexdigest()[:12]}"
        self.load_cache_plugin()
        if cache and self.get_option("cache") and key in self.cache:
            return dict(self.cache[key])
        listed = self._read(server, options["timeout"], **scope)
        if self.get_option("cache"):
            self.cache[key] = listed
        return listed

    def _read(
        self, server: Server, timeout: int, parents: list[str] | None, folder: str | None, datacenter: str | None
    ) -> dict[str, t.Any]:
        """Return the parents and their children below a folder or a datacenter from the server.

        :raises _errors.BadInput: there is no VM with the name of a parent.
        """
        absent = _vmomi.missing()
        if absent is not None:
            raise AnsibleParserError(absent)
        budget = Budget(Deadline(timeout))
        with Session(server, budget) as session:
            engine = select.choose(session, "auto", "soap")
            within = _inventory.vms_within(session, folder, datacenter)
            listed = listing.list_parents(session, engine, session.deadline, None, self.display.warning, within)
            unlisted = set(parents or ()) - {parent["name"] for parent in listed["parents"]}
            if unlisted:  # a VM that has no children there is no mistake
                unlisted -= set(_inventory.names_below(session, session.content.rootFolder).values())
        if unlisted:
            raise _errors.BadInput(f"parents has {min(unlisted)}, but the user sees no VM of that name. Correct it.")
        if within is not None:
            moids = {vm._GetMoId() for vm in within}
            for parent in listed["parents"]:
                parent["children"] = [child for child in parent["children"] if child["moid"] in moids]
        return listed

    def _known_hosts_file(self, options: t.Mapping[str, t.Any], path: str) -> str | None:
        """Return the path of the known_hosts file.

        :raises _errors.BadInput: compose would replace the variables that refer to it.
        """
        file = options["known_hosts_file"]
        if file is None:
            return None
        if composed := set(SSH_VARIABLES) & set(self.get_option("compose")):
            raise _errors.BadInput(
                f"compose sets {min(composed)}, so the keys in known_hosts_file might not be checked. Remove one of "
                "them."
            )
        return str(Path(path).absolute().parent / Path(file).expanduser())

    def _hosts(
        self, children: t.Iterable[Child], ip_network: t.Any, file: str | None, before: t.Mapping[str, t.Any]
    ) -> dict[str, dict[str, t.Any]]:
        """Return the variables of each host by its name.

        :param file: the known_hosts file.
        :param before: the hosts of other inventories, by name.
        """
        hosts: dict[str, dict[str, t.Any]] = {}
        for child in children:
            variables = variables_of(child, ip_network)
            if file is not None:
                variables |= ssh_variables(child, file, self._ssh_args())
            variables = without_templates(variables)
            name = self._host_name(variables, before)
            if name in hosts:
                raise _errors.BadInput(
                    f"Two children, {hosts[name]['vmfork_moid']} and {child['moid']}, would be the host {name}. Set "
                    "hostnames to an expression that is unique, such as vmfork_child.name ~ '_' ~ vmfork_moid."
                )
            hosts[name] = variables
        return hosts

    def _ssh_args(self) -> str:
        """Return what Ansible passes to ``ssh`` first."""
        connection_loader.get("ssh", class_only=True)  # then its options are known
        return str(C.config.get_config_value("ssh_args", plugin_type="connection", plugin_name="ssh") or "")

    def _host_name(self, variables: dict[str, t.Any], before: t.Mapping[str, t.Any]) -> str:
        """Return the name of a child's host.

        :param before: the hosts of other inventories, by name.
        :raises _errors.BadInput: no expression is a name, or it is the name of another host.
        """
        child = variables["vmfork_child"]
        what = f"the child {_printable.text(child['name'])} ({child['moid']})"
        names = (str(self._compose(expression, variables)) for expression in self.get_option("hostnames"))
        name = next((name for name in names if re.fullmatch(r"\w[\w. -]*", name)), None)
        if name is None:
            raise _errors.BadInput(f"No expression of hostnames is a valid name for {what}. Correct hostnames.")
        if name in C.LOCALHOST:
            raise _errors.BadInput(f"The host of {what} would be {name}, which is the controller. Set hostnames.")
        other = before.get(name)
        if other is not None and other.vars.get("vmfork_instance_uuid") != child["instance_uuid"]:
            raise _errors.BadInput(
                f"The inventory has another host {name}, so {what} would be mistaken for it. Set hostnames, or rename "
                "one."
            )
        return name

    def _fill(self, inventory: t.Any, hosts: t.Mapping[str, dict[str, t.Any]]) -> None:
        """Add hosts with their variables and groups."""
        self.inventory = inventory
        group = inventory.add_group(GROUP)
        strict = self.get_option("strict")
        for host, variables in hosts.items():
            inventory.add_host(host, group=group)
            for name, value in variables.items():
                inventory.set_variable(host, name, value)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
