# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of the preflight with every status that it can have, and what holds for all facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import preflight
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.preflight import (
    BLOCK,
    OK,
    UNKNOWN,
    WARN,
    Cluster,
    Datastore,
    Device,
    Facts,
    Host,
    Pool,
)

GIB = 1 << 30

HOST = Host("esx-1", "connected", False, False, memory=256 * GIB, memory_used=100 * GIB)
CLUSTER = Cluster("c1", None, False, False)


def named(count: int, prefix: str = "web") -> tuple[str, ...]:
    """Return the names of children in one place."""
    return tuple(f"{prefix}-{number}" for number in range(1, count + 1))


GOOD = Facts(
    parent="golden",
    engine="instant_clone",
    count=32,
    is_on=True,
    is_quiesced=True,
    devices=(),
    is_encrypted=False,
    deltas=1,
    has_snapshot=True,
    host=HOST,
    memory=4 * GIB,
    reserved=0,
    swap_size=4 * GIB,
    disk_size=10 * GIB,
    pools=(Pool("Resources", named(32), 64 * GIB),),
    datastores=(Datastore("ds1", named(32), 1024 * GIB, True, "VMFS"),),
    swap_elsewhere=False,
    cluster=False,
    without_port=(),
    named=True,
    addressed=True,
    range_size=100,
    lacking=(),
    server_errors=(),
    server_asked=32,
)
"""Everything is known, and nothing is in the way."""

RUNNING = {"is_quiesced": False, "has_tools": True}


def host(**given: Any) -> dict[str, Any]:
    return {"host": replace(HOST, **given)}


def stores(*given: Datastore) -> dict[str, Any]:
    return {"datastores": given}


def devices(*kinds: str) -> dict[str, Any]:
    return {"devices": tuple(Device(f"Device {number}", kind) for number, kind in enumerate(kinds, 1))}


