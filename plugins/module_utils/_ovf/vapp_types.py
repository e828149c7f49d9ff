# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of vApp properties: which values vCenter accepts, and how a value is written.

Private to the collection. Pure functions. Rules: vSphere API reference, VAppPropertyInfo.type; names of OVF types:
DSP0243 (OVF specification), property types, which vCenter stores as ranges.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable

LONGEST = 65535
"""Maximum number of characters in a string."""

MOST_DIGITS = 100
"""Maximum number of characters in an integer, including its sign."""

OVF_TYPES = {
    **{f"uint{bits}": f"int(0..{2**bits - 1})" for bits in (8, 16, 32, 64)},
    **{f"sint{bits}": f"int({-(2 ** (bits - 1))}..{2 ** (bits - 1) - 1})" for bits in (8, 16, 32, 64)},
    "real32": "real",
    "real64": "real",
}
"""Type of an OVF descriptor → type of a vApp property."""

_INT = re.compile(r"[+-]?\d+", re.ASCII)
_REAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?", re.ASCII)
_BOUNDED = re.compile(r"(string|password|int|real)\(\s*([^.()\s]\S*?|)\s*\.\.\s*([^()\s]*?)\s*\)")
_CHOICES = re.compile(r"string\[(.*)\]", re.DOTALL)
_CHOICE = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*(,|$)', re.DOTALL)
_UNSENDABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry, and the carriage return, which arrives as a newline."""


def is_password(kind: str | None) -> bool:
    """Return whether a property's type is a password, including types such as ``password(..8)``."""
    return (kind or "").startswith("password")


@dataclass(frozen=True)
class ValueType:
    """A parsed type.

    :param name: ``string``, ``password``, ``int``, ``real``, ``boolean``, ``ip`` or ``expression``.
    :param least: lowest number, or minimum number of characters; ``None``: no limit.
    :param most: highest number, or maximum number of characters.
    :param choices: the only allowed values; empty: any.
    """

    text: str = field(compare=False)
    name: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    network: str = ""

    @property
    def is_password(self) -> bool:
        """Return whether vCenter never returns its value."""
        return self.name == "password"

    @property
    def needs_value(self) -> bool:
        """Return whether vCenter refuses to power the VM on while the value and the default are empty.

        Public reports mention ``ip`` (vmware/pyvmomi issue 711) and ``boolean``. By their definition, the other types
        do not accept an empty value either (vSphere API reference, VAppPropertyInfo.type). Whether an empty password is
        accepted is never known, and vCenter chooses the addresses of ``ip:network`` itself.
        """
        if self.name == "string":
            return bool(self.choices) or (self.least or 0) > 0
        return self.name in ("int", "real", "boolean") or (self.name == "ip" and not self.network)


def canonical(text: str) -> str:
    """Return a type as vCenter knows it: vCenter stores the types of OVF descriptors as ranges."""
    return OVF_TYPES.get(text.strip(), text.strip())


def parse(text: str) -> ValueType | None:
    """Return a vApp property's type; ``None``: the API reference does not list it."""
    if text in ("string", "password", "int", "real", "boolean", "ip", "expression"):
        limits = {"string": (0, LONGEST), "password": (0, LONGEST), "int": (-(2**31), 2**31 - 1)}
        return ValueType(text, text, *limits.get(text, (None, None)))
    if text.startswith("ip:") and text[3:].strip():
        return ValueType(text, "ip", network=text[3:])
    choices = _CHOICES.fullmatch(text)
    if choices is not None:
        found = _choices(choices[1])
        return None if found is None else ValueType(text, "string", choices=found)
    bounded = _BOUNDED.fullmatch(text)
    return None if bounded is None else _bounded(text, *bounded.groups())


def same(left: str | None, right: str) -> bool:
    """Return whether two types are equivalent; vCenter may write a type differently."""
    return left == right or (left is not None and (parsed := parse(left)) is not None and parsed == parse(right))


def _choices(text: str) -> tuple[str, ...] | None:
    found: list[str] = []
    at = 0
    while at < len(text):
        match = _CHOICE.match(text, at)
        if match is None or (match[2] == "," and match.end() == len(text)):
            return None
        found.append(re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL))
        at = match.end()
    return tuple(found) or None


