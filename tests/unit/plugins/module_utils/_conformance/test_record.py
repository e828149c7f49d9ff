# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test what is recorded of a conformance run, and that nothing else is written."""

from __future__ import annotations

import copy
import json
import os
import stat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pyVmomi import vim, vmodl

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import answers, record
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import (
    ANSWERED,
    FAILED,
    NOT_ASKED,
    Answer,
    SeenFault,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.record import Known, Subject

SALT = b"s" * record.SALT_BYTES
ABOUT = Subject("vcenter.example.com", "throw-away", "esxi-01", {"vcenter": "8.0.3", "api": "8.0.3.0", "esxi": "x y"})
NOTHING = Known((), ())
KEY = "com.vmware.vim.vpxd.vm.msg"


def recorded(*faults: SeenFault, **answer: Any) -> record.Document:
    one = Answer("enable_twice", ANSWERED, "InvalidState", "success", faults=faults, at=1.5, seconds=0.25)
    for name, value in answer.items():
        setattr(one, name, value)
    return record.document(ABOUT, [one], SALT)


def test_document() -> None:
    document = recorded(SeenFault("InvalidState", (KEY, "a sentence: of a server")))
    assert record.misfits(document) == []
    assert document["answers"][0] == {
        "rule": "enable_twice",
        "state": "answered",
        "answer": "success",
        "expected": "InvalidState",
        "reason": "",
        "faults": [{"type": "InvalidState", "keys": [KEY]}],
        "at": 1.5,
        "seconds": 0.25,
    }
    assert document["versions"]["api"] == "8.0.3.0"
    assert document["versions"]["esxi"] == "", "a version without its form is left out"
    assert record.objection(document, NOTHING) is None


def test_hashes_depend_on_the_salt_only_and_not_on_case() -> None:
    other = record.document(ABOUT, [], b"t" * record.SALT_BYTES)
    assert recorded()["hashes"] != other["hashes"]
    assert record.hashed(SALT, "Throw-Away") == recorded()["hashes"]["vm"]
    assert len(set(recorded()["hashes"].values())) == 3


def test_fault_is_recorded_without_text_and_arguments() -> None:
    argument = vmodl.KeyAnyValue(key="1", value="secret-name")
    messages = [vmodl.LocalizableMessage(key=KEY, arg=[argument], message="VM secret-name is busy")]
    inner = vim.fault.InvalidState(
        faultMessage=[vmodl.LocalizableMessage(key="msg.inner.cause", message="secret-name")]
    )
    cause = vmodl.LocalizedMethodFault(fault=inner, localizedMessage="secret-name")
    fault = vim.fault.GenericVmConfigFault(reason="secret-name", faultMessage=messages, faultCause=cause)
    assert answers.seen(fault) == SeenFault("GenericVmConfigFault", (KEY, "msg.inner.cause"))
    assert answers.seen("something else") == SeenFault("other")
    assert record.objection(recorded(answers.seen(fault)), Known({"secret-name"}, ())) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("note",), "text"),
        (("versions", "host"), "esxi-01"),
        (("versions", "vcenter"), "8.0 of example.com"),
        (("hashes", "vm"), "throw-away"),
        (("answers", 0, "text"), "text"),
        (("answers", 0, "answer"), "the VM throw-away"),
        (("answers", 0, "reason"), "the VM throw-away"),
        (("answers", 0, "rule"), "another"),
        (("answers", 0, "seconds"), "1"),
        (("answers", 0, "faults"), [{"type": "InvalidState", "keys": [], "msg": "text"}]),
        (("answers", 0, "faults"), [{"type": "Throwaway", "keys": []}]),
        (("answers", 0, "faults"), [{"type": "InvalidState", "keys": ["a sentence of a server"]}]),
        (("answers", 0), "text"),
        (("answers",), {}),
    ],
)
def test_field_that_is_not_allowed(path: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    document = copy.deepcopy(recorded())
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert record.misfits(document) != []
    with pytest.raises(_errors.Refused, match="does not have the form"):
        record.write(str(tmp_path), document, NOTHING)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("msg.web-prod-01.x", Known({"web-prod-01"}, ())),
        ("msg.WEB-prod-01.x", Known({"web-PROD-01"}, ())),
        ("msg.prod.x", Known({"prod"}, ())),
        ("msg.pw1.x", Known((), {"pw1"})),
        ("msg.192.0.2.17", NOTHING),
        ("msg.00-50-56-01-02-03.x", NOTHING),
        ("msg.4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11.x", NOTHING),
    ],
)
def test_name_address_or_secret(key: str, known: Known, tmp_path: Path) -> None:
    """A message key is the only text of the server that a file contains."""
    document = recorded(SeenFault("InvalidState", (key,)))
    assert document["answers"][0]["faults"][0]["keys"] == [key]
    with pytest.raises(_errors.Refused) as refused:
        record.write(str(tmp_path), document, known)
    assert key not in refused.value.sentence
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_name() -> None:
    """Short names, words of this collection, faults, and numbers and hashes that look like names."""
    document = recorded(SeenFault("InvalidState", ("msg.abc.x",)), at=1234.5)
    known = Known({"abc", "host", "Invalid", "state", "answered", "1234", document["hashes"]["vm"][:6]}, ())
    assert record.objection(document, known) is None
    assert record.objection(document, Known((), {"InvalidState"})) == "it contains a password of the task"


def test_junit() -> None:
    reason = next(iter(answers.REASONS.values()))
    document = record.document(
        ABOUT,
        [
            Answer("enable_twice", ANSWERED, "InvalidState", "success", seconds=0.5),
            Answer("disable_twice", ANSWERED, "InvalidState", "InvalidState"),
            Answer("child_as_parent", NOT_ASKED, "NotSupported", reason=reason),
            Answer("resume_events", FAILED, "resuming"),
        ],
        SALT,
    )
    suite = ElementTree.fromstring(record.as_junit(document))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    cases = {case.get("name"): case for case in suite}
    failure = cases["enable_twice"].find("failure")
    assert failure is not None
    assert failure.get("message") == "success, expected InvalidState"
    assert list(cases["disable_twice"]) == []
    assert cases["enable_twice"].get("time") == "0.5"


def test_files(tmp_path: Path) -> None:
    """The salt is created once, for its owner only, whatever the umask is."""
    directory = str(tmp_path / "new" / "answers")
    before = os.umask(0)
    try:
        salt = record.salt_of(directory)
    finally:
        os.umask(before)
    assert record.salt_of(directory) == salt
    document = record.document(ABOUT, [], salt)
    written = record.write(directory, document, NOTHING)
    assert [Path(path).name for path in written] == ["conformance.json", "conformance.xml"]
    assert json.loads(Path(written[0]).read_text()) == document
    of_salt = Path(directory, record.SALT_NAME)
    assert stat.S_IMODE(of_salt.stat().st_mode) == 0o600
    assert {path.name for path in Path(directory).iterdir()} == {*(Path(path).name for path in written), of_salt.name}
    of_salt.write_text("abcd\n")
    with pytest.raises(_errors.OperationFailed, match="too short"):
        record.salt_of(directory)
    of_salt.write_text("no salt\n")
    with pytest.raises(_errors.OperationFailed, match="Could not use"):
        record.salt_of(directory)
