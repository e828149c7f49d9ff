# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse what a guest reports about its identity, and judge whether the identity was renewed.

Private to the collection. Pure functions. ``roles/vmfork/files/linux_identity.sh``
writes the report: ``<nonce> 1 items:<item>=<ok|absent|failed>,… machine_id:<SHA-256>
keys:<base64> why:<base64>``, with ``-`` for what is missing. A parent writes it
before the fork point, with the nonce ``parent`` and without items.

Any program in the guest can write any text instead. The report counts only if
every part of it is valid: a host key that is accepted here ends up in a
known_hosts file.
"""

from __future__ import annotations

import base64
import collections
import itertools
import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _printable

ITEMS = (
    "clock",
    "random",
    "machine_id",
    "leases",
    "adapters",
    "hostname",
    "network",
    "ssh_host_keys",
    "boot_id",
    "agents",
    "services",
    "announce",
)
"""The items of an identity, in the order in which the script renews them."""

ON_REQUEST = ("cloud_init",)
"""Items that are renewed after the others, and only if they are named."""

AUTO = "auto"
"""In place of :data:`ITEMS`: all that the guest has."""

NETWORKS = (AUTO, "networkd", "netplan", "networkmanager", "ifupdown", "wicked", "ip", "none")
"""The network stacks that the script can set up."""

PARENT = "parent"
"""The nonce in a parent's report."""

OK, ABSENT, FAILED = "ok", "absent", "failed"
"""What a report says about an item: renewed and confirmed, not in this guest, not renewed."""

LONGEST_REPORT, MOST_ITEMS, MOST_KEYS, MOST_REASONS, LONGEST_REASON = 32768, 32, 16, 64, 200
"""Limits of a report: characters, and numbers of entries. A longer reason is cut."""

_NAME = re.compile("[a-z][a-z0-9_]{0,31}")
_DIGEST = re.compile("[0-9a-f]{64}")
_NONE = "-"


@dataclass(frozen=True)
class Report:
    """The valid report of a guest.

    :param items: item → :data:`OK`, :data:`ABSENT` or :data:`FAILED`.
    :param reasons: item → why it is not ``ok``.
    :param machine_id: SHA-256 of the machine ID.
    :param ssh_host_keys: public keys as in a known_hosts file: type and base64, without comments.
    """

    items: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    machine_id: str | None = None
    ssh_host_keys: tuple[str, ...] = ()

    def text(self, nonce: str) -> str:
        """Return the report as a guest writes it."""
        items = ",".join(f"{item}={status}" for item, status in self.items.items())
        reasons = "\n".join(f"{item}: {reason}" for item, reason in self.reasons.items())
        words = [f"items:{items or _NONE}", f"machine_id:{self.machine_id or _NONE}"]
        words += [f"keys:{_encoded(self.ssh_host_keys)}", f"why:{_encoded([reasons] if reasons else [])}"]
        return " ".join([nonce, "1", *words])

    def as_dict(self, renewed: bool) -> dict[str, t.Any]:
        """Return the ``identity`` return value.

        :param renewed: whether the identity was accepted.
        """
        return {
            "items": dict(self.items),
            "reasons": dict(self.reasons),
            "machine_id": self.machine_id,
            "ssh_host_keys": list(self.ssh_host_keys),
            "renewed": renewed,
        }

    @property
    def has_failed(self) -> bool:
        """Return whether the script could not renew an item."""
        return FAILED in self.items.values()

    def has_renewed(self, item: str) -> bool:
        """Return whether the script has renewed an item."""
        return self.items.get(item) == OK

    @property
    def values(self) -> dict[str, str]:
        """What only this VM should have → what it is, for a sentence."""
        machine_id = {self.machine_id: "machine ID"} if self.machine_id is not None else {}
        return {**machine_id, **{key: f"SSH host key ({key.split(' ')[0]})" for key in self.ssh_host_keys}}

    @property
    def requested_values(self) -> dict[str, str]:
        """The :attr:`values` that the script was to renew. No status in the report excuses one that is not unique."""
        is_requested = dict.fromkeys(self.ssh_host_keys, "ssh_host_keys" in self.items)
        is_requested[str(self.machine_id)] = "machine_id" in self.items
        return {value: what for value, what in self.values.items() if is_requested[value]}


