"""Starting instances: one, or many at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing, Port, Rejected
from wf.jetstream.publish_until_stored import BUDGET_S, check_sizes, refused, store
from wf.protocol import messages, subjects
from wf.protocol.ids import RANDOM_BYTES, new_id

BATCH = 500  # messages an atomic batch; measured best between 200 and 1,000
BATCH_BYTES = 4 * 1024 * 1024
SINGLES_BELOW = 12  # an atomic batch costs about 2 ms however small


def fresh_id() -> str:
    """A new sortable id for an instance of one's own."""
    return new_id(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES))


@dataclass(slots=True, frozen=True)
class Start:
    """A wish to start one instance. `version` None means the newest registered one."""

    workflow: str
    input: Any = None
    id: str = field(default_factory=fresh_id)
    version: str | None = None
    namespace: str = subjects.DEFAULT_NAMESPACE
    traceparent: str | None = None  # W3C; passed on to every activity

    @property
    def title(self) -> str:
        """`order`, or `sales.order` outside the default namespace."""
        return subjects.qualified(self.namespace, self.workflow)

    def outgoing(self) -> Outgoing:
        """The message. Raises MessageError for bad names, or input that JSON cannot hold."""
        subjects.check_name("workflow", self.workflow)
        subjects.check_name("namespace", self.namespace)
        subjects.check_name("instance", self.id)
        body = messages.start_body(instance=self.id, input=self.input, version=self.version)
        return Outgoing(
            subjects.start(self.namespace, self.workflow),
            messages.encode(body),
            message_id=messages.start_message_id(self.id),
            headers={"traceparent": self.traceparent} if self.traceparent else None,
        )


@dataclass(slots=True, frozen=True)
class Started:
    """The start is stored. `duplicate`: the broker had seen a start under this id just before."""

    id: str
    duplicate: bool


async def start_all(
    port: Port, starts: Sequence[Start], *, budget_s: float = BUDGET_S
) -> list[Started]:
    """Store every start, in order, and return when all are stored.

    Idempotent by id. From a dozen on they go as atomic batches; a batch that is refused, or whose
    answer got lost, goes again as singles. Raises BrokerError, or MessageError before anything
    is sent.
    """
    outgoing = [start.outgoing() for start in starts]
    check_sizes(port, outgoing)
    outcomes: list[Accepted | Rejected] = []
    for group in _groups(outgoing):
        if len(group) >= SINGLES_BELOW:
            whole = await port.publish_batch(topology.WORKFLOW_EVENTS, group)
            if isinstance(whole, Accepted):
                outcomes.extend([whole] * len(group))
                continue
        outcomes.extend(await store(port, topology.WORKFLOW_EVENTS, group, budget_s=budget_s))
    return [_started(start, outcome) for start, outcome in zip(starts, outcomes, strict=True)]


def _started(start: Start, outcome: Accepted | Rejected) -> Started:
    if isinstance(outcome, Rejected):
        raise refused(topology.WORKFLOW_EVENTS, outcome)
    return Started(start.id, outcome.duplicate)


def _groups(outgoing: Sequence[Outgoing]) -> list[list[Outgoing]]:
    groups: list[list[Outgoing]] = []
    size = 0
    for message in outgoing:
        if not groups or len(groups[-1]) >= BATCH or size + len(message.data) > BATCH_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(message)
        size += len(message.data) + 200
    return groups
