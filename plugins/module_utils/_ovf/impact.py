# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a missing OVF environment means for a product.

Private to the collection. One table with only what public sources say about a
product; users of other products decide for themselves.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Product


@dataclass(frozen=True)
class Impact:
    """What a missing OVF environment does to a VM.

    :param act: ``now``, ``before_next_boot``, ``never`` or ``decide``.
    """

    text: str
    act: str


UNKNOWN = Impact(
    "Not known for this product. A product that reads its OVF environment at every boot lacks it now. A product that "
    "reads it only at its first boot does not miss it.",
    "decide",
)

AHEAD = Impact(
    "Its next power-on delivers nothing. From then on at the latest, a product that reads its OVF environment at "
    "every boot lacks it.",
    "before_next_boot",
)
"""For a VM whose vApp options or transports are gone. Until that power-on, its guest keeps what it has."""

PRODUCTS: tuple[tuple[str, Impact], ...] = (
    # vmware/vic-product issues 741 (unusable after a host crash and HA restart) and 961 (the same, with the way out).
    (
        r"vsphere integrated containers|\bvic\b.*appliance",
        Impact("It reads its OVF environment at every boot and cannot be used without it.", "now"),
    ),
    # vmware-samples/vcenter-event-broker-appliance, files/setup.sh: runs once, then erases.
    (
        r"event broker appliance",
        Impact("It reads its OVF environment only at its first boot, then erases it.", "never"),
    ),
)
"""Regular expression (searched in the product's name, case ignored) → impact, with its source."""


def of(products: t.Iterable[Product]) -> Impact:
    """Return the effect of a missing OVF environment on a VM with these products; the most urgent, if several match."""
    known = [
        impact
        for product in products
        for pattern, impact in PRODUCTS
        if re.search(pattern, product.name, re.IGNORECASE)
    ]
    return min(known, key=lambda impact: impact.act != "now", default=UNKNOWN)
