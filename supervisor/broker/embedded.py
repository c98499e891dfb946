"""The embedded broker as the supervisor sees it: a program to execute, and to ask for readiness."""

from __future__ import annotations

from pathlib import Path

from supervisor.broker.disk_full import Fullness
from supervisor.broker.store_lock import lock_store
from wf.jetstream import embedded
from wf.settings import Settings

_TAIL_BYTES = 4096
_TAIL_LINES = 12


class EmbeddedBroker:
    """Prepared once; the same program is executed again after a crash, on the same port."""

    def __init__(self, settings: Settings) -> None:
        """Raises BrokerError that names the place and the remedy."""
        self._settings = settings
        embedded.check_store(settings.nats.store_dir)
        self._lock = lock_store(settings)
        self._broker = embedded.prepare(settings)
        self._fullness = Fullness(settings.nats.store_dir, self._broker.log_path)

    @property
    def argv(self) -> list[str]:
        return [str(argument) for argument in self._broker.argv]

    @property
    def inherits(self) -> tuple[int, ...]:
        """Descriptors that it must keep: while it runs it holds the lock of its store, even when
        the supervisor was killed."""
        return (self._lock.fd,) if self._lock is not None else ()

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
        if self._lock is not None:
            self._lock.tell(broker_pid=pid)

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
