"""One supervisor per state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wf.errors import ConfigError


class StateLock:
    """An flock on a file that names the holder; the kernel lets go when the holder dies."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "supervisor.lock"
        try:
            state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                [
                    f"[supervisor] state_dir: cannot write in {state_dir} ({error.strerror}):"
                    " make it writable for this user, or choose another"
                ]
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._fd, 32).decode().strip() or "unknown"
            os.close(self._fd)
            raise ConfigError(
                [
                    f"another wf-supervisor (pid {holder}) runs on {state_dir}: stop it,"
                    " or give this one a state_dir of its own"
                ]
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another take it. The file stays: removing it would race with a newcomer."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
