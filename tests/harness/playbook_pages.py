# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the documentation page of each playbook.

The variables are those in the comment at the head of the playbook. For a playbook that runs an entry point of the role,
they are those of the role's argument specification.

    playbook_pages.py            write the pages into docs/docsite/rst
    playbook_pages.py --check    fail if a page is not what would be written
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/docsite/rst"
LABEL = "ansible_collections.vmfork.vsphere.docsite."
GUIDES = {
    "ovfenv": "guide_ovf_environment",
    "vapp": "guide_vapp_backup",
    "thaw": "guide_operations",
    "conformance": "guide_evidence",
}
"""The guide to a playbook, by the first word of its name. The guide to all others is about forking."""

HEAD = """..
  SPDX-FileCopyrightText: vmfork.vsphere contributors
  SPDX-License-Identifier: GPL-3.0-or-later

.. Written by tests/harness/playbook_pages.py from {source}.

.. _{label}:

{title}
{line}

"""

Row = tuple[str, str]
"""A variable, or several, and its description, both in reStructuredText."""

_NAME = r"(?:conformance|ovfenv|vapp|vmfork)_\w+"
_ROW = re.compile(rf"  ({_NAME}(?:, {_NAME})*)(?:  +(\S.*))?$")
_LITERAL = re.compile(r"(?<![\w.`,])(?:vmfork\.vsphere\.\w+|(?:\w+,)*\w+_\w+(?:\.[a-z]+\b)?)|(?<![\w-])--[a-z][\w-]*")


def literals(text: str) -> str:
    """Return plain text of a comment in reStructuredText: names of variables, options and the like as literals."""
    quoted = re.sub(r"`([^`]+)`", r"\1", text)
    return _LITERAL.sub(r"``\g<0>``", quoted.replace("*", r"\*"))


def markup(text: str) -> str:
    """Return the description of an option in reStructuredText, from Ansible's markup."""

    def one(found: re.Match[str]) -> str:
        kind, value = found[1], found[2]
        if kind in ("O", "RV") and "#" in value:
            return f":{'ansopt' if kind == 'O' else 'ansretval'}:`{value}`"
        if kind in ("M", "P"):
            return f":ansplugin:`{value if kind == 'P' else value + '#module'}`"
        if kind == "R":
            words, _comma, label = value.rpartition(", ")
            return f":ref:`{words} <{label}>`"
        return f"``{value}``"

    return re.sub(r"\b(O|V|C|E|M|P|R|RV)\(([^)]*)\)", one, text)


def comment(playbook: str) -> tuple[list[str], list[Row], list[str]]:
    """Return the comment at the head of a playbook: paragraphs, variables, and paragraphs after them."""
    head = re.split(r"(?m)^- ", playbook, maxsplit=1)[0]
    lines = [line[1:] for line in head.splitlines() if line.startswith("#") and "SPDX" not in line]
    before: list[list[str]] = [[]]
    rows: list[tuple[str, list[str]]] = []
    after: list[list[str]] = [[]]
    for line in (re.sub(r"^ ", "", line) for line in lines):
        if found := _ROW.match(line):
            rows.append((found[1], [found[2]] if found[2] else []))
        elif rows and line.startswith("    "):
            rows[-1][1].append(line.strip())
        else:
            paragraphs = after if rows else before
            if line:
                paragraphs[-1].append(line)
            else:
                paragraphs.append([])
    joined = [[" ".join(lines) for lines in part if lines] for part in (before, after)]
    table = [(", ".join(f"``{name}``" for name in names.split(", ")), literals(" ".join(text))) for names, text in rows]
    return joined[0], table, joined[1]


def options(spec: dict[str, Any]) -> Iterator[Row]:
    """Yield the variables of an entry point of the role."""
    for name, option in spec["options"].items():
        given = option["description"]
        text = " ".join(markup(sentence) for sentence in ([given] if isinstance(given, str) else given))
        if choices := [choice for choice in option.get("choices", []) if choice != ""]:
            text += f" One of {', '.join(f'``{choice}``' for choice in choices)}."
        if "default" in option:
            value = option["default"]
            text += f" The default is ``{str(value).lower() if isinstance(value, bool) else value}``."
        yield f"``{name}``", text


def entry_point(playbook: list[dict[str, Any]]) -> str | None:
    """Return the entry point of the role that a playbook runs."""

    def tasks(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in items:
            yield item
            yield from tasks(item.get("block", []))

    for play in playbook:
        for task in tasks(play.get("tasks", [])):
            if role := task.get("ansible.builtin.import_role"):
                return str(role.get("tasks_from", "main"))
    return None


def paragraph(text: str) -> str:
    """Return a wrapped paragraph, or the command that it consists of as a code block."""
    if text.startswith("  "):
        return f".. code-block:: console\n\n   $ {text.strip()}\n"
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def page(path: Path, specs: dict[str, Any]) -> str:
    """Return the page of a playbook."""
    text = path.read_text(encoding="utf-8")
    before, rows, after = comment(text)
    source = f"the comment at the head of playbooks/{path.name}"
    if entry := entry_point(yaml.safe_load(text)):
        rows = list(options(specs[entry]))
        source += " and roles/vmfork/meta/argument_specs.yml"
    title = f"Playbook {path.stem}"
    parts = [HEAD.format(source=source, label=f"{LABEL}playbook_{path.stem}", title=title, line="=" * len(title))]
    parts += [paragraph(part if part.startswith("  ") else literals(part)) + "\n" for part in before]
    if rows:
        parts.append(".. list-table::\n   :header-rows: 1\n   :widths: 30 70\n\n   * - Variable\n     - Meaning\n")
        for names, meaning in rows:
            filled = textwrap.fill(meaning, 113, break_long_words=False, break_on_hyphens=False)
            parts.append(f"   * - {names}\n     - {textwrap.indent(filled, ' ' * 7).strip()}\n")
        parts.append("\n")
    parts += [paragraph(literals(part)) + "\n" for part in after]
    guide = GUIDES.get(path.stem.partition("_")[0], "guide_forking")
    parts.append(
        paragraph(
            f"How to use the playbook is described in :ref:`the guide <{LABEL}{guide}>`, and the variables of the "
            f"connection in :ref:`Which vCenter <{LABEL}guide_getting_started.connection>`."
        )
    )
    return "".join(parts)


def pages() -> dict[Path, str]:
    """Return the pages of all playbooks, each with its text."""
    file = ROOT / "roles/vmfork/meta/argument_specs.yml"
    specs = yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"]
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    return {PAGES / f"playbook_{path.stem}.rst": page(path, specs) for path in playbooks}


def outdated() -> list[str]:
    """Return the names of the pages that are missing, not up to date, or without a playbook."""
    wanted = pages()
    extra = [path for path in PAGES.glob("playbook_*.rst") if path not in wanted]
    differing = [
        path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return [path.name for path in extra + differing]


def main() -> int:
    """Write the pages, or check them."""
    if sys.argv[1:] == ["--check"]:
        names = outdated()
        if names:
            print(f"not up to date: {', '.join(names)}. Run python tests/harness/playbook_pages.py")
        return int(bool(names))
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
