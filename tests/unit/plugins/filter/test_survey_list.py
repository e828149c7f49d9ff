# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists in survey answers: the forms in which they are given, and what is refused since it might select everything."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st
from unit import templates

from ansible_collections.vmfork.vsphere.plugins.filter.survey_list import FilterModule

ROOT = pathlib.Path(__file__).parents[4]
survey_list = FilterModule().filters()["survey_list"]


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("web-01", ["web-01"]),
        (" a ,,b\n", ["a", "b"]),
        ("a\r\nb c\n", ["a", "b c"]),
        (["a, b", " c ", ""], ["a, b", "c"]),
        ('["a", "b,c"]', ["a", "b,c"]),
        ("[production] web, db", ["[production] web", "db"]),
        ([1, 2.5], ["1", "2.5"]),
        ("[1, 2]", ["1", "2"]),
        (7, ["7"]),
        (0, ["0"]),
    ],
)
def test_entries(value: object, entries: list[str]) -> None:
    assert survey_list(value, "x") == entries
    assert templates.evaluate("{{ v | vmfork.vsphere.survey_list('x') }}", {"v": value}) == entries


def test_json_that_is_nested_too_deeply_is_a_name() -> None:
    text = "[" * 100_000
    assert survey_list(text, "x") == [text]


def test_commas_are_part_of_entries_on_request() -> None:
    assert survey_list("a{1,2}\n[b,c] ", "x", commas=False) == ["a{1,2}", "[b,c]"]


@pytest.mark.parametrize("value", [True, False, {"a": 1}, [None], [True], ["a", ["b"]], [{"name": "a"}], "[null]"])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(AnsibleFilterError, match=r"^ovfenv_vms must be a list of strings, or a string with commas or"):
        survey_list(value, "ovfenv_vms")


@pytest.mark.parametrize("value", [",", " ", " ,\n", [" "], [""], [",", "\n"], "[]", '[""]'])
def test_lists_without_an_entry_are_refused(value: object) -> None:
    """They would select everything."""
    with pytest.raises(
        AnsibleFilterError, match=r"^ovfenv_vms has no entries\. Set at least one, or leave the variable empty\.$"
    ):
        survey_list(value, "ovfenv_vms")


@given(st.lists(st.from_regex(r"[a-z][\w .-]*[a-z]", fullmatch=True), min_size=1))
def test_text_and_list_are_the_same(names: list[str]) -> None:
    assert survey_list(names, "x") == survey_list(", ".join(names), "x") == survey_list("\n".join(names), "x") == names


def test_messages_do_not_contain_the_value() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        survey_list({"a": "vmforktest-secret"}, "x")
    assert "vmforktest-secret" not in str(caught.value)


def test_no_other_place_splits_lists() -> None:
    files = [path for folder in ("playbooks", "roles") for path in (ROOT / folder).rglob("*") if path.is_file()]
    splitting = [path for path in files if re.search(r"""regex_findall\(["']\[\^""", path.read_text(encoding="utf-8"))]
    assert splitting == []


def test_errors_name_the_variable_that_was_parsed() -> None:
    """Each variable is named twice in a template: as the value, and in the message."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "playbooks/vars").glob("*.yml")]
    found = re.findall(r"""(\w+) \| default\(\[\]\) \| vmfork\.vsphere\.survey_list\(["'](\w+)""", "".join(texts))
    assert len(found) > 5
    assert [names for names in found if names[0] != names[1]] == []
