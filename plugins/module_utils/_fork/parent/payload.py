# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pass script files through guestinfo, and remove them there: every user of the guest can read them.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _extra_config, _properties, _tasks
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent

KEY = guestinfo.PAYLOAD
"""Prefix of the keys: ``<key>.0``, ``<key>.1`` …"""

CLEAR_SECONDS = 30
"""Time to remove the scripts if the task's timeout has passed."""


class Payload:
    """The guestinfo values of a VM that contain scripts, including those that an earlier task left."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._keys = set(guestinfo.payload(_extra_config.mapping(parent.values)))
        self._is_settled = True

    def clear_earlier(self, warn: t.Callable[[str], None]) -> None:
        """Remove scripts of an earlier task before the VM is frozen, since every child would inherit them."""
        if self._keys:
            self.clear(warn)

    def hand_over(self, deadline: Deadline, chunks: t.Sequence[str], also: t.Mapping[str, str]) -> None:
        """Write files to guestinfo.

        :param also: other extraConfig keys to write in the same request.
        """
        values = {f"{KEY}.{number}": chunk for number, chunk in enumerate(chunks)}
        self._keys |= set(values)
        try:
            # Not retried if the answer is lost: the first request may write the values after the runner has cleared
            # them.
            what = f"Could not pass the scripts to VM {self._parent.name} through guestinfo"
            spec = _extra_config.spec({**values, **also})
            _tasks.run(self._parent.session, deadline, what, self._parent.vm.ReconfigVM_Task, spec)
        except _errors.OperationFailed:
            raise
        except BaseException:  # a signal, for example
            self._is_settled = False  # vCenter may still write them
            raise

    def clear(self, warn: t.Callable[[str], None]) -> None:
        """Remove all scripts. The runner does so as it reads them; this is for a runner that could not."""
        if not self._keys:
            return
        vm, session = self._parent.vm, self._parent.session
        left = sorted(self._keys)
        with session.clean_up(CLEAR_SECONDS) as deadline:
            try:
                if self._is_settled:
                    here = _extra_config.mapping(_properties.read(session, [vm], [_extra_config.PATH]).get(vm, {}))
                    left = sorted(self._keys.intersection(guestinfo.payload(here)))
                else:
                    _tasks.await_recent(session, deadline, [vm])
                if left:
                    spec = _extra_config.spec(dict.fromkeys(left, ""))
                    _tasks.run_idempotent(session, deadline, "Could not clear them", vm.ReconfigVM_Task, spec)
            except _errors.Error as trouble:
                where = f"the extraConfig of VM {self._parent.name}, where every user of its guest can read them"
                warn(_errors.failure(f"Scripts may remain in {where} ({', '.join(left)})", trouble).sentence)
