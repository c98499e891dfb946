"""Timeouts of a lane's running calls, with one timer for all of them.

Every call of a lane has the same timeout, so the order of starting is the order of deadlines, and
only the oldest needs a timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from wf.worker.activity_queue import Lane
from wf.worker.task import Held, Stop

CANCEL_GRACE_S = 5.0  # for an `async def` call to end after its CancelledError
_TOLD = (Stop.TIMEOUT, Stop.STALLED)


class Deadlines:
    """Calls `expired` once per call whose time is up, `ignored` if it goes on after that."""

    def __init__(
        self,
        lane: Lane,
        loop: asyncio.AbstractEventLoop,
        expired: Callable[[Held], None],
        ignored: Callable[[Held], None],
    ) -> None:
        self._running = lane.running
        self._timeout_s = lane.policy.timeout_s
        self._loop = loop
        self._expired = expired
        self._ignored = ignored
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled: dict[Held, float] = {}  # and when it must have ended

    def started(self, held: Held) -> None:
        self._running[held] = None
        if self._timer is None:
            self._arm(self._timeout_s)

    def ended(self, held: Held) -> None:
        self._running.pop(held, None)
        if self._cancelled:
            self._cancelled.pop(held, None)

    def cancelled(self, held: Held) -> None:
        """A call was cancelled before its time was up: see that it ends."""
        now_s = time.monotonic()
        self._cancelled[held] = now_s + CANCEL_GRACE_S
        self.close()
        self._arm_for_next(now_s)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, delay_s: float) -> None:
        self._timer = self._loop.call_later(max(delay_s, 0.001), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now_s = time.monotonic()
        for held, limit_s in list(self._cancelled.items()):
            if now_s >= limit_s:
                del self._cancelled[held]
                self._ignored(held)
        for held in list(self._running):
            if held.started_s + self._timeout_s > now_s:
                break
            if held.stop not in _TOLD:
                self._expired(held)
                if held in self._running:
                    self._cancelled[held] = now_s + CANCEL_GRACE_S
        self._arm_for_next(now_s)

    def _arm_for_next(self, now_s: float) -> None:
        nexts = list(self._cancelled.values())
        for held in self._running:
            if held.stop not in _TOLD:
                nexts.append(held.started_s + self._timeout_s)
                break
        if nexts:
            self._arm(min(nexts) - now_s)
