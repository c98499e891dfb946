"""The way between a process and the broker: in order, with delays, and breakable."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]


class Network:
    """How long things take. None: it never arrives. This one is kind: no delay, no loss.

    `what` is "publish", "ack", "request", "answer", "pull", "delivery" or "notice"; "pull" and
    "delivery" only break with their connection.
    """

    def delay_s(self, what: str) -> float | None:
        return 0.0


class Lane:
    """Actions that happen one after the other, each after its delay."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._waiting: deque[Action] = deque()
        self._last_s = 0.0

    def put(self, delay_s: float, action: Action) -> None:
        self._waiting.append(action)
        if delay_s <= 0 and len(self._waiting) == 1:
            self._loop.call_soon(self._step, context=self._context)
            return
        self._last_s = max(self._last_s, self._loop.time() + delay_s)
        self._loop.call_at(self._last_s, self._step, context=self._context)

    def _step(self) -> None:
        if self._waiting:  # else cut meanwhile
            self._waiting.popleft()()

    def cut(self, keep: int = 0) -> None:
        """Drop what is under way, all but the first `keep`."""
        while len(self._waiting) > keep:
            self._waiting.pop()

    def __len__(self) -> int:
        return len(self._waiting)


class Link:
    """One connection. What is on its way when it breaks is lost, in both directions."""

    def __init__(self, network: Network, neutral: contextvars.Context) -> None:
        """`neutral`: the context of the broker's side, which outlives the process."""
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._own = contextvars.copy_context()
        self._out = Lane(self._loop, neutral)
        self._in = Lane(self._loop, neutral)
        self.up = True
        self.number = 0  # how often it was made again
        self.closed = False
        self.on_lost: list[Action] = []
        self.on_back: list[Action] = []
        self._news: deque[list[Action]] = deque()
        self.whole = asyncio.Event()
        self.whole.set()

    def send(self, what: str, action: Action) -> None:
        """To the broker; dropped without a connection."""
        delay_s = self._network.delay_s(what)
        if self.up and delay_s is not None:
            self._out.put(delay_s, action)

    def give(self, what: str, action: Action) -> None:
        """To the process."""
        delay_s = self._network.delay_s(what)
        if self.up and delay_s is not None:
            self._in.put(delay_s, action)

    def lose(self, arrives: int = 0) -> None:
        """The connection breaks; of what was sent, the first `arrives` still do."""
        if not self.up:
            return
        self.up = False
        self.whole.clear()
        self._out.cut(arrives)
        self._in.cut()
        self._tell(self.on_lost)

    def back(self) -> None:
        """Connected again."""
        if self.up or self.closed:
            return
        self.up = True
        self.number += 1
        self.whole.set()
        self._tell(self.on_back)

    def _tell(self, callbacks: list[Action]) -> None:
        """In the process, when it gets to it; news of the connection in their order."""
        self._news.append(callbacks)
        self._loop.call_soon(self._hear, context=self._own)

    def _hear(self) -> None:
        for callback in list(self._news.popleft()):
            callback()

    def under_way(self) -> int:
        """How many messages to the broker have not arrived."""
        return len(self._out)

    def close(self) -> None:
        self.closed = True
        self.up = False
        self.whole.set()
