"""The real tree: `wf-supervisor` as a process with its embedded broker, over a pool directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from supervisor.control.socket import ask
from tests.support.server import end_with_the_tests
from tests.support.waiting import eventually_sync
from wf.jetstream.embedded import free_port
from wf.settings import Settings, load

ROOT = Path(__file__).parents[2]
READY_LIMIT_S = 30.0
STOP_LIMIT_S = 45.0
ORPHAN_LIMIT_S = 10.0  # invariant 7

JsonObject = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Orphans:
    """The processes of a killed supervisor, by pid and start time."""

    processes: list[psutil.Process]
    killed_at: float  # monotonic seconds

    def gone_s(self) -> float:
        """Wait until all are gone; seconds from the kill. Invariant 7: never more than ten."""
        left_s = self.killed_at + ORPHAN_LIMIT_S - time.monotonic()
        eventually_sync(
            lambda: not any(lives(process) for process in self.processes),
            limit_s=left_s,
            what=f"the end of {self.processes}",
        )
        return time.monotonic() - self.killed_at


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and waits for init to collect it does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def runs(pid: int) -> bool:
    """The same by pid alone: of a child that its parent has not reaped yet, it is sure."""
    try:
        return lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


class RealPool:
    """A pool directory and the supervisor that runs over it; may be killed and started again."""

    def __init__(self, config: Path, **environment: str) -> None:
        """`environment`: further variables. The port is ours whatever pool.toml says, and stays
        the same over restarts."""
        self.config = config
        self.root = config.parent
        self.log = self.root / "supervisor.log"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WF_")},
            "PYTHONPATH": str(ROOT),
            "WF_CONFIG": str(config),
            "WF_NATS__PORT": str(free_port()),
            **environment,
        }
        self.command = ["-m", "supervisor.main", "--config", str(config)]
        self.supervisor: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()

    @property
    def settings(self) -> Settings:
        """As a client in this process reads them."""
        return load(self.config)

    @property
    def pid(self) -> int:
        assert self.supervisor is not None, "the supervisor was not started"
        return self.supervisor.pid

    # The supervisor's life

    def start(self) -> float:
        """Start it and wait until everything is ready; the seconds that it took."""
        begun = time.monotonic()
        self.launch()
        self.wait_ready()
        return time.monotonic() - begun

    def launch(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                preexec_fn=end_with_the_tests,
            )

    def wait_ready(self) -> None:
        """Every place of the tree is filled with a process that says it is ready."""

        def look() -> bool:
            status = self.status()
            places = status.get("processes", [])
            return status.get("state") == "running" and all(p["state"] == "ready" for p in places)

        self.until(look, "every process is ready", READY_LIMIT_S)

    def kill9(self) -> Orphans:
        """SIGKILL the supervisor; the children that it leaves."""
        assert self.supervisor is not None
        children = psutil.Process(self.pid).children(recursive=True)
        self._seen.update(children)
        self.supervisor.kill()
        killed_at = time.monotonic()
        self.supervisor.wait()
        return Orphans(children, killed_at)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.supervisor is not None
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(STOP_LIMIT_S)

    def clean_up(self) -> None:
        """Leave no process behind, however the test ended; only those that we started."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            self._see()
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.supervisor.kill()
                self.supervisor.wait()
        for process in self._seen:
            if lives(process):
                process.kill()

    # What can be seen

    def status(self) -> JsonObject:
        """The status document; {} while nobody answers. Fails when the supervisor has ended."""
        assert self.supervisor is not None
        code = self.supervisor.poll()
        assert code is None, f"the supervisor ended with {code}:\n{self.tail()}"
        try:
            return ask(self.root / "state", {"command": "status"})
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            return {}

    def processes(self, role: str, pool: str | None = None) -> list[JsonObject]:
        """Those that are ready."""
        return [
            one
            for one in self.status().get("processes", [])
            if one["role"] == role and one["state"] == "ready" and pool in (None, one["pool"])
        ]

    def until(self, look: Callable[[], Any], what: str, limit_s: float = 15.0) -> Any:
        try:
            return eventually_sync(look, limit_s=limit_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the supervisor's log:\n{self.tail()}") from None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def _see(self) -> None:
        assert self.supervisor is not None
        self._seen.update(psutil.Process(self.pid).children(recursive=True))
