"""How many timers may be pending over all instances.

The timer stream has no limits (the server refuses schedules on one that turns messages away), so
the engine keeps count. Beyond the cap a timer is refused like a task whose queue is full: its
instance waits, and gets the timer when others have fired or been cancelled.
"""

from __future__ import annotations

from loguru import logger

from wf.jetstream import topology
from wf.jetstream.port import Port


class TimerCap:
    """The count of the last look, and what was published since."""

    def __init__(self, port: Port, limit: int) -> None:
        self._port = port
        self._limit = limit
        self._pending = 0

    async def look(self) -> None:
        """Ask the stream. What has fired does not count: it may stay long, above an event that is
        not acknowledged because its own instance waits for room here."""
        was_full = self.is_full
        self._pending = await self._port.count(topology.WORKFLOW_TIMERS)
        if self.is_full:  # else there is no need to look closer
            fired = await self._port.subjects(topology.WORKFLOW_TIMERS, topology.FIRED_TIMERS)
            self._pending -= sum(fired.values())
        if self.is_full != was_full:
            log = logger.bind(pending=self._pending, limit=self._limit)
            log.warning("timers.full" if self.is_full else "timers.free")

    @property
    def is_full(self) -> bool:
        return self._pending >= self._limit

    def published(self, count: int) -> None:
        self._pending += count
