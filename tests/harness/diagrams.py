# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the diagrams of the guides, as SVG files that are readable in light and dark, and on a phone.

diagrams.py            write the files into docs/docsite/rst/images
diagrams.py --check    fail if a file is not what would be written
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

IMAGES = Path(__file__).resolve().parents[2] / "docs/docsite/rst/images"
WIDTH = 480
LINE = 19
"""Pixels from one line of text to the next."""

HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<!--
SPDX-FileCopyrightText: vmfork.vsphere contributors
SPDX-License-Identifier: GPL-3.0-or-later

Written by tests/harness/diagrams.py.
-->
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" \
aria-labelledby="title desc">
<title id="title">{title}</title>
<desc id="desc">{description}</desc>
<style>
:root {{ --page: #ffffff; --ink: #1c2733; --line: #5b6b7b; --step: #eef3f8; --good: #e3f4e6; --bad: #fde8e6;
  --warn: #fdf3d7 }}
@media (prefers-color-scheme: dark) {{
:root {{ --page: #161b22; --ink: #e6edf3; --line: #9aa7b4; --step: #243040; --good: #1d3b27; --bad: #4a2323;
  --warn: #453a17 }}
}}
text {{ font: 14px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: var(--ink) }}
.strong {{ font-weight: 600 }}
.small {{ font-size: 12.5px }}
.question {{ font-size: 13px; font-weight: 600 }}
rect {{ stroke: var(--line); rx: 6px }}
.page {{ fill: var(--page); stroke: none; rx: 0 }}
.step {{ fill: var(--step) }} .good {{ fill: var(--good) }} .bad {{ fill: var(--bad) }} .warn {{ fill: var(--warn) }}
path {{ stroke: var(--line); stroke-width: 1.5; fill: none }}
marker path {{ fill: var(--line); stroke: none }}
</style>
<defs><marker id="head" markerWidth="9" markerHeight="9" refX="8" refY="4.5" orient="auto-start-reverse">\
<path d="M0 0 9 4.5 0 9z"/></marker></defs>
<rect class="page" width="{width}" height="{height}"/>
"""


class Box(NamedTuple):
    """A rectangle with lines of text. The first line is strong, in a question all lines are."""

    x: int
    y: int
    width: int
    lines: tuple[str, ...]
    kind: str = "step"
    is_question: bool = False

    @property
    def height(self) -> int:
        return LINE * len(self.lines) + 14

    @property
    def middle(self) -> int:
        return self.x + self.width // 2

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def center(self) -> int:
        return self.y + self.height // 2


def box(shape: Box) -> str:
    """Return a rectangle with its text."""
    parts = [
        f'<rect class="{shape.kind}" x="{shape.x}" y="{shape.y}" width="{shape.width}" height="{shape.height}"/>\n'
    ]
    for number, line in enumerate(shape.lines):
        style = "question" if shape.is_question else "small" if number else "strong"
        y = shape.y + 21 + LINE * number
        parts.append(f'<text class="{style}" x="{shape.middle}" y="{y}" text-anchor="middle">{escape(line)}</text>\n')
    return "".join(parts)


def arrow(points: str, both: bool = False) -> str:
    """Return a line through points with a head at its end, or at both ends."""
    start = ' marker-start="url(#head)"' if both else ""
    return f'<path d="M{points}"{start} marker-end="url(#head)"/>\n'


def label(x: int, y: int, *lines: str, anchor: str = "start") -> str:
    """Return small text beside a line."""
    return "".join(
        f'<text class="small" x="{x}" y="{y + 16 * number}" text-anchor="{anchor}">{escape(line)}</text>\n'
        for number, line in enumerate(lines)
    )


def picture(title: str, description: str, height: int, *parts: str) -> str:
    """Return a whole file."""
    values = {"title": escape(title), "description": escape(description), "width": WIDTH, "height": height}
    return HEAD.format(**values) + "".join(parts) + "</svg>\n"


def life_cycle() -> str:
    """Return the states of a parent and its children, and what leads from one to the next."""
    running = Box(20, 16, 210, ("Running VM", "the future parent"))
    enabled = Box(20, 126, 210, ("Fork parent", "vSphere 6.0 and 6.5 only"))
    frozen = Box(20, 256, 210, ("At its fork point", "frozen, does not respond"), "warn")
    off = Box(290, 256, 170, ("Powered off", "an ordinary VM"))
    resumed = Box(20, 386, 210, ("Child", "continues at the fork point,", "with the scripts"))
    ready = Box(20, 520, 210, ("Ready child", "own name, address and keys"), "good")
    removed = Box(290, 486, 170, ("Removed",))
    foreign = Box(290, 566, 170, ("Independent VM", "left alone from now on"))
    return picture(
        "Life cycle of a fork",
        "A running VM is enabled as a fork parent on vSphere 6.0 and 6.5, quiesced at its fork point, and forked into "
        "children. The scripts make each child ready. A child is removed, or detached. Only a power-off ends the fork "
        "point of the parent; powered on in vCenter, it runs again.",
        630,
        *map(box, (running, enabled, frozen, off, resumed, ready, removed, foreign)),
        arrow(f"125 {running.bottom} 125 {enabled.y - 1}"),
        label(135, 92, "1. enable", "vmfork_parent"),
        arrow(f"125 {enabled.bottom} 125 {frozen.y - 1}"),
        label(135, 208, "2. quiesce, upload scripts", "vmfork_quiesce"),
        arrow(f"125 {frozen.bottom} 125 {resumed.y - 1}"),
        label(135, 336, "3. create, any number", "vmfork_child"),
        arrow(f"125 {resumed.bottom} 125 {ready.y - 1}"),
        label(135, 492, "scripts end"),
        arrow(f"{frozen.right} {frozen.center} {off.x - 1} {frozen.center}"),
        label(290, 326, "by a power-off:", "playbook thaw_parent"),
        arrow(f"{off.middle} {off.y} {off.middle} 40 {running.right + 1} 40"),
        label(366, 140, "power on", "in vCenter", anchor="end"),
        arrow(f"{ready.right} {ready.y + 14} 260 {ready.y + 14} 260 {removed.center} {removed.x - 1} {removed.center}"),
        label(375, 478, "state: absent", anchor="middle"),
        arrow(f"{ready.right} {ready.y + 36} 260 {ready.y + 36} 260 {foreign.center} {foreign.x - 1} {foreign.center}"),
        label(375, 558, "state: detached", anchor="middle"),
    )


def connections() -> str:
    """Return who talks to whom."""
    controller = Box(20, 20, 200, ("Controller", "Ansible, pyVmomi"))
    vcenter = Box(20, 180, 200, ("vCenter",))
    host = Box(20, 330, 200, ("ESXi host", "of the parent"))
    guest = Box(20, 480, 200, ("Guest", "VMware Tools, scripts"))
    child = Box(330, 480, 130, ("Child", "its own guest"), "good")
    return picture(
        "Who talks to whom",
        "The controller talks to vCenter on port 443. It uploads scripts to the ESXi host on port 443, unless they are "
        "transferred through vCenter. vCenter talks to the host. The host passes values to VMware Tools in the guest. "
        "The next play connects to a child by SSH.",
        550,
        *map(box, (controller, vcenter, host, guest, child)),
        arrow(f"120 {controller.bottom} 120 {vcenter.y - 1}"),
        label(130, 108, "everything:", "HTTPS, port 443", "one login for each task"),
        arrow(f"120 {vcenter.bottom} 120 {host.y - 1}"),
        label(130, 262, "vCenter's own", "connection"),
        arrow(f"120 {host.bottom + 1} 120 {guest.y - 1}", both=True),
        label(130, 412, "values in guestinfo,", "guest operations:", "not by the network"),
        arrow(f"{controller.right} 36 300 36 300 {host.center} {host.right + 1} {host.center}"),
        label(310, 190, "scripts only:", "HTTPS, port 443,", "or through vCenter"),
        arrow(f"{controller.right} 28 440 28 440 {child.y - 1}"),
        label(432, 300, "next play:", "SSH, host keys", "known", anchor="end"),
        arrow(f"{guest.right} {guest.center} {child.x - 1} {child.center}"),
        label(275, 496, "fork", anchor="middle"),
    )


QUESTIONS = (
    (("Can vCenter judge it?",), "no", (("not_applicable", "template, not connected"), ("unknown", "no privilege"))),
    (
        ("Does it have vApp options?",),
        "no",
        (("not_configured", "never had any"), ("config_lost", "guest or report has them")),
    ),
    (("Do they contain something", "for the guest?"), "no", (("nothing_to_deliver", ""),)),
    (("Is there a transport that", "vCenter knows?"), "no", (("not_deliverable", ""),)),
    (("Is it running?",), "no", (("not_running", ""),)),
    (("Is it a fork?",), "yes", (("inherited", "has its parent's at best"), ("not_delivered", "guest has none"))),
    (
        ("Has the guest erased it, or", "was it injected?"),
        "yes",
        (("cleared", "erased"), ("delivered_injected", "injected"), ("stale", "injected, other values")),
    ),
    (
        ("Does it differ from what", "vCenter would deliver?"),
        "yes",
        (("stale", "older values"), ("not_delivered", "no property at all")),
    ),
    (("Does the guest have it?",), "yes", (("delivered", ""),)),
    (
        ("Is the CD-ROM the only", "transport?"),
        "yes",
        (
            ("delivered_iso", "image in the drive"),
            ("not_delivered", "no drive or image"),
            ("lost", "started by its host or HA"),
        ),
    ),
    (
        ("Has a probe of the guest", "found none?"),
        "yes",
        (("lost", "vCenter did not start it"), ("contradictory", "vCenter did")),
    ),
    (
        ("Do events show who", "powered it on?"),
        "yes",
        (("lost_suspected", "its host or HA"), ("delivered_assumed", "vCenter")),
    ),
)
"""The questions of the tree: text, the answer that ends it, and the verdicts with what decides between them."""

COLORS = {
    **dict.fromkeys(("lost", "config_lost", "not_delivered", "not_deliverable"), "bad"),
    **dict.fromkeys(("lost_suspected", "stale", "contradictory", "unknown"), "warn"),
    **dict.fromkeys(("delivered", "delivered_iso", "delivered_injected", "delivered_assumed", "cleared"), "good"),
    "inherited": "good",
}


def diagnosis() -> str:
    """Return the way to a verdict as a tree: each question has a branch that ends, and one to the next question."""
    parts, y = [], 16
    for lines, answer, verdicts in QUESTIONS:
        question = Box(10, y, 222, lines, is_question=True)
        leaf_y = y
        for name, why in verdicts:
            leaf = Box(274, leaf_y, 196, (name, why) if why else (name,), COLORS.get(name, "step"))
            parts.append(box(leaf))
            turn = f"254 {question.center} 254 {leaf.center}"
            parts.append(arrow(f"{question.right} {question.center} {turn} {leaf.x - 1} {leaf.center}"))
            leaf_y = leaf.bottom + 8
        parts += [box(question), label(235, question.center - 5, answer)]
        following = max(question.bottom + 34, leaf_y + 14)
        other = {"no": "yes", "yes": "no"}[answer]
        parts += [
            arrow(f"121 {question.bottom} 121 {following - 1}"),
            label(129, question.bottom + 20, other),
        ]
        y = following
    last = Box(10, y, 222, ("unknown", "the message says what is missing"), COLORS["unknown"])
    parts.append(box(last))
    return picture(
        "How a verdict on an OVF environment is found",
        "A tree of questions. The first one whose answer leads to a verdict counts. "
        + " ".join(
            f"{' '.join(lines)} {answer.capitalize()}: {', '.join(name for name, _why in verdicts)}."
            for lines, answer, verdicts in QUESTIONS
        ),
        last.bottom + 16,
        *parts,
    )


def images() -> dict[Path, str]:
    """Return all files, each with its text."""
    drawn = {"fork_life_cycle": life_cycle(), "who_talks_to_whom": connections(), "ovf_diagnosis": diagnosis()}
    return {IMAGES / f"{name}.svg": text for name, text in drawn.items()}


def outdated() -> list[str]:
    """Return the names of the files that are missing or not up to date."""
    return [p.name for p, text in images().items() if not p.is_file() or p.read_text(encoding="utf-8") != text]


def main() -> int:
    """Write the files, or check them."""
    if sys.argv[1:] == ["--check"]:
        names = outdated()
        if names:
            print(f"not up to date: {', '.join(names)}. Run python tests/harness/diagrams.py")
        return int(bool(names))
    IMAGES.mkdir(exist_ok=True)
    for path, text in images().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
