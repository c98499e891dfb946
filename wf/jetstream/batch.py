"""Publishing with acknowledgement: pipelined singles, and the atomic batch (ADR-50)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

from nats.nuid import NUID

from wf.jetstream.encode import header_lines, publication
from wf.jetstream.port import Outcome, Outgoing, Rejected, Unknown
from wf.jetstream.replies import NOT_CONNECTED, Flight, Replies

MAX_BATCH = 1000  # messages; the server's limit

# Error codes of the server, as JetStream counts them.
BATCH_KEY_TWICE = 10164  # one subject written twice with an expected sequence
BATCH_INCOMPLETE = 10176  # a gap, an unknown batch, or too many batches under way
BATCH_LAST_ID = 10177  # Nats-Expected-Last-Msg-Id is not allowed in a batch
BATCH_TOO_LARGE = 10199
BATCH_DUPLICATE_ID = 10201  # a message id was known: the whole batch is refused
BATCH_TOO_MANY = 10210  # batches under way, in the stream or the server

MESSAGE_TOO_LARGE = 10054

_BATCH_HEADERS = 128  # bytes that the batch's own headers take at most
_AGAIN = frozenset({BATCH_INCOMPLETE, BATCH_TOO_MANY})
_FIRST_DELAY_S = 0.002
_MAX_DELAY_S = 0.1
_ATTEMPT_S = 0.2  # with less time left, a refusal is better than an answer that comes too late

_nuid = NUID()

NOT_SENT = Unknown("not sent: what went before it was not answered")


def slices(
    messages: Sequence[Outgoing], limit_bytes: int
) -> Iterator[tuple[Sequence[Outgoing], int]]:
    """(part, bytes), each of at most `limit_bytes`, or one message."""
    start = size = 0
    for place, message in enumerate(messages):
        cost = len(message.data) + 300
        if size + cost > limit_bytes and place > start:
            yield messages[start:place], size
            start, size = place, 0
        size += cost
    if messages:
        yield messages[start:], size


async def publish_singles(
    replies: Replies, messages: Sequence[Outgoing], timeout_s: float
) -> list[Outcome]:
    """All at once; one outcome each, in order. Nothing is sent again."""
    if not messages:
        return []
    lines = [header_lines(message) for message in messages]
    limit = replies.wire.max_payload
    large = [
        place for place in range(len(lines)) if too_large(messages[place], lines[place], limit)
    ]
    if large:
        return await _without(replies, messages, large, timeout_s)
    deadline = asyncio.get_running_loop().time() + timeout_s
    if not await replies.wire.connected_by(deadline):
        return [NOT_CONNECTED] * len(messages)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    flight = Flight(replies, messages, len(messages), future)
    try:
        parts = singles(messages, lines, replies.prefix, flight.first)
        return await _fly(replies, flight, parts, future, deadline)
    finally:
        flight.land(replies)


async def publish_batch(
    replies: Replies, messages: Sequence[Outgoing], timeout_s: float
) -> Outcome:
    """All or none; 10176 and 10210 are tried again. Raises ValueError as the port says."""
    check_batch(messages)
    lines = [header_lines(message) for message in messages]
    limit = replies.wire.max_payload - _BATCH_HEADERS
    for message, head in zip(messages, lines, strict=True):
        if too_large(message, head, limit):
            return refusal(message, limit)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    delay_s = _FIRST_DELAY_S
    while True:
        if not await replies.wire.connected_by(deadline):
            return NOT_CONNECTED
        outcome = await _try_batch(replies, messages, lines, deadline)
        again = isinstance(outcome, Rejected) and outcome.code in _AGAIN
        if not again or loop.time() + delay_s + _ATTEMPT_S >= deadline:
            return outcome
        # Jitter parts the publishers that were refused together.
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))
        delay_s = min(delay_s * 2, _MAX_DELAY_S)


async def _try_batch(
    replies: Replies, messages: Sequence[Outgoing], lines: Sequence[str], deadline: float
) -> Outcome:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    flight = Flight(replies, messages, 1, future)
    try:
        reply = f"{replies.prefix}{flight.first}"
        parts = batched(_nuid.next().decode(), messages, lines, reply)
        return (await _fly(replies, flight, parts, future, deadline))[0]
    finally:
        flight.land(replies)


async def _fly(
    replies: Replies,
    flight: Flight,
    parts: Sequence[bytes],
    future: asyncio.Future[None],
    deadline: float,
) -> list[Outcome]:
    replies.wire.send(b"".join(parts))
    timer = asyncio.get_running_loop().call_at(deadline, _time_is_up, future)
    try:
        await future
    finally:
        timer.cancel()
    return flight.land(replies)


async def _without(
    replies: Replies, messages: Sequence[Outgoing], large: Sequence[int], timeout_s: float
) -> list[Outcome]:
    """Publish the others; one too large would cost the connection and all that is under way."""
    limit = replies.wire.max_payload
    refused = {place: refusal(messages[place], limit) for place in large}
    rest = [message for place, message in enumerate(messages) if place not in refused]
    outcomes = iter(await publish_singles(replies, rest, timeout_s))
    return [refused.get(place) or next(outcomes) for place in range(len(messages))]


def too_large(message: Outgoing, lines: str, limit: int) -> bool:
    """Whether the server would refuse the message, headers included."""
    size = len(message.data) + len(lines) + 12
    return size > limit or (not lines.isascii() and size + 3 * len(lines) > limit)


def refusal(message: Outgoing, limit: int) -> Rejected:
    return Rejected(
        MESSAGE_TOO_LARGE,
        f"{message.subject}: {len(message.data)} bytes and headers exceed max_payload ({limit})",
    )


def _time_is_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def singles(
    messages: Sequence[Outgoing], lines: Sequence[str], prefix: str, first: int
) -> list[bytes]:
    """The publishes, each with its own reply subject."""
    return [
        publication(message.subject, f"{prefix}{token}", head, message.data)
        for token, (message, head) in enumerate(zip(messages, lines, strict=True), first)
    ]


def batched(
    batch: str, messages: Sequence[Outgoing], lines: Sequence[str], reply: str
) -> list[bytes]:
    """The publishes of the atomic batch `batch`; only the last, which commits, is answered."""
    last = len(messages)
    parts = []
    for number, (message, head) in enumerate(zip(messages, lines, strict=True), 1):
        own = f"Nats-Batch-Id: {batch}\r\nNats-Batch-Sequence: {number}\r\n{head}"
        if number == last:
            own += "Nats-Batch-Commit: 1\r\n"
        parts.append(
            publication(message.subject, reply if number == last else "", own, message.data)
        )
    return parts


def check_batch(messages: Sequence[Outgoing]) -> None:
    """Raise ValueError for what can never be a batch."""
    if not 1 <= len(messages) <= MAX_BATCH:
        raise ValueError(f"a batch has 1 to {MAX_BATCH} messages, not {len(messages)}")
    seen: set[str] = set()
    for message in messages:
        if message.expected is not None:
            if message.subject in seen:
                raise ValueError(f"{message.subject} is written twice in one batch")
            seen.add(message.subject)
