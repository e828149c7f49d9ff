# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child gets the datastore of a cluster with the most free space that its host can use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import placement

HOST = "host-1"
PARENT: Any = SimpleNamespace(name="golden", session=None, values={"runtime.host": HOST})


def datastore(free: int, host: str = HOST, mounted: bool = True, **values: Any) -> dict[str, Any]:
    mount = SimpleNamespace(key=host, mountInfo=SimpleNamespace(accessible=mounted))
    return {"summary.accessible": True, "summary.freeSpace": free, "host": [mount], **values}


def most_free(monkeypatch: pytest.MonkeyPatch, **members: dict[str, Any]) -> Any:
    monkeypatch.setattr(_properties, "read", lambda _session, _members, _paths: members)
    return placement._most_free(PARENT, "pod", list(members))


def test_most_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_free(monkeypatch, small=datastore(1), large=datastore(3), medium=datastore(2)) == "large"


@pytest.mark.parametrize(
    "unusable",
    [
        datastore(9, host="host-2"),
        datastore(9, mounted=False),
        datastore(9, **{"summary.accessible": False}),
        datastore(9, **{"summary.maintenanceMode": "inMaintenance"}),
    ],
    ids=["another host", "not mounted", "inaccessible", "in maintenance"],
)
def test_unusable_datastore(monkeypatch: pytest.MonkeyPatch, unusable: dict[str, Any]) -> None:
    assert most_free(monkeypatch, unusable=unusable, small=datastore(1)) == "small"
    with pytest.raises(_errors.NotFound, match="can use none of its datastores"):
        most_free(monkeypatch, unusable=unusable)
