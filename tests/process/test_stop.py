"""Stopping: in order, within the grace, and for good."""

from __future__ import annotations

import os
import signal
import time

import pytest
from pool_directory import PoolDirectory, alive, until


def running(pool: PoolDirectory) -> list[int]:
    supervisor = pool.status()["pid"]
    path = f"/proc/{supervisor}/task/{supervisor}/children"
    with open(path) as file:
        return [supervisor, *(int(pid) for pid in file.read().split())]


def test_workers_drain_while_the_engine_still_runs(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "slow-drain")
    pool.configure({"mail": 2})
    pool.start()
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    everything = running(pool)
    assert pool.stop() == 0
    order = [" ".join(event.split()[:2]) for event in pool.events() if event[0] in "dl"]
    assert order[-2:] == ["draining orchestrator", "left orchestrator"]
    assert sorted(order[:4]) == ["draining worker"] * 2 + ["left worker"] * 2
    assert not [pid for pid in everything if alive(pid)]


def test_one_stop_that_comes_twice_is_one_stop(pool: PoolDirectory) -> None:
    """`timeout` sends TERM to the process and to its group."""
    pool.module("mail")
    pool.behaves("mail", "slow-drain")
    pool.configure({"mail": 2})
    pool.start()
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    pool.signal(signal.SIGTERM)
    until(lambda: "stop.begun" in pool.log(), "it stops")
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert len(pool.events("left worker")) == 2
    assert "stop.now" not in pool.log()


def test_a_second_signal_stops_at_once(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "endless-drain")
    pool.configure({"mail": 2}, extra="")
    pool.start()
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    everything = running(pool)
    pool.signal(signal.SIGINT)
    until(lambda: len(pool.events("draining worker")) == 2, "both drain")
    begun = time.monotonic()
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert time.monotonic() - begun < 2.0
    assert not [pid for pid in everything if alive(pid)]
    assert pool.logged("stop.now")


def test_a_worker_past_its_grace_is_killed(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "endless-drain")
    pool.configure({"mail": 1})
    text = pool.config.read_text().replace('grace = "5s"', 'grace = "500ms"')
    pool.config.write_text(text)
    pool.start()
    until(lambda: pool.pids("mail"), "the worker is ready")
    assert pool.stop() == 0
    assert pool.logged("process.killed")
    assert pool.events("left orchestrator")


def test_stopping_while_things_still_start(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("orchestrator", "never-ready")
    pool.configure({"mail": 1})
    pool.start(ready=False)
    until(lambda: pool.processes("orchestrator", "starting"), "the orchestrator starts")
    assert pool.stop() == 0
    assert not pool.events("started:work worker")


def test_when_the_supervisor_is_killed_nothing_outlives_it_by_ten_seconds(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.module("pdf")
    pool.module("zip")
    pool.behaves("pdf", "deaf")
    pool.behaves("zip", "endless-drain")
    pool.configure({"mail": 2, "pdf": 1, "zip": 1})
    pool.start()
    until(lambda: sum(len(pool.pids(n)) for n in ("mail", "pdf", "zip")) == 4, "all are ready")
    [stopped] = pool.pids("orchestrator")
    os.kill(stopped, signal.SIGSTOP)
    everything = running(pool)
    assert len(everything) == 8  # and the guard
    pool.signal(signal.SIGKILL)
    until(lambda: not [pid for pid in everything if alive(pid)], "nothing is left", limit_s=10.0)
    assert len(pool.events("left worker mail")) == 2  # those that could, drained


def test_an_import_that_hangs_does_not_outlive_a_killed_supervisor(pool: PoolDirectory) -> None:
    note = pool.root / "importing"
    hang = "import os, time\nopen({!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    pool.module("mail", hang.format(str(note)))
    pool.configure({"mail": 1})
    pool.start(ready=False)
    importing = int(until(lambda: note.exists() and note.read_text(), "the import is under way"))
    pool.signal(signal.SIGKILL)
    try:
        until(lambda: not alive(importing), "the import has ended", limit_s=5.0)
    finally:
        if alive(importing):
            os.kill(importing, signal.SIGKILL)


@pytest.mark.parametrize("kills", [1, 2])  # one that dies young is replaced by a mere fork
def test_a_killed_guard_is_replaced_and_knows_every_child(pool: PoolDirectory, kills: int) -> None:
    pool.module("mail")
    pool.behaves("mail", "deaf")
    pool.configure({"mail": 1})
    pool.start()
    until(lambda: pool.pids("mail"), "the worker is ready")
    known = {process["pid"] for process in pool.status()["processes"]}
    for done in range(kills):
        _, *children = until(lambda: len(running(pool)) == 5 and running(pool), "there is a guard")
        [guard] = set(children) - known
        os.kill(guard, signal.SIGKILL)
        until(lambda n=done: len(pool.logged("guard.died")) == n + 1, "its death was seen")
    everything = until(lambda: len(running(pool)) == 5 and running(pool), "there is a new guard")
    pool.signal(signal.SIGKILL)
    until(lambda: not [pid for pid in everything if alive(pid)], "nothing is left", limit_s=10.0)


def test_only_one_supervisor_runs_on_a_state_directory(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    first, pid = pool.supervisor, pool.status()["pid"]
    pool.start(ready=False)
    assert pool.wait() == 78
    assert f"(pid {pid} on " in pool.log()
    pool.supervisor = first
    assert pool.state() == "running"
