"""Tasks that have to run alone: a worker died while they ran, and the next death must convict.

While one waits or runs, no lane of this process starts or takes anything else. What already runs
comes to its end first, and its results are stored, so that nothing is lost with the worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wf.worker.task import Held


class Queue(Protocol):
    """What is read and moved of an activity's queue."""

    alone: deque[Held]
    waiting: deque[Held]
    stuck: dict[Held, float]
    draining: bool

    def started(self) -> int: ...

    def freed(self) -> None: ...


@dataclass(slots=True, eq=False)
class Solitude:
    """Shared by all lanes of a process. State, and who may start."""

    lanes: Sequence[Queue] = field(default_factory=list)
    offer: Callable[[], None] = lambda: None  # tasks may have become free to start, in any lane
    closed: bool = False  # something waits to run alone, or does
    current: Held | None = None
    paused: int = 0  # so many pullers let come first what is under way

    def may_start(self, held: Held) -> bool:
        return not self.closed or held is self.current

    def add(self, lane: Queue, held: Held) -> None:
        """A task that must run alone has come."""
        lane.alone.append(held)
        self.closed = True
        self.advance()

    def pause(self) -> None:
        """Nothing begins to run alone until `resume`."""
        self.paused += 1

    def resume(self) -> None:
        self.paused -= 1
        if self.closed:
            self.advance()

    def gone(self, held: Held) -> None:
        """A task is acknowledged or was given away: it may be the turn of the next."""
        if held is self.current:
            self.current = None
        if self.current is None:
            self.advance()

    def advance(self) -> None:
        """Let the next one start once nothing else runs; let everybody start when there is none."""
        if self.paused or self.current is not None or any(lane.draining for lane in self.lanes):
            return
        if any(lane.stuck or lane.started() for lane in self.lanes):
            return
        for lane in self.lanes:
            if lane.alone:
                self.current = held = lane.alone.popleft()
                lane.waiting.appendleft(held)
                break
        else:
            self.closed = False
            for lane in self.lanes:
                lane.freed()
        self.offer()
