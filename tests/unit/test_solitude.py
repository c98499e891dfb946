"""Tasks that must run alone, among others of the same worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from wf.authoring.activity import Options
from wf.jetstream.port import Delivery
from wf.settings import Settings
from wf.worker.activity_queue import Lane
from wf.worker.exclusive import Solitude
from wf.worker.policy import effective
from wf.worker.prefetch import Prefetch
from wf.worker.task import Held, parse


def held(sequence: int, alone: bool = False) -> Held:
    body: dict[str, Any] = {
        "v": 1, "instance": "o", "workflow": "w", "run": sequence, "attempt": 1, "pointer": "/",
        "input": None,
    }  # fmt: skip
    if alone:
        body["alone"] = True
    return parse(
        Delivery("T", "c", "t.echo", orjson.dumps(body), None, sequence, 1, 0, 0, f"r.{sequence}")
    )


class Worker:
    """Two lanes; what may start, starts at once."""

    def __init__(self) -> None:
        self.lanes = [lane_of("one"), lane_of("two")]
        self.solitude = Solitude(self.lanes, self.offer)
        for lane in self.lanes:
            lane.solitude = self.solitude
        self.started: list[int] = []

    def take(self, task: Held, lane: int = 0) -> None:
        where = self.lanes[lane]
        where.held[task.delivery.sequence] = task
        if task.alone:
            self.solitude.add(where, task)
        else:
            where.waiting.append(task)
        self.offer()

    def offer(self) -> None:
        for lane in self.lanes:
            while lane.waiting and self.solitude.may_start(lane.waiting[0]):
                task = lane.waiting.popleft()
                lane.running[task] = None
                self.started.append(task.delivery.sequence)

    def end(self, sequence: int) -> None:
        """It has ended; its result is not stored yet."""
        for lane in self.lanes:
            if sequence in lane.held:
                lane.running.pop(lane.held[sequence])

    def store(self, sequence: int) -> None:
        for lane in self.lanes:
            task = lane.held.pop(sequence, None)
            if task is not None and self.solitude.closed:
                self.solitude.gone(task)


def lane_of(name: str) -> Lane:
    here = Path("/")
    settings = Settings(path=here, activities_dir=here, workflows_dir=here)
    policy = effective(settings, name, Options(name))
    return Lane(None, policy, None, Prefetch(policy.concurrency, 0))  # type: ignore[arg-type]


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_it_waits_until_everything_else_is_stored(worker: Worker) -> None:
    worker.take(held(1))
    worker.take(held(2), lane=1)
    worker.take(held(3, alone=True))
    worker.take(held(4), lane=1)
    assert worker.started == [1, 2]
    worker.end(1)
    worker.end(2)
    worker.store(1)
    assert worker.started == [1, 2], "the result of 2 would be lost with the worker"
    worker.store(2)
    assert worker.started == [1, 2, 3]
    worker.end(3)
    assert worker.started == [1, 2, 3]
    worker.store(3)
    assert worker.started == [1, 2, 3, 4]


def test_several_run_one_after_the_other(worker: Worker) -> None:
    for n in (1, 2, 3):
        worker.take(held(n, alone=True), lane=n % 2)
    for n in (1, 2, 3):
        assert len(worker.started) == n
        last = worker.started[-1]
        worker.end(last)
        worker.store(last)
    assert sorted(worker.started) == [1, 2, 3]
    assert not worker.solitude.closed


def test_nothing_more_is_taken_meanwhile(worker: Worker) -> None:
    assert all(lane.room() > 0 for lane in worker.lanes)
    worker.take(held(1, alone=True))
    assert [lane.room() for lane in worker.lanes] == [0, 0]
    worker.end(1)
    worker.store(1)
    assert all(lane.room() > 0 for lane in worker.lanes)


def test_one_whose_lease_is_lost_before_it_starts_blocks_nobody(worker: Worker) -> None:
    worker.take(held(1))
    worker.take(held(2, alone=True))
    worker.lanes[0].take_unstarted()
    worker.take(held(3))
    worker.end(1)
    worker.store(1)
    assert worker.started == [1, 3]


def test_a_drain_starts_none(worker: Worker) -> None:
    worker.take(held(1))
    worker.take(held(2, alone=True))
    for lane in worker.lanes:
        lane.close()
    worker.end(1)
    worker.store(1)
    assert worker.started == [1]
    assert [task.delivery.sequence for task in worker.lanes[0].take_unstarted()] == [2]
