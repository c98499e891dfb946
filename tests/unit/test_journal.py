"""The journal names what was being applied when the process died."""

from pathlib import Path

import pytest

from orchestrator.journal import Journal

STREAMS = ("EVENTS", "TIMERS")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orchestrator-0.journal"


def test_what_was_marked_at_death_is_suspect_to_the_successor(path: Path) -> None:
    Journal(path, STREAMS).mark([("EVENTS", 7), ("TIMERS", 9)])
    assert Journal(path, STREAMS).suspects == {("EVENTS", 7), ("TIMERS", 9)}


def test_what_was_cleared_is_not_suspect(path: Path) -> None:
    journal = Journal(path, STREAMS)
    journal.mark([("EVENTS", 7)])
    journal.clear()
    assert Journal(path, STREAMS).suspects == set()


def test_a_death_in_company_convicts_nobody(path: Path) -> None:
    for _ in range(5):
        Journal(path, STREAMS).mark([("EVENTS", 7), ("EVENTS", 8)])
    journal = Journal(path, STREAMS)
    assert not journal.is_convicted(("EVENTS", 7))


def test_two_deaths_alone_convict(path: Path) -> None:
    Journal(path, STREAMS).mark([("EVENTS", 7)], alone=True)
    first = Journal(path, STREAMS)
    assert first.suspects == {("EVENTS", 7)}
    assert not first.is_convicted(("EVENTS", 7))
    first.mark([("EVENTS", 7)], alone=True)
    second = Journal(path, STREAMS)
    assert second.is_convicted(("EVENTS", 7))
    assert second.deaths(("EVENTS", 7)) == 2


def test_an_acquitted_event_is_forgotten_across_restarts(path: Path) -> None:
    Journal(path, STREAMS).mark([("EVENTS", 7)], alone=True)
    journal = Journal(path, STREAMS)
    journal.acquit(("EVENTS", 7))
    assert Journal(path, STREAMS).suspects == set()


def test_a_suspect_stays_one_when_another_event_kills_the_next_process(path: Path) -> None:
    Journal(path, STREAMS).mark([("EVENTS", 7)], alone=True)
    Journal(path, STREAMS).mark([("EVENTS", 8)], alone=True)
    assert Journal(path, STREAMS).suspects == {("EVENTS", 7), ("EVENTS", 8)}
