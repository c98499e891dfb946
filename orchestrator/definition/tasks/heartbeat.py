"""`metadata.wf.scheduleToStart` and `metadata.wf.heartbeat`: what is seen of a call's worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.definition.compiler import durations
from orchestrator.definition.compiler.compiler import Compiler
from orchestrator.definition.compiler.metadata import HEARTBEAT, SCHEDULE_TO_START
from orchestrator.definition.compiler.nodes import Call, Liveness
from wf.protocol.subjects import RESERVED_PREFIX

HEARTBEAT_FROM_MS = 1000  # each is a commit of the instance
_MOST_MS = 366 * 86_400_000


def watched(compiler: Compiler, pointer: str, source: dict[str, Any], compiled: Call) -> Call:
    """`compiled` with what its task says, if anything."""
    metadata = source.get("metadata")
    found = metadata.get("wf") if type(metadata) is dict else None
    if type(found) is not dict or not (HEARTBEAT in found or SCHEDULE_TO_START in found):
        return compiled
    place = f"{pointer}/metadata/wf"
    if HEARTBEAT in found and compiled.activity.startswith(RESERVED_PREFIX):
        compiler.problems.add(
            f"{place}/{HEARTBEAT}",
            "calls that are built in send no heartbeats: remove it, and give the task a `timeout`",
        )
    start_ms = _limit(compiler, place, found, SCHEDULE_TO_START, 1)
    heartbeat_ms = _limit(compiler, place, found, HEARTBEAT, HEARTBEAT_FROM_MS)
    return replace(compiled, liveness=Liveness(start_ms, heartbeat_ms))


def _limit(
    compiler: Compiler, place: str, found: dict[str, Any], key: str, least_ms: int
) -> int | None:
    if key not in found:
        return None
    place, value = f"{place}/{key}", found[key]
    if "${" in str(value):
        compiler.problems.add(place, f"is no expression: {durations.RULE}")
        return None
    try:
        limit_ms = durations.from_value(value)
    except durations.DurationError as error:
        compiler.problems.add(place, str(error))
        return None
    if not least_ms <= limit_ms <= _MOST_MS:
        compiler.problems.add(place, f"must be from {least_ms / 1000:g} s to a year")
        return None
    return limit_ms
