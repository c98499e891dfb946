"""Results, fired timers and the shell's own faults: checked against what is open, then applied."""

from __future__ import annotations

from typing import Any

from orchestrator.machine import calling
from orchestrator.machine.errors import Fault, mended
from orchestrator.machine.step import Step
from wf.messages import COMPLETED, OUTCOMES

JsonObject = dict[str, Any]

_MAX_NUMBER = 2**63


def reason_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why a result, timer or fault of a run has no effect; None when it has."""
    kind = event["kind"]
    if kind == "timer":
        number = event.get("timer")
        if not _is_number(number):
            return "malformed"
        return None if str(number) in snapshot["timers"] else "late"
    number = event.get("run")
    if not _is_number(number):
        return "malformed"
    run = snapshot["runs"].get(str(number))
    if run is None:
        return "late"
    return None if kind == "fault" else _result(snapshot, run, event)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_NUMBER


def _result(snapshot: JsonObject, run: JsonObject, event: JsonObject) -> str | None:
    attempt, outcome = event.get("attempt"), event.get("outcome")
    if event.get("activity") != run["activity"]:
        return "activity"
    if type(attempt) is not int or type(outcome) is not str or outcome not in OUTCOMES:
        return "malformed"
    if outcome == COMPLETED:
        return None if run.get("first", 1) <= attempt <= run["attempt"] else "late"
    put_off = "timer" in snapshot["frames"][run["frame"]]  # the attempt is not dispatched yet
    return "late" if attempt != run["attempt"] or put_off else None


def apply(step: Step, event: JsonObject) -> None:
    """Apply an event that is not to be ignored."""
    kind = event["kind"]
    if kind == "timer":
        _fire(step, event["timer"])
    elif kind == "fault":
        _fault(step, str(event["run"]), event)
    elif event["outcome"] == COMPLETED:
        calling.succeed(step, str(event["run"]), event["attempt"], event.get("output"))
    else:
        calling.fail(step, str(event["run"]), event)


def _fire(step: Step, number: int) -> None:
    frame: str = step.timers.pop(str(number))["frame"]
    step.edit(frame).pop("timer", None)
    place = step.frames[frame]["node"]
    step.history.append({"type": "timer.fired", "pointer": place, "timer": number})
    step.later(frame, step.handler(step.node(frame)).timer_fired)


def _fault(step: Step, run: str, event: JsonObject) -> None:
    """The shell could not do what the run needs; another attempt would fail the same way."""
    state = step.runs[run]
    error = mended(event.get("error"), state["pointer"])
    step.history.append(
        {
            "type": "run.failed",
            "pointer": state["pointer"],
            "run": int(run),
            "attempt": state["attempt"],
            "activity": state["activity"],
            "outcome": "failed",
        }
    )
    calling.end(step, run, Fault(error, retryable=False))
