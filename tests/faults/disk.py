"""A disk that can be filled and freed: a small tmpfs, where we may mount one."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHUNK = b"\0" * 65536


class CannotMount(Exception):
    """Why there is no small disk here."""


@dataclass(slots=True, frozen=True)
class Disk:
    path: Path

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self) -> None:
        """Until nothing more fits."""
        with self._filler.open("ab", buffering=0) as filler:
            size = len(CHUNK)
            while size:
                try:
                    filler.write(CHUNK[:size])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, size_mb: int) -> Iterator[Disk]:
    """Mounted at `path` and unmounted in the end. Raises CannotMount."""
    if os.geteuid():
        raise CannotMount("only root may mount a small disk")
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", str(path)]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        raise CannotMount(tried.stderr.strip())
    try:
        yield Disk(path)
    finally:
        # Lazily: also when a process that did not end yet still has files open there.
        subprocess.run(["umount", "--lazy", str(path)], check=True)
