"""Where the running pool keeps its files: one place for every path below state_dir."""

from __future__ import annotations

import os
from pathlib import Path

from wf.errors import BrokerError
from wf.settings import Settings

ROLES = ("orchestrator", "worker", "client", "monitor")


def state_dir(settings: Settings) -> Path:
    return settings.supervisor.state_dir


def broker_file(settings: Settings) -> Path:
    """Endpoint of the running embedded broker: {"url", "port", "pid"}."""
    return state_dir(settings) / "broker.json"


def broker_config_file(settings: Settings) -> Path:
    """The generated configuration of the embedded broker; holds passwords."""
    return state_dir(settings) / "broker.conf"


def broker_log_file(settings: Settings) -> Path:
    return state_dir(settings) / "broker.log"


def credentials_file(settings: Settings, role: str) -> Path:
    """{"user", "password"} of one role at the embedded broker; mode 0600."""
    return state_dir(settings) / "credentials" / f"{role}.json"


def control_socket(settings: Settings) -> Path:
    return state_dir(settings) / "control.sock"


def journal_file(settings: Settings, index: int) -> Path:
    """Which events orchestrator `index` is applying right now
    (orchestrator/ingest/poison_journal.py).
    """
    return state_dir(settings) / f"orchestrator-{index}.journal"


def assets_file(settings: Settings, index: int) -> Path:
    """What orchestrator `index` last saw of each stream (wf/jetstream/assurance.py)."""
    return state_dir(settings) / f"orchestrator-{index}.streams.json"


def make_private(path: Path) -> None:
    """Make the directory, for this user only. Raises BrokerError naming it and the remedy."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise BrokerError(
            f"{path}: cannot be made or used ({error.strerror}); make it writable for this user "
            "or choose another [supervisor] state_dir"
        ) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_private(path: Path, data: bytes) -> None:
    """Write the file atomically, mode 0600. Raises BrokerError naming it and the remedy."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise BrokerError(
            f"{path}: cannot be written ({error.strerror}); make its directory writable for this "
            "user, or free some space"
        ) from error
