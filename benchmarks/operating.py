"""What running the tree costs: forking, memory and CPU when idle, a reload of many workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.tree import POOL, Tree, running
from supervisor.control.socket import ask
from supervisor.health.process_usage import pss_bytes

MANY = 64
IDLE_S = 2.0
WATCHED_S = 20.0
FORKS = 200
RELOAD_LIMIT_S = 120.0

_FORK = f"""
import gc, json, os, time
from supervisor import roles as entrypoints
from supervisor.processes.spawn import spawn
entrypoints.resolve(entrypoints.TABLE)
gc.collect()
gc.freeze()
taken = []
for _ in range({FORKS}):
    began_s = time.perf_counter()
    child = spawn(lambda fd: 0)
    forked_s = time.perf_counter()
    os.waitpid(child.pid, 0)
    taken.append((forked_s - began_s, time.perf_counter() - began_s))
    os.close(child.pidfd)
    os.close(child.report_fd)
print(json.dumps(taken))
"""


def fork_ms() -> tuple[list[float], list[float]]:
    """(the supervisor's part, until the child has cleaned up and left), of many forks."""
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True)
    taken = json.loads(done.stdout)
    return [1000 * one[0] for one in taken], [1000 * one[1] for one in taken]


def idle_pss_mb(workers: int) -> float:
    """Everything that runs, the guard included, after some seconds without work."""
    with running(WF_WORKERS__NOOP__PROCESSES=str(workers)) as tree:
        time.sleep(IDLE_S)
        supervisor = psutil.Process(tree.supervisor.pid)
        pids = [supervisor.pid, *(one.pid for one in supervisor.children(recursive=True))]
        return sum(pss_bytes(pid) or 0 for pid in pids) / 1e6


def idle_cpu_percent(workers: int) -> dict[str, float]:
    """Of one core, by role, while nobody asks for anything; told to a stand-in for systemd."""
    with _systemd() as address:
        with running(WF_WORKERS__NOOP__PROCESSES=str(workers), NOTIFY_SOCKET=address) as tree:
            time.sleep(IDLE_S)
            named = {one["pid"]: one["role"] for one in tree.processes()}
            named[tree.supervisor.pid] = "supervisor"
            before = {pid: _cpu_ns(pid) for pid in named}
            began_s = time.monotonic()
            time.sleep(WATCHED_S)
            passed_s = time.monotonic() - began_s
            used: dict[str, float] = {}
            for pid, role in named.items():
                share = (_cpu_ns(pid) - before[pid]) / 1e9 / passed_s * 100
                used[role] = used.get(role, 0.0) + share
            return used


def reload_s(workers: int) -> float:
    """From SIGHUP until every worker of an idle pool is another, one by one, after the change of
    its module."""
    with _own_pool() as config:
        with running(config, WF_WORKERS__NOOP__PROCESSES=str(workers)) as tree:
            time.sleep(IDLE_S)
            old = _workers(tree)
            module = next((config.parent / "activities").glob("*.py"))
            began_s = time.perf_counter()
            module.write_text(module.read_text() + "\n# changed\n")
            tree.supervisor.send_signal(signal.SIGHUP)
            while time.perf_counter() - began_s < RELOAD_LIMIT_S:
                new = _workers(tree)
                if len(new) == workers and not new & old:
                    return time.perf_counter() - began_s
                time.sleep(0.05)
            raise TimeoutError("the reload did not end")


def _workers(tree: Tree) -> set[int]:
    state_dir = Path(tree.environment["WF_SUPERVISOR__STATE_DIR"])
    status: dict[str, Any] = ask(state_dir, {"command": "status"})
    return {
        one["pid"]
        for one in status["processes"]
        if one["role"] == "worker" and one["state"] in ("ready", "stopping")
    }


def _cpu_ns(pid: int) -> int:
    """CPU time of all threads, to the nanosecond (Linux)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


@contextlib.contextmanager
def _systemd() -> Iterator[str]:
    """The address of a socket that takes what is said and forgets it."""
    folder = tempfile.mkdtemp(prefix="wf-notify-")
    address = os.path.join(folder, "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        yield address
    shutil.rmtree(folder)


@contextlib.contextmanager
def _own_pool() -> Iterator[Path]:
    """A copy of the pool that may be changed."""
    folder = Path(tempfile.mkdtemp(prefix="wf-pool-"))
    shutil.copytree(POOL.parent, folder / "pool")
    yield folder / "pool" / POOL.name
    shutil.rmtree(folder)
