"""The array that a `for` runs over, kept whole and unchanged in the snapshot, so that
it can be stored once (orchestrator/state/large_values.py).

Numbers that follow one another, as `range` gives them, are kept as their bounds.
"""

from __future__ import annotations

from typing import Any

Items = list[Any] | dict[str, int]  # the array, or {"first": integer, "count": how many}


def pack(values: list[Any]) -> Items:
    if len(values) > 2 and all(type(value) is int for value in values):
        first = values[0]
        if all(value == first + at for at, value in enumerate(values)):
            return {"first": first, "count": len(values)}
    return values


def length(items: Items) -> int:
    return items["count"] if isinstance(items, dict) else len(items)


def item(items: Items, at: int) -> Any:
    """The one at index `at`, from 0."""
    return items["first"] + at if isinstance(items, dict) else items[at]
