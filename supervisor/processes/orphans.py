"""What a worker started and left behind: processes that have left its group (setsid, setpgid).

The group of a dead worker is killed with it. What has left the group becomes our child when its
parent dies, since we are a subreaper, and would run on unseen: it is told to end a second later,
and killed after another. One that a living worker has detached (a double fork) stays until that
worker ends.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from supervisor.processes.process import Process

LOOK_S = 1.0
GRACE_S = 0.9  # to end by itself, as the leader of a program does; and again once it was told to


@dataclass(slots=True)
class Orphan:
    """A child of ours that we have not started."""

    owners: frozenset[int]  # workers and orphans of which one must have started it
    seen_at: float
    told_at: float | None = None  # when it was told to end


class Orphans:
    """Call `look` often: it looks after deaths, and once a second."""

    def __init__(self) -> None:
        self._known: dict[int, Orphan] = {}
        self._next_at = 0.0

    def look(
        self,
        ours: Mapping[int, Process],
        helpers: Collection[int],
        died: Collection[int],
        now: float,
    ) -> None:
        """`ours` and `helpers`: the children that we started and that live; `died`: who died since
        the last look, orphans too. None is reaped meanwhile, so no pid is a stranger's.
        """
        if not died and now < self._next_at:
            return
        self._next_at = now + LOOK_S
        found = children()
        for pid in [pid for pid in self._known if pid not in found]:
            del self._known[pid]
        living = {pid for pid, one in ours.items() if one.spec.is_worker} | self._known.keys()
        for pid in found:
            if pid in ours or pid in helpers:
                continue
            if pid not in self._known:
                self._known[pid] = Orphan(frozenset(died) or frozenset(living), now)
                logger.bind(orphan_pid=pid, command=_command(pid)).warning("orphan.adopted")
            elif not self._known[pid].owners & living:
                _end(pid, self._known[pid], now)


def _end(pid: int, orphan: Orphan, now: float) -> None:
    if orphan.told_at is not None:
        if now - orphan.told_at >= GRACE_S:
            _signal(pid, signal.SIGKILL)
    elif now - orphan.seen_at >= GRACE_S:
        orphan.told_at = now
        _signal(pid, signal.SIGTERM)
        logger.bind(orphan_pid=pid).warning("orphan.ended")


def _signal(pid: int, number: signal.Signals) -> None:
    """To it, and to its group if it leads one."""
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def children() -> list[int]:
    """All children of this process, zombies too."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _command(pid: int) -> str:
    with suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()[:200]
            .replace(b"\0", b" ")
            .decode("utf-8", "backslashreplace")
        )
    return ""
