"""The journal names what was in hand when the process died, and keeps what is held against it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orchestrator.ingest.poison_journal import (
    CAPACITY,
    DEATHS_TO_CONVICT,
    FORGOTTEN_AFTER,
    TRIALS_TO_CONVICT,
    Event,
    Journal,
)

STREAMS = ("EVENTS", "TIMERS")
ONE: Event = ("EVENTS", 7, 1000)
OTHER: Event = ("TIMERS", 9, 2000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orchestrator-0.journal"


def test_what_was_in_hand_at_death_is_suspect_to_the_successor(path: Path) -> None:
    Journal(path, STREAMS).mark(OTHER)
    journal = Journal(path, STREAMS)
    assert journal.suspects == {OTHER}
    assert journal.after_death


def test_what_was_cleared_is_not_suspect(path: Path) -> None:
    journal = Journal(path, STREAMS)
    journal.mark(ONE)
    journal.clear()
    assert Journal(path, STREAMS).suspects == set()
    assert not Journal(path, STREAMS).after_death


def test_a_death_in_company_is_held_against_nobody(path: Path) -> None:
    for _ in range(10):
        Journal(path, STREAMS).mark(ONE, alone=False)
    journal = Journal(path, STREAMS)
    assert journal.suspects == {ONE}
    assert journal.case(ONE).falls == 0


def test_deaths_alone_convict_when_nothing_can_be_tried(path: Path) -> None:
    for deaths in range(DEATHS_TO_CONVICT):
        journal = Journal(path, STREAMS)
        assert journal.case(ONE).deaths == deaths
        assert not journal.case(ONE).is_convicted
        journal.mark(ONE)
    assert Journal(path, STREAMS).case(ONE).is_convicted


def test_two_trials_convict_across_restarts_and_for_good(path: Path) -> None:
    for _ in range(TRIALS_TO_CONVICT):
        Journal(path, STREAMS).died(ONE, "SIGSEGV", trial=True)
    for _ in range(FORGOTTEN_AFTER + 2):  # a definition is never acquitted
        journal = Journal(path, STREAMS)
        assert journal.case(ONE).is_convicted
        assert journal.case(ONE).how == "SIGSEGV"
        assert not journal.suspects  # nothing is left to be found out


def test_an_acquitted_event_is_forgotten_across_restarts(path: Path) -> None:
    Journal(path, STREAMS).mark(ONE)
    Journal(path, STREAMS).acquit(ONE)
    assert Journal(path, STREAMS).suspects == set()


def test_a_convicted_event_is_remembered_for_a_while_as_its_ack_may_be_lost(path: Path) -> None:
    journal = Journal(path, STREAMS)
    for _ in range(TRIALS_TO_CONVICT):
        journal.died(ONE, "", trial=True)
    journal.acquit(ONE)
    for _ in range(FORGOTTEN_AFTER):
        assert Journal(path, STREAMS).case(ONE).is_convicted
    assert not Journal(path, STREAMS).case(ONE).is_convicted


def test_a_message_of_a_stream_that_was_made_anew_is_another_one(path: Path) -> None:
    Journal(path, STREAMS).mark(ONE)
    journal = Journal(path, STREAMS)
    assert journal.suspects == {ONE}
    assert journal.case(("EVENTS", 7, 9_999_999)).falls == 0


def test_what_nobody_hears_of_again_is_forgotten(path: Path) -> None:
    """Another orchestrator may have settled it."""
    Journal(path, STREAMS).mark(ONE)
    for _ in range(1 + FORGOTTEN_AFTER):
        assert Journal(path, STREAMS).suspects == {ONE}
    assert Journal(path, STREAMS).suspects == set()


def test_there_is_room_for_the_latest_cases(path: Path) -> None:
    journal = Journal(path, STREAMS)
    journal._write = lambda: None  # type: ignore[method-assign]  # as slow as a disk
    for sequence in range(1, CAPACITY + 10):
        journal.died(("EVENTS", sequence, 0), "")
    assert len(journal._cases) == CAPACITY
    assert journal.case(("EVENTS", CAPACITY + 9, 0)).deaths == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"x", bytes(16), b"\xff" * 16, b"\xff" * 70_000, bytes(7), b"\x01" + bytes(65_551)],
)
def test_a_journal_that_is_garbage_accuses_nobody(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    journal = Journal(path, STREAMS)
    assert journal.suspects == set()
    journal.mark(ONE)
    assert Journal(path, STREAMS).suspects == {ONE}


def test_the_journal_of_a_version_with_other_streams_accuses_nobody(path: Path) -> None:
    Journal(path, ("OTHER", "EVENTS")).mark(("OTHER", 7, 1000))
    assert Journal(path, STREAMS).suspects == set()


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=40) | st.just(b'[["EVENTS",7,2]]') | st.just(b"[[1,2,3,4,5,6]]"))
def test_deaths_that_are_garbage_accuse_nobody(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "o.journal"
    path.with_suffix(".deaths.json").write_bytes(content)
    assert Journal(path, STREAMS).suspects == set()


@pytest.mark.parametrize("spoil", ["journal", "deaths", "directory"])
def test_files_that_cannot_be_used_are_done_without(path: Path, spoil: str) -> None:
    if spoil == "journal":
        path.mkdir()
    elif spoil == "deaths":
        path.with_suffix(".deaths.json").mkdir()
    else:
        path = path.parent / "none" / path.name
    journal = Journal(path, STREAMS)
    journal.mark(ONE)
    for _ in range(TRIALS_TO_CONVICT):
        journal.died(ONE, "SIGKILL", trial=True)
    assert journal.case(ONE).is_convicted  # this process knows, and goes on
    journal.acquit(ONE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_directory_that_may_not_be_written_is_done_without(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        Journal(path, STREAMS).died(ONE, "SIGKILL")
    finally:
        path.parent.chmod(0o700)


def test_a_mark_is_one_whole_word(path: Path) -> None:
    """A copy of the file between any two marks names one of them, and nothing else."""
    journal = Journal(path, STREAMS)
    events = [(stream, n, n) for stream in STREAMS for n in (1, 2**40, 2**56 - 1)]
    for event in events:
        journal.mark(event)
        assert journal.in_hand == event
        copy = path.with_name("copy.journal")
        copy.write_bytes(path.read_bytes())
        assert Journal(copy, STREAMS).suspects - {event} <= set(events)


EVENTS = [(stream, n, time_ms) for stream in STREAMS for n in (1, 2) for time_ms in (5, 6)]


class Lives(RuleBasedStateMachine):
    """Any order of marks, deaths and verdicts, next to what is to come of it."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "o.journal"
        self.journal = Journal(self.path, STREAMS)
        self.held: dict[Event, tuple[int, int]] = {}
        self.marked: tuple[Event, bool] | None = None

    events = st.sampled_from(EVENTS)

    @rule(event=events, alone=st.booleans())
    def mark(self, event: Event, alone: bool) -> None:
        self.journal.mark(event, alone=alone)
        self.marked = event, alone

    @rule()
    def clear(self) -> None:
        self.journal.clear()
        self.marked = None

    @rule(event=events)
    def falls_in_a_trial(self, event: Event) -> None:
        self.journal.died(event, "", trial=True)
        deaths, trials = self.held.get(event, (0, 0))
        self.held[event] = deaths, trials + 1

    @rule(event=events)
    def acquit(self, event: Event) -> None:
        self.journal.acquit(event)
        if not self.journal.case(event).is_convicted:
            self.held.pop(event, None)

    @rule()
    def die(self) -> None:
        self.journal = Journal(self.path, STREAMS)
        if self.marked is not None:
            event, alone = self.marked
            deaths, trials = self.held.get(event, (0, 0))
            self.held[event] = deaths + alone, trials
        self.marked = None
        for event in [e for e in self.held if e not in self.journal._cases]:
            del self.held[event]  # forgotten after many lives

    @invariant()
    def agrees(self) -> None:
        convicted = {
            event
            for event, (deaths, trials) in self.held.items()
            if deaths >= DEATHS_TO_CONVICT or trials >= TRIALS_TO_CONVICT
        }
        assert self.journal.suspects == set(self.held) - convicted
        for event in EVENTS:
            assert self.journal.case(event).is_convicted == (event in convicted)

    def teardown(self) -> None:
        self.directory.cleanup()


TestLives = Lives.TestCase
TestLives.settings = settings(deadline=None, max_examples=50)
