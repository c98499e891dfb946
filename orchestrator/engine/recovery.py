"""After a crash or a reconnect: have the events above the ack floor delivered again at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from orchestrator.state.snapshot_store import CONSUMERS
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import Port

RETRY_S = 0.2
FAILED_S = 5.0
BESIDE = (
    (topology.CLOUD_EVENTS, topology.LISTENERS),
    (topology.WORKFLOW_LISTENERS, topology.READ_BACK),
    (topology.WORKFLOW_PLACES, topology.ADMISSION),
)


class Recovery:
    def __init__(self, port: Port) -> None:
        self._port = port
        self.wanted = asyncio.Event()  # set after each reconnect

    async def reset_consumers(self) -> None:
        """CONSUMER.RESET to the ack floor, instead of waiting out ack_wait (docs/jetstream.md)."""
        for stream, consumer in (*CONSUMERS, *BESIDE):
            await self._port.reset_consumer(stream, consumer)

    async def run(self, recover: Callable[[], Awaitable[None]]) -> None:
        """Carry out `recover` after each reconnect, until it succeeds."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            while True:
                try:
                    await recover()
                except BrokerError as error:
                    logger.bind(error=str(error)).warning("recovery.retried")
                    await asyncio.sleep(RETRY_S)
                except Exception as error:  # noqa: BLE001 — nor may the loop end by what is stored
                    logger.opt(exception=error).error("background.failed")
                    await asyncio.sleep(FAILED_S)
                else:
                    logger.info("recovery.done")
                    break
