"""What is heard of the worker of a call that has `scheduleToStart` or `heartbeat`.

Such a run has `liveness`, as its task tells the worker: `start_by_ms`, `heartbeat_ms`, and
`details` of the attempt before. Once the worker has said that the attempt runs there is
`heard_ms`, when it was last heard of, and maybe `beat_ms` (of its last heartbeat), `retry` (the
activity's policy), `details` (of the last heartbeat) and `spared_ms` (the `heard_ms` of a silence
that may have been the broker's own).

The frame's timer `liveness` fires when nothing was heard in time. Timers come in a stream of their
own, so a sign of life that was stored before may still be on its way. Therefore the timer decides
nothing: it has `overdue` stored among the results, where the order of storing is what counts.
"""

from __future__ import annotations

from typing import Any

from orchestrator.machine.kernel.errors import TIMEOUT, error_object
from orchestrator.machine.kernel.step import LIVENESS, Step
from wf.protocol.messages import (
    EXPIRED,
    HEARTBEAT,
    OVERDUE,
    REDELIVERED,
    SIGNS_OF_LIFE,
    STARTED,
)

JsonObject = dict[str, Any]

# What a worker may be late with its word, and how far its clock may be off.
MARGIN_MS = 2000
_OF_ONE_ATTEMPT = ("liveness", "heard_ms", "beat_ms", "retry", "spared_ms")


def is_sign_of_life(event: JsonObject) -> bool:
    """Whether the event says that an attempt runs, and nothing more."""
    outcome = event.get("outcome")
    return event.get("kind") == "result" and type(outcome) is str and outcome in SIGNS_OF_LIFE


def reason_to_ignore(run: JsonObject, event: JsonObject) -> str | None:
    """Why a sign about the current attempt has no effect; None when it has."""
    outcome = event["outcome"]
    if "liveness" not in run or (outcome == HEARTBEAT and "heartbeat_ms" not in run["liveness"]):
        return "unasked"
    if outcome == STARTED and "heard_ms" in run:
        return "duplicate"
    if outcome == OVERDUE and event.get("heard_ms") != run.get("heard_ms"):
        return "late"  # it was heard of since then
    return None


def is_known(step: Step, event: JsonObject) -> bool:
    """Whether this heartbeat, or a later one, has counted already: they are told apart by when they
    were stored. After the broker's clock was set back, silence lasts until it has caught up."""
    if event["outcome"] != HEARTBEAT:
        return False
    beat_ms = step.runs[str(event["run"])].get("beat_ms")
    return beat_ms is not None and step.now_ms <= beat_ms


def begin(step: Step, run: str, start_by_ms: int | None = None) -> None:
    """An attempt is dispatched. `start_by_ms`: of one before that nobody had begun. Raises Fault
    when there are too many timers."""
    state = step.runs[run]
    limits = step.task(state["frame"]).body.liveness
    if limits is None:
        return
    told: JsonObject = {}
    if limits.start_ms is not None:
        told["start_by_ms"] = start_by_ms or step.now_ms + limits.start_ms
    if limits.heartbeat_ms is not None:
        told["heartbeat_ms"] = limits.heartbeat_ms
        if "details" in state:
            told["details"] = state["details"]
    kept = {key: value for key, value in state.items() if key not in _OF_ONE_ATTEMPT}
    step.runs[run] = {**kept, "liveness": told}
    if "start_by_ms" in told:
        left_ms = max(told["start_by_ms"] - step.now_ms, 0)
        step.set_timer(state["frame"], left_ms + MARGIN_MS, LIVENESS)


def end(step: Step, frame: str) -> None:
    """The attempt of this frame is over: nobody is waited for."""
    if LIVENESS in step.frames[frame]:
        step.cancel_timer(step.edit(frame).pop(LIVENESS))


def heard(step: Step, event: JsonObject) -> None:
    """A sign of life."""
    run = str(event["run"])
    state = step.runs[run]
    first = "heard_ms" not in state
    changed = {**state, "heard_ms": step.now_ms}
    if event["outcome"] == HEARTBEAT:
        changed["beat_ms"] = step.now_ms
    changed.update({key: event[key] for key in ("details", "retry") if key in event})
    step.runs[run] = changed
    step.history.append(
        {
            "type": "run.started" if first else "run.heard",
            "pointer": state["pointer"],
            "run": int(run),
            "attempt": state["attempt"],
            "activity": state["activity"],
        }
    )
    frame = state["frame"]
    if first:
        end(step, frame)
    heartbeat_ms = state["liveness"].get("heartbeat_ms")
    if heartbeat_ms is not None and LIVENESS not in step.frames[frame]:
        step.later(frame, Step.set_timer, heartbeat_ms + MARGIN_MS, LIVENESS)


def note_details(step: Step, run: str, event: JsonObject) -> None:
    """A failure tells what the last heartbeat said."""
    state = step.runs[run]
    if "heartbeat_details" in event and "heartbeat_ms" in state.get("liveness", ()):
        step.runs[run] = {**state, "details": event["heartbeat_details"]}


def timer_fired(step: Step, frame: str, due_ms: int) -> None:
    """It is time that something was heard: wait on if it was, else ask the order of results."""
    run = str(step.frames[frame]["run"])
    state = step.runs[run]
    heard_ms = state.get("heard_ms")
    sign: JsonObject = {"run": int(run), "attempt": state["attempt"], "activity": state["activity"]}
    if heard_ms is not None:
        limit_ms: int = state["liveness"]["heartbeat_ms"] + MARGIN_MS
        left_ms = heard_ms + limit_ms - step.now_ms
        if left_ms <= 0 and step.now_ms > due_ms + MARGIN_MS and state.get("spared_ms") != heard_ms:
            # The timer itself is late: while the broker was away, nobody could be heard.
            step.runs[run] = {**state, "spared_ms": heard_ms}
            left_ms = limit_ms
        if left_ms > 0:
            step.set_timer(frame, left_ms, LIVENESS)
            return
        sign["heard_ms"] = heard_ms
    step.send(OVERDUE, sign)


def is_lost(run: JsonObject, outcome: str) -> bool:
    """Whether the worker that had begun the attempt, or held it, is gone without a word."""
    return outcome == REDELIVERED or (outcome == EXPIRED and "heard_ms" in run)


def error_of(step: Step, run: JsonObject, outcome: str) -> JsonObject:
    """Why an attempt ends of which a sign says so."""
    activity, place = run["activity"], run["pointer"]
    if is_lost(run, outcome):
        detail = f"the worker that had the task of {activity} is gone"
        return error_object(TIMEOUT, 408, "Worker lost", detail, place)
    limits = step.task(run["frame"]).body.liveness
    if "heard_ms" in run:
        after_s = run["liveness"]["heartbeat_ms"] / 1000
        detail = (
            f"nothing was heard of the worker of {activity} for {after_s:g} s (heartbeat):"
            " its host, or the way to it, is lost"
        )
        return error_object(TIMEOUT, 408, "Heartbeat missed", detail, place)
    after_s = 0 if limits is None or limits.start_ms is None else limits.start_ms / 1000
    detail = (
        f"no worker began {activity} within {after_s:g} s (scheduleToStart): its pool is busy,"
        " stopped or too small"
    )
    return error_object(TIMEOUT, 408, "Not started in time", detail, place)
