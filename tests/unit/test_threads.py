"""A host that has no more threads to give: the work goes on with those that there are."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.lanes import Answers, delivery, fail_the_test, hold, make_lane
from tests.support.waiting import eventually
from wf.authoring.module_loading import load
from wf.worker import runner as running
from wf.worker import threads as threading_of_ours
from wf.worker.activity_queue import Lane
from wf.worker.hand_back import take_surplus
from wf.worker.runner import Runner

MODULE = """
import time
from wf import activity

@activity
def nap():
    time.sleep(0.01)
"""


class Host:
    """Gives `allowed` threads and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.allowed = allowed
        start = threading.Thread.start

        def give(thread: threading.Thread) -> None:
            if thread.name.startswith("nap-"):
                if self.allowed <= 0:
                    raise RuntimeError("can't start new thread")
                self.allowed -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", give)
        monkeypatch.setattr(threading_of_ours, "RETRY_S", 0.02)
        monkeypatch.setattr(running, "RETRY_S", 0.02)


class Bench:
    """A lane of eight places and ten tasks, its results and what it tells."""

    def __init__(self, path: Path) -> None:
        path.write_text(MODULE)
        (definition,) = load(str(path))
        self.done: list[int] = []
        self.told: list[str] = []
        self.lane = make_lane(definition, concurrency=8, timeout=5.0)
        self.runner = Runner(
            self.lane,
            self._report,
            fail_the_test,
            Answers(),  # type: ignore[arg-type]
            self.told.append,
        )
        hold(self.lane, *(delivery(n) for n in range(1, 11)))
        self.runner.offer()

    def _report(self, lane: Lane, held: running.Held, outgoing: running.Outgoing) -> None:
        self.done.append(held.delivery.sequence)

    async def all_done(self) -> bool:
        return sorted(self.done) == list(range(1, 11))


async def test_tasks_run_in_the_threads_that_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Host(monkeypatch, 2)
    bench = Bench(tmp_path / "nap.py")
    assert (len(bench.lane.running), bench.lane.lacking, bench.lane.places) == (2, 6, 2)
    await eventually(bench.all_done)
    assert "2 of 8 threads (can't start new thread)" in bench.told[0]
    await bench.runner.close()


async def test_without_any_thread_tasks_wait_or_go_elsewhere_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host(monkeypatch, 0)
    bench = Bench(tmp_path / "nap.py")
    lane = bench.lane
    assert (len(lane.running), lane.places, lane.room()) == (0, 0, 0)
    host.allowed = 100
    await eventually(bench.all_done)
    assert bench.told[-1] == ""
    assert lane.lacking == 0
    await bench.runner.close()


async def test_what_no_thread_will_run_is_handed_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Host(monkeypatch, 0)
    bench = Bench(tmp_path / "nap.py")
    assert len(take_surplus(bench.lane, 1.0)) == 10
    assert not bench.lane.held
    await bench.runner.close()
