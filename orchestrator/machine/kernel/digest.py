"""Hashes of JSON values, for keys of buckets; equal values have equal hashes."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

NO_CORRELATION = "all"

Spec = tuple[tuple[str, str], ...]  # (name, expression) of each correlation, in order of the names


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