class Seen(t.NamedTuple):
    """What was found of a guest's report.

    :param is_there: whether there is one with the right nonce.
    :param report: ``None`` if it is missing or not valid.
    :param is_accepted: whether it was accepted earlier, and is recorded where the guest cannot change it.
    :param is_refused: whether it was found to be another child's, too, which is recorded there as well.
    """

    is_there: bool = False
    report: Report | None = None
    is_accepted: bool = False
    is_refused: bool = False


@dataclass(frozen=True)
class Wanted:
    """The identity that the children of a task must have.

    :param items: items that must be renewed, or :data:`AUTO`; empty: the same as :data:`AUTO`.
    :param agents_remove: paths of files to remove in the guest.
    :param agents_restart: names of services to restart in the guest.
    """

    items: tuple[str, ...] = ()
    network: str = AUTO
    agents_remove: tuple[str, ...] = ()
    agents_restart: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The items as the script reads them."""
        return ",".join(self.items) or AUTO

    @property
    def is_auto(self) -> bool:
        """Return whether all that the guest has is to be renewed."""
        return not self.items or AUTO in self.items

    @property
    def explicit(self) -> tuple[str, ...]:
        """The items that the guest must have."""
        return tuple(item for item in self.items if item != AUTO)

    def has(self, item: str) -> bool:
        """Return whether an item is to be renewed."""
        return item in self.items or (self.is_auto and item in ITEMS)


def items(given: t.Sequence[str], option: str) -> tuple[str, ...]:
    """Return the items of an option in the order of the script, as in :class:`Wanted`.

    :raises _errors.BadInput: an item does not exist.
    """
    names = list(dict.fromkeys(item.strip() for item in given))
    every = (AUTO, *ITEMS, *ON_REQUEST)
    unknown = [name for name in names if name not in every]
    if unknown:
        raise _errors.BadInput(f"{option}: {unknown[0]} is not an item. The items are {', '.join(every)}.")
    if not names or (AUTO in names and set(names) & set(ITEMS)):
        raise _errors.BadInput(f"{option} must be either {AUTO} or the items to renew. Correct it.")
    return () if names == [AUTO] else tuple(item for item in every if item in names)


_COMPONENT, _LITERAL = r"[^\s/\x00-\x1f\x7f]+", r"[^\s/*?\[\x00-\x1f\x7f]+"
_SYSTEM = r"(?:bin|boot|dev|lib[^/]*|proc|sbin|sys|usr|var)"
# In Windows, ? stands for a space. Its short names (PROGRA~1), and names with a dot at their end, are other spellings.
_WIN_WORD = r"[^\s\\/:*?\[~\x00-\x1f\x7f]*[^\s\\/:*?\[~.\x00-\x1f\x7f]"
_WIN_END = r"[^\s\\/:\x00-\x1f\x7f]*[^\s\\/:.\x00-\x1f\x7f]"
_WIN_NAME = rf"{_WIN_WORD}(?:\?{_WIN_WORD})*"
_WIN_SYSTEM = r"(?:\$[^\\]*|Boot|EFI|Recovery|Windows)"
_WIN_SHARED = r"(?:ProgramData|Program\?Files(?:\?\(x86\))?|Users)"
# Two components without a wildcard, in some directories three; the identity scripts check that, too.
_PATH = re.compile(
    rf"/(?:(?:usr|var)/{_LITERAL}|(?!{_SYSTEM}/){_LITERAL})/{_LITERAL}(?:/{_COMPONENT})*"
    rf"|[A-Za-z]:\\(?:(?i:{_WIN_SHARED})\\{_WIN_NAME}|(?!(?i:{_WIN_SYSTEM}|{_WIN_SHARED})\\){_WIN_WORD})"
    rf"\\{_WIN_NAME}(?:\\{_WIN_END})*"
)
_PATHS = (
    "an absolute path without white space, with two components (three in /usr, /var, \\ProgramData, \\Program?Files "
    "and \\Users) before any wildcard, outside of system directories"
)
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_@.:\\-]{0,254}")


def wanted(given: t.Mapping[str, t.Any] | None) -> Wanted | None:
    """Return the option ``identity`` of a task.

    :raises _errors.BadInput: a value is not valid.
    """
    if given is None:
        return None
    result = Wanted(items(given["items"] or [AUTO], "identity.items"), given["network"] or AUTO)
    agents: dict[str, t.Any] = {}
    for option, form, what in (
        ("agents_remove", _PATH, _PATHS),
        ("agents_restart", _SERVICE, "the name of a service"),
    ):
        agents[option] = tuple(given[option] or ())
        wrong = [
            text for text in agents[option] if not form.fullmatch(text) or {".", ".."} & set(re.split(r"[/\\]", text))
        ]
        if wrong:
            raise _errors.BadInput(f"identity.{option}: {wrong[0]!r} is not {what}. Correct it.")
        if agents[option] and not result.has("agents"):
            raise _errors.BadInput(f"identity.{option} needs the item agents in identity.items. Add it, or remove one.")
    return replace(result, **agents)


# --- parsing ----------------------------------------------------------------------------------------------------------


def parse(text: str, nonce: str | None) -> Seen:
    """Parse a guest's report. Never raises."""
    words = text[: LONGEST_REPORT + 1].split()
    if not words or words[0] != nonce:
        return Seen()
    return Seen(True, _report(words[1:]) if len(text) <= LONGEST_REPORT else None)


