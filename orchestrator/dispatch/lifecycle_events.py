"""Lifecycle CloudEvents of the specification, derived from the history entries of a commit. Pure.

Types and data are those of the DSL's reference, "Lifecycle Events". What history does not hold is
left out: the outputs of tasks, and the optional `status-changed` events.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from orchestrator.machine.flow.emit import source_of
from orchestrator.machine.kernel.scope import moment
from orchestrator.state.commit import Commit, HistoryEntry
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.jetstream.port import Outgoing
from wf.protocol import cloudevents

JsonObject = dict[str, Any]

PREFIX = "io.serverlessworkflow."


class Shape(NamedTuple):
    """The event that an entry makes: its type, the name of its time, and what else of the entry
    is in its data, by name."""

    type: str
    time: str
    more: tuple[tuple[str, str], ...] = ()  # (in the data, in the entry)


ENTRIES: dict[str, tuple[Shape, ...]] = {
    "instance.started": (Shape("workflow.started", "startedAt"),),
    "instance.suspended": (Shape("workflow.suspended", "suspendedAt"),),
    "instance.resumed": (Shape("workflow.resumed", "resumedAt"),),
    "instance.retried": (Shape("workflow.resumed", "resumedAt"),),
    "instance.cancelled": (Shape("workflow.cancelled", "cancelledAt"),),
    "instance.faulted": (Shape("workflow.faulted", "faultedAt", (("error", "error"),)),),
    "instance.completed": (Shape("workflow.completed", "completedAt"),),
    "listen.started": (Shape("workflow.correlation-started", "startedAt"),),
    "listen.completed": (
        Shape(
            "workflow.correlation-completed", "completedAt", (("correlationKeys", "correlated"),)
        ),
    ),
    "task.started": (Shape("task.created", "createdAt"), Shape("task.started", "startedAt")),
    "task.retried": (Shape("task.retried", "retriedAt"),),
    "task.suspended": (Shape("task.suspended", "suspendedAt"),),
    "task.resumed": (Shape("task.resumed", "resumedAt"),),
    "task.cancelled": (Shape("task.cancelled", "cancelledAt"),),
    "task.faulted": (Shape("task.faulted", "faultedAt", (("error", "error"),)),),
    "task.completed": (Shape("task.completed", "completedAt"),),
}


def messages(snapshot: JsonObject, commit: Commit) -> list[Outgoing]:
    """The events of a commit, in order. The same commit gives the same ones again."""
    found: list[Outgoing] = []
    for n, entry in enumerate(commit.history):
        now_ms, place = entry[0], f"{snapshot['id']}:{commit.number}:{n}"
        shaped = [(shape, one) for one in _entries(entry) for shape in ENTRIES.get(one["type"], ())]
        for k, (shape, one) in enumerate(shaped):
            event = _event(snapshot, shape, one, now_ms, f"{place}:{k}")
            found.append(cloud_event_message(event, f"{place}:lifecycle:{k}"))
    return found


def _entries(entry: HistoryEntry) -> list[JsonObject]:
    """The entries, which are encoded already in a commit that was just made."""
    entries: list[JsonObject] = entry[3]
    if isinstance(entries, orjson.Fragment):
        entries = orjson.loads(orjson.dumps(entries))
    return entries


def _event(
    snapshot: JsonObject, shape: Shape, entry: JsonObject, now_ms: int, id_: str
) -> JsonObject:
    time = moment(now_ms)["iso8601"]
    name = f"{snapshot['workflow']}-{snapshot['id']}.{snapshot['namespace']}"
    data: JsonObject = {"name": name}
    if shape.type.startswith("task."):
        data = {"workflow": name, "task": entry["pointer"]}
    data[shape.time] = time
    data.update((key, entry[source]) for key, source in shape.more if source in entry)
    if shape.type == "workflow.started":
        data["definition"] = {
            "name": snapshot["workflow"],
            "namespace": snapshot["namespace"],
            "version": snapshot["version"],
        }
    if shape.type == "workflow.completed":
        data["output"] = snapshot.get("output")
    return {
        "specversion": cloudevents.SPEC_VERSION,
        "id": id_,
        "source": source_of(snapshot),
        "type": f"{PREFIX}{shape.type}.v1",
        "subject": snapshot["id"],
        "time": time,
        "datacontenttype": "application/json",
        "data": data,
    }
