# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the answers of a conformance run as JSON and JUnit files that can be published.

Private to the collection. Three things keep names, addresses and secrets out:
every field is on an allow-list with the form of its values, names are only
included as keyed hashes whose salt stays with the user, and before anything is
written, the whole text is searched for everything that the run knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import secrets
import typing as t
from xml.etree import ElementTree

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance import catalog
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.answers import (
    ANSWERED,
    FAILED,
    NOT_ASKED,
    OTHER,
    REASONS,
    Answer,
    SeenFault,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._conformance.run import is_fault

FORMAT = 1
JSON_NAME, JUNIT_NAME, SALT_NAME = "conformance.json", "conformance.xml", "conformance.salt"
SALT_BYTES = 32
LEAST_NAME = 4
"""Shorter names are not searched for: they occur in ordinary words."""

Document = dict[str, t.Any]
Form = t.Callable[[t.Any], bool]


class Subject(t.NamedTuple):
    """What a run was about. The names are only recorded as keyed hashes.

    :param versions: see :data:`VERSIONS`.
    """

    vcenter: str
    vm: str
    esxi: str
    versions: dict[str, str]


# --- the allow-list -------------------------------------------------------------------------------------------------


def _text(pattern: str) -> Form:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**9


def _reason(value: t.Any) -> bool:
    return value == "" or value in REASONS.values() or value in catalog.NOT_ASKABLE.values()


def _choice(value: t.Any) -> bool:
    choices = {choice for question in catalog.QUESTIONS for choice in question.choices}
    return isinstance(value, str) and (value in ("", OTHER) or value in choices or is_fault(value))


_VERSION = _text(r"[0-9]{1,5}(\.[0-9]{1,8}){0,4}|")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_-]{1,64}){1,15}")
"""The form of a message key, such as ``msg.snapshot.error-QUIESCINGERROR``."""

VERSIONS: dict[str, Form] = {
    "vcenter": _VERSION,
    "vcenter_build": _text("[0-9]{0,12}"),
    "api": _VERSION,
    "esxi": _VERSION,
    "esxi_build": _text("[0-9]{0,12}"),
    "hardware": _text("(vmx-[0-9]{1,3})?"),
    "guest_family": _text("(linuxGuest|windowsGuest|darwinGuest|solarisGuest|otherGuestFamily)?"),
    "tools": _text("[0-9]{0,8}"),
    "pyvmomi": _VERSION,
}
FAULT: dict[str, Form] = {
    "type": lambda value: value == OTHER or is_fault(value),
    "keys": lambda value: isinstance(value, list) and all(_KEY.fullmatch(key) for key in value),
}
ANSWER: dict[str, Form] = {
    "rule": lambda value: value in catalog.BY_RULE or value in catalog.NOT_ASKABLE,
    "state": lambda value: value in (ANSWERED, NOT_ASKED, FAILED),
    "answer": _choice,
    "expected": _choice,
    "reason": _reason,
    "faults": lambda value: isinstance(value, list) and not any(_misfits(FAULT, fault) for fault in value),
    "at": _number,
    "seconds": _number,
}
HASHES = ("vcenter", "vm", "esxi")
FIELDS: dict[str, Form] = {
    "format": lambda value: value == FORMAT,
    "versions": lambda value: not _misfits(VERSIONS, value),
    "hashes": lambda value: not _misfits(dict.fromkeys(HASHES, _text("[0-9a-f]{64}")), value),
    "answers": lambda value: isinstance(value, list) and not any(_misfits(ANSWER, answer) for answer in value),
}


def _misfits(forms: t.Mapping[str, Form], value: t.Any) -> list[str]:
    """Return the fields that are missing, unknown, or not of their form."""
    if not isinstance(value, dict):
        return list(forms)
    wrong = [name for name, form in forms.items() if name not in value or not form(value[name])]
    return [*wrong, *(str(name) for name in value if name not in forms)]


def misfits(document: t.Any) -> list[str]:
    """Return the fields of a document that are not as the allow-list says; empty: it is valid."""
    wrong = _misfits(FIELDS, document)
    if wrong == ["answers"] and isinstance(document["answers"], list):
        return [
            f"answers[{number}].{name}"
            for number, answer in enumerate(document["answers"])
            for name in _misfits(ANSWER, answer)
        ]
    return wrong


# --- the documents --------------------------------------------------------------------------------------------------


