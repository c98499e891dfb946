"""Which run a call is when the `try` around it is tried again.

A `try` repeats its whole block. A call in it is then the same piece of work once more, so it keeps
its run, and with it its idempotency key: a payment that was made although its answer was lost is
not made twice. It gets the run's next attempt number, and results of attempts before that one do
not count for it (docs/decisions).

The outermost `try` with a retry policy remembers the runs of its block: `calls` of this attempt,
`again` of the one before, each place → [[run, attempt], …] in the order in which they ended, with
the details of the last heartbeat as a third where there are any. A place is the pointer of the
call and, inside of `for`, the indexes of the iterations: `/do/0/pay#3`.
"""

from __future__ import annotations

from typing import Any

from orchestrator.definition.compiler.nodes import Task, Try
from orchestrator.machine.kernel.occurrence import occurrence_of
from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]

REMEMBERED = 50  # per place: a block that jumps back thousands of times is not remembered whole
PLACES = 1000  # nor is a loop of more iterations than this


def again(step: Step, frame: str, pointer: str) -> tuple[int, int, Any] | None:
    """(run, next attempt, heartbeat details) of the call at `pointer` in the attempt before; None:
    a new run."""
    owner = _owner(step, frame)
    if owner is None or not step.frames[owner].get("again"):
        return None
    place = occurrence_of(step, frame, pointer)
    if place not in step.frames[owner]["again"]:
        return None
    state = step.edit(owner)
    (number, attempt, *details), *rest = state["again"][place]
    state["again"] = {**state["again"], place: rest}
    if not rest:
        del state["again"][place]
    return number, attempt + 1, details[0] if details else None


def remember(step: Step, frame: str, number: int, run: JsonObject) -> None:
    """The run of this frame has ended as it is."""
    owner = _owner(step, frame)
    if owner is None:
        return
    place = occurrence_of(step, frame, run["pointer"])
    calls: JsonObject = step.frames[owner].get("calls", {})
    ended: list[list[Any]] = calls.get(place, [])
    if len(ended) < REMEMBERED and (ended or len(calls) < PLACES):
        entry = [number, run["attempt"], *([run["details"]] if "details" in run else [])]
        step.edit(owner)["calls"] = {**calls, place: [*ended, entry]}


def forget(step: Step, frame: str, pointer: str, number: int) -> None:
    """The run has not ended after all: a `retry` of the instance goes on with it."""
    owner = _owner(step, frame)
    place = occurrence_of(step, frame, pointer)
    if owner is None or place not in step.frames[owner].get("calls", ()):
        return
    calls: JsonObject = step.frames[owner]["calls"]
    others = [ended for ended in calls[place] if ended[0] != number]
    step.edit(owner)["calls"] = {**calls, place: others}


def begin_again(step: Step, frame: str) -> None:
    """The `try` of this frame is tried again: the runs of its block are to come once more."""
    state = step.edit(_owner(step, frame) or frame)
    calls: JsonObject = state.get("calls", {})
    block = f"{step.task(frame).pointer}/try/"
    repeated = {pointer: ended for pointer, ended in calls.items() if pointer.startswith(block)}
    state["calls"] = {pointer: calls[pointer] for pointer in calls if pointer not in repeated}
    state["again"] = {**state.get("again", {}), **repeated}


def _owner(step: Step, frame: str) -> str | None:
    """The outermost frame around that may repeat its block."""
    found: str | None = None
    inside = frame
    while parent := step.frames[inside]["parent"]:
        node = step.node(parent)
        if isinstance(node, Task) and isinstance(node.body, Try):
            state = step.frames[parent]
            if node.body.retry is not None and not state.get("caught"):
                found = parent
        inside = parent
    return found
