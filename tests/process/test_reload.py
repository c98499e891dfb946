"""Changing what runs, without stopping it."""

from __future__ import annotations

import os
import signal

from pool_directory import PoolDirectory, replace, until


def started(pool: PoolDirectory, pools: dict[str, int], **timing: object) -> None:
    for name in pools:
        pool.module(name)
    pool.configure(pools)
    pool.start(**timing)
    for name, count in pools.items():
        until(lambda: len(pool.pids(name)) == count, f"{name} is ready")  # noqa: B023


def test_hup_scales_up_and_keeps_who_was_there(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1}, watch_interval_s=60.0)
    [first] = pool.pids("mail")
    pool.configure({"mail": 4})
    pool.signal(signal.SIGHUP)
    until(lambda: len(pool.pids("mail")) == 4, "there are four")
    assert first in pool.pids("mail")


def test_hup_scales_down_the_newest_first_and_lets_them_drain(pool: PoolDirectory) -> None:
    started(pool, {"mail": 4}, watch_interval_s=60.0)
    oldest = min(pool.processes("mail"), key=lambda process: process["name"])
    pool.configure({"mail": 1})
    pool.signal(signal.SIGHUP)
    until(lambda: len(pool.events("left worker")) == 3, "three have left")
    assert pool.pids("mail") == {oldest["pid"]}
    assert pool.pool("mail")["wanted"] == 1
    assert not pool.logged("process.restart.scheduled")


