"""From YAML or JSON text to a plain JSON document, with the place of every value."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.definition.json_places import JsonPlaces
from orchestrator.definition.problems import Position
from orchestrator.definition.yaml_reader import YamlReader
from wf.errors import DefinitionError

MAX_DEPTH = 100

Positions = dict[str, Position]


def read(source: str | bytes | dict[str, Any], file: str) -> tuple[Any, Positions]:
    """(document, pointer → line and column). Raises DefinitionError when it cannot be read."""
    if isinstance(source, dict):
        return _plain(source, file), {}
    if isinstance(source, bytes):
        try:
            source = source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DefinitionError([f"{file}: not UTF-8: {error}"]) from None
    if source.lstrip()[:1] == "{":
        try:
            document = _plain(orjson.loads(source), file)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            pass  # a YAML flow mapping also begins so; if it is neither, YAML says where
        else:
            return document, JsonPlaces(file).read(source)
    return YamlReader(file).read(source)


def _plain(document: Any, file: str) -> Any:
    """A copy that holds JSON only and nests no deeper than allowed."""
    try:
        encoded = orjson.dumps(document)
    except (TypeError, RecursionError) as error:
        raise DefinitionError([f"{file}: not JSON: {error}"]) from None
    copy = orjson.loads(encoded)
    level, depth = [copy], 0
    while level:
        if depth > MAX_DEPTH:
            raise DefinitionError([f"{file}: nests deeper than {MAX_DEPTH} levels: split it"])
        depth += 1
        level = [
            child
            for parent in level
            for child in (
                parent.values()
                if isinstance(parent, dict)
                else parent
                if isinstance(parent, list)
                else ()
            )
        ]
    return copy
