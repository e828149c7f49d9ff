# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin: its hosts have the arguments for ssh that the role sets, and no name is a template."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from unit.templates import evaluate, trusted

from ansible_collections.vmfork.vsphere.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.vmfork.vsphere.plugins.inventory import vmfork_children
from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments

ROLE = yaml.safe_load((Path(__file__).parents[4] / "roles/vmfork/vars/main.yml").read_text(encoding="utf-8"))
UUID = "564D0000-0000-4000-8000-000000000001"


@pytest.mark.parametrize("name", ["web-01", "Web-01", "web 01", "*", "web.example.com", "näme"])
@pytest.mark.parametrize("file", ["/srv/known_hosts", "/srv/my keys/100%/it's"])
def test_ssh_arguments(name: str, file: str) -> None:
    child = {"name": name, "instance_uuid": UUID}
    variables: dict[str, Any] = {
        **ROLE,
        "vmfork_children": [{"name": name}],
        "vmfork_result": {"children": [child]},
        "vmfork_known_hosts_file": file,
    }
    alias = evaluate("{{ __vmfork_host_key_aliases[0] }}", variables)
    of_role = evaluate("{{ __vmfork_ssh_args }}", {**variables, "__vmfork_host": {"alias": alias}})
    assert shlex.split(vmfork_children.ssh_arguments(child, file)) == shlex.split(of_role)


def test_variables_are_no_misspelt_ones_of_the_role() -> None:
    child = {"moid": "vm-1", "instance_uuid": UUID, "inventory_path": "/DC0/vm/web-01", "ip_addresses": []}
    variables = vmfork_children.variables_of({**child, "parent": {"name": "golden"}})
    role_path = str(Path(__file__).parents[4] / "roles/vmfork")
    known = evaluate("{{ __vmfork_known_variables }}", {**ROLE, "role_path": role_path})
    assert set(variables) <= set(known)


def test_names_are_no_templates() -> None:
    child = {"name": "{{ 7 * 7 }}", "ip_addresses": ["{% set a = 1 %}"], "moid": "vm-1", "quiesced": None}
    variables = vmfork_children.without_templates({"vmfork_child": child})
    assert variables == {"vmfork_child": child}
    for expression, text in (("vmfork_child.name", "{{ 7 * 7 }}"), ("vmfork_child.ip_addresses[0]", "{% set a = 1 %}")):
        assert Templar(DataLoader(), variables=variables).template(trusted("{{ " + expression + " }}")) == text


def test_options_of_the_connection() -> None:
    """The plugin has the options of the modules, from the same environment variables."""
    options = yaml.safe_load(ModuleDocFragment.PLUGIN)["options"]
    spec = _arguments.connection_spec()
    assert set(options) == set(spec)
    for name, option in options.items():
        assert [variable["name"] for variable in option["env"]] == spec[name]["fallback"][1], name
        assert option.get("default") == spec[name].get("default"), name
        assert "environment variable E(" not in str(option["description"]), name
