# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values of an OVF environment may be shown.

Private to the collection. Pure functions. Showing too little is the lesser harm:
of raw XML, only what is known to be harmless is written again. What looks like a
secret, ``sensitive.py`` decides.
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
    """How much to hide.

    :param level: ``password``: values of password properties and of those of which nobody knows whether they are, and
        vService tokens. ``sensitive``: also what ``sensitive.py`` recognizes by names, texts and values.
        ``all``: every value. ``none``: nothing.
    :param patterns: further regular expressions, searched for in names, whatever the case.
    :param properties: full key of what the vApp options of the VM, and of the vApps around it, have, and whether it
        is secret. A document does not tell, and has other keys too: those of siblings, and what the guest wrote.
    :raises BadInput: a pattern is no regular expression.
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
        """The same for one VM, of whose document these properties are known: full key, and whether it is secret."""
        return Mask(self.level, self.patterns, properties)

    def is_secret(self, key: str, type: str = "", label: str = "", category: str = "", description: str = "") -> bool:
        """Return whether a property is a password, or, unless only passwords are asked for, seems to hold a secret.

        :param type: empty where a document is all there is; a key that the vApp options do not have may be a password.
        """
        if vapp_types.is_password(type) if type else key.casefold() not in self._harmless:
            return True
        if self.level == "password":
            return False
        return self._matches(key) or sensitive.is_secret_property(key, type, label, category, description)

    def holds_secret(self, value: str | None, *names: str) -> bool:
        """Return whether a value is to be hidden although its property, of this key and label, need not be."""
        return bool(value) and self.level != "password" and sensitive.holds_secret(value or "", names)

    def is_secret_element(self, name: str) -> bool:
        """Return whether what a vService extension added is secret; its token is the login to vCenter's guest API."""
        return name.lower() == "token" or self._looks_secret(name)

    def value(self, key: str, value: str | None, type: str = "", secret: bool = False) -> str | None:
        """Return the value of a property, or asterisks. An empty value is no secret.

        :param secret: it is one, whatever its name.
        """
        return self._shown(key, value, secret or self.is_secret(key, type))

    def element(self, name: str, text: str, secret: bool = False) -> str:
        """Return the text of an element that a vService extension added, or asterisks.

        :param secret: it is within one that is.
        """
        return self._shown(name, text, secret or self.is_secret_element(name)) or ""

    def _looks_secret(self, name: str) -> bool:
        return self.level != "password" and (self._matches(name) or sensitive.is_secret_name(name))

    def _matches(self, name: str) -> bool:
        return any(each.search(name) for each in self._names)

    def _shown(self, name: str, value: str | None, secret: bool) -> str | None:
        if not value or self.level == "none":
            return value
        if self.level == "all" or secret:
            return MASK
        if self.holds_secret(value, name):
            return MASK
        return value

    def xml(self, text: str) -> str:
        """Raw XML with every secret replaced.

        It is rewritten from what a parser understood. Comments, processing instructions and what no OVF
        environment has are left out or hidden; so is everything behind the place where the text cannot be read.
        """
        if self.level == "none":
            return text
        writer = _Writer(self)
        outcome = safe_xml.walk(safe_xml.decode(text), writer, namespaces=False)
        return writer.finish(outcome)


def without(text: str, values: t.Iterable[str | None]) -> str:
    """Return a text, such as a fault's, with asterisks in place of these values.

    A short value is replaced where it is a word of its own, since it may be a part of any other.
    """
    found = {form for value in values if value for form in (value, " ".join(value.split())) if form.strip()}
    for value in sorted(found, key=len, reverse=True):
        pattern = re.escape(value)
        text = re.sub(pattern if len(value) >= _SHORT else rf"(?<!\w){pattern}(?!\w)", MASK, text)
    return text


_SHORT = 4


# What is shown whatever it says: attributes and texts, by the place of their elements. Names have no prefixes here.
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
    """Writes what safe_xml.walk reports, and hides every attribute and text that is not known to be harmless."""

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
        # What is within something secret is secret.
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
        # A sibling's password may have the key of something harmless here: of its values none is known to be so.
        if local == "value" and self._place == _PROPERTY and len(keys) == 1:
            return self._mask.value(keys[0], value) or ""
        return MASK if value else ""

    def text(self, data: str) -> None:
        self._close_tag()
        self._out.append(escape(self._text(data)))

    def _text(self, data: str) -> str:
        # Markup within a text comes of a CDATA section, and one that does not end swallows the rest of the document.
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
