# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who powered a VM on: the verdict over the events of its last power-on.

Private to the collection. Pure functions; ``history.py`` reads the events.
Event types: vSphere API reference, vim.event.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """What we need of one event.

    :param type: class name without package (``VmPoweredOnEvent``), or the ID of an EventEx.
    :param user: empty when the server itself acted.
    :param task: descriptionId of a TaskEvent's task, for example ``VirtualMachine.powerOn``.
    :param changes_vapp: a VmReconfiguredEvent whose spec had vApp options in it.
    """

    key: int
    type: str
    time: datetime.datetime
    user: str
    chain_id: int
    vm: str | None
    host: str | None
    task: str | None = None
    changes_vapp: bool = False


@dataclass(frozen=True)
class PowerOn:
    """The last power-on.

    :param origin: ``vcenter``, ``esxi_direct``, ``ha_restart``, ``host_system`` or ``unknown``.
    :param confidence: ``high``, ``medium`` or ``low``.
    :param reason: why it is unknown: ``events_aged_out``, ``host_was_disconnected``, ``not_running`` or
        ``no_permission``.
    :param events: what it was concluded from, oldest first.
    """

    origin: str = "unknown"
    confidence: str = "low"
    reason: str | None = None
    user: str | None = None
    host: str | None = None
    event_type: str | None = None
    time: datetime.datetime | None = None
    chain_id: int | None = None
    task: str | None = None
    events: tuple[Event, ...] = ()
    reconfigured: tuple[Event, ...] = ()
    """Changes of the vApp options since then."""
