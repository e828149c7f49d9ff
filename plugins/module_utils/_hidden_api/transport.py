# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose how the unpublished methods are called: ``call_via``.

Private to the collection.
"""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.soap import SoapCaller
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.mob import MobCaller


def caller(session: Session, call_via: str) -> methods.Caller:
    """Return the caller for a task.

    :param call_via: ``auto``, ``soap`` or ``mob``.
    """
    if call_via == "soap":
        return SoapCaller(session, instead="mob")
    if call_via == "mob":
        return _mob_caller(session, instead="soap")
    return AutoCaller(session)


def _mob_caller(session: Session, instead: str = "") -> MobCaller:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.mob import MobCaller  # few tasks need it

    return MobCaller(session, instead)


class AutoCaller:
    """Calls over SOAP, and through the Managed Object Browser once SOAP does not know a method."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._soap = SoapCaller(session)
        self._mob: MobCaller | None = None
        self._is_decided = False
        self._deciding = threading.Lock()
        self._unknown: _errors.MethodUnknown | None = None
        """The error from SOAP, if it does not know the methods."""

    def call(self, vm: t.Any, method: methods.Method, **arguments: t.Any) -> t.Any:
        """See :meth:`methods.Caller.call`. Calls that come before the first one is answered wait for that."""
        if not self._is_decided:
            with self._deciding:
                if not self._is_decided:
                    return self._call(vm, method, arguments)
        return self._call(vm, method, arguments)

    def _call(self, vm: t.Any, method: methods.Method, arguments: dict[str, t.Any]) -> t.Any:
        if self._mob is None:
            try:
                task = self._soap.call(vm, method, **arguments)
                self._is_decided = True
                return task
            except _errors.Fault:  # the server knows the method
                self._is_decided = True
                raise
            except _errors.MethodUnknown as error:
                self._unknown = error
                self._mob = self._mob or _mob_caller(self._session)
                self._is_decided = True
        try:
            return self._mob.call(vm, method, **arguments)
        except (_errors.ConnectionFailed, _errors.LoginFailed) as error:
            if self._mob.has_opened or isinstance(error, _errors.ConnectionLost):
                raise
            known = self._unknown.sentence if self._unknown is not None else ""
            raise _errors.MethodUnknown(f"{known} {error.sentence}".lstrip()) from error

    def child_spec(self, **values: t.Any) -> t.Any:
        """See :meth:`methods.Caller.child_spec`."""
        return self._soap.child_spec(**values)
