# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power VMs on and off through vCenter.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


def is_on(values: t.Mapping[str, t.Any]) -> bool:
    """Whether a VM runs, from its property ``runtime.powerState``."""
    return str(values.get("runtime.powerState")) == "poweredOn"


def off(session: Session, deadline: Deadline, vm: t.Any, name: str) -> None:
    """Power a VM off hard, and wait for it."""
    _tasks.run(session, deadline, f"Could not power off VM {name}", vm.PowerOffVM_Task)
