"""Processes that run and do not work are seen, named, dumped and replaced."""

from __future__ import annotations

import os
import signal
from typing import Any

from pool_directory import PoolDirectory, alive, until

FAST = '[workers.mail]\nprocesses = 1\nhang_timeout = "500ms"\n'


def stuck(pool: PoolDirectory) -> dict[str, Any]:
    [found, *_] = until(lambda: pool.logged("process.stuck"), "it is noticed")
    return found


def last_exit(pool: PoolDirectory) -> dict[str, Any]:
    def look() -> Any:
        places = [p for p in pool.status().get("processes", []) if p["pool"] == "mail"]
        return [place["last_exit"] for place in places if place["last_exit"]]

    [exit_, *_] = until(look, "it has ended")
    return exit_


def test_a_worker_whose_loop_stands_still_is_named_dumped_and_replaced(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.behaves("mail", "hang")
    pool.configure({}, FAST)
    pool.start()
    found = stuck(pool)
    pool.behaves("mail", "work")
    assert found["kind"] == "loop-stopped"
    exit_ = last_exit(pool)
    assert (exit_["cause"], exit_["how"]) == ("hang", "SIGKILL")
    assert "has not turned" in exit_["error"]
    [ended, *_] = [e for e in pool.logged("process.exited") if e["cause"] == "hang"]
    assert "in _stuck" in ended["dump"]
    until(lambda: pool.events("ready worker"), "another works in its place")
    [place] = [p for p in pool.status()["processes"] if p["pool"] == "mail"]
    assert place["stuck"] == {"loop-stopped": place["restarts"]}


def test_a_task_far_past_its_deadline_is_another_kind_of_stuck(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "overdue")
    pool.configure({}, FAST)
    pool.start()
    assert stuck(pool)["kind"] == "task-overdue"
    assert "its task 7 is" in last_exit(pool)["error"]


def test_a_slow_import_is_not_a_hang(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "slow-import")
    pool.configure({}, FAST)
    pool.start(ready=False)
    until(lambda: pool.events("ready worker"), "it is ready after all")
    assert not pool.logged("process.stuck")
    assert len(pool.events("started:slow-import worker")) == 1


def test_a_worker_that_is_not_ready_in_time_is_dumped_too(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "never-ready")
    pool.configure({}, '[workers.mail]\nprocesses = 1\nboot_timeout = "500ms"\n')
    pool.start(ready=False)
    exit_ = last_exit(pool)
    assert (exit_["cause"], exit_["error"]) == ("boot", "not ready after 0.5 s")
    assert "in _serve" in pool.logged("process.exited")[0]["dump"]


def test_a_stopped_supervisor_that_goes_on_condemns_nobody(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "work")  # begins no pulse at all: still from the first look on
    pool.configure({}, '[workers.mail]\nprocesses = 1\nhang_timeout = "20s"\n')
    pool.start()
    [worker] = until(lambda: pool.pids("mail"), "the worker is ready")
    pool.signal(signal.SIGSTOP)
    pool.signal(signal.SIGCONT)
    until(lambda: pool.state() == "running", "it answers")
    assert alive(worker)
    os.kill(worker, 0)
    assert not pool.logged("process.stuck")
