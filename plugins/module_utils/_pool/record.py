# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the records of pools on VMs: their types, their text, and the durations and shares of their options. Pure.

Private to the collection. A child's record is in the extraConfig key
:data:`CHILD_KEY`, and a pool's own record is on each of its parents in
:data:`PARENT_KEY`. Both keys are outside of ``guestinfo.``, so that no guest
can write them. Both records contain the BIOS UUID of the VM that they were
written for, because clones inherit them.

A record decides whether a VM may be destroyed, so a text is accepted only as
a whole: one that cannot be read, or that contradicts itself, becomes
:class:`Unreadable`. That is neither a record nor the absence of one.
"""

from __future__ import annotations

import datetime
import enum
import json
import re
import typing as t
from dataclasses import dataclass, field, fields

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo

CHILD_KEY = "vmfork.pool"
"""extraConfig key of a child's record."""

PARENT_KEY = "vmfork.pools"
"""extraConfig key on a parent, with the record of each pool that it serves."""

GENERATION_KEY = guestinfo.GENERATION
"""extraConfig key on a parent with the random mark that is written before each freeze."""

VERSION = 1
"""Version of the format of both records."""


class State(enum.Enum):
    """What a child's record says."""

    CREATING = "creating"
    READY = "ready"
    CLAIMING = "claiming"
    """A lease has begun and is not confirmed yet."""
    LEASED = "leased"
    RELEASING = "releasing"
    """Nobody may use it again: it is about to be destroyed."""
    FAILED = "failed"
    UNHEALTHY = "unhealthy"
    """It was ready, and a first look found that it is not healthy."""


IDLE = frozenset({State.READY, State.UNHEALTHY})
"""States of a child that has become ready and was never leased."""

HELD = frozenset({State.CLAIMING, State.LEASED})
"""States of a child that a holder has or is about to get."""


@dataclass(frozen=True)
class Unreadable:
    """A record that cannot be used, and the reason as a clause. Its VM may belong to a pool, so it is never touched."""

    why: str


@dataclass(frozen=True)
class ChildRecord:
    """The record of a pool's child. Times are vCenter's.

    :param generation: see :func:`generation`.
    :param bios_uuid: BIOS UUID of the VM that the record was written for, in lower case.
    :param since: when the state was written.
    :param boot_time: ``runtime.bootTime`` of the VM when it became ready.
    :param attempt: a random value of one attempt to lease the child. It shows after a lost answer whose claim it is.
    :param holder: who has the lease; no security boundary.
    :param until: when the lease expires.
    """

    pool: str
    generation: str
    bios_uuid: str
    created: datetime.datetime
    state: State
    since: datetime.datetime
    boot_time: datetime.datetime | None = None
    lease_id: str | None = None
    attempt: str | None = None
    holder: str | None = None
    until: datetime.datetime | None = None

    @property
    def contradiction(self) -> str | None:
        """Why the record cannot be true, as a clause."""
        for name in ("pool", "generation", "bios_uuid"):
            if not getattr(self, name):
                return f"it has no {name}"
        lease = {"lease_id": self.lease_id, "attempt": self.attempt, "holder": self.holder, "until": self.until}
        if self.state in HELD:
            needed = ["lease_id", "attempt", *(["until"] if self.state is State.LEASED else [])]
            missing = next((name for name in needed if not lease[name]), None)
            return f"it is {self.state.value} without {missing}" if missing is not None else None
        if self.state is not State.RELEASING:
            extra = next((name for name, value in lease.items() if value is not None), None)
            if extra is not None:
                return f"it is {self.state.value} and has {extra}"
        if self.state is State.READY and self.boot_time is None:
            return "it is ready without boot_time"
        return None

    def encode(self) -> str:
        """Return the text for :data:`CHILD_KEY`.

        :raises ValueError: the record contradicts itself; nobody could read it.
        """
        if self.contradiction is not None:
            raise ValueError(f"This record must not be written: {self.contradiction}.")
        return _text({"version": VERSION, **_values(self)})


