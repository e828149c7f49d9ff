# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which way the unpublished methods are called: ``call_via``.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.mob import MobCaller
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.soap import SoapCaller, method_unknown
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


def caller(session: Session, call_via: str) -> methods.Caller:
    """The way for a task.

    :param call_via: ``auto``, ``soap`` or ``mob``.
    """
    if call_via == "soap":
        return SoapCaller(session)
    if call_via == "mob":
        return MobCaller(session, ", or use call_via=soap")
    return AutoCaller(session)


class AutoCaller:
    """SOAP, and from its answer on that it does not know a method, the Managed Object Browser."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._soap = SoapCaller(session)
        self._mob = MobCaller(session)
        self._soap_knows = True

    def call(self, vm: t.Any, method: methods.Method, **arguments: t.Any) -> t.Any:
        """See :meth:`methods.Caller.call`."""
        if self._soap_knows:
            try:
                return self._soap.call(vm, method, **arguments)
            except _errors.MethodUnknown:
                self._soap_knows = False
        try:
            return self._mob.call(vm, method, **arguments)
        except _errors.ConnectionLost:
            raise
        except (_errors.ConnectionFailed, _errors.LoginFailed) as error:
            unknown = method_unknown(self._session, method).sentence
            raise _errors.MethodUnknown(f"{unknown} {error.sentence}") from error

    def child_spec(self, **values: t.Any) -> t.Any:
        """See :meth:`methods.Caller.child_spec`."""
        return self._soap.child_spec(**values)
