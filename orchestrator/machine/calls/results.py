"""Results, fired timers and the shell's own faults: checked against what is open, then applied."""

from __future__ import annotations

from typing import Any

from orchestrator.machine.calls import call, heartbeat, timeout
from orchestrator.machine.kernel.errors import Fault, mended
from orchestrator.machine.kernel.handler import handler_of
from orchestrator.machine.kernel.step import LIVENESS, Step
from wf.protocol.messages import COMPLETED, OUTCOMES, SIGNS

JsonObject = dict[str, Any]

_MAX_NUMBER = 2**63


def result_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """Why a result has no effect; None when it has."""
    run, reason = _open_run(snapshot, event)
    return reason if run is None else _result(snapshot, run, event)


def fault_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """The same for a fault of one run."""
    return _open_run(snapshot, event)[1]


def timer_to_ignore(snapshot: JsonObject, event: JsonObject) -> str | None:
    """The same for a timer that fired."""
    number = event.get("timer")
    if not _is_number(number):
        return "malformed"
    return None if str(number) in snapshot["timers"] else "late"


def _open_run(snapshot: JsonObject, event: JsonObject) -> tuple[JsonObject | None, str | None]:
    """The run that the event is about, or why there is none."""
    number = event.get("run")
    if not _is_number(number):
        return None, "malformed"
    run = snapshot["runs"].get(str(number))
    return run, "late" if run is None else None


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_NUMBER


def _result(snapshot: JsonObject, run: JsonObject, event: JsonObject) -> str | None:
    attempt, outcome = event.get("attempt"), event.get("outcome")
    if "child" in run or event.get("activity") != run["activity"]:
        return "activity"  # a child's run has none
    if type(attempt) is not int or type(outcome) is not str:
        return "malformed"
    if outcome not in OUTCOMES and outcome not in SIGNS:
        return "malformed"
    if outcome == COMPLETED:
        return None if run.get("first", 1) <= attempt <= run["attempt"] else "late"
    put_off = "timer" in snapshot["frames"][run["frame"]]  # the attempt is not dispatched yet
    if attempt != run["attempt"] or put_off:
        return "late"
    return heartbeat.reason_to_ignore(run, event) if outcome in SIGNS else None


def unfit(step: Step, event: JsonObject) -> str | None:
    """Why a result that is not to be ignored by what is open has no effect, held or not."""
    return "duplicate" if heartbeat.is_known(step, event) else None


def apply_result(step: Step, event: JsonObject) -> str | None:
    """Apply a result that is not to be ignored; why it is all the same."""
    reason = unfit(step, event)
    if reason is not None:
        return reason
    if event["outcome"] == COMPLETED:
        call.succeed(step, str(event["run"]), event["attempt"], event.get("output"))
    elif heartbeat.is_sign_of_life(event):
        heartbeat.heard(step, event)
    else:
        call.fail(step, str(event["run"]), event)
    return None


def apply_timer(step: Step, event: JsonObject) -> None:
    """A timer that is pending has fired."""
    number: int = event["timer"]
    timer = step.timers.pop(str(number))
    frame: str = timer["frame"]
    state = step.edit(frame)
    step.history.append({"type": "timer.fired", "pointer": state["node"], "timer": number})
    if state.get(timeout.DEADLINE) == number:
        del state[timeout.DEADLINE]
        step.later(frame, timeout.expired)
        return
    if state.get(LIVENESS) == number:
        del state[LIVENESS]
        step.later(frame, heartbeat.timer_fired, timer["due_ms"])
        return
    state.pop("timer", None)
    step.later(frame, handler_of(step, step.node(frame)).timer_fired)


def apply_fault(step: Step, event: JsonObject) -> None:
    """The shell could not do what the run needs; another attempt would fail the same way."""
    run = str(event["run"])
    state = step.runs[run]
    error = mended(event.get("error"), state["pointer"])
    step.history.append(
        {
            "type": "run.failed",
            "pointer": state["pointer"],
            "run": int(run),
            "attempt": state["attempt"],
            "activity": state.get("activity") or state["workflow"],
            "outcome": "failed",
        }
    )
    call.end(step, run, Fault(error, retryable=False, forget=True))
