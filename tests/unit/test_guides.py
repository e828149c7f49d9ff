# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test what the guides say about the code: error sentences, diagrams, verdicts and versions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from harness import diagrams

from ansible_collections.vmfork.vsphere.plugins.module_utils import _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import diagnosis

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs/docsite/rst"
SVG = "{http://www.w3.org/2000/svg}"


def squeezed(text: str) -> str:
    return " ".join(text.split())


def texts_of(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a program, with an ellipsis for each inserted value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"{\w*}", "…", node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


@cache
def texts_of_the_collection() -> str:
    """Return all texts that a user can read, one per line."""
    files = (ROOT / "plugins").rglob("*.py")
    found = [text for path in files for text in texts_of(ast.parse(path.read_text(encoding="utf-8")))]
    pages = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "roles").rglob("*.yml")]
    found += [re.sub(r"{{.*?}}", "…", path.read_text(encoding="utf-8"), flags=re.DOTALL) for path in pages]
    return "\n".join(squeezed(text) for text in found)


def sentences() -> list[str]:
    """Return the error sentences in the guide: the literals of each term that is followed by an explanation."""
    text = (GUIDES / "guide_troubleshooting.rst").read_text(encoding="utf-8")
    terms = re.findall(r"^(``.*)\n  \S", text, re.MULTILINE)
    return [literal for term in terms for literal in re.findall(r"``(.+?)``", term)]


@pytest.mark.parametrize("sentence", sentences())
def test_error_sentences_are_those_of_the_code(sentence: str) -> None:
    """A sentence is put together from a reason and a remedy, each of which is a text of its own."""
    parts = [part for part in re.split(r"(?<=[a-z)…]\.) ", sentence) if part]
    for part in parts:
        assert part.rstrip(".") in texts_of_the_collection(), f"no text of the collection contains: {part}"


def test_guide_has_many_sentences() -> None:
    assert len(sentences()) > 25
    with pytest.raises(AssertionError):
        test_error_sentences_are_those_of_the_code("the certificate is not trusted at all")


def test_diagrams_are_up_to_date() -> None:
    assert diagrams.outdated() == [], "run python tests/harness/diagrams.py"


@pytest.mark.parametrize("path", diagrams.images(), ids=lambda path: path.stem)
def test_diagram_is_accessible_and_fits(path: Path) -> None:
    """It has a title and a description, nothing is outside of it, and a page shows it with an alternative text."""
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    assert root.get("role") == "img"
    assert all(len((root.findtext(f"{SVG}{name}") or "").strip()) > 10 for name in ("title", "desc"))
    width, height = (float(root.get(name, "0")) for name in ("width", "height"))
    for shape in root.iter(f"{SVG}rect"):
        right = float(shape.get("x", "0")) + float(shape.get("width", "0"))
        bottom = float(shape.get("y", "0")) + float(shape.get("height", "0"))
        assert (right <= width, bottom <= height) == (True, True)
    users = [
        page for page in GUIDES.glob("*.rst") if f"images/{path.name}\n   :alt: " in page.read_text(encoding="utf-8")
    ]
    assert users, "no page shows it"


def test_diagram_of_verdicts_has_all_of_them() -> None:
    drawn = {name for _lines, _answer, verdicts in diagrams.QUESTIONS for name, _why in verdicts}
    assert drawn == set(diagnosis.URGENCY)
    assert set(diagrams.COLORS) <= drawn


def test_verdicts_of_the_guide() -> None:
    text = (GUIDES / "guide_ovf_environment.rst").read_text(encoding="utf-8")
    assert set(diagnosis.URGENCY) <= set(re.findall(r"^   \* - ``(\w+)``$", text, re.MULTILINE))


def test_every_page_is_in_the_contents() -> None:
    sections = yaml.safe_load((ROOT / "docs/docsite/extra-docs.yml").read_text(encoding="utf-8"))["sections"]
    listed = [name for section in sections for name in section["toctree"]]
    assert sorted(listed) == sorted(path.stem for path in GUIDES.glob("*.rst"))


def test_links_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 200
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/docsite/rst/guide_getting_started.rst"])
def test_minimum_version_of_pyvmomi(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"pyvmomi>=([\d.]+\d)", text)) == {_vmomi.MINIMUM}
