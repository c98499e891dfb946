"""Once a second: tell the supervisor of progress, and see whether it is time to be recycled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from loguru import logger

from wf.process.child import EXIT_OK, EXIT_RECYCLE, Child
from wf.protocol.durations import format_size
from wf.worker.activity_queue import Lane
from wf.worker.memory import private_bytes
from wf.worker.shutdown import Stopping

TICK_S = 1.0
MEMORY_TICKS = 3  # memory is measured every so many ticks
MEMORY_SAMPLES = 3  # so many in a row above the limit: it stays that large
MEMORY_LIMIT = 2  # times max_memory: no time to wait for one's turn
STUCK_GRACE_S = 5.0  # for a call that was told to stop to come back
TASKS_JITTER = 0.1  # share of max_tasks by which workers of a pool differ


class Watch:
    """`limit`: tasks after which to be recycled, 0 for none."""

    def __init__(
        self,
        child: Child,
        lanes: Sequence[Lane],
        stopping: Stopping,
        *,
        limit: int,
        max_memory: int,
        troubles: Callable[[], None] = lambda: None,
    ) -> None:
        """`troubles` is called once a second, to tell what keeps the worker from its work."""
        self._child = child
        self._lanes = lanes
        self._stopping = stopping
        self._limit = limit
        self._troubles = troubles
        self._max_memory = max_memory
        self._done = 0  # tasks whose results are stored
        self._told = 0
        self._samples_above = 0
        self._asked = False

    async def run(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            self.tell_progress()
            self._troubles()
            if self._child.orphaned():
                self._stopping.request(EXIT_OK, "the supervisor is gone")
            self._look_for_stuck(time.monotonic())
            if self._max_memory and ticks % MEMORY_TICKS == 0:
                await self._measure_memory()

    async def _measure_memory(self) -> None:
        try:
            used = await asyncio.to_thread(private_bytes)
        except (RuntimeError, OSError) as error:  # no thread, no descriptor: another time
            logger.bind(error=str(error)).debug("worker.memory_not_measured")
        else:
            self._look_at_memory(used)

    def stored(self) -> None:
        """One more result is stored."""
        self._done += 1
        if self._limit and self._done >= self._limit:
            self._recycle(f"max_tasks: {self._done} done")

    def _recycle(self, reason: str, *, at_once: bool = False) -> None:
        """Be replaced when the pool can spare us, and at once where nobody decides that."""
        if self._asked and not at_once:
            return
        if at_once or not self._child.wants_recycle(reason):
            self._stopping.request(EXIT_RECYCLE, reason)
        self._asked = True

    def tell_progress(self) -> None:
        """Tell the supervisor how many tasks are done, if there are more."""
        if self._done != self._told:
            self._told = self._done
            self._child.progress(self._told)

    def _look_for_stuck(self, now_s: float) -> None:
        for lane in self._lanes:
            for held, since_s in lane.stuck.items():
                if now_s - since_s > STUCK_GRACE_S and not self._stopping.requested:
                    logger.bind(
                        activity=lane.name,
                        instance=held.instance,
                        run=held.run,
                        attempt=held.attempt,
                    ).error("task.does_not_end")
                    self._stopping.request(
                        EXIT_RECYCLE, f"{lane.name} goes on past its timeout and cannot be ended"
                    )

    def _look_at_memory(self, used: int) -> None:
        self._samples_above = self._samples_above + 1 if used > self._max_memory else 0
        if self._samples_above >= MEMORY_SAMPLES:
            self._recycle(
                f"max_memory: {format_size(used)} used, {format_size(self._max_memory)} allowed",
                at_once=used > MEMORY_LIMIT * self._max_memory,
            )


def task_limit(max_tasks: int, spread: float) -> int:
    """max_tasks, made up to a tenth larger so that a pool's workers are not recycled together.

    `spread`: a random share, 0 to 1.
    """
    return max_tasks + int(max_tasks * TASKS_JITTER * spread) if max_tasks else 0
