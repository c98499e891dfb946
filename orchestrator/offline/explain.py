"""`wf explain`: one offline run of a definition, as plain JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.definition import parse
from orchestrator.offline.simulator import MAX_EVENTS, Asked, Offline, publish
from orchestrator.offline.stubs import read_stubs
from orchestrator.offline.task_trace import Seen, Watcher
from wf.protocol.messages import COMPLETED

JsonObject = dict[str, Any]


def explain(
    source: str | bytes,
    file: str,
    input: Any,
    stubs: Mapping[str, Any],
    now_ms: int,
    events: Sequence[JsonObject] = (),
) -> JsonObject:
    """Run the definition with stubbed activities, and say what every task got and gave.

    `stubs`: by activity name or task pointer (orchestrator/offline/stubs.py); `events`:
    CloudEvents that
    come, each after its `$after`. The answer is what
    `wf explain --json` prints (docs/guide.md). Raises DefinitionError.
    """
    definition = parse(source, file)
    watcher = Watcher()
    offline = Offline(definition, read_stubs(stubs), now_ms, step_type=watcher.step)
    for number, event in enumerate(events, 1):
        publish(offline, number, event)
    offline.start(input)
    applied = 0
    while applied < MAX_EVENTS and offline.step() is not None:
        watcher.settle(offline.state["frames"])
        applied += 1
    watcher.settle(offline.state["frames"])
    return _shape(offline, watcher, whole=applied < MAX_EVENTS)


def _shape(offline: Offline, watcher: Watcher, *, whole: bool) -> JsonObject:
    state = offline.state
    shape: JsonObject = {
        "workflow": offline.definition.qualified,
        "version": offline.definition.version,
        "status": state["status"],
        "took_ms": offline.now_ms - state["started_ms"],
        "input": state["input"],
        "context": state["context"],
    }
    for key in ("output", "error"):
        if key in state:
            shape[key] = state[key]
    shape["tasks"] = [_task(seen) for seen in watcher.seen]
    shape["calls"] = [_call(asked) for asked in offline.asked]
    shape["notes"] = _notes(offline, watcher, whole)
    return shape


def _task(seen: Seen) -> JsonObject:
    shape: JsonObject = {
        "pointer": seen.pointer,
        "name": seen.name,
        "kind": seen.kind,
        "depth": seen.depth,
        "status": seen.status,
        "started_ms": seen.started_ms,
        "ended_ms": seen.ended_ms,
        "input": seen.raw if seen.status == "skipped" else seen.input,
    }
    if seen.sent:
        shape["sent"] = seen.sent[-1]
    if seen.status in ("completed", "skipped"):
        shape["output"] = seen.output
    if seen.ended_ms is not None:
        shape["context"] = seen.context
    if seen.error is not None:
        shape["error"] = seen.error
    return shape


def _call(asked: Asked) -> JsonObject:
    answer = asked.answer
    shape: JsonObject = {
        "run": asked.run,
        "attempt": asked.attempt,
        "activity": asked.activity,
        "pointer": asked.pointer,
        "input": asked.input,
        "outcome": answer.outcome,
    }
    if answer.outcome == COMPLETED:
        return {**shape, "output": answer.output, "stubbed": answer.stubbed}
    return {**shape, "error": answer.error, "stubbed": answer.stubbed}


def _notes(offline: Offline, watcher: Watcher, whole: bool) -> list[str]:
    """What a person must know to read the rest rightly."""
    without = dict.fromkeys(one.activity for one in offline.asked if not one.answer.stubbed)
    notes = [f"no stub for {name}: it gave null (--stub {name}=JSON)" for name in without]
    if not whole:
        notes.append(f"stopped after {MAX_EVENTS} events: look for an endless loop")
    elif not offline.has_ended:
        waiting = [seen.pointer for seen in watcher.seen if seen.status == "open"]
        notes.append(f"it waits for something that no stub gives, in {', '.join(waiting)}")
    return notes
