"""From YAML or JSON text to a plain JSON document, with the place of every value."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.definition.compiler.budget import NEW, Budget, too_large
from orchestrator.definition.compiler.problems import Position
from orchestrator.definition.source.json_places import JsonPlaces
from orchestrator.definition.source.yaml_reader import YamlReader
from wf.errors import DefinitionError
from wf.protocol.json_weight import exceeds

MAX_DEPTH = 100

Positions = dict[str, Position]


def read(
    source: str | bytes | dict[str, Any], file: str, budget: Budget = NEW
) -> tuple[Any, Positions]:
    """(document, pointer → line and column). Raises DefinitionError when it cannot be read, or is
    more than the budget allows."""
    if isinstance(source, dict):
        return _plain(source, file, budget), {}
    if (problem := too_large(len(source), budget)) is not None:
        raise DefinitionError([f"{file}: {problem}"])
    if isinstance(source, bytes):
        try:
            source = source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DefinitionError([f"{file}: not UTF-8: {error}"]) from None
    if source.lstrip()[:1] == "{":
        try:
            document = _plain(orjson.loads(source), file, budget)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            pass  # a YAML flow mapping also begins so; if it is neither, YAML says where
        else:
            return document, JsonPlaces(file).read(source)
    document, positions = YamlReader(file, budget).read(source)
    if exceeds(document, budget.size):  # by aliases of large texts
        raise DefinitionError([f"{file}: takes more than {budget.size} bytes: use fewer aliases"])
    return document, positions


def _plain(document: Any, file: str, budget: Budget) -> Any:
    """A copy that holds JSON only, nests no deeper than allowed and is within the budget."""
    if exceeds(document, budget.size):
        raise DefinitionError([f"{file}: takes more than {budget.size} bytes: split the workflow"])
    try:
        encoded = orjson.dumps(document)
    except (TypeError, RecursionError) as error:
        raise DefinitionError([f"{file}: not JSON: {error}"]) from None
    copy = orjson.loads(encoded)
    level: list[tuple[int, Any]] = [(0, copy)]  # with the length of its pointer
    depth = values = pointers = 0
    while level:
        if depth > MAX_DEPTH:
            raise DefinitionError([f"{file}: nests deeper than {MAX_DEPTH} levels: split it"])
        depth += 1
        values += len(level)
        pointers += sum(length for length, _ in level)
        if values > budget.values:
            raise DefinitionError([f"{file}: more than {budget.values} values: split the workflow"])
        if pointers > budget.pointers:
            raise DefinitionError([f"{file}: its keys are too long: shorten the outermost ones"])
        level = [inner for length, one in level for inner in _inside(length, one)]
    return copy


def _inside(length: int, value: Any) -> list[tuple[int, Any]]:
    """What a value holds, each with the length of its pointer, about."""
    if isinstance(value, dict):
        return [(length + 1 + len(key), child) for key, child in value.items()]
    if isinstance(value, list):
        return [(length + 5, child) for child in value]
    return []
