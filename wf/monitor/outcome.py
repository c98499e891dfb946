"""What is said of a task whose worker died. Pure: the death and the task in, the result out."""

from __future__ import annotations

from typing import Any

from wf.errors import MessageError
from wf.jetstream.port import Outgoing, Stored
from wf.protocol import messages, problem_details, subjects
from wf.protocol.messages import JsonObject

HANDED_BACK = "handed-back"
_SHARE_OF_ACK_WAIT = 0.6  # leases are renewed every third: later, the broker delivers it again
_TITLES = {
    messages.CRASHED: "Worker crashed",
    messages.OUT_OF_MEMORY: "Worker ran out of memory",
    messages.TIMED_OUT: "Activity timed out",
}


def is_stale(death: JsonObject, now_s: float) -> bool:
    """Whether the broker delivers the tasks again by itself: a report would only add a copy."""
    return now_s - float(death["died_s"]) > _SHARE_OF_ACK_WAIT * float(death["ack_wait_s"])


def is_lost(death: JsonObject) -> bool:
    """Whether the broker may have given the worker's tasks to others before it died: a hand-back
    would only make another copy."""
    silent_s = float(death["died_s"]) - float(death["alive_s"])
    return silent_s > _SHARE_OF_ACK_WAIT * float(death["ack_wait_s"])


def verdict(death: JsonObject, task: JsonObject) -> str:
    """The outcome of one task of a dead worker, or HANDED_BACK."""
    if task["ended"]:
        # Its result may be stored already. If so, that one is first in the stream, and counts.
        return messages.CRASHED
    if death["wanted"] or not task["started_s"]:
        return HANDED_BACK
    if death["cause"] == "hang" and task["deadline_s"] <= death["died_s"]:
        return messages.TIMED_OUT
    return messages.OUT_OF_MEMORY if death["cause"] == "memory" else messages.CRASHED


def suspects(death: JsonObject, task: JsonObject) -> int:
    """How many tasks may have killed the worker, this one included; 0: this one has not.

    When none was running, one that had just ended may have left the damage behind.
    """
    running = int(death["running"])
    if task["ended"]:
        return 0 if running or death["wanted"] else sum(1 for one in death["tasks"] if one["ended"])
    if death["cause"] != "hang":
        return running
    overdue = sum(
        1
        for one in death["tasks"]
        if one["started_s"] and not one["ended"] and one["deadline_s"] <= death["died_s"]
    )
    return 0 if overdue else running


def result(
    death: JsonObject, task: JsonObject, stored: Stored, *, worker: str, retry: JsonObject | None
) -> Outgoing:
    """The message for the engine. Raises MessageError when the task itself cannot be read."""
    body = messages.decode(stored.data, stored.subject)
    activity = stored.subject.rpartition(".")[2]
    try:
        instance = subjects.check_name("instance", str(body["instance"]))
        run, attempt = int(body["run"]), int(body["attempt"])
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"{stored.subject}: not a task: {error!r}") from error
    outcome = verdict(death, task)
    failed = messages.failed_body(
        run=run,
        attempt=attempt,
        outcome=outcome,
        error=_error(death, task, outcome, activity),
        retry=retry if outcome == messages.TIMED_OUT else None,
        crash_limit=int(death["crash_limit"]) if outcome != messages.TIMED_OUT else None,
        suspects=suspects(death, task) if outcome != messages.TIMED_OUT else None,
        evidence=_evidence(death, task, stored, worker),
    )
    trace = (stored.headers or {}).get("traceparent")
    return Outgoing(
        subjects.completed(instance, activity),
        messages.encode(failed),
        message_id=messages.result_message_id(instance, run, attempt, outcome),
        headers={"traceparent": trace} if trace else None,
    )


def _error(death: JsonObject, task: JsonObject, outcome: str, activity: str) -> JsonObject:
    ran_s = float(death["died_s"]) - float(task["started_s"])
    how = f"its worker ended with {death['how']} after it had run for {ran_s:.1f} s"
    if outcome == messages.TIMED_OUT:
        how = f"it blocked its worker past its timeout; {how}"
    elif death["reason"]:
        how = f"{how}: {death['reason']}"
    timed_out = outcome == messages.TIMED_OUT
    return problem_details.problem(
        type=problem_details.TIMEOUT if timed_out else problem_details.RUNTIME,
        status=408 if timed_out else 500,
        title=_TITLES[outcome],
        detail=f"{activity}: {how}",
    )


def _evidence(death: JsonObject, task: JsonObject, stored: Stored, worker: str) -> JsonObject:
    facts: dict[str, Any] = {
        "worker": worker,
        "pid": death["pid"],
        "cause": death["cause"],
        "exit_status": death["exit_status"],
        "signal": death["signal"],
        "reason": death["reason"],
        "peak_memory_bytes": death["peak_bytes"],
        "ran_s": round(float(death["died_s"]) - float(task["started_s"]), 3),
        "running": death["running"],
        "stream": "ACTIVITY_TASKS",
        "sequence": stored.sequence,
        "subject": stored.subject,
        "stack_dump": death["dump"] or None,
    }
    return {key: value for key, value in facts.items() if value is not None}
