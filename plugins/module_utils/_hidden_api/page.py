# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse pages of the Managed Object Browser. Pure; needs no server.

Private to the collection.

Sources: William Lam's scripts, VIPerms and Broadcom's config-modules read the
hidden field ``vmware-session-nonce``. "Method Invocation Result:", its type,
and tables with the columns name, type and value, with objects as links of the
form ``/mob/?moid=task%2d12``: pages quoted in vijava's REST client. VMware's
browser in Python writes "Method Invocation Fault:"; the one in C++ shows a
fault as a result with the fault's type (the clients of govmomi and
community.vmware treat every unexpected type as a fault).
"""

from __future__ import annotations

import html.parser
import re
import typing as t
from dataclasses import dataclass, field
from urllib.parse import parse_qs

NONCE = "vmware-session-nonce"
"""The field that proves that a form is from a page of this session."""

_OUTCOME = re.compile(r"Method\s+Invocation\s+(?:Result|Fault)\s*:?\s*", re.IGNORECASE)
_UNSEEN = ("script", "style", "textarea")
"""Elements whose text is not part of the server's answer; a text area may show what we sent."""


@dataclass
class Row:
    """A row of a table; usually the name, type and value of a property."""

    depth: int
    """Number of tables around it: if a fault has a cause, an inner table shows the cause's properties."""
    cells: list[str] = field(default_factory=list)
    moid: str | None = None
    """The managed object ID in the row's first link."""


@dataclass(frozen=True)
class Page:
    """A parsed page."""

    nonce: str | None
    has_password_field: bool
    is_browser: bool
    """Whether the Managed Object Browser wrote it."""
    outcome: str | None
    """Type of a method's result or fault; ``None``: no method was called."""
    title: str
    rows: tuple[Row, ...]
    """The rows of the outcome if there is one, including those of inner tables."""
    moid: str | None
    """The managed object ID in the first link; of the outcome, if there is one."""

    def value(self, *names: str) -> str | None:
        """Return the value of the first set property with one of these names."""
        return next(iter(self.values(*names)), None)

    def values(self, *names: str) -> list[str]:
        """Return the values of the outermost set properties with these names, as text without quotes."""
        return [_unquoted(row.cells[-1]) for row in self._outermost(*names)]

    def reference(self, name: str) -> tuple[str, str] | None:
        """Return type and ID of the managed object that a property refers to."""
        for row in self._outermost(name):
            if len(row.cells) > 2 and row.moid:
                return bare_type(row.cells[1]), row.moid
        return None

    def _outermost(self, *names: str) -> list[Row]:
        found = [row for row in self.rows if len(row.cells) > 1 and row.cells[0] in names]
        found = [row for row in found if row.cells[-1] not in ("", "Unset")]
        lowest = min((row.depth for row in found), default=0)
        return [row for row in found if row.depth == lowest]


def read(text: str) -> Page:
    """Parse a page, even one that is not from the Managed Object Browser."""
    reader = _Reader()
    try:
        reader.feed(text)
        reader.close()
    except AssertionError:  # raised by html.parser for <![x[ ]]>
        reader = _Reader()
    seen = " ".join("".join(reader.text).split())
    return Page(
        nonce=reader.nonce,
        has_password_field=reader.has_password_field,
        is_browser=reader.nonce is not None or "Managed Object" in seen or "Invoke Method" in seen,
        outcome=None if reader.outcome is None else bare_type("".join(reader.outcome)),
        title=" ".join("".join(reader.title).split()),
        rows=tuple(Row(row.depth, [" ".join(cell.split()) for cell in row.cells], row.moid) for row in reader.rows),
        moid=reader.moid,
    )


def bare_type(text: str) -> str:
    """Return a type without its context: ``Task`` for ``ManagedObjectReference:Task`` and ``vim.Task``."""
    words = text.split()
    return re.split(r"[.:]", words[0])[-1] if words else ""


class _Reader(html.parser.HTMLParser):
    """Collects the parts of a page. Closing tags may be missing, as HTML allows."""

    def __init__(self) -> None:
        super().__init__()
        self.nonce: str | None = None
        self.has_password_field = False
        self.text: list[str] = []
        self.title: list[str] = []
        self.outcome: list[str] | None = None
        self.rows: list[Row] = []
        self.moid: str | None = None
        self._heading = ""
        self._in_outcome = False
        self._in_title = False
        self._open: list[Row | None] = []
        """The current row of each open table."""
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "title":
            self._in_title = True
        elif tag == "input":
            if given.get("name", "").lower() == NONCE:
                self.nonce = given.get("value") or None
            self.has_password_field |= given.get("type", "").lower() == "password"
        elif tag == "a":
            self._link(given.get("href", ""))
        elif tag == "table":
            self._end_block()
            self._open.append(None)
        elif tag == "tr" and self._open:
            self._open[-1] = Row(len(self._open))
            self.rows.append(t.cast(Row, self._open[-1]))
        elif tag in ("td", "th") and self._row is not None:
            self._row.cells.append("")
        elif tag in ("p", "h1", "h2", "h3", "div", "br", "hr", "li"):
            self._end_block()

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag == "title":
            self._in_title = False
        elif tag == "table":
            self._open = self._open[:-1]
        elif tag in ("p", "h1", "h2", "h3", "div"):
            self._end_block()

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        self.text.append(data)
        if self._in_title:
            self.title.append(data)
        if self._in_outcome and self.outcome is not None:
            self.outcome.append(data)
        elif self._row is not None and self._row.cells:
            self._row.cells[-1] += data
        if self.outcome is None:
            self._heading += data
            found = _OUTCOME.search(self._heading)
            if found:
                self.outcome = [self._heading[found.end() :]]
                self._in_outcome = True
                self.rows, self.moid = [], None

    @property
    def _row(self) -> Row | None:
        return self._open[-1] if self._open else None

    def _end_block(self) -> None:
        self.text.append(" ")
        self._heading = ""
        self._in_outcome = False
        if self._row is not None and self._row.cells:
            self._row.cells[-1] += " "

    def _link(self, target: str) -> None:
        moid = next(iter(parse_qs(target.partition("#")[0].partition("?")[2]).get("moid", [])), None)
        if moid is None:
            return
        self.moid = self.moid or moid
        if self._row is not None:
            self._row.moid = self._row.moid or moid


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