@pytest.mark.parametrize(
    ("name", "facts", "status", "limit", "text"),
    [
        ("fork_point", {}, OK, None, "is at its fork point"),
        ("fork_point", RUNNING, WARN, None, "must be quiesced with vmfork_quiesce first"),
        ("fork_point", {**RUNNING, "allow_running": True}, OK, None, "golden is running"),
        ("fork_point", {**RUNNING, "is_on": False}, BLOCK, 0, "golden is powered off"),
        ("fork_point", {"is_on": None}, UNKNOWN, None, "power state"),
        ("tools", {}, OK, None, "brought golden to its fork point"),
        ("tools", RUNNING, OK, None, "runs in golden"),
        ("tools", {**RUNNING, "has_tools": False}, WARN, None, "does not run in golden"),
        ("tools", {**RUNNING, "has_tools": None}, UNKNOWN, None, "does not show"),
        ("devices", {}, OK, None, "no device"),
        *[
            ("devices", devices(kind), BLOCK, 0, f"Device 1 ({name}) of golden")
            for kind, name in preflight.REFUSED.items()
        ],
        ("devices", devices("vtpm", "serial"), BLOCK, 0, "refuses Device 1 (vTPM), Device 2 (serial port"),
        ("devices", devices("vgpu"), WARN, None, "may refuse Device 1 (vGPU)"),
        ("devices", devices("cd_unknown"), UNKNOWN, None, "whether the ESXi host can access Device 1"),
        ("devices", {**devices("vtpm"), "engine": "vmfork"}, UNKNOWN, None, "whether VMFork accepts Device 1 (vTPM)"),
        ("devices", devices("rdm"), OK, None, "no device"),
        ("devices", {"devices": None}, UNKNOWN, None, "does not show the devices"),
        ("disks", {}, OK, None, "no disk"),
        *[("disks", devices(kind), WARN, None, "may refuse Device 1") for kind in ("independent", "shared", "rdm")],
        ("disks", {**devices("rdm"), "engine": "vmfork"}, UNKNOWN, None, "whether VMFork accepts"),
        ("disks", devices("vtpm"), OK, None, "no disk"),
        ("disks", {"devices": None}, UNKNOWN, None, "does not show"),
        ("encryption", {}, OK, None, "is not encrypted"),
        ("encryption", {"is_encrypted": True}, WARN, None, "is encrypted"),
        ("encryption", {"is_encrypted": None}, UNKNOWN, None, "does not show"),
        ("delta_disks", {}, OK, None, "1 delta disk in a chain"),
        ("delta_disks", {"deltas": 101}, WARN, None, "more than 100"),
        ("delta_disks", {"deltas": 254}, WARN, None, "more than 100"),
        ("delta_disks", {"deltas": 255}, BLOCK, 0, "255 is the maximum"),
        ("delta_disks", {"deltas": None}, UNKNOWN, None, "does not show the disk chain"),
        ("delta_disks", {**RUNNING, "deltas": 250}, WARN, None, "more than 100"),
        ("delta_disks", {**RUNNING, "allow_running": True}, OK, 254, "1 delta disk"),
        ("delta_disks", {**RUNNING, "allow_running": True, "deltas": 69}, WARN, 186, "more than 100"),
        ("delta_disks", {**RUNNING, "allow_running": True, "deltas": 223}, WARN, 32, "more than 100"),
        ("delta_disks", {**RUNNING, "allow_running": True, "deltas": 224}, BLOCK, 31, "each child adds one"),
        ("snapshot", {"has_snapshot": False}, OK, None, "require no snapshot"),
        ("snapshot", {"needs_snapshot": True}, OK, None, "has a snapshot"),
        ("snapshot", {"needs_snapshot": True, "has_snapshot": False}, BLOCK, 0, "has no snapshot"),
        ("snapshot", {"needs_snapshot": True, "has_snapshot": None}, UNKNOWN, None, "does not show"),
        ("host", {}, OK, None, "esx-1 is connected"),
        ("host", host(connection_state="notResponding"), BLOCK, 0, "esx-1 is not connected (notResponding)"),
        ("host", host(is_in_maintenance=True), BLOCK, 0, "esx-1 is in maintenance mode"),
        ("host", host(is_in_quarantine=True), WARN, None, "quarantine"),
        ("host", host(is_in_maintenance=None), UNKNOWN, None, "not visible"),
        ("host", host(connection_state=None), UNKNOWN, None, "not visible"),
        ("host", {"host": None}, UNKNOWN, None, "not visible"),
        ("memory_reservation", {}, OK, None, "reserve no memory"),
        ("memory_reservation", {"reserved": 2 * GIB}, OK, 32, "64 GiB of memory can be reserved"),
        ("memory_reservation", {"reserved": 4 * GIB}, BLOCK, 16, "in resource pool Resources, 4 GiB a child"),
        (
            "memory_reservation",
            {"reserved": 4 * GIB, "pools": (Pool("big", named(2), 64 * GIB), Pool("small", named(30), 40 * GIB))},
            BLOCK,
            12,
            "40 GiB of memory can be reserved in resource pool small",
        ),
        ("memory_reservation", {"reserved": 1, "pools": None}, UNKNOWN, None, "not visible"),
        ("memory_reservation", {"reserved": 1, "pools": (Pool("a", named(32), None),)}, UNKNOWN, None, "not visible"),
        ("memory_reservation", {"reserved": None}, UNKNOWN, None, "not visible"),
        ("memory", {}, OK, 39, "156 GiB of memory free on esx-1, 4 GiB a child"),
        ("memory", host(memory_used=168 * GIB), WARN, 22, "88 GiB of memory free on esx-1, 4 GiB a child"),
        ("memory", host(memory_used=300 * GIB), WARN, 0, "0 bytes of memory free"),
        ("memory", host(memory_used=None), UNKNOWN, None, "not visible"),
        ("memory", host(memory=None), UNKNOWN, None, "not visible"),
        ("memory", {"host": None}, UNKNOWN, None, "not visible"),
        ("memory", {"memory": None}, UNKNOWN, None, "not visible"),
        ("datastore", {}, OK, 256, "1 TiB free on datastore ds1, 4 GiB a child for its swap file"),
        (
            "datastore",
            stores(Datastore("ds1", named(32), 20 * GIB, True, "VMFS")),
            BLOCK,
            5,
            "20 GiB free on datastore ds1",
        ),
        ("datastore", stores(Datastore("ds1", named(32), 20 * GIB, True, "vsan")), WARN, 5, "20 GiB free"),
        ("datastore", stores(Datastore("ds1", named(32), 20 * GIB, True, "NFS41")), WARN, 5, "20 GiB free"),
        ("datastore", {"swap_size": 0}, OK, None, "0 bytes a child"),
        ("datastore", {"swap_size": None}, UNKNOWN, None, "not visible"),
        (
            "datastore",
            stores(
                Datastore("a", named(2), 900 * GIB, True, "VMFS"), Datastore("b", named(30), 40 * GIB, True, "VMFS")
            ),
            BLOCK,
            12,
            "40 GiB free on datastore b",
        ),
        (
            "datastore",
            stores(Datastore("a", named(2), 900 * GIB, True), Datastore("b", named(30), 900 * GIB, False)),
            BLOCK,
            2,
            "cannot use datastore b",
        ),
        ("datastore", stores(Datastore("ds1", named(32), None, True)), UNKNOWN, None, "not visible"),
        ("datastore", stores(Datastore("ds1", named(32), GIB, None)), UNKNOWN, None, "not visible"),
        ("datastore", {"datastores": None}, UNKNOWN, None, "not visible"),
        ("datastore", {"swap_elsewhere": True}, UNKNOWN, None, "another datastore"),
        ("datastore", {"swap_elsewhere": None}, UNKNOWN, None, "another datastore"),
        ("datastore_growth", {}, OK, None, "can grow to 10 GiB; 1 TiB are free"),
        ("datastore_growth", {"disk_size": 40 * GIB}, WARN, None, "can grow to 40 GiB; 1 TiB are free"),
        ("datastore_growth", {"disk_size": 0}, OK, None, "can grow to 0 bytes"),
        ("datastore_growth", {"disk_size": None}, UNKNOWN, None, "not visible"),
        ("datastore_growth", stores(Datastore("ds1", named(32), None, True)), UNKNOWN, None, "not visible"),
        ("datastore_growth", {"datastores": None}, UNKNOWN, None, "not visible"),
        ("ports", {}, OK, None, "no network lacks free ports"),
        ("ports", {"without_port": ("Could not create child b: full.",)}, BLOCK, 31, "Could not create child b: full"),
        ("ports", {"without_port": None}, UNKNOWN, None, "cannot be counted"),
        ("names", {}, OK, None, "not in use"),
        ("names", {"existing": 3}, OK, None, "3 children of these names exist already"),
        ("names", {"name_errors": ("VM a is foreign.", "VM b, too.")}, BLOCK, 30, "VM a is foreign"),
        ("names", {"named": False}, UNKNOWN, None, "not given"),
        ("addresses", {}, OK, None, "no VM that the user can see"),
        ("addresses", {"address_errors": ("Taken.",)}, BLOCK, 31, "Taken"),
        ("addresses", {"address_warnings": ("Perhaps taken.",)}, WARN, None, "Perhaps taken"),
        ("addresses", {"addressed": False}, UNKNOWN, None, "not given"),
        ("address_range", {}, OK, 100, "ip_network has 100 addresses"),
        ("address_range", {"range_size": 31}, BLOCK, 31, "ip_network has 31 addresses"),
        ("address_range", {"range_size": 0}, BLOCK, 0, "ip_network has 0 addresses"),
        ("address_range", {"range_size": False}, UNKNOWN, None, "not given"),
        ("drs", {}, OK, None, "in no cluster"),
        ("drs", {"cluster": CLUSTER}, OK, None, "does not move golden"),
        ("drs", {"cluster": CLUSTER._replace(drs="partiallyAutomated")}, OK, None, "does not move golden"),
        ("drs", {"cluster": CLUSTER._replace(drs="fullyAutomated")}, WARN, None, "set a DRS override"),
        ("drs", {"cluster": None}, UNKNOWN, None, "not visible"),
        ("ha", {}, OK, None, "does not protect"),
        ("ha", {"cluster": CLUSTER}, OK, None, "does not protect"),
        ("ha", {"cluster": CLUSTER._replace(has_ha=True)}, WARN, None, "cluster c1 may restart children"),
        ("ha", {"cluster": CLUSTER._replace(has_ha=True, has_admission_control=True)}, UNKNOWN, None, "admission"),
        ("ha", {"cluster": None}, UNKNOWN, None, "not visible"),
        ("privileges", {}, OK, None, "has the required privileges"),
        ("privileges", {"lacking": ("The user lacks X.",) * 32}, BLOCK, 0, "The user lacks X"),
        ("privileges", {"lacking": None}, UNKNOWN, None, "did not say"),
        ("license", {}, UNKNOWN, None, "only when a child is created"),
        ("server", {}, OK, None, "finds no obstacle"),
        ("server", {"server_warnings": ("vCenter warns: x.",)}, WARN, None, "vCenter warns: x"),
        ("server", {"server_errors": ("No.",), "server_asked": 1}, BLOCK, 0, "No"),
        ("server", {"server_errors": ("No.",), "server_asked": 32}, BLOCK, 31, "No"),
        ("server", {"server_errors": None, "server_obstacle": "No such method."}, UNKNOWN, None, "No such method"),
        ("server", {"server_errors": None}, UNKNOWN, None, "not asked"),
    ],
)
def test_check(name: str, facts: dict[str, Any], status: str, limit: int | None, text: str) -> None:
    judgement = preflight.judge(replace(GOOD, **facts))
    (check,) = [check for check in judgement.checks if check.id == name]
    assert (check.status, check.limit) == (status, limit)
    assert text in check.text
    assert not check.text.endswith(".")


