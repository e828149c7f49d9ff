# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Allowed imports, and decisions made in one place only. docs/architecture.md explains them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import architecture
from harness.architecture import FORK_LAYERS, LAYERS, Layers, layer_of

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"
UTILS = PLUGINS / "module_utils"
PACKAGE = "ansible_collections.vmfork.vsphere.plugins"

EXCEPTIONS = {
    ("_fork.engine.base", "_fork.child.spec"),
    ("_fork.engine.instant_clone", "_fork.child.spec"),
    ("_fork.engine.vmfork", "_fork.child.spec"),
}
"""Imports that go up: an engine refuses what its server cannot do of what the task asks for a child."""

Graph = dict[str, set[str]]


def module_name(path: Path) -> str:
    """Return the dotted name of a file in ``plugins``: ``module_utils._fork.facts``."""
    return ".".join(path.relative_to(PLUGINS).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PLUGINS.rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, including those for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, which ansible-test does not follow"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> str | None:
    """Return the file of ``plugins`` that an imported name refers to."""
    if not name.startswith(f"{PACKAGE}."):
        return None
    inner = name.removeprefix(f"{PACKAGE}.")
    return inner if inner in MODULES else inner.rpartition(".")[0]


EVERYTHING: Graph = {
    name: {found for found in map(ours, imported(path)) if found is not None} for name, path in MODULES.items()
}
GRAPH: Graph = {
    name.removeprefix("module_utils."): {target.removeprefix("module_utils.") for target in targets}
    for name, targets in EVERYTHING.items()
    if name.startswith("module_utils.")
}


def layer(name: str, layers: Layers) -> int:
    """Return the layer of a module's first part, counted from the top."""
    return layer_of(name.partition(".")[0], layers)


def is_wrong(source: str, target: str) -> bool:
    """Return whether an import does not go down to a lower layer."""
    if (source, target) in EXCEPTIONS:
        return False
    room, other = source.partition(".")[0], target.partition(".")[0]
    if room != other:
        return layer(source, LAYERS) >= layer(target, LAYERS)
    if room != "_fork" or source.count(".") == 0:
        return False
    inner, wanted = source.partition(".")[2], target.partition(".")[2]
    same_room = inner.partition(".")[0] == wanted.partition(".")[0]
    return not same_room and layer(inner, FORK_LAYERS) >= layer(wanted, FORK_LAYERS)


def wrong_imports(graph: Graph) -> list[str]:
    """Return the imports that do not go down."""
    return sorted(
        f"{source} imports {target}"
        for source, targets in graph.items()
        for target in targets
        if is_wrong(source, target)
    )


def reached(graph: Graph, start: str) -> set[str]:
    """Return all modules that a module imports directly or indirectly."""
    seen: set[str] = set()
    left = [start]
    while left:
        for target in graph.get(left.pop(), set()) - seen:
            seen.add(target)
            left.append(target)
    return seen


def cycles(graph: Graph) -> list[str]:
    """Return the modules that import themselves indirectly."""
    return sorted(name for name in graph if name in reached(graph, name))


def test_every_file_has_a_layer() -> None:
    for name in GRAPH:
        if name != "":
            layer(name, LAYERS)
    for name in GRAPH:
        if name.startswith("_fork."):
            layer(name.removeprefix("_fork."), FORK_LAYERS)


def test_imports_go_down() -> None:
    assert wrong_imports(GRAPH) == []


def test_exceptions_are_needed() -> None:
    assert {(source, target) for source, target in EXCEPTIONS if target in GRAPH.get(source, set())} == EXCEPTIONS


def test_no_cycles() -> None:
    assert cycles(GRAPH) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("_errors", "_session"),
        ("_session", "_module"),
        ("_power", "_privileges"),
        ("_guest.operations", "_fork.guestinfo"),
        ("_ovf.masking", "_fork.identity"),
        ("_fork.facts", "_ovf.document"),
        ("_fork.parent.parent", "_fork.child.spec"),
        ("_fork.engine.base", "_fork.facts"),
        ("_fork.guestinfo", "_fork.identity"),
    ],
)
def test_wrong_import_is_noticed(source: str, target: str) -> None:
    assert wrong_imports({**GRAPH, source: {*GRAPH[source], target}}) == [f"{source} imports {target}"]


@pytest.mark.parametrize(
    ("source", "target"), [("_guest.family", "_guest.posix"), ("_ovf.words", "_ovf.masking"), ("_errors", "_deadline")]
)
def test_cycle_is_noticed(source: str, target: str) -> None:
    assert {source, target} <= set(cycles({**GRAPH, source: {*GRAPH[source], target}}))


@pytest.mark.parametrize("kind", ["action", "filter", "lookup"])
def test_code_on_the_controller_needs_no_pyvmomi(kind: str) -> None:
    plugins = [name for name in EVERYTHING if name.startswith(f"{kind}.")]
    assert plugins
    for name in plugins:
        needed = {module.removeprefix("module_utils.") for module in reached(EVERYTHING, name)}
        assert not needed & {"_vmomi", "_session", "_module"}, name


