"""Read a durable consumer for good: nothing is acknowledged before it is dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from orchestrator.ingest import dead_letters
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Port
from wf.jetstream.publish_batched import RETRY_S, send_all
from wf.protocol import gate

Reading = Callable[[list[Delivery]], Awaitable[None]]


async def read(port: Port, stream: str, consumer: str, batch: int, work: Reading) -> None:
    """Carry out `work` for whatever comes, again until it succeeds, then acknowledge. A message
    that it breaks on is set aside."""
    pull = await port.pull(stream, consumer, window=batch * 2)
    taken: list[Delivery] = []
    try:
        while True:
            taken = await pull.next(batch)
            await _until_done(port, work, taken, consumer)
            for delivery in taken:
                port.ack(delivery)
            taken = []
    finally:
        for delivery in (*taken, *await pull.stop()):
            port.nak(delivery)


async def _until_done(port: Port, work: Reading, taken: list[Delivery], consumer: str) -> None:
    turn = 0
    while True:
        try:
            await _each_or_all(port, work, taken)
        except BrokerError as error:
            logger.bind(consumer=consumer, error=str(error)).warning("consumer.again")
        else:
            return
        turn = min(turn + 1, len(RETRY_S) - 1)
        await asyncio.sleep(RETRY_S[turn])


async def _each_or_all(port: Port, work: Reading, taken: list[Delivery]) -> None:
    """All at once; when that breaks, each by itself, and what breaks it then is set aside. Work is
    done again after a crash, so that doing some of it twice is nothing new."""
    try:
        await work(taken)
    except (BrokerError, OSError):  # no message's fault
        raise
    except Exception as error:  # noqa: BLE001 — no message may end the loop
        if len(taken) == 1:
            await _set_aside(port, taken[0], error)
            return
        for delivery in taken:
            await _each_or_all(port, work, [delivery])


async def _set_aside(port: Port, delivery: Delivery, error: Exception) -> None:
    reason = gate.error_text(error)
    letter = dead_letters.letter(delivery.stream, delivery, reason, "broken")
    await send_all(port, topology.DEAD_LETTERS, [letter])
    log = logger.bind(subject=delivery.subject, sequence=delivery.sequence, reason=reason)
    log.opt(exception=error).error("message.broken")
