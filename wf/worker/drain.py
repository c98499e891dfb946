"""Ending a worker so that nothing it held is lost or late.

Stop pulling; hand unstarted tasks back at once; let running ones finish within the grace period;
cancel and hand back the rest; store the last results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loguru import logger

from wf.errors import BrokerError
from wf.jetstream.port import HAND_BACK_S, Port
from wf.worker.ack_renewal import Leases
from wf.worker.activity_queue import Lane
from wf.worker.puller import Puller
from wf.worker.result_publisher import Publisher
from wf.worker.runner import Runner
from wf.worker.task import Held, Stop

CANCEL_S = 1.0  # for cancelled activities to clean up
FLUSH_S = 2.0
_POLL_S = 0.01


@dataclass(slots=True)
class Station:
    """All that serves one activity."""

    lane: Lane
    runner: Runner
    puller: Puller


async def drain(
    stations: Sequence[Station],
    publisher: Publisher,
    leases: Leases,
    port: Port,
    *,
    grace_s: float,
    hurried: Callable[[], bool] = lambda: False,
) -> None:
    """Bring every held task to an end, or hand it back, within `grace_s`.

    Once `hurried()` is true, running tasks are cancelled at once.
    """
    loop = asyncio.get_running_loop()
    finish_by_s = loop.time() + max(0.0, grace_s - min(2 * CANCEL_S, grace_s / 2))
    leave_by_s = loop.time() + grace_s
    handed_back = await _stop_taking(stations, leases, port)
    while _running(stations) and loop.time() < finish_by_s and not hurried():
        await asyncio.sleep(_POLL_S)
    handed_back += await _cancel_running(stations, port)
    unstored = await publisher.close(max(0.5, leave_by_s - loop.time()))
    for station in stations:
        handed_back += _hand_back(station.lane, list(station.lane.held.values()), port)
        await station.runner.close()
    await _flush(port)
    logger.bind(handed_back=handed_back, unstored=unstored).info("worker.drained")


async def _stop_taking(stations: Sequence[Station], leases: Leases, port: Port) -> int:
    """Pull no more, then hand back what has not started; how many.

    In this order: a worker with an open pull would get its own hand-backs.
    """
    for station in stations:
        station.lane.close()
    untaken = await asyncio.gather(*(station.puller.stop() for station in stations))
    stalled = leases.notice_stall()
    count = 0
    for station, deliveries in zip(stations, untaken, strict=True):
        unstarted = station.lane.take_unstarted()
        count += _hand_back(station.lane, unstarted, port)
        for delivery in deliveries if not stalled else ():
            port.nak(delivery, HAND_BACK_S)
            count += 1
    await _flush(port)
    return count


async def _flush(port: Port) -> None:
    try:
        async with asyncio.timeout(FLUSH_S):
            await port.flush()
    except (TimeoutError, BrokerError) as error:  # ack_wait covers what the broker did not hear
        logger.bind(error=str(error)).warning("worker.not_flushed")


def _running(stations: Sequence[Station]) -> bool:
    return any(station.lane.running for station in stations)


async def _cancel_running(stations: Sequence[Station], port: Port) -> int:
    """Cancel what still runs, give it a moment to clean up, hand it back."""
    cancelled: list[tuple[Lane, Held]] = []
    for station in stations:
        for held in list(station.lane.running):
            if held.stop is None:
                held.settled = True  # whatever it gives now does not count
                station.runner.cancel(held, Stop.DRAIN)
                cancelled.append((station.lane, held))
    limit_s = asyncio.get_running_loop().time() + CANCEL_S
    while _running(stations) and asyncio.get_running_loop().time() < limit_s:
        await asyncio.sleep(_POLL_S)
    return sum(_hand_back(lane, [held], port) for lane, held in cancelled)


def _hand_back(lane: Lane, tasks: Sequence[Held], port: Port) -> int:
    """NAK the tasks whose lease is ours, and forget them all; how many were handed back."""
    count = 0
    for held in tasks:
        held.settled = True
        lane.forget(held)
        if not held.lease_lost:
            port.nak(held.delivery, HAND_BACK_S)
            count += 1
    return count
