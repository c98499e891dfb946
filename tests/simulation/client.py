"""Who starts instances and commands them. What the broker accepted goes into `accepted`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.plan import Wish
from wf.jetstream import topology
from wf.jetstream.port import Accepted, Outgoing
from wf.protocol import messages, subjects

if TYPE_CHECKING:
    from tests.support.memory import MemoryPort


class Asked(NamedTuple):
    """A message that was accepted."""

    kind: str  # start, or a command's verb
    instance: str
    sequence: int


class Client:
    """It lives for ever; its connection need not."""

    def __init__(self, port: MemoryPort) -> None:
        self.port = port
        self._numbers = 0
        self.accepted: list[Asked] = []

    async def run(self, wishes: tuple[Wish, ...]) -> None:
        await asyncio.gather(*(self._wish(wish) for wish in wishes))

    async def finish(self, wishes: tuple[Wish, ...]) -> None:
        """Nothing stays suspended."""
        names = [wish.instance for wish in wishes if any(v == "suspend" for _, v in wish.commands)]
        await asyncio.gather(*(self.command(name, "resume") for name in names))

    async def _wish(self, wish: Wish) -> None:
        await asyncio.sleep(wish.start_at_s)
        await asyncio.gather(*(self._start(wish) for _ in range(2 if wish.twice else 1)))
        # Only now: a command that is stored before its start is for nobody.
        commands = [self._later(wish.instance, *command) for command in wish.commands]
        await asyncio.gather(*commands)

    async def _later(self, instance: str, after_s: float, verb: str) -> None:
        await asyncio.sleep(after_s)
        await self.command(instance, verb)

    async def _start(self, wish: Wish) -> None:
        body = messages.start_body(instance=wish.instance, input={"n": wish.number})
        key = messages.start_message_id(wish.instance)
        message = Outgoing(subjects.start("default", wish.flow), messages.encode(body), key)
        await self._store("start", wish.instance, message)

    async def command(self, instance: str, verb: str) -> None:
        self._numbers += 1
        body = messages.encode(messages.command_body())
        message = Outgoing(subjects.command(instance, verb), body, f"command:{self._numbers}")
        await self._store(verb, instance, message)

    async def _store(self, kind: str, instance: str, message: Outgoing) -> None:
        while True:
            (outcome,) = await self.port.publish(topology.WORKFLOW_EVENTS, [message])
            if isinstance(outcome, Accepted):
                self.accepted.append(Asked(kind, instance, outcome.sequence))
                return
            await asyncio.sleep(0.3)
