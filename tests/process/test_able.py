"""Ready means able to get work: what is in the way is told, with an exit status for scripts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.process.test_hosts import pool_of
from tests.support.pool import ROOT, RealPool
from tests.support.server import RealServer
from wf.jetstream import topology
from wf.jetstream.client import JetStream

T = TypeVar("T")
TASKS, CONSUMER = topology.ACTIVITY_TASKS, topology.consumer_name("mail")
FLOW = (
    "document: {dsl: 1.0.0, namespace: default, name: send, version: 1.0.0}\n"
    "do:\n  - run: {call: mail, with: {x: 1}}\n"
)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[RealServer, RealPool]]:
    with ExitStack() as stack:
        server = RealServer(tmp_path / "nats")
        stack.callback(server.stop)
        server.start()
        pool = pool_of(tmp_path / "pool", "pool", "mail", server.url)
        (tmp_path / "pool" / "workflows" / "send.yaml").write_text(FLOW)
        stack.callback(pool.clean_up)
        pool.start()
        yield server, pool


def run(module: str, pool: RealPool, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments, f"--config={pool.config}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def told(pool: RealPool) -> tuple[int, str]:
    """The exit status of `wf-supervisor status`, and what it prints."""
    done = run("supervisor.main", pool, "status")
    return done.returncode, done.stdout


def works(pool: RealPool) -> None:
    done = run("wf.cli.main", pool, "start", "send", "--wait", "--timeout", "20s")
    assert done.returncode == 0, done.stderr + done.stdout


def at(server: RealServer, do: Callable[[JetStream], Awaitable[T]]) -> T:
    async def go() -> T:
        js = await server.connect()
        try:
            return await do(js)
        finally:
            await js.close()

    return asyncio.run(go())


def test_a_broker_that_goes_and_comes_back_empty(parts: tuple[RealServer, RealPool]) -> None:
    server, pool = parts
    works(pool)
    assert told(pool)[0] == 0
    server.kill9()
    assert pool.until(lambda: told(pool)[0], "it is seen") == 4
    unable = pool.until(
        lambda: "running: 0/1 workers ready" in (found := told(pool)[1]) and found, "nobody is able"
    )
    assert "not connected to the broker" in unable
    assert "not connected" in run("supervisor.main", pool, "explain").stdout
    assert "no work can come" in run("supervisor.main", pool, "explain", "mail").stdout
    pool.until(lambda: "the backlog is not known" in told(pool)[1], "its figures are missed", 30)
    shutil.rmtree(server.directory / "store")
    server.start()
    pool.until(lambda: told(pool)[0] == 0, "all is well again", 30)
    works(pool)
    assert "data lost" in told(pool)[1]


def test_a_queue_that_nobody_makes_again_is_told(parts: tuple[RealServer, RealPool]) -> None:
    server, pool = parts
    (orchestrator,) = pool.processes("orchestrator")
    os.kill(orchestrator["pid"], signal.SIGSTOP)
    try:
        at(server, lambda js: js.api(f"CONSUMER.DELETE.{TASKS}.{CONSUMER}"))

        def look() -> Any:
            status, text = told(pool)
            return status == 4 and "activity mail: has no queue" in text and "0/1" in text and text

        text = pool.until(look, "it is told")
        assert f"nothing can be pulled from the consumer {CONSUMER}" in text
    finally:
        os.kill(orchestrator["pid"], signal.SIGCONT)
    pool.until(lambda: told(pool)[0] == 0, "all is well again")
    works(pool)
