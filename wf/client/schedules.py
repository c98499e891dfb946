"""What starts workflows by itself: schedules, and events (`schedule.on`).

Schedules stand in the timer stream, one pending message per workflow.

It is a JetStream message schedule (ADR-51) for the next start. When it fires, that start's commit
stores the one after it. The id of the instance follows from the time that it is due, so a message
that fires twice starts nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from wf.client.definitions import RegisteredDefinition
from wf.errors import MessageError
from wf.jetstream import paging, topology
from wf.jetstream.port import Outgoing, Port, Stored
from wf.protocol import gate, messages, subjects

JsonObject = dict[str, Any]

LATEST_MS = 253_402_300_799_000  # the end of the year 9999
SHOWN_CHARACTERS = 200


@dataclass(slots=True, frozen=True)
class Pending:
    """When a workflow is to start next, and by which schedule; or the events that start it."""

    namespace: str
    name: str
    schedule: str  # as orchestrator.definition.nodes.Schedule.text has it
    due_ms: int | None  # None: with events, or it cannot be read
    sequence: int  # of its message; 0: with events

    @property
    def workflow(self) -> str:
        return subjects.qualified(self.namespace, self.name)


def at(due_ms: int) -> str:
    """The value of `Nats-Schedule` for one time."""
    due = datetime.fromtimestamp(due_ms / 1000, UTC)
    return f"@at {due.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"


def message(
    namespace: str,
    name: str,
    schedule: str,
    due_ms: int,
    *,
    message_id: str | None = None,
    expected: int | None = None,
) -> Outgoing:
    """Start the workflow at `due_ms`; a second message for it replaces the first."""
    return Outgoing(
        subjects.start_scheduled(namespace, name),
        messages.encode(messages.schedule_body(schedule=schedule, due_ms=due_ms)),
        message_id=message_id,
        expected=expected,
        headers={
            "Nats-Schedule": at(due_ms),
            "Nats-Schedule-Target": subjects.start_fired(namespace, name),
        },
    )


def from_stored(stored: Stored) -> Pending:
    """What cannot be read has a schedule that says so, which is that of no definition."""
    *_, namespace, name = stored.subject.split(".")
    try:
        body = messages.decode(stored.data, stored.subject)
        schedule, due_ms = body.get("schedule"), body.get("due_ms")
        if not isinstance(schedule, str) or type(due_ms) is not int or not 0 <= due_ms < LATEST_MS:
            raise MessageError("it has no schedule with the time that is due")
    except MessageError as error:
        schedule, due_ms = f"unreadable: {gate.text(error, SHOWN_CHARACTERS)}", None
    return Pending(namespace, name, schedule, due_ms, stored.sequence)


async def pending(port: Port) -> dict[tuple[str, str], Pending]:
    """Every workflow that is to start by itself, by (namespace, name)."""
    names = await port.subjects(topology.WORKFLOW_TIMERS, subjects.start_scheduled("*", "*"))
    found: dict[tuple[str, str], Pending] = {}
    async for page in paging.last_pages(port, topology.WORKFLOW_TIMERS, sorted(names)):
        read = (from_stored(stored) for stored in page.values())
        found.update(((one.namespace, one.name), one) for one in read)
    return found


def triggered(definitions: Iterable[RegisteredDefinition]) -> list[Pending]:
    """Every workflow whose latest version starts with events; `definitions` are in order of their
    versions."""
    latest = {(one.namespace, one.name): one for one in definitions if not one.problem}
    found = []
    for (namespace, name), definition in latest.items():
        try:
            on = (orjson.loads(definition.body).get("schedule") or {}).get("on")
            words = _in_words(on) if on else ""
        except (AttributeError, KeyError, TypeError, ValueError):
            words = "unreadable: not a schedule"
        if words:
            found.append(Pending(namespace, name, words, None, 0))
    return found


def _in_words(on: JsonObject) -> str:
    """Such as `on all: order.placed, order.paid`."""
    ((kind, given),) = on.items()
    filters = given if isinstance(given, list) else [given]
    types = [str(one["with"].get("type", "any type")) for one in filters]
    return f"on {kind}: {', '.join(types) or 'any event'}"