def test_order_and_sources_are_those_of_the_table() -> None:
    result = preflight.judge(GOOD).as_dict()
    assert [check["id"] for check in result["checks"]] == list(preflight.SOURCES)
    assert all(check["source"] for check in result["checks"])


def test_nothing_is_in_the_way() -> None:
    result = preflight.judge(GOOD).as_dict()
    assert (result["count"], result["room"], result["limited_by"]) == (32, 32, None)
    assert result["text"] == "Room for 32 of 32 children. Not known: license."


def test_sentence_of_the_issue() -> None:
    result = preflight.judge(replace(GOOD, **host(memory_used=168 * GIB))).as_dict()
    assert (result["room"], result["limited_by"]) == (22, "memory")
    assert result["text"] == "Room for 22 of 32 children: 88 GiB of memory free on esx-1, 4 GiB a child."


@pytest.mark.parametrize(("limit", "beginning"), [(31, "Room for 31 of 32 children: "), (32, "Preflight: ")])
def test_sentence_of_one_check(limit: int, beginning: str) -> None:
    """Room for all of them is nothing to say."""
    check = preflight.Check("memory", WARN, "88 GiB of memory free", limit=limit)
    assert preflight.judge(GOOD).sentence(check) == f"{beginning}88 GiB of memory free."


