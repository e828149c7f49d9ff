# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Config params: from the options of a task to the text a guest reads. Pure; needs no server.

Private to the collection.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo

SHORTEST_SECRET = 8
"""Minimum number of characters: Ansible masks a secret wherever its text occurs, and a short one would mangle all
output."""

LONGEST_VALUE = 65000
"""Maximum size of a value in bytes; VMware Tools transfers at most 64 KB in one answer."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


def config_params(values: t.Mapping[str, t.Any] | None, option: str = "config_params") -> dict[str, str]:
    """Return config params as the strings that the guest will read.

    :raises _errors.BadInput: a key or a value cannot be passed to a guest.
    """
    result: dict[str, str] = {}
    for key, value in (values or {}).items():
        result[_config_key(str(key), option)] = _config_value(str(key), value, option)
    return result


def secret_config_params(values: t.Mapping[str, t.Any] | None) -> dict[str, str]:
    """Return config params as :func:`config_params` does, for values that must not be shown."""
    result = config_params(values, "secret_config_params")
    for key, value in result.items():
        if len(value) < SHORTEST_SECRET:
            raise _errors.BadInput(
                f"secret_config_params: the value of {key} has fewer than {SHORTEST_SECRET} characters. Ansible "
                "cannot mask a secret this short without mangling other output. Use a longer one."
            )
    return result


def _config_key(key: str, option: str) -> str:
    if re.match(rf"(guestinfo\.((fork|ic)\.)?)?{re.escape(guestinfo.OWN_PARAMS)}", key):
        raise _errors.BadInput(
            f"{option}: keys that start with {guestinfo.OWN_PARAMS} are reserved for the collection. Rename {key}."
        )
    if not _KEY.fullmatch(key):
        # When secrets are given as text, a key may be the part of a secret before an = sign.
        shown = repr(key) if option == "config_params" else "the given key"
        raise _errors.BadInput(
            f"{option}: {shown} cannot be a key. Use letters, digits and the characters _ . : - without spaces."
        )
    return key


def _config_value(key: str, value: t.Any, option: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise _errors.BadInput(
            f"{option}: the value of {key} is {kind}, but a guest can read only text. Use a string, number or boolean."
        )
    # XML 1.0, section 2.2: other control characters, surrogates and two non-characters cannot be sent at all.
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", value):
        raise _errors.BadInput(
            f"{option}: the value of {key} has control characters that vSphere cannot transfer. Encode it, for "
            "example in base64."
        )
    if len(value.encode()) > LONGEST_VALUE:
        raise _errors.BadInput(
            f"{option}: the value of {key} has more than {LONGEST_VALUE} bytes, which is more than a guest can read. "
            "Shorten it."
        )
    return value
