# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empty strings, as surveys and templates leave them: each counts as an option that is not given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from functional.launch import MODULES, patch_module_args

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors

SPEC: _arguments.Spec = {
    "text": {"type": "str", "aliases": ["words"]},
    "number": {"type": "int"},
    "secret": {"type": "str", "no_log": True},
    "keys": {"type": "dict"},
    "names": {"type": "list", "elements": "str"},
    "entries": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str"},
            "keys": {"type": "dict"},
            "inner": {"type": "list", "elements": "dict", "options": {"label": {"type": "str"}}},
        },
    },
}


@pytest.mark.parametrize(
    ("params", "given"),
    [
        ({"text": "", "number": "", "secret": "", "keys": "", "names": "", "entries": ""}, {}),
        ({"words": ""}, {}),
        ({"text": "a", "number": 0}, {"text": "a", "number": 0}),
        ({"text": None, "names": None}, {"text": None, "names": None}),
        ({"names": ["", ""]}, {}),
        ({"names": ["a", "", "b"]}, {"names": ["a", "b"]}),
        ({"names": "a,,b,"}, {"names": ["a", "b"]}),
        ({"names": ","}, {}),
        # A list that something has emptied must not become "all".
        ({"names": []}, {"names": []}),
        ({"entries": []}, {"entries": []}),
        ({"entries": ["", ""]}, {}),
        ({"entries": [{"name": "a", "keys": ""}]}, {"entries": [{"name": "a"}]}),
        ({"entries": ["name=a keys="]}, {"entries": [{"name": "a"}]}),
        ({"entries": [{"name": "a", "inner": [{"label": ""}]}]}, {"entries": [{"name": "a", "inner": [{}]}]}),
        ({"entries": ["nonsense", 5]}, {"entries": ["nonsense", 5]}),
        ({"entries": {"name": ""}}, {"entries": {"name": ""}}),
        # What a guest is to read is the user's own.
        ({"keys": {"empty": ""}}, {"keys": {"empty": ""}}),
        ({"_ansible_version": "", "unknown": ""}, {"_ansible_version": "", "unknown": ""}),
    ],
)
def test_empty_is_not_given(params: dict[str, Any], given: dict[str, Any]) -> None:
    assert _arguments.given(SPEC, params) == given


NAMED: _arguments.Spec = {
    "children": {
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str", "required": True}, "keys": {"type": "dict"}},
    }
}


@pytest.mark.parametrize(
    ("children", "given"),
    [
        (["a", "b"], [{"name": "a"}, {"name": "b"}]),
        (["a", {"name": "b", "keys": {"x": "1"}}], [{"name": "a"}, {"name": "b", "keys": {"x": "1"}}]),
        ([7, "08"], [{"name": "7"}, {"name": "08"}]),
        (["a,b"], [{"name": "a,b"}]),
        ("a, b", [{"name": "a"}, {"name": "b"}]),
        ("a\nb\n", [{"name": "a"}, {"name": "b"}]),
        ("a", [{"name": "a"}]),
        ('["a", {"name": "b"}]', [{"name": "a"}, {"name": "b"}]),
        (["name=a"], [{"name": "a"}]),
        # What Ansible is to refuse, or to read by itself.
        ("name=a", "name=a"),
        ("[a", "[a"),
        ([True, None], [True, None]),
    ],
)
def test_names_alone(children: Any, given: Any) -> None:
    assert _arguments.given(NAMED, {"children": children})["children"] == given


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("a, b", ["a", "b"]),
        (" a ,,b\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ('["a", "b,c"]', ["a", "b,c"]),
        ("[1, 2]", [1, 2]),
        ("[]", []),
        ("[a", ["[a"]),
        ("[production] web", ["[production] web"]),
        (["a, b", " c"], ["a, b", " c"]),
        (" ", [" "]),
    ],
)
def test_list_of_texts_that_is_given_as_text(given: Any, names: Any) -> None:
    """A survey gives a list as text: JSON, or what a person writes with commas."""
    spec: _arguments.Spec = {"name": {"type": "list", "elements": "str"}}
    assert _arguments.given(spec, {"name": given}) == {"name": names}


@pytest.mark.parametrize("children", ["", ",", " ", [""]])
def test_no_name_at_all(children: Any) -> None:
    assert "children" not in _arguments.given(NAMED, {"children": children})


LOGIN = {"hostname": "vcenter.example.com", "username": "someone", "password": "a-long-password-of-someone"}
VMS: dict[str, dict[str, Any]] = {
    "vmfork_child": {"parent_name": "golden", "name": "web-01"},
    "vmfork_info": {},
    "vm_ovfenv_info": {},
}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_option_of_every_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    given = {**LOGIN, **VMS.get(name, {"name": "golden"})}

    def connection(params: Any) -> None:
        seen.append(dict(params))
        raise _errors.BadInput("Enough.")

    monkeypatch.setattr(_arguments, "connection", connection)

    def run(**more: Any) -> None:
        with patch_module_args({**more, **given}), pytest.raises(SystemExit):
            MODULES[name].main()

    run()
    options = set(seen[0])
    run(**dict.fromkeys(options, ""))
    assert len(options) > 10
    assert seen[1] == seen[0]


@pytest.mark.parametrize("name", ["vmfork_child", "vmfork_parent", "vmfork_quiesce", "vm_ovfenv"])
def test_no_vm_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = "parent_name" if name == "vmfork_child" else "name"
    with patch_module_args({**LOGIN, option: ""}), pytest.raises(SystemExit):
        MODULES[name].main()
    assert "one of the following is required" in json.loads(capsys.readouterr().out)["msg"]
