"""When this worker stops, and with which exit status."""

from __future__ import annotations

import asyncio
import signal
import time

from loguru import logger

from wf.process.child import EXIT_OK


class Stopping:
    """Set once, by a signal, the watch or a fault; the first reason counts."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.status = EXIT_OK
        self._signals = 0
        self._requested_s = 0.0

    def on_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)

    def _signalled(self, name: str) -> None:
        self._signals += 1
        self.request(EXIT_OK, name)

    def request(self, status: int, reason: str) -> None:
        if self._event.is_set():
            return
        self.status = status
        self._event.set()
        self._requested_s = time.monotonic()
        logger.bind(reason=reason, status=status).info("worker.stopping")

    @property
    def hurried(self) -> bool:
        """A second signal came: do not wait for running tasks."""
        return self._signals > 1

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def since_s(self) -> float:
        """How long ago it was asked to stop; 0.0: it was not."""
        return time.monotonic() - self._requested_s if self._requested_s else 0.0

    async def wait(self) -> None:
        await self._event.wait()
