# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names as people write them and as vSphere stores them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils import _inventory


@given(st.text())
def test_names_survive_escaping(name: str) -> None:
    stored = _inventory.escape(name)
    assert "/" not in stored
    assert "\\" not in stored
    assert _inventory.unescape(stored) == name


def test_capital_escapes_of_other_clients_are_understood() -> None:
    assert _inventory.unescape("a%2Fb%5Cc%25d%20e") == "a/b\\c%d%20e"