def test_an_edited_pool_toml_is_noticed_without_a_signal(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    pool.configure({"mail": 3})
    until(lambda: len(pool.pids("mail")) == 3, "there are three")


def test_a_pool_may_be_scaled_to_nothing_and_back(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    pool.configure({"mail": 0})
    until(lambda: len(pool.events("left worker")) == 2, "both have left")
    assert pool.state() == "running"
    pool.configure({"mail": 2})
    until(lambda: len(pool.pids("mail")) == 2, "both are back")


def test_a_bad_pool_toml_changes_nothing_and_says_why(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    workers = pool.pids("mail")
    good = pool.config.read_text()
    replace(pool.config, good.replace("processes = 2", "proceses = 9"))
    [problem] = until(lambda: pool.status()["reload_error"], "status says why")
    assert "proceses" in problem
    assert "processes" in problem  # what was meant
    assert pool.pids("mail") == workers
    assert pool.logged("reload.refused")
    replace(pool.config, good)
    until(lambda: not pool.status()["reload_error"], "the mended file is accepted")
    assert pool.pids("mail") == workers


def test_half_a_pool_toml_is_not_all_defaults(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2, "pdf": 16})
    before = pool.pids("mail") | pool.pids("pdf")
    good = pool.config.read_text()
    cut = good[: good.index("processes = 16") + len("processes = 1")]  # valid
    for text, why in (("", "is empty"), ("# later\n", "only comments"), (cut, "in the middle of")):
        pool.config.write_text(text)
        until(
            lambda: any(why in problem for problem in pool.status()["reload_error"]),  # noqa: B023
            f"{why}: status says so",
        )
    pool.config.unlink()
    until(lambda: any("No such file" in p for p in pool.status()["reload_error"]), "it is gone")
    pool.config.write_text(good)
    until(lambda: not pool.status()["reload_error"], "the whole file is accepted")
    assert pool.pids("mail") | pool.pids("pdf") == before


def test_modules_that_are_all_gone_are_being_replaced(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    workers = pool.pids("mail")
    path = pool.module("mail")
    text = path.read_text()
    pool.config.write_text(pool.config.read_text().replace("[workers.mail]", "[workers]"))
    until(lambda: len(pool.logged("reload.applied")) == 1, "the pool is there without a table")
    path.unlink()
    until(lambda: any("no module any more" in p for p in pool.status()["reload_error"]), "refused")
    assert pool.pids("mail") == workers
    path.write_text(text)
    until(lambda: not pool.status()["reload_error"], "they are back")


def test_a_table_that_no_module_provides_changes_nothing(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    pool.configure({"mail": 3, "nail": 1})
    [problem] = until(lambda: pool.status()["reload_error"], "status says why")
    assert "nail" in problem
    assert "mail" in problem
    assert len(pool.pids("mail")) == 1


def test_two_modules_with_one_activity_change_nothing_and_are_both_named(
    pool: PoolDirectory,
) -> None:
    started(pool, {"mail": 1})
    other = pool.module(
        "other", "from wf import activity\n@activity\ndef mail(x: int) -> int: ...\n"
    )
    [problem] = until(lambda: pool.status()["reload_error"], "status says why")
    assert str(other) in problem
    assert "mail.py" in problem


def test_a_changed_module_rolls_its_workers_one_by_one(pool: PoolDirectory) -> None:
    started(pool, {"mail": 3, "pdf": 1})
    old, other = pool.pids("mail"), pool.pids("pdf")
    pool.module("mail", pool.module("mail").read_text() + "\n# better\n")
    until(lambda: len(pool.pids("mail")) == 3 and not pool.pids("mail") & old, "all are new")
    until(lambda: len(pool.events("left worker mail")) == 3, "the old ones have left")
    assert pool.pids("pdf") == other
    starts = [i for i, event in enumerate(pool.events()) if event.startswith("ready worker mail")]
    drains = [i for i, e in enumerate(pool.events()) if e.startswith("draining worker mail")]
    assert all(new < gone for new, gone in zip(starts[3:], drains, strict=True))


def test_a_changed_file_that_a_module_imports_rolls_just_the_pools_that_use_it(
    pool: PoolDirectory,
) -> None:
    activities = pool.root / "activities"
    (activities / "lib").mkdir()
    replace(activities / "lib" / "tax.py", "FACTOR = 1\n")
    replace(activities / "rates.json", "[1]\n")
    started(pool, {"mail": 1, "quote": 1})
    text = (
        "import json, pathlib\nfrom wf import activity\nfrom lib import tax\n"
        "json.loads(pathlib.Path(__file__).with_name('rates.json').read_text())\n"
        "@activity\ndef quote(): return tax.FACTOR\n"
    )
    first, other = pool.pids("quote"), pool.pids("mail")
    pool.module("quote", text)
    until(lambda: pool.pids("quote") and not pool.pids("quote") & first, "the new module runs")
    for path, content in (("lib/tax.py", "FACTOR = 3\n"), ("rates.json", "[2]\n")):
        before = pool.pids("quote")
        replace(activities / path, content)
        until(
            lambda: pool.pids("quote") and not pool.pids("quote") & before,  # noqa: B023
            f"{path} was noticed",
        )
    assert pool.pids("mail") == other


def test_changed_pool_settings_roll_its_workers(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2})
    old = pool.pids("mail")
    pool.configure({"mail": 2}, extra="concurrency = 3\n")
    until(lambda: len(pool.pids("mail")) == 2 and not pool.pids("mail") & old, "both are new")


def test_a_new_worker_that_fails_stops_the_roll_and_the_old_go_on(pool: PoolDirectory) -> None:
    started(pool, {"mail": 3})
    old = pool.pids("mail")
    pool.behaves("mail", "import-error")
    pool.configure({"mail": 3}, extra="concurrency = 3\n")
    until(lambda: pool.pool("mail")["roll_error"], "status says why")
    assert "nonesuch" in pool.pool("mail")["roll_error"]
    assert pool.pids("mail") == old
    assert len(pool.events("started:import-error")) == 1
    assert pool.state() == "running"
    pool.behaves("mail", "work")
    pool.configure({"mail": 3}, extra="concurrency = 4\n")
    until(lambda: len(pool.pids("mail")) == 3 and not pool.pids("mail") & old, "all are new")
    assert pool.pool("mail")["roll_error"] is None


def test_a_module_that_breaks_keeps_the_workers_that_run(pool: PoolDirectory) -> None:
    started(pool, {"mail": 2, "pdf": 1})
    workers = pool.pids("mail")
    pool.module("mail", "def mail(:")
    [broken] = until(lambda: pool.status()["broken_modules"], "status shows the module")
    assert "SyntaxError" in broken["error"]
    assert pool.pids("mail") == workers
    pool.module("mail", pool.module("mail").read_text() + "# mended\n")
    until(lambda: not pool.pids("mail") & workers and len(pool.pids("mail")) == 2, "rolled")


def test_a_new_module_gets_a_pool_and_a_deleted_one_loses_it(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    path = pool.module("pdf")
    until(lambda: len(pool.pids("pdf")) == 1, "the new pool runs")
    path.unlink()
    until(lambda: not pool.pool("pdf"), "the pool is gone")
    until(lambda: pool.events("left worker pdf"), "its worker drained")
    assert pool.pool("mail")["ready"] == 1


def test_changed_definitions_are_for_the_orchestrator_to_deploy(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    engine, workers = pool.pids("orchestrator"), pool.pids("mail")
    replace(pool.root / "workflows" / "order.yaml", "do: []\n")
    until(lambda: pool.events("hangup orchestrator"), "the orchestrator was told")
    assert (pool.pids("orchestrator"), pool.pids("mail")) == (engine, workers)


def test_changed_orchestrator_settings_restart_only_the_orchestrator(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    engine, workers = pool.pids("orchestrator"), pool.pids("mail")
    pool.configure({"mail": 1}, extra="[orchestrator]\nbatch = 7\n")
    until(lambda: pool.pids("orchestrator") - engine, "there is a new orchestrator")
    assert pool.events("left orchestrator")
    assert pool.pids("mail") == workers


def test_changed_broker_settings_wait_for_a_restart_and_status_says_so(
    pool: PoolDirectory,
) -> None:
    started(pool, {"mail": 1})
    replace(pool.config, pool.config.read_text().replace("127.0.0.1:1", "127.0.0.1:2"))
    until(lambda: pool.status()["restart_needed"] == ["[nats]"], "status says so")


def test_a_failed_pool_is_tried_again_on_hup(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "import-error")
    pool.configure({"mail": 1})
    pool.start(worker={"config_open_s": 300.0})
    until(lambda: pool.pool("mail")["state"] == "failed", "the pool failed")
    pool.behaves("mail", "work")
    pool.signal(signal.SIGHUP)
    until(lambda: pool.pool("mail")["state"] == "ready", "it works now")


def test_a_signal_to_stop_interrupts_a_reload(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1}, watch_interval_s=60.0)
    pool.module("slow", "import time\ntime.sleep(60)\n")
    pool.signal(signal.SIGHUP)
    until(lambda: pool.logged("reload.begun"), "the reload is under way")
    assert pool.status()["state"] == "reloading"
    assert pool.stop(limit_s=5.0) == 0


def test_a_signal_to_stop_interrupts_a_roll(pool: PoolDirectory) -> None:
    started(pool, {"mail": 3})
    pool.behaves("mail", "never-ready")
    pool.configure({"mail": 3}, extra="concurrency = 3\n")
    until(lambda: pool.events("started:never-ready"), "the roll is under way")
    assert pool.stop(limit_s=8.0) == 0


def test_many_reloads_at_once_end_with_the_last_word(pool: PoolDirectory) -> None:
    started(pool, {"mail": 1})
    for count in (5, 2, 4, 3):
        pool.configure({"mail": count})
        pool.signal(signal.SIGHUP)
    until(lambda: pool.pool("mail")["wanted"] == 3 and len(pool.pids("mail")) == 3, "three run")


# What a new worker has to show before the old one drains


def rolling(pool: PoolDirectory, behaviour: str, **timing: object) -> tuple[int, int]:
    """A roll of one worker whose successor is ready; (old, new)."""
    started(pool, {"mail": 1}, **timing)
    [old] = pool.pids("mail")
    pool.behaves("mail", behaviour)
    pool.configure({"mail": 1}, extra="concurrency = 3\n")
    [new] = until(lambda: pool.pids("mail") - {old}, "the new one is ready")
    return old, new


def test_the_old_worker_drains_only_when_the_new_one_has_finished_a_task(
    pool: PoolDirectory,
) -> None:
    old, new = rolling(pool, "no-task 5", roll_proof_s=60.0, roll_blind_s=60.0)
    until(lambda: pool.pool("mail")["backlog"], "the backlog is known")
    assert pool.pids("mail") == {old, new}
    assert pool.state() == "reloading"
    assert not pool.events("draining")
    os.kill(new, signal.SIGUSR1)
    until(lambda: pool.pids("mail") == {new}, "the old one has left")


def test_with_an_empty_queue_a_ready_worker_is_enough(pool: PoolDirectory) -> None:
    _, new = rolling(pool, "no-task 0", roll_proof_s=60.0, roll_blind_s=60.0)
    until(lambda: pool.pids("mail") == {new}, "the old one has left")


def test_where_the_queue_is_unknown_some_seconds_of_being_ready_are_enough(
    pool: PoolDirectory,
) -> None:
    _, new = rolling(pool, "no-task", roll_proof_s=60.0, roll_blind_s=0.3)
    until(lambda: pool.pids("mail") == {new}, "the old one has left")


def test_a_worker_that_fails_before_it_has_finished_a_task_ends_the_roll(
    pool: PoolDirectory,
) -> None:
    old, new = rolling(pool, "no-task 5", roll_proof_s=60.0)
    os.kill(new, signal.SIGSEGV)
    until(lambda: pool.pool("mail")["roll_error"], "the roll was given up")
    assert pool.pids("mail") == {old}
    assert not pool.events("draining")


def test_when_the_old_worker_dies_the_new_one_takes_its_place(pool: PoolDirectory) -> None:
    old, new = rolling(pool, "no-task 5", roll_proof_s=60.0)
    os.kill(old, signal.SIGKILL)
    until(lambda: pool.pids("mail") == {new}, "the new one is alone")
    until(lambda: pool.state() == "running", "the roll is over")
    assert len(pool.events("started:no-task")) == 1
