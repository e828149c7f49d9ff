# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of pools: every one that can be written can be read, and no other text is mistaken for one."""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool import record
from ansible_collections.vmfork.vsphere.plugins.module_utils._pool.record import (
    Amount,
    ChildRecord,
    Mode,
    ParentRecord,
    PoolRecord,
    State,
    Unreadable,
)

UUID = "564d0000-0000-0000-0000-00000000aaaa"
NOW = datetime.datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=datetime.timezone.utc)
READY = ChildRecord("ci", "parent mark boot", UUID, NOW, State.READY, NOW, boot_time=NOW)
LEASED = dataclasses.replace(READY, state=State.LEASED, lease_id="job-1", attempt="a1", holder="team", until=NOW)
POOL = PoolRecord(Mode.PRESENT, NOW, 3600)

times = st.datetimes(
    datetime.datetime(1970, 1, 2), datetime.datetime(9000, 1, 1), timezones=st.just(datetime.timezone.utc)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
records = st.builds(
    ChildRecord,
    pool=texts,
    generation=texts,
    bios_uuid=st.just(UUID),
    created=times,
    state=st.sampled_from(State),
    since=times,
    boot_time=st.none() | times,
    lease_id=st.none() | texts,
    attempt=st.none() | texts,
    holder=st.none() | texts,
    until=st.none() | times,
)


def reason(text: str) -> str:
    """Return why a child's record cannot be read."""
    found = record.decode_child(text, UUID)
    assert isinstance(found, Unreadable), found
    return found.why


def changed(**values: t.Any) -> str:
    """Return the text of a ready child's record with other values."""
    return json.dumps({**json.loads(READY.encode()), **values})


@given(records)
def test_what_is_written_is_read(child: ChildRecord) -> None:
    if child.contradiction is None:
        assert record.decode_child(child.encode(), UUID.upper()) == child
    else:
        with pytest.raises(ValueError, match="must not be written"):
            child.encode()


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_unreadable(text: str) -> None:
    found = record.decode_child(text, UUID)
    assert isinstance(found, Unreadable) if text else found is None


@given(
    st.sampled_from(["version", *(part.name for part in dataclasses.fields(ChildRecord))]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
)
def test_any_changed_field_is_noticed(name: str, value: t.Any) -> None:
    found = record.decode_child(changed(**{name: value}), UUID)
    fits = isinstance(value, str) and value and name in ("pool", "generation")
    same = value == json.loads(READY.encode()).get(name, object()) and not isinstance(value, bool)
    assert isinstance(found, ChildRecord if fits or same else Unreadable)


@pytest.mark.parametrize("name", ["version", "pool", "generation", "bios_uuid", "created", "state", "since"])
def test_every_field_that_is_needed_is_missed(name: str) -> None:
    values = json.loads(READY.encode())
    del values[name]
    assert reason(json.dumps(values)) == f"it has no {name}"


@pytest.mark.parametrize("text", [None, ""])
def test_no_record(text: str | None) -> None:
    assert record.decode_child(text, UUID) is None


@pytest.mark.parametrize("uuid", [None, "", UUID.replace("a", "b")])
def test_record_of_another_vm(uuid: str | None) -> None:
    assert record.decode_child(READY.encode(), uuid) == Unreadable("it was written for another VM")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (changed(version=2), "it has version 2, and this collection knows version 1"),
        (changed(version=True), "it has no version"),
        (changed(other=1), "it has the unknown field other"),
        (changed(created="2026-11-30T12:00:00"), "its field created is not valid"),
        (changed(state="gone"), "its field state is not valid"),
        (changed(lease_id="job-1"), "it is ready and has lease_id"),
        (changed(state="leased"), "it is leased without lease_id"),
        (changed(state="claiming", lease_id="job-1"), "it is claiming without attempt"),
        (changed(state="leased", lease_id="job-1", attempt="a1"), "it is leased without until"),
        (READY.encode().replace('"pool":"ci"', '"pool":"ci","pool":"other"'), "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_reasons(text: str, why: str) -> None:
    assert reason(text) == why


def test_ready_without_boot_time() -> None:
    values = json.loads(READY.encode())
    del values["boot_time"]
    assert reason(json.dumps(values)) == "it is ready without boot_time"


def test_a_release_keeps_the_lease() -> None:
    released = dataclasses.replace(LEASED, state=State.RELEASING)
    assert record.decode_child(released.encode(), UUID) == released


def test_record_fits_into_one_value() -> None:
    assert len(LEASED.encode()) < 600


def test_pools_of_a_parent() -> None:
    failed = dataclasses.replace(POOL, failures=2, failed_at=NOW, failed_generation="g", by="me", why="patches")
    parent = ParentRecord(UUID, {"ci": POOL, "lab": failed})
    assert record.decode_parent(parent.encode(), UUID.upper()) == parent


@pytest.mark.parametrize("text", [None, "", ParentRecord("another", {"ci": POOL}).encode()])
def test_no_pools(text: str | None) -> None:
    assert record.decode_parent(text, UUID.upper()) == ParentRecord(UUID)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"version":1', '"version":2', "it has version 2, and this collection knows version 1"),
        ('"pools":{', '"pool":{', "its fields are not those of this version"),
        ('"mode":"present"', '"mode":"other"', "in the part of pool ci, its field mode is not valid"),
        ('"failures":0', '"failures":-1', "in the part of pool ci, failures is negative"),
        ('"failures":0', '"failures":1', "in the part of pool ci, failures and failed_at do not fit together"),
        ('"lease_ttl_max":3600', '"lease_ttl_max":0', "in the part of pool ci, lease_ttl_max is not positive"),
        ('"lease_ttl_max":3600,', "", "in the part of pool ci, it has no lease_ttl_max"),
    ],
)
def test_unreadable_pools(old: str, new: str, why: str) -> None:
    text = ParentRecord(UUID, {"ci": POOL}).encode()
    assert old in text
    assert record.decode_parent(text.replace(old, new), UUID) == Unreadable(why)


def test_a_contradicting_pool_is_not_written() -> None:
    with pytest.raises(ValueError, match="pool ci must not be written: failures is negative"):
        ParentRecord(UUID, {"ci": dataclasses.replace(POOL, failures=-1)}).encode()


def test_generation_changes_with_each_of_its_parts() -> None:
    later = NOW + datetime.timedelta(microseconds=1)
    parts = [("P1", "m1", NOW), ("p2", "m1", NOW), ("p1", "m2", NOW), ("p1", "m1", later)]
    assert len({record.generation(*part) for part in parts}) == 4
    assert record.generation("P1", "m1", NOW) == record.generation("p1", "m1", NOW)


@pytest.mark.parametrize("parts", [("", "m", NOW), ("p", None, NOW), ("p", "", NOW), ("p", "m", None)])
def test_unknown_generation(parts: tuple[str, str | None, datetime.datetime | None]) -> None:
    assert record.generation(*parts) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("90m", 5400), (" 24h ", 86400), ("7d", 604800)]
)
def test_duration(text: str, seconds: int) -> None:
    assert record.duration("ready_ttl", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0h", "-5", "1.5h", "5 m", "5w", "h", "20%", "٣h", "9999999999"])
def test_no_duration(text: str) -> None:
    with pytest.raises(_errors.BadInput, match=r"ready_ttl is .*, which is not a duration"):
        record.duration("ready_ttl", text)


@pytest.mark.parametrize(
    ("text", "total", "number"), [("3", 100, 3), ("0", 100, 0), ("20%", 40, 8), ("20%", 4, 2), ("0%", 100, 2)]
)
def test_amount(text: str, total: int, number: int) -> None:
    assert Amount.parse("max_deletions", text).of(total, at_least=2) == number


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "5 %", "1.5", "five"])
def test_no_amount(text: str) -> None:
    with pytest.raises(_errors.BadInput, match=r"max_deletions is .*, which is neither a number nor a share"):
        Amount.parse("max_deletions", text)
