"""From a commit to the messages that leave the instance. Pure.

The same function builds them in the hot path, with the events at hand, and in recovery, with the
events read again from their streams: a flushed and a re-flushed outbox are byte for byte alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.dispatch import effects, lifecycle_events
from orchestrator.state.commit import Commit
from orchestrator.state.history import history_message
from wf.client.schedules import at
from wf.jetstream import topology
from wf.jetstream.encode import check_subject, header_lines
from wf.jetstream.port import Outgoing, total_bytes
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]

EVIDENCE_BYTES = 256 * 1024


@dataclass(slots=True)
class Outbox:
    """Messages by stream, and what is to be purged: (stream, subject) of timers to unschedule and
    of values that a snapshot does not name any more."""

    streams: dict[str, list[Outgoing]] = field(default_factory=dict)
    purges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, stream: str, message: Outgoing) -> None:
        """Raises ValueError for what could not be sent: the snapshot it is made from is none."""
        subject = message.subject
        if ".." in subject or "*" in subject or ">" in subject or subject[-1:] == ".":
            raise ValueError(f"no message can be sent to {subject[:300]!r}")
        check_subject(subject)
        if message.headers:
            header_lines(message)
        self.streams.setdefault(stream, []).append(message)

    @property
    def size(self) -> int:
        """Bytes of its messages, about."""
        return sum(total_bytes(messages) for messages in self.streams.values())


def build(snapshot: JsonObject, commit: Commit, events: list[JsonObject]) -> Outbox:
    """All messages of `commit`. `events` go with `commit.history`, one each, overlaid already."""
    outbox = Outbox()
    for message in task_messages(snapshot, commit):
        outbox.add(topology.ACTIVITY_TASKS, message)
    for timer in commit.timers:
        if str(timer) in snapshot["timers"]:
            outbox.add(topology.WORKFLOW_TIMERS, timer_message(snapshot, timer))
    instance = snapshot["id"]
    for n, (entry, event) in enumerate(zip(commit.history, events, strict=True)):
        outbox.add(
            topology.WORKFLOW_HISTORY, history_message(snapshot, commit.number, n, entry, event)
        )
    if commit.lifecycle:
        for message in lifecycle_events.messages(snapshot, commit):
            outbox.add(topology.CLOUD_EVENTS, message)
    for n, (kind, send) in enumerate(commit.sends):
        message_id = f"{instance}:{commit.number}:send:{n}"
        outbox.add(*effects.build(kind, snapshot, send, message_id))
    for n, (kind, name, evidence) in enumerate(commit.dead):
        outbox.add(
            topology.DEAD_LETTERS,
            Outgoing(
                subjects.dead_letter(kind, name),
                orjson.dumps({"v": messages.VERSION, "instance": instance, "evidence": evidence}),
                message_id=f"{instance}:{commit.number}:dead:{n}",
            ),
        )
    for timer in commit.cancelled:
        subject = subjects.timer_scheduled(instance, str(timer))
        outbox.purges.append((topology.WORKFLOW_TIMERS, subject))
    for key in commit.dropped:
        outbox.purges.append((topology.WORKFLOW_STATES, subjects.state_value(instance, key)))
    return outbox


def fitting(evidence: JsonObject) -> JsonObject:
    """What a dead letter, and the snapshot that carries it, can hold of `evidence`."""
    if len(orjson.dumps(evidence)) <= EVIDENCE_BYTES:
        return evidence
    return {
        key: value
        if (size := len(orjson.dumps(value))) <= EVIDENCE_BYTES // 8
        else f"{size} bytes, left out: see the history of the instance"
        for key, value in evidence.items()
    }


def task_messages(snapshot: JsonObject, commit: Commit) -> list[Outgoing]:
    """The tasks of `commit` whose runs are still open."""
    runs = snapshot["runs"]
    return [task_message(snapshot, run, commit.trace) for run in commit.tasks if str(run) in runs]


def task_message(snapshot: JsonObject, number: int, trace: str | None) -> Outgoing:
    """`activity.tasks.<activity>` for run `number` at its current attempt."""
    run = snapshot["runs"][str(number)]
    body = messages.task_body(
        instance=snapshot["id"],
        workflow=subjects.qualified(snapshot["namespace"], snapshot["workflow"]),
        version=snapshot["version"],
        run=number,
        attempt=run["attempt"],
        pointer=run["pointer"],
        input=run["input"],
        alone="alone" in run,
        liveness=run.get("liveness"),
    )
    return Outgoing(
        subjects.task(run["activity"]),
        messages.encode(body),
        message_id=messages.task_message_id(snapshot["id"], number, run["attempt"]),
        headers={"traceparent": trace} if trace else None,
    )


def timer_message(snapshot: JsonObject, timer: int) -> Outgoing:
    """A JetStream message schedule (ADR-51) that fires at the timer's `due_ms`."""
    due_ms = snapshot["timers"][str(timer)]["due_ms"]
    return schedule(
        snapshot["id"], str(timer), due_ms, orjson.dumps(messages.timer_body(timer=timer))
    )


def schedule(instance: str, name: str, due_ms: int, data: bytes) -> Outgoing:
    """Schedule `workflow.timer.fired.<instance>.<name>`; a second one replaces the first."""
    return Outgoing(
        subjects.timer_scheduled(instance, name),
        data,
        headers={
            "Nats-Schedule": at(due_ms),
            "Nats-Schedule-Target": subjects.timer_fired(instance, name),
        },
    )
