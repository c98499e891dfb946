"""Storing messages until each one is accepted or refused for good.

A lost acknowledgement is ambiguous and a cluster that elects a leader is silent for 4 to 9 s, so
what got no answer is sent again, with jitter, for 15 s. That is only right for messages that may
be sent twice: ones with a message id, or an expected sequence, or whose handling is idempotent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from wf.errors import BrokerError, MessageError
from wf.jetstream.port import SUBJECT_FULL, Accepted, Outgoing, Port, Rejected, Unknown

BUDGET_S = 15.0
ATTEMPT_S = 5.0
FIRST_DELAY_S = 0.05
MAX_DELAY_S = 2.0

# Refusals that another attempt may mend: a stream or subject that is being worked off.
_PASSING = frozenset({SUBJECT_FULL})


async def store(
    port: Port, stream: str, messages: Sequence[Outgoing], *, budget_s: float = BUDGET_S
) -> list[Accepted | Rejected]:
    """One final outcome per message, in order.

    Raises MessageError for a message over the server's limit (nothing is sent then), BrokerError
    when some message has no answer within `budget_s`.
    """
    check_sizes(port, messages)
    final: dict[int, Accepted | Rejected] = {}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + budget_s
    open_indexes = list(range(len(messages)))
    delay_s = FIRST_DELAY_S
    while True:
        attempt_s = max(0.5, min(ATTEMPT_S, deadline - loop.time()))
        outcomes = await port.publish(
            stream, [messages[index] for index in open_indexes], timeout_s=attempt_s
        )
        undecided: list[tuple[int, Rejected | Unknown]] = []
        for index, outcome in zip(open_indexes, outcomes, strict=True):
            if isinstance(outcome, Unknown) or (
                isinstance(outcome, Rejected) and outcome.code in _PASSING
            ):
                undecided.append((index, outcome))
            else:
                final[index] = outcome
        if not undecided:
            return [final[index] for index in range(len(messages))]
        pause_s = delay_s * random.uniform(0.5, 1.0)
        if loop.time() + pause_s >= deadline:
            raise _gave_up(stream, undecided, len(messages), budget_s)
        await asyncio.sleep(pause_s)
        delay_s = min(delay_s * 2, MAX_DELAY_S)
        open_indexes = [index for index, _ in undecided]


async def store_one(
    port: Port, stream: str, message: Outgoing, *, budget_s: float = BUDGET_S
) -> Accepted | Rejected:
    """`store` for one message."""
    return (await store(port, stream, [message], budget_s=budget_s))[0]


def refused(stream: str, outcome: Rejected) -> BrokerError:
    """The error that says why the stream did not take a message."""
    return BrokerError(
        f"stream {stream} refused the message: {outcome.description} (code {outcome.code})"
    )


def check_sizes(port: Port, messages: Sequence[Outgoing]) -> None:
    """Raise MessageError when a message is over the server's limit."""
    limit = port.max_payload
    for message in messages:
        if len(message.data) > limit:
            raise MessageError(
                f"the message for {message.subject} has {len(message.data):,} bytes and the "
                f"broker takes {limit:,}: pass a reference to the data instead, or raise the "
                "broker's max_payload"
            )


def _gave_up(
    stream: str, undecided: list[tuple[int, Rejected | Unknown]], count: int, budget_s: float
) -> BrokerError:
    last = undecided[0][1]
    if isinstance(last, Rejected):
        return BrokerError(
            f"stream {stream} is full ({last.description}): the pool does not keep up or does "
            "not run; see `wf-supervisor status`"
        )
    return BrokerError(
        f"stream {stream} did not answer for {len(undecided)} of {count} messages within "
        f"{budget_s:g} s ({last.reason}): is the pool running, and was it started on this "
        "broker? Sending the same again is safe"
    )
