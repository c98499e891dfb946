"""YAML to plain JSON, with the line and column of every value.

By YAML's 1.2 core schema: `on`, `yes` and dates are strings, as in JSON's world. Built from parser
events with an explicit stack, because composing nests on the C stack and a hostile file of 100,000
brackets would crash the process.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.definition.compiler.budget import MAX_PROBLEMS, NEW, Budget
from orchestrator.definition.compiler.problems import Position, escape
from wf.errors import DefinitionError, Problem

MAX_DEPTH = 100

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOLEAN = re.compile(r"(?:true|True|TRUE|(false|False|FALSE))\Z")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_A_NUMBER = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))
MERGE = "<<"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_CONTAINER_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("map", "seq"))


@dataclass(slots=True)
class _Open:
    """A mapping or sequence whose end has not come yet."""

    value: Any
    pointer: str
    anchor: str | None
    weight_before: int
    key: str | None = None  # of a mapping: the key whose value comes next
    merges: bool = False  # what comes next is to be merged: the key was `<<`
    merged: dict[str, Any] | None = None  # what `<<` has given: the mapping's own keys override it


@dataclass(slots=True)
class YamlReader:
    """Reads one document. `file` names it in problems."""

    file: str
    budget: Budget = NEW
    positions: dict[str, Position] = field(default_factory=dict)
    problems: list[str | Problem] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    _anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    _weight: int = 0  # of values: aliases may not blow a small file up
    _pointers: int = 0  # characters of their pointers
    _root: Any = None

    def read(self, text: str) -> tuple[Any, dict[str, Position]]:
        """(document, positions by JSON pointer). Raises DefinitionError."""
        documents = 0
        try:
            for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._refuse(event, "a second document begins here: one file, one workflow")
                elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                    self._take(event)
        except yaml.MarkedYAMLError as error:
            raise DefinitionError([self._marked(error)]) from None
        except (yaml.YAMLError, UnicodeEncodeError) as error:
            raise DefinitionError([f"{self.file}: not YAML: {error}"]) from None
        if documents == 0:
            raise DefinitionError([f"{self.file}: is empty: a definition begins with `document:`"])
        if self.problems:
            raise DefinitionError(self.problems)
        return self._root, self.positions

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)

    # --- values -------------------------------------------------------------------------------

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag is not None and event.tag not in _CONTAINER_TAGS:
            self._problem(event, self._pointer(), f"the tag {event.tag} is not known here")
        if self._wants_key():
            self._refuse(event, "a key must be a string")
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(event, f"nests deeper than {MAX_DEPTH} levels: split it")
        pointer = self._place(event)
        before = self._weight
        self._weigh(event, 1)
        self._stack.append(_Open({} if is_mapping else [], pointer, event.anchor, before))

    def _close(self) -> None:
        done = self._stack.pop()
        if done.merged is not None:
            done.value.update(
                {key: one for key, one in done.merged.items() if key not in done.value}
            )
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, self._weight - done.weight_before)
        self._put(done.value)

    def _alias(self, event: yaml.AliasEvent) -> None:
        value, weight = self._anchors.get(event.anchor or "", (None, 0))
        if weight == 0:
            self._refuse(event, f"the alias *{event.anchor} stands for nothing that is complete")
        if self._wants_key():
            self._refuse(event, "a key must be written out")
        self._place(event)
        self._weigh(event, weight)
        self._put(value)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._wants_key():
            self._key(event)
            return
        pointer = self._place(event)
        self._weigh(event, 1)
        value = self._resolve(event, pointer)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._put(value)

    def _key(self, event: yaml.ScalarEvent) -> None:
        top = self._stack[-1]
        top.key = event.value
        if event.value == MERGE and not event.style and event.tag in (None, _MERGE_TAG):
            self._merge_key(event, top)
            return
        pointer = self._pointer()
        if event.value in top.value:
            self._problem(event, pointer, f'the key "{event.value}" is given twice: keep one')
        else:
            self.positions[pointer] = _position(event)

    def _merge_key(self, event: yaml.ScalarEvent, top: _Open) -> None:
        if top.merged is not None:
            self._problem(
                event, self._pointer(), "`<<` is given twice: write a list, `<<: [*a, *b]`"
            )
        top.merges, top.merged = True, top.merged or {}

    def _merge(self, top: _Open, value: Any) -> None:
        """As YAML 1.1 says: of several mappings, the earlier ones override the later ones."""
        given = value if type(value) is list else [value]
        for one in given:
            if type(one) is not dict:
                sentence = "`<<` merges a mapping or a list of mappings, such as `<<: *defaults`"
                line, column = self.positions.get(self._pointer(), (1, 1))
                self.problems.append(Problem(self.file, line, column, self._pointer(), sentence))
                return
        assert top.merged is not None
        for one in given:
            top.merged.update({key: found for key, found in one.items() if key not in top.merged})

    def _put(self, value: Any) -> None:
        """Give a finished value to what it stands in."""
        if not self._stack:
            self._root = value
            return
        top = self._stack[-1]
        if type(top.value) is list:
            top.value.append(value)
            return
        if top.merges:
            self._merge(top, value)
            top.merges = False
        else:
            top.value[top.key] = value
        top.key = None

    def _wants_key(self) -> bool:
        return (
            bool(self._stack)
            and type(self._stack[-1].value) is dict
            and (self._stack[-1].key is None)
        )

    # --- scalars ------------------------------------------------------------------------------

    def _resolve(self, event: yaml.ScalarEvent, pointer: str) -> Any:
        text: str = event.value
        tag = event.tag
        if tag is not None and tag != "!" and tag not in _TAGS:
            self._problem(event, pointer, f"the tag {tag} is not known here")
        quoted = event.style in ("'", '"', "|", ">")
        if tag in ("!", _TAGS[0]) or (quoted and tag is None):
            return self._text(event, text, pointer)
        if _NULL.match(text):
            return None
        boolean = _BOOLEAN.match(text)
        if boolean is not None:
            return boolean.group(1) is None
        if _INTEGER.match(text) or _BASED.match(text):
            return self._integer(event, text, pointer)
        if _FLOAT.match(text) or _NOT_A_NUMBER.match(text):
            return self._float(event, text, pointer)
        return self._text(event, text, pointer)

    def _integer(self, event: yaml.Event, text: str, pointer: str) -> int | None:
        if len(text) < 40:
            number = int(text, 10 if _INTEGER.match(text) else 0)
            if -(2**63) <= number < 2**64:
                return number
        self._problem(event, pointer, f"{text:.40} does not fit in 64 bits: write it as a string")
        return None

    def _float(self, event: yaml.Event, text: str, pointer: str) -> float | None:
        number = float(text) if _FLOAT.match(text) else math.inf
        if math.isfinite(number):
            return number
        self._problem(event, pointer, f"{text} is not a JSON number")
        return None

    def _text(self, event: yaml.Event, text: str, pointer: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._problem(event, pointer, "the string holds half a surrogate pair")
            return ""
        return text

    # --- places -------------------------------------------------------------------------------

    def _pointer(self) -> str:
        """The pointer of the value that comes next."""
        if not self._stack:
            return ""
        top = self._stack[-1]
        token = str(len(top.value)) if type(top.value) is list else escape(top.key or "")
        return f"{top.pointer}/{token}"

    def _place(self, event: yaml.Event) -> str:
        pointer = self._pointer()
        self._pointers += len(pointer)
        if self._pointers > self.budget.pointers:
            self._refuse(event, "its keys are too long: shorten the outermost ones")
        self.positions.setdefault(pointer, _position(event))
        return pointer

    def _weigh(self, event: yaml.Event, weight: int) -> None:
        self._weight += weight
        if self._weight > self.budget.values:
            self._refuse(event, f"more than {self.budget.values} values: use fewer aliases")

    def _problem(self, event: yaml.Event, pointer: str, sentence: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            raise DefinitionError(self.problems)
        line, column = _position(event)
        self.problems.append(Problem(self.file, line, column, pointer, sentence))

    def _refuse(self, event: yaml.Event, sentence: str) -> None:
        """A problem after which reading on makes no sense."""
        self._problem(event, self._pointer(), sentence)
        raise DefinitionError(self.problems)

    def _marked(self, error: yaml.MarkedYAMLError) -> str:
        mark = error.problem_mark or error.context_mark
        where = f"{self.file}:{mark.line + 1}:{mark.column + 1}" if mark else self.file
        return f"{where}: not YAML: {error.problem or error.context}"


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
