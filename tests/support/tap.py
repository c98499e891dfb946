"""Everything that clients, engine and workers say to the broker and hear from it, in order.

A tap is a connection of its own that subscribes to the protocol's subjects, to acknowledgements and
to the others' inboxes. The broker hands it each message as it passes, so the order is the broker's,
not what some process believes; nothing in the product is wrapped or replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.server import RealServer
from wf.jetstream.client import JetStream
from wf.jetstream.encode import delivery, read_headers

PUBLISHED, STORED, DELIVERED, ACKED = "published", "stored", "delivered", "acked"
SUBJECTS = ("workflow.>", "activity.tasks.>", "$KV.WORKFLOW_STATES.>", "$JS.ACK.>")
INBOXES = ("_INBOX_orchestrator.>", "_INBOX_worker.>", "_INBOX_client.>")


@dataclass(slots=True)
class Seen:
    """One step. `sequence`: the stream's, where the step has one; `stream` likewise."""

    kind: str
    subject: str
    sequence: int = 0
    stream: str = ""
    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    place: int = 0  # in the order of the wire

    @property
    def body(self) -> Any:
        return orjson.loads(self.data)


class Tap:
    """Listens until its connection is closed."""

    def __init__(self, js: JetStream) -> None:
        self._js = js
        self._asked: dict[str, str] = {}  # reply subject → what was published with it
        self.seen: list[Seen] = []
        self.on_published: Callable[[Seen], None] | None = None

    @classmethod
    async def open(cls, server: RealServer) -> Tap:
        made = cls(await server.connect("monitor", "tap"))
        for subject in (*SUBJECTS, *INBOXES):
            made._js._wire.attach(subject, made._sink)
        await made._js.flush()
        return made

    async def close(self) -> None:
        await self._js.close()

    async def __aenter__(self) -> Tap:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _sink(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        name, answer_to = subject.decode(), reply.decode()
        if name.startswith("$JS.ACK."):
            if data in (b"", b"+ACK"):
                of = delivery(b"", subject, b"", b"")
                self._note(Seen(ACKED, of.consumer, of.sequence, of.stream))
        elif answer_to.startswith("$JS.ACK."):
            of = delivery(subject, reply, b"", b"")
            self._note(Seen(DELIVERED, name, of.sequence, of.stream, data))
        elif name.startswith("_INBOX_"):
            published = self._asked.pop(name, None)
            answer = orjson.loads(data) if published is not None else {}
            if published is not None and "error" not in answer:
                self._note(Seen(STORED, published, answer["seq"], answer["stream"]))
        else:
            self._asked[answer_to] = name
            step = Seen(PUBLISHED, name, data=data, headers=read_headers(headers))
            self._note(step)
            if self.on_published is not None:
                self.on_published(step)

    def _note(self, step: Seen) -> None:
        step.place = len(self.seen)
        self.seen.append(step)

    def all(
        self, kind: str, subject: str = "", *, stream: str = "", sequence: int = 0
    ) -> list[Seen]:
        """The steps of a kind whose subject begins so, in order."""
        return [
            step
            for step in self.seen
            if step.kind == kind
            and step.subject.startswith(subject)
            and stream in ("", step.stream)
            and sequence in (0, step.sequence)
        ]


def assert_order(*steps: Seen) -> None:
    """Each before the next."""
    places = [step.place for step in steps]
    assert places == sorted(places), [(s.place, s.kind, s.subject, s.sequence) for s in steps]
