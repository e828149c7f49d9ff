# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry vApp options from a module to the controller unchanged.

Private to the collection. Pure functions. A text in a module's result may be changed on its way: Ansible masks
passwords in it, and the collection escapes control characters. Debug output shows it as well. So documents are packed,
and those with secrets are encrypted with a key that exists only for one task.
"""

from __future__ import annotations

import base64
import json
import typing as t
import zlib

try:
    from cryptography.fernet import Fernet, InvalidToken
except ImportError:  # only secrets need it
    Fernet = None  # type: ignore[assignment,misc]
    InvalidToken = ValueError  # type: ignore[assignment,misc]

CAN_ENCRYPT = Fernet is not None


def new_key() -> str:
    """Return a new key; needs :data:`CAN_ENCRYPT`."""
    return Fernet.generate_key().decode()


def pack(content: t.Mapping[str, t.Any], key: str | None) -> str:
    """Return content as a single word.

    :param key: ``None``: the content has no secrets and is not encrypted.
    :raises ValueError: the key was not made by :func:`new_key`.
    """
    data = zlib.compress(json.dumps(content).encode())
    return (base64.b64encode(data) if key is None else Fernet(key).encrypt(data)).decode()


def unpack(text: str, key: str | None) -> dict[str, t.Any]:
    """Return the packed content.

    :raises ValueError: the text was changed.
    """
    try:
        data = base64.b64decode(text, validate=True) if key is None else Fernet(key).decrypt(text)
        content: dict[str, t.Any] = json.loads(zlib.decompress(data))
    except (ValueError, InvalidToken, zlib.error, TypeError):
        raise ValueError("the text was changed in transit") from None
    return content
