"""The embedded broker: a real nats-server as the first child."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from pool_directory import PoolDirectory, alive, replace, until


def configured(pool: PoolDirectory, nats: str = "port = 0") -> None:
    pool.module("mail")
    pool.configure({"mail": 1})
    old = 'embedded = false\nservers = ["nats://127.0.0.1:1"]'
    replace(pool.config, pool.config.read_text().replace(old, nats))


def endpoint(pool: PoolDirectory) -> dict[str, int]:
    document: dict[str, int] = json.loads((pool.state_dir / "broker.json").read_text())
    return document


def answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        return connection.recv(5) == b"INFO "


def test_the_broker_is_ready_before_anything_else_starts(pool: PoolDirectory) -> None:
    configured(pool)
    pool.start()
    started = [line["child"] for line in pool.logged("process.started")]
    ready = [line["child"] for line in pool.logged("process.ready")]
    assert started[:2] == ready[:2] == ["broker", "orchestrator"]
    there = endpoint(pool)
    assert pool.status()["broker"] == f"nats://127.0.0.1:{there['port']}"
    assert pool.pids("broker") == {there["pid"]}
    assert answers(there["port"])
    assert pool.stop() == 0
    order = [line["role"] for line in pool.logged("stop.stage")]
    assert order == ["worker", "monitor", "orchestrator", "broker"]
    assert not alive(there["pid"])


def test_a_killed_broker_comes_back_on_its_port_and_the_others_stay(pool: PoolDirectory) -> None:
    configured(pool)
    pool.start()
    until(lambda: pool.pids("mail"), "the worker is ready")
    others = pool.pids("mail") | pool.pids("orchestrator")
    before = endpoint(pool)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: pool.pids("broker") - {before["pid"]}, "another broker is ready")
    after = endpoint(pool)
    assert after["port"] == before["port"]
    assert after["pid"] != before["pid"]
    assert pool.pids("mail") | pool.pids("orchestrator") == others


def sharing(pool: PoolDirectory, tmp_path: Path, name: str) -> PoolDirectory:
    """Another pool whose store is the same."""
    (tmp_path / name).mkdir()
    other = PoolDirectory(tmp_path / name)
    other.module("mail")
    other.configure({"mail": 1})
    replace(other.config, pool.config.read_text())
    return other


def test_a_second_pool_on_the_same_store_is_refused(pool: PoolDirectory, tmp_path: Path) -> None:
    configured(pool, f'port = 0\nstore_dir = "{tmp_path}/store"')
    pool.start()
    supervisor, broker = pool.status()["pid"], endpoint(pool)["pid"]
    second = sharing(pool, tmp_path, "second")
    second.start(ready=False)
    assert second.wait() == 69
    [failed] = second.logged("supervisor.failed")
    for part in (f"(pid {supervisor} on {socket.gethostname()}", f"(pid {broker})", "store_dir"):
        assert part in failed["error"]
    assert pool.state() == "running"

    holding = [pid for pid in [supervisor, *children(supervisor)] if holds(pid, tmp_path / "store")]
    assert holding == [supervisor, broker], "an orphaned broker keeps it, and nobody else does"
    pool.signal(signal.SIGKILL)
    until(lambda: not alive(broker), "the broker is gone")
    second.start()
    assert second.pids("broker")
    second.clean_up()


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def holds(pid: int, store: Path) -> bool:
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    return str(store / "wf-supervisor.lock") in links


def test_a_broker_that_is_still_there_from_an_earlier_run_is_waited_for(
    pool: PoolDirectory,
) -> None:
    configured(pool)
    pool.start()
    assert pool.stop() == 0
    program = Path(sys.executable).with_name("nats-server")
    left_over = subprocess.Popen([program, "--config", pool.state_dir / "broker.conf"])
    try:
        pool.start(ready=False)
        until(lambda: pool.logged("broker.predecessor.awaited"), "it waits")
        assert len(pool.logged("process.started")) == 4  # those of the first run
    finally:
        left_over.terminate()
        left_over.wait(10)
    until(lambda: pool.state() == "running", "it runs")


def test_a_taken_port_is_named_and_nothing_is_started(pool: PoolDirectory) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        configured(pool, f"port = {port}")
        pool.start(ready=False)
        assert pool.wait() == 69
    assert f"port {port}" in pool.log()
    assert not pool.logged("process.started")


def test_an_unusable_store_directory_is_named(pool: PoolDirectory) -> None:
    (pool.root / "store").write_text("a file where the directory should be")
    configured(pool, 'port = 0\nstore_dir = "store"')
    pool.start(ready=False)
    assert pool.wait() == 69
    assert str(pool.root / "store") in pool.log()


def test_a_broker_that_ends_at_once_is_quoted(pool: PoolDirectory) -> None:
    store = pool.root / "store"
    store.mkdir()
    Path(store / "jetstream").write_text("a file where the server wants a directory")
    configured(pool, 'port = 0\nstore_dir = "store"')
    pool.start(ready=False)
    assert pool.wait() == 69
    [failed] = pool.logged("supervisor.failed")
    assert "before it was ready" in failed["error"]
    assert "jetstream" in failed["broker_log"].lower()
    assert not pool.events("started:work orchestrator")