FIRST, OTHERS = named(10), named(22, "other")
"""Children in two places."""


@pytest.mark.parametrize(
    ("known", "refused"),
    [
        ({"reserved": 8 * GIB, "pools": (Pool("a", FIRST, 64 * GIB), Pool("b", OTHERS, 999 * GIB))}, FIRST[8:]),
        (stores(Datastore("a", FIRST, 32 * GIB, True), Datastore("b", OTHERS, 999 * GIB, True)), FIRST[8:]),
        (stores(Datastore("a", FIRST, 999 * GIB, False), Datastore("b", OTHERS, 999 * GIB, True)), FIRST),
    ],
    ids=["full pool", "full datastore", "lost datastore"],
)
def test_children_of_the_full_place_are_refused(known: dict[str, Any], refused: tuple[str, ...]) -> None:
    """They are not the last ones of the task, which are in another place."""
    (check,) = (check for check in preflight.judge(replace(GOOD, **known)).checks if check.status == BLOCK)
    assert check.refused([*FIRST, *OTHERS]) == refused
    assert "excess" not in check.as_dict()


def test_what_blocks_is_named_before_what_warns() -> None:
    """Both allow as many children."""
    few = {**host(memory_used=236 * GIB), **stores(Datastore("ds1", named(32), 20 * GIB, True, "VMFS"))}
    assert preflight.judge(replace(GOOD, **few)).as_dict()["limited_by"] == "datastore"


def test_nothing_is_known() -> None:
    """Only what needs no server is ``ok``."""
    checks = preflight.judge(Facts("golden", "instant_clone", 1)).checks
    assert {check.id for check in checks if check.status != UNKNOWN} == {"snapshot"}


UNSEEN = {
    "is_on": {"fork_point"},
    "devices": {"devices", "disks"},
    "is_encrypted": {"encryption"},
    "deltas": {"delta_disks"},
    "host": {"host", "memory"},
    "memory": {"memory"},
    "reserved": {"memory_reservation"},
    "swap_size": {"datastore"},
    "disk_size": {"datastore_growth"},
    "datastores": {"datastore", "datastore_growth"},
    "swap_elsewhere": {"datastore"},
    "cluster": {"drs", "ha"},
    "without_port": {"ports"},
    "lacking": {"privileges"},
    "server_errors": {"server"},
}
"""Fact that is not known → checks that need it."""

