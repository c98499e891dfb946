"""The rooms of the house: no import goes in a circle, every module lies in a room that says what
belongs there, and every place that a text names is there."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("wf", "orchestrator", "supervisor")
# Folders that hold modules beside their rooms: entry points, and what everybody may import.
LOBBIES = {
    "wf": {"blocking", "errors", "starting"},
    "orchestrator": {"main"},
    "supervisor": {"daemon", "launch", "lock", "main", "roles", "scaffold", "sd_notify"},
    "orchestrator.machine": {"advance", "handlers"},
}


def modules() -> dict[str, Path]:
    """Dotted name → file, of everything in the packages."""
    found = {}
    for package in PACKAGES:
        for path in (PROJECT / package).rglob("*.py"):
            if "templates" in path.parts:
                continue
            parts = path.relative_to(PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports: at its top, within functions, and for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return found & MODULES.keys()


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or not (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_import_goes_in_a_circle():
    graph = {name: imports(path) - {name} for name, path in MODULES.items()}
    assert circles(graph) == []


def test_every_module_lies_in_a_room():
    for name, path in MODULES.items():
        folder, _, own = name.rpartition(".")
        if path.name != "__init__.py" and folder in LOBBIES:
            assert own in LOBBIES[folder], f"{name}: which room does it belong to?"


@pytest.mark.parametrize("name", [n for n, path in MODULES.items() if path.name == "__init__.py"])
def test_a_room_says_what_belongs_in_it(name):
    assert ast.get_docstring(ast.parse(MODULES[name].read_text())), f"{name} has no docstring"


CODE = sorted(
    path
    for folder in (*PACKAGES, "tests", "benchmarks", "tools")
    for path in (PROJECT / folder).rglob("*.py")
)


def test_every_citation_of_the_design_has_its_section():
    sections = set(re.findall(r"^## (\d+)\. ", (PROJECT / "docs/design.md").read_text(), re.M))
    for path in CODE:
        for number in re.findall(r"docs/design\.md §(\d+)", path.read_text()):
            assert number in sections, f"{path}: docs/design.md has no section {number}"
        assert not re.search("DESIGN " + "§|JETSTREAM" + r"\.md", path.read_text()), path


def test_every_path_that_a_text_names_is_there():
    named = re.compile(
        r"(?<![\w/.-])((?:wf|orchestrator|supervisor|docs|tests)/[\w/-]+\.(?:py|md))\b"
    )
    for path in CODE:
        for text in named.findall(path.read_text()):
            assert (PROJECT / text).exists(), f"{path.relative_to(PROJECT)} names {text}"