def decode_child(text: str | None, bios_uuid: str | None) -> ChildRecord | Unreadable | None:
    """Return a child's record from the text of :data:`CHILD_KEY`; ``None``: there is no record.

    :param bios_uuid: the VM's own. A record of another VM is :class:`Unreadable`: ask the identity of the VM first.
    """
    if not text:
        return None
    found = _object(text)
    if isinstance(found, Unreadable):
        return found
    record = _decoded(ChildRecord, found)
    if isinstance(record, Unreadable):
        return record
    if record.contradiction is not None:
        return Unreadable(record.contradiction)
    if record.bios_uuid != (bios_uuid or "").lower():
        return Unreadable("it was written for another VM")
    return record


class Mode(enum.Enum):
    """What the last ``vmfork_pool`` task wanted of a pool. The values are those of its option ``state``."""

    PRESENT = "present"
    PAUSED = "paused"
    DRAINED = "drained"
    ABSENT = "absent"


@dataclass(frozen=True)
class PoolRecord:
    """The record of a pool on one of its parents, for the next task and for leases.

    :param by: the user who set the mode.
    :param why: the reason that this user gave.
    :param failures: creations that failed, in a row.
    :param failed_at: when the last of them failed.
    :param failed_generation: the generation that it was to be a child of.
    :param lease_ttl_max: the longest lease, in seconds.
    """

    mode: Mode
    since: datetime.datetime
    lease_ttl_max: int
    by: str = ""
    why: str = ""
    failures: int = 0
    failed_at: datetime.datetime | None = None
    failed_generation: str | None = None

    @property
    def contradiction(self) -> str | None:
        """Why the record cannot be true, as a clause."""
        if self.lease_ttl_max <= 0:
            return "lease_ttl_max is not positive"
        if self.failures < 0:
            return "failures is negative"
        if (self.failures > 0) != (self.failed_at is not None):
            return "failures and failed_at do not fit together"
        return None


@dataclass(frozen=True)
class ParentRecord:
    """All records of pools on one parent.

    :param pools: name of the pool → its record.
    """

    bios_uuid: str
    pools: t.Mapping[str, PoolRecord] = field(default_factory=dict)

    def encode(self) -> str:
        """Return the text for :data:`PARENT_KEY`.

        :raises ValueError: a record contradicts itself; nobody could read it.
        """
        for name, pool in self.pools.items():
            if pool.contradiction is not None:
                raise ValueError(f"The record of pool {name} must not be written: {pool.contradiction}.")
        pools = {name: _values(pool) for name, pool in self.pools.items()}
        return _text({"version": VERSION, "bios_uuid": self.bios_uuid, "pools": pools})


def decode_parent(text: str | None, bios_uuid: str) -> ParentRecord | Unreadable:
    """Return the record of pools from the text of :data:`PARENT_KEY`.

    A record of another VM was inherited from a parent that this VM was forked or cloned from, and counts as none.

    :param bios_uuid: the VM's own.
    """
    empty = ParentRecord(bios_uuid.lower())
    if not text:
        return empty
    found = _object(text)
    if isinstance(found, Unreadable):
        return found
    owner, pools = found.pop("bios_uuid", None), found.pop("pools", None)
    if not isinstance(owner, str) or not owner or not isinstance(pools, dict) or found:
        return Unreadable("its fields are not those of this version")
    if owner != bios_uuid.lower():
        return empty
    records: dict[str, PoolRecord] = {}
    for name, values in pools.items():
        record = _decoded(PoolRecord, values)
        if not isinstance(record, Unreadable) and record.contradiction is not None:
            record = Unreadable(record.contradiction)
        if isinstance(record, Unreadable):
            return Unreadable(f"in the part of pool {name}, {record.why}")
        records[name] = record
    return ParentRecord(owner, records)


def generation(instance_uuid: str, mark: str | None, boot_time: datetime.datetime | None) -> str | None:
    """Return the generation of children that a parent has now; ``None``: it cannot be known.

    A time alone would not do: two forks may be made in one second, and a clock may be set back.

    :param instance_uuid: the parent's.
    :param mark: the text of :data:`GENERATION_KEY` on the parent.
    :param boot_time: the parent's ``runtime.bootTime``.
    """
    if not instance_uuid or not mark or boot_time is None:
        return None
    return f"{instance_uuid.lower()} {mark} {_time_text(boot_time)}"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)

_AMOUNT = re.compile(r"([0-9]{1,9})(%?)", re.ASCII)


