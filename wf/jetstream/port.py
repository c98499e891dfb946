"""The narrow port through which the engine and the workers use JetStream.

`wf.jetstream.client.JetStream` carries it out against a real server; the simulation's in-memory
JetStream follows the same contract (tests/contract). Everything here is a plain value or a
protocol: no I/O and no nats import.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

MARKERS = ("KV-Operation", "Nats-Marker-Reason")


@dataclass(slots=True)
class Delivery:
    """One message as a consumer delivered it."""

    stream: str
    consumer: str
    subject: str
    data: bytes
    headers: Mapping[str, str] | None
    sequence: int  # stream sequence
    delivered: int  # 1 for the first delivery
    timestamp_ms: int  # when the stream stored it, milliseconds since the epoch
    pending: int  # how many more match this consumer
    reply: str  # where acks go


@dataclass(slots=True)
class Stored:
    """One message as a stream holds it."""

    subject: str
    data: bytes
    headers: Mapping[str, str] | None
    sequence: int
    timestamp_ms: int

    @property
    def is_marker(self) -> bool:
        """In a KV bucket: the key was deleted, purged, or has expired."""
        headers = self.headers
        return headers is not None and any(name in headers for name in MARKERS)


@dataclass(slots=True)
class Outgoing:
    """One message to be stored. `expected`: the subject's expected last sequence (0: none yet)."""

    subject: str
    data: bytes
    message_id: str | None = None
    expected: int | None = None
    ttl_s: int | None = None
    headers: Mapping[str, str] | None = None  # any more: traceparent, schedules, KV-Operation


@dataclass(slots=True, frozen=True)
class Accepted:
    """The stream has stored the message (fsynced as the server's sync setting says)."""

    sequence: int
    duplicate: bool = False  # the message id was known: nothing was stored again


@dataclass(slots=True, frozen=True)
class Rejected:
    """The server refused the message; nothing was stored."""

    code: int  # JetStream error code: 10071 wrong last sequence, 10077 limit reached, …
    description: str
    last_sequence: int | None = None  # with 10071: that subject's real last sequence


@dataclass(slots=True, frozen=True)
class Unknown:
    """No answer came in time: stored or not. Read the subject again before deciding."""

    reason: str


Outcome = Accepted | Rejected | Unknown


@dataclass(slots=True, frozen=True)
class Standing:
    """How far the readers of one consumer are."""

    floor: int  # up to this stream sequence all is acknowledged, or has used up max_deliver
    unacknowledged: int  # delivered, perhaps handed back, and not acknowledged
    requests: int  # pulls that wait for messages, of readers that still listen


# The server writes a NAK down only when it has a delay: without, it is forgotten when the broker is
# restarted before somebody pulls, and the message comes when ack_wait is over.
HAND_BACK_S = 0.001

WRONG_LAST_SEQUENCE = 10071
SUBJECT_FULL = 10077


class Pull(Protocol):
    """One open pull on one durable consumer: the loop of docs/jetstream.md.

    Reconnects, a deleted consumer and lost pull requests are handled inside: it goes on.
    """

    async def next(self, limit: int, *, shrink: bool = False) -> list[Delivery]:
        """Wait until there is at least one message, then give what is there, at most `limit`.

        `shrink`: the window gets smaller by what was taken (down to 0), so that nothing is asked
        for in its place, after a reconnect neither, until `resize` says how much more is wanted.
        Workers need this: a task that waits behind a long one could run elsewhere.
        Messages that were buffered before a reconnect are dropped (they are redelivered).
        Returns [] once stopped.
        """

    def resize(self, window: int) -> None:
        """Change how many messages may be requested and not yet taken."""

    async def stop(self) -> list[Delivery]:
        """Stop asking, close the inbox, give back what was delivered but not taken."""


