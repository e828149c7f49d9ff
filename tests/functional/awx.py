# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX makes of extensions/awx: the calls of its modules, the environment of a job, and the answers to a survey."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "extensions" / "awx"
PROJECT = EXTENSION / "project"
AWX_AWX = ROOT / ".build" / "peers" / "ansible_collections" / "awx" / "awx"
SECONDS = 240

RECORDER = '''
import json, os
from ansible.module_utils.basic import AnsibleModule
from .real_controller_api import ControllerModule


class ControllerAPIModule(AnsibleModule):
    """Accept the options of the real class, record them, and end."""

    def __init__(self, argument_spec=None, **others):
        known = {**ControllerModule.AUTH_ARGSPEC, **(argument_spec or {})}
        others = {name: value for name, value in others.items() if name in ("mutually_exclusive", "required_if")}
        super().__init__(argument_spec=known, **others)
        given = {name: value for name, value in self.params.items() if name in argument_spec and value is not None}
        with open(os.environ["RECORDED_CALLS"], "a") as calls:
            calls.write(json.dumps([self._name.rpartition(".")[2], given]) + "\\n")
        self.exit_json(changed=True)
'''
"""Replaces the file of awx.awx that talks to the controller. Its modules, with their argument specs, are real."""


PASSWORDS = {"awx_vcenter_password": "the-password-of-vcenter", "awx_guest_password": "the-password-of-guests"}

Calls = dict[str, list[dict[str, Any]]]


@cache
def setup_calls() -> Calls:
    """Run setup.yml with the modules of awx.awx; return the options of each call by module."""
    with TemporaryDirectory(prefix="vmfork-awx-") as directory:
        collections, calls = Path(directory), Path(directory, "calls")
        copy = collections / "ansible_collections" / "awx" / "awx"
        shutil.copytree(AWX_AWX, copy, ignore=shutil.ignore_patterns("test", "tests", "images"))
        utils = copy / "plugins" / "module_utils"
        (utils / "controller_api.py").rename(utils / "real_controller_api.py")
        (utils / "controller_api.py").write_text(RECORDER)
        ended = subprocess.run(
            ["ansible-playbook", str(EXTENSION / "setup.yml"), "-vv", "-e", json.dumps(PASSWORDS)],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": directory, "RECORDED_CALLS": str(calls)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert not any(password in ended.stdout + ended.stderr for password in PASSWORDS.values())
        recorded = [json.loads(line) for line in calls.read_text().splitlines()]
    found: Calls = {}
    for module, options in recorded:
        found.setdefault(module, []).append(options)
    return found


def named(module: str, name: str) -> dict[str, Any]:
    """Return the options of the call that creates an object with this name."""
    (options,) = [options for options in setup_calls()[module] if options["name"] == name]
    return options


def template(playbook: str) -> dict[str, Any]:
    """Return the job template of a playbook."""
    (options,) = [options for options in setup_calls()["job_template"] if options["playbook"] == f"{playbook}.yml"]
    return options


def environment(credential_type: str, inputs: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """Return the variables that a credential sets in a job, evaluated as AWX evaluates injectors.

    :param directory: where the files of the credential are written.
    """
    kind = named("credential_type", credential_type)
    fields = {field["id"]: field for field in kind["inputs"]["fields"]}
    assert set(inputs) <= set(fields)
    assert set(kind["inputs"]["required"]) <= set(inputs)
    known: dict[str, Any] = {name: False for name, field in fields.items() if field["type"] == "boolean"}
    known |= inputs
    jinja = ImmutableSandboxedEnvironment()
    files = {}
    for name, content in kind["injectors"].get("file", {}).items():
        path = directory / name
        path.write_text(jinja.from_string(content).render(**known))
        files[name.removeprefix("template.")] = str(path)
    known["tower"] = SimpleNamespace(filename=SimpleNamespace(**files))
    return {name: jinja.from_string(text).render(**known) for name, text in kind["injectors"]["env"].items()}


def answers(survey: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """Return the extra variables of a survey: the given answers, the defaults, and an empty text without either."""
    questions = {question["variable"]: question for question in survey["spec"]}
    assert set(given) <= set(questions)
    return {name: given.get(name, question["default"]) for name, question in questions.items()}
