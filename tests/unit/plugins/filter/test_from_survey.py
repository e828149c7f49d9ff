# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Survey answers are parsed as YAML, and a secret in them is not part of an error."""

from __future__ import annotations

import traceback

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.vmfork.vsphere.plugins.filter.from_survey import FilterModule

from_survey = FilterModule().filters()["from_survey"]
SECRET = "vmforktest-9876543210"


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, ["a"], 7, False])
def test_other_values_are_unchanged(value: object) -> None:
    assert from_survey(value, "x") is value


def test_parses_yaml_and_json() -> None:
    assert from_survey('{"vm": {"key": "value"}}', "x") == {"vm": {"key": "value"}}
    assert from_survey("vm:\n  key: value\n", "x") == {"vm": {"key": "value"}}


@pytest.mark.parametrize(
    "value",
    [f"!{SECRET}", f"!{SECRET} x", f"*{SECRET}", f"@{SECRET}", f"!!int {SECRET}", f"!!float {SECRET}", f"a: {SECRET}"],
)
def test_errors_do_not_contain_the_text(value: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        from_survey(f"vm:\n  password: {value}\n", "vapp_restore_secrets")
    assert str(caught.value).startswith("vapp_restore_secrets is not valid YAML")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_errors_name_the_position() -> None:
    with pytest.raises(AnsibleFilterError, match=r"YAML \(line 2, column 13\)\. Put values"):
        from_survey(f"vm:\n  password: !{SECRET}\n", "x")
