"""What is left of the array that a `for` runs over, as it is kept in the snapshot.

Taking an item copies one small chunk and not the rest of the array. Numbers that follow one
another, as `range` gives them, are kept as their bounds.
"""

from __future__ import annotations

from typing import Any

CHUNK = 128

Rest = dict[str, Any]  # {"range": [next, stop]} or {"chunks": [[item, …], …]}


def pack(values: list[Any]) -> Rest:
    """What is left before the first item is taken."""
    if len(values) > 2 and all(type(value) is int for value in values):
        first = values[0]
        if all(value == first + at for at, value in enumerate(values)):
            return {"range": [first, first + len(values)]}
    return {"chunks": [values[at : at + CHUNK] for at in range(0, len(values), CHUNK)]}


def is_empty(rest: Rest) -> bool:
    if "range" in rest:
        return bool(rest["range"][0] >= rest["range"][1])
    return not rest["chunks"]


def first(rest: Rest) -> Any:
    """The next item of what is not empty."""
    return rest["range"][0] if "range" in rest else rest["chunks"][0][0]


def without_first(rest: Rest) -> Rest:
    """What is left after it."""
    if "range" in rest:
        begin, stop = rest["range"]
        return {"range": [begin + 1, stop]}
    chunk, *others = rest["chunks"]
    return {"chunks": [chunk[1:], *others] if len(chunk) > 1 else others}
