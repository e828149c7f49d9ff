# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of the same name, which has the documentation, as long as ansible-playbook is running.

Ansible runs all items of a loop in one process, which continues if only ansible-playbook is killed: a restore would
write all remaining VMs without anybody seeing it.
"""

from __future__ import annotations

import multiprocessing
import os
import typing as t

from ansible.plugins.action.normal import ActionModule as NormalAction


def is_orphan() -> bool:
    """Return whether the process that started this one has ended."""
    above = multiprocessing.parent_process()
    return above is not None and above.pid != os.getppid()


class ActionModule(NormalAction):  # type: ignore[misc,unused-ignore]
    """See DOCUMENTATION of the module."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        if is_orphan():
            return {"failed": True, "msg": "ansible-playbook has ended. Nothing was written. Run it again."}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        return result
