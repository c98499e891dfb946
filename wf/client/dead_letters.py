"""Dead letters: what was given up, with the evidence; looked at, put back, dropped.

To put back or drop one takes more than a client may do: the engine's own credentials.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wf.errors import MessageError, NotFound, WfError
from wf.jetstream import paging, topology
from wf.jetstream.api import ApiError
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outgoing, Port, Rejected, Stored
from wf.jetstream.publish_until_stored import refused, store_one
from wf.protocol import gate, subjects
from wf.protocol.messages import JsonObject

MESSAGE = "message"  # kind of a message that could not be read
QUARANTINED = "quarantined"  # of an event whose instance's state could not be read
DELETE_FAILED = 10057
_WINDOW = 1000
_EVENT_TOKENS = 5  # of an event's subject; the stream appends its partition
_OWN_HEADERS = ("nats-", "status", "description")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them. `kind`: message, crashed, undeliverable, faulted, …"""

    sequence: int
    kind: str
    name: str  # activity or workflow; of an unreadable event its subject
    at_ms: int
    instance: str | None
    reason: str
    evidence: JsonObject
    payload: str | None  # of a message that could not be read

    def public(self) -> JsonObject:
        """Plain JSON, for programs."""
        return {
            "sequence": self.sequence,
            "kind": self.kind,
            "name": self.name,
            "at_ms": self.at_ms,
            "instance": self.instance,
            "reason": self.reason,
            "evidence": self.evidence,
            "payload": self.payload,
        }


def read(stored: Stored) -> DeadLetter:
    """Whatever it holds: a letter that breaks the protocol is shown as it is."""
    _, kind, name = [*stored.subject.split(".", 2), "", ""][:3]
    try:
        body = gate.decode(stored.data, depth=gate.STORED_DEPTH)
    except MessageError:
        body = {"payload": stored.data.decode("utf-8", "backslashreplace")}
    body = body if isinstance(body, dict) else {"payload": body}
    evidence = body.get("evidence")
    evidence = dict(evidence) if isinstance(evidence, dict) else {}
    payload = body.get("payload", evidence.pop("payload", None))
    return DeadLetter(
        sequence=stored.sequence,
        kind=kind,
        name=name,
        at_ms=stored.timestamp_ms,
        instance=_text(body.get("instance") or evidence.get("instance")),
        reason=_reason(body, evidence),
        evidence=evidence,
        payload=payload if payload is None or isinstance(payload, str) else str(payload),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _reason(body: JsonObject, evidence: JsonObject) -> str:
    for reason in (body.get("reason"), evidence.get("reason"), evidence.get("error")):
        if isinstance(reason, dict):
            reason = reason.get("detail") or reason.get("title")
        if isinstance(reason, str) and reason:
            return reason
    return "unknown"


async def newest(port: Port, *, kind: str | None = None, limit: int = 50) -> list[DeadLetter]:
    """The newest ones, newest first."""
    wanted = f"dead.{kind}.>" if kind else "dead.>"
    before = await port.last_sequence(topology.DEAD_LETTERS) + 1
    found: list[Stored] = []
    while before > 1 and len(found) < limit:
        begin = max(1, before - _WINDOW)
        part: list[Stored] = []
        async for page in paging.between(port, topology.DEAD_LETTERS, wanted, begin, before - 1):
            part = (part + page)[-limit:]
        found = part + found
        before = begin
    return [read(one) for one in reversed(found[-limit:])]


async def get(port: Port, sequence: int) -> DeadLetter:
    """One of them. Raises NotFound."""
    stored = await port.at(topology.DEAD_LETTERS, sequence)
    if stored is None:
        raise NotFound(f"there is no dead letter {sequence}: see `wf dead-letters list`")
    return read(stored)


async def drop(js: JetStream, sequence: int) -> None:
    """Delete one for good. Raises NotFound."""
    try:
        await js.api(f"STREAM.MSG.DELETE.{topology.DEAD_LETTERS}", {"seq": sequence})
    except ApiError as error:
        if error.code != DELETE_FAILED or "no message found" not in str(error):
            raise
        raise NotFound(f"there is no dead letter {sequence}: see `wf dead-letters list`") from error


async def requeue(js: JetStream, letter: DeadLetter, payload: bytes | None = None) -> str:
    """Put a message back to where it came from, then delete the letter; the subject.

    `payload`: a mended body instead of its own. Raises WfError when it cannot be put back.
    """
    stream, message = returned(letter, payload)
    outcome = await store_one(js, stream, message)
    if isinstance(outcome, Rejected):
        raise refused(stream, outcome)
    await drop(js, letter.sequence)
    return message.subject


def returned(letter: DeadLetter, payload: bytes | None = None) -> tuple[str, Outgoing]:
    """The stream, and the message as it came from there. Raises WfError."""
    stream, subject = origin(letter)
    body = payload if payload is not None else whole_payload(letter)
    headers = _headers(letter.evidence.get("headers"))
    return stream, Outgoing(subject, body, headers=headers)


def origin(letter: DeadLetter) -> tuple[str, str]:
    """The stream and subject that a message came from. Raises WfError for any other letter."""
    if letter.kind not in (MESSAGE, QUARANTINED):
        again = f"see `wf show {letter.instance}`" if letter.instance else "it names no instance"
        raise WfError(
            f"dead letter {letter.sequence} is evidence of a run that was given up, and no message"
            f" that could be put back; its workflow has gone on without it: {again}"
        )
    stream, subject = letter.evidence.get("stream"), letter.evidence.get("subject")
    if not isinstance(subject, str):
        subject, stream = subjects.task(letter.name), topology.ACTIVITY_TASKS
    if stream == topology.WORKFLOW_TIMERS:
        return topology.WORKFLOW_TIMERS, subject
    if stream == topology.WORKFLOW_EVENTS or subject.startswith("workflow."):
        tokens = subject.split(".")
        if tokens[1] != "start":
            subject = ".".join(tokens[:_EVENT_TOKENS])
        return topology.WORKFLOW_EVENTS, subject
    return topology.ACTIVITY_TASKS, subject


def whole_payload(letter: DeadLetter) -> bytes:
    """The message's own body. Raises WfError when the letter holds only a part of it."""
    encoded = letter.evidence.get("payload_base64")
    if isinstance(encoded, str):
        try:
            return b64decode(encoded, validate=True)
        except ValueError as error:
            raise WfError(f"dead letter {letter.sequence}: payload_base64 is none") from error
    body = (letter.payload or "").encode()
    size = letter.evidence.get("payload_bytes")
    if letter.payload is None or (isinstance(size, int) and size != len(body)):
        raise WfError(
            f"dead letter {letter.sequence} does not hold its message whole and as it was"
            f" ({size} bytes): give the body with --payload @FILE"
        )
    return body


def _headers(given: Any) -> Mapping[str, str] | None:
    if not isinstance(given, dict):
        return None
    kept = {
        name: str(value)
        for name, value in given.items()
        if not name.lower().startswith(_OWN_HEADERS)
    }
    return kept or None
