"""What an operator orders at the control socket comes about, and stays."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from pool_directory import PoolDirectory, alive, command, until

from supervisor.control.socket import ask


def started(pool: PoolDirectory, pools: dict[str, int], **timing: Any) -> None:
    for name in pools:
        pool.module(name)
    pool.configure(pools)
    pool.start(**timing)
    for name, count in pools.items():
        until(lambda: len(pool.pids(name)) == count, f"{name} is ready")  # noqa: B023


def order(pool: PoolDirectory, *arguments: str) -> str:
    done = command(*arguments, "--config", pool.config)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(pool: PoolDirectory, *arguments: str) -> str:
    done = command(*arguments, "--config", pool.config)
    assert done.returncode == 1, done.stdout
    return done.stderr


# scale


def test_scale_adds_processes_and_takes_them_away(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    first = pool.pids("mail")
    assert "2 → 4" in order(pool, "scale", "mail", "4", "--wait")
    assert len(pool.pids("mail")) == 4
    assert first < pool.pids("mail")
    order(pool, "scale", "mail", "1", "--wait")
    assert len(pool.pids("mail")) == 1
    assert len(pool.events("left worker mail")) == 3


def test_a_scaled_pool_stays_so_over_a_reload_and_a_restart_of_the_supervisor(
    pool: PoolDirectory,
) -> None:
    started(pool, {"mail": 1})
    order(pool, "scale", "mail", "3", "--wait")
    pool.module("pdf")
    until(lambda: pool.pids("pdf"), "a reload has brought another pool")
    assert len(pool.pids("mail")) == 3
    assert pool.stop() == 0
    pool.start()
    until(lambda: len(pool.pids("mail")) == 3, "three, as ordered")


def test_another_count_in_pool_toml_has_the_later_word(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    order(pool, "scale", "mail", "3", "--wait")
    pool.configure({"mail": 2})
    until(lambda: len(pool.pids("mail")) == 2, "as pool.toml says now")
    assert pool.logged("pool.scale.overtaken")
    assert pool.pool("mail")["scaled"] is None


def test_scale_auto_goes_back_to_pool_toml(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    order(pool, "scale", "mail", "0", "--wait")
    assert pool.pool("mail")["state"] == "empty"
    order(pool, "scale", "mail", "auto", "--wait")
    assert len(pool.pids("mail")) == 2


# pause and resume


def test_a_paused_pool_drains_and_stays_empty_until_resumed(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2, "pdf": 1})
    order(pool, "pause", "mail", "--wait")
    assert not pool.pids("mail")
    assert len(pool.events("left worker mail")) == 2
    assert pool.pool("mail")["state"] == "paused"
    assert len(pool.pids("pdf")) == 1
    assert "paused already" in order(pool, "pause", "mail")
    assert "paused: `resume mail` first" in refused(pool, "restart", "mail")
    order(pool, "resume", "mail", "--wait")
    assert len(pool.pids("mail")) == 2


def test_a_pause_outlasts_the_supervisor_and_does_not_keep_it_from_being_ready(
    pool: PoolDirectory,
) -> None:
    started(pool, {"mail": 1})
    order(pool, "pause", "mail", "--wait")
    pool.signal(signal.SIGKILL)
    pool.wait()
    pool.start()
    assert pool.pool("mail")["state"] == "paused"
    assert not pool.pids("mail")


def test_pausing_in_the_middle_of_a_roll_is_no_failed_roll(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    pool.behaves("mail", "never-ready")
    order(pool, "restart", "mail")
    until(lambda: pool.processes("mail", "starting"), "a successor starts")
    order(pool, "pause", "mail", "--wait")
    pool.behaves("mail", "work")
    order(pool, "resume", "mail", "--wait")
    assert pool.pool("mail")["roll_error"] is None
    assert len(pool.pids("mail")) == 2


# drain


def test_a_drained_process_leaves_and_its_place_stays_empty(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    order(pool, "drain", "mail #0", "--wait")
    [held] = pool.processes("mail", "held")
    assert held["name"] == "worker mail #0"
    assert len(pool.pids("mail")) == 1
    order(pool, "restart", "mail#0", "--wait")
    assert len(pool.pids("mail")) == 2


def test_an_engine_process_cannot_be_drained(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    assert "cannot be missed" in refused(pool, "drain", "orchestrator")
    assert "not a pool of workers" in refused(pool, "pause", "orchestrator")


# restart


def test_a_restarted_worker_is_there_before_the_old_one_leaves(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    [old] = [p for p in pool.processes("mail") if p["name"] == "worker mail #1"]
    order(pool, "restart", str(old["pid"]), "--wait")
    assert not alive(old["pid"])
    assert len(pool.pids("mail")) == 2
    events = pool.events()
    ready = max(i for i, event in enumerate(events) if event.startswith("ready worker mail #1"))
    drained = next(i for i, e in enumerate(events) if e.startswith("draining worker mail #1"))
    assert ready < drained


def test_a_restarted_pool_is_replaced_one_by_one(pool: PoolDirectory) -> None:
    started(pool, {"mail": 3})
    old = pool.pids("mail")
    order(pool, "restart", "mail", "--wait")
    assert not pool.pids("mail") & old
    assert len(pool.events("left worker mail")) == 3


def test_the_orchestrator_can_be_restarted(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    engine, workers = pool.pids("orchestrator"), pool.pids("mail")
    order(pool, "restart", "orchestrator", "--wait")
    assert pool.pids("orchestrator") - engine
    assert pool.pids("mail") == workers


def test_restart_ends_the_wait_of_a_degraded_pool(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "boot-crash")
    pool.configure({"mail": 1})
    pool.start(worker={"intensity": 2, "first_delay_s": 0.01, "open_s": 600.0})
    until(lambda: pool.pool("mail")["state"] == "degraded", "the breaker is open")
    pool.behaves("mail", "work")
    order(pool, "restart", "mail", "--wait")
    assert pool.pool("mail")["state"] == "ready"


def test_waiting_for_a_restart_that_fails_says_so(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    pool.behaves("mail", "import-error")
    assert "explain mail" in refused(pool, "restart", "mail", "--wait")
    assert len(pool.pids("mail")) == 1  # the old one works on


# Names, JSON, explain, top


def test_a_wrong_name_is_answered_with_the_likely_one(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    assert "did you mean 'mail'" in refused(pool, "scale", "mial", "3")
    assert "did you mean 'mail #0'" in refused(pool, "drain", "mail #7")
    assert "there are: supervisor, orchestrator, monitor, mail #0, mail" in refused(
        pool, "explain", "nail"
    )


@pytest.mark.parametrize("count", ["-1", "1025", "x", "1.5"])
def test_a_count_that_makes_no_sense_changes_nothing(pool: PoolDirectory, count: str) -> None:
    started(pool, {"mail": 1})
    assert command("scale", "--config", pool.config, "--", "mail", count).returncode != 0
    assert "error" in ask(pool.state_dir, {"command": "scale", "pool": "mail", "processes": "many"})
    assert pool.pool("mail")["wanted"] == 1


def test_orders_are_refused_while_the_supervisor_stops(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    pool.behaves("mail", "slow-drain")
    order(pool, "restart", "mail", "--wait")
    pool.signal(signal.SIGTERM)
    until(lambda: pool.status().get("state") == "stopping", "it stops")
    answer = ask(pool.state_dir, {"command": "scale", "pool": "mail", "processes": 4})
    assert "stopping" in answer["error"]
    assert pool.wait() == 0


def test_orders_answer_programs_in_json(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    answer = json.loads(order(pool, "scale", "mail", "2", "--wait", "--json"))
    assert answer["pool"] == "mail"
    explained = json.loads(order(pool, "explain", "mail", "--json"))
    assert explained["state"] == "ready"
    assert any("2 were ordered" in sentence for sentence in explained["why"])


def test_explain_tells_how_a_worker_ended_and_when_it_comes_back(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1}, worker={"first_delay_s": 600.0, "max_delay_s": 600.0})
    pool.behaves("mail", "boot-crash")
    os.kill(pool.pids("mail").pop(), signal.SIGSEGV)
    until(
        lambda: [p for p in pool.processes("mail", "waiting") if p["next_start_s"]],
        "it waits for its next start",
    )
    told = order(pool, "explain", "mail #0")
    assert "ended" in told
    assert "exit 1" in told
    assert "it is started again" in told
    assert "wf-supervisor restart 'mail #0'" in told


def test_top_shows_what_each_process_uses(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    shown = order(pool, "top", "--once")
    for text in ("supervisor", "worker mail #1", "CPU", "PSS", "REDELIVERED", "MiB"):
        assert text in shown
    look = json.loads(order(pool, "top", "--once", "--json"))
    by_name = {one["name"]: one for one in look["processes"]}
    assert by_name["supervisor"]["pid"] == pool.status()["pid"]
    assert by_name["worker mail #0"]["pss_bytes"] > 100_000
    assert 0 <= by_name["worker mail #0"]["cpu"] < 1


def test_top_and_explain_show_the_task_of_a_worker(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "busy")
    pool.configure({"mail": 1})
    pool.start()
    until(lambda: pool.processes("mail"), "the worker is ready")
    shown = order(pool, "top", "--once")
    assert "mail 7" in shown
    assert "It runs mail (task 7) for 1m" in order(pool, "explain", "mail #0")


def test_of_a_pool_that_gets_smaller_the_idle_leave(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "busy")
    pool.configure({"mail": 1})
    pool.start()
    busy = until(lambda: pool.pids("mail"), "a worker is ready")
    pool.behaves("mail", "work")
    order(pool, "scale", "mail", "3", "--wait")
    order(pool, "drain", "mail #0", "--wait")  # so that the busy one is not the first
    pool.behaves("mail", "busy")
    order(pool, "restart", "mail #0", "--wait")
    busy = pool.pids("mail") & {p["pid"] for p in pool.processes("mail") if p["running"]}
    order(pool, "scale", "mail", "1", "--wait")
    assert pool.pids("mail") == busy


def test_top_ends_when_the_supervisor_is_gone(pool: PoolDirectory) -> None:
    pool.configure({})
    assert command("top", "--config", pool.config).returncode == 3
