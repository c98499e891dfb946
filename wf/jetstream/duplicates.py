"""What the server took for a duplicate, and may be somebody else's message.

Message ids are shared by all who publish to a stream, and most can be guessed. Whoever uses one
first has the server drop the message that it belongs to, with the answer that it is stored
already. So the sender looks whose message is there, as far as it may: the engine at any, workers
and monitors at the results of their activities. What is not found is stored again without an id:
the engine counts every start and every result once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outcome, Outgoing, Stored

RANDOM = "client:"  # ids that begin so are drawn at random: nobody has used one before

# Streams that more than one credential may publish to. Clients give events ids of their own, and
# rely on that one counts once.
_SHARED = frozenset({topology.WORKFLOW_EVENTS, topology.DEAD_LETTERS, topology.CLOUD_EVENTS})
_COUNTED_ONCE = _SHARED - {topology.CLOUD_EVENTS}

# (stream, message, sequence that the server named) → what is there; None: we may not see it
Find = Callable[[str, Outgoing, int], Awaitable[Stored | None]]
Publish = Callable[[Sequence[Outgoing]], Awaitable[list[Outcome]]]


def doubtful(outcomes: Sequence[Outcome]) -> list[int]:
    """The places of those that were answered as duplicates."""
    return [n for n, one in enumerate(outcomes) if isinstance(one, Accepted) and one.duplicate]


async def settle(
    stream: str,
    messages: Sequence[Outgoing],
    outcomes: list[Outcome],
    publish: Publish,
    find: Find,
    *,
    sees_all: bool,
) -> list[Outcome]:
    """The outcomes, after every message of ours is stored that was not. `sees_all`: `find` may read
    every stream. A message that is stored now is still called a duplicate."""
    if stream not in (_SHARED if sees_all else _COUNTED_ONCE):
        return outcomes
    missing = [
        place
        for place in doubtful(outcomes)
        if not (messages[place].message_id or "").startswith(RANDOM)
        and not await _is_ours(stream, messages[place], outcomes[place], find)
    ]
    if not missing:
        return outcomes
    settled = list(outcomes)
    again = await publish([replace(messages[place], message_id=None) for place in missing])
    for place, outcome in zip(missing, again, strict=True):
        settled[place] = (
            Accepted(outcome.sequence, duplicate=True) if isinstance(outcome, Accepted) else outcome
        )
    return settled


async def _is_ours(stream: str, message: Outgoing, outcome: Outcome, find: Find) -> bool:
    if not isinstance(outcome, Accepted):
        return False
    stored = await find(stream, message, outcome.sequence)
    if stored is None or stored.data != message.data:
        return False
    # The stream may append a partition.
    return f"{stored.subject}.".startswith(f"{message.subject}.")
