# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the unpublished methods are called on a server: which caller to use.

Private to the collection.
"""

from __future__ import annotations

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.methods import Caller
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api.soap import SoapCaller
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session


def caller(session: Session, call_via: str) -> Caller:
    """The caller for ``call_via``: ``auto``, ``soap`` or ``mob``.

    :raises _errors.BadInput: it is not to be had.
    """
    if call_via == "mob":
        raise _errors.BadInput(
            "call_via=mob is not available in this version of the collection. Use call_via=soap, or leave it out."
        )
    return SoapCaller(session)
