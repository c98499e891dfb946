"""pool.toml as it is read for a reload: what an editor is still writing is waited for, and what
can only be half a file is none."""

from __future__ import annotations

import time
from pathlib import Path

from wf.errors import ConfigError

SETTLE_S = 0.2  # two looks so far apart that are alike
PATIENCE_S = 1.0  # for a file that is empty or gone: whoever replaces it is not that slow


def settled(path: Path) -> bytes:
    """The content, once it stays the same; b"" if it stays empty or away. Waits for a second
    at most: not for the supervisor itself.
    """
    deadline = time.monotonic() + PATIENCE_S
    before = _content(path)
    while True:
        time.sleep(SETTLE_S)
        now = _content(path)
        if (now and now == before) or time.monotonic() > deadline:
            return now
        before = now


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # gone for a moment; if it stays so, reading it says why


def refuse_half(path: Path, before: bytes, now: bytes) -> None:
    """Raise ConfigError where `now` is the beginning of `before`, cut in the middle of a line."""
    if 0 < len(now) < len(before) and before.startswith(now):
        cut = now[-1:] != b"\n" and before[len(now) : len(now) + 1] not in (b"\n", b"\r")
        if cut:
            line = now.count(b"\n") + 1
            raise ConfigError(
                [
                    f"{path}:{line}: the file ends in the middle of a line of the one before, so it"
                    " was written only in part: write it again (is the disk full?)"
                ]
            )
