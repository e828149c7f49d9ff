# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer vApp options unchanged, or detect that they were changed."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_payload

CONTENT = {"value": "größe \u202e\x1b[31m\u2028 web", "number": 12, "flag": True, "nothing": None}


@pytest.mark.parametrize("key", [None, vapp_payload.new_key()], ids=["plain", "encrypted"])
def test_round_trip(key: str | None) -> None:
    packed = vapp_payload.pack(CONTENT, key)
    assert "web" not in packed
    assert vapp_payload.unpack(packed, key) == CONTENT


@pytest.mark.parametrize("key", [None, vapp_payload.new_key()], ids=["plain", "encrypted"])
@pytest.mark.parametrize("at", [0, 5, -8])
def test_masked(key: str | None, at: int) -> None:
    """Ansible may mask any part of it."""
    packed = vapp_payload.pack(CONTENT, key)
    part = packed[at:][:6]
    masked = remove_values({"content": packed}, {part})["content"]
    assert masked != packed
    with pytest.raises(ValueError, match="was changed in transit"):
        vapp_payload.unpack(masked, key)
    with pytest.raises(ValueError, match="was changed in transit"):
        vapp_payload.unpack(remove_values({"content": packed}, {packed})["content"], key)


def test_other_key() -> None:
    packed = vapp_payload.pack(CONTENT, vapp_payload.new_key())
    for key in (vapp_payload.new_key(), None):
        with pytest.raises(ValueError, match="was changed in transit"):
            vapp_payload.unpack(packed, key)
