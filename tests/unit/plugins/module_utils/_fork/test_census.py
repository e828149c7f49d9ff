# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is listed under which parent, when the server's word is all there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import census
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.vmfork import VmforkEngine

NOBODY: Any = None
ENGINE = VmforkEngine(NOBODY)  # looks at properties only
ENABLED = {"config.instanceUuid": "p", "config.forkConfigInfo": SimpleNamespace(parentEnabled=True)}
FORK = {"config.forkConfigInfo": SimpleNamespace(parentEnabled=None, childType="persistent")}
PLAIN = {"config.instanceUuid": "v"}


@pytest.mark.parametrize(
    ("everyone", "told", "family", "orphans"),
    [
        pytest.param({"p": ENABLED, "c": FORK}, {}, {"p": []}, ["c"], id="fork, nothing said"),
        pytest.param({"p": ENABLED, "c": FORK}, {"c": "p"}, {"p": ["c"]}, [], id="fork, parent named"),
        pytest.param({"p": PLAIN, "c": PLAIN}, {"c": "p"}, {"p": ["c"]}, [], id="parent that is none any more"),
        pytest.param({"c": FORK}, {"c": "p"}, {}, ["c"], id="parent that cannot be seen"),
        pytest.param({"c": PLAIN}, {"c": "p"}, {}, ["c"], id="neither can be seen otherwise"),
        pytest.param({"p": ENABLED}, {"c": "p"}, {"p": []}, [], id="child that cannot be seen"),
        pytest.param({"v": PLAIN}, {}, {}, [], id="neither parent nor child"),
    ],
)
def test_family(everyone: dict[str, Any], told: dict[str, str], family: dict[str, Any], orphans: list[str]) -> None:
    related = census.relate(everyone, ENGINE, told)
    assert related == family
    assert census.without_parent(everyone, related, told) == orphans


@pytest.mark.parametrize(("frozen", "family"), [(True, {"p": []}), (False, {})])
def test_parent_that_needs_no_enabling_is_one_at_its_fork_point(frozen: bool, family: dict[str, Any]) -> None:
    everyone = {"p": {"config.instanceUuid": "p", "runtime.instantCloneFrozen": frozen}}
    assert census.relate(everyone, InstantCloneEngine(NOBODY), {}) == family
