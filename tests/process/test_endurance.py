"""What a supervisor must not lose in the long run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pool_directory import PoolDirectory, alive, until

RESTARTS = 1000
WARM = 100  # by then every cache is filled
GROWTH_BYTES = 1_000_000


def anonymous_bytes(pid: int) -> int:
    """Memory that is no file's, whether children share it or not: so it does not matter how many
    of them there are at the moment, and how much they have written."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {name: int(kib) for name, kib, _ in map(str.split, lines)}
    return 1024 * values["Anonymous:"]


@pytest.mark.timeout(120)
def test_a_thousand_restarts_leak_no_descriptor_zombie_thread_or_memory(
    pool: PoolDirectory,
) -> None:
    for name, behaviour in (("mail", "crash-loop"), ("pdf", "recycle")):
        pool.module(name)
        pool.behaves(name, behaviour)
    pool.configure({"mail": 2, "pdf": 2})
    pool.config.write_text(pool.config.read_text().replace('"DEBUG"', '"WARNING"'))
    pool.start(worker={"intensity": 10**6, "max_delay_s": 0.001, "first_delay_s": 0.001})
    supervisor = pool.status()["pid"]

    def restarts() -> int:
        return sum(one["restarts"] or 0 for one in pool.status()["processes"])

    def held() -> int:
        return len(os.listdir(f"/proc/{supervisor}/fd"))

    until(lambda: restarts() > WARM, "it has begun", limit_s=60.0)
    before_bytes = anonymous_bytes(supervisor)
    until(lambda: restarts() > WARM + RESTARTS, "a thousand restarts", limit_s=90.0)
    for name in ("mail", "pdf"):
        pool.behaves(name, "work")
    until(lambda: len(pool.pids("mail") | pool.pids("pdf")) == 4, "all are calm")
    grown = anonymous_bytes(supervisor) - before_bytes
    calm = held()
    assert grown < GROWTH_BYTES, f"{grown} bytes more after {restarts()} restarts"
    assert len(os.listdir(f"/proc/{supervisor}/task")) == 1
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert len(children) == 7  # four workers, orchestrator, monitor, guard
    assert all(alive(int(child)) for child in children)
    # Per child a pidfd, a report pipe and a slot; and some that are always there.
    assert calm <= 3 * len(children) + 20, os.listdir(f"/proc/{supervisor}/fd")
