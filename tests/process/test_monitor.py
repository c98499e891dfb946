"""What the monitor tells others: backlog figures and the state of the pool."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mortal_pool import MortalPool

from wf.monitor.status import of_all_hosts

IMPATIENT = Path(__file__).with_name("impatient_pool.py")


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalPool]:
    made = MortalPool(tmp_path, "concurrency = 1\nprefetch = 0\n")
    made.pool.command = [
        str(IMPATIENT), str(tmp_path / "pool.toml"), json.dumps({"starved_s": 3.0})
    ]  # fmt: skip
    try:
        yield made
        if made.pool.supervisor is not None:
            assert made.pool.stop() == 0
    finally:
        made.clean_up()


def test_every_host_can_read_how_a_pool_is_and_what_waits(mortal: MortalPool) -> None:
    mortal.pool.start()
    running = mortal.start("order-1", "waits")
    mortal.until_started(running)
    mortal.start("order-2", "waits")

    def entry() -> Any:
        port = mortal.client._client.port
        found = mortal.client._run(of_all_hosts(port))
        return [
            one
            for one in found
            if one["state"] == "running" and one["backlog"].get("job", {}).get("pending") == 1
        ]

    [found] = mortal.until(entry, "the backlog is told")
    assert found["host"] == socket.gethostname()
    assert {p["role"] for p in found["processes"]} == {
        "broker",
        "orchestrator",
        "monitor",
        "worker",
    }
    job = found["backlog"]["job"]
    assert (job["in_flight"], job["redelivered"]) == (1, 0)
    assert 0 < job["oldest_waiting_s"] <= job["oldest_open_s"] < 60
    for name in ("order-1", "order-2"):
        mortal.let(f"release-{name}")
        assert mortal.client.wait(name, timeout_s=15).output == name


def test_a_worker_that_pulls_nothing_though_tasks_wait_is_replaced(mortal: MortalPool) -> None:
    mortal.let("deaf")
    mortal.pool.start()
    name = mortal.start("order-1", "works")
    assert mortal.client.wait(name, timeout_s=40).output == name
    [stuck] = mortal.logged("process.stuck")
    assert stuck["kind"] == "pulls-nothing"
    [ended] = [one for one in mortal.logged("process.exited") if one["cause"] == "hang"]
    assert ended["dump"]
