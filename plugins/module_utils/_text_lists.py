# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse lists that are given as text, as a survey and the command line pass them.

Private to the collection.
"""

from __future__ import annotations

import json
import re
import typing as t


def elements(text: str, separators: str = ",\n") -> list[t.Any]:
    """Return the elements of a list given as text: JSON, or texts between separators.

    White space around a text is removed, and so are empty texts. The elements of JSON stay as they are.

    :param separators: each character separates two texts.
    """
    if text.lstrip().startswith("["):
        try:
            return t.cast("list[t.Any]", json.loads(text))
        except (ValueError, RecursionError):
            pass  # a name may begin with a bracket
    return [part.strip() for part in re.split(f"[{re.escape(separators)}]", text) if part.strip()]