def duration(option: str, text: str) -> int:
    """Return the seconds of a duration such as ``90``, ``90m`` or ``24h``.

    :param option: name of the option, for the error.
    :raises _errors.BadInput: it is not a positive duration.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match is not None else 0
    if seconds == 0:
        raise _errors.BadInput(
            f"{option} is {text}, which is not a duration. Write it as 90 (seconds), 90m, 24h or 7d."
        )
    return seconds


@dataclass(frozen=True)
class Amount:
    """A number, or a share of a total in percent."""

    number: int
    is_share: bool = False

    @classmethod
    def parse(cls, option: str, text: str) -> Amount:
        """Return the amount of an option such as ``5`` or ``20%``.

        :raises _errors.BadInput: it is neither.
        """
        match = _AMOUNT.fullmatch(text.strip())
        if match is None or (match[2] and int(match[1]) > 100):
            raise _errors.BadInput(f"{option} is {text}, which is neither a number nor a share. Write it as 5 or 20%.")
        return cls(int(match[1]), bool(match[2]))

    def of(self, total: int, at_least: int = 0) -> int:
        """Return the number; a share is rounded down.

        :param at_least: the result of a share that would be smaller. A number is what the user asked for.
        """
        return max(at_least, total * self.number // 100) if self.is_share else self.number


def _text(values: t.Mapping[str, t.Any]) -> str:
    return json.dumps(values, separators=(",", ":"), sort_keys=True)


def _object(text: str) -> dict[str, t.Any] | Unreadable:
    """Return the fields of a record, without the version."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return Unreadable("it is not JSON")
    if not isinstance(found, dict) or not _is_number(found.get("version")):
        return Unreadable("it has no version")
    version = found.pop("version")
    if version != VERSION:
        return Unreadable(f"it has version {version}, and this collection knows version {VERSION}")
    return found


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    """Refuse an object that has one key twice: readers would disagree about its value."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


Decoded = t.TypeVar("Decoded", ChildRecord, PoolRecord)


def _values(record: ChildRecord | PoolRecord) -> dict[str, t.Any]:
    """Return the fields of a record as JSON types, without those that are not set."""
    values = {part.name: getattr(record, part.name) for part in fields(record)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, enum.Enum):
        return value.value
    return _time_text(value) if isinstance(value, datetime.datetime) else value


def _decoded(kind: type[Decoded], values: t.Any) -> Decoded | Unreadable:
    """Return a record from its fields; the inverse of :func:`_values`."""
    if not isinstance(values, dict):
        return Unreadable("it is not an object")
    known = {part.name: str(part.type) for part in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        return Unreadable(f"it has the unknown field {unknown[0]}")
    found: dict[str, t.Any] = {}
    for name, value in values.items():
        try:
            found[name] = _READERS[known[name].removesuffix(" | None")](value)
        except (ValueError, OverflowError):
            return Unreadable(f"its field {name} is not valid")
    try:
        return kind(**found)
    except TypeError:
        missing = next(part for part in known if part not in found and part in _required(kind))
        return Unreadable(f"it has no {missing}")


def _required(kind: type[t.Any]) -> set[str]:
    return {name for name in kind.__dataclass_fields__ if name not in kind.__dict__}


def _read_text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _is_number(value: t.Any) -> bool:
    """Return whether this is a whole number; to Python, a boolean is one."""
    return isinstance(value, int) and not isinstance(value, bool)


def _read_number(value: t.Any) -> int:
    if not _is_number(value):
        raise ValueError("not a whole number")
    return int(value)


def _read_time(value: t.Any) -> datetime.datetime:
    time = datetime.datetime.fromisoformat(_read_text(value))
    if time.tzinfo is None:
        raise ValueError("no time zone")
    return time.astimezone(datetime.timezone.utc)


_READERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "str": _read_text,
    "int": _read_number,
    "datetime.datetime": _read_time,
    "State": State,
    "Mode": Mode,
}
"""How to read a field, by its declared type."""


def _time_text(time: datetime.datetime) -> str:
    """Return a time in UTC with its microseconds: boot times are compared for equality."""
    return time.astimezone(datetime.timezone.utc).isoformat(timespec="microseconds")
