"""Importing an activity module by its path, and collecting the activities that it defines."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from wf.authoring.activity import MARK, ActivityDefinition, Options
from wf.authoring.signature import read_signature
from wf.authoring.source_location import location
from wf.errors import ConfigError
from wf.protocol.builtin_names import is_builtin

PACKAGE_FILE = "__init__.py"
_RENAME = "rename the file (its activities keep their names)"
_NO_PACKAGE = "attempted relative import with no known parent package"
# what we, and what we depend on, import: a module of that name would take its place
_OURS = frozenset(
    {
        *("wf", "orchestrator", "supervisor", "nats", "nkeys", "uvloop", "psutil", "orjson"),
        *("loguru", "purejq", "jsonschema_rs", "yaml", "pydantic", "pydantic_core"),
        *("pydantic_settings", "dotenv", "annotated_types", "typing_extensions"),
        *("typing_inspection", "typer", "click", "rich", "shellingham", "pygments"),
        *("markdown_it", "mdurl", "httpx", "httpcore", "h11", "anyio", "sniffio", "certifi"),
        *("idna", "uritemplate"),
    }
)


def load(path: str | Path) -> list[ActivityDefinition]:
    """Import the module at `path` and give the activities that it defines, by line. Of our own
    activities `path` is the dotted name.

    The module's folder becomes importable, so that helpers beside it work, and the module has the
    name by which they import it: it runs once, and processes that it starts can import it too. Of
    a package `path` is its __init__.py; its activities are those of all its modules that are
    imported then. Whatever the module raises passes through. Raises ConfigError, with every
    problem, for names that mean something else, and for activities that cannot be used.
    """
    if is_builtin(str(path)):
        module = importlib.import_module(str(path))
    else:
        module = _import(Path(os.path.abspath(path)))
    found: list[ActivityDefinition] = []
    problems: list[str] = []
    for function in _marked(module):
        try:
            found.append(_definition(function, str(module.__file__)))
        except ConfigError as error:
            problems += error.problems
    problems += clashes((d.name, f"{d.path}:{d.line}") for d in found)
    if problems:
        raise ConfigError(problems)
    return sorted(found, key=lambda d: d.line)


def clashes(provided: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for every activity name that two places provide, naming both.

    `provided`: (name, place) pairs.
    """
    places: dict[str, list[str]] = {}
    for name, place in provided:
        places.setdefault(name, []).append(place)
    return [
        f"activity {name!r} is provided by {' and by '.join(where)}:"
        ' rename one, or give it a name with @activity(name="…")'
        for name, where in places.items()
        if len(where) > 1
    ]


def module_name(path: str | Path) -> str:
    """The one name of an activity module: `metrics` of metrics.py and of metrics/__init__.py."""
    path = Path(path)
    return path.parent.name if path.name == PACKAGE_FILE else path.stem


def folder_of(path: Path) -> Path:
    """Where an activity module is found under its name."""
    return path.parent.parent if path.name == PACKAGE_FILE else path.parent


def _import(path: Path) -> ModuleType:
    """Import the module under the name by which others import it too, so that it runs once."""
    name = module_name(path)
    _refuse_name(name, path)
    _make_importable(folder_of(path))
    importlib.invalidate_caches()
    origin = _meant(name)
    if origin is None or not _is_same(origin, path):
        what = origin or "something else"
        raise ConfigError([f"{path}: `import {name}` means {what}: {_RENAME}"])
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if _NO_PACKAGE not in str(error):
            raise
        raise ConfigError(
            [
                f"{path}: {error}: the files beside it are no package: write `import helper` in"
                f" place of `from . import helper`, or move them to a folder with an {PACKAGE_FILE}"
            ]
        ) from error


def _refuse_name(name: str, path: Path) -> None:
    if path.suffix != ".py":
        raise ConfigError([f"{path}: not a Python module: its name must end in .py"])
    if "." in name:
        raise ConfigError([f"{path}: a module whose name has a dot cannot be imported: {_RENAME}"])
    if name in sys.stdlib_module_names:
        raise ConfigError([f"{path}: `{name}` is a module of Python itself: {_RENAME}"])
    if name in _OURS:
        raise ConfigError([f"{path}: wf-supervisor itself needs a package `{name}`: {_RENAME}"])


def _meant(name: str) -> str | None:
    """The file that the name stands for in this process."""
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module that somebody made by hand
        return None
    return found.origin if found is not None else None


def _is_same(origin: str, path: Path) -> bool:
    try:
        return os.path.samefile(origin, path)
    except OSError:  # "built-in", or gone
        return False


def _make_importable(folder: Path) -> None:
    """Put the folder after the standard library and before installed packages.

    A module called `email.py` must not hide the library's; a helper called `config.py` must not
    be hidden by something installed.
    """
    if str(folder) in sys.path:
        return
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    places = [i for i, entry in enumerate(sys.path) if entry in installed]
    sys.path.insert(places[0] if places else len(sys.path), str(folder))


def _marked(module: ModuleType) -> list[Any]:
    """The marked functions that the module, or a module of this package, defines, each once."""
    found: dict[int, Any] = {}
    parts = [module]
    if hasattr(module, "__path__"):
        below = module.__name__ + "."
        parts += [part for name, part in list(sys.modules.items()) if name.startswith(below)]
    names = {part.__name__ for part in parts}
    for value in (value for part in parts for value in list(vars(part).values())):
        mark = getattr(value, "__dict__", {}).get(MARK)
        if isinstance(mark, Options) and value.__module__ in names:
            found[id(value)] = value
    return list(found.values())


def _definition(function: Any, path: str) -> ActivityDefinition:
    options: Options = getattr(function, MARK)
    return ActivityDefinition(
        name=options.name,
        function=function,
        is_async=inspect.iscoroutinefunction(function),
        options=options,
        signature=read_signature(function),
        doc=inspect.getdoc(function) or "",
        path=path,
        line=int(location(function).rpartition(":")[2]),
    )
