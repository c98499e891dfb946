"""The embedded broker as the supervisor sees it: a program to execute, and to ask for readiness."""

from __future__ import annotations

import time
from pathlib import Path

from loguru import logger

from supervisor.fullness import Fullness
from wf import state
from wf.errors import BrokerError
from wf.jetstream import embedded
from wf.settings import Settings

_ORPHAN_S = 12.0  # the broker of a killed supervisor is gone by then
_TAIL_BYTES = 4096
_TAIL_LINES = 12


class EmbeddedBroker:
    """Prepared once; the same program is executed again after a crash, on the same port."""

    def __init__(self, settings: Settings) -> None:
        """Raises BrokerError that names the place and the remedy."""
        self._settings = settings
        _await_predecessor(settings)
        self._broker = embedded.prepare(settings)
        self._fullness = Fullness(settings.nats.store_dir, self._broker.log_path)

    @property
    def argv(self) -> list[str]:
        return [str(argument) for argument in self._broker.argv]

    @property
    def url(self) -> str:
        return self._broker.url

    def is_ready(self) -> bool:
        """Whether it answers with JetStream on."""
        return self._broker.probe()

    def restart_due(self, pid: int, now: float) -> bool:
        """Whether it refuses writes although its disk is no longer full."""
        return self._fullness.restart_due(pid, now)

    def announce(self, pid: int) -> None:
        """Write where it is, for clients of this host. Raises BrokerError."""
        embedded.write_endpoint(self._settings, self._broker, pid)

    def log_tail(self) -> str:
        """The last lines of its log: it says there what it cannot say to us."""
        path = Path(self._broker.log_path)
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(lines[-_TAIL_LINES:])


def _await_predecessor(settings: Settings) -> None:
    """Wait for the broker of a supervisor that was killed: two must never share a store.

    Raises BrokerError when it does not leave.
    """
    deadline = time.monotonic() + _ORPHAN_S
    told = False
    while (pid := _running_broker(settings)) is not None:
        if time.monotonic() > deadline:
            raise BrokerError(
                f"the broker of an earlier run (pid {pid}) still runs on"
                f" {settings.nats.store_dir}: stop it with `kill {pid}`"
            )
        if not told:
            logger.bind(broker_pid=pid).info("broker.predecessor.awaited")
            told = True
        time.sleep(0.05)


def _running_broker(settings: Settings) -> int | None:
    """Pid of the process that runs with our generated configuration, if there is one."""
    wanted = str(state.broker_config_file(settings)).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or not ours to see
        if wanted in arguments and b"--config" in arguments and b"nats-server" in arguments[0]:
            return int(entry.parent.name)
    return None
