"""`metadata.wf`: what goes beyond the standard, where documents stay valid elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.definition.compiler.problems import Problems, kind_of

JsonObject = dict[str, Any]

HEARTBEAT = "heartbeat"
SCHEDULE_TO_START = "scheduleToStart"
_OF_CALLS = dict.fromkeys(
    (HEARTBEAT, SCHEDULE_TO_START),
    "is about the worker of an activity: write it at a `call`, or use `timeout`",
)


def task_metadata(
    problems: Problems, pointer: str, source: JsonObject, allowed: Iterable[str]
) -> JsonObject:
    """`metadata.wf` of a task whose kind knows the keys `allowed`; {} without one. Everything else
    in `metadata` is the author's own."""
    if "metadata" not in source:
        return {}
    metadata = problems.mapping(f"{pointer}/metadata", source["metadata"], "metadata")
    if metadata is None or "wf" not in metadata:
        return {}
    place = f"{pointer}/metadata/wf"
    found = problems.mapping(place, metadata["wf"], "`wf`")
    if found is None:
        return {}
    problems.keys(place, found, allowed, _OF_CALLS)
    return found


def count(problems: Problems, place: str, value: Any, what: str) -> int | None:
    """An integer from 1; None when `value` is none, and then that is noted if there is a value."""
    if type(value) is int and value >= 1:
        return value
    if value is not None:
        problems.add(place, f"{what} must be an integer from 1 up, found {kind_of(value)}")
    return None
