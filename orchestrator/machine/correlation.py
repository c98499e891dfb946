"""Which events may be for which listeners: keys of the index WORKFLOW_LISTENERS.

A key is `<type>.<hash>.<instance>.<listener>`. The hash stands for the values that a filter's
correlations expect and the expressions that find them in an event; without any it is a constant.
The type is encoded as in subjects; `=` alone stands for any type.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import orjson

from wf.subjects import encoded

JsonObject = dict[str, Any]

ANY_TYPE = "="  # no encoded type has this form
NO_CORRELATION = "all"

Spec = tuple[tuple[str, str], ...]  # (name, expression) of each correlation, in order of the names


class Key(NamedTuple):
    """An entry of the index, taken apart."""

    type: str  # encoded, or ANY_TYPE
    hash: str
    instance: str
    listener: str

    @classmethod
    def parse(cls, text: str) -> Key:
        """Raises ValueError for what is no key."""
        type_, hash_, instance, listener = text.rsplit(".", 3)
        return cls(type_, hash_, instance, listener)

    def __str__(self) -> str:
        return ".".join(self)


def type_token(type_: str | None) -> str:
    """The first part of a key; None: any type."""
    return ANY_TYPE if type_ is None else encoded(type_)


def digest(spec: Spec, values: list[Any]) -> str:
    """The hash of correlations and the values that they expect, or that an event has."""
    if not spec:
        return NO_CORRELATION
    text = orjson.dumps([spec, [_plain(value) for value in values]], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but not true."""
    return orjson.dumps(_plain(one), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        _plain(other), option=orjson.OPT_SORT_KEYS
    )


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if kind is list:
        return [_plain(child) for child in value]
    if kind is dict:
        return {key: _plain(child) for key, child in value.items()}
    return value
