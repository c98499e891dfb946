"""`wf.jetstream.port.Port` on a real server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from weakref import WeakSet

from loguru import logger
from nats import errors

from wf.errors import BrokerError
from wf.jetstream import api, batch, duplicates, mending, reads, topology
from wf.jetstream.allowance import Allowance
from wf.jetstream.connection import Connection
from wf.jetstream.encode import publication
from wf.jetstream.port import (
    Delivery,
    Outcome,
    Outgoing,
    Standing,
    Stored,
    Unknown,
    total_bytes,
)
from wf.jetstream.pull import TROUBLE_S, JetStreamPull
from wf.jetstream.replies import LOST, Replies
from wf.jetstream.wire import Wire
from wf.protocol.subjects import is_result

CONNECT_S = 10.0
ENGINE_ROLE = "orchestrator"  # may read every stream
RESULT_ROLES = frozenset({"worker", "monitor"})  # may read results of their activities
FLIGHT_BYTES = 16 * 1024 * 1024  # published and not yet answered: as much lies in the broker
HEARD_BYTES = 16 * 1024 * 1024  # of a core subscription, waiting for its callback
NOT_CONNECTED = (
    "not connected to the broker: see `wf-supervisor explain broker`, or the servers of [nats]"
)
_PENDING_BYTES = 64 * 1024 * 1024


class JetStream:
    """One connection and what may be done over it. Made by `connect`."""

    def __init__(self, wire: Wire, inbox: str, role: str) -> None:
        self._wire = wire
        self._role = role
        self._inbox = inbox
        self._send = wire.send
        self._replies = Replies(wire, f"{inbox}.r")
        self._pulls = 0
        self._flights = Allowance(FLIGHT_BYTES)
        self._open: WeakSet[JetStreamPull] = WeakSet()
        self._lost_s: float | None = None  # since when there is no connection
        wire.on_lost.append(self._lost)
        wire.on_back.append(self._back)
        wire.on_closed.append(lambda: self._replies.abandon(LOST))

    # Deliveries.

    async def pull(self, stream: str, consumer: str, *, window: int) -> JetStreamPull:
        self._pulls += 1
        pull = JetStreamPull(self._wire, stream, consumer, f"{self._inbox}.p{self._pulls}", window)
        self._open.add(pull)
        return pull

    def ack(self, delivery: Delivery) -> None:
        self._send(b"PUB %b 0\r\n\r\n" % delivery.reply.encode())

    def nak(self, delivery: Delivery, delay_s: float | None = None) -> None:
        body = b"-NAK"
        if delay_s is not None:
            body += b' {"delay":%d}' % int(delay_s * 1e9)
        self._send(publication(delivery.reply, "", "", body))

    def in_progress(self, delivery: Delivery) -> None:
        self._send(b"PUB %b 4\r\n+WPI\r\n" % delivery.reply.encode())

    def terminate(self, delivery: Delivery) -> None:
        self._send(b"PUB %b 5\r\n+TERM\r\n" % delivery.reply.encode())

    async def flush(self) -> None:
        try:
            await self._wire.flush()
        except (errors.Error, OSError) as error:
            raise BrokerError(f"the broker did not answer: {error}") from error

    # Publishing.

    async def publish(
        self, stream: str, messages: Sequence[Outgoing], *, timeout_s: float = 5.0
    ) -> list[Outcome]:
        outcomes = await self._publish(messages, timeout_s)
        if not duplicates.doubtful(outcomes):
            return outcomes
        return await duplicates.settle(
            stream,
            messages,
            outcomes,
            lambda again: self._publish(again, timeout_s),
            self._find,
            sees_all=self._role == ENGINE_ROLE,
        )

    async def _find(self, stream: str, message: Outgoing, sequence: int) -> Stored | None:
        if self._role == ENGINE_ROLE:
            return await self.at(stream, sequence)
        if self._role not in RESULT_ROLES or not is_result(message.subject):
            return None
        try:
            return await self.last(stream, topology.stored_subject(message.subject))
        except api.ApiError:
            return None  # a broker of one's own, with the permissions of an earlier version

    async def _publish(self, messages: Sequence[Outgoing], timeout_s: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for part, size in batch.slices(messages, FLIGHT_BYTES // 2):
            if outcomes and isinstance(outcomes[-1], Unknown):  # no answer: more would only wait
                outcomes += [batch.NOT_SENT] * len(part)
                continue
            async with self._flights.holding(size):
                outcomes += await batch.publish_singles(self._replies, part, timeout_s)
        return outcomes

    async def publish_batch(
        self, stream: str, messages: Sequence[Outgoing], *, timeout_s: float = 5.0
    ) -> Outcome:
        async with self._flights.holding(total_bytes(messages)):
            return await batch.publish_batch(self._replies, messages, timeout_s)

    # Reading.

    async def last(self, stream: str, subject: str, *, leader: bool = False) -> Stored | None:
        return await reads.last(self._replies, stream, subject, leader=leader)

    async def last_many(self, stream: str, subjects: Sequence[str]) -> dict[str, Stored]:
        return (await reads.last_some(self._replies, stream, subjects, None))[0]

    async def last_some(
        self, stream: str, subjects: Sequence[str], limit_bytes: int
    ) -> tuple[dict[str, Stored], bool]:
        return await reads.last_some(self._replies, stream, subjects, limit_bytes)

    async def at(self, stream: str, sequence: int) -> Stored | None:
        return await reads.at(self._replies, stream, sequence)

    async def scan(
        self,
        stream: str,
        subject: str,
        *,
        from_sequence: int = 1,
        from_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Stored]:
        first = max(1, from_sequence)
        return await reads.scan(self._replies, stream, subject, first, from_ms, limit)

    async def subjects(self, stream: str, subject_filter: str) -> dict[str, int]:
        return await reads.subjects(self._replies, stream, subject_filter)

    async def last_sequence(self, stream: str) -> int:
        info = await self.api(f"STREAM.INFO.{stream}")
        return int(info["state"]["last_seq"])

    async def count(self, stream: str) -> int:
        info = await self.api(f"STREAM.INFO.{stream}")
        return int(info["state"]["messages"])

    async def ack_floor(self, stream: str, consumer: str) -> int:
        return (await self.standing(stream, consumer)).floor

    async def standing(self, stream: str, consumer: str) -> Standing:
        try:
            info = await self.api(f"CONSUMER.INFO.{stream}.{consumer}")
        except api.ApiError as error:
            if error.code == api.CONSUMER_NOT_FOUND:
                return Standing(0, 0, 0)  # nobody reads yet, so nothing is acknowledged
            raise
        floor, unacknowledged = int(info["ack_floor"]["stream_seq"]), int(info["num_ack_pending"])
        if not unacknowledged:
            # The server moves its floor only when an ack comes: not when the last that was pending
            # has used up max_deliver.
            floor = max(floor, int(info["delivered"]["stream_seq"]))
        return Standing(floor, unacknowledged, int(info["num_waiting"]))

    async def has_consumer(self, stream: str, consumer: str) -> bool:
        try:
            await self.api(f"CONSUMER.INFO.{stream}.{consumer}")
        except api.ApiError as error:
            if error.code == api.CONSUMER_NOT_FOUND:
                return False
            raise
        return True

    # Managing.

    async def reset_consumer(self, stream: str, consumer: str, sequence: int | None = None) -> None:
        body = None if sequence is None else {"seq": sequence}
        await self.api(f"CONSUMER.RESET.{stream}.{consumer}", body)

    async def purge(
        self, stream: str, *, subject: str | None = None, up_to: int | None = None
    ) -> int:
        if up_to is not None and up_to < 1:
            return 0
        body: dict[str, Any] = {}
        if subject is not None:
            body["filter"] = subject
        if up_to is not None:
            body["seq"] = up_to + 1  # the server keeps this one
        return int((await self.api(f"STREAM.PURGE.{stream}", body))["purged"])

    async def ensure_task_consumer(
        self, activity: str, *, ack_wait_s: float, max_deliver: int, max_ack_pending: int
    ) -> None:
        await mending.ensure_consumer(
            self,
            topology.task_consumer(
                activity,
                ack_wait_s=ack_wait_s,
                max_deliver=max_deliver,
                max_ack_pending=max_ack_pending,
            ),
        )

    async def api(
        self,
        subject: str,
        body: dict[str, Any] | None = None,
        *,
        timeout_s: float = api.TIMEOUT_S,
    ) -> dict[str, Any]:
        """Ask `$JS.API.<subject>`. Raises ApiError (its `code`), BrokerError without an answer."""
        return await api.call(self._replies, subject, body, timeout_s=timeout_s)

    @property
    def in_cluster(self) -> bool:
        """Whether the server is one of several."""
        return bool(self._wire._server_info.get("cluster"))

    def on_denied(self, callback: Callable[[str, str], None]) -> None:
        """Call `callback(kind, subject)` when the server refuses a subject to this user; `kind` is
        publish or subscription."""
        self._wire.on_denied.append(callback)

    @property
    def server_version(self) -> str:
        """As the server said when the connection was made."""
        return str(self._wire._server_info.get("version", ""))

    # Core NATS.

    async def publish_core(self, subject: str, data: bytes) -> None:
        if len(data) > self.max_payload:
            raise ValueError(f"{subject}: {len(data)} bytes exceed max_payload")
        self._send(publication(subject, "", "", data))

    async def subscribe_core(
        self, subject: str, callback: Callable[[str, bytes], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        return await listen(self._wire, subject, callback)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._wire.on_back.append(callback)

    def _lost(self) -> None:
        self._lost_s = asyncio.get_running_loop().time()

    def _back(self) -> None:
        self._lost_s = None

    def troubles(self) -> list[str]:
        if self._lost_s is not None:
            since_s = asyncio.get_running_loop().time() - self._lost_s
            return [NOT_CONNECTED] if since_s >= TROUBLE_S else []
        return sorted(trouble for pull in list(self._open) if (trouble := pull.trouble()))

    @property
    def max_payload(self) -> int:
        return self._wire.max_payload

    async def close(self) -> None:
        """Send what is waiting, then close. Closing twice is fine."""
        if self._wire.is_closed:
            return
        if self._wire.is_connected:
            try:
                await self._wire.flush(2)
            except (errors.Error, OSError) as error:
                logger.bind(error=str(error)).info("broker.close_unconfirmed")
        await self._wire.shut()


async def listen(
    wire: Wire, subject: str, callback: Callable[[str, bytes], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """A core subscription: the callback gets one message after the other, in order."""
    queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    heard = 0

    def sink(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        nonlocal heard
        size = len(data) + len(subject)
        if heard and heard + size > HEARD_BYTES:  # as any message of core NATS, it may get lost
            logger.bind(subject=subject, bytes=size).warning("broker.message_dropped")
            return
        heard += size
        queue.put_nowait((subject.decode("utf-8", "backslashreplace"), data))

    async def run() -> None:
        nonlocal heard
        while True:
            name, data = await queue.get()
            heard -= len(data) + len(name.encode())
            try:
                await callback(name, data)
            except Exception as error:  # noqa: BLE001 — the next message must still be heard
                logger.opt(exception=error).bind(subject=name).error("broker.callback_failed")

    task = asyncio.get_running_loop().create_task(run())
    sid = wire.attach(subject, sink)

    async def unsubscribe() -> None:
        wire.detach(sid)
        task.cancel()
        await asyncio.wait([task])

    try:
        await wire.flush()  # the caller may rely on hearing what is sent from now on
    except BaseException:
        await unsubscribe()
        raise
    return unsubscribe


class Trouble:
    """What nats-py's error_cb says: logged once per kind, and fatal while still connecting."""

    def __init__(self, name: str) -> None:
        self.fatal: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._name = name
        self._said = ""

    async def heard(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if not self.fatal.done() and (
            isinstance(error, ssl.SSLError) or "authorization" in text.lower()
        ):
            self.fatal.set_result(error)
        if text != self._said:  # while the broker is away, the same comes twenty times a second
            self._said = text
            logger.bind(error=text, name=self._name).info("broker.trouble")

    def over(self) -> None:
        self._said = ""


async def connect(
    connection: Connection, *, role: str, name: str, timeout_s: float = CONNECT_S
) -> JetStream:
    """Connect as `role`. Raises BrokerError that names the server and the remedy."""
    wire = Wire()
    trouble = Trouble(name)
    wire.on_back.append(trouble.over)
    dialing = asyncio.ensure_future(
        wire.connect(
            **connection.options(),
            name=name,
            error_cb=trouble.heard,
            reconnected_cb=wire.back,
            closed_cb=wire.closed,
            connect_timeout=2,
            reconnect_time_wait=0.05,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=5,
            pending_size=_PENDING_BYTES,
            inbox_prefix=connection.inbox_prefix(role),
            skip_subject_validation=True,
        )
    )
    pending: set[asyncio.Future[Any]] = {dialing, trouble.fatal}
    try:
        await asyncio.wait(pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not dialing.done():
            fatal = trouble.fatal.result() if trouble.fatal.done() else None
            raise BrokerError(connection.failed(role, fatal, timeout_s)) from fatal
        error = dialing.exception()
        if error is not None:
            raise BrokerError(connection.failed(role, error, timeout_s)) from error
    except BaseException:
        dialing.cancel()
        await asyncio.wait([dialing])
        await wire.shut()
        raise
    finally:
        trouble.fatal.cancel()
    if wire.is_connected:  # it may be lost again already
        wire.whole.set()
    inbox = f"{connection.inbox_prefix(role)}.{wire._nuid.next().decode()}"
    return JetStream(wire, inbox, role)
