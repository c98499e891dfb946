"""A real nats-server for tests: random port, temporary store, ended by its own process id."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from wf.jetstream.client import JetStream, connect
from wf.jetstream.connection import Connection
from wf.jetstream.embedded import find_binary, free_port, server_info
from wf.settings import NatsSettings, Settings, SupervisorSettings

START_LIMIT_S = 10.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_the_tests() -> None:
    """In the child: be killed with the thread that started us, so an aborted run leaves nothing."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class RealServer:
    """One nats-server process on one store directory; may be killed and started again."""

    def __init__(self, directory: Path, *, config: str = "", sync: str = "always") -> None:
        self.directory = directory
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._more = config
        self._sync = sync

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server is not running"
        return self.process.pid

    def connection(self) -> Connection:
        return Connection(servers=(self.url,))

    def settings(self, **nats: Any) -> Settings:
        """Settings of a pool that uses this server as its external broker."""
        return make_settings(self.directory, embedded=False, servers=[self.url], **nats)

    async def connect(self, role: str = "orchestrator", name: str = "test") -> JetStream:
        return await connect(self.connection(), role=role, name=name)

    def start(self) -> None:
        """Start, on the same port as before, and wait until it answers with JetStream on."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.port == 0:
            self.port = free_port()
        config = self.directory / "server.conf"
        config.write_text(
            f"listen: 127.0.0.1:{self.port}\nserver_name: test-{self.port}\n"
            "max_payload: 8388608\n"
            f'jetstream {{ store_dir: "{self.directory}/store", sync_interval: {self._sync} }}\n'
            f"{self._more}\n"
        )
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(find_binary()), "--config", str(config)],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_the_tests,
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        limit = time.monotonic() + START_LIMIT_S
        while True:
            info = server_info(self.port, 0.25)
            if info and info.get("jetstream") and info["server_name"] == f"test-{self.port}":
                return
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > limit:
                log = (self.directory / "server.log").read_text()[-2000:]
                raise AssertionError(f"nats-server did not start:\n{log}")
            time.sleep(0.005)

    def kill9(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """kill -9 and start again on the same store and port."""
        self.kill9()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        os.kill(process.pid, number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def make_settings(directory: Path, **nats: Any) -> Settings:
    """Settings with everything below `directory`; `nats` are keys of [nats]."""
    state = directory / "state"
    table = {"store_dir": state / "jetstream", "port": 0, **nats}
    return Settings(
        path=directory / "pool.toml",
        activities_dir=directory / "activities",
        workflows_dir=directory / "workflows",
        supervisor=SupervisorSettings(state_dir=state),
        nats=NatsSettings(**table),
    )


async def delete_streams(js: JetStream) -> None:
    """Leave nothing of an earlier test on the server."""
    while names := (await js.api("STREAM.NAMES")).get("streams"):
        for name in names:
            await js.api(f"STREAM.DELETE.{name}")
