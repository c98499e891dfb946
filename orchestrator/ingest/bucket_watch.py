"""Follow a KV bucket: read what is new, at once when it is announced.

A put to a bucket is an ordinary publication to its subject, so a core subscription hears of it, as
a rule before it is stored. The bucket is then read until it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from loguru import logger

from orchestrator.ingest import dead_letters
from orchestrator.ingest.poison_guard import Convicted, Guard, Work, event_of
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.port import Port, Stored
from wf.jetstream.publish_batched import send_all
from wf.protocol import gate

EVERYTHING = ">"  # as the server need not compare, this is quicker than the subjects of the bucket
FEW = 5
REASON_CHARACTERS = 1000
PAGE = 1000
NOTICE_LIMIT_S = 5.0  # how long a notice may come before its message is stored
NOTICE_PAUSE_S = 0.02
CATCH_UP_PAUSES_S = (0.0, 0.02, 0.05, 0.1)


class Following:
    """Gives each message of `stream` under `subject` to `take` once, in stream order.

    `take` raises MessageError for what an entry holds, and nothing else: such an entry is set
    aside, or it would hide all that come after it. With a `guard`, `take` has no await, and an
    entry that kills is set aside as well.
    """

    def __init__(
        self,
        port: Port,
        stream: str,
        subject: str,
        take: Callable[[Stored], Awaitable[None] | None],
        forget: Callable[[], None] | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`forget` is called before all is taken anew."""
        self._port = port
        self._stream = stream
        self._subject = subject
        self._take = take
        self._forget = forget
        self._guard = guard
        self._known = 0  # stream sequence up to which all is taken
        self._awaited = 0  # newest sequence that was waited for
        self._refreshing = asyncio.Lock()

    async def start(self) -> None:
        """Listen from now on, then read what is there."""
        await self._port.subscribe_core(self._subject, self._noticed)
        await self.refresh()

    async def refresh(self) -> None:
        """Take what came since the last time."""
        async with self._refreshing:
            await self._read()

    async def _read(self) -> None:
        """One by one at first: as a rule there is little, and a page costs the server more."""
        page = 0
        while stored := await self._port.scan(
            self._stream,
            EVERYTHING,
            from_sequence=self._known + 1,
            limit=1 if page < FEW else PAGE,
        ):
            page += 1
            if self._guard is not None:
                await self._guard.settle(
                    [Work(event_of(self._stream, one), partial(self._take, one)) for one in stored]
                )
            for message in stored:
                await self._take_one(message)
                self._known = message.sequence

    async def _take_one(self, message: Stored) -> None:
        try:
            if self._guard is None:
                taking = self._take(message)
                if taking is not None:
                    await taking
                return
            with self._guard.about(event_of(self._stream, message)):
                self._take(message)
        except Convicted as convicted:
            if self._guard is not None:
                await self._set_aside_deadly(self._guard, message, str(convicted))
        except MessageError as error:
            await self._set_aside(message, str(error))

    async def _set_aside(self, message: Stored, reason: str) -> None:
        """An entry that is not usable stays where it is, and is not taken. Its dead letter is
        stored once, though it is read again at every start."""
        reason = gate.text(reason, REASON_CHARACTERS)
        logger.bind(subject=message.subject, reason=reason).error("entry.unusable")
        letter = dead_letters.letter(self._stream, message, reason, "unusable")
        last = await self._port.last(topology.DEAD_LETTERS, letter.subject)
        if last is None or not dead_letters.is_about(last, self._stream, message.sequence):
            await send_all(self._port, topology.DEAD_LETTERS, [letter])

    async def _set_aside_deadly(self, guard: Guard, message: Stored, reason: str) -> None:
        """An entry that kills stays where it is, and is not taken. It is told of once."""
        event = event_of(self._stream, message)
        logger.bind(subject=message.subject, reason=reason).error("entry.deadly")
        if not guard.is_settled(event):
            letter = dead_letters.letter(self._stream, message, reason, "deadly")
            await send_all(self._port, topology.DEAD_LETTERS, [letter])
            guard.acquit(event)

    async def again(self) -> None:
        """Take everything anew: after a reconnect the broker may be another one."""
        async with self._refreshing:
            self._known = self._awaited = 0
            if self._forget is not None:
                self._forget()
            await self._read()

    async def catch_up(self) -> None:
        """Take all that the stream's leader has stored by now. A replica that answers reads may be
        a moment behind it; but the newest messages may also be gone already."""
        newest = await self._port.last_sequence(self._stream)
        for pause_s in CATCH_UP_PAUSES_S:
            if self._known >= newest or self._awaited >= newest:
                return
            await asyncio.sleep(pause_s)
            await self.refresh()
        self._awaited = newest

    async def _noticed(self, _subject: str, _data: bytes) -> None:
        before = self._known
        loop = asyncio.get_running_loop()
        give_up = loop.time() + NOTICE_LIMIT_S
        while self._known == before and loop.time() < give_up:
            await self.refresh()
            if self._known == before:
                await asyncio.sleep(NOTICE_PAUSE_S)
