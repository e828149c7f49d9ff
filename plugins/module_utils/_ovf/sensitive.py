# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognize secrets among the properties of an OVF environment: by their names, their texts, and their values.

Private to the collection. Pure functions over the tables below. Masking too much is the lesser harm, but a report in
which every other value is masked is useless. So words that contain another word (``bypass``), and settings about a
secret (``token_ttl``), are listed too. The value of such a setting is masked if it looks like a secret itself. The
names of the properties are those of published appliances.
"""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import json
import re
import typing as t
import urllib.parse
import zlib

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.words import in_words

NAMES = (
    "pass",
    "pwd",
    r"pw\b",
    "secret",
    "token",
    "key",
    "cred",
    "private",
    "psk",
    "bearer",
    # Licenses of VMware, Cisco and others are keys themselves.
    "licen[cs]e",
    r"\b(?:otk|otp|totp|puk|pin|pins)\b",
    r"pin ?codes?\b",
    r"\b(?:auth\w*|activation|registration|enrol\w*|access|unlock|recovery|invitation|pairing) ?codes?\b",
    # The password of SNMP.
    "community",
    # Configuration of the guest's operating system, often encoded: passwords cannot be separated from the rest.
    r"(?:user|vendor) ?data",
    r"ignition",
    r"(?:coreos|talos|machine|cloud) ?config",
    "kube ?config",
    # Credentials in files and addresses.
    "connection ?string",
    r"\bsas\b",
    "pfx|pkcs ?12|keytab",
    "mnemonic",
)
"""Regular expressions, searched in the words of a name (a property's key or label, or a name within a value)."""

SETTING = (
    r"(?:pass(?:w(?:or)?d|phrase|code)?s?|pwds?|tokens?|keys?|secrets?|cred(?:ential)?s?|licen[cs]es?"
    r"|\b(?:psk|t?otp|pins?)) ?"
    r"(?:(?:min|max)(?:imum)? ?|(?:refresh|renewal|exchange|change|reset) ?)?"
    r"(?:ttl|life ?time|expir\w*|age|valid\w*|len(?:gth)?|size|bits|type|algorithms?|polic(?:y|ies)|enabled?|disabled?"
    r"|rotation|timeout|interval|format|servers?|usage|check(?:s|ing)?|complexity|strength"
    r"|history|required|retries|attempts|mode)\b"
    # Passphrases and PINs are left out: a value of these may be the secret itself.
    r"|(?:passw(?:or)?ds?|pwds?|tokens?|keys?|secrets?|cred(?:ential)?s?|licen[cs]es?) ?"
    r"(?:logins?|auth(?:enticat\w*|ori[sz]\w*)?)\b"
    r"|(?:tokens?|keys?|secrets?|cred(?:ential)?s?|licen[cs]es?) ?names?\b"
)
"""Regular expression for the name of a setting about a secret. It is not a secret unless its value looks like one."""

HARMLESS_NAMES = (
    SETTING,
    # Words.
    "bypass|compass|passive|pass ?through|passing|passed|passenger|passport|surpass|encompass|passwordless",
    r"(?:hoc|mon|tur|don|joc|whis|las)keys?\b|turn ?key",
    "key ?(?:boards?|maps?|stone|cloak|words?|space|less|note|frames?)",
    "credit|accredit|sacred|incredible",
    "tokeniz",
    "secretary",
    # Meant to be published.
    r"(?:public|authorized|gpg) ?keys?(?! ?pass)",
    # Networks.
    "private ?(?:ip|net|sub|addr|interface|nic|dns|gateway|gw|vlan|cidr|lan|port ?group|range)",
    "private ?(?:registr|cloud|host|domain)",
    # Addresses of key stores.
    (
        r"(?:key|secrets?|token|credentials?|licen[cs]e) ?(?:vault|store|manager|management|server|service|provider)? ?"
        r"(?:urls?|uri|endpoint|host(?: ?name)?|ip(?:v[46])?|fqdn|address|addr|port)\b"
    ),
    r"key ?vault ?name",
    r"(?:accept\w*|agree\w*|read)(?: ?to)?(?: ?the)? ?licen[cs]es?",
    r"licen[cs]e ?(?:agree\w*|accept\w*|edition|mode|tier|model)",
    r"(?:ignition|coreos|talos|machine|cloud) ?config ?(?:data )?(?:encoding|urls?)\b|(?:user|vendor) ?data ?encoding",
    r"community ?(?:edition|version|support)",
)
"""Removed from a name before it is searched for :data:`NAMES`."""

PROSE = (
    r"pass ?(?:words?|phrases?|codes?|wd)\b",
    "secret",
    r"\b(?:bearer|access|api|auth\w*|join|bootstrap|registration|enrol\w*|login|service|session|security) ?tokens?\b",
    r"\btokens? (?:for|of|from|to)\b|^(?:the |a |an |your )?tokens?\b",
    r"credentials?\b",
    (
        r"\b(?:api|access|registration|activation|licen[cs]e|(?:pre[- ]?)?shared|encryption|private|auth\w*|join|"
        r"product|enrol\w*|master|bootstrap|signing|subscription|one[- ]?time|unique|machine)[- ]keys?\b"
    ),
    r"\b(?:one[- ]?time|activation|registration|auth\w*|enrol\w*|pairing|recovery|access|pin)[- ]?codes?\b",
    r"\blicen[cs]es?$|\blicen[cs]ing\b",
    r"community string",
)
"""Regular expressions, searched in the title of a category and in the first sentence of a description. They are
stricter, since a sentence may mention secrets that are elsewhere."""

_NO_CARRIERS = re.compile(
    r"\b(?:user ?names?|users?|host ?names?|fqdn|domain|ip(?:v[46])?\d*|addr(?:ess)?(?:es)?|gateway|net ?mask|prefix|"
    r"ports?|dns|ntp|urls?|uri|proxy|vlan|enabled?|mode|locale|time ?zone|e ?mail|group|role|version|encoding|"
    r"length|polic(?:y|ies)|expir\w*|ttl|life ?time|time ?out|interval|rotation|complexity|algorithms?)\b"
)
"""Names of properties that prose does not make secret: the description of a user name may mention the password."""

_PROSE_TYPES = ("string", "")
_NO_TYPES = ("boolean", "ip")
"""Types whose values cannot be a secret, nor contain one."""

VALUES = (
    # A command line; a URL with a login; a URL with a signature; an HTTP header.
    r"--?(?:pass|pwd|secret|token|cred)[\w-]{0,40}\s",
    r"://[^/\s:@]{0,200}:[^\s@]{1,200}@",
    r"[?&](?:sig|signature|sv|x-amz-signature|x-goog-signature|code|sas)=[^&\s]{6}",
    r"\b(?:bearer|basic)\s+[\w.~+/-]{8}",
    # Files of keys, hashes of passwords.
    "PRIVATE KEY",
    r"\$(?:1|2[abxy]|5|6|7|y|argon2id?)\$",
    r"\{S?SHA(?:256|512)?\}",
    "AGE-SECRET-KEY-",
    # A JSON Web Token.
    r"\beyJ[\w-]{8,4000}\.eyJ",
    # Five groups of five, as the license keys of VMware and Microsoft.
    r"(?-i:\b(?:[0-9A-Z]{5}-){4}[0-9A-Z]{5}\b)",
    # Access keys of AWS, GitHub, GitLab, Slack, HashiCorp Vault, Tailscale; bootstrap tokens of Kubernetes.
    r"(?-i:\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|hv[bs]\.|tskey-)[\w-]{16})",
    r"(?-i:(?<![\w.-])[a-z0-9]{6}\.(?=[a-z]*\d)[a-z0-9]{16}(?![\w.-]))",
)
"""Regular expressions, searched in values. Names within a value, as in JSON, YAML, XML and settings, are compared with
:data:`NAMES`."""

_NAMES = re.compile("|".join(NAMES), re.IGNORECASE)
_SETTING = re.compile(SETTING, re.IGNORECASE)
_HARMLESS_NAMES = re.compile("|".join(HARMLESS_NAMES), re.IGNORECASE)
_PROSE = re.compile("|".join(PROSE), re.IGNORECASE)
_VALUES = re.compile("|".join(VALUES), re.IGNORECASE)

_NAME_LENGTH = 80
_SEPARATOR = re.compile(r"[:=>]")
_NEXT = re.compile(r"[\s\"'\\]{0,80}([^\s\"'\\<&]{0,200})")
"""The value after a separator, without quotes. It matches everywhere, since a value may be empty."""
# {"name": "password", "value": "…"}, and the same in YAML.
_NAMED_PAIR = re.compile(r"\b(?:name|key|id)[\"'\\]{0,4}\s{0,9}[:=]\s{0,9}[\"'\\]{0,4}([\w.-]{1,80})", re.IGNORECASE)
_PASSWORD = re.compile(
    r"\b(?:pass(?:word|phrase|code|wd)|pwd)\s{0,9}[:=]\s{0,9}(?=\S{6})\S{0,200}(?:\d|\w[^\w\s]\w)", re.IGNORECASE
)
"""A password in prose: it has a digit, or something within it that is no letter."""
_KEY_ATTRIBUTE = re.compile(r"\s(?:[\w.-]+:)?key\s?=", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_FOLDED_BASE64 = re.compile(r"\s*(?:data:[\w/;+.-]{0,80},)?([A-Za-z0-9+/_-]+(?:\s+[A-Za-z0-9+/_-]+)*\s*={0,2})\s*")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_MIXED = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
"""A letter next to a digit: rare in names, common in random text."""
_DEPTH = 4
"""Maximum nesting of encodings, such as a compressed document in base64 that contains a file in base64."""
_LIMIT = 1_000_000
"""Maximum number of characters that are decompressed from one value."""


def is_secret_name(name: str) -> bool:
    """Return whether a key, a label, or a name within a value denotes a secret."""
    words = _HARMLESS_NAMES.sub("|", in_words(name).lower().strip())
    return _NAMES.search(words) is not None


def is_secret_property(key: str, type: str = "", label: str = "", category: str = "", description: str = "") -> bool:
    """Return whether the vApp options show that a property holds a secret.

    :param type: as in ``vim.vApp.PropertyInfo``; qualifiers such as ``(1..8)`` are ignored.
    :param description: only its first sentence counts.
    """
    plain = re.split(r"[^a-z]", type.lower(), maxsplit=1)[0]
    if plain in _NO_TYPES:
        return False
    if is_secret_name(key) or is_secret_name(label):
        return True
    names = f"{in_words(key)} | {in_words(label)}"
    if plain not in _PROSE_TYPES or _NO_CARRIERS.search(names.lower()) or _SETTING.search(names):
        return False
    first = re.split(r"(?<=[.!?])\s", description.strip()[:1000], maxsplit=1)[0]
    return any(_PROSE.search(_HARMLESS_NAMES.sub("|", text)) for text in (category.strip(), first))


def holds_secret(value: str, names: t.Iterable[str] = ()) -> bool:
    """Return whether a value seems to hold a secret, as it is, in JSON, percent-encoded, or in base64.

    :param names: the key and the label of its property.
    """
    return _holds_secret(value, _DEPTH) or (any(map(_is_setting, names)) and _looks_made(value))


def is_harmless_value(value: str) -> bool:
    """Return whether a value is a boolean or an address, which is no secret whatever its name."""
    if value.strip().lower() in ("true", "false"):
        return True
    try:
        ipaddress.ip_interface(value.strip())
    except ValueError:
        return False
    return True


def section_holds_secret(contents: str) -> bool:
    """Return whether a section of an OVF descriptor seems to hold a secret. Its attribute ``key`` is only a name."""
    return holds_secret(_KEY_ATTRIBUTE.sub(" name=", contents))


def prose_holds_secret(text: str) -> bool:
    """Return whether a text such as a license agreement seems to hold a secret.

    It may speak of passwords and licenses: what follows such a word must look like a password.
    """
    return any(pattern.search(text) for pattern in (_VALUES, _PASSWORD)) or _has_secret_name(text, only_made=True)


@functools.lru_cache(maxsize=4096)
def _is_setting(name: str) -> bool:
    return _SETTING.search(in_words(name)) is not None


def _looks_made(value: str) -> bool:
    """Return whether a value has a word that looks like a password or a token rather than a name."""
    return any(_is_made(word) for word in re.findall(r"\S{8,}", value[:_LIMIT]))


def _is_made(word: str) -> bool:
    if _UUID.search(word) or all(re.search(kind, word) for kind in ("[a-z]", "[A-Z]", "[0-9]", r"[^\w\-./:,;=]")):
        return True
    for part in re.findall(r"[^\-_./:,;=]{8,}", word):
        kinds = sum(re.search(kind, part) is not None for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]"))
        if kinds > 2 or len(part) > 19 or len(_MIXED.findall(part)) > 3:
            return True
    return False


def _holds_secret(text: str, depth: int) -> bool:
    if _VALUES.search(text) is not None or _has_secret_name(text):
        return True
    return depth > 0 and any(_holds_secret(inner, depth - 1) for inner in _decoded(text))


def _has_secret_name(text: str, only_made: bool = False) -> bool:
    """Return whether the text gives a value to a name that denotes a secret.

    :param only_made: the value must look like a password or a token.
    """
    if _NAMES.search(in_words(text[:_LIMIT])) is None:
        return False
    for separator in _SEPARATOR.finditer(text):
        before = text[max(0, separator.start() - _NAME_LENGTH - 10) : separator.start()].rstrip(" \t\r\n\"'\\")
        name = re.split(r"[^\w.-]", before)[-1]
        name = name[-_NAME_LENGTH:]
        is_secret = _is_secret_name(name)
        if is_secret and not only_made:
            return True
        value = next(_NEXT.finditer(text, separator.end()))
        if (is_secret or _is_setting(name)) and _looks_made(value[1]):
            return True
    return not only_made and any(_is_secret_name(pair[1]) for pair in _NAMED_PAIR.finditer(text))


_is_secret_name = functools.lru_cache(maxsize=4096)(is_secret_name)


def _decoded(text: str) -> t.Iterator[str]:
    """Yield other forms of the text: JSON without escape sequences, percent-decoded, and decoded from base64."""
    if text.lstrip()[:1] in ("{", "[", '"'):
        try:
            plain = json.dumps(json.loads(text), ensure_ascii=False)
        except (ValueError, RecursionError):
            plain = text
        if plain != text:
            yield plain
    if "%" in text and (unquoted := urllib.parse.unquote(text)) != text:
        yield unquoted
    folded = _FOLDED_BASE64.fullmatch(text)
    pieces = [re.sub(r"\s", "", folded[1])] if folded else []
    pieces += [found[0] for found in _BASE64.finditer(text) if found[0] not in pieces]
    for piece in pieces:
        if (inner := _from_base64(piece)) is not None:
            yield inner


def _from_base64(piece: str) -> str | None:
    """Return the text encoded in base64, decompressed if necessary; ``None``: it is not text."""
    plain = piece.rstrip("=").replace("-", "+").replace("_", "/")
    if len(plain) % 4 == 1:
        return None
    try:
        data = base64.b64decode(plain + "=" * (-len(plain) % 4))
        if data[:2] == b"\x1f\x8b":
            data = zlib.decompressobj(31).decompress(data, _LIMIT)
        text = data.decode("utf-16-le" if data[1::2].count(0) > len(data) // 4 else "utf-8")
    except (ValueError, binascii.Error, zlib.error):
        return None
    return None if re.search(r"[\0-\x08\x0e-\x1f]", text) else text
