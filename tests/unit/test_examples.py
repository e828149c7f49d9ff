# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every documented example is checked against the code: modules, options, their types and choices, and variables.

Examples are the EXAMPLES of the modules, and the YAML and console blocks in the README files and the guides.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.splitter import parse_kv
from functional.launch import MODULES

from ansible_collections.vmfork.vsphere.plugins.inventory import vmfork_children
from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _module

ROOT = Path(__file__).parents[2]
COLLECTION = "vmfork.vsphere."
PAGES = ["README.md", "CONTRIBUTING.md", "roles/vmfork/README.md"]
GUIDES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/docsite/rst").glob("*.rst"))
ROLE = yaml.safe_load((ROOT / "roles/vmfork/meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
PLAYBOOKS = {path.stem: path for path in (ROOT / "playbooks").glob("*.yml")}

VALUES = {"int": 1, "bool": True, "float": 1.0, "list": ["given"], "dict": {"key": "given"}, "str": "given"}
"""Placeholders for the values of templates."""


OPTIONS_OF_ANSIBLE = {"compose", "groups", "strict", "cache", "cache_plugin", "cache_connection", "cache_timeout"}
"""Options that an inventory plugin has by extending Ansible's documentation fragments."""


class Block(NamedTuple):
    """An example and its location."""

    where: str
    kind: str
    text: str


class Constraints(NamedTuple):
    """The options that a module accepts."""

    spec: dict[str, Any]
    others: dict[str, Any]


@cache
def constraints(module: str) -> Constraints:
    """Return a module's options and their constraints, as it passes them to AnsibleModule."""
    with pytest.MonkeyPatch.context() as patch:
        given: list[Constraints] = []
        patch.setattr(
            _module,
            "run",
            lambda _work, spec, _parse, **others: given.append(
                Constraints({**_arguments.connection_spec(), **spec}, others)
            ),
        )
        MODULES[module].main()
    return given[0]


# --- locations of examples --------------------------------------------------------------------------------------------


def blocks() -> Iterator[Block]:
    """Yield all examples."""
    for name, module in MODULES.items():
        yield Block(name, "yaml", module.EXAMPLES)
        remarks = re.findall(r"^# ?(.*)$", module.EXAMPLES, re.MULTILINE)
        yield Block(f"{name} (remarks)", "console", "\n".join(remarks))
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for number, found in enumerate(re.finditer(r"^```(yaml|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
            yield Block(f"{page} {number}", found[1], found[2])
    for guide in GUIDES:
        text = (ROOT / guide).read_text(encoding="utf-8")
        pattern = r"^( *)\.\. code-block:: (yaml|console)\n((?:\1 +\S.*\n|\s*\n)+)"
        for number, found in enumerate(re.finditer(pattern, text, re.MULTILINE)):
            yield Block(f"{guide} {number}", found[2], textwrap.dedent(found[3]))


BLOCKS = list(blocks())


def tasks(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield each use of this collection's modules, roles and module_defaults in a document, with its parameters."""
    if isinstance(node, list):
        for item in node:
            yield from tasks(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if str(key).startswith(COLLECTION) or key == "group/vmfork.vsphere.all":
                yield key, value
            elif key in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                yield f"role {value['name']}", node.get("vars") or {}
            elif key in ("import_playbook", "ansible.builtin.import_playbook"):
                yield f"playbook {value}", node.get("vars") or {}
            elif key == "role" and str(value).startswith(COLLECTION):
                yield f"role {value}", {name: given for name, given in node.items() if str(name).startswith("vmfork_")}
            else:
                yield from tasks(value)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of a console block as words, without output and prompts."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.match(r"\s*(?:\$ )?(ansible(?:-playbook)? .*)$", line)
        if found:
            yield shlex.split(found[1], comments=True)


# --- checks -----------------------------------------------------------------------------------------------------------


def is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def filled_in(given: Any, option: dict[str, Any]) -> Any:
    """Replace templates in a value with values of the right type."""
    if is_template(given):
        return option["choices"][0] if option.get("choices") else VALUES.get(option.get("type", "str"), "given")
    inner = option.get("options")
    if isinstance(given, list):
        of_entry = {**option, "type": option.get("elements", "str")}
        return [filled_in(item, of_entry) for item in given]
    if isinstance(given, dict) and inner:
        return {key: filled_in(value, inner.get(key, {})) for key, value in given.items()}
    if isinstance(given, dict):
        return {key: "given" if is_template(value) else value for key, value in given.items()}
    return given


def check_module(name: str, given: Any) -> None:
    """Check the parameters of a task against the options of the module."""
    module = name.removeprefix(COLLECTION)
    assert module in MODULES, f"there is no module {name}"
    spec, others = constraints(module)
    arguments = filled_in(given or {}, {"options": spec, "type": "dict"})
    groups = {key: value for key, value in others.items() if key.startswith(("mutually", "required"))}
    result = ArgumentSpecValidator(spec, **groups).validate(_arguments.given(spec, arguments))
    assert not result.error_messages, f"{name} with {given}: {result.error_messages}"


def check_role(name: str, given: dict[str, Any]) -> None:
    """Check the variables of a role against its argument spec."""
    assert name == f"{COLLECTION}vmfork"
    spec = ROLE["main"]["options"]
    unknown = set(given) - set(spec)
    assert not unknown, f"the role has no variables {unknown}"
    cleaned = {key: value for key, value in given.items() if not is_template(value)}
    assert ArgumentSpecValidator(spec).validate(filled_in(cleaned, {"options": spec})).error_messages == []


def check_inventory(given: dict[str, Any]) -> None:
    """Check the configuration of the inventory plugin against its documented options."""
    known = set(yaml.safe_load(vmfork_children.DOCUMENTATION)["options"]) | set(_arguments.connection_spec())
    unknown = set(given) - known - OPTIONS_OF_ANSIBLE
    assert not unknown, f"the inventory plugin has no options {unknown}"


def check_playbook(name: str, variables: set[str]) -> None:
    """Check the variables of a playbook against those that it, its files or its role read."""
    playbook = name.removeprefix(COLLECTION)
    assert playbook in PLAYBOOKS, f"there is no playbook {name}"
    files = [PLAYBOOKS[playbook], *(ROOT / "playbooks").glob("tasks/*.yml"), *(ROOT / "playbooks").glob("vars/*.yml")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    of_role = {option for entry_point in ROLE.values() for option in entry_point["options"]}
    of_role = of_role if f"{COLLECTION}vmfork" in text else set()
    unknown = {
        variable for variable in variables if variable not in of_role and not re.search(rf"\b{variable}\b", text)
    }
    assert not unknown, f"{name} has no variables {unknown}"


def extra_variables(words: list[str]) -> set[str]:
    """Return the names of the variables that a command line sets."""
    pairs = itertools.pairwise(words)
    given = [value for flag, value in pairs if flag in ("-e", "--extra-vars") and not value.startswith("@")]
    return {key for text in given for key in (json.loads(text) if text.startswith("{") else parse_kv(text))}


def test_examples_are_found_everywhere() -> None:
    """Otherwise the patterns above no longer match."""
    found = {block.where.split()[0] for block in BLOCKS}
    with_examples = [page for page in GUIDES if re.search(r"code-block:: (yaml|console)", (ROOT / page).read_text())]
    assert len(with_examples) > 5
    assert {*MODULES, "README.md", "roles/vmfork/README.md", *with_examples} <= found
    named = [key for block in BLOCKS if block.kind == "yaml" for key, _given in tasks(yaml.safe_load(block.text))]
    assert {f"{COLLECTION}{module}" for module in MODULES} <= set(named)
    called = [words for block in BLOCKS if block.kind == "console" for words in commands(block.text)]
    assert len(called) > 10


YAML = [pytest.param(block, id=block.where) for block in BLOCKS if block.kind == "yaml"]
CONSOLE = [pytest.param(block, id=block.where) for block in BLOCKS if block.kind == "console"]


@pytest.mark.parametrize("block", YAML)
def test_yaml(block: Block) -> None:
    document = yaml.safe_load(block.text)
    if isinstance(document, dict) and document.get("plugin") == f"{COLLECTION}vmfork_children":
        check_inventory(document)
    for key, given in tasks(document):
        kind, _space, name = key.rpartition(" ")
        if kind == "role":
            check_role(name, given)
        elif kind == "playbook":
            check_playbook(name, set(given))
        elif key == "group/vmfork.vsphere.all":
            for module in MODULES:
                unknown = set(given) - set(constraints(module).spec)
                assert not unknown, f"{module} has no options {unknown}"
        else:
            check_module(key, given)


@pytest.mark.parametrize("block", CONSOLE)
def test_console(block: Block) -> None:
    for words in commands(block.text):
        if words[0] == "ansible-playbook":
            for name in (word for word in words if word.startswith(COLLECTION)):
                check_playbook(name, extra_variables(words))
            continue
        options = dict(itertools.pairwise(words))
        if options.get("-m", "").startswith(COLLECTION):
            given = options.get("-a", "")
            check_module(options["-m"], json.loads(given) if given.startswith("{") else parse_kv(given))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("- vmfork.vsphere.vmfork_chidl: {}", "there is no module"),
        ("- vmfork.vsphere.vmfork_child: {parent: golden, name: a}", "Supported parameters include"),
        ("- vmfork.vsphere.vmfork_child: {parent_name: a, children: [{name: b, folders: c}]}", "children.folders"),
        ("- vmfork.vsphere.vmfork_child: {parent_name: a, name: b, wait_for: ever}", "must be one of"),
        ("- vmfork.vsphere.vmfork_child: {parent_name: a, name: b, timeout: soon}", "timeout"),
        ("- vmfork.vsphere.vmfork_child: {parent_name: a, name: [b], children: [{name: b}]}", "mutually exclusive"),
        ("- role: vmfork.vsphere.vmfork\n  vmfork_parent: golden", "the role has no variables"),
        ("- ansible.builtin.import_playbook: vmfork.vsphere.forks", "there is no playbook"),
        ("plugin: vmfork.vsphere.vmfork_children\nparent: golden", "has no options"),
        ("- module_defaults:\n    group/vmfork.vsphere.all: {host: a}", "has no options"),
    ],
)
def test_wrong_examples_are_found(text: str, wrong: str) -> None:
    with pytest.raises(AssertionError) as error:
        test_yaml(Block("", "yaml", text))
    assert wrong in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '$ ansible localhost -m vmfork.vsphere.vmfork_info -a "names=golden"',
        "$ ansible-playbook vmfork.vsphere.fork -e vmfork_parent=golden",
        "ansible-playbook vmfork.vsphere.fork \\\n  -e '{\"vmfork_child_number\": 2}'",
        "$ ansible-playbook vmfork.vsphere.forking",
    ],
)
def test_wrong_commands_are_found(text: str) -> None:
    with pytest.raises(AssertionError):
        test_console(Block("", "console", text))


# --- the connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        "docs/docsite/rst/guide_getting_started.rst",
        "roles/vmfork/vars/main.yml",
        "tests/integration/targets/playbook_fork/defaults/main.yml",
    ],
)
def test_every_connection_variable_is_documented(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [option for option in _arguments.connection_spec() if not re.search(rf"\bvmfork_{option}\b", text)] == []


def test_every_proxy_environment_variable_is_documented() -> None:
    text = (ROOT / "roles/vmfork/README.md").read_text(encoding="utf-8")
    assert [suffix for suffix in ("HOST", "PORT", "USERNAME", "PASSWORD") if f"VMWARE_PROXY_{suffix}" not in text] == []
