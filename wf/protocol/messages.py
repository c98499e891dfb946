"""Bodies on the wire, version 1 (docs/protocol.md has them in words).

Bodies are JSON objects with `"v": 1`. Unknown fields are ignored; an unknown version raises
MessageError, and the receiver dead-letters the message. Key order is fixed by the builders here
and held still by golden-bytes tests.
"""

from __future__ import annotations

from typing import Any

from wf.errors import MessageError
from wf.protocol import gate

VERSION = 1
JsonObject = dict[str, Any]

# How a run ended, as its result message says.
COMPLETED = "completed"  # the activity returned: `output`
FAILED = "failed"  # the activity raised: `error`, `retryable`, maybe `retry`
TIMED_OUT = "timed-out"  # past its timeout: `error`
CRASHED = "crashed"  # its worker died while it ran: `error`, `evidence`
OUT_OF_MEMORY = "out-of-memory"  # the same, by the kernel's out-of-memory killer
UNDELIVERABLE = "undeliverable"  # the last delivery that max_deliver allows, not run: `error`
OUTCOMES = frozenset({COMPLETED, FAILED, TIMED_OUT, CRASHED, OUT_OF_MEMORY, UNDELIVERABLE})

# What is said besides of an attempt whose task has `liveness`.
STARTED = "started"  # it is about to run; maybe `retry`
HEARTBEAT = "heartbeat"  # it still runs; maybe `details`
EXPIRED = "expired"  # it came to a worker after `start_by_ms`, and was not run
REDELIVERED = "redelivered"  # it came once more, so whoever had it is gone; it was not run
OVERDUE = "overdue"  # the engine's own: its time was up; maybe `heard_ms`
SIGNS_OF_LIFE = frozenset({STARTED, HEARTBEAT})
SIGNS = frozenset({*SIGNS_OF_LIFE, EXPIRED, REDELIVERED, OVERDUE})

START_GRACE_MS = 1000  # after `start_by_ms`: for the word of a start to be stored


def encode(body: JsonObject) -> bytes:
    """Compact JSON. Raises MessageError with the place of what JSON cannot hold
    (wf/protocol/gate.py).
    """
    return gate.encode(body, "message")


def decode(data: bytes, what: str = "message", *, depth: int = gate.MAX_DEPTH) -> JsonObject:
    """The body, checked for being an object of version 1. Raises MessageError.

    `depth`: gate.STORED_DEPTH for what the engine wraps around events, such as history.
    """
    body = gate.decode(data, what, depth=depth)
    if not isinstance(body, dict):
        raise MessageError(f"{what}: expected a JSON object, found {type(body).__name__}")
    version = body.get("v")
    if type(version) is not int or version != VERSION:
        raise MessageError(f'{what}: version {version!r} is not known; write "v": {VERSION}')
    return body


def start_body(
    *,
    instance: str | None,
    input: Any,
    version: str | None = None,
    parent: JsonObject | None = None,
    depth: int = 0,
) -> JsonObject:
    """`workflow.start.<type>`; without an id the orchestrator derives one from the sequence.

    `parent`: {"id", "run", "awaited"} of the instance whose run this is, `depth` how many
    workflows have run each other up to here.
    """
    body: JsonObject = {"v": VERSION}
    if instance is not None:
        body["id"] = instance
    if version is not None:
        body["version"] = version
    if parent is not None:
        body["parent"] = parent
        body["depth"] = depth
    body["input"] = input
    return body


def child_body(*, child: str, status: str, **more: Any) -> JsonObject:
    """`workflow.child.completed.<parent>.<run>`. `more`: `output`, `error` or `reason`."""
    return {"v": VERSION, "child": child, "status": status, **more}


def task_body(
    *,
    instance: str,
    workflow: str,
    version: str,
    run: int,
    attempt: int,
    pointer: str,
    input: Any,
    alone: bool = False,
    liveness: JsonObject | None = None,
) -> JsonObject:
    """`activity.tasks.<activity>`. `workflow` is qualified, `pointer` the task's JSON pointer.

    `alone`: a worker died while the run was with it, so its process runs nothing beside it.
    `liveness`: {"start_by_ms"?, "heartbeat_ms"?, "details"?}, when the definition wants to be told.
    """
    body = {
        "v": VERSION,
        "instance": instance,
        "workflow": workflow,
        "version": version,
        "run": run,
        "attempt": attempt,
        "pointer": pointer,
        "input": input,
    }
    if alone:
        body["alone"] = True
    if liveness is not None:
        body["liveness"] = liveness
    return body


def sign_body(*, run: int, attempt: int, outcome: str, **more: Any) -> JsonObject:
    """One of SIGNS. `more`: `retry` when it started (as in `failed_body`), `details` of a
    heartbeat, `heard_ms` of what is overdue."""
    return {"v": VERSION, "run": run, "attempt": attempt, "outcome": outcome, **more}


def completed_body(*, run: int, attempt: int, output: Any) -> JsonObject:
    return {"v": VERSION, "run": run, "attempt": attempt, "outcome": COMPLETED, "output": output}


