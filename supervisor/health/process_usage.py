"""What processes use, measured by whoever wants to know; the supervisor has no part in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Used:
    """What one process has used so far."""

    cpu_s: float
    pss_bytes: int | None  # None: not ours to see


@dataclass(slots=True)
class Meter:
    """Turns counters into rates, from one look to the next."""

    _before: dict[int, tuple[float, float, int]] = field(default_factory=dict)

    def rows(self, status: Document) -> list[Document]:
        """The processes of `status`, each with what it uses; rates are None at the first look.

        CPU is a share of one core.
        """
        now = time.monotonic()
        seen: dict[int, tuple[float, float, int]] = {}
        rows = []
        for process in [_supervisor(status), *status["processes"]]:
            row = {**process, "cpu": None, "pss_bytes": None, "tasks_per_s": None}
            pid = process["pid"]
            used = measure(pid) if pid else None
            if used is not None:
                row["pss_bytes"] = used.pss_bytes
                seen[pid] = (now, used.cpu_s, process["done"] or 0)
                if pid in self._before:
                    row |= _rates(self._before[pid], seen[pid], process)
            rows.append(row)
        self._before = seen
        return rows


def _rates(
    before: tuple[float, float, int], after: tuple[float, float, int], process: Document
) -> Document:
    passed_s = max(1e-6, after[0] - before[0])
    done = (after[2] - before[2]) / passed_s
    return {
        "cpu": round((after[1] - before[1]) / passed_s, 4),
        "tasks_per_s": round(done, 1) if process["role"] == "worker" else None,
    }


def _supervisor(status: Document) -> Document:
    """The supervisor itself, in the shape of its children."""
    keys = ("done", "restarts", "next_start_s", "last_exit", "kill_in_s", "running", "lag_s")
    return {
        "name": "supervisor",
        "role": "supervisor",
        "pool": "supervisor",
        "pid": status["pid"],
        "state": status["state"],
        "uptime_s": status["uptime_s"],
        "tasks": [],
        **dict.fromkeys(keys),
    }


def measure(pid: int) -> Used | None:
    """None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, system = int(fields[11]), int(fields[12])
    return Used((user + system) / _TICKS_PER_S, pss_bytes(pid))


def pss_bytes(pid: int) -> int | None:
    """Its memory, shared pages divided among those that share them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return _pss(file)
    except OSError:
        return None


def _pss(lines: Iterable[str]) -> int | None:
    for line in lines:
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None
