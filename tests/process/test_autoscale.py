"""A pool whose `processes` is a range follows its load."""

from __future__ import annotations

import os
import signal

from pool_directory import PoolDirectory, command, until

QUICK = {"grow_after_s": 0.0, "grow_again_s": 0.2, "shrink_after_s": 1.0, "shrink_again_s": 0.2}
CALM = {"cpu_pressure": 101.0, "memory_pressure": 101.0}


def loaded(pool: PoolDirectory, pending: int, text: str, **scaling: float) -> None:
    """A pool whose worker says that so many tasks wait; then others do."""
    pool.module("mail")
    pool.behaves("mail", f"no-task {pending}")
    pool.configure({"mail": 1})
    pool.config.write_text(pool.config.read_text().replace("processes = 1", f"processes = {text}"))
    pool.start(scaling={**QUICK, **CALM, **scaling})


def test_a_pool_grows_with_its_backlog_and_shrinks_without(pool: PoolDirectory) -> None:
    loaded(pool, 100, "{ min = 1, max = 3 }")
    until(lambda: len(pool.pids("mail")) == 3, "it has grown to the most")
    assert [line["processes"] for line in pool.logged("pool.scaled")][-1] == 3
    assert "tasks wait" in pool.logged("pool.scaled")[0]["reason"]
    most = "3 processes are the most allowed"
    until(lambda: most in pool.pool("mail")["autoscale"]["reason"], "it wants more")
    explained = command("explain", "mail", "--config", pool.config).stdout
    assert most in explained
    assert "pool.toml says 1 to 3" in explained
    pool.behaves("mail", "no-task 0")
    os.kill(pool.pids("mail").pop(), signal.SIGKILL)  # its successor says that nothing waits
    until(lambda: len(pool.pids("mail")) == 1, "it has shrunk to the fewest")


def test_a_host_under_pressure_vetoes_and_says_so_once(pool: PoolDirectory) -> None:
    loaded(pool, 100, "{ min = 1, max = 3 }", reserve_bytes=2**60)
    until(lambda: pool.logged("pool.scale.vetoed"), "it was vetoed")
    until(lambda: pool.pool("mail")["autoscale"]["vetoed"], "status says so")
    assert len(pool.pids("mail")) == 1
    assert "vetoed" in command("explain", "mail", "--config", pool.config).stdout
    assert len(pool.logged("pool.scale.vetoed")) == 1


def test_an_order_of_the_operator_is_stronger_than_the_load(pool: PoolDirectory) -> None:
    loaded(pool, 100, "{ min = 1, max = 3 }")
    until(lambda: len(pool.pids("mail")) == 3, "it has grown")
    assert command("scale", "mail", "1", "--wait", "--config", pool.config).returncode == 0
    assert len(pool.pids("mail")) == 1
    command("scale", "mail", "auto", "--config", pool.config)
    until(lambda: len(pool.pids("mail")) == 3, "the load decides again")


def test_a_pool_of_a_fixed_count_never_follows_its_load(pool: PoolDirectory) -> None:
    loaded(pool, 100, "2")
    until(lambda: len(pool.pids("mail")) == 2, "both are ready")
    until(lambda: pool.pool("mail")["backlog"], "the backlog is known")
    assert pool.pool("mail")["autoscale"] is None
