# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of pages of the Managed Object Browser."""

from __future__ import annotations

import html

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.plugins.module_utils._hidden_api import pages

from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import page


@pytest.mark.parametrize("text", pages.NONCES.values(), ids=pages.NONCES)
def test_nonce(text: str) -> None:
    assert page.read(text).nonce == pages.NONCE


@pytest.mark.parametrize("text", pages.TASKS.values(), ids=pages.TASKS)
def test_task(text: str) -> None:
    read = page.read(text)
    assert (read.outcome, read.moid) == ("Task", "task-123")


@pytest.mark.parametrize(
    ("text", "is_browser", "has_password_field"),
    [
        (pages.form(), True, False),
        (pages.form(nonce=""), True, False),
        (pages.LOG_IN, False, True),
        (pages.OTHER_PAGE, False, False),
        ("", False, False),
        ("\x00\xff <<<>&", False, False),
    ],
)
def test_kind_of_page(text: str, is_browser: bool, has_password_field: bool) -> None:
    read = page.read(text)
    assert (read.is_browser, read.has_password_field, read.outcome) == (is_browser, has_password_field, None)


def test_properties_of_a_fault() -> None:
    read = page.read(
        pages.fault(
            "NoPermission",
            ("faultMessage", "LocalizableMessage[]", pages.MESSAGES),
            ("object", pages.MOREF, pages.VM_LINK),
            ("privilegeId", "string", '"VirtualMachine.Config.ToggleForkParent"'),
        )
    )
    assert read.outcome == "NoPermission"
    assert read.value("privilegeId") == "VirtualMachine.Config.ToggleForkParent"
    assert read.values("message") == ["The disk is in use."]
    assert read.value("dynamicType") is None
    assert read.reference("object") == ("VirtualMachine", "vm-12")


LEGAL = st.characters(exclude_categories=["C"]) | st.sampled_from("<>&\"'/;=")


@given(st.text(LEGAL, min_size=1).filter(lambda text: text == " ".join(text.split())))
def test_text_of_a_fault(text: str) -> None:
    """Whatever a fault quotes, such as a name that looks like a tag, is read literally."""
    read = page.read(pages.fault("InvalidName", ("msg", "string", f'"{html.escape(text)}"')))
    assert read.value("msg") == text
    assert read.outcome == "InvalidName"


@pytest.mark.parametrize(
    "target", ["http://[", "?moid", "?moid=", "#?moid=x", "javascript:invokeMethod()", "?%zz=1&=&;"]
)
def test_broken_links(target: str) -> None:
    read = page.read(pages.heading("ManagedObjectReference:Task") + f'<a href="{target}">task-1</a><a>x</a>')
    assert (read.outcome, read.moid) == ("Task", None)


@given(st.text("<>\"'=/& abtrdinputlea!-?#;[]", max_size=200))
@example("<![x[ y ]]>")
def test_any_page(text: str) -> None:
    assert page.read(text).outcome is None
