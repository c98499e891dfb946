"""Python values as JSON data: what an activity returned, before the gate encodes it. Pure.

Models, dataclasses, decimals, dates, sets and the like have one meaning in JSON. What has none is
refused with its place: keys that fall together as texts, a key None, objects of unknown types.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import inspect
import math
import pathlib
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from wf.errors import MessageError
from wf.protocol import gate

MOST_YIELDED = 100_000  # items of an iterator: it may have no end
_SEQUENCES = (list, tuple, set, frozenset, deque)
_TEXTS = (datetime.date, datetime.time, decimal.Decimal, uuid.UUID, pathlib.PurePath)


def to_json_data(value: Any, what: str = "value") -> Any:
    """`value` made of dicts, lists, texts, numbers, booleans and None. `what` names it in errors.

    Raises MessageError with the JSON pointer of what JSON cannot say, and what user code in the
    value raises (an iterator, a serializer).
    """
    return _Walk(what).convert(value, "", ())


def check_lossless(value: Any, what: str = "value") -> None:
    """Raise MessageError for what pydantic would write otherwise, without a word: keys that JSON
    cannot say or tell apart, and numbers that it has not."""
    _Walk(what).check(value, "", ())


@dataclasses.dataclass(frozen=True, slots=True)
class _Walk:
    what: str

    def refused(self, pointer: str, reason: str) -> MessageError:
        return MessageError(f"{self.what}: {gate.text(pointer, 500) or '/'}: {reason}")

    def convert(self, value: Any, pointer: str, above: tuple[int, ...]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.convert(value.value, pointer, above)
        if isinstance(value, str | int | float):
            return _plain(value)
        above = self._deeper(value, pointer, above)
        if isinstance(value, Mapping):
            return {
                key: self.convert(one, _below(pointer, key), above)
                for key, one in self._entries(value, pointer)
            }
        if isinstance(value, _SEQUENCES):
            return self._items(value, pointer, above)
        if isinstance(value, Iterator):
            items = self._items(islice(value, MOST_YIELDED + 1), pointer, above)
            if len(items) > MOST_YIELDED:
                raise self.refused(pointer, f"an iterator of more than {MOST_YIELDED:,} items")
            return items
        if dataclasses.is_dataclass(value) and not hasattr(value, "__pydantic_serializer__"):
            return {
                name: self.convert(one, _below(pointer, name), above)
                for name, one in _fields(value).items()
            }
        return self._leaf(value, pointer)

    def check(self, value: Any, pointer: str, above: tuple[int, ...]) -> None:
        if isinstance(value, Mapping):
            inner: Iterable[tuple[Any, Any]] = self._entries(value, pointer)
        elif isinstance(value, list | tuple | deque):
            inner = enumerate(value)
        elif isinstance(value, BaseModel):
            inner = value.__dict__.items()
        elif dataclasses.is_dataclass(value):
            inner = _fields(value).items()
        else:
            if isinstance(value, float) and not math.isfinite(value):
                raise self.refused(pointer, f"JSON has no {value}: give null or a string")
            return
        above = self._deeper(value, pointer, above)
        for key, one in inner:
            self.check(one, _below(pointer, key), above)

    def _items(self, value: Iterable[Any], pointer: str, above: tuple[int, ...]) -> list[Any]:
        return [self.convert(one, _below(pointer, at), above) for at, one in enumerate(value)]

    def _deeper(self, value: Any, pointer: str, above: tuple[int, ...]) -> tuple[int, ...]:
        if id(value) in above:
            raise self.refused(pointer, "the value contains itself")
        if len(above) >= gate.VALUE_DEPTH:
            raise self.refused(
                pointer[:40], f"nests deeper than {gate.VALUE_DEPTH} levels: make it flatter"
            )
        return (*above, id(value))

    def _entries(self, value: Mapping[Any, Any], pointer: str) -> Iterable[tuple[str, Any]]:
        seen: dict[str, Any] = {}
        for key, one in value.items():
            name = self._key(key, pointer)
            if name in seen:
                both = f"{gate.text(repr(seen[name]), 80)} and {gate.text(repr(key), 80)}"
                raise self.refused(pointer, f"the keys {both} are the same text in JSON")
            seen[name] = key
            yield name, one

    def _key(self, key: Any, pointer: str) -> str:
        if isinstance(key, Enum):
            return self._key(key.value, pointer)
        if isinstance(key, str):
            return str.__str__(key)
        if isinstance(key, int) and not isinstance(key, bool):
            return int.__repr__(key)
        if isinstance(key, _TEXTS):
            return str(self._leaf(key, pointer))
        raise self.refused(
            pointer, f"the key {gate.text(repr(key), 80)} is no string: write it as one"
        )

    def _leaf(self, value: Any, pointer: str) -> Any:
        kind = type(value).__name__
        if inspect.iscoroutine(value):
            value.close()
            raise self.refused(pointer, "JSON cannot hold a coroutine: await it")
        if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
            self.check(value, pointer, ())
        if isinstance(value, pathlib.PurePath):
            return str(value)
        try:
            return to_jsonable_python(value, by_alias=True)
        except ValueError as error:  # PydanticSerializationError is one
            reason = gate.text(error, 500)
            raise self.refused(pointer, f"JSON cannot hold a {kind}: {reason}") from None


def _plain(value: str | float) -> str | float:
    """Without the subclass, and without what it may have overridden."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    return float.__float__(value)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _below(pointer: str, key: Any) -> str:
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
