"""Messages that leave an instance and are made from a command's body alone. Pure.

A `Send(kind, body)` of the machine is stored with the commit as it is; here each kind says which
stream its message goes to and what it looks like. Recovery builds the same bytes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.machine.calls.child_workflow import CANCEL_CHILD, RETRY_CHILD
from orchestrator.machine.flow.emit import EMIT
from orchestrator.machine.kernel.concurrency_slot import LEAVE_PLACE, TAKE_PLACE
from orchestrator.machine.kernel.next_start import START_LATER
from orchestrator.machine.kernel.step import CHILD_ENDED, LISTEN, START_CHILD, UNLISTEN
from wf.client import schedules
from wf.jetstream import topology
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.jetstream.port import Outgoing
from wf.protocol import messages, subjects

JsonObject = dict[str, Any]

BRIEF = ((LISTEN, UNLISTEN), (TAKE_PLACE, LEAVE_PLACE))
KEYED = frozenset(kind for pair in BRIEF for kind in pair)

# (snapshot, body, message id) → (stream, message)
Builder = Callable[[JsonObject, JsonObject, str], tuple[str, Outgoing]]


def _emit(snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    return topology.CLOUD_EVENTS, cloud_event_message(body["event"], message_id)


def _start_child(_snapshot: JsonObject, body: JsonObject, _message_id: str) -> tuple[str, Outgoing]:
    start = messages.start_body(
        instance=body["id"],
        input=body["input"],
        version=body.get("version"),
        parent=body["parent"],
        depth=body["depth"],
    )
    return topology.WORKFLOW_EVENTS, Outgoing(
        subjects.own_start(body["namespace"], body["workflow"]),
        messages.encode(start),
        message_id=messages.start_message_id(body["id"]),
    )


def _cancel_child(snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    reason = f"run {body['run']} of {snapshot['id']}, which started it, has ended"
    return topology.WORKFLOW_EVENTS, Outgoing(
        subjects.command(body["id"], "cancel"),
        messages.encode(messages.command_body(reason=reason)),
        message_id=message_id,
    )


def _retry_child(snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    reason = f"{snapshot['id']}, which waits for it in run {body['run']}, is retried"
    return topology.WORKFLOW_EVENTS, Outgoing(
        subjects.own_retry(body["id"], body["run"]),
        messages.encode(messages.command_body(reason=reason)),
        message_id=message_id,
    )


def _child_ended(snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    more: JsonObject = {key: body[key] for key in ("error", "reason") if key in body}
    if body["status"] == "completed":
        more["output"] = snapshot.get("output")
    told = messages.child_body(child=snapshot["id"], status=body["status"], **more)
    return topology.WORKFLOW_EVENTS, Outgoing(
        subjects.child_completed(body["parent"], body["run"]),
        messages.encode(told),
        message_id=message_id,
    )


def _listen(_snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    entry = messages.listener_body(from_ms=body["from_ms"], correlate=body["correlate"])
    return topology.WORKFLOW_LISTENERS, Outgoing(
        subjects.listener(body["key"]), messages.encode(entry), message_id=message_id
    )


def _unlisten(_snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    return topology.WORKFLOW_LISTENERS, unlisten(body["key"], message_id)


def unlisten(key: str, message_id: str | None = None) -> Outgoing:
    """Take an entry out of the index; its marker goes by itself once every reader has seen it."""
    return _taken_out(subjects.listener(key), message_id)


def _taken_out(subject: str, message_id: str | None) -> Outgoing:
    return Outgoing(
        subject,
        b"",
        message_id=message_id,
        ttl_s=int(topology.MARKER_TTL_S),
        headers={"KV-Operation": "DEL"},
    )


def _take_place(_snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    """Only ever the first message of its subject: sent again, it must not go to the end of the
    line, nor come back when it was taken out."""
    return topology.WORKFLOW_PLACES, Outgoing(
        subjects.place(body["key"]),
        messages.encode(messages.place_body()),
        message_id=message_id,
        expected=0,
    )


def _leave_place(_snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    return topology.WORKFLOW_PLACES, leave_place(body["key"], message_id)


def leave_place(key: str, message_id: str | None = None) -> Outgoing:
    """Take an entry out of those who run or want to."""
    return _taken_out(subjects.place(key), message_id)


def _overdue(snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    said = {key: body[key] for key in ("run", "attempt", "heard_ms") if key in body}
    return topology.WORKFLOW_EVENTS, Outgoing(
        subjects.own_overdue(snapshot["id"], body["activity"]),
        messages.encode(messages.sign_body(outcome=messages.OVERDUE, **said)),
        message_id=message_id,
    )


def _start_later(_snapshot: JsonObject, body: JsonObject, message_id: str) -> tuple[str, Outgoing]:
    message = schedules.message(
        body["namespace"],
        body["workflow"],
        body["schedule"],
        body["due_ms"],
        message_id=message_id,
    )
    return topology.WORKFLOW_TIMERS, message


BUILDERS: Mapping[str, Builder] = {
    START_CHILD: _start_child,
    CANCEL_CHILD: _cancel_child,
    RETRY_CHILD: _retry_child,
    CHILD_ENDED: _child_ended,
    START_LATER: _start_later,
    EMIT: _emit,
    LISTEN: _listen,
    UNLISTEN: _unlisten,
    TAKE_PLACE: _take_place,
    LEAVE_PLACE: _leave_place,
    messages.OVERDUE: _overdue,
}


def build(
    kind: str, snapshot: JsonObject, body: JsonObject, message_id: str
) -> tuple[str, Outgoing]:
    """The stream and the message of one send. Raises KeyError for a kind that nobody builds."""
    return BUILDERS[kind](snapshot, body, message_id)


def merge(sends: list[tuple[str, JsonObject]], kind: str, body: JsonObject) -> None:
    """Add a send to those of the same commit. A child that the commit would start and cancel is
    neither: the cancellation might overtake the start, and find nobody."""
    if kind == CANCEL_CHILD:
        for n, (other, start) in enumerate(sends):
            if other == START_CHILD and start["id"] == body["id"]:
                del sends[n]
                return
    sends.append((kind, body))


def settled(sends: list[tuple[str, JsonObject]]) -> list[tuple[str, JsonObject]]:
    """Those of one commit that are still wanted at its end: what began and stopped listening within
    it, or stood in line and left it, need not be told of."""
    brief: set[str] = set()
    for begin, end in BRIEF:
        ended = {body["key"] for kind, body in sends if kind == end}
        brief.update(body["key"] for kind, body in sends if kind == begin and body["key"] in ended)
    if not brief:
        return sends
    return [send for send in sends if send[0] not in KEYED or send[1]["key"] not in brief]
