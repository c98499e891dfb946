"""In-progress acks: the broker keeps giving this worker time for what it holds.

They come from the event loop on purpose. A loop that stalls longer than ack_wait loses its leases:
the broker may have given the tasks to others, and an ack of the old delivery would disturb these.
So what was held during a stall is neither handed back nor started.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from loguru import logger

from wf.jetstream.port import Port
from wf.worker.activity_queue import Lane


class Leases:
    """Renews the leases of all lanes every third of the shortest ack_wait."""

    def __init__(self, lanes: Sequence[Lane], port: Port) -> None:
        self._lanes = lanes
        self._port = port
        self._ack_wait_s = min(lane.policy.ack_wait_s for lane in lanes)
        self._seen_s = time.monotonic()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait_s / 3)
            self.notice_stall()
            self.renew()

    def renew(self) -> None:
        """Say that every held task is still in hand, prefetched and unstored ones too."""
        for lane in self._lanes:
            for held in lane.held.values():
                self._port.in_progress(held.delivery)
            for delivery in lane.unreadable.values():
                self._port.in_progress(delivery)

    def notice_stall(self, clock: Callable[[], float] = time.monotonic) -> bool:
        """Mark leases as lost if the loop did not turn for longer than ack_wait; whether so."""
        now_s = clock()
        stalled_s = now_s - self._seen_s
        self._seen_s = now_s
        if stalled_s <= self._ack_wait_s:
            return False
        lost = sum(_lose(lane) for lane in self._lanes)
        logger.bind(stalled_s=round(stalled_s, 1), tasks=lost).error("worker.stalled")
        return True


def _lose(lane: Lane) -> int:
    """Mark what the lane holds; forget what it had not started. How many were held."""
    count = len(lane.held)
    for held in lane.held.values():
        held.lease_lost = True
    lane.take_unstarted()
    lane.freed()
    return count
