"""Whoever reads our log, or asks how we are, stands still: the pool works on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.control.socket import NAME
from tests.support.pool import ROOT, RealPool

ACTIVITY = """
import sys
from wf import activity

@activity
async def chatter(text: str) -> int:
    for _ in range(3000):
        print(text * 100)
        print(text * 100, file=sys.stderr)
    return 3000
"""
WORKFLOW = """
document: {dsl: '1.0.3', namespace: default, name: chatter, version: '1.0.0'}
do:
  - go: {call: chatter, with: {text: "${ .text }"}}
"""
OPTIONS = ("--input", '{"text":"ab"}', "--wait", "--timeout", "30s")


class Fifo:
    """A named pipe that is full, and that somebody holds open but does not read."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            while True:
                os.write(self._fd, b"x" * 4095 + b"\n")
        except BlockingIOError:
            os.set_blocking(self._fd, False)

    def read(self) -> bytes:
        try:
            return os.read(self._fd, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    made = Fifo(tmp_path / "fifo")
    yield made
    made.close()


@pytest.fixture
def pool(tmp_path: Path, fifo: Fifo) -> Iterator[RealPool]:
    root = tmp_path / "pool"
    for name in ("activities", "workflows"):
        (root / name).mkdir(parents=True)
    (root / "activities" / "chatter.py").write_text(ACTIVITY)
    (root / "workflows" / "chatter.yaml").write_text(WORKFLOW)
    (root / "pool.toml").write_text(
        '[supervisor]\nlog_level = "DEBUG"\ngrace = "5s"\n[builtin.http]\nenabled = false\n'
    )
    pool = RealPool(root / "pool.toml")
    pool.log = tmp_path / "fifo"
    yield pool
    pool.log = tmp_path / "none"  # a fifo would be waited for
    pool.log.touch()
    pool.clean_up()


def test_the_pool_works_and_stops_while_nobody_reads(pool: RealPool, fifo: Fifo) -> None:
    with pool.log.open("wb"):
        pool.start()
    idle = socket.socket(socket.AF_UNIX)  # asks, and never reads the answer
    with idle:
        idle.connect(str(Path(os.path.relpath(pool.root / "state" / NAME))))
        idle.sendall(b'{"command":"status"}\n')
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "wf.cli.main",
                "start",
                "chatter",
                "--input",
                '{"text":"ab"}',
                "--wait",
                "--timeout",
                "30s",
            ],
            env=pool.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        (worker,) = pool.processes("worker")
        os.kill(worker["pid"], signal.SIGKILL)
        pool.until(
            lambda: any(p["pid"] != worker["pid"] for p in pool.processes("worker")),
            "another worker is there",
        )
        log = b""

        def told() -> bool:
            nonlocal log
            log += fifo.read()
            return b"process.restart.scheduled" in log

        pool.until(told, "what was kept is written when somebody reads again")
    assert b"supervisor.started" in log
    while fifo.read():
        pass
    assert pool.stop() == 0
