# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that Ansible itself writes about a module: in the system's log, and in the result of a refused module."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shlex
import urllib.parse
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import basic
from functional.launch import MODULES, patch_module_args
from functional.output import WITH_INVOCATION, displayed

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _module

try:
    from ansible.module_utils._internal import _logging  # type: ignore[attr-defined,unused-ignore]
except ImportError:  # ansible-core before 2.22
    _logging = None

END = "end-of-what-is-secret"
SECRET = f"kept-out-of-sight-{END}"
HARD = f'"it\'s" C:\\kept@{END}'


@pytest.fixture(params=["journal", "syslog"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the logged messages."""
    lines: list[str] = []
    journal = SimpleNamespace(send=lambda **fields: lines.extend(map(str, fields.values())))
    place: Any = _logging if _logging is not None else basic
    monkeypatch.setattr(place, "has_journal", request.param == "journal")
    monkeypatch.setattr(place, "journal", journal, raising=False)
    monkeypatch.setattr(place.syslog, "syslog", lambda _priority, line: lines.append(line))
    return lines


def run(module: str, **arguments: Any) -> None:
    """Run a module that ends before the login, because no server is given."""
    given = {**WITH_INVOCATION, "parent_name": "golden", **arguments}
    with patch_module_args(given), pytest.raises(SystemExit):
        MODULES[module].main()


def as_text(secret: str) -> list[Any]:
    """Return the ways to write a dict with a secret."""
    return [{"token": secret}, f"token={secret}", json.dumps({"token": secret})]


@pytest.mark.parametrize(
    "given",
    [
        *({"children": [{"name": "web-01", "secret_config_params": secret}]} for secret in as_text(SECRET)),
        *({"name": "web-01", "secret_config_params": secret} for secret in as_text(SECRET)),
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
def test_secrets_are_not_in_the_result_of_a_refused_module(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("vmfork_child", children=[{"name": "web-01", "secret_config_params": given}], nonsense=1)
    output = displayed(capsys.readouterr().out)
    assert "Unsupported parameters" in output
    assert END not in output


@pytest.mark.parametrize("given", as_text(SECRET))
@pytest.mark.parametrize("place", ["at the top", "in children", "in children as text"])
def test_option_that_does_not_exist_is_refused_without_its_value(
    given: Any, place: str, log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a typing error in secret_config_params."""
    child: Any = {"name": "web-01", "secret_config_param": given}
    if place == "in children as text":
        child = json.dumps(child)
    run("vmfork_child", **(child if place == "at the top" else {"children": [child]}))
    output = displayed(capsys.readouterr().out)
    assert "Unsupported parameters" in output
    assert "secret_config_param" in output
    assert "web-01" in output
    assert END not in output + str(log)


def test_guest_login_with_a_typing_error_is_refused_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    login = {"name": "web-01", "guest_username": "root", "guest_passwort": SECRET, "guest_password": "x" * 12}
    with patch_module_args({**WITH_INVOCATION, "guests": [login]}), pytest.raises(SystemExit):
        MODULES["vm_ovfenv_info"].main()
    output = displayed(capsys.readouterr().out)
    assert "Unsupported parameters" in output
    assert "guest_passwort" in output
    assert END not in output


SCRIPT = f"#!/bin/sh\ncurl --user 'deploy:{SECRET}' https://example.com/\n"


@pytest.mark.parametrize(
    "given",
    [
        {"pre_quiesce_script": SCRIPT, "post_clone_script": SCRIPT},
        {"script": SCRIPT, "method": "script"},
        {"script": SCRIPT, "method": "nonsense"},
        {"script": SCRIPT, "nonsense": "nonsense"},
    ],
)
def test_scripts_are_logged_by_their_digest(
    given: dict[str, Any], log: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may contain unmarked secrets."""
    monkeypatch.delenv("VMWARE_HOST", raising=False)
    with patch_module_args({**WITH_INVOCATION, "name": "golden", **given}), pytest.raises(SystemExit):
        MODULES["vmfork_quiesce"].main()
    result = json.loads(displayed(capsys.readouterr().out))
    text = f"{len(SCRIPT)} bytes, SHA-256 {hashlib.sha256(SCRIPT.encode()).hexdigest()}"
    scripts = [value for name, value in result["invocation"]["module_args"].items() if name.endswith("script")]
    assert text in scripts
    assert set(scripts) <= {text, None}
    assert "curl" not in str(result) + str(log)
    assert not log or text in str(log)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(b"x" + text.encode()).decode(),
        lambda text: base64.b64encode(b"user:" + text.encode() + b"@host").decode(),
        lambda text: urllib.parse.quote(text, safe=""),
        urllib.parse.quote_plus,
        lambda text: json.dumps(text)[1:-1],
        lambda text: shlex.quote(f"it's {text}"),
        html.escape,
        lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
    ],
)
def test_encoded_secrets_are_not_displayed(
    encode: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    # A process registers each secret once, so every case has its own.
    secret = f"tëst/key's{request.node.callspec.indices['encode']}+\"of {END}"
    shown = encode(secret)
    run("vmfork_child", name="a", folder=f"web {shown}", secret_config_params={"token": secret}, timeout="none")
    output = displayed(capsys.readouterr().out)
    assert "timeout" in output
    assert shown not in json.loads(output)["invocation"]["module_args"]["folder"]
    assert "web" in json.loads(output)["invocation"]["module_args"]["folder"]


@pytest.mark.parametrize("given", [5, {"name": "web-01"}, "nonsense", ["nonsense", 5, None], None])
def test_invalid_list_of_children_is_left_to_ansible(given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("vmfork_child", children=given)
    assert json.loads(capsys.readouterr().out)["failed"]


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the warnings of this test's module; Ansible collects the warnings of a process."""
    lines: list[str] = []
    monkeypatch.setattr(_module._Module, "warn", lambda _self, text: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ("password", "given", "warned"),
    [
        ("vcenter", {"name": "vcenter-31"}, True),
        ("center-3", {"children": [{"name": "vcenter-31"}]}, True),
        ("center-3", {"children": "name=vcenter-31"}, True),
        ("31", {"name": "web-01", "concurrency": 131}, True),
        ("long-and-rare", {"name": "web-01", "secret_config_params": {"token": "web-01-again"}}, False),
        ("long-and-rare", {"name": "has-the-token", "secret_config_params": {"token": "has-the-token"}}, True),
        ("SPECIFIED", {"name": "web-01"}, False),
    ],
)
def test_warning_of_a_password_that_is_part_of_a_name(
    password: str, given: dict[str, Any], warned: bool, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VMWARE_HOST", raising=False)
    run("vmfork_child", password=password, **given)
    assert len(warnings) == warned
    assert not any(word in str(warnings) for word in (password, "31", "web-01"))


@pytest.mark.parametrize(
    ("password", "result", "warned"),
    [
        ("vcenter", {"remedy": "power_cycle_via_vcenter"}, True),
        ("powered", {"children": [{"power_state": "poweredOff"}]}, True),
        ("power", {"children": [{"power_state": "suspended"}]}, False),
        ("12", {"summary": {"seconds": 3.12}}, True),
        ("rue", {"changed": True}, False),
        # The script's output: users want it masked.
        ("vcenter", {"children": [{"post_clone": {"output": "vcenter\n"}}]}, False),
        ("vcenter", {"vcenter": 1}, False),
    ],
)
def test_warning_of_a_password_that_is_part_of_a_result(
    password: str, result: dict[str, Any], warned: bool, warnings: list[str]
) -> None:
    with patch_module_args({"password": password}), pytest.raises(SystemExit):
        _module._Module(argument_spec=_arguments.connection_spec()).exit_json(**result)
    assert len(warnings) == warned
    assert password not in str(warnings)


LOGIN = f"joe:s3cret%21-{END}"
"""A login as a part of a URL."""


@pytest.mark.parametrize("value", [f"{LOGIN}@192.0.2.1", f"http://{LOGIN}@proxy:3128/", f"http://proxy/?token={END}"])
@pytest.mark.parametrize("place", ["option", "environment"])
@pytest.mark.parametrize("option", ["hostname", "proxy_host"])
@pytest.mark.parametrize("other", [{}, {"nonsense": 1}, {"timeout": "none"}])
def test_login_in_a_host_is_not_repeated(
    option: str,
    place: str,
    value: str,
    other: dict[str, Any],
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is neither in the message nor in the invocation or the log, whatever else is wrong."""
    given = {"hostname": "vcenter", "username": "me", "password": "a-long-and-rare-word", **other}
    if place == "option":
        given[option] = value
    else:
        del given["hostname"]
        monkeypatch.setenv("VMWARE_HOST", "vcenter")
        monkeypatch.setenv({"hostname": "VMWARE_HOST"}.get(option, "VMWARE_PROXY_HOST"), value)
    run("vmfork_child", name="web-01", **given)
    output = displayed(capsys.readouterr().out)
    assert other or f"{option} contains an @" in output
    assert END not in output + str(log)
    assert "joe:" not in output + str(log)


def test_login_in_a_host_is_masked_elsewhere() -> None:
    spec = _arguments.connection_spec()
    found = _arguments.secrets(spec, {"proxy_host": "http://joe:s3cret%21@proxy", "hostname": "vcenter"})
    assert found == {"joe:s3cret%21", "s3cret%21", "s3cret!"}
    assert _arguments.secrets(spec, {"hostname": "joe@vcenter", "proxy_host": None}) == {"joe"}
