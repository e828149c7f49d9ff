# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test copies of Ansible's containers."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from unit.plugins.module_utils._ovf.test_vapp_restore import KEPT, backup, vm

from ansible_collections.vmfork.vsphere.plugins.filter import vapp_restore_plan
from ansible_collections.vmfork.vsphere.plugins.lookup import vapp_secrets
from ansible_collections.vmfork.vsphere.plugins.plugin_utils import containers


class LazyDict(dict[Any, Any]):
    """A dictionary that is expensive to copy, as Ansible's are: a copy contains the variables of the play."""

    def __deepcopy__(self, _memo: object) -> NoReturn:
        raise AssertionError("copied with the variables of the play")


class LazyList(list[Any]):
    """A list of that kind."""

    def __deepcopy__(self, _memo: object) -> NoReturn:
        raise AssertionError("copied with the variables of the play")


def lazy(value: Any) -> Any:
    if isinstance(value, dict):
        return LazyDict({name: lazy(item) for name, item in value.items()})
    return LazyList(map(lazy, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("given", [{"a": [{"b": 1}, None, "c"]}, [{}], "text", None, {"a": {"b": {"c": []}}}])
def test_plain(given: Any) -> None:
    made = containers.plain(lazy(given))
    assert made == given
    assert not {LazyDict, LazyList} & set(types(made))


def types(value: Any) -> list[type]:
    """Return the types of a value and of everything in it."""
    inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [type(value), *(kind for item in inside for kind in types(item))]


def test_tuples_and_names() -> None:
    assert containers.plain({1: (2, 3)}) == {"1": [2, 3]}


def test_secrets_of_a_document() -> None:
    made = vapp_secrets.decrypted(lazy(KEPT), str, {})
    assert made["document"] == KEPT
    assert LazyDict not in types(made)


def test_plan() -> None:
    index, documents = backup(KEPT)
    gone = vm(1)
    made = vapp_restore_plan.vapp_restore_plan(lazy({"index": index, "documents": documents}), lazy([gone]))
    assert [row["action"] for row in made["rows"]] == ["restore"]
    assert LazyDict not in types(made)