def _bounded(text: str, name: str, least: str, most: str) -> ValueType | None:
    limits: list[float | None] = []
    for limit in (least, most):
        try:
            limits.append(None if not limit else (float(limit) if name == "real" else int(limit)))
        except ValueError:
            return None
    low, high = limits
    is_length = name in ("string", "password")
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return None
    if is_length and any(limit is not None and not 0 <= limit <= LONGEST for limit in limits):
        return None
    return ValueType(text, name, low, high)


def is_sendable(text: str) -> bool:
    """Return whether a text reaches vCenter unchanged."""
    return _UNSENDABLE.search(text) is None


def plain(text: str | None) -> str:
    """Return a text as it is stored: XML 1.0, section 2.11, turns every line end into a newline."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n")


def wrong(kind: ValueType | None, value: str) -> str | None:
    """Return why a value is refused, as a clause that never repeats the value; ``None``: it is accepted.

    An empty value is accepted, because it stands for the default. Only an expression has no value of its own at all.

    :param kind: ``None``: an unknown type, whose values only vCenter can check.
    """
    if not is_sendable(value):
        return "the value has control characters or carriage returns, which vCenter does not store"
    if kind is not None and kind.name == "expression":
        return "vCenter computes the value of an expression at power-on; set its default instead"
    if not value or kind is None:
        return None
    if kind.choices:
        return None if value in kind.choices else f"the value is not one of the choices of the type {kind.text}"
    if kind.name in ("string", "password"):
        return _wrong_length(kind, len(value))
    if kind.name in ("int", "real"):
        return _wrong_number(kind, value)
    if kind.name == "boolean":
        return None if value.casefold() in ("true", "false") else "the value of a boolean is True or False"
    return _wrong_address(value)


def _wrong_length(kind: ValueType, length: int) -> str | None:
    least = kind.least or 0
    if length < least:
        return f"the value has fewer than the {_printable.count(least, 'character')} that the type {kind.text} requires"
    most = LONGEST if kind.most is None else kind.most
    if length > most:
        return f"the value has more than the {_printable.count(most, 'character')} that the type {kind.text} allows"
    return None


def _wrong_number(kind: ValueType, value: str) -> str | None:
    if kind.name == "int":
        if not _INT.fullmatch(value) or len(value) > MOST_DIGITS:
            return f"the value is not an integer, which the type {kind.text} requires"
        number: float = int(value)
    else:
        if not _REAL.fullmatch(value):
            return f"the value is not a number with a decimal point, such as 1.0, which the type {kind.text} requires"
        number = float(value)
    if (kind.least is not None and number < kind.least) or (kind.most is not None and number > kind.most):
        return f"the value is outside the range of the type {kind.text}"
    return None


def _wrong_address(value: str) -> str | None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return "the value is not an IPv4 or IPv6 address"
    return "the value is an address with a zone ID" if "%" in str(address) else None


def written(kind: ValueType | None, value: t.Any) -> str:
    """Return a value given in YAML as the text that vCenter stores.

    :raises ValueError: YAML has changed its notation, or it is not a single value; the message is a clause.
    """
    if isinstance(value, str):
        return value.capitalize() if kind is not None and kind.name == "boolean" else value
    if isinstance(value, bool):
        if kind is not None and kind.name == "boolean":
            return str(value)
        raise ValueError("the value is a YAML boolean, but the property is not a boolean; put the value in quotes")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if kind is not None and kind.name == "real":
            return repr(value)
        raise ValueError(
            "the value is a YAML floating-point number, but the property is not a number; put the value in quotes"
        )
    if value is None:
        raise ValueError("the value is null; use an empty string to blank it")
    raise ValueError("the value is a list or a dictionary; a property has a single value")


def equal(kind: ValueType | None, left: str, right: str) -> bool:
    """Return whether two stored values are the same; vCenter may store a boolean with different capitals."""
    if kind is not None and kind.name == "boolean":
        return left.casefold() == right.casefold()
    return left == right
