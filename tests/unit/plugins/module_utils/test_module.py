# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible itself writes about a module: to the system's log, and into the result of one that it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import basic
from functional.launch import MODULES, patch_module_args

END = "end-of-what-is-secret"
SECRET = f"kept-out-of-sight-{END}"
HARD = f'"it\'s" C:\\kept@{END}'


@pytest.fixture(params=["journal", "syslog"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    journal = SimpleNamespace(send=lambda **fields: lines.extend(map(str, fields.values())))
    monkeypatch.setattr(basic, "has_journal", request.param == "journal")
    monkeypatch.setattr(basic, "journal", journal, raising=False)
    monkeypatch.setattr(basic.syslog, "syslog", lambda _priority, line: lines.append(line))
    return lines


def run(module: str, **arguments: Any) -> None:
    """Run a module that ends before it is connected, since no server is named."""
    with patch_module_args({"parent_name": "golden", **arguments}), pytest.raises(SystemExit):
        MODULES[module].main()


def as_text(secret: str) -> list[Any]:
    """The ways to write a dict with a secret."""
    return [{"token": secret}, f"token={secret}", json.dumps({"token": secret})]


@pytest.mark.parametrize(
    "given",
    [
        *({"children": [{"name": "web-01", "secret_config_params": one}]} for one in as_text(SECRET)),
        *({"name": "web-01", "secret_config_params": one} for one in as_text(SECRET)),
        {"children": f"name=web-01 secret_config_params=token={SECRET}"},
        {"children": [{"name": "web-01", "secret_config_params": {"token": HARD}}]},
        {"children": [{"name": "web-01", "secret_config_params": json.dumps({"token": HARD})}]},
    ],
)
def test_secrets_are_not_logged(
    log: list[str], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VMWARE_HOST", raising=False)
    run("vmfork_child", **given)
    assert "hostname is missing" in capsys.readouterr().out
    assert "Invoked with" in str(log)
    assert "web-01" in str(log)
    assert END not in str(log)


@pytest.mark.parametrize("given", as_text(SECRET))
def test_secrets_are_not_in_the_result_of_what_ansible_refuses(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("vmfork_child", children=[{"name": "web-01", "secret_config_params": given}], nonsense=1)
    said = capsys.readouterr().out
    assert "Unsupported parameters" in said
    assert END not in said


@pytest.mark.parametrize("given", [5, {"name": "web-01"}, "nonsense", ["nonsense", 5, None], None])
def test_what_is_no_list_of_children_is_left_to_ansible(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("vmfork_child", children=given)
    assert json.loads(capsys.readouterr().out)["failed"]
