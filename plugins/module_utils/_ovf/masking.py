# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mask the secrets of an OVF environment.

Private to the collection. Pure functions. Masking too much is the lesser harm:
only what is known to be harmless is copied from raw XML. ``sensitive.py`` decides
what looks like a secret.
"""

from __future__ import annotations

import re
import typing as t
from xml.sax.saxutils import escape, quoteattr

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import safe_xml, sensitive, vapp_types

LEVELS = ("password", "sensitive", "all", "none")


class Mask:
    """What to mask.

    :param level: ``password``: values of password properties and of properties that may be passwords, and vService
        tokens. ``sensitive``: also what ``sensitive.py`` recognizes by names, texts and values.
        ``all``: every value. ``none``: nothing.
    :param patterns: additional regular expressions, searched for in names, ignoring case.
    :param properties: full keys of the properties in the vApp options of the VM and of the vApps around it, and whether
        each is secret. A document does not show this, and has other keys too: a sibling's, and what the guest added.
    :raises BadInput: a pattern is not a valid regular expression.
    """

    def __init__(
        self,
        level: str = "sensitive",
        patterns: t.Sequence[str] = (),
        properties: t.Iterable[tuple[str, bool]] = (),
    ) -> None:
        self.level = level
        self.patterns = patterns
        known = [(key.casefold(), is_secret) for key, is_secret in properties]
        self._harmless = {key for key, _is in known} - {key for key, is_secret in known if is_secret}
        try:
            self._names = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        except re.error as error:
            raise _errors.BadInput(
                _errors.sentence(
                    f"The mask pattern {error.pattern!r} cannot be used",
                    f"it is not a regular expression ({error})",
                    "Correct it.",
                )
            ) from None

    def knowing(self, properties: t.Iterable[tuple[str, bool]]) -> Mask:
        """Return the same mask for a VM whose properties are known: full key, and whether it is secret."""
        return Mask(self.level, self.patterns, properties)

    def is_secret(self, key: str, type: str = "", label: str = "", category: str = "", description: str = "") -> bool:
        """Return whether a property is a password or, unless only passwords are masked, seems to hold a secret.

        :param type: empty if only a document is known. Then the vApp options decide, and a key that they do not have
            may be a password.
        """
        if not type:
            return key.casefold() not in self._harmless
        if vapp_types.is_password(type):
            return True
        if self.level == "password":
            return False
        return self._matches(key) or sensitive.is_secret_property(key, type, label, category, description)

    def is_secret_in_document(self, key: str, *values: str | None) -> bool:
        """Return whether a property of a document is secret. The guest may have written values of another type."""
        return self.is_secret(key) or (
            self._looks_secret(key) and not all(sensitive.is_harmless_value(value) for value in values if value)
        )

    def holds_secret(self, value: str | None, *names: str) -> bool:
        """Return whether to mask a value although its property, with this key and label, is not secret."""
        return bool(value) and self.level != "password" and sensitive.holds_secret(value or "", names)

    def is_secret_element(self, name: str) -> bool:
        """Return whether a vService extension's element is secret. Its token is the login to vCenter's guest API."""
        return name.lower() == "token" or self._looks_secret(name)

    def value(self, key: str, value: str | None, type: str = "", secret: bool = False) -> str | None:
        """Return the value of a property, or the mask. An empty value is not masked.

        :param secret: whether it is secret regardless of its name.
        """
        secret = secret or (self.is_secret(key, type) if type else self.is_secret_in_document(key, value))
        return self._shown(key, value, secret)

    def element(self, name: str, text: str, secret: bool = False) -> str:
        """Return the text of an element that a vService extension added, or the mask.

        :param secret: whether it is inside a secret element.
        """
        return self._shown(name, text, secret or self.is_secret_element(name)) or ""

    def _looks_secret(self, name: str) -> bool:
        return self.level != "password" and (self._matches(name) or sensitive.is_secret_name(name))

    def _matches(self, name: str) -> bool:
        return any(pattern.search(name) for pattern in self._names)

    def _shown(self, name: str, value: str | None, secret: bool) -> str | None:
        if not value or self.level == "none":
            return value
        if self.level == "all" or secret:
            return MASK
        if self.holds_secret(value, name):
            return MASK
        return value

    def xml(self, text: str) -> str:
        """Return raw XML with every secret replaced.

        It is rewritten from what a parser understood. Comments, processing instructions and content that no OVF
        environment has are left out or masked; so is everything after the point where parsing fails.
        """
        if self.level == "none":
            return text
        writer = _Writer(self)
        outcome = safe_xml.walk(safe_xml.decode(text), writer, namespaces=False)
        return writer.finish(outcome)


def without(text: str, values: t.Iterable[str | None]) -> str:
    """Return a text, such as a fault's, with these values masked.

    A short value is replaced only where it is a whole word, since it may be part of other words.
    """
    found = {form for value in values if value for form in (value, " ".join(value.split())) if form.strip()}
    for value in sorted(found, key=len, reverse=True):
        pattern = re.escape(value)
        text = re.sub(pattern if len(value) >= _SHORT else rf"(?<!\w){pattern}(?!\w)", MASK, text)
    return text


_SHORT = 4


# Attributes and texts that are never masked, by the path of their elements. Names have no prefixes here.
_PROPERTY = ("Environment", "PropertySection", "Property")
_SIBLINGS_PROPERTY = ("Environment", "Entity", "PropertySection", "Property")
_ATTRIBUTES = {
    ("Environment",): {"id", "vCenterId", "esxId", "schemaLocation"},
    ("Environment", "Entity"): {"id"},
    _PROPERTY: {"key"},
    _SIBLINGS_PROPERTY: {"key"},
    ("Environment", "EthernetAdapterSection", "Adapter"): {"mac", "network", "unitNumber"},
    ("Environment", "vServiceEnvironmentSection"): {"id", "type"},
}
_TEXTS = {("Environment", "PlatformSection", name) for name in ("Kind", "Version", "Vendor", "Locale")}
_VSERVICE = ("Environment", "vServiceEnvironmentSection")


class _Writer:
    """Writes what safe_xml.walk reports, and masks every attribute and text that is not known to be harmless."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._out: list[str] = []
        self._names: list[str] = []
        self._place: tuple[str, ...] = ()
        self._secret = [False]
        self._tag_open = False

    def start(self, name: str, attributes: list[tuple[str, str]]) -> None:
        self._close_tag()
        local = _local(name)
        self._names.append(name)
        self._place = (*self._place, local)
        # Everything inside a secret element is secret.
        self._secret.append(self._secret[-1] or self._mask.is_secret_element(local))
        keys = [value for attribute, value in attributes if _local(attribute) == "key"]
        self._out.append(f"<{name}")
        for attribute, value in attributes:
            self._out.append(f" {attribute}={quoteattr(self._attribute(attribute, value, keys))}")
        self._tag_open = True

    def _attribute(self, name: str, value: str, keys: list[str]) -> str:
        local = _local(name)
        if name.startswith("xmlns") or local in _ATTRIBUTES.get(self._place, ()):
            return value
        # A sibling's password may have the same key as a harmless property, so a sibling's values are always masked.
        if local == "value" and self._place == _PROPERTY and len(keys) == 1:
            return self._mask.value(keys[0], value) or ""
        return MASK if value else ""

    def text(self, data: str) -> None:
        self._close_tag()
        self._out.append(escape(self._text(data)))

    def _text(self, data: str) -> str:
        # Markup within a text is from a CDATA section, and one without an end contains the rest of the document.
        if not data.strip() or (self._place in _TEXTS and "<" not in data):
            return data
        if self._place[:2] == _VSERVICE:
            return self._mask.element(self._place[-1], data, self._secret[-1])
        return MASK

    def end(self) -> None:
        self._out.append("/>" if self._tag_open else f"</{self._names[-1]}>")
        self._tag_open = False
        self._names.pop()
        self._secret.pop()
        self._place = self._place[:-1]

    def _close_tag(self) -> None:
        if self._tag_open:
            self._out.append(">")
            self._tag_open = False

    def finish(self, outcome: safe_xml.Outcome) -> str:
        self._close_tag()
        if outcome.error:
            self._out.append(f"<!-- the rest is masked: {outcome.error} -->")
        return "".join(self._out)


def _local(name: str) -> str:
    return name.rpartition(":")[2]
