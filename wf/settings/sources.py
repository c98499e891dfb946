"""Where settings come from, each as a tree of keys that still knows its place."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wf.errors import ConfigError
from wf.settings.models import SECTIONS, TOP_LEVEL_KEYS, PoolSettings

Key = tuple[str, ...]
Tree = dict[str, Any]

ENVIRONMENT_PREFIX = "WF_"
_NOT_SETTINGS = frozenset({"CONFIG"})  # WF_CONFIG names the file itself; WF_SECRET_… are secrets


@dataclass(slots=True)
class Layer:
    """One source: its tree, and the words that name the place of a key in it."""

    tree: Tree
    label: str  # "config/pool.toml", "environment", "command line"
    places: dict[Key, str] = field(default_factory=dict)  # key → "12" (line) or "WF_NATS__PORT"

    def holds(self, key: Key) -> bool:
        node: Any = self.tree
        for part in key:
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return True

    def place(self, key: Key) -> str:
        """The place of `key`, or of the nearest table around it."""
        for length in range(len(key), 0, -1):
            if (place := self.places.get(key[:length])) is not None:
                return place
        return ""


def toml_layer(path: Path) -> Layer:
    """Read pool.toml. Raises ConfigError with the line of a syntax error.

    A file that says nothing is refused: it was truncated more often than it was meant.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # some editors begin it with a byte order mark
        tree = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([_unreadable(path, content, error)]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    if not tree:
        raise ConfigError([_says_nothing(path, text)])
    places = {key: str(line) for key, line in _lines_of_keys(text)}
    return Layer(tree, str(path), places)


def _says_nothing(path: Path, text: str) -> str:
    what = "holds only comments" if text.strip() else "is empty"
    return (
        f"{path}: the file {what}; it may have been written only in part."
        " If all defaults are meant, write [supervisor] into it"
    )


def _unreadable(
    path: Path, content: bytes, error: UnicodeDecodeError | tomllib.TOMLDecodeError
) -> str:
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and b"\0" in content:
        return f"{path}: UTF-16: save it as UTF-8"
    if b"\0" in content:
        return f"{path}: holds NUL bytes (byte {content.index(0)}): it is damaged; write it again"
    if isinstance(error, tomllib.TOMLDecodeError):
        return _syntax_problem(path, str(error))
    return f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8"


def _syntax_problem(path: Path, message: str) -> str:
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if match is None:
        return f"{path}: not valid TOML: {message}"
    reason = message[: match.start()]
    return f"{path}:{match[1]}: not valid TOML (column {match[2]}): {reason}"


def _lines_of_keys(text: str) -> Iterator[tuple[Key, int]]:
    """(key, line number), read line by line; only roughly right inside multi-line values."""
    table: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            if (header := _only_key(stripped)) is not None:
                table = header
                yield table, number
        elif "=" in stripped and not stripped.startswith("#"):
            key = _only_key(stripped.partition("=")[0] + "= 0")
            if key is not None:
                yield (*table, *key), number


def _only_key(line: str) -> Key | None:
    """The one key path that a line of TOML holds; None where it is no line of its own."""
    try:
        node: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    parts: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts) or None


def environment_layer(environ: Mapping[str, str], pools: list[str]) -> tuple[Layer, list[str]]:
    """WF_<SECTION>__<KEY>=…; `pools` are the tables whose names a variable may spell in capitals.

    An empty variable counts as unset. Returns the layer and the problems of names that are
    almost settings.
    """
    layer, problems = Layer({}, "environment"), []
    for name, value in sorted(environ.items()):
        rest = name.removeprefix(ENVIRONMENT_PREFIX)
        if rest == name or rest in _NOT_SETTINGS or rest.startswith("SECRET_") or not value:
            continue
        parts = rest.lower().split("__")
        if len(parts) == 1 and parts[0] not in TOP_LEVEL_KEYS:
            if (section := parts[0].partition("_")[0]) in SECTIONS:
                remedy = f"WF_{section.upper()}__{rest[len(section) + 1 :]}"
                problems.append(
                    f"environment {name}: two underscores part the section from the key;"
                    f" did you mean `{remedy}`?"
                )
            continue  # a variable of something else
        key = _with_pool_name(parts, pools)
        _put(layer.tree, key, value)
        layer.places[key] = name
    return layer, problems


def _with_pool_name(parts: list[str], pools: list[str]) -> Key:
    if parts[0] == "workers" and len(parts) > 2 and parts[1] not in PoolSettings.model_fields:
        spelled = {pool.lower().replace("-", "_"): pool for pool in pools}
        parts = [parts[0], spelled.get(parts[1], parts[1]), *parts[2:]]
    return tuple(parts)


def override_layer(overrides: Mapping[str, object]) -> Layer:
    """Command line: {"nats.port": 0} or nested. None means unset. Relative Paths start at cwd."""
    layer = Layer({}, "command line")
    for name, value in overrides.items():
        _override(layer, tuple(name.split(".")), value)
    return layer


def _override(layer: Layer, key: Key, value: object) -> None:
    if value is None:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _override(layer, (*key, str(name)), inner)
        return
    _put(layer.tree, key, value.absolute() if isinstance(value, Path) else value)


def _put(tree: Tree, key: Key, value: object) -> None:
    for part in key[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner
    tree[key[-1]] = value
