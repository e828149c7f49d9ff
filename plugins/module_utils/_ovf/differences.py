# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vCenter would deliver, held against what is there: key by key.

Private to the collection. Pure functions.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured, Property
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Difference

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask


def compare(configured: Configured, delivered: Document | None, guest: Document | None) -> tuple[Difference, ...]:
    """Return every key that is not the same everywhere, in the order of the configuration.

    Only differences marked ``comparable`` say that the configuration was changed since power-on. A key that is
    only in a document is ``extra``: guests add their own. What a secret's value is, is never looked at where
    vCenter does not tell it; that it is there, is.

    :param delivered: what ExtractOvfEnvironment shows; it leaves secrets out, which is no difference.
    :param guest: what the guest sees.
    """
    shown, seen = _Keys(delivered), _Keys(guest)
    result = []
    for one in configured.properties:
        kind = seen.kind(one)
        if kind is None and (shown.has(one.key) or not one.secret):
            kind = shown.kind(one)
        if kind is not None:
            values = one.effective, shown.value(one.key), seen.value(one.key)
            result.append(Difference(one.key, kind, one.secret, one.comparable, *values))
    known = {one.key.casefold() for one in configured.properties}
    result += [
        Difference(key, "extra", False, False, None, shown.value(key), seen.value(key))
        for key in sorted({**shown.properties, **seen.properties})
        if key.casefold() not in known
    ]
    return tuple(result)


def facts(difference: Difference, mask: Mask) -> dict[str, t.Any]:
    """One of the ``differences`` return values."""
    key, secret = difference.key, difference.secret or mask.is_secret(difference.key)
    return {
        "key": key,
        "kind": difference.kind,
        "secret": secret,
        "comparable": difference.comparable,
        "configured": mask.value(key, difference.configured, secret=secret),
        "delivered": mask.value(key, difference.delivered, secret=secret),
        "guest": mask.value(key, difference.guest, secret=secret),
    }


class _Keys:
    """The keys of one document; of none, when there is no document."""

    def __init__(self, document: Document | None) -> None:
        self.properties = document.properties if document else {}
        # A truncated document may have contained more.
        skipped = document.skipped_keys if document else ()
        self._is_whole = document is not None and not document.parse_error and None not in skipped
        self._skipped = {key.casefold() for key in skipped if key}
        self._spelled = {key.casefold(): key for key in reversed(self.properties)}

    def has(self, key: str) -> bool:
        return key.casefold() in self._spelled

    def value(self, key: str) -> str | None:
        """Return the value of a key, also of one that is spelled with other capitals."""
        if key in self.properties:
            return self.properties[key]
        return self.properties.get(self._spelled.get(key.casefold(), key))

    def kind(self, one: Property) -> str | None:
        """In which way a property differs here; ``None``: it does not, or nothing is known."""
        if not self.has(one.key):
            return "missing" if self._is_whole and one.key.casefold() not in self._skipped else None
        if one.key not in self.properties:
            return "case"
        if one.effective is None or _same(one, self.properties[one.key], one.effective):
            return None
        return "changed"


def _same(one: Property, value: str, expected: str) -> bool:
    if one.type == "boolean":
        value, expected = value.casefold(), expected.casefold()
    # XML turns the line ends of an attribute into spaces.
    return value.split() == expected.split()
