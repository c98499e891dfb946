"""A task that this worker holds: delivered, and not yet acknowledged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from wf.authoring.context import Context
from wf.errors import MessageError
from wf.jetstream.port import Delivery
from wf.process.status_page import NO_PLACE
from wf.protocol import messages, subjects
from wf.worker.liveness import Liveness


class Stop(Enum):
    """Why a running task is made to stop."""

    TIMEOUT = "timeout"  # its time is up: reported
    STALLED = "stalled"  # no heartbeat came in time: reported
    DRAIN = "drain"  # the worker stops: handed back


@dataclass(slots=True, eq=False)
class Held:
    """One task, from its delivery until its result is stored and it is acknowledged."""

    delivery: Delivery
    instance: str
    workflow: str
    run: int
    attempt: int
    pointer: str
    input: Any
    alone: bool = False  # nothing may run beside it
    liveness: Liveness | None = None  # when the engine wants to be told of it
    started_s: float = 0.0  # monotonic; 0.0: not started
    settled: bool = False  # its outcome is reported, or it was handed back
    lease_lost: bool = False  # the loop stalled past ack_wait: somebody else may hold it too
    stop: Stop | None = None
    task: asyncio.Task[None] | None = None  # what to cancel; None for `def` activities
    context: Context | None = None
    details: Any = field(default=None)  # of the last heartbeat
    place: int = NO_PLACE  # in the worker's slot, from its start until it is acknowledged
    ended: bool = False  # its slot says that its outcome is known
    failed: bool = False  # its outcome is no success

    @property
    def traceparent(self) -> str | None:
        headers = self.delivery.headers
        return headers.get("traceparent") if headers else None


def parse(delivery: Delivery) -> Held:
    """Read a task message. Raises MessageError for what does not follow the protocol."""
    body = messages.decode(delivery.data, "task")
    try:
        instance, run, attempt = body["instance"], body["run"], body["attempt"]
        workflow, pointer, given = body["workflow"], body["pointer"], body["input"]
    except KeyError as error:
        raise MessageError(f"task: the field {error} is missing") from None
    if not (isinstance(instance, str) and subjects.is_name(instance)):
        raise MessageError(f"task: instance {instance!r} is not a name: use {subjects.NAME_RULE}")
    if type(run) is not int or type(attempt) is not int:
        raise MessageError("task: run and attempt must be integers")
    if not (isinstance(workflow, str) and isinstance(pointer, str)):
        raise MessageError("task: workflow and pointer must be texts")
    alone = body.get("alone") is True
    liveness = Liveness.parse(body.get("liveness"))
    return Held(delivery, instance, workflow, run, attempt, pointer, given, alone, liveness)


def make_context(held: Held, activity: str, timeout_s: float, heartbeat: Any) -> Context:
    """The Context of a task that starts now; the task remembers it, to cancel it."""
    held.context = Context(
        instance=held.instance,
        workflow=held.workflow,
        task=held.pointer,
        activity=activity,
        run=held.run,
        attempt=held.attempt,
        deadline=datetime.now(UTC) + timedelta(seconds=timeout_s),
        traceparent=held.traceparent,
        heartbeat_details=None if held.liveness is None else held.liveness.details_before,
        _heartbeat=heartbeat,
    )
    return held.context
