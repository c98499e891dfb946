"""A client worker tells that it is there: one key of the bucket POOL_STATUS, renewed and expiring.

A pooled worker does not: its supervisor tells of it. Any worker in any language may do the same
(docs/protocol.md); nothing relies on it but what people are shown.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Sequence

from loguru import logger

from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing, Port
from wf.protocol import messages, subjects
from wf.worker.activity_queue import Lane

PERIOD_S = 5.0


class ClientStatus:
    """Keeps this process's entry up to date until it is cancelled; then takes it out."""

    def __init__(self, port: Port, lanes: Sequence[Lane]) -> None:
        host = socket.gethostname()
        self._port = port
        self._lanes = lanes
        self._host = host
        self._name = f"{re.sub('[^A-Za-z0-9_-]', '-', host)}-{os.getpid()}"[:64]
        self._started_ms = _now_ms()
        self._failed = False

    async def run(self) -> None:
        """For ever. What cannot be told now is told the next time."""
        try:
            while True:
                await self._put(messages.encode(self._entry()), None)
                await asyncio.sleep(PERIOD_S)
        finally:
            await self._put(b"", {"KV-Operation": "DEL"})

    def _entry(self) -> messages.JsonObject:
        activities = {
            lane.name: {"running": lane.started(), "concurrency": lane.policy.concurrency}
            for lane in self._lanes
        }
        return messages.worker_body(
            host=self._host,
            name=self._name,
            pid=os.getpid(),
            started_ms=self._started_ms,
            written_ms=_now_ms(),
            activities=activities,
        )

    async def _put(self, data: bytes, headers: dict[str, str] | None) -> None:
        message = Outgoing(subjects.worker_status(self._name), data, headers=headers)
        try:
            (outcome,) = await self._port.publish(topology.POOL_STATUS, [message])
            reason = None if isinstance(outcome, Accepted) else str(outcome)
        except BrokerError as error:
            reason = str(error)
        if reason is not None and not self._failed:
            logger.bind(reason=reason).warning("worker.status_not_told")
        self._failed = reason is not None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
