# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin: its hosts have the arguments for ssh that the role sets, and no name is a template."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from unit.templates import evaluate, trusted

from ansible_collections.vmfork.vsphere.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.vmfork.vsphere.plugins.inventory import vmfork_children
from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors

ROLE_DIRECTORY = Path(__file__).parents[4] / "roles/vmfork"
ROLE = yaml.safe_load((ROLE_DIRECTORY / "vars/main.yml").read_text(encoding="utf-8"))
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
    variables = vmfork_children.ssh_variables(child, file, "-C -o ControlMaster=auto -o ControlPersist=60s")
    assert shlex.split(variables["ansible_ssh_args"]) == shlex.split(of_role)
    (task,) = yaml.safe_load((ROLE_DIRECTORY / "tasks/inventory.yml").read_text(encoding="utf-8"))
    assert variables.keys() <= task["ansible.builtin.add_host"].keys()


def test_variables_are_no_misspelt_ones_of_the_role() -> None:
    child: dict[str, Any] = {"moid": "vm-1", "instance_uuid": UUID, "inventory_path": "/DC0/vm/web-01"}
    child["ip_addresses"] = []
    variables = vmfork_children.variables_of({**child, "parent": {"name": "golden"}})
    known = evaluate("{{ __vmfork_known_variables }}", {**ROLE, "role_path": str(ROLE_DIRECTORY)})
    assert {name for name in variables if name.startswith("vmfork_")} <= set(known)


def test_names_are_no_templates() -> None:
    child = {"name": "{{ 7 * 7 }}", "ip_addresses": ["{% set a = 1 %}"], "moid": "vm-1", "quiesced": None}
    variables = vmfork_children.without_templates({"vmfork_child": child})
    assert variables == {"vmfork_child": child}
    for expression, text in (("vmfork_child.name", "{{ 7 * 7 }}"), ("vmfork_child.ip_addresses[0]", "{% set a = 1 %}")):
        assert Templar(DataLoader(), variables=variables).template(trusted("{{ " + expression + " }}")) == text


def test_options_of_the_connection() -> None:
    """The plugin has the options of the modules, and leaves their conversion to the same code."""
    options = yaml.safe_load(ModuleDocFragment.PLUGIN)["options"]
    spec = _arguments.connection_spec()
    assert set(options) == set(spec)
    for name, option in options.items():
        assert option.get("default") == spec[name].get("default"), name
        assert option["type"] in ("str", "raw"), name


def options_of(**given: Any) -> dict[str, Any]:
    """Return the options of a configuration file in which ``T(value)`` is a template for a value."""
    return vmfork_children.options_of(given, lambda text: text[2:-1] if text.startswith("T(") else text)


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "USER", "PASSWORD", "PORT", "VALIDATE_CERTS"):
        monkeypatch.delenv(f"VMWARE_{name}", raising=False)
    options = options_of(hostname="T(vc)", port="T(8443)", validate_certs="T(true)", ca_path="T(/ca)", parents="a,b")
    wanted = {"hostname": "vc", "port": 8443, "validate_certs": True, "ca_path": "/ca", "parents": ["a", "b"]}
    assert {name: options[name] for name in wanted} == wanted
    monkeypatch.setenv("VMWARE_HOST", "of-environment")
    options = options_of(hostname="", folder="", ip_network="", known_hosts_file="", parents="", timeout="")
    assert options["hostname"] == "of-environment"
    assert {options[name] for name in ("folder", "ip_network", "known_hosts_file", "parents")} == {None}
    assert (options["validate_certs"], options["timeout"]) == (True, 300)


@pytest.mark.parametrize("certs", ["tru", "T(sometimes)", "2"])
def test_misspelt_check_of_certificates_is_refused(certs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible itself would make it false, and the password would go to whoever answers."""
    with pytest.raises(_errors.BadInput, match="validate_certs"):
        options_of(validate_certs=certs)
    monkeypatch.setenv("VMWARE_VALIDATE_CERTS", certs)
    with pytest.raises(_errors.BadInput, match="validate_certs"):
        options_of()


def test_password_that_looks_like_a_template_is_not_repeated() -> None:
    def fail(text: str) -> None:
        raise AnsibleError(f"template error: {text}")

    with pytest.raises(_errors.BadInput, match="The value of password cannot be evaluated") as raised:
        vmfork_children.options_of({"password": "se{{cret"}, fail)
    assert "cret" not in str(raised.value)


def test_vaulted_value_is_no_template() -> None:
    class Vaulted:
        def __str__(self) -> str:
            return "T(se{{cret)"

    assert options_of(password=Vaulted())["password"] == "T(se{{cret)"
