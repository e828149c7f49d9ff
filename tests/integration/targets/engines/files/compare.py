# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the results of one playbook on several servers: compare.py FIRST.json OTHER.json ..."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# These and the timelines differ for every server or run: only the type must be the same.
EACH_ITS_OWN = r"moid|uuid|instance_uuid|seconds|quiesced_at|fork_group_id|mac_addresses\[\d+\]|directory|pid"

# Values that may differ between the engines, and why.
OF_THE_ENGINE = {
    r"api": "it names the engine",
    r"enabled": "null where nothing needs enabling",
    r"fork_group_id": "vSphere 6.5 alone has fork groups, and on the children of parents that it reports",
    r"child_type": "it names the kind of child",
    r"survives_power_off": "children of Instant Clone are full VMs",
    r"(enabled|disabled)\.(changed|diff\..*)": "nothing needs enabling",
    r"foreseen\.warnings(\[.*)?": "vCenter is asked beforehand, and may warn, with Instant Clone",
    r"foreseen\.preflight\.(checks\[20\]\.(status|text)|text)": "vCenter's own check is one of Instant Clone",
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that contains no others, with its path; empty lists and dicts are values."""
    if isinstance(value, dict) and value:
        for key in value:
            yield from leaves(value[key], f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def may_differ(path: str) -> bool:
    """Return whether the engines may answer differently in a key of this name or, with dots, at this path."""
    name = path.rpartition(".")[2]
    return any(re.fullmatch(pattern, name) or re.fullmatch(pattern, path) for pattern in OF_THE_ENGINE)


def differences(first: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each difference. An engine must answer the same over every transport."""
    engine = "made.parent.api"
    allowed = may_differ if first[engine] != other[engine] else lambda _path: False
    for path in sorted(first.keys() ^ other.keys()):
        if not allowed(path):
            yield f"{path}: only in {'the first' if path in first else 'the other'}"
    for path in sorted(first.keys() & other.keys()):
        ours, theirs = first[path], other[path]
        if allowed(path):
            continue
        own = re.fullmatch(EACH_ITS_OWN, path.rpartition(".")[2]) is not None or ".timeline." in path
        if type(ours) is not type(theirs) or not (own or ours == theirs):
            yield f"{path}: {ours!r} and {theirs!r}"


def main() -> None:
    """Run the program."""
    found = [dict(leaves(json.loads(Path(name).read_text()))) for name in sys.argv[1:]]
    if len(found) < 2 or not all(len(values) > 100 for values in found):
        sys.exit("too little to compare")
    problems = [
        f"{name}: {line}"
        for name, other in zip(sys.argv[2:], found[1:], strict=True)
        for line in differences(found[0], other)
    ]
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