def _report(words: list[str]) -> Report | None:
    names = ("items", "machine_id", "keys", "why")
    if len(words) != len(names) + 1 or words[0] != "1":
        return None
    parts = [word.partition(":") for word in words[1:]]
    if tuple(name for name, _colon, _value in parts) != names:
        return None
    given, machine_id, encoded_keys, encoded_reasons = [value for _name, _colon, value in parts]
    its_items = _items(given)
    keys = _keys(encoded_keys)
    lines = _lines(encoded_reasons)
    if its_items is None or keys is None or lines is None or len(lines) > MOST_REASONS:
        return None
    if machine_id != _NONE and not _DIGEST.fullmatch(machine_id):
        return None
    return Report(its_items, _reasons(lines, its_items), None if machine_id == _NONE else machine_id, keys)


def _items(text: str) -> dict[str, str] | None:
    result: dict[str, str] = {}
    for entry in text.split(",") if text != _NONE else ():
        name, _equals, status = entry.partition("=")
        if not _NAME.fullmatch(name) or status not in (OK, ABSENT, FAILED) or name in result:
            return None
        result[name] = status
    return result if len(result) <= MOST_ITEMS else None


def _reasons(lines: list[str], its_items: t.Container[str]) -> dict[str, str]:
    """Return why items are not renewed. These are texts for the reader only, so a line without an item is left out."""
    result: dict[str, str] = {}
    for line in lines:
        item, _colon, reason = line.partition(":")
        text = " ".join(_printable.text(reason).split())[:LONGEST_REASON]
        if item in its_items and text:
            result.setdefault(item, text)
    return result


def _encoded(lines: t.Sequence[str]) -> str:
    return base64.b64encode("\n".join(lines).encode()).decode() if lines else _NONE


def _lines(encoded: str) -> list[str] | None:
    """Return the lines of a text in base64; ``None``: it is not valid base64."""
    if encoded == _NONE:
        return []
    raw = _decoded(encoded)
    return None if raw is None else raw.decode(errors="replace").removesuffix("\n").split("\n")


