"""Who is suspected, tried and convicted, and for how long everybody is tried."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.ingest.poison_guard import CHILDREN, Convicted, Guard, Work
from orchestrator.ingest.poison_journal import (
    DEATHS_TO_CONVICT,
    TRIALS_TO_CONVICT,
    Event,
    Journal,
)
from orchestrator.ingest.poison_trial import Fall, Piece

STREAMS = ("EVENTS", "DEFINITIONS")


def event(number: int) -> Event:
    return "EVENTS", number, 1


class Killed(Exception):
    pass


class Child:
    """In place of a forked one: a piece that raises Killed kills it."""

    def __init__(self) -> None:
        self.lives = 0

    async def __call__(self, pieces: Sequence[Piece]) -> Fall | None:
        self.lives += 1
        for number, piece in enumerate(pieces):
            try:
                piece()
            except Killed:
                return Fall(number, "SIGKILL")
        return None


def killer() -> None:
    raise Killed


def guard_of(path: Path, child: Child) -> Guard:
    return Guard(Journal(path, STREAMS), child)


async def test_nothing_is_tried_as_long_as_nothing_has_died(tmp_path: Path) -> None:
    child = Child()
    guard = guard_of(tmp_path / "o.journal", child)
    assert await guard.examine([Work(event(1), killer)]) == set()
    assert child.lives == 0


@settings(deadline=None, max_examples=30)
@given(bad=st.sets(st.integers(0, 30)))
def test_whatever_kills_is_convicted_and_nothing_else_is(bad: set[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(check_conviction(Path(name) / "o.journal", bad))


async def check_conviction(path: Path, bad: set[int]) -> None:
    child = Child()
    Journal(path, STREAMS).mark(event(99))  # some death
    guard = guard_of(path, child)
    work = [Work(event(n), killer if n in bad else lambda: None) for n in range(31)]
    for _ in range(TRIALS_TO_CONVICT):
        assert await guard.examine(work) == {event(n) for n in bad}
    assert {n for n in range(31) if guard.case(event(n))} == bad
    assert child.lives <= TRIALS_TO_CONVICT * (len(bad) + 1)


async def test_those_that_hang_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """24 events of which each takes the whole of its time."""
    running, most, lives = 0, 0, 0

    async def child(pieces: Sequence[Piece]) -> Fall | None:
        nonlocal running, most, lives
        running, lives = running + 1, lives + 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return Fall(0, "it took longer than 20 s", hung=True)

    path = tmp_path / "o.journal"
    Journal(path, STREAMS).mark(event(99))
    guard = Guard(Journal(path, STREAMS), child)
    work = [Work(event(n), killer) for n in range(25)]
    assert await guard.examine(work) == {event(n) for n in range(25)}
    assert (most, lives) == (CHILDREN, 25)


async def test_after_a_while_without_a_death_nothing_is_tried_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.journal"
    Journal(path, STREAMS).mark(event(1))
    guard = guard_of(path, Child())
    assert guard.is_careful()
    monkeypatch.setattr("orchestrator.ingest.poison_guard.CAREFUL_S", 0.0)
    other = guard_of(path, Child())
    assert not other.is_careful()
    assert not other.is_careful([event(2)])
    assert other.is_careful([event(2), event(1)])  # but what is suspect always is
    other.acquit(event(1))
    assert not other.is_careful([event(2), event(1)])


def test_work_on_one_message_is_named_and_refused_when_it_has_killed(tmp_path: Path) -> None:
    """Without a trial: where there can be no child."""
    path, definition = tmp_path / "o.journal", ("DEFINITIONS", 3, 1)
    for _ in range(DEATHS_TO_CONVICT):
        guard = guard_of(path, Child())
        with pytest.raises(KeyboardInterrupt), guard.about(definition):  # it ends here
            raise KeyboardInterrupt
    guard = guard_of(path, Child())
    with pytest.raises(Convicted, match=r"message 3 of DEFINITIONS .* 3 times"):
        with guard.about(definition):
            raise AssertionError("worked on")
    with guard.about(("DEFINITIONS", 4, 1)):
        pass
    assert Journal(path, STREAMS).in_hand is None
