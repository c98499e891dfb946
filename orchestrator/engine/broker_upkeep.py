"""What the engine needs at the broker is there, and stays there (wf/jetstream/assurance.py).

A slow tick looks at all of it; it is looked at almost at once when the broker says that somebody
has changed or deleted something, after a reconnect, and when a pull of ours is not answered.
Besides streams and fixed consumers these are the consumers of the announced activities and the
definitions that lie in files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from orchestrator.registry.activity_consumers import Catalog
from wf.errors import BrokerError
from wf.jetstream.assurance import Assurance, Found, loss
from wf.jetstream.port import Port

TICK_S = 1.0
PAUSE_S = 0.1  # what the broker says comes in bursts
ADVISORIES = tuple(
    f"$JS.EVENT.ADVISORY.{what}"
    for what in (
        "STREAM.DELETED.>",
        "STREAM.UPDATED.>",
        "CONSUMER.DELETED.>",
        "CONSUMER.CREATED.>",  # as it says when one is updated, too
        "CONSUMER.PAUSE.>",
    )
)
LOOK_S = 5.0  # each look asks the broker for some dozens of short answers


class Upkeep:
    def __init__(
        self,
        port: Port,
        assurance: Assurance,
        catalog: Catalog,
        *,
        renewed: Callable[[], Awaitable[None]],
        redeploy: Callable[[], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> None:
        """`renewed`: take everything anew, as streams are not what they were. `redeploy`: register
        what lies in files and is not registered. `lost` gets a sentence on what is gone."""
        self._port = port
        self._assurance = assurance
        self._catalog = catalog
        self._renewed = renewed
        self._redeploy = redeploy
        self._lost = lost
        self._due_s = 0.0
        self._wanted = asyncio.Event()
        self._anew = False  # streams are not what they were, and not all of it is taken anew
        self.problems: list[str] = []  # of the last look, each with its remedy

    async def run(self) -> None:
        """Until cancelled: look, now and then and when there is a reason to."""
        loop = asyncio.get_running_loop()
        for subject in ADVISORIES:
            await self._port.subscribe_core(subject, self._heard)
        self._due_s = loop.time() + LOOK_S
        while True:
            await self._tick()
            if loop.time() < self._due_s and not self._port.troubles():
                continue
            try:
                await self._look_on()
            except BrokerError as error:
                self.problems = [str(error)]
            self._due_s = loop.time() + LOOK_S

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await self._wanted.wait()
        except TimeoutError:
            return
        await asyncio.sleep(PAUSE_S)
        self._wanted.clear()
        self._due_s = 0.0

    async def _heard(self, _subject: str, _data: bytes) -> None:
        self._wanted.set()

    async def look(self, *, strict: bool = False) -> None:
        """Once. Raises BrokerError without an answer; `strict` as in Assurance.look."""
        found = await self._see(strict=strict)
        if self._anew:
            await self._take_anew()
        self.problems = [*found.problems, *await self._catalog.ensure()]
        await self._redeploy()

    async def _look_on(self) -> None:
        """`look`; and while it waits for an answer, what it waits for may go, and is made again."""
        looking = asyncio.ensure_future(self.look())
        try:
            while not looking.done():
                await asyncio.wait({looking}, timeout=TICK_S)
                if not looking.done():
                    await self._see()
            looking.result()
        finally:
            looking.cancel()

    async def _see(self, *, strict: bool = False) -> Found:
        found = await self._assurance.look(strict=strict)
        if found.renewed:
            self._tell(found.renewed)
            self._anew = True
        return found

    def _tell(self, streams: frozenset[str]) -> None:
        log = logger.bind(streams=sorted(streams))
        gone = loss(streams)
        if gone:
            log.error("broker.data_lost", reason=gone)
            self._lost(gone)
        else:
            log.warning("broker.streams_renewed")

    async def _take_anew(self) -> None:
        """No look finds the same loss again: what fails here is owed, and done with the next."""
        self._anew = False
        try:
            await self._renewed()
        except BaseException:
            self._anew = True
            raise
