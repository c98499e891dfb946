"""One broker per store: two of them destroy each other's data, and nats-server has no lock."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from loguru import logger

from supervisor.lock import FileLock, Held, NoLocks, described
from wf.errors import BrokerError
from wf.process import paths
from wf.settings import Settings

NAME = "wf-supervisor.lock"
_ORPHAN_S = 12.0  # the broker of a killed supervisor is gone by then
_AGAIN_S = 0.05


def lock_store(settings: Settings) -> FileLock | None:
    """The lock of the store, which is also to be inherited by the broker; None where the file
    system has none. Its directory must be there.

    Waits for the broker of our killed predecessor. Raises BrokerError that names another holder.
    """
    store_dir = settings.nats.store_dir
    facts = _facts(settings)
    deadline = time.monotonic() + _ORPHAN_S
    told = False
    while True:
        pid: object = _running_broker(settings)
        if pid is None:
            try:
                return FileLock(store_dir / NAME, facts)
            except NoLocks as error:
                logger.bind(store_dir=str(store_dir), error=str(error)).warning("store.unlocked")
                return None
            except Held as held:
                if held.facts.get("state") != facts["state"] or _is_elsewhere(held.facts):
                    raise BrokerError(_refusal(store_dir, held.facts)) from held
                pid = held.facts.get("broker_pid", "unknown")
            except OSError as error:
                raise BrokerError(
                    f"{store_dir / NAME}: cannot be locked ({error.strerror}); make it writable"
                    " for this user, or choose another [nats] store_dir"
                ) from error
        if time.monotonic() > deadline:
            raise BrokerError(
                f"the broker of an earlier run (pid {pid}) still runs on {store_dir}: "
                f"stop it with `kill {pid}`"
            )
        if not told:
            logger.bind(broker_pid=pid).info("broker.predecessor.awaited")
            told = True
        time.sleep(_AGAIN_S)


def _facts(settings: Settings) -> dict[str, Any]:
    directory = paths.state_dir(settings)
    there = directory.stat()
    return {
        "pool": settings.supervisor.name,
        "config": str(settings.path),
        "state_dir": str(directory),
        "state": f"{there.st_dev}:{there.st_ino}",  # paths may be alike in two containers
    }


def _is_elsewhere(facts: dict[str, Any]) -> bool:
    return bool(facts.get("host") != socket.gethostname())


def _refusal(store_dir: Path, facts: dict[str, Any]) -> str:
    broker = f" with its broker (pid {facts['broker_pid']})" if "broker_pid" in facts else ""
    return (
        f"[nats] store_dir: {store_dir} is used by {described(facts)}{broker}, and two brokers"
        " would destroy each other's data: stop that one, or give this pool a store_dir of its own"
    )


def _running_broker(settings: Settings) -> int | None:
    """Pid of the process that runs with our generated configuration, if there is one: where there
    are no locks, and one that was started by hand."""
    wanted = str(paths.broker_config_file(settings)).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or not ours to see
        if wanted in arguments and b"--config" in arguments and b"nats-server" in arguments[0]:
            return int(entry.parent.name)
    return None