def _decoded(encoded: str) -> bytes | None:
    """Return what a text in base64 contains; ``None``: it is not the only way to write it."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:  # a character that is not valid in base64 (binascii.Error), or not ASCII
        return None
    return raw if base64.b64encode(raw).decode() == encoded else None


# --- SSH host keys ----------------------------------------------------------------------------------------------------

_CURVES = {"ecdsa-sha2-nistp256": (b"nistp256", 65), "ecdsa-sha2-nistp384": (b"nistp384", 97)}
_CURVES["ecdsa-sha2-nistp521"] = (b"nistp521", 133)
"""Type of a key → the name of its curve, and the size of its point in bytes (RFC 5656)."""


def _keys(encoded: str) -> tuple[str, ...] | None:
    lines = _lines(encoded)
    if lines is None or len(lines) > MOST_KEYS:
        return None
    keys = [public_key(line) for line in lines]
    return tuple(dict.fromkeys(key for key in keys if key is not None)) if None not in keys else None


def public_key(line: str) -> str | None:
    """Return a public key without its comment; ``None``: it is not a host key of a type that is accepted.

    A line of known_hosts could also have a marker such as ``@cert-authority``, with which one key is trusted for any
    host. The type and the structure of the key are therefore checked (RFC 4253, section 6.6; RFC 5656; RFC 8709).
    """
    words = line.split(" ")
    if len(words) < 2 or not line.isascii() or not line.isprintable():
        return None
    kind, encoded = words[:2]
    parts = _strings(_decoded(encoded) or b"")
    if parts is None or parts[:1] != [kind.encode()]:
        return None
    sizes = [len(part) for part in parts[1:]]
    curve, size = _CURVES.get(kind, (b"", 0))
    is_valid = (
        (kind == "ssh-ed25519" and sizes == [32])
        or (kind == "ssh-rsa" and len(sizes) == 2 and 1 <= sizes[0] <= 8 and 128 <= sizes[1] <= 2049)
        or (kind in _CURVES and parts[1:2] == [curve] and sizes[1:] == [size])
    )
    return f"{kind} {encoded}" if is_valid else None


def _strings(blob: bytes) -> list[bytes] | None:
    """Return the strings that a key consists of, each after its length; ``None``: it does not consist of strings."""
    parts: list[bytes] = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            return None
        parts.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return parts


# --- judgement --------------------------------------------------------------------------------------------------------


UNPROVED = "its parent has not reported an identity that it can be compared with"
"""Objection to a child whose parent should have reported its identity."""


def objection(requested: Wanted | None, seen: Seen, parent: Report | None, must_compare: bool = False) -> str | None:
    """Return why the identity of a child does not count as renewed, as a clause; ``None``: it does.

    :param requested: ``None``: the task does not require a renewed identity, but what the child reports must be true.
    :param parent: the report of the parent.
    :param must_compare: whether the parent must have a report, because its identity script writes one. An identity
        that was accepted was compared then.
    """
    if seen.is_refused:
        return "an earlier task found that another child has its machine ID or SSH host key"
    if seen.report is None:
        if seen.is_there:
            return "its guest wrote an unreadable report"
        return "its guest has not reported it" if requested is not None else None
    clauses = [*_objections(requested, seen.report, parent)]
    if must_compare and parent is None and not seen.is_accepted and seen.report.requested_values:
        clauses.append(UNPROVED)
    return "; ".join(clauses) or None


def _objections(requested: Wanted | None, report: Report, parent: Report | None) -> t.Iterator[str]:
    explicit = requested.explicit if requested is not None else ()
    required = (*ITEMS, *explicit) if requested is not None and requested.is_auto else explicit
    for item in dict.fromkeys((*report.items, *required)):
        status = report.items.get(item)
        if status == FAILED or (item in explicit and status == ABSENT):
            what = "failed" if status == FAILED else "is not in its guest"
            reason = report.reasons.get(item)
            yield f"{item} {what}" + (f" ({reason})" if reason else "")
        elif status is None:
            yield f"{item} was not reported"
    shown = {"machine_id": report.machine_id, "ssh_host_keys": report.ssh_host_keys}
    for item, value in shown.items():
        if report.has_renewed(item) and not value:
            yield f"{item} was reported as renewed, but not shown"
    theirs = parent.values if parent is not None else {}
    for value, what in report.requested_values.items():
        if value in theirs:
            yield f"it has the {what} of its parent"


def duplicates(reports: t.Mapping[str, Report]) -> dict[str, str]:
    """Return which VMs have something that only one VM should have: name → why, as a clause.

    :param reports: name of a VM → its report.
    """
    owners: dict[str, list[str]] = collections.defaultdict(list)
    for name, report in reports.items():
        for value in report.values:
            owners[value].append(name)
    result = {}
    for name, report in reports.items():
        shared: dict[str, list[str]] = {}
        for value, what in report.requested_values.items():
            others = [other for other in owners[value] if other != name]
            if others:
                shared[what] = others
        clauses = [f"it has the same {what} as {_some(others)}" for what, others in shared.items()]
        if clauses:
            result[name] = "; ".join(clauses)
    return result


def _some(names: t.Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(itertools.islice(names, 3)) + (f" and {more} more" if more > 0 else "")
