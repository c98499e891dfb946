"""The adversary's network and broker: slow, lossy, and behind where replicas answer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.support.memory.broker import MemoryBroker
from tests.support.memory.link import Network
from tests.support.memory.stream import MemoryStream, Message
from wf.jetstream.topology import WORKFLOW_STATES

# A connection does not lose what it carries; the server may, when its leader changes.
LOSABLE = frozenset({"publish", "ack", "request", "answer", "notice"})
CALM_S = 0.0005


class Unkind(Network):
    def __init__(self, random: Random, *, delay_s: float, slow: float, lost: float) -> None:
        self._random = random
        self._delay_s = delay_s
        self._slow = slow
        self._lost = lost

    def delay_s(self, what: str) -> float | None:
        random = self._random
        if self._lost and what in LOSABLE and random.random() < self._lost:
            return None
        if self._slow and random.random() < self._slow:
            return random.uniform(0, 3)
        return random.expovariate(1 / self._delay_s)

    def calm(self) -> None:
        """From now on everything arrives, and soon."""
        self._delay_s, self._slow, self._lost = CALM_S, 0.0, 0.0


class SimulatedBroker(MemoryBroker):
    """`stale_s`: how far what a replica answers may be behind (0: it never is)."""

    def __init__(
        self, network: Network, wall_ms: Callable[[], int], random: Random, stale_s: float
    ) -> None:
        super().__init__(network, wall_ms)
        self.stale_s = stale_s
        self._random = random
        self._before: dict[str, tuple[float, Message | None]] = {}
        self._latest: dict[str, Message] = {}

    def _noted(self, stream: MemoryStream, message: Message) -> None:
        if self.stale_s and stream.name == WORKFLOW_STATES:
            before = self._latest.get(message.subject)
            self._before[message.subject] = (self._loop.time(), before)
            self._latest[message.subject] = message
        super()._noted(stream, message)

    def last(self, stream: str, subject: str, *, leader: bool) -> Message | None:
        if self.stale_s and not leader and subject in self._before:
            since_s, before = self._before[subject]
            behind = self._loop.time() - since_s < self.stale_s
            if behind and self._random.random() < 0.5:
                return before
        return super().last(stream, subject, leader=leader)
