# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decode untrusted XML, limit it, and walk through it with expat.

Private to the collection. A guest's users write these documents, so their content
never raises an exception, and time and memory are bounded: no document type
declaration, hence no custom entities and no external files; limited length,
depth and number of elements. Whatever follows the root element is ignored.
"""

from __future__ import annotations

import codecs
import re
import typing as t
import xml.parsers.expat

LIMIT = 1_000_000
"""Maximum number of characters. Each value of a document has at most 65535; real documents have some kilobytes."""
MAX_DEPTH = 64
"""Maximum nesting of elements. An OVF environment has five levels."""
MAX_ELEMENTS = 50_000
"""Enough for hundreds of VMs in one vApp."""

_DECLARATION = re.compile(r"\A<\?xml\s[^>]*?\?>", re.IGNORECASE)
_ENCODING = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9_.-]{1,40})[\"']", re.IGNORECASE)
# Not every codec of Python: some take quadratic time, and some do not decode text.
_CODE_PAGES = re.compile(
    r"(us-ascii|iso[-_]?8859-?\d+|windows-\d+|cp\d+|ibm\d+|koi8-[ru]|shift_jis|euc-..|gb\w+|big5)$"
)


class Handler(t.Protocol):
    """The callbacks for elements."""

    def start(self, name: str, attributes: list[tuple[str, str]]) -> None:
        """Handle a start tag. May raise Refused."""

    def end(self) -> None:
        """Handle the end of the innermost open element."""

    def text(self, data: str) -> None:
        """Handle text in the innermost open element, with entities and CDATA resolved."""


class Refused(Exception):
    """Raised when reading on is of no use; the text is the clause for ``Outcome.error``."""


class Outcome(t.NamedTuple):
    """The result of a walk.

    :param error: why the text was not read to its end, one clause without any secret; ``None``: it was.
    :param truncated: whether the error is that the text ends too early.
    :param malformed: whether the error is that a part of it is not XML.
    """

    error: str | None = None
    truncated: bool = False
    malformed: bool = False


def decode(source: str | bytes) -> str:
    """Return the text of a document, without byte order mark and surrounding white space.

    Bytes are UTF-8 unless they declare another encoding. Invalid bytes are replaced: on Windows the same document may
    be in the code page of the console.
    """
    if isinstance(source, bytes):
        source = source.decode(_encoding(source), "replace")
    return source.strip("\ufeff\0 \t\r\n")


def _encoding(source: bytes) -> str:
    if source.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # The head of a document is ASCII, even if white space precedes the byte order mark.
    head = source[:40]
    if head[1::2].count(0) * 4 > len(head):
        return "utf-16-le"
    if head[::2].count(0) * 4 > len(head):
        return "utf-16-be"
    declared = _ENCODING.search(source[:200])
    name = declared[1].decode("ascii").lower() if declared else ""
    if _CODE_PAGES.match(name):
        try:
            return codecs.lookup(name).name
        except LookupError:
            pass
    return "utf-8"


def walk(text: str, handler: Handler, namespaces: bool = True) -> Outcome:
    """Report all elements to the handler, as far as the text can be read.

    :param text: text that ``decode`` returned.
    :param namespaces: whether names are passed as ``namespace local-name``; otherwise, as written.
    """
    if not text:
        return Outcome("it is empty")
    if len(text) > LIMIT:
        return Outcome(f"it is longer than {LIMIT} characters")
    if not text.startswith("<"):
        return Outcome("it is not XML")
    depth = count = 0
    ended = False

    def start(name: str, attributes: list[str]) -> None:
        nonlocal depth, count
        depth += 1
        count += 1
        if depth > MAX_DEPTH:
            raise Refused(f"its elements are nested deeper than {MAX_DEPTH} levels")
        if count > MAX_ELEMENTS:
            raise Refused(f"it has more than {MAX_ELEMENTS} elements")
        handler.start(name, list(zip(attributes[::2], attributes[1::2], strict=True)))

    def end(_name: str) -> None:
        nonlocal depth, ended
        handler.end()
        depth -= 1
        ended = depth == 0

    def doctype(*_what: t.Any) -> None:
        raise Refused("it has a document type declaration, which OVF environments do not have")

    # The text is already decoded, so the encoding and version in its declaration do not matter.
    parser = xml.parsers.expat.ParserCreate("UTF-8", " " if namespaces else None)
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.buffer_size = 4 * LIMIT  # so that the text of an element is passed in one piece
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.text
    try:
        # Not marked as final, so a truncated document is not an error, and what precedes the cut is reported.
        parser.Parse(_DECLARATION.sub("", text).encode("utf-8", "replace"), False)
    except Refused as refusal:
        return Outcome(str(refusal))
    except xml.parsers.expat.ExpatError as error:
        if not ended:
            why = xml.parsers.expat.ErrorString(error.code)
            return Outcome(
                f"it cannot be read beyond line {error.lineno}, column {error.offset + 1}: {why}", malformed=True
            )
    return Outcome() if ended else Outcome("it ends before its end tag", truncated=True)


def is_well_formed(text: str) -> bool:
    """Return whether a text is a well-formed element."""
    parser = xml.parsers.expat.ParserCreate("UTF-8")
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except xml.parsers.expat.ExpatError:
        return False
    return True
