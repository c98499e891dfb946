"""A supervisor of one's own for a benchmark: started, asked, stopped; nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

POOL = Path(__file__).resolve().parent / "pool" / "pool.toml"
READY_LIMIT_S = 30.0
STOP_LIMIT_S = 60.0


@dataclass(slots=True)
class Tree:
    """A running process tree."""

    config: Path
    supervisor: subprocess.Popen[bytes]
    environment: dict[str, str]
    log: Path

    def status(self) -> dict[str, Any]:
        """What `wf-supervisor status --json` prints; {} while there is nobody to ask."""
        command = [*_command("supervisor.main"), "--config", str(self.config), "status", "--json"]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment
        )
        return json.loads(answer.stdout) if answer.returncode == 0 and answer.stdout else {}

    def processes(self) -> list[dict[str, Any]]:
        return [one for one in self.status().get("processes", []) if one.get("pid")]

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by process name; the supervisor's own included."""
        figures = {one["name"]: _cpu_s(one["pid"]) for one in self.processes()}
        figures["supervisor"] = _cpu_s(self.supervisor.pid)
        return figures

    def pss_bytes(self) -> dict[str, int]:
        """Proportional set size by process name (Linux)."""
        pids = {one["name"]: one["pid"] for one in self.processes()}
        pids["supervisor"] = self.supervisor.pid
        return {name: psutil.Process(pid).memory_full_info().pss for name, pid in pids.items()}


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _command(module: str) -> list[str]:
    return [sys.executable, "-m", module]


@contextlib.contextmanager
def running(config: Path = POOL, **settings: str) -> Iterator[Tree]:
    """A tree on a free port, its state and store in a new directory on the real disk.

    `settings` are further `WF_…` variables.
    """
    folder = Path(tempfile.mkdtemp(prefix="wf-bench-", dir=os.environ.get("WF_BENCH_DIR")))
    environment = {
        **os.environ,
        "WF_CONFIG": str(config),
        "WF_SUPERVISOR__STATE_DIR": str(folder / "state"),
        "WF_NATS__STORE_DIR": str(folder / "store"),
        **settings,
    }
    log = folder / "supervisor.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*_command("supervisor.main"), "--config", str(config)],
            stdout=sink,
            stderr=sink,
            env=environment,
        )
    tree = Tree(config, process, environment, log)
    try:
        _wait_ready(tree)
        yield tree
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_LIMIT_S)
        shutil.rmtree(folder)


def _wait_ready(tree: Tree) -> None:
    give_up = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < give_up and tree.supervisor.poll() is None:
        processes = tree.processes()
        if processes and all(one["state"] == "ready" for one in processes):
            return
        time.sleep(0.1)
    sys.exit(f"the pool did not become ready; its log:\n{tree.log.read_text()[-4000:]}")
