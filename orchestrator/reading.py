"""Read a durable consumer for good: nothing is acknowledged before it is dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from orchestrator.sending import RETRY_S
from wf.errors import BrokerError
from wf.jetstream.port import Delivery, Port

Work = Callable[[list[Delivery]], Awaitable[None]]


async def read(port: Port, stream: str, consumer: str, batch: int, work: Work) -> None:
    """Carry out `work` for whatever comes, again until it succeeds, then acknowledge."""
    pull = await port.pull(stream, consumer, window=batch * 2)
    taken: list[Delivery] = []
    try:
        while True:
            taken = await pull.next(batch)
            await _until_done(work, taken, consumer)
            for delivery in taken:
                port.ack(delivery)
            taken = []
    finally:
        for delivery in (*taken, *await pull.stop()):
            port.nak(delivery)


async def _until_done(work: Work, taken: list[Delivery], consumer: str) -> None:
    turn = 0
    while True:
        try:
            await work(taken)
        except BrokerError as error:
            logger.bind(consumer=consumer, error=str(error)).warning("consumer.again")
        else:
            return
        turn = min(turn + 1, len(RETRY_S) - 1)
        await asyncio.sleep(RETRY_S[turn])
