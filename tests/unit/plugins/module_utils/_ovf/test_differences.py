# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison of the delivered values with those that vCenter would deliver."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, differences
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Difference
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

SECRET = "vmforktest-a-secret-of-its-own"


def options(**kinds_and_values: tuple[str, str]) -> configured.Configured:
    return configured.read(
        vim.vApp.VmConfigInfo(
            property=[
                vim.vApp.PropertyInfo(key=number, id=key, type=kind, value=value)
                for number, (key, (kind, value)) in enumerate(kinds_and_values.items())
            ]
        ),
        running=True,
        mask=Mask(),
    )


def same(**properties: str) -> tuple[Document, Document]:
    return Document(properties=properties), Document(properties=properties)


def guest(**properties: str) -> tuple[None, Document]:
    return None, Document(properties=properties)


def shown(**properties: str) -> tuple[Document, None]:
    return Document(properties=properties), None


HOST = options(hostname=("string", "web"))
NOTHING: list[Any] = []
CASES: dict[str, tuple[configured.Configured, tuple[Document | None, Document | None], list[tuple[str, str, bool]]]] = {
    "the same everywhere": (HOST, same(hostname="web"), NOTHING),
    "no document at all": (HOST, (None, None), NOTHING),
    "changed": (HOST, guest(hostname="db"), [("hostname", "changed", True)]),
    "changed since, and vCenter still shows what it sent": (
        HOST,
        shown(hostname="db"),
        [("hostname", "changed", True)],
    ),
    "missing in the guest": (HOST, guest(), [("hostname", "missing", True)]),
    "missing in what vCenter shows": (HOST, shown(), [("hostname", "missing", True)]),
    "the guest has it, vCenter shows another": (
        HOST,
        (Document(properties={"hostname": "db"}), Document(properties={"hostname": "web"})),
        [("hostname", "changed", True)],
    ),
    "the guest's difference comes first": (
        HOST,
        (Document(properties={"hostname": "db"}), Document(properties={})),
        [("hostname", "missing", True)],
    ),
    "the guest added one": (HOST, guest(hostname="web", own="1"), [("own", "extra", False)]),
    "other capitals": (HOST, guest(HostName="web"), [("hostname", "case", True)]),
    "capitals of a value count": (HOST, guest(hostname="WEB"), [("hostname", "changed", True)]),
    "not of a boolean": (options(dhcp=("boolean", "True")), guest(dhcp="true"), NOTHING),
    "another boolean": (options(dhcp=("boolean", "True")), guest(dhcp="false"), [("dhcp", "changed", True)]),
    "line ends become spaces": (
        options(banner=("string", "two\r\nlines\n")),
        guest(banner="two  lines "),
        NOTHING,
    ),
    "empty is not missing": (options(proxy=("string", "")), guest(proxy=""), NOTHING),
    "empty, but not delivered": (options(proxy=("string", "")), guest(), [("proxy", "missing", True)]),
    "a password's value is unknown": (options(root=("password", "")), guest(root=SECRET), NOTHING),
    "a password is missing in the guest": (options(root=("password", "")), guest(), [("root", "missing", False)]),
    "a password is never shown": (options(root=("password", "")), shown(), NOTHING),
    "a secret name is not shown": (options(api_token=("string", SECRET)), shown(), NOTHING),
    "a secret name, changed": (
        options(api_token=("string", SECRET)),
        guest(api_token="other"),
        [("api_token", "changed", True)],
    ),
    "an address of a network": (
        options(ip0=("ip:net", "192.0.2.1")),
        guest(ip0="192.0.2.2"),
        [("ip0", "changed", False)],
    ),
    "an expression that vCenter computed": (
        options(ip0=("expression", "192.0.2.1")),
        guest(ip0="192.0.2.2"),
        [("ip0", "changed", False)],
    ),
    "an expression without a value": (options(ip0=("expression", "")), guest(ip0="192.0.2.2"), NOTHING),
    "a document that breaks off": (
        options(first=("string", "1"), second=("string", "2")),
        (None, Document(properties={"first": "0"}, truncated=True, parse_error="it ends too early")),
        [("first", "changed", True)],
    ),
    "an unreadable document": (HOST, (None, Document(parse_error="no XML")), NOTHING),
    "in the order of the configuration": (
        options(b=("string", "1"), a=("string", "1")),
        guest(z="1", y="1"),
        [("b", "missing", True), ("a", "missing", True), ("y", "extra", False), ("z", "extra", False)],
    ),
    "vApp options are gone": (configured.Configured(), guest(hostname="web"), [("hostname", "extra", False)]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_differences(case: tuple[Any, tuple[Any, Any], list[tuple[str, str, bool]]]) -> None:
    of_vm, (delivered, in_guest), expected = case
    found = differences.compare(of_vm, delivered, in_guest)
    assert [(difference.key, difference.kind, difference.comparable) for difference in found] == expected


def test_all_three_values_are_shown() -> None:
    (difference,) = differences.compare(
        HOST, Document(properties={"hostname": "db"}), Document(properties={"HOSTNAME": "old"})
    )
    assert differences.facts(difference, Mask().knowing([("hostname", False)])) == {
        "key": "hostname",
        "kind": "case",
        "secret": False,
        "comparable": True,
        "configured": "web",
        "delivered": "db",
        "guest": "old",
    }


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param(Difference("root", "changed", True, False, SECRET, SECRET, SECRET), id="known to be secret"),
        pytest.param(Difference("db_password", "missing", False, False, None, None, SECRET), id="secret by its name"),
        pytest.param(Difference("vapp.login", "extra", False, False, None, None, SECRET), id="may be one"),
    ],
)
def test_secrets_are_masked(difference: Difference) -> None:
    facts = differences.facts(difference, Mask().knowing([("root", False), ("db_password", False)]))
    assert facts["secret"] is True
    assert SECRET not in repr(facts) + repr(difference)
    assert facts["guest"] == "********"
