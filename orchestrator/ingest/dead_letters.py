"""A message that cannot be worked on is set aside: as a dead letter, with the reason. Pure."""

from __future__ import annotations

import re

import orjson

from wf.errors import MessageError
from wf.jetstream.port import Delivery, Outgoing, Stored
from wf.protocol import gate, messages, subjects

NOT_NAME = re.compile(r"[^A-Za-z0-9_-]")
PAYLOAD_BYTES = 65536


def letter(stream: str, message: Delivery | Stored, reason: str, why: str) -> Outgoing:
    """The dead letter of a message of `stream`. `why` is one word: once for each it is stored."""
    headers = message.headers or {}
    evidence = {
        "reason": gate.text(reason),
        "subject": gate.text(message.subject),
        "stream": stream,
        "sequence": message.sequence,
        "headers": {gate.text(key): gate.text(value) for key, value in headers.items()},
        "payload_bytes": len(message.data),
        "payload": message.data[:PAYLOAD_BYTES].decode("utf-8", "backslashreplace"),
    }
    if isinstance(message, Delivery):
        evidence["delivered"] = message.delivered
    return Outgoing(
        subjects.dead_letter("message", NOT_NAME.sub("_", message.subject)[:200]),
        orjson.dumps({"v": messages.VERSION, "evidence": evidence}),
        message_id=f"{stream}:{message.sequence}:{why}",
    )


def is_about(letter: Stored, stream: str, sequence: int) -> bool:
    """Whether a stored dead letter is of that message."""
    try:
        evidence = messages.decode(letter.data, letter.subject)["evidence"]
        return (evidence["stream"], evidence["sequence"]) == (stream, sequence)
    except (MessageError, KeyError, TypeError):
        return False
