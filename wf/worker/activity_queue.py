"""One activity in this worker: what it holds, what runs, and how much more it may take."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from wf.authoring.activity import ActivityDefinition
from wf.jetstream.port import Delivery
from wf.process.status_page import NO_PLACE, SlotWriter, unseen
from wf.worker.exclusive import Solitude
from wf.worker.policy import Policy
from wf.worker.prefetch import Prefetch
from wf.worker.results import Results
from wf.worker.task import Held

UNSTORED_LIMIT = 2000  # results that wait for the broker before the lane stops taking tasks


@dataclass(slots=True, eq=False)
class Lane:
    """State only; puller, runner, publisher and leases work on it, all on one event loop."""

    definition: ActivityDefinition
    policy: Policy
    results: Results
    prefetch: Prefetch
    held: dict[int, Held] = field(default_factory=dict)  # by stream sequence; all of them
    waiting: deque[Held] = field(default_factory=deque)  # not started
    alone: deque[Held] = field(default_factory=deque)  # not started, and to run with nothing else
    running: dict[Held, None] = field(default_factory=dict)  # in order of their start
    stuck: dict[Held, float] = field(default_factory=dict)  # reported, but not ended; since when
    unreadable: dict[int, Delivery] = field(default_factory=dict)  # on their way to DEAD_LETTERS
    lacking: int = 0  # places for which the host has no thread
    draining: bool = False
    slot: SlotWriter = field(default_factory=unseen)
    solitude: Solitude = field(default_factory=Solitude)  # of the whole process
    _coming: int = 0
    _room: asyncio.Future[None] | None = None  # the puller, when it waits for room

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def places(self) -> int:
        """How many calls can run at once now."""
        return self.policy.concurrency - self.lacking

    @property
    def most_held(self) -> int:
        """How many tasks it has in hand at most: waiting, running, and not yet stored."""
        return self.policy.concurrency + self.prefetch.most + UNSTORED_LIMIT

    def hold(self, held: Held) -> None:
        """A task has come: whoever finds us dead shall know it."""
        delivery = held.delivery
        self.held[delivery.sequence] = held
        held.place = self.slot.hold(delivery.sequence, delivery.reply)

    def note_start(self, held: Held) -> None:
        """The task is about to run."""
        self.slot.started(held.place, held.started_s, held.started_s + self.policy.timeout_s)

    def note_end(self, held: Held) -> None:
        """Its outcome is known."""
        if not held.ended:
            held.ended = True
            if held.started_s:
                self.slot.ended(held.place)

    def note_lease(self, held: Held) -> None:
        """It was delivered again: its ack goes elsewhere now."""
        if held.ended:
            return
        runs = held.started_s and held.place != NO_PLACE
        if runs:
            self.slot.ended(held.place)
        self.slot.forget(held.place)
        self.hold(held)
        if runs:
            self.note_start(held)

    def forget(self, held: Held) -> None:
        """It is not ours any more."""
        self.held.pop(held.delivery.sequence, None)
        if held.place != NO_PLACE:
            self.note_end(held)
            self.slot.forget(held.place)
            held.place = NO_PLACE

    def take_unstarted(self) -> list[Held]:
        """What has not started; it is not held any more."""
        unstarted = [*self.waiting, *self.alone]
        self.waiting.clear()
        self.alone.clear()
        for held in unstarted:
            self.forget(held)
        for held in unstarted:
            if held.alone:
                self.solitude.gone(held)
        return unstarted

    def started(self) -> int:
        """How many were started, or set aside, and are not acknowledged."""
        return len(self.held) - len(self.waiting) - len(self.alone)

    def room(self) -> int:
        """How many more tasks to take now."""
        if self.solitude.closed:
            return 0
        if len(self.held) >= UNSTORED_LIMIT + len(self.waiting) + len(self.running):
            return 0
        places = self.places - len(self.stuck)
        if places <= 0 and self.lacking:
            return 0  # what would wait here can run elsewhere
        return places + self.prefetch.target - len(self.waiting) - len(self.running)

    def freed(self) -> None:
        """Something ended: let the puller go on if it waits and it is worth a pull."""
        if self._room is not None and not self._room.done() and self.room() >= self._worthwhile():
            self._room.set_result(None)

    def close(self) -> None:
        """Take no more tasks, start no more."""
        self.draining = True
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def wait_for_room(self, coming: int = 0) -> int:
        """Wait until it is worth taking tasks; how many. 0 when draining.

        `coming`: how many are asked for already. They are taken as they come: in the pull's buffer
        their leases would not be renewed, and nobody would find them after our death.
        """
        self._coming = coming
        while not self.draining:
            room = self.room()
            if room >= self._worthwhile():
                return room
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None
        return 0

    def _worthwhile(self) -> int:
        return 1 if self._coming else max(1, self.prefetch.target // 2)
