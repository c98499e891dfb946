"""What becomes of an event that a listen has taken, and when the listening ends."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.definition.compiler.nodes import Listen
from orchestrator.expressions.jq import Expression
from orchestrator.machine.events.filters import Fit
from orchestrator.machine.flow import blocks, tasks
from orchestrator.machine.kernel.errors import Fault, runtime_error
from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]


def is_open(state: JsonObject) -> bool:
    """Whether a frame is a listen that still takes events."""
    return "seen" in state and not state.get("done")


def consume(
    step: Step, frame: str, event: JsonObject, found: Fit, sequence: int | None = None
) -> None:
    """The event counts for a filter of the listen. `sequence` is None for a signal."""
    entry: JsonObject = {"event": event.get("id"), "event_type": event.get("type")}
    if sequence is not None:
        entry["sequence"] = sequence
    step.note("event.consumed", step.task(frame), **entry)
    body: Listen = step.task(frame).body
    state = step.edit(frame)
    if found.learned:
        state["learned"] = {**state["learned"], **found.learned}
    if _satisfied(state, found) and (found.part == "until" or not _goes_on(body)):
        _stop(step, frame)
    if found.part == "to":
        step.later(frame, _take, sequence, read(event, body.read))
    else:
        step.later(frame, _end_if_drained)


def _satisfied(state: JsonObject, found: Fit) -> bool:
    """Whether the strategy has all that it needs."""
    if found.part not in state["left"]:
        return True
    left = [index for index in state["left"][found.part] if index != found.position]
    state["left"] = {**state["left"], found.part: left}
    return not left


def _goes_on(body: Listen) -> bool:
    """Something else than the first event ends it."""
    return body.forever or body.until is not None or body.until_events is not None


def _stop(step: Step, frame: str) -> None:
    """Take nothing more, and say so outside."""
    state = step.edit(frame)
    state["done"] = True
    for kind, body in state.pop("release", ()):
        step.send(kind, body)


def read(event: JsonObject, how: str) -> Any:
    """The event as the definition wants to see it."""
    if how == "envelope":
        return event
    if "data_base64" in event and "data" not in event:
        return event["data_base64"]
    data = event.get("data")
    if how == "data" or type(data) is str:
        return data
    return orjson.dumps(data).decode()


def _take(step: Step, frame: str, sequence: int | None, value: Any) -> None:
    body: Listen = step.task(frame).body
    state = step.edit(frame)
    if len(state["outputs"]) + len(state.get("queue", ())) >= step.limits.max_listened:
        detail = (
            f"more than {step.limits.max_listened} events in one listen: end it with `until`, "
            "or listen again in a loop"
        )
        raise Fault(runtime_error("Too many events", detail, step.task(frame).pointer), False)
    if body.foreach is None:
        _keep(step, frame, value)
        _end_if_drained(step, frame)
        return
    state["queue"] = [*state["queue"], [sequence, value]]
    if "child" not in state:
        _next(step, frame)


def _next(step: Step, frame: str) -> None:
    """Begin with the next event that waits for its turn."""
    body: Listen = step.task(frame).body
    assert body.foreach is not None
    state = step.edit(frame)
    if not state["queue"] or "child" in state:
        _end_if_drained(step, frame)
        return
    (_, value), *state["queue"] = state["queue"]
    variables = {body.foreach.item: value, body.foreach.at: state["at"]}
    state["at"] += 1
    if body.foreach.block is None:
        iterated(step, frame, value, variables)
        return
    blocks.open_block(step, frame, body.foreach.block, value)
    step.edit(step.frames[frame]["child"])["variables"] = variables


def iterated(step: Step, frame: str, output: Any, variables: JsonObject) -> None:
    """An event has had its turn in `foreach`, which gave `output`."""
    body: Listen = step.task(frame).body
    foreach, task = body.foreach, step.task(frame)
    assert foreach is not None
    kept = step.frames[frame].get("input")
    scope = tasks.scope_inside(step, frame, kept, output=output, variables=variables)
    if foreach.output_as is not None:
        output = step.build(foreach.output_as, output, scope, task.pointer)
    if foreach.export_as is not None:
        scope.transformed = output
        exported = step.build(foreach.export_as, output, scope, task.pointer)
        step.set_context(frame, exported)
    _keep(step, frame, output)
    step.later(frame, _next)


def _keep(step: Step, frame: str, output: Any) -> None:
    """Add to the outputs, and ask the condition in `until`."""
    body: Listen = step.task(frame).body
    state = step.edit(frame)
    if not body.forever:
        state["outputs"] = [*state["outputs"], output]
    if body.until is None or state.get("done") or not _met(step, frame, body.until):
        return
    _stop(step, frame)
    if body.foreach is not None:
        _give_back(step, state["queue"])
        state["queue"] = []


def _met(step: Step, frame: str, condition: Expression) -> bool:
    state, task = step.frames[frame], step.task(frame)
    scope = tasks.scope_inside(step, frame, state.get("input"))
    found = step.evaluate(condition, state["outputs"], scope, task.pointer)
    return found is not None and found is not False


def _give_back(step: Step, queue: list[Any]) -> None:
    """Events that came after the one that met `until` are for whoever listens next."""
    unused = {sequence for sequence, _ in queue}
    consumed = step.snapshot.get("consumed", ())
    step.snapshot["consumed"] = [one for one in consumed if one[0] not in unused]


def _end_if_drained(step: Step, frame: str) -> None:
    """End when nothing more is taken and nothing waits."""
    state = step.frames[frame]
    if not state.get("done") or state.get("queue") or "child" in state:
        return
    keys = {name.rpartition("/")[2]: value for name, value in state["expected"].items()}
    keys.update(state["learned"])
    step.note("listen.completed", step.task(frame), **({"correlated": keys} if keys else {}))
    tasks.complete(step, frame, state["outputs"])
