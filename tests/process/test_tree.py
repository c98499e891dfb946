"""Processes come up in order, die, and are replaced."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from pool_directory import PoolDirectory, alive, until

from supervisor.control.status import one_line


def descriptors(pid: int) -> list[str]:
    return sorted(
        os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd") if entry.is_symlink()
    )


def zombies_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(1 for child in children if not alive(int(child)))


def test_workers_start_only_when_the_orchestrator_is_ready(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 2})
    pool.start()
    until(lambda: len(pool.events("ready worker")) == 2, "both workers are ready")
    kinds = [" ".join(event.split()[:2]) for event in pool.events()]
    assert kinds[:2] == ["started:work orchestrator", "ready orchestrator"]
    assert pool.stop() == 0


def test_a_killed_worker_is_replaced_at_once(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 2})
    pool.start()
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    victim, other = sorted(pool.pids("mail"))
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(pool.pids("mail") - {victim}) == 2, "another has taken its place")
    assert other in pool.pids("mail")
    assert not alive(victim)
    [place] = [p for p in pool.processes("mail") if p["restarts"]]
    assert place["last_exit"]["cause"] == "crash"
    assert place["last_exit"]["how"] == "SIGKILL"
    [scheduled] = pool.logged("process.restart.scheduled")
    assert scheduled["delay_s"] == 0.0


def test_status_says_which_pool_runs_a_package_that_was_upgraded(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "outdated")
    pool.configure({"mail": 1})
    pool.start()
    until(lambda: "restart mail: requests has changed" in one_line(pool.status()), "status says so")


def test_a_killed_orchestrator_comes_back_while_workers_stay(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 2})
    pool.start()
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    workers, engine = pool.pids("mail"), pool.pids("orchestrator")
    os.kill(engine.copy().pop(), signal.SIGKILL)
    until(lambda: pool.pids("orchestrator") - engine, "a new orchestrator is ready")
    assert pool.pids("mail") == workers


def test_what_a_worker_started_dies_with_it(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "grandchild")
    pool.configure({"mail": 1})
    pool.start()
    [event] = until(lambda: pool.events("grandchild"), "the grandchild runs")
    grandchild = int(event.split()[0].partition(":")[2])
    assert alive(grandchild)
    assert pool.stop() == 0
    assert not alive(grandchild)  # even though it has a session of its own


def test_a_worker_that_asks_for_recycling_is_not_a_crash(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "recycle")
    pool.configure({"mail": 1})
    pool.start()
    until(lambda: len(pool.events("started:recycle")) > 15, "it was started again and again")
    assert pool.pool("mail")["breaker"] == "closed"
    assert pool.logged("process.exited")[0]["cause"] == "recycle"


def test_a_worker_that_somebody_stops_by_hand_is_replaced_and_not_called_a_crash(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    [worker] = until(lambda: pool.pids("mail"), "the worker is ready")
    os.kill(worker, signal.SIGTERM)
    until(lambda: pool.pids("mail") - {worker}, "another has taken its place")
    assert pool.events("left worker")
    assert pool.processes("mail")[0]["last_exit"]["cause"] == "recycle"
    assert pool.state() == "running"  # the signal reached only the worker


def test_a_crash_loop_backs_off_and_degrades_only_its_own_pool(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.module("pdf")
    pool.behaves("mail", "ready-crash")
    pool.configure({"mail": 1, "pdf": 1})
    pool.start(worker={"intensity": 4, "first_delay_s": 0.02, "open_s": 60.0})
    until(lambda: pool.pool("mail")["state"] == "degraded", "the pool is degraded")
    started = len(pool.events("started:ready-crash"))
    assert started == 5  # one more than the intensity
    assert pool.pool("pdf")["state"] == "ready"
    assert [p["restarts"] for p in pool.processes("pdf")] == [0]
    waiting = pool.processes("mail", "waiting")[0]
    assert waiting["last_exit"]["how"] == "SIGSEGV"
    assert len(pool.logged("pool.degraded")) == 1


def test_a_degraded_pool_tries_again_with_one_process_and_recovers(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "boot-crash")
    pool.configure({"mail": 3})
    pool.start(worker={"intensity": 2, "first_delay_s": 0.01, "open_s": 0.5})
    until(lambda: pool.pool("mail")["breaker"] == "open", "the breaker is open")
    pool.behaves("mail", "work")
    until(lambda: len(pool.pids("mail")) == 3, "all three are ready")
    assert pool.pool("mail")["state"] == "ready"
    assert pool.logged("pool.recovered")


def test_a_worker_that_never_gets_ready_is_ended_and_counted(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("mail", "never-ready")
    pool.configure({"mail": 1})
    pool.start(ready=False, boot_timeout_s=0.3)
    last = until(
        lambda: [p for p in pool.status().get("processes", []) if p["last_exit"]], "it was ended"
    )
    assert last[0]["last_exit"]["cause"] == "boot"
    assert "not ready after 0.3 s" in last[0]["last_exit"]["error"]


def test_a_worker_that_cannot_import_fails_its_pool_and_says_why(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.module("pdf")
    pool.behaves("mail", "import-error")
    pool.configure({"mail": 4, "pdf": 1})
    pool.start(worker={"config_open_s": 60.0})
    until(lambda: pool.pool("mail")["state"] == "failed", "the pool is shown as failed")
    assert "nonesuch" in pool.pool("mail")["error"]
    until(lambda: pool.pool("pdf")["state"] == "ready", "the other pool works")
    assert "nonesuch" in pool.log()


def test_a_broken_module_holds_back_only_its_own_pool(pool: PoolDirectory) -> None:
    path = pool.module(
        "mail", "import nonesuch\nfrom wf import activity\n@activity\ndef mail(): ..."
    )
    pool.module("pdf")
    pool.configure({"mail": 2, "pdf": 1})
    pool.start()
    status = pool.status()
    assert [module["path"] for module in status["broken_modules"]] == [str(path)]
    assert "nonesuch" in status["broken_modules"][0]["error"]
    assert pool.pool("mail")["state"] == "failed"
    assert pool.pool("pdf")["state"] == "ready"
    pool.module("mail")  # mended
    until(lambda: len(pool.pids("mail")) == 2, "the mended pool runs")
    assert pool.status()["broken_modules"] == []


def test_a_syntax_error_does_not_keep_the_others_from_starting(pool: PoolDirectory) -> None:
    pool.module("mail", "def mail(:")
    pool.module("pdf")
    pool.configure({"mail": 1, "pdf": 1})
    pool.start()
    assert "SyntaxError" in pool.pool("mail")["error"]
    assert pool.pool("pdf")["state"] == "ready"


def test_an_engine_that_never_starts_ends_the_supervisor_with_its_own_status(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.behaves("orchestrator", "boot-crash")
    pool.configure({"mail": 1})
    pool.start(ready=False, engine={"first_delay_s": 0.01, "boots": 4})
    assert pool.wait() == 71
    assert len(pool.events("started:boot-crash orchestrator")) == 4
    assert not pool.events("started:work worker")
    assert "supervisor.failed" in pool.log()


def test_an_engine_with_bad_settings_ends_the_supervisor_at_once(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.behaves("orchestrator", "import-error")
    pool.configure({"mail": 1})
    pool.start(ready=False)
    assert pool.wait() == 78
    assert "nonesuch" in pool.log()


def test_fifty_restarts_leak_neither_descriptors_nor_zombies_nor_threads(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.configure({"mail": 2})
    pool.start(worker={"intensity": 1000, "max_delay_s": 0.01})
    supervisor = pool.status()["pid"]
    until(lambda: len(pool.pids("mail")) == 2, "both workers are ready")
    before = descriptors(supervisor)
    for _ in range(50):
        victim = pool.pids("mail").pop()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(pool.pids("mail") - {victim}) == 2, "it was replaced")  # noqa: B023
    until(lambda: len(descriptors(supervisor)) == len(before), "no more descriptors than before")
    assert zombies_of(supervisor) == 0
    assert len(os.listdir(f"/proc/{supervisor}/task")) == 1


def test_a_child_has_nothing_of_the_supervisor_but_its_slot_and_its_report_pipe(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    [worker] = until(lambda: pool.pids("mail"), "the worker is ready")
    assert os.getpgid(worker) == worker
    assert Path(f"/proc/{worker}/comm").read_text() == "mail #0\n"
    assert os.readlink(f"/proc/{worker}/fd/0") == "/dev/null"
    others = [name for name in descriptors(worker) if "/log" not in name and name != "/dev/null"]
    assert [name.split(":")[0] for name in others] == [
        "/memfd",  # its slot
        "/memfd",  # the same, mapped
        "pipe",
    ]
    state = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines()
    )
    assert int(state["SigBlk"], 16) & ~(1 << 14 | 1 << 0 | 1 << 9) == 0  # only what the fake blocks


def test_usr2_writes_the_whole_state_to_the_log_and_usr1_is_answered(pool: PoolDirectory) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    pool.signal(signal.SIGUSR2)
    [line] = until(lambda: pool.logged("supervisor.state"), "the state is in the log")
    assert {p["name"] for p in line["state"]["processes"]} == {
        "orchestrator",
        "monitor",
        "worker mail #0",
    }
    pool.signal(signal.SIGUSR1)
    until(lambda: pool.logged("logs.reopen"), "it says that there is nothing to reopen")


def test_a_hundred_clients_that_say_nothing_do_not_keep_status_from_answering(
    pool: PoolDirectory,
) -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    pool.start()
    directory = os.open(pool.state_dir, os.O_PATH)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for client in clients:
            client.connect(f"/proc/self/fd/{directory}/control.sock")
            assert pool.state() == "running"
    finally:
        for client in clients:
            client.close()
        os.close(directory)
