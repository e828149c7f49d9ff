# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test that the playbooks take a variable for each option that says how vCenter is reached."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("playbook", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_connection_options_have_variables(playbook: pathlib.Path) -> None:
    (defaults,) = (
        play["module_defaults"] for play in yaml.safe_load(playbook.read_text()) if "module_defaults" in play
    )
    connection = defaults["group/vmfork.vsphere.all"]
    missing = {
        option for option in _arguments.connection_spec() if f"vmfork_{option} " not in connection.get(option, "")
    }
    assert missing <= {"timeout"}


def test_readme_lists_connection_variables() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = {option for option in _arguments.connection_spec() if f"`vmfork_{option}`" not in readme}
    assert missing <= {"timeout"}
