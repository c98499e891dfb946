"""Work that may kill the process: who is suspected, tried and convicted.

A death names the message that was in hand (orchestrator/ingest/poison_journal.py). From then on,
for a while, the orchestrator
is careful: whatever it is about to work on is first tried in a forked child (trial.py), where it
can kill nothing. So a message that kills costs one death of the orchestrator, and those beside it
and behind it cost none.

What fell in two trials is convicted, and never worked on again. Not so what was in hand when the
orchestrator was killed from outside: its trial is passed.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from loguru import logger

from orchestrator.ingest.poison_journal import Case, Event, Journal
from orchestrator.ingest.poison_trial import TEXT_BYTES, Piece, Trial, fork
from wf.errors import MessageError
from wf.jetstream import topology
from wf.jetstream.port import Delivery, Stored
from wf.protocol import gate

# Whose messages the journal can name; another order is another format of its file.
GUARDED = (
    topology.WORKFLOW_EVENTS,
    topology.WORKFLOW_TIMERS,
    topology.WORKFLOW_STATES,
    topology.WORKFLOW_DEFINITIONS,
    topology.ACTIVITY_CATALOG,
    topology.CLOUD_EVENTS,
    topology.WORKFLOW_LISTENERS,
    topology.WORKFLOW_COLLECTIONS,
    topology.WORKFLOW_PLACES,
    topology.ACTIVITY_TASKS,
    topology.ADVISORIES,
)
CHILDREN = 8  # that try something at once
CAREFUL_S = 30.0  # after the start of an orchestrator that follows a death, and after each fall


class Convicted(MessageError):
    """The message kills the process that works on it."""


class Work(NamedTuple):
    """Something pure that is to be done with a message."""

    event: Event
    piece: Piece


def named(delivery: Delivery) -> Event:
    """The message, as the journal names it."""
    return delivery.stream, delivery.sequence, delivery.timestamp_ms


def event_of(stream: str, message: Stored) -> Event:
    """The same for a message that was read from its stream."""
    return stream, message.sequence, message.timestamp_ms


class Guard:
    def __init__(self, journal: Journal, trial: Trial = fork) -> None:
        self._journal = journal
        self._trial = trial
        self._careful_until_s = 0.0
        self._children = asyncio.Semaphore(CHILDREN)
        self._alarmed = journal.is_unsettled
        self.mark = journal.mark
        self.clear = journal.clear
        self.acquit = journal.acquit

    @classmethod
    def idle(cls) -> Guard:
        """Of parts that are used by themselves: what they do outlasts nothing."""
        return cls(Journal(None, GUARDED))

    def is_careful(self, events: Iterable[Event] = ()) -> bool:
        """Whether work is to be tried first, and one event of an instance at a time: for a while
        after a death, and always where one of `events` is suspect."""
        now_s = asyncio.get_running_loop().time()
        if self._alarmed:
            self._alarmed, self._careful_until_s = False, now_s + CAREFUL_S
            suspects = sorted(self._journal.suspects)[:20]
            logger.bind(for_s=CAREFUL_S, suspects=suspects).warning("events.tried.first")
        suspects_left = self._journal.suspects
        return now_s < self._careful_until_s or (
            bool(suspects_left) and not suspects_left.isdisjoint(events)
        )

    def case(self, event: Event) -> Case | None:
        """What is held against a convicted message; None for any other."""
        return self._journal.convicted(event) if self._journal.has_cases else None

    def is_settled(self, event: Event) -> bool:
        """Whether it has been set aside before."""
        case = self.case(event)
        return case is not None and case.settled

    async def examine(self, work: Sequence[Work]) -> set[Event]:
        """While careful: try each piece in a child first. Returns what fell of it, to be tried
        again, until it passes or is convicted."""
        if not self.is_careful(one.event for one in work):
            return set()
        return await self._examine(work)

    async def _examine(self, work: Sequence[Work]) -> set[Event]:
        fallen: set[Event] = set()
        begin = 0
        while begin < len(work):
            async with self._children:
                fall = await self._trial([one.piece for one in work[begin:]])
            if fall is None:
                break
            event = work[begin + fall.number].event
            self.fell(event, fall.how, trial=True)
            fallen.add(event)
            begin += fall.number + 1
            if fall.hung:  # the others go on side by side: nobody waits for every one that hangs
                rest = [work[n::CHILDREN] for n in range(begin, min(begin + CHILDREN, len(work)))]
                return fallen.union(*await asyncio.gather(*map(self._examine, rest)))
        return fallen

    async def settle(self, work: Sequence[Work], *, hopeless: bool = False) -> bool:
        """While careful: try each piece until it passes or is convicted; or, when being convicted
        is no reason not to do it, until it is `hopeless`. False: not careful, nothing was awaited.
        """
        if not self.is_careful(one.event for one in work):
            return False
        left = list(work)
        while left:
            fallen = await self.examine(left)
            left = [one for one in left if one.event in fallen]
            left = [one for one in left if not self._is_given_up(one.event, hopeless)]
        return True

    def _is_given_up(self, event: Event, hopeless: bool) -> bool:
        case = self.case(event)
        return case is not None and (case.is_hopeless or not hopeless)

    def fell(self, event: Event, how: str, *, trial: bool = False) -> None:
        """Something died of the message."""
        case = self._journal.died(event, how, trial=trial)
        self._careful_until_s = asyncio.get_running_loop().time() + CAREFUL_S
        log = logger.bind(stream=event[0], sequence=event[1], deaths=case.deaths, falls=case.trials)
        log = log.bind(how=how)
        if case.is_convicted:
            log.error("event.convicted")
        else:
            log.warning("event.suspected")

    @contextmanager
    def about(self, event: Event) -> Iterator[None]:
        """Around work on one message without an await. Raises Convicted where it has killed."""
        case = self.case(event)
        if case is not None:
            raise Convicted(
                f"working on message {event[1]} of {event[0]} ended the process "
                f"{case.falls} times: {case.cause}"
            )
        self._journal.mark(event)
        try:
            yield
        except Exception:  # whoever catches it goes on
            self._journal.clear()
            raise
        self._journal.clear()

    def raised(self, error: Exception) -> bool:
        """An exception has ended the work on the message in hand, as a death would have. False when
        there is none: then it says nothing about any message."""
        event = self._journal.in_hand
        self._journal.clear()
        if event is None:
            return False
        self.fell(event, gate.text("".join(traceback.format_exception(error))[-TEXT_BYTES:]))
        return True