def hashed(salt: bytes, name: str) -> str:
    """Return the keyed hash of a name."""
    return hmac.new(salt, name.casefold().encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def document(subject: Subject, answers: t.Iterable[Answer], salt: bytes) -> Document:
    """Return what is recorded of a run. A value that does not have its form is left out."""
    versions = {name: subject.versions.get(name, "") for name in VERSIONS}
    return {
        "format": FORMAT,
        "versions": {name: value if VERSIONS[name](value) else "" for name, value in versions.items()},
        "hashes": {name: hashed(salt, getattr(subject, name)) for name in HASHES},
        "answers": [_recorded(answer) for answer in answers],
    }


def _recorded(answer: Answer) -> Document:
    return {
        "rule": answer.rule,
        "state": answer.state,
        "answer": answer.choice,
        "expected": answer.expected,
        "reason": answer.reason,
        "faults": [_fault(fault) for fault in answer.faults],
        "at": answer.at,
        "seconds": answer.seconds,
    }


def _fault(fault: SeenFault) -> Document:
    return {
        "type": fault.type if is_fault(fault.type) else OTHER,
        "keys": [key for key in fault.keys if _KEY.fullmatch(key)],
    }


def as_json(recorded: Document) -> str:
    """Return a document as the text of its file."""
    return json.dumps(recorded, indent=1) + "\n"


def as_junit(recorded: Document) -> str:
    """Return a document as JUnit XML: contradictions are failures, and rules that were not asked about are skipped."""
    suite = ElementTree.Element("testsuite", name="vmfork.vsphere.conformance")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for answer in recorded["answers"]:
        case = ElementTree.SubElement(
            suite, "testcase", classname="conformance", name=answer["rule"], time=str(answer["seconds"])
        )
        counts["tests"] += 1
        if answer["state"] == NOT_ASKED:
            ElementTree.SubElement(case, "skipped", message=answer["reason"])
            counts["skipped"] += 1
        elif answer["state"] == FAILED:
            ElementTree.SubElement(case, "error", message="no answer")
            counts["errors"] += 1
        elif answer["answer"] != answer["expected"]:
            ElementTree.SubElement(case, "failure", message=f"{answer['answer']}, expected {answer['expected']}")
            counts["failures"] += 1
    for name, count in counts.items():
        suite.set(name, str(count))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


# --- the scanner ----------------------------------------------------------------------------------------------------

_ADDRESSES = {
    "an IPv4 address": re.compile(r"(?<![0-9])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9])"),
    "an IPv6 address": re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{1,4}:){2,7}[0-9A-Fa-f]{0,4}|::[0-9A-Fa-f]"),
    "a MAC address": re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"),
    "a UUID": re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    "an email address": re.compile(r"[^\s\"@]+@[^\s\"@]+"),
}


class Known(t.NamedTuple):
    """What must not be in a file.

    :param names: names and addresses of the inventory.
    :param secrets: passwords.
    """

    names: t.Collection[str]
    secrets: t.Collection[str]


def _vocabulary() -> str:
    """Return the texts that are the same in every file, because they are part of this collection."""
    answers = [Answer(question.rule, ANSWERED, choice) for question in catalog.QUESTIONS for choice in question.choices]
    answers += [Answer(rule, FAILED, "", reason=reason) for rule, reason in catalog.NOT_ASKABLE.items()]
    answers += [Answer("", NOT_ASKED, "", reason=reason) for reason in REASONS.values()]
    blank = document(Subject("", "", "", {}), answers, b"")
    blank["hashes"] = dict.fromkeys(HASHES, "")
    return (as_json(blank) + as_junit(blank)).casefold()


def objection(recorded: Document, known: Known) -> str | None:
    """Return why a document must not be written, as a clause that does not repeat what was found; ``None``: it may.

    Names and addresses are searched in everything but numbers, versions and hashes, which look like them, and can only
    have their own form. Faults of vSphere and words of this collection are not treated as names.
    """
    wrong = misfits(recorded)
    if wrong:
        return f"the field {wrong[0]} does not have the form that is allowed"
    everything = (as_json(recorded) + as_junit(recorded)).casefold()
    if any(secret and secret.casefold() in everything for secret in known.secrets):
        return "it contains a password of the task"
    answers = [{**answer, "at": 0, "seconds": 0} for answer in recorded["answers"]]
    words = {**recorded, "versions": {}, "hashes": {}, "answers": answers}
    text = (as_json(words) + as_junit(words)).casefold()
    for what, pattern in _ADDRESSES.items():
        if pattern.search(text):
            return f"it contains {what}"
    faults = {name for answer in answers for name in (answer["answer"], *(fault["type"] for fault in answer["faults"]))}
    public = _vocabulary() + " ".join(faults).casefold()
    for name in known.names:
        wanted = name.strip().casefold()
        if len(wanted) >= LEAST_NAME and wanted in text and wanted not in public:
            return "it contains a name of the inventory"
    return None


# --- files ----------------------------------------------------------------------------------------------------------


def salt_of(directory: str) -> bytes:
    """Return the salt in a directory. It is created if there is none, readable by its owner only.

    :raises _errors.OperationFailed: it cannot be read or written.
    """
    path = pathlib.Path(directory, SALT_NAME)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(SALT_BYTES) + "\n")
        path.chmod(0o600)
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    if len(salt) < SALT_BYTES:
        raise _errors.OperationFailed(
            f"Could not use the salt in {path}: it is too short. Remove the file, so that a new one is created."
        )
    return salt


def write(directory: str, recorded: Document, known: Known) -> list[str]:
    """Write the files of a run, and return their paths.

    :raises _errors.Refused: they would contain something that must not be published. Nothing was written.
    :raises _errors.OperationFailed: they cannot be written.
    """
    why = objection(recorded, known)
    if why is not None:
        raise _errors.Refused(
            f"The answers were not written to {directory}: {why}. Please report this, without the files."
        )
    written = []
    for name, text in ((JSON_NAME, as_json(recorded)), (JUNIT_NAME, as_junit(recorded))):
        path = pathlib.Path(directory, name)
        new = path.with_suffix(path.suffix + ".new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
        except OSError as error:
            raise _cannot_write(path, error) from error
        written.append(str(path))
    return written


def _cannot_write(path: pathlib.Path, error: Exception) -> _errors.OperationFailed:
    return _errors.OperationFailed(
        _errors.sentence(f"Could not use {path}", getattr(error, "strerror", None) or str(error), "Use another path.")
    )