NUMBERS = st.integers(0, 400)
SIZES = st.integers(0, 1 << 42)
OPTIONAL_SIZES = st.none() | SIZES
TRUTHS = st.none() | st.booleans()


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    count = draw(st.integers(1, 400))
    first = draw(st.integers(0, count))

    def split(make: Any) -> Any:
        return tuple(make(named(part)) for part in (first, count - first) if part)

    return Facts(
        parent="golden",
        engine=draw(st.sampled_from(["instant_clone", "vmfork"])),
        count=count,
        is_on=draw(TRUTHS),
        is_quiesced=draw(st.booleans()),
        allow_running=draw(st.booleans()),
        has_tools=draw(TRUTHS),
        devices=draw(
            st.none()
            | st.lists(
                st.builds(Device, st.just("x"), st.sampled_from([*preflight.REFUSED, *preflight.DOUBTFUL])), max_size=3
            ).map(tuple)
        ),
        is_encrypted=draw(TRUTHS),
        deltas=draw(st.none() | NUMBERS),
        needs_snapshot=draw(st.booleans()),
        has_snapshot=draw(TRUTHS),
        host=draw(
            st.none()
            | st.builds(
                Host,
                st.just("h"),
                st.sampled_from([None, "connected", "x"]),
                TRUTHS,
                TRUTHS,
                OPTIONAL_SIZES,
                OPTIONAL_SIZES,
            )
        ),
        memory=draw(OPTIONAL_SIZES),
        reserved=draw(OPTIONAL_SIZES),
        swap_size=draw(OPTIONAL_SIZES),
        disk_size=draw(OPTIONAL_SIZES),
        pools=draw(st.none() | st.just(split(lambda part: Pool("p", part, draw(OPTIONAL_SIZES))))),
        datastores=draw(
            st.none() | st.just(split(lambda part: Datastore("d", part, draw(OPTIONAL_SIZES), draw(TRUTHS))))
        )
        or None,
        swap_elsewhere=draw(TRUTHS),
        cluster=draw(st.none() | st.just(False)),
        without_port=draw(st.none() | st.integers(0, count).map(lambda few: ("Full.",) * few)),
        named=draw(st.booleans()),
        name_errors=("Taken.",) * draw(st.integers(0, count)),
        addressed=draw(st.booleans()),
        address_errors=("Taken.",) * draw(NUMBERS),
        range_size=draw(st.just(False) | NUMBERS),
        lacking=draw(st.none() | st.integers(0, count).map(lambda few: ("No.",) * few)),
        server_errors=draw(st.none() | st.integers(0, 3).map(lambda few: ("No.",) * few)),
        server_asked=draw(st.integers(0, count)),
    )


@settings(max_examples=100)
@given(any_facts())
def test_room_never_exceeds_a_limit(facts: Facts) -> None:
    judgement = preflight.judge(facts)
    assert 0 <= judgement.room <= facts.count
    for check in judgement.checks:
        if check.limit is not None:
            assert check.limit >= 0
            assert judgement.room <= check.limit
            assert (check.limit < facts.count) == (check.status in (BLOCK, WARN)) or check.status == WARN
        if check.status == BLOCK:
            assert check.limit is not None
    limiting = judgement.limiting
    assert (limiting is None) == (judgement.room == facts.count)


@settings(max_examples=100)
@given(any_facts(), st.sampled_from(sorted(UNSEEN)))
def test_unknown_is_never_ok(facts: Facts, unseen: str) -> None:
    """Without a fact, none of the checks that need it is ok, whatever else is known."""
    checks = preflight.judge(replace(facts, is_quiesced=True, allow_running=False, **{unseen: None})).checks
    for check in checks:
        if check.id in UNSEEN[unseen]:
            assert check.status in (UNKNOWN, BLOCK), check
            assert check.limit is None or check.status == BLOCK


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1 << 20, "1 MiB"),
        (88 * GIB, "88 GiB"),
        (GIB + GIB // 2, "1.5 GiB"),
        (2 * GIB - 1, "1.9 GiB"),
        (100 * GIB + GIB // 2, "100 GiB"),
        (1 << 40, "1 TiB"),
    ],
)
def test_sizes_are_rounded_down(number: int, text: str) -> None:
    assert preflight.size(number) == text
