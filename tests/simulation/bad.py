"""Instances that are bad: of flow `poison` something kills who does it, of `raises` it raises.

Which, says the number that they are started with: the start, the encoding of any state, a result, a
timer, or the encoding of the state that waits.
"""

from __future__ import annotations

from typing import Any

from orchestrator.machine import TERMINAL

POISON, RAISES = "poison", "raises"
_EVENTS = {"start": 0, "result": 2, "timer": 3}
_SEALED, _SEALED_WAITING = 1, 4


def event(flow: str, before: Any, event: Any) -> str | None:
    """The instance of this flow to which a bad event is applied."""
    number = _EVENTS.get(event["kind"])
    if event["kind"] == "start":
        matches = event["workflow"] == flow and event["input"] == {"n": number}
        return event["id"] if matches and "refused" not in event else None
    if before is None or before["workflow"] != flow or before["status"] in TERMINAL:
        return None
    return before["id"] if before["input"] == {"n": number} else None


def state(flow: str, snapshot: Any) -> str | None:
    """The instance of this flow whose state is bad."""
    if snapshot["workflow"] != flow:
        return None
    given, waits = snapshot["input"], bool(snapshot["timers"])
    is_bad = given == {"n": _SEALED} or (given == {"n": _SEALED_WAITING} and waits)
    return snapshot["id"] if is_bad else None
