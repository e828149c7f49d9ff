# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identification of our children: a table of VMs that look like one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity import (
    RECORD_KEY,
    Kinship,
    Record,
    is_half_made,
    judge,
    record_of,
    shared_uuids,
)

PARENT = "5026b3c8-4d3a-2f57-8c1e-9a6f04c8d1b7"
OTHER_PARENT = "50260000-4d3a-2f57-8c1e-9a6f04c8d1b7"
CHILD = "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"
COPY = "42260000-77c4-0d41-6f6b-0f5c2b9e8a11"
ON, OFF = {"runtime.powerState": "poweredOn"}, {"runtime.powerState": "poweredOff"}
GOOD = f"1 {PARENT} {CHILD} 00ff"


def vm(
    uuid: str = CHILD,
    record: str | None = GOOD,
    group: str | None = "g1",
    heads: str | None = None,
    instance_uuid: str = "50261111-0000-0000-0000-000000000000",
    **extra: str,
) -> dict[str, Any]:
    """Return properties of a VM as read from vCenter."""
    keys = dict(extra)
    if record is not None:
        keys[RECORD_KEY] = record
    return {
        "name": "web-01",
        "config.uuid": uuid,
        "config.instanceUuid": instance_uuid,
        "config.extraConfig": [SimpleNamespace(key=key, value=value) for key, value in keys.items()],
        "config.forkConfigInfo": SimpleNamespace(childForkGroupId=group, parentForkGroupId=heads),
    }


def parent(group: str | None = "g1") -> dict[str, Any]:
    return vm(uuid="42269999-0000-0000-0000-000000000000", record=None, group=None, heads=group, instance_uuid=PARENT)


@pytest.mark.parametrize(
    ("it", "of", "kinship"),
    [
        pytest.param(vm(), parent(), Kinship.CHILD, id="child"),
        pytest.param({**vm(), "name": "renamed"}, parent(), Kinship.CHILD, id="renamed child"),
        pytest.param(vm(group=None), parent(), Kinship.CHILD, id="persistent child that has run: no longer in a group"),
        pytest.param(
            vm(group="g1"), parent(group=None), Kinship.CHILD, id="vSphere 6.0: the parent's group is not shown"
        ),
        pytest.param(vm(uuid=CHILD.upper()), parent(), Kinship.CHILD, id="UUID in capitals"),
        pytest.param(vm(uuid=COPY, group=None), parent(), Kinship.FOREIGN, id="ordinary clone of a child"),
        pytest.param(vm(uuid=COPY), parent(), Kinship.FOREIGN, id="ordinary clone that inherited the fork group"),
        pytest.param(vm(record=f"1 {OTHER_PARENT} {CHILD} 00ff"), parent(), Kinship.FOREIGN, id="other parent's child"),
        pytest.param(vm(group="g2"), parent(), Kinship.FOREIGN, id="record says child, fork group says another parent"),
        pytest.param(
            vm(record=None, group=None, **{"guestinfo." + RECORD_KEY: GOOD}),
            parent(),
            Kinship.FOREIGN,
            id="record forged in guestinfo",
        ),
        pytest.param(vm(record=None, group=None), parent(), Kinship.FOREIGN, id="same name, nothing else"),
        pytest.param(vm(record=None, group="g2"), parent(), Kinship.FOREIGN, id="fork of another parent, no record"),
        pytest.param(vm(record=None), parent(), Kinship.UNRECORDED, id="fork of this parent made by another tool"),
        pytest.param(vm(record="1 x"), parent(), Kinship.UNRECORDED, id="record cut off"),
        pytest.param(vm(record="2 " + GOOD[2:]), parent(), Kinship.UNRECORDED, id="record of an unknown version"),
        pytest.param(
            vm(record=None, group=None), parent(group=None), Kinship.FOREIGN, id="no groups are not equal groups"
        ),
        pytest.param(
            vm(record=f"1 {PARENT} {CHILD} 00ff", instance_uuid=PARENT),
            parent(),
            Kinship.FOREIGN,
            id="the parent itself",
        ),
        pytest.param({"name": "web-01"}, parent(), Kinship.FOREIGN, id="a VM without identifying properties"),
        pytest.param(
            {**vm(), "config.uuid": None}, parent(), Kinship.FOREIGN, id="a record cannot be held against no UUID"
        ),
    ],
)
def test_foreign_vms(it: dict[str, Any], of: dict[str, Any], kinship: Kinship) -> None:
    verdict = judge(of, it)
    assert verdict.kinship is kinship
    assert verdict.is_child is (kinship is Kinship.CHILD)
    assert verdict.why


def test_two_vms_without_instance_uuid_are_not_the_same_vm() -> None:
    it = {**vm(), "config.instanceUuid": None}
    of = {**parent(), "config.instanceUuid": None}
    assert judge(of, it).kinship is Kinship.FOREIGN


