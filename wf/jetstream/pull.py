"""The pull loop on one durable consumer (nats-py has none that holds: see its issue 986).

Requests overlap: a new one goes out when half of the window is used up, so the server always has
one to fill. Each *generation* has an inbox of its own; after a reconnect, a missed heartbeat or a
deleted consumer a new generation starts and the server forgets the requests of the old one.

The window has a size in bytes besides: each message that is asked for stands for an equal share of
it, and each request says how many bytes it may bring. The server ends a request that the next
message does not fit into; it is asked for again when there is room.

An inbox is left in two steps. Over a border of accounts the server finds out at the time when the
consumer takes a request in whose inbox it is; an inbox that is gone by then seems to be there for
ever, and what is delivered to it is lost until `ack_wait`. So a last request goes there that cannot
be read: its refusal says that all before it have been taken in.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from loguru import logger
from nats import errors

from wf.errors import BrokerError
from wf.jetstream.encode import (
    delivery,
    description_of,
    publication,
    read_headers,
    status_of,
)
from wf.jetstream.port import Delivery
from wf.jetstream.wire import Wire

EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
MISSED_HEARTBEATS = 2.5
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 0.5
WINDOW_BYTES = 24 * 1024 * 1024  # asked for or delivered, and not yet taken
FRAME_BYTES = 64 * 1024  # what the server counts besides a message's own bytes, at most
TROUBLE_S = 3.0  # requests in vain are trouble after so long

_STOP_S = 2.0
_LINGER_S = 5.0  # an abandoned inbox still takes what was under way

IDLE_HEARTBEAT = 100
NO_MESSAGES = 404
EXPIRED = 408
CONFLICT = 409
BATCH_COMPLETED = "Batch Completed"  # a 409 that ends a request with max_bytes: all has come
TOO_LARGE = "Message Size Exceeds MaxBytes"  # a 409 that ends one request, and nothing else
NO_RESPONDERS = 503

_LAST = b"{"  # a request that cannot be read
_REFUSED = frozenset({400, NO_RESPONDERS})  # the answers to it


class JetStreamPull:
    """`wf.jetstream.port.Pull` on a real server. `next` is for one task at a time."""

    def __init__(self, wire: Wire, stream: str, consumer: str, inbox: str, window: int) -> None:
        self.stream = stream
        self.consumer = consumer
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._inbox = inbox
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._window = max(1, window)
        self._buffer: deque[Delivery] = deque()
        self._buffered = 0  # bytes in the buffer
        self._requested = 0  # asked for and not yet delivered
        self._generation = 0
        self._sid = 0
        self._left: dict[int, int] = {}  # generation → subscription, until its last answer
        self._all_left: asyncio.Future[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._stopped = False
        self._backoff_s = FIRST_BACKOFF_S
        self._answered = False  # by a consumer that exists
        self._trouble = ""  # why the last request was in vain
        self._trouble_s = 0.0  # since when
        self._retry: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()
        wire.on_lost.append(self._lost)
        wire.on_back.append(self._renew)
        wire.on_closed.append(self._wake)
        self._watchdog = self._loop.call_later(HEARTBEAT_S, self._watch)
        self._renew()

    # What the port promises.

    async def next(self, limit: int, *, shrink: bool = False) -> list[Delivery]:
        """As the port says. Raises BrokerError when the connection is closed for good."""
        buffer = self._buffer
        while not buffer:
            if self._stopped:
                return []
            if self._wire.is_closed:
                raise BrokerError(f"{self.consumer}: the connection to the broker is closed")
            self._waiter = self._loop.create_future()
            await self._waiter
        if len(buffer) <= limit:
            taken = list(buffer)
            buffer.clear()
            self._buffered = 0
        else:
            taken = [buffer.popleft() for _ in range(limit)]
            self._buffered -= sum(len(one.data) for one in taken)
        if shrink:
            self._window = max(0, self._window - len(taken))
        self._refill()
        return taken

    def resize(self, window: int) -> None:
        """Change the window; what is asked for beyond a smaller one is taken back."""
        self._window = max(0, window)
        if self._requested + len(self._buffer) > self._window and self._requested:
            self._renew()
        else:
            self._refill()

    async def stop(self) -> list[Delivery]:
        """Close the inbox and give back what was delivered and not taken."""
        if self._stopped:
            return []
        self._stopped = True
        self._watchdog.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._wire.on_lost.remove(self._lost)
        self._wire.on_back.remove(self._renew)
        self._wire.on_closed.remove(self._wake)
        if self._wire.is_connected:
            self._leave()
            try:
                async with asyncio.timeout(_STOP_S):
                    await self._answers()
                    await self._wire.flush(_STOP_S)  # what was under way has arrived after this
            except (OSError, TimeoutError, errors.Error) as error:
                logger.bind(consumer=self.consumer, error=str(error)).info("pull.stop_unconfirmed")
        self._forget()
        rest = list(self._buffer)
        self._empty()
        self._wake()
        return rest

    def trouble(self) -> str:
        """Why nothing has come for longer than a moment; "": there is an answer, or no need."""
        waits = bool(self._requested) or self._retry is not None
        if self._stopped or not self._trouble or not waits:
            return ""
        if self._loop.time() - self._trouble_s < TROUBLE_S:
            return ""
        return (
            f"nothing can be pulled from the consumer {self.consumer} of {self.stream} "
            f"({self._trouble}); the orchestrator makes it again within seconds"
        )

    def _failed(self, reason: str) -> None:
        if not self._trouble:
            self._trouble_s = self._loop.time()
        self._trouble = reason

    # Asking.

    def _renew(self) -> None:
        """Start a new generation: a fresh inbox, nothing asked for yet."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._stopped:
            return
        self._leave()
        generation = self._generation

        def sink(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
            self._take(generation, subject, reply, headers, data)

        self._sid = self._wire.attach(f"{self._inbox}.{generation}", sink)
        self._refill()

    def _leave(self) -> None:
        """Ask for nothing more in this inbox, and close it once the server has all requests."""
        if self._sid:
            generation = self._generation
            self._left[generation] = self._sid
            self._sid = 0
            inbox = f"{self._inbox}.{generation}"
            self._wire.send(publication(self._subject, inbox, "", _LAST))
            self._loop.call_later(_LINGER_S, self._close, generation)
        self._generation += 1
        self._requested = 0

    def _close(self, generation: int) -> None:
        """The inbox's last answer has come, or is not waited for any longer."""
        sid = self._left.pop(generation, 0)
        if sid:
            self._wire.detach(sid, linger_s=_LINGER_S)
        if not self._left and self._all_left is not None and not self._all_left.done():
            self._all_left.set_result(None)

    def _forget(self) -> None:
        """Close every inbox at once: there is no connection, or nothing is wanted any more."""
        for sid in (self._sid, *self._left.values()):
            self._wire.detach(sid)
        self._sid = 0
        self._left.clear()

    async def _answers(self) -> None:
        """Wait until every inbox that was left is closed."""
        if self._left:
            self._all_left = self._loop.create_future()
            await self._all_left

    def _refill(self) -> None:
        if self._stopped or not self._sid or not self._wire.is_connected:
            return
        free = self._window - self._requested - len(self._buffer)
        if free <= 0 or free * 2 < self._window:
            return
        most = self._most_bytes()
        asked = most * self._requested // self._window
        room = min(most - asked - self._buffered, most * free // self._window)
        if room < self._wire.max_payload + FRAME_BYTES:
            return  # some message might not fit into it
        self._requested += free
        self._heard_at = self._loop.time()
        body = b'{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}' % (
            free,
            room,
            int(EXPIRES_S * 1e9),
            int(HEARTBEAT_S * 1e9),
        )
        inbox = f"{self._inbox}.{self._generation}"
        self._wire.send(publication(self._subject, inbox, "", body))

    def _most_bytes(self) -> int:
        """Half of it has room for any one message: the largest can always come."""
        return max(WINDOW_BYTES, 2 * (self._wire.max_payload + FRAME_BYTES))

    def _back_off(self, reason: str) -> None:
        """The consumer cannot be pulled from now: ask again a little later."""
        self._failed(reason)
        if self._retry is not None:
            return
        if self._backoff_s == FIRST_BACKOFF_S:
            bound = logger.bind(stream=self.stream, consumer=self.consumer, reason=reason)
            if self._answered:
                bound.warning("pull.interrupted")
            else:  # a new activity: its worker is often ready before its consumer is made
                bound.info("pull.waiting")
        self._leave()
        self._retry = self._loop.call_later(self._backoff_s * random.uniform(0.7, 1.3), self._renew)
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)

    # Being answered.

    def _take(
        self, generation: int, subject: bytes, reply: bytes, headers: bytes, data: bytes
    ) -> None:
        self._heard_at = self._loop.time()
        if not reply.startswith(b"$JS.ACK."):
            if headers and generation == self._generation:
                self._status(headers)
            elif headers and status_of(headers) in _REFUSED:
                self._close(generation)
            return
        self._answered = True
        self._trouble = ""
        self._buffer.append(delivery(subject, reply, headers, data))
        self._buffered += len(data)
        if generation == self._generation:
            self._requested -= 1
            self._backoff_s = FIRST_BACKOFF_S
        if self._waiter is not None:
            self._wake()

    def _status(self, headers: bytes) -> None:
        status = status_of(headers)
        self._answered |= status != NO_RESPONDERS
        if status == IDLE_HEARTBEAT:
            self._backoff_s = FIRST_BACKOFF_S
            self._trouble = ""
            return
        if status == CONFLICT and description_of(headers) == BATCH_COMPLETED:
            self._trouble = ""
            self._refill()
            return
        pending = read_headers(headers).get("Nats-Pending-Messages")
        if status in (NO_MESSAGES, EXPIRED, CONFLICT) and pending is not None:
            self._requested = max(0, self._requested - int(pending))
            if status != CONFLICT or description_of(headers) == TOO_LARGE:
                self._trouble = ""
                self._refill()
                return
        missing = status == NO_RESPONDERS
        self._back_off("no such consumer" if missing else f"{status} {description_of(headers)}")

    def _empty(self) -> None:
        self._buffer.clear()
        self._buffered = 0

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    # Trouble.

    def _lost(self) -> None:
        """What was buffered goes back at once when the connection is whole again."""
        for held in self._buffer:
            self._wire.send(publication(held.reply, "", "", b"-NAK"))
        self._empty()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._forget()
        self._leave()

    def _watch(self) -> None:
        silent_s = self._loop.time() - self._heard_at
        if self._requested and silent_s > HEARTBEAT_S * MISSED_HEARTBEATS:
            logger.bind(
                stream=self.stream, consumer=self.consumer, silent_s=round(silent_s, 1)
            ).warning("pull.heartbeat_missed")
            self._failed("its requests are not answered")
            self._heard_at = self._loop.time()
            self._renew()
        self._watchdog = self._loop.call_later(HEARTBEAT_S, self._watch)
