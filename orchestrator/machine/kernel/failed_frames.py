"""What a faulted instance keeps, so that a `retry` can go on: `failed` in its snapshot.

    frames, runs, timers   what was open when it faulted, as it was
    at                     the frame of the task that failed first; not there when the instance was
                           faulted as a whole
    raw                    [what that task was given], when it failed while it was entered

A frame whose run has just ended has it as `spent`. Nothing of `failed` is at work: results and
timers that come for it are late.
"""

from __future__ import annotations

from typing import Any, Protocol

from orchestrator.machine.kernel.errors import Fault

JsonObject = dict[str, Any]


class Tables(Protocol):
    """What is read of a step."""

    snapshot: JsonObject
    frames: dict[str, JsonObject]
    runs: dict[str, JsonObject]
    timers: dict[str, JsonObject]


_TABLES = (("run", "runs"), ("timer", "timers"), ("deadline", "timers"), ("liveness", "timers"))


def begin(fault: Fault, frame: str) -> JsonObject:
    """Where the fault's frames go, from the first one on."""
    if fault.kept is None:
        fault.kept = {"frames": {}, "runs": {}, "timers": {}, "at": frame}
    return fault.kept


def keep(step: Tables, kept: JsonObject, frame: str, state: JsonObject) -> None:
    """A frame is about to be closed."""
    kept["frames"][frame] = state
    for key, table in _TABLES:
        name, entries = str(state.get(key)), getattr(step, table)
        if name in entries:
            kept[table][name] = entries[name]


def store(step: Tables, fault: Fault | None, interrupted: set[str]) -> None:
    """The instance faults: put what the fault has closed, and what is still open, aside.

    Nothing of it where one of these frames was about to do more in this very step (`interrupted`):
    what it was to do is lost, and a retry that waits for it would wait for ever. Then a retry must
    name a task.
    """
    step.snapshot.pop("failed", None)
    if fault is not None and fault.forget:
        return
    kept: JsonObject = {} if fault is None or fault.kept is None else fault.kept
    failed: JsonObject = {}
    for name, table in (("frames", step.frames), ("runs", step.runs), ("timers", step.timers)):
        entries = {**kept.get(name, {}), **table}
        if name == "frames" and not interrupted.isdisjoint(entries):
            return
        if entries:
            failed[name] = entries
    if "at" in kept:
        failed["at"] = kept["at"]
        if fault is not None and fault.raw is not None:
            failed["raw"] = fault.raw
    if failed:
        step.snapshot["failed"] = failed
