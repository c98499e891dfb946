"""Workers die while tasks run: what is reported, how soon, and who is convicted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mortal_pool import MortalPool

from supervisor.control.socket import ask

SOON_S = 0.25
IMPATIENT = Path(__file__).with_name("impatient_pool.py")


def pool_with(root: Path, extra: str = "") -> Iterator[MortalPool]:
    made = MortalPool(root, extra)
    try:
        made.pool.start()
        yield made
        assert made.pool.stop() == 0
    finally:
        made.clean_up()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalPool]:
    """One worker, ack_wait of a minute: what is quick here is not redelivery."""
    yield from pool_with(tmp_path)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[MortalPool]:
    """The same with two workers."""
    yield from pool_with(tmp_path, "processes = 2\n")


def letter(mortal: MortalPool) -> dict[str, Any]:
    found = mortal.until(mortal.letters, "there is a dead letter")
    assert len(found) == 1
    return dict(found[0])


def test_the_task_of_a_killed_worker_runs_again_at_once(pair: MortalPool) -> None:
    taken: list[float] = []
    for n in range(5):
        pair.pool.until(
            lambda: len(pair.pool.processes("worker", "work")) == 2, "both workers are ready"
        )
        name = pair.start(f"order-{n}", "first-waits")
        first = pair.until_started(name)
        killed_at = time.time()
        os.kill(first.pid, signal.SIGKILL)
        again = pair.until_started(name, attempt=2)
        assert again.pid != first.pid
        taken.append(again.at - killed_at)
        assert pair.client.wait(name, timeout_s=10).output == name
    assert sorted(taken)[len(taken) // 2] <= SOON_S, taken


def test_a_single_worker_that_dies_is_reported_before_it_is_replaced(mortal: MortalPool) -> None:
    name = mortal.start("order-1", "first-waits")
    first = mortal.until_started(name)
    os.kill(first.pid, signal.SIGKILL)
    assert mortal.client.wait(name, timeout_s=10).output == name
    [report] = mortal.logged("death.reported")
    assert (report["reported"], report["handed_back"]) == (1, 0)
    assert report["after_ms"] <= 1000 * SOON_S


@pytest.mark.parametrize(
    ("how", "facts"),
    [
        ("kills", {"signal": "SIGKILL"}),
        ("exits", {"exit_status": 3}),
        ("exits-well", {"exit_status": 0}),
        ("faults", {"signal": "SIGSEGV"}),
    ],
)
def test_a_task_that_kills_every_worker_is_convicted_and_set_aside(
    mortal: MortalPool, how: str, facts: dict[str, Any]
) -> None:
    name = mortal.start("order-1", how)
    ended = mortal.client.wait(name, timeout_s=30)
    assert ended.status == "faulted"
    assert len(mortal.notes("start", name)) == 3  # crash_limit
    dead = letter(mortal)
    assert dead["subject"] == "dead.crashed.job"
    evidence = dead["evidence"]
    assert facts.items() <= evidence.items()
    assert evidence["input"] == {"name": name, "how": how}
    assert evidence["peak_memory_bytes"] > 1_000_000
    assert evidence["running"] == 1
    if how == "faults":
        assert "string_at" in evidence["stack_dump"]
    assert mortal.client.wait(mortal.start("order-2", "works"), timeout_s=30).output == "order-2"


def test_of_two_that_ran_only_the_killer_is_convicted(mortal: MortalPool) -> None:
    calm = mortal.start("calm", "first-waits")
    mortal.until_started(calm)
    killer = mortal.start("killer", "kills-always-after-company")
    mortal.until_started(killer)
    mortal.let("company")
    assert mortal.client.wait(calm, timeout_s=30).output == calm
    assert mortal.client.wait(killer, timeout_s=30).status == "faulted"
    assert [one.attempt for one in mortal.notes("start", calm)] == [1, 2]
    # Once in company, which does not count, and then alone up to the limit.
    assert [one.attempt for one in mortal.notes("start", killer)] == [1, 2, 3, 4]
    assert letter(mortal)["evidence"]["instance"] == killer


def test_a_suspect_runs_with_nothing_beside_it(mortal: MortalPool) -> None:
    names = [mortal.start(f"order-{n}", "first-waits") for n in range(4)]
    for name in names:
        mortal.until_started(name)
    killer = mortal.start("killer", "kills-in-company")
    mortal.until_started(killer)
    mortal.let("company")
    for name in [*names, killer]:
        assert mortal.client.wait(name, timeout_s=30).output == name
    events = [(one.word, one.name) for one in mortal.notes() if one.attempt == 2]
    assert len(events) == 10
    for begin, end in zip(events[::2], events[1::2], strict=True):
        assert (begin[0], end[0]) == ("start", "end")
        assert begin[1] == end[1]


def test_a_drain_that_takes_too_long_hands_its_tasks_back_uncounted(pair: MortalPool) -> None:
    name = pair.start("order-1", "deaf")
    first = pair.until_started(name)
    ask(pair.root / "state", {"command": "drain", "name": str(first.pid)})

    def again() -> Any:
        return [one for one in pair.notes("start", name) if one.pid != first.pid]

    second = pair.until(again, "another worker has it")[0]
    assert second.attempt == 1  # the same attempt: nothing was counted
    assert pair.logged("process.killed")
    pair.let(f"release-{name}")
    assert pair.client.wait(name, timeout_s=15).output == name


def test_a_task_that_blocks_its_worker_past_its_timeout_has_timed_out(mortal: MortalPool) -> None:
    name = mortal.start("order-1", "blocks", workflow="brief")
    ended = mortal.client.wait(name, timeout_s=30)
    assert ended.status == "faulted"
    assert ended.error is not None
    assert ended.error["status"] == 408
    assert len(mortal.notes("start", name)) == 1
    [stuck] = mortal.logged("process.stuck")
    assert stuck["kind"] == "task-overdue"
    [exited] = [one for one in mortal.logged("process.exited") if one["cause"] == "hang"]
    assert "in brief" in exited["dump"]


def test_the_memory_killer_is_told_from_any_other_kill(tmp_path: Path) -> None:
    mortal = MortalPool(tmp_path, "crash_limit = 1\n")
    mortal.pool.command = [str(IMPATIENT), str(tmp_path / "pool.toml"), "{}"]
    try:
        mortal.pool.start()
        name = mortal.start("order-1", "first-waits")
        first = mortal.until_started(name)
        (tmp_path / "oom_kill").write_text("oom_kill 1\n")  # as the kernel counts, before it kills
        os.kill(first.pid, signal.SIGKILL)
        assert mortal.client.wait(name, timeout_s=15).status == "faulted"
        dead = letter(mortal)
        assert dead["subject"] == "dead.out-of-memory.job"
        assert dead["evidence"]["cause"] == "memory"
        assert mortal.logged("process.exited")[0]["cause"] == "memory"
        assert mortal.pool.stop() == 0
    finally:
        mortal.clean_up()


def test_what_a_stop_interrupts_is_handed_back_before_the_broker_goes(mortal: MortalPool) -> None:
    name = mortal.start("order-1", "deaf")
    mortal.until_started(name)
    assert mortal.pool.stop() == 0  # kills the worker when its grace is over
    [report] = mortal.logged("death.reported")
    assert (report["reported"], report["handed_back"]) == (0, 1)
    mortal.pool.start()  # for the fixture to stop


def test_when_the_monitor_dies_too_its_successor_reports(mortal: MortalPool) -> None:
    name = mortal.start("order-1", "first-waits")
    first = mortal.until_started(name)
    [monitor] = mortal.pool.processes("monitor")
    os.kill(monitor["pid"], signal.SIGSTOP)  # so that it cannot have heard before it dies
    os.kill(first.pid, signal.SIGKILL)
    mortal.until(lambda: mortal.logged("worker.died.with.tasks"), "the death was noticed")
    os.kill(monitor["pid"], signal.SIGKILL)
    assert mortal.until_started(name, attempt=2)
    assert mortal.client.wait(name, timeout_s=15).output == name


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[MortalPool]:
    """One worker, ack_wait of 3 s: what was under way to a worker that died comes after that."""
    yield from pool_with(tmp_path, 'ack_wait = "3s"\n')


def test_several_tasks_that_kill_are_each_set_aside_and_the_others_go_on(brief: MortalPool) -> None:
    good = []
    for n in range(20):
        if n % 4 == 0:
            brief.start(f"bad-{n}", "kills")
        good.append(brief.start(f"good-{n}", "returns"))
    for name in good:
        assert brief.client.wait(name, timeout_s=20).output == name
    brief.until(lambda: len(brief.letters()) == 5, "each bad one is set aside")
    assert len(brief.logged("worker.died.with.tasks")) <= 18  # three for each, and a little more
    assert brief.logged("pool.degraded") == []
