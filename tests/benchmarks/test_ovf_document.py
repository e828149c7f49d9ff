# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of OVF environment documents that are parsed and masked per second.

`make costs` prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from unit.plugins.module_utils._ovf.documents import ADAPTERS, PLATFORM, entity, environment, properties

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

SECONDS = 1.0


def per_second(work: Callable[..., object], *given: object) -> float:
    done = 0
    began = time.process_time()
    while (passed := time.process_time() - began) < SECONDS:
        work(*given)
        done += 1
    return done / passed


def document_of_size(own: int, siblings: int) -> str:
    given = {f"vami.key{number}.Appliance": f"value number {number}" for number in range(own - 1)}
    given["vami.password.Appliance"] = "hush-3Qx9-hush"
    return environment(PLATFORM, properties(given), ADAPTERS, *(entity(f"vm{n}", given) for n in range(siblings)))


def test_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    mask = Mask()
    rows = []
    for what, text in (
        ("10 properties", document_of_size(10, 0)),
        ("50 properties", document_of_size(50, 0)),
        ("50 properties, 10 siblings", document_of_size(50, 10)),
    ):
        rows.append(
            (
                what,
                len(text) / 1000,
                per_second(document.parse, text),
                per_second(document.facts, document.parse(text), "vm-1", mask),
                per_second(mask.xml, text),
            )
        )
    with capsys.disabled():
        print(f"\n\n{'documents in a second of CPU':32}{'kB':>6}{'parse':>8}{'facts':>8}{'xml':>8}")
        for name, size, *numbers in rows:
            print(f"{name:32}{size:6.1f}" + "".join(f"{number:8.0f}" for number in numbers))
    # A report on 2,000 VMs must not wait for this.
    assert all(number > 20 for _name, _size, *numbers in rows for number in numbers)
