"""The server: streams, consumers, core subjects, and its API as far as it is used."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tests.support.memory.consumer import MemoryConsumer
from tests.support.memory.link import Link, Network
from tests.support.memory.matching import matches
from tests.support.memory.stream import MemoryStream, Message
from wf.jetstream.api import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError
from wf.jetstream.port import Outcome, Outgoing, Unknown
from wf.jetstream.topology import MAX_DELIVERIES

MAX_PAYLOAD = 8 * 1024 * 1024
ABSENT = Unknown("no stream takes this subject now (no responders)")

JsonObject = dict[str, Any]


class Watcher:
    """Hears what the broker does, in order. To be overridden."""

    def stored(self, stream: MemoryStream, message: Message) -> None: ...
    def acked(self, consumer: MemoryConsumer, sequence: int) -> None: ...
    def purged(self, stream: MemoryStream, pattern: str | None, up_to: int | None) -> None: ...


class MemoryBroker:
    """Make it inside a running loop. `wall_ms` gives milliseconds since the epoch."""

    def __init__(
        self, network: Network | None = None, wall_ms: Callable[[], int] | None = None
    ) -> None:
        self.network = network or Network()
        self.wall_ms = wall_ms or (lambda: time.time_ns() // 1_000_000)
        self.streams: dict[str, MemoryStream] = {}
        self.consumers: dict[tuple[str, str], MemoryConsumer] = {}
        self.links: list[Link] = []
        self.watchers: list[Watcher] = []
        self.running = True
        self.neutral = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._heard: list[tuple[str, Callable[[str, bytes], None]]] = []
        self._homes: dict[str, MemoryStream | None] = {}
        self._postponed: list[Callable[[], None]] = []
        self._made = 0  # streams, ever

    # Publishing

    def publish(self, message: Outgoing) -> Outcome:
        stream = self.home(message.subject)
        self.tell(message.subject, message.data)
        return ABSENT if stream is None else self._published(stream, stream.publish(message))

    def publish_batch(self, messages: Sequence[Outgoing]) -> Outcome:
        homes = {self.home(message.subject) for message in messages}
        stream = homes.pop()
        if stream is None or homes:
            return ABSENT
        outcome = stream.publish_batch(messages)
        for message in messages:
            self.tell(message.subject, message.data)
        return self._published(stream, outcome)

    def _published(self, stream: MemoryStream, outcome: Outcome) -> Outcome:
        self._serve(stream)
        return outcome

    def home(self, subject: str) -> MemoryStream | None:
        """The stream that takes the subject."""
        if subject not in self._homes:
            self._homes[subject] = next(
                (s for s in self.streams.values() if s.takes(subject)), None
            )
        return self._homes[subject]

    def _serve(self, stream: MemoryStream) -> None:
        for (name, _), consumer in list(self.consumers.items()):
            if name == stream.name and consumer.requests:
                consumer.serve()

    def _noted(self, stream: MemoryStream, message: Message) -> None:
        for watcher in self.watchers:
            watcher.stored(stream, message)
        if message.message_id is None and self.running:
            # a timer that fired or a marker: nobody published it, so nobody serves it
            self._loop.call_soon(self._serve, stream, context=self.neutral)

    # Core subjects

    def hear(self, pattern: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        entry = (pattern, sink)
        self._heard.append(entry)
        return lambda: self._heard.remove(entry) if entry in self._heard else None

    def tell(self, subject: str, data: bytes) -> None:
        for pattern, sink in list(self._heard):
            if matches(pattern, subject):
                sink(subject, data)

    # Consumers

    def acked(self, stream: str, consumer: str, sequence: int) -> None:
        found = self.consumers.get((stream, consumer))
        if found is not None:
            for watcher in self.watchers:
                watcher.acked(found, sequence)
            found.ack(sequence)

    def _exhausted(self, consumer: MemoryConsumer, sequence: int, deliveries: int) -> None:
        body = {
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "stream": consumer.stream.name,
            "consumer": consumer.name,
            "stream_seq": sequence,
            "deliveries": deliveries,
        }
        subject = f"{MAX_DELIVERIES}.{consumer.stream.name}.{consumer.name}"
        self.publish(Outgoing(subject, orjson.dumps(body)))

    def last(self, stream: str, subject: str, *, leader: bool) -> Message | None:
        """A subject's last message; a replica (`leader` False) may be behind."""
        return self.stream(stream).last_of(subject)

    def purge(self, stream: str, subject: str | None, up_to: int | None) -> int:
        found = self.stream(stream)
        for watcher in self.watchers:
            watcher.purged(found, subject, up_to)
        count = found.purge(subject, up_to)
        for (name, _), consumer in self.consumers.items():
            if name == stream:
                consumer.purged()
        return count

    def stream(self, name: str) -> MemoryStream:
        if name not in self.streams:
            raise ApiError(f"STREAM.INFO.{name}", STREAM_NOT_FOUND, "stream not found")
        return self.streams[name]

    def consumer(self, stream: str, name: str) -> MemoryConsumer:
        found = self.consumers.get((stream, name))
        if found is None:
            raise ApiError(f"CONSUMER.INFO.{name}", CONSUMER_NOT_FOUND, "consumer not found")
        return found

    # The API

    def api(self, subject: str, body: JsonObject | None) -> JsonObject:
        """`$JS.API.<subject>` for what topology asks."""
        family, verb, *rest = subject.split(".", 3)
        if (family, verb) == ("STREAM", "INFO"):
            stream = self.stream(rest[0])
            state = {"messages": len(stream.messages), "last_seq": stream.last_sequence}
            return {"config": dict(stream.config), "state": state, "created": stream.created}
        if (family, verb) == ("CONSUMER", "INFO"):
            return {"config": dict(self.consumer(*rest).config)}
        if (family, verb) == ("STREAM", "DELETE"):
            return self._delete_stream(rest[0])
        if (family, verb) == ("CONSUMER", "DELETE"):
            del self.consumers[rest[0], rest[1]]
            return {"success": True}
        assert body is not None, subject
        if (family, verb) == ("CONSUMER", "CREATE"):
            return self._make_consumer(body["stream_name"], body["config"])
        assert family == "STREAM", f"{subject} is not modelled"
        return self._make_stream(body)

    def _make_stream(self, config: JsonObject) -> JsonObject:
        name = config["name"]
        if name in self.streams:
            self.streams[name].config = dict(config)
        else:
            self._homes.clear()
            self.streams[name] = MemoryStream(
                dict(config),
                now_s=self._loop.time,
                wall_ms=lambda: self.wall_ms(),
                later=self.later,
                noted=self._noted,
                max_payload=MAX_PAYLOAD,
            )
            self._made += 1
            self.streams[name].created = f"made {self._made}"
        return self.api(f"STREAM.INFO.{name}", None)

    def _delete_stream(self, name: str) -> JsonObject:
        del self.streams[name]
        self._homes.clear()
        for stream, consumer in list(self.consumers):
            if stream == name:
                del self.consumers[stream, consumer]
        return {"success": True}

    def _make_consumer(self, stream: str, config: JsonObject) -> JsonObject:
        known = self.consumers.get((stream, config["name"]))
        if known is not None:
            known.update(dict(config))
        else:
            self.consumers[stream, config["name"]] = MemoryConsumer(
                self.stream(stream),
                dict(config),
                now_s=self._loop.time,
                later=self.later,
                exhausted=self._exhausted,
            )
        return {"config": config}

    # Time, and being killed

    def later(self, at_s: float, callback: Callable[[], None]) -> None:
        """Call back at a loop time; what comes due while the broker is down waits for its start."""

        def due() -> None:
            if self.running:
                callback()
            else:
                self._postponed.append(callback)

        self._loop.call_at(at_s, due, context=self.neutral)

    def kill(self) -> None:
        """kill -9: what was stored stays; every connection breaks."""
        self.running = False
        for link in self.links:
            link.lose()

    def start(self, *, forget_s: float = 0.0, keeps_id: Callable[[], bool] = lambda: True) -> None:
        """Start again. Acks of the last `forget_s` may be forgotten, and ids of messages."""
        for stream in self.streams.values():
            stream.forget_ids(keeps_id)
        for consumer in self.consumers.values():
            consumer.restart(forget_s)
        self.running = True
        postponed, self._postponed = self._postponed, []
        for callback in postponed:
            callback()
        for stream in self.streams.values():
            stream.watch_clock()

    def jumped(self) -> None:
        """The wall clock was set: schedules look at it anew."""
        for stream in self.streams.values():
            stream.watch_clock()
