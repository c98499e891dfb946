"""Messages that are none, from strangers: each is set aside with its evidence or has no effect.

What is to be set aside gets one dead letter, however often it is delivered; what can be read is
about nothing that there is. Neither stops anybody, or changes what becomes of an instance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tests.support.memory.broker import Watcher
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing
from wf.protocol import subjects

if TYPE_CHECKING:
    from tests.simulation.world import World
    from tests.support.memory import MemoryPort
    from tests.support.memory.stream import MemoryStream, Message

Subject = Callable[[str], str]  # of an instance

KEY = "litter:"  # how the message ids begin
NOBODY = "nobody"


class Litter(NamedTuple):
    """One kind of message. `read`: it can be read, and is about nothing that there is."""

    subject: Subject
    body: bytes
    read: bool = False
    stream: str = topology.WORKFLOW_EVENTS


def _deep(levels: int) -> bytes:
    opening, closing = b"[" * levels, b"]" * levels
    return b'{"v":1,"id":"deep","input":' + opening + closing + b"}"


NO_BODIES: tuple[bytes, ...] = (
    *(b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"7", b"{}"),
    *(b'{"v":2}', b'{"v":true}', b'{"v":"1"}', b'{"v":1,"input":NaN}'),
    *(b'{"v":1,"data":"\\ud83d"}', b'{"v":1,"\\udc00":1}', b'{"v":1,"data":1e999}'),
    *(_deep(300), _deep(1_100), _deep(100_000)),
)

_START: Subject = lambda instance: subjects.start("default", "chain")  # noqa: E731
_RESULT: Subject = lambda instance: subjects.completed(instance, "add")  # noqa: E731
_SIGNAL: Subject = lambda instance: subjects.signal(instance, "go")  # noqa: E731
_CANCEL: Subject = lambda instance: subjects.command(instance, "cancel")  # noqa: E731
_CHILD: Subject = lambda instance: subjects.child_completed(instance, 999)  # noqa: E731
_EVENT: Subject = lambda instance: subjects.own_event(instance, "2")  # noqa: E731
_PLACE: Subject = lambda instance: subjects.own_place(instance, 1)  # noqa: E731
_OVERDUE: Subject = lambda instance: subjects.own_overdue(instance, "add")  # noqa: E731
_TOLD: Subject = lambda instance: subjects.cloud_event("placed")  # noqa: E731
SUBJECTS = (_START, _RESULT, _SIGNAL, _CANCEL, _CHILD, _EVENT, _PLACE, _OVERDUE)


def _json(**fields: Any) -> bytes:
    return orjson.dumps({"v": 1, **fields})


def _kinds() -> Iterator[Litter]:
    for subject in SUBJECTS:
        yield from (Litter(subject, body) for body in NO_BODIES)
    yield from (Litter(_TOLD, body, stream=topology.CLOUD_EVENTS) for body in NO_BODIES)
    about = {"run": 999, "attempt": 1}
    for subject, wrong in (
        (_START, {"id": "no name!"}),
        (_START, {"id": 7}),
        (_START, {"id": "typed", "version": 7}),
        (_START, {"id": "typed", "depth": 1}),
        (_START, {"id": "typed", "parent": {"id": "i0", "run": 1, "awaited": True}}),
        (_RESULT, {"run": "1", "attempt": 1, "outcome": "completed"}),
        (_RESULT, {"run": 1, "attempt": 1, "outcome": "overdue"}),
        (_SIGNAL, {"cloud_event": {"type": "placed"}}),
        (_CANCEL, {"reason": 7}),
        (lambda instance: subjects.command(instance, "explode"), {}),
        (lambda instance: subjects.command(instance, "admit"), {"turn": 1}),
    ):
        yield Litter(subject, _json(**wrong))
    for subject, strange in (
        (_RESULT, {**about, "outcome": "completed", "output": [{}]}),
        (_RESULT, {**about, "outcome": ["no"]}),
        (_CHILD, {"child": "x", "status": "completed"}),
        (_CHILD, {"child": ["x"], "status": {}}),
        (_EVENT, {"sequence": "1", "cloud_event": []}),
        (_PLACE, {"turn": [1], "entry": 7}),
        (_PLACE, {"turn": 999}),
    ):
        yield Litter(subject, _json(**strange), read=True)
    timers = topology.WORKFLOW_TIMERS
    for name in ("x", "-1", "9" * 19):
        yield Litter(lambda i, name=name: subjects.timer_fired(i, name), b"\xff", stream=timers)
    yield Litter(lambda i: subjects.timer_fired(i, "999"), b"\xff", read=True, stream=timers)


KINDS = tuple(_kinds())


@dataclass
class Scattered(Watcher):
    """What is about: (stream, sequence) of all that was stored, and of what must be set aside."""

    kinds: dict[str, Litter] = field(default_factory=dict)  # by message id
    stored_ones: set[tuple[str, int]] = field(default_factory=set)
    unreadable: set[tuple[str, int]] = field(default_factory=set)

    def stored(self, stream: MemoryStream, message: Message) -> None:
        kind = self.kinds.get(message.message_id or "")
        if kind is None:
            return
        self.stored_ones.add((stream.name, message.sequence))
        if not kind.read:
            self.unreadable.add((stream.name, message.sequence))

    async def scatter(self, world: World) -> None:
        """As much as the plan says, at any time."""
        random, port = world.random, world.client.port
        names = [*(wish.instance for wish in world.plan.wishes), NOBODY]
        pieces = [(random.choice(KINDS), random.choice(names)) for _ in range(world.plan.litter)]
        await asyncio.gather(
            *(
                self._drop(port, random, world.plan.chaos_s, f"{KEY}{number}", *piece)
                for number, piece in enumerate(pieces)
            )
        )

    async def _drop(
        self, port: MemoryPort, random: Random, chaos_s: float, key: str, kind: Litter, name: str
    ) -> None:
        self.kinds[key] = kind
        await asyncio.sleep(random.uniform(0, chaos_s))
        message = Outgoing(kind.subject(name), kind.body, key)
        while True:
            (outcome,) = await port.publish(kind.stream, [message])
            if isinstance(outcome, Accepted):
                return
            await asyncio.sleep(0.3)


def problems(scattered: Scattered, letters: list[bytes]) -> Iterator[str]:
    """`letters`: those of kind `message`. The evidence says of what message each is."""
    evidence = [orjson.loads(letter)["evidence"] for letter in letters]
    found = {(one["stream"], one["sequence"]) for one in evidence}
    if lost := scattered.unreadable - found:
        yield f"{sorted(lost)} cannot be read, and have no dead letter"
    if added := found - scattered.unreadable:
        yield f"{sorted(added)} have a dead letter: {[one['reason'] for one in evidence]}"
