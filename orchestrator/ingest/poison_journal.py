"""What the orchestrator is working on right now, and what has killed it: two small files.

`<name>.journal` is memory-mapped: one word says which message is in hand. It is stored before the
message is decoded, applied or encoded and cleared after, so a death names its message. A mapped
file survives SIGKILL (the page cache keeps it); a power cut may lose it, and then only costs the
suspicion. An aligned word is stored whole: a death cannot tear it. One between the two stores of a
mark names a message that never was.

`<name>.deaths.json` keeps a case for each message that something died of, until the message is
acquitted: what it led to is stored. One that is convicted is kept longer, as its ack may be lost.

A message is named by its stream, its sequence and when it was stored (a stream that is made anew
begins with 1), and may be of any stream: an event, a state, a definition.
Neither file may stop the orchestrator. What is garbage, of another version or cannot be written is
done without, and then a killer takes a few deaths more.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import orjson
from loguru import logger

Event = tuple[str, int, int]  # stream, sequence, milliseconds since the epoch

# The fall of a trial has one cause; a death of the orchestrator may have come from outside.
TRIALS_TO_CONVICT = 2
DEATHS_TO_CONVICT = 3
CAPACITY = 1024  # cases; the oldest are forgotten first
FORGOTTEN_AFTER = 20  # lives of the orchestrator in which nothing is heard of it

_WORDS = 3  # what the words mean, the message in hand, when that was stored
_SIZE = 8 * _WORDS
_ALONE = 1 << 63
_SEQUENCE_BITS = 56
_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
_STREAMS = 0x7F


@dataclass(slots=True)
class Case:
    """What is held against a message."""

    deaths: int = 0  # of the orchestrator, while it worked on this message alone
    trials: int = 0  # of forked children that only tried it
    lives: int = 0  # of the orchestrator since the last of these
    how: str = ""  # the last of these, in words
    settled: bool = False  # what it led to, or what took its place, is stored

    @property
    def is_convicted(self) -> bool:
        return self.trials >= TRIALS_TO_CONVICT or self.deaths >= DEATHS_TO_CONVICT

    @property
    def is_hopeless(self) -> bool:
        """What was done in its place has killed as often."""
        return self.trials >= 2 * TRIALS_TO_CONVICT or self.deaths >= 2 * DEATHS_TO_CONVICT

    @property
    def falls(self) -> int:
        return self.deaths + self.trials

    @property
    def cause(self) -> str:
        """The last line of `how`: of a traceback, the error."""
        return self.how.strip().rpartition("\n")[2]


class Journal:
    """The journal of one orchestrator process. `streams` gives the numbers of the streams; without
    a `path` it is in memory alone."""

    def __init__(self, path: Path | None, streams: Sequence[str]) -> None:
        assert len(streams) < _STREAMS
        self._streams = tuple(streams)
        self._numbers = {name: (n + 1) << _SEQUENCE_BITS for n, name in enumerate(streams)}
        self._path = path.with_suffix(".deaths.json") if path is not None else None
        self._map = _mapped(path)
        self._word = memoryview(self._map).cast("Q")
        self._cases = self._read()
        self.suspects: set[Event] = set()  # not settled, and not convicted either
        self.after_death = False  # the predecessor had something in hand when it ended
        self._take_over()

    def _take_over(self) -> None:
        """Count what the predecessor died of; all that is not settled is suspect."""
        meaning = int.from_bytes(
            hashlib.blake2b("\n".join(self._streams).encode(), digest_size=8).digest()
        )
        left = self.in_hand if self._word[0] == meaning else None
        alone = bool(self._word[1] & _ALONE)
        self.clear()
        self._word[0] = meaning
        for event, case in list(self._cases.items()):
            case.lives += 1  # until it is heard of again
            if case.lives > FORGOTTEN_AFTER and (case.settled or not case.is_convicted):
                del self._cases[event]
        if left is not None and alone:
            self.died(left, "the orchestrator ended")
        elif left is not None:
            self._cases.setdefault(left, Case())
        self.after_death = left is not None
        self.suspects |= {event for event, case in self._cases.items() if not case.is_convicted}
        if self._cases:
            self._write()

    # In hand

    def mark(self, event: Event, *, alone: bool = True) -> None:
        """About to work on this. Not `alone`: on others of the same instance as well."""
        stream, sequence, self._word[2] = event
        self._word[1] = self._numbers[stream] | sequence | (_ALONE if alone else 0)

    def clear(self) -> None:
        """Nothing is in hand."""
        self._word[1] = 0

    @property
    def in_hand(self) -> Event | None:
        """What was marked last, and not cleared."""
        word = self._word[1]
        number = (word >> _SEQUENCE_BITS) & _STREAMS
        if not 0 < number <= len(self._streams):
            return None
        return self._streams[number - 1], word & _SEQUENCE, self._word[2]

    # Cases

    @property
    def has_cases(self) -> bool:
        return bool(self._cases)

    @property
    def is_unsettled(self) -> bool:
        """Whether the predecessor left something undone that something had died of, or died."""
        return self.after_death or any(not case.settled for case in self._cases.values())

    def convicted(self, event: Event) -> Case | None:
        """The case against a convicted event; one that is asked for is not forgotten."""
        case = self._cases.get(event)
        if case is None or not case.is_convicted:
            return None
        if case.lives > FORGOTTEN_AFTER // 2:
            case.lives = 0
            self._write()
        return case

    def case(self, event: Event) -> Case:
        return self._cases.get(event) or Case()

    def died(self, event: Event, how: str, *, trial: bool = False) -> Case:
        """Something has died of the event alone: the orchestrator, or a `trial`."""
        case = self._cases.pop(event, None) or Case()
        case.trials += trial
        case.deaths += not trial
        case.lives = 0
        case.how = how
        while len(self._cases) >= CAPACITY:
            del self._cases[next(iter(self._cases))]
        self._cases[event] = case
        self.suspects.add(event)
        if case.is_convicted:
            self.suspects.discard(event)
        self._write()
        return case

    def acquit(self, event: Event) -> None:
        """The event is settled and about to be acknowledged: it is no suspect any more."""
        self.suspects.discard(event)
        case = self._cases.get(event)
        if case is None or case.settled:
            return
        if case.is_convicted:
            case.settled = True
        else:
            del self._cases[event]
        self._write()

    def _read(self) -> dict[Event, Case]:
        if self._path is None:
            return {}
        try:
            rows = orjson.loads(self._path.read_bytes())
            return dict(_case(row) for row in rows)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            # torn by a power cut, of another version, somebody else's: suspicion starts anew
            logger.bind(file=str(self._path), error=str(error)).warning("journal.deaths.unreadable")
            return {}

    def _write(self) -> None:
        if self._path is None:
            return
        rows = [[*event, *astuple(case)] for event, case in self._cases.items()]
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(orjson.dumps(rows))
            temporary.replace(self._path)
        except OSError as error:  # read-only or full: this process still knows
            logger.bind(file=str(self._path), error=str(error)).warning("journal.deaths.unwritten")

    def close(self) -> None:
        self._word.release()
        self._map.close()


def _case(row: object) -> tuple[Event, Case]:
    """One row of the deaths. Raises ValueError for any other shape."""
    match row:
        case [
            str(a),
            int(b),
            int(c),
            int(deaths),
            int(trials),
            int(lives),
            str(how),
            bool(settled),
        ]:
            return (a, b, c), Case(deaths, trials, lives, how, settled)
    raise ValueError("not a list of an event and its case")


def _mapped(path: Path | None) -> mmap.mmap:
    """The file in memory, or memory alone when there is none, or it cannot be used."""
    if path is None:
        return mmap.mmap(-1, _SIZE)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != _SIZE:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, bytes(_SIZE), 0)  # a hole has no room on a full disk
            return mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        logger.bind(file=str(path), error=str(error)).warning("journal.unusable")
        return mmap.mmap(-1, _SIZE)