def failed_body(
    *,
    run: int,
    attempt: int,
    outcome: str,
    error: JsonObject,
    retryable: bool = True,
    retry: JsonObject | None = None,
    crash_limit: int | None = None,
    suspects: int | None = None,
    evidence: JsonObject | None = None,
    heartbeat_details: Any = None,
) -> JsonObject:
    """A result that is not a success.

    `error`: RFC 7807 {type, status, title, detail, traceback?}. `retry`: the activity's default
    policy (decorator or pool.toml), which holds when no `try` of the definition governs the call:
    {"max_attempts": int, "delay_s": float, "backoff": "constant"|"linear"|"exponential",
    "max_delay_s": float, "jitter": float 0…1}. `crash_limit` goes with crashed outcomes, and
    so does `suspects`: how many tasks were running when the worker died, this one included; 0 when
    this one is not suspected.
    `evidence`: what dead letters keep (exit status, signal, memory, stack dump, deliveries).
    `heartbeat_details`: of the last heartbeat, for the next attempt.
    """
    body: JsonObject = {
        "v": VERSION,
        "run": run,
        "attempt": attempt,
        "outcome": outcome,
        "error": error,
        "retryable": retryable,
    }
    if retry is not None:
        body["retry"] = retry
    if crash_limit is not None:
        body["crash_limit"] = crash_limit
    if suspects is not None:
        body["suspects"] = suspects
    if evidence is not None:
        body["evidence"] = evidence
    if heartbeat_details is not None:
        body["heartbeat_details"] = heartbeat_details
    return body


def command_body(*, reason: str | None = None, **more: Any) -> JsonObject:
    """`workflow.command.requested.<id>.<verb>`. `more` goes with a retry: `from` (a task's JSON
    pointer) and `input`, or `parent` (true) when a parent that goes on asks for it; or with a
    cancel: `now` (true) to undo nothing first."""
    body: JsonObject = {"v": VERSION}
    if reason is not None:
        body["reason"] = reason
    return {**body, **more}


def signal_body(*, data: Any) -> JsonObject:
    return {"v": VERSION, "data": data}


def matched_body(*, event: Any, sequence: int, time_ms: int, entry: str) -> JsonObject:
    """A CloudEvent for one listener: `sequence` and `time_ms` are those of CLOUD_EVENTS, `entry`
    the key in WORKFLOW_LISTENERS that it was found by."""
    return {
        "v": VERSION,
        "sequence": sequence,
        "time_ms": time_ms,
        "entry": entry,
        "cloud_event": event,
    }


def listener_body(*, from_ms: int, correlate: Any) -> JsonObject:
    """An entry of WORKFLOW_LISTENERS; `correlate`: (name, expression) of each correlation."""
    return {"v": VERSION, "from_ms": from_ms, "correlate": correlate}


def collection_body(*, seen: list[Any], open: list[Any], done: list[Any]) -> JsonObject:
    """An entry of WORKFLOW_COLLECTIONS (orchestrator/machine/events/trigger_sets.py)."""
    return {"v": VERSION, "seen": seen, "open": open, "done": done}


def place_body() -> JsonObject:
    """An entry of WORKFLOW_PLACES: its key says it all."""
    return {"v": VERSION}


def admit_body(*, turn: int, entry: str) -> JsonObject:
    """`workflow.command.requested.<id>.admit`: the instance has a place. `entry` is the key in
    WORKFLOW_PLACES that it is for, `turn` the last part of that."""
    return {"v": VERSION, "turn": turn, "entry": entry}


def worker_body(
    *,
    host: str,
    name: str,
    pid: int,
    started_ms: int,
    written_ms: int,
    activities: JsonObject,
) -> JsonObject:
    """An entry of POOL_STATUS by which a client worker tells that it is there. `activities`:
    name → {"running", "concurrency"}."""
    return {
        "v": VERSION,
        "host": host,
        "name": name,
        "pid": pid,
        "started_ms": started_ms,
        "written_ms": written_ms,
        "activities": activities,
    }


def timer_body(*, timer: int) -> JsonObject:
    return {"v": VERSION, "timer": timer}


def schedule_body(*, schedule: str, due_ms: int) -> JsonObject:
    """`workflow.timer.scheduled.start.<namespace>.<name>`, and the same when it has fired."""
    return {"v": VERSION, "schedule": schedule, "due_ms": due_ms}


def start_message_id(instance: str) -> str:
    return f"start:{instance}"


def task_message_id(instance: str, run: int, attempt: int) -> str:
    return f"{instance}:{run}:{attempt}"


def result_message_id(instance: str, run: int, attempt: int, outcome: str) -> str:
    """`…:done` for what the activity itself gave, `…:crashed` for what was said of its worker,
    `…:<outcome>` for signs."""
    if outcome in SIGNS:
        return f"{instance}:{run}:{attempt}:{outcome}"
    suffix = "crashed" if outcome in (CRASHED, OUT_OF_MEMORY, UNDELIVERABLE) else "done"
    return f"{instance}:{run}:{attempt}:{suffix}"


def matched_message_id(instance: str, listener: str, sequence: int) -> str:
    return f"{instance}:{listener}:event:{sequence}"


def admit_message_id(instance: str, turn: int) -> str:
    return f"{instance}:admit:{turn}"


def history_message_id(instance: str, commit: int, n: int) -> str:
    return f"{instance}:{commit}:{n}"