class Port(Protocol):
    """What the shell may do with JetStream. All methods are safe to call side by side."""

    async def pull(self, stream: str, consumer: str, *, window: int) -> Pull:
        """Open a pull with at most `window` messages, and a bounded number of bytes, requested
        ahead."""

    # Acknowledgements: fire and forget, flushed with the connection's next write.
    def ack(self, delivery: Delivery) -> None: ...
    def nak(self, delivery: Delivery, delay_s: float | None = None) -> None: ...
    def in_progress(self, delivery: Delivery) -> None: ...
    def terminate(self, delivery: Delivery) -> None: ...

    async def flush(self) -> None:
        """Return when the server has seen everything sent so far."""

    async def publish(
        self, stream: str, messages: Sequence[Outgoing], *, timeout_s: float = 5.0
    ) -> list[Outcome]:
        """Pipelined singles, all sent at once, or in slices when they are large; one outcome each,
        in order. `timeout_s` is for each slice."""

    async def publish_batch(
        self, stream: str, messages: Sequence[Outgoing], *, timeout_s: float = 5.0
    ) -> Outcome:
        """One atomic batch (ADR-50): all stored or none.

        Accepted.sequence is the last message's; the others precede it without gaps. 10176 and
        10210 (too many batches in flight) are retried inside until `timeout_s`. Raises ValueError
        for more than 1,000 messages or two messages for one subject that both expect a sequence.
        """

    async def last(self, stream: str, subject: str, *, leader: bool = False) -> Stored | None:
        """The subject's last message. `leader` asks the stream's leader, never a replica."""

    async def last_many(self, stream: str, subjects: Sequence[str]) -> dict[str, Stored]:
        """The last message of each subject that has one (batched direct get, chunked)."""

    async def last_some(
        self, stream: str, subjects: Sequence[str], limit_bytes: int
    ) -> tuple[dict[str, Stored], bool]:
        """The same until `limit_bytes` have come, and whether that is all. There is always one,
        unless none of the subjects has any."""

    async def at(self, stream: str, sequence: int) -> Stored | None: ...

    async def scan(
        self,
        stream: str,
        subject: str,
        *,
        from_sequence: int = 1,
        from_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Stored]:
        """Messages of `subject` (wildcards allowed) in stream order, from a sequence on, or from
        a time (milliseconds since 1970) when `from_ms` is given. At most `limit`; fewer when they
        are large. Only an empty list means that there are no more."""

    async def subjects(self, stream: str, subject_filter: str) -> dict[str, int]:
        """subject → message count (STREAM.INFO with subjects_filter)."""

    async def last_sequence(self, stream: str) -> int: ...

    async def count(self, stream: str) -> int:
        """How many messages the stream holds."""

    async def ack_floor(self, stream: str, consumer: str) -> int:
        """Stream sequence up to which every message is acknowledged, or has used up max_deliver;
        0 without such a consumer."""

    async def standing(self, stream: str, consumer: str) -> Standing:
        """How far the readers of a consumer are; all zero without such a consumer."""

    async def has_consumer(self, stream: str, consumer: str) -> bool:
        """Whether there is this consumer. Raises BrokerError also when the stream is not there."""

    async def reset_consumer(self, stream: str, consumer: str, sequence: int | None = None) -> None:
        """CONSUMER.RESET: deliver again from `sequence`; None means the ack floor + 1."""

    async def purge(
        self, stream: str, *, subject: str | None = None, up_to: int | None = None
    ) -> int:
        """Delete messages (of `subject`) with a sequence ≤ `up_to` (all when None); how many."""

    async def ensure_task_consumer(
        self, activity: str, *, ack_wait_s: float, max_deliver: int, max_ack_pending: int
    ) -> None:
        """Make the activity's durable consumer, or update it in place."""

    # Core NATS.
    async def publish_core(self, subject: str, data: bytes) -> None: ...
    async def subscribe_core(
        self, subject: str, callback: Callable[[str, bytes], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe; the returned function unsubscribes."""

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every reconnect."""

    def troubles(self) -> list[str]:
        """Why no messages can come, in sentences: not connected, or a consumer that is pulled from
        does not answer, for longer than a moment. Empty while all is well."""

    @property
    def max_payload(self) -> int:
        """The server's limit for one message, in bytes."""

    async def close(self) -> None: ...


def total_bytes(messages: Iterable[Outgoing]) -> int:
    """How much of a batch's byte limit the messages take, headers estimated."""
    return sum(len(m.data) + len(m.subject) + 200 for m in messages)
