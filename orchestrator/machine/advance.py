"""advance: one event applied to one instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.definition import Definition
from orchestrator.expressions.jq import ExpressionError, check_event
from orchestrator.machine.calls import child_workflow, heartbeat
from orchestrator.machine.control import (
    concurrency,
    event_table,
    retry,
    suspend_resume_cancel,
)
from orchestrator.machine.handlers import HANDLERS
from orchestrator.machine.kernel import compensate, ending, next_start
from orchestrator.machine.kernel.commands import DeadLetter, Transition
from orchestrator.machine.kernel.errors import (
    CONFIGURATION,
    VALIDATION,
    error_object,
    mended,
)
from orchestrator.machine.kernel.limits import DEFAULT_LIMITS, Limits
from orchestrator.machine.kernel.step import TERMINAL, Step

JsonObject = dict[str, Any]


def advance(
    definition: Definition | None,
    snapshot: JsonObject | None,
    event: JsonObject,
    now_ms: int,
    limits: Limits = DEFAULT_LIMITS,
    step_type: Callable[..., Step] = Step,
    *,
    reuse: bool = False,
) -> Transition:
    """Apply `event` at `now_ms` (milliseconds since 1970). Pure, total, deterministic.

    `snapshot` is None before the start and is never changed, unless `reuse` says that it came out
    of this function and nobody needs it any more. The events are described in
    machine/__init__.py. Raises nothing for any JSON in events and in snapshots that it made.
    `step_type` is for onlookers (orchestrator/offline/task_trace.py): they may look, not change.
    """
    event = _storable(event)
    kind = event.get("kind")
    if snapshot is None:
        if kind != "start":
            return Transition({}, ignored="unknown")
        return _start(definition, event, now_ms, limits, step_type)
    ignored = _reason_to_ignore(definition, snapshot, event)
    if ignored is not None:
        return Transition(snapshot, ignored=ignored)
    step = step_type(definition, snapshot, now_ms, limits, HANDLERS, reuse=reuse)
    step.take_facts(event.get("facts"))
    if kind == "command":
        if definition is None and event["verb"] == "resume":
            ending.fault(step, _no_definition(snapshot), whole=True)
        elif event["verb"] == suspend_resume_cancel.RETRY:
            concurrency.retry(step, event)
        else:
            suspend_resume_cancel.apply(step, event)
    elif kind == "fault" and event.get("run") is None:
        _fault(step, event)
    elif snapshot["status"] == "suspended" and (
        definition is None or not heartbeat.is_sign_of_life(event)
    ):
        ignored = suspend_resume_cancel.hold(step, event)
        if ignored is not None:
            return Transition(snapshot, ignored=ignored)
    elif definition is None:
        ending.fault(step, _no_definition(snapshot), whole=True)
    else:
        ignored = event_table.apply(step, event)
        if ignored is not None:
            return Transition(snapshot, ignored=ignored)
    ending.run(step)
    suspend_resume_cancel.catch_up(step)
    return ending.transition(step)


def _storable(event: JsonObject) -> JsonObject:
    """The event, or what stands for one whose data nests too deeply to be written again."""
    try:
        check_event(event)
    except ExpressionError as problem:
        error = error_object(VALIDATION, 400, "Data refused", problem.detail, "/")
    else:
        return event
    kept = {key: value for key, value in event.items() if type(value) in (str, int)}
    if event.get("kind") == "start":
        return {**kept, "refused": error}
    if event.get("kind") == "result":
        return {**kept, "kind": "fault", "error": error}
    return {**kept, "error": error}


def _reason_to_ignore(
    definition: Definition | None, snapshot: JsonObject, event: JsonObject
) -> str | None:
    kind = event.get("kind")
    if kind == "start":
        return "exists"
    if type(kind) is not str or (kind != "command" and kind not in event_table.INPUTS):
        return "kind"
    if snapshot["status"] in TERMINAL:
        if kind != "command" or event.get("verb") != suspend_resume_cancel.RETRY:
            return "terminal"
        return retry.reason_to_ignore(definition, snapshot, event)
    if kind == "command":
        return suspend_resume_cancel.reason_to_ignore(snapshot, event)
    if kind == "fault" and event.get("run") is None:
        return None
    return event_table.reason_to_ignore(snapshot, event)


def _start(
    definition: Definition | None,
    event: JsonObject,
    now_ms: int,
    limits: Limits,
    step_type: Callable[..., Step],
) -> Transition:
    """Create the instance, and run it to its first rest."""
    created = _created(definition, event, now_ms)
    step = step_type(definition, created, now_ms, limits, HANDLERS, reuse=True)
    step.take_facts(event.get("facts"))
    step.history.append({"type": "instance.created", "status": "pending"})
    next_start.started(step, event)
    refused = event.get("refused")
    if refused is not None or definition is None:
        error = _no_definition(step.snapshot) if refused is None else mended(refused, "/")
        ending.fault(step, error)
        return ending.transition(step)
    concurrency.start(step, definition)
    ending.run(step)
    return ending.transition(step)


def _created(definition: Definition | None, event: JsonObject, now_ms: int) -> JsonObject:
    def text(key: str, otherwise: str) -> str:
        value = event.get(key)
        return value if type(value) is str else otherwise

    if definition is None:
        workflow = text("workflow", "unknown")
        namespace, version = text("namespace", "default"), text("version", "")
    else:
        workflow, namespace = definition.name, definition.namespace
        version = definition.version
    created: JsonObject = {
        "id": text("id", ""),
        "workflow": workflow,
        "namespace": namespace,
        "version": version,
        "status": "pending",
        "started_ms": now_ms,
        "input": event.get("input"),
        "context": {},
        "frames": {},
        "runs": {},
        "timers": {},
        "applied": [],
        "control_sequence": 0,
        "jumps": 0,
        "last_frame": 0,
        "last_run": 0,
        "last_timer": 0,
    }
    parent = child_workflow.parent_of(event)
    if parent is not None:
        created["parent"] = parent
    depth = event.get("depth")
    if type(depth) is int and depth > 0:
        created["depth"] = depth
    return created


def _fault(step: Step, event: JsonObject) -> None:
    """The shell faults the whole instance; evidence goes to the dead letters."""
    evidence = event.get("evidence")
    error = mended(event.get("error"), "/")
    if type(evidence) is dict:
        letter = {**evidence, "instance": step.snapshot["id"], "error": error}
        step.commands.append(DeadLetter("faulted", step.snapshot["workflow"], letter))
    if event.get("forget") is True:  # what it would go on with is not whole
        compensate.set_aside(step, error)
        ending.fault(step, error, whole=True)
        step.snapshot.pop("failed", None)
    else:
        ending.fault(step, error, whole=True)


def _no_definition(snapshot: JsonObject) -> JsonObject:
    name = f"{snapshot['namespace']}.{snapshot['workflow']} {snapshot['version']}".strip()
    detail = f"the definition {name} is not registered: deploy it, then start again"
    return error_object(CONFIGURATION, 400, "Unknown workflow", detail, "/")
