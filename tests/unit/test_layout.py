"""The shape of the project itself: packages, sizes, the annotated settings, the decisions."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from wf.settings import load
from wf.settings.models import SECTIONS, TOP_LEVEL_KEYS, Section, Settings, keys_of

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("wf", "orchestrator", "supervisor")
CODE = (*PACKAGES, "activities", "benchmarks", "demo")
LONGEST_FUNCTION = 70
LONGEST_FILE = 450

SOURCES = sorted(
    path for folder in CODE for path in (PROJECT / folder).rglob("*.py") if path.is_file()
)


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


# Packages


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_of_this_project(package):
    # a distribution named `supervisor` exists, and would be imported without a word
    module = importlib.import_module(package)
    assert Path(module.__file__).resolve().parent == PROJECT / package


def test_activities_and_config_are_no_packages():
    for folder in ("activities", "config"):
        assert not list((PROJECT / folder).rglob("__init__.py"))


def test_every_folder_of_code_in_a_package_is_a_package():
    for package in PACKAGES:
        for folder in {path.parent for path in (PROJECT / package).rglob("*.py")}:
            if "templates" not in folder.parts:
                assert (folder / "__init__.py").exists(), named(folder)


def test_the_types_of_wf_are_published():
    assert (PROJECT / "wf" / "py.typed").exists()


def test_test_files_lie_flat_in_their_tier():
    for path in (PROJECT / "tests").rglob("test_*.py"):
        assert path.parent.parent == PROJECT / "tests", named(path)


# Sizes


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_function_is_too_long_to_see_whole(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{named(path)}:{node.lineno} {node.name}: {length}"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_file_is_too_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_is_left_to_do_in_a_comment(path):
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text())


# Dependencies


def test_every_dependency_is_pinned_within_its_range():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {}
    for line in (PROJECT / "constraints.txt").read_text().splitlines():
        name, equal, version = line.partition("==")
        if equal:
            pins[canonicalize_name(name)] = version
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} has no pin in constraints.txt"
        assert requirement.specifier.contains(version), text


def test_no_lock_file_names_a_registry():
    assert not (PROJECT / "uv.lock").exists()
    assert "://" not in (PROJECT / "constraints.txt").read_text()


def test_every_dependency_has_its_reason():
    from packaging.requirements import Requirement

    reasons = next((PROJECT / "docs" / "decisions").glob("0005-*.md")).read_text()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        assert f"`{Requirement(text).name}`" in reasons, f"{text} has no reason in {reasons[:40]}"


# The annotated pool.toml

_KEY = re.compile(r"(?P<off># )?(?P<key>[a-z_]+) = (?P<value>.*)")
_HEADER = re.compile(r"\[(?P<table>[a-z_.]+)\]")


def documented() -> dict[tuple[str, ...], dict[str, tuple[object, bool]]]:
    """table → key → (value, whether it is commented out), of config/pool.toml."""
    tables = {(): {}}
    table = ()
    for line in (PROJECT / "config" / "pool.toml").read_text().splitlines():
        if header := _HEADER.fullmatch(line):
            table = tuple(header["table"].split("."))
            tables.setdefault(table, {})
        elif match := _KEY.fullmatch(line):
            value = tomllib.loads(f"value = {match['value']}")["value"]
            tables[table][match["key"]] = (value, bool(match["off"]))
    return tables


DOCUMENTED_TABLES = [
    ("supervisor",),
    ("nats",),
    ("orchestrator",),
    ("orchestrator", "limits"),
    ("builtin",),
    ("builtin", "http"),
    ("builtin", "shell"),
    ("builtin", "script"),
    ("secrets",),
    ("workers",),
    ("workers", "retry"),
]


@pytest.mark.parametrize("table", DOCUMENTED_TABLES, ids=".".join)
def test_every_settings_key_is_documented_in_pool_toml(table):
    tables = documented()
    inner = {key for key in keys_of(table) if (*table, key) in tables}
    assert set(tables[table]) | inner == set(keys_of(table))


def test_the_top_level_keys_are_documented_in_pool_toml():
    assert set(documented()[()]) == set(TOP_LEVEL_KEYS)
    assert set(SECTIONS) == {table[0] for table in DOCUMENTED_TABLES}


def test_no_documented_key_is_forgotten_here():
    def inner(model: type[Section], table: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = [table]
        for key, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found += inner(field.annotation, (*table, key))
        return found

    nested = [table for name, model in SECTIONS.items() for table in inner(model, (name,))]
    assert sorted(nested) == sorted(DOCUMENTED_TABLES)


def test_the_defaults_shown_in_comments_are_the_defaults(tmp_path):
    # optional keys show an example instead, and the store's default follows from state_dir
    examples = {"servers", "credentials", "nkey", "user", "password", "store_dir"}
    examples |= {"tls_ca", "tls_cert", "tls_key", "proxy", "ca", "dir", "commands", "python", "js"}
    shown: dict[str, object] = {}
    for table, keys in documented().items():
        if table in DOCUMENTED_TABLES:
            for key, (value, commented) in keys.items():
                if commented and key not in examples:
                    shown[".".join((*table, key))] = value
    empty = tmp_path / "pool.toml"
    empty.write_text("[supervisor]\n")
    assert len(shown) > 25
    assert _plain(load(empty, shown, {})) == _plain(load(empty, environ={}))


def _plain(settings: Settings) -> dict:
    return settings.model_dump(mode="json")


# Decisions


def test_decisions_are_numbered_and_say_context_choice_consequence():
    files = sorted((PROJECT / "docs" / "decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in files]
    assert len(numbers) == len(set(numbers))
    for path in files:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} "), path.name
        for heading in ("## Context", "## Choice", "## Consequence"):
            assert heading in text, f"{path.name} lacks {heading}"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_documents_link_only_to_what_is_there(name):
    for target in re.findall(r"\]\(([^)#:]+)\)", (PROJECT / name).read_text()):
        assert (PROJECT / target).exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/protocol.md"])
def test_documents_name_only_files_that_are_there(name):
    for target in re.findall(
        r"`((?:wf|orchestrator|supervisor|tests|docs|config|tools)/[^`*<>]*)`",
        (PROJECT / name).read_text(),
    ):
        assert (PROJECT / target).exists(), f"{name} names {target}"
