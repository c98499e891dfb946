"""Deleting what every reader is done with: purges up to the acknowledgement floors.

Work-queue retention would sync on every acknowledgement; a purge now and then costs next to
nothing. A message that exhausts max_deliver leaves the pending set and the floor passes it, so a
purge goes only to the floor that was read one period earlier (by then the advisory about the
message is stored) and never past a message whose advisory is not handled.

A purge also empties the server's queue of what it is to deliver again: what was handed back, and
waits there until somebody pulls, would then come only when ack_wait is over. So a purge waits
until that queue is empty: a pull waits at the consumer, or nothing is unacknowledged. Readers that
are always busy are swept all the same, seldom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loguru import logger

from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.advisories import parse_advisory, subject_of
from wf.jetstream.port import Port, Standing

PERIOD_S = 1.0  # an advisory is stored long before that
LATE_S = 600.0  # so long a purge waits for a reader that is always busy
LATE_MESSAGES = 10_000  # and so many more messages of the stream
_TASKS_PREFIX = "activity.tasks."


@dataclass(frozen=True, slots=True)
class Reader:
    """One consumer and the subjects (None: all of the stream) that only it reads."""

    stream: str
    consumer: str
    subject: str | None


@dataclass(frozen=True, slots=True)
class Floors:
    """Acknowledgement floors as they were at `time_s`."""

    time_s: float
    by_reader: Mapping[Reader, int]


@dataclass(frozen=True, slots=True)
class Postponed:
    """A purge that was due, and since when and from which sequence on."""

    since_s: float
    up_to: int

    def is_late(self, now_s: float, up_to: int) -> bool:
        return now_s - self.since_s >= LATE_S or up_to - self.up_to >= LATE_MESSAGES


def queues_nothing(standing: Standing) -> bool:
    """Whether the consumer has nothing to deliver again at once: a purge would forget it."""
    return standing.requests > 0 or standing.unacknowledged == 0


def purge_to(earlier: int, now: int, unhandled: int | None) -> int:
    """Up to which sequence may be deleted; 0: nothing.

    `earlier`, `now`: the reader's floor one period ago and now (it moves back after a reset).
    `unhandled`: the lowest sequence with an advisory that is not handled.
    """
    floor = min(earlier, now)
    return floor if unhandled is None else max(0, min(floor, unhandled - 1))


class Sweeper:
    """Call `sweep` every few seconds; the first calls only read floors."""

    def __init__(
        self,
        port: Port,
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._port = port
        self._period_s = period_s
        self._clock = clock
        self._earlier: Floors | None = None
        self._swept: dict[Reader, int] = {}
        self._postponed: dict[Reader, Postponed] = {}

    async def sweep(self) -> int:
        """Purge what may be purged; how many messages went. Raises BrokerError."""
        now_s = (self._clock or asyncio.get_running_loop().time)()
        earlier = self._earlier
        if earlier is not None and now_s - earlier.time_s < self._period_s:
            return 0
        readers = await self._readers()
        counts = await asyncio.gather(
            *(self._port.ack_floor(reader.stream, reader.consumer) for reader in readers)
        )
        floors = Floors(now_s, dict(zip(readers, counts, strict=True)))
        self._earlier = floors
        if earlier is None:
            return 0
        return sum(
            [
                await self._sweep_one(reader, earlier.by_reader.get(reader, 0), floor, now_s)
                for reader, floor in floors.by_reader.items()
            ]
        )

    async def _sweep_one(self, reader: Reader, earlier: int, now: int, now_s: float) -> int:
        if min(earlier, now) <= self._swept.get(reader, 0):
            self._swept[reader] = min(self._swept.get(reader, 0), now)
            return 0
        unhandled = await self.first_unhandled(reader.stream, reader.consumer)
        limit = purge_to(earlier, now, unhandled)
        if limit <= self._swept.get(reader, 0):
            return 0
        if await self._is_postponed(reader, limit, now_s):
            return 0
        count = await self._port.purge(reader.stream, subject=reader.subject, up_to=limit)
        self._swept[reader] = limit
        logger.bind(
            stream=reader.stream, consumer=reader.consumer, up_to=limit, messages=count
        ).debug("stream.swept")
        return count

    async def _is_postponed(self, reader: Reader, limit: int, now_s: float) -> bool:
        """Read at the last moment: a worker may hand back what it holds at any time."""
        if not queues_nothing(await self._port.standing(reader.stream, reader.consumer)):
            first = self._postponed.setdefault(reader, Postponed(now_s, limit))
            if not first.is_late(now_s, limit):
                return True
        self._postponed.pop(reader, None)
        return False

    async def _readers(self) -> list[Reader]:
        tasks = await self._port.subjects(topology.ACTIVITY_TASKS, f"{_TASKS_PREFIX}>")
        activities = sorted(subject.removeprefix(_TASKS_PREFIX) for subject in tasks)
        return [
            Reader(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, None),
            Reader(topology.WORKFLOW_TIMERS, topology.TIMERS, topology.FIRED_TIMERS),
            *(
                Reader(
                    topology.ACTIVITY_TASKS,
                    topology.consumer_name(activity),
                    f"{_TASKS_PREFIX}{activity}",
                )
                for activity in activities
            ),
        ]

    async def first_unhandled(self, stream: str, consumer: str) -> int | None:
        """The lowest sequence of `stream` with an advisory that is not handled; None: none."""
        handled = await self._port.ack_floor(topology.ADVISORIES, topology.ADVISORY_READER)
        lowest: int | None = None
        after = handled
        while page := await self._port.scan(
            topology.ADVISORIES, subject_of(stream, consumer), from_sequence=after + 1
        ):
            for stored in page:
                try:
                    sequence = parse_advisory(stored.data).stream_seq
                except MessageError as error:
                    logger.bind(error=str(error), sequence=stored.sequence).error("advisory.bad")
                    continue
                lowest = sequence if lowest is None else min(lowest, sequence)
            after = page[-1].sequence
        return lowest
