# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples of the guides that use other VMware collections: their options, and the recipes for inventories."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from functional.engines import INSTANT_CLONE
from functional.vcenter import SECONDS, VCenter
from unit.test_examples import BLOCKS

ROOT = Path(__file__).parents[2]
COLLECTIONS = f"{ROOT / '.build/live'}:{ROOT / '.build/peers'}"
PEER = re.compile(r"(?:community|vmware)\.vmware\.\w+")


def tasks(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each use of a module of community.vmware or vmware.vmware in a document, with its options."""
    for value in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
        yield from tasks(value)
    if isinstance(node, dict):
        yield from ((key, value) for key, value in node.items() if PEER.fullmatch(str(key)))


def test_options_of_other_collections() -> None:
    used = [found for block in BLOCKS if block.kind == "yaml" for found in tasks(list(yaml.safe_load_all(block.text)))]
    modules = sorted({name for name, _options in used})
    assert len(modules) > 2
    ended = subprocess.run(
        ["ansible-doc", "--json", *modules],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    documented = {name: found["doc"]["options"] for name, found in json.loads(ended.stdout).items()}
    for name, given in used:
        options = documented[name]
        known = {alias: option for key, option in options.items() for alias in (key, *option.get("aliases", []))}
        assert set(given) <= set(known), f"{name} has no options {set(given) - set(known)}"
        wrong = {key: value for key, value in given.items() if value not in known[key].get("choices", [value])}
        assert not wrong, f"{name} does not accept {wrong}"
        assert {key for key, option in options.items() if option.get("required")} <= set(given), name


@pytest.mark.engines(INSTANT_CLONE)
def test_inventories_with_vmware_vms(quiesced: VCenter, tmp_path: Path) -> None:
    """As shown, with vmware.vmware.vms beside our plugin, and alone."""
    quiesced.fork("web-01")
    quiesced.govc("vm.clone", "-vm", "web-01", "-on=false", "-pool", "DC0_H0/Resources", "copy-of-web-01")
    first_lines = ((re.match(r"\s*# (inventory/\S+)\n", block.text), block.text) for block in BLOCKS)
    named = {found[1]: text for found, text in first_lines if found}
    alone = named.pop("inventory/only_children.vms.yml")
    assert set(named) == {"inventory/all.vms.yml", "inventory/children.vmfork_children.yml"}
    (tmp_path / "inventory").mkdir()
    for name, text in named.items():
        (tmp_path / name).write_text(text)
    both = listed(quiesced, tmp_path / "inventory")
    children = {name for name, host in both.items() if "vmfork_moid" in host}
    others = {name.partition("_")[0] for name in both.keys() - children}
    assert (children, "web-01" in others) == ({"web-01"}, False)
    assert {quiesced.parent.partition("_")[0], "copy-of-web-01"} <= others
    (tmp_path / "only_children.vms.yml").write_text(alone)
    assert {name.partition("_")[0] for name in listed(quiesced, tmp_path / "only_children.vms.yml")} == {"web-01"}


def listed(vcenter: VCenter, path: Path) -> dict[str, Any]:
    """Return the variables of the hosts of an inventory."""
    settings = {"ANSIBLE_COLLECTIONS_PATH": COLLECTIONS, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
    ended = subprocess.run(
        ["ansible-inventory", "-i", str(path), "--list"],
        env={**os.environ, **vcenter.simulator.environment, **settings},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout)["_meta"]["hostvars"])
