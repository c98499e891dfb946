"""One supervisor per state directory, and one broker per store."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import orjson

from wf.errors import ConfigError

_FACTS_BYTES = 4096
# what a file system without locks answers
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Held(Exception):
    """Somebody else has the lock; `facts` are what the holder wrote of itself, {} if nothing."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.facts = facts


class NoLocks(Exception):
    """The file system has none."""


class FileLock:
    """An flock on a file that names its holder.

    It belongs to the open file description: whoever inherits the descriptor holds it too, and the
    kernel lets go when the last of them has ended, however that came about.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Raises Held, NoLocks, or OSError where the file cannot be written."""
        self._facts = {"pid": os.getpid(), "host": socket.gethostname(), **facts}
        self.fd = _locked(path)
        self.tell()

    def tell(self, **more: Any) -> None:
        """Write down who holds it."""
        self._facts |= more
        text = orjson.dumps(self._facts, default=str)
        with contextlib.suppress(OSError):  # the disk is full: the lock counts, not what it says
            os.pwrite(self.fd, text.ljust(_FACTS_BYTES - 1) + b"\n", 0)

    def release(self) -> None:
        """Let another take it. The file stays: removing it would race with a newcomer."""
        os.close(self.fd)


def _locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, fd):
                return fd
        except BlockingIOError as error:
            facts = _facts(fd)
            os.close(fd)
            raise Held(facts) from error
        except OSError as error:
            os.close(fd)
            if error.errno in _NO_LOCKS:
                raise NoLocks(error.strerror) from error
            raise
        os.close(fd)  # the file was replaced between opening and locking it


def _is_still(path: Path, fd: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _facts(fd: int) -> dict[str, Any]:
    try:
        facts = orjson.loads(os.pread(fd, _FACTS_BYTES, 0).strip())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def described(facts: dict[str, Any]) -> str:
    """`pool "orders" (pid 17 on host-a, /etc/…/pool.toml)`, as far as it is known."""
    where = f"pid {facts.get('pid', 'unknown')} on {facts.get('host', 'an unknown host')}"
    config = f", {facts['config']}" if "config" in facts else ""
    return f"pool {facts.get('pool', 'unknown')!r} ({where}{config})"


def lock_state(state_dir: Path, pool: str, config: Path) -> FileLock:
    """Raises ConfigError that says who holds it, or why it cannot be taken."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(state_dir / "supervisor.lock", {"pool": pool, "config": config})
    except Held as held:
        raise ConfigError(
            [
                f"another wf-supervisor, {described(held.facts)}, runs on {state_dir}: stop it,"
                " or give this one a state_dir of its own"
            ]
        ) from held
    except NoLocks as error:
        raise ConfigError(
            [
                f"[supervisor] state_dir: {state_dir} is on a file system without locks ({error}):"
                " choose one on a local disk"
            ]
        ) from error
    except OSError as error:
        raise ConfigError(
            [
                f"[supervisor] state_dir: cannot write in {state_dir} ({error.strerror}):"
                " make it writable for this user, or choose another"
            ]
        ) from error
