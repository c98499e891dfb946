"""Telling the kernel's out-of-memory killer from any other SIGKILL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

CLAIM_S = 5.0  # a kill that nobody has claimed by then was somebody else's


def oom_kills() -> int | None:
    """How many processes the killer has ended: of our cgroup, else of the host."""
    for path in (_own_events(), Path("/proc/vmstat")):
        count = counted(path) if path is not None else None
        if count is not None:
            return count
    return None


def counted(path: Path) -> int | None:
    """The value of `oom_kill` in a file of names and numbers; None if it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(values["oom_kill"]) if "oom_kill" in values else None


def _own_events() -> Path | None:
    """memory.events of our control group (version 2)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::"):
            return Path("/sys/fs/cgroup") / line[4:] / "memory.events"
    return None


class MemoryKiller:
    """Notes when the counter rises, and says whether a SIGKILL was the killer's."""

    def __init__(self, count: Callable[[], int | None] = oom_kills) -> None:
        self._count = count
        self._known = count()
        self._kills: list[float] = []  # when each was noticed; not claimed yet

    def look(self, now: float) -> None:
        """Take in what the counter says. Often, so that a strange kill is not claimed later."""
        count = self._count()
        if count is not None and self._known is not None:
            self._kills += [now] * (count - self._known)
        self._known = count
        self._kills = [at for at in self._kills if at >= now - CLAIM_S]

    def claim(self, now: float) -> bool:
        """Whether a child that has just been reaped after a SIGKILL fell to the killer."""
        self.look(now)
        if not self._kills:
            return False
        self._kills.pop(0)
        return True
