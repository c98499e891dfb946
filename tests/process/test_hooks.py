"""What happens around the tasks of a worker: hooks, exit handlers, descriptors, orphans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pool import RealPool, runs
from wf.client.blocking import BlockingClient

MODULE = """
import atexit, os, signal, socket, subprocess, sys, weakref
from pathlib import Path
from wf import activity, on_start, on_stop

HERE = Path({here!r})

def note(line):
    with open(HERE / "notes", "a") as file:
        file.write(line + "\\n")

class Thing:
    pass

thing = Thing()
weakref.finalize(thing, note, "finalizer")
atexit.register(note, "exit handler")

@on_start
async def opens():
    if (HERE / "broken").exists():
        raise RuntimeError("no connection to the database")
    note("start 1")

@on_start
def also_opens():
    note("start 2")

@on_stop
def also_closes():
    note("stop 2")

@on_stop
async def closes():
    note("stop 1")
    raise RuntimeError("one that fails keeps no other from running")

@activity
def odd(how: str):
    note("task")
    if how == "closes":
        os.close(1)
        os.close(2)
        taken = [socket.socketpair() for _ in range(2)]
        print("half a pair:", chr(0xD83D))
        print("to nobody", file=sys.stderr)
        sys.stdout.close()
        print("closed")
        heard = []
        for pair in taken:
            for one in pair:
                one.setblocking(False)
                try:
                    heard.append(one.recv(100).decode())
                except BlockingIOError:
                    pass
        return heard
    pids = [subprocess.Popen(["sleep", "1000"], start_new_session=True).pid]
    if (child := os.fork()) == 0:
        os.setsid()
        signal.pause()
    pids.append(child)
    (HERE / "pids").write_text(" ".join(map(str, pids)))
    os.kill(os.getpid(), signal.SIGKILL)
"""

FLOW = """
document: {dsl: 1.0.0, namespace: default, name: odd, version: 1.0.0}
do:
  - only: {call: odd, with: {how: "${ .how }"}}
"""

CONFIG = """
activities_dir = "activities"
workflows_dir = "workflows"
[supervisor]
state_dir = "state"
grace = "3s"
[workers.odd]
crash_limit = 1
[builtin.http]
enabled = false
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RealPool]:
    for name in ("activities", "workflows"):
        (tmp_path / name).mkdir()
    (tmp_path / "activities" / "odd.py").write_text(MODULE.format(here=str(tmp_path)))
    (tmp_path / "workflows" / "odd.yaml").write_text(FLOW)
    (tmp_path / "pool.toml").write_text(CONFIG)
    made = RealPool(tmp_path / "pool.toml")
    try:
        yield made
    finally:
        made.clean_up()


def notes(pool: RealPool) -> list[str]:
    path = pool.root / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_hooks_run_around_the_tasks_and_exit_handlers_after_them(pool: RealPool) -> None:
    pool.start()
    with BlockingClient(pool.config) as client:
        assert client.result(client.start("odd", {"how": "closes"}), timeout_s=10).output == []
    assert pool.stop() == 0
    assert notes(pool) == [
        "start 1", "start 2", "task", "stop 1", "stop 2", "exit handler", "finalizer",
    ]  # fmt: skip
    assert "one that fails keeps no other" in pool.tail()


def test_a_hook_that_fails_is_a_failed_boot_that_is_tried_again(pool: RealPool) -> None:
    (pool.root / "broken").touch()
    pool.launch()

    def reason() -> bool:
        places = pool.status().get("processes", [])
        exits = [one["last_exit"] for one in places if one["pool"] == "odd" and one["last_exit"]]
        return any("no connection to the database" in (one["error"] or "") for one in exits)

    pool.until(reason, "status says why")
    (pool.root / "broken").unlink()
    pool.wait_ready()
    assert notes(pool)[-2:] == ["start 1", "start 2"]
    assert pool.stop() == 0


def test_what_a_killed_worker_has_detached_ends_with_it(pool: RealPool) -> None:
    pool.start()
    with BlockingClient(pool.config) as client:
        client.start("odd", {"how": "detaches"})
        pool.until((pool.root / "pids").exists, "the worker has detached two processes")
        pids = [int(pid) for pid in (pool.root / "pids").read_text().split()]
        try:
            pool.until(lambda: not any(map(runs, pids)), "both have ended", 5.0)
        finally:
            for pid in filter(runs, pids):
                os.kill(pid, 9)
    assert pool.stop() == 0
    assert "orphan.ended" in pool.log.read_text()
