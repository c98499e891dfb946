"""A port that can die: at a chosen await everything stops, as SIGKILL would stop it.

Every awaited call is two crash points, before it and after it. After death nothing goes out any
more: awaited calls raise Died, acknowledgements vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wf.jetstream import topology
from wf.jetstream.port import Delivery, Port, Pull


class Died(BaseException):
    """The process is gone. Not an Exception, so that no handler survives it."""


class Mortal:
    """Wraps a Port. `die_at` is the crash point's number, from 0; None lives for ever."""

    def __init__(self, port: Port, die_at: int | None = None) -> None:
        self._port = port
        self._die_at = die_at
        self.points: list[str] = []  # what was passed, e.g. "before publish ACTIVITY_TASKS"
        self.dead = False
        self.acks_lost = False  # True: acknowledgements are swallowed though it lives on

    def point(self, name: str) -> None:
        if self.dead:
            raise Died(name)
        if self._die_at is not None and len(self.points) == self._die_at:
            self.dead = True
            raise Died(name)
        self.points.append(name)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if name in _AWAITED:
            return self._awaited(name, attribute)
        return attribute

    def _awaited(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            if name == "scan" and arguments[0] != topology.CLOUD_EVENTS:
                return await method(*arguments, **options)
            place = f"{name} {arguments[0] if arguments else ''}".strip()
            self.point(f"before {place}")
            result = await method(*arguments, **options)
            self.point(f"after {place}")
            return result

        return call

    async def pull(self, stream: str, consumer: str, *, window: int) -> Pull:
        return MortalPull(self, await self._port.pull(stream, consumer, window=window))

    def ack(self, delivery: Delivery) -> None:
        if not self.dead and not self.acks_lost:
            self._port.ack(delivery)

    def nak(self, delivery: Delivery, delay_s: float | None = None) -> None:
        if not self.dead:
            self._port.nak(delivery, delay_s)

    def in_progress(self, delivery: Delivery) -> None:
        if not self.dead:
            self._port.in_progress(delivery)


class MortalPull:
    def __init__(self, port: Mortal, pull: Pull) -> None:
        self._port = port
        self._pull = pull

    async def next(self, limit: int, *, shrink: bool = False) -> list[Delivery]:
        deliveries = await self._pull.next(limit, shrink=shrink)
        if self._port.dead:
            raise Died("pull")
        return deliveries

    def resize(self, window: int) -> None:
        self._pull.resize(window)

    async def stop(self) -> list[Delivery]:
        return [] if self._port.dead else await self._pull.stop()


# Those that change something, or on whose answer a decision rests. Background work (sweeping,
# topology, following buckets) is left out so that the numbering of crash points is steady.
_AWAITED = frozenset(
    {"publish", "publish_batch", "last", "last_many", "last_some", "at", "ack_floor", "scan"}
)
