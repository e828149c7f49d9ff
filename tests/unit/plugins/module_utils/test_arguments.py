# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empty strings, as left by surveys and templates, mean that an option is not given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils import basic
from functional.launch import MODULES, patch_module_args

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _module

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
        # An emptied list must not mean "all".
        ({"names": []}, {"names": []}),
        ({"names": ","}, {"names": [" "]}),
        ({"names": "[]"}, {"names": []}),
        ({"entries": []}, {"entries": []}),
        ({"entries": ["", ""]}, {}),
        ({"entries": [{"name": "a", "keys": ""}]}, {"entries": [{"name": "a"}]}),
        ({"entries": ["name=a keys="]}, {"entries": [{"name": "a"}]}),
        ({"entries": [{"name": "a", "inner": [{"label": ""}]}]}, {"entries": [{"name": "a", "inner": [{}]}]}),
        ({"entries": ["nonsense", 5]}, {"entries": ["nonsense", 5]}),
        ({"entries": {"name": ""}}, {"entries": {"name": ""}}),
        # Values for a guest belong to the user.
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
        # Ansible refuses these, or reads them itself.
        ("name=a", "name=a"),
        ("[a", "[a"),
        ([True, None], [True, None]),
    ],
)
def test_children_given_by_name(children: Any, given: Any) -> None:
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
def test_list_given_as_text(given: Any, names: Any) -> None:
    """A survey returns a list as text: as JSON, or as typed by a person with commas."""
    spec: _arguments.Spec = {"name": {"type": "list", "elements": "str"}}
    assert _arguments.given(spec, {"name": given}) == {"name": names}


@pytest.mark.parametrize("children", ["", ",", " ", [""]])
def test_no_name_at_all(children: Any) -> None:
    assert "children" not in _arguments.given(NAMED, {"children": children})


LOGIN = {"hostname": "vcenter.example.com", "username": "someone", "password": "a-long-password-of-someone"}
VMS: dict[str, dict[str, Any]] = {
    "vmfork_child": {"parent_name": "golden", "name": "web-01"},
    "vmfork_conformance": {"name": "golden", "path": "conformance"},
    "vmfork_info": {},
    "vmfork_preflight_info": {"parent_name": "golden", "count": 3},
    "vm_ovfenv_info": {},
    "vapp_backup": {"name": "golden", "directory": "backup"},
    "vapp_restore": {"vms": [{"moid": "vm-1", "restore_from": {}}]},
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


@pytest.mark.parametrize("value", [5, True, 1.5, "x", [None], [[]], [5], {}, {"": None}, {"name": [None]}], ids=repr)
@pytest.mark.parametrize("name", sorted(MODULES))
def test_any_type_of_any_option_is_refused_or_read(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {}

    def connection(params: Any) -> None:
        options.update(params)
        raise _errors.BadInput("Enough.")

    monkeypatch.setattr(_arguments, "connection", connection)

    def end(**given: Any) -> str:
        with patch_module_args({**LOGIN, **VMS.get(name, {"name": "golden"}), **given}):
            try:
                MODULES[name].main()
            except SystemExit:
                return str(json.loads(capsys.readouterr().out)["msg"])
            except Exception as error:  # noqa: BLE001, the option must be named
                return f"Unexpected error: {error!r}"
        raise AssertionError(f"{name} did not end")

    assert end() == "Enough."
    ends = {option: end(**{option: value}) for option in list(options)}
    assert len(ends) > 10
    assert {option: message for option, message in ends.items() if "Unexpected" in message} == {}


@pytest.mark.parametrize("name", ["vmfork_child", "vmfork_parent", "vmfork_quiesce", "vm_ovfenv"])
def test_no_vm_selected(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = "parent_name" if name == "vmfork_child" else "name"
    with patch_module_args({**LOGIN, option: ""}), pytest.raises(SystemExit):
        MODULES[name].main()
    assert "one of the following is required" in json.loads(capsys.readouterr().out)["msg"]


LOST = "a\ud800b"
"""A text that no server and no file can be given: half of a surrogate pair."""


def broken_values(option: dict[str, Any]) -> list[Any]:
    """Return values of an option with such a text in each possible place."""
    kind = option.get("type", "str")
    if option.get("options"):
        inner: list[Any] = []
        for name, sub in option["options"].items():
            others = {other: its for other, its in option["options"].items() if its.get("required") and other != name}
            needed = {other: {} if its.get("type") == "dict" else "web" for other, its in others.items()}
            inner += [{**needed, name: value} for value in broken_values(sub)]
        return [[entry] for entry in inner] if kind == "list" else inner
    if kind == "dict":
        return [{LOST: "a-long-value"}, {"key": LOST}, {"key": [LOST]}, f"key={LOST}"]
    if option.get("choices"):
        return []
    if kind == "list":
        return [[LOST], ["x", LOST], f"x,{LOST}"]
    return [] if kind in ("bool", "int", "float") else [LOST]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_lone_surrogate_in_any_option(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs: list[_arguments.Spec] = []
    original = _module._Module.__init__

    def keep(self: Any, **arguments: Any) -> None:
        specs.append(arguments["argument_spec"])
        original(self, **arguments)

    monkeypatch.setattr(_module._Module, "__init__", keep)
    given = {**LOGIN, **VMS.get(name, {"name": "golden"})}

    def run(arguments: dict[str, Any]) -> dict[str, Any]:
        # This bypasses Ansible's parser, which also refuses such text where the controller's code is loaded.
        monkeypatch.setattr(basic.AnsibleModule, "_load_params", lambda module: setattr(module, "params", arguments))
        with patch_module_args({}), pytest.raises(SystemExit):
            MODULES[name].main()
        printed = capsys.readouterr().out
        assert "\\ud8" not in printed.replace("\\\\ud8", "")
        return dict(json.loads(printed))

    run({**given, "hostname": "no host"})
    tried = 0
    for option, its in specs[0].items():
        for value in broken_values(its):
            result = run(
                {
                    **{key: item for key, item in given.items() if (key, option) != ("name", "children")},
                    option: value,
                }
            )
            tried += 1
            assert result["failed"], option
            assert "exception" not in result, (option, value, result)
            assert option in result["msg"], (option, value, result)
            of_ansible = ("parameters are mutually exclusive", f"value of {option} must be one or more of")
            assert result["msg"].endswith(".") or result["msg"].startswith(of_ansible), (option, value, result)
    assert tried > 10
