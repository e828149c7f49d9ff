# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions for tests that evaluate the templates of playbooks."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

LIVE = pathlib.Path(__file__).parents[2] / ".build/live"


def find_plugins() -> None:
    """Make Ansible find the plugins of the collection, here and in processes that tests start.

    Call it before anything of the collection is imported.
    """
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(LIVE)
    init_plugin_loader([str(LIVE)])


def trusted(value: Any) -> Any:
    """Return the value as Ansible loads it from a playbook: since ansible-core 2.19 other texts are not templates."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return value
    if isinstance(value, dict):
        return {key: trusted(entry) for key, entry in value.items()}
    return trust_as_template(value) if isinstance(value, str) else value


def result_of_a_module(value: Any) -> Any:
    """Return the value as Ansible registers it: what a module returns is no template."""
    try:
        from ansible.template import trust_as_template  # noqa: F401
    except ImportError:
        from ansible.utils.unsafe_proxy import wrap_var

        return wrap_var(value)
    return value


def templar(variables: Mapping[str, Any], loader: DataLoader | None = None) -> Templar:
    """Return what evaluates templates with variables, whose texts may be templates."""
    known = {name: trusted(value) for name, value in variables.items()}
    return Templar(loader=loader or DataLoader(), variables=known)


def evaluate(template: str, variables: Mapping[str, Any]) -> Any:
    """Return the value of a template."""
    return templar(variables).template(trusted(template))
