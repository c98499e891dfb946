"""Send messages to a stream and tell each one's fate: batches first, singles when in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from wf.errors import BrokerError
from wf.jetstream.port import Accepted, Outcome, Outgoing, Port, Rejected

BATCH_MINIMUM = 12  # below this, pipelined singles are quicker than one atomic batch
BATCH_MESSAGES = 1000  # the server's limit
BATCH_BYTES = 7 * 1024 * 1024  # the server allows 8 MiB, headers included

SLICE_BYTES = 8 * 1024 * 1024  # of messages that are made and sent together

WRONG_LAST_SEQUENCE = 10071
RETRY_S = (0.0, 0.05, 0.2, 1.0, 2.0)


def chunks(messages: list[Outgoing]) -> Iterator[tuple[int, list[Outgoing]]]:
    """(offset, part) with each part below the server's limits for one batch."""
    start = size = 0
    for n, message in enumerate(messages):
        cost = len(message.data) + 300
        if n > start and (n - start >= BATCH_MESSAGES or size + cost > BATCH_BYTES):
            yield start, messages[start:n]
            start, size = n, 0
        size += cost
    if messages:
        yield start, messages[start:]


async def send(
    port: Port, stream: str, messages: list[Outgoing], *, replay: bool = False
) -> list[Outcome]:
    """One outcome each, in order.

    A replay never goes in a batch: one known message id would reject the whole of it (10201).
    """
    outcomes: list[Outcome] = []
    for _, chunk in chunks(messages):
        if not replay and len(chunk) >= BATCH_MINIMUM:
            outcome = await port.publish_batch(stream, chunk)
            if isinstance(outcome, Accepted):
                first = outcome.sequence - len(chunk) + 1
                outcomes.extend(Accepted(first + n) for n in range(len(chunk)))
                continue
        outcomes.extend(await port.publish(stream, chunk))
    return outcomes


async def send_each(port: Port, stream: str, messages: Iterable[Outgoing]) -> int:
    """`send_all` for what is made while it is sent, a slice at a time; how many messages."""
    part: list[Outgoing] = []
    count = size = 0
    for message in messages:
        part.append(message)
        size += len(message.data)
        if size >= SLICE_BYTES or len(part) >= BATCH_MESSAGES:
            await send_all(port, stream, part)
            count += len(part)
            part, size = [], 0
    await send_all(port, stream, part)
    return count + len(part)


async def send_all(port: Port, stream: str, messages: list[Outgoing]) -> None:
    """Until each is stored. Raises BrokerError when the stream does not take them."""
    left, replay = messages, False
    for pause_s in RETRY_S:
        if not left:
            return
        await asyncio.sleep(pause_s)
        outcomes = await send(port, stream, left, replay=replay)
        left, replay = unpublished(left, outcomes), True
    if left:
        refusal = next(one for one in outcomes if not isinstance(one, Accepted))
        raise BrokerError(f"stream {stream} does not take {len(left)} messages: {refusal}")


def unpublished(messages: list[Outgoing], outcomes: list[Outcome]) -> list[Outgoing]:
    """Those that must be sent again."""
    return [
        message
        for message, outcome in zip(messages, outcomes, strict=True)
        if not isinstance(outcome, Accepted)
    ]


def refusals(outcomes: list[Outcome]) -> list[Rejected]:
    """What the server said no to (a lost answer is not a no)."""
    return [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
