# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the encodings in which a secret may appear in output.

Private to the collection.
"""

from __future__ import annotations

import base64
import json
import re
import typing as t
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

MASK = "********"
"""The replacement for a secret, the same as Ansible's."""

LONG_ENOUGH = 8
"""Minimum number of characters of an encoded secret to mask; shorter ones would mask parts of other output."""

URI_COMPONENT = "!'()*"
"""Characters that JavaScript's encodeURIComponent does not encode, but Python does."""

_SPACE_IN_XML = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
_ENTITIES: tuple[dict[str, str], ...] = (
    {},
    {'"': "&quot;"},
    {'"': "&quot;", "'": "&#x27;"},
    {'"': "&quot;", **_SPACE_IN_XML},
    {'"': "&quot;", "'": "&apos;", **_SPACE_IN_XML},
    {'"': "&#34;", "'": "&#39;", "\n": "&#xA;", "\r": "&#xD;", "\t": "&#x9;"},
)
"""Characters that XML and HTML replace besides ``&<>``: in texts, in attributes, in Python's HTML, in Go."""

_SPECIAL_IN_SHELLS = (r"""[] !"$&'()*,;<>?[\\^`{|}]""", r'["$`\\]')
"""Characters that are escaped with a backslash: by bash's ``printf %q``, and within double quotes."""


def forms(secret: str) -> set[str]:
    """Return a secret in the encodings of JSON, XML, shells, Python's ``repr``, URLs and base64, without the original.

    Base64 depends on the text before the secret: all three cases are returned, without the characters that depend on
    surrounding text. UTF-8 and UTF-16 are encoded, the latter for PowerShell (``-EncodedCommand``).
    """
    found = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    found |= {escape(secret, entities) for entities in _ENTITIES}
    found |= {secret.replace("'", quoted) for quoted in ("'\\''", "'\"'\"'")}  # sh -x, shlex.quote
    found |= {re.sub(special, r"\\\g<0>", secret) for special in _SPECIAL_IN_SHELLS}
    content = secret.encode("utf-8", "surrogatepass")
    for url in (quote(content), quote(content, safe=""), quote(content, safe=URI_COMPONENT), quote_plus(content)):
        found |= {url, re.sub("%..", lambda match: match.group().lower(), url)}
    contents = [content, *([secret.encode("utf-16-le", "surrogatepass")] if len(secret) >= LONG_ENOUGH else [])]
    for before in range(3):
        for encoded in contents:
            found |= set(_base64(b"\0" * before + encoded, before))
    return {form for form in found if len(form) >= LONG_ENOUGH} - {secret}


def _base64(content: bytes, before: int) -> t.Iterator[str]:
    """Yield the characters of base64 text, standard and for URLs, that depend only on the secret's bytes."""
    first = -(-before * 8 // 6)  # the first character without a bit of the preceding text
    last = len(content) * 8 // 6  # the first character with a bit of the following text
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(content).decode()[first:last]
