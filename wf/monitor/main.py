"""The monitor's life: connect, be ready, hear the supervisor, until it says stop or is gone."""

from __future__ import annotations

import asyncio
import signal
import time

import uvloop
from loguru import logger

from wf.errors import BrokerError
from wf.jetstream import client, connection
from wf.jetstream.client import JetStream
from wf.jetstream.troubles import Troubles
from wf.monitor.backlog import Backlog, Figures
from wf.monitor.channel import Channel, open_channel
from wf.monitor.client_workers import ClientWorkers
from wf.monitor.deaths import Reporter
from wf.monitor.status import Status
from wf.process import log
from wf.process.child import EXIT_BROKER, EXIT_OK, Child, trouble_report
from wf.process.status_page import Phase, open_writer

TICK_S = 1.0
LEAVE_S = 3.0


def run(child: Child) -> int:
    """Entry point of the child process; returns its exit status."""
    log.configure_child(child)
    try:
        return uvloop.run(_serve(child))
    except BrokerError as error:
        logger.bind(error=str(error)).error("monitor.cannot_connect")
        child.failed("broker", str(error))
        return EXIT_BROKER


async def _serve(child: Child) -> int:
    if child.report_fd is None:
        raise ValueError("the monitor has nothing to do without a supervisor")
    port = await client.connect(
        connection.from_settings(child.settings, "monitor"), role="monitor", name=child.name
    )
    try:
        channel = await open_channel(child.report_fd)
        await Monitor(child, port, channel).run()
    finally:
        await port.close()
    return EXIT_OK


class Monitor:
    """Its parts, side by side on one event loop."""

    def __init__(self, child: Child, port: JetStream, channel: Channel) -> None:
        self._channel = channel
        self._slot = open_writer(child.slot_fd, 0, child.generation, time.monotonic())
        self._reporter = Reporter(port, self._settled)
        self._activities: list[str] = []
        self._client_workers = ClientWorkers(port)
        self._backlog = Backlog(port, self._watched, self._tell_backlog, self._tell_unread)
        self._troubles = Troubles(port, self._tell_trouble)
        self._status = Status(port, child.settings.supervisor.name, self._backlog)

    async def run(self) -> None:
        """Until SIGTERM, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        hearing = loop.create_task(self._hear())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, hearing.cancel)
        parts = {
            loop.create_task(part)
            for part in (
                self._tick(),
                self._backlog.run(),
                self._client_workers.run(),
                self._status.run(),
            )
        }
        self._slot.enter(Phase.RUNNING)
        self._channel.send({"event": "ready"})
        logger.info("monitor.ready")
        ended, _ = await asyncio.wait({hearing, *parts}, return_when=asyncio.FIRST_COMPLETED)
        self._slot.enter(Phase.LEAVING)
        for part in (hearing, *parts):
            part.cancel()
        await self._reporter.close(LEAVE_S)
        await self._channel.close()
        for part in ended:
            if not part.cancelled():
                part.result()  # a bug of ours is not to be silent

    async def _hear(self) -> None:
        while (message := await self._channel.next()) is not None:
            match message.get("event"):
                case "death":
                    self._reporter.take(message)
                case "status":
                    self._status.document = message["status"]
                    self._activities = message["activities"]

    async def _tick(self) -> None:
        while True:
            self._slot.tick(time.monotonic())
            self._troubles.look()
            await asyncio.sleep(TICK_S)

    def _watched(self) -> list[str]:
        """The activities of this host's pools, and those of client workers anywhere."""
        return list(dict.fromkeys([*self._activities, *self._client_workers.activities]))

    def _tell_backlog(self, figures: dict[str, Figures], missing: list[str]) -> None:
        if not self._channel.is_behind():
            self._channel.send(
                {
                    "event": "backlog",
                    "activities": figures,
                    "missing": missing,
                    "workers": self._client_workers.latest,
                }
            )

    def _tell_unread(self, reason: str) -> None:
        if not self._channel.is_behind():
            self._channel.send({"event": "backlog", "error": reason})

    def _tell_trouble(self, problems: list[str], unable: bool) -> None:
        self._channel.send(trouble_report(problems, unable))

    def _settled(self, death: int) -> None:
        self._channel.send({"event": "settled", "death": death})
