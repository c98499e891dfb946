"""Importing an activity module by its path, and collecting the activities that it defines."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from wf.activity import MARK, ActivityDefinition, Options, is_builtin, location
from wf.errors import ConfigError
from wf.signature import read_signature


def load(path: str | Path) -> list[ActivityDefinition]:
    """Import the module at `path` and give the activities that it defines, by line. Of our own
    activities `path` is the dotted name.

    The import gets a name of its own, and the module's folder becomes importable, so that helpers
    beside it work. Whatever the module raises passes through. Raises ConfigError, with every
    problem, for activities that cannot be used.
    """
    if is_builtin(str(path)):
        module = importlib.import_module(str(path))
    else:
        path = Path(path).resolve()
        module = _import(path)
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


def _import(path: Path) -> ModuleType:
    _make_importable(path.parent)
    tag = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"wf_activities_{path.stem}_{tag}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError([f"{path}: not a Python module: its name must end in .py"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up while it loads
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


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
    """The marked functions that the module itself defines, each once."""
    found: dict[int, Any] = {}
    for value in vars(module).values():
        mark = getattr(value, "__dict__", {}).get(MARK)
        if isinstance(mark, Options) and value.__module__ == module.__name__:
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
