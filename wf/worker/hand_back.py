"""Handing back what was taken ahead when the tasks turn out to be long.

Prefetch follows the durations of finished tasks. When short ones are suddenly followed by long
ones, hundreds may wait behind them here while other workers have nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from loguru import logger

from wf.jetstream.port import Port
from wf.worker.activity_queue import Lane
from wf.worker.task import Held

TICK_S = 0.5


async def return_surplus(lanes: Sequence[Lane], port: Port) -> None:
    """Look at all lanes twice a second, for ever."""
    while True:
        await asyncio.sleep(TICK_S)
        for lane in lanes:
            surplus = take_surplus(lane, time.monotonic())
            for held in surplus:
                port.nak(held.delivery)
            if surplus:
                logger.bind(activity=lane.name, tasks=len(surplus)).info("tasks.handed_back")


def take_surplus(lane: Lane, now_s: float) -> list[Held]:
    """Remove from the lane, newest first, what waits beyond the prefetch that is right by now.

    Each hand-back counts as a delivery, so a task that has used up half of them stays.
    """
    if lane.solitude.closed:
        return _all_but_alone(lane)
    if lane.places <= 0:  # the host has no thread for it: others may have
        return _newest(lane, 0)
    oldest = next(iter(lane.running), None)
    if oldest is None or not lane.waiting or lane.prefetch.fixed is not None:
        return []
    lane.prefetch.at_least(now_s - oldest.started_s)
    if len(lane.running) + len(lane.stuck) < lane.places:
        return []  # a place is free: what waits starts with the next turn of the loop
    return _newest(lane, lane.prefetch.target)


def _newest(lane: Lane, keep: int) -> list[Held]:
    """Remove what waits, newest first, until only `keep` are left."""
    surplus: list[Held] = []
    while len(lane.waiting) > keep and _may_go(lane, lane.waiting[-1]):
        held = lane.waiting.pop()
        lane.forget(held)
        surplus.append(held)
    return surplus


def _all_but_alone(lane: Lane) -> list[Held]:
    """A task runs alone here, for as long as it likes: what waits behind it can run elsewhere."""
    surplus = [held for held in lane.waiting if not held.alone and _may_go(lane, held)]
    for held in surplus:
        lane.waiting.remove(held)
        lane.forget(held)
    return surplus


def _may_go(lane: Lane, held: Held) -> bool:
    return not held.lease_lost and held.delivery.delivered * 2 <= lane.policy.max_deliver
