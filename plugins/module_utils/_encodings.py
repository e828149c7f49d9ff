# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The encodings in which a secret may appear in output.

Private to the collection.
"""

from __future__ import annotations

import base64
import json
import re
import typing as t
from urllib.parse import quote, quote_plus

LONG_ENOUGH = 8
"""Characters of an encoded secret that is hidden; shorter ones would hide parts of other output."""

URI_COMPONENT = "!'()*"
"""What JavaScript's encodeURIComponent leaves as it is, and Python does not."""


def forms(secret: str) -> set[str]:
    """Return a secret as JSON, Python's ``repr``, URLs and base64 write it, without the secret itself.

    Base64 depends on what stands before the secret: each of the three cases is there, without the characters that
    depend on what stands around it. A shell's escapes are JSON's, apart from the quotes.
    """
    found = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    content = secret.encode("utf-8", "surrogatepass")
    for url in (quote(content), quote(content, safe=""), quote(content, safe=URI_COMPONENT), quote_plus(content)):
        found |= {url, re.sub("%..", lambda match: match.group().lower(), url)}
    for before in range(3):
        found |= set(_base64(b"\0" * before + content, before))
    return {form for form in found if len(form) >= LONG_ENOUGH} - {secret}


def _base64(content: bytes, before: int) -> t.Iterator[str]:
    """Yield the characters of base64 text, standard and for URLs, that depend on none but the secret's bytes."""
    first = -(-before * 8 // 6)  # the first character without a bit of what stands before
    last = len(content) * 8 // 6  # the first with a bit of what may follow
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(content).decode()[first:last]
