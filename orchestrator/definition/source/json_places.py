"""The line and column of every value in a JSON text that is known to be valid.

orjson reads the document; this walks over the same text once more, with a list in place of the
Python stack, and refuses what orjson passes over: a key given twice, an integer past 64 bits.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.definition.compiler.budget import MAX_PROBLEMS
from orchestrator.definition.compiler.problems import Position, escape
from wf.errors import DefinitionError, Problem

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_INTEGER = re.compile(r"-?[0-9]+\Z")


@dataclass(slots=True)
class _Open:
    pointer: str
    is_object: bool
    index: int = 0
    key: str | None = None  # of an object: the key whose value comes next
    keys: set[str] = field(default_factory=set)


@dataclass(slots=True)
class JsonPlaces:
    """Reads one text. `file` names it in problems."""

    file: str
    positions: dict[str, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)  # offset at which each line begins
    _stack: list[_Open] = field(default_factory=list)

    def read(self, text: str) -> dict[str, Position]:
        """Positions by JSON pointer; of a member of an object, that of its key, as in YAML.

        Raises DefinitionError.
        """
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        for match in _TOKEN.finditer(text):
            self._take(match.group(), match.start())
        if self.problems:
            raise DefinitionError(self.problems)
        return self.positions

    def _take(self, token: str, offset: int) -> None:
        top = self._stack[-1] if self._stack else None
        if token in "}]":
            self._stack.pop()
        elif token == ",":
            assert top is not None
            top.index += 1
            top.key = None
        elif token == ":":
            pass
        elif top is not None and top.is_object and top.key is None:
            self._key(top, orjson.loads(token), offset)
        else:
            self._value(top, token, offset)

    def _key(self, top: _Open, key: str, offset: int) -> None:
        pointer = f"{top.pointer}/{escape(key)}"
        if key in top.keys:
            self._problem(pointer, offset, f'the key "{key}" is given twice: keep one')
        top.key = key
        top.keys.add(key)
        self.positions.setdefault(pointer, self._position(offset))

    def _value(self, top: _Open | None, token: str, offset: int) -> None:
        pointer = ""
        if top is not None:
            name: Any = escape(top.key or "") if top.is_object else top.index
            pointer = f"{top.pointer}/{name}"
        self.positions.setdefault(pointer, self._position(offset))
        if token in "{[":
            self._stack.append(_Open(pointer, token == "{"))
        elif _INTEGER.match(token) and not _fits(token):
            sentence = f"{token:.40} does not fit in 64 bits: write it as a string"
            self._problem(pointer, offset, sentence)

    def _position(self, offset: int) -> Position:
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def _problem(self, pointer: str, offset: int, sentence: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            raise DefinitionError(self.problems)
        self.problems.append(Problem(self.file, *self._position(offset), pointer, sentence))


def _fits(token: str) -> bool:
    return len(token) < 40 and -(2**63) <= int(token) < 2**64
