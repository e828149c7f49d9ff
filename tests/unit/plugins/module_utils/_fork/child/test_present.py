# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of children that a running VM can have."""

from __future__ import annotations

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.present import too_many_deltas


def layout(*deltas: int) -> vim.vm.FileLayoutEx:
    """Return disks with this number of delta disks on their bases."""
    unit = vim.vm.FileLayoutEx.DiskUnit
    return vim.vm.FileLayoutEx(
        disk=[
            vim.vm.FileLayoutEx.DiskLayout(key=2000, chain=[unit(fileKey=[number]) for number in range(1 + count)])
            for count in deltas
        ]
    )


@pytest.mark.parametrize(
    ("there", "missing", "warned", "refused"),
    [
        (layout(0), 100, False, False),
        (layout(0), 101, True, False),
        (layout(99), 1, False, False),
        (layout(100), 1, True, False),
        (layout(0), 255, True, False),
        (layout(0), 256, False, True),
        (layout(254), 1, True, False),
        (layout(255), 1, False, True),
        pytest.param(layout(3, 255, 0), 1, False, True, id="the longest chain counts"),
        pytest.param(vim.vm.FileLayoutEx(), 101, True, False, id="no disk"),
        pytest.param(layout(-1), 101, True, False, id="a disk without a chain"),
        pytest.param(None, 101, True, False, id="a layout that the user may not see"),
    ],
)
def test_delta_disks(there: vim.vm.FileLayoutEx | None, missing: int, warned: bool, refused: bool) -> None:
    warnings: list[str] = []
    refusal = too_many_deltas("golden", there, missing, warnings.append)
    assert (bool(warnings), refusal is not None) == (warned, refused)


def test_delta_disks_are_counted_as_vsphere_counts_them() -> None:
    warnings: list[str] = []
    assert "would grow to 256 delta disks" in str(too_many_deltas("golden", layout(250), 6, warnings.append))
    assert too_many_deltas("golden", layout(98), 3, warnings.append) is None
    assert ["grows to 101 delta disks" in warning for warning in warnings] == [True]
