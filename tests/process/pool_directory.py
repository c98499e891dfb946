"""A pool directory with a supervisor over it, and waiting for conditions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.socket import ask

LIMIT_S = 15.0
ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("fake_pool.py")


def until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Wait until `condition` gives something true, and give it back."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s} s: {what}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`wf-supervisor` with these arguments."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)  # of pytest's own terminal: tables would be cut to it
    return subprocess.run(
        [sys.executable, "-m", "supervisor.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
        env=environment,
    )


class PoolDirectory:
    """pool.toml, modules, and the supervisor that a test runs over them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "pool.toml"
        self.state_dir = root / "state"
        self.supervisor: subprocess.Popen[str] | None = None
        self._pids: set[int] = set()
        for name in ("activities", "workflows", "behaviour"):
            (root / name).mkdir()

    # What is in the directory

    def module(self, name: str, text: str | None = None) -> Path:
        path = self.root / "activities" / f"{name}.py"
        default = (
            f"from wf import activity\n\n@activity\ndef {name}(x: int) -> int:\n    return x\n"
        )
        replace(path, text if text is not None else default)
        return path

    def behaves(self, pool: str, what: str) -> None:
        replace(self.root / "behaviour" / pool, what)

    def configure(self, pools: dict[str, int], extra: str = "") -> None:
        tables = "".join(f"[workers.{name}]\nprocesses = {n}\n" for name, n in pools.items())
        replace(
            self.config,
            'activities_dir = "activities"\nworkflows_dir = "workflows"\n'
            f'[supervisor]\ngrace = "5s"\nlog_format = "json"\nlog_level = "DEBUG"\n'
            f'[nats]\nembedded = false\nservers = ["nats://127.0.0.1:1"]\n{tables}{extra}'
            "\n[builtin.http]\nenabled = false\n",
        )

    # The supervisor

    def start(self, ready: bool = True, argv: list[str] | None = None, **timing: Any) -> None:
        figures = {"watch_interval_s": 0.1, **timing}
        command = argv or [str(PROGRAM), str(self.config), json.dumps(figures)]
        with open(self.root / "log", "ab") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        if ready:
            until(lambda: self.state() == "running", "the supervisor is up")

    def signal(self, number: signal.Signals) -> None:
        assert self.supervisor is not None
        self.supervisor.send_signal(number)

    def stop(self, limit_s: float = LIMIT_S) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(limit_s)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        assert self.supervisor is not None
        return self.supervisor.wait(limit_s)

    # What can be seen

    def status(self) -> dict[str, Any]:
        """The status document; {} while none can be had."""
        assert self.supervisor is not None
        if self.supervisor.poll() is not None:
            pytest.fail(f"the supervisor ended with {self.supervisor.returncode}: {self.log()}")
        try:
            answer = ask(self.state_dir, {"command": "status"})
        except (FileNotFoundError, ConnectionRefusedError):
            return {}
        self._pids.update(p["pid"] for p in answer["processes"] if p["pid"])
        return answer

    def state(self) -> str:
        return self.status().get("state", "")

    def processes(self, pool: str, state: str = "ready") -> list[dict[str, Any]]:
        return [
            process
            for process in self.status().get("processes", [])
            if process["pool"] == pool and process["state"] == state
        ]

    def pids(self, pool: str) -> set[int]:
        return {process["pid"] for process in self.processes(pool)}

    def pool(self, name: str) -> dict[str, Any]:
        pools = self.status().get("pools", [])
        return next((pool for pool in pools if pool["name"] == name), {})

    def events(self, kind: str = "") -> list[str]:
        path = self.root / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(kind)]

    def log(self) -> str:
        return (self.root / "log").read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def clean_up(self) -> None:
        """Leave nothing behind, however the test ended. Only pids of this tree."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            self.supervisor.send_signal(signal.SIGCONT)
            try:
                self.supervisor.wait(3)
            except subprocess.TimeoutExpired:
                self.supervisor.send_signal(signal.SIGTERM)
                try:
                    self.supervisor.wait(5)
                except subprocess.TimeoutExpired:
                    self.supervisor.kill()
                    self.supervisor.wait(5)
        left = [pid for pid in self._pids if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def replace(path: Path, text: str) -> None:
    """Write as editors do: never half a file to be seen."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)
