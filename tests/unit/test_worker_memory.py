"""Memory of a worker's own, and when it is too much."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from wf.process.child import EXIT_RECYCLE, Child
from wf.settings import Settings
from wf.worker.memory import private_bytes, private_of
from wf.worker.recycling import MEMORY_SAMPLES, Watch
from wf.worker.shutdown import Stopping

MIB = 1024 * 1024


class Wishes:
    """What the supervisor hears."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK)

    def heard(self) -> list[str]:
        try:
            lines = os.read(self.reading, 65536).splitlines()
        except BlockingIOError:
            return []
        return [str(orjson.loads(line)["reason"]) for line in lines]


Made = tuple[Watch, Stopping, Wishes]


@pytest.fixture
def made() -> Iterator[Made]:
    here = Path("/")
    settings = Settings(path=here, activities_dir=here, workflows_dir=here)
    wishes = Wishes()
    child = Child(
        "w", "worker", "w", 0, settings, supervisor_pid=os.getppid(), report_fd=wishes.writing
    )
    stopping = Stopping()
    yield Watch(child, [], stopping, limit=2, max_memory=10 * MIB), stopping, wishes
    os.close(wishes.reading)
    os.close(wishes.writing)


def test_pages_that_others_have_too_do_not_count() -> None:
    text = """00400000-7ffe [rollup]
Rss: 9000 kB
Shared_Clean: 5000 kB
Private_Clean: 100 kB
Private_Dirty: 200 kB
Swap: 30 kB
SwapPss: 30 kB"""
    lines = text.splitlines()
    assert private_of(lines) == 330 * 1024
    assert private_bytes() > MIB


def test_a_peak_is_forgiven_and_what_stays_is_asked_for_once(
    made: Made,
) -> None:
    watch, stopping, wishes = made
    for used in (11, 11, 9, 11, 11):
        watch._look_at_memory(used * MIB)
    assert not wishes.heard()
    for _ in range(MEMORY_SAMPLES):
        watch._look_at_memory(11 * MIB)
    [wish] = wishes.heard()
    assert "max_memory" in wish
    assert not stopping.requested


def test_far_too_much_does_not_wait_for_its_turn(
    made: Made,
) -> None:
    watch, stopping, _ = made
    for _ in range(MEMORY_SAMPLES):
        watch._look_at_memory(21 * MIB)
    assert (stopping.requested, stopping.status) == (True, EXIT_RECYCLE)


def test_enough_tasks_are_a_wish_too(made: Made) -> None:
    watch, stopping, wishes = made
    for _ in range(4):
        watch.stored()
    assert wishes.heard() == ["max_tasks: 2 done"]
    assert not stopping.requested