def users_of(pattern: str) -> set[str]:
    """Return the files of ``plugins`` with a match of a regular expression outside comments."""
    found = re.compile(pattern)
    return {
        name.removeprefix("module_utils.")
        for name, path in MODULES.items()
        if found.search(re.sub(r"(?m)#.*$", "", path.read_text(encoding="utf-8")))
    }


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        pytest.param(r"\bAnsibleModule\(|import AnsibleModule\b", {"_module"}, id="AnsibleModule"),
        pytest.param(r"(from|import) pyVmomi\b", {"_vmomi"}, id="pyVmomi"),
        pytest.param(r"\bPropertyCollector\b", {"_properties"}, id="PropertyCollector"),
        pytest.param(r"(except |suppress\()[^:]*\b(MethodFault|vim\.fault|vmodl\.fault)\b", {"_session"}, id="faults"),
        pytest.param(r"[\"']\*{8}[\"']", {"_encodings"}, id="mask"),
        pytest.param(r"\(6, ?7\)", {"_session"}, id="vSphere 6.7"),
        pytest.param(r"startswith\([\"']password[\"']\)", {"_ovf.vapp_types"}, id="password types"),
        pytest.param(r"[\"']config\.hardware\.device[\"']", {"_devices"}, id="virtual devices"),
        pytest.param(r"Task\[_arguments\.Params\]", set(), id="requests that are not typed"),
    ],
)
def test_one_place(pattern: str, places: set[str]) -> None:
    assert users_of(pattern) == places


# --- docs/architecture.md ---------------------------------------------------------------------------------------------

PAGE = architecture.PAGE.read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/.]+)::([\w.]+)`", PAGE)))
"""Every ``file::name`` of the page."""


def defined(path: Path) -> set[str]:
    """Return the names that a file defines: functions, classes, methods (``Class.method``) and variables."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".go":
        found = re.findall(r"(?m)^func (?:\([^)]*\) )?(\w+)|^(?:type|var|const) (\w+)", text)
        return {name for pair in found for name in pair}
    names: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                names.add(target.id)
    return names


NEEDED_LATER = {
    "vmfork_child": (
        "_hidden_api",
        "_fork.engine.vmfork",
        "_fork.child.absent",
        "_fork.child.check_mode",
        "_fork.child.preflight",
        "_guest.windows",
    ),
    "vmfork_info": ("_hidden_api", "_fork.engine.vmfork", "_guest.windows"),
    "vmfork_preflight_info": ("_hidden_api", "_fork.engine.vmfork", "_fork.child.absent", "_guest.windows"),
    "vmfork_parent": ("_hidden_api", "_fork.engine.vmfork", "_guest.windows"),
    "vmfork_quiesce": ("_hidden_api", "_fork.engine.vmfork"),
}
"""Module → what it imports only when a task needs it: Ansible compiles every imported file in each task."""


@pytest.mark.parametrize("module", NEEDED_LATER)
def test_modules_import_at_first_only_what_every_task_needs(module: str) -> None:
    script = f"import sys, {PACKAGE}.modules.{module}; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    prefix = f"{PACKAGE}.module_utils."
    loaded = {name.removeprefix(prefix) for name in ended.stdout.split() if name.startswith(prefix)}
    assert "_session" in loaded
    assert [name for name in loaded if name.startswith(NEEDED_LATER[module])] == []


def test_every_file_can_be_imported_without_pyvmomi() -> None:
    """Otherwise a module ends with a traceback instead of the sentence that says what to install."""
    files = [path for path in sorted(UTILS.rglob("*.py")) if path.name != "__init__.py"]
    files += sorted((PLUGINS / "modules").glob("*.py"))
    names = [f"{PACKAGE}.{'.'.join(path.relative_to(PLUGINS).with_suffix('').parts)}" for path in files]
    script = (
        f"import importlib, sys; sys.modules['pyVmomi'] = None; [importlib.import_module(name) for name in {names}]"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_function_on_the_page_exists(file: str, name: str) -> None:
    places = [parent / file for parent in (UTILS, PLUGINS, ROOT) if (parent / file).is_file()]
    assert places, f"docs/architecture.md names {file}, which is not there"
    assert name in defined(places[0])


PATHS = sorted(set(re.findall(r"`([\w./-]+\.(?:py|yml|j2|go|rst|md))`", PAGE.partition("## Map of module_utils")[0])))
"""Every file of the page that is named without a function."""


@pytest.mark.parametrize("file", PATHS)
def test_every_file_on_the_page_exists(file: str) -> None:
    found = [parent / file for parent in (UTILS, PLUGINS, ROOT) if (parent / file).is_file()]
    assert found or list((ROOT / "tests/unit").rglob(file)), f"docs/architecture.md names {file}, which is not there"


def test_page_names_functions() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)", PAGE))))
def test_links_of_the_page_are_valid(path: str) -> None:
    assert (architecture.PAGE.parent / path).exists()


def test_map_matches_the_files() -> None:
    """Check the map of module_utils; ``make lint`` checks the entire page."""
    assert architecture.maps()["module_utils"] in PAGE, "run: python tests/harness/architecture.py"


def test_every_file_of_module_utils_has_a_docstring() -> None:
    assert [path for path in architecture.python_files() if not architecture.first_of_python(path)] == []
