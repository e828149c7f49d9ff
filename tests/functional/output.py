# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a module as a user sees it.

Before ansible-core 2.22 the module masks what it prints. Since then it prints its secrets beside the result, and the
controller masks what it displays; plays can read the real values.
"""

from __future__ import annotations

import json

from ansible.module_utils.common import parameters

try:
    from ansible.module_utils._internal._secrets import SecretMasker  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    SecretMasker = None

WITH_INVOCATION = {"_ansible_inject_invocation": True} if "inject_invocation" in parameters.PASS_VARS else {}
"""Requests the invocation from a module; earlier releases always return it."""


def displayed(printed: str) -> str:
    """Return the output of a module as the controller displays it."""
    if SecretMasker is None:
        return printed
    result = json.loads(printed)
    masker = SecretMasker()
    masker.register_secret_texts(result.pop("_ansible_new_secrets", []))
    return str(masker.mask_string(json.dumps(result)))
