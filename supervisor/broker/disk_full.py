"""A broker whose disk was full: it goes on refusing writes after there is room, until restarted.

nats-server remembers in each stream that a write found no space, and refuses the next ones
whatever the disk says. So once there is room again it is started afresh.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from wf.jetstream.embedded import SPARE_BYTES

# With less, a write may have failed unseen: the log may be on the same disk.
SCARCE_BYTES = 4 * 1024 * 1024
LOOK_S = 1.0
# Between two restarts for which only the log speaks: it may lack inodes, which we do not see.
APART_S = 30.0
_REFUSALS = (b"no space left on device", b"disk quota exceeded")
_MOST_BYTES = 1024 * 1024  # of the log at one look


class Fullness:
    """Watches the disk and the log of one broker over all its processes."""

    def __init__(self, store_dir: Path, log_path: Path) -> None:
        self._store_dir = store_dir
        self._log_path = log_path
        self._pid = 0
        self._offset = 0
        self._refused = False  # so the log says
        self._seen_full = False  # so the disk says
        self._next_look = 0.0
        self._next_restart = 0.0

    def restart_due(self, pid: int, now: float) -> bool:
        """Whether the broker `pid` was refused space, and there is room again. Never raises."""
        if pid != self._pid:  # what an earlier process was refused does not concern this one
            self._pid, self._offset = pid, self._log_size()
            self._refused = self._seen_full = False
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        free = self._free_bytes()
        self._refused = self._was_refused() or self._refused
        self._seen_full = self._seen_full or free < SCARCE_BYTES
        if not (self._refused or self._seen_full) or free < SPARE_BYTES:
            return False
        if not self._seen_full and now < self._next_restart:
            return False
        self._next_restart = now + APART_S
        self._refused = self._seen_full = False
        return True

    def _was_refused(self) -> bool:
        """Whether what came to the log since the last look speaks of it."""
        size = self._log_size()
        if size < self._offset:  # rotated
            self._offset = 0
        begin = max(self._offset, size - _MOST_BYTES)
        new = size > self._offset
        self._offset = size
        if not new:
            return False
        try:
            with self._log_path.open("rb") as log:
                log.seek(begin)
                text = log.read(size - begin)
        except OSError:
            return False
        return any(refusal in text for refusal in _REFUSALS)

    def _log_size(self) -> int:
        try:
            return self._log_path.stat().st_size
        except OSError:
            return 0

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._store_dir).free
        except OSError:
            return SPARE_BYTES  # nothing is known: then its log decides
