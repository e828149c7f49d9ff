# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what vCenter would deliver with what was delivered, key by key.

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

    Only differences marked ``comparable`` show that the configuration was changed since power-on. A key that is
    only in a document is ``extra``: guests add their own. Of a secret that vCenter does not return, only the
    existence is compared.

    :param delivered: what ExtractOvfEnvironment returns; it leaves secrets out, which is no difference.
    :param guest: what the guest sees.
    """
    shown, seen = _Keys(delivered), _Keys(guest)
    result = []
    for prop in configured.properties:
        kind = seen.kind(prop)
        if kind is None and (shown.has(prop.key) or not prop.secret):
            kind = shown.kind(prop)
        if kind is not None:
            values = prop.effective, shown.value(prop.key), seen.value(prop.key)
            result.append(Difference(prop.key, kind, prop.secret, prop.comparable, *values))
    known = {prop.key.casefold() for prop in configured.properties}
    result += [
        Difference(key, "extra", False, False, None, shown.value(key), seen.value(key))
        for key in sorted({**shown.properties, **seen.properties})
        if key.casefold() not in known
    ]
    return tuple(result)


def facts(difference: Difference, mask: Mask) -> dict[str, t.Any]:
    """Return an entry of the ``differences`` return value."""
    key = difference.key
    values = (difference.configured, difference.delivered, difference.guest)
    secret = difference.secret or mask.is_secret_in_document(key, *values)
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
    """The keys of a document; without a document, there are none."""

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
        """Return the value of a key, even if the document spells it with other capitals."""
        if key in self.properties:
            return self.properties[key]
        return self.properties.get(self._spelled.get(key.casefold(), key))

    def kind(self, prop: Property) -> str | None:
        """Return how a property differs here; ``None``: it does not, or it is not known."""
        if not self.has(prop.key):
            return "missing" if self._is_whole and prop.key.casefold() not in self._skipped else None
        if prop.key not in self.properties:
            return "case"
        if prop.effective is None or _same(prop, self.properties[prop.key], prop.effective):
            return None
        return "changed"


def _same(prop: Property, value: str, expected: str) -> bool:
    if prop.type == "boolean":
        value, expected = value.casefold(), expected.casefold()
    # XML turns the line ends of an attribute into spaces.
    return value.split() == expected.split()
