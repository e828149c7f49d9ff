# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the maps of docs/architecture.md: one line for each file, which is the file's own first sentence.

    python tests/harness/architecture.py [--check]

With --check nothing is written; the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/architecture.md"
UTILS = ROOT / "plugins/module_utils"
SIMULATOR = ROOT / "tests/simulator"

Layers = tuple[tuple[str, ...], ...]

LAYERS: Layers = (
    ("_module",),
    ("_arguments",),
    ("_conformance",),
    ("_pool",),
    ("_fork", "_ovf"),
    ("_guest", "_hidden_api"),
    ("_power", "_privileges"),
    ("_inventory", "_tasks"),
    ("_http", "_parallel", "_properties"),
    ("_session",),
    ("_connection", "_devices", "_extra_config", "_types"),
    ("_deadline", "_vmomi"),
    ("_progress",),
    ("_encodings", "_errors", "_printable", "_text_lists"),
)
"""``module_utils`` from the top to the bottom. Modules of one layer do not import each other."""

FORK_LAYERS: Layers = (
    ("child", "listing"),
    ("parent",),
    ("facts",),
    ("engine",),
    ("identity",),
    ("guestinfo", "output_mask"),
    ("identity_report",),
)
"""The same within ``_fork``."""


def sentence(text: str) -> str:
    """Return the first sentence of a text, on one line and without its period."""
    first = re.split(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n", text.strip(), maxsplit=1)[0]
    return " ".join(first.split()).removesuffix(".").replace("|", r"\|").replace("``", "`")


def first_of_python(path: Path) -> str:
    """Return the first sentence of a Python file's docstring."""
    return sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")


def first_of_go(path: Path) -> str:
    """Return the first sentence of a Go file's head comment, or else that of its first declaration."""
    blocks = re.findall(r"(?m)(?:^//(?: .*)?\n)+", path.read_text(encoding="utf-8"))
    texts = (re.sub(r"(?m)^// ?", "", block) for block in blocks)
    return sentence(next((text for text in texts if "SPDX-" not in text), ""))


def layer_of(name: str, layers: Layers) -> int:
    """Return the layer of a file or package, counted from the top; raise LookupError if it has none."""
    for number, names in enumerate(layers):
        if name in names:
            return number
    raise LookupError(f"{name} has no layer: add it to LAYERS or FORK_LAYERS in tests/harness/architecture.py")


def python_files() -> list[Path]:
    """Return the files of ``module_utils`` in the order of the layers."""

    def key(path: Path) -> tuple[object, ...]:
        parts = path.relative_to(UTILS).with_suffix("").parts
        inner = layer_of(parts[1], FORK_LAYERS) if parts[0] == "_fork" and parts[1] != "__init__" else 0
        return layer_of(parts[0], LAYERS), parts[0], inner, parts

    return sorted((path for path in UTILS.rglob("*.py") if path.name != "__init__.py"), key=key)


def table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of a table of files."""
    yield from ("", "| file | what it is |", "| --- | --- |")
    yield from (f"| `{name}` | {text} |" for name, text in rows)
    yield ""


def maps() -> dict[str, str]:
    """Return the text of each map by its name on the page."""
    go = sorted(path for path in SIMULATOR.rglob("*.go") if not path.name.endswith("_test.go"))
    return {
        "module_utils": "\n".join(
            table((str(path.relative_to(UTILS)), first_of_python(path)) for path in python_files())
        ),
        "simulator": "\n".join(table((str(path.relative_to(SIMULATOR)), first_of_go(path)) for path in go)),
    }


def written(page: str) -> str:
    """Return the page with up-to-date maps."""
    for name, text in maps().items():
        begin, end = f"<!-- {name}: written by tests/harness/architecture.py -->\n", f"<!-- end of {name} -->"
        before, _begin, rest = page.partition(begin)
        page = before + begin + text + "\n" + end + rest.partition(end)[2]
    return page


def main() -> int:
    """Write the page or check it."""
    before = PAGE.read_text(encoding="utf-8")
    after = written(before)
    if sys.argv[1:] == ["--check"]:
        if before != after:
            print("docs/architecture.md is out of date. Run: python tests/harness/architecture.py")
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
