# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vCenter would deliver: a VM's vApp options, read by the rules of the vSphere API.

Private to the collection. Pure functions over ``config.vAppConfig``. Rules:
vSphere API reference, VAppPropertyInfo and VmConfigInfo.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Product:
    """A product that the vApp options describe."""

    key: int
    class_id: str
    instance_id: str
    name: str
    vendor: str
    version: str
    full_version: str


@dataclass(frozen=True)
class Property:
    """One property.

    :param key: the key under which it is delivered: ``[classId.]id[.instanceId]``.
    :param value: ``None`` where vCenter does not tell it (passwords).
    :param effective: what would be delivered; ``None`` when that is unknown until power-on.
    :param source: ``value``, ``default``, ``computed`` or ``unknown``.
    :param secret: a password, or a name that looks like one.
    :param comparable: whether a delivered value that differs from ``effective`` means anything.
    """

    key: str
    id: str
    class_id: str
    instance_id: str
    type: str
    category: str
    label: str
    user_configurable: bool
    value: str | None = field(repr=False)
    default: str | None = field(repr=False)
    effective: str | None = field(repr=False)
    source: str
    secret: bool
    comparable: bool


@dataclass(frozen=True)
class Configured:
    """A VM's vApp options; ``enabled`` is false when there are none.

    :param transports: ``com.vmware.guestInfo``, ``iso``; none: nothing is delivered.
    :param ip_assignment: ``policy``, ``protocol``, ``supported_schemes``, ``effective_from`` (``vm`` or ``vapp``).
    :param parent_vapps: names of the vApps around the VM, nearest first.
    """

    enabled: bool = False
    transports: tuple[str, ...] = ()
    ip_assignment: dict[str, object] | None = None
    install_boot_required: bool = False
    products: tuple[Product, ...] = ()
    properties: tuple[Property, ...] = ()
    ovf_sections: tuple[dict[str, object], ...] = ()
    eula_count: int = 0
    parent_vapps: tuple[str, ...] = ()
