"""CloudEvents on their way to the instances that listen.

Two loops, and together they miss nothing, in whatever order an event and a listener come:

- `match` takes each event once (consumer `listeners`, shared by all orchestrators), brings the
  index up to what the broker holds by then, and sends the event to all whom it may be for.
- `look_back` takes each new entry of the index once (consumer `read-back`) and sends its listener
  the events that were stored before it, as far back as the entry says.

An event that was stored before an entry is found by `look_back`; one that was stored after it is
matched with an index that has the entry. Both acknowledge only what is stored in WORKFLOW_EVENTS,
so a crash repeats work and loses none: the machine takes each event once for a listener.

`match` also starts the workflows whose `schedule.on` wants the event
(orchestrator/cloudevents/event_triggers.py), or collects it
for them (orchestrator/cloudevents/event_sets.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TypeVar

import orjson
from loguru import logger

from orchestrator.cloudevents.event_sets import Collector
from orchestrator.cloudevents.event_triggers import Triggers, start
from orchestrator.cloudevents.listener_index import Listeners, specification
from orchestrator.dispatch.effects import unlisten
from orchestrator.ingest import dead_letters
from orchestrator.ingest.bucket_watch import Following
from orchestrator.ingest.consume import Reading, read
from orchestrator.ingest.poison_guard import Guard, Work, event_of, named
from orchestrator.machine.events.correlation import ANY_TYPE, Key
from orchestrator.machine.events.trigger_sets import Taken
from wf.errors import BrokerError, MessageError
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Outgoing, Port, Stored
from wf.jetstream.publish_batched import send_all, send_each
from wf.protocol import cloudevents, messages, subjects

_Key = TypeVar("_Key")

ALL = "$KV.WORKFLOW_LISTENERS.>"
PREFIX = "$KV.WORKFLOW_LISTENERS."
MARGIN_BYTES = 128 * 1024  # of a message: what an event gets around it on its way into history
SKEW_MS = 10_000  # between the clocks of a cluster's servers

FULL = "too many events wait for others of the same `schedule.on`: is one that is never sent?"


class Correlator:
    def __init__(
        self, port: Port, triggers: Triggers, *, batch: int, guard: Guard | None = None
    ) -> None:
        self._port = port
        self._triggers = triggers
        self._guard = guard or Guard.idle()
        self.collector = Collector(port, triggers)
        self._batch = batch
        self._index = Listeners()
        self._stale: set[str] = set()
        self.entries = Following(
            port, topology.WORKFLOW_LISTENERS, ALL, self._take, self._index.clear, self._guard
        )
        self.counts: Counter[str] = Counter()

    async def match(self) -> None:
        """Send events to the listeners that there are."""
        await self._read(topology.CLOUD_EVENTS, topology.LISTENERS, self._match)

    async def look_back(self) -> None:
        """Send new listeners the events before them."""
        await self._read(topology.WORKFLOW_LISTENERS, topology.READ_BACK, self._look_back)

    async def _read(self, stream: str, consumer: str, work: Reading) -> None:
        await read(self._port, stream, consumer, self._batch, work)

    # Matching

    async def _match(self, taken: list[Delivery]) -> None:
        await self._catch_up()
        work = [Work(named(one), partial(self._match_one, one, {})) for one in taken]
        if await self._guard.settle(work):
            await self._catch_up()
        outgoing: list[Iterable[Outgoing]] = []  # a large event for many is not copied all at once
        collected: dict[str, list[Taken]] = {}
        unreadable: list[tuple[Delivery, str]] = []
        for delivery in taken:  # without a pause: a reconnect empties the index and reads it anew
            try:
                with self._guard.about(named(delivery)):
                    outgoing.append(self._match_one(delivery, collected))
            except MessageError as error:
                unreadable.append((delivery, str(error)))
            else:
                self.counts["events"] += 1
        await self._send(outgoing)
        for delivery, reason in unreadable:
            await self._set_aside(delivery, reason)
            log = logger.bind(subject=delivery.subject, sequence=delivery.sequence)
            log.bind(reason=reason).error("event.unreadable")
        refused = {one.sequence for one in await self.collector.take(collected)}
        for delivery in taken:
            if delivery.sequence in refused:
                await self._set_aside(delivery, FULL)
                log = logger.bind(subject=delivery.subject, sequence=delivery.sequence)
                log.error("trigger.collection.full")

    async def _catch_up(self) -> None:
        await self._triggers.definitions.entries.catch_up()
        await self.entries.catch_up()

    def _match_one(
        self, delivery: Delivery, collected: dict[str, list[Taken]]
    ) -> Iterable[Outgoing]:
        """What one event leads to. Raises MessageError when it cannot be read."""
        event = self._event(delivery)
        keys = self._index.match(event)
        return chain(_matched(delivery, event, keys), self._triggered(delivery, event, collected))

    def _triggered(
        self,
        delivery: Delivery,
        event: cloudevents.JsonObject,
        collected: dict[str, list[Taken]],
    ) -> Iterable[Outgoing]:
        """The starts that the event makes by itself; to `collected`, by key, it is added where it
        takes more events to make one."""
        starts: list[tuple[tuple[str, str, str], str]] = []
        for match in self._triggers.match(event, delivery.sequence, delivery.timestamp_ms):
            if match.collects:
                collected.setdefault(match.key, []).append(match.taken(delivery, event))
                continue
            definition = match.definition
            names = definition.namespace, definition.name, definition.version
            starts.append((names, match.trigger.read))
        return _each(starts, lambda one: start(*one[0], [event], one[1]))

    def _event(self, stored: Delivery | Stored) -> cloudevents.JsonObject:
        event = cloudevents.read(stored.subject, stored.data, stored.headers)
        limit = self._port.max_payload - MARGIN_BYTES
        if len(stored.data) > limit:
            raise MessageError(f"an event of {len(stored.data)} bytes: {limit} can be listened to")
        return event

    async def _set_aside(self, delivery: Delivery, reason: str) -> None:
        """The event goes to the dead letters."""
        letter = dead_letters.letter(delivery.stream, delivery, reason, "set-aside")
        await send_all(self._port, topology.DEAD_LETTERS, [letter])

    async def _send(self, outgoing: Iterable[Iterable[Outgoing]]) -> None:
        messages = chain.from_iterable(outgoing)
        self.counts["matches"] += await send_each(self._port, topology.WORKFLOW_EVENTS, messages)

    # Looking back

    async def _look_back(self, taken: list[Delivery]) -> None:
        by_type: dict[str, list[Entry]] = {}
        for delivery in taken:
            entry = Entry.read(delivery)
            if entry is not None:
                by_type.setdefault(entry.key.type, []).append(entry)
        for type_, entries in by_type.items():
            await self._look_back_for(type_, entries)

    async def _look_back_for(self, type_: str, entries: list[Entry]) -> None:
        """All entries of one type at once: the stream is read once for them together."""
        index, by_key = Listeners(), {str(entry.key): entry for entry in entries}
        for entry in entries:
            index.put(str(entry.key), entry.value)
        subject = f"{subjects.CLOUD_EVENTS}{'>' if type_ == ANY_TYPE else type_}"
        first_ms = min(entry.from_ms for entry in entries)
        last_ms = max(entry.stored_ms for entry in entries) + SKEW_MS
        page = await self._port.scan(topology.CLOUD_EVENTS, subject, from_ms=first_ms)
        while page:
            look = partial(self._look, index, by_key)
            events = [(event_of(topology.CLOUD_EVENTS, one), one) for one in page]
            await self._guard.settle([Work(event, partial(look, one)) for event, one in events])
            outgoing: list[Iterable[Outgoing]] = []
            for event, stored in events:
                with suppress(MessageError), self._guard.about(event):  # `match` sets it aside
                    outgoing.append(look(stored))
            await self._send(outgoing)
            if page[-1].timestamp_ms > last_ms:
                return
            after = page[-1].sequence + 1
            page = await self._port.scan(topology.CLOUD_EVENTS, subject, from_sequence=after)

    def _look(
        self, index: Listeners, by_key: dict[str, Entry], stored: Stored
    ) -> Iterable[Outgoing]:
        """What an event of the past leads to. Raises MessageError when it cannot be read."""
        event = self._event(stored)
        keys = [key for key in index.match(event) if stored.timestamp_ms >= by_key[key].from_ms]
        return _matched(stored, event, keys)

    # The index

    def _take(self, stored: Stored) -> None:
        key = stored.subject.removeprefix(PREFIX)
        if stored.is_marker:
            self._index.remove(key)
            return
        try:
            self._index.put(key, stored.data)
        except ValueError as error:
            logger.bind(subject=stored.subject, error=str(error)).error("listener.unusable")

    def clear(self, key: str) -> None:
        """The entry leads to a listener that is no more: left over from a lost race."""
        self._index.remove(key)
        self._stale.add(key)

    async def clear_stale(self) -> None:
        """Take what was told to `clear` out of the bucket."""
        if not self._stale:
            return
        keys, self._stale = self._stale, set()
        try:
            await send_all(
                self._port, topology.WORKFLOW_LISTENERS, [unlisten(key) for key in sorted(keys)]
            )
        except BrokerError:
            self._stale |= keys
            raise
        logger.bind(count=len(keys)).info("listeners.cleared")


class Entry:
    """A new entry of the index, as the consumer `read-back` gives it."""

    __slots__ = ("from_ms", "key", "stored_ms", "value")

    def __init__(self, key: Key, value: bytes, from_ms: int, stored_ms: int) -> None:
        self.key = key
        self.value = value
        self.from_ms = from_ms
        self.stored_ms = stored_ms

    @classmethod
    def read(cls, delivery: Delivery) -> Entry | None:
        """None for what has been taken out, and for what is no entry."""
        if not delivery.data:
            return None
        try:
            key = Key.parse(delivery.subject.removeprefix(PREFIX))
            from_ms = orjson.loads(delivery.data)["from_ms"]
            specification(delivery.data)
            return cls(key, delivery.data, int(from_ms), delivery.timestamp_ms)
        except (ValueError, KeyError, TypeError):
            return None


def _matched(
    stored: Delivery | Stored, event: cloudevents.JsonObject, keys: list[str]
) -> Iterable[Outgoing]:
    """One message for each listener; the event in it is encoded once."""
    shared = orjson.Fragment(orjson.dumps(event)) if keys else None

    def message(text: str) -> Outgoing:
        key = Key.parse(text)
        body = messages.matched_body(
            event=shared, sequence=stored.sequence, time_ms=stored.timestamp_ms, entry=text
        )
        return Outgoing(
            subjects.own_event(key.instance, key.listener),
            messages.encode(body),
            message_id=messages.matched_message_id(key.instance, key.listener, stored.sequence),
        )

    return _each(keys, message)


def _each(keys: list[_Key], message: Callable[[_Key], Outgoing]) -> Iterable[Outgoing]:
    """A message for each, made when it is sent; the first at once, which shows that they can be
    made at all."""
    first = [message(key) for key in keys[:1]]
    return chain(first, map(message, keys[1:]))