def test_server_list_identifies_an_unrecorded_fork() -> None:
    it = vm(record=None, group=None)
    assert judge(parent(None), it).kinship is Kinship.FOREIGN
    assert judge(parent(None), it, listed=True).kinship is Kinship.UNRECORDED


def test_server_list_does_not_make_a_copy_a_child() -> None:
    assert judge(parent(), vm(uuid=COPY), listed=True).kinship is Kinship.FOREIGN


def test_neither_of_two_vms_with_one_bios_uuid_is_the_child() -> None:
    """One is a copy that was restored or registered with the UUID of the child, the other is the child."""
    pair = [vm(), vm(uuid=CHILD.upper(), instance_uuid="50262222-0000-0000-0000-000000000000")]
    other = vm(uuid=COPY, record=f"1 {PARENT} {COPY} 00ff")
    shared = shared_uuids([*pair, other, {"name": "unidentified"}, {"name": "also unidentified"}])
    assert shared == {CHILD}
    for candidate in pair:
        verdict = judge(parent(), candidate, shared=shared)
        assert verdict.kinship is Kinship.DOUBLE
        assert not verdict.is_child
        assert "same BIOS UUID" in verdict.why
    assert judge(parent(), other, shared=shared).is_child


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        pytest.param({**vm(record=None, **{"guestinfo.fork.vmfork.nonce": "n0"}), **OFF}, True, id="ours, cut short"),
        pytest.param({**vm(record=None), **OFF}, False, id="another tool's child: no nonce"),
        pytest.param({**vm(record=None, **{"guestinfo.fork.vmfork.nonce": "n0"}), **ON}, False, id="it has run"),
        pytest.param(
            {**vm(record=None, group=None, **{"guestinfo.fork.vmfork.nonce": "n0"}), **OFF}, False, id="no fork"
        ),
        pytest.param({**vm(**{"guestinfo.fork.vmfork.nonce": "n0"}), **OFF}, False, id="recorded already"),
        pytest.param(
            {**vm(record=None, **{"guestinfo.fork.vmfork.nonce": "n0"}), **OFF, "config.uuid": None},
            False,
            id="no UUID",
        ),
    ],
)
def test_leftover_of_an_interrupted_task(it: dict[str, Any], expected: bool) -> None:
    assert is_half_made(judge(parent(), it), it, parent()) is expected


def test_fork_with_its_parents_nonce_is_not_a_leftover() -> None:
    """The parent is a child itself: forks of it by another tool inherit the nonce it was created with."""
    nonce = {"guestinfo.fork.vmfork.nonce": "n0"}
    fork = {**vm(record=None, **nonce), **OFF}
    of = vm(uuid="42269999-0000-0000-0000-000000000000", heads="g1", group="g0", instance_uuid=PARENT, **nonce)
    assert not is_half_made(judge(of, fork), fork, of)
    own = {**vm(record=None, **{"guestinfo.fork.vmfork.nonce": "n1"}), **OFF}
    assert is_half_made(judge(of, own), own, of)


def test_record_survives_extra_config() -> None:
    record = Record(PARENT, CHILD, "ab" * 16)
    assert record_of(vm(record=str(record))) == record


@pytest.mark.parametrize(
    ("keys", "nonce", "bios_uuid", "expected"),
    [
        pytest.param({guestinfo.CHILD_NONCE: "n" * 32}, "n" * 32, None, True, id="nonce"),
        pytest.param({identity.RECORD_KEY: f"1 p u {'n' * 32}"}, "n" * 32, None, True, id="nonce in the record"),
        pytest.param({guestinfo.CHILD_NONCE: "m" * 32}, "n" * 32, None, False, id="another nonce"),
        pytest.param({}, "n" * 32, None, False, id="nothing"),
        pytest.param({}, None, None, False, id="nothing that could be known"),
        pytest.param({}, "n" * 32, "UUID-OF-VM", True, id="BIOS UUID"),
        pytest.param({}, "n" * 32, "another-uuid", False, id="another BIOS UUID"),
        pytest.param({guestinfo.CHILD_NONCE: "m" * 32}, "n" * 32, "another-uuid", False, id="neither"),
    ],
)
def test_mark_of_the_request(keys: dict[str, str], nonce: str | None, bios_uuid: str | None, expected: bool) -> None:
    """A VM that a creation task names is changed only if it has a mark that no other VM can have."""
    extra = [SimpleNamespace(key=key, value=value) for key, value in keys.items()]
    vm = {"config.uuid": "uuid-of-vm", "config.extraConfig": extra}
    assert identity.has_mark(vm, nonce, bios_uuid) == expected


def test_vm_without_a_readable_uuid_has_no_mark() -> None:
    assert not identity.has_mark({}, None, "uuid")
