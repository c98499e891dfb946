"""`wf.jetstream.port.Pull` in memory: asks as `wf.jetstream.pull` does."""

from __future__ import annotations

import asyncio
from collections import deque

from tests.support.memory.broker import MemoryBroker
from tests.support.memory.consumer import MemoryConsumer, Request
from tests.support.memory.link import Link
from tests.support.memory.stream import Message
from wf.errors import BrokerError
from wf.jetstream.api import ApiError
from wf.jetstream.port import Delivery

RETRY_S = 0.2


class MemoryPull:
    def __init__(
        self, broker: MemoryBroker, link: Link, stream: str, consumer: str, window: int
    ) -> None:
        self._broker = broker
        self._link = link
        self._key = (stream, consumer)
        self._window = max(1, window)
        self._loop = asyncio.get_running_loop()
        self._buffer: deque[Delivery] = deque()
        self._requested = 0
        self._generation = object()
        self._waiter: asyncio.Future[None] | None = None
        self._stopped = False
        link.on_lost.append(self._lost)
        link.on_back.append(self._renew)
        self._renew()

    async def next(self, limit: int, *, shrink: bool = False) -> list[Delivery]:
        while not self._buffer:
            if self._stopped:
                return []
            if self._link.closed:
                raise BrokerError(f"{self._key[1]}: the connection to the broker is closed")
            self._waiter = self._loop.create_future()
            await self._waiter
        taken = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        if shrink:
            self._window = max(0, self._window - len(taken))
        self._refill()
        return taken

    def resize(self, window: int) -> None:
        self._window = max(0, window)
        if self._requested + len(self._buffer) > self._window and self._requested:
            self._renew()
        else:
            self._refill()

    async def stop(self) -> list[Delivery]:
        if self._stopped:
            return []
        self._stopped = True
        self._withdraw()
        if self._link.up:  # what was under way has arrived after this
            answered = self._loop.create_future()
            self._link.send("request", lambda: self._link.give("answer", lambda: _set(answered)))
            await asyncio.wait([answered], timeout=2)
            answered.cancel()
        rest = list(self._buffer)
        self._buffer.clear()
        self._wake()
        return rest

    # Asking

    def _withdraw(self) -> None:
        owner = self._generation
        self._generation = object()
        self._requested = 0

        def arrive() -> None:
            consumer = self._broker.consumers.get(self._key)
            if consumer is not None:
                consumer.withdraw(owner)

        self._link.send("pull", arrive)

    def _renew(self) -> None:
        if not self._stopped:
            self._withdraw()
            self._refill()

    def _refill(self) -> None:
        free = self._window - self._requested - len(self._buffer)
        if self._stopped or not self._link.up or free <= 0 or free * 2 < self._window:
            return
        self._requested += free
        owner, connection = self._generation, self._link.number

        def is_open() -> bool:
            return self._link.up and self._link.number == connection

        def arrive() -> None:
            try:
                consumer = self._broker.consumer(*self._key)
            except ApiError:
                self._link.give("delivery", lambda: self._missing(owner))
                return
            consumer.request(Request(free, self._sender(owner), is_open, owner))

        self._link.send("pull", arrive)

    def _missing(self, owner: object) -> None:
        if owner is self._generation and not self._stopped:
            self._loop.call_later(RETRY_S, self._again, owner)

    def _again(self, owner: object) -> None:
        if owner is self._generation and not self._stopped:
            self._requested = 0
            self._refill()

    # Being answered

    def _sender(self, owner: object):  # type: ignore[no-untyped-def]
        def give(consumer: MemoryConsumer, message: Message, count: int, pending: int) -> None:
            made = _delivery(consumer, message, count, pending)
            self._link.give("delivery", lambda: self._take(owner, made))

        return give

    def _take(self, owner: object, delivery: Delivery) -> None:
        self._buffer.append(delivery)
        if owner is self._generation:
            self._requested -= 1
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lost(self) -> None:
        """What was buffered is dropped; it is handed back when there is a connection."""
        held, key = list(self._buffer), self._key
        self._buffer.clear()
        self._generation = object()
        self._requested = 0

        def hand_back() -> None:
            self._link.on_back.remove(hand_back)
            for delivery in held:
                self._link.send("ack", _nak(self._broker, key, delivery.sequence))

        if held:
            self._link.on_back.insert(0, hand_back)


def _nak(broker: MemoryBroker, key: tuple[str, str], sequence: int):  # type: ignore[no-untyped-def]
    return lambda: broker.consumer(*key).nak(sequence, None)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _delivery(consumer: MemoryConsumer, message: Message, count: int, pending: int) -> Delivery:
    stream = consumer.stream.name
    return Delivery(
        stream,
        consumer.name,
        message.subject,
        message.data,
        message.headers,
        message.sequence,
        count,
        message.timestamp_ms,
        pending,
        f"$JS.ACK.{stream}.{consumer.name}.{count}.{message.sequence}",
    )
