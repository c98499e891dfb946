"""Commands: suspend, resume, cancel. Each is applied once, and in the order that it was stored."""

from __future__ import annotations

from typing import Any

from orchestrator.machine.control import event_table
from orchestrator.machine.kernel import compensate, deduplication, ending
from orchestrator.machine.kernel.errors import runtime_error
from orchestrator.machine.kernel.finish import finish
from orchestrator.machine.kernel.step import TERMINAL, Step
from wf.protocol.messages import COMPLETED, EXPIRED, HEARTBEAT, OVERDUE, REDELIVERED, STARTED

JsonObject = dict[str, Any]

VERBS = frozenset({"cancel", "suspend", "resume"})  # of an instance that has not ended
RETRY = "retry"  # of one that has (orchestrator/machine/control/retry.py)

_ENDED = 3  # the rank of a failure, a fault, and whatever there is one of only
_RANKS = {OVERDUE: 0, STARTED: 1, HEARTBEAT: 1, EXPIRED: 2, REDELIVERED: 2, COMPLETED: 4}


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why a command has no effect; None when it has."""
    verb = event.get("verb")
    if type(verb) is not str or verb not in VERBS:
        return "not faulted" if verb == RETRY else "verb"
    reason = deduplication.before(snapshot, event)
    if reason is not None:
        return reason
    if verb == "cancel":
        return None
    if event["sequence"] < snapshot["control_sequence"]:
        return "stale"
    return None


def apply(step: Step, event: JsonObject) -> None:
    """Apply a command that is not to be ignored."""
    verb, sequence = event["verb"], event["sequence"]
    deduplication.remember(step, sequence)
    reason = {"reason": event["reason"]} if type(event.get("reason")) is str else {}
    if verb == "cancel":
        _cancel(step, event, reason)
        return
    step.snapshot["control_sequence"] = sequence
    if (verb == "suspend") == (step.snapshot["status"] == "suspended"):
        # It changes nothing now, but an older command that comes after it must not count.
        step.history.append({"type": "command.redundant", "verb": verb, "sequence": sequence})
    elif verb == "suspend":
        step.snapshot["status"] = "suspended"
        step.snapshot["held"] = []
        step.history.append({"type": "instance.suspended", "status": "suspended", **reason})
        step.note_open("task.suspended")
    else:
        _resume(step, reason)


def _cancel(step: Step, event: JsonObject, reason: JsonObject) -> None:
    """End the instance; what has been done is undone first, unless that is not to be waited for."""
    if event.get("now") is True:
        detail = event.get("reason", "it was cancelled with `now`")
        error = runtime_error("Cancelled at once", str(detail), "/")
        if compensate.under_way(step.snapshot):
            compensate.abort(step, error)
            return
        compensate.set_aside(step, error)
    elif compensate.under_way(step.snapshot):
        sequence = event["sequence"]  # once more, by somebody impatient: that must not stop it
        step.history.append({"type": "command.redundant", "verb": "cancel", "sequence": sequence})
        return
    elif compensate.is_due(step):
        compensate.begin(step, "cancelled", reason)
        return
    elif compensate.has_any(step.snapshot):
        compensate.set_aside(step, runtime_error("Cancelled", "its definition is gone", "/"))
    step.snapshot.update(reason)
    finish(step, "cancelled", **reason)


def _resume(step: Step, reason: JsonObject) -> None:
    step.snapshot["status"] = ending.active_status(step)
    step.history.append({"type": "instance.resumed", "status": step.snapshot["status"], **reason})
    step.note_open("task.resumed")


def catch_up(step: Step) -> None:
    """Apply what came while suspended, in order, if the instance is suspended no more."""
    if step.snapshot["status"] == "suspended":
        return
    held = step.snapshot.pop("held", [])
    for event in held:
        if step.snapshot["status"] in TERMINAL:
            return
        # An earlier one of them may have closed what this one was for.
        if event_table.reason_to_ignore(step.snapshot, event) is None:
            event_table.apply(step, event)
            ending.run(step)


def hold(step: Step, event: JsonObject) -> str | None:
    """Keep an event until the instance is resumed; why not, when one for it is kept already.

    One takes the place of another only if it ranks higher: it must not come back after that one.
    """
    reason = event_table.unfit(step, event)
    if reason is not None:
        return reason
    key = event_table.held_under(event)
    held: list[JsonObject] = step.snapshot["held"]
    for index, other in enumerate(held):
        if event_table.held_under(other) == key and other[key] == event[key]:
            if _rank(event) <= _rank(other):
                return "duplicate"
            held = [*held[:index], *held[index + 1 :]]
            break
    kept = {name: value for name, value in event.items() if name != "facts"}
    step.snapshot["held"] = [*held, kept]
    what = {"match": "event", "sequence": "signal", "turn": "place"}.get(key, key)
    step.history.append({"type": f"{what}.held", key: event[key]})
    return None


def _rank(event: JsonObject) -> int:
    """How firm is what an event says of its run. A success would have won at any time. Silence
    (liveness.py) is the first that may not hold any more when the instance is resumed."""
    return _RANKS.get(event["outcome"], _ENDED) if event["kind"] == "result" else _ENDED
