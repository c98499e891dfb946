"""From YAML or JSON text to a plain JSON document, with the place of every value.

YAML is read by its 1.2 core schema: `on`, `yes` and dates are strings, as they are in JSON's world.
"""

from __future__ import annotations

import math
import re
from typing import Any

import orjson
import yaml

from orchestrator.definition.problems import Position, escape
from wf.errors import DefinitionError

MAX_VALUES = 200_000  # aliases may not blow a small file up
MAX_DEPTH = 100

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_A_NUMBER = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_TAG = "tag:yaml.org,2002:"

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
            return _plain(orjson.loads(source), file), {}
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            pass  # a YAML flow mapping also begins so; if it is neither, YAML says where
    return _Reader(file).read(source)


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


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.positions: Positions = {}
        self.problems: list[str] = []
        self.values = 0

    def read(self, text: str) -> tuple[Any, Positions]:
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            node = yaml.compose(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            raise DefinitionError([self._marked(error)]) from None
        except yaml.YAMLError as error:
            raise DefinitionError([f"{self.file}: not YAML: {error}"]) from None
        except (RecursionError, UnicodeEncodeError) as error:
            raise DefinitionError([f"{self.file}: cannot be read as YAML: {error}"]) from None
        if node is None:
            raise DefinitionError([f"{self.file}: is empty: a definition begins with `document:`"])
        document = self._value(node, "", 0, ())
        if self.problems:
            raise DefinitionError(self.problems)
        return document, self.positions

    def _marked(self, error: yaml.MarkedYAMLError) -> str:
        mark = error.problem_mark or error.context_mark
        where = f"{self.file}:{mark.line + 1}:{mark.column + 1}" if mark else self.file
        return f"{where}: not YAML: {error.problem or error.context}"

    def _problem(self, node: yaml.Node, pointer: str, sentence: str) -> None:
        line, column = _place(node)
        self.problems.append(f"{self.file}:{line}:{column}: {pointer or '/'}: {sentence}")

    def _value(self, node: yaml.Node, pointer: str, depth: int, around: tuple[int, ...]) -> Any:
        """Build one value. Recursion is bounded by MAX_DEPTH, the work by MAX_VALUES."""
        self.positions.setdefault(pointer, _place(node))
        self.values += 1
        if self.values == MAX_VALUES + 1:
            self._problem(node, pointer, f"more than {MAX_VALUES} values: use fewer aliases")
        if self.values > MAX_VALUES:
            return None
        if depth > MAX_DEPTH or id(node) in around:
            self._problem(node, pointer, f"nests deeper than {MAX_DEPTH} levels: split it")
            return None
        around = (*around, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, pointer, depth, around)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, pointer)
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(child, f"{pointer}/{index}", depth + 1, around)
                for index, child in enumerate(node.value)
            ]
        raise AssertionError(f"a YAML node is one of three, not {type(node).__name__}")

    def _mapping(
        self, node: yaml.MappingNode, pointer: str, depth: int, around: tuple[int, ...]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, pointer, "a key must be a string")
                continue
            key = key_node.value
            place = f"{pointer}/{escape(key)}"
            if key in found:
                self._problem(key_node, place, f'the key "{key}" is given twice: keep one')
                continue
            self.positions[place] = _place(key_node)
            found[key] = self._value(value_node, place, depth + 1, around)
        return found

    def _scalar(self, node: yaml.ScalarNode, pointer: str) -> Any:
        text: str = node.value
        quoted = node.style in ("'", '"', "|", ">")
        # PyYAML has resolved plain scalars by YAML 1.1; only explicit tags are of use here.
        if quoted or node.tag == f"{_TAG}binary":
            return self._text(node, text, pointer)
        if _NULL.match(text):
            return None
        if _TRUE.match(text) or _FALSE.match(text):
            return bool(_TRUE.match(text))
        if _INTEGER.match(text):
            return self._integer(node, int(text), pointer) if len(text) < 40 else float(text)
        if _OCTAL.match(text) or _HEXADECIMAL.match(text):
            return self._integer(node, int(text, 0), pointer) if len(text) < 40 else None
        if _FLOAT.match(text):
            number = float(text)
            if math.isfinite(number):
                return number
        if _FLOAT.match(text) or _NOT_A_NUMBER.match(text):
            self._problem(node, pointer, f"{text} is not a JSON number")
            return None
        return self._text(node, text, pointer)

    def _integer(self, node: yaml.Node, number: int, pointer: str) -> int | None:
        if -(2**63) <= number < 2**64:
            return number
        self._problem(node, pointer, f"{number} does not fit in 64 bits: write it as a string")
        return None

    def _text(self, node: yaml.Node, text: str, pointer: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._problem(node, pointer, "the string holds half a surrogate pair")
            return ""
        return text


def _place(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1
