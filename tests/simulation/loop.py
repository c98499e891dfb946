"""An event loop without a clock of its own: time passes when nothing else is to be done.

Which of the ready callbacks goes first is drawn from the seed. Every callback belongs to the life
of a process (or to nobody: the broker, the adversary); those of the dead are dropped, those of the
stopped wait. So a process may end between any two steps, as by SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

MAX_STEPS = 400_000


class Stuck(Exception):
    """Nothing is left to be done, or too much was."""


@dataclass(eq=False)
class Life:
    """One process from its start to its end."""

    name: str
    alive: bool = True
    stopped: bool = False  # by SIGSTOP
    steps: int = 0
    die_at: int | None = None  # this step is not taken
    backlog: list[asyncio.Handle] = field(default_factory=list)


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("LIFE", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """`on_death(life)` is called when a life reaches its last step."""

    def __init__(self, random: Random, on_death: Callable[[Life], None]) -> None:
        super().__init__()
        self.steps = 0
        self._now_s = 0.0
        self._random = random
        self._on_death = on_death
        self._made: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        self._made.append(task)  # else the dead are collected, which runs what they had left to do
        return task

    def time(self) -> float:
        return self._now_s

    # What BaseEventLoop leaves to its children: nothing comes from outside.

    def _process_events(self, event_list: Any) -> None: ...

    def _write_to_self(self) -> None: ...

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck("nothing is left to be done")
            self._now_s = max(self._now_s, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        if len(ready) > 1:
            place = self._random.randrange(len(ready))
            ready[0], ready[place] = ready[place], ready[0]
        handle = ready.popleft()
        if not handle._cancelled:
            self._step(handle)

    def _step(self, handle: asyncio.Handle) -> None:
        life = handle._context.get(LIFE)
        if life is not None:
            if not life.alive:
                return
            if life.stopped:
                life.backlog.append(handle)
                return
            life.steps += 1
            if life.steps == life.die_at:
                self._on_death(life)
                return
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Stuck(f"more than {MAX_STEPS} steps")
        handle._run()

    def wake(self, life: Life) -> None:
        """SIGCONT."""
        life.stopped = False
        backlog, life.backlog = life.backlog, []
        self._ready.extend(backlog)

    def bury(self) -> None:
        """End what never came to an end, without running any of it to a further await."""
        asyncio.events._set_running_loop(self)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for task in self._made:
                    if not task.done():
                        task._log_destroy_pending = False  # type: ignore[attr-defined]
                        _end(task.get_coro())
            finally:
                asyncio.events._set_running_loop(None)
        self._made.clear()
        self._ready.clear()
        self._scheduled.clear()


class Buried(BaseException):
    """Thrown into what is left of the dead."""


def _end(work: Any) -> None:
    for _ in range(50):
        try:
            work.throw(Buried())
        except BaseException:  # noqa: BLE001 — whatever it says, it has ended
            return
