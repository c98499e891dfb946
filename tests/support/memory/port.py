"""`wf.jetstream.port.Port` over a `Link` to a `MemoryBroker`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from loguru import logger

from tests.support.memory.broker import MAX_PAYLOAD, MemoryBroker
from tests.support.memory.link import Link
from tests.support.memory.pull import MemoryPull
from wf.errors import BrokerError
from wf.jetstream import mending, topology
from wf.jetstream.api import ApiError
from wf.jetstream.batch import check_batch, refusal, too_large
from wf.jetstream.encode import check_subject, header_lines
from wf.jetstream.port import Delivery, Outcome, Outgoing, Standing, Stored
from wf.jetstream.replies import LATE, LOST, NOT_CONNECTED

T = TypeVar("T")

API_S = 20.0
ATTEMPT_S = 5.0
FIRST_DELAY_S = 0.02
MAX_DELAY_S = 0.5


class MemoryPort:
    """One connection; make it with `connect`."""

    def __init__(self, broker: MemoryBroker, link: Link) -> None:
        self.broker = broker
        self.link = link
        self._loop = asyncio.get_running_loop()
        self._open: dict[asyncio.Future[Any], None] = {}  # in order, for a seed to be repeatable
        self._listeners: list[Callable[[], None]] = []
        link.on_lost.append(self._lost)

    def _lost(self) -> None:
        for future in list(self._open):
            if not future.done():
                future.set_result(LOST)

    def _answered(self, future: asyncio.Future[Any]) -> None:
        self._open.pop(future, None)

    # Asking

    def _ask(self, what: str, action: Callable[[], T]) -> asyncio.Future[Any]:
        """Have the broker do it; the future gets what it gave, or the ApiError that it raised."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open[future] = None
        future.add_done_callback(self._answered)

        def answer(value: Any) -> None:
            if not future.done():
                future.set_result(value)

        def arrive() -> None:
            try:
                value: Any = action()
            except ApiError as error:
                value = error
            self.link.give("answer", lambda: answer(value))

        self.link.send(what, arrive)
        return future

    async def _connected_by(self, deadline: float) -> bool:
        while not self.link.up:
            if self.link.closed:
                return False
            try:
                async with asyncio.timeout_at(deadline):
                    await self.link.whole.wait()
            except TimeoutError:
                return False
        return True

    async def _call(self, action: Callable[[], T], what: str = "request") -> T:
        """As the real one: asked again until there is an answer, for 20 s."""
        deadline = self._loop.time() + API_S
        delay_s = FIRST_DELAY_S
        while True:
            if await self._connected_by(deadline):
                attempt = min(ATTEMPT_S, max(0.0, deadline - self._loop.time()))
                future = self._ask(what, action)
                await asyncio.wait([future], timeout=attempt)
                value = future.result() if future.done() else LATE
                future.cancel()
                if isinstance(value, ApiError):
                    raise value
                if value is not LOST and value is not LATE:
                    return value  # type: ignore[no-any-return]
            if self._loop.time() + delay_s >= deadline:
                raise BrokerError("no answer; is the broker up, with JetStream enabled?")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, MAX_DELAY_S)

    # Deliveries

    async def pull(self, stream: str, consumer: str, *, window: int) -> MemoryPull:
        return MemoryPull(self.broker, self.link, stream, consumer, window)

    def ack(self, delivery: Delivery) -> None:
        stream, consumer, sequence = delivery.stream, delivery.consumer, delivery.sequence
        self.link.send("ack", lambda: self.broker.acked(stream, consumer, sequence))

    def nak(self, delivery: Delivery, delay_s: float | None = None) -> None:
        key, sequence = (delivery.stream, delivery.consumer), delivery.sequence
        self.link.send("ack", lambda: self.broker.consumer(*key).nak(sequence, delay_s))

    def in_progress(self, delivery: Delivery) -> None:
        key, sequence = (delivery.stream, delivery.consumer), delivery.sequence
        self.link.send("ack", lambda: self.broker.consumer(*key).in_progress(sequence))

    def terminate(self, delivery: Delivery) -> None:
        key, sequence = (delivery.stream, delivery.consumer), delivery.sequence
        self.link.send("ack", lambda: self.broker.consumer(*key).ack(sequence))

    async def flush(self) -> None:
        deadline = self._loop.time() + 10
        while await self._connected_by(deadline):
            future = self._ask("request", lambda: None)
            async with asyncio.timeout_at(deadline):
                if await future is None:
                    return
        raise BrokerError("the broker did not answer")

    # Publishing

    async def publish(
        self, stream: str, messages: Sequence[Outgoing], *, timeout_s: float = 5.0
    ) -> list[Outcome]:
        outcomes: list[Outcome | None] = [_unsendable(message) for message in messages]
        if not await self._connected_by(self._loop.time() + timeout_s):
            return [outcome or NOT_CONNECTED for outcome in outcomes]
        futures = {
            place: self._ask("publish", _publishing(self.broker, message))
            for place, message in enumerate(messages)
            if outcomes[place] is None
        }
        if futures:
            await asyncio.wait(futures.values(), timeout=timeout_s)
        for place, future in futures.items():
            outcomes[place] = future.result() if future.done() else LATE
            future.cancel()
        return [outcome or LATE for outcome in outcomes]

    async def publish_batch(
        self, stream: str, messages: Sequence[Outgoing], *, timeout_s: float = 5.0
    ) -> Outcome:
        check_batch(messages)
        for message in messages:
            refused = _unsendable(message)
            if refused is not None:
                return refused
        if not await self._connected_by(self._loop.time() + timeout_s):
            return NOT_CONNECTED
        future = self._ask("publish", lambda: self.broker.publish_batch(messages))
        await asyncio.wait([future], timeout=timeout_s)
        outcome: Outcome = future.result() if future.done() else LATE
        future.cancel()
        return outcome

    # Reading

    async def last(self, stream: str, subject: str, *, leader: bool = False) -> Stored | None:
        return await self._call(lambda: _last(self.broker, stream, subject, leader))

    async def last_many(self, stream: str, subjects: Sequence[str]) -> dict[str, Stored]:
        def read() -> dict[str, Stored]:
            found = {s: _last(self.broker, stream, s, leader=False) for s in subjects}
            return {s: stored for s, stored in found.items() if stored is not None}

        return await self._call(read)

    async def last_some(
        self, stream: str, subjects: Sequence[str], limit_bytes: int
    ) -> tuple[dict[str, Stored], bool]:
        found: dict[str, Stored] = {}
        size = 0
        for subject, stored in (await self.last_many(stream, subjects)).items():
            if size >= limit_bytes:
                return found, False
            found[subject] = stored
            size += len(stored.data)
        return found, True

    async def at(self, stream: str, sequence: int) -> Stored | None:
        def read() -> Stored | None:
            message = self.broker.stream(stream).messages.get(sequence)
            return None if message is None else message.stored()

        return await self._call(read)

    async def scan(
        self,
        stream: str,
        subject: str,
        *,
        from_sequence: int = 1,
        from_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Stored]:
        def read() -> list[Stored]:
            held, found = self.broker.stream(stream), list[Stored]()
            at = max(1, from_sequence) if from_ms is None else 1
            while len(found) < limit and (message := held.following(at, subject)) is not None:
                stored = message.stored()
                if from_ms is None or stored.timestamp_ms >= from_ms:
                    found.append(stored)
                at = message.sequence + 1
            return found

        return await self._call(read)

    async def subjects(self, stream: str, subject_filter: str) -> dict[str, int]:
        return await self._call(lambda: self.broker.stream(stream).counts(subject_filter))

    async def last_sequence(self, stream: str) -> int:
        return await self._call(lambda: self.broker.stream(stream).last_sequence)

    async def count(self, stream: str) -> int:
        return await self._call(lambda: len(self.broker.stream(stream).messages))

    async def ack_floor(self, stream: str, consumer: str) -> int:
        return (await self.standing(stream, consumer)).floor

    async def standing(self, stream: str, consumer: str) -> Standing:
        def read() -> Standing:
            found = self.broker.consumers.get((stream, consumer))
            if found is None:
                return Standing(0, 0, 0)
            return Standing(found.done_up_to, found.unacknowledged, found.open_requests)

        return await self._call(read)

    async def has_consumer(self, stream: str, consumer: str) -> bool:
        def read() -> bool:
            self.broker.stream(stream)
            return (stream, consumer) in self.broker.consumers

        return await self._call(read)

    # Managing

    async def reset_consumer(self, stream: str, consumer: str, sequence: int | None = None) -> None:
        await self._call(lambda: self.broker.consumer(stream, consumer).reset(sequence))

    async def purge(
        self, stream: str, *, subject: str | None = None, up_to: int | None = None
    ) -> int:
        if up_to is not None and up_to < 1:
            return 0
        return await self._call(lambda: self.broker.purge(stream, subject, up_to))

    async def ensure_task_consumer(
        self, activity: str, *, ack_wait_s: float, max_deliver: int, max_ack_pending: int
    ) -> None:
        asset = topology.task_consumer(
            activity,
            ack_wait_s=ack_wait_s,
            max_deliver=max_deliver,
            max_ack_pending=max_ack_pending,
        )
        await mending.ensure_consumer(self, asset)

    async def api(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self._call(lambda: self.broker.api(subject, body))

    @property
    def server_version(self) -> str:
        return "2.15.0"

    # Core NATS

    async def publish_core(self, subject: str, data: bytes) -> None:
        self.link.send("notice", lambda: self.broker.tell(subject, data))

    async def subscribe_core(
        self, subject: str, callback: Callable[[str, bytes], Awaitable[None]]
    ) -> Callable[[], Awaitable[None]]:
        queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

        def sink(name: str, data: bytes) -> None:
            self.link.give("notice", lambda: queue.put_nowait((name, data)))

        async def run() -> None:
            while True:
                name, data = await queue.get()
                try:
                    await callback(name, data)
                except Exception as error:  # noqa: BLE001 — as the real one
                    logger.opt(exception=error).bind(subject=name).error("broker.callback_failed")

        unhear = await self._call(lambda: self.broker.hear(subject, sink))
        self._listeners.append(unhear)
        task = self._loop.create_task(run())

        async def unsubscribe() -> None:
            self.link.send("request", unhear)
            task.cancel()
            await asyncio.wait([task])

        return unsubscribe

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self.link.on_back.append(callback)

    def troubles(self) -> list[str]:
        return [] if self.link.up else ["not connected"]

    @property
    def max_payload(self) -> int:
        return MAX_PAYLOAD

    async def close(self) -> None:
        if not self.link.closed:
            if self.link.up:
                await self.flush()
            self.cut()

    def cut(self) -> None:
        """The process is gone, or closes: nobody listens any more."""
        self.link.close()
        for unhear in self._listeners:
            unhear()
        if self.link in self.broker.links:
            self.broker.links.remove(self.link)


def _last(broker: MemoryBroker, stream: str, subject: str, leader: bool) -> Stored | None:
    message = broker.last(stream, subject, leader=leader)
    return None if message is None else message.stored()


def _publishing(broker: MemoryBroker, message: Outgoing) -> Callable[[], Outcome]:
    return lambda: broker.publish(message)


def _unsendable(message: Outgoing) -> Outcome | None:
    """What the real client refuses before sending. Raises ValueError."""
    check_subject(message.subject)
    if too_large(message, header_lines(message), MAX_PAYLOAD):
        return refusal(message, MAX_PAYLOAD)
    return None


async def connect(broker: MemoryBroker) -> MemoryPort:
    """A connection of its own."""
    link = Link(broker.network, broker.neutral)
    link.up = broker.running
    if not link.up:
        link.whole.clear()
    broker.links.append(link)
    return MemoryPort(broker, link)
