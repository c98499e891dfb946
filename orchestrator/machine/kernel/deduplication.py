"""Which messages an instance has applied: commands and signals count once."""

from __future__ import annotations

from typing import Any

from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

KEEP_MS = 600_000
KEEP_COUNT = 100


def remember(step: Step, sequence: int) -> None:
    """Keep an applied sequence for ten minutes at least, and the last hundred in any case."""
    applied = [*step.snapshot["applied"], [sequence, step.now_ms]]
    oldest = step.now_ms - KEEP_MS
    spare = len(applied) - KEEP_COUNT
    while spare > 0 and applied[0][1] < oldest:
        applied.pop(0)
        spare -= 1
    step.snapshot["applied"] = applied


def before(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why the sequence of a command rules it out; None when it does not."""
    sequence = event.get("sequence")
    if type(sequence) is not int:
        return "malformed"
    known = any(known == sequence for known, _ in snapshot["applied"])
    return "duplicate" if known else None
