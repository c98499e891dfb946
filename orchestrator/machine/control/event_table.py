"""Which module takes which kind of event of an instance that exists (start and command apart).

Each says why an event has no effect, and applies one that has. `held_under` is what an event that
comes while the instance is suspended is kept by: one only for each value of this key, among the
kinds that have the same (an end of a run may come as each of three).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.machine.calls import child_workflow, results
from orchestrator.machine.control import concurrency
from orchestrator.machine.events import listen, signals
from orchestrator.machine.kernel.step import Step

JsonObject = dict[str, Any]


class Input(NamedTuple):
    reason_to_ignore: Callable[[JsonObject, JsonObject], str | None]  # snapshot, event
    apply: Callable[[Step, JsonObject], str | None]  # a reason: it has no effect after all
    held_under: str  # the event's key that tells it from others of its kind
    unfit: Callable[[Step, JsonObject], str | None] | None = None  # why not to keep it for later


INPUTS: dict[str, Input] = {
    "result": Input(results.result_to_ignore, results.apply_result, "run", results.unfit),
    "fault": Input(results.fault_to_ignore, results.apply_fault, "run"),
    "child": Input(child_workflow.reason_to_ignore, child_workflow.apply, "run"),
    "event": Input(listen.reason_to_ignore, listen.apply, "match", listen.unfit),
    "signal": Input(signals.reason_to_ignore, signals.apply, "sequence", signals.unfit),
    "place": Input(concurrency.reason_to_ignore, concurrency.apply, "turn"),
    "timer": Input(results.timer_to_ignore, results.apply_timer, "timer"),
}


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why an event of these kinds has no effect on a living instance; None when it has."""
    return INPUTS[event["kind"]].reason_to_ignore(snapshot, event)


def apply(step: Step, event: JsonObject) -> str | None:
    """Apply an event that is not to be ignored; why it is all the same, with nothing changed."""
    return INPUTS[event["kind"]].apply(step, event)


def held_under(event: JsonObject) -> str:
    """The key of the event that tells it from all others that may be held with the same key."""
    return INPUTS[event["kind"]].held_under


def unfit(step: Step, event: JsonObject) -> str | None:
    """Why an event that comes while the instance is suspended need not be kept."""
    check = INPUTS[event["kind"]].unfit
    return None if check is None else check(step, event)
